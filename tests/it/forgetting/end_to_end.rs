//! Both programs together, on each storage: pings with receipts, all of them deleted, and nothing left.

use std::collections::BTreeSet;

use pulse_telemetry_core::ledger::sha256;
use pulse_telemetry_testkit::collector::{self, Collector, Storage, install_id, ping_of};
use pulse_telemetry_testkit::disk::{contains, files_below, ids_in};
use pulse_telemetry_testkit::endpoint::PING_PATH;
use pulse_telemetry_testkit::jose;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar::{Setup, Sidecar};
use serde_json::Value;
use uuid::Uuid;

use super::{let_a_day_pass, let_all_be_done, recorded, recorded_of, status, text, wait_for};

const TEST: &str =
    "what_was_sent_under_any_id_is_gone_from_the_collector_after_forget_and_two_programs_verify_its_receipts";

/// So many others send too, and stay.
const OTHERS: u64 = 40;

/// The bytes of every file of the storage, and of whatever else the collector has open, with a name or without.
fn bytes_of(storage: &Storage, collector: &Collector) -> Vec<u8> {
    let mut bytes: Vec<u8> = files_below(storage.dir()).into_iter().flat_map(|(_, bytes)| bytes).collect();
    for file in std::fs::read_dir(format!("/proc/{}/fd", collector.pid().as_raw_nonzero())).unwrap() {
        let file = file.unwrap().path();
        // One that was closed meanwhile is open no more.
        if file.metadata().is_ok_and(|found| found.is_file()) {
            bytes.extend(std::fs::read(&file).ok().unwrap_or_default());
        }
    }
    bytes
}

/// Runs a daemon whose Pulse has a version like no other, until its ping is delivered.
fn deliver(setup: &Setup, pulse: &SimulatedPulse, number: u64) -> Sidecar {
    pulse.change(|model| model.version = version(number));
    let_a_day_pass(setup);
    let before = recorded(setup, "sent").len();
    let sidecar = setup.start();
    wait_for("a ping is delivered", || recorded(setup, "sent").len() > before);
    sidecar
}

fn deliver_two_pings_of_each_of_three_ids(setup: &Setup, pulse: &SimulatedPulse) -> Sidecar {
    for number in 0..5 {
        deliver(setup, pulse, number).stop();
        if number % 2 == 1 {
            assert!(setup.run(&["reset-id"]).status.success());
        }
    }
    deliver(setup, pulse, 5)
}

fn version(number: u64) -> String {
    format!("6.3.0-rc.{}", 471_100 + number)
}

fn id_of(entry: &Value) -> Uuid {
    entry["install_id"].as_str().unwrap().parse().unwrap()
}

/// What another library finds in the receipts of the ledger, with the collector's keys and nothing of ours; and what
/// has to be in them.
fn hold_against_another_library(setup: &Setup, keys: &Value) {
    let entries = recorded_of(setup, &["attempted", "sent"]);
    // A daemon that is stopped may leave an attempt without an answer.
    let delivered = entries.windows(2).filter(|pair| pair[1]["kind"] == "sent");
    let sent = delivered
        .map(|pair| (pair[1].clone(), "received", "body_sha256", sha256(pair[0]["body"].as_str().unwrap().as_bytes())));
    let forgotten = recorded(setup, "forgotten").into_iter().map(|entry| {
        let digest = sha256(id_of(&entry).to_string().as_bytes());
        (entry, "forgotten", "id_sha256", digest)
    });
    let expected: Vec<_> = sent.chain(forgotten).collect();
    let receipts: Vec<&str> = expected.iter().map(|(entry, ..)| entry["receipt"].as_str().unwrap()).collect();
    let Some(verified) = jose::verify(keys, &receipts, TEST) else { return };
    let verified = verified.unwrap();
    assert_eq!(verified.len(), expected.len());
    for ([_, claims], (entry, kind, digest, value)) in verified.iter().zip(&expected) {
        assert_eq!((claims["kind"].as_str(), claims[digest].as_str()), (Some(*kind), Some(&**value)), "{entry}");
    }
}

