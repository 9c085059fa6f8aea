//! A Pulse of our own: the shapes of real answers (6 and 5.1), from a model that a test changes while it runs.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};

use super::lock;
use super::replay::{self, token_of};
use super::server::{RequestRecord, ResponsePlan, Server};

pub const MONITORING_READ: &str = "monitoring:read";
pub const SETTINGS_READ: &str = "settings:read";

/// The token that the default model knows; it has both scopes.
pub const TOKEN: &str = "sidecar-token";

/// Strings that identify somebody or something. The default model's answers hold each of them in both shapes, where
/// real Pulse has such strings; none may ever leave.
pub const PLANTED: &[&str] = &[
    NODE, NODE_FQDN, CLUSTER, NODE_IP, NODE_MAC, MACHINE_ID, GUEST, GUEST_NOTE, USER, TOKEN_NAME, TOKEN_HINT, CLIENT_IP,
];
const NODE: &str = "kestrel-pve";
const NODE_FQDN: &str = "kestrel-pve.attic.example.net";
const CLUSTER: &str = "Wilhelmina Family Cluster";
const NODE_IP: &str = "198.51.100.37";
const NODE_MAC: &str = "5e:ff:00:ac:de:41";
const MACHINE_ID: &str = "c0ffee00d15ea5ed0ddba11f00dbabe5";
const GUEST: &str = "tax-returns-archive";
const GUEST_NOTE: &str = "Guest tax-returns-archive has not been backed up since Easter";
const USER: &str = "wilhelmina";
const TOKEN_NAME: &str = "the sidecar in the attic";
const TOKEN_HINT: &str = "7be3fa...c41d";
const CLIENT_IP: &str = "203.0.113.9";

/// Which Pulse the answers look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    V6,
    /// No telemetry of its own; counts come from `/api/state`.
    V5,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relay {
    Enabled,
    Disabled,
    /// 402.
    NotLicensed,
}

/// What `/api/orgs` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orgs {
    Off501,
    Absent404,
    /// 402.
    NotLicensed,
    /// 200: the organization that the token belongs to.
    List,
}

/// What is in one organization.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub nodes: u64,
    pub pbs: u64,
    pub pmg: u64,
    pub vms: u64,
    pub containers: u64,
    pub docker_hosts: u64,
    pub k8s: u64,
    pub alerts: u64,
}

#[derive(Clone, Debug)]
pub struct Token {
    pub scopes: Vec<String>,
    pub organization: String,
}

impl Token {
    pub fn new(scopes: &[&str], organization: &str) -> Self {
        Self { scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(), organization: organization.to_owned() }
    }
}

/// Everything that decides what the simulated Pulse answers.
#[derive(Clone, Debug)]
pub struct PulseModel {
    pub shape: Shape,
    /// Pulse 6 has `/api/state/summary`, as every release does; without it, it is a build before 6.0.0-rc.7.
    pub summary: bool,
    pub version: String,
    pub is_docker: bool,
    /// What `deploymentType` says unless `mock` is on, which makes it `mock`.
    pub deployment_type: String,
    /// In seconds.
    pub uptime: f64,
    /// Of the organization `default`.
    pub counts: Counts,
    /// Of further organizations, by their ID.
    pub other_organizations: BTreeMap<String, Counts>,
    pub ai: bool,
    /// The configured providers, by Pulse's IDs, such as `anthropic` or `ollama`.
    pub ai_providers: Vec<String>,
    pub relay: Relay,
    pub sso: bool,
    pub orgs: Orgs,
    pub tier: String,
    /// None: absent from the answer, as before 6.0.
    pub telemetry_enabled: Option<bool>,
    /// Whether `PULSE_TELEMETRY` in Pulse's own environment decided it.
    pub telemetry_env_override: bool,
    /// None: absent from the answer, as what is false may be.
    pub disable_local_upgrade_metrics: Option<bool>,
    pub reduce_pro_upsell_noise: Option<bool>,
    pub demo: bool,
    pub mock: bool,
    pub tokens: BTreeMap<String, Token>,
    /// What Pulse's own preview says in place of what the rest of this model says; null leaves a field out.
    pub own_ping: Map<String, Value>,
    /// Off: whoever asks is answered as if with both scopes, whatever the token, as before Pulse's set-up.
    pub require_auth: bool,
    /// By path, without the query: answered in place of everything else, the check of the token included.
    pub overrides: HashMap<String, ResponsePlan>,
}

