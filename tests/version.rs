//! Version identity: what Pulse's own code makes of a version string, ours makes too.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use proptest::prelude::*;
use pulse_telemetry::contract;
use pulse_telemetry::version::{VERSION_MAX, VERSION_RAW_MAX, VersionIdentity, identify};
use serde_json::{Value, json};

#[test]
fn every_recorded_version_string_has_the_identity_that_pulse_gives_it() {
    let Some(shared) =
        support::replay::shared_or_skip("every_recorded_version_string_has_the_identity_that_pulse_gives_it")
    else {
        return;
    };
    let oracle = std::fs::read_to_string(shared.join("oracles/version-identity.jsonl")).unwrap();
    let mut lines = 0;
    for line in oracle.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let raw = case["raw"].as_str().unwrap();
        assert_eq!(as_json(&identify(raw).unwrap()), case["identity"], "of {raw:?}");
        lines += 1;
    }
    assert!(lines >= 400, "the oracle has {lines} lines");
}

#[test]
fn a_raw_version_that_is_too_long_or_has_control_characters_is_left_out_and_named() {
    let long = format!("v6.0.0-{}", "a".repeat(VERSION_RAW_MAX));
    for raw in [long.as_str(), "6.0.0\u{7} custom", "feature\u{0}x"] {
        let identity = identify(raw).unwrap();
        assert_eq!((identity.raw, identity.raw_left_out), (None, true), "of {raw:?}");
    }
    assert_eq!(identify("a\tb").unwrap().raw.as_deref(), Some("a\tb"), "a tab is no harm");
    assert!(!identify("v6.0.0").unwrap().raw_left_out, "it is told");
}

#[test]
fn a_version_outside_of_the_bounds_is_unknown() {
    let longest = format!("6.0.0-{}", "a".repeat(VERSION_MAX - "6.0.0-".len()));
    assert_eq!(identify(&longest).unwrap().version, longest);
    assert_eq!(identify(&format!("{longest}a")), None);
    assert_eq!(identify("6.0.0-a\u{1b}[31mb"), None);
}

#[test]
fn what_only_looks_like_git_describe_is_none() {
    for version in ["1.2.3-x-gabc", "1.2.3-4-gxyz", "1.2.3-4-g", "1.2.3-a_b-4-gabc"] {
        assert_eq!(identify(version).unwrap().version, version, "it stays as it stands");
    }
}

#[test]
fn the_first_rc_number_counts_and_must_be_a_number() {
    assert_eq!(as_json(&identify("6.0.0-rc99999999999999999999.rc1").unwrap())["version_channel"], "prerelease");
    assert_eq!(as_json(&identify("6.0.0-rcx.rc.3").unwrap())["version_channel"], "rc");
}

proptest! {
    #[test]
    fn no_string_breaks_the_bounds_of_the_contract(raw in any::<String>()) {
        within_bounds(&raw)?;
    }

    #[test]
    fn no_version_like_string_breaks_the_bounds_of_the_contract(
        raw in "(\\PC|[v0-9.+\\-a-z\t\n\u{0}]|rc|dev|-[0-9]+-g[0-9a-f]+|-dirty){0,60}",
        filler in 0_usize..400,
    ) {
        within_bounds(&raw)?;
        within_bounds(&format!("6.0.0-{}{raw}", "x".repeat(filler)))?;
    }
}

fn within_bounds(raw: &str) -> Result<(), TestCaseError> {
    let Some(identity) = identify(raw) else { return Ok(()) };
    for (name, value) in as_json(&identity).as_object().unwrap() {
        prop_assert!(contract::field(name).unwrap().accepts(value), "{} of {:?}: {}", name, raw, value);
    }
    Ok(())
}

fn as_json(identity: &VersionIdentity) -> Value {
    let mut json = json!({
        "version": identity.version,
        "version_channel": identity.channel,
        "version_is_development": identity.is_development,
        "version_is_published_release": identity.is_published_release,
    });
    let optional = [("version_raw", &identity.raw), ("version_build", &identity.build)];
    for (name, value) in optional.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        json[name] = json!(value);
    }
    json
}
