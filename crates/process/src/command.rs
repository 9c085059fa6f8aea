//! How a command of either program runs and ends.

use std::error::Error;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::output::Output;

/// How a command ended. The codes stand here and in `docs/CONFIGURATION.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It is done.
    Done = 0,
    /// It failed for a reason that has no code of its own.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The configuration is wrong.
    Configuration = 3,
    /// Pulse cannot be reached, refuses the token, or cannot be read fully.
    Pulse = 4,
    /// The state directory cannot be used.
    State = 5,
    /// The audit found something.
    Findings = 6,
    /// Our ping differs from Pulse's own.
    Differs = 7,
}

/// A command that failed.
#[derive(Debug)]
pub struct CommandFailure {
    /// How it ends.
    pub exit: Exit,
    /// What is told on standard error, behind the program's name.
    pub told: String,
}

impl CommandFailure {
    /// Tells the error, and each of its causes that its own text does not have.
    #[must_use]
    pub fn new(exit: Exit, error: &dyn Error) -> Self {
        let (mut told, mut cause) = (error.to_string(), error.source());
        while let Some(error) = cause {
            let text = error.to_string();
            if !told.contains(&text) {
                told = format!("{told}: {text}");
            }
            cause = error.source();
        }
        Self { exit, told }
    }
}

/// Runs a command line: parses the arguments, has the command executed, and tells what failed, standard output
/// included.
pub fn main<L: Parser>(
    arguments: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
    err: &mut dyn Write,
    execute: impl FnOnce(&L, &mut dyn Write) -> Result<Exit, CommandFailure>,
) -> ExitCode {
    let program = L::command().get_name().to_owned();
    let mut output = Output::new(out);
    let mut exit = match L::try_parse_from(arguments) {
        Err(usage) => {
            // Help and version are no errors, and go to standard output.
            let is_error = usage.use_stderr();
            let text = usage.render();
            let _ = if is_error { write!(err, "{text}") } else { write!(output, "{text}") };
            if is_error { Exit::Usage } else { Exit::Done }
        }
        Ok(line) => execute(&line, &mut output).unwrap_or_else(|CommandFailure { exit, told }| {
            let _ = writeln!(err, "{program}: {told}");
            exit
        }),
    };
    if let Some(error) = output.finish() {
        let _ = writeln!(err, "{program}: failed to write to standard output: {error}");
        if exit == Exit::Done {
            exit = Exit::Failed;
        }
    }
    ExitCode::from(exit as u8)
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    /// An error, and its cause.
    #[derive(Debug)]
    struct Step(&'static str, Option<Box<Step>>);

    impl fmt::Display for Step {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Step {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|step| step as &(dyn Error + 'static))
        }
    }

    #[test]
    fn each_cause_of_a_failure_is_told_once() {
        let cause = || Some(Box::new(Step("the write failed", Some(Box::new(Step("the disk is full", None))))));
        for (text, told) in [
            ("it ended", "it ended: the write failed: the disk is full"),
            ("it ended: the write failed", "it ended: the write failed: the disk is full"),
            ("the write failed: the disk is full", "the write failed: the disk is full"),
        ] {
            assert_eq!(CommandFailure::new(Exit::Failed, &Step(text, cause())).told, told);
        }
    }
}
