//! What the audit says of receipts, and of pings with an ID whose deletion was asked for.

use std::borrow::Cow;

use pulse_telemetry_core::audit::{Audit, Report};
use pulse_telemetry_core::engine::EntryKind::{Erased, ForgetAsked, ForgetFailed, Forgotten, IdReset, Sent};
use pulse_telemetry_core::identity::InstallId;
use pulse_telemetry_core::ledger::{Line, Piece};
use pulse_telemetry_core::ping::Event::{Heartbeat, Startup};
use pulse_telemetry_core::receipt::{ReceiptKeys, ReceiptStanding, SigningKey};
use pulse_telemetry_testkit::history::{
    DAY, SCHEDULE, attempt, body, chained, chained_behind, found, noon, split, started,
};
use pulse_telemetry_testkit::receiver;

/// PKCS#8 of a key whose private half is this byte, 32 times.
fn key(seed: u8) -> SigningKey {
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend([seed; 32]);
    SigningKey::from_pkcs8(&der).unwrap()
}

fn keys() -> Option<ReceiptKeys> {
    Some(receiver::keys_of(&key(1)))
}

fn received(key: &SigningKey, body: &str) -> String {
    key.sign(&receiver::received(body.as_bytes()))
}

fn id(number: u32) -> InstallId {
    InstallId::parse(&format!("{number:08x}-0000-4000-8000-000000000000")).unwrap()
}

fn deleted(key: &SigningKey, id: &InstallId) -> String {
    key.sign(&receiver::forgotten(id))
}

fn with_receipt(line: Line<'static>, text: Option<String>, standing: ReceiptStanding) -> Line<'static> {
    Line { receipt: text.map(Cow::Owned), receipt_is: Some(standing), ..line }
}

fn of_deletion(kind: pulse_telemetry_core::engine::EntryKind, number: u32) -> Line<'static> {
    let install_id = Some(Cow::Owned(id(number).as_str().to_owned()));
    Line { install_id, ..Line::new(kind, noon() + DAY) }
}

/// A delivered startup ping with that receipt, and the deletion of its ID with that one.
fn history(of_ping: Option<String>, of_deletion_: Option<String>, standing: ReceiptStanding) -> Vec<Line<'static>> {
    let sent = Line { event: Some(Startup), ..Line::new(Sent, noon()) };
    vec![
        started(noon(), SCHEDULE),
        attempt(noon(), Startup, body(1, Startup, 1)),
        with_receipt(sent, of_ping, standing),
        Line::new(IdReset, noon() + DAY),
        of_deletion(ForgetAsked, 1),
        with_receipt(of_deletion(Forgotten, 1), of_deletion_, standing),
    ]
}

fn report(keys: Option<ReceiptKeys>, ledger: &[u8]) -> Report {
    let mut audit = Audit::new(noon() + DAY * 90, None).with_receipt_keys(keys);
    split(ledger).iter().for_each(|line| audit.take(Piece::Line(line.strip_suffix(b"\n").unwrap_or(line))));
    audit.finish()
}

fn findings(report: &Report) -> Vec<(&'static str, u64)> {
    report.checks.iter().flat_map(|check| check.findings.iter().map(|finding| (check.name, finding.line))).collect()
}

#[test]
fn receipts_are_verified_with_the_keys_that_are_given_and_counted() {
    let (ping, deletion) = (received(&key(1), &body(1, Startup, 1)), deleted(&key(1), &id(1)));
    let ledger = chained(history(Some(ping), Some(deletion), ReceiptStanding::Unverified));
    for (keys, said) in [
        (keys(), "2 receipts: 2 verified, 0 not verified; 0 times none came, 0 times a false one"),
        (None, "2 receipts: 0 verified, 2 not verified (no keys were given); 0 times none came"),
    ] {
        let report = report(keys, &ledger);
        assert!(report.is_clean() && report.to_text().contains(said), "{}", report.to_text());
        assert!(report.to_text().contains("1 deletions were asked for, 1 are done and 0 were ended"));
    }
}

