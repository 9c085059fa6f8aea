//! What the commands of both programs have in common: how they end, and their help.

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

/// The help text of a program and of each of its commands.
#[must_use]
pub fn help_of(program: clap::Command) -> Vec<String> {
    let mut program = program.term_width(100);
    program.build();
    let whole = program.clone().render_long_help().to_string();
    let commands = program.get_subcommands().filter(|command| command.get_name() != "help").cloned();
    std::iter::once(whole).chain(commands.map(|mut command| command.render_long_help().to_string())).collect()
}
