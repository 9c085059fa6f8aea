//! The command line of the collector: what each command does, and how it ends.

mod check;
mod error;
mod run;
mod storage;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use jiff::Timestamp;
use pulse_telemetry_core::clock::Clock as _;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_process::command::{self, CommandFailure, Exit};
use pulse_telemetry_process::config::Environment;
use pulse_telemetry_process::no_core::leave_no_core;
use pulse_telemetry_process::rng::SystemRng;
use pulse_telemetry_process::runtime;
use pulse_telemetry_process::signals::asked_to_stop;

use self::error::CollectorError;
pub use self::run::end_at_a_panic;
use self::storage::{open_existing, reader};
use super::export::{Export, write_rows};
use super::publish;
use super::purge::{is_far, is_plausible};
use super::receipts;
use super::storage::{Purged, Span, StorageError};
use crate::config::{CollectorConfig, Storage};

/// The receiving end of Pulse's telemetry: keeps the listed fields for 90 days, no addresses, and tells aggregates.
///
/// Exit codes: 0 done, 1 failed otherwise, 2 usage, 3 configuration, 5 storage.
#[derive(Debug, Parser)]
#[command(name = "pulse-telemetry-collector", version, max_term_width = 100)]
struct CollectorArgs {
    /// The configuration file [default: /etc/pulse-telemetry-collector/config.toml, where it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<CollectorCommand>,
}

