//! What is shown of the engine.

use jiff::Timestamp;

use super::{Concluded, Suppression};
use crate::consent::OffSource;
use crate::ping::Event;
use crate::receipt::ReceiptStanding;

/// Telemetry, on or off, and what is shown of it.
#[derive(Clone, Debug)]
pub struct Status<'a> {
    /// What switched telemetry off; `None` while it is on.
    pub off: Option<OffSource>,
    /// The operator insists although Pulse reports itself, so this installation is counted twice.
    pub counted_twice: bool,
    /// Why nothing may be sent now, as of the last look.
    pub suppressed: Option<&'a Suppression>,
    /// When the next attempt or look is due. `None` while telemetry is off.
    pub next_due: Option<Timestamp>,
    /// What is due then.
    pub next_event: Option<Event>,
    /// The ID has had its time by then: it is replaced first, and the heartbeat moves to a random time after that.
    pub next_replaces_id: bool,
    /// The ping that was built and is not yet accepted: event, exact bytes, attempts so far.
    pub pending: Option<(Event, &'a str, u32)>,
    /// What became of the last ping.
    pub last: Option<&'a Concluded>,
    /// The ID that the next ping carries is on disk, and was made then. `None` where there is only a candidate.
    pub id_issued_at: Option<Timestamp>,
    /// Something could not be written and is tried again.
    pub unsaved: bool,
    /// The deletions that were asked for and are not over.
    pub deletions: Deletions,
    /// What the receipt was worth that this process was given for the last ping that was delivered; `None` before.
    pub last_receipt: Option<ReceiptStanding>,
}

/// The deletions that were asked for and are not over, also while telemetry is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deletions {
    /// How many.
    pub pending: usize,
    /// When the endpoint is asked next; it may have passed. `None` where nothing is pending.
    pub next: Option<Timestamp>,
    /// The endpoint said last to this process that it offers none, and was sent no ID; nobody asked again since. Where
    /// it only had no contract, it is asked again for a day.
    pub not_offered: bool,
}
