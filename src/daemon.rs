//! The thin loop around the engine: feeds it, carries out what it asks for, and answers the local server.

mod answers;
mod disk;
mod forgetting;
mod handle;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use pulse_telemetry_core::clock::Clock;
use pulse_telemetry_core::consent::OffSource;
use pulse_telemetry_core::engine::{Action, Engine, Input, KeptReceipt, Suppression};
use pulse_telemetry_core::identity::InstallId;
use pulse_telemetry_core::observation::{ReadError, Reading};
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_core::receipt::ReceiptKeys;
use pulse_telemetry_core::rng::Rng;
use pulse_telemetry_core::verdict::{Answer, Verdict};
use pulse_telemetry_endpoint::{DeletionAnswer, Sender};
use pulse_telemetry_process::supervisor::Supervisor;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::confine::Confinement;
use crate::metrics::Metrics;
use crate::pulse::{Observation, PulseClient};
use crate::readings::{self, ReadingEnd, Readings};
use crate::store::Disk;
use answers::Waiting;
use forgetting::Asking;
pub use handle::{
    CancelForgetAnswer, Command, ForgetCommandAnswer, Gone, Handle, NoPreview, PostureSeen, Preview, ResetAnswer,
    Snapshot, SwitchAnswer,
};

/// What the daemon is made of.
pub struct Parts<D, K> {
    /// The state directory.
    pub store: D,
    /// The way to Pulse.
    pub pulse: PulseClient,
    /// The way to the endpoint.
    pub sender: Sender,
    /// What the endpoint's receipts are verified with.
    pub receipt_keys: Option<ReceiptKeys>,
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
        readings: Readings::new(now),
        pulse: Arc::new(parts.pulse),
        reading: None,
        sender: Arc::new(parts.sender),
        receipt_keys: Arc::new(parts.receipt_keys),
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
        reading_ids: None,
        asking: Asking::default(),
        forgetting: None,
        deletion_trouble: None,
        storage_works: true,
        storage_look_at: now.mono,
        storage_error: None,
        endpoint_works: true,
        logged: None,
    };
    daemon.begin(first);
    supervisor.ready();
    let mut stop = std::pin::pin!(stop);
    loop {
        daemon.answer_waiting();
        daemon.start_reading();
        let pause = daemon.pause();
        tokio::select! {
            // In a fixed order, so that a simulation can be replayed. Only commands could keep others waiting.
            biased;
            () = &mut stop => break,
            read = finished(&mut daemon.reading) => daemon.on_reading(read),
            end = ended(&mut daemon.sending, &daemon.store, &daemon.clock) => match end {
                AttemptEnd::Answer(answer) => daemon.on_answer(answer),
                AttemptEnd::SwitchedOff => daemon.turn_off(),
            },
            ids = finished(&mut daemon.reading_ids) => daemon.on_sent_ids(ids),
            deletion = finished(&mut daemon.forgetting) => daemon.on_deletion(deletion),
            () = tokio::time::sleep(pause) => daemon.on_time(),
            () = supervisor.beat() => {}
            Some(command) = commands.recv() => daemon.on_command(command),
        }
    }
    supervisor.stopping();
    // What was lost while nobody looked is written anew, an off above all.
    daemon.look_at_the_storage();
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

/// An attempt to send a ping.
struct Sending {
    answer: Gives<AnsweredAttempt>,
    /// When it has to be over, on the monotonic clock. The attempt's own limit stands still while the machine sleeps.
    ends: Duration,
}

type AnsweredAttempt = (Answer, KeptReceipt);

/// How an attempt ends.
#[derive(Debug, PartialEq)]
enum AttemptEnd {
    Answer(AnsweredAttempt),
    /// The switch's file is there: the caller turns telemetry off.
    SwitchedOff,
}

/// The end of the attempt, which stops where it is unless telemetry is certainly on and its time not over. A process
/// that was stopped for a while may find either at any step, and begins no lookup and no connection after it.
async fn ended(sending: &mut Option<Sending>, store: &impl Disk, clock: &impl Clock) -> AttemptEnd {
    let Some(Sending { answer, ends }) = sending else { return std::future::pending().await };
    let stopped = |why| Poll::Ready(AttemptEnd::Answer((why, KeptReceipt::NONE)));
    let end = std::future::poll_fn(|cx| match store.is_switched_off() {
        Ok(true) => Poll::Ready(AttemptEnd::SwitchedOff),
        // Nobody knows whether it still may go. It is tried again later.
        Err(_) => stopped(Answer::CutShort),
        Ok(false) if clock.now().mono > *ends => stopped(Answer::TimedOut),
        Ok(false) => answer.as_mut().poll(cx).map(AttemptEnd::Answer),
    });
    let end = end.await;
    *sending = None;
    end
}

