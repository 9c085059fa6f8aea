//! What the sidecar is brought to where Pulse runs by: the Helm chart, the Compose file, Unraid's template, and the
//! workflows that make a release.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

pub(crate) mod chart;
mod compose;
mod unraid;
mod workflows;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use pulse_telemetry_testkit::alone::{program_or_skip, run};
use pulse_telemetry_testkit::project;
use pulse_telemetry_testkit::sidecar::binary;
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
