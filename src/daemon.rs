//! The thin loop around the engine: feeds it, carries out what it asks for, and answers the local server.

mod handle;
mod readings;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use jiff::Timestamp;
use pulse_telemetry_core::clock::{Clock, Now};
use pulse_telemetry_core::consent::{OffSource, Sources};
use pulse_telemetry_core::engine::{Action, DiskAction, Engine, Input, Suppression};
use pulse_telemetry_core::observation::{ReadError, Reading};
use pulse_telemetry_core::ping::{self, Event};
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_core::rng::Rng;
use pulse_telemetry_core::verdict::{Answer, Verdict};
use pulse_telemetry_endpoint::Sender;
use pulse_telemetry_process::supervisor::Supervisor;
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use crate::confine::Confinement;
use crate::metrics::Metrics;
use crate::pulse::{Observation, PulseClient};
use crate::status::{StatusReport, SuppressedReport, Surroundings, paused, reading_warnings};
use crate::store::Disk;
pub use handle::{Command, Gone, Handle, NoPreview, PostureSeen, Preview, ResetAnswer, Snapshot, SwitchAnswer};
pub use readings::READERS_MAX;
use readings::{Readings, Source, Waiting};

/// For how long the metrics go by what somebody saw of Pulse, when the engine did not look itself. Longer than the
/// startup delay, so that a first start tells what stands in the way until the engine knows.
const SEEN_FOR: Duration = Duration::from_secs(5 * 60);

/// What the daemon is made of.
pub struct Parts<D, K> {
    /// The state directory.
    pub store: D,
    /// The way to Pulse.
    pub pulse: PulseClient,
    /// The way to the endpoint.
    pub sender: Sender,
    /// The time.
    pub clock: K,
    /// The endpoint, as it is shown.
    pub endpoint: String,
    /// The state directory, as it is shown.
    pub state_dir: String,
    /// What was found at the start that somebody should know.
    pub notices: Vec<String>,
    /// Where pings, readings and suppressions are counted.
    pub metrics: Metrics,
    /// Who is told that the daemon is ready, and that its loop goes round.
    pub supervisor: Supervisor,
    /// What the kernel holds this process to; none for a daemon within another program, such as a test.
    pub confinement: Option<Confinement>,
}

/// Something under way that gives this at its end.
type Gives<T> = Pin<Box<dyn Future<Output = T>>>;

/// Runs until `stop` is ready.
pub async fn run<D: Disk, K: Clock, C: Rng>(
    parts: Parts<D, K>,
    (engine, first): (Engine<C>, Vec<Action>),
    mut commands: mpsc::Receiver<Command>,
    stop: impl Future<Output = ()>,
) {
    for notice in &parts.notices {
        warn!("{notice}");
    }
    let now = parts.clock.now();
    let mut supervisor = parts.supervisor;
    let mut daemon = Daemon {
        readings: Readings::new(parts.pulse, now),
        sender: Arc::new(parts.sender),
        store: parts.store,
        clock: parts.clock,
        endpoint: parts.endpoint,
        state_dir: parts.state_dir,
        notices: parts.notices,
        metrics: parts.metrics,
        confinement: parts.confinement,
        engine,
        wake: now.mono,
        sending: None,
        storage_works: true,
        storage_error: None,
        endpoint_works: true,
        logged: None,
    };
    if let Some(at) = daemon.store.last_delivery() {
        daemon.metrics.delivered(at);
    }
    daemon.carry_out(first);
    daemon.log_changes();
    if daemon.engine.status(now).next_due.is_some() && daemon.wake > now.mono + readings::PAUSE {
        // So that the status tells from the start what stands in the way.
        daemon.readings.want();
    }
    supervisor.ready();
    let mut stop = std::pin::pin!(stop);
    loop {
        daemon.serve_readings();
        let pause = daemon.pause();
        tokio::select! {
            // In a fixed order, so that a simulation can be replayed. Only commands could keep others waiting.
            biased;
            () = &mut stop => break,
            read = daemon.readings.finished() => daemon.on_reading(read),
            answer = answered(&mut daemon.sending, &daemon.store) => match answer {
                Some(answer) => daemon.on_answer(answer),
                None => daemon.look_at_the_switch(),
            },
            () = tokio::time::sleep(pause) => daemon.on_time(),
            () = supervisor.beat() => {}
            Some(command) = commands.recv() => daemon.on_command(command),
        }
    }
    supervisor.stopping();
    daemon.feed(Input::Stop);
}

