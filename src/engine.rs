//! The state machine: what happened goes in, what is to be done comes out.
//!
//! Nothing here waits, and nothing here touches a disk, a socket, a clock or chance: `daemon` feeds it and carries out
//! what it asks for, and a test can run thousands of years of it in seconds.
//!
//! Times within a process are monotonic, so that a stepping wall clock moves no schedule; on disk they are wall times,
//! for the next start.

mod belief;
mod interface;
mod state;
mod status;
mod suppression;

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::chance::Chance;
use crate::clock::Now;
use crate::consent::{OffSource, Sources};
use crate::identity::Identity;
use crate::ping::{self, Event};
use crate::snapshot::{OwnSender, ReadError, Reading};
use crate::verdict::{Answer, Verdict};

use belief::Belief;
pub use interface::{Action, Entry, EntryKind, Input};
pub use state::{Concluded, Outcome, PendingRecord, State};
pub use status::Status;
pub use suppression::Suppression;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The first pause of the back-off; it doubles up to [`BACKOFF_MAX`], and the real pause is drawn evenly from none of
/// it to all of it (full jitter).
const BACKOFF_FIRST: Duration = MINUTE;
const BACKOFF_MAX: Duration = HOUR;
/// Jitter may draw nothing; even then nobody is asked again sooner.
const BACKOFF_LEAST: Duration = Duration::from_secs(1);
/// Two startup pings, and a startup ping and the next heartbeat, are at least so far apart.
const STARTUP_SPACING: Duration = HOUR;
/// The longest time between two looks at the state of things.
const WAKE_MAX: Duration = HOUR;
/// How long the ledger keeps its entries, and how often those that are older are removed: never more than a day of them
/// in a day, so that a clock that leaps ahead takes little with it.
const KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);
const PRUNING: Duration = DAY;
/// How often it is kept on disk for how long the clock has been doubted.
const DOUBT_KEPT: Duration = Duration::from_secs(10 * 60);
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
}

/// What was found at a start.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Consent, Pulse's own setting apart.
    pub sources: Sources,
    /// The ID on disk, where there is a valid record of one, however old.
    pub identity: Option<Identity>,
    /// The state on disk, or the state of a new installation.
    pub state: State,
    /// The ledger's last entry is an attempt that nothing closed.
    pub interrupted: Option<Event>,
}

/// The ping that was built and is not yet accepted. Times are monotonic.
#[derive(Clone, Debug)]
struct Pending {
    event: Event,
    body: String,
    install_id: String,
    built_at: Timestamp,
    /// When it is given up.
    expires: Duration,
    attempts: u32,
    next_attempt: Duration,
}

/// What the engine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Reading,
    Sending,
}

