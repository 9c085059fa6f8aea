//! Version identity: what Pulse's own code makes of a version string, ours makes too.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use proptest::prelude::*;
use pulse_telemetry_core::contract;
use pulse_telemetry_core::version::{VERSION_MAX, VersionIdentity, identify, is_sendable};
use serde_json::{Value, json};

#[test]
fn every_recorded_version_string_has_the_identity_that_pulse_gives_it() {
    let Some(shared) = pulse_telemetry_testkit::replay::shared_or_skip(
        "every_recorded_version_string_has_the_identity_that_pulse_gives_it",
    ) else {
        return;
    };
    let oracle = std::fs::read_to_string(shared.join("oracles/version-identity.jsonl")).unwrap();
    let mut lines = 0;
    for line in oracle.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let raw = case["raw"].as_str().unwrap();
        assert_eq!(as_json(&VersionIdentity::of(raw)), case["identity"], "of {raw:?}");
        assert_sendable(raw, &case["identity"]);
        lines += 1;
    }
    assert!(lines >= 400, "the oracle has {lines} lines");
}

/// What is sent is Pulse's identity without the texts that may not be sent, and nothing at all where the version is
/// one.
fn assert_sendable(raw: &str, identity: &Value) {
    let text = |name: &str| identity[name].as_str();
    let may_be_sent = |name: &str| text(name).is_some_and(is_sendable);
    let Some(sent) = identify(raw) else {
        assert!(!may_be_sent("version"), "of {raw:?}");
        return;
    };
    assert!(may_be_sent("version"), "of {raw:?}");
    assert_eq!(sent.raw.as_deref(), text("version_raw").filter(|text| is_sendable(text)), "of {raw:?}");
    assert_eq!(sent.build.as_deref(), text("version_build").filter(|text| is_sendable(text)), "of {raw:?}");
    assert_eq!(sent.raw_left_out, identity.get("version_raw").is_some() && !may_be_sent("version_raw"), "of {raw:?}");
    assert_eq!(as_json(&sent)["version_channel"], identity["version_channel"], "of {raw:?}");
}

#[test]
fn a_raw_version_that_is_too_long_or_not_of_the_alphabet_is_left_out_and_named() {
    let longer = format!("v6.0.0-{}", "a".repeat(58));
    for raw in [
        longer.as_str(),
        "6.0.0\u{7} custom",
        "feature\u{0}x",
        "a\tb",
        "feature/x",
        "root@pve01:/home/anna Büro",
        "<script>alert(1)</script>",
        "=HYPERLINK(\"http://x\",\"y\")",
        "a\u{202e}b",
        "a\u{200b}b",
        "a\u{2028}b",
        "a_b",
        "ä",
    ] {
        let identity = identify(raw).unwrap();
        assert_eq!((identity.raw, identity.raw_left_out), (None, true), "of {raw:?}");
    }
    assert_eq!(identify("v6.0.0").unwrap().raw.as_deref(), Some("v6.0.0"), "it is told");
    assert!(!identify("v6.0.0").unwrap().raw_left_out);
    let described = identify("v6.0.0-rc.1-45-gabcdef-dirty").unwrap();
    assert_eq!(described.build.as_deref(), Some("git.45.gabcdef.dirty"));
    assert!(!described.raw_left_out && !described.build_left_out);
}

#[test]
fn a_version_outside_of_the_bounds_is_unknown() {
    let longest = format!("6.0.0-{}", "a".repeat(VERSION_MAX - "6.0.0-".len()));
    assert_eq!(longest.len(), 64);
    assert_eq!(identify(&longest).unwrap().version, longest);
    for raw in [
        format!("{longest}a").as_str(),
        "6.0.0-a\u{1b}[31mb",
        "6.3.0-<script>",
        "6.3.0-=HYPERLINK(\"http://x\",\"y\")",
        "6.3.0+pve01 in the attic",
        "6.3.0-\u{202e}x",
        "6.3.0-\u{200b}x",
        "6.3.0+\u{2028}x",
        "6.3.0-a\tb",
        "6.3.0-a_b",
        "6.3.0+ü",
        &"x".repeat(65),
    ] {
        assert_eq!(identify(raw), None, "{raw:?}");
        assert!(!VersionIdentity::of(raw).version.is_empty());
    }
}

#[test]
fn what_only_looks_like_git_describe_is_none() {
    for version in ["1.2.3-x-gabc", "1.2.3-4-gxyz", "1.2.3-4-g", "1.2.3-a_b-4-gabc"] {
        assert_eq!(VersionIdentity::of(version).version, version, "it stays as it stands");
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
        "version_channel": identity.channel.word(),
        "version_is_development": identity.is_development,
        "version_is_published_release": identity.is_published_release,
    });
    let optional = [("version_raw", &identity.raw), ("version_build", &identity.build)];
    for (name, value) in optional.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        json[name] = json!(value);
    }
    json
}
