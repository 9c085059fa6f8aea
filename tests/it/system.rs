//! What needs root and a file system of its own: `make test-system`. Power losses on ext4, a disk that is full, a
//! directory that becomes immutable, a file system that becomes read-only.
//!
//! 20 power losses; `LOSSES=200` asks for more, as `make soak` does.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::io::Read as _;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pulse_telemetry_core::clock::Clock as _;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::alone::{alone, run};
use pulse_telemetry_testkit::endpoint::{CertificateAuthority, Endpoint};
use pulse_telemetry_testkit::pulse::{self, PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::seeded::Seeded;
use pulse_telemetry_testkit::server::Server;
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup, Sidecar, check_the_state, exists};
use tempfile::TempDir;

/// Cuts the file system off, as a power loss would: what was not flushed is gone.
const CUT: &str =
    "import fcntl, os, struct, sys; fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

/// Runs the test of that name where nobody else sees its mounts: a namespace that another test makes meanwhile would
/// keep each that is there, and its loop device, however often this one unmounts it.
fn with_own_mounts(name: &str, test: impl FnOnce()) {
    alone(&format!("system::{name}"), &["--mount"], || {}, test);
}

/// A mounted file system; unmounted when dropped.
struct Mount {
    dir: TempDir,
}

impl Mount {
    fn new(arguments: &[&str]) -> Self {
        let mount = Self { dir: tempfile::tempdir().unwrap() };
        mount.mount(arguments);
        mount
    }

    fn mount(&self, arguments: &[&str]) {
        run("mount", &[arguments, &[self.path().to_str().unwrap()]].concat());
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn unmount(&self) {
        run("umount", &[self.path().to_str().unwrap()]);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // One that was unmounted already says so, and that is fine.
        let _ = Command::new("umount").args(["-l", self.path().to_str().unwrap()]).output();
    }
}

/// A new ext4 in that file, mounted.
fn ext4(image: &Path) -> Mount {
    std::fs::File::create(image).unwrap().set_len(16 << 20).unwrap();
    let image = image.to_str().unwrap();
    run("mkfs.ext4", &["-q", "-F", image]);
    Mount::new(&["-o", "loop", image])
}

/// Waits until no loop device has the file any more: the kernel takes it away some time after the unmounting, and what
/// it holds in between may be older than the file.
fn until_detached(image: &Path) {
    let is_held = || !Command::new("losetup").arg("-j").arg(image).output().unwrap().stdout.is_empty();
    let tries = (0..500).take_while(|_| is_held()).inspect(|_| std::thread::sleep(Duration::from_millis(10)));
    assert!(tries.count() < 500, "a loop device keeps {}", image.display());
}

/// A set-up whose state directory is on that file system.
fn setup(mount: &Mount, pulse: &SimulatedPulse, endpoint: &Endpoint) -> Setup {
    let setup = Setup::in_dir(mount.path(), &pulse.url(), &endpoint.url())
        .with("PULSE_TOKEN", TOKEN)
        .with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "200ms");
    // The test's own directory is not what is tried.
    run("sync", &["-f", mount.path().to_str().unwrap()]);
    setup
}

#[test]
#[ignore = "needs root: make test-system"]
fn a_secret_on_a_file_system_of_its_own_is_an_orchestrators_and_one_on_the_machines_is_not() {
    let name = "a_secret_on_a_file_system_of_its_own_is_an_orchestrators_and_one_on_the_machines_is_not";
    with_own_mounts(name, a_secret_on_each_file_system);
}

