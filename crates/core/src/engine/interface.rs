//! What goes into the engine, and what comes out.

use std::time::Duration;

use jiff::Timestamp;

use super::State;
use crate::identity::Identity;
use crate::observation::{OwnSender, ReadError, Reading};
use crate::ping::{Event, PingBytes};
use crate::reason::LedgerReason;
use crate::verdict::Answer;
use crate::words::{serde_word, words};

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed.
    Tick,
    /// What Pulse says of its own sender. Every reading tells it, not only one that the engine asked for.
    OwnSender(OwnSender),
    /// What the reading of Pulse gave that [`Action::ReadPulse`] asked for.
    Reading(Box<Result<Reading, ReadError>>),
    /// What came of the attempt that [`Action::Send`] asked for.
    Answer(Answer),
    /// The local switch was turned.
    Switch {
        /// It is off now.
        off: bool,
    },
    /// A new ID was asked for.
    Reset,
    /// An action on the state directory failed.
    StorageFailed {
        /// [`Action::Send`] was left out because of it.
        send_left_out: bool,
    },
    /// The process is about to end.
    Stop,
}

/// What is to be done, in this order.
///
/// Every [`DiskAction`] is tried; where one fails, [`Action::Send`] later in the same list is left out, and so is an
/// entry that would say that it was done ([`EntryKind::claims_prior_writes`]), and the engine is told with
/// [`Input::StorageFailed`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a list has a few, and lives for a moment")]
pub enum Action {
    /// Change the state directory.
    Disk(DiskAction),
    /// Close the connection of the send under way, now; its answer no longer counts.
    CancelSend,
    /// Read Pulse, and tell what it gave.
    ReadPulse,
    /// Make one attempt to send these bytes, and tell what came of it.
    Send(PingBytes),
    /// Tell that time passed when the monotonic clock says this.
    WakeAt(Duration),
}

/// A change of the state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a list has a few, and lives for a moment")]
pub enum DiskAction {
    /// Make the local switch say on or off.
    SaveSwitch {
        /// Off.
        off: bool,
    },
    /// Write the ID file.
    SaveId(Identity),
    /// Delete the ID file.
    DeleteId,
    /// Write the state file.
    Save(State),
    /// Append to the ledger.
    Record(Entry),
    /// Remove entries from before that time from the ledger.
    Prune {
        /// The time.
        before: Timestamp,
        /// Not those that are so long after the oldest one, though: should the clock be wrong, little is lost.
        at_most: Duration,
    },
}

/// What is recorded in the ledger, but for sequence, time and chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What happened.
    pub kind: EntryKind,
    /// The ping it happened to.
    pub event: Option<Event>,
    /// The exact bytes, of an attempt.
    pub body: Option<PingBytes>,
    /// The HTTP status, of an answer.
    pub status: Option<u16>,
    /// Why, in one word of a small set.
    pub reason: Option<LedgerReason>,
    /// How many seconds the wall clock stepped.
    pub step_seconds: Option<i64>,
    /// The schedule in force, of a start and of an attempt: the interval and its jitter.
    pub schedule: Option<(Duration, Duration)>,
}

words! {
    /// What an [`Entry`] says.
    pub enum EntryKind {
        /// The process started.
        Started = "started",
        /// An attempt is about to be made.
        Attempted = "attempted",
        /// The attempt before delivered the ping.
        Sent = "sent",
        /// The attempt before did not, or the pending ping was given up.
        Failed = "failed",
        /// Nothing may be sent now.
        Suppressed = "suppressed",
        /// A new ID, because there was none or the old one was 30 days old.
        IdRotated = "id_rotated",
        /// A new ID, because somebody asked for it.
        IdReset = "id_reset",
        /// Telemetry was switched on or off.
        ConsentChanged = "consent_changed",
        /// The wall clock stepped.
        ClockStepped = "clock_stepped",
        /// Everything before was erased, because somebody asked for it. Written by the store.
        Erased = "erased",
        /// What was too old, or too much, was removed from the beginning of the ledger. Written by the store.
        Pruned = "pruned",
        /// Entries that were known are not on the disk any more, and nobody asked for that. Written by the store.
        HistoryLost = "history_lost",
        /// The process stopped.
        Stopped = "stopped",
    }
}
serde_word!(EntryKind);

impl EntryKind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Started,
        Self::Attempted,
        Self::Sent,
        Self::Failed,
        Self::Suppressed,
        Self::IdRotated,
        Self::IdReset,
        Self::ConsentChanged,
        Self::ClockStepped,
        Self::Erased,
        Self::Pruned,
        Self::HistoryLost,
        Self::Stopped,
    ];

    /// Says that something is on disk, or about to be sent, which what failed before in the list would make untrue.
    #[must_use]
    pub fn claims_prior_writes(self) -> bool {
        matches!(self, Self::Attempted | Self::IdRotated | Self::IdReset)
    }
}

impl Entry {
    pub(super) fn new(kind: EntryKind) -> Self {
        Self { kind, event: None, body: None, status: None, reason: None, step_seconds: None, schedule: None }
    }

    pub(super) fn because(kind: EntryKind, reason: LedgerReason) -> Self {
        Self { reason: Some(reason), ..Self::new(kind) }
    }
}
