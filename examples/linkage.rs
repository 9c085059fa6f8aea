//! Prints what a receiver of pings can link over a new ID, by the simulation of the testkit: `make linkage`.
#![expect(clippy::print_stdout, reason = "a report on standard output")]

fn main() {
    print!("{}", pulse_telemetry_testkit::linkage::report(&[2_000, 6_000, 20_000, 100_000]));
}
