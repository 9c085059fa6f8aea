//! Local-only commercial events: recorded here as Pulse records them, and never sent.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod off;
mod recording;
mod routes;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use pulse_telemetry::events::{EventRefusal, EventsReport, Recorder, Switch, SwitchOutcome};
use pulse_telemetry::store::EventFile;
use pulse_telemetry_core::clock::{Clock, Now};
use pulse_telemetry_core::observation::Commercial;
use serde_json::{Value, json};
use tempfile::TempDir;

const ON: Option<Commercial> =
    Some(Commercial { disable_local_upgrade_metrics: false, reduce_pro_upsell_noise: false });
const EVENTS: &str = "/api/upgrade-metrics/events";
const CONFIG: &str = "/api/upgrade-metrics/config";

/// A clock that a test turns.
#[derive(Clone)]
struct TestClock(Arc<Mutex<Now>>);

impl TestClock {
    fn new() -> Self {
        let wall: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        Self(Arc::new(Mutex::new(Now { wall, mono: Duration::from_secs(100) })))
    }

    fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = Now { wall: now.wall + by, mono: now.mono + by };
    }

    fn set(&self, wall: &str) {
        self.0.lock().unwrap().wall = wall.parse().unwrap();
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        *self.0.lock().unwrap()
    }
}

/// A recorder over a directory of its own.
struct Rig {
    dir: TempDir,
    clock: TestClock,
    recorder: Arc<Recorder>,
    notice: Option<String>,
}

impl Rig {
    fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap(), TestClock::new())
    }

    fn over(dir: TempDir, clock: TestClock) -> Self {
        let (recorder, notice) = Recorder::open(EventFile::new(dir.path()), None, Box::new(clock.clone())).unwrap();
        Self { dir, clock, recorder: Arc::new(recorder), notice }
    }

    fn restart(self) -> Self {
        Self::over(self.dir, self.clock)
    }

    /// Hands it over; a second later where too many came before it.
    fn record(&self, event: &Value) -> Result<(), EventRefusal> {
        let body = event.to_string();
        let recorded = run(self.recorder.record(body.as_bytes(), ON));
        if recorded != Err(EventRefusal::TooMany) {
            return recorded;
        }
        self.clock.advance(Duration::from_secs(1));
        run(self.recorder.record(body.as_bytes(), ON))
    }

    fn turn(&self, wanted: Switch) -> SwitchOutcome {
        run(self.recorder.set_switch(wanted))
    }

    fn report(&self) -> EventsReport {
        self.recorder.report(ON)
    }

    fn keys(&self) -> Vec<String> {
        self.report().events.into_iter().rev().map(|kept| kept.event.idempotency_key).collect()
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("events.jsonl")
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn event(key: &str) -> Value {
    json!({"type": "pricing_viewed", "surface": "settings", "timestamp": 1_795_427_342_072_i64, "idempotency_key": key})
}

fn with(mut event: Value, key: &str, value: Value) -> Value {
    event[key] = value;
    event
}
