//! Receipts as they come, are judged and are kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pulse_telemetry_core::identity::InstallId;
use pulse_telemetry_core::receipt::{RECEIPT_HEADER, Receipt, SigningKey};
use pulse_telemetry_testkit::endpoint::PING_PATH;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::receiver::{CONTRACT_PATH, FORGET_PATH, Receiver, forgotten, keys_of, new_key, received};
use pulse_telemetry_testkit::server::ResponsePlan;
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup};
use serde_json::{Value, json};

use super::commands::delivered;
use super::{recorded, status, text, wait_for, working};

const SCHEDULE: [(&str, &str); 2] =
    [("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "100ms"), ("PULSE_TELEMETRY_SCHEDULE__JITTER", "0s")];

fn fast(setup: Setup) -> Setup {
    SCHEDULE.into_iter().fold(setup, |setup, (name, value)| setup.with(name, value))
}

/// Every kind of receipt that is none of what is right: with one of something else, and one of the other kind.
fn wrong(key: &SigningKey, right: &Receipt, of_another: &Receipt, of_the_other_kind: &Receipt) -> Vec<String> {
    let good = key.sign(right);
    let parts: Vec<&str> = good.split('.').collect();
    let of = |header: &Value| {
        use base64::Engine as _;
        base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(header.to_string())
    };
    let none = of(&json!({"alg": "none", "kid": key.kid(), "typ": "pulse-telemetry-receipt"}));
    let rsa = of(&json!({"alg": "RS256", "kid": key.kid(), "typ": "pulse-telemetry-receipt"}));
    vec![
        key.sign(of_another),
        new_key().sign(right),
        format!("{none}.{}.", parts[1]),
        format!("{rsa}.{}.{}", parts[1], parts[2]),
        good.clone() + &"A".repeat(1024),
        "x".repeat(60_000),
        good[..good.len() - 3].to_owned(),
        "no receipt at all".to_owned(),
        "caf\u{e9}".to_owned(),
        String::new(),
        key.sign(of_the_other_kind),
    ]
}

/// Those of a ping with this body.
fn wrong_of_a_ping(key: &SigningKey, body: &[u8]) -> Vec<String> {
    wrong(key, &received(body), &received(b"another body"), &forgotten(&InstallId::nobodys()))
}

#[test]
fn receipts_of_every_wrong_kind_are_recorded_as_false_and_change_nothing_else() {
    let (pulse, receiver) = (SimulatedPulse::start(PulseModel::default()), Receiver::start());
    let key = receiver.key();
    let kinds = wrong_of_a_ping(&key, b"").len();
    let given = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&given);
    // After them the good one of the first ping, replayed.
    let first = std::sync::Mutex::new(None);
    receiver.sign(move |body| {
        let replayed = first.lock().unwrap().get_or_insert_with(|| key.sign(&received(body))).clone();
        let number = count.fetch_add(1, Ordering::SeqCst);
        Some(wrong_of_a_ping(&key, body).into_iter().nth(number).unwrap_or(replayed))
    });
    let setup = fast(working(&pulse, &receiver));
    // Pulse is read every ten seconds at most, so most pings are those of a start.
    for number in 0..=kinds {
        pulse.change(|model| model.counts.vms = 100 + number as u64);
        let sidecar = setup.start();
        receiver.wait_for(PING_PATH, number + 1, LIMIT);
        wait_for("its entry", || recorded(&setup, "sent").len() > number);
        let told = status(&setup);
        assert_eq!((&told["last_receipt"], &told["last"]["outcome"]), (&json!("false"), &json!("delivered")));
        let warnings = told["warnings"].to_string();
        assert!(warnings.contains("receipt for the last ping is false"), "{warnings}");
        sidecar.stop();
    }
    let sent = recorded(&setup, "sent");
    assert_eq!((sent.len(), given.load(Ordering::SeqCst)), (kinds + 1, kinds + 1), "none is sent again");
    for entry in sent {
        assert_eq!((&entry["receipt_is"], &entry["receipt"]), (&json!("false"), &Value::Null), "{entry}");
    }
    assert_eq!(recorded(&setup, "failed"), Vec::<Value>::new());
    assert!(setup.run(&["audit"]).status.success());
}

#[test]
fn a_receipt_is_kept_with_its_ping_verified_unverified_or_missing() {
    let pulse = SimulatedPulse::start(PulseModel::default());
    for (with_keys, gives, standing) in
        [(true, true, "verified"), (false, true, "unverified"), (true, false, "missing"), (false, false, "missing")]
    {
        let receiver = Receiver::start();
        if !gives {
            receiver.sign(|_| None);
        }
        let setup = if with_keys {
            working(&pulse, &receiver)
        } else {
            Setup::new(&pulse.url(), &receiver.url()).with_token(TOKEN).on_a_socket()
        };
        let sidecar = setup.start();
        let told = || status(&setup)["last_receipt"].clone();
        wait_for(standing, || told() == standing);
        let entry = recorded(&setup, "sent").remove(0);
        assert_eq!(entry["receipt_is"], standing);
        let body = recorded(&setup, "attempted").remove(0)["body"].as_str().unwrap().to_owned();
        let expected = gives.then(|| receiver.key().sign(&received(body.as_bytes())));
        assert_eq!(entry["receipt"].as_str(), expected.as_deref());
        let warns = status(&setup)["warnings"].to_string().contains("gave no receipt");
        assert_eq!(warns, with_keys && !gives, "only who named keys expects one");
        sidecar.stop();
        let audit = setup.run(&["audit"]);
        assert!(audit.status.success(), "{}", text(&audit.stdout));
        let keys = setup.write("others.json", &keys_of(&new_key()).jwk_set().to_string());
        let audit = setup.run(&["audit", "--receipt-keys", keys.to_str().unwrap()]);
        assert_eq!(audit.status.success(), !gives, "another's keys verify none: {}", text(&audit.stdout));
    }
}

#[test]
fn a_second_receipt_beside_a_good_one_makes_both_false() {
    let (pulse, receiver) = (SimulatedPulse::start(PulseModel::default()), Receiver::start());
    let twice = ResponsePlan::status(204).with_header(RECEIPT_HEADER, "a.b.c").with_header(RECEIPT_HEADER, "a.b.c");
    receiver.answer(PING_PATH, twice);
    let setup = working(&pulse, &receiver);
    let sidecar = setup.start();
    wait_for("its entry", || recorded(&setup, "sent").len() == 1);
    assert_eq!(recorded(&setup, "sent")[0]["receipt_is"], "false");
    drop(sidecar);
}

#[test]
fn a_deletion_whose_receipt_is_false_or_missing_is_over_and_told_as_that() {
    let pulse = SimulatedPulse::start(PulseModel::default());
    let nobodys = forgotten(&InstallId::nobodys());
    let kinds = wrong(&new_key(), &nobodys, &nobodys, &nobodys).len();
    // After them one that is no text, and none.
    for number in 0..kinds + 2 {
        let receiver = Receiver::start();
        let setup = working(&pulse, &receiver);
        let (sidecar, id) = delivered(&setup, &receiver);
        let right = forgotten(&InstallId::parse(&id).unwrap());
        let of_the_other_kind = received(&receiver.asked(PING_PATH)[0].body);
        let receipts = wrong(&receiver.key(), &right, &nobodys, &of_the_other_kind);
        let answer = match receipts.get(number) {
            Some(receipt) => json!({"receipt": receipt}),
            None if number == kinds => json!({"receipt": {"kind": "forgotten"}}),
            None => json!({}),
        };
        receiver.answer(FORGET_PATH, ResponsePlan::json(200, &answer));
        assert!(setup.run(&["forget"]).status.success());
        let entry = recorded(&setup, "forgotten").remove(0);
        let standing = if number > kinds { "missing" } else { "false" };
        assert_eq!((&entry["receipt_is"], &entry["receipt"]), (&json!(standing), &Value::Null), "{answer}: {entry}");
        assert_eq!((receiver.asked(CONTRACT_PATH).len(), receiver.asked(FORGET_PATH).len()), (1, 1), "{answer}");
        assert_eq!(status(&setup)["forget"]["pending"], 0, "{answer}");
        drop(sidecar);
    }
}

#[test]
fn a_keys_file_that_cannot_be_used_ends_the_start_and_names_its_key() {
    let (pulse, receiver) = (SimulatedPulse::start(PulseModel::default()), Receiver::start());
    let setup = working(&pulse, &receiver);
    let audit = |setup: &Setup| setup.run(&["audit"]);
    for (content, words) in [
        ("", "it is no JWK set"),
        ("{\"keys\":[]}", "there is no key of Ed25519 in it"),
        ("-----BEGIN PUBLIC KEY-----", "it is no JWK set"),
    ] {
        let file = setup.write("keys.json", content);
        for output in [setup.run(&["run"]), setup.run(&["check"]), audit(&setup)] {
            assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
            let told = text(&output.stderr);
            assert!(told.contains("telemetry.receipt_keys_file") && told.contains(words), "{told}");
        }
        let output = setup.run(&["audit", "--receipt-keys", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(3));
        assert!(text(&output.stderr).contains("--receipt-keys"), "{}", text(&output.stderr));
    }
    let missing = setup.clone().with("PULSE_TELEMETRY_TELEMETRY__RECEIPT_KEYS_FILE", "/nowhere/keys.json");
    let output = missing.run(&["run"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("telemetry.receipt_keys_file"), "{}", text(&output.stderr));
    assert_eq!(receiver.server.connections(), 0);
}
