//! The process: what it is handed, and how what the engine asks for is done, as the daemon does it.

use std::sync::Arc;
use std::time::Duration;

use pulse_telemetry_core::clock::Now;
use pulse_telemetry_core::consent::Sources;
use pulse_telemetry_core::engine::{Action, DiskAction, Engine, EntryKind, Input, KeptReceipt, Start};
use pulse_telemetry_core::identity::Identity;
use pulse_telemetry_core::observation::OwnSender;
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_core::verdict::{Answer, RETRY_AFTER_MAX};

use super::super::endpoint::{self, RetryAfter};
use super::super::faults::{Fault, spread};
use super::super::rules::{Permission, Rule, Violation, hold};
use super::super::saboteurs::Saboteur;
use super::super::time::{DAY, HOUR, MINUTE, NEVER, SECOND};
use super::{CrashPoint, Died, Held, Process, SCHEDULE, Sending, World};
use crate::memory_fs::Mood;
use crate::seeded::{Draws, Seeded};

/// What came of a list of actions.
pub(super) struct Carried {
    stored: bool,
    send_left_out: bool,
    forget_left_out: bool,
}

impl<S: Saboteur> World<S> {
    pub(super) fn start(&mut self) -> Held<Result<(), Died>> {
        let now = self.now();
        let Ok(found) = self.disk.open() else {
            self.meet(Fault::StartFails);
            self.starts_at = self.at + spread(&mut self.chance, MINUTE, 8 * HOUR);
            return Ok(Ok(()));
        };
        let sources = Sources { fixed: self.fixed, switched_off: found.switched_off, off_in_pulse: false };
        let mut start = Start {
            sources,
            identity: found.identity,
            identity_is_ours: true,
            identity_is_forgotten: false,
            state: found.state,
            interrupted: found.interrupted,
        };
        self.rules.process_starts(self.at, now, self.clock.offset, &self.disk);
        self.rules.deletions.found(&start.state, &self.disk)?;
        self.rules.consent.fixed_off = Sources { fixed: self.fixed, ..Sources::default() }.off().is_some();
        self.rules.consent.switched_off = self.disk.switched_off;
        self.rules.consent.off_in_pulse = false;
        self.rules.permission = Permission::None;
        self.look_at_consent();
        self.note(|world| format!("start with {:?}, {:?}", world.disk.identity, world.disk.state));
        if self.crashes_left > 0 {
            self.crashes_at = self.at + spread(&mut self.chance, 2 * SECOND, MINUTE);
        }
        self.saboteur.start(&mut start);
        let draws = match &self.extremes {
            Some(extremes) => Draws::Extremes(Arc::clone(extremes)),
            None => Draws::Seeded(Seeded(self.chance.draw(u64::MAX))),
        };
        let (engine, actions) = Engine::start(SCHEDULE, start, draws, now);
        self.tally.steps += 1;
        self.process = Some(Process { engine, wake: NEVER, reading: None, sending: None, deleting: None });
        self.carry_out(actions, false).map(|carried| carried.map(|_| ()))
    }

    /// Hands the engine something, and does what it asks for. Says whether all of that got onto the disk.
    pub(super) fn feed(&mut self, mut input: Input) -> Held<Result<bool, Died>> {
        let now = self.now();
        self.rules.process_looks(self.at, now, self.clock.offset, &self.disk);
        self.saboteur.input(&mut input);
        let stops = matches!(input, Input::Stop);
        let Some(process) = &mut self.process else { return Ok(Ok(false)) };
        self.tally.steps += 1;
        let actions = process.engine.handle(now, input);
        self.carry_out(actions, stops)
    }

    /// Keeps the contract of [`Action`].
    pub(super) fn carry_out(&mut self, actions: Vec<Action>, stops: bool) -> Held<Result<bool, Died>> {
        let Ok(Carried { stored, send_left_out, forget_left_out }) = self.try_all(actions, stops)? else {
            return Ok(Err(Died));
        };
        if !stored && let Some(process) = &mut self.process {
            self.rules.dirty = true;
            self.tally.steps += 1;
            let failed = Input::StorageFailed { send_left_out, forget_left_out };
            let actions = process.engine.handle(self.clock.now(self.at), failed);
            if self.try_all(actions, stops)?.is_err() {
                return Ok(Err(Died));
            }
        }
        let sends = self.process.as_ref().is_some_and(|process| process.sending.is_some());
        self.rules.carried_out(&self.disk, sends)?;
        Ok(Ok(stored))
    }

    /// Where among its actions the process crashes.
    fn crash_among(&mut self, actions: usize) -> Option<CrashPoint> {
        match self.extremes {
            Some(_) => self.crash,
            None => self.draws_crash().then(|| CrashPoint::draw(&mut self.chance, actions as u64)),
        }
    }

