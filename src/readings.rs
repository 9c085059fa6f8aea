//! Readings of Pulse: who asks for one, when the next may start, and what the last ones gave.
//!
//! A state machine without IO: where [`Readings::start`] says so, the daemon reads Pulse, and hands in what it read.
//! One reading at a time, and one in ten seconds, for all callers together. Nobody who only looks waits for one.

use std::rc::Rc;
use std::time::Duration;

use pulse_telemetry_core::clock::{MINUTE, Now};
use pulse_telemetry_core::observation::{Commercial, ReadError, Reading};

use crate::pulse::Observation;

/// How many callers may wait for a reading at a time: half of the server's places, so that whatever Pulse does there is
/// room for those who ask for what is known.
pub const READERS_MAX: usize = 32;

/// The shortest time between the end of a reading and the start of the next.
pub const PAUSE: Duration = Duration::from_secs(10);

/// A reading that is older than this is followed by another one where somebody looks at what it told.
pub const STALE_AFTER: Duration = MINUTE;

/// A reading that has ended.
#[derive(Debug)]
pub struct CompletedReading {
    /// When it ended.
    pub at: Now,
    /// What it gave.
    pub observed: Result<Observation, ReadError>,
}

/// What the end of a reading means.
#[derive(Debug)]
pub struct ReadingEnd {
    /// What it gave.
    pub completed: Rc<CompletedReading>,
    /// How long it took.
    pub took: Duration,
    /// The engine asked for it.
    pub is_for_engine: bool,
}

/// What a preview is made of.
#[derive(Clone, Copy, Debug)]
pub struct PreviewSource<'a> {
    /// The last reading, or the last good one.
    pub completed: &'a CompletedReading,
    /// For how long Pulse asked to be left alone, from now on, where it did.
    pub pause: Option<Duration>,
}

/// The readings of one Pulse. `W` is somebody who waits for one.
#[derive(Debug)]
pub struct Readings<W> {
    /// When the one under way started.
    running_since: Option<Duration>,
    engine_waits: bool,
    /// Somebody looked at what is known, and it was stale.
    is_wanted: bool,
    waiting: Vec<W>,
    last: Option<Rc<CompletedReading>>,
    /// The last one in which nothing is unknown.
    last_good: Option<Rc<CompletedReading>>,
    /// What Pulse's settings last said of its commercial side.
    commercial: Option<Commercial>,
    /// No reading starts before.
    not_before: Duration,
}

impl CompletedReading {
    /// What of it the engine may be given.
    ///
    /// # Errors
    /// Where Pulse could not be read at all.
    pub fn reading(&self) -> Result<&Reading, &ReadError> {
        self.observed.as_ref().map(|observed| &observed.reading)
    }

    /// How long ago it ended.
    #[must_use]
    pub fn age(&self, now: Now) -> Duration {
        now.mono.saturating_sub(self.at.mono)
    }
}

impl<W> Readings<W> {
    /// None so far.
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self {
            running_since: None,
            engine_waits: false,
            is_wanted: false,
            waiting: Vec::new(),
            last: None,
            last_good: None,
            commercial: None,
            not_before: now.mono,
        }
    }

    /// The engine asks for one: the one under way, or the next.
    pub fn ask_for_engine(&mut self) {
        self.engine_waits = true;
    }

    /// Somebody wants one and does not wait for it.
    pub fn want(&mut self) {
        self.is_wanted = true;
    }

    /// The same, where the last one is stale.
    pub fn want_if_stale(&mut self, now: Now) {
        self.is_wanted |= self.last.as_ref().is_none_or(|last| last.age(now) > STALE_AFTER);
    }

    /// Puts somebody among those who wait. Those who have gone away make room.
    ///
    /// # Errors
    /// Gives the caller back where as many wait as may.
    pub fn wait(&mut self, caller: W, now: Now, has_gone: impl Fn(&W) -> bool) -> Result<(), W> {
        // A Pulse that hangs must not let those pile up who asked and went away.
        self.waiting.retain(|waiting| !has_gone(waiting));
        if self.waiting.len() >= READERS_MAX && !self.can_answer(now) {
            return Err(caller);
        }
        self.waiting.push(caller);
        Ok(())
    }

    /// Takes out those whom the last reading can answer.
    #[must_use]
    pub fn take_answerable(&mut self, now: Now) -> Vec<W> {
        if self.can_answer(now) { std::mem::take(&mut self.waiting) } else { Vec::new() }
    }

    fn can_answer(&self, now: Now) -> bool {
        self.running_since.is_none() && self.last.is_some() && now.mono < self.not_before
    }

    /// Whether Pulse is to be read now: somebody asks, and it may be. The reading is then under way.
    #[must_use]
    pub fn start(&mut self, now: Now) -> bool {
        let starts = self.starts_at().is_some_and(|at| at <= now.mono);
        if starts {
            self.running_since = Some(now.mono);
        }
        starts
    }

    /// When the next one starts; `None` while one is under way, or where nobody asks.
    #[must_use]
    pub fn starts_at(&self) -> Option<Duration> {
        let is_asked_for = self.engine_waits || self.is_wanted || !self.waiting.is_empty();
        (is_asked_for && self.running_since.is_none()).then_some(self.not_before)
    }

    /// One is under way, or starts at once.
    #[must_use]
    pub fn is_under_way(&self, now: Now) -> bool {
        self.running_since.is_some() || self.starts_at().is_some_and(|at| at <= now.mono)
    }

    /// Keeps what the one under way gave.
    pub fn end(&mut self, observed: Result<Observation, ReadError>, now: Now) -> ReadingEnd {
        // From its end on: one that took longer than the pause is to answer those who waited for it, too.
        self.not_before = now.mono + PAUSE;
        let completed = Rc::new(CompletedReading { at: now, observed });
        if let Ok(reading) = completed.reading() {
            self.commercial = reading.gate.commercial.as_ref().ok().copied().or(self.commercial);
            self.not_before = self.not_before.max(now.mono + reading.retry_after.unwrap_or_default());
            if reading.known().is_ok() {
                self.last_good = Some(Rc::clone(&completed));
            }
        }
        self.last = Some(Rc::clone(&completed));
        self.is_wanted = false;
        let started = self.running_since.take().unwrap_or(now.mono);
        ReadingEnd {
            completed,
            took: now.mono.saturating_sub(started),
            is_for_engine: std::mem::take(&mut self.engine_waits),
        }
    }

    /// The last one.
    #[must_use]
    pub fn last(&self) -> Option<&CompletedReading> {
        self.last.as_deref()
    }

    /// What Pulse's settings last said of its commercial side.
    #[must_use]
    pub fn commercial(&self) -> Option<Commercial> {
        self.commercial
    }

    /// What a preview is made of: the last reading. Where Pulse asked in it for a pause, which must not hide what is
    /// known, the last good one for as long.
    #[must_use]
    pub fn preview_source(&self, now: Now) -> Option<PreviewSource<'_>> {
        let last = self.last.as_deref()?;
        let asked_for_a_pause = last.reading().is_ok_and(|reading| reading.retry_after.is_some());
        let pause = Some(self.pause(now)).filter(|pause| asked_for_a_pause && !pause.is_zero());
        match &self.last_good {
            Some(good) if pause.is_some() && good.at.mono < last.at.mono => {
                Some(PreviewSource { completed: good, pause })
            }
            _ => Some(PreviewSource { completed: last, pause }),
        }
    }

    /// How long the next one has to wait.
    #[must_use]
    pub fn pause(&self, now: Now) -> Duration {
        self.not_before.saturating_sub(now.mono)
    }
}
