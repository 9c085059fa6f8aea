//! The strings in a capture that identify somebody or something, and which must therefore never leave.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;

use super::replay;

/// Every identifying string in a capture: names of hosts, guests, users, tokens and organizations, addresses, IDs,
/// serial numbers, fingerprints, alert texts and notes, wherever they stand in an answer of status 200.
///
/// By key: a string counts when its key, or the key of the list that holds it, speaks of a name, an ID, an address, a
/// place or a text (`identifies`). The keys of `connectionHealth` count too: they are made of host names.
///
/// By value (`worth_looking_for`): left out is what could stand in a page or a ping by right, so that finding it
/// would prove nothing. That is: fewer than four characters; numbers, versions and times, unless they are addresses;
/// loopback and the unspecified address; four or five hexadecimal digits, which any UUID may hold (a token's suffix
/// is found through the token's hint instead); and words that belong to everybody (`ORDINARY`).
///
/// By route: left out are answers in which Pulse describes itself (`SPEAKS_OF_PULSE`) and errors, whose texts are
/// Pulse's own.
pub fn planted_strings(capture_folder: &Path) -> BTreeSet<String> {
    let index = replay::index(capture_folder);
    let mut found = BTreeSet::new();
    for response in index["responses"].as_array().unwrap() {
        let (Some(file), Some(200)) = (response["file"].as_str(), response["status"].as_u64()) else { continue };
        if SPEAKS_OF_PULSE.iter().any(|path| response["path"] == *path) {
            continue;
        }
        let body = fs::read(capture_folder.join(file)).unwrap();
        collect("", &serde_json::from_slice(&body).unwrap(), &mut found);
    }
    found
}

/// Those of the strings that occur in a text as words of their own: `pve1` is not in `pve10`.
pub fn leaked<'a>(planted: impl IntoIterator<Item = &'a String>, text: &str) -> Vec<&'a str> {
    planted.into_iter().map(String::as_str).filter(|string| occurs(string, text)).collect()
}

fn occurs(string: &str, text: &str) -> bool {
    let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let (starts, ends) = (word(string.chars().next()), word(string.chars().last()));
    text.match_indices(string).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + string.len()..].chars().next();
        !(starts && word(before) || ends && word(after))
    })
}

/// Pulse's catalogue of AI providers, its prices, its version, its settings, and its own preview, which holds what
/// may be sent.
const SPEAKS_OF_PULSE: &[&str] = &[
    "/api/settings/ai",
    "/api/license/entitlements",
    "/api/license/status",
    "/api/version",
    "/api/system/mock-mode",
    "/api/system/settings",
    "/api/system/settings/telemetry-preview",
];

fn collect(key: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if key == "connectionHealth" {
                    keep(name, found);
                }
                collect(name, member, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(key, item, found)),
        Value::String(text) if identifies(key) => keep(text, found),
        _ => {}
    }
}

fn keep(text: &str, found: &mut BTreeSet<String>) {
    if worth_looking_for(text) {
        found.insert(text.to_owned());
    }
}

/// Whether what stands under this key identifies; `machine_id`, `machineId` and `machineID` are one key.
fn identifies(key: &str) -> bool {
    const WHOLE: &[&str] = &[
        "addedby",
        "alias",
        "aliases",
        "cluster",
        "comment",
        "context",
        "dataset",
        "datastore",
        "gateway",
        "idvalue",
        "image",
        "images",
        "instance",
        "ip",
        "ipv4",
        "ipv6",
        "lasterror",
        "mac",
        "namespace",
        "notes",
        "owner",
        "prefix",
        "serial",
        "server",
        "subject",
        "subnet",
        "suffix",
        "volid",
    ];
    const ENDINGS: &[&str] = &[
        "name",
        "names",
        "id",
        "ids",
        "node",
        "nodes",
        "host",
        "hosts",
        "address",
        "addresses",
        "ips",
        "url",
        "hint",
        "message",
        "summary",
        "fingerprint",
        "publickey",
    ];
    // The operating system's name identifies nobody, and the relay's URL is Pulse's own unless it was changed.
    const NOT: &[&str] = &["osname", "serverurl"];
    let key: String = key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let listed = WHOLE.contains(&key.as_str()) || ENDINGS.iter().any(|ending| key.ends_with(ending));
    listed && !NOT.contains(&key.as_str())
}

