//! Local-only commercial events: recorded here as Pulse records them, and never sent.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use pulse_telemetry::events::{EventRefusal, EventsReport, Off, Recorder, Switch, TYPES, Turned};
use pulse_telemetry::store::EventFile;
use pulse_telemetry_core::clock::{Clock, Now};
use pulse_telemetry_core::observation::Commercial;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::alone::program_or_skip;
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup, exists};
use serde_json::{Value, json};
use tempfile::TempDir;

const ON: Option<Commercial> =
    Some(Commercial { disable_local_upgrade_metrics: false, reduce_pro_upsell_noise: false });
const EVENTS: &str = "/api/upgrade-metrics/events";
const CONFIG: &str = "/api/upgrade-metrics/config";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

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

    fn turn(&self, wanted: Switch) -> Turned {
        run(self.recorder.turn(wanted))
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

// What is recorded.

#[test]
fn an_event_is_recorded_once_whatever_is_repeated_and_after_a_restart_too() {
    let rig = Rig::new();
    for key in ["a", "b", "a", "a"] {
        rig.record(&event(key)).unwrap();
    }
    assert_eq!(rig.keys(), ["a", "b"]);
    assert_eq!(rig.recorder.health().events_total, 4, "repetitions are counted there, as in Pulse");
    let rig = rig.restart();
    rig.record(&event("b")).unwrap();
    assert_eq!(rig.keys(), ["a", "b"]);
    assert_eq!(rig.recorder.stats().total_events, 2);
    let kept = &rig.report().events[0];
    assert_eq!(serde_json::to_value(&kept.event).unwrap(), event("b"), "as it was handed over");
}

#[test]
fn an_event_is_kept_for_90_days_and_gone_from_the_disk_then() {
    let rig = Rig::new();
    rig.record(&event("old")).unwrap();
    rig.clock.advance(DAY);
    rig.record(&event("young")).unwrap();
    rig.clock.advance(DAY * 89 - Duration::from_secs(1));
    assert_eq!(rig.keys(), ["old", "young"]);
    rig.clock.advance(Duration::from_secs(1));
    assert_eq!(rig.keys(), ["young"], "it is no longer shown");
    let rig = rig.restart();
    let file = std::fs::read_to_string(rig.file()).unwrap();
    assert!(!file.contains("\"old\"") && file.contains("\"young\""), "{file}");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_goes_from_the_disk_by_itself() {
    let rig = Rig::new();
    rig.recorder.record(event("old").to_string().as_bytes(), ON).await.unwrap();
    rig.clock.advance(DAY * 90);
    let hours = tokio::time::timeout(DAY * 2, pulse_telemetry::events::keep_young(&rig.recorder));
    assert!(hours.await.is_err(), "it goes on for ever");
    assert!(!std::fs::read_to_string(rig.file()).unwrap().contains("old"));
}

#[test]
fn a_clock_that_is_wrong_for_a_time_removes_nothing_in_1970_and_keeps_nothing_for_ever() {
    let rig = Rig::new();
    rig.record(&event("a")).unwrap();
    rig.clock.set("1970-01-01T00:01:00Z");
    let rig = rig.restart();
    assert_eq!(rig.keys(), ["a"]);
    rig.clock.set("2036-11-23T12:00:00Z");
    rig.record(&event("future")).unwrap();
    rig.clock.set("2026-11-24T12:00:00Z");
    let rig = rig.restart();
    rig.clock.set("2027-02-22T12:00:01Z");
    assert_eq!(rig.keys(), Vec::<String>::new());
}

#[test]
fn a_clock_ten_years_ahead_takes_one_day_of_events_with_it_and_the_others_are_back_when_it_is_set() {
    let rig = Rig::new();
    for key in ["a", "b", "c"] {
        rig.record(&event(key)).unwrap();
        rig.clock.advance(DAY);
    }
    rig.clock.set("2036-11-23T12:00:00Z");
    let rig = rig.restart();
    assert_eq!(rig.keys(), Vec::<String>::new());
    rig.record(&event("d")).unwrap();
    rig.clock.set("2026-11-27T12:00:00Z");
    assert_eq!(rig.keys(), ["b", "c", "d"]);
}

#[test]
fn the_file_is_bounded_and_the_oldest_events_go_first() {
    let rig = Rig::new();
    let text = "\"".repeat(128);
    for number in 0..510 {
        let key = format!("{}{number:03}", "\\".repeat(253));
        let event = json!({
            "type": "infrastructure_onboarding_credentials_opened", "surface": text, "capability": text,
            "limit_key": text, "tenant_mode": "single", "current_value": i64::MIN, "limit_value": i64::MAX,
            "timestamp": i64::MAX, "idempotency_key": key,
        });
        rig.record(&event).unwrap();
    }
    let keys = rig.keys();
    assert_eq!(keys.len(), 500);
    assert!(keys[0].ends_with("010") && keys[499].ends_with("509"));
    assert!(std::fs::metadata(rig.file()).unwrap().len() < 1 << 20);
    assert!(serde_json::to_vec(&rig.report()).unwrap().len() < 1 << 20, "the command reads it");
}

#[test]
fn more_than_ten_events_within_a_second_are_too_many_and_then_they_are_taken_again() {
    let rig = Rig::new();
    let record = |key: String| run(rig.recorder.record(event(&key).to_string().as_bytes(), ON));
    for round in 0..3 {
        for number in 0..10 {
            assert_eq!(record(format!("{round}-{number}")), Ok(()));
            rig.clock.advance(Duration::from_millis(50));
        }
        // The first of the ten came half a second ago.
        for repeated in [false, true] {
            let key = if repeated { format!("{round}-0") } else { "one too many".to_owned() };
            assert_eq!(record(key), Err(EventRefusal::TooMany));
        }
        rig.clock.advance(Duration::from_millis(499));
        assert_eq!(record("too early".to_owned()), Err(EventRefusal::TooMany));
        rig.clock.advance(Duration::from_millis(1));
        assert_eq!(record(format!("{round}-next")), Ok(()), "one place is free again");
        rig.clock.advance(Duration::from_secs(1));
    }
    assert_eq!((rig.keys().len(), rig.recorder.health().events_total), (33, 33));
    // What is not kept costs nothing, and what is wrong is told as it is.
    assert_eq!(rig.turn(Switch { enabled: false, ..Switch::default() }), Turned::Done);
    assert!((0..30).all(|number| record(number.to_string()) == Ok(())));
    assert!((0..30).all(|_| matches!(run(rig.recorder.record(b"{}", ON)), Err(EventRefusal::Invalid(_)))));
}

#[tokio::test]
async fn whoever_waits_is_served_by_the_writes_under_way_and_an_off_that_came_first_keeps_nothing() {
    let rig = Rig::new();
    let keys: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    let bodies: Vec<String> = keys.iter().map(|key| event(key).to_string()).collect();
    let mut recorded = tokio::task::JoinSet::new();
    for body in bodies {
        let recorder = Arc::clone(&rig.recorder);
        recorded.spawn(async move { recorder.record(body.as_bytes(), ON).await });
    }
    while let Some(recorded) = recorded.join_next().await {
        assert_eq!(recorded.unwrap(), Ok(()));
    }
    assert_eq!(rig.keys(), keys, "in the order in which they came");
    let file = std::fs::read_to_string(rig.file()).unwrap();
    assert_eq!(file.matches("pricing_viewed").count(), 10);
    rig.clock.advance(Duration::from_secs(2));
    // Off, an event that was taken while that was being written, and an erasure.
    let late = event("late").to_string();
    let off = rig.recorder.turn(Switch { enabled: false, ..Switch::default() });
    let (off, late, erased) = tokio::join!(off, rig.recorder.record(late.as_bytes(), ON), rig.recorder.erase());
    assert_eq!((off, late, erased.is_ok()), (Turned::Done, Ok(()), true));
    assert_eq!(rig.keys(), Vec::<String>::new());
    assert!(!std::fs::read_to_string(rig.file()).unwrap().contains("pricing_viewed"));
}

#[test]
fn a_write_of_events_that_takes_its_time_holds_up_nobody_else() {
    let test = "a_write_of_events_that_takes_its_time_holds_up_nobody_else";
    if !program_or_skip("strace", &["--version"], test) {
        return;
    }
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    // The ledger is written by fdatasync, and the events by fsync.
    let slow = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "inject=fsync:delay_enter=1500000"];
    let setup =
        Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN).with("PULSE_TELEMETRY_TELEMETRY__ENABLED", "false");
    let sidecar = setup.through(&slow.map(str::to_owned)).start();
    assert_eq!(sidecar.get("/api/v1/preview").status, 200, "Pulse was read, so that events are kept");
    let body = event("a").to_string();
    let answered = std::thread::scope(|scope| {
        let recording = scope.spawn(|| sidecar.ask("POST", EVENTS, &body).unwrap().status);
        let mut answered = 0;
        while !recording.is_finished() {
            assert_eq!(sidecar.get("/api/v1/status").status, 200);
            answered += 1;
        }
        assert_eq!(recording.join().unwrap(), 202);
        answered
    });
    assert!(answered > 5, "{answered} answers while the event was written");
    assert_eq!(sidecar.get("/api/v1/events").json()["events"].as_array().unwrap().len(), 1);
}

