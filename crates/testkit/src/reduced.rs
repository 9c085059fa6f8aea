//! A capture reduced to what is read of it: no name, no address, no text of Pulse's. It is kept among the fixtures, so
//! that a clone without `../shared` compares with Pulse's own pings too.

use std::path::{Path, PathBuf};

use pulse_telemetry_core::contract;
use serde_json::{Map, Value, json};

use super::replay;

/// What stands in place of Pulse's install ID.
const INSTALL_ID: &str = "00000000-0000-4000-8000-000000000000";

/// What of Pulse's environment decides what its answers mean.
const ENVIRONMENT: &[&str] = &["PULSE_MOCK_MODE", "PULSE_DOCKER", "PULSE_MULTI_TENANT_ENABLED", "PULSE_TELEMETRY"];

/// Each capture of `../shared`, and what its fixture should hold.
pub fn fixtures() -> impl Iterator<Item = (PathBuf, String)> {
    replay::captures().into_iter().map(|capture| {
        let name = format!("{}.json", capture.file_name().unwrap().to_str().unwrap());
        (replay::reduced_folder().join(name), text(&reduce(&capture)))
    })
}

/// One answer a line, so that a change is seen.
fn text(reduced: &Value) -> String {
    let mut parts = Vec::new();
    for (name, value) in reduced.as_object().unwrap() {
        let value = match value {
            Value::Array(responses) => {
                let lines: Vec<String> = responses.iter().map(|response| format!("  {response}")).collect();
                format!("[\n{}\n ]", lines.join(",\n"))
            }
            value => value.to_string(),
        };
        parts.push(format!(" \"{name}\": {value}"));
    }
    format!("{{\n{}\n}}\n", parts.join(",\n"))
}

fn reduce(capture: &Path) -> Value {
    let index = replay::index(capture);
    let environment = ENVIRONMENT.iter().filter_map(|name| Some(((*name).to_owned(), index["env"].get(name)?.clone())));
    let mut reduced = json!({
        "pulse_version": index["pulse_version"],
        "env": environment.collect::<Map<_, _>>(),
    });
    if let Some(oracle) = index.get("oracle") {
        reduced["oracle"] = payload(oracle);
    }
    if let Some(counts) = index.get("counts") {
        reduced["counts"] = counts.clone();
    }
    reduced["responses"] = responses(capture, &index);
    reduced
}

fn responses(capture: &Path, index: &Value) -> Value {
    let answers = replay::load(capture);
    let mut kept: Vec<Value> = Vec::new();
    for response in index["responses"].as_array().unwrap() {
        let (token, path) = (response["token"].as_str().unwrap(), response["path"].as_str().unwrap());
        let Some(told) = answers.get(&replay::key(token, path)) else { continue };
        let five = index["pulse_version"].as_str().unwrap() < "6";
        let Some(body) = body(path, told.status, &told.body, five) else { continue };
        let same = kept.iter().find(|other| other["path"] == path && other["body"] == body).map(|o| o["token"].clone());
        let mut response = json!({"token": token, "path": path, "status": told.status});
        match same {
            Some(token) if told.status == 200 => response["same_as"] = token,
            _ => response["body"] = body,
        }
        kept.push(response);
    }
    Value::Array(kept)
}

/// What is read of an answer, or `None` for one that nobody asks for.
fn body(path: &str, status: u16, body: &[u8], five: bool) -> Option<Value> {
    let reduce = of_path(path, five)?;
    let body: Value = serde_json::from_slice(body).ok().unwrap_or_default();
    Some(match status {
        200 | 503 => reduce(&body),
        403 => only(&body, &["error", "requiredScope"]),
        _ => json!({}),
    })
}

