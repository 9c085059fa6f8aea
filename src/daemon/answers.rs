//! What the daemon tells those who ask: commands of the local server, and what a reading answers.

use std::time::Duration;

use jiff::Timestamp;
use pulse_telemetry_core::clock::{Clock, Now};
use pulse_telemetry_core::consent::{OffSource, Sources};
use pulse_telemetry_core::engine::{Input, Suppression};
use pulse_telemetry_core::observation::Commercial;
use pulse_telemetry_core::ping::{self, Event};
use pulse_telemetry_core::rng::Rng;
use tokio::sync::oneshot;
use tracing::warn;

use super::{Command, Daemon, NoPreview, PostureSeen, Preview, ResetAnswer, Snapshot, SwitchAnswer};
use crate::readings::{PAUSE, PreviewSource};
use crate::status::{StatusContext, StatusReport, SuppressedReport, paused, reading_warnings};
use crate::store::Disk;

/// For how long the metrics go by what somebody saw of Pulse, when the engine did not look itself. Longer than the
/// startup delay, so that a first start tells what stands in the way until the engine knows.
const SEEN_FOR: Duration = Duration::from_secs(5 * 60);

/// Who waits for a reading, the engine apart.
pub(super) enum Waiting {
    Preview(oneshot::Sender<Result<Preview, NoPreview>>),
    Reset(oneshot::Sender<ResetAnswer>),
    Posture(oneshot::Sender<Result<PostureSeen, NoPreview>>),
    Commercial(oneshot::Sender<Option<Commercial>>),
}

impl<D: Disk, K: Clock, C: Rng> Daemon<D, K, C> {
    /// Answers those whom the last reading can answer.
    pub(super) fn answer_waiting(&mut self) {
        let now = self.clock.now();
        for waiting in self.readings.take_answerable(now) {
            let Some(source) = self.readings.preview_source(now) else { continue };
            // A caller that has gone away needs no answer.
            match waiting {
                Waiting::Preview(answer) => drop(answer.send(self.preview(source, now))),
                Waiting::Reset(answer) => drop(answer.send(ResetAnswer::Done(self.preview(source, now)))),
                Waiting::Posture(answer) => drop(answer.send(self.posture(source, now))),
                Waiting::Commercial(answer) => drop(answer.send(self.readings.commercial())),
            }
        }
    }

    fn preview(&self, PreviewSource { completed, pause }: PreviewSource<'_>, now: Now) -> Result<Preview, NoPreview> {
        let payload = completed.reading().map_err(Suppression::from).and_then(Suppression::known_payload);
        let payload = payload.map_err(|because| self.no_preview(&because, pause, now))?;
        Ok(Preview {
            enabled: self.is_enabled(),
            bytes: ping::encode(payload, &self.engine.preview_id(now), Event::Heartbeat).into(),
            age: completed.age(now),
            paused_until: pause.map(|pause| later(now, pause)),
        })
    }

    fn posture(
        &self,
        PreviewSource { completed, pause }: PreviewSource<'_>,
        now: Now,
    ) -> Result<PostureSeen, NoPreview> {
        match &completed.observed {
            Ok(observed) => Ok(PostureSeen { posture: observed.posture.clone(), age: completed.age(now) }),
            Err(error) => Err(self.no_preview(&error.into(), pause, now)),
        }
    }

    fn no_preview(&self, because: &Suppression, pause: Option<Duration>, now: Now) -> NoPreview {
        let mut because = SuppressedReport::new(because);
        if let Some(pause) = pause {
            because.message = format!("{} {}", because.message, paused(later(now, pause)));
        }
        NoPreview { enabled: self.is_enabled(), because, retry_after: self.readings.pause(now) }
    }

    /// Consent alone.
    fn is_enabled(&self) -> bool {
        self.engine.sources().off().is_none()
    }

    /// All that is known, at once.
    fn known(&mut self) -> Snapshot {
        let now = self.clock.now();
        // While telemetry is off, too: the preview is shown all the same.
        self.readings.want_if_stale(now);
        let status = self.report(true);
        let source = self.readings.preview_source(now);
        Snapshot {
            status,
            preview: source.map(|source| self.preview(source, now)),
            posture: source.map(|source| self.posture(source, now)),
            commercial: self.readings.commercial(),
        }
    }

    /// Puts somebody among those who wait for a reading, where there is room.
    fn wait(&mut self, waiting: Waiting) {
        if let Err(waiting) = self.readings.wait(waiting, self.clock.now(), Waiting::has_gone) {
            waiting.turn_away(self.is_enabled(), self.readings.commercial());
        }
    }