#[test]
fn an_event_whose_sender_is_gone_is_on_the_disk_when_a_stop_has_ended() {
    let test = "an_event_whose_sender_is_gone_is_on_the_disk_when_a_stop_has_ended";
    if !program_or_skip("strace", &["--version"], test) {
        return;
    }
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let base =
        Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN).with("PULSE_TELEMETRY_TELEMETRY__ENABLED", "false");
    let new = base.state("events.jsonl.new");
    let slow = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-P", new.to_str().unwrap()];
    let slow = slow.into_iter().chain(["-e", "inject=rename,renameat,renameat2:delay_enter=600000"]);
    let sidecar = base.clone().through(&slow.map(str::to_owned).collect::<Vec<_>>()).start();
    assert_eq!(sidecar.get("/api/v1/preview").status, 200, "Pulse was read, so that events are kept");
    let mut gone = std::net::TcpStream::connect(sidecar.address()).unwrap();
    let body = event("a").to_string();
    let head = format!("Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
    std::io::Write::write_all(&mut gone, format!("POST {EVENTS} HTTP/1.1\r\n{head}\r\n\r\n{body}").as_bytes()).unwrap();
    while !exists(&new) {
        std::thread::yield_now();
    }
    drop(gone);
    sidecar.stop();
    assert!(std::fs::read_to_string(base.state("events.jsonl")).unwrap().contains(r#""a""#));
}

#[test]
fn each_text_is_bounded_and_none_controls_a_terminal() {
    let rig = Rig::new();
    for (field, most) in [("surface", 128), ("capability", 128), ("limit_key", 128), ("idempotency_key", 256)] {
        let text = |length: usize| json!(format!("{length:x<length$}"));
        rig.record(&with(event(field), field, text(most))).unwrap();
        for text in [
            text(most + 1),
            json!("a\u{1b}[2J"),
            json!("a\nb"),
            json!("a\u{202e}b"),
            json!("a\u{200b}b"),
            json!("a\u{2028}b"),
        ] {
            let refused = rig.record(&with(event("x"), field, text)).unwrap_err();
            assert!(refused.to_string().starts_with(field), "{refused}");
        }
    }
    let refused = rig.record(&with(event("x"), "type", json!("x".repeat(2000)))).unwrap_err();
    assert_eq!(refused.to_string(), "type is not supported");
    let surfaces: Vec<String> = (0..33).map(|number| number.to_string()).collect();
    let body = json!({"enabled": true, "disabled_surfaces": surfaces}).to_string();
    assert!(Switch::parse(body.as_bytes()).is_err());
}

#[test]
fn an_event_of_before_that_could_rewrite_a_line_is_shown_without_what_does_it() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN);
    std::fs::create_dir(setup.path("state")).unwrap();
    let hostile = ["\u{202e}", "\u{2066}", "\u{200f}", "\u{1b}[2K", "\u{feff}", "\u{e0041}"];
    let kept = with(event("one"), "surface", json!(format!("set{}tings", hostile.concat())));
    let kept = with(kept, "at", json!(SystemClock.now().wall.to_string()));
    let file = format!("{}\n{kept}\n", json!({"version": 1, "enabled": true, "disabled_surfaces": ["a\u{202e}b"]}));
    std::fs::write(setup.state("events.jsonl"), file).unwrap();
    let shown = String::from_utf8(setup.run(&["events"]).stdout).unwrap();
    assert!(shown.contains("pricing_viewed") && shown.contains("tings") && shown.contains("a\u{fffd}b"), "{shown}");
    assert!(!hostile.iter().any(|text| shown.contains(text)), "{shown:?}");
}

