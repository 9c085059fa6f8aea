//! The systemd units: what systemd itself says of them, and that the programs tell it what the units wait for. And the
//! container's settings.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};

use pulse_telemetry::config::Config;
use pulse_telemetry_collector::server;
use pulse_telemetry_process::config::Environment;
use pulse_telemetry_testkit::alone::program_or_skip;
use pulse_telemetry_testkit::collector::{self, Storage};
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar::{self, LIMIT, Setup};
use tempfile::TempDir;

const UNITS: [&str; 2] = ["pulse-telemetry", "pulse-telemetry-collector"];

/// An address for documentation, in the place of the operator's.
const FIXED_ADDRESS: &str = "192.0.2.10";

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if !program_or_skip("systemd-analyze", &["--version"], "systemd_finds_nothing_wrong_with_the_units") {
        return;
    }
    for unit in UNITS {
        let dir = installed(unit);
        let output = analyze(dir.path(), unit, &["verify"]);
        assert!(output.status.success() && output.stderr.is_empty(), "{unit}: {}", told(&output));
    }
}

#[test]
fn a_unit_leaves_the_program_an_exposure_of_at_most_1_2_and_1_0_with_fixed_addresses() {
    if !program_or_skip(
        "systemd-analyze",
        &["--version"],
        "a_unit_leaves_the_program_an_exposure_of_at_most_1_2_and_1_0_with_fixed_addresses",
    ) {
        return;
    }
    for unit in UNITS {
        let dir = installed(unit);
        let output = analyze(dir.path(), unit, &["security", "--offline=true", "--no-pager", "--threshold=12"]);
        assert!(output.status.success(), "{unit}: {}", told(&output));

        let drop_ins = dir.path().join(format!("{unit}.service.d"));
        std::fs::create_dir(&drop_ins).unwrap();
        let addresses = read("fixed-addresses.conf").replace("# IPAddressAllow=", "IPAddressAllow=");
        assert!(addresses.contains(&format!("\nIPAddressAllow={FIXED_ADDRESS}\n")));
        std::fs::write(drop_ins.join("fixed-addresses.conf"), addresses).unwrap();
        let output = analyze(dir.path(), unit, &["security", "--offline=true", "--no-pager", "--threshold=10"]);
        assert!(output.status.success(), "{unit} with fixed addresses: {}", told(&output));
    }
}

#[test]
fn a_unit_opens_the_ports_of_the_default_configuration_and_no_others() {
    for (unit, config) in UNITS.iter().zip(["pulse-telemetry.toml", "collector.toml"]) {
        let config =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(config)).unwrap();
        let config: toml::Table = config.parse().unwrap();
        let listeners = ["serve", "admin"].into_iter().filter_map(|section| config.get(section)?.get("listen"));
        let ports = listeners.map(|listen| listen.as_str().unwrap().rsplit(':').next().unwrap());
        let expected: Vec<_> = ports.map(|port| format!("tcp:{port}")).collect();
        let unit = read(&format!("{unit}.service"));
        let opened: Vec<_> = unit.lines().filter_map(|line| line.strip_prefix("SocketBindAllow=")).collect();
        assert_eq!(opened, expected);
    }
}

#[test]
fn the_collectors_unit_allows_more_memory_than_callers_can_make_it_hold() {
    let config = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/collector.toml")).unwrap();
    let config: toml::Table = config.parse().unwrap();
    let connections = usize::try_from(config["serve"]["connections"].as_integer().unwrap()).unwrap();
    let limits = server::limits(connections);
    let most = (connections * (limits.head_bytes + 2 * limits.body_bytes)) >> 20;
    let unit = read("pulse-telemetry-collector.service");
    assert!(unit.contains(&format!("hold {most} MiB at most")), "the figure in the unit is not {most} MiB");
    let allowed = unit.lines().find_map(|line| line.strip_prefix("MemoryMax=")?.strip_suffix('M')).unwrap();
    // A quarter more, for what is not of connections: the tables of networks, the storage's cache, what TLS keeps.
    assert!(allowed.parse::<usize>().unwrap() >= most * 5 / 4, "MemoryMax={allowed}M");
}

#[test]
fn the_daemon_says_that_it_is_ready_that_it_lives_and_that_it_stops() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN);
    let manager = Manager::new();
    let daemon = setup.with("NOTIFY_SOCKET", &manager.path()).with("WATCHDOG_USEC", WATCHDOG_USEC).start();
    manager.expects_a_start();
    assert_eq!(daemon.get("/readyz").status, 200);
    manager.expects_life();
    daemon.stop();
    manager.expects_a_stop();
}