/// The engine.
#[derive(Debug)]
pub struct Engine<C> {
    schedule: Schedule,
    chance: C,
    sources: Sources,
    identity: Option<Identity>,
    /// What a preview shows where there is no current ID; it becomes the ID when the next ping is built.
    candidate: Uuid,
    /// When the process started.
    started: Duration,
    /// When the startup ping of this start is due; `None` once it was built or skipped.
    startup_due: Option<Duration>,
    /// When a startup was last attempted.
    startup_attempted_at: Option<Timestamp>,
    /// Until then no startup and no heartbeat is built.
    spacing_ends: Duration,
    heartbeat_due: Option<Duration>,
    /// The endpoint asked for silence until then, for the next ping too.
    not_before: Duration,
    pending: Option<Pending>,
    last: Option<Concluded>,
    phase: Phase,
    suppressed: Option<Suppression>,
    counted_twice: bool,
    /// When a change of `suppressed` may be recorded again, and what was recorded last.
    suppression_recorded: (Duration, Option<&'static str>),
    look_again: Duration,
    looks: u32,
    unsaved: bool,
    belief: Belief,
    /// While the clock is doubted: when that is kept on disk next.
    doubt_kept: Duration,
    /// The times on disk, for as long as the clock has been doubted since the start: they are taken again when it is
    /// believed, and stay on disk as they are until then.
    unadopted: Option<State>,
    /// When the ledger is pruned next, and when it was last.
    prune_due: Duration,
    pruned_at: Option<Timestamp>,
    last_seen: Now,
}

impl<C: Chance> Engine<C> {
    /// The engine at a start, and what is to be done first: off, and what it takes with it, before anything else.
    #[must_use]
    pub fn start(schedule: Schedule, start: Start, mut chance: C, now: Now) -> (Self, Vec<Action>) {
        let Start { sources, identity, mut state, interrupted } = start;
        let damaged = state.pending.take_if(|pending| !pending.is_sound()).map(|pending| pending.event);
        let mut engine = Self {
            candidate: chance.uuid(),
            schedule,
            chance,
            sources,
            identity,
            started: now.mono,
            startup_due: None,
            startup_attempted_at: None,
            spacing_ends: now.mono,
            heartbeat_due: None,
            not_before: now.mono,
            pending: None,
            last: state.last.clone(),
            phase: Phase::Idle,
            suppressed: None,
            counted_twice: false,
            suppression_recorded: (now.mono, None),
            look_again: now.mono,
            looks: 0,
            unsaved: false,
            belief: Belief::new(
                state.believed_at,
                state.doubted_seconds.map(|seconds| Duration::from_secs(seconds.into())),
            ),
            doubt_kept: now.mono + DOUBT_KEPT,
            unadopted: None,
            prune_due: now.mono,
            pruned_at: None,
            last_seen: now,
        };
        let mut out = Vec::new();
        engine.adopt(&state, now);
        engine.belief.look(now);
        if engine.belief.doubted_until.is_some() {
            engine.unadopted = Some(state);
        }
        if engine.sources.off().is_some() {
            engine.forget(now, &mut out);
        }
        out.push(Action::Record(Entry::new(EntryKind::Started)));
        for (event, reason) in [(interrupted, "interrupted"), (damaged, "damaged")] {
            if event.is_some() {
                out.push(Action::Record(Entry { event, ..Entry::because(EntryKind::Failed, reason) }));
            }
        }
        engine.advance(now, &mut out);
        (engine, out)
    }

    /// Takes the times on disk for what they say by the clock as it is now.
    fn adopt(&mut self, state: &State, now: Now) {
        let schedule = self.schedule;
        self.startup_attempted_at = state.startup_attempted_at;
        self.spacing_ends = now.mono + state.spacing_left(now.wall, schedule.spacing());
        self.not_before = now.mono + state.not_before.map_or(Duration::ZERO, |t| until(t, now.wall)).min(DAY);
        // A due time further away than any that is ever set was set by a clock that was wrong.
        self.heartbeat_due = state.heartbeat_due.map(|due| {
            let left = until(due, now.wall);
            now.mono + if left > schedule.interval + schedule.jitter { Duration::ZERO } else { left }
        });
        self.pending = state.pending.clone().map(|record| Pending {
            expires: now.mono + schedule.interval.saturating_sub(since(record.built_at, now.wall)),
            next_attempt: now.mono + until(record.not_before, now.wall).min(DAY),
            event: record.event,
            body: record.body,
            install_id: record.install_id,
            built_at: record.built_at,
            attempts: record.attempts,
        });
        self.pruned_at = state.pruned_at;
        self.prune_due = now.mono + state.pruned_at.map_or(Duration::ZERO, |at| until_next_pruning(at, now.wall));
        let startup_skipped = self.pending.is_some() || self.spacing_ends > now.mono;
        self.startup_due = (!startup_skipped).then_some((self.started + schedule.startup_delay).max(now.mono));
    }

