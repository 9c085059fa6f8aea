//! What the project is built from: its dependencies, tools and images, and what its packages remove.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A file of the project.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The cells of every row of the tables below a heading, or above the first one.
fn rows(document: &str, heading: Option<&str>) -> Vec<Vec<String>> {
    let mut sections = document.split("\n## ");
    let first = sections.next().unwrap();
    let section = heading.map_or(first, |heading| sections.find(|section| section.starts_with(heading)).unwrap());
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.map(|row| row.split(" | ").map(str::to_owned).collect()).collect()
}

/// The names in the tables' first column.
fn documented() -> BTreeSet<String> {
    let rows = rows(&read("docs/dependencies.md"), None);
    let names = rows.iter().flat_map(|row| row[0].split(", ")).filter_map(|name| name.split(' ').next());
    names.filter(|name| *name != "crate").map(str::to_owned).collect()
}

/// Every source file below these directories, where they are.
fn sources(directories: &[PathBuf]) -> String {
    let mut files = directories.to_vec();
    let mut text = String::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(path).unwrap();
        }
    }
    text
}

/// Whether code names the crate.
fn names(code: &str, name: &str) -> bool {
    let name = name.replace('-', "_");
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(&format!("{name}::")).any(|(at, _)| !code[..at].ends_with(is_part))
}

/// The directories of the packages of this workspace.
fn packages() -> Vec<PathBuf> {
    let crates = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path());
    std::iter::once(root().to_owned()).chain(crates).collect()
}

#[test]
fn every_dependency_is_used_and_documented_and_no_other_is() {
    let mut all = BTreeSet::new();
    for package in packages() {
        let manifest: toml::Table = fs::read_to_string(package.join("Cargo.toml")).unwrap().parse().unwrap();
        for (kind, folders) in
            [("dependencies", &["src"][..]), ("dev-dependencies", &["src", "tests", "benches", "examples"])]
        {
            let code = sources(&folders.iter().map(|folder| package.join(folder)).collect::<Vec<_>>());
            for name in manifest.get(kind).and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys) {
                assert!(names(&code, name), "{}: nothing names {name} of the {kind}", package.display());
                all.insert(name.clone());
            }
        }
    }
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let listed: BTreeSet<String> = manifest["workspace"]["dependencies"].as_table().unwrap().keys().cloned().collect();
    assert!(listed.is_subset(&all), "of no package: {:?}", listed.difference(&all));
    all.retain(|name| !name.starts_with("pulse-telemetry"));
    assert!(all.len() > 30);
    assert_eq!(documented(), all, "the tables of docs/dependencies.md, and the manifests");
}

#[test]
fn every_tool_and_image_has_the_version_that_the_documents_say() {
    let rows = rows(&read("docs/dependencies.md"), Some("Tools and images"));
    assert!(rows.len() > 10);
    for row in rows.iter().filter(|row| row[0] != "what") {
        let files: Vec<&str> = row[2].split('`').skip(1).step_by(2).collect();
        assert!(!files.is_empty(), "{row:?}");
        for file in files {
            assert!(read(file).contains(&row[1]), "{file} has {} in another version than {}", row[0], row[1]);
        }
    }
}

