//! The command line: what each command does, and how it ends.

mod api;
mod audit;
mod check;
mod clients;
mod compare;
mod error;
mod events;
mod forget;
mod history;
mod offline;
mod run;
mod switch;

use std::ffi::OsString;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use hyper::Method;
use pulse_telemetry_core::audit::LineHash;
use pulse_telemetry_core::clock::Clock;
use pulse_telemetry_core::printable::printable;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_process::command::{self, CommandFailure, Exit};
use pulse_telemetry_process::config::Environment;
use pulse_telemetry_process::no_core::leave_no_core;
use pulse_telemetry_process::runtime;
use serde::Deserialize;

use self::api::{Api, ApiError, patience};
use self::error::CommandError;
use crate::config::Config;
use crate::status::StatusReport;

/// How often `status` asks whether a reading of Pulse has ended.
const ASKS_AGAIN: Duration = Duration::from_millis(100);

/// The telemetry of a Pulse installation, outside Pulse: reads the counts from Pulse's API, shows the ping, and sends
/// it once a start and once a day.
///
/// On by default. Off with PULSE_TELEMETRY=false, DO_NOT_TRACK=1, telemetry.enabled = false, `pulse-telemetry off`, or
/// Pulse's own setting. Exit codes: 0 done, 1 failed otherwise, 2 usage, 3 configuration, 4 Pulse, 5 state directory,
/// 6 the audit found something, 7 our ping differs from Pulse's own.
#[derive(Debug, Parser)]
#[command(name = "pulse-telemetry", version, max_term_width = 100)]
struct SidecarArgs {
    /// The configuration file [default: /etc/pulse-telemetry/config.toml, where it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<SidecarCommand>,
}

#[derive(Clone, Debug, Subcommand)]
enum SidecarCommand {
    /// Run the daemon: send the pings, serve the local page and API (the default)
    Run,
    /// Print the exact bytes of the heartbeat that would be sent now, and nothing else
    ///
    /// Works with or without a daemon, and while telemetry is off. Nothing is sent, and no file is written. Before the
    /// first ping, and while telemetry is off, the install ID is a candidate: the running daemon keeps it for its next
    /// ping, while without a daemon each look draws another one.
    Preview,
    /// Replace the install ID by a new one at once
    ///
    /// The old ID is never sent again. No ping is sent because of it: one that waited to be tried again is dropped, and
    /// the new ID's first heartbeat goes at a random time of the next 12 to 36 hours.
    ResetId,
    /// Have everything that was sent deleted at the endpoint, where that offers it
    ///
    /// Where telemetry is on, the ID is replaced first, and pings go on under the new one. Then the endpoint is asked,
    /// without an ID, whether it offers deletions, and only where it does for that of each ID in the history: of the
    /// present one at once, of older ones at random times of the next day, each over a connection of its own, for
    /// together they would tell that they are one installation. The daemon does this, for seven days, also while
    /// telemetry is off; `status` and `history` tell how it goes. Ends with 1 where the endpoint offers none,
    /// or where that was cancelled or given up meanwhile.
    Forget {
        /// Ask for no deletion any more that is not done yet
        #[arg(long)]
        cancel: bool,
    },
    /// Tell whether telemetry is on, who decided it, what is due next and what became of the last ping
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Check the configuration, the token's scopes and what Pulse answers; the endpoint is not contacted
    Check {
        /// Compare the ping with the one that Pulse would send itself, field by field; ends with 7 where they differ
        ///
        /// Asking Pulse for its own ping makes Pulse write its ID file. Differences that docs/PRIVACY.md lists are told
        /// as such, and so is what changed meanwhile.
        #[arg(long)]
        compare: bool,
    },
    /// Show what was sent, tried, held back and switched, one line an entry, the newest last
    ///
    /// Works with or without a daemon. A line that cannot be read is left out; `audit` names it.
    History {
        /// As it is stored: one JSON object a line, the exact bytes of every attempt included
        #[arg(long)]
        json: bool,
        /// Show the exact bytes of every attempt
        #[arg(long)]
        bodies: bool,
        /// The newest N entries
        #[arg(long, value_name = "N")]
        limit: Option<NonZeroUsize>,
        /// Erase the whole history, and leave one entry that says so
        ///
        /// Its receipts go with it, and the older IDs, whose deletion `forget` can then no longer ask for. What it was
        /// asked for already goes on, and keeps its IDs for that.
        #[arg(long, conflicts_with_all = ["json", "bodies", "limit"])]
        erase: bool,
    },
    /// Show the local-only commercial events that are kept, one line each, the newest last, and who decides about them
    ///
    /// They are what a client made for Pulse 6.0 hands over at Pulse's own routes. They stay on this machine, for 90
    /// days. Works with or without a daemon.
    Events {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Erase them
        #[arg(long, conflicts_with = "json")]
        erase: bool,
    },
    /// Check the history against what this program promises, and say what was checked and what was found
    ///
    /// Reads the file itself, works beside a running daemon and contacts nobody. Ends with 6 where it finds something.
    /// It sees damage and omission, except of the newest line, which nothing follows; it cannot see a forgery by the
    /// owner of the disk. It prints the hash of the newest line: keep it elsewhere and give it to a later audit, and
    /// that sees whether the history was cut or rewritten since.
    Audit {
        /// A line of the history must have this hash: what an earlier audit told of its newest line
        #[arg(long, value_name = "HASH")]
        since: Option<LineHash>,
        /// Verify the receipts with the public keys in this file, a JWK set [default: telemetry.receipt_keys_file]
        #[arg(long, value_name = "FILE")]
        receipt_keys: Option<PathBuf>,
    },
    /// Turn the local switch on
    On,
    /// Turn the local switch off: nothing is sent any more, and the install ID is deleted
    Off,
    /// End with 0 where the daemon answers, for containers
    Healthcheck,
}

