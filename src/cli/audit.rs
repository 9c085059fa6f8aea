//! `audit`: holds the ledger against what this program promises.

use std::io::Write;

use pulse_telemetry_core::audit::{Audit, LineHash};
use pulse_telemetry_core::clock::Clock;
use pulse_telemetry_core::ledger::Piece;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_process::command::Exit;

use super::error::CommandError;
use super::offline;
use crate::config::Config;
use crate::store;

pub(super) fn audit(config: &Config, since: Option<LineHash>, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let mut audit = Audit::new(SystemClock.now().wall, since);
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