    pub(super) fn try_all(&mut self, mut actions: Vec<Action>, stops: bool) -> Held<Result<Carried, Died>> {
        self.saboteur.actions(&mut actions);
        let now = self.now();
        self.rules.handed_out(self.at, now, &actions, stops)?;
        // Most lists only say when to wake.
        if let [Action::WakeAt(mono)] = &actions[..] {
            self.wake_at(*mono);
            return Ok(Ok(Carried { stored: true, send_left_out: false, forget_left_out: false }));
        }
        let at = self.at;
        let on_disk =
            || actions.iter().filter_map(|action| if let Action::Disk(it) = action { Some(it) } else { None });
        let rotates = on_disk().any(|it| matches!(it, DiskAction::Record(entry) if entry.kind == EntryKind::IdRotated));
        let saves_all = [
            on_disk().any(|it| matches!(it, DiskAction::SaveSwitch { .. })),
            on_disk().any(|it| matches!(it, DiskAction::SaveId(_) | DiskAction::DeleteId)),
            on_disk().any(|it| matches!(it, DiskAction::Save(_))),
        ];
        let replaces = on_disk().any(|it| {
            matches!(it, DiskAction::Record(entry)
                if entry.kind == EntryKind::IdReset || entry.reason == Some(LedgerReason::Expired))
        });
        let touched = on_disk().next().is_some();
        self.listed = self.listed.max(actions.len());
        let crash = self.crash_among(actions.len());
        let (mut stored, mut send_left_out, mut forget_left_out) = (true, false, false);
        for (number, action) in actions.into_iter().enumerate() {
            if let Some(crash) = crash.filter(|crash| crash.before == number) {
                self.crash_in(&action, crash)?;
                return Ok(Err(Died));
            }
            match action {
                Action::WakeAt(mono) => self.wake_at(mono),
                Action::ReadPulse => self.read_pulse(),
                Action::CancelSend => self.cancel_send(),
                Action::CancelForget => drop(self.process.as_mut().map(|process| process.deleting.take())),
                Action::Forget(_) if !stored => forget_left_out = true,
                Action::Forget(id) => match self.disk.confirm() {
                    Ok(()) => self.ask_for_deletion(now, id)?,
                    Err(_) => (stored, forget_left_out) = (false, true),
                },
                Action::Send(_) if !stored => send_left_out = true,
                Action::Send(body) => match self.disk.confirm() {
                    Ok(()) => self.send(now, body.into())?,
                    Err(_) => (stored, send_left_out) = (false, true),
                },
                Action::Disk(DiskAction::Record(entry)) if !stored && entry.kind.claims_prior_writes() => {}
                // An on that is refused must not be found by the next start.
                Action::Disk(DiskAction::SaveSwitch { off: false }) if !stored => {}
                Action::Disk(action) => {
                    if rotates && matches!(action, DiskAction::SaveId(_)) {
                        self.rules.rotates(now, self.disk.identity.as_ref())?;
                    }
                    stored &= self.write(&action)?;
                }
            }
        }
        stored &= !touched || self.disk.confirm().is_ok();
        self.rules.dirty &= !(stored && saves_all == [true; 3]);
        if stored && replaces {
            self.rules.replaced(at, now, &self.disk)?;
        }
        Ok(Ok(Carried { stored, send_left_out, forget_left_out }))
    }

    pub(super) fn write(&mut self, action: &DiskAction) -> Held<bool> {
        self.note(|_| format!("write {action:?}"));
        let before = match action {
            DiskAction::SaveId(_) | DiskAction::DeleteId => self.disk.identity.clone(),
            _ => None,
        };
        let done = self.disk.carry_out(action, self.now().wall);
        if done.is_ok() {
            let kept = self.disk.keeps(action);
            hold!(AcknowledgedIsKept, kept.is_ok(), "{}", kept.err().unwrap_or_default());
            self.rules.deletions.written(self.at, self.clock.now(self.at), action)?;
        } else {
            self.note(|_| format!("it failed: {done:?}"));
        }
        self.tell_what_got_there(action, before.as_ref(), done.is_ok());
        let hung = self.disk.fs.take_hung();
        if hung > 0 {
            self.meet(Fault::DiskHangs);
            self.at += u64::from(hung) * (1 + self.chance.draw(5 * SECOND));
        }
        if self.disk.fs.take_failed() > 0 {
            let in_spite_of_it = done.is_err() && self.disk.keeps(action).is_ok();
            self.meet(match self.disk.fs.mood() {
                _ if in_spite_of_it => Fault::ErrorAfterWrite,
                Mood::Full => Fault::DiskFull,
                Mood::ReadOnly => Fault::DiskReadOnly,
                _ => Fault::WriteError,
            });
        }
        Ok(done.is_ok())
    }