#[test]
fn what_was_missing_or_false_when_it_came_is_counted_and_is_no_finding_of_the_ledger() {
    for (standing, said) in [
        (ReceiptStanding::Missing, "2 times none came, 0 times"),
        (ReceiptStanding::False, "0 times none came, 2 times"),
    ] {
        let report = report(keys(), &chained(history(None, None, standing)));
        assert!(report.is_clean() && report.to_text().contains(said), "{}", report.to_text());
    }
    let older = history(None, None, ReceiptStanding::Missing).into_iter().map(|line| Line { receipt_is: None, ..line });
    assert!(report(keys(), &chained(older.collect())).is_clean(), "an earlier version looked for none");
}

#[test]
fn a_receipt_of_something_else_or_by_another_key_is_found() {
    let (right, other_key) = (key(1), key(2));
    let good = || (Some(received(&right, &body(1, Startup, 1))), Some(deleted(&right, &id(1))));
    let found_with = |of_ping, of_deletion, keys| {
        findings(&report(keys, &chained(history(of_ping, of_deletion, ReceiptStanding::Unverified))))
    };
    let of_ping = [("receipts", 3)];
    let of_deletion = [("receipts", 6)];
    assert_eq!(found_with(Some(received(&right, &body(1, Startup, 2))), good().1, None), of_ping, "another body");
    assert_eq!(found_with(good().1, good().1, None), of_ping, "of the other kind");
    assert_eq!(found_with(Some("nonsense".to_owned()), good().1, None), of_ping);
    assert_eq!(found_with(None, good().1, None), of_ping, "it is gone");
    assert_eq!(found_with(Some(received(&other_key, &body(1, Startup, 1))), good().1, keys()), of_ping);
    assert_eq!(found_with(good().0, Some(deleted(&right, &id(2))), None), of_deletion, "of another ID");
    assert_eq!(found_with(good().0, Some(deleted(&other_key, &id(1))), keys()), of_deletion);
    assert_eq!(found_with(good().0, good().1, keys()), []);
    let kept = history(good().0, None, ReceiptStanding::False);
    assert_eq!(findings(&report(None, &chained(kept))), of_ping, "of one that is false no text is kept");
}

#[test]
fn a_ping_with_an_id_whose_deletion_was_asked_for_is_found_in_whatever_spelling() {
    let mut lines = history(None, None, ReceiptStanding::Missing);
    let again = body(1, Heartbeat, 9);
    lines.extend([attempt(noon() + DAY * 3, Heartbeat, again.clone())]);
    // As it was replaced before, the rotation is wrong as well.
    assert_eq!(found(&chained(lines.clone())), [("rotation", 7), ("deletions", 7)]);
    let other = attempt(noon() + DAY * 3, Heartbeat, body(2, Heartbeat, 9));
    *lines.last_mut().unwrap() = other;
    assert_eq!(found(&chained(lines)), []);

    let loud = again.replace(id(1).as_str(), &format!("{{{}}}", id(1).as_str().to_uppercase()));
    let ledger =
        chained(vec![started(noon(), SCHEDULE), of_deletion(ForgetAsked, 1), attempt(noon() + DAY, Heartbeat, loud)]);
    assert!(found(&ledger).contains(&("deletions", 3)), "{:?}", found(&ledger));
}

#[test]
fn a_deletion_that_says_of_no_id_is_found_and_one_that_was_recorded_again_after_a_crash_is_not() {
    let mut lines = history(None, None, ReceiptStanding::Missing);
    lines.insert(5, of_deletion(ForgetAsked, 1));
    lines.push(lines.last().unwrap().clone());
    lines.push(of_deletion(ForgetFailed, 7));
    assert_eq!(found(&chained(lines.clone())), []);
    for kind in [ForgetAsked, Forgotten, ForgetFailed] {
        assert_eq!(found(&chained(vec![Line::new(kind, noon())])), [("deletions", 1)]);
    }
}

#[test]
fn behind_an_erased_or_pruned_beginning_receipts_and_deletions_are_no_finding() {
    let rest = history(Some(received(&key(1), &body(1, Startup, 1))), None, ReceiptStanding::Unverified);
    let mut erased = vec![Line::new(Erased, noon())];
    // The attempt went with the beginning, and so did the asking.
    erased.extend([rest[2].clone(), with_receipt(of_deletion(Forgotten, 1), None, ReceiptStanding::Missing)]);
    let report = report(keys(), &chained_behind(40, "1".repeat(64), erased));
    assert_eq!(findings(&report), []);
    assert!(report.to_text().contains("1 receipts: 0 verified, 1 not verified"), "{}", report.to_text());
}
