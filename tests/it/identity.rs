//! The install ID: what Pulse's own code keeps or rotates, ours keeps or rotates too.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use pulse_telemetry_core::contract;
use pulse_telemetry_core::identity::{Identity, canonical_install_id, is_install_id};
use pulse_telemetry_core::rng::Rng;
use pulse_telemetry_process::rng::SystemRng;
use serde_json::{Value, json};

#[test]
fn every_recorded_id_file_is_kept_or_rotated_as_pulse_does() {
    let Some(shared) =
        pulse_telemetry_testkit::replay::shared_or_skip("every_recorded_id_file_is_kept_or_rotated_as_pulse_does")
    else {
        return;
    };
    let oracle = std::fs::read_to_string(shared.join("oracles/install-id.jsonl")).unwrap();
    let mut lines = 0;
    for line in oracle.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let now: Timestamp = case["now"].as_str().unwrap().parse().unwrap();
        let content = case["content"].as_str().unwrap();
        let kept = Identity::parse(content.as_bytes()).filter(|identity| identity.is_current(now));
        let kept = kept.map_or(String::new(), |identity| identity.install_id.to_string());
        assert_eq!(kept, case["install_id"].as_str().unwrap(), "of {content:?}");
        assert_eq!(if kept.is_empty() { "rotated" } else { "kept" }, case["result"].as_str().unwrap());
        lines += 1;
    }
    assert!(lines >= 80, "the oracle has {lines} lines");
}

#[test]
fn an_id_file_is_read_as_go_reads_json() {
    let kept = |content: &str| Identity::parse(content.as_bytes()).is_some();
    let id = "81f9c1f6-6c0f-4459-b79b-17aeefba91fc";
    let with = |fields: &str| kept(&format!("{{{fields}}}"));
    let issued = "\"issued_at\":\"2026-05-21T18:46:08Z\"";
    assert!(with(&format!("\"install_id\":\"{id}\",{issued}")));
    assert!(with(&format!("\"in\u{17f}tall_id\":\"{id}\",{issued}")), "the long s folds into s");
    assert!(with(&format!("\"install_id\":\"x\",\"Install_ID\":\"{id}\",{issued}")), "the last one wins");
    assert!(with(&format!("\"install_id\":\"{id}\",\"install_id\":null,{issued}")), "null changes nothing");
    for time in [
        "2026-05-21t18:46:08Z",
        "2026-05-21T18:46:08z",
        "2026-05-21 18:46:08Z",
        "2026-5-21T18:46:08Z",
        "2026-05-21T18:46:60Z",
        "2026-05-21T24:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-05-21T18:46:08",
        "2026-05-21T18:46:08,5Z",
        "2026-05-21T18:46:08.Z",
        "2026-05-21T18:46:08+24:00",
        "2026-05-21T18:46:08+0200",
        "2026-05-21T18:46:08+02:60",
        "+02026-05-21T18:46:08Z",
        "2026-05-21T18:46:08Z ",
        "0001-01-01T00:00:00Z",
        "2026-05-21T18:46:0\\u0038Z",
    ] {
        assert!(!with(&format!("\"install_id\":\"{id}\",\"issued_at\":\"{time}\"")), "{time}");
    }
    for time in ["2026-05-21T18:46:08.1Z", "2026-05-21T18:46:08.1234567891234Z", "2026-05-21T18:46:08-23:59"] {
        assert!(with(&format!("\"install_id\":\"{id}\",\"issued_at\":\"{time}\"")), "{time}");
    }
}