#[test]
fn a_daemon_that_cannot_write_its_state_never_says_that_it_is_ready() {
    let manager = Manager::new();
    let setup = Setup::new("http://127.0.0.1:1", "http://127.0.0.1:1").with("NOTIFY_SOCKET", &manager.path());
    setup.write("state", "a file where the directory belongs");
    assert!(setup.start_if_it_can().is_err());
    manager.expects_nothing();
}

#[test]
fn the_collector_says_that_it_is_ready_that_it_lives_and_that_it_stops() {
    let storage = Storage::sqlite();
    let manager = Manager::new();
    let setup = collector::Setup::new(&storage).with_variable("NOTIFY_SOCKET", &manager.path());
    let collector = setup.with_variable("WATCHDOG_USEC", WATCHDOG_USEC).start();
    manager.expects_a_start();
    manager.expects_life();
    collector.stop();
    manager.expects_a_stop();
}

#[test]
fn the_compose_example_gives_the_sidecar_settings_that_it_accepts_and_hands_over_in_pulses() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compose = std::fs::read_to_string(dir.join("compose.example.yml")).unwrap();
    let (pulse, sidecar) = compose.split_once("\n  pulse-telemetry:\n").unwrap();
    assert_eq!(variables(pulse), [("PULSE_TELEMETRY".to_owned(), "false".to_owned())]);
    let dockerfile = std::fs::read_to_string(dir.join("Dockerfile")).unwrap();
    let of_the_image = dockerfile.lines().filter_map(|line| line.strip_prefix("ENV ")?.split_once('='));
    let of_the_image = of_the_image.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let environment = Environment::new(variables(sidecar).into_iter().chain(of_the_image));
    let config = Config::load(None, &environment, false).unwrap();
    assert_eq!(config.pulse.url.to_string(), "http://pulse:7655/");
    assert!(!config.serve.listen.is_local() && config.serve.token_file.is_some());
    // The state is a directory within the volume.
    let volume = config.state.dir.parent().unwrap().to_owned();
    for file in [volume, config.serve.token_file.unwrap().path] {
        let place = file.strip_prefix("/run/secrets").unwrap_or(&file).display().to_string();
        assert!(sidecar.contains(&place), "{place} is neither a secret nor a volume");
    }
}

/// The variables of a service in the compose file.
fn variables(service: &str) -> Vec<(String, String)> {
    let of_pulse = service.lines().map(str::trim).filter(|line| line.starts_with("PULSE_"));
    let pairs = of_pulse.filter_map(|line| line.split_once(": "));
    pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect()
}

/// Short enough to see it soon, long enough for the few messages to fit into the socket.
const WATCHDOG_USEC: &str = "400000";

/// The socket of a service manager.
struct Manager {
    dir: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Self { dir, socket }
    }

    fn path(&self) -> String {
        self.dir.path().join("notify").display().to_string()
    }

    fn next(&self) -> String {
        let mut message = [0; 256];
        let length = self.socket.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    fn expects_a_start(&self) {
        assert_eq!(self.next(), "READY=1\n");
    }

    /// The first beat may come from the start; the second one needs a loop that goes round.
    fn expects_life(&self) {
        for _ in 0..2 {
            assert_eq!(self.next(), "WATCHDOG=1\n");
        }
    }

    fn expects_a_stop(&self) {
        let mut message = self.next();
        while message != "STOPPING=1\n" {
            assert_eq!(message, "WATCHDOG=1\n");
            message = self.next();
        }
    }

    fn expects_nothing(&self) {
        self.socket.set_nonblocking(true).unwrap();
        assert_eq!(self.socket.recv(&mut [0; 256]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)).unwrap()
}

/// A directory with the unit as it is installed, but for where the program lies.
fn installed(unit: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let programs = sidecar::binary().parent().unwrap().display().to_string();
    let content = read(&format!("{unit}.service")).replace("ExecStart=/usr/bin", &format!("ExecStart={programs}"));
    assert!(content.contains(&programs));
    std::fs::write(dir.path().join(format!("{unit}.service")), content).unwrap();
    dir
}

fn analyze(dir: &Path, unit: &str, words: &[&str]) -> Output {
    let file = dir.join(format!("{unit}.service"));
    Command::new("systemd-analyze").args(words).arg(file).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
