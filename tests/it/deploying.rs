//! What the sidecar is brought to where Pulse runs by: the Helm chart, the Compose file, Unraid's template, and the
//! workflows that make a release.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

pub(crate) mod chart;
pub(crate) mod compose;
pub(crate) mod unraid;
mod workflows;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use pulse_telemetry_testkit::alone::{program_or_skip, run};
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::project;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup, binary, comes_true};
use serde_json::Value;

/// A file of the project.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(project().join(path)).unwrap()
}

/// A tool that `make setup` puts beside the build, where it is there.
fn beside_the_build(test: &str, path: &str, version: &str) -> Option<PathBuf> {
    let tool = binary().ancestors().nth(2).unwrap().join(path);
    program_or_skip(tool.to_str().unwrap(), &[version], test).then_some(tool)
}

/// YAML as JSON, held to the schemas of these Kubernetes versions; or what is wrong.
pub(crate) fn documents(test: &str, yaml: &str, kubernetes: &[&str]) -> Option<Result<Vec<Value>, String>> {
    let python = beside_the_build(test, "schemathesis/bin/python", "--version")?;
    let script = project().join(".ci/tools/kubernetes.py");
    let output = fed(Command::new(python).arg(script).args(kubernetes), yaml);
    let said = String::from_utf8(output.stderr).unwrap();
    Some(if output.status.success() { Ok(serde_json::from_slice(&output.stdout).unwrap()) } else { Err(said) })
}

fn fed(command: &mut Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What a way sets in the sidecar's environment.
pub(crate) type Environment = Vec<(String, String)>;
/// Reads it for that test, where what that needs is there.
type Way = fn(&str) -> Option<Environment>;

/// What systemd's unit and the images set, in lines that begin so.
fn set_by(file: &str, key: &str) -> Environment {
    let set = |line: &str| line.strip_prefix(key)?.split_once('=').map(|(name, value)| (name.into(), value.into()));
    read(file).lines().filter_map(set).collect()
}

#[test]
fn by_every_way_it_is_silent_while_pulse_reports_itself_and_takes_over_when_pulse_hands_over() {
    let test = "by_every_way_it_is_silent_while_pulse_reports_itself_and_takes_over_when_pulse_hands_over";
    let ways: [(&str, Way); 6] = [
        ("systemd", |_| Some(set_by("systemd/pulse-telemetry.service", "Environment="))),
        ("an image that is compiled", |_| Some(set_by("Dockerfile", "ENV "))),
        ("an image of a release", |_| Some(set_by("Dockerfile.release", "ENV "))),
        ("Compose", compose::environment),
        ("Unraid", unraid::environment),
        ("Kubernetes", chart::environment),
    ];
    for (way, environment) in ways {
        let Some(environment) = environment(test) else { return };
        let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
        pulse.change(|model| model.telemetry_enabled = Some(true));
        let mut setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN);
        // Addresses and paths are those of the test.
        let of_the_test = ["PULSE_URL", "PULSE_TOKEN_FILE"];
        let is_of_the_test = |name: &str| {
            of_the_test.contains(&name) || ["__DIR", "__LISTEN", "__TOKEN_FILE"].iter().any(|end| name.ends_with(end))
        };
        for (name, value) in environment.iter().filter(|(name, _)| !is_of_the_test(name)) {
            setup = setup.with(name, value);
        }
        let sidecar = setup.start();
        let history = || String::from_utf8(setup.run(&["history"]).stdout).unwrap();
        // Its own decision, which it takes at once in a test, and not what somebody saw who looked.
        assert!(comes_true(|| history().contains("pulse_reports_itself")), "{way}: {}", history());
        assert_eq!(sidecar.status()["suppressed"]["reason"], "pulse_reports_itself", "{way}");
        sidecar.stop();
        assert_eq!(endpoint.server.connections(), 0, "{way}: this installation is counted twice");

        pulse.change(|model| model.telemetry_enabled = Some(false));
        let _sidecar = setup.start();
        endpoint.wait_for_pings(1, LIMIT);
    }
}

#[test]
fn where_the_image_can_be_fetched_the_files_of_a_release_name_it() {
    for (image, [compose, unraid, chart]) in [
        (
            "",
            ["image: pulse-telemetry # docker build", "<Repository>pulse-telemetry<", "repository: pulse-telemetry\n"],
        ),
        (
            "registry.example/a/pulse-telemetry",
            [
                "image: registry.example/a/pulse-telemetry:9.9.9\n",
                "<Repository>registry.example/a/pulse-telemetry:9.9.9<",
                "repository: registry.example/a/pulse-telemetry\n",
            ],
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut seal = Command::new(project().join("packaging/seal"));
        seal.arg(folder.path()).env("VERSION", "9.9.9").env("RELEASE_IMAGE", image).env("SOURCE_DATE_EPOCH", "1");
        let output = seal.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let read = |file: &str| std::fs::read_to_string(folder.path().join(file)).unwrap();
        assert!(read("compose.example.yml").contains(compose), "{image}");
        assert!(read("pulse-telemetry.xml").contains(unraid), "{image}");
        let packed = folder.path().join("pulse-telemetry-9.9.9.tgz");
        let values = run("tar", &["-xzOf", packed.to_str().unwrap(), "pulse-telemetry/values.yaml"]);
        assert!(values.contains(chart), "{image}");
    }
}