/// The output of the future, once; never where there is none.
async fn finished<T>(future: &mut Option<Gives<T>>) -> T {
    match future {
        Some(running) => {
            let output = running.await;
            *future = None;
            output
        }
        None => std::future::pending().await,
    }
}

/// The answer to the attempt; `None` where the switch's file is there, for which the attempt stops where it is. A process
/// that was stopped for a while may find it at any step, and begins no lookup and no connection after it.
async fn answered(sending: &mut Option<Gives<Answer>>, store: &impl Disk) -> Option<Answer> {
    let Some(running) = sending else { return std::future::pending().await };
    let answer = std::future::poll_fn(|cx| {
        if store.is_switched_off() { Poll::Ready(None) } else { running.as_mut().poll(cx).map(Some) }
    });
    let answer = answer.await;
    *sending = None;
    answer
}

struct Daemon<D, K, C> {
    engine: Engine<C>,
    store: D,
    readings: Readings,
    sender: Arc<Sender>,
    clock: K,
    endpoint: String,
    state_dir: String,
    notices: Vec<String>,
    metrics: Metrics,
    confinement: Option<Confinement>,
    /// When the engine wants to be told that time passed, on the monotonic clock.
    wake: Duration,
    sending: Option<Gives<Answer>>,
    storage_works: bool,
    /// Why not, as of the last try that failed.
    storage_error: Option<String>,
    endpoint_works: bool,
    /// What was logged last of the state that lasts.
    logged: Option<(Option<OffSource>, Option<LedgerReason>)>,
}

impl<D: Disk, K: Clock, C: Rng> Daemon<D, K, C> {
    fn feed(&mut self, input: Input) -> bool {
        let actions = self.engine.handle(self.clock.now(), input);
        let done = self.carry_out(actions);
        self.log_changes();
        done
    }

    /// Carries out the actions in their order, and says whether all that belongs on the disk got there.
    fn carry_out(&mut self, actions: Vec<Action>) -> bool {
        let (stored, send_left_out) = self.try_all(actions);
        if !stored {
            let actions = self.engine.handle(self.clock.now(), Input::StorageFailed { send_left_out });
            // What fails of these is what has failed already.
            let _ = self.try_all(actions);
        }
        stored
    }

    fn try_all(&mut self, actions: Vec<Action>) -> (bool, bool) {
        let mut stored = true;
        let mut send_left_out = false;
        let mut failure = None;
        let touched = actions.iter().any(|action| matches!(action, Action::Disk(_)));
        for action in actions {
            match action {
                Action::CancelSend => self.sending = None,
                Action::ReadPulse => self.readings.ask_for_the_engine(),
                Action::WakeAt(mono) => self.wake = mono,
                Action::Send(_) if !stored => send_left_out = true,
                Action::Send(body) => {
                    if let Err(error) = self.store.confirm() {
                        (stored, send_left_out) = (false, true);
                        failure.get_or_insert(error);
                        continue;
                    }
                    let sender = Arc::clone(&self.sender);
                    self.sending = Some(Box::pin(async move { sender.attempt(body).await }));
                }
                Action::Disk(DiskAction::Record(entry)) if !stored && entry.kind.claims_prior_writes() => {}
                // An on that is refused must not be found by the next start.
                Action::Disk(DiskAction::SaveSwitch { off: false }) if !stored => {}
                Action::Disk(action) => {
                    if let Err(error) = self.store.carry_out(&action, self.clock.now().wall) {
                        stored = false;
                        failure.get_or_insert(error);
                    }
                }
            }
        }
        if touched && let Err(error) = self.store.confirm() {
            stored = false;
            failure.get_or_insert(error);
        }
        for notice in self.store.take_notices() {
            warn!("{notice}");
            self.notices.push(notice);
        }
        match failure {
            Some(error) => {
                if self.storage_works {
                    error!(%error, state_dir = self.state_dir, "failed to write the state directory; nothing is sent");
                }
                self.storage_error = Some(error.to_string());
            }
            None if !self.storage_works && touched => info!("the state directory can be written again"),
            None => {}
        }
        self.storage_works = stored && (touched || self.storage_works);
        self.metrics.ledger(self.store.ledger_bytes());
        (stored, send_left_out)
    }

    /// How long nothing has to be done.
    fn pause(&self) -> Duration {
        let next = self.readings.next_at().map_or(self.wake, |reading| reading.min(self.wake));
        next.saturating_sub(self.clock.now().mono)
    }

