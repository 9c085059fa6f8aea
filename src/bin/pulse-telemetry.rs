//! The doorway: hands everything from outside to the library, and ends with its exit code.

use std::process::ExitCode;

use pulse_telemetry::cli;
use pulse_telemetry_process::config::Environment;

#[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
fn main() -> ExitCode {
    let environment = Environment::from_os(std::env::vars_os());
    let is_root = rustix::process::geteuid().is_root();
    cli::main(std::env::args_os(), &environment, is_root, &mut std::io::stdout().lock(), &mut std::io::stderr())
}