/// The words of a file's commands and settings, without its comments.
fn lines(file: &str) -> Vec<String> {
    let text = read(file).replace("\\\n", " ");
    let lines = text.lines().map(|line| line.split(" #").next().unwrap().trim().to_owned());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Whether a text has a number of at least two parts, as `1.95.0-alpine3.23`.
fn is_exact(version: &str) -> bool {
    let mut parts = version.split(['.', '-']);
    let is_number = |part: Option<&str>| part.is_some_and(|part| part.parse::<u32>().is_ok());
    is_number(parts.next()) && is_number(parts.next())
}

#[test]
fn nothing_that_a_build_takes_from_elsewhere_floats() {
    let toolchain: toml::Table = read("rust-toolchain.toml").parse().unwrap();
    assert!(is_exact(toolchain["toolchain"]["channel"].as_str().unwrap()));

    let images: Vec<String> = ["Dockerfile", "compose.example.yml"]
        .iter()
        .flat_map(|file| lines(file))
        .filter_map(|line| {
            let image = line.strip_prefix("ARG RUST_IMAGE=").or_else(|| line.strip_prefix("image: "))?;
            Some(image.to_owned())
        })
        // Built here.
        .filter(|image| image != "pulse-telemetry")
        .collect();
    assert_eq!(images.len(), 2, "{images:?}");
    for image in images {
        assert!(image.rsplit_once(':').is_some_and(|(_, tag)| is_exact(tag)), "{image}");
    }
    let stages = lines("Dockerfile").into_iter().filter(|line| line.starts_with("FROM "));
    assert_eq!(stages.collect::<Vec<_>>(), ["FROM ${RUST_IMAGE} AS build", "FROM scratch"]);

    for file in ["Makefile", ".ci/run", "packaging/dist", "packaging/sbom", "packaging/reproduce"] {
        for line in lines(file) {
            let tools = line.split_whitespace().filter(|word| word.starts_with("cargo-"));
            if line.starts_with("$(INSTALL) ") {
                let unpinned: Vec<_> =
                    tools.filter(|tool| !tool.split_once('@').is_some_and(|(_, version)| is_exact(version))).collect();
                assert!(unpinned.is_empty(), "{file}: {line}");
            }
            let installs = line.contains("cargo install") || line.contains("$(CARGO) install");
            assert!(!installs || line.starts_with("INSTALL =") || line.contains("install --list"), "{file}: {line}");
            assert!(!line.contains("npm install") || line.ends_with("npm"), "{file}: {line}");
            assert!(!line.contains("pip install") || line.contains("--require-hashes"), "{file}: {line}");
        }
    }
    let requirements = read(".ci/tools/requirements.txt");
    let pinned = requirements.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_alphanumeric()));
    for line in pinned {
        assert!(line.contains("==") && line.ends_with('\\'), "{line}");
    }
    let lock: serde_json::Value = serde_json::from_str(&read(".ci/tools/package-lock.json")).unwrap();
    for (name, package) in lock["packages"].as_object().unwrap().iter().filter(|(name, _)| !name.is_empty()) {
        assert!(package["integrity"].as_str().is_some_and(|hash| hash.starts_with("sha512-")), "{name}");
    }
}

#[test]
fn a_purge_passes_over_what_is_mounted_within_its_directories() {
    for package in ["pulse-telemetry", "pulse-telemetry-collector"] {
        let script = lines(&format!("packaging/deb/{package}/postrm"));
        let removals: Vec<_> = script.iter().filter(|line| line.contains("rm ")).collect();
        assert!(!removals.is_empty());
        for removal in removals {
            assert!(removal.starts_with("rm -rf --one-file-system "), "{removal}");
        }
    }
}

#[test]
fn every_test_that_needs_more_than_a_user_is_run_by_a_target_that_ci_makes() {
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
    let makefile = lines("Makefile");
    let made: Vec<String> = lines(".ci/run");
    // `suite` is the script's own way to say make.
    let words: Vec<&str> = made.iter().flat_map(|line| line.split_whitespace()).collect();
    let made: Vec<&str> =
        words.windows(2).filter(|two| ["make", "suite"].contains(&two[0])).map(|two| two[1]).collect();
    let mut target = "";
    let mut run = BTreeSet::new();
    for line in &makefile {
        if let Some((name, _)) = line.split_once(':').filter(|(name, _)| name.bytes().all(is_name)) {
            target = name;
        } else if made.contains(&target)
            && let Some((_, modules)) = line.split_once("-- --ignored").or(line.split_once("-- --include-ignored"))
        {
            run.extend(modules.split_whitespace().map(|module| module.trim_end_matches("::").to_owned()));
        }
    }
    let marks = |path: &Path| fs::read_to_string(path).unwrap().contains("#[ignore = ");
    let paths = |dir: &Path| fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    // A test's modules are in a directory of its name.
    let needs_more =
        |path: &Path| marks(path) || paths(&path.with_extension("")).any(|module| module.is_file() && marks(&module));
    let files = packages().into_iter().flat_map(|package| paths(&package.join("tests/it")).collect::<Vec<_>>());
    let files = files.filter(|path| path.is_file() && path.file_stem().is_some_and(|stem| stem != "build"));
    let needed: BTreeSet<String> = files
        .filter(|path| needs_more(path))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert!(!needed.is_empty());
    assert_eq!(run, needed, "the tests that the targets of .ci/run run, and those that are marked");
}