    /// What was written may be gone although nothing had to be written since.
    fn look_at_the_storage(&mut self) {
        if self.engine.status(self.clock.now()).unsaved {
            return;
        }
        if let Err(error) = self.store.confirm() {
            error!(%error, state_dir = self.state_dir, "the state directory lost what was written; nothing is sent");
            self.storage_works = false;
            self.storage_error = Some(error.to_string());
            self.feed(Input::StorageFailed { send_left_out: false });
        }
    }

    /// A command that did not get through to here may have left the switch's file.
    fn look_at_the_switch(&mut self) {
        if self.store.is_switched_off() && !self.engine.sources().switched_off {
            self.feed(Input::Switch { off: true });
        }
    }

    fn on_time(&mut self) {
        self.look_at_the_switch();
        if self.clock.now().mono >= self.wake {
            self.feed(Input::Tick);
        }
    }

    fn on_answer(&mut self, answer: Answer) {
        let now = self.clock.now().wall;
        let verdict = answer.verdict(now);
        self.metrics.answered(&verdict, now);
        let (reason, delivered) = match verdict {
            Verdict::Delivered => (LedgerReason::Delivered.word(), true),
            Verdict::Retry { reason, .. } | Verdict::Drop { reason } => (reason.word(), false),
        };
        let status = answer.status();
        let detail = answer.detail();
        let detail = detail.as_deref();
        match (delivered, self.endpoint_works) {
            (true, _) => info!(status, "ping delivered"),
            // An outage is told when it begins; its retries are in the ledger.
            (false, true) => warn!(reason, status, detail, "the endpoint did not take the ping"),
            (false, false) => debug!(reason, status, detail, "the endpoint did not take the ping"),
        }
        self.endpoint_works = delivered;
        self.feed(Input::Answer(answer));
    }

    fn on_reading(&mut self, observed: Result<Observation, ReadError>) {
        let (taken, took, engine_waited) = self.readings.keep(observed, self.clock.now());
        self.metrics.read(taken.reading(), took);
        self.look_at_the_switch();
        if engine_waited {
            self.feed(Input::Reading(Box::new(taken.reading().cloned().map_err(Clone::clone))));
        } else if let Ok(Reading { gate, .. }) = taken.reading()
            && let Ok(own_sender) = gate.own_sender
        {
            self.feed(Input::OwnSender(own_sender));
        }
    }

    /// Answers whom the last reading can answer, and begins another one for the rest.
    fn serve_readings(&mut self) {
        let now = self.clock.now();
        for waiting in self.readings.answerable(now) {
            let Some(source) = self.readings.source(now) else { continue };
            // Whoever has gone away no longer needs the answer.
            match waiting {
                Waiting::Preview(answer) => drop(answer.send(self.preview(&source, now))),
                Waiting::Reset(answer) => drop(answer.send(ResetAnswer::Done(self.preview(&source, now)))),
                Waiting::Posture(answer) => drop(answer.send(self.posture(&source, now))),
                Waiting::Commercial(answer) => drop(answer.send(self.readings.commercial())),
            }
        }
        self.readings.begin(now);
    }

    fn preview(&self, Source { taken, pause }: &Source<'_>, now: Now) -> Result<Preview, NoPreview> {
        let payload = taken.reading().map_err(Suppression::from).and_then(Suppression::known_payload);
        let payload = payload.map_err(|because| self.no_preview(&because, *pause, now))?;
        Ok(Preview {
            enabled: self.is_enabled(),
            bytes: ping::encode(payload, &self.engine.preview_id(now), Event::Heartbeat).into(),
            age: now.mono.saturating_sub(taken.at.mono),
            paused_until: pause.map(|pause| later(now, pause)),
        })
    }

