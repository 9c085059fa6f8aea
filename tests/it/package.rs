//! The Debian packages: made by cargo-deb of the programs that the tests are built with, and installed, upgraded and
//! purged under a systemd that is really booted. `make test-package`; besides cargo-deb it needs what
//! `pulse_telemetry_testkit::booted` says.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::path::Path;

use pulse_telemetry_testkit::booted::{self, Machine, step};
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::packages::Stripped;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::{collector, sidecar};

/// Before each script. Logs, the copies and locks that dpkg makes for itself, and what the test puts there are no files
/// of ours.
const FUNCTIONS: &str = r#"
step() { echo "== $*"; }
files() {
    find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /dev -o -path /tmp -o -path /var/tmp \
        -o -path /var/log -o -path '/seen*' -o -path '/given*' -o -path '/*.files' -o -path '/var/lib/dpkg/*-old' \
        -o -path '/var/lib/dpkg/lock*' -o -path /var/lib/systemd/random-seed \) -prune -o -print | sort
}
install() { dpkg --install "/given/$1.deb" </dev/null; }
show() {
    echo "$1: $(systemctl is-active $unit) $(systemctl is-enabled $unit 2>&1)"
    systemctl list-units --failed --plain --no-legend "$unit*" | sed 's/^/failed: /'
}
until_there() { for _ in $(seq 60); do test -e "$1" && return; sleep 1; done; }
with_a_mount() { mkdir -p $mounted && mount -t tmpfs none $mounted && touch $mounted/kept; }
without_the_mount() {
    test -e $mounted/kept && echo what is mounted is kept
    find $(dirname $mounted) -xdev -mindepth 1 ! -path $mounted
    umount $mounted; rmdir $mounted $(dirname $mounted)
}
process() { systemctl show -p MainPID --value $unit; }
"#;

#[test]
fn what_a_packaged_configuration_suggests_is_known_and_the_default() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (packaged, defaults) in [("pulse-telemetry", "pulse-telemetry"), ("pulse-telemetry-collector", "collector")] {
        let read = |name: String| std::fs::read_to_string(root.join(name)).unwrap();
        let packaged = read(format!("packaging/{packaged}.toml"));
        assert_eq!(packaged.parse::<toml::Table>().unwrap(), toml::Table::new());

        let suggested =
            packaged.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| !line.starts_with(' '));
        let suggested: toml::Table = suggested.collect::<Vec<_>>().join("\n").parse().unwrap();
        let defaults: toml::Table = read(format!("config/{defaults}.toml")).parse().unwrap();
        assert!(!suggested.is_empty());
        for (section, keys) in suggested {
            for (key, value) in keys.as_table().unwrap() {
                assert_eq!(Some(value), defaults[&section].get(key), "{section}.{key}");
            }
        }
    }
}

#[test]
#[ignore = "needs root and cargo-deb: make test-package"]
fn the_package_starts_nothing_by_itself_keeps_what_is_yours_and_purges_all_of_it() {
    booted::alone("package::the_package_starts_nothing_by_itself_keeps_what_is_yours_and_purges_all_of_it", || {
        let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
        let machine = with_packages("pulse-telemetry", &sidecar::binary());
        let edits = format!(
            "[telemetry]\nendpoint = \"{}\"\n[pulse]\nurl = \"{}\"\n[schedule]\nstartup_delay = \"0s\"\n",
            endpoint.url(),
            pulse.url()
        );
        machine.write("given/edits", edits);
        machine.write("given/token", TOKEN);
        let seen = machine.boot(&format!("unit=pulse-telemetry\n{FUNCTIONS}{LIFE_OF_THE_SIDECAR}"));
        let step = |name: &str| step(&seen, name);

        assert!(step("installed").contains("state: inactive disabled\n"), "{seen}");
        assert!(step("installed").contains("systemctl enable --now pulse-telemetry"), "{seen}");
        assert!(step("started").contains("state: active enabled\n"), "{seen}");
        let upgraded = step("upgraded");
        assert!(upgraded.contains("state: active enabled\nversion: 2\nanother process\n"), "{seen}");
        assert!(upgraded.contains("the same configuration\nthe same ID\n"), "{seen}");
        assert!(!upgraded.contains("What is next"), "{seen}");
        assert!(step("upgraded while it is switched off").contains("state: inactive disabled\nversion: 3\n"), "{seen}");
        assert!(step("removed").contains("state: inactive"), "{seen}");
        assert!(step("removed").contains("kept: configuration token state\n"), "{seen}");
        assert!(step("purged").contains("stays, for something is mounted in it\n"), "{seen}");
        assert!(step("purged").ends_with("what is mounted is kept\n"), "{seen}");
        assert_eq!(step("what the purge left"), "", "{seen}");
        assert!(!seen.contains("failed: "), "{seen}");
        // The restarts follow within the hour.
        assert_eq!(endpoint.pings().len(), 1, "{seen}");
    });
}

