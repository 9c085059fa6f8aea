//! The 25 fields of Pulse's privacy page: a row each, and no other place that lists them.
//!
//! A new field is its row here and its line in the reading of Pulse (`src/pulse/answers.rs`), without which nothing
//! compiles.

use super::FieldKind;
use crate::declare_contract;
use crate::platform::Platform;
use crate::version::VersionIdentity;

declare_contract! {
    |ping|
    install_id {
        purpose: "Tells installations apart. It is a random pseudonym, derived from nothing; no account or person \
                  belongs to it. It is replaced every 30 days, but the counts of a ping can tell an installation \
                  longer.",
        holds: FieldKind::InstallId,
        example: "\"a1b2c3d4-0000-4000-8000-000000000000\"",
        sent: ping.install_id,
    }
    version {
        purpose: "Which release of Pulse is running, in its canonical form.",
        holds: FieldKind::Text { optional: false },
        example: "\"6.0.0-rc.1\"",
        read: VersionIdentity, needs: Nothing,
        sent: ping.payload.version.version,
    }
    version_raw {
        purpose: "The version as the build itself spells it, sent only where that differs, so that builds made by hand \
                  are not mistaken for releases.",
        holds: FieldKind::Text { optional: true },
        example: "\"v6.0.0-rc.1-45-gabcdef\"",
        sent: ping.payload.version.raw,
    }
    version_channel {
        purpose: "Whether a release, a release candidate, a development build or another prerelease is running.",
        holds: FieldKind::Choice(&["stable", "rc", "dev", "prerelease", "unknown"]),
        example: "\"rc\"",
        sent: ping.payload.version.channel,
    }
    version_build {
        purpose: "The build metadata of the version, sent only where there is some, as for builds from a git checkout.",
        holds: FieldKind::Text { optional: true },
        example: "\"git.45.gabcdef\"",
        sent: ping.payload.version.build,
    }
    version_is_development {
        purpose: "Marks builds made from source or for development.",
        holds: FieldKind::Flag,
        example: "false",
        sent: ping.payload.version.is_development,
    }
    version_is_published_release {
        purpose: "Marks builds whose version is that of a published stable release or release candidate.",
        holds: FieldKind::Flag,
        example: "true",
        sent: ping.payload.version.is_published_release,
    }
    platform {
        purpose: "Shows whether Pulse behaves differently in containers.",
        holds: FieldKind::Choice(&["docker", "binary"]),
        example: "\"docker\"",
        read: Platform, needs: Nothing,
    }
    os {
        purpose: "Shows trouble that only one operating system has.",
        holds: FieldKind::Word,
        example: "\"linux\"",
        read: &'static str, needs: Own,
    }
    arch {
        purpose: "Shows trouble that only one processor architecture has.",
        holds: FieldKind::Word,
        example: "\"amd64\"",
        read: &'static str, needs: Own,
    }
    event {
        purpose: "Tells the first ping after a start from the daily one.",
        holds: FieldKind::Choice(&["startup", "heartbeat"]),
        example: "\"heartbeat\"",
        sent: ping.event,
    }
    pve_nodes {
        purpose: "How large Proxmox VE estates are, in aggregate.",
        holds: FieldKind::Count,
        example: "3",
        read: u32, needs: Monitoring,
    }
    pbs_instances {
        purpose: "How many use Proxmox Backup Server, in aggregate.",
        holds: FieldKind::Count,
        example: "1",
        read: u32, needs: Monitoring,
    }
    pmg_instances {
        purpose: "How many use Proxmox Mail Gateway, in aggregate.",
        holds: FieldKind::Count,
        example: "0",
        read: u32, needs: Monitoring,
    }
    vms {
        purpose: "The scale of what is monitored: virtual machines.",
        holds: FieldKind::Count,
        example: "25",
        read: u32, needs: Monitoring,
    }
    containers {
        purpose: "The scale of what is monitored: LXC containers.",
        holds: FieldKind::Count,
        example: "12",
        read: u32, needs: Monitoring,
    }
    docker_hosts {
        purpose: "How many use Docker monitoring, in aggregate.",
        holds: FieldKind::Count,
        example: "2",
        read: u32, needs: Monitoring,
    }
    kubernetes_clusters {
        purpose: "How many use Kubernetes monitoring, in aggregate.",
        holds: FieldKind::Count,
        example: "0",
        read: u32, needs: Monitoring,
    }
    ai_enabled {
        purpose: "Whether AI features are used at all, before they are extended or removed.",
        holds: FieldKind::Flag,
        example: "false",
        read: bool, needs: Settings,
    }
    active_alerts {
        purpose: "How noisy installations are, in aggregate: how many alerts are active, never which.",
        holds: FieldKind::Count,
        example: "4",
        read: u32, needs: Monitoring,
    }
    relay_enabled {
        purpose: "Whether remote access is used.",
        holds: FieldKind::Flag,
        example: "false",
        read: bool, needs: Settings,
    }
    sso_enabled {
        purpose: "Whether single sign-on is used.",
        holds: FieldKind::Flag,
        example: "false",
        read: bool, needs: Nothing,
    }
    multi_tenant {
        purpose: "Whether several organizations are used in one Pulse.",
        holds: FieldKind::Flag,
        example: "false",
        read: bool, needs: Settings,
    }
    paid_license {
        purpose: "Tells free from paid, without the tier.",
        holds: FieldKind::Flag,
        example: "false",
        read: bool, needs: AnyToken,
    }
    has_api_tokens {
        purpose: "Whether API tokens are used, without their number.",
        holds: FieldKind::Flag,
        example: "true",
        read: bool, needs: AnyToken,
    }
}
