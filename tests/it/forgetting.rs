//! Deletions at the endpoint, and its receipts: of the real program, and of what sends alone.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod asking;
mod commands;
mod end_to_end;
mod kills;
mod lost_state;
mod receipts;

use pulse_telemetry_testkit::pulse::{SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::receiver::{Receiver, entries};
use pulse_telemetry_testkit::sidecar::{Setup, comes_true};
use serde_json::Value;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A set-up that sends there, and verifies receipts with its keys.
fn working(pulse: &SimulatedPulse, receiver: &Receiver) -> Setup {
    let setup = Setup::new(&pulse.url(), &receiver.url()).with_token(TOKEN).on_a_socket();
    let keys = setup.write("keys.json", &receiver.jwk_set());
    setup.with("PULSE_TELEMETRY_TELEMETRY__RECEIPT_KEYS_FILE", keys.to_str().unwrap())
}

/// The entries of the ledger of that kind.
fn recorded(setup: &Setup, kind: &str) -> Vec<Value> {
    recorded_of(setup, &[kind])
}

/// The entries of the ledger of those kinds, in their order.
fn recorded_of(setup: &Setup, kinds: &[&str]) -> Vec<Value> {
    entries(&std::fs::read_to_string(setup.state("ledger.jsonl")).ok().unwrap_or_default(), kinds)
}

/// The answer of `status --json`.
fn status(setup: &Setup) -> Value {
    serde_json::from_slice(&setup.run(&["status", "--json"]).stdout).unwrap()
}

/// Asks for deletions that fail, and does not wait with the command for what comes of it.
fn ask_in_vain(setup: &Setup) {
    let mut asking = setup.spawn(&["forget"]);
    wait_for("it is asked for", || status(setup)["forget"]["pending"] != 0);
    asking.kill().unwrap();
    asking.wait().unwrap();
}

/// Makes every pending deletion due, and lets the next start send a startup ping again: as if a day had passed.
fn let_a_day_pass(setup: &Setup) {
    let Ok(state) = std::fs::read(setup.state("state.json")) else { return };
    let mut state: Value = serde_json::from_slice(&state).unwrap();
    state["state"]["startup_attempted_at"] = Value::Null;
    let pending = &mut state["state"]["pending"];
    if pending.is_object() {
        pending["not_before"] = pending["built_at"].clone();
    }
    if let Some(deletions) = state["state"].get_mut("deletions") {
        for deletion in deletions.as_array_mut().unwrap() {
            deletion["not_before"] = deletion["since"].clone();
        }
    }
    std::fs::write(setup.state("state.json"), state.to_string()).unwrap();
}

/// Lets days pass, and a daemon run in each for a moment, until no deletion is pending: two never go together.
fn let_all_be_done(setup: &Setup) {
    while status(setup)["forget"]["pending"] != 0 {
        let_a_day_pass(setup);
        let before = recorded(setup, "forgotten").len();
        let sidecar = setup.clone().with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "100ms").start();
        wait_for("one is done", || recorded(setup, "forgotten").len() > before);
        // Its ID is kept no longer than its entry is not known to be on the disk.
        let id = recorded(setup, "forgotten").pop().unwrap()["install_id"].as_str().unwrap().to_owned();
        wait_for("its ID is gone", || !std::fs::read_to_string(setup.state("state.json")).unwrap().contains(&id));
        sidecar.stop();
    }
}

/// Asks until it is so. Panics when the limit passes first.
fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    assert!(comes_true(is_so), "never: {what}");
}
