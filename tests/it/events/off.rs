//! Who turns recording off.

use std::sync::Arc;

use pulse_telemetry::events::{Off, Recorder, Switch, SwitchOutcome};
use pulse_telemetry::store::EventFile;
use pulse_telemetry_core::observation::Commercial;
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar::{Setup, exists};
use serde_json::{Value, json};

use super::{CONFIG, EVENTS, ON, TestClock, event, run, with};

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
            assert_eq!(run(recorder.set_switch(Switch { enabled: false, ..Switch::default() })), SwitchOutcome::Done);
        } else if fixed.is_none() {
            assert_eq!(run(recorder.set_switch(Switch::default())), SwitchOutcome::Done);
        }
        if let Some(off) = fixed {
            assert_eq!(run(recorder.set_switch(Switch::default())), SwitchOutcome::Locked(off));
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
