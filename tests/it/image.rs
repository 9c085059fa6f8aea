//! The image, built from the Dockerfile by buildah on a base made of Debian's packages, and run by podman: read-only,
//! as nobody. Needs root, mmdebstrap, buildah, podman and Debian's mirror: `make test-image`.
//!
//! The test runs itself again in a network namespace, where the image's port is free. The base is made once and kept.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail loudly")]

mod deployed;
mod released;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use pulse_telemetry_testkit::alone::{alone, run};
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar::LIMIT;

/// The Rust and the C compiler of this machine on a Debian.
const BASE: &str = "localhost/rust-on-debian";
const IMAGE: &str = "localhost/pulse-telemetry";
/// As compose.example.yml has it, in the namespaces of the test.
const HARDENED: [&str; 14] = [
    "--network",
    "host",
    "--cgroups",
    "disabled",
    "--ulimit",
    "nofile=1024:1024",
    "--ulimit",
    "nproc=1024:1024",
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop",
    "all",
    "--security-opt",
    "no-new-privileges",
];
/// The user of the image.
const USER: u32 = 65_532;

#[test]
#[ignore = "needs root: make test-image"]
fn the_image_that_is_compiled_runs_read_only_as_nobody_and_pings_and_answers_its_health_check() {
    let name = "image::the_image_that_is_compiled_runs_read_only_as_nobody_and_pings_and_answers_its_health_check";
    alone_with_podman(name, build_the_image, a_life_inside);
}

#[expect(clippy::disallowed_methods, reason = "where the toolchain keeps its crates")]
fn build_the_image() {
    if !buildah(&["inspect", "--type", "image", BASE]).status.success() {
        make_the_base();
    }
    let cargo = std::env::var("CARGO_HOME").unwrap_or_else(|_| std::env::var("HOME").unwrap() + "/.cargo");
    let crates = format!("{cargo}/registry:/root/.cargo/registry");
    let build = ["bud", "--format", "docker", "--network", "host", "--build-arg", &format!("RUST_IMAGE={BASE}")];
    // Half of the time, and a larger program: how large the released one is, `released` looks at.
    let quick = ["--env", "CARGO_PROFILE_RELEASE_LTO=off", "--env", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16"];
    let of = ["-v", &crates, "-t", IMAGE, env!("CARGO_MANIFEST_DIR")];
    done(buildah(&[&build[..], &quick, &of].concat()));
}

fn a_life_inside() {
    of_its_own_cgroups();
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let secrets = tempfile::tempdir().unwrap();
    for (name, secret) in [("pulse-token", TOKEN), ("page-token", "the-token-of-the-page")] {
        let path = secrets.path().join(name);
        std::fs::write(&path, secret).unwrap();
        // As compose.example.yml makes them.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(&path, Some(USER), Some(USER)).unwrap();
    }
    std::os::unix::fs::chown(secrets.path(), Some(USER), Some(USER)).unwrap();
    let secrets = format!("{}:/run/secrets:ro", secrets.path().display());
    // As in compose.example.yml, but for the addresses and the hurry.
    let variables = [
        // By a name, as there.
        format!("PULSE_URL={}", pulse.url().replace("127.0.0.1", "localhost")),
        "PULSE_TOKEN_FILE=/run/secrets/pulse-token".to_owned(),
        "PULSE_TELEMETRY_SERVE__LISTEN=0.0.0.0:7656".to_owned(),
        "PULSE_TELEMETRY_SERVE__TOKEN_FILE=/run/secrets/page-token".to_owned(),
        format!("PULSE_TELEMETRY_TELEMETRY__ENDPOINT={}", endpoint.url()),
        "PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY=0s".to_owned(),
    ];
    let mut start = vec!["run", "-d", "--name", "life"];
    start.extend(HARDENED);
    start.extend(["-v", &secrets]);
    start.extend(variables.iter().flat_map(|variable| ["-e", variable.as_str()]));
    start.push(IMAGE);
    // What a run that was broken off may have left.
    podman(&["rm", "-f", "-t", "0", "life"]);
    done(podman(&start));

    let _removed = Removed;
    endpoint.wait_for_pings(1, LIMIT);
    done(podman(&["healthcheck", "run", "life"]));
    let status = done(podman(&["exec", "life", "/pulse-telemetry", "status"]));
    assert!(status.starts_with("Telemetry is on."), "{status}");
    assert!(!podman(&["exec", "life", "/bin/sh", "-c", "true"]).status.success(), "there is a shell");

    let process = done(podman(&["inspect", "life", "--format", "{{.State.Pid}}"])).trim().to_owned();
    let of_the_process = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap();
    let status = of_the_process("status");
    for line in ["Uid:\t65532\t65532\t65532\t65532", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line} is not in\n{status}");
    }
    let mounts = of_the_process("mountinfo");
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro"), "{root}");
    done(podman(&["stop", "-t", "10", "life"]));
    let code = done(podman(&["inspect", "life", "--format", "{{.State.ExitCode}}"]));
    assert_eq!(code.trim(), "0", "it stops when it is asked to");
}

