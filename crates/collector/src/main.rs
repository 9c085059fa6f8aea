//! The doorway of the receiving end: hands everything from outside to the library, and ends with its exit code.

use std::process::ExitCode;

use pulse_telemetry_collector::cli;
use pulse_telemetry_process::config::Environment;

#[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
fn main() -> ExitCode {
    let environment = Environment::from_os(std::env::vars_os());
    cli::main(std::env::args_os(), &environment, &mut std::io::stdout().lock(), &mut std::io::stderr())
}
