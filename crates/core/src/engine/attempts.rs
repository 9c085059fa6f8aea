//! An attempt to send: from a payload that may be sent to what became of the ping.

use std::time::Duration;

use super::{
    ASKED_ADDED, ASKED_PART, Action, Concluded, Deadline, DiskAction, Engine, Entry, EntryKind, KeptReceipt, Outcome,
    Pending, Phase, Schedule, plus,
};
use crate::clock::{MINUTE, Now};
use crate::contract::Payload;
use crate::ping::{self, Event};
use crate::reason::LedgerReason;
use crate::rng::Rng;
use crate::verdict::{Answer, Verdict};

/// A ping that was cut off, or is to be retried, may arrive until then; its ID is not deleted before.
const ARRIVES_WITHIN: Duration = MINUTE;

/// How a ping ends.
pub(super) struct End {
    outcome: Outcome,
    reason: Option<LedgerReason>,
    /// What was answered, and the receipt in the answer.
    status: Option<u16>,
    receipt: Option<KeptReceipt>,
}

impl End {
    /// It ends for that reason, and no answer told so.
    pub(super) fn without_answer(outcome: Outcome, reason: LedgerReason) -> Self {
        Self { outcome, reason: Some(reason), status: None, receipt: None }
    }
}

impl<C: Rng> Engine<C> {
    /// Makes an attempt; [`Engine::on_reading`] has looked at consent and suppression just now.
    pub(super) fn attempt(&mut self, now: Now, payload: &Payload, out: &mut Vec<Action>) {
        self.replace_what_has_expired(now, out);
        if self.deadlines.expired(Deadline::GiveUp, now) || self.attempt_due() > now.mono {
            // While Pulse was read, its time has passed, or a reset, an opt-out or a new ID has taken it away.
            return;
        }
        let mut pending = match self.pending.take() {
            Some(pending) => pending,
            None => self.build(now, self.next_event(), payload, out),
        };
        // Kept on disk before the attempt, so that not even a crash loop can hammer.
        let pause = self.backoff(pending.attempts);
        self.deadlines.set(Deadline::Retry, now.mono + pause);
        pending.attempts = pending.attempts.saturating_add(1);
        pending.id_was_unused = std::mem::take(&mut self.id_is_unused);
        let (event, body) = (pending.event, pending.body.clone());
        self.pending = Some(pending);
        if event == Event::Startup {
            self.startup_attempted_at = Some(now.wall);
            self.deadlines.set(Deadline::Spacing, now.mono + self.schedule.spacing());
        }
        out.push(Action::Disk(DiskAction::Save(self.state(now))));
        let entry = Entry { event: Some(event), body: Some(body.clone()), ..Entry::new(EntryKind::Attempted) };
        out.push(Action::Disk(DiskAction::Record(Entry { schedule: self.schedule.recorded(), ..entry })));
        out.push(Action::Send(body));
        self.phase = Phase::Sending;
    }

    fn build(&mut self, now: Now, event: Event, payload: &Payload, out: &mut Vec<Action>) -> Pending {
        let install_id = self.current_or_new_id(now, event, out);
        if event == Event::Startup {
            self.deadlines.stop(Deadline::Startup);
        }
        self.deadlines.set(Deadline::GiveUp, now.mono + self.schedule.interval);
        let body = ping::encode(payload, &install_id, event);
        Pending { event, body, install_id, built_at: now.wall, attempts: 0, id_was_unused: false }
    }

    pub(super) fn on_answer(&mut self, now: Now, answer: &Answer, receipt: KeptReceipt, out: &mut Vec<Action>) {
        if self.phase != Phase::Sending {
            return;
        }
        self.phase = Phase::Idle;
        let status = answer.status();
        match answer.verdict(now.wall) {
            Verdict::Delivered => {
                self.last_receipt = Some(receipt.standing);
                let end = End { outcome: Outcome::Delivered, reason: None, status, receipt: Some(receipt) };
                self.conclude(now, end, out);
            }
            Verdict::Drop { reason } => {
                let end = End { outcome: Outcome::Dropped, reason: Some(reason), status, receipt: None };
                self.conclude(now, end, out);
            }
            Verdict::Retry { after, reason } => {
                self.let_it_arrive(now);
                if let Some(after) = after {
                    let most = (after / ASKED_PART).max(ASKED_ADDED).min(self.schedule.interval);
                    let silence = after + self.chance.uniform_up_to(most);
                    self.deadlines.set(Deadline::Silence, now.mono + silence);
                }
                // Drawn again, for the pause counts from the answer; what was kept before the attempt is for a crash.
                let pause = self.backoff(self.pending.as_ref().map_or(0, |pending| pending.attempts.saturating_sub(1)));
                self.deadlines.set(Deadline::Retry, now.mono + pause);
                let event = self.pending.as_ref().map(|pending| pending.event);
                let entry = Entry { event, status, ..Entry::because(EntryKind::Failed, reason) };
                out.push(Action::Disk(DiskAction::Record(entry)));
                out.push(Action::Disk(DiskAction::Save(self.state(now))));
            }
        }
    }

