//! Readings of Pulse: who asks for one, when the next may begin, and what the last ones gave.
//!
//! One reading at a time, and one in ten seconds, whoever asks. Nobody who only looks waits for one.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pulse_telemetry_core::clock::Now;
use pulse_telemetry_core::observation::{Commercial, ReadError, Reading};
use tokio::sync::oneshot;

use super::{Gives, NoPreview, PostureSeen, Preview, ResetAnswer, finished};
use crate::pulse::{Observation, PulseClient};
use crate::status::SuppressedReport;

/// How many callers may wait for a reading at a time: half of the server's places, so that whatever Pulse does there is
/// room for those who ask for what is known.
pub const READERS_MAX: usize = 32;

/// Pulse is read no more often than this.
pub(super) const PAUSE: Duration = Duration::from_secs(10);

/// A reading that is older than this is followed by another one where somebody looks at what it told.
const OLD: Duration = Duration::from_secs(60);

/// A reading that has ended.
pub(super) struct Taken {
    /// When it ended.
    pub(super) at: Now,
    pub(super) observed: Result<Observation, ReadError>,
}

impl Taken {
    /// What of it the engine may be given.
    pub(super) fn reading(&self) -> Result<&Reading, &ReadError> {
        self.observed.as_ref().map(|observed| &observed.reading)
    }
}

/// Who waits for a reading, the engine apart.
pub(super) enum Waiting {
    Preview(oneshot::Sender<Result<Preview, NoPreview>>),
    Reset(oneshot::Sender<ResetAnswer>),
    Posture(oneshot::Sender<Result<PostureSeen, NoPreview>>),
    Commercial(oneshot::Sender<Option<Commercial>>),
}

/// What a preview is made of.
pub(super) struct Source<'a> {
    pub(super) taken: &'a Taken,
    /// It is not the last reading: Pulse asked for a pause, which lasts so long from now.
    pub(super) pause: Option<Duration>,
}

/// The readings of one Pulse.
pub(super) struct Readings {
    pulse: Arc<PulseClient>,
    running: Option<Gives<Result<Observation, ReadError>>>,
    running_since: Duration,
    engine_waits: bool,
    /// Somebody looked at what is known, and it was old.
    is_wanted: bool,
    waiting: Vec<Waiting>,
    last: Option<Rc<Taken>>,
    /// The last one that a preview can be made of.
    last_good: Option<Rc<Taken>>,
    /// What Pulse's settings last said of its commercial side.
    commercial: Option<Commercial>,
    not_before: Duration,
}

impl Readings {
    pub(super) fn new(pulse: PulseClient, now: Now) -> Self {
        Self {
            pulse: Arc::new(pulse),
            running: None,
            running_since: now.mono,
            engine_waits: false,
            is_wanted: false,
            waiting: Vec::new(),
            last: None,
            last_good: None,
            commercial: None,
            not_before: now.mono,
        }
    }

    /// The engine asks for one that begins from now on, or is under way.
    pub(super) fn ask_for_the_engine(&mut self) {
        self.engine_waits = true;
    }

    /// Somebody wants one and does not wait for it.
    pub(super) fn want(&mut self) {
        self.is_wanted = true;
    }

    /// The same, where the last one is old.
    pub(super) fn want_where_old(&mut self, now: Now) {
        let is_old = self.last.as_ref().is_none_or(|last| now.mono.saturating_sub(last.at.mono) > OLD);
        self.is_wanted |= is_old;
    }

    /// Puts this one among those who wait, or gives it back where as many wait as may.
    pub(super) fn wait(&mut self, waiting: Waiting, now: Now) -> Result<(), Waiting> {
        // A Pulse that hangs must not let those pile up who asked and went away.
        self.waiting.retain(|waiting| !waiting.has_gone());
        if self.waiting.len() >= READERS_MAX && !self.can_answer(now) {
            return Err(waiting);
        }
        self.waiting.push(waiting);
        Ok(())
    }

    /// Those whom the last reading can answer.
    pub(super) fn answerable(&mut self, now: Now) -> Vec<Waiting> {
        if self.can_answer(now) { std::mem::take(&mut self.waiting) } else { Vec::new() }
    }

