//! An installation: a machine, its clocks and its disk, the process, Pulse, the endpoint, and the people.

pub mod exhaustive;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pulse_telemetry_core::clock::Now;
use pulse_telemetry_core::consent::{Fixed, Sources};
use pulse_telemetry_core::engine::{Action, DiskAction, Engine, EntryKind, Input, Schedule, Start};
use pulse_telemetry_core::identity::Identity;
use pulse_telemetry_core::observation::OwnSender;
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_core::verdict::{Answer, RETRY_AFTER_MAX};

use super::clock::Clock;
use super::disk::{Disk, Lost, draw_mood};
use super::endpoint::{self, Outcome, RetryAfter};
use super::faults::{FAULTS, Fault, Temper, spread};
use super::pulse::{self, Pulse, Read};
use super::rules::{Permission, Rule, Rules, Violation, hold};
use super::saboteurs::Saboteur;
use super::time::{DAY, HOUR, MINUTE, NEVER, SECOND, YEAR};
use super::trace::Trace;
use super::{LIFE, Tally};
use crate::memory_fs::{MemoryFs, Mood, Vandalism};
use crate::seeded::{Draws, Extremes, Seeded};

/// The schedule of the real program, as it comes.
const SCHEDULE: Schedule = Schedule {
    startup_delay: Duration::from_secs(120),
    interval: Duration::from_secs(24 * 60 * 60),
    jitter: Duration::from_secs(30 * 60),
};

/// 2026-06-01, in seconds since 1970: the first day on which an installation may begin.
const FIRST_DAY: i64 = 1_780_272_000;
/// A step of less than this is not one.
const SLEW: i64 = 55 * SECOND as i64;

/// No clock is further off.
const WRONG_MOST: i64 = 60 * YEAR as i64;

/// The process, while there is one.
#[derive(Clone)]
struct Process<S> {
    engine: Engine<Draws>,
    saboteur: std::marker::PhantomData<S>,
    wake: u64,
    /// A reading under way, and when it ends.
    reading: Option<(u64, Read, u64)>,
    /// A send under way: when it ends, what comes of it, and the bytes.
    sending: Option<Sending>,
}

#[derive(Clone)]
struct Sending {
    began: u64,
    ends: u64,
    outcome: Outcome,
    body: String,
}

/// The process is gone.
struct Died;

#[derive(Clone)]
pub struct World<S> {
    pub tally: Tally,
    pub trace: Trace,
    end: u64,
    at: u64,
    chance: Seeded,
    temper: Temper,
    clock: Clock,
    has_battery: bool,
    /// The machine is restarted every day at this hour.
    restarted_daily: bool,
    fixed: Fixed,
    disk: Disk,
    pulse: Pulse,
    endpoint: endpoint::Mood,
    readings: u64,
    process: Option<Process<S>>,
    saboteur: S,
    rules: Rules,
    // When what is wrong ends, or what is planned happens.
    starts_at: u64,
    happens_at: u64,
    /// Something happens while a reading or a send is under way.
    ambush_at: u64,
    reboots_at: u64,
    clock_set_at: u64,
    disk_works_at: u64,
    endpoint_works_at: u64,
    pulse_works_at: u64,
    /// So many more crashes follow, the next one then.
    crashes_left: u64,
    crashes_at: u64,
    /// The exhaustive driver says what is drawn, and before which action the process crashes.
    extremes: Option<Arc<Mutex<Extremes>>>,
    crash_at: Option<usize>,
    /// How many actions the last list had.
    listed: usize,
    next_of_world: u64,
}

type Held<T> = Result<T, Violation>;

