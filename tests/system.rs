//! What needs root and a file system of its own: `make test-system`. Power losses on ext4, a disk that is full, a
//! directory that becomes immutable, a file system that becomes read-only.
//!
//! 20 power losses; `LOSSES=200` asks for more, as `make soak` does.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::alone::{alone, run};
use support::endpoint::{CertificateAuthority, Endpoint};
use support::pulse::{self, PulseModel, SimulatedPulse, TOKEN};
use support::seeded::Seeded;
use support::server::Server;
use support::sidecar::{LIMIT, Setup, Sidecar, check_the_state, exists};
use tempfile::TempDir;

/// Cuts the file system off, as a power loss would: what was not flushed is gone.
const CUT: &str =
    "import fcntl, os, struct, sys; fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

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
fn an_absolute_name_is_looked_up_as_it_is_written_and_is_one_name_with_the_relative_one_to_everybody_else() {
    let name = "an_absolute_name_is_looked_up_as_it_is_written_and_is_one_name_with_the_relative_one_to_everybody_else";
    alone(name, &["--mount"], || {}, absolute_names_inside);
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
#[expect(clippy::disallowed_methods, reason = "how many losses is the environment's to say")]
fn a_power_loss_at_any_moment_undoes_no_reset_and_no_opt_out_that_was_answered() {
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
