//! The answers that tell what is monitored.

use serde_json::{Value, json};

use super::model::{CLUSTER, Counts, GUEST, GUEST_NOTE, MACHINE_ID, NODE, NODE_FQDN, NODE_IP, NODE_MAC};
use crate::server::RequestRecord;

/// What Pulse's own ping counts.
pub(super) fn summary(counts: &Counts) -> Value {
    let docker_host =
        |n| json!({"name": numbered(NODE, n), "containers": 3, "uptimeSeconds": 1000, "cpuUsagePercent": 10});
    json!({
        "activeAlerts": counts.alerts,
        "nodes": counts.nodes,
        "vms": counts.vms,
        "containers": counts.containers,
        "dockerHosts": (0..counts.docker_hosts).map(docker_host).collect::<Vec<_>>(),
        "lastUpdate": "2026-11-23T08:56:38.225673653Z",
    })
}

/// The list of resources. Only the nodes are described one by one, since nothing asks for the others; all are
/// counted, so that a query which forgot a filter gets another number.
pub(super) fn resources(counts: &Counts, request: &RequestRecord) -> Value {
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    let asked = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let total = match (asked("type"), asked("source")) {
        (Some("agent"), Some("proxmox")) => counts.nodes,
        (Some("agent,docker-host"), Some("docker")) => counts.docker_hosts,
        (Some("agent"), None) => counts.nodes + counts.docker_hosts,
        (None, None) => total(counts),
        (Some("vm"), _) => counts.vms,
        (Some("system-container"), _) => counts.containers,
        _ => 0,
    };
    let limit = asked("limit").and_then(|limit| limit.parse().ok()).unwrap_or(50).max(1);
    let shown = if asked("type") == Some("agent") { counts.nodes.min(limit) } else { 0 };
    json!({
        "data": (0..shown).map(node_6).collect::<Vec<_>>(),
        "meta": {"page": 1, "limit": limit, "total": total, "totalPages": total.div_ceil(limit)},
        "aggregations": stats_6(counts),
    })
}

fn node_6(n: u64) -> Value {
    json!({
        "id": format!("agent-{MACHINE_ID}-{n}"),
        "type": "agent",
        "technology": "proxmox",
        "name": numbered(NODE, n),
        "status": "online",
        "lastSeen": "2026-11-23T08:48:25.304638909Z",
        "canonicalIdentity": {
            "displayName": numbered(NODE, n),
            "hostname": NODE_FQDN,
            "platformId": numbered(NODE, n),
            "primaryId": format!("node:{}", numbered(NODE, n)),
            "aliases": [NODE_FQDN, MACHINE_ID],
        },
        "policy": {"sensitivity": "internal", "routing": {"scope": "cloud-summary"}},
        "sources": ["proxmox", "agent"],
        "identity": {
            "machineId": MACHINE_ID,
            "hostnames": [NODE, NODE_FQDN],
            "ipAddresses": [NODE_IP],
            "macAddresses": [NODE_MAC],
            "clusterName": CLUSTER,
        },
        "proxmox": {
            "nodeName": numbered(NODE, n),
            "clusterName": CLUSTER,
            "instance": CLUSTER,
            "host": format!("https://{NODE_FQDN}:8006"),
        },
    })
}

/// The first of a kind bears the bare name, so that what is planted is there word for word.
fn numbered(name: &str, n: u64) -> String {
    if n == 0 { name.to_owned() } else { format!("{name}-{}", n + 1) }
}

fn total(counts: &Counts) -> u64 {
    let Counts { nodes, pbs, pmg, vms, containers, docker_hosts, k8s, alerts: _ } = *counts;
    nodes + 2 * docker_hosts + pbs + pmg + vms + containers + k8s
}

/// Of the Docker hosts those that have no unified agent. The others are agents in stats and lists.
fn docker_only(counts: &Counts) -> u64 {
    counts.docker_hosts / 2
}

/// A type that has none is absent.
fn by_type(types: &[(&str, u64)]) -> Value {
    let present = types.iter().filter(|(_, count)| *count > 0);
    Value::Object(present.map(|(name, count)| ((*name).to_owned(), json!(count))).collect())
}

pub(super) fn stats_6(counts: &Counts) -> Value {
    let total = total(counts);
    let sensitive = counts.vms + counts.containers;
    json!({
        "total": total,
        "byType": by_type(&[
            ("agent", counts.nodes + counts.docker_hosts - docker_only(counts)),
            ("pbs", counts.pbs),
            ("pmg", counts.pmg),
            ("vm", counts.vms),
            ("system-container", counts.containers),
            ("docker-host", docker_only(counts)),
            ("k8s-cluster", counts.k8s),
        ]),
        "byStatus": by_type(&[("online", total)]),
        "bySource": by_type(&[
            ("proxmox", counts.nodes + counts.vms + counts.containers),
            ("docker", 2 * counts.docker_hosts),
            ("pbs", counts.pbs),
            ("pmg", counts.pmg),
            ("kubernetes", counts.k8s),
        ]),
        "policyPosture": {
            "totalResources": total,
            "sensitivityCounts": by_type(&[("internal", total - sensitive), ("sensitive", sensitive)]),
            "routingCounts": by_type(&[("cloud-summary", total - sensitive), ("local-first", sensitive)]),
            "redactionCounts": by_type(&[("hostname", sensitive), ("alias", sensitive)]),
        },
        "platformAdmission": {
            "proxmox": counts.nodes > 0,
            "docker": counts.docker_hosts > 0,
            "kubernetes": counts.k8s > 0,
            "truenas": false,
            "vmware": false,
            "standalone": false,
        },
    })
}

