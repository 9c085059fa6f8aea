//! The list of promises is whole, and every test that it names is there. That they ran, `make promises` and CI check.

use std::path::{Path, PathBuf};

use pulse_telemetry_testkit::promises::promises;

#[test]
fn the_list_has_all_36_promises_once_and_in_order_and_our_own_behind_them() {
    let numbers: Vec<i64> = promises().iter().map(|promise| promise.number).collect();
    assert_eq!(numbers[..36], (1..=36).collect::<Vec<_>>());
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
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

#[test]
fn each_of_five_questions_is_asked_of_each_promise_and_the_tests_that_answer_exist() {
    let document = std::fs::read_to_string(in_the_project("docs/THREAT-MODEL.md")).expect("docs/THREAT-MODEL.md");
    let asked = document.split("## Five questions, asked of each promise").nth(1).expect("the table");
    let rows: Vec<Vec<&str>> = asked
        .lines()
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| ") && !line.starts_with("| |"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let numbers: Vec<String> = rows.iter().map(|row| row[0].to_owned()).collect();
    assert_eq!(numbers, (1..=36).map(|number| number.to_string()).collect::<Vec<_>>());
    let mut named = std::collections::BTreeSet::new();
    for row in &rows {
        assert!(row.len() == 6 && row.iter().all(|cell| !cell.is_empty()), "promise {}: {row:?}", row[0]);
        named.extend(row.iter().flat_map(|cell| cell.split('`')).filter(|text| text.contains("::")));
    }
    named.iter().for_each(|test| exists(test));
    assert!(named.len() > 60, "only {} tests", named.len());
}

fn exists(test: &str) {
    let (file, name) = test.rsplit_once("::").unwrap_or_default();
    let file = file.replace("::", "/");
    let has_it = |folder: &str| {
        let source = std::fs::read_to_string(in_the_project(&format!("{folder}/{file}.rs"))).ok().unwrap_or_default();
        source.contains(&format!("fn {name}("))
    };
    assert!(["tests/it", "crates/collector/tests/it"].into_iter().any(has_it), "there is no {test}");
}

fn in_the_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
