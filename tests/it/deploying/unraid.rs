//! Unraid's template: well-formed, made of what Unraid knows, and good for the program.

use std::process::Command;

use serde_json::{Value, json};

use super::{Environment, beside_the_build, fed, read};

/// What Unraid's own editor writes and reads of a template, as far as it is used here.
const ELEMENTS: [&str; 12] = [
    "Container",
    "Name",
    "Repository",
    "Network",
    "Shell",
    "Privileged",
    "Project",
    "Overview",
    "Category",
    "WebUI",
    "ExtraParams",
    "Config",
];

/// The attributes of a `Config`, all of which it writes.
const ATTRIBUTES: [&str; 9] =
    ["Name", "Target", "Default", "Mode", "Description", "Type", "Display", "Required", "Mask"];

const READS: &str = "import json, sys\nfrom xml.etree import ElementTree\n\
                     root = ElementTree.fromstring(sys.stdin.read())\n\
                     print(json.dumps([[e.tag, e.attrib, e.text] for e in root.iter()]))";

/// The elements of the template: the name, the attributes and the text of each.
fn elements(test: &str) -> Option<Vec<(String, Value, Option<String>)>> {
    let python = beside_the_build(test, "schemathesis/bin/python", "--version")?;
    let output = fed(Command::new(python).args(["-c", READS]), &read("deploy/unraid/pulse-telemetry.xml"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// The text of an element that is there once.
fn text(elements: &[(String, Value, Option<String>)], tag: &str) -> String {
    elements.iter().find(|(t, ..)| t == tag).and_then(|(.., text)| text.clone()).unwrap()
}

/// The targets and the values of what is of that type, as somebody has them who changes nothing.
pub(crate) fn defaults(test: &str, kind: &str) -> Option<Vec<(String, String)>> {
    let of = |config: &Value, key: &str| config[key].as_str().unwrap().to_owned();
    // Of several choices Unraid takes the first.
    let default = |config: &Value| of(config, "Default").split('|').next().unwrap().to_owned();
    let elements = elements(test)?;
    let configs = elements.iter().filter(|(tag, ..)| tag == "Config").map(|(_, attributes, _)| attributes);
    Some(
        configs.filter(|config| config["Type"] == kind).map(|config| (of(config, "Target"), default(config))).collect(),
    )
}

/// What Unraid sets for the container.
pub(crate) fn environment(test: &str) -> Option<Environment> {
    defaults(test, "Variable")
}

/// What else Unraid gives to `docker run`.
pub(crate) fn parameters(test: &str) -> Option<Vec<String>> {
    Some(text(&elements(test)?, "ExtraParams").split(' ').map(str::to_owned).collect())
}

#[test]
fn the_unraid_template_is_well_formed_has_known_keys_alone_and_runs_without_rights() {
    let test = "the_unraid_template_is_well_formed_has_known_keys_alone_and_runs_without_rights";
    let Some(elements) = elements(test) else { return };
    for (tag, attributes, _) in &elements {
        assert!(ELEMENTS.contains(&tag.as_str()), "{tag}");
        let attributes: Vec<&String> = attributes.as_object().unwrap().keys().collect();
        match tag.as_str() {
            "Config" => {
                assert_eq!(attributes.len(), ATTRIBUTES.len(), "{attributes:?}");
                assert!(attributes.iter().all(|attribute| ATTRIBUTES.contains(&attribute.as_str())), "{attributes:?}");
            }
            "Container" => assert_eq!(attributes, ["version"]),
            _ => assert!(attributes.is_empty(), "{tag} has {attributes:?}"),
        }
    }
    assert_eq!(text(&elements, "Privileged"), "false");
    // Unraid's own user, nobody:users.
    for part in ["--user=99:100", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"] {
        assert!(text(&elements, "ExtraParams").split(' ').any(|parameter| parameter == part), "{part}");
    }
    let configs = || elements.iter().filter(|(tag, ..)| tag == "Config").map(|(_, attributes, _)| attributes);
    for config in configs() {
        let known = match config["Type"].as_str().unwrap() {
            "Port" => config["Target"] == "7656" && config["Mode"] == "tcp",
            "Path" => config["Mode"] == json!(if config["Name"] == "Tokens" { "ro" } else { "rw" }),
            "Variable" => config["Mode"] == "",
            _ => false,
        };
        assert!(known && ["always", "advanced"].contains(&config["Display"].as_str().unwrap()), "{config}");
    }
    // The program takes its variables.
    let mut check = Command::new(pulse_telemetry_testkit::sidecar::binary());
    check.env_clear().arg("check");
    let state = tempfile::tempdir().unwrap();
    let token = state.path().join("token");
    std::fs::write(&token, "a-token").unwrap();
    for (target, value) in environment(test).unwrap() {
        // The test has no such files, and no such network.
        let value = if value.starts_with("/run/secrets/") { token.to_str().unwrap() } else { &value };
        check.env(target, value.replace("192.0.2.5:7655", "127.0.0.1:1"));
    }
    let output = check.env("PULSE_TELEMETRY_STATE__DIR", state.path().join("state")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "it is Pulse that is not there: {said}");
    assert!(said.contains("tower.local") && said.contains("0.0.0.0:7656"), "{said}");
}
