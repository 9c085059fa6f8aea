//! What happens in a life.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use pulse_telemetry::daemon::{Handle, ResetAnswer, SwitchAnswer};

use super::witness::install_id;
use super::{DAY, HOUR, MINUTE, Shared, endpoint, pulse};
use pulse_telemetry_testkit::memory_fs::Mood;
use pulse_telemetry_testkit::seeded::Seeded;

/// Nobody waits longer for the daemon's answer.
const PATIENCE: Duration = MINUTE;

/// A disk fails within this many operations from now on: those of a ping or two.
const OPERATIONS: u64 = 60;

/// A downtime up to here is a restart and no trouble.
const RESTART_MAX: Duration = Duration::from_secs(10 * 60);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    OfLife,
    /// It was asked to stop.
    Stopped {
        reboot: bool,
    },
    Killed,
}

/// What is due.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Anything,
    EndpointWorks,
    PulseWorks,
    DiskWorks,
    SwitchOn,
    ClockRight,
    Restart,
    RestartWithoutDoNotTrack,
    Kill,
}

pub(super) struct Script {
    chance: Seeded,
    /// In order of time; the second number tells those of the same time apart.
    turns: BTreeMap<(Duration, u64), Turn>,
    number: u64,
    end: Duration,
}

impl Script {
    pub(super) fn new(chance: Seeded, span: Duration) -> Self {
        let mut script = Self { chance, turns: BTreeMap::new(), number: 0, end: span };
        script.plan(HOUR, Turn::Anything);
        script
    }

    /// Lets things happen until the process ends.
    pub(super) async fn drive(&mut self, world: &Shared, handle: &Handle) -> End {
        loop {
            let next = self.turns.first_key_value().map_or(self.end, |((at, _), _)| *at).min(self.end);
            let pause = next.saturating_sub(world.lock().time.passed());
            tokio::time::sleep(pause).await;
            if next >= self.end {
                return End::OfLife;
            }
            let Some((_, turn)) = self.turns.pop_first() else { return End::OfLife };
            world.lock().check_silence();
            if let Some(end) = self.take(turn, world, handle).await {
                return end;
            }
        }
    }

    /// A person who turned telemetry off turns it on again some day.
    pub(super) fn on_start(&mut self, world: &Shared) {
        let world = world.lock();
        if world.disk.is_off() && !self.turns.values().any(|turn| matches!(turn, Turn::SwitchOn)) {
            let at = world.time.passed() + self.a_while();
            self.plan(at, Turn::SwitchOn);
        }
    }

    /// The time between two processes.
    pub(super) async fn down(&mut self, world: &Shared, end: End) {
        let down = match self.chance.draw(8) {
            0 => self.a_while(),
            _ => Duration::from_secs(self.chance.draw(RESTART_MAX.as_secs())),
        };
        {
            let mut world = world.lock();
            world.tell(format_args!("the process is gone for {down:?}: {end:?}"));
            world.polls_left = None;
            world.disk.fs.spare();
        }
        tokio::time::sleep(down).await;
        let mut world = world.lock();
        let passed = world.time.passed();
        if down > RESTART_MAX {
            world.witness.on_trouble(passed);
        }
        if matches!(end, End::Stopped { reboot: true }) {
            world.happens("a reboot");
            world.time.boot();
            if self.chance.draw(3) == 0 {
                world.happens("a boot without a clock");
                world.time.set_to_1970();
                world.witness.on_wrong_times(passed);
                let at = passed + self.a_while();
                self.plan(at, Turn::ClockRight);
            }
        }
    }

    fn plan(&mut self, at: Duration, turn: Turn) {
        self.number += 1;
        self.turns.insert((at, self.number), turn);
    }

    /// Minutes, hours, days, or more than a month.
    fn a_while(&mut self) -> Duration {
        match self.chance.draw(20) {
            0..8 => MINUTE + self.up_to(HOUR),
            8..15 => HOUR + self.up_to(DAY),
            15..19 => self.up_to(10 * DAY),
            _ => 35 * DAY,
        }
    }

    /// Pulse is read again and again while something is wrong with it, and readings are what a simulated year costs.
    fn a_shorter_while(&mut self) -> Duration {
        match self.chance.draw(40) {
            0 => self.a_while(),
            1..12 => self.up_to(DAY),
            _ => self.up_to(4 * HOUR),
        }
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_millis(self.chance.draw(most.as_millis().try_into().unwrap()))
    }