/// Runs the command line. The binary hands in all that comes from outside.
pub fn main(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &Environment,
    is_root: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> ExitCode {
    command::main(arguments, out, err, |line: &SidecarArgs, out| {
        execute(line, environment, is_root, out).map_err(|error| {
            let mut failure = CommandFailure::new(error.exit(), &error);
            if matches!(line.command, Some(SidecarCommand::Off)) && failure.exit == Exit::Configuration {
                failure.told = format!("{}\n{OFF_BY_HAND}", failure.told);
            }
            failure
        })
    })
}

/// Where the state directory is cannot be known without the configuration.
const OFF_BY_HAND: &str = "Telemetry was not switched off. An empty file named `off` in the state directory does it \
    without the configuration, for a daemon that runs as well: it looks before it sends anything.";

/// The command line as clap knows it, for the manual page and the completions.
#[must_use]
pub fn command() -> clap::Command {
    SidecarArgs::command()
}

fn execute(
    line: &SidecarArgs,
    environment: &Environment,
    is_root: bool,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    // Before a token is read.
    let leaves_no_core = leave_no_core();
    let config = Config::load(line.config.as_deref(), environment, is_root)?;
    let done = runtime::run(async {
        match line.command.as_ref().unwrap_or(&SidecarCommand::Run) {
            SidecarCommand::Run => run::run(&config, is_root, leaves_no_core).await,
            SidecarCommand::Preview => preview(&config, out).await,
            SidecarCommand::ResetId => reset_id(&config, out).await,
            SidecarCommand::Forget { cancel: false } => forget::forget(&config, out).await,
            SidecarCommand::Forget { cancel: true } => forget::cancel(&config, out).await,
            SidecarCommand::Status { json } => status(&config, *json, out).await,
            SidecarCommand::Check { compare: true } => compare::compare(&config, out).await,
            SidecarCommand::Check { compare: false } => check::check(&config, out).await,
            SidecarCommand::History { erase: true, .. } => history::erase(&config, out).await,
            SidecarCommand::History { json, bodies, limit, .. } => {
                let form = history::Form { json: *json, bodies: *bodies };
                history::show(&config, form, limit.map(NonZeroUsize::get), out).await
            }
            SidecarCommand::Events { erase: true, .. } => events::erase(&config, out).await,
            SidecarCommand::Events { json, .. } => events::show(&config, *json, out).await,
            SidecarCommand::Audit { since, receipt_keys } => {
                audit::audit(&config, *since, receipt_keys.as_deref(), out)
            }
            SidecarCommand::On => switch::on(&config, out).await,
            SidecarCommand::Off => switch::off(&config, out).await,
            SidecarCommand::Healthcheck => healthcheck(&config).await,
        }
    });
    done.map_err(CommandError::Start)?
}

async fn preview(config: &Config, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let bytes = match Api::new(config)?.ask(Method::GET, "/api/v1/preview/bytes", None, patience::A_READING).await {
        Err(error) if error.is_no_daemon() => String::from(offline::preview(config).await?).into_bytes(),
        answer => answer?,
    };
    out.write_all(&bytes)?;
    out.flush()?;
    Ok(Exit::Done)
}

async fn reset_id(config: &Config, out: &mut dyn Write) -> Result<Exit, CommandError> {
    /// The answer of `POST /api/v1/reset-id`, as far as it is needed.
    #[derive(Deserialize)]
    struct Reset {
        enabled: bool,
    }

    let answer = Api::new(config)?.ask(Method::POST, "/api/v1/reset-id", None, patience::A_READING).await;
    let is_on = match answer {
        Err(error) if error.is_no_daemon() => offline::reset_id(config, out)?,
        answer => serde_json::from_slice::<Reset>(&answer?).map_err(|_| CommandError::from(ApiError::Foreign))?.enabled,
    };
    if is_on {
        writeln!(out, "The install ID was replaced. The old one will not be sent again.")?;
    } else {
        writeln!(out, "There is no ID while telemetry is off; the preview shows another candidate.")?;
    }
    Ok(Exit::Done)
}

async fn status(config: &Config, json: bool, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let api = Api::new(config)?;
    let report = match known_status(&api).await {
        Err(error) if error.is_no_daemon() => offline::status(config).await?,
        Ok(known) if known.is_being_read => {
            tokio::time::timeout(patience::NEWER, newer_status(&api)).await.ok().flatten().unwrap_or(known)
        }
        known => known?,
    };
    if json {
        serde_json::to_writer_pretty(&mut *out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        for line in report.to_text(SystemClock.now().wall).lines() {
            writeln!(out, "{}", printable(line))?;
        }
    }
    Ok(Exit::Done)
}

async fn known_status(api: &Api) -> Result<StatusReport, ApiError> {
    let answer = api.ask(Method::GET, "/api/v1/status", None, patience::AT_ONCE).await?;
    serde_json::from_slice(&answer).map_err(|_| ApiError::Foreign)
}

/// The status once the reading that is under way has ended; none where the daemon no longer tells it.
async fn newer_status(api: &Api) -> Option<StatusReport> {
    loop {
        tokio::time::sleep(ASKS_AGAIN).await;
        let report = known_status(api).await.ok()?;
        if !report.is_being_read {
            return Some(report);
        }
    }
}

async fn healthcheck(config: &Config) -> Result<Exit, CommandError> {
    Api::new(config)?.ask(Method::GET, "/healthz", None, patience::AT_ONCE).await?;
    Ok(Exit::Done)
}