fn of_path(path: &str, five: bool) -> Option<fn(&Value) -> Value> {
    Some(match path {
        "/api/health" => |all| only(all, &["uptime"]),
        "/api/version" => |all| only(all, &["version", "isDocker", "deploymentType"]),
        "/api/security/status" => security,
        "/api/system/settings" => settings,
        "/api/system/settings/telemetry-preview" => preview,
        "/api/system/mock-mode" => |all| only(all, &["enabled"]),
        "/api/resources/stats" => stats,
        "/api/state/summary" => summary,
        "/api/resources?type=agent&source=proxmox&limit=1"
        | "/api/resources?type=agent,docker-host&source=docker&limit=1" => {
            |all| json!({"meta": only(&all["meta"], &["total"])})
        }
        "/api/alerts/active" => lengths,
        "/api/state" if five => state_of_five,
        "/api/settings/ai" => |all| only(all, &["enabled", "configured_providers"]),
        "/api/settings/relay" => |all| only(all, &["enabled"]),
        "/api/license/status" => |all| only(all, &["tier"]),
        "/api/orgs" => |all| all.as_array().unwrap().iter().map(|organization| only(organization, &["id"])).collect(),
        "/api/security/tokens" => |all| json!({"tokens": lengths(&all["tokens"])}),
        _ => return None,
    })
}

/// Those members that are there.
fn only(all: &Value, names: &[&str]) -> Value {
    let members = names.iter().filter_map(|name| Some(((*name).to_owned(), all.get(name)?.clone())));
    Value::Object(members.collect())
}

/// As many elements, and nothing in them.
fn lengths(list: &Value) -> Value {
    list.as_array().map_or(Value::Null, |list| list.iter().map(|_| json!({})).collect())
}

fn with_lengths(all: &Value, names: &[&str]) -> Value {
    let mut kept = only(all, names);
    kept.as_object_mut().unwrap().values_mut().for_each(|list| *list = lengths(list));
    kept
}

fn merged(mut one: Value, other: Value) -> Value {
    let Value::Object(other) = other else { unreachable!("it was made as an object") };
    one.as_object_mut().unwrap().extend(other);
    one
}

fn security(all: &Value) -> Value {
    let mut kept = only(all, &["requiresAuth", "hasAuthentication", "ssoEnabled", "oidcEnabled"]);
    if let Some(policy) = all.get("presentationPolicy") {
        kept["presentationPolicy"] = only(policy, &["demoMode"]);
    }
    merged(kept, with_lengths(all, &["ssoProviders"]))
}

fn settings(all: &Value) -> Value {
    const FLAGS: &[&str] = &[
        "telemetryEnabled",
        "updateChannel",
        "autoUpdateEnabled",
        "disableLocalUpgradeMetrics",
        "reduceProUpsellNoise",
    ];
    let mut kept = only(all, FLAGS);
    if let Some(overrides) = all.get("envOverrides") {
        kept["envOverrides"] = only(overrides, &["PULSE_TELEMETRY", "telemetryEnabled"]);
    }
    kept
}

fn preview(all: &Value) -> Value {
    json!({"enabled": all["enabled"], "payload": payload(&all["payload"])})
}

/// What the contract has of a ping of Pulse's own.
fn payload(all: &Value) -> Value {
    let names: Vec<&str> = contract::FIELDS.iter().map(|field| field.name).collect();
    let mut kept = only(all, &names);
    kept["install_id"] = json!(INSTALL_ID);
    kept
}

fn stats(all: &Value) -> Value {
    let mut kept = only(all, &["total", "totalResources", "byType"]);
    if let Some(posture) = all.get("policyPosture") {
        kept["policyPosture"] =
            only(posture, &["totalResources", "sensitivityCounts", "routingCounts", "redactionCounts"]);
    }
    kept
}

fn summary(all: &Value) -> Value {
    merged(only(all, &["activeAlerts", "nodes", "vms", "containers"]), with_lengths(all, &["dockerHosts"]))
}

fn state_of_five(all: &Value) -> Value {
    with_lengths(all, &["nodes", "pbs", "pmg", "vms", "containers", "dockerHosts", "kubernetesClusters"])
}