fn hold_the_audit_to_its_word(setup: &Setup, name: &str) {
    let (sent, forgotten) = (recorded(setup, "sent").len(), recorded(setup, "forgotten").len());
    assert_eq!(forgotten, 3, "{name}");
    let told = text(&setup.run(&["audit"]).stdout);
    let count = sent + forgotten;
    let receipts = format!("receipts  ok     {count} receipts: {count} verified, 0 not verified; 0 times none");
    for said in [&receipts, "deletions ok     3 deletions were asked for, 3 are done and 0 were ended"] {
        assert!(told.contains(said), "{name}: {told}");
    }
    // The days passed by hand.
    let mut findings = told.lines().map(str::trim_start).filter(|line| line.starts_with("line "));
    assert!(findings.all(|finding| finding.contains("a startup ping only")), "{name}: {told}");
}

#[test]
fn what_was_sent_under_any_id_is_gone_from_the_collector_after_forget_and_two_programs_verify_its_receipts() {
    for storage in Storage::both() {
        let name = storage.name();
        let collector = collector::Setup::new(&storage).with_receipts().start();
        for number in 0..OTHERS {
            assert_eq!(collector.post(&ping_of(number)).status, 204, "{name}");
        }
        let keys = collector.get("/v1/contract").json()["receipts"].clone();
        let pulse = SimulatedPulse::start(PulseModel::default());
        let setup = Setup::new(&pulse.url(), &format!("http://{}{PING_PATH}", collector.address));
        let file = setup.write("keys.json", &keys.to_string());
        let setup = setup.with_token(TOKEN).on_a_socket();
        let setup = setup.with("PULSE_TELEMETRY_TELEMETRY__RECEIPT_KEYS_FILE", file.to_str().unwrap());

        let sidecar = deliver_two_pings_of_each_of_three_ids(&setup, &pulse);
        let body = |entry: &Value| serde_json::from_str::<Value>(entry["body"].as_str().unwrap()).unwrap();
        let ids: BTreeSet<Uuid> = recorded(&setup, "attempted").iter().map(|entry| id_of(&body(entry))).collect();
        let current: Uuid = setup.id_on_disk().unwrap().parse().unwrap();
        assert!(ids.len() == 3 && ids.contains(&current), "{name}: {ids:?}");
        let stored = || -> Vec<Uuid> {
            let stored = storage.install_ids().into_iter().map(|id| id.parse().unwrap());
            stored.filter(|id| ids.contains(id)).collect()
        };
        assert_eq!(stored().len(), 6, "{name}");
        if matches!(storage, Storage::Sqlite(_)) {
            let bytes = bytes_of(&storage, &collector);
            assert_eq!(ids_in(&ids, &bytes), ids, "the search finds");
            assert!((0..6).all(|number| contains(&bytes, version(number).as_bytes())), "the search finds");
        }

        let output = setup.run(&["forget"]);
        let told = text(&output.stdout);
        assert!(output.status.success() && told.contains("under 3 IDs"), "{name}: {told}{}", text(&output.stderr));
        wait_for("the current one's is done", || status(&setup)["forget"]["pending"] == 2);
        assert!(stored().len() == 4 && !stored().contains(&current), "{name}: the current one's, at once");
        let after = setup.id_on_disk().unwrap();
        assert_ne!(after, current.to_string(), "{name}");
        sidecar.stop();
        // What is sent from now on is of the new ID, and stays.
        pulse.change(|model| model.version = "6.3.0".to_owned());
        let_all_be_done(&setup);
        assert_eq!(stored(), Vec::<Uuid>::new(), "{name}");
        let mut left: Vec<String> = storage.install_ids().into_iter().filter(|id| *id != after).collect();
        left.sort();
        assert_eq!(left, (0..OTHERS).map(install_id).collect::<Vec<_>>(), "{name}: the others' are there");
        if matches!(storage, Storage::Sqlite(_)) {
            let left = || {
                let bytes = bytes_of(&storage, &collector);
                !ids_in(&ids, &bytes).is_empty() || (0..6).any(|number| contains(&bytes, version(number).as_bytes()))
            };
            wait_for("every byte of it is gone", || !left());
        }

        hold_against_another_library(&setup, &keys);
        hold_the_audit_to_its_word(&setup, name);
        let log = collector.stop();
        assert!(ids_in(&ids, log.as_bytes()).is_empty(), "{name}: no ID reaches the log");
        if matches!(storage, Storage::Sqlite(_)) {
            let files = files_below(storage.dir());
            assert!(files.iter().all(|(_, bytes)| ids_in(&ids, bytes).is_empty()), "{name}: nor after the end");
        }
    }
}
