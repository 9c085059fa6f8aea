//! The list of promises is whole, and every test that it names is there. That they ran, `make promises` and CI check.

mod support;

use std::path::{Path, PathBuf};

use support::promises::promises;

#[test]
fn the_list_has_all_36_promises_once_and_in_order() {
    let numbers: Vec<i64> = promises().iter().map(|promise| promise.number).collect();
    assert_eq!(numbers, (1..=36).collect::<Vec<_>>());
}

#[test]
fn every_promise_names_its_tests() {
    for promise in promises() {
        assert!(!promise.tests.is_empty(), "promise {}", promise.number);
    }
}

#[test]
fn every_test_that_a_promise_names_exists() {
    for promise in promises() {
        for test in &promise.tests {
            exists(test);
        }
    }
}

#[test]
fn every_fault_of_others_names_tests_that_exist() {
    let document = std::fs::read_to_string(in_the_project("docs/testing.md")).expect("docs/testing.md");
    let faults = document.split("## Faults that others shipped").nth(1).and_then(|rest| rest.split("## ").next());
    let rows: Vec<&str> = faults.unwrap_or("").lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 20, "the table is not where it was");
    for row in rows {
        let tests: Vec<&str> = row.split('`').filter(|text| text.contains("::")).collect();
        assert!(!tests.is_empty(), "{row}");
        tests.into_iter().for_each(exists);
    }
}

fn exists(test: &str) {
    let (file, name) = test.rsplit_once("::").unwrap_or_default();
    let file = file.replace("::", "/");
    let source = std::fs::read_to_string(in_the_project(&format!("tests/{file}.rs"))).ok().unwrap_or_default();
    assert!(source.contains(&format!("fn {name}(")), "there is no {test}");
}

fn in_the_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