    /// Takes in what happened and says what is to be done.
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        self.watch_the_clock(now, &mut out);
        match input {
            Input::Tick => {}
            Input::OwnSender(own_sender) => self.on_own_sender(now, own_sender, &mut out),
            Input::Reading(reading) => self.on_reading(now, &reading, &mut out),
            Input::Answer(answer) => self.on_answer(now, &answer, &mut out),
            Input::Switch { off } => self.on_switch(now, off, &mut out),
            Input::Reset => self.on_reset(now, &mut out),
            Input::StorageFailed { send_left_out } => self.on_storage_failed(now, send_left_out, &mut out),
            Input::Stop => {
                self.cancel("stopped", &mut out);
                out.push(Action::Record(Entry::new(EntryKind::Stopped)));
                return out;
            }
        }
        self.advance(now, &mut out);
        out
    }

    /// The ID that a ping built now would carry.
    #[must_use]
    pub fn preview_id(&self, now: Now) -> String {
        match self.current_identity(now) {
            Some(identity) => identity.install_id.clone(),
            None => self.candidate.to_string(),
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
            pending: self.pending.as_ref().map(|p| (p.event, p.body.as_str(), p.attempts)),
            last: self.last.as_ref(),
            id_issued_at: self.current_identity(now).map(|identity| identity.issued_at),
            unsaved: self.unsaved,
        }
    }

    fn current_identity(&self, now: Now) -> Option<&Identity> {
        self.identity.as_ref().filter(|identity| identity.is_current(now.wall))
    }

    /// Starts whatever is due, and says when to look again.
    fn advance(&mut self, now: Now, out: &mut Vec<Action>) {
        self.keep_the_doubt(now, out);
        self.prune(now, out);
        if self.phase == Phase::Idle {
            self.start_what_is_due(now, out);
        }
        let next = if self.phase == Phase::Idle { self.next_look(now) } else { now.mono + WAKE_MAX };
        out.push(Action::WakeAt(next.clamp(now.mono, now.mono + WAKE_MAX)));
    }

    /// Keeps on disk for how long the clock has been doubted, so that a restart does not begin the doubt anew.
    fn keep_the_doubt(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.belief.doubted_until.is_some() && now.mono >= self.doubt_kept {
            self.doubt_kept = now.mono + DOUBT_KEPT;
            out.push(Action::Save(self.state(now)));
        }
    }

    /// Removes what is too old from the ledger, also while telemetry is off.
    fn prune(&mut self, now: Now, out: &mut Vec<Action>) {
        if now.mono < self.prune_due || self.belief.doubted_until.is_some() {
            return;
        }
        self.prune_due = now.mono + PRUNING;
        self.pruned_at = Some(now.wall);
        // Kept on disk before, so that not even a crash loop prunes more often.
        out.push(Action::Save(self.state(now)));
        out.push(Action::Prune { before: minus(now.wall, KEPT), at_most: PRUNING });
    }

    fn start_what_is_due(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.unsaved && now.mono >= self.look_again {
            self.save_all(now, out);
        }
        if matches!(self.sources.off(), Some(source) if source != OffSource::Pulse) {
            return;
        }
        if self.pending.as_ref().is_some_and(|pending| now.mono >= pending.expires) {
            self.conclude(now, Outcome::GaveUp, "gave_up", None, out);
        }
        if self.heartbeat_due.is_none() && self.startup_due.is_none() && self.pending.is_none() {
            self.heartbeat_due = Some(self.after_an_interval(now));
            out.push(Action::Save(self.state(now)));
        }
        if self.next_due() > now.mono {
            return;
        }
        if self.belief.doubted_until.is_some() {
            self.suppress(now, Suppression::ClockImplausible, out);
            return;
        }
        self.phase = Phase::Reading;
        out.push(Action::ReadPulse);
    }

    /// When something is due next, as things stand.
    fn next_due(&self) -> Duration {
        self.attempt_due().max(self.look_again)
    }

    /// When the next attempt is due, if nothing suppresses it.
    fn attempt_due(&self) -> Duration {
        let due = match (&self.pending, self.startup_due) {
            (Some(pending), _) => pending.next_attempt,
            (None, Some(due)) => due,
            (None, None) => self.heartbeat_due.unwrap_or(Duration::ZERO).max(self.spacing_ends),
        };
        due.max(self.not_before)
    }

