//! The daemon over a disk that takes its time, or says something else the next moment: what goes on beside that.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use pulse_telemetry::daemon::{self, CancelForgetAnswer, ForgetCommandAnswer, Gone, Handle, Parts, SwitchAnswer};
use pulse_telemetry::metrics::Metrics;
use pulse_telemetry::pulse::{PlatformSetting, PulseClient, PulseSettings, Tokens};
use pulse_telemetry::store::{Disk, HistoryPage, ReadSentIds, Store, leave_off};
use pulse_telemetry_core::consent::{OffSource, Sources};
use pulse_telemetry_core::engine::{DiskAction, Engine, Schedule, Start};
use pulse_telemetry_endpoint::{ProxyVariables, SendSettings, Sender};
use pulse_telemetry_http::tls::Trust;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_process::rng::SystemRng;
use pulse_telemetry_process::runtime;
use pulse_telemetry_process::supervisor::Supervisor;
use pulse_telemetry_testkit::endpoint::PING_PATH;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::receiver::{FORGET_PATH, Receiver, entries};
use pulse_telemetry_testkit::server::ResponsePlan;
use pulse_telemetry_testkit::sidecar::{LIMIT, comes_true};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// What a network disk may do.
#[derive(Clone, Default)]
struct Whims {
    /// The whole history can be read.
    readable: Arc<(Mutex<bool>, Condvar)>,
    /// The next look finds the switch's file, and no other does.
    glimpse: Arc<AtomicBool>,
}

impl Whims {
    fn let_it_be_read(&self) {
        *self.readable.0.lock().unwrap() = true;
        self.readable.1.notify_all();
    }
}

struct WhimsicalDisk {
    store: Store,
    whims: Whims,
}

impl Disk for WhimsicalDisk {
    fn is_switched_off(&self) -> io::Result<bool> {
        if self.whims.glimpse.swap(false, Ordering::Relaxed) { Ok(true) } else { self.store.is_switched_off() }
    }

    fn carry_out(&mut self, action: &DiskAction, now: Timestamp) -> io::Result<()> {
        self.store.carry_out(action, now)
    }

    fn confirm(&mut self) -> io::Result<()> {
        self.store.confirm()
    }

    fn take_notices(&mut self) -> Vec<String> {
        self.store.take_notices()
    }

    fn read_sent_ids(&self) -> ReadSentIds {
        let (read, readable) = (self.store.read_sent_ids(), Arc::clone(&self.whims.readable));
        Box::new(move || {
            let waiting = readable.0.lock().unwrap_or_else(PoisonError::into_inner);
            drop(readable.1.wait_timeout_while(waiting, LIMIT, |readable| !*readable));
            read()
        })
    }

    fn erase_history(&mut self, now: Timestamp) -> io::Result<()> {
        self.store.erase_history(now)
    }

    fn ledger_bytes(&self) -> u64 {
        self.store.ledger_bytes()
    }

    fn last_delivery(&self) -> Option<Timestamp> {
        self.store.last_delivery()
    }

    fn history(&self, before: Option<u64>, limit: usize) -> io::Result<HistoryPage> {
        self.store.history(before, limit)
    }
}

/// A daemon in a thread of its own, with all that it asks. It sends a startup ping at once.
struct Running {
    handle: Handle,
    whims: Whims,
    receiver: Receiver,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    dir: TempDir,
    _pulse: SimulatedPulse,
}

impl Running {
    fn start(receiver: Receiver, is_off: bool) -> Self {
        let pulse = SimulatedPulse::start(PulseModel::default());
        let (dir, whims) = (TempDir::new().unwrap(), Whims::default());
        if is_off {
            leave_off(dir.path()).unwrap();
        }
        let (store, found) = Store::open(dir.path()).unwrap();
        let settings = PulseSettings {
            url: pulse.url().parse().unwrap(),
            tokens: Tokens::One(TOKEN.into()),
            trust: Trust::default(),
            timeout: LIMIT,
            platform: PlatformSetting::Auto,
        };
        let endpoint = receiver.url();
        let sends = SendSettings {
            endpoint: endpoint.parse().unwrap(),
            proxy: ProxyVariables::default(),
            trust: Trust::default(),
        };
        let parts = Parts {
            store: WhimsicalDisk { store, whims: whims.clone() },
            pulse: PulseClient::new(settings).unwrap(),
            sender: Sender::new(&sends).unwrap(),
            receipt_keys: None,
            clock: SystemClock,
            endpoint,
            state_dir: dir.path().display().to_string(),
            notices: Vec::new(),
            metrics: Metrics::default(),
            supervisor: Supervisor::nobody(),
            confinement: None,
        };
        let day = Duration::from_secs(24 * 3600);
        let schedule = Schedule { startup_delay: Duration::ZERO, interval: day, jitter: Duration::ZERO };
        let start = Start {
            sources: Sources { switched_off: found.switched_off, ..Sources::default() },
            identity: found.identity,
            state: found.state,
            ..Start::default()
        };
        let engine = Engine::start(schedule, start, SystemRng, pulse_telemetry_core::clock::Clock::now(&SystemClock));
        let (handle, commands) = Handle::new(8);
        let (stop, stopping) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let stopped = async {
                let _ = stopping.await;
            };
            runtime::run(daemon::run(parts, engine, commands, stopped)).unwrap();
        });
        Self { handle, whims, receiver, stop: Some(stop), thread: Some(thread), dir, _pulse: pulse }
    }

    /// The ID of the ping that was delivered.
    fn delivered(&self) -> String {
        let ping = self.receiver.wait_for(PING_PATH, 1, LIMIT).pop().unwrap();
        assert!(comes_true(|| self.recorded("sent") == 1), "the ping is delivered");
        ping.json()["install_id"].as_str().unwrap().to_owned()
    }

    fn recorded(&self, kind: &str) -> usize {
        let ledger = std::fs::read_to_string(self.dir.path().join("ledger.jsonl")).unwrap();
        entries(&ledger, &[kind]).len()
    }

    fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.whims.let_it_be_read();
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()), "the daemon panicked");
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    runtime::run(async { tokio::time::timeout(LIMIT, future).await.unwrap() }).unwrap()
}