    async fn take(&mut self, turn: Turn, world: &Shared, handle: &Handle) -> Option<End> {
        let passed = world.lock().time.passed();
        match turn {
            Turn::Anything => {
                let pause = if self.chance.draw(4) == 0 { self.up_to(HOUR) } else { self.up_to(9 * DAY) };
                self.plan(passed + MINUTE + pause, Turn::Anything);
                return self.anything(passed, world, handle).await;
            }
            Turn::EndpointWorks => {
                let mut world = world.lock();
                world.tell("the endpoint works again");
                world.endpoint.trouble = None;
                world.witness.on_end_of_outage(passed);
            }
            Turn::PulseWorks => {
                let mut world = world.lock();
                world.tell("Pulse works again");
                world.pulse.set_trouble(None);
                world.witness.on_end_of_outage(passed);
            }
            Turn::DiskWorks => {
                let mut world = world.lock();
                world.tell("the disk works again");
                world.disk.fs.set_mood(Mood::Works);
                world.witness.on_wrong_times(passed);
            }
            Turn::ClockRight => {
                let mut world = world.lock();
                world.happens("the clock is set right");
                world.time.set_right();
                world.witness.on_wrong_times(passed);
            }
            Turn::SwitchOn => self.switch_on(passed, world, handle).await,
            Turn::Restart => return Some(self.stop(world, "a restart", false)),
            Turn::RestartWithoutDoNotTrack => {
                {
                    let mut world = world.lock();
                    world.do_not_track = false;
                    world.witness.on_trouble(passed);
                }
                return Some(self.stop(world, "a restart without DO_NOT_TRACK", false));
            }
            Turn::Kill => {
                world.lock().happens("kill -9");
                return Some(End::Killed);
            }
        }
        None
    }

    async fn anything(&mut self, passed: Duration, world: &Shared, handle: &Handle) -> Option<End> {
        match self.chance.draw(40) {
            0..9 => self.trouble_the_endpoint(passed, world),
            9..17 => self.trouble_pulse(passed, world),
            17 | 18 => return Some(self.stop(world, "a restart", false)),
            19 => return Some(self.stop(world, "a restart", true)),
            20 => {
                let when = self.a_while();
                self.plan(passed + when, Turn::RestartWithoutDoNotTrack);
                world.lock().do_not_track = true;
                return Some(self.stop(world, "a restart with DO_NOT_TRACK", false));
            }
            21 => {
                world.lock().happens("a host that restarts every day");
                for day in 1..6 + self.chance.draw(10) {
                    let at = passed + DAY * u32::try_from(day).unwrap() + self.up_to(HOUR);
                    self.plan(at, Turn::Restart);
                }
            }
            22 => {
                world.lock().happens("a crash loop");
                let mut at = passed;
                for _ in 0..4 + self.chance.draw(12) {
                    at += MINUTE + self.up_to(15 * MINUTE);
                    self.plan(at, Turn::Kill);
                }
            }
            23 | 24 => {
                let mut world = world.lock();
                world.happens("a kill at an await");
                world.polls_left = Some(self.chance.draw(300).try_into().unwrap());
            }
            drawn @ 25..29 => self.trouble_the_disk(drawn, passed, world),
            29 | 30 => self.step_the_clock(passed, world),
            31 | 32 => {
                let asleep = self.a_while();
                let mut world = world.lock();
                world.happens("a suspend");
                world.time.suspend(asleep);
                let passed = world.time.passed();
                world.witness.on_suspend(passed);
            }
            33 | 34 => self.switch_off(passed, world, handle).await,
            35 => {
                let at = passed + self.a_while();
                self.plan(at, Turn::SwitchOn);
                let mut world = world.lock();
                world.happens("off is left in the directory");
                world.disk.leave_off();
                world.witness.on_off_left();
            }
            36 | 37 => self.reset(passed, world, handle).await,
            38 => {
                world.lock().happens("the history is erased");
                let _ = tokio::time::timeout(PATIENCE, handle.erase_history()).await;
            }
            _ => self.look(world, handle).await,
        }
        None
    }

    fn stop(&mut self, world: &Shared, what: &'static str, reboot: bool) -> End {
        world.lock().happens(what);
        End::Stopped { reboot }
    }

    /// A write that fails, a power cut at one, or a disk that is full for a while.
    fn trouble_the_disk(&mut self, drawn: u64, passed: Duration, world: &Shared) {
        match drawn {
            25 | 26 => {
                let mut world = world.lock();
                world.happens("a power cut at a write");
                world.disk.fs.die_after(self.chance.draw(OPERATIONS).try_into().unwrap());
                world.witness.on_wrong_times(passed);
            }
            27 => {
                let mut world = world.lock();
                world.happens("a write fails");
                world.disk.fs.fail_after(self.chance.draw(OPERATIONS).try_into().unwrap());
                world.witness.on_wrong_times(passed);
            }
            _ => {
                let until = passed + self.a_while();
                self.plan(until, Turn::DiskWorks);
                let mut world = world.lock();
                world.happens("the disk is full");
                world.disk.fs.set_mood(Mood::Full);
            }
        }
    }

