//! `forget` of the real program: with a daemon and without, on and off, over restarts.

use std::collections::BTreeSet;

use pulse_telemetry_testkit::client;
use pulse_telemetry_testkit::endpoint::PING_PATH;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::receiver::{CONTRACT_PATH, FORGET_PATH, Receiver};
use pulse_telemetry_testkit::server::ResponsePlan;
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup, Sidecar, exists};
use serde_json::{Value, json};

use super::{ask_in_vain, let_a_day_pass, let_all_be_done, recorded, status, text, working};

/// A daemon that has delivered a ping, and the ID of that.
pub(super) fn delivered(setup: &Setup, receiver: &Receiver) -> (Sidecar, String) {
    let before = receiver.asked(PING_PATH).len();
    let sidecar = setup.start();
    let ping = receiver.wait_for(PING_PATH, before + 1, LIMIT).pop().unwrap();
    sidecar.wait_for_log("ping delivered");
    (sidecar, ping.json()["install_id"].as_str().unwrap().to_owned())
}

#[test]
fn forget_replaces_the_id_first_and_has_the_old_one_deleted_at_once_with_a_verified_receipt() {
    let (pulse, receiver) = (SimulatedPulse::start(PulseModel::default()), Receiver::start());
    let setup = working(&pulse, &receiver);
    let (sidecar, id) = delivered(&setup, &receiver);
    let output = setup.run(&["forget"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    for said in ["under 1 ID.", "The install ID was replaced. Pings go on", "It says that it did so for 1 ID;"] {
        assert!(told.contains(said), "{told}");
    }
    assert!(told.starts_with(&receiver.url()), "it names who is asked: {told}");
    assert_ne!(setup.id_on_disk().unwrap(), id);
    assert_eq!(receiver.forgotten_ids(), std::slice::from_ref(&id));
    let requests = receiver.server.requests();
    let targets: Vec<_> = requests.iter().map(|request| request.target.as_str()).collect();
    assert_eq!(targets, [PING_PATH, CONTRACT_PATH, FORGET_PATH]);
    let connections: BTreeSet<_> = requests.iter().map(|request| request.connection).collect();
    assert_eq!(connections.len(), 3, "each over a connection of its own");

    let [asked] = &recorded(&setup, "forget_asked")[..] else { panic!("one entry") };
    let [forgotten] = &recorded(&setup, "forgotten")[..] else { panic!("one entry") };
    let [reset] = &recorded(&setup, "id_reset")[..] else { panic!("one entry") };
    assert_eq!((&asked["install_id"], &forgotten["install_id"]), (&json!(id), &json!(id)));
    assert_eq!(forgotten["receipt_is"], "verified");
    assert!(reset["seq"].as_u64() < forgotten["seq"].as_u64());
    assert_eq!(status(&setup)["forget"], json!({"pending": 0, "next": null, "not_offered": false}));
    let history = text(&setup.run(&["history"]).stdout);
    assert!(history.contains(&format!("forgotten        ID {id}, receipt verified")), "{history}");
    let told = text(&setup.run(&["forget"]).stdout);
    assert!(told.contains("Nothing that was sent is left to delete") && told.contains("ID was replaced"), "{told}");
    let told = text(&setup.run(&["forget", "--cancel"]).stdout);
    assert_eq!(told, "No deletion is asked for any more; none was pending.\n");
    let log = sidecar.stop();
    assert!(!log.contains(&id), "no ID reaches the log");
    let audit = setup.run(&["audit"]);
    assert!(audit.status.success(), "{}", text(&audit.stdout));
}

#[test]
fn an_endpoint_that_offers_no_deletion_is_told_in_a_sentence_and_sent_no_id() {
    let pulse = SimulatedPulse::start(PulseModel::default());
    // Its contract says so; or it has none, as the default one has none today.
    for (answer, pending) in [(ResponsePlan::json(200, &json!({"forget": false})), 0), (ResponsePlan::status(404), 1)] {
        let receiver = Receiver::start();
        receiver.answer(CONTRACT_PATH, answer);
        let setup = Setup::new(&pulse.url(), &receiver.url()).with_token(TOKEN).on_a_socket();
        let (sidecar, id) = delivered(&setup, &receiver);
        let output = setup.run(&["forget"]);
        assert_eq!(output.status.code(), Some(1));
        let told = text(&output.stderr);
        assert!(told.contains("The endpoint offers no deletion, and was sent no ID for one."), "{told}");
        assert_eq!(told.contains("asked again for a day; `pulse-telemetry forget --cancel` ends that"), pending == 1);
        let forget = status(&setup)["forget"].clone();
        assert_eq!((&forget["pending"], &forget["not_offered"]), (&json!(pending), &json!(true)));
        assert_eq!(forget["next"].is_string(), pending == 1);
        let failed = recorded(&setup, "forget_failed");
        assert_eq!(failed.len(), 1 - pending);
        let is_of_it = |entry: &Value| entry["install_id"] == id && entry["reason"] == "not_offered";
        assert!(failed.iter().all(is_of_it), "{failed:?}");
        let [_, asked] = &receiver.server.requests()[..] else { panic!("a ping and a question") };
        assert_eq!((asked.target.as_str(), asked.body.len()), (CONTRACT_PATH, 0));
        assert!(asked.headers.iter().all(|(_, value)| !value.contains(&id)));
        let told = sidecar.stop();
        assert!(told.contains("the endpoint offers no deletion, and was sent no ID"), "{told}");
    }
}

#[test]
fn an_endpoint_that_lies_about_deletions_or_leads_elsewhere_has_the_id_go_nowhere_else() {
    let (pulse, elsewhere) = (SimulatedPulse::start(PulseModel::default()), Receiver::start());
    let there = |path: &str| format!("{}{path}", elsewhere.server.url());
    for (path, answer, ids) in [
        (CONTRACT_PATH, ResponsePlan::redirect(308, &there(CONTRACT_PATH)), 0),
        (CONTRACT_PATH, ResponsePlan::text(200, "<html>Please log in.</html>"), 0),
        (FORGET_PATH, ResponsePlan::redirect(308, &there(FORGET_PATH)), 1),
        (FORGET_PATH, ResponsePlan::status(404), 1),
    ] {
        let (receiver, told) = (Receiver::start(), format!("{path} {answer:?}"));
        receiver.answer(path, answer);
        let setup = working(&pulse, &receiver);
        let (sidecar, _) = delivered(&setup, &receiver);
        ask_in_vain(&setup);
        sidecar.wait_for_log("did not delete");
        let forget = status(&setup)["forget"].clone();
        assert_eq!((&forget["pending"], &forget["not_offered"]), (&json!(1), &json!(false)), "{told}");
        // It may have been tried again by now.
        assert_eq!((receiver.forgotten_ids().is_empty(), recorded(&setup, "forgotten").len()), (ids == 0, 0), "{told}");
        drop(sidecar);
    }
    assert_eq!(elsewhere.server.connections(), 0);
}

#[test]
fn a_deletion_that_fails_is_told_when_that_begins_with_when_it_is_tried_again_and_at_its_end() {
    let (pulse, receiver) = (SimulatedPulse::start(PulseModel::default()), Receiver::start());
    receiver.answer(FORGET_PATH, ResponsePlan::status(503));
    // The pauses are as short as the interval.
    let setup = working(&pulse, &receiver).with("PULSE_TELEMETRY_LOG__FORMAT", "json");
    let (sidecar, _) = delivered(&setup, &receiver);
    sidecar.stop();
    assert!(setup.run(&["forget"]).status.success());
    let state = || -> Value { serde_json::from_slice(&std::fs::read(setup.state("state.json")).unwrap()).unwrap() };
    let warnings = |log: &str| -> Vec<String> {
        let of_it = |line: &&str| line.contains("did not delete") && line.contains("WARN");
        log.lines().filter(of_it).map(str::to_owned).collect()
    };
    for is_over in [false, true] {
        let_a_day_pass(&setup);
        if is_over {
            // As if it had been asked for a week ago.
            let mut aged = state();
            aged["state"]["deletions"][0]["since"] = json!("2026-01-01T00:00:00Z");
            std::fs::write(setup.state("state.json"), aged.to_string()).unwrap();
        }
        let before = receiver.asked(FORGET_PATH).len();
        let sidecar = setup.clone().with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "100ms").start();
        receiver.wait_for(FORGET_PATH, before + if is_over { 1 } else { 2 }, LIMIT);
        sidecar.wait_for_log("did not delete");
        if is_over {
            super::wait_for("its end", || recorded(&setup, "forget_failed").len() == 1);
        }
        let log = sidecar.stop();
        let [told] = &warnings(&log)[..] else { panic!("one warning: {log}") };
        assert!(told.contains("server_error"), "{told}");
        assert_eq!(told.contains("it is asked again") && told.contains("\"next\":\"20"), !is_over, "{told}");
        assert_eq!(told.contains("it is not asked for that any more"), is_over, "{told}");
    }
    assert_eq!(recorded(&setup, "forget_failed")[0]["reason"], "gave_up");
}

#[test]
fn older_ids_are_asked_for_at_random_times_of_the_next_day_also_while_telemetry_is_off() {
    let (pulse, receiver) = (SimulatedPulse::start(PulseModel::default()), Receiver::start());
    let setup = working(&pulse, &receiver);
    let mut ids = Vec::new();
    for number in 0..3 {
        pulse.change(|model| model.counts.vms = 10 + number);
        let_a_day_pass(&setup);
        let (sidecar, id) = delivered(&setup, &receiver);
        ids.push(id);
        if number < 2 {
            assert!(setup.run(&["reset-id"]).status.success());
        }
        sidecar.stop();
    }
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 3);
    assert!(setup.run(&["off"]).status.success());
    // Off makes no connection; the command does.
    let before = receiver.server.connections();
    let off = setup.start();
    assert_eq!(status(&setup)["enabled"], false);
    assert_eq!(receiver.server.connections(), before);
    let output = setup.run(&["forget"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    assert!(told.contains("under 3 IDs") && !told.contains("Pings go on"), "{told}");
    assert!(told.contains("Pending: 3"), "{told}");
    let asked: BTreeSet<_> =
        recorded(&setup, "forget_asked").iter().map(|entry| entry["install_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(asked, ids.into_iter().collect());
    assert_eq!(receiver.forgotten_ids(), Vec::<String>::new(), "not now");
    let state: Value = serde_json::from_slice(&std::fs::read(setup.state("state.json")).unwrap()).unwrap();
    let times: BTreeSet<_> =
        state["state"]["deletions"].as_array().unwrap().iter().map(|each| each["not_before"].to_string()).collect();
    assert_eq!(times.len(), 3, "each at a time of its own");
    off.stop();
    let_all_be_done(&setup);
    assert_eq!(receiver.forgotten_ids().into_iter().collect::<BTreeSet<_>>(), asked);
    assert!(!exists(&setup.id_file()) && receiver.asked(PING_PATH).len() == 3, "off all the same");
}

#[test]
fn without_a_daemon_forget_waits_in_the_state_directory_for_the_next_one_and_can_be_cancelled() {
    let (pulse, receiver) = (SimulatedPulse::start(PulseModel::default()), Receiver::start());
    let setup = working(&pulse, &receiver);
    let output = setup.run(&["forget"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (sidecar, id) = delivered(&setup, &receiver);
    sidecar.stop();
    for cancels in [true, false] {
        let output = setup.run(&["forget"]);
        let told = text(&output.stdout);
        assert!(output.status.success() && told.contains("No daemon answered"), "{told}{}", text(&output.stderr));
        assert_eq!(status(&setup)["forget"]["pending"], 1, "{told}");
        let told = text(&setup.run(&["status"]).stdout);
        assert!(told.contains("deletions are pending, of 1 ID; the endpoint is asked once the daemon runs"), "{told}");
        if cancels {
            let output = setup.run(&["forget", "--cancel"]);
            assert!(text(&output.stdout).contains("1 were pending"), "{}", text(&output.stdout));
            assert_eq!(status(&setup)["forget"]["pending"], 0);
            let failed = recorded(&setup, "forget_failed");
            assert!(failed.iter().any(|entry| entry["reason"] == "cancelled" && entry["install_id"] == id));
        }
    }
    assert_eq!(receiver.asked(FORGET_PATH).len() + receiver.asked(CONTRACT_PATH).len(), 0, "no command asks");
    let_all_be_done(&setup);
    assert_eq!(receiver.forgotten_ids(), [id]);
}

#[test]
fn a_deletion_that_fails_is_tried_again_is_shown_and_can_be_cancelled() {
    let (pulse, receiver) = (SimulatedPulse::start(PulseModel::default()), Receiver::start());
    receiver.answer(FORGET_PATH, ResponsePlan::status(503));
    let setup = working(&pulse, &receiver).with("PULSE_TELEMETRY_SERVE__LISTEN", "127.0.0.1:0");
    let (sidecar, _) = delivered(&setup, &receiver);
    assert_eq!(sidecar.ask("POST", "/api/v1/forget", "").unwrap().status, 202);
    let tries = receiver.wait_for(FORGET_PATH, 1, LIMIT).len();
    assert_eq!(tries, 1);
    sidecar.wait_for_log("did not delete");
    let forget = sidecar.status()["forget"].clone();
    assert_eq!((&forget["pending"], &forget["not_offered"]), (&json!(1), &json!(false)));
    assert!(forget["next"].is_string());
    let metrics = sidecar.get("/metrics").text();
    assert!(metrics.contains("\npulse_telemetry_deletions_pending 1\n"), "{metrics}");
    assert!(metrics.contains("pulse_telemetry_receipts_total{standing=\"verified\"} 1\n"), "{metrics}");
    let cancelled = sidecar.ask("DELETE", "/api/v1/forget", "").unwrap();
    assert_eq!((cancelled.status, cancelled.json()), (200, json!({"cancelled": 1})));
    assert_eq!(sidecar.status()["forget"]["pending"], 0);
    assert_eq!(recorded(&setup, "forget_failed")[0]["reason"], "cancelled");
}

#[test]
fn a_deletion_that_is_cancelled_while_forget_waits_for_it_is_told_as_that_and_not_as_done() {
    let (pulse, receiver) = (SimulatedPulse::start(PulseModel::default()), Receiver::start());
    let setup = working(&pulse, &receiver);
    let (sidecar, _) = delivered(&setup, &receiver);
    // A deletion that was done before is none of this one's.
    assert!(setup.run(&["forget"]).status.success());
    receiver.answer(FORGET_PATH, ResponsePlan::status(503));
    sidecar.stop();
    let_a_day_pass(&setup);
    let (_sidecar, _) = delivered(&setup, &receiver);
    let waiting = setup.spawn(&["forget"]);
    super::wait_for("it is asked for", || status(&setup)["forget"]["pending"] == 1);
    assert!(text(&setup.run(&["forget", "--cancel"]).stdout).contains("1 were pending"));
    let output = waiting.wait_with_output().unwrap();
    let (told, failed) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{told}{failed}");
    assert!(failed.contains("the deletion of what was sent under 1 ID was cancelled"), "{failed}");
    assert!(!told.contains("It says that it did so"), "{told}");
    assert_eq!(recorded(&setup, "forget_failed")[0]["reason"], "cancelled");
}

#[test]
fn another_site_can_neither_ask_for_a_deletion_nor_cancel_one() {
    let (pulse, receiver) = (SimulatedPulse::start(PulseModel::default()), Receiver::start());
    let setup = working(&pulse, &receiver).with("PULSE_TELEMETRY_SERVE__LISTEN", "127.0.0.1:0");
    let (sidecar, id) = delivered(&setup, &receiver);
    for method in ["POST", "DELETE"] {
        for header in [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")] {
            let reply = client::fetch(sidecar.address(), method, "/api/v1/forget", &[header], bytes::Bytes::new());
            assert_eq!(reply.unwrap().status, 403, "{method} {header:?}");
        }
    }
    assert_eq!(setup.id_on_disk(), Some(id));
    assert_eq!(receiver.asked(CONTRACT_PATH).len(), 0);
}

#[test]
fn erasing_the_history_says_what_goes_with_it_and_keeps_the_ids_of_pending_deletions_alone() {
    let (pulse, receiver) = (SimulatedPulse::start(PulseModel::default()), Receiver::start());
    receiver.answer(FORGET_PATH, ResponsePlan::status(503));
    let setup = working(&pulse, &receiver);
    let (sidecar, id) = delivered(&setup, &receiver);
    ask_in_vain(&setup);
    let erased = text(&setup.run(&["history", "--erase"]).stdout);
    for said in [
        "The history was erased",
        "Gone with it: the receipts, and the older IDs",
        "Deletions are pending, of 1 ID: these are kept",
    ] {
        assert!(erased.contains(said), "{erased}");
    }
    let names = |name: &str| std::fs::read_to_string(setup.state(name)).unwrap().contains(&id);
    assert!(!names("ledger.jsonl") && names("state.json"));
    sidecar.stop();
    receiver.answer_well(FORGET_PATH);
    let_all_be_done(&setup);
    assert!(text(&setup.run(&["history", "--erase"]).stdout).contains("Gone with it"));
    assert!(setup.run(&["audit"]).status.success());
}