    pub(super) fn tell_what_got_there(&mut self, action: &DiskAction, before: Option<&Identity>, done: bool) {
        let is_there = match action {
            DiskAction::SaveId(identity) => self.disk.identity.as_ref() == Some(identity),
            DiskAction::DeleteId => self.disk.identity.is_none(),
            DiskAction::Save(state) => self.disk.state == *state,
            _ => done,
        };
        if is_there {
            self.rules.wrote(self.at, self.clock.offset, action, before);
        }
    }

    /// The process dies before this action or in the middle of it, and the power goes with it or stays.
    pub(super) fn crash_in(&mut self, action: &Action, crash: CrashPoint) -> Held<()> {
        self.meet(Fault::CrashBetweenActions);
        let mut written = None;
        if let (Action::Disk(action), Some(operations)) = (action, crash.operations) {
            self.meet(Fault::TornWrite);
            self.disk.fs.die_after(operations);
            let before = self.disk.identity.clone();
            let done = self.disk.carry_out(action, self.now().wall);
            self.crashed_within = self.disk.fs.has_died();
            written = Some((action, before, done.is_ok()));
        }
        if crash.power {
            self.meet(Fault::PowerLoss);
            self.disk.power_loss();
        } else {
            self.disk.process_ends();
        }
        if let Some((action, before, done)) = written {
            let kept = if done { self.disk.keeps(action) } else { Ok(()) };
            hold!(AcknowledgedIsKept, kept.is_ok(), "after a crash: {}", kept.err().unwrap_or_default());
            if done {
                self.rules.deletions.written(self.at, self.clock.now(self.at), action)?;
            }
            self.tell_what_got_there(action, before.as_ref(), done);
        }
        self.rules.answer_lost();
        Ok(())
    }

    pub(super) fn draws_crash(&mut self) -> bool {
        self.chance.draw(10_000) < self.temper.crashes()
    }

    pub(super) fn process_ends(&mut self) {
        self.cancel_send();
        self.process = None;
        self.disk.process_ends();
        self.ambush_at = NEVER;
        self.crashes_at = NEVER;
        if self.crashes_left > 0 {
            self.crashes_left -= 1;
            self.meet(Fault::CrashLoop);
            self.starts_at = self.at + spread(&mut self.chance, SECOND, MINUTE / 2);
        } else {
            self.starts_at = self.at + spread(&mut self.chance, SECOND, 5 * MINUTE);
        }
        self.note(|_| "the process is gone".to_owned());
    }

    pub(super) fn wake_at(&mut self, mono: Duration) {
        if let Some(process) = &mut self.process {
            process.wake = self.clock.when(mono);
        }
    }

    pub(super) fn read_pulse(&mut self) {
        self.readings += 1;
        let read = self.pulse.read(self.readings, &mut self.chance);
        let ends = self.at + read.takes;
        self.note(|world| format!("read Pulse, number {}: {:?}", world.readings, world.pulse.mood));
        for fault in read.faults.into_iter().flatten() {
            self.meet(fault);
        }
        self.ambush(ends, Fault::DuringReading);
        if let Some(process) = &mut self.process {
            process.reading = Some((ends, read, self.readings));
        }
    }

    pub(super) fn send(&mut self, now: Now, body: String) -> Held<()> {
        self.note(|_| format!("send {body}"));
        self.rules.attempted(self.at, now, &body, &self.disk)?;
        self.tally.attempts += 1;
        let outcome = endpoint::meet(self.endpoint, &mut self.chance, self.clock.true_seconds(self.at));
        for fault in outcome.faults.into_iter().flatten() {
            self.meet(fault);
        }
        let ends = self.at + outcome.takes;
        self.ambush(ends, Fault::DuringSend);
        if let Some(process) = &mut self.process {
            let before = process.sending.replace(Sending { began: self.at, ends, outcome, body });
            hold!(OneAtATime, before.is_none(), "two sends under way");
        }
        Ok(())
    }

    /// The connection is closed; what had arrived by now has.
    pub(super) fn cancel_send(&mut self) {
        let Some(sending) = self.process.as_mut().and_then(|process| process.sending.take()) else { return };
        if sending.outcome.stored && self.at >= sending.began + sending.outcome.takes / 2 {
            self.meet(Fault::AnswerLost);
            self.stored(&sending.body);
        }
    }

    pub(super) fn stored(&mut self, body: &str) {
        self.tally.accepted += 1;
        self.rules.stored(self.at, body);
    }

    pub(super) fn on_time(&mut self) -> Held<Result<(), Died>> {
        self.rules.nobody_waits(self.at)?;
        if self.look_at_the_switch()?.is_err() || self.look_at_the_storage()?.is_err() {
            return Ok(Err(Died));
        }
        Ok(self.feed(Input::Tick)?.map(|_| ()))
    }