    fn trouble_the_endpoint(&mut self, passed: Duration, world: &Shared) {
        use endpoint::Trouble;
        let trouble = match self.chance.draw(16) {
            0 => Trouble::Refuses,
            1 => Trouble::NeverConnects,
            2 => Trouble::ConnectsSlowly,
            3 => Trouble::NeverAnswers,
            4 => Trouble::AnswersSlowly,
            5 => Trouble::Closes,
            6 => Trouble::ClosesAfterKeeping,
            7 => Trouble::Garbage,
            8 => Trouble::CutAnswer,
            9 | 10 => Trouble::Redirects([301, 302, 307, 308][self.one_of(4)]),
            11 => Trouble::Status([400, 401, 403, 404, 413, 418][self.one_of(6)], None),
            12 => Trouble::Status([500, 502, 503, 504][self.one_of(4)], None),
            13 => Trouble::Status(429, Some(self.chance.draw(200_000).to_string())),
            14 => {
                let date = world.lock().time.now().wall + SignedDuration::try_from(self.up_to(2 * DAY)).unwrap();
                let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
                Trouble::Status(503, Some(date))
            }
            _ => Trouble::Status([408, 425][self.one_of(2)], None),
        };
        let mut world = world.lock();
        if world.endpoint.trouble.is_none() {
            world.happens(trouble.name());
            world.endpoint.trouble = Some(trouble);
            let until = passed + self.a_while();
            self.plan(until, Turn::EndpointWorks);
        }
    }

    fn trouble_pulse(&mut self, passed: Duration, world: &Shared) {
        use pulse::{ROUTES, Trouble};
        let has_sender = world.lock().pulse.has_sender();
        let trouble = match self.chance.draw(if has_sender { 17 } else { 14 }) {
            0 => Trouble::Refuses,
            1 => Trouble::NeverConnects,
            2 => Trouble::NeverAnswers,
            3 => Trouble::AnswersSlowly,
            4 => Trouble::Closes,
            5 => Trouble::Garbage,
            6 => Trouble::CutAnswers,
            7 => Trouble::Unauthorized,
            8 => Trouble::MissingScope,
            9 => Trouble::Fails(ROUTES[self.one_of(ROUTES.len())]),
            10 => Trouble::Nonsense(ROUTES[self.one_of(ROUTES.len())]),
            11 => Trouble::RateLimits,
            12 => Trouble::Starting,
            13 => Trouble::Mock,
            14 => Trouble::Demo,
            15 => Trouble::ReportsItself,
            _ => Trouble::SwitchedOff,
        };
        let mut world = world.lock();
        if world.pulse.trouble.is_none() {
            world.happens(trouble.name());
            world.pulse.set_trouble(Some(trouble));
            let until = passed + self.a_shorter_while();
            self.plan(until, Turn::PulseWorks);
        }
    }

    fn one_of(&mut self, many: usize) -> usize {
        self.chance.draw(many as u64).try_into().unwrap()
    }

    fn step_the_clock(&mut self, passed: Duration, world: &Shared) {
        let by = match self.chance.draw(4) {
            0 => 2 * MINUTE,
            1 => HOUR + self.up_to(DAY),
            2 => self.up_to(40 * DAY),
            _ => 3650 * DAY,
        };
        let by = SignedDuration::try_from(by).unwrap();
        let mut world = world.lock();
        world.happens("the clock steps");
        world.time.step(if self.chance.draw(2) == 0 { by } else { -by });
        world.witness.on_wrong_times(passed);
        let until = passed + self.a_while();
        self.plan(until, Turn::ClockRight);
    }

    async fn switch_off(&mut self, passed: Duration, world: &Shared, handle: &Handle) {
        let at = passed + self.a_while();
        self.plan(at, Turn::SwitchOn);
        world.lock().happens("telemetry is switched off");
        if let Ok(Ok(SwitchAnswer::Done { persisted, .. })) = tokio::time::timeout(PATIENCE, handle.switch(false)).await
        {
            let world = &mut *world.lock();
            world.witness.on_switched(true, persisted, &world.disk);
        }
    }

    async fn switch_on(&mut self, passed: Duration, world: &Shared, handle: &Handle) {
        {
            let mut world = world.lock();
            world.happens("telemetry is switched on");
            let do_not_track = world.do_not_track;
            world.witness.on_switching_on(do_not_track);
        }
        let answer = tokio::time::timeout(PATIENCE, handle.switch(true)).await;
        let world = &mut *world.lock();
        match answer {
            Ok(Ok(SwitchAnswer::Done { .. })) => world.witness.on_trouble(passed),
            _ => {
                world.witness.on_switched(true, false, &world.disk);
                self.plan(passed + HOUR, Turn::SwitchOn);
            }
        }
    }

    async fn reset(&mut self, passed: Duration, world: &Shared, handle: &Handle) {
        let before = {
            let mut world = world.lock();
            world.happens("a reset");
            world.witness.on_trouble(passed);
            world.disk.id().as_deref().map(install_id)
        };
        if let Ok(Ok(ResetAnswer::Done(_))) = tokio::time::timeout(PATIENCE, handle.reset()).await {
            let world = &mut *world.lock();
            world.witness.on_reset(before, &world.disk);
        }
    }

    async fn look(&mut self, world: &Shared, handle: &Handle) {
        world.lock().happens("a preview");
        if let Ok(Ok(Ok(preview))) = tokio::time::timeout(PATIENCE, handle.preview()).await {
            world.lock().witness.on_preview(&preview.bytes);
        }
        let _ = tokio::time::timeout(PATIENCE, handle.status()).await;
        let _ = tokio::time::timeout(PATIENCE, handle.history(None, 20)).await;
    }
}
