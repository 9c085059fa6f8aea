//! Every way to a new ID, and what it takes with it.
//!
//! A receiver of the pings of two IDs must not be able to tell by their times that they are one installation. So
//! the first heartbeat of a new ID goes at a random time, whatever the schedule of the old one was, and what the
//! endpoint asked the old one for is forgotten.

use std::time::Duration;

use jiff::Timestamp;

use super::attempts::End;
use super::{Action, Deadline, DiskAction, Engine, Entry, EntryKind, Outcome, Phase, State, until};
use crate::clock::Now;
use crate::identity::{Identity, InstallId, ROTATION};
use crate::ping::Event;
use crate::reason::LedgerReason;
use crate::rng::Rng;

/// An ID of this time there is none: the schedule on disk belongs to an ID that is gone.
pub(super) const NOBODYS: Timestamp = Timestamp::MIN;

/// The schedule on disk was drawn while there was no ID, and waits for the one that its ping makes.
pub(super) const NO_ID: Timestamp = Timestamp::UNIX_EPOCH;

impl<C: Rng> Engine<C> {
    /// The ID on disk, where it may be used now.
    pub(super) fn current_identity(&self, now: Now) -> Option<&Identity> {
        self.identity.as_ref().filter(|identity| {
            identity.is_current(now.wall) || (self.id_is_ours && identity.is_current_where_it_was_made(now.wall))
        })
    }

    /// Whether a ping with this ID may still be sent: it is the current one.
    pub(super) fn may_carry(&self, install_id: &InstallId, now: Now) -> bool {
        self.current_identity(now).is_some_and(|identity| identity.install_id == *install_id)
    }

    /// An ID that was current by a trusted clock is known here: a clock that is then set back makes no new
    /// one of it.
    pub(super) fn take_up_the_id(&mut self, now: Now) {
        self.id_is_ours |=
            !self.is_clock_suspect() && self.identity.as_ref().is_some_and(|identity| identity.is_current(now.wall));
    }

    /// Makes the candidate the ID.
    pub(super) fn make_id(&mut self, now: Now, out: &mut Vec<Action>) -> InstallId {
        let identity = Identity::new(self.candidate, now.wall);
        let install_id = identity.install_id.clone();
        self.candidate = self.chance.uuid();
        out.push(Action::Disk(DiskAction::SaveId(identity.clone())));
        self.identity = Some(identity);
        self.id_is_ours = true;
        self.id_is_unused = true;
        install_id
    }

    /// Replaces the ID that is 30 days old, and what hangs on its schedule.
    fn rotate(&mut self, now: Now, out: &mut Vec<Action>) -> InstallId {
        let install_id = self.make_id(now, out);
        out.push(Action::Disk(DiskAction::Record(Entry::because(EntryKind::IdRotated, LedgerReason::Expired))));
        self.leave_the_old_schedule(now);
        install_id
    }

    /// The ID of a ping that is being built; it is made where there is none that the ping may carry.
    pub(super) fn current_or_new_id(&mut self, now: Now, event: Event, out: &mut Vec<Action>) -> InstallId {
        if let Some(identity) = self.current_identity(now) {
            return identity.install_id.clone();
        }
        if self.identity.is_some() && !self.id_is_unused {
            return self.rotate(now, out);
        }
        // A heartbeat was drawn for the ID that it makes; a startup has a time of its own.
        let reason = if self.identity.is_some() { LedgerReason::Unused } else { LedgerReason::NoId };
        let install_id = self.make_id(now, out);
        out.push(Action::Disk(DiskAction::Record(Entry::because(EntryKind::IdRotated, reason))));
        if event == Event::Startup && self.deadlines.is_set(Deadline::Heartbeat) {
            self.leave_the_old_schedule(now);
        }
        install_id
    }

    /// The first heartbeat of a new ID: at a random time between half an interval and one and a half.
    pub(super) fn leave_the_old_schedule(&mut self, now: Now) {
        self.forget_what_the_endpoint_asked(now);
        let interval = self.schedule.interval;
        let due = now.mono + interval / 2 + self.chance.uniform_up_to(interval);
        self.deadlines.set(Deadline::Heartbeat, due);
        if let Some(state) = &mut self.deferred_state {
            // When the clock is trusted, the time is drawn again.
            state.pending = None;
            state.heartbeat_due = state.last_trusted;
            state.schedule_of = Some(NOBODYS);
        }
    }

    /// A time that the endpoint chose would be known again. A startup that it held back does not go the moment that
    /// this is forgotten: that moment belongs to the old ID.
    fn forget_what_the_endpoint_asked(&mut self, now: Now) {
        if self.deadlines.is_ahead(Deadline::Silence, now) && self.deadlines.expired(Deadline::Startup, now) {
            self.deadlines.stop(Deadline::Startup);
        }
        self.deadlines.set(Deadline::Silence, now.mono);
        if let Some(state) = &mut self.deferred_state {
            state.not_before = None;
        }
    }

    /// Takes the schedule on disk for that of the ID on disk only where it is, and says whether it was left.
    pub(super) fn restore_for_the_id(&mut self, state: &State, now: Now) -> bool {
        let other = |identity: &Identity| state.schedule_of.is_some_and(|of| of != identity.issued_at);
        let is_another = match &self.identity {
            // Drawn again at each start, it would never come where the machine is restarted every day.
            None => state.schedule_of != Some(NO_ID),
            Some(identity) => other(identity),
        };
        // Of an ID that was made since the start, this is known better than the disk had it. One that was made under a
        // suspect clock has no schedule on disk.
        let is_its_own = !is_another || state.schedule_of == Some(NOBODYS);
        self.id_is_unused |= state.id_is_unused && is_its_own;
        let leaves = is_another && self.deadlines.is_set(Deadline::Heartbeat);
        if leaves {
            self.leave_the_old_schedule(now);
        }
        leaves
    }

    /// Looks whether the ID has had its time: for a retry, for what the endpoint asked for, for a heartbeat that is
    /// due.
    pub(super) fn replace_what_has_expired(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.sources.off().is_some() || self.is_clock_suspect() || self.phase == Phase::Sending {
            return;
        }
        let outlived = self.pending.as_ref().is_some_and(|pending| !self.may_carry(&pending.install_id, now));
        if outlived {
            self.end_pending(now, End::without_answer(Outcome::Dropped, LedgerReason::IdExpired), out);
        }
        let has_none = self.current_identity(now).is_none();
        let expired = has_none && self.identity.is_some();
        let is_due = self.pending.is_none()
            && !self.deadlines.is_set(Deadline::Startup)
            && self.deadlines.expired(Deadline::Heartbeat, now)
            && !self.id_is_unused;
        if expired && (outlived || is_due) {
            self.rotate(now, out);
        } else if outlived {
            self.leave_the_old_schedule(now);
        } else if has_none && self.deadlines.is_ahead(Deadline::Silence, now) {
            self.forget_what_the_endpoint_asked(now);
        } else {
            return;
        }
        out.push(Action::Disk(DiskAction::Save(self.state(now))));
    }

    /// When the ID has had its time, where something hangs on it before the next heartbeat is due.
    pub(super) fn id_expires(&self, now: Now) -> Option<Duration> {
        let hangs_on_it = self.pending.is_some() || self.deadlines.is_ahead(Deadline::Silence, now);
        let identity = self.current_identity(now).filter(|_| hangs_on_it && !self.is_clock_suspect())?;
        let expires = super::plus(identity.issued_at, ROTATION);
        Some(now.mono + until(expires, now.wall))
    }
}
