//! The contract is one table: what is sent, published and documented comes from it or is compared with it.

use proptest::prelude::*;
use pulse_telemetry_core::contract::{self, FIELDS, FieldKind, TokenAccess, Violation};
use pulse_telemetry_core::identity::InstallId;
use pulse_telemetry_core::ping::Event;
use pulse_telemetry_core::version::identify;
use pulse_telemetry_testkit::readings::{change, handed_over, ping};
use serde_json::{Value, json};

const ID: &str = "81f9c1f6-6c0f-4459-b79b-17aeefba91fc";

#[test]
fn the_files_made_from_the_code_are_up_to_date() {
    for (path, content) in pulse_telemetry_testkit::generated::generated() {
        let found = std::fs::read_to_string(&path).ok().unwrap_or_default();
        assert!(found == content, "{} is out of date: run `make generate`", path.display());
    }
}

#[test]
fn the_table_has_the_25_fields_of_the_privacy_page_in_its_order() {
    let names: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
    let page = "install_id version version_raw version_channel version_build version_is_development \
                version_is_published_release platform os arch event pve_nodes pbs_instances pmg_instances vms \
                containers docker_hosts kubernetes_clusters ai_enabled active_alerts relay_enabled sso_enabled \
                multi_tenant paid_license has_api_tokens";
    assert_eq!(names, page.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn a_ping_has_every_field_of_the_table_in_its_order_and_no_other() {
    let mut reading = handed_over();
    change(&mut reading, |values| values.version = Ok(identify("v6.0.0-rc.1-45-gabcdef").unwrap()));
    let bytes = ping(&reading, ID, Event::Startup);
    let ping: Value = serde_json::from_str(&bytes).unwrap();
    let keys: Vec<&String> = ping.as_object().unwrap().keys().collect();
    assert_eq!(keys, FIELDS.iter().map(|field| field.name).collect::<Vec<_>>());
    assert_eq!(contract::validate(&ping), Ok(()));
    assert!(jsonschema::is_valid(&contract::schema(), &ping));
    assert_eq!(bytes.as_str(), serde_json::to_string(&ping).unwrap(), "compact JSON");
}

#[test]
fn the_raw_version_and_the_build_are_sent_only_where_they_say_more() {
    let bytes = ping(&handed_over(), ID, Event::Heartbeat);
    assert!(!bytes.contains("version_raw") && !bytes.contains("version_build"), "{bytes}");
    let ping: Value = serde_json::from_str(&bytes).unwrap();
    assert_eq!(contract::validate(&ping), Ok(()));
    assert_eq!(ping.as_object().unwrap().len(), 23);
}

#[test]
fn the_example_of_every_field_is_within_its_bounds() {
    for field in &FIELDS {
        let example = serde_json::from_str(field.example).unwrap();
        assert!(field.accepts(&example), "{}", field.name);
    }
}

#[test]
fn the_pings_of_real_pulse_builds_are_within_the_bounds_once_the_other_fields_are_dropped() {
    let name = "the_pings_of_real_pulse_builds_are_within_the_bounds_once_the_other_fields_are_dropped";
    let Some(shared) = pulse_telemetry_testkit::replay::shared_or_skip(name) else { return };
    for file in ["ping-6.0.0-rc.1.txt", "ping-6.3.0.txt"] {
        let request = std::fs::read_to_string(shared.join("wire").join(file)).unwrap();
        let body = &request[request.find('{').unwrap()..];
        let mut ping: Value = serde_json::from_str(body).unwrap();
        let all = ping.as_object().unwrap().len();
        ping.as_object_mut().unwrap().retain(|key, _| contract::field(key).is_some());
        assert_eq!(contract::validate(&ping), Ok(()), "{file}");
        assert!(ping.as_object().unwrap().len() >= 23 && ping.as_object().unwrap().len() <= all);
    }
}

#[test]
fn the_texts_of_the_version_hold_one_alphabet_and_64_bytes_to_the_table_and_the_schema() {
    let schema = contract::schema();
    let longest = "6".repeat(64);
    for name in ["version", "version_raw", "version_build"] {
        let holds = |text: &str| {
            let text = json!(text);
            let accepted = contract::field(name).unwrap().accepts(&text);
            assert_eq!(jsonschema::is_valid(&schema["properties"][name], &text), accepted, "{name}: {text}");
            accepted
        };
        for text in ["6.0.0-rc.1", "v6.3.0+git.45.gabcdef.dirty", "0.0.0-dev", "+", "-", longest.as_str()] {
            assert!(holds(text), "{name}: {text}");
        }
        let too_long = format!("{longest}6");
        for text in
            ["", " ", "6.3.0 ", "6.3.0\n", "a_b", "a/b", "a~b", "<b>", "=1", "ü", "a\u{202e}", "a\tb", &too_long]
        {
            assert!(!holds(text), "{name}: {text}");
        }
    }
}

#[test]
fn a_ping_with_another_key_does_not_validate() {
    let mut ping: Value = serde_json::from_str(&ping(&handed_over(), ID, Event::Heartbeat)).unwrap();
    ping["hostname"] = json!("pve1");
    assert_eq!(contract::validate(&ping), Err(Violation::Additional(1)));
    assert!(!jsonschema::is_valid(&contract::schema(), &ping));
}

#[test]
fn no_violation_repeats_what_it_found() {
    let mut ping: Value = serde_json::from_str(&ping(&handed_over(), ID, Event::Heartbeat)).unwrap();
    ping["os"] = json!("secret-host.example");
    let violation = contract::validate(&ping).unwrap_err();
    assert_eq!(violation, Violation::OutOfBounds("os"));
    assert!(!violation.to_string().contains("secret-host"));
}

/// JSON values of every kind, many of them at the edges of a bound.
fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(|b| json!(b)),
        any::<i64>().prop_map(|n| json!(n)),
        (0_u64..20_000_000).prop_map(|n| json!(n)),
        any::<f64>().prop_map(|n| json!(n)),
        "[a-z0-9]{0,20}".prop_map(|s| json!(s)),
        "[0-9A-Za-z.+_-]{0,66}".prop_map(|s| json!(s)),
        "(\\PC|\u{7f}|\u{85}|\t|\n){0,8}".prop_map(|s| json!(s)),
        (0_usize..300).prop_map(|n| json!("x".repeat(n))),
        prop_oneof![Just("stable"), Just("docker"), Just("heartbeat"), Just(ID)].prop_map(|s| json!(s)),
        Just(Value::Null),
        Just(json!([])),
    ]
}

