//! Prints what a receiver of pings can link over a new ID, by the simulation in `model.rs`: `make linkage`.
#![expect(clippy::print_stdout, reason = "a report on standard output")]

mod model;
#[path = "../../tests/support/mod.rs"]
mod support;

fn main() {
    print!("{}", model::report(&[2_000, 6_000, 20_000, 100_000]));
}
