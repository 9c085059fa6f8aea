//! `forget`: has everything that was sent deleted at the endpoint.

use std::io::{self, Write};
use std::time::Duration;

use hyper::Method;
use pulse_telemetry_core::clock::Clock;
use pulse_telemetry_core::engine::EntryKind;
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_process::command::Exit;
use serde::Deserialize;

use super::api::{Api, ApiError, patience};
use super::error::CommandError;
use super::offline::{self, Asked};
use super::{ASKS_AGAIN, history, known_status};
use crate::config::Config;
use crate::status::{ForgetReport, ids};

const PATH: &str = "/api/v1/forget";

/// What is further away than this is not waited for: the first pause after a failure is shorter, and most of the random
/// times of older IDs are later.
const SOON: Duration = Duration::from_secs(60);

pub(super) async fn forget(config: &Config, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let api = Api::new(config)?;
    let (Asked { pending, enabled }, seen) = match ask(&api).await {
        Err(error) if error.is_no_daemon() => (offline::forget(config, out)?, None),
        asked => asked.map(|(asked, seen)| (asked, Some(seen)))?,
    };
    if pending == 0 {
        writeln!(out, "Nothing that was sent is left to delete, as far as the history tells.")?;
        tell_of_the_new_id(enabled, out)?;
        return Ok(Exit::Done);
    }
    // The daemon may have been started with another one than the configuration says now.
    let endpoint =
        if seen.is_none() { config.telemetry.endpoint.to_string() } else { known_status(&api).await?.endpoint };
    writeln!(out, "{endpoint} is to delete what was sent under {}.", ids(pending))?;
    tell_of_the_new_id(enabled, out)?;
    let Some(seen) = seen else {
        let (listen, dir) = (&config.serve.listen, config.state.dir.display());
        writeln!(out, "No daemon answered at {listen}: one that uses the state directory {dir} will ask.")?;
        return Ok(Exit::Done);
    };
    out.flush()?;
    let report = outcome(&api, pending).await?;
    let Ended { forgotten, cancelled, failed } = ended(config, seen).await?;
    if forgotten > 0 {
        writeln!(out, "It says that it did so for {}; `pulse-telemetry history` has its receipts.", ids(forgotten))?;
    }
    if report.not_offered {
        return Err(CommandError::NotOffered { endpoint, is_pending: report.pending > 0 });
    }
    if let Some(next) = report.next {
        let next = next.strftime("%Y-%m-%dT%H:%M:%SZ");
        writeln!(
            out,
            "Pending: {}. The endpoint is asked next at {next}; see `pulse-telemetry status`.",
            report.pending
        )?;
    }
    if cancelled + failed > 0 {
        return Err(CommandError::NotForgotten { cancelled, failed });
    }
    let untold = pending.saturating_sub(forgotten + report.pending);
    if untold > 0 {
        writeln!(out, "The history does not tell what became of {}.", ids(untold))?;
    }
    Ok(Exit::Done)
}

fn tell_of_the_new_id(enabled: bool, out: &mut dyn Write) -> io::Result<()> {
    if enabled {
        writeln!(out, "The install ID was replaced. Pings go on under the new one; `pulse-telemetry off` ends them.")?;
    }
    Ok(())
}

/// Asks the daemon. What the history has after that entry tells what became of it; that fewer are pending does not, for
/// they may have been cancelled.
async fn ask(api: &Api) -> Result<(Asked, u64), ApiError> {
    let seen = history::newest_seq(api).await?;
    let answer = api.ask(Method::POST, PATH, None, patience::A_READING).await?;
    Ok((serde_json::from_slice(&answer).map_err(|_| ApiError::Foreign)?, seen))
}

/// How deletions ended.
#[derive(Debug, Default)]
struct Ended {
    forgotten: usize,
    cancelled: usize,
    failed: usize,
}

/// How those ended that the history has the end of after that entry.
async fn ended(config: &Config, seen: u64) -> Result<Ended, CommandError> {
    let mut ended = Ended::default();
    let entries = history::newest(config, usize::MAX, seen).await?;
    for line in entries.iter().filter_map(|entry| history::parsed(entry)) {
        match line.kind {
            EntryKind::Forgotten => ended.forgotten += 1,
            EntryKind::ForgetFailed if line.reason.is_some_and(|reason| reason == LedgerReason::Cancelled) => {
                ended.cancelled += 1;
            }
            EntryKind::ForgetFailed => ended.failed += 1,
            _ => {}
        }
    }
    Ok(ended)
}

/// How it stands once something came of it, or once that may take longer than is waited for.
async fn outcome(api: &Api, pending: usize) -> Result<ForgetReport, ApiError> {
    let mut left = patience::A_DELETION;
    loop {
        let report = known_status(api).await?.forget;
        let is_later = report.next.is_some_and(|next| {
            Duration::try_from(next.duration_since(SystemClock.now().wall)).is_ok_and(|wait| wait > SOON)
        });
        if report.pending != pending || report.not_offered || is_later || left.is_zero() {
            return Ok(report);
        }
        tokio::time::sleep(ASKS_AGAIN).await;
        left = left.saturating_sub(ASKS_AGAIN);
    }
}

pub(super) async fn cancel(config: &Config, out: &mut dyn Write) -> Result<Exit, CommandError> {
    /// The answer of `DELETE /api/v1/forget`.
    #[derive(Deserialize)]
    struct Cancelled {
        cancelled: usize,
    }

    let cancelled = match Api::new(config)?.ask(Method::DELETE, PATH, None, patience::AT_ONCE).await {
        Err(error) if error.is_no_daemon() => offline::cancel_forget(config, out)?,
        answer => serde_json::from_slice::<Cancelled>(&answer?).map_err(|_| ApiError::Foreign)?.cancelled,
    };
    if cancelled == 0 {
        writeln!(out, "No deletion is asked for any more; none was pending.")?;
    } else {
        writeln!(out, "No deletion is asked for any more; {cancelled} were pending. The ID stays replaced.")?;
    }
    Ok(Exit::Done)
}
