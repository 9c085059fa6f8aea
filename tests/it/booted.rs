//! The unit under a systemd that is really booted: `make test-boot`; `pulse_telemetry_testkit::booted` says what that
//! needs.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use pulse_telemetry_testkit::alone::run;
use pulse_telemetry_testkit::booted::{self, Machine};
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar;

/// Runs within the container, and writes what it sees to its standard output.
const SEEN: &str = r"#!/bin/sh
show() { systemctl show pulse-telemetry -p ActiveState -p NRestarts; }
until_active() { for _ in $(seq 60); do systemctl is-active -q pulse-telemetry && return; sleep 1; done; }
set -- $(cat /proc/self/uid_map); echo container: $2
until_active; show
ls -ln /var/lib/private/pulse-telemetry | sed 's/^/state: /'
sed 's/^/process: /' /proc/$(systemctl show -p MainPID --value pulse-telemetry)/status
pulse-telemetry status | sed 's/^/status: /'
kill -STOP $(systemctl show -p MainPID --value pulse-telemetry)
for _ in $(seq 60); do show | grep -q NRestarts=1 && break; sleep 1; done
until_active; echo after the hang; show
systemctl stop pulse-telemetry
journalctl -u pulse-telemetry --no-pager -o cat
";

#[test]
#[ignore = "needs root: make test-boot"]
fn under_systemd_it_starts_confined_sends_with_the_credential_and_survives_a_hang() {
    booted::alone("booted::under_systemd_it_starts_confined_sends_with_the_credential_and_survives_a_hang", || {
        a_life_of_the_unit(installed("booted"));
    });
}

#[test]
#[ignore = "needs root: make test-boot"]
fn in_an_unprivileged_container_it_starts_confined_sends_with_the_credential_and_survives_a_hang() {
    let name = "booted::in_an_unprivileged_container_it_starts_confined_sends_with_the_credential_and_survives_a_hang";
    booted::alone(name, || {
        let machine = installed("unprivileged").unprivileged();
        let seen = a_life_of_the_unit(machine);
        assert!(seen.contains("container: 524288\n"), "{seen}");
    });
}

/// What it said.
fn a_life_of_the_unit(machine: Machine) -> String {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let config = format!(
        "[telemetry]\nendpoint = \"{}\"\n[pulse]\nurl = \"{}\"\n[schedule]\nstartup_delay = \"0s\"\n",
        endpoint.url(),
        pulse.url()
    );
    machine.write("etc/pulse-telemetry/config.toml", config);
    let seen = machine.boot(SEEN);
    let (before, after) = seen.split_once("after the hang\n").unwrap_or_else(|| panic!("{seen}"));

    assert!(before.contains("ActiveState=active") && before.contains("NRestarts=0"), "{seen}");
    let process = |line: &str| {
        let found = before.lines().find_map(|seen| seen.strip_prefix("process: ")?.strip_prefix(line));
        found.unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_ne!(process("Uid:")[0], "0");
    assert_eq!(process("CapEff:"), ["0000000000000000"]);
    assert_eq!((process("NoNewPrivs:"), process("Seccomp:")), (vec!["1".to_owned()], vec!["2".to_owned()]));
    let confined = before.lines().find_map(|seen| seen.strip_prefix("status: Confined:  ")).unwrap_or_default();
    assert!(confined.starts_with("writes to the state directory only; connects to the TCP ports"), "{seen}");
    assert!(!confined.contains("Not in force"), "{seen}");
    let owned = before.lines().filter(|line| line.starts_with("state: -rw-------")).count();
    assert!(owned >= 3 && !before.contains("state: -rw-r"), "{seen}");
    // Pulse answers only to the token, which the program has from systemd alone. The second start follows within the
    // hour, so it sends nothing.
    assert_eq!(endpoint.pings().len(), 1, "{seen}");
    assert!(after.contains("ActiveState=active") && after.contains("NRestarts=1"), "{seen}");
    assert!(after.contains("Watchdog timeout") && after.contains("Deactivated successfully"), "{seen}");
    seen
}

/// A Debian with the unit as it is installed, and a shorter watchdog.
fn installed(name: &str) -> Machine {
    let machine = Machine::new(name);
    std::fs::copy(sidecar::binary(), machine.path("usr/bin/pulse-telemetry")).unwrap();
    let units = "etc/systemd/system";
    machine.write(&format!("{units}/pulse-telemetry.service"), include_str!("../../systemd/pulse-telemetry.service"));
    let hasty = "[Service]\nWatchdogSec=5s\nRestartSec=1s\n";
    machine.write(&format!("{units}/pulse-telemetry.service.d/hasty.conf"), hasty);
    machine.write("etc/pulse-telemetry/token", TOKEN);
    run("chmod", &["600", machine.path("etc/pulse-telemetry/token").to_str().unwrap()]);
    machine.enable("pulse-telemetry");
    machine
}