proptest! {
    #[test]
    fn the_table_and_the_schema_accept_the_same_values(at in 0..FIELDS.len(), value in values()) {
        let field = &FIELDS[at];
        let schema = contract::schema();
        let in_schema = jsonschema::is_valid(&schema["properties"][field.name], &value);
        // 1.0 is an integer to JSON Schema.
        prop_assume!(!(field.kind == FieldKind::Count && value.is_f64()));
        prop_assert_eq!(field.accepts(&value), in_schema, "{}: {}", field.name, value);
    }
}

#[test]
fn a_new_field_needs_its_row_in_the_contract_and_its_line_in_the_reading_and_nothing_else() {
    use pulse_telemetry_testkit::contract_of_tests::{Answer, FIELDS, Ping, read};
    let values = read(Answer { vms: Some(25), storages: None });
    let rows: Vec<_> = values.rows().iter().map(|row| (row.name, row.needs, row.value.is_ok())).collect();
    assert_eq!(
        rows,
        [("vms", TokenAccess::Monitoring, true), ("storages", TokenAccess::Monitoring, false)],
        "the rows of check"
    );
    let unknown: Vec<_> = values.unknown().map(|unknown| unknown.what).collect();
    assert_eq!(unknown, ["storages"]);
    assert_eq!(values.clone().complete().unwrap_err().values(), &values, "no payload without it");

    let payload = read(Answer { vms: Some(25), storages: Some(7) }).complete().unwrap();
    let install_id = InstallId::parse(ID).unwrap();
    let ping = Ping { payload: &payload, install_id: &install_id, event: Event::Startup }.to_json();
    assert_eq!(ping, format!("{{\"install_id\":\"{ID}\",\"event\":\"startup\",\"vms\":25,\"storages\":7}}"));
    let ping: Value = serde_json::from_str(&ping).unwrap();
    assert_eq!(contract::validate_by(&FIELDS, &ping), Ok(()));
    assert_eq!(contract::validate(&ping), Err(Violation::Missing("version")), "it is not the contract of Pulse");
    let schema = contract::schema_of(&FIELDS);
    assert!(
        jsonschema::is_valid(&schema, &ping) && schema["required"].as_array().unwrap().contains(&json!("storages"))
    );
    assert!(
        contract::markdown_table_of(&FIELDS)
            .contains("| `storages` | `7` | 0 to 10000000 | A field that is only tested. |")
    );
}

/// Of what others gave a name: the caller without a token in the recorded captures, and what is said of the word
/// itself.
const OF_OTHERS: [&str; 2] = ["crates/testkit/src/replay.rs", "tests/it/contract.rs"];

#[test]
fn no_text_of_ours_calls_the_ping_anonymous() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut looked_at = 0;
    let mut left: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    while let Some(path) = left.pop() {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        if name.starts_with("target") || name.starts_with('.') || name.starts_with("tests/fixtures") {
            continue;
        }
        if path.is_dir() {
            left.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        looked_at += 1;
        for line in text.lines().filter(|_| !OF_OTHERS.contains(&name.as_str())) {
            let said = line.to_lowercase().replace("not anonymous", "");
            assert!(!said.contains("anonymous"), "{name}: the ID is a pseudonym: {line}");
        }
    }
    assert!(looked_at > 200, "{looked_at} files");
}