impl<S: Saboteur> World<S> {
    pub fn new(seed: u64, installation: u64, life: u64) -> Self {
        let mut chance = Seeded(seed);
        chance.0 ^= Seeded(installation).draw(u64::MAX);
        let began = FIRST_DAY + chance.draw(LIFE * YEAR / SECOND) as i64;
        let temper = Temper::of(&mut chance);
        let mut world = Self {
            tally: Tally::default(),
            trace: Trace::default(),
            end: life,
            at: SECOND,
            temper,
            clock: Clock::new(began),
            has_battery: chance.draw(8) > 0,
            restarted_daily: chance.draw(5) == 0,
            fixed: fixed(&mut chance),
            disk: S::disk(MemoryFs::new(Seeded(chance.draw(u64::MAX)))),
            pulse: Pulse::new(),
            endpoint: endpoint::Mood::Works,
            readings: 0,
            process: None,
            saboteur: S::default(),
            rules: Rules::new(),
            starts_at: 2 * SECOND,
            happens_at: 0,
            ambush_at: NEVER,
            reboots_at: NEVER,
            clock_set_at: NEVER,
            disk_works_at: NEVER,
            endpoint_works_at: NEVER,
            pulse_works_at: NEVER,
            crashes_left: 0,
            crashes_at: NEVER,
            extremes: None,
            crash_at: None,
            listed: 0,
            next_of_world: 0,
            chance,
        };
        if world.restarted_daily {
            world.reboots_at = 4 * HOUR;
        }
        world.happens_at = world.pause();
        world.plan();
        world
    }

    /// Lives until the end, or until a rule is broken.
    pub fn live(&mut self) -> Held<()> {
        loop {
            let (wake, reading, sending) = match &self.process {
                Some(process) => (
                    process.wake,
                    process.reading.as_ref().map_or(NEVER, |reading| reading.0),
                    process.sending.as_ref().map_or(NEVER, |sending| sending.ends),
                ),
                None => (NEVER, NEVER, NEVER),
            };
            let next = wake.min(reading).min(sending).min(self.next_of_world);
            if next >= self.end {
                return Ok(());
            }
            // During a suspend nothing ran: what was due meanwhile comes at its end.
            self.at = self.at.max(next);
            let came = if next == self.next_of_world {
                let came = self.on_world(next)?;
                self.plan();
                came
            } else if next == reading {
                self.on_reading()?
            } else if next == sending {
                self.on_answer()?
            } else {
                self.on_time()?
            };
            if came.is_err() {
                self.process_ends();
                self.plan();
            }
        }
    }

    // The process.

