//! What is recorded, and for how long.

use std::sync::Arc;
use std::time::Duration;

use pulse_telemetry::events::{EventRefusal, Switch, SwitchOutcome};
use pulse_telemetry_core::clock::{Clock, DAY};
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::alone::program_or_skip;
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar::{Setup, comes_true, exists};
use serde_json::json;

use super::{EVENTS, ON, Rig, TestClock, event, run, with};

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
    let hours = tokio::time::timeout(DAY * 2, pulse_telemetry::events::prune_expired(&rig.recorder));
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
    assert_eq!(rig.turn(Switch { enabled: false, ..Switch::default() }), SwitchOutcome::Done);
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
    let off = rig.recorder.set_switch(Switch { enabled: false, ..Switch::default() });
    let (off, late, erased) = tokio::join!(off, rig.recorder.record(late.as_bytes(), ON), rig.recorder.erase());
    assert_eq!((off, late, erased.is_ok()), (SwitchOutcome::Done, Ok(()), true));
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
    assert!(comes_true(|| exists(&new)), "the event is never written");
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
    assert_eq!(rig.turn(Switch { enabled: false, ..Switch::default() }), SwitchOutcome::Done);
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
    assert_eq!(rig.turn(Switch::default()), SwitchOutcome::Done);
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
    assert_eq!(rig.turn(Switch { enabled: false, ..Switch::default() }), SwitchOutcome::NotPersisted);
    assert!(!rig.report().enabled);
    assert_eq!(rig.turn(Switch::default()), SwitchOutcome::NotPersisted);
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
