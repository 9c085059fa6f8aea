//! The unit under a systemd that is really booted, in a container of systemd-nspawn on a Debian of its own. Needs root,
//! mmdebstrap, systemd-nspawn and Debian's mirror: `make test-boot`.
//!
//! The test runs itself again in a network namespace, where the unit's port is free. The tree is made once and kept.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::endpoint::Endpoint;
use support::pulse::{PulseModel, SimulatedPulse, TOKEN};
use support::sidecar;

/// Says that the test runs in the namespace.
const INSIDE: &str = "PULSE_TELEMETRY_TEST_INSIDE";

/// Runs within the container, and writes what it sees to its standard output.
const SEEN: &str = r"#!/bin/sh
show() { systemctl show pulse-telemetry -p ActiveState -p NRestarts; }
until_active() { for _ in $(seq 60); do systemctl is-active -q pulse-telemetry && return; sleep 1; done; }
until_active; show
ls -ln /var/lib/private/pulse-telemetry | sed 's/^/state: /'
sed 's/^/process: /' /proc/$(systemctl show -p MainPID --value pulse-telemetry)/status
kill -STOP $(systemctl show -p MainPID --value pulse-telemetry)
for _ in $(seq 60); do show | grep -q NRestarts=1 && break; sleep 1; done
until_active; echo after the hang; show
systemctl stop pulse-telemetry
journalctl -u pulse-telemetry --no-pager -o cat
systemctl poweroff
";

const REPORT: &str = "[Unit]\nAfter=pulse-telemetry.service\n[Service]\nType=oneshot\nExecStart=/bin/sh /seen.sh\n\
                      StandardOutput=file:/seen.txt\nStandardError=file:/seen.txt\n";

/// In a namespace of its own, with a hierarchy of cgroups as systemd wants it.
const BOOT: &str = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && \
                    mkdir -p /sys/fs/cgroup/booted && echo $$ >/sys/fs/cgroup/booted/cgroup.procs && \
                    mount -t tmpfs tmpfs /run && mkdir /run/systemd && \
                    exec timeout 180 systemd-nspawn --register=no --keep-unit -q --console=passive -b -D \"$0\"";

#[test]
#[ignore = "needs root: make test-boot"]
#[expect(clippy::disallowed_methods, reason = "the test tells itself that it runs in the namespace")]
fn under_systemd_it_starts_confined_sends_with_the_credential_and_survives_a_hang() {
    if std::env::var_os(INSIDE).is_some() {
        return a_life_inside();
    }
    let name = "under_systemd_it_starts_confined_sends_with_the_credential_and_survives_a_hang";
    debian();
    let output = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", name, "--nocapture"])
        .env(INSIDE, "yes")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

fn a_life_inside() {
    run("ip", &["link", "set", "lo", "up"]);
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let root = installed();
    let config = format!(
        "[telemetry]\nendpoint = \"{}\"\n[pulse]\nurl = \"{}\"\n[schedule]\nstartup_delay = \"0s\"\n",
        endpoint.url(),
        pulse.url()
    );
    write(&root, "etc/pulse-telemetry/config.toml", &config);
    let boot = Command::new("unshare").args(["--mount", "bash", "-c", BOOT]).arg(&root).output().unwrap();
    let seen = std::fs::read_to_string(root.join("seen.txt")).unwrap_or_default();
    let console = String::from_utf8_lossy(&boot.stdout);
    let (before, after) = seen.split_once("after the hang\n").unwrap_or_else(|| panic!("{seen}\n{console}"));

    assert!(before.contains("ActiveState=active") && before.contains("NRestarts=0"), "{seen}");
    let process = |line: &str| {
        let found = before.lines().find_map(|seen| seen.strip_prefix("process: ")?.strip_prefix(line));
        found.unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_ne!(process("Uid:")[0], "0");
    assert_eq!(process("CapEff:"), ["0000000000000000"]);
    assert_eq!((process("NoNewPrivs:"), process("Seccomp:")), (vec!["1".to_owned()], vec!["2".to_owned()]));
    let owned = before.lines().filter(|line| line.starts_with("state: -rw-------")).count();
    assert!(owned >= 3 && !before.contains("state: -rw-r"), "{seen}");
    // Pulse answers only to the token, which the program has from systemd alone. The second start follows within the
    // hour, so it sends nothing.
    assert_eq!(endpoint.pings().len(), 1, "{seen}");
    assert!(after.contains("ActiveState=active") && after.contains("NRestarts=1"), "{seen}");
    assert!(after.contains("Watchdog timeout") && after.contains("Deactivated successfully"), "{seen}");
}

/// The tree of a Debian, which is made where it is missing. That takes a minute, and a way to Debian's mirror.
fn debian() -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("booted");
    if !root.join("etc/debian_version").exists() {
        let packages = "--include=systemd,systemd-sysv";
        run("mmdebstrap", &["-q", "--variant=minbase", packages, "bookworm", root.to_str().unwrap()]);
    }
    root
}

/// A Debian with the unit as it is installed, a shorter watchdog, and nothing left of an earlier run.
fn installed() -> PathBuf {
    let root = debian();
    for left in ["seen.txt", "var/lib/private/pulse-telemetry", "var/log/journal"] {
        let _ = std::fs::remove_file(root.join(left));
        let _ = std::fs::remove_dir_all(root.join(left));
    }
    std::fs::copy(sidecar::binary(), root.join("usr/bin/pulse-telemetry")).unwrap();
    let units = "etc/systemd/system";
    write(&root, &format!("{units}/pulse-telemetry.service"), include_str!("../systemd/pulse-telemetry.service"));
    let hasty = "[Service]\nWatchdogSec=5s\nRestartSec=1s\n";
    write(&root, &format!("{units}/pulse-telemetry.service.d/hasty.conf"), hasty);
    write(&root, &format!("{units}/seen.service"), REPORT);
    write(&root, "seen.sh", SEEN);
    write(&root, "etc/pulse-telemetry/token", TOKEN);
    run("chmod", &["600", root.join("etc/pulse-telemetry/token").to_str().unwrap()]);
    for unit in ["pulse-telemetry", "seen"] {
        let wanted = root.join(units).join(format!("multi-user.target.wants/{unit}.service"));
        std::fs::create_dir_all(wanted.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&wanted);
        std::os::unix::fs::symlink(format!("../{unit}.service"), wanted).unwrap();
    }
    root
}

fn write(root: &Path, name: &str, content: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
