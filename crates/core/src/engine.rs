//! The state machine: what happened goes in, what is to be done comes out.
//!
//! Nothing here waits, and nothing here touches a disk, a socket, a clock or chance: `daemon` feeds it and carries out
//! what it asks for, and a test can run thousands of years of it in seconds.
//!
//! Times within a process are monotonic, so that a stepping wall clock moves no schedule; on disk they are wall times,
//! for the next start.

mod attempts;
mod clock_trust;
mod consenting;
mod deadlines;
mod forgetting;
mod interface;
mod new_id;
mod starting;
mod state;
mod status;
mod storage;
mod suppression;
mod times;

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::clock::{DAY, HOUR, MINUTE, Now};
use crate::consent::Sources;
use crate::identity::{Identity, InstallId};
use crate::observation::{ReadError, Reading};
use crate::ping::{Event, PingBytes};
use crate::reason::LedgerReason;
use crate::receipt::ReceiptStanding;
use crate::rng::Rng;
use crate::verdict::RETRY_AFTER_MAX;
use attempts::End;
use clock_trust::ClockTrust;
use deadlines::{Deadline, Deadlines};
use forgetting::Deletion;
pub use interface::{Action, DiskAction, Entry, EntryKind, ForgetAnswer, Input};
pub use starting::Start;
pub use state::{Concluded, DeletionEnd, DeletionRecord, KeptReceipt, Outcome, PendingRecord, State};
pub use status::{Deletions, Status};
pub use suppression::Suppression;

/// The first pause of the back-off; it doubles up to [`BACKOFF_MAX`], and the real pause is drawn evenly from none of
/// it to all of it (full jitter).
const BACKOFF_FIRST: Duration = MINUTE;
const BACKOFF_MAX: Duration = HOUR;
/// Floor of the jittered delay.
const BACKOFF_LEAST: Duration = Duration::from_secs(1);
/// Two startup pings, and a startup ping and the next heartbeat, are at least so far apart.
const STARTUP_SPACING: Duration = HOUR;
/// The longest time between two looks at the state of things.
const WAKE_MAX: Duration = HOUR;
/// How long the ledger keeps its entries, and how often those that are older are removed: never more than a day of them
/// in a day, so that a clock that leaps ahead takes little with it.
const KEPT: Duration = DAY.saturating_mul(90);
const PRUNING: Duration = DAY;
/// How often it is kept on disk for how long the clock has been suspect.
const SUSPICION_SAVED_EVERY: Duration = Duration::from_secs(10 * 60);
/// To what the endpoint asks for a random time is added, up to this part of it and at least up to [`ASKED_ADDED`]: a
/// time that the endpoint chose to the second would be known again.
const ASKED_PART: u32 = 10;
const ASKED_ADDED: Duration = Duration::from_secs(2 * 60);
/// What the endpoint asks for is never further away.
const ASKED_MAX: Duration = RETRY_AFTER_MAX.saturating_add(Duration::from_secs(RETRY_AFTER_MAX.as_secs() / 10));
/// A wall clock that moves by more than this against the monotonic one has stepped. Clocks that are slewed stay below.
const STEP: Duration = MINUTE;

/// The schedule, from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// From the start of the process to the startup ping.
    pub startup_delay: Duration,
    /// Between two heartbeats, and from building a ping to giving it up.
    pub interval: Duration,
    /// The interval is longer or shorter by a random time up to this.
    pub jitter: Duration,
}

impl Schedule {
    /// How far a startup ping is from the next one and from a heartbeat. Only a schedule for tests has an interval
    /// that is shorter.
    #[must_use]
    pub fn spacing(&self) -> Duration {
        STARTUP_SPACING.min(self.interval)
    }

    /// What the ledger keeps of it.
    fn recorded(&self) -> Option<(Duration, Duration)> {
        Some((self.interval, self.jitter))
    }
}

/// The ping that was built and is not yet accepted.
#[derive(Clone, Debug)]
struct Pending {
    event: Event,
    body: PingBytes,
    install_id: InstallId,
    built_at: Timestamp,
    attempts: u32,
    /// Before the last attempt no ping had gone with its ID.
    id_was_unused: bool,
}