#[derive(Clone, Debug, Subcommand)]
enum CollectorCommand {
    /// Take pings (the default)
    Run,
    /// Drop the days that are 90 days old now; the collector does this by itself every hour
    Purge {
        /// Also where the clock is more than a week ahead of the newest ping, or a day behind it
        #[arg(long)]
        trust_clock: bool,
    },
    /// Tell how many installations there are, and of what kind, without showing any single one
    ///
    /// An install ID counts on the last whole UTC day where it pinged on that day and on an earlier one. Numbers are
    /// rounded to multiples of five, and those of fewer than ten are not shown.
    Report {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write these numbers as a site that any web server can show
    ///
    /// Each whole day is counted once, kept in the storage for good and published from there.
    Publish {
        /// The directory of the site; it is made where it is not there
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Write the rows of the last 90 days in the form that Pulse's own adoption report reads
    ///
    /// The file is not purged by itself: delete it when the report is made. Until it is complete it is called FILE.new,
    /// which only a kill or a crash leaves behind: delete that, too.
    Export {
        /// The SQLite file to make; it must not be there yet
        #[arg(long, value_name = "FILE")]
        sqlite: PathBuf,
    },
    /// Make a key that signs receipts, for receipts.key_file
    Keygen {
        /// The file to make, readable for its owner alone; it must not be there yet
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Check the configuration and the storage, and show every setting with its origin
    Check,
}

/// Runs the command line. The binary hands in all that comes from outside.
pub fn main(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> ExitCode {
    command::main(arguments, out, err, |line: &CollectorArgs, out| {
        let done = execute(line, environment, out).map(|()| Exit::Done);
        done.map_err(|failure| CommandFailure::new(failure.exit(), &failure))
    })
}

/// The command line as clap knows it, for the manual page and the completions.
#[must_use]
pub fn command() -> clap::Command {
    CollectorArgs::command()
}

fn execute(line: &CollectorArgs, environment: &Environment, out: &mut dyn Write) -> Result<(), CollectorError> {
    // Before the database's password is read.
    let leaves_no_core = leave_no_core();
    let config = || CollectorConfig::load(line.config.as_deref(), environment);
    let done = runtime::run(async {
        match line.command.as_ref().unwrap_or(&CollectorCommand::Run) {
            CollectorCommand::Run => run::run(&config()?, leaves_no_core).await,
            CollectorCommand::Purge { trust_clock } => purge(&config()?.storage, *trust_clock, out).await,
            CollectorCommand::Report { json } => tell(&config()?.storage, *json, out).await,
            CollectorCommand::Publish { dir } => publish_into(&config()?.storage, dir, out).await,
            CollectorCommand::Export { sqlite } => export_into(config()?.storage, sqlite, out).await,
            // Before there is a configuration.
            CollectorCommand::Keygen { file } => make_key(file, out),
            CollectorCommand::Check => check::check(&config()?, out).await,
        }
    });
    done.map_err(|error| CollectorError::Other(format!("failed to start: {error}")))?
}

fn make_key(file: &Path, out: &mut dyn Write) -> Result<(), CollectorError> {
    let kid = receipts::keygen(file, &mut SystemRng)
        .map_err(|error| CollectorError::Other(format!("failed to make {}: {error}", file.display())))?;
    Ok(writeln!(
        out,
        "The key {kid} is in {}. Name the file in receipts.key_file, and keep a copy: receipts are verified by its \
         public half.",
        file.display()
    )?)
}

async fn purge(storage: &Storage, trust_clock: bool, out: &mut dyn Write) -> Result<(), CollectorError> {
    let now = SystemClock.now().wall;
    if !is_plausible(now) {
        let said = format!("the clock says {now}, which is before the contract was published: set it first");
        return Err(CollectorError::Other(said));
    }
    match purge_storage(storage, now, trust_clock).await {
        Ok(Purged { lock_held_by_other: true, .. }) => writeln!(out, "Another collector purges just now.")?,
        Ok(Purged { days, .. }) => writeln!(out, "Days that were dropped because they are 90 days old: {days}.")?,
        Err(CollectorError::Storage(not_yet @ StorageError::NotYet(_))) => {
            writeln!(out, "Nothing to purge: {not_yet}.")?
        }
        Err(failure) => return Err(failure),
    }
    Ok(())
}

/// Purges what is there, and makes nothing.
async fn purge_storage(storage: &Storage, now: Timestamp, trust_clock: bool) -> Result<Purged, CollectorError> {
    let store = open_existing(storage).await?;
    // As at a start of the collector, which could wait for a day.
    if !trust_clock
        && let Some(Span { newest, .. }) = store.span().await?
        && is_far(newest, now)
    {
        return Err(CollectorError::Other(format!(
            "nothing was purged: the clock says {now}, and the newest ping came at {newest}: set the clock if it is \
             wrong, else add --trust-clock"
        )));
    }
    Ok(store.purge(now).await?)
}

/// On a thread of its own, for SQLite blocks, and half an export is removed when it is asked to stop.
async fn export_into(storage: Storage, file: &Path, out: &mut dyn Write) -> Result<(), CollectorError> {
    let stop = asked_to_stop();
    let export = Export::new(file)?;
    let (place, now) = (export.place().to_owned(), SystemClock.now().wall);
    let writing = tokio::task::spawn_blocking(move || {
        let written = runtime::run(async { Ok(write_rows(reader(&storage)?.as_ref(), now, &place).await?) });
        written.unwrap_or_else(|error| Err(CollectorError::Other(format!("failed to start: {error}"))))
    });
    let rows = tokio::select! {
        biased;
        () = stop => return Err(CollectorError::Other("it was asked to stop: nothing was exported".to_owned())),
        rows = writing => rows.map_err(|error| CollectorError::Other(error.to_string()))??,
    };
    export.complete()?;
    Ok(writeln!(out, "{rows} rows in {}. Delete it when the report is made.", file.display())?)
}

async fn tell(storage: &Storage, json: bool, out: &mut dyn Write) -> Result<(), CollectorError> {
    let published = publish::report(reader(storage)?.as_ref(), SystemClock.now().wall).await?;
    if json {
        serde_json::to_writer_pretty(&mut *out, &published.to_file()).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", published.to_text())?;
    }
    Ok(())
}

async fn publish_into(storage: &Storage, dir: &Path, out: &mut dyn Write) -> Result<(), CollectorError> {
    let store = open_existing(storage).await?;
    let published = publish::publish(reader(storage)?.as_ref(), store.as_ref(), SystemClock.now().wall).await?;
    publish::write(&published, dir).map_err(|error| CollectorError::Other(error.to_string()))?;
    Ok(writeln!(out, "{} days in {}.", published.days.len(), dir.join("index.html").display())?)
}