    fn next_event(&self) -> Event {
        match (&self.pending, self.startup_due) {
            (Some(pending), _) => pending.event,
            (None, Some(_)) => Event::Startup,
            (None, None) => Event::Heartbeat,
        }
    }

    fn next_look(&self, now: Now) -> Duration {
        let mut next = self.next_due();
        if let Some(pending) = &self.pending {
            next = next.min(pending.expires);
        }
        if matches!(self.sources.off(), Some(source) if source != OffSource::Pulse) {
            next = now.mono + WAKE_MAX;
        }
        next = next.min(match self.belief.doubted_until {
            Some(until) => until.min(self.doubt_kept),
            None => self.prune_due,
        });
        if self.unsaved {
            next = next.min(self.look_again);
        }
        next
    }

    fn on_reading(&mut self, now: Now, reading: &Result<Reading, ReadError>, out: &mut Vec<Action>) {
        if self.phase != Phase::Reading {
            return;
        }
        self.phase = Phase::Idle;
        if let Ok(reading) = reading
            && let Ok(own_sender) = reading.state.own_sender
        {
            self.on_own_sender(now, own_sender, out);
        }
        if self.sources.off().is_some() {
            self.look_later(now);
            return;
        }
        // The disk may have failed while Pulse was read, and not know the current ID; or the clock may have stepped.
        let unsaved = self.unsaved.then_some(Suppression::Storage);
        let doubted = || self.belief.doubted_until.map(|_| Suppression::ClockImplausible);
        let by_reading = || Suppression::by_reading(reading, self.sources.insists());
        if let Some(suppression) = unsaved.or_else(doubted).or_else(by_reading) {
            self.suppress(now, suppression, out);
        } else {
            self.suppressed = None;
            self.suppression_recorded.1 = None;
            self.looks = 0;
        }
        if let Ok(reading) = reading {
            if self.suppressed.is_none() {
                self.attempt(now, reading, out);
            }
            let asked_for = now.mono + reading.retry_after.unwrap_or_default();
            self.look_again = self.look_again.max(asked_for);
        }
    }

    fn on_own_sender(&mut self, now: Now, own_sender: OwnSender, out: &mut Vec<Action>) {
        self.counted_twice = own_sender == OwnSender::On && self.sources.insists();
        let sources = Sources { off_in_pulse: own_sender == OwnSender::OffBySetting, ..self.sources };
        self.change_consent(now, sources, out);
    }

    /// The one door that every attempt passes: consent and suppression were looked at just now.
    fn attempt(&mut self, now: Now, reading: &Reading, out: &mut Vec<Action>) {
        if self.pending.as_ref().is_some_and(|pending| now.mono >= pending.expires) || self.attempt_due() > now.mono {
            // While Pulse was read, its time has passed, or a reset or an opt-out has taken it away.
            return;
        }
        let replaces = match self.pending.take() {
            Some(pending) if self.may_carry(&pending.install_id, now) => {
                self.pending = Some(pending);
                None
            }
            Some(expired) => {
                let entry = Entry::because(EntryKind::Failed, "id_expired");
                out.push(Action::Record(Entry { event: Some(expired.event), ..entry }));
                Some(expired.event)
            }
            None => None,
        };
        if self.pending.is_none() {
            let event = replaces.unwrap_or_else(|| self.next_event());
            self.build(now, event, reading, out);
        }
        let pause = self.backoff(self.pending.as_ref().map_or(0, |pending| pending.attempts));
        let Some(pending) = &mut self.pending else { return self.look_later(now) };
        pending.attempts = pending.attempts.saturating_add(1);
        // Kept on disk before the attempt, so that not even a crash loop can hammer.
        pending.next_attempt = now.mono + pause;
        let (event, body) = (pending.event, pending.body.clone());
        if event == Event::Startup {
            self.startup_attempted_at = Some(now.wall);
            self.spacing_ends = now.mono + self.schedule.spacing();
        }
        out.push(Action::Save(self.state(now)));
        let entry = Entry { event: Some(event), body: Some(body.clone()), ..Entry::new(EntryKind::Attempted) };
        out.push(Action::Record(entry));
        out.push(Action::Send(body));
        self.phase = Phase::Sending;
    }

