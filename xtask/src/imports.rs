//! No two modules import each other: where one of two that lie beside each other imports anything of the other, with
//! all that lies in them, the other one imports nothing of it. A module and those inside it are one.
//!
//! A path is followed to the module that defines what it names, through every `use` on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use pulse_telemetry_testkit::boundaries::sources;
use pulse_telemetry_testkit::project;

/// A module, or something in one, by the names on the way from the crate's root.
type Names = Vec<String>;

/// The modules of one crate.
type Modules = BTreeMap<Names, Module>;

/// What one file names.
#[derive(Default)]
struct Module {
    /// What its `use` declarations bring in, by the name that it has here.
    imports: BTreeMap<String, Names>,
    /// Every path in it, those of its `use` declarations included.
    paths: Vec<Names>,
}

/// The pairs of modules that import each other.
pub(crate) fn circles() -> Vec<String> {
    let crates = fs::read_dir(project().join("crates")).unwrap().map(|entry| entry.unwrap().path().join("src"));
    let roots = crates.chain(["src", "xtask/src"].map(|root| project().join(root)));
    let mut found: Vec<String> = roots.flat_map(|root| circles_in(&modules(&root), &root)).collect();
    found.sort();
    found
}

fn circles_in(modules: &Modules, root: &Path) -> Vec<String> {
    let mut imports = BTreeSet::new();
    for (module, Module { paths, .. }) in modules {
        for defined_in in paths.iter().filter_map(|path| follow(modules, module, path, 0)) {
            let shared = module.iter().zip(&defined_in).take_while(|(one, other)| one == other).count();
            if let (Some(_), Some(_)) = (module.get(shared), defined_in.get(shared)) {
                imports.insert((module[..=shared].to_vec(), defined_in[..=shared].to_vec()));
            }
        }
    }
    let is_circle = |(one, other): &&(Names, Names)| one < other && imports.contains(&(other.clone(), one.clone()));
    let told = |(one, other): &(Names, Names)| {
        let root = root.strip_prefix(project()).unwrap_or(root).display();
        format!("{root}: {} and {} import each other", one.join("::"), other.join("::"))
    };
    imports.iter().filter(is_circle).map(told).collect()
}

/// The module that defines what a path names, as seen from a module; `None` where that is not of this crate.
fn follow(modules: &Modules, from: &Names, path: &[String], steps: usize) -> Option<Names> {
    const STEPS_MAX: usize = 8;
    let (first, rest) = path.split_first()?;
    let child = |of: &Names, name: &String| [of.as_slice(), std::slice::from_ref(name)].concat();
    let (mut module, mut rest) = match first.as_str() {
        "crate" => (Names::new(), rest),
        "self" => (from.clone(), rest),
        "super" => {
            let up = path.iter().take_while(|name| *name == "super").count();
            (from[..from.len().checked_sub(up)?].to_vec(), &path[up..])
        }
        _ if modules.contains_key(&child(from, first)) => (from.clone(), path),
        _ => return None,
    };
    while let Some((name, after)) = rest.split_first().filter(|(name, _)| modules.contains_key(&child(&module, name))) {
        (module, rest) = (child(&module, name), after);
    }
    let imported = rest.first().and_then(|name| modules.get(&module)?.imports.get(name));
    let further = imported.filter(|imported| steps < STEPS_MAX && (module != *from || imported.as_slice() != path));
    further.and_then(|further| follow(modules, &module, further, steps + 1)).or(Some(module))
}

fn modules(root: &Path) -> Modules {
    let named = sources(root).into_iter().map(|file| {
        let name = file.strip_prefix(root).unwrap().with_extension("");
        let mut names: Names = name.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        names.pop_if(|last| ["lib", "main", "mod"].contains(&last.as_str()));
        (names, read(&fs::read_to_string(&file).unwrap()))
    });
    named.collect()
}

/// What a file names, its tests aside.
fn read(text: &str) -> Module {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let words = words(text);
    let mut module = Module::default();
    let mut at = 0;
    while at < words.len() {
        if words[at] == "use" {
            at = read_tree(&words, at + 1, &Names::new(), &mut module);
            continue;
        }
        let length = path_length(&words[at..]);
        if length > 1 {
            module.paths.push(words[at..at + length].iter().step_by(2).map(|&word| word.to_owned()).collect());
        }
        at += length.max(1);
    }
    module
}