impl Default for PulseModel {
    /// A healthy Pulse 6 homelab that has handed its telemetry over to the sidecar.
    fn default() -> Self {
        Self {
            shape: Shape::V6,
            summary: true,
            version: "6.3.0".to_owned(),
            is_docker: false,
            deployment_type: "systemd".to_owned(),
            uptime: replay::A_DAY as f64,
            counts: Counts { nodes: 2, pbs: 1, pmg: 0, vms: 6, containers: 9, docker_hosts: 1, k8s: 0, alerts: 2 },
            other_organizations: BTreeMap::new(),
            ai: true,
            ai_providers: vec!["ollama".to_owned()],
            relay: Relay::Disabled,
            sso: false,
            orgs: Orgs::Off501,
            tier: "free".to_owned(),
            telemetry_enabled: Some(false),
            telemetry_env_override: true,
            disable_local_upgrade_metrics: None,
            reduce_pro_upsell_noise: None,
            demo: false,
            mock: false,
            tokens: BTreeMap::from([(TOKEN.to_owned(), Token::new(&[MONITORING_READ, SETTINGS_READ], "default"))]),
            own_ping: Map::new(),
            require_auth: true,
            overrides: HashMap::new(),
        }
    }
}

impl PulseModel {
    /// The same homelab on Pulse 5.1.
    pub fn v5() -> Self {
        Self {
            shape: Shape::V5,
            version: "5.1.24".to_owned(),
            orgs: Orgs::Absent404,
            telemetry_enabled: None,
            telemetry_env_override: false,
            ..Self::default()
        }
    }

    /// What changes in a homelab from one look to the next, half a minute later: guests come and go, alerts open and
    /// close, now and then a new machine. The same steps give the same story.
    pub fn drift(&mut self, step: u64) {
        self.uptime += 30.0;
        self.counts.alerts = [2, 3, 1, 0, 0, 1][to_index(step, 6)];
        match step % 8 {
            1 | 2 | 5 => self.counts.vms += 1,
            3 => self.counts.vms = self.counts.vms.saturating_sub(1),
            4 => self.counts.containers += 2,
            6 => self.counts.containers = self.counts.containers.saturating_sub(1),
            7 => self.counts.docker_hosts += 1,
            _ => {}
        }
    }
}

fn to_index(step: u64, len: u64) -> usize {
    usize::try_from(step % len).unwrap()
}

/// The simulated Pulse, running.
pub struct SimulatedPulse {
    pub server: Server,
    model: Arc<Mutex<PulseModel>>,
}

impl SimulatedPulse {
    pub fn start(model: PulseModel) -> Self {
        let model = Arc::new(Mutex::new(model));
        let seen_by_server = Arc::clone(&model);
        let server = Server::start(move |request| answer(&lock(&seen_by_server), &request));
        Self { server, model }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Changes the model; the next answer shows it.
    pub fn change(&self, change: impl FnOnce(&mut PulseModel)) {
        change(&mut lock(&self.model));
    }

    /// Makes one path answer that, until `restore`.
    pub fn replace(&self, path: &str, plan: ResponsePlan) {
        self.change(|model| drop(model.overrides.insert(path.to_owned(), plan)));
    }

    /// Undoes `replace`.
    pub fn restore(&self, path: &str) {
        self.change(|model| drop(model.overrides.remove(path)));
    }

    /// See `PulseModel::drift`.
    pub fn drift(&self, step: u64) {
        self.change(|model| model.drift(step));
    }
}

/// What the caller may see.
struct Caller<'a> {
    /// None where no token was shown.
    scopes: Option<&'a [String]>,
    organization: &'a str,
    /// No token is needed here.
    open: bool,
}

impl Caller<'_> {
    fn known(&self) -> bool {
        self.open || self.scopes.is_some()
    }

    fn may(&self, scope: &str) -> bool {
        self.open || self.scopes.is_some_and(|scopes| scopes.iter().any(|own| own == scope))
    }
}