    /// Whether a ping with this ID may still be sent: it is the current one, and that is less than 30 days old.
    fn may_carry(&self, install_id: &str, now: Now) -> bool {
        self.current_identity(now).is_some_and(|identity| identity.install_id == install_id)
    }

    fn build(&mut self, now: Now, event: Event, reading: &Reading, out: &mut Vec<Action>) {
        if self.current_identity(now).is_none() {
            let reason = if self.identity.is_some() { "expired" } else { "none" };
            let identity = Identity::new(self.candidate, now.wall);
            self.candidate = self.chance.uuid();
            out.push(Action::SaveId(identity.clone()));
            out.push(Action::Record(Entry::because(EntryKind::IdRotated, reason)));
            self.identity = Some(identity);
        }
        let Some(identity) = &self.identity else { return };
        let Some(body) = ping::encode(reading, &identity.install_id, event) else { return };
        if event == Event::Startup {
            self.startup_due = None;
        }
        self.pending = Some(Pending {
            event,
            body,
            install_id: identity.install_id.clone(),
            built_at: now.wall,
            expires: now.mono + self.schedule.interval,
            attempts: 0,
            next_attempt: now.mono,
        });
    }

    fn on_answer(&mut self, now: Now, answer: &Answer, out: &mut Vec<Action>) {
        if self.phase != Phase::Sending {
            return;
        }
        self.phase = Phase::Idle;
        match answer.verdict(now.wall) {
            Verdict::Delivered => self.conclude(now, Outcome::Delivered, "delivered", answer.status(), out),
            Verdict::Drop { reason } => self.conclude(now, Outcome::Dropped, reason, answer.status(), out),
            Verdict::Retry { after, reason } => {
                if let Some(after) = after {
                    self.not_before = now.mono + after;
                }
                // Drawn again, for the pause counts from the answer; what was kept before the attempt is for a crash.
                let pause = self.backoff(self.pending.as_ref().map_or(0, |pending| pending.attempts.saturating_sub(1)));
                let event = self.pending.as_mut().map(|pending| {
                    pending.next_attempt = now.mono + pause;
                    pending.event
                });
                let entry = Entry { event, status: answer.status(), ..Entry::because(EntryKind::Failed, reason) };
                out.push(Action::Record(entry));
                out.push(Action::Save(self.state(now)));
            }
        }
    }

    /// The pending ping is done with; the next one gets its time.
    fn conclude(
        &mut self,
        now: Now,
        outcome: Outcome,
        reason: &'static str,
        status: Option<u16>,
        out: &mut Vec<Action>,
    ) {
        let Some(pending) = self.pending.take() else { return };
        let kind = if outcome == Outcome::Delivered { EntryKind::Sent } else { EntryKind::Failed };
        let reason_recorded = (outcome != Outcome::Delivered).then_some(reason);
        let event = Some(pending.event);
        out.push(Action::Record(Entry { event, status, reason: reason_recorded, ..Entry::new(kind) }));
        self.set_next_heartbeat(now, pending.event, outcome);
        self.last = Some(Concluded { at: now.wall, event: pending.event, outcome, reason: reason.to_owned(), status });
        if let Some(state) = &mut self.unadopted {
            state.last.clone_from(&self.last);
        }
        out.push(Action::Save(self.state(now)));
    }