/// Reads what stands after `use`, or between the braces of it, and tells where it ends.
fn read_tree(words: &[&str], mut at: usize, before: &Names, module: &mut Module) -> usize {
    let mut path = before.clone();
    let mut name = None;
    while let Some(&word) = words.get(at) {
        at += 1;
        match word {
            "{" => at = read_tree(words, at, &path, module),
            "as" => name = words.get(at).map(|&word| word.to_owned()),
            "::" => {}
            "," | "}" | ";" => {
                if path.len() > before.len() {
                    module.paths.push(path.clone());
                    let name = name.take().or_else(|| path.last().cloned());
                    module.imports.extend(name.map(|name| (name, path.clone())));
                }
                path.clone_from(before);
                if word != "," {
                    return at;
                }
            }
            "self" if !path.is_empty() => {}
            _ if name.is_none() => path.push(word.to_owned()),
            _ => {}
        }
    }
    at
}

/// How many words a path at the beginning of these has: names, with `::` between them.
fn path_length(words: &[&str]) -> usize {
    let is_name = |word: &&str| word.starts_with(|letter: char| letter.is_alphabetic() || letter == '_');
    let pairs = words.chunks(2).take_while(|pair| is_name(&pair[0]) && pair.get(1) == Some(&"::")).count();
    let ends_in_a_name = words.get(pairs * 2).is_some_and(is_name);
    if ends_in_a_name { pairs * 2 + 1 } else { (pairs * 2).saturating_sub(1) }
}

/// Names, `::`, and every other sign by itself. Comments and what stands in quotes are left out.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(length) = quoted(rest) {
            length
        } else if is_name(first) {
            rest.find(|letter| !is_name(letter)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (word, after) = rest.split_at(length);
        if !first.is_whitespace() && !word.starts_with("//") && !word.ends_with('"') {
            words.push(word);
        }
        rest = after;
    }
    words
}

/// How long a text in quotes is, where one stands at the beginning.
fn quoted(text: &str) -> Option<usize> {
    if let Some(raw) = text.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            // The hashes after the quote are left for the next word.
            return raw[hashes + 1..].find(&end).map(|at| 1 + hashes + 1 + at + 1);
        }
    }
    for character in ["'\"'", "'\\\"'"] {
        if text.starts_with(character) {
            return Some(character.len());
        }
    }
    let mut is_escaped = false;
    let end = text.strip_prefix('"')?.find(|letter| {
        let ends = letter == '"' && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        ends
    });
    end.map(|at| at + 2)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Modules, Names, circles_in, read};

    fn told(files: &[(&str, &str)]) -> Vec<String> {
        let names = |name: &str| name.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect::<Names>();
        let modules: Modules = files.iter().map(|(name, text)| (names(name), read(text))).collect();
        circles_in(&modules, Path::new("src"))
    }

    const CIRCLE: [&str; 1] = ["src: a and b import each other"];

    #[test]
    fn two_modules_that_import_each_other_are_told() {
        assert_eq!(told(&[("a", "use crate::b::B;"), ("b", "use super::a::{self, A as C};")]), CIRCLE);
        assert_eq!(told(&[("a", "fn a() -> crate::b::B {}"), ("b", "use crate::{a::A, c};"), ("c", "")]), CIRCLE);
        assert!(told(&[("a", "use crate::b::B;"), ("b", "use std::fs;"), ("c", "use crate::a::A;")]).is_empty());
    }

    #[test]
    fn what_lies_in_a_module_counts_for_it_and_a_module_and_what_lies_in_it_are_one() {
        assert_eq!(told(&[("a", ""), ("a::x", "use crate::b::B;"), ("b", ""), ("b::y", "use crate::a::A;")]), CIRCLE);
        assert!(told(&[("a", "mod x;\nuse x::X;"), ("a::x", "use super::A;")]).is_empty());
    }

    #[test]
    fn a_name_that_is_passed_on_is_followed_to_where_it_is_defined() {
        let root = ("", "pub use self::b::B;\nmod a;\nmod b;");
        assert_eq!(told(&[root, ("a", "use crate::B;"), ("b", "use crate::a::A;")]), CIRCLE);
        assert!(told(&[root, ("a", "use crate::A;"), ("b", "use crate::a::A;")]).is_empty());
    }

    #[test]
    fn comments_texts_and_tests_import_nothing() {
        let text = "// crate::b::B\nconst A: &str = \"\\\"crate::b::B\";\nconst R: &str = r#\"\"crate::b::B\"#;\n\
                    #[cfg(test)]\nmod tests { use crate::b::B; }";
        assert!(told(&[("a", text), ("b", "use crate::a::A;")]).is_empty());
    }
}