struct Daemon<D, K, C> {
    engine: Engine<C>,
    store: D,
    readings: Readings<Waiting>,
    pulse: Arc<PulseClient>,
    reading: Option<Gives<Result<Observation, ReadError>>>,
    sender: Arc<Sender>,
    receipt_keys: Arc<Option<ReceiptKeys>>,
    clock: K,
    endpoint: String,
    state_dir: String,
    notices: Vec<String>,
    metrics: Metrics,
    confinement: Option<Confinement>,
    /// When the engine wants to be told that time passed, on the monotonic clock.
    wake: Duration,
    sending: Option<Sending>,
    /// The IDs that were sent are being read from the history, because somebody asked for deletions.
    reading_ids: Option<Gives<io::Result<Vec<InstallId>>>>,
    asking: Asking,
    forgetting: Option<Gives<(InstallId, DeletionAnswer)>>,
    /// What kept the last deletion from being made.
    deletion_trouble: Option<&'static str>,
    storage_works: bool,
    /// When the files may be looked at again for a caller, on the monotonic clock.
    storage_look_at: Duration,
    /// Why not, as of the last try that failed.
    storage_error: Option<String>,
    endpoint_works: bool,
    /// What was logged last of the state that lasts.
    logged: Option<(Option<OffSource>, Option<LedgerReason>)>,
}

impl<D: Disk, K: Clock, C: Rng> Daemon<D, K, C> {
    fn begin(&mut self, first: Vec<Action>) {
        if let Some(at) = self.store.last_delivery() {
            self.metrics.delivered(at);
        }
        self.carry_out(first);
        self.log_changes();
        let now = self.clock.now();
        if self.engine.status(now).next_due.is_some() && self.wake > now.mono + readings::PAUSE {
            // So that the status tells from the start what stands in the way.
            self.readings.want();
        }
    }

    fn feed(&mut self, input: Input) -> bool {
        let actions = self.engine.handle(self.clock.now(), input);
        let done = self.carry_out(actions);
        self.log_changes();
        done
    }

    /// How long nothing has to be done.
    fn pause(&self) -> Duration {
        let next = self.readings.starts_at().map_or(self.wake, |reading| reading.min(self.wake));
        next.saturating_sub(self.clock.now().mono)
    }

    /// A command that did not get through to here may have left the switch's file. Where it cannot be looked at, the
    /// storage cannot either, and nothing is sent.
    fn look_at_the_switch(&mut self) {
        if self.store.is_switched_off().is_ok_and(|off| off && !self.engine.sources().switched_off) {
            self.turn_off();
        }
    }

    /// The switch's file was seen. It is not looked for again: it may be gone by now, and what was stopped for it would
    /// be waited for.
    fn turn_off(&mut self) {
        self.feed(Input::Switch { off: true });
    }

    fn on_time(&mut self) {
        self.look_at_the_switch();
        self.look_at_the_storage();
        if self.clock.now().mono >= self.wake {
            self.feed(Input::Tick);
        }
    }

    fn on_answer(&mut self, (answer, receipt): AnsweredAttempt) {
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
        if delivered {
            self.note_receipt(receipt.standing);
        }
        self.feed(Input::Answer(answer, receipt));
    }

    /// Reads Pulse where somebody asks for it and it may be read.
    fn start_reading(&mut self) {
        if self.readings.start(self.clock.now()) {
            let pulse = Arc::clone(&self.pulse);
            self.reading = Some(Box::pin(async move { pulse.observe().await }));
        }
    }

    fn on_reading(&mut self, observed: Result<Observation, ReadError>) {
        let ReadingEnd { completed, took, is_for_engine } = self.readings.end(observed, self.clock.now());
        let reading = completed.reading();
        self.metrics.read(reading, took);
        self.look_at_the_switch();
        if is_for_engine {
            self.feed(Input::Reading(Box::new(reading.cloned().map_err(Clone::clone))));
        } else if let Ok(Reading { gate, .. }) = reading
            && let Ok(own_sender) = gate.own_sender
        {
            self.feed(Input::OwnSender(own_sender));
        }
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use pulse_telemetry_core::clock::Now;
    use pulse_telemetry_process::clock::SystemClock;

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
            Poll::Pending
        });
        let mut sending = Some(Sending { answer: Box::pin(attempt), ends: at(10).0.mono });
        let a_moment = Duration::from_secs(1);
        assert!(tokio::time::timeout(a_moment, ended(&mut sending, &store, &at(10))).await.is_err());
        let before = steps.get();
        assert!(before > 0, "on, it goes on");
        leave_off(dir.path()).unwrap();
        let end = tokio::time::timeout(a_moment, ended(&mut sending, &store, &at(10))).await;
        assert_eq!(end, Ok(AttemptEnd::SwitchedOff));
        assert_eq!((steps.get(), sending.is_none()), (before, true));
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_a_sleep_of_the_machine_cut_in_two_or_whose_switch_cannot_be_looked_at_goes_no_further() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("state");
        let (store, _) = Store::open(&dir).unwrap();
        let attempt = || {
            let answer = std::future::poll_fn(|_| panic!("it goes on"));
            Some(Sending { answer: Box::pin(answer), ends: at(10).0.mono })
        };
        let end = ended(&mut attempt(), &store, &at(11)).await;
        assert_eq!(end, AttemptEnd::Answer((Answer::TimedOut, KeptReceipt::NONE)));
        std::fs::rename(&dir, parent.path().join("away")).unwrap();
        // Where a file stands in the directory's place, not even root can look.
        std::fs::write(&dir, "").unwrap();
        let end = ended(&mut attempt(), &store, &at(0)).await;
        assert_eq!(end, AttemptEnd::Answer((Answer::CutShort, KeptReceipt::NONE)));
    }

    /// A clock that stands still.
    struct At(Now);

    impl Clock for At {
        fn now(&self) -> Now {
            self.0
        }
    }

    fn at(seconds: u64) -> At {
        At(Now { mono: Duration::from_secs(seconds), ..SystemClock.now() })
    }
}
