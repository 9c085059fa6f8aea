//! The list of promises is whole, and every test that it names is there. That they ran, `make promises` and CI check.

mod support;

use std::path::Path;

use support::promises::promises;

/// The promises that must be proved by now.
const PROVED: [i64; 26] =
    [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 29];

#[test]
fn the_list_has_all_36_promises_once_and_in_order() {
    let numbers: Vec<i64> = promises().iter().map(|promise| promise.number).collect();
    assert_eq!(numbers, (1..=36).collect::<Vec<_>>());
}

#[test]
fn every_promise_that_must_be_proved_by_now_names_its_tests() {
    for promise in promises() {
        assert!(!PROVED.contains(&promise.number) || !promise.tests.is_empty(), "promise {}", promise.number);
    }
}

#[test]
fn every_test_that_a_promise_names_exists() {
    for promise in promises() {
        for test in &promise.tests {
            let (file, name) = test.split_once("::").expect("file::name");
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/{file}.rs"));
            let source = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(source.contains(&format!("fn {name}(")), "promise {}: there is no {test}", promise.number);
        }
    }
}