    fn posture(&self, Source { taken, pause }: &Source<'_>, now: Now) -> Result<PostureSeen, NoPreview> {
        let age = now.mono.saturating_sub(taken.at.mono);
        match &taken.observed {
            Ok(observed) => Ok(PostureSeen { posture: observed.posture.clone(), age }),
            Err(error) => Err(self.no_preview(&error.into(), *pause, now)),
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
        self.readings.want_where_old(now);
        let status = self.report(true);
        let source = self.readings.source(now);
        Snapshot {
            status,
            preview: source.as_ref().map(|source| self.preview(source, now)),
            posture: source.as_ref().map(|source| self.posture(source, now)),
            commercial: self.readings.commercial(),
        }
    }

    /// Puts somebody among those who wait for a reading, where there is room.
    fn wait(&mut self, waiting: Waiting) {
        if let Err(waiting) = self.readings.wait(waiting, self.clock.now()) {
            waiting.turn_away(self.is_enabled(), self.readings.commercial());
        }
    }

    fn on_command(&mut self, command: Command) {
        self.look_at_the_switch();
        match command {
            // Whoever has gone away no longer needs the answer.
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
            Command::Switch { on, answer } => drop(answer.send(self.switch(on))),
            Command::History { before, limit, answer } => {
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

    fn erase_history(&mut self) -> bool {
        match self.store.erase_history(self.clock.now().wall) {
            Ok(()) => {
                self.metrics.ledger(self.store.ledger_bytes());
                info!("the history was erased");
            }
            Err(error) => {
                error!(%error, state_dir = self.state_dir, "failed to erase the history");
                return false;
            }
        }
        true
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

    /// How things stand, as of the last reading. Where somebody looks at it and that reading is old, another one begins;
    /// whoever only scrapes asks nothing of Pulse.
    fn report(&mut self, is_looked_at: bool) -> StatusReport {
        let now = self.clock.now();
        if is_looked_at && matches!(self.engine.sources().off(), None | Some(OffSource::Pulse)) {
            self.readings.want_where_old(now);
        }
        let mut warnings = self.notices.clone();
        warnings.extend(self.storage_error.iter().filter(|_| !self.storage_works).cloned());
        let mut status = self.engine.status(now);
        // Somebody may have looked at Pulse since the engine did.
        let last = self.readings.last();
        let seen_for = if is_looked_at { Duration::MAX } else { SEEN_FOR };
        let seen = last.filter(|last| now.mono.saturating_sub(last.at.mono) < seen_for).map(|last| {
            warnings.extend(reading_warnings(last.reading()));
            Suppression::sendable_payload(last.reading(), self.engine.sources().is_forced_on()).err()
        });
        if let Some(Source { pause: Some(pause), .. }) = self.readings.source(now) {
            warnings.push(paused(later(now, pause)));
        }
        if let Some(seen) = &seen
            && !status.suppressed.is_some_and(Suppression::is_of_this_machine)
        {
            status.suppressed = seen.as_ref();
        }
        status.suppressed = status.suppressed.filter(|_| status.off.is_none());
        let surroundings = Surroundings {
            running: true,
            endpoint: &self.endpoint,
            state_dir: &self.state_dir,
            confinement: self.confinement.as_ref(),
            as_of: last.map(|last| last.at.wall),
            is_being_read: self.readings.is_under_way(now),
            warnings: &warnings,
        };
        StatusReport::new(&status, &surroundings)
    }

    /// A state that lasts is logged when it changes.
    fn log_changes(&mut self) {
        let status = self.engine.status(self.clock.now());
        let state = (status.off, status.suppressed.map(Suppression::reason));
        if self.logged == Some(state) {
            return;
        }
        self.logged = Some(state);
        match state {
            (Some(source), _) => info!(off_by = source.reason().word(), "telemetry is off"),
            (None, Some(reason)) => {
                self.metrics.suppressed(reason);
                warn!(reason = reason.word(), "telemetry is on, but nothing is sent now");
            }
            (None, None) => info!("telemetry is on"),
        }
        if let Some(due) = status.next_due {
            debug!(%due, "next look");
        }
    }
}

/// The time that is so much later.
fn later(now: Now, by: Duration) -> Timestamp {
    now.wall.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::store::{Store, leave_off};

    #[tokio::test(start_paused = true)]
    async fn an_attempt_beside_which_the_switch_is_turned_off_begins_no_lookup_and_no_connection_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path()).unwrap();
        let steps = Rc::new(Cell::new(0));
        let taken = Rc::clone(&steps);
        let attempt = std::future::poll_fn(move |_| {
            taken.set(taken.get() + 1);
            Poll::<Answer>::Pending
        });
        let mut sending: Option<Gives<Answer>> = Some(Box::pin(attempt));
        let a_moment = Duration::from_secs(1);
        assert!(tokio::time::timeout(a_moment, answered(&mut sending, &store)).await.is_err());
        let before = steps.get();
        assert!(before > 0, "on, it goes on");
        leave_off(dir.path()).unwrap();
        assert_eq!(tokio::time::timeout(a_moment, answered(&mut sending, &store)).await, Ok(None));
        assert_eq!((steps.get(), sending.is_none()), (before, true));
    }
}
