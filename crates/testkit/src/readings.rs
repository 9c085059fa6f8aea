//! Readings of Pulse as plain values, for tests that need no Pulse.

use pulse_telemetry_core::observation::{
    Commercial, OwnSender, Platform, PulseState, Reading, Reason, Snapshot, Unknown,
};
use pulse_telemetry_core::version::identify;

/// A homelab whose Pulse has handed over to the sidecar: everything known, nothing in the way.
pub fn handed_over() -> Reading {
    Reading {
        snapshot: Snapshot {
            version: Ok(identify("6.0.0").unwrap()),
            os: "linux",
            arch: "amd64",
            platform: Ok(Platform::Docker),
            pve_nodes: Ok(3),
            pbs_instances: Ok(1),
            pmg_instances: Ok(0),
            vms: Ok(25),
            containers: Ok(12),
            docker_hosts: Ok(2),
            kubernetes_clusters: Ok(0),
            ai_enabled: Ok(false),
            active_alerts: Ok(4),
            relay_enabled: Ok(false),
            sso_enabled: Ok(false),
            multi_tenant: Ok(false),
            paid_license: Ok(false),
            has_api_tokens: Ok(true),
        },
        state: PulseState {
            mock_mode: Ok(false),
            demo_mode: Ok(false),
            starting: Ok(false),
            own_sender: Ok(OwnSender::OffByEnvironment),
            commercial: Ok(Commercial { disable_local_upgrade_metrics: false, reduce_pro_upsell_noise: false }),
            organizations: Ok(()),
        },
        retry_after: None,
    }
}

/// An unknown value.
pub fn unknown(what: &'static str, reason: Reason) -> Unknown {
    Unknown { what, request: "GET /api/somewhere", reason }
}
