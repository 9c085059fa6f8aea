//! `kill -9` of the real daemon around deletions: none that was asked for is lost, and none is asked for again after
//! its receipt.
//!
//! 20 kills; `KILLS=200` asks for more, as `make soak` does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pulse_telemetry_testkit::endpoint::PING_PATH;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse};
use pulse_telemetry_testkit::receiver::{FORGET_PATH, Receiver};
use pulse_telemetry_testkit::seeded::Seeded;
use pulse_telemetry_testkit::server::ResponsePlan;
use pulse_telemetry_testkit::sidecar::{LIMIT, check_the_state};
use serde_json::Value;

use super::{let_a_day_pass, let_all_be_done, recorded, working};

fn ids(entries: &[Value]) -> Vec<String> {
    entries.iter().map(|entry| entry["install_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how many kills is the environment's to say")]
fn a_daemon_that_is_killed_loses_no_deletion_and_asks_for_none_again_after_its_receipt() {
    let kills: u64 = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(20);
    let (pulse, receiver) = (SimulatedPulse::start(PulseModel::default()), Receiver::start());
    let setup = working(&pulse, &receiver)
        .with("PULSE_TELEMETRY_SERVE__LISTEN", "127.0.0.1:0")
        .with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "100ms")
        .with("PULSE_TELEMETRY_SCHEDULE__JITTER", "0s");
    let mut seed = Seeded(20_261_126);
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    // By ID: how many deletions had been asked for when the ledger first had its receipt.
    let mut receipts: BTreeMap<String, usize> = BTreeMap::new();
    let mut asked_within = 0;
    for kill in 0..kills {
        pulse.change(|model| model.counts.vms = 1000 + kill);
        if seed.draw(4) == 0 {
            receiver.answer(FORGET_PATH, ResponsePlan::status(503));
        } else {
            receiver.answer_well(FORGET_PATH);
        }
        let pings = receiver.asked(PING_PATH).len();
        let sidecar = setup.start();
        let ping = receiver.wait_for(PING_PATH, pings + 1, LIMIT).pop().unwrap();
        let id = ping.json()["install_id"].as_str().unwrap().to_owned();
        let (waits, moment) = (seed.draw(2) == 0, Duration::from_micros(seed.draw(20_000)));
        let answered = std::thread::scope(|scope| {
            let asking = scope.spawn(|| sidecar.ask("POST", "/api/v1/forget", ""));
            while waits && !asking.is_finished() {
                std::thread::yield_now();
            }
            // The moment itself is what is tried, so here a test sleeps.
            std::thread::sleep(moment);
            let process = rustix::process::Pid::from_raw(i32::try_from(sidecar.id()).unwrap()).unwrap();
            rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
            asking.join().unwrap()
        });
        if answered.is_some_and(|reply| reply.status == 202) {
            asked_within += 1;
            wanted.insert(id);
        }
        drop(sidecar);
        for id in ids(&recorded(&setup, "forgotten")) {
            receipts.entry(id).or_insert_with(|| receiver.forgotten_ids().len());
        }
        let_a_day_pass(&setup);
    }
    receiver.answer_well(FORGET_PATH);
    let_all_be_done(&setup);
    check_the_state(&setup);
    // The distance of pings is not what it would be: this test lets days pass by hand.
    let audited = String::from_utf8(setup.run(&["audit"]).stdout).unwrap();
    for kept in ["chain     ok", "rotation  ok", "attempts  ok", "receipts  ok", "deletions ok"] {
        assert!(audited.contains(kept), "{kept}: {audited}");
    }

    let forgotten = ids(&recorded(&setup, "forgotten"));
    let lost: Vec<_> = wanted.iter().filter(|id| !forgotten.contains(id)).collect();
    assert!(lost.is_empty(), "asked for and never done: {lost:?}");
    let all = receiver.forgotten_ids();
    for (id, at) in &receipts {
        assert!(!all[*at..].contains(id), "{id} was asked for again after its receipt");
    }
    assert!(asked_within > 0 && !receipts.is_empty(), "{asked_within} answers, {} receipts", receipts.len());
}