    pub(super) fn on_reading(&mut self) -> Held<Result<(), Died>> {
        if self.look_at_the_switch()?.is_err() {
            return Ok(Err(Died));
        }
        let Some((_, read, number)) = self.process.as_mut().and_then(|process| process.reading.take()) else {
            return Ok(Ok(()));
        };
        let is_forced_on = Sources { fixed: self.fixed, ..Sources::default() }.is_forced_on();
        let reports_itself = read.own_sender == Some(OwnSender::On) && !is_forced_on;
        self.rules.permission =
            if read.allows_a_ping && !reports_itself { Permission::Granted(number) } else { Permission::Forbidden };
        self.told_of_the_own_sender(read.own_sender);
        self.note(|_| format!("reading number {number} is there"));
        let fed = self.feed(Input::Reading(read.result))?;
        self.rules.permission = Permission::None;
        Ok(fed.map(|_| ()))
    }

    pub(super) fn told_of_the_own_sender(&mut self, own_sender: Option<OwnSender>) {
        if let Some(own_sender) = own_sender {
            self.rules.consent.off_in_pulse = own_sender == OwnSender::OffBySetting;
        }
    }

    pub(super) fn on_answer(&mut self) -> Held<Result<(), Died>> {
        let Some(sending) = self.process.as_mut().and_then(|process| process.sending.take()) else {
            return Ok(Ok(()));
        };
        let Sending { outcome, body, .. } = sending;
        if outcome.stored {
            self.stored(&body);
        }
        let accepted = matches!(outcome.answer, Answer::Status { code: 200..=299, .. });
        let max = RETRY_AFTER_MAX.as_nanos() as u64;
        let silent_until = match outcome.retry_after {
            RetryAfter::None => None,
            RetryAfter::Seconds(seconds) => Some(self.at + seconds.saturating_mul(SECOND).min(max)),
            RetryAfter::Date(date) => {
                let left = (date - self.now().wall.as_second() - 1).clamp(0, DAY as i64);
                Some(self.at + (left as u64).saturating_mul(SECOND).min(max))
            }
        };
        self.rules.answers(accepted, silent_until, self.at);
        self.note(|_| format!("answer {:?}", outcome.answer));
        let fed = self.feed(Input::Answer(outcome.answer, KeptReceipt::NONE))?;
        if accepted && matches!(fed, Ok(true)) {
            self.rules.acceptance_written();
        }
        Ok(fed.map(|_| ()))
    }

    /// As the daemon does: a command may have left the switch's file.
    pub(super) fn look_at_the_switch(&mut self) -> Held<Result<(), Died>> {
        let Some(process) = &self.process else { return Ok(Ok(())) };
        if self.disk.switched_off && !process.engine.sources().switched_off {
            return Ok(self.switch(true)?.map(|_| ()));
        }
        Ok(Ok(()))
    }

    /// As the daemon does: what was written may be gone.
    pub(super) fn look_at_the_storage(&mut self) -> Held<Result<(), Died>> {
        let Some(process) = &self.process else { return Ok(Ok(())) };
        if process.engine.is_unsaved() || self.disk.confirm().is_ok() {
            return Ok(Ok(()));
        }
        self.rules.dirty = true;
        Ok(self.feed(Input::StorageFailed { send_left_out: false, forget_left_out: false })?.map(|_| ()))
    }

    pub(super) fn stop(&mut self) -> Held<Result<(), Died>> {
        if self.look_at_the_storage()?.is_ok() {
            let _ = self.feed(Input::Stop)?;
        }
        Ok(Err(Died))
    }

    pub(super) fn switch(&mut self, off: bool) -> Held<Result<bool, Died>> {
        self.rules.consent.switched_off = off;
        let fed = self.feed(Input::Switch { off })?;
        if matches!(fed, Ok(true)) {
            hold!(SwitchIsKept, self.disk.switched_off == off, "switched to off: {off}");
        }
        self.look_at_consent();
        Ok(fed)
    }

    pub(super) fn reset(&mut self) -> Held<Result<(), Died>> {
        let before = self.disk.identity.clone();
        let fed = self.feed(Input::Reset)?;
        if matches!(fed, Ok(true)) {
            let id = |identity: &Option<Identity>| identity.as_ref().map(|identity| identity.install_id.clone());
            let changed = before.is_none() || id(&before) != id(&self.disk.identity);
            hold!(ResetIsKept, changed, "the disk still has {before:?}");
            hold!(ResetIsKept, self.disk.state.pending.is_none(), "{:?}", self.disk.state.pending);
            let sends = self.process.as_ref().is_some_and(|process| process.sending.is_some());
            hold!(ResetIsKept, !sends, "a send is under way");
        }
        Ok(fed.map(|_| ()))
    }
}
