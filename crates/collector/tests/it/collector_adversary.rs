//! Somebody who has all that was ever published, an integer solver, and time, finds nobody.
//!
//! `FLEETS` says how many fleets of which size are tried, as `300:14,6225:5,100000:1`, and `SEED` which.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod fleets;

use std::io::{BufRead as _, BufReader, Write as _, stderr};
use std::path::Path;
use std::process::{Command, Stdio};

use pulse_telemetry_testkit::alone::program_or_skip;
use pulse_telemetry_testkit::collector::binary;
use pulse_telemetry_testkit::seeded::Seeded;

#[expect(clippy::disallowed_methods, reason = "which fleets is the environment's to say")]
fn setting(name: &str, otherwise: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

#[test]
fn nobody_can_be_singled_out_by_all_that_was_published_of_90_days() {
    let name = "nobody_can_be_singled_out_by_all_that_was_published_of_90_days";
    let python = binary().ancestors().nth(2).unwrap().join("schemathesis/bin/python");
    if !program_or_skip(python.to_str().unwrap(), &["-c", "import highspy"], name) {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/tools/adversary.py");
    let mut adversary = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut given, said) = (adversary.stdin.take().unwrap(), BufReader::new(adversary.stdout.take().unwrap()));
    let make = std::thread::spawn(move || {
        let mut seed: u64 = setting("SEED", "3").parse().unwrap();
        for sizes in setting("FLEETS", "300:2").split(',') {
            let (size, count) = sizes.split_once(':').unwrap();
            for _ in 0..count.parse::<u64>().unwrap() {
                // The adversary that ends tells more than that it takes no more.
                if writeln!(given, "{}", fleets::fleet(size.parse().unwrap(), &mut Seeded(seed))).is_err() {
                    return;
                }
                seed += 1;
            }
        }
    });
    for line in said.lines() {
        // While it runs, for it may take hours.
        let _ = writeln!(stderr(), "{}", line.unwrap());
    }
    make.join().unwrap();
    assert!(adversary.wait().unwrap().success(), "somebody can be singled out, or what is wrong on purpose holds");
}