/// Runs that test again in namespaces of its own once the image is built, while no other one has a container.
fn alone_with_podman(name: &str, build: impl FnOnce(), test: impl FnOnce()) {
    static ONE: Mutex<()> = Mutex::new(());
    let mut one = None;
    let prepare = || {
        build();
        one = Some(ONE.lock().unwrap_or_else(PoisonError::into_inner));
    };
    alone(name, &["--mount"], prepare, test);
}

fn of_its_own_cgroups() {
    run("sh", &["-c", "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup"]);
}

/// Removes the container at the end, and shows its log where the test failed.
struct Removed;

impl Drop for Removed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", String::from_utf8_lossy(&podman(&["logs", "life"]).stderr));
        }
        podman(&["rm", "-f", "-v", "-t", "0", "life"]);
    }
}

/// A Debian with a C compiler and the toolchain that runs this test.
fn make_the_base() {
    let tree = tempfile::tempdir_in(pulse_telemetry_testkit::kept()).unwrap();
    let debian = tree.path().join("debian");
    let packages = "--include=gcc,libc6-dev,ca-certificates";
    run("mmdebstrap", &["-q", "--variant=minbase", packages, "bookworm", text(&debian)]);
    let sysroot = PathBuf::from(run("rustc", &["--print", "sysroot"]).trim());
    let local = debian.join("usr/local");
    run("cp", &["-a", text(&sysroot.join("bin")), text(&local)]);
    let host = run("rustc", &["--print", "host-tuple"]);
    std::fs::create_dir_all(local.join("lib/rustlib")).unwrap();
    run("cp", &["-a", text(&sysroot.join("lib/rustlib").join(host.trim())), text(&local.join("lib/rustlib"))]);
    let libraries = format!("cp -a {}/lib/*.so* {}/lib/", sysroot.display(), local.display());
    run("sh", &["-c", &libraries]);

    let container = done(buildah(&["from", "scratch"]));
    let container = container.trim();
    done(buildah(&["add", "-q", container, text(&debian), "/"]));
    done(buildah(&["config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container]));
    done(buildah(&["commit", "-q", container, BASE]));
    done(buildah(&["rm", container]));
}

fn buildah(arguments: &[&str]) -> Output {
    storage("buildah").args(arguments).env("BUILDAH_ISOLATION", "chroot").output().unwrap()
}

fn podman(arguments: &[&str]) -> Output {
    storage("podman").args(arguments).output().unwrap()
}

/// Images and containers are kept beside the build.
fn storage(program: &str) -> Command {
    let kept = pulse_telemetry_testkit::kept().join("images");
    let mut command = Command::new(program);
    command.args(["--storage-driver", "vfs", "--root", text(&kept), "--runroot", text(&kept.join("run"))]);
    command
}

fn done(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