/// What a Pulse of that model answers, for a server that now and then answers something else.
pub fn answer(model: &PulseModel, request: &RequestRecord) -> ResponsePlan {
    if let Some(plan) = model.overrides.get(request.path()) {
        return plan.clone();
    }
    if request.method != "GET" {
        return ResponsePlan::text(405, "Method Not Allowed\n");
    }
    let token = token_of(request);
    let known = token.as_ref().and_then(|token| model.tokens.get(token));
    if model.require_auth && token.is_some() && known.is_none() {
        return error(401, json!({"error": "Invalid API token"}));
    }
    let caller = Caller {
        scopes: known.map(|token| token.scopes.as_slice()),
        organization: known.map_or("default", |token| &token.organization),
        open: !model.require_auth,
    };
    let needed = scope_of(model, request.path());
    match needed {
        Needs::Nothing => {}
        _ if !caller.known() => return error(401, json!({"error": "Authentication required"})),
        Needs::Scope(scope) if !caller.may(scope) => {
            return error(403, json!({"error": "missing_scope", "requiredScope": scope}));
        }
        Needs::Token | Needs::Scope(_) => {}
    }
    route(model, &caller, request)
}

enum Needs {
    Nothing,
    Token,
    Scope(&'static str),
}

fn scope_of(model: &PulseModel, path: &str) -> Needs {
    let absent_in_5 = ["/api/orgs", "/api/settings/relay"].contains(&path) && model.shape == Shape::V5;
    match path {
        "/api/version" | "/api/health" | "/api/security/status" => Needs::Nothing,
        "/api/resources" | "/api/resources/stats" | "/api/alerts/active" | "/api/state" | "/api/state/summary" => {
            Needs::Scope(MONITORING_READ)
        }
        "/api/settings/ai"
        | "/api/settings/relay"
        | "/api/security/tokens"
        | "/api/system/settings"
        | replay::PREVIEW
        | "/api/system/mock-mode"
        | "/api/orgs"
            if !absent_in_5 =>
        {
            Needs::Scope(SETTINGS_READ)
        }
        _ => Needs::Token,
    }
}

fn route(model: &PulseModel, caller: &Caller<'_>, request: &RequestRecord) -> ResponsePlan {
    let counts = match model.other_organizations.get(caller.organization) {
        Some(counts) => counts,
        None => &model.counts,
    };
    let v6 = model.shape == Shape::V6;
    let value = match request.path() {
        "/api/version" => version(model),
        "/api/health" => health(model),
        "/api/security/status" => security_status(model, caller),
        "/api/security/tokens" => tokens(model),
        "/api/resources" if v6 => resources(counts, request),
        "/api/resources" => json!({"resources": null, "count": 0, "stats": stats_5(counts)}),
        "/api/resources/stats" if v6 => stats_6(counts),
        "/api/resources/stats" => stats_5(counts),
        "/api/state/summary" if v6 && model.summary => summary(counts),
        "/api/state" if v6 => state_6(counts),
        "/api/state" => state_5(counts),
        "/api/alerts/active" => alerts(counts),
        "/api/system/settings" => system_settings(model),
        replay::PREVIEW if v6 => own_preview(model),
        "/api/system/mock-mode" => json!({"enabled": model.mock, "config": {"NodeCount": 3, "VMsPerNode": 4}}),
        "/api/settings/ai" => ai(model),
        "/api/settings/relay" if v6 => return relay(model),
        "/api/license/status" => license(model),
        "/api/orgs" => return orgs(model, caller),
        _ => return not_found(),
    };
    ResponsePlan::json(200, &value)
}

fn error(status: u16, value: Value) -> ResponsePlan {
    ResponsePlan::json(status, &value)
}

fn not_found() -> ResponsePlan {
    ResponsePlan::text(404, "404 page not found\n")
}

fn version(model: &PulseModel) -> Value {
    let mut answer = json!({
        "version": model.version,
        "buildTime": "release",
        "build": "release",
        "goVersion": "go1.26.8",
        "runtime": "go",
        "channel": if model.version.contains("-rc") { "rc" } else { "stable" },
        "isDocker": model.is_docker,
        "isSourceBuild": false,
        "isDevelopment": false,
        "deploymentType": if model.mock { "mock" } else { &model.deployment_type },
        "updateAvailable": false,
        "containerized": model.is_docker,
    });
    if model.shape == Shape::V6 {
        answer["agentUpdateTargetVersion"] = json!(model.version);
    }
    answer
}

fn health(model: &PulseModel) -> Value {
    let mut answer = json!({
        "status": "healthy",
        "timestamp": 1_795_423_706,
        "uptime": model.uptime,
        "proxyInstallScriptAvailable": true,
    });
    if model.shape == Shape::V6 {
        answer["dependencies"] = json!({"monitor": true, "scheduler": true, "websocket": true});
    }
    answer
}

/// Pulse 6 says more the more the caller may see; 5.1 says nearly all to everybody.
fn security_status(model: &PulseModel, caller: &Caller<'_>) -> Value {
    let privileged = caller.may(SETTINGS_READ);
    let public = json!({
        "hasAuthentication": model.require_auth,
        "requiresAuth": model.require_auth,
        "hideLocalLogin": false,
    });
    let session = json!({
        "hasProxyAuth": false,
        "proxyAuthLogoutURL": "",
        "proxyAuthUsername": "",
        "proxyAuthIsAdmin": false,
    });
    let installation = json!({
        "apiTokenConfigured": !model.tokens.is_empty(),
        "apiTokenHint": if caller.known() { TOKEN_HINT } else { "" },
        "exportProtected": true,
        "unprotectedExportAllowed": false,
        "configuredButPendingRestart": false,
        "hasAuditLogging": false,
        "credentialsEncrypted": true,
        "hasHTTPS": false,
        "clientIP": CLIENT_IP,
        "isPrivateNetwork": true,
        "isTrustedNetwork": true,
        "publicAccess": false,
        "authUsername": if caller.known() { USER } else { "" },
        "authLastModified": "",
        "agentUrl": format!("http://{NODE_FQDN}:7655"),
    });
    let scopes = caller.scopes.map_or_else(|| json!({}), |scopes| json!({"tokenScopes": scopes}));
    if model.shape == Shape::V5 {
        let sso = json!({
            "oidcEnabled": model.sso,
            "oidcClientId": "",
            "oidcIssuer": "",
            "oidcLogoutURL": "",
            "oidcUsername": "",
            "ssoProviders": sso_providers(model),
        });
        return merged([public, session, installation, scopes, sso]);
    }
    let level = match (privileged, caller.known()) {
        (true, _) => "privileged",
        (false, true) => "authenticated",
        (false, false) => "public",
    };
    let of_6 = json!({
        "detailLevel": level,
        "ssoEnabled": model.sso,
        "presentationPolicy": {
            "demoMode": model.demo,
            "readOnly": model.demo,
            "hideCommercial": false,
            "hideUpgrade": true,
        },
    });
    let mut parts = vec![public, of_6];
    if model.sso {
        parts.push(json!({"ssoProviders": sso_providers(model)}));
    }
    if caller.known() {
        parts.extend([session, scopes]);
        parts.push(json!({
            "ssoSessionUsername": "",
            "ssoSessionDisplayName": "",
            "sessionCapabilities": {"demoMode": model.demo, "assistantEnabled": model.ai},
            "settingsCapabilities": {"systemSettingsRead": privileged, "relayRead": privileged, "relayWrite": false},
        }));
    }
    if privileged {
        parts.push(installation);
    }
    merged(parts)
}

fn merged(parts: impl IntoIterator<Item = Value>) -> Value {
    let members = parts.into_iter().flat_map(|part| match part {
        Value::Object(members) => members,
        _ => Map::new(),
    });
    Value::Object(members.collect())
}

fn sso_providers(model: &PulseModel) -> Value {
    if !model.sso {
        return json!([]);
    }
    let login = format!("https://login.{NODE_FQDN}/");
    json!([{"id": "6c1f", "name": CLUSTER, "type": "oidc", "displayName": CLUSTER, "loginUrl": login}])
}

fn tokens(model: &PulseModel) -> Value {
    let (prefix, suffix) = TOKEN_HINT.split_once("...").unwrap();
    let one = |(at, token): (usize, &Token)| {
        let mut answer = json!({
            "id": format!("1f0c7be3-fa00-4c41-9d00-{at:012}"),
            "name": TOKEN_NAME,
            "prefix": prefix,
            "suffix": suffix,
            "createdAt": "2026-11-23T08:48:23.450744898Z",
            "lastUsedAt": "2026-11-23T08:48:27.069348406Z",
            "scopes": token.scopes,
        });
        if model.shape == Shape::V6 {
            answer["ownerUserId"] = json!(USER);
        }
        answer
    };
    json!({"tokens": model.tokens.values().enumerate().map(one).collect::<Vec<_>>()})
}

/// What Pulse's own ping counts.
fn summary(counts: &Counts) -> Value {
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
fn resources(counts: &Counts, request: &RequestRecord) -> Value {
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

/// Of the Docker hosts those that have no unified agent. The others are agents to whoever looks at stats and lists.
fn docker_only(counts: &Counts) -> u64 {
    counts.docker_hosts / 2
}

/// A type that has none is absent.
fn by_type(types: &[(&str, u64)]) -> Value {
    let present = types.iter().filter(|(_, count)| *count > 0);
    Value::Object(present.map(|(name, count)| ((*name).to_owned(), json!(count))).collect())
}

fn stats_6(counts: &Counts) -> Value {
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

fn stats_5(counts: &Counts) -> Value {
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

fn state_6(counts: &Counts) -> Value {
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

fn state_5(counts: &Counts) -> Value {
    let each = |count: u64, one: &dyn Fn(u64) -> Value| Value::Array((0..count).map(one).collect());
    let guest = |kind: &'static str| {
        move |n: u64| {
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
    };
    let machine = |kind: &'static str| {
        move |n: u64| {
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
    };
    json!({
        "nodes": each(counts.nodes, &machine("pve")),
        "vms": each(counts.vms, &guest("qemu")),
        "containers": each(counts.containers, &guest("lxc")),
        "dockerHosts": each(counts.docker_hosts, &machine("docker")),
        "removedDockerHosts": [],
        "kubernetesClusters": each(counts.k8s, &machine("k8s")),
        "removedKubernetesClusters": [],
        "removedHosts": [],
        "hosts": [],
        "storage": [],
        "cephClusters": [],
        "physicalDisks": [],
        "pbs": each(counts.pbs, &machine("pbs")),
        "pmg": each(counts.pmg, &machine("pmg")),
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

fn connection_health(counts: &Counts) -> Value {
    Value::Object((0..counts.nodes).map(|n| (format!("pve-{}", numbered(NODE, n)), json!(true))).collect())
}

fn alerts(counts: &Counts) -> Value {
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

fn system_settings(model: &PulseModel) -> Value {
    let mut overrides = json!({"BIND_ADDRESS": true, "discoveryEnabled": true});
    let mut answer = json!({
        "pvePollingInterval": 10,
        "pbsPollingInterval": 60,
        "pmgPollingInterval": 60,
        "backupPollingEnabled": true,
        "connectionTimeout": 60,
        "autoUpdateEnabled": false,
        "discoveryEnabled": false,
        "discoverySubnet": "auto",
        "discoveryConfig": {"environment_override": "auto", "subnet_blocklist": ["169.254.0.0/16"]},
        "fullWidthMode": false,
        "allowEmbedding": false,
        "temperatureMonitoringEnabled": true,
        "dnsCacheTimeout": 300,
        "hideLocalLogin": false,
        "disableDockerUpdateActions": false,
    });
    if model.shape == Shape::V6 {
        answer["updateChannel"] = json!("stable");
        answer["enableProxmoxGuestDockerInventory"] = json!(false);
        overrides["FRONTEND_PORT"] = json!(true);
    }
    if let Some(enabled) = model.telemetry_enabled {
        answer["telemetryEnabled"] = json!(enabled);
    }
    for (key, value) in [
        ("disableLocalUpgradeMetrics", model.disable_local_upgrade_metrics),
        ("reduceProUpsellNoise", model.reduce_pro_upsell_noise),
    ] {
        if let Some(value) = value {
            answer[key] = json!(value);
        }
    }
    if model.telemetry_env_override {
        overrides["PULSE_TELEMETRY"] = json!(true);
        overrides["telemetryEnabled"] = json!(true);
    }
    answer["envOverrides"] = overrides;
    answer
}

/// The ping that Pulse would send itself, with some fields of newer builds.
fn own_preview(model: &PulseModel) -> Value {
    let count = |of: fn(&Counts) -> u64| of(&model.counts) + model.other_organizations.values().map(of).sum::<u64>();
    let mut payload = json!({
        "schema_version": 10,
        "sent_at": "2026-11-25T23:43:35Z",
        "install_id": "1a1ecd79-a9c5-4a1c-a155-4f0689724ae7",
        "version": model.version,
        "version_raw": format!("v{}", model.version),
        "version_channel": if model.version.contains("-rc") { "rc" } else { "stable" },
        "version_is_development": false,
        "version_is_published_release": true,
        "platform": if model.is_docker { "docker" } else { "binary" },
        "os": "linux",
        "arch": "amd64",
        "event": "heartbeat",
        "estate_size_bucket": "11_50",
        "pve_nodes": count(|counts| counts.nodes),
        "pbs_instances": count(|counts| counts.pbs),
        "pmg_instances": count(|counts| counts.pmg),
        "vms": count(|counts| counts.vms),
        "containers": count(|counts| counts.containers),
        "docker_hosts": count(|counts| counts.docker_hosts),
        "docker_containers": count(|counts| 3 * counts.docker_hosts),
        "kubernetes_clusters": count(|counts| counts.k8s),
        "ai_enabled": model.ai,
        "active_alerts": count(|counts| counts.alerts),
        "relay_enabled": model.relay == Relay::Enabled,
        "sso_enabled": model.sso,
        "multi_tenant": false,
        "paid_license": model.tier != "free",
        "has_api_tokens": !model.tokens.is_empty(),
    });
    let members = payload.as_object_mut().unwrap();
    members.extend(model.own_ping.clone());
    members.retain(|_, value| !value.is_null());
    json!({"enabled": model.telemetry_enabled, "payload": payload})
}

fn ai(model: &PulseModel) -> Value {
    const PROVIDERS: &[&str] = &["anthropic", "openai", "deepseek", "gemini", "ollama"];
    // While Pulse shows mock data it says that AI is on, whatever was saved.
    let enabled = model.ai || model.mock;
    let mut answer = json!({
        "enabled": enabled,
        "model": "",
        "configured": enabled,
        "custom_context": if model.ai { format!("{NODE} belongs to {USER}") } else { String::new() },
        "auth_method": "api_key",
        "oauth_connected": false,
        "patrol_interval_minutes": 360,
        "patrol_enabled": true,
        "patrol_auto_fix": false,
        "alert_triggered_analysis": true,
        "use_proactive_thresholds": false,
        "available_models": [],
        "ollama_base_url": "http://localhost:11434",
        "configured_providers": model.ai_providers,
        "control_level": "read_only",
        "discovery_enabled": false,
    });
    for provider in PROVIDERS {
        let configured = model.ai_providers.iter().any(|own| own == provider);
        answer[format!("{provider}_configured")] = json!(configured);
    }
    answer
}

fn relay(model: &PulseModel) -> ResponsePlan {
    const URL: &str = "wss://relay.pulserelay.pro/ws/instance";
    match model.relay {
        Relay::Enabled => ResponsePlan::json(
            200,
            &json!({
                "enabled": true,
                "server_url": URL,
                "identity_public_key": "bm90IGEga2V5IGF0IGFsbCwgb25seSBpdHMgc2hhcGU=",
                "identity_fingerprint": "4E:6F:74:20:61:20:66:69:6E:67:65:72:70:72:69:6E:74",
            }),
        ),
        Relay::Disabled => ResponsePlan::json(200, &json!({"enabled": false, "server_url": URL})),
        Relay::NotLicensed => not_licensed("relay"),
    }
}

fn not_licensed(feature: &str) -> ResponsePlan {
    error(
        402,
        json!({
            "error": "license_required",
            "feature": feature,
            "message": "feature not included in license",
            "upgrade_url": "https://pulserelay.pro/pricing",
        }),
    )
}

fn license(model: &PulseModel) -> Value {
    let paid = model.tier != "free";
    let mut answer = json!({
        "valid": paid,
        "tier": model.tier,
        "is_lifetime": false,
        "days_remaining": if paid { 200 } else { 0 },
        "features": ["update_alerts", "sso", "ai_patrol"],
    });
    if model.shape == Shape::V5 {
        answer["state"] = json!(if paid { "active" } else { "none" });
    }
    answer
}

fn orgs(model: &PulseModel, caller: &Caller<'_>) -> ResponsePlan {
    match model.orgs {
        Orgs::Absent404 => not_found(),
        Orgs::NotLicensed => not_licensed("multi_tenant"),
        Orgs::Off501 => {
            error(501, json!({"error": "feature_disabled", "message": "Multi-tenant functionality is not enabled."}))
        }
        Orgs::List => ResponsePlan::json(
            200,
            &json!([{
                "id": caller.organization,
                "displayName": caller.organization,
                "createdAt": "2026-11-23T09:03:36.460138766Z",
                "ownerUserId": USER,
                "members": [{"userId": USER, "role": "owner", "addedBy": USER}],
            }]),
        ),
    }
}