#[test]
fn damaged_lines_are_put_aside_the_others_stay_and_nothing_is_turned_on() {
    let rig = Rig::new();
    for key in ["a", "b", "c"] {
        rig.record(&event(key)).unwrap();
    }
    assert_eq!(rig.turn(Switch { enabled: false, ..Switch::default() }), Turned::Done);
    let whole = std::fs::read_to_string(rig.file()).unwrap();
    let torn = whole.replace(r#""idempotency_key":"b""#, r#""idempotency_k"#);
    std::fs::write(rig.file(), &torn).unwrap();
    let rig = rig.restart();
    assert_eq!(rig.keys(), ["a", "c"]);
    assert_eq!(rig.report().off_by.as_deref(), Some("switch"));
    let notice = rig.notice.as_ref().unwrap();
    assert!(notice.contains("events.jsonl.damaged-1"), "{notice}");
    assert_eq!(std::fs::read_to_string(rig.dir.path().join("events.jsonl.damaged-1")).unwrap(), torn);

    // A switch that cannot be read is off, whatever it was.
    assert_eq!(rig.turn(Switch::default()), Turned::Done);
    for damage in ["", "\0\0\0\0", "{\"version\":2,\"enabled\":true,\"disabled_surfaces\":[]}\n", "[]\n"] {
        let file = rig.file();
        std::fs::write(&file, damage).unwrap();
        let other = Rig::over(tempfile::tempdir().unwrap(), TestClock::new());
        std::fs::copy(&file, other.file()).unwrap();
        let other = other.restart();
        assert!(!other.report().enabled && other.notice.is_some(), "{damage:?}");
        let other = other.restart();
        assert!(!other.report().enabled && other.notice.is_none(), "and stays so: {damage:?}");
    }
    let erased = rig.restart();
    run(erased.recorder.erase()).unwrap();
    let left: Vec<_> = std::fs::read_dir(erased.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["events.jsonl"], "what was put aside is erased too");
    assert!(!std::fs::read_to_string(erased.file()).unwrap().contains("pricing_viewed"));
}

#[test]
fn an_event_that_cannot_be_written_is_taken_all_the_same_and_off_holds_in_memory() {
    let rig = Rig::new();
    std::fs::create_dir(rig.dir.path().join("events.jsonl.new")).unwrap();
    rig.record(&event("a")).unwrap();
    let report = rig.report();
    assert!(report.events.is_empty() && !report.writable);
    assert_eq!(rig.turn(Switch { enabled: false, ..Switch::default() }), Turned::NotPersisted);
    assert!(!rig.report().enabled);
    assert_eq!(rig.turn(Switch::default()), Turned::NotPersisted);
    assert!(!rig.report().enabled, "on is not done by halves");
}

#[test]
fn health_is_what_pulse_calls_it() {
    let rig = Rig::new();
    let health = |rig: &Rig| {
        let health = rig.recorder.health();
        (health.status, health.last_event_age_seconds)
    };
    assert_eq!(health(&rig), ("healthy", 0.0));
    rig.clock.advance(Duration::from_secs(301));
    assert_eq!(health(&rig), ("stale", 301.0));
    rig.record(&event("a")).unwrap();
    rig.clock.advance(Duration::from_secs(10));
    assert_eq!(health(&rig), ("degraded", 10.0));
    rig.record(&with(event("b"), "type", json!("trial_started"))).unwrap();
    assert_eq!(health(&rig).0, "degraded");
    rig.record(&with(event("c"), "type", json!("upgrade_clicked"))).unwrap();
    assert_eq!(health(&rig), ("healthy", 0.0));
}

// Off.

#[test]
fn every_off_wins_and_names_its_source() {
    let words = ["true", "1", "TRUE", " yes ", "on", "nonsense", "2"];
    assert!(words.iter().all(|word| Off::fixed(Some(word), true) == Some(Off::Environment)));
    let words = ["false", "0", "", " ", "no", "Off", "disabled"];
    assert!(words.iter().all(|word| Off::fixed(Some(word), true).is_none()));
    assert_eq!(Off::fixed(None, false), Some(Off::Config));
    let dir = tempfile::tempdir().unwrap();
    let off_in_pulse = Some(Commercial { disable_local_upgrade_metrics: true, reduce_pro_upsell_noise: false });
    for (fixed, switch, in_pulse, word) in [
        (Some(Off::Environment), false, off_in_pulse, Some("environment")),
        (Some(Off::Config), false, off_in_pulse, Some("config")),
        (None, false, off_in_pulse, Some("switch")),
        (None, true, off_in_pulse, Some("pulse")),
        (None, true, None, Some("pulse_unread")),
        (None, true, ON, None),
    ] {
        let file = EventFile::new(dir.path());
        let recorder = Arc::new(Recorder::open(file, fixed, Box::new(TestClock::new())).unwrap().0);
        if !switch {
            assert_eq!(run(recorder.turn(Switch { enabled: false, ..Switch::default() })), Turned::Done);
        } else if fixed.is_none() {
            assert_eq!(run(recorder.turn(Switch::default())), Turned::Done);
        }
        if let Some(off) = fixed {
            assert_eq!(run(recorder.turn(Switch::default())), Turned::Locked(off));
        }
        run(recorder.record(event("a").to_string().as_bytes(), in_pulse)).unwrap();
        let report = recorder.report(in_pulse);
        assert_eq!((report.off_by.as_deref(), report.enabled), (word, word.is_none()));
        assert_eq!(report.events.len(), usize::from(word.is_none()), "{word:?}");
        assert_eq!(recorder.switch(in_pulse).enabled, word.is_none());
    }
}

#[test]
fn local_events_are_off_by_each_source_of_the_real_program_and_taken_all_the_same() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = || Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN);
    let off = |setup: &Setup, off_by: &str| {
        let sidecar = setup.start();
        let answer = sidecar.ask("POST", EVENTS, &event("a").to_string()).unwrap();
        assert_eq!((answer.status, answer.json()), (202, json!({"accepted": true})), "{off_by}");
        let report = sidecar.get("/api/v1/events").json();
        assert_eq!((&report["off_by"], &report["events"]), (&json!(off_by), &json!([])));
        assert_eq!(sidecar.get(CONFIG).json()["enabled"], false);
        assert_eq!(sidecar.get("/api/v1/status").json()["enabled"], true, "telemetry is another matter");
        sidecar
    };
    let by_environment = setup().with("PULSE_DISABLE_LOCAL_UPGRADE_METRICS", "true");
    let refused = off(&by_environment, "environment").put(CONFIG, r#"{"enabled":true}"#);
    assert_eq!((refused.status, &refused.json()["error"]), (409, &json!("env_locked")));
    let by_config = setup().with("PULSE_TELEMETRY_EVENTS__RECORD", "false");
    let refused = off(&by_config, "config").put(CONFIG, r#"{"enabled":true}"#);
    assert_eq!((refused.status, &refused.json()["error"]), (409, &json!("config_locked")));
    assert!(!exists(&by_environment.state("events.jsonl")) && !exists(&by_config.state("events.jsonl")));

    let by_switch = setup();
    let sidecar = by_switch.start();
    let turned = sidecar.put(CONFIG, r#"{"enabled":false,"disabled_surfaces":[" b ","a",""]}"#);
    assert_eq!(turned.json(), json!({"enabled": false, "disabled_surfaces": ["a", "b"]}));
    drop(sidecar);
    let sidecar = off(&by_switch, "switch");
    assert_eq!(sidecar.put(CONFIG, r#"{"enabled":true,"disabled_surfaces":["a"]}"#).json()["enabled"], true);
    for surface in ["a", "b"] {
        sidecar.ask("POST", EVENTS, &with(event(surface), "surface", json!(surface)).to_string()).unwrap();
    }
    let report = sidecar.get("/api/v1/events").json();
    assert_eq!(report["events"].as_array().unwrap().len(), 1, "a surface that is off is not recorded: {report}");
    assert_eq!(report["events"][0]["surface"], "b");

    pulse.change(|model| model.disable_local_upgrade_metrics = Some(true));
    off(&setup(), "pulse");
    pulse.change(|model| model.tokens.clear());
    let unread = setup().start();
    unread.ask("POST", EVENTS, &event("a").to_string()).unwrap();
    assert_eq!(unread.get("/api/v1/events").json()["off_by"], "pulse_unread", "unknown is not on");
}

#[test]
fn the_legacy_preference_is_read_from_pulse_and_shown() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    for (setting, shown, word) in [(None, false, "is off"), (Some(false), false, "is off"), (Some(true), true, "is on")]
    {
        pulse.change(|model| model.reduce_pro_upsell_noise = setting);
        let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN).on_a_socket();
        let _sidecar = setup.start();
        // Nobody who only looks waits for the first reading.
        assert!(setup.run(&["preview"]).status.success());
        let json: Value = serde_json::from_slice(&setup.run(&["events", "--json"]).stdout).unwrap();
        assert_eq!(json["reduce_pro_upsell_noise"], shown);
        let text = String::from_utf8(setup.run(&["events"]).stdout).unwrap();
        assert!(text.contains(&format!("reduceProUpsellNoise {word}")), "{text}");
    }
}

// As in Pulse.

/// The exchanges of `wire/local-events.txt`, made by a client that knows Pulse only.
#[test]
fn a_client_made_for_pulses_own_event_routes_works_unchanged() {
    let name = "a_client_made_for_pulses_own_event_routes_works_unchanged";
    let Some(shared) = pulse_telemetry_testkit::replay::shared_or_skip(name) else { return };
    let recorded = std::fs::read_to_string(shared.join("wire/local-events.txt")).unwrap();
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let sidecar = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN).start();
    let before = SystemClock.now().wall.as_millisecond();
    let lines: Vec<&str> = recorded.lines().collect();
    let mut posted = 0;
    let mut body = "";
    for (line, next) in lines.iter().zip(&lines[1..]) {
        let is_body = line.starts_with('{') || *line == "not json";
        if is_body {
            body = line;
        }
        if !is_body && *line != "POST the same again" {
            continue;
        }
        let (status, rest) = next.split_once(' ').unwrap();
        let expected: Value = serde_json::from_str(rest.split("   ").next().unwrap()).unwrap();
        let answer = sidecar.ask("POST", EVENTS, &body.replace(":T,", &format!(":{before},"))).unwrap();
        assert_eq!((answer.status.to_string().as_str(), answer.json()), (status, expected), "{body}");
        posted += 1;
    }
    assert_eq!(posted, 9);

    let recorded = |path: &str| -> Value {
        let at = lines.iter().position(|line| *line == format!("GET {path}")).unwrap();
        serde_json::from_str(lines[at + 1].strip_prefix("200 ").unwrap()).unwrap()
    };
    let after = SystemClock.now().wall.as_millisecond();
    let mut stats = sidecar.get("/api/upgrade-metrics/stats").json();
    let mut health = sidecar.get("/api/upgrade-metrics/health").json();
    assert_eq!(stats["window_start"], health["started_at"]);
    assert!(
        stats["window_end"].as_i64().unwrap() >= after && health["last_event_age_seconds"].as_f64().unwrap() >= 0.0
    );
    // Times differ; all else is as recorded.
    for (ours, path, times) in [
        (&mut stats, "/api/upgrade-metrics/stats", ["window_start", "window_end"]),
        (&mut health, "/api/upgrade-metrics/health", ["last_event_age_seconds", "started_at"]),
    ] {
        let mut theirs = recorded(path);
        for time in times {
            assert!(ours[time].is_number() && theirs[time].is_number());
            assert_eq!(ours[time].is_f64(), theirs[time].is_f64(), "{time}");
            ours[time] = json!(0);
            theirs[time] = json!(0);
        }
        assert_eq!(*ours, theirs);
    }
    assert_eq!(sidecar.get(CONFIG).json(), recorded(CONFIG));
    let refused = sidecar.ask("DELETE", EVENTS, "").unwrap();
    assert_eq!((refused.status, refused.header("allow")), (405, Some("OPTIONS, POST")));

    // The two routes of the telemetry itself, with Pulse's keys in Pulse's order.
    let line = lines.iter().rposition(|line| line.starts_with("200 {\"enabled\":false")).unwrap();
    let theirs: Value = serde_json::from_str(lines[line].strip_prefix("200 ").unwrap()).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let preview = sidecar.get("/api/system/settings/telemetry-preview").json();
    let reset = sidecar.post("/api/system/settings/telemetry-reset-id").json();
    for ours in [&preview, &reset] {
        assert_eq!(keys(ours), keys(&theirs));
        assert_eq!(keys(&ours["payload"]), keys(&theirs["payload"]));
    }
    assert_ne!(preview["payload"]["install_id"], reset["payload"]["install_id"]);
    let refused = sidecar.post("/api/system/settings/telemetry-preview");
    assert_eq!((refused.status, &refused.json()["code"]), (405, &json!("method_not_allowed")));
}

#[test]
fn every_type_that_pulse_knows_is_recorded_with_all_its_fields() {
    let rig = Rig::new();
    for kind in TYPES {
        let event = json!({
            "type": kind, "surface": "s", "org_id": "default", "capability": "c", "tenant_mode": "multi",
            "limit_key": "l", "current_value": 9, "limit_value": 10, "timestamp": 5, "idempotency_key": kind,
            "something_newer": {"a": 1},
        });
        rig.record(&event).unwrap();
    }
    assert_eq!(rig.keys(), TYPES);
    for (key, value, message) in [
        ("idempotency_key", json!(" "), "idempotency_key is required"),
        ("type", json!(null), "type is required"),
        ("tenant_mode", json!("many"), "tenant_mode must be \"single\" or \"multi\""),
        ("type", json!("limit_blocked"), "limit_key is required for limit_blocked"),
        ("timestamp", json!(-1), "timestamp is required"),
        ("timestamp", json!(1.5), "invalid request body"),
    ] {
        assert_eq!(rig.record(&with(event("x"), key, value)).unwrap_err().to_string(), message);
    }
    assert_eq!(run(rig.recorder.record(b"[]", ON)), Err(EventRefusal::Invalid("invalid request body".to_owned())));
}

#[test]
fn the_command_shows_and_erases_with_a_daemon_and_without() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN).on_a_socket();
    let text = |arguments: &[&str]| {
        let output = setup.run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(text(&["status"]).contains("Telemetry is on"), "the state directory need not be there");
    assert!(!text(&["events"]).contains("limit_blocked"), "nor for this");
    let socket = setup.path("api.sock");
    let post = |key: &str| {
        use std::io::{Read as _, Write as _};
        let body = with(with(event(key), "type", json!("limit_blocked")), "limit_key", json!("hosts")).to_string();
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let head = format!("POST {EVENTS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    };
    let sidecar = setup.start();
    post("one");
    let with_daemon = text(&["events"]);
    assert!(with_daemon.contains("limit_blocked") && with_daemon.contains("hosts"), "{with_daemon}");
    drop(sidecar);
    let without = text(&["events"]);
    assert_eq!(without.lines().next(), with_daemon.lines().next());
    assert!(without.contains("No pulse-telemetry answers"), "{without}");
    let json: Value = serde_json::from_str(&text(&["events", "--json"])).unwrap();
    assert_eq!((&json["running"], &json["events"][0]["idempotency_key"]), (&json!(false), &json!("one")));
    assert!(text(&["events", "--erase"]).contains("erased"));
    assert!(text(&["events"]).contains("No local event is kept."));
    let sidecar = setup.start();
    post("two");
    assert!(text(&["events", "--erase"]).contains("erased"));
    assert!(!std::fs::read_to_string(setup.state("events.jsonl")).unwrap().contains("two"));
    drop(sidecar);
}

// Never exported.

#[test]
fn no_byte_of_an_event_leaves_to_pulse_to_the_endpoint_or_into_the_log() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = Setup::new(&pulse.url(), &endpoint.url())
        .with_token(TOKEN)
        .with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "1s")
        .with("PULSE_TELEMETRY_SCHEDULE__JITTER", "0s");
    let sidecar = setup.start();
    let planted = ["PLANTEDsurface", "PLANTEDcapability", "PLANTEDlimit", "PLANTEDkey"];
    let event = json!({
        "type": "agent_first_connected", "surface": planted[0], "capability": planted[1], "limit_key": planted[2],
        "timestamp": 1_234_567_891_234_567_i64, "idempotency_key": planted[3],
        "current_value": 987_654_321_012_345_i64, "limit_value": 876_543_210_123_456_i64,
    });
    assert_eq!(sidecar.ask("POST", EVENTS, &event.to_string()).unwrap().status, 202);
    assert_eq!(sidecar.ask("POST", EVENTS, &event.to_string().replace("agent", "PLANTEDtype")).unwrap().status, 400);
    assert!(std::fs::read_to_string(setup.state("events.jsonl")).unwrap().contains("PLANTEDkey"), "it is here");
    // Previews, a reset and pings after it.
    let sent = endpoint.pings().len();
    sidecar.get("/api/v1/preview");
    sidecar.post("/api/v1/reset-id");
    endpoint.wait_for_pings(sent + 1, LIMIT);
    let metrics = sidecar.get("/metrics").text();
    let elsewhere: Vec<String> = ["state.json", "ledger.jsonl", ".install_id"]
        .iter()
        .map(|file| std::fs::read_to_string(setup.state(file)).unwrap())
        .collect();
    let log = sidecar.stop();
    let mut left: Vec<String> = [&pulse.server, &endpoint.server]
        .iter()
        .flat_map(|server| server.requests())
        .map(|request| {
            format!(
                "{} {} {:?} {}",
                request.method,
                request.target,
                request.headers,
                String::from_utf8_lossy(&request.body)
            )
        })
        .collect();
    assert!(left.len() > 20, "Pulse was read and pings were sent");
    left.extend(elsewhere);
    left.extend([log, metrics]);
    let numbers = ["1234567891234567", "987654321012345", "876543210123456"];
    for text in left {
        for secret in planted.iter().chain(&numbers).chain(&["PLANTED", "agent_first_connected"]) {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