    fn start(&mut self) -> Held<Result<(), Died>> {
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
            state: found.state,
            interrupted: found.interrupted,
        };
        self.rules.process_starts(self.at, now, self.clock.offset, &self.disk);
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
        self.process =
            Some(Process { engine, saboteur: std::marker::PhantomData, wake: NEVER, reading: None, sending: None });
        self.carry_out(actions, false).map(|carried| carried.map(|_| ()))
    }

    /// Hands the engine something, and does what it asks for. Says whether all of that got onto the disk.
    fn feed(&mut self, mut input: Input) -> Held<Result<bool, Died>> {
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
    fn carry_out(&mut self, actions: Vec<Action>, stops: bool) -> Held<Result<bool, Died>> {
        let Ok((stored, send_left_out)) = self.try_all(actions, stops)? else { return Ok(Err(Died)) };
        if !stored && let Some(process) = &mut self.process {
            self.rules.dirty = true;
            self.tally.steps += 1;
            let actions = process.engine.handle(self.clock.now(self.at), Input::StorageFailed { send_left_out });
            if self.try_all(actions, stops)?.is_err() {
                return Ok(Err(Died));
            }
        }
        let sends = self.process.as_ref().is_some_and(|process| process.sending.is_some());
        self.rules.carried_out(&self.disk, sends)?;
        Ok(Ok(stored))
    }

    fn try_all(&mut self, mut actions: Vec<Action>, stops: bool) -> Held<Result<(bool, bool), Died>> {
        self.saboteur.actions(&mut actions);
        let now = self.now();
        self.rules.handed_out(self.at, now, &actions, stops)?;
        // Most lists only say when to wake.
        if let [Action::WakeAt(mono)] = &actions[..] {
            self.wake_at(*mono);
            return Ok(Ok((true, false)));
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
        let crash_at = match self.extremes {
            Some(_) => self.crash_at,
            None => self.draws_crash().then(|| self.chance.draw(actions.len() as u64) as usize),
        };
        let (mut stored, mut send_left_out) = (true, false);
        for (number, action) in actions.into_iter().enumerate() {
            if crash_at == Some(number) {
                self.crash_in(&action)?;
                return Ok(Err(Died));
            }
            match action {
                Action::WakeAt(mono) => self.wake_at(mono),
                Action::ReadPulse => self.read_pulse(),
                Action::CancelSend => self.cancel_send(),
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
        if touched && self.disk.confirm().is_err() {
            stored = false;
        }
        if stored && saves_all == [true; 3] {
            self.rules.dirty = false;
        }
        if stored && replaces {
            self.rules.replaced(at, now, &self.disk)?;
        }
        Ok(Ok((stored, send_left_out)))
    }

    fn write(&mut self, action: &DiskAction) -> Held<bool> {
        self.note(|_| format!("write {action:?}"));
        let before = match action {
            DiskAction::SaveId(_) | DiskAction::DeleteId => self.disk.identity.clone(),
            _ => None,
        };
        let done = self.disk.carry_out(action, self.now().wall);
        if done.is_ok() {
            let kept = self.disk.keeps(action);
            hold!(AcknowledgedIsKept, kept.is_ok(), "{}", kept.err().unwrap_or_default());
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

    fn tell_what_got_there(&mut self, action: &DiskAction, before: Option<&Identity>, done: bool) {
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

    /// The process dies before, during or after this action.
    fn crash_in(&mut self, action: &Action) -> Held<()> {
        self.meet(Fault::CrashBetweenActions);
        if let Action::Disk(action) = action {
            self.meet(Fault::TornWrite);
            self.disk.fs.die_after(self.chance.draw(8) as u32);
            let before = self.disk.identity.clone();
            let done = self.disk.carry_out(action, self.now().wall);
            if self.chance.draw(2) == 0 {
                self.meet(Fault::PowerLoss);
                self.disk.power_loss();
            } else {
                self.disk.process_ends();
            }
            if done.is_ok() {
                let kept = self.disk.keeps(action);
                hold!(AcknowledgedIsKept, kept.is_ok(), "after a crash: {}", kept.err().unwrap_or_default());
            }
            self.tell_what_got_there(action, before.as_ref(), done.is_ok());
        }
        self.rules.answer_lost();
        Ok(())
    }

    fn draws_crash(&mut self) -> bool {
        self.chance.draw(10_000) < self.temper.crashes()
    }

    fn process_ends(&mut self) {
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

    fn wake_at(&mut self, mono: Duration) {
        if let Some(process) = &mut self.process {
            process.wake = self.clock.when(mono);
        }
    }

    fn read_pulse(&mut self) {
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

    fn send(&mut self, now: Now, body: String) -> Held<()> {
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
    fn cancel_send(&mut self) {
        let Some(sending) = self.process.as_mut().and_then(|process| process.sending.take()) else { return };
        if sending.outcome.stored && self.at >= sending.began + sending.outcome.takes / 2 {
            self.meet(Fault::AnswerLost);
            self.stored(&sending.body);
        }
    }

    fn stored(&mut self, body: &str) {
        self.tally.accepted += 1;
        self.rules.stored(self.at, body);
    }

    fn on_time(&mut self) -> Held<Result<(), Died>> {
        self.rules.nobody_waits(self.at)?;
        if self.look_at_the_switch()?.is_err() {
            return Ok(Err(Died));
        }
        Ok(self.feed(Input::Tick)?.map(|_| ()))
    }

    fn on_reading(&mut self) -> Held<Result<(), Died>> {
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

    fn told_of_the_own_sender(&mut self, own_sender: Option<OwnSender>) {
        if let Some(own_sender) = own_sender {
            self.rules.consent.off_in_pulse = own_sender == OwnSender::OffBySetting;
        }
    }

    fn on_answer(&mut self) -> Held<Result<(), Died>> {
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
        let fed = self.feed(Input::Answer(outcome.answer))?;
        if accepted && matches!(fed, Ok(true)) {
            self.rules.acceptance_written();
        }
        Ok(fed.map(|_| ()))
    }

    /// As the daemon does: a command may have left the switch's file.
    fn look_at_the_switch(&mut self) -> Held<Result<(), Died>> {
        let Some(process) = &self.process else { return Ok(Ok(())) };
        if self.disk.switched_off && !process.engine.sources().switched_off {
            return Ok(self.switch(true)?.map(|_| ()));
        }
        Ok(Ok(()))
    }

    fn switch(&mut self, off: bool) -> Held<Result<bool, Died>> {
        self.rules.consent.switched_off = off;
        let fed = self.feed(Input::Switch { off })?;
        if matches!(fed, Ok(true)) {
            hold!(SwitchIsKept, self.disk.switched_off == off, "switched to off: {off}");
        }
        self.look_at_consent();
        Ok(fed)
    }

    fn reset(&mut self) -> Held<Result<(), Died>> {
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

    // The world.

    /// When the world does something next.
    fn plan(&mut self) {
        self.next_of_world = [
            self.starts_at,
            self.happens_at,
            self.ambush_at,
            self.crashes_at,
            self.reboots_at,
            self.clock_set_at,
            self.disk_works_at,
            self.endpoint_works_at,
            self.pulse_works_at,
        ]
        .into_iter()
        .min()
        .unwrap_or(NEVER);
    }

    fn on_world(&mut self, due: u64) -> Held<Result<(), Died>> {
        let came = if due == self.starts_at {
            self.starts_at = NEVER;
            self.start()?
        } else if due == self.ambush_at {
            self.ambush_at = NEVER;
            self.something_happens()?
        } else if due == self.crashes_at {
            self.crashes_at = NEVER;
            Err(Died)
        } else if due == self.reboots_at {
            self.reboots_at = self.at + DAY - self.chance.draw(2 * MINUTE);
            self.meet(Fault::Reboot);
            self.reboot()
        } else if due == self.clock_set_at {
            self.clock_set_at = NEVER;
            self.meet(Fault::ClockReset);
            self.clock.offset = 0;
            Ok(())
        } else if due == self.disk_works_at {
            self.disk_works_at = NEVER;
            self.disk.fs.set_mood(Mood::Works);
            Ok(())
        } else if due == self.endpoint_works_at {
            self.endpoint_works_at = NEVER;
            self.endpoint = endpoint::Mood::Works;
            Ok(())
        } else if due == self.pulse_works_at {
            self.pulse_works_at = NEVER;
            self.pulse.mood = pulse::Mood::Works;
            Ok(())
        } else {
            self.happens_at = self.at + self.pause();
            self.something_happens()?
        };
        self.look_at_consent();
        Ok(came)
    }

    /// Whether anything is wrong that keeps pings from arriving.
    fn look_at_consent(&mut self) {
        let is_forced_on = Sources { fixed: self.fixed, ..Sources::default() }.is_forced_on();
        let off_in_pulse = match self.pulse.own_sender {
            OwnSender::OffBySetting => true,
            OwnSender::On => !is_forced_on,
            OwnSender::Absent | OwnSender::OffByEnvironment => false,
        };
        let disturbed = off_in_pulse
            || self.rules.consent.is_off()
            || self.disk.switched_off
            || !self.disk.works()
            || self.endpoint != endpoint::Mood::Works
            || self.pulse.mood != pulse::Mood::Works
            || self.clock_set_at != NEVER
            || self.crashes_left > 0;
        self.rules.set_disturbed(self.at, disturbed);
    }

    fn something_happens(&mut self) -> Held<Result<(), Died>> {
        let draw = self.chance.draw(100);
        // A crash or a restart by itself must not keep the heartbeat from going.
        if draw >= 12 {
            self.rules.disturb(self.at);
        }
        match draw {
            0..6 => {
                self.meet(Fault::Crash);
                return Ok(if self.process.is_some() { Err(Died) } else { Ok(()) });
            }
            6..12 => return self.restart_by_the_operator(),
            12..16 => {
                self.meet(Fault::Reboot);
                return Ok(self.reboot());
            }
            16..18 => {
                self.crashes_left = 1 + self.chance.draw(60);
                if self.chance.draw(2) == 0 {
                    self.endpoint = endpoint::Mood::draw(&mut self.chance);
                    self.endpoint_works_at = self.at + spread(&mut self.chance, HOUR, DAY);
                }
                return Ok(if self.process.is_some() { Err(Died) } else { Ok(()) });
            }
            18..30 => self.step_the_clock(),
            30..34 => self.suspend(),
            34..41 => {
                let mood = draw_mood(&mut self.chance);
                self.disk.fs.set_mood(mood);
                self.disk_works_at = self.at + spread(&mut self.chance, MINUTE, 10 * DAY);
            }
            41..43 => return Ok(self.lose_a_file()),
            43 => self.vandalise(),
            44..58 => {
                self.endpoint = endpoint::Mood::draw(&mut self.chance);
                self.endpoint_works_at = self.at + spread(&mut self.chance, MINUTE, 40 * DAY);
            }
            58..70 => {
                self.pulse.mood = pulse::Mood::draw(&mut self.chance);
                self.pulse_works_at = self.at + spread(&mut self.chance, MINUTE, 20 * DAY);
            }
            70..76 => {
                let choices = [OwnSender::On, OwnSender::OffBySetting];
                self.pulse.own_sender = match self.pulse.own_sender {
                    OwnSender::OffByEnvironment | OwnSender::Absent => choices[self.chance.draw(2) as usize],
                    _ => OwnSender::OffByEnvironment,
                };
            }
            76..84 if self.disk.switched_off => {
                self.meet(Fault::SwitchedOn);
                return self.switch_on();
            }
            76..80 => {
                self.meet(Fault::SwitchedOff);
                if self.process.is_some() {
                    return Ok(self.switch(true)?.map(|_| ()));
                }
                self.disk.turn_by_hand(true);
            }
            80..84 => {
                self.meet(Fault::SwitchedOffByHand);
                self.disk.turn_by_hand(true);
            }
            84..92 => {
                self.meet(Fault::Reset);
                if self.process.is_some() {
                    return self.reset();
                }
            }
            _ => {
                self.meet(Fault::Viewer);
                let read = self.pulse.read(self.readings, &mut self.chance);
                if let (Some(own_sender), true) = (read.own_sender, self.process.is_some()) {
                    self.told_of_the_own_sender(Some(own_sender));
                    return Ok(self.feed(Input::OwnSender(own_sender))?.map(|_| ()));
                }
            }
        }
        Ok(Ok(()))
    }

    /// As the daemon does: on that is not on the disk is not on.
    fn switch_on(&mut self) -> Held<Result<(), Died>> {
        if self.process.is_none() {
            self.disk.turn_by_hand(false);
            return Ok(Ok(()));
        }
        match self.switch(false)? {
            Ok(true) => Ok(Ok(())),
            Ok(false) => Ok(self.switch(true)?.map(|_| ())),
            Err(Died) => Ok(Err(Died)),
        }
    }

    fn restart_by_the_operator(&mut self) -> Held<Result<(), Died>> {
        self.meet(Fault::OperatorRestart);
        if self.process.is_none() {
            return Ok(Ok(()));
        }
        if self.chance.draw(4) == 0 {
            self.meet(Fault::EnvironmentChanged);
            self.rules.disturb(self.at);
            self.fixed = fixed(&mut self.chance);
        }
        let _ = self.feed(Input::Stop)?;
        Ok(Err(Died))
    }

    fn reboot(&mut self) -> Result<(), Died> {
        let ran = self.process.is_some();
        let before = self.at;
        if ran {
            self.process_ends();
        }
        self.starts_at = before + spread(&mut self.chance, 20 * SECOND, 8 * MINUTE);
        self.clock.reboot(before, self.has_battery);
        if !self.has_battery {
            self.meet(Fault::BootIn1970);
            self.rules.disturb(self.at);
            // Mostly the time comes from the network soon; sometimes late.
            let soon = self.chance.draw(8) > 0;
            let most = if soon { 5 * MINUTE } else { 3 * DAY };
            self.clock_set_at = before + spread(&mut self.chance, SECOND, most);
        }
        Ok(())
    }

    fn step_the_clock(&mut self) {
        let ahead = |chance: &mut Seeded, most| spread(chance, 2 * MINUTE, most) as i64;
        match self.chance.draw(6) {
            0 | 1 => {
                self.meet(Fault::ClockSlewed);
                self.clock.offset += self.chance.draw(2 * SLEW as u64) as i64 - SLEW;
            }
            2 | 3 => {
                self.meet(Fault::ClockForward);
                self.clock.offset += ahead(&mut self.chance, 60 * DAY);
            }
            4 => {
                self.meet(Fault::ClockBack);
                self.clock.offset -= ahead(&mut self.chance, 60 * DAY);
            }
            _ => {
                self.meet(Fault::ClockTenYears);
                self.clock.offset += 10 * YEAR as i64;
            }
        }
        self.clock.offset = self.clock.offset.clamp(-WRONG_MOST, WRONG_MOST);
        self.clock_set_at = self.at + spread(&mut self.chance, MINUTE, 20 * DAY);
    }

    /// Nothing runs for a while, and both clocks go on.
    fn suspend(&mut self) {
        self.meet(Fault::Suspend);
        self.at += spread(&mut self.chance, 10 * SECOND, 30 * DAY);
        self.rules.disturb(self.at);
    }

    /// A file is gone at the next start.
    fn lose_a_file(&mut self) -> Result<(), Died> {
        let ran = self.process.is_some();
        match self.chance.draw(3) {
            0 => {
                self.meet(Fault::StateLost);
                self.disk.lose(Lost::State);
                self.rules.state_lost();
            }
            1 => {
                self.meet(Fault::IdLost);
                self.disk.lose(Lost::Id);
            }
            _ => {
                self.meet(Fault::LedgerLost);
                self.disk.lose(Lost::Ledger);
            }
        }
        if ran { Err(Died) } else { Ok(()) }
    }

    /// Somebody else is at the files of the daemon while it runs.
    fn vandalise(&mut self) {
        use Vandalism::{Cut, Lengthened, Replaced, Vanishes};
        if self.chance.draw(4) == 0 {
            self.meet(Fault::LockVanishes);
            let how = [Vanishes, Replaced][self.chance.draw(2) as usize];
            return self.disk.vandalise_the_lock(how);
        }
        let (how, fault) = [
            (Vanishes, Fault::LedgerVanishes),
            (Replaced, Fault::LedgerReplaced),
            (Cut, Fault::LedgerCut),
            (Lengthened, Fault::LedgerLengthened),
        ][self.chance.draw(4) as usize];
        self.meet(fault);
        self.disk.vandalise_the_ledger(how);
    }

    fn ambush(&mut self, ends: u64, fault: Fault) {
        if self.chance.draw(1000) < self.temper.ambushes() {
            self.meet(fault);
            self.ambush_at = self.at + self.chance.draw(ends - self.at);
            self.next_of_world = self.next_of_world.min(self.ambush_at);
        }
    }

    fn pause(&mut self) -> u64 {
        let mean = self.temper.pause();
        MINUTE / 2 + self.chance.draw(2 * mean)
    }

    fn meet(&mut self, fault: Fault) {
        self.tally.faults[fault as usize] += 1;
        self.note(|_| format!("fault: {}", FAULTS[fault as usize].1));
    }

    fn now(&self) -> Now {
        self.clock.now(self.at)
    }

    fn note(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.trace.is_on() {
            let text = what(self);
            self.trace.note(self.at, self.clock.offset, &text);
        }
    }
}

/// What the operator wrote in the environment and the configuration.
fn fixed(chance: &mut Seeded) -> Fixed {
    match chance.draw(20) {
        0 => Fixed::new(Some("no"), None, true),
        1 => Fixed::new(None, Some("1"), true),
        2 => Fixed::new(None, None, false),
        3..6 => Fixed::new(Some("true"), None, true),
        _ => Fixed::new(None, None, true),
    }
}