    fn can_answer(&self, now: Now) -> bool {
        self.running.is_none() && self.last.is_some() && now.mono < self.not_before
    }

    /// Begins the next one where somebody asks for it and it may begin.
    pub(super) fn begin(&mut self, now: Now) {
        if self.next_at().is_some_and(|at| at <= now.mono) {
            self.running_since = now.mono;
            let pulse = Arc::clone(&self.pulse);
            self.running = Some(Box::pin(async move { pulse.observe().await }));
        }
    }

    /// When the next one begins; `None` while one is under way, or where nobody asks.
    pub(super) fn next_at(&self) -> Option<Duration> {
        let is_asked_for = self.engine_waits || self.is_wanted || !self.waiting.is_empty();
        (is_asked_for && self.running.is_none()).then_some(self.not_before)
    }

    /// One is under way, or begins at once.
    pub(super) fn is_under_way(&self, now: Now) -> bool {
        self.running.is_some() || self.next_at().is_some_and(|at| at <= now.mono)
    }

    /// What the one under way gives; never where there is none.
    pub(super) async fn finished(&mut self) -> Result<Observation, ReadError> {
        finished(&mut self.running).await
    }

    /// Keeps what it gave, and says how long it took and whether the engine asked for it.
    pub(super) fn keep(&mut self, observed: Result<Observation, ReadError>, now: Now) -> (Rc<Taken>, Duration, bool) {
        // From its end on: one that took longer than the pause is to answer those who waited for it, too.
        self.not_before = now.mono + PAUSE;
        let taken = Rc::new(Taken { at: now, observed });
        if let Ok(Reading { gate, retry_after, .. }) = taken.reading() {
            self.commercial = gate.commercial.as_ref().ok().copied().or(self.commercial);
            self.not_before = self.not_before.max(now.mono + retry_after.unwrap_or_default());
        }
        if taken.reading().is_ok_and(|reading| reading.known().is_ok()) {
            self.last_good = Some(Rc::clone(&taken));
        }
        self.last = Some(Rc::clone(&taken));
        self.is_wanted = false;
        (taken, now.mono.saturating_sub(self.running_since), std::mem::take(&mut self.engine_waits))
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<&Taken> {
        self.last.as_deref()
    }

    pub(super) fn commercial(&self) -> Option<Commercial> {
        self.commercial
    }

    /// What a preview is made of: the last reading, but for a pause that Pulse asked for, which must not hide what is
    /// known.
    pub(super) fn source(&self, now: Now) -> Option<Source<'_>> {
        let last = self.last.as_deref()?;
        let asked_for_a_pause = matches!(last.reading(), Ok(Reading { retry_after: Some(_), .. }));
        let pause = Some(self.pause(now)).filter(|pause| asked_for_a_pause && !pause.is_zero());
        match &self.last_good {
            Some(good) if pause.is_some() && good.at.mono < last.at.mono => Some(Source { taken: good, pause }),
            _ => Some(Source { taken: last, pause }),
        }
    }

    /// How long the next one has to wait.
    pub(super) fn pause(&self, now: Now) -> Duration {
        self.not_before.saturating_sub(now.mono)
    }
}

impl Waiting {
    /// Answers somebody for whom there is no room.
    pub(super) fn turn_away(self, enabled: bool, commercial: Option<Commercial>) {
        let no = || NoPreview { enabled, because: SuppressedReport::busy(), retry_after: PAUSE };
        // Whoever has gone away no longer needs the answer.
        match self {
            Self::Preview(answer) => drop(answer.send(Err(no()))),
            Self::Reset(answer) => drop(answer.send(ResetAnswer::Done(Err(no())))),
            Self::Posture(answer) => drop(answer.send(Err(no()))),
            // What is not known is off.
            Self::Commercial(answer) => drop(answer.send(commercial)),
        }
    }

    fn has_gone(&self) -> bool {
        match self {
            Self::Preview(answer) => answer.is_closed(),
            Self::Reset(answer) => answer.is_closed(),
            Self::Posture(answer) => answer.is_closed(),
            Self::Commercial(answer) => answer.is_closed(),
        }
    }
}
