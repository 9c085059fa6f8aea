//! Prints every promise of `docs/promises.toml` with its result, from the output of `cargo test`: `make promises`.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a report on standard output; whoever runs it sees what failed"
)]

use std::collections::HashMap;
use std::process::ExitCode;

#[path = "../tests/support/mod.rs"]
mod support;

use support::promises::promises;

fn main() -> ExitCode {
    let log = std::fs::read_to_string(std::env::args().nth(1).unwrap()).unwrap();
    let results = results(&log);
    let mut broken = 0;
    for promise in promises() {
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

/// The result of each test, by `file::name`, the last one where it ran more than once. One that needs root, or that said
/// that it skips what it cannot do here, proves nothing.
fn results(log: &str) -> HashMap<String, &str> {
    let says_skipped = |line: &'_ str| line.split_once("SKIPPED ").map(|(_, rest)| rest.to_owned());
    let skipped: Vec<String> = log.lines().filter_map(says_skipped).collect();
    let mut file = "";
    let mut results = HashMap::new();
    for line in log.lines() {
        if let Some(running) = line.trim_start().strip_prefix("Running ") {
            let path = running.split_whitespace().find(|word| word.ends_with(".rs")).unwrap_or("");
            file = path.rsplit('/').next().unwrap_or("").trim_end_matches(".rs");
        } else if let Some((test, result)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... ")) {
            let is_skipped = skipped.iter().any(|said| said.starts_with(&format!("{test}:")));
            let result = match result.split([' ', ',']).next().unwrap_or("") {
                "ignored" => "skipped",
                _ if is_skipped => "skipped",
                result => result,
            };
            results.insert(format!("{file}::{test}"), result);
        }
    }
    results
}
