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
        let failed: Vec<_> = promise.tests.iter().filter(|test| of(test) != "ok").collect();
        let result = match (promise.tests.is_empty(), failed.is_empty()) {
            (true, _) => "later ",
            (false, true) => "kept  ",
            (false, false) => "BROKEN",
        };
        println!("{:>2}  {result}  {}", promise.number, promise.sentence);
        for test in failed {
            broken += 1;
            println!("            {test}: {}", of(test));
        }
    }
    let count = |result| results.values().filter(|r| **r == result).count();
    println!("\n{} passed, {} failed, {} skipped", count("ok"), count("FAILED"), count("ignored"));
    if broken == 0 && count("FAILED") == 0 && count("ok") > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The result of each test, by `file::name`.
fn results(log: &str) -> HashMap<String, &str> {
    let mut file = "";
    let mut results = HashMap::new();
    for line in log.lines() {
        if let Some(running) = line.trim_start().strip_prefix("Running ") {
            let path = running.split_whitespace().find(|word| word.ends_with(".rs")).unwrap_or("");
            file = path.rsplit('/').next().unwrap_or("").trim_end_matches(".rs");
        } else if let Some((test, result)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... ")) {
            results.insert(format!("{file}::{test}"), result.split_whitespace().next().unwrap_or(""));
        }
    }
    results
}