fn a_secret_on_each_file_system() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let mounted = Mount::new(&["-t", "tmpfs", "tmpfs"]);
    let own = Setup::new(&pulse.url(), &endpoint.url());
    let secret = |path: &Path| {
        std::fs::write(path, TOKEN).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (orchestrators, machines) = (secret(&mounted.path().join("token")), secret(&own.path("token")));
    // As ProtectSystem=strict does it, and an orchestrator.
    for (token, read_only, warns) in [
        (&machines, "/", true),
        (&machines, "", true),
        (&orchestrators, mounted.path().to_str().unwrap(), false),
        (&orchestrators, "", true),
    ] {
        let make = format!("[ -z '{read_only}' ] || mount -o remount,bind,ro {read_only}; exec \"$@\"");
        let through = ["unshare", "--mount", "sh", "-c", &make, "sh"].map(str::to_owned);
        let output = own.clone().with("PULSE_TOKEN_FILE", token).through(&through).run(&["check"]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("Pulse at "), "{said} {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(said.contains("everybody on this machine can read it"), warns, "{token}, {read_only}: {said}");
    }
}

#[test]
#[ignore = "needs root: make test-system"]
fn an_absolute_name_is_looked_up_as_it_is_written_and_is_one_name_with_the_relative_one_to_everybody_else() {
    let name = "an_absolute_name_is_looked_up_as_it_is_written_and_is_one_name_with_the_relative_one_to_everybody_else";
    with_own_mounts(name, absolute_names_inside);
}

/// The hosts file has the absolute forms alone, and there is nobody else to ask.
fn absolute_names_inside() {
    let dir = tempfile::tempdir().unwrap();
    for (file, content) in [("hosts", "127.0.0.1 pulse.lan. localhost.\n"), ("nsswitch.conf", "hosts: files\n")] {
        let path = dir.path().join(file);
        std::fs::write(&path, content).unwrap();
        run("mount", &["--bind", path.to_str().unwrap(), &format!("/etc/{file}")]);
    }
    let authority = CertificateAuthority::new();
    let model = PulseModel::default();
    let certificate = authority.issue(&["pulse.lan"]);
    let pulse =
        Server::start_tls(&certificate.cert_pem, &certificate.key_pem, move |request| pulse::answer(&model, &request));
    let endpoint = Endpoint::start_tls(&authority.issue(&["localhost"]));
    let (pulse_port, endpoint_port) = (pulse.addr.port(), endpoint.server.addr.port());
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, authority.ca_pem()).unwrap();
    let setup = Setup::new(
        &format!("https://Pulse.lan.:{pulse_port}"),
        &format!("https://localhost.:{endpoint_port}/v1/telemetry/ping"),
    );
    let setup = setup
        .with_token(TOKEN)
        .with("SSL_CERT_FILE", ca_file.to_str().unwrap())
        .with("PULSE_TELEMETRY_SERVE__LISTEN", "LocalHost.:0")
        .with("PULSE_TELEMETRY_SERVE__ALLOWED_HOSTS", r#"["Telemetry.LAN."]"#);
    let sidecar = setup.start();
    let ping = endpoint.wait_for_pings(1, LIMIT).remove(0);
    assert_eq!(ping.header("host"), Some(format!("localhost:{endpoint_port}").as_str()));
    assert_eq!(ping.tls.unwrap().server_name.as_deref(), Some("localhost"));
    let asked = pulse.requests().remove(0);
    assert_eq!(asked.header("host"), Some(format!("Pulse.lan:{pulse_port}").as_str()));
    assert_eq!(asked.tls.unwrap().server_name.as_deref(), Some("pulse.lan"));
    sidecar.stop();
}

#[test]
#[ignore = "needs root: make test-system"]
fn a_power_loss_at_any_moment_undoes_no_reset_and_no_opt_out_that_was_answered() {
    let name = "a_power_loss_at_any_moment_undoes_no_reset_and_no_opt_out_that_was_answered";
    with_own_mounts(name, power_losses);
}

#[expect(clippy::disallowed_methods, reason = "how many losses is the environment's to say")]
fn power_losses() {
    let losses: u32 = std::env::var("LOSSES").ok().and_then(|losses| losses.parse().ok()).unwrap_or(20);
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let image = tempfile::NamedTempFile::new().unwrap();
    let mut seed = Seeded(77);
    for loss in 0..losses {
        let mount = ext4(image.path());
        let setup = setup(&mount, &pulse, &endpoint);
        let sidecar = setup.start();
        // The moment itself is what is tried, so here a test sleeps.
        std::thread::sleep(Duration::from_micros(seed.draw(40_000)));
        let (reset, off) = match seed.draw(3) {
            0 => (reset(&sidecar), false),
            1 => (None, sidecar.put("/api/v1/switch", r#"{"enabled":false}"#).json()["persisted"] == true),
            _ => (None, false),
        };
        run("python3", &["-c", CUT, mount.path().to_str().unwrap()]);
        drop(sidecar);
        mount.unmount();
        until_detached(image.path());
        mount.mount(&["-o", "loop", image.path().to_str().unwrap()]);

        check_the_state(&setup);
        assert_eq!(exists(&setup.state("off")), off, "loss {loss}: an opt-out that was answered is undone");
        assert!(!off || !exists(&setup.id_file()), "loss {loss}: off, and an ID all the same");
        assert!(reset.is_none() || setup.id_on_disk() == reset, "loss {loss}: a reset that was answered is undone");
        let next = setup.start();
        assert_eq!(next.status()["writable"], true);
        next.stop();
        check_the_state(&setup);
    }
}

fn reset(sidecar: &Sidecar) -> Option<String> {
    let answer = sidecar.post("/api/v1/reset-id");
    assert_eq!(answer.status, 200);
    answer.json()["payload"]["install_id"].as_str().map(str::to_owned)
}

#[test]
#[ignore = "needs root: make test-system"]
fn on_a_full_disk_it_keeps_serving_says_so_sends_nothing_and_recovers_without_a_restart() {
    let name = "on_a_full_disk_it_keeps_serving_says_so_sends_nothing_and_recovers_without_a_restart";
    with_own_mounts(name, a_full_disk);
}

fn a_full_disk() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let mount = Mount::new(&["-t", "tmpfs", "-o", "size=128k", "tmpfs"]);
    let setup = setup(&mount, &pulse, &endpoint).with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "3s");
    let sidecar = setup.start();
    let filler = mount.path().join("filler");
    // Until it is full, and one cannot even say how far one got.
    let _ = std::fs::write(&filler, vec![0; 256 * 1024]);
    cannot_write(&sidecar, &endpoint);
    std::fs::remove_file(filler).unwrap();
    recovers(&sidecar, &endpoint);
    sidecar.stop();
    check_the_state(&setup);
}

#[test]
#[ignore = "needs root: make test-system"]
fn in_a_directory_that_became_immutable_it_keeps_serving_says_so_and_recovers_without_a_restart() {
    let name = "in_a_directory_that_became_immutable_it_keeps_serving_says_so_and_recovers_without_a_restart";
    with_own_mounts(name, an_immutable_directory);
}

fn an_immutable_directory() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let image = tempfile::NamedTempFile::new().unwrap();
    let mount = ext4(image.path());
    let setup = setup(&mount, &pulse, &endpoint).with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "3s");
    let sidecar = setup.start();
    let state = setup.path("state");
    run("chattr", &["+i", state.to_str().unwrap()]);
    cannot_write(&sidecar, &endpoint);
    run("chattr", &["-i", state.to_str().unwrap()]);
    recovers(&sidecar, &endpoint);
    sidecar.stop();
    check_the_state(&setup);
}