pub(super) fn stats_5(counts: &Counts) -> Value {
    let total = total(counts);
    json!({
        "totalResources": total,
        "suppressedResources": 0,
        "byType": by_type(&[
            ("node", counts.nodes),
            ("vm", counts.vms),
            ("container", counts.containers),
            ("docker-host", counts.docker_hosts),
            ("pbs", counts.pbs),
        ]),
        "byPlatform": by_type(&[
            ("proxmox-pve", counts.nodes + counts.vms + counts.containers),
            ("docker", counts.docker_hosts),
        ]),
        "byStatus": by_type(&[("running", total)]),
        "withAlerts": 0,
        "lastUpdated": "2026-11-23T08:56:38Z",
    })
}

pub(super) fn state_6(counts: &Counts) -> Value {
    json!({
        "activeAlerts": alerts(counts),
        "connectedInfrastructure": [],
        "connectionHealth": connection_health(counts),
        "lastUpdate": 1_795_424_134_000_u64,
        "metrics": {},
        "performance": {},
        "pveTagColors": {},
        "pveTagStyles": {},
        "recentlyResolved": [],
        "resources": (0..counts.nodes).map(node_6).collect::<Vec<_>>(),
        "stats": {},
        "temperatureMonitoringEnabled": true,
    })
}

pub(super) fn state_5(counts: &Counts) -> Value {
    let guests = |count: u64, kind: &str| Value::Array((0..count).map(|n| guest_5(kind, n)).collect());
    let machines = |count: u64, kind: &str| Value::Array((0..count).map(|n| machine_5(kind, n)).collect());
    json!({
        "nodes": machines(counts.nodes, "pve"),
        "vms": guests(counts.vms, "qemu"),
        "containers": guests(counts.containers, "lxc"),
        "dockerHosts": machines(counts.docker_hosts, "docker"),
        "removedDockerHosts": [],
        "kubernetesClusters": machines(counts.k8s, "k8s"),
        "removedKubernetesClusters": [],
        "removedHosts": [],
        "hosts": [],
        "storage": [],
        "cephClusters": [],
        "physicalDisks": [],
        "pbs": machines(counts.pbs, "pbs"),
        "pmg": machines(counts.pmg, "pmg"),
        "pbsBackups": [],
        "pmgBackups": [],
        "pveBackups": {"backupTasks": null, "storageBackups": [], "guestSnapshots": []},
        "backups": {"pve": {"backupTasks": null}, "pbs": [], "pmg": []},
        "replicationJobs": [],
        "activeAlerts": null,
        "metrics": {},
        "performance": {},
        "connectionHealth": connection_health(counts),
        "stats": {},
        "lastUpdate": 1_795_424_134_000_u64,
        "temperatureMonitoringEnabled": false,
    })
}

fn guest_5(kind: &str, n: u64) -> Value {
    json!({
        "id": format!("{CLUSTER}-{NODE}-{kind}-{n}"),
        "vmid": 100 + n,
        "name": numbered(GUEST, n),
        "node": NODE,
        "instance": CLUSTER,
        "status": "running",
        "type": kind,
        "ipAddresses": [NODE_IP],
        "networkInterfaces": [{"name": "eth0", "mac": NODE_MAC, "addresses": [NODE_IP]}],
        "tags": "",
    })
}

fn machine_5(kind: &str, n: u64) -> Value {
    json!({
        "id": format!("{kind}-{n}"),
        "name": numbered(NODE, n),
        "node": numbered(NODE, n),
        "displayName": format!("{CLUSTER} ({NODE})"),
        "hostname": NODE_FQDN,
        "host": format!("https://{NODE_FQDN}:8006"),
        "instance": CLUSTER,
        "clusterName": CLUSTER,
        "machineId": MACHINE_ID,
        "status": "online",
        "type": kind,
        // Lists within a counted list, to be read past.
        "nodes": [{"name": NODE}],
        "containers": [{"name": GUEST}, {"name": GUEST}],
    })
}

fn connection_health(counts: &Counts) -> Value {
    Value::Object((0..counts.nodes).map(|n| (format!("pve-{}", numbered(NODE, n)), json!(true))).collect())
}

pub(super) fn alerts(counts: &Counts) -> Value {
    let one = |n: u64| {
        json!({
            "id": format!("{}::backup-age-{n}", numbered(GUEST, n)),
            "type": "backup-age",
            "level": "warning",
            "resourceId": format!("{CLUSTER}-{NODE}-{n}"),
            "resourceName": numbered(GUEST, n),
            "node": NODE,
            "instance": CLUSTER,
            "message": GUEST_NOTE,
            "value": 40,
            "threshold": 7,
            "startTime": "2026-11-23T08:48:10.20873279Z",
            "lastSeen": "2026-11-23T08:48:20.313615773Z",
            "acknowledged": false,
            "metadata": {"hostName": NODE_FQDN, "tags": ["a list within an alert"]},
        })
    };
    Value::Array((0..counts.alerts).map(one).collect())
}