    pub(super) fn on_command(&mut self, command: Command) {
        self.look_at_the_switch();
        let Some(command) = self.unless_it_waits(command) else { return };
        match command {
            // A caller that has gone away needs no answer.
            Command::Status { is_looked_at, answer } => {
                self.look_at_the_storage();
                drop(answer.send(self.report(is_looked_at)));
            }
            Command::Snapshot(answer) => {
                self.look_at_the_storage();
                drop(answer.send(self.known()));
            }
            Command::Preview(answer) => self.wait(Waiting::Preview(answer)),
            Command::Posture(answer) => self.wait(Waiting::Posture(answer)),
            Command::Reset(answer) => {
                if self.feed(Input::Reset) {
                    self.wait(Waiting::Reset(answer));
                } else {
                    drop(answer.send(ResetAnswer::NotPersisted));
                }
            }
            Command::Forget(answer) => self.ask_to_forget(answer),
            Command::CancelForget(answer) => {
                let _ = answer.send(self.cancel_forget());
            }
            Command::Switch { on, answer } => drop(answer.send(self.switch(on))),
            Command::History { before, limit, answer } => {
                self.storage_look_at = Duration::ZERO;
                self.look_at_the_storage();
                let page = self.store.history(before, limit);
                let page = page.inspect_err(|error| warn!(%error, "failed to read the history"));
                drop(answer.send(page.ok()));
            }
            Command::Commercial(answer) => match self.readings.commercial() {
                Some(known) => drop(answer.send(Some(known))),
                None => self.wait(Waiting::Commercial(answer)),
            },
            Command::EraseHistory(answer) => drop(answer.send(self.erase_history())),
        }
    }

    fn switch(&mut self, on: bool) -> SwitchAnswer {
        let beyond_the_switch = Sources { switched_off: false, off_in_pulse: false, ..self.engine.sources() };
        if let (true, Some(source)) = (on, beyond_the_switch.off()) {
            return SwitchAnswer::Locked(source);
        }
        let persisted = self.feed(Input::Switch { off: !on });
        if on && !persisted {
            self.feed(Input::Switch { off: true });
            return SwitchAnswer::NotPersisted;
        }
        SwitchAnswer::Done { off: self.engine.sources().off(), persisted }
    }

    /// How things stand, as of the last reading. Where somebody looks at it and that reading is old, another one
    /// begins; a scraper asks nothing of Pulse.
    fn report(&mut self, is_looked_at: bool) -> StatusReport {
        let now = self.clock.now();
        if is_looked_at && matches!(self.engine.sources().off(), None | Some(OffSource::Pulse)) {
            self.readings.want_if_stale(now);
        }
        let mut warnings = self.notices.clone();
        warnings.extend(self.storage_error.iter().filter(|_| !self.storage_works).cloned());
        let mut status = self.engine.status(now);
        // Somebody may have looked at Pulse since the engine did.
        let last = self.readings.last();
        let seen_for = if is_looked_at { Duration::MAX } else { SEEN_FOR };
        let seen = last.filter(|last| last.age(now) < seen_for).map(|last| {
            warnings.extend(reading_warnings(last.reading()));
            Suppression::sendable_payload(last.reading(), self.engine.sources().is_forced_on()).err()
        });
        if let Some(PreviewSource { pause: Some(pause), .. }) = self.readings.preview_source(now) {
            warnings.push(paused(later(now, pause)));
        }
        if let Some(seen) = &seen
            && !status.suppressed.is_some_and(Suppression::is_of_this_machine)
        {
            status.suppressed = seen.as_ref();
        }
        status.suppressed = status.suppressed.filter(|_| status.off.is_none());
        let context = StatusContext {
            running: true,
            endpoint: &self.endpoint,
            expects_receipts: self.receipt_keys.is_some(),
            state_dir: &self.state_dir,
            confinement: self.confinement.as_ref(),
            as_of: last.map(|last| last.at.wall),
            is_being_read: self.readings.is_under_way(now),
            warnings: &warnings,
        };
        StatusReport::new(&status, &context)
    }
}

impl Waiting {
    /// Answers somebody for whom there is no room.
    fn turn_away(self, enabled: bool, commercial: Option<Commercial>) {
        let no = || NoPreview { enabled, because: SuppressedReport::busy(), retry_after: PAUSE };
        // A caller that has gone away needs no answer.
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

/// The wall time `by` after now.
fn later(now: Now, by: Duration) -> Timestamp {
    now.wall.saturating_add(by).unwrap_or(Timestamp::MAX)
}