/// As a kernel does that has found an error in a file system; it stays so until somebody mounts it anew.
#[test]
#[ignore = "needs root: make test-system"]
fn on_a_file_system_that_became_read_only_it_keeps_serving_says_so_and_sends_nothing() {
    let name = "on_a_file_system_that_became_read_only_it_keeps_serving_says_so_and_sends_nothing";
    with_own_mounts(name, a_read_only_file_system);
}

fn a_read_only_file_system() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let image = tempfile::NamedTempFile::new().unwrap();
    let mount = ext4(image.path());
    mount.unmount();
    mount.mount(&["-o", "loop,errors=remount-ro", image.path().to_str().unwrap()]);
    let setup = setup(&mount, &pulse, &endpoint).with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "3s");
    let sidecar = setup.start();
    let device = run("findmnt", &["-no", "SOURCE", mount.path().to_str().unwrap()]);
    let name = device.trim().rsplit('/').next().unwrap();
    std::fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "1").unwrap();
    cannot_write(&sidecar, &endpoint);
    sidecar.stop();
    check_the_state(&setup);
}

fn cannot_write(sidecar: &Sidecar, endpoint: &Endpoint) {
    sidecar.wait_for_log("failed to write the state directory");
    let status = sidecar.status();
    assert_eq!((status["suppressed"]["reason"].as_str(), &status["writable"]), (Some("storage"), &false.into()));
    assert_eq!(sidecar.get("/readyz").status, 503);
    assert_eq!(sidecar.get("/api/v1/preview").status, 200, "it keeps serving");
    assert_eq!(endpoint.pings().len(), 0);
    assert_eq!(sidecar.post("/api/v1/reset-id").status, 503, "a reset that cannot be kept is not answered as done");
    let off = sidecar.put("/api/v1/switch", r#"{"enabled":false}"#);
    assert_eq!((off.status, off.json()["persisted"].clone()), (200, false.into()), "off is always possible");
    assert_eq!(sidecar.status()["enabled"], false);
    assert_eq!(sidecar.put("/api/v1/switch", r#"{"enabled":true}"#).status, 503);
}

fn recovers(sidecar: &Sidecar, endpoint: &Endpoint) {
    sidecar.wait_for_log("the state directory can be written again");
    assert_eq!(sidecar.status()["enabled"], false, "the opt-out holds");
    assert_eq!(endpoint.pings().len(), 0);
    assert_eq!(sidecar.put("/api/v1/switch", r#"{"enabled":true}"#).status, 200);
    endpoint.wait_for_pings(1, LIMIT);
}

/// Takes every question of the three name servers there are, and answers none.
struct SilentNameServers {
    sockets: Vec<UdpSocket>,
}

impl SilentNameServers {
    /// In a namespace of the test's own.
    fn start(dir: &Path) -> Self {
        let conf = "search a.lan b.lan\nnameserver 127.0.0.53\nnameserver 127.0.0.54\nnameserver 127.0.0.55\n";
        // Nobody else is asked, for `localhost` neither.
        for (file, content) in [("resolv.conf", conf), ("nsswitch.conf", "hosts: dns\n")] {
            let path = dir.join(file);
            std::fs::write(&path, content).unwrap();
            run("mount", &["--bind", path.to_str().unwrap(), &format!("/etc/{file}")]);
        }
        let sockets = (53..56).map(|last| UdpSocket::bind((format!("127.0.0.{last}"), 53)).unwrap());
        Self { sockets: sockets.collect() }
    }

    /// Waits until somebody asks the first of them for the name.
    fn wait_for(&self, name: &str) {
        self.sockets[0].set_read_timeout(Some(LIMIT)).unwrap();
        let mut question = [0; 512];
        loop {
            let length = self.sockets[0].recv(&mut question).unwrap();
            if question[..length].windows(name.len()).any(|part| part == name.as_bytes()) {
                return;
            }
        }
    }

    /// Nobody waits for what was asked before.
    fn forget(&self) {
        self.sockets[0].set_nonblocking(true).unwrap();
        while self.sockets[0].recv(&mut [0; 512]).is_ok() {}
        self.sockets[0].set_nonblocking(false).unwrap();
    }
}

/// What the clock says that no step moves.
fn mono() -> Duration {
    SystemClock.now().mono
}

/// Ten times what a stop may take, and less than half of what a lookup takes that nobody answers.
const STOPS: Duration = Duration::from_secs(20);
/// Ten times what a command may take after its last word.
const ENDS: Duration = Duration::from_secs(10);
const LOOKUP: Duration = Duration::from_secs(50);

/// Runs a command of either program to its end, and gives the code. It ends soon after its last word.
fn ends_with_its_last_word(mut command: std::process::Child) -> Option<i32> {
    let (mut out, mut piece) = (command.stdout.take().unwrap(), [0; 4096]);
    let mut last_word = mono();
    while out.read(&mut piece).unwrap() > 0 {
        last_word = mono();
    }
    let code = command.wait().unwrap().code();
    let took = mono() - last_word;
    assert!(took < ENDS, "it ended {took:?} after its last word");
    code
}

#[test]
#[ignore = "needs root and namespaces: make test-system"]
fn a_stop_and_every_command_end_in_their_time_while_no_name_server_answers() {
    let name = "a_stop_and_every_command_end_in_their_time_while_no_name_server_answers";
    with_own_mounts(name, ends_while_no_name_server_answers);
}

fn ends_while_no_name_server_answers() {
    let dir = tempfile::tempdir().unwrap();
    let silent = SilentNameServers::start(dir.path());
    // The lookup does take that long.
    let started = mono();
    let lookup = std::thread::spawn(move || {
        let _ = std::net::ToSocketAddrs::to_socket_addrs(&("elsewhere", 1));
        mono() - started
    });
    let setup = Setup::new("http://pulse:7655", "http://127.0.0.1:9/").with_token(TOKEN);
    let quick = setup.clone().with("PULSE_TELEMETRY_PULSE__TIMEOUT", "1s");
    let commands = ["check", "check --compare", "preview", "status", "history", "events", "audit", "off", "on"];
    for command in commands.into_iter().chain(["reset-id", "healthcheck"]) {
        let started = mono();
        let code = ends_with_its_last_word(quick.spawn(&command.split(' ').collect::<Vec<_>>()));
        // Its own second for Pulse included.
        assert!(code.is_some() && mono() - started < STOPS, "{command}: {code:?} after {:?}", mono() - started);
    }
    {
        let collector =
            pulse_telemetry_testkit::collector::Setup::new(&pulse_telemetry_testkit::collector::Storage::sqlite())
                .with("STORAGE__URL", "postgres://pulse@database/pulse?sslmode=disable");
        let export = dir.path().join("export.sqlite").display().to_string();
        for command in [&["check"][..], &["report"], &["export", "--sqlite", &export], &["purge"], &["run"]] {
            let started = mono();
            assert_eq!(ends_with_its_last_word(collector.spawn(command)), Some(5), "{command:?}");
            assert!(mono() - started < STOPS, "{command:?}: {:?}", mono() - started);
        }
    }
    stops_during_a_lookup_of_each_peer(&silent, &setup);
    assert!(lookup.join().unwrap() > LOOKUP, "a lookup ended earlier, so this showed nothing");
}

/// Of Pulse, of the endpoint, and of a proxy.
fn stops_during_a_lookup_of_each_peer(silent: &SilentNameServers, setup: &Setup) {
    let pulse = SimulatedPulse::start(PulseModel::default());
    let known = |endpoint: &str| Setup::new(&pulse.url(), endpoint).with_token(TOKEN);
    let setups = [
        ("pulse", setup.clone().with("PULSE_TELEMETRY_PULSE__TIMEOUT", "2m")),
        ("localhost", known("http://localhost:9/")),
        ("proxy", known("https://127.0.0.1:9/").with("HTTPS_PROXY", "http://proxy:3128")),
    ];
    for (name, setup) in setups {
        silent.forget();
        let sidecar = setup.start();
        silent.wait_for(name);
        let started = mono();
        sidecar.stop();
        assert!(mono() - started < STOPS, "{name}: the stop took {:?}", mono() - started);
    }
}
