//! The image of the released programs, of the folder that `make test-image` has made as `make dist` makes one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use pulse_telemetry_testkit::alone::{FIGURE, run};
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar::LIMIT;

use super::{HARDENED, Removed, alone_with_podman, buildah, done, of_its_own_cgroups, podman, text};

/// Debian's names of the architectures, Rust's, and what runs their programs here.
const ARCHITECTURES: [(&str, &str); 2] = [("amd64", "x86_64"), ("arm64", "aarch64")];
/// The image's own, Unraid's, a first user's, root's, and one of root's group.
const USERS: [&str; 5] = ["65532:65532", "99:100", "1000:1000", "0:0", "4321:0"];
const SIZE_MAX: u64 = 6_000_000;
/// How large the static program may be, on each architecture.
const PROGRAM_MAX: usize = 5_000_000;
const STATE: &str = "/var/lib/pulse-telemetry";

/// Of this architecture's name.
fn image(architecture: &str) -> String {
    format!("localhost/released-{architecture}")
}

/// Debian's name of this machine's.
fn here() -> &'static str {
    ARCHITECTURES.iter().find(|(_, rusts)| *rusts == std::env::consts::ARCH).unwrap().0
}

#[test]
#[ignore = "needs root: make test-image"]
fn both_images_have_the_released_bytes_and_nothing_else_and_every_user_can_run_one_on_every_volume() {
    let name = "image::released::both_images_have_the_released_bytes_and_nothing_else_and_every_user_can_run_one_on_\
                every_volume";
    alone_with_podman(name, build_both, lives_inside);
}

fn build_both() {
    for (architecture, _) in ARCHITECTURES {
        let build = ["bud", "--format", "docker", "--platform", &format!("linux/{architecture}")];
        done(buildah(&[&build[..], &["-t", &image(architecture), text(&folder())]].concat()));
    }
    // As docs/INSTALL.md says it for a builder that does not know what it builds for.
    let build = ["bud", "--format", "docker", "--build-arg", "TARGETARCH=arm64"];
    done(buildah(&[&build[..], &["-t", &image("arm64-said"), text(&folder())]].concat()));
}

pub(super) fn folder() -> PathBuf {
    pulse_telemetry_testkit::kept().with_file_name("released/dist")
}

fn lives_inside() {
    of_its_own_cgroups();
    for (architecture, rusts) in ARCHITECTURES {
        has_the_released_bytes(architecture, rusts);
    }
    let pulse = SimulatedPulse::start(PulseModel::default());
    the_other_architecture_starts(&pulse);
    every_user_runs_it_on_every_volume(&pulse);
    a_directory_of_somebody_else_is_told_with_what_mends_it(&pulse);
}

/// Before install.sh's own last line: a machine of this architecture, of Debian or not.
const CHOICE: &str = r#"
eval "$(sed '$d' "$1")"
architecture=$2 machine=$3 debian=$4
installed() { echo "$debian"; }
uname() { echo "$machine"; }
dpkg() { echo "$architecture"; }
choose && echo "$file"
"#;

#[test]
#[ignore = "needs what make dist needs: make test-image"]
fn what_install_sh_looks_for_on_each_architecture_is_in_the_folder_of_a_release() {
    let sums = std::fs::read_to_string(folder().join("SHA256SUMS")).unwrap();
    let script = folder().join("install.sh");
    for (architecture, rusts) in ARCHITECTURES {
        for (debian, end) in [("252", ".deb"), ("", ".tar.gz")] {
            let file = run("sh", &["-c", CHOICE, "sh", text(&script), architecture, rusts, debian]);
            let file = file.trim_end();
            assert!(file.ends_with(end), "{file}");
            assert!(sums.lines().any(|line| line.ends_with(&format!("  {file}"))), "{file} is not in\n{sums}");
            assert!(folder().join(file).exists(), "{file}");
        }
    }
}

/// The files of an image.
fn unpacked(architecture: &str) -> PathBuf {
    let container = done(buildah(&["from", "--pull-never", &image(architecture)]));
    done(buildah(&["mount", container.trim()])).trim().into()
}

fn has_the_released_bytes(architecture: &str, rusts: &str) {
    let size: u64 =
        done(podman(&["image", "inspect", &image(architecture), "--format", "{{.Size}}"])).trim().parse().unwrap();
    println!("{FIGURE}the image for {architecture} has {size} bytes; {SIZE_MAX} at most");
    assert!(size <= SIZE_MAX, "{size} bytes");

    let root = unpacked(architecture);
    let files = run("find", &[text(&root), "-mindepth", "1", "-printf", "%P %m %U:%G\n"]);
    let mut files: Vec<&str> = files.lines().collect();
    files.sort_unstable();
    assert_eq!(
        files,
        ["pulse-telemetry 755 0:0", "var 755 0:0", "var/lib 755 0:0", "var/lib/pulse-telemetry 1777 0:0"]
    );

    let tarball = format!("pulse-telemetry-{}-{rusts}-unknown-linux-musl.tar.gz", env!("CARGO_PKG_VERSION"));
    let tarball = folder().join(tarball);
    let unpack = ["-xzOf", text(&tarball), "--wildcards", "*-musl/pulse-telemetry"];
    let released = Command::new("tar").args(unpack).output().unwrap().stdout;
    println!("{FIGURE}the static program for {architecture} has {} bytes; {PROGRAM_MAX} at most", released.len());
    assert!((1_000_000..=PROGRAM_MAX).contains(&released.len()), "{} bytes", released.len());
    assert!(std::fs::read(root.join("pulse-telemetry")).unwrap() == released);
    if architecture == "arm64" {
        assert!(std::fs::read(unpacked("arm64-said").join("pulse-telemetry")).unwrap() == released);
    }
}

