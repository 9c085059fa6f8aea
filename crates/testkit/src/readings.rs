//! Readings of Pulse as plain values, for tests that need no Pulse.

use pulse_telemetry_core::contract::{Payload, Values};
use pulse_telemetry_core::identity::InstallId;
use pulse_telemetry_core::observation::{Commercial, Gate, OwnSender, Platform, Reading, Reason, Unknown};
use pulse_telemetry_core::ping::{self, Event, PingBytes};
use pulse_telemetry_core::version::identify;

/// A homelab whose Pulse has handed over to the sidecar: everything known, nothing in the way.
pub fn handed_over() -> Reading {
    Reading {
        payload: Ok(Payload {
            version: identify("6.0.0").unwrap(),
            os: "linux",
            arch: "amd64",
            platform: Platform::Docker,
            pve_nodes: 3,
            pbs_instances: 1,
            pmg_instances: 0,
            vms: 25,
            containers: 12,
            docker_hosts: 2,
            kubernetes_clusters: 0,
            ai_enabled: false,
            active_alerts: 4,
            relay_enabled: false,
            sso_enabled: false,
            multi_tenant: false,
            paid_license: false,
            has_api_tokens: true,
        }),
        gate: Gate {
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

/// The reading, once its values were changed, or made unknown.
pub fn change(reading: &mut Reading, change: impl FnOnce(&mut Values)) {
    let mut values = reading.values();
    change(&mut values);
    reading.payload = values.complete();
}

/// The ping of that reading, in which nothing is unknown.
pub fn ping(reading: &Reading, install_id: &str, event: Event) -> PingBytes {
    ping::encode(reading.known().unwrap(), &InstallId::parse(install_id).unwrap(), event)
}

/// A ping like any other.
pub fn any_ping() -> PingBytes {
    ping(&handed_over(), "a1b2c3d4-0000-4000-8000-000000000000", Event::Heartbeat)
}

/// An unknown value.
pub fn unknown(what: &'static str, reason: Reason) -> Unknown {
    Unknown { what, request: "GET /api/somewhere", reason }
}
