//! The ping: snapshot, identity and event become bytes. The one constructor and the one encoder there are, so that
//! preview, ledger and wire hold the same bytes.

use serde::Serialize;
use serde_json::Value;

use crate::contract::{self, FIELDS, Violation};
use crate::observation::{Platform, Reading};
use crate::version::Channel;

/// Why a ping is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// The first ping after a start of the sidecar.
    Startup,
    /// The daily ping.
    Heartbeat,
}

impl Event {
    /// The word on the wire.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// All that is sent. The fields, their order and their names are those of [`crate::contract::FIELDS`], where each
/// one's purpose stands.
#[derive(Serialize)]
struct Ping<'a> {
    install_id: &'a str,
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_raw: Option<&'a str>,
    version_channel: Channel,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_build: Option<&'a str>,
    version_is_development: bool,
    version_is_published_release: bool,
    platform: &'static str,
    os: &'static str,
    arch: &'static str,
    event: Event,
    pve_nodes: u32,
    pbs_instances: u32,
    pmg_instances: u32,
    vms: u32,
    containers: u32,
    docker_hosts: u32,
    kubernetes_clusters: u32,
    ai_enabled: bool,
    active_alerts: u32,
    relay_enabled: bool,
    sso_enabled: bool,
    multi_tenant: bool,
    paid_license: bool,
    has_api_tokens: bool,
}

/// The bytes of a ping: compact JSON in the order of the contract. `None` while anything in the reading is unknown.
#[must_use]
pub fn encode(reading: &Reading, install_id: &str, event: Event) -> Option<String> {
    if !reading.unknown().is_empty() {
        return None;
    }
    let s = &reading.snapshot;
    let version = s.version.as_ref().ok()?;
    let ping = Ping {
        install_id,
        version: &version.version,
        version_raw: version.raw.as_deref(),
        version_channel: version.channel,
        version_build: version.build.as_deref(),
        version_is_development: version.is_development,
        version_is_published_release: version.is_published_release,
        platform: match s.platform.as_ref().ok()? {
            Platform::Docker => "docker",
            Platform::Binary => "binary",
        },
        os: s.os,
        arch: s.arch,
        event,
        pve_nodes: *s.pve_nodes.as_ref().ok()?,
        pbs_instances: *s.pbs_instances.as_ref().ok()?,
        pmg_instances: *s.pmg_instances.as_ref().ok()?,
        vms: *s.vms.as_ref().ok()?,
        containers: *s.containers.as_ref().ok()?,
        docker_hosts: *s.docker_hosts.as_ref().ok()?,
        kubernetes_clusters: *s.kubernetes_clusters.as_ref().ok()?,
        ai_enabled: *s.ai_enabled.as_ref().ok()?,
        active_alerts: *s.active_alerts.as_ref().ok()?,
        relay_enabled: *s.relay_enabled.as_ref().ok()?,
        sso_enabled: *s.sso_enabled.as_ref().ok()?,
        multi_tenant: *s.multi_tenant.as_ref().ok()?,
        paid_license: *s.paid_license.as_ref().ok()?,
        has_api_tokens: *s.has_api_tokens.as_ref().ok()?,
    };
    serde_json::to_string(&ping).ok()
}

/// Why some bytes are no ping as [`encode`] writes it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is not one JSON document.
    #[error("is not JSON")]
    NotJson,
    /// It is not what the contract says.
    #[error("breaks the contract: {0}")]
    Contract(#[from] Violation),
    /// It is spelled otherwise: a space, a key twice, another order, an escape that is not needed.
    #[error("is not compact JSON in the contract's order")]
    Spelling,
}

/// The values of a ping, where the bytes are to the last one what [`encode`] makes of them: nothing is hidden in
/// between that a reader of JSON passes over.
///
/// # Errors
/// Where they are not.
pub fn decode(body: &str) -> Result<Value, DecodeError> {
    let document: Value = serde_json::from_str(body).map_err(|_| DecodeError::NotJson)?;
    contract::validate(&document)?;
    let in_order = document.as_object().is_some_and(|object| {
        object.keys().eq(FIELDS.iter().map(|field| field.name).filter(|name| object.contains_key(*name)))
    });
    let is_as_encoded = in_order && serde_json::to_string(&document).is_ok_and(|encoded| encoded == body);
    if is_as_encoded { Ok(document) } else { Err(DecodeError::Spelling) }
}
