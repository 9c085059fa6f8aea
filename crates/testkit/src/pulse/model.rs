//! What decides the answers, and the strings that may never leave.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use crate::replay;
use crate::server::ResponsePlan;

pub const MONITORING_READ: &str = "monitoring:read";
pub const SETTINGS_READ: &str = "settings:read";

/// The token that the default model knows; it has both scopes.
pub const TOKEN: &str = "sidecar-token";

/// Strings that identify somebody or something. The default model's answers hold each of them in both shapes, where
/// real Pulse has such strings; none may ever leave.
pub const PLANTED: &[&str] = &[
    NODE, NODE_FQDN, CLUSTER, NODE_IP, NODE_MAC, MACHINE_ID, GUEST, GUEST_NOTE, USER, TOKEN_NAME, TOKEN_HINT, CLIENT_IP,
];
pub(super) const NODE: &str = "kestrel-pve";
pub(super) const NODE_FQDN: &str = "kestrel-pve.attic.example.net";
pub(super) const CLUSTER: &str = "Wilhelmina Family Cluster";
pub(super) const NODE_IP: &str = "198.51.100.37";
pub(super) const NODE_MAC: &str = "5e:ff:00:ac:de:41";
pub(super) const MACHINE_ID: &str = "c0ffee00d15ea5ed0ddba11f00dbabe5";
pub(super) const GUEST: &str = "tax-returns-archive";
pub(super) const GUEST_NOTE: &str = "Guest tax-returns-archive has not been backed up since Easter";
pub(super) const USER: &str = "wilhelmina";
pub(super) const TOKEN_NAME: &str = "the sidecar in the attic";
pub(super) const TOKEN_HINT: &str = "7be3fa...c41d";
pub(super) const CLIENT_IP: &str = "203.0.113.9";

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
    /// Off: every request is answered as if with both scopes, whatever the token, as before Pulse's set-up.
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