/// What the engine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Reading,
    Sending,
}

/// The engine.
#[derive(Clone, Debug)]
pub struct Engine<C> {
    schedule: Schedule,
    chance: C,
    sources: Sources,
    deadlines: Deadlines,
    identity: Option<Identity>,
    /// It was made or taken up here, not only found as a file.
    id_is_ours: bool,
    /// No ping went with it. Where the interval is nearly as long as an ID's life, its first heartbeat may be due later
    /// than it lives; that time tells of no other ID, and is not drawn again.
    id_is_unused: bool,
    /// What a preview shows where there is no current ID; it becomes the ID when the next ping is built.
    candidate: Uuid,
    /// When the process started.
    started: Duration,
    /// When a startup was last attempted.
    startup_attempted_at: Option<Timestamp>,
    pending: Option<Pending>,
    last: Option<Concluded>,
    last_receipt: Option<ReceiptStanding>,
    phase: Phase,
    suppressed: Option<Suppression>,
    counted_twice: bool,
    /// Why nothing may be sent, as it was recorded last.
    suppression_recorded: Option<LedgerReason>,
    failed_reads: u32,
    /// How often something could not be written.
    saves: u32,
    clock_trust: ClockTrust,
    /// The times on disk, for as long as the clock has been suspect since the start: deadlines are restored from them
    /// once it is trusted, and they stay on disk as they are until then.
    deferred_state: Option<State>,
    /// The deletions that were asked for and are not over, and the one that the endpoint is being asked for.
    deletions: Vec<Deletion>,
    forgetting: Option<InstallId>,
    /// When it was asked for one last; where the start found some, perhaps right before that.
    deletion_asked_at: Option<Duration>,
    /// The state does not say yet that what is to be recorded of them is.
    records_unsaved: bool,
    /// The endpoint said last that it offers none, and nobody asked again since.
    not_offered: bool,
    /// Since when it has had no contract, whenever it was asked.
    without_contract_since: Option<Duration>,
    /// When the ledger was last pruned.
    pruned_at: Option<Timestamp>,
    last_seen: Now,
}