/// Under qemu-user, which needs nothing of the kernel's.
fn the_other_architecture_starts(pulse: &SimulatedPulse) {
    let other = ARCHITECTURES.iter().find(|(_, rusts)| *rusts != std::env::consts::ARCH).unwrap();
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("token"), TOKEN).unwrap();
    let preview = Command::new(format!("qemu-{}-static", other.1))
        .arg(unpacked(other.0).join("pulse-telemetry"))
        .arg("preview")
        .env("PULSE_URL", pulse.url())
        .env("PULSE_TOKEN_FILE", place.path().join("token"))
        .env("PULSE_TELEMETRY_STATE__DIR", place.path().join("state"))
        .output()
        .unwrap();
    assert!(done(preview).contains("install_id"));
}

fn every_user_runs_it_on_every_volume(pulse: &SimulatedPulse) {
    let _removed = Removed;
    for user in USERS {
        let secret = secret(user);
        let bound = tempfile::tempdir().unwrap();
        run("chown", &[user, text(bound.path())]);
        let bound = format!("{}:{STATE}", bound.path().display());
        let (named, memory) = (format!("{}:{STATE}", user.replace(':', "-")), STATE.to_owned());
        for volume in [vec!["-v", &bound], vec!["-v", &named], vec!["--tmpfs", &memory], vec![]] {
            podman(&["rm", "-f", "-t", "0", "life"]);
            podman(&["volume", "rm", "-f", named.split(':').next().unwrap()]);
            let endpoint = Endpoint::start();
            let variables = variables(pulse, Some(&endpoint));
            let start = [&["run", "-d", "--name", "life", "--user", user], &HARDENED[..], &words(&variables)].concat();
            done(podman(&[&start[..], &["-v", &mount(&secret)], &volume, &[&image(here())]].concat()));
            endpoint.wait_for_pings(1, LIMIT);
            let status = done(podman(&["exec", "life", "/pulse-telemetry", "status"]));
            assert!(status.starts_with("Telemetry is on.") && !status.contains("Others can write"), "{user}: {status}");
            // A second daemon of the same user finds what the first one left.
            if !volume.is_empty() && volume[0] == "-v" {
                done(podman(&["restart", "-t", "10", "life"]));
                done(podman(&["exec", "life", "/pulse-telemetry", "history"]));
            }
        }
    }
}

fn a_directory_of_somebody_else_is_told_with_what_mends_it(pulse: &SimulatedPulse) {
    let theirs = tempfile::tempdir().unwrap();
    std::fs::set_permissions(theirs.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (secret, bound) = (secret("99:100"), format!("{}:{STATE}", theirs.path().display()));
    let variables = variables(pulse, None);
    let start = [&["run", "--rm", "--user", "99:100", "-v", &bound], &HARDENED[..], &words(&variables)].concat();
    let refused = podman(&[&start[..], &["-v", &mount(&secret), &image(here())]].concat());
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    let line = told.lines().find(|line| line.starts_with("pulse-telemetry: failed to use the state directory"));
    assert!(line.is_some_and(|line| line.contains("chown -R 99:100 it, or in a container what is mounted")), "{told}");
}

/// A directory with Pulse's token, which that user alone can read.
fn secret(user: &str) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("pulse-token");
    std::fs::write(&file, TOKEN).unwrap();
    run("chmod", &["400", text(&file)]);
    run("chown", &["-R", user, text(place.path())]);
    place
}

fn mount(secret: &tempfile::TempDir) -> String {
    format!("{}:/run/secrets:ro", secret.path().display())
}

fn variables(pulse: &SimulatedPulse, endpoint: Option<&Endpoint>) -> Vec<String> {
    // Only to an endpoint on loopback may a ping go at once.
    let at_once = |endpoint: &Endpoint| {
        let url = format!("PULSE_TELEMETRY_TELEMETRY__ENDPOINT={}", endpoint.url());
        [url, "PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY=0s".to_owned()]
    };
    let always =
        [format!("PULSE_URL={}", pulse.url()), "PULSE_TOKEN_FILE=/run/secrets/pulse-token".to_owned()].into_iter();
    always.chain(endpoint.into_iter().flat_map(at_once)).collect()
}

fn words(variables: &[String]) -> Vec<&str> {
    variables.iter().flat_map(|variable| ["-e", variable.as_str()]).collect()
}

#[expect(clippy::disallowed_methods, reason = "it is timed")]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[test]
fn the_image_of_released_programs_is_the_one_that_is_compiled_but_for_where_they_come_from() {
    let read = |file: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let end = |file: &str| {
        let text = read(file);
        let (_, last) = text.rsplit_once("\nFROM scratch\n").unwrap();
        let differ = ["COPY ", "ADD ", "ARG ", "# "];
        last.lines().filter(|line| !differ.iter().any(|word| line.starts_with(word))).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(end("Dockerfile"), end("Dockerfile.release"));
}