    /// The pending ping is done with; the next one gets its time.
    pub(super) fn conclude(&mut self, now: Now, end: End, out: &mut Vec<Action>) {
        let outcome = end.outcome;
        if let Some(event) = self.end_pending(now, end, out) {
            self.set_next_heartbeat(now, event, outcome);
            out.push(Action::Disk(DiskAction::Save(self.state(now))));
        }
    }

    /// The pending ping is done with, and this is recorded of it.
    pub(super) fn end_pending(&mut self, now: Now, end: End, out: &mut Vec<Action>) -> Option<Event> {
        let End { outcome, reason, status, receipt } = end;
        let event = self.take_pending()?.event;
        let kind = if outcome == Outcome::Delivered { EntryKind::Sent } else { EntryKind::Failed };
        let entry = Entry { event: Some(event), status, reason, receipt, ..Entry::new(kind) };
        out.push(Action::Disk(DiskAction::Record(entry)));
        self.last = Some(Concluded {
            at: now.wall,
            event,
            outcome,
            reason: reason.unwrap_or(LedgerReason::Delivered).into(),
            status,
        });
        if let Some(state) = &mut self.deferred_state {
            state.pending = None;
            state.last.clone_from(&self.last);
        }
        Some(event)
    }

    /// There is no pending ping any more.
    pub(super) fn take_pending(&mut self) -> Option<Pending> {
        self.deadlines.stop(Deadline::GiveUp);
        self.deadlines.stop(Deadline::Retry);
        self.pending.take()
    }

    /// When the next heartbeat goes after a ping that ended so.
    fn set_next_heartbeat(&mut self, now: Now, event: Event, outcome: Outcome) {
        let due = match (event, outcome, self.deadlines.at(Deadline::Heartbeat)) {
            (Event::Startup, Outcome::GaveUp, _) => now.mono,
            (Event::Startup, _, Some(due)) => due,
            (Event::Startup, _, None) | (Event::Heartbeat, ..) => self.after_an_interval(now),
        };
        self.deadlines.set(Deadline::Heartbeat, due);
        if let Some(state) = &mut self.deferred_state {
            // What the clock says now will mean nothing later; the last trusted time will.
            let Schedule { interval, jitter, .. } = self.schedule;
            state.heartbeat_due = state.last_trusted.map(|trusted| plus(trusted, interval.saturating_sub(jitter)));
        }
    }

    /// Ends the send under way, if there is one, and closes its entry.
    pub(super) fn cancel(&mut self, now: Now, reason: LedgerReason, out: &mut Vec<Action>) {
        if self.cut_off(now, out) {
            let event = self.pending.as_ref().map(|pending| pending.event);
            out.push(Action::Disk(DiskAction::Record(Entry { event, ..Entry::because(EntryKind::Failed, reason) })));
        }
    }

    /// Ends the send under way, and says whether there was one.
    pub(super) fn cut_off(&mut self, now: Now, out: &mut Vec<Action>) -> bool {
        let is_under_way = self.phase == Phase::Sending;
        if is_under_way {
            self.phase = Phase::Idle;
            self.let_it_arrive(now);
            out.push(Action::CancelSend);
        }
        is_under_way
    }

    /// Nothing tells whether the ping arrived: it may be on its way, or with a proxy that gave up waiting.
    pub(super) fn let_it_arrive(&mut self, now: Now) {
        self.deadlines.set(Deadline::Arrival, now.mono + ARRIVES_WITHIN.min(self.schedule.interval));
    }
}
