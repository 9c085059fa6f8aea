//! The thin loop around the engine: feeds it, carries out what it asks for, and answers the local server.

mod handle;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info, warn};

use crate::chance::Chance;
use crate::clock::Clock;
use crate::confine::Confinement;
use crate::consent::{OffSource, Sources};
use crate::engine::{Action, Engine, Input, Suppression};
use crate::metrics::Metrics;
use crate::ping::{self, Event};
use crate::posture::Posture;
use crate::pulse::{Look, PulseClient};
use crate::send::Sender;
use crate::snapshot::{Commercial, ReadError, Reading};
use crate::status::{StatusReport, SuppressedReport, Surroundings, reading_warnings};
use crate::store::Disk;
use crate::supervisor::Supervisor;
use crate::verdict::{Answer, Verdict};

pub use handle::{Command, Gone, Handle, NoPreview, PostureSeen, Preview, ResetAnswer, SwitchAnswer};

/// Pulse is read no more often than this, whoever asks.
const READING_PAUSE: Duration = Duration::from_secs(10);
/// For how long the status goes by what somebody saw of Pulse, when the engine did not look itself. Longer than the
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

type Whole<T> = Pin<Box<dyn Future<Output = T>>>;
type Read = Result<Reading, ReadError>;

/// Runs until `stop` is ready.
pub async fn run<D: Disk, K: Clock, C: Chance>(
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
        pulse: Arc::new(parts.pulse),
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
        reading: None,
        reading_since: now.mono,
        commercial: None,
        engine_waits: false,
        waiting: Vec::new(),
        last_reading: None,
        last_posture: None,
        no_reading_before: now.mono,
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
    if daemon.engine.status(now).next_due.is_some() && daemon.wake > now.mono + READING_PAUSE {
        daemon.waiting.push(Waiting::Status);
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
            read = finished(&mut daemon.reading) => daemon.on_reading(read),
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
async fn finished<T>(future: &mut Option<Whole<T>>) -> T {
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
async fn answered(sending: &mut Option<Whole<Answer>>, store: &impl Disk) -> Option<Answer> {
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
    pulse: Arc<PulseClient>,
    sender: Arc<Sender>,
    clock: K,
    endpoint: String,
    state_dir: String,
    notices: Vec<String>,
    metrics: Metrics,
    confinement: Option<Confinement>,
    /// When the engine wants to be told that time passed, on the monotonic clock.
    wake: Duration,
    reading: Option<Whole<Result<Look, ReadError>>>,
    reading_since: Duration,
    /// What Pulse's settings last said of its commercial side.
    commercial: Option<Commercial>,
    engine_waits: bool,
    waiting: Vec<Waiting>,
    last_reading: Option<(Duration, Rc<Read>)>,
    /// What the last reading told beside it, which the engine is never given.
    last_posture: Option<Posture>,
    no_reading_before: Duration,
    sending: Option<Whole<Answer>>,
    storage_works: bool,
    /// Why not, as of the last try that failed.
    storage_error: Option<String>,
    endpoint_works: bool,
    /// What was logged last of the state that lasts.
    logged: Option<(Option<OffSource>, Option<&'static str>)>,
}

/// Who waits for a reading, the engine apart.
enum Waiting {
    Preview(oneshot::Sender<Result<Preview, NoPreview>>),
    Reset(oneshot::Sender<ResetAnswer>),
    Posture(oneshot::Sender<Result<PostureSeen, SuppressedReport>>),
    Commercial(oneshot::Sender<Option<Commercial>>),
    /// Nobody yet: so that the status tells from the start what stands in the way.
    Status,
}

impl Waiting {
    fn has_gone(&self) -> bool {
        match self {
            Self::Preview(answer) => answer.is_closed(),
            Self::Reset(answer) => answer.is_closed(),
            Self::Posture(answer) => answer.is_closed(),
            Self::Commercial(answer) => answer.is_closed(),
            Self::Status => false,
        }
    }
}

impl<D: Disk, K: Clock, C: Chance> Daemon<D, K, C> {
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
        let touched = actions.iter().any(Action::is_for_the_disk);
        for action in actions {
            match action {
                Action::CancelSend => self.sending = None,
                Action::ReadPulse => self.engine_waits = true,
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
                Action::Record(entry) if !stored && entry.kind.says_done() => {}
                // An on that is refused must not be found by the next start.
                Action::SaveSwitch { off: false } if !stored => {}
                action => {
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
        let wants_reading = self.reading.is_none() && (self.engine_waits || !self.waiting.is_empty());
        let next = if wants_reading { self.wake.min(self.no_reading_before) } else { self.wake };
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
            Verdict::Delivered => ("delivered", true),
            Verdict::Retry { reason, .. } | Verdict::Drop { reason } => (reason, false),
        };
        let status = answer.status();
        let detail = answer.detail();
        match (delivered, self.endpoint_works) {
            (true, _) => info!(status, "ping delivered"),
            // An outage is told when it begins; its retries are in the ledger.
            (false, true) => warn!(reason, status, detail, "the endpoint did not take the ping"),
            (false, false) => debug!(reason, status, detail, "the endpoint did not take the ping"),
        }
        self.endpoint_works = delivered;
        self.feed(Input::Answer(answer));
    }

    fn on_reading(&mut self, look: Result<Look, ReadError>) {
        let now = self.clock.now();
        let (read, posture) = match look {
            Ok(Look { reading, posture }) => (Ok(reading), Some(posture)),
            Err(error) => (Err(error), None),
        };
        self.last_posture = posture;
        self.metrics.read(&read, now.mono.saturating_sub(self.reading_since));
        if let Ok(Reading { state, .. }) = &read {
            self.commercial = state.commercial.as_ref().ok().copied().or(self.commercial);
        }
        // From its end on: one that took longer than the pause is to answer those who waited for it, too.
        self.no_reading_before = now.mono + READING_PAUSE;
        if let Ok(Reading { retry_after: Some(pause), .. }) = &read {
            self.no_reading_before = self.no_reading_before.max(now.mono + *pause);
        }
        let read = Rc::new(read);
        self.last_reading = Some((now.mono, Rc::clone(&read)));
        self.look_at_the_switch();
        if std::mem::take(&mut self.engine_waits) {
            self.feed(Input::Reading(Box::new((*read).clone())));
        } else if let Ok(Reading { state, .. }) = &*read
            && let Ok(own_sender) = state.own_sender
        {
            self.feed(Input::OwnSender(own_sender));
        }
    }

    /// Answers whom the last reading can answer, and starts another one for the rest.
    fn serve_readings(&mut self) {
        let now = self.clock.now().mono;
        if self.reading.is_some() {
            return;
        }
        if now < self.no_reading_before
            && let Some((taken, read)) = &self.last_reading
        {
            let (age, read) = (now.saturating_sub(*taken), Rc::clone(read));
            for waiting in std::mem::take(&mut self.waiting) {
                // Whoever has gone away no longer needs the answer.
                match waiting {
                    Waiting::Preview(answer) => drop(answer.send(self.preview(&read, age))),
                    Waiting::Reset(answer) => drop(answer.send(ResetAnswer::Done(self.preview(&read, age)))),
                    Waiting::Posture(answer) => drop(answer.send(self.posture(&read, age))),
                    Waiting::Commercial(answer) => drop(answer.send(self.commercial)),
                    Waiting::Status => {}
                }
            }
        }
        if now >= self.no_reading_before && (self.engine_waits || !self.waiting.is_empty()) {
            self.reading_since = now;
            let pulse = Arc::clone(&self.pulse);
            self.reading = Some(Box::pin(async move { pulse.look().await }));
        }
    }

    fn preview(&self, read: &Read, age: Duration) -> Result<Preview, NoPreview> {
        let enabled = self.engine.sources().off().is_none();
        let id = self.engine.preview_id(self.clock.now());
        let bytes = read.as_ref().ok().and_then(|reading| ping::encode(reading, &id, Event::Heartbeat));
        match (bytes, Suppression::by_what_is_unknown(read)) {
            (Some(bytes), None) => Ok(Preview { enabled, bytes, age }),
            (_, because) => {
                let because = because.unwrap_or(Suppression::Incomplete(Vec::new()));
                Err(NoPreview { enabled, because: SuppressedReport::new(&because) })
            }
        }
    }

    fn posture(&self, read: &Read, age: Duration) -> Result<PostureSeen, SuppressedReport> {
        let seen = self.last_posture.clone().map(|posture| PostureSeen { posture, age });
        seen.ok_or_else(|| {
            let because = Suppression::by_what_is_unknown(read).unwrap_or(Suppression::Incomplete(Vec::new()));
            SuppressedReport::new(&because)
        })
    }

    fn on_command(&mut self, command: Command) {
        self.look_at_the_switch();
        // A Pulse that hangs must not let those pile up who asked and went away.
        self.waiting.retain(|waiting| !waiting.has_gone());
        match command {
            // Whoever has gone away no longer needs the answer.
            Command::Status(answer) => {
                self.look_at_the_storage();
                drop(answer.send(self.report()));
            }
            Command::Preview(answer) => self.waiting.push(Waiting::Preview(answer)),
            Command::Posture(answer) => self.waiting.push(Waiting::Posture(answer)),
            Command::Reset(answer) => {
                if self.feed(Input::Reset) {
                    self.waiting.push(Waiting::Reset(answer));
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
            Command::Commercial(answer) if self.commercial.is_some() => drop(answer.send(self.commercial)),
            Command::Commercial(answer) => self.waiting.push(Waiting::Commercial(answer)),
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

    fn report(&self) -> StatusReport {
        let mut warnings = self.notices.clone();
        warnings.extend(self.storage_error.iter().filter(|_| !self.storage_works).cloned());
        let mut status = self.engine.status(self.clock.now());
        // Somebody may have looked at Pulse since the engine did.
        let now = self.clock.now().mono;
        let fresh = self.last_reading.as_ref().filter(|(taken, _)| now.saturating_sub(*taken) < SEEN_FOR);
        let seen = fresh.map(|(_, read)| {
            warnings.extend(reading_warnings(read));
            Suppression::by_reading(read, self.engine.sources().insists())
        });
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
            warnings: &warnings,
        };
        StatusReport::new(&status, &surroundings)
    }

    /// A state that lasts is logged when it changes.
    fn log_changes(&mut self) {
        let status = self.engine.status(self.clock.now());
        let state = (status.off, status.suppressed.map(Suppression::word));
        if self.logged == Some(state) {
            return;
        }
        self.logged = Some(state);
        match state {
            (Some(source), _) => info!(off_by = source.word(), "telemetry is off"),
            (None, Some(reason)) => {
                self.metrics.suppressed(reason);
                warn!(reason, "telemetry is on, but nothing is sent now");
            }
            (None, None) => info!("telemetry is on"),
        }
        if let Some(due) = status.next_due {
            debug!(%due, "next look");
        }
    }
}
