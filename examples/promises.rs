//! Prints the promises of `docs/promises.toml`, or one of them, with their results, from the output of `cargo test`: `make
//! promises`, `make promise N=7`. With `--tests N`, prints what `cargo test` is to be told to run that one's tests.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a report on standard output; whoever runs it sees what failed"
)]

use std::collections::HashMap;
use std::process::ExitCode;

use pulse_telemetry_testkit::promises::{Promise, promises};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--tests", number] => {
            println!("{}", to_run(&one(number)));
            ExitCode::SUCCESS
        }
        [log] => report(log, promises()),
        [log, number] => report(log, vec![one(number)]),
        _ => panic!("--tests N, or the log of cargo test and perhaps N"),
    }
}

fn one(number: &str) -> Promise {
    let number = number.parse().unwrap_or(0);
    promises().into_iter().find(|promise| promise.number == number).expect("N is a number from 1 to 36")
}

/// What `cargo test` is to be told. What needs root is ignored where there is none.
fn to_run(promise: &Promise) -> String {
    let ignored = if rustix::process::geteuid().is_root() { "--include-ignored" } else { "" };
    format!("--test it -- {ignored} --exact {}", promise.tests.join(" "))
}

fn report(log: &str, promises: Vec<Promise>) -> ExitCode {
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

/// The result of each test, by `module::name`, the last one where it ran more than once. One that needs root, or that said
/// that it skips what it cannot do here, proves nothing.
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
            results.insert(test.to_owned(), result);
        }
    }
    results
}
