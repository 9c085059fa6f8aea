//! What goes into the engine, and what comes out.

use std::time::Duration;

use jiff::Timestamp;

use super::{KeptReceipt, State};
use crate::identity::{Identity, InstallId};
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
    /// What came of the attempt that [`Action::Send`] asked for, and the receipt in the answer.
    Answer(Answer, KeptReceipt),
    /// The local switch was turned.
    Switch {
        /// It is off now.
        off: bool,
    },
    /// A new ID was asked for.
    Reset,
    /// Everything that was sent is to be deleted at the endpoint.
    Forget {
        /// The IDs that the ledger holds an attempt of ([`crate::ledger::SentIds`]); the engine adds the current one.
        ids: Vec<InstallId>,
    },
    /// What came of the deletion that [`Action::Forget`] asked for.
    ForgetAnswer {
        /// The ID that it is about.
        id: InstallId,
        /// What came.
        answer: ForgetAnswer,
    },
    /// Deletions that are not done yet are not wanted any more.
    CancelForget,
    /// An action on the state directory failed.
    StorageFailed {
        /// [`Action::Send`] was left out because of it.
        send_left_out: bool,
        /// [`Action::Forget`] was.
        forget_left_out: bool,
    },
    /// The process is about to end.
    Stop,
}

/// What came of asking the endpoint for a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForgetAnswer {
    /// It is done.
    Done(KeptReceipt),
    /// The endpoint's contract does not offer it; no ID was sent.
    NotOffered,
    /// The endpoint has no contract, now at least; no ID was sent.
    NoContract,
    /// It is to be asked again.
    Failed {
        /// Not before this time has passed, says the endpoint.
        after: Option<Duration>,
    },
}

/// What is to be done, in this order.
///
/// Every [`DiskAction`] is tried; where one fails, [`Action::Send`] and [`Action::Forget`] later in the same list are
/// left out, and so is an entry that would say that it was done ([`EntryKind::claims_prior_writes`]), and the engine is
/// told with [`Input::StorageFailed`].
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
    /// Ask the endpoint, without an ID, whether it offers deletions, and only where it does for the deletion of this
    /// one, over a connection of its own; and tell what came of it. It goes beside a send, and while telemetry is off.
    Forget(InstallId),
    /// Close the connection of the deletion under way, now; its answer no longer counts.
    CancelForget,
    /// Tell that time passed when the monotonic clock says this.
    WakeAt(Duration),
}

/// A change of the state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        /// Only the part that is within this of the oldest entry: should the clock be wrong, little is lost.
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
    /// The ID whose deletion it is about.
    pub install_id: Option<InstallId>,
    /// The receipt, of a delivery and of a deletion.
    pub receipt: Option<KeptReceipt>,
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
        /// The deletion of all that was sent with an ID was asked for here.
        ForgetAsked = "forget_asked",
        /// The endpoint says that it is done.
        Forgotten = "forgotten",
        /// It is not asked for any more.
        ForgetFailed = "forget_failed",
        /// The process stopped.
        Stopped = "stopped",
    }
}
serde_word!(EntryKind);

impl EntryKind {
    /// All of them.
    pub const ALL: [Self; 16] = [
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
        Self::ForgetAsked,
        Self::Forgotten,
        Self::ForgetFailed,
        Self::Stopped,
    ];

    /// Says that something is on disk, or about to be sent, which what failed before in the list would make untrue.
    #[must_use]
    pub fn claims_prior_writes(self) -> bool {
        matches!(self, Self::Attempted | Self::IdRotated | Self::IdReset)
    }

    /// The store need not remember it where it could not be written: an attempt that was not recorded is not made, and
    /// the engine keeps what is to be recorded of deletions.
    #[must_use]
    pub fn is_recorded_again(self) -> bool {
        matches!(self, Self::Attempted | Self::ForgetAsked | Self::Forgotten | Self::ForgetFailed)
    }
}

impl Entry {
    /// An entry of that kind that says nothing else.
    #[must_use]
    pub fn new(kind: EntryKind) -> Self {
        Self {
            kind,
            event: None,
            body: None,
            status: None,
            reason: None,
            step_seconds: None,
            schedule: None,
            install_id: None,
            receipt: None,
        }
    }

    pub(super) fn because(kind: EntryKind, reason: LedgerReason) -> Self {
        Self { reason: Some(reason), ..Self::new(kind) }
    }
}
