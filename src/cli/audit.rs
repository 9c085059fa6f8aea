//! `audit`: holds the ledger against what this program promises.

use std::io::Write;
use std::path::Path;

use pulse_telemetry_core::audit::{Audit, LineHash};
use pulse_telemetry_core::clock::Clock;
use pulse_telemetry_core::ledger::Piece;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_process::command::Exit;

use super::error::CommandError;
use super::offline;
use crate::config::{self, Config};
use crate::store;

pub(super) fn audit(
    config: &Config,
    since: Option<LineHash>,
    receipt_keys: Option<&Path>,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    // Read before the state directory is looked at: from then on nothing else can be.
    let keys = match receipt_keys {
        Some(file) => Some(config::receipt_keys("--receipt-keys", file)?),
        None => config.telemetry.read_receipt_keys()?,
    };
    let mut audit = Audit::new(SystemClock.now().wall, since).with_receipt_keys(keys);
    offline::at_the_state(config, |dir| {
        store::read_ledger(dir, |piece| match piece {
            // A daemon that runs may be about to write the rest of that line.
            Piece::Torn if store::is_in_use(dir) => {}
            piece => audit.take(piece),
        })
    })?;
    let report = audit.finish();
    writeln!(out, "The history in {}", config.state.dir.display())?;
    write!(out, "{}", report.to_text())?;
    Ok(if report.is_clean() { Exit::Done } else { Exit::Findings })
}
