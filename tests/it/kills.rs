//! `kill -9` of the real daemon at random moments, with a real endpoint: what is on disk is believed whole or not at
//! all.
//!
//! 20 kills; `KILLS=200` asks for more, as `make soak` does. The moments come from a seed, what happens in them from
//! the machine.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pulse_telemetry_core::contract;
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::seeded::Seeded;
use pulse_telemetry_testkit::server::ResponsePlan;
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup, check_the_state};
use serde_json::Value;

#[test]
#[expect(clippy::disallowed_methods, reason = "how many kills is the environment's to say")]
fn a_daemon_that_is_killed_at_any_moment_believes_no_half_written_file_and_undoes_no_reset() {
    let kills: u32 = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(20);
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = Setup::new(&pulse.url(), &endpoint.url())
        .with_token(TOKEN)
        .with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "100ms")
        .with("PULSE_TELEMETRY_SCHEDULE__JITTER", "0s");
    let mut seed = Seeded(20_261_123);
    let mut draw = |most| seed.draw(most);
    // Each ID that was reset, and how many pings had arrived when the reset was answered.
    let mut reset: Vec<(String, usize)> = Vec::new();
    for kill in 0..kills {
        match draw(4) {
            0 => endpoint.answer_next(ResponsePlan::status(503)),
            1 => endpoint.answer_next(ResponsePlan::Reset),
            _ => {}
        }
        // No two lives build the same ping.
        pulse.change(|model| model.counts.vms = 1000 + u64::from(kill));
        let sidecar = setup.start();
        // The moment itself is what is tried, so here a test sleeps.
        std::thread::sleep(Duration::from_micros(draw(60_000)));
        match draw(4) {
            0 => {
                let old = setup.id_on_disk();
                if sidecar.post("/api/v1/reset-id").status == 200 {
                    reset.extend(old.map(|old| (old, endpoint.pings().len())));
                }
            }
            1 => {
                assert_eq!(sidecar.put("/api/v1/switch", r#"{"enabled":false}"#).status, 200);
                assert!(setup.id_on_disk().is_none(), "off deletes the ID before its answer");
                assert_eq!(sidecar.put("/api/v1/switch", r#"{"enabled":true}"#).status, 200);
            }
            _ => {}
        }
        drop(sidecar);
        check_the_state(&setup);
    }
    let last = setup.start();
    assert_eq!(last.get("/api/v1/preview").status, 200);
    endpoint.wait_for_pings(1, LIMIT);
    last.stop();
    check_the_state(&setup);

    let pings = endpoint.pings();
    for (id, from) in reset {
        assert!(pings[from..].iter().all(|ping| ping.json()["install_id"] != id), "{id} was reset and went again");
    }
    let attempts = attempts(&setup);
    for ping in &pings {
        assert_eq!(contract::validate(&ping.json()), Ok(()));
        let body = String::from_utf8(ping.body.to_vec()).unwrap();
        let arrived = pings.iter().filter(|other| other.body == ping.body).count();
        assert!(arrived <= attempts.get(&body).copied().unwrap_or(0), "an attempt that is not in the ledger: {body}");
    }
    assert!(attempts.len() > 1, "{} pings in {kills} lives", pings.len());
}

/// How often each ping was attempted, by the ledger. One that was delivered is never attempted again, so that only a
/// lost answer can make the endpoint take a ping twice.
fn attempts(setup: &Setup) -> BTreeMap<String, usize> {
    let ledger = std::fs::read_to_string(setup.state("ledger.jsonl")).unwrap();
    let mut attempts = BTreeMap::new();
    let mut delivered = BTreeSet::new();
    let mut last = String::new();
    for line in ledger.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        match entry["kind"].as_str().unwrap() {
            "attempted" => {
                last = entry["body"].as_str().unwrap().to_owned();
                assert!(!delivered.contains(&last), "attempted again after it was delivered: {last}");
                *attempts.entry(last.clone()).or_insert(0) += 1;
            }
            "sent" => drop(delivered.insert(last.clone())),
            _ => {}
        }
    }
    attempts
}
