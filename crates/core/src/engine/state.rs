//! What the engine keeps on disk: wall times, for the next start.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::identity::InstallId;
use crate::ping::{self, Event, PingBytes};
use crate::reason::ReasonWord;
use crate::receipt::ReceiptStanding;

/// The engine's memory between two starts: `state.json`. Losing it costs a ping at a wrong time, never consent: the
/// switch is a file of its own. Deletions that were asked for are in the ledger as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// When a startup ping was last attempted; written before the attempt.
    pub startup_attempted_at: Option<Timestamp>,
    /// When the next heartbeat is due.
    pub heartbeat_due: Option<Timestamp>,
    /// The endpoint asked for silence until then.
    pub not_before: Option<Timestamp>,
    /// The ping that was built and is not yet accepted.
    pub pending: Option<PendingRecord>,
    /// What became of the last ping.
    pub last: Option<Concluded>,
    /// The latest trusted wall time.
    #[serde(rename = "believed_at")]
    pub last_trusted: Option<Timestamp>,
    /// For how many seconds the wall clock has been suspect since; `None` while it is trusted.
    #[serde(rename = "doubted_seconds")]
    pub suspect_seconds: Option<u32>,
    /// When the ledger was last pruned; written before it is.
    pub pruned_at: Option<Timestamp>,
    /// When the ID was made that `heartbeat_due` and `not_before` belong to. `None` while there is none, and in a state
    /// that an earlier version wrote.
    #[serde(default)]
    pub schedule_of: Option<Timestamp>,
    /// No ping went with that ID.
    #[serde(default)]
    pub id_is_unused: bool,
    /// The deletions that were asked for and are not over; left out where there are none, as earlier versions do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deletions: Vec<DeletionRecord>,
}

impl State {
    /// How many deletions are pending; one that ended stays until that is in the ledger.
    #[must_use]
    pub fn pending_deletions(&self) -> usize {
        self.deletions.iter().filter(|deletion| deletion.end.is_none()).count()
    }
}

/// A deletion on disk that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeletionRecord {
    /// The ID, all pings of which are to be deleted.
    pub install_id: InstallId,
    /// When that was asked for, and from the first attempt on, when that was.
    pub since: Timestamp,
    /// The endpoint is not asked before this time.
    pub not_before: Timestamp,
    /// How often it was asked.
    pub attempts: u32,
    /// How it ended, until that is in the ledger.
    pub end: Option<DeletionEnd>,
    /// The ledger has the entry for it: of the asking, or of the end.
    pub is_recorded: bool,
}

/// How a deletion ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DeletionEnd {
    /// The endpoint says that it is done.
    Forgotten(KeptReceipt),
    /// It is not asked for any more, for this reason.
    Failed(ReasonWord),
}

/// A pending ping on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingRecord {
    /// Startup or heartbeat.
    pub event: Event,
    /// The exact bytes.
    pub body: String,
    /// The ID in them.
    pub install_id: String,
    /// When it was built.
    pub built_at: Timestamp,
    /// How many attempts were made.
    pub attempts: u32,
    /// No attempt before this time.
    pub not_before: Timestamp,
}

impl PendingRecord {
    /// The bytes and the ID in them, where they are a ping with that event and that ID, as the encoder writes it now:
    /// what stands in a file is not sent because it stands there.
    pub(super) fn sound(&self) -> Option<(PingBytes, InstallId)> {
        let document = ping::decode(&self.body).ok()?;
        let says_so = document["install_id"] == self.install_id && document["event"] == self.event.word();
        if says_so { Some((PingBytes::parse(&self.body).ok()?, InstallId::parse(&self.install_id)?)) } else { None }
    }
}

/// A receipt of the endpoint, as it was judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptReceipt {
    /// The judgement.
    pub standing: ReceiptStanding,
    /// The text, but for one that is false.
    pub text: Option<String>,
}

impl KeptReceipt {
    /// That none was given.
    pub const NONE: Self = Self { standing: ReceiptStanding::Missing, text: None };
}

/// A ping that was done with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concluded {
    /// When.
    pub at: Timestamp,
    /// Startup or heartbeat.
    pub event: Event,
    /// How.
    pub outcome: Outcome,
    /// Why, in one word of a small set.
    pub reason: ReasonWord,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
}

/// How a ping ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The endpoint accepted it.
    Delivered,
    /// The endpoint refused it, or it may no longer be sent.
    Dropped,
    /// It was tried for an interval.
    GaveUp,
}

impl Outcome {
    /// The outcome in words.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Dropped => "dropped",
            Self::GaveUp => "given up",
        }
    }
}

impl State {
    /// How long it is until a startup may be attempted again, from the time of the last one. A time in the future was
    /// written before the clock stepped back: then it may just have been.
    pub(super) fn spacing_left(&self, now: Timestamp, spacing: Duration) -> Duration {
        self.startup_attempted_at.map_or(Duration::ZERO, |at| spacing.saturating_sub(super::since(at, now)))
    }
}