const IS_OFF: Result<SwitchAnswer, Gone> = Ok(SwitchAnswer::Done { off: Some(OffSource::Switch), persisted: true });

#[test]
fn an_off_that_one_look_saw_during_an_attempt_holds_although_the_next_look_sees_none() {
    let receiver = Receiver::start();
    receiver.answer(PING_PATH, ResponsePlan::Hang);
    let running = Running::start(receiver, false);
    running.receiver.wait_for(PING_PATH, 1, LIMIT);
    running.whims.glimpse.store(true, Ordering::Relaxed);
    // What wakes the loop has it look at the attempt, and so for the switch.
    let status = block_on(running.handle.glance()).unwrap();
    assert_eq!((status.enabled, status.pending, running.recorded("failed")), (false, None, 1), "{}", status.summary);
    assert!(running.dir.path().join("off").exists());
    let on = block_on(running.handle.switch(true));
    assert_eq!(on, Ok(SwitchAnswer::Done { off: None, persisted: true }));
    assert!(block_on(running.handle.glance()).unwrap().next.is_some(), "and a ping is due again");
}

#[test]
fn while_the_history_is_being_read_for_a_deletion_off_and_status_are_answered_and_what_would_change_it_waits() {
    let running = Running::start(Receiver::start(), false);
    let (id, handle) = (running.delivered(), &running.handle);
    let meanwhile = async {
        assert_eq!(handle.switch(false).await, IS_OFF);
        assert!(!handle.status().await.unwrap().enabled);
        assert_eq!(running.recorded("attempted"), 1, "nothing is erased before its ID is known");
        running.whims.let_it_be_read();
    };
    let (asked, erased, ()) = block_on(async { tokio::join!(handle.forget(), handle.erase_history(), meanwhile) });
    assert_eq!((asked, erased), (Ok(ForgetCommandAnswer::Asked { pending: 1 }), Ok(true)));
    running.receiver.wait_for(FORGET_PATH, 1, LIMIT);
    assert_eq!(running.receiver.forgotten_ids(), [id]);
}

#[test]
fn an_id_that_is_first_sent_and_gone_again_while_the_history_is_being_read_is_deleted_too() {
    let running = Running::start(Receiver::start(), true);
    let handle = &running.handle;
    let id = block_on(async {
        let meanwhile = async {
            handle.switch(true).await.unwrap();
            let id = running.delivered();
            assert_eq!(handle.switch(false).await, IS_OFF);
            running.whims.let_it_be_read();
            id
        };
        let (asked, id) = tokio::join!(handle.forget(), meanwhile);
        assert_eq!(asked, Ok(ForgetCommandAnswer::Asked { pending: 1 }));
        id
    });
    running.receiver.wait_for(FORGET_PATH, 1, LIMIT);
    assert_eq!(running.receiver.forgotten_ids(), [id]);
}

#[test]
fn a_cancel_while_the_history_is_being_read_ends_the_asking_and_nothing_is_deleted() {
    let running = Running::start(Receiver::start(), false);
    running.delivered();
    let handle = &running.handle;
    let (first, second, cancelled) =
        block_on(async { tokio::join!(handle.forget(), handle.forget(), handle.cancel_forget()) });
    assert_eq!([first, second], [Ok(ForgetCommandAnswer::Cancelled); 2]);
    assert_eq!(cancelled, Ok(CancelForgetAnswer { cancelled: 0, persisted: true }));
    // What waits behind the reading comes after it.
    let meanwhile = async { running.whims.let_it_be_read() };
    let (reset, ()) = block_on(async { tokio::join!(handle.reset(), meanwhile) });
    assert!(reset.is_ok());
    assert_eq!((block_on(handle.glance()).unwrap().forget.pending, running.recorded("forget_asked")), (0, 0));
}

#[test]
fn a_stop_does_not_wait_for_a_history_that_is_being_read() {
    let mut running = Running::start(Receiver::start(), false);
    running.delivered();
    let (handle, stop) = (running.handle.clone(), running.stop.take().unwrap());
    let stops = async {
        // Answered after the question before it arrived.
        handle.glance().await.unwrap();
        drop(stop);
    };
    let (asked, ()) = block_on(async { tokio::join!(handle.forget(), stops) });
    assert_eq!(asked, Err(Gone));
    assert!(comes_true(|| running.is_over()), "the daemon ends although its disk hangs");
    assert!(!*running.whims.readable.0.lock().unwrap());
    assert_eq!(running.recorded("stopped"), 1);
}
