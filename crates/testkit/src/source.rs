//! The library's source, as far as tests look at what it names.

use std::collections::{BTreeMap, BTreeSet};

/// The code of each module of the topmost level, with all below it and without its comments.
pub fn modules() -> BTreeMap<String, String> {
    let src = crate::project().join("src");
    let mut modules: BTreeMap<String, String> = BTreeMap::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inner = path.strip_prefix(&src).unwrap().with_extension("");
                let module = inner.iter().next().unwrap().to_str().unwrap().to_owned();
                let source = std::fs::read_to_string(&path).unwrap();
                let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
                modules.entry(module).or_default().extend(code.flat_map(|line| [line, "\n"]));
            }
        }
    }
    // It only says that they are there.
    assert!(modules.remove("lib").is_some() && modules.len() > 25);
    modules
}

/// The modules, all of the source tree but this one, whose code names something: a part of one of its names counts, so that
/// paths by `crate::` and `super::`, types and re-exports do. Who may name it may not give it away under another name.
pub fn who_names(module: &str, names: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let mut all = modules();
    assert!(all.remove(module).is_some());
    all.retain(|_, code| names(code));
    for (name, code) in &all {
        let given_away = code.split(';').find(|item| {
            let item = item.trim_start();
            let is_alias = item.starts_with("pub use ") && item.contains(" as ") || item.contains("pub type ");
            is_alias && names(item)
        });
        assert_eq!(given_away, None, "{name} gives it another name");
    }
    all.into_keys().collect()
}

/// The modules that the sentence of ARCHITECTURE.md lists: "Only `…` and `…` name `module`".
pub fn listed(module: &str) -> BTreeSet<String> {
    let page = include_str!("../../../ARCHITECTURE.md");
    let (before, _) = page.split_once(&format!("name `{module}`")).expect("the sentence is there");
    let (_, list) = before.rsplit_once("Only ").expect("it begins so");
    list.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()
}