pub fn worth_looking_for(text: &str) -> bool {
    let lower = text.to_lowercase();
    if let Ok(address) = text.parse::<IpAddr>() {
        return !address.is_loopback() && !address.is_unspecified();
    }
    let has_letter = text.chars().any(char::is_alphabetic);
    // 192.168.0.10:8007, 10.40.0.0/24 or a MAC address without a letter.
    let address_like = text.matches('.').count() >= 3 || text.matches(':').count() >= 5;
    let short_hex = text.len() <= 5 && text.chars().all(|c| c.is_ascii_hexdigit());
    text.chars().count() >= 4 && (has_letter || address_like) && !short_hex && !ORDINARY.contains(&lower.as_str())
}

/// Words that name things in captures and stand in prose, settings or enumerations as well. Compared in lower case.
const ORDINARY: &[&str] = &[
    // States and answers.
    "true",
    "false",
    "null",
    "none",
    "unknown",
    "online",
    "offline",
    "running",
    "stopped",
    "paused",
    "healthy",
    "degraded",
    "warning",
    "critical",
    "failed",
    "passed",
    "active",
    "inactive",
    "enabled",
    "disabled",
    "ready",
    "pending",
    "managed",
    "unmanaged",
    "readonly",
    "redacted by policy",
    // Systems, architectures, channels and kinds of resources.
    "linux",
    "windows",
    "debian",
    "ubuntu",
    "fedora",
    "almalinux",
    "alpine",
    "rocky linux",
    "docker",
    "podman",
    "kubernetes",
    "proxmox",
    "proxmox ve",
    "truenas",
    "vmware",
    "vmware esxi",
    "vsphere",
    "qemu",
    "amd64",
    "arm64",
    "x86_64",
    "stable",
    "binary",
    "agent",
    "host",
    "node",
    "cluster",
    "device",
    "disk",
    "nvme",
    "sata",
    "pool",
    "dataset",
    "datastore",
    "datastores",
    "storage",
    "share",
    "network",
    "networks",
    "bridge",
    "http",
    "https",
    "mqtt",
    "ceph",
    "container",
    "containers",
    "alert",
    "alerts",
    "pulse",
    // Verbs of Pulse's own actions.
    "start",
    "stop",
    "shutdown",
    "reboot",
    "restart",
    "update",
    // Roles, which people use as names.
    "admins",
    "analytics",
    "apps",
    "archive",
    "auth",
    "automation",
    "backend",
    "backup",
    "batch",
    "broker",
    "business",
    "cache",
    "controller",
    "control-plane",
    "cron",
    "data",
    "database",
    "databases",
    "default",
    "desktop",
    "development",
    "docs",
    "edge",
    "environment",
    "fast",
    "firewall",
    "frontend",
    "gateway",
    "home",
    "important",
    "ingress",
    "internal",
    "least",
    "legacy",
    "local",
    "logging",
    "mail",
    "media",
    "mock",
    "monitoring",
    "nightly",
    "observability",
    "platform",
    "private",
    "production",
    "projects",
    "public",
    "queue",
    "replica",
    "reporting",
    "root",
    "security",
    "service",
    "services",
    "shared",
    "sidecar",
    "staging",
    "stateful",
    "tank",
    "testing",
    "utility",
    "vault",
    "weekly",
    "worker",
    "workers",
    "workstations",
    // Software whose names a page or a metric speaks of by right.
    "prometheus",
    "postgres",
    "transmission",
    "baseline",
];