    /// When the next heartbeat goes after a ping that ended so.
    fn set_next_heartbeat(&mut self, now: Now, event: Event, outcome: Outcome) {
        self.heartbeat_due = match (event, outcome) {
            (Event::Heartbeat, _) => Some(self.after_an_interval(now)),
            (Event::Startup, Outcome::GaveUp) => Some(now.mono),
            (Event::Startup, _) => Some(self.heartbeat_due.unwrap_or_else(|| self.after_an_interval(now))),
        };
        if let Some(state) = &mut self.unadopted {
            // What the clock says now will mean nothing later; the last time that was believed will.
            state.pending = None;
            let Schedule { interval, jitter, .. } = self.schedule;
            state.heartbeat_due = state.believed_at.map(|believed| plus(believed, interval.saturating_sub(jitter)));
        }
    }

    fn on_switch(&mut self, now: Now, off: bool, out: &mut Vec<Action>) {
        // Off comes first. On comes last, so that it is left out where anything before it could not be written.
        if off {
            out.push(Action::SaveSwitch { off });
        }
        self.change_consent(now, Sources { switched_off: off, ..self.sources }, out);
        if !off {
            out.push(Action::SaveSwitch { off });
        }
    }

    fn change_consent(&mut self, now: Now, sources: Sources, out: &mut Vec<Action>) {
        let before = self.sources.off();
        self.sources = sources;
        let after = sources.off();
        if before == after {
            return;
        }
        if after.is_some() {
            self.cancel("switched_off", out);
            self.forget(now, out);
        }
        self.look_again = now.mono;
        self.looks = 0;
        let reason = after.map_or("on", OffSource::word);
        out.push(Action::Record(Entry::because(EntryKind::ConsentChanged, reason)));
    }

    /// Off: no pending ping, no ID. The ping that is gone is not built again as soon as telemetry is on again, or the
    /// timing would link the old ID to the new one.
    fn forget(&mut self, now: Now, out: &mut Vec<Action>) {
        if let Some(pending) = self.pending.take() {
            self.set_next_heartbeat(now, pending.event, Outcome::Dropped);
        }
        self.identity = None;
        self.candidate = self.chance.uuid();
        self.suppressed = None;
        out.push(Action::DeleteId);
        out.push(Action::Save(self.state(now)));
    }

    fn on_reset(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.phase == Phase::Sending {
            self.phase = Phase::Idle;
            out.push(Action::CancelSend);
        }
        self.candidate = self.chance.uuid();
        if self.sources.off().is_none() {
            let identity = Identity::new(self.candidate, now.wall);
            self.candidate = self.chance.uuid();
            out.push(Action::SaveId(identity.clone()));
            self.identity = Some(identity);
        }
        // The new ID must not follow the old one at a time that links both: what was pending is done with, and the
        // next ping goes when it would have gone.
        self.conclude(now, Outcome::Dropped, "reset", None, out);
        if self.unsaved {
            // The old ID, or its pending ping, may still be on the disk.
            self.save_all(now, out);
        }
        if self.sources.off().is_none() {
            out.push(Action::Record(Entry::new(EntryKind::IdReset)));
        }
    }

    /// Ends the send under way, if there is one, and closes its entry.
    fn cancel(&mut self, reason: &'static str, out: &mut Vec<Action>) {
        if self.phase == Phase::Sending {
            self.phase = Phase::Idle;
            out.push(Action::CancelSend);
            let event = self.pending.as_ref().map(|pending| pending.event);
            out.push(Action::Record(Entry { event, ..Entry::because(EntryKind::Failed, reason) }));
        }
    }

    fn on_storage_failed(&mut self, now: Now, send_left_out: bool, out: &mut Vec<Action>) {
        self.unsaved = true;
        if send_left_out && self.phase == Phase::Sending {
            self.phase = Phase::Idle;
            let event = self.pending.as_ref().map(|pending| pending.event);
            out.push(Action::Record(Entry { event, ..Entry::because(EntryKind::Failed, "storage") }));
        }
        self.suppress(now, Suppression::Storage, out);
    }