impl<C: Rng> Engine<C> {
    /// Takes in what happened and says what is to be done.
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::StorageFailed { forget_left_out, .. } => self.doubt_the_records(forget_left_out),
            _ => self.trust_the_records(),
        }
        self.watch_the_clock(now, &mut out);
        match input {
            Input::Tick => {}
            Input::OwnSender(own_sender) => self.on_own_sender(now, own_sender, &mut out),
            Input::Reading(reading) => self.on_reading(now, &reading, &mut out),
            Input::Answer(answer, receipt) => self.on_answer(now, &answer, receipt, &mut out),
            Input::Switch { off } => self.on_switch(now, off, &mut out),
            Input::Reset => self.on_reset(now, &mut out),
            Input::Forget { ids } => self.on_forget(now, ids, &mut out),
            Input::ForgetAnswer { id, answer } => self.on_forget_answer(now, &id, answer, &mut out),
            Input::CancelForget => self.on_cancel_forget(now, &mut out),
            Input::StorageFailed { send_left_out, .. } => self.on_storage_failed(now, send_left_out, &mut out),
            Input::Stop => {
                self.cancel(now, LedgerReason::Stopped, &mut out);
                self.break_off_the_deletion(&mut out);
                // A last try: the next start knows only what is written.
                if self.deadlines.is_set(Deadline::Save) {
                    self.save_all(now, &mut out);
                }
                out.push(Action::Disk(DiskAction::Record(Entry::new(EntryKind::Stopped))));
                return out;
            }
        }
        self.advance(now, &mut out);
        out
    }

    /// The ID that a ping built now would carry.
    #[must_use]
    pub fn preview_id(&self, now: Now) -> InstallId {
        match self.current_identity(now) {
            Some(identity) => identity.install_id.clone(),
            None => self.candidate.into(),
        }
    }

    /// Consent as of now.
    #[must_use]
    pub fn sources(&self) -> Sources {
        self.sources
    }

    /// What is shown of the engine.
    #[must_use]
    pub fn status(&self, now: Now) -> Status<'_> {
        let off = self.sources.off();
        Status {
            off,
            counted_twice: off.is_none() && self.counted_twice,
            suppressed: if off.is_none() { self.suppressed.as_ref() } else { None },
            next_due: off.is_none().then(|| plus(now.wall, self.next_due().saturating_sub(now.mono))),
            next_event: off.is_none().then(|| self.next_event()),
            next_replaces_id: off.is_none() && self.next_replaces_id(now),
            pending: self.pending.as_ref().map(|p| (p.event, p.body.as_str(), p.attempts)),
            last: self.last.as_ref(),
            id_issued_at: self.current_identity(now).map(|identity| identity.issued_at),
            unsaved: self.is_unsaved(),
            deletions: self.deletions_shown(now),
            last_receipt: self.last_receipt,
        }
    }

    /// Something could not be written and is tried again.
    #[must_use]
    pub fn is_unsaved(&self) -> bool {
        self.deadlines.is_set(Deadline::Save)
    }

    /// Starts whatever is due, and says when to look again.
    fn advance(&mut self, now: Now, out: &mut Vec<Action>) {
        self.save_the_suspicion(now, out);
        self.prune(now, out);
        self.meet_deadlines(now, out);
        self.go_on_forgetting(now, out);
        if self.phase == Phase::Idle {
            self.start_what_is_due(now, out);
        }
        out.push(Action::WakeAt(self.next_wake(now).clamp(now.mono, now.mono + WAKE_MAX)));
    }

    /// Keeps on disk for how long the clock has been suspect, so that a restart does not begin that time anew.
    fn save_the_suspicion(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.is_clock_suspect() && self.deadlines.expired(Deadline::SaveSuspicion, now) {
            self.deadlines.set(Deadline::SaveSuspicion, now.mono + SUSPICION_SAVED_EVERY);
            out.push(Action::Disk(DiskAction::Save(self.state(now))));
        }
    }

    /// Removes what is too old from the ledger, also while telemetry is off.
    fn prune(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.is_clock_suspect() || !self.deadlines.expired(Deadline::Prune, now) {
            return;
        }
        self.deadlines.set(Deadline::Prune, now.mono + PRUNING);
        self.pruned_at = Some(now.wall);
        // Kept on disk before, so that not even a crash loop prunes more often.
        out.push(Action::Disk(DiskAction::Save(self.state(now))));
        out.push(Action::Disk(DiskAction::Prune { before: minus(now.wall, KEPT), at_most: PRUNING }));
    }

    /// What has its time whatever the engine waits for.
    fn meet_deadlines(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.deadlines.expired(Deadline::Save, now) {
            self.save_all(now, out);
        }
        self.replace_what_has_expired(now, out);
        // Of a send under way the answer decides.
        if self.phase != Phase::Sending && self.deadlines.expired(Deadline::GiveUp, now) {
            self.conclude(now, End::without_answer(Outcome::GaveUp, LedgerReason::GaveUp), out);
        }
    }

    fn start_what_is_due(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.is_off_here() {
            return;
        }
        let is_scheduled = [Deadline::Startup, Deadline::Heartbeat].into_iter().any(|due| self.deadlines.is_set(due));
        if !is_scheduled && self.pending.is_none() {
            let due = self.after_an_interval(now);
            self.deadlines.set(Deadline::Heartbeat, due);
            out.push(Action::Disk(DiskAction::Save(self.state(now))));
        }
        if self.next_due() > now.mono {
            return;
        }
        if self.is_clock_suspect() {
            self.suppress(now, Suppression::ClockImplausible, out);
            return;
        }
        self.phase = Phase::Reading;
        out.push(Action::ReadPulse);
    }

    /// The ID will be 30 days old when the next heartbeat is due: it is replaced then, and the heartbeat goes later.
    fn next_replaces_id(&self, now: Now) -> bool {
        let at = Now { wall: plus(now.wall, self.next_due().saturating_sub(now.mono)), ..now };
        self.next_event() == Event::Heartbeat
            && self.pending.is_none()
            && self.identity.is_some()
            && self.current_identity(at).is_none()
            && !self.id_is_unused
    }

    fn next_event(&self) -> Event {
        match &self.pending {
            Some(pending) => pending.event,
            None if self.deadlines.is_set(Deadline::Startup) => Event::Startup,
            None => Event::Heartbeat,
        }
    }

    fn on_reading(&mut self, now: Now, reading: &Result<Reading, ReadError>, out: &mut Vec<Action>) {
        if self.phase != Phase::Reading {
            return;
        }
        self.phase = Phase::Idle;
        if let Ok(reading) = reading
            && let Ok(own_sender) = reading.gate.own_sender
        {
            self.on_own_sender(now, own_sender, out);
        }
        if self.sources.off().is_some() {
            self.read_later(now);
            return;
        }
        // The disk may have failed while Pulse was read, and not know the current ID; or the clock may have stepped.
        let payload = if self.is_unsaved() {
            Err(Suppression::Storage)
        } else if self.is_clock_suspect() {
            Err(Suppression::ClockImplausible)
        } else {
            Suppression::sendable_payload(reading.as_ref(), self.sources.is_forced_on())
        };
        match payload {
            Ok(payload) => {
                self.suppressed = None;
                self.suppression_recorded = None;
                self.failed_reads = 0;
                self.attempt(now, payload, out);
            }
            Err(suppression) => self.suppress(now, suppression, out),
        }
        if let Ok(Reading { retry_after: Some(pause), .. }) = reading {
            let reread = self.deadlines.at(Deadline::Reread).max(Some(now.mono + *pause));
            self.deadlines.set(Deadline::Reread, reread);
        }
    }

    fn suppress(&mut self, now: Now, suppression: Suppression, out: &mut Vec<Action>) {
        let reason = suppression.reason();
        let is_another = self.suppression_recorded != Some(reason);
        if is_another && !self.deadlines.is_ahead(Deadline::RecordSuppression, now) {
            self.deadlines.set(Deadline::RecordSuppression, now.mono + HOUR);
            self.suppression_recorded = Some(reason);
            let entry = Entry { event: Some(self.next_event()), ..Entry::because(EntryKind::Suppressed, reason) };
            out.push(Action::Disk(DiskAction::Record(entry)));
        }
        self.suppressed = Some(suppression);
        self.read_later(now);
    }

    fn read_later(&mut self, now: Now) {
        let pause = self.backoff(self.failed_reads);
        self.failed_reads = self.failed_reads.saturating_add(1);
        self.deadlines.set(Deadline::Reread, now.mono + pause);
    }

    fn backoff(&mut self, before: u32) -> Duration {
        let most = BACKOFF_FIRST.saturating_mul(1 << before.min(6)).min(BACKOFF_MAX).min(self.schedule.interval);
        self.chance.uniform_up_to(most).max(BACKOFF_LEAST)
    }

    fn after_an_interval(&mut self, now: Now) -> Duration {
        let Schedule { interval, jitter, .. } = self.schedule;
        now.mono + interval.saturating_sub(jitter) + self.chance.uniform_up_to(jitter * 2)
    }
}

/// How long it is until the ledger may be pruned again. A time in the far future was written while the clock was wrong.
fn until_next_pruning(last: Timestamp, now: Timestamp) -> Duration {
    PRUNING.saturating_sub(until(last, now).max(since(last, now)))
}

/// How long it is until `then`; none where that has passed.
fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// How long ago `then` was; none where it is still to come.
fn since(then: Timestamp, now: Timestamp) -> Duration {
    until(now, then)
}

/// A later time, or the last one there is.
fn plus(time: Timestamp, duration: Duration) -> Timestamp {
    time.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

/// An earlier time, or the first one there is.
fn minus(time: Timestamp, duration: Duration) -> Timestamp {
    time.saturating_sub(duration).unwrap_or(Timestamp::MIN)
}
