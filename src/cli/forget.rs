//! `forget`: has everything that was sent deleted at the endpoint.

use std::io::Write;
use std::time::Duration;

use hyper::Method;
use pulse_telemetry_core::clock::Clock;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_process::command::Exit;
use serde::Deserialize;

use super::api::{Api, ApiError, patience};
use super::error::CommandError;
use super::offline::{self, Asked};
use super::{ASKS_AGAIN, known_status};
use crate::config::Config;
use crate::status::{ForgetReport, ids};

const PATH: &str = "/api/v1/forget";

/// What is further away than this is not waited for: the first pause after a failure is shorter, and most of the random
/// times of older IDs are later.
const SOON: Duration = Duration::from_secs(60);

pub(super) async fn forget(config: &Config, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let api = Api::new(config)?;
    let (asked, is_offline): (Asked, bool) = match api.ask(Method::POST, PATH, None, patience::A_READING).await {
        Err(error) if error.is_no_daemon() => (offline::forget(config, out)?, true),
        answer => (serde_json::from_slice(&answer?).map_err(|_| ApiError::Foreign)?, false),
    };
    let Asked { pending, enabled } = asked;
    // The daemon may have been started with another one than the configuration says now.
    let endpoint = if is_offline { config.telemetry.endpoint.to_string() } else { known_status(&api).await?.endpoint };
    if pending == 0 {
        writeln!(out, "Nothing that was sent is left to delete, as far as the history tells.")?;
    } else {
        writeln!(out, "{endpoint} is to delete what was sent under {}.", ids(pending))?;
    }
    if enabled {
        writeln!(out, "The install ID was replaced. Pings go on under the new one; `pulse-telemetry off` ends them.")?;
    }
    if pending == 0 {
        return Ok(Exit::Done);
    }
    if is_offline {
        let (listen, dir) = (&config.serve.listen, config.state.dir.display());
        writeln!(out, "No daemon answered at {listen}: one that uses the state directory {dir} will ask.")?;
        return Ok(Exit::Done);
    }
    out.flush()?;
    let report = outcome(&api, pending).await?;
    if report.not_offered {
        return Err(CommandError::NotOffered { endpoint, is_pending: report.pending > 0 });
    }
    let done = pending.saturating_sub(report.pending);
    if done > 0 {
        writeln!(out, "It says that it did so for {done} of them; `pulse-telemetry history` has its receipts.")?;
    }
    if let Some(next) = report.next {
        let next = next.strftime("%Y-%m-%dT%H:%M:%SZ");
        writeln!(
            out,
            "Pending: {}. The endpoint is asked next at {next}; see `pulse-telemetry status`.",
            report.pending
        )?;
    }
    Ok(Exit::Done)
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
        writeln!(out, "No deletion was pending.")?;
    } else {
        writeln!(out, "No deletion is asked for any more; {cancelled} were pending. The ID stays replaced.")?;
    }
    Ok(Exit::Done)
}
