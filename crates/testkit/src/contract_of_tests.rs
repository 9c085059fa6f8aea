//! A contract with a field that Pulse's own ping does not have, to show what a new field needs: its row, and its line
//! in the reading.

use pulse_telemetry_core::contract::FieldKind;
use pulse_telemetry_core::declare_contract;
use pulse_telemetry_core::observation::{Reason, Unknown};

declare_contract! {
    |ping|
    install_id {
        purpose: "Tells installations apart.",
        holds: FieldKind::InstallId,
        example: "\"a1b2c3d4-0000-4000-8000-000000000000\"",
        sent: ping.install_id,
    }
    event {
        purpose: "Tells the first ping after a start from the daily one.",
        holds: FieldKind::Choice(&["startup", "heartbeat"]),
        example: "\"heartbeat\"",
        sent: ping.event,
    }
    vms {
        purpose: "The scale of what is monitored: virtual machines.",
        holds: FieldKind::Count,
        example: "25",
        read: u32, needs: Monitoring,
    }
    // The row of the new field.
    storages {
        purpose: "A field that is only tested.",
        holds: FieldKind::Count,
        example: "7",
        read: u32, needs: Monitoring,
    }
}

/// What Pulse says, or not.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub vms: Option<u32>,
    pub storages: Option<u32>,
}

/// The reading of it.
pub fn read(answer: Answer) -> Values {
    let named = |what, value: Option<u32>| {
        value.ok_or(Unknown { what, request: "GET /api/counts", reason: Reason::WrongShape })
    };
    Values {
        vms: named("vms", answer.vms),
        // The line of the new field.
        storages: named("storages", answer.storages),
    }
}