#[test]
fn a_time_in_another_zone_is_the_same_time() {
    let id = "81f9c1f6-6c0f-4459-b79b-17aeefba91fc";
    for (written, meant) in [
        ("2026-05-21T20:46:08.5+05:30", "2026-05-21T15:16:08.5Z"),
        ("2026-05-21T20:46:08.25-03:15", "2026-05-22T00:01:08.25Z"),
        ("2026-05-21T20:46:08.123456789999Z", "2026-05-21T20:46:08.123456789Z"),
        ("2026-05-21T20:46:59-00:00", "2026-05-21T20:46:59Z"),
    ] {
        let record = format!(r#"{{"install_id":"{id}","issued_at":"{written}"}}"#);
        let identity = Identity::parse(record.as_bytes()).unwrap();
        assert_eq!(identity.issued_at, meant.parse().unwrap(), "{written}");
    }
}

#[test]
fn a_time_with_something_else_than_a_zone_is_none() {
    for zone in ["x12:30", "+12:30x", "+1:30", "+24:00", "+12:60", "z", ""] {
        let record = format!(
            r#"{{"install_id":"81f9c1f6-6c0f-4459-b79b-17aeefba91fc","issued_at":"2026-05-21T20:46:08{zone}"}}"#
        );
        assert_eq!(Identity::parse(record.as_bytes()), None, "{zone:?}");
    }
}

#[test]
fn only_the_five_spellings_of_a_uuid_are_an_id() {
    let plain = "81f9c1f6-6c0f-4459-b79b-17aeefba91fc";
    let bare = plain.replace('-', "");
    for id in [
        plain.to_owned(),
        plain.to_uppercase(),
        format!("{{{plain}}}"),
        format!("urn:uuid:{plain}"),
        format!("URN:UUID:{plain}"),
        format!("Urn:uUid:{plain}"),
        bare.clone(),
    ] {
        assert!(is_install_id(&id), "{id}");
        assert_eq!(canonical_install_id(&id).as_deref(), Some(plain));
        assert!(jsonschema_accepts(&id), "the schema takes {id}");
    }
    for id in [
        "",
        "x",
        &plain[1..],
        &format!("({plain})"),
        &format!("{{{bare}}}"),
        &format!("urn:uuid:{bare}"),
        &format!("urn:uuid{plain}x"),
        &format!(" {plain}"),
        &plain.replace('-', "_"),
    ] {
        assert!(!is_install_id(id), "{id}");
        assert_eq!(canonical_install_id(id), None);
        assert!(!jsonschema_accepts(id), "the schema refuses {id}");
    }
}

#[test]
fn an_id_is_random_version_4_and_unlike_any_other() {
    let ids: BTreeSet<_> = (0..1000).map(|_| SystemRng.uuid()).collect();
    assert_eq!(ids.len(), 1000);
    assert!(ids.iter().all(|id| id.get_version_num() == 4 && id.get_variant() == uuid::Variant::RFC4122));
}

#[test]
fn an_id_rotates_when_it_is_thirty_days_old_and_not_before() {
    let issued_at: Timestamp = "2026-05-21T18:46:08Z".parse().unwrap();
    let identity = Identity::new(SystemRng.uuid(), issued_at);
    let after = |seconds| issued_at + SignedDuration::from_secs(seconds);
    let thirty_days = 30 * 24 * 60 * 60;
    assert!(identity.is_current(issued_at));
    assert!(identity.is_current(after(thirty_days - 1)));
    assert!(!identity.is_current(after(thirty_days)));
    assert!(!identity.is_current(after(-1)), "an ID from the future is not kept");
}

proptest! {
    #[test]
    fn no_bytes_at_all_make_an_id_file_panic_or_break_the_bounds(content in any::<Vec<u8>>()) {
        read_within_bounds(&content)?;
    }

    #[test]
    fn no_record_makes_an_id_file_panic_or_break_the_bounds(
        id in "[ {}]?(urn:uuid:)?[0-9a-fA-F{}-]{0,38}",
        time in "[0-9]{0,5}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,12})?(Z|[+-][0-9]{2}:[0-9]{2})?",
    ) {
        read_within_bounds(json!({"install_id": id, "issued_at": time}).to_string().as_bytes())?;
    }

    #[test]
    fn what_is_written_is_read_again(bytes in any::<[u8; 16]>(), at in -2_000_000_000_i64..4_000_000_000) {
        let issued_at = Timestamp::from_second(at).unwrap();
        let identity = Identity::new(uuid::Builder::from_random_bytes(bytes).into_uuid(), issued_at);
        prop_assert_eq!(Identity::parse(identity.to_file().as_bytes()), Some(identity));
    }
}

fn read_within_bounds(content: &[u8]) -> Result<(), TestCaseError> {
    if let Some(identity) = Identity::parse(content) {
        let field = contract::field("install_id").unwrap();
        prop_assert!(field.accepts(&json!(identity.install_id.as_str())));
        prop_assert!(jsonschema_accepts(identity.install_id.as_str()));
    }
    Ok(())
}

/// Whether the published schema takes the ID.
fn jsonschema_accepts(id: &str) -> bool {
    let schema = contract::schema();
    jsonschema::is_valid(&schema["properties"]["install_id"], &json!(id))
}
