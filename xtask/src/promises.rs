//! Prints the promises of `docs/promises.toml`, or one of them, with their results, from the output of `cargo test`.

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;

use pulse_telemetry_testkit::promises::{Promise, promises};

/// Prints what `cargo test` is to be told to run that promise's tests.
pub(crate) fn tests_of(number: i64) -> ExitCode {
    println!("{}", to_run(&one(number)));
    ExitCode::SUCCESS
}

/// Prints the promises, or that one, with their results in the log.
pub(crate) fn print(log: &Path, number: Option<i64>) -> ExitCode {
    report(log, number.map_or_else(promises, |number| vec![one(number)]))
}

fn one(number: i64) -> Promise {
    promises().into_iter().find(|promise| promise.number == number).expect("N is the number of a promise")
}

/// What `cargo test` is to be told. What needs root is ignored where there is none.
fn to_run(promise: &Promise) -> String {
    let ignored = if rustix::process::geteuid().is_root() { "--include-ignored" } else { "" };
    format!("--test it -- {ignored} --exact {}", promise.tests.join(" "))
}

fn report(log: &Path, promises: Vec<Promise>) -> ExitCode {
    let log = std::fs::read_to_string(log).unwrap();
    let results = results(&log);
    let mut broken = 0;
    for promise in promises {
        let of = |test: &String| results.get(test.as_str()).copied().unwrap_or("did not run");
        let not_ok: Vec<_> = promise.tests.iter().filter(|test| of(test) != "ok").collect();
        let result = match not_ok.iter().map(|test| of(test)).max_by_key(|result| *result != "skipped") {
            None => "kept   ",
            Some("skipped") => "unknown",
            Some(_) => "BROKEN ",
        };
        println!("{:>2}  {result}  {}", promise.number, promise.sentence);
        for test in not_ok {
            broken += usize::from(of(test) != "skipped");
            println!("             {test}: {}", of(test));
        }
    }
    let count = |result| results.values().filter(|r| **r == result).count();
    println!("\n{} passed, {} failed, {} skipped", count("ok"), count("FAILED"), count("skipped"));
    if broken == 0 && count("FAILED") == 0 && count("ok") > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The result of each test, by `module::name`, the last one where it ran more than once. One that needs root, or that
/// said that it skips what it cannot do here, proves nothing.
fn results(log: &str) -> HashMap<String, &str> {
    let says_skipped = |line: &'_ str| line.split_once("SKIPPED ").map(|(_, rest)| rest.to_owned());
    let skipped: Vec<String> = log.lines().filter_map(says_skipped).collect();
    let mut results = HashMap::new();
    for line in log.lines() {
        if let Some((test, result)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... ")) {
            let name = test.rsplit("::").next().unwrap_or(test);
            let is_skipped = skipped.iter().any(|said| said.starts_with(&format!("{name}:")));
            let result = match result.split([' ', ',']).next().unwrap_or("") {
                "ignored" => "skipped",
                _ if is_skipped => "skipped",
                result => result,
            };
            // What ran somewhere is not undone by a run that left it out, in whichever order the logs come.
            if result != "skipped" || !results.contains_key(test) {
                results.insert(test.to_owned(), result);
            }
        }
    }
    results
}