    /// Tries again to make the state directory say what is so.
    fn save_all(&mut self, now: Now, out: &mut Vec<Action>) {
        self.unsaved = false;
        if self.suppressed == Some(Suppression::Storage) {
            self.suppressed = None;
        }
        out.push(Action::SaveSwitch { off: self.sources.switched_off });
        out.push(match &self.identity {
            Some(identity) => Action::SaveId(identity.clone()),
            None => Action::DeleteId,
        });
        out.push(Action::Save(self.state(now)));
    }

    fn suppress(&mut self, now: Now, suppression: Suppression, out: &mut Vec<Action>) {
        let word = suppression.word();
        let (not_before, recorded) = self.suppression_recorded;
        if recorded != Some(word) && now.mono >= not_before {
            self.suppression_recorded = (now.mono + HOUR, Some(word));
            let entry = Entry { event: Some(self.next_event()), ..Entry::because(EntryKind::Suppressed, word) };
            out.push(Action::Record(entry));
        }
        self.suppressed = Some(suppression);
        self.look_later(now);
    }

    fn look_later(&mut self, now: Now) {
        let pause = self.backoff(self.looks);
        self.looks = self.looks.saturating_add(1);
        self.look_again = now.mono + pause;
    }

    fn backoff(&mut self, before: u32) -> Duration {
        let most = BACKOFF_FIRST.saturating_mul(1 << before.min(6)).min(BACKOFF_MAX).min(self.schedule.interval);
        self.chance.up_to(most).max(BACKOFF_LEAST)
    }

    fn after_an_interval(&mut self, now: Now) -> Duration {
        let Schedule { interval, jitter, .. } = self.schedule;
        now.mono + interval.saturating_sub(jitter) + self.chance.up_to(jitter * 2)
    }

    fn watch_the_clock(&mut self, now: Now, out: &mut Vec<Action>) {
        let expected = plus(self.last_seen.wall, now.mono.saturating_sub(self.last_seen.mono));
        let step = now.wall.duration_since(expected);
        self.last_seen = now;
        self.belief.look(now);
        if step.unsigned_abs() > STEP {
            let entry = Entry { step_seconds: Some(step.as_secs()), ..Entry::new(EntryKind::ClockStepped) };
            out.push(Action::Record(entry));
            // Wall times on disk are for the next start: they follow the step.
            let follow = |time: &mut Timestamp| *time = time.saturating_add(step).unwrap_or(*time);
            self.startup_attempted_at.iter_mut().for_each(follow);
            self.pending.iter_mut().for_each(|pending| follow(&mut pending.built_at));
            out.push(Action::Save(self.state(now)));
        }
        if self.belief.doubted_until.is_none()
            && let Some(state) = self.unadopted.take()
        {
            self.adopt(&state, now);
        }
    }

    /// What the state file is to say.
    fn state(&self, now: Now) -> State {
        let wall = |mono: Duration| match mono.checked_sub(now.mono) {
            Some(left) => plus(now.wall, left),
            None => minus(now.wall, now.mono.saturating_sub(mono)),
        };
        let doubted_seconds = self.belief.doubted_for(now).and_then(|doubted| u32::try_from(doubted.as_secs()).ok());
        if let Some(state) = &self.unadopted {
            return State { doubted_seconds, ..state.clone() };
        }
        State {
            startup_attempted_at: self.startup_attempted_at,
            heartbeat_due: self.heartbeat_due.map(wall),
            not_before: (self.not_before > now.mono).then(|| wall(self.not_before)),
            pending: self.pending.as_ref().map(|pending| PendingRecord {
                event: pending.event,
                body: pending.body.clone(),
                install_id: pending.install_id.clone(),
                built_at: pending.built_at,
                attempts: pending.attempts,
                not_before: wall(pending.next_attempt),
            }),
            last: self.last.clone(),
            believed_at: self.belief.latest,
            doubted_seconds,
            pruned_at: self.pruned_at,
        }
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