const LIFE_OF_THE_SIDECAR: &str = r#"
state=/var/lib/private/pulse-telemetry
files >/before.files
step installed
install 1; show state
step started
cat /given/edits >>/etc/pulse-telemetry/config.toml
(umask 077; cat /given/token >/etc/pulse-telemetry/token)
cp /etc/pulse-telemetry/config.toml /given/edited
systemctl enable --now pulse-telemetry; show state
until_there $state/.install_id; cp $state/.install_id /given/id; before=$(process)
step upgraded
install 2; show state
echo "version: $(dpkg-query -f '${Version}' -W pulse-telemetry)"
test "$before" != "$(process)" && echo another process
cmp /given/edited /etc/pulse-telemetry/config.toml && echo the same configuration
cmp /given/id $state/.install_id && echo the same ID
step upgraded while it is switched off
systemctl disable --now pulse-telemetry
install 3; show state
echo "version: $(dpkg-query -f '${Version}' -W pulse-telemetry)"
step removed
systemctl enable --now pulse-telemetry; show before
dpkg --remove pulse-telemetry; show state
test -e /usr/bin/pulse-telemetry && echo the program is still there
echo "kept: $(cmp /given/edited /etc/pulse-telemetry/config.toml && echo configuration) \
$(cmp /given/token /etc/pulse-telemetry/token && echo token) $(cmp /given/id $state/.install_id && echo state)"
mounted=$state/mounted; with_a_mount
step purged
dpkg --purge pulse-telemetry
without_the_mount
step what the purge left
files >/after.files
diff /before.files /after.files
"#;

#[test]
#[ignore = "needs root and cargo-deb: make test-package"]
fn the_collectors_package_starts_it_restarts_it_at_an_upgrade_and_purges_all_of_it() {
    booted::alone("package::the_collectors_package_starts_it_restarts_it_at_an_upgrade_and_purges_all_of_it", || {
        let machine = with_packages("pulse-telemetry-collector", &collector::binary());
        let seen = machine.boot(&format!("unit=pulse-telemetry-collector\n{FUNCTIONS}{LIFE_OF_THE_COLLECTOR}"));
        let step = |name: &str| step(&seen, name);

        assert!(step("installed").contains("state: active enabled\n"), "{seen}");
        assert!(step("upgraded").contains("state: active enabled\nanother process\nthe same pings\n"), "{seen}");
        assert!(step("removed").contains("state: inactive"), "{seen}");
        assert!(step("removed").contains("the same pings\n"), "{seen}");
        assert!(step("purged").contains("stays, for something is mounted in it\n"), "{seen}");
        assert!(step("purged").ends_with("what is mounted is kept\n"), "{seen}");
        assert_eq!(step("what the purge left"), "", "{seen}");
        assert!(!seen.contains("failed: "), "{seen}");
    });
}

const LIFE_OF_THE_COLLECTOR: &str = r#"
pings() { stat -c %i /var/lib/private/pulse-telemetry-collector/pings.sqlite; }
files >/before.files
step installed
install 1; show state; before=$(process); file=$(pings)
step upgraded
install 2; show state
test "$before" != "$(process)" && echo another process
test "$file" = "$(pings)" && echo the same pings
step removed
dpkg --remove pulse-telemetry-collector; show state
test "$file" = "$(pings)" && echo the same pings
mounted=/var/lib/private/pulse-telemetry-collector/mounted; with_a_mount
step purged
dpkg --purge pulse-telemetry-collector
without_the_mount
step what the purge left
files >/after.files
diff /before.files /after.files
"#;

/// A machine with the package in the versions 1, 2 and 3, not installed.
fn with_packages(package: &'static str, program: &Path) -> Machine {
    let machine = Machine::new(package);
    std::fs::create_dir(machine.path("given")).unwrap();
    let stripped = Stripped::new(package, program);
    for version in ["1", "2", "3"] {
        stripped.deb(version, &machine.path(&format!("given/{version}.deb")));
    }
    machine
}
