//! The Compose file's service and the chart's pod, as podman runs them: with the settings that those files have, but
//! for networks, limits and what kubelet does.

use std::path::Path;

use pulse_telemetry_testkit::alone::{FIGURE, run};
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar::LIMIT;
use serde_json::Value;

use super::released::{folder, now};
use super::{HARDENED, Removed, USER, alone_with_podman, buildah, done, of_its_own_cgroups, podman, text};
use crate::deploying::chart::{of_kind, rendered, volumes};
use crate::deploying::{documents, read};

const DEPLOYED: &str = "localhost/deployed";

#[test]
#[ignore = "needs root: make test-image"]
fn the_composed_service_and_the_charts_pod_preview_within_a_minute_and_send_what_they_showed() {
    let name = "image::deployed::the_composed_service_and_the_charts_pod_preview_within_a_minute_and_send_what_they_\
                showed";
    let ways = || {
        of_its_own_cgroups();
        in_a_minute(name, "Compose", composed);
        in_a_minute(name, "Kubernetes", pod);
    };
    alone_with_podman(name, || (), ways);
}

/// From the folder of a release to a preview, and on to the first ping.
fn in_a_minute(test: &str, way: &str, arguments: fn(&str, &SimulatedPulse, &Path) -> Option<Vec<String>>) {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let began = now();
    run("sh", &["-c", "cd \"$0\" && sha256sum --check --quiet SHA256SUMS", text(&folder())]);
    let build = ["bud", "--format", "docker", "-t", DEPLOYED];
    done(buildah(&[&build[..], &[text(&folder())]].concat()));
    let place = tempfile::tempdir().unwrap();
    let Some(of_the_file) = arguments(test, &pulse, place.path()) else { return };
    let of_the_file: Vec<&str> = of_the_file.iter().map(String::as_str).collect();
    let preview = done(podman(&[&["run", "--rm"], &HARDENED[..], &of_the_file, &[DEPLOYED, "preview"]].concat()));
    let taken = began.elapsed().as_millis();
    println!("{FIGURE}from the first command to the first preview with what {way} runs: {taken} ms; 60000 at most");
    assert!(taken <= 60_000, "{taken} ms");

    let hurry = format!("PULSE_TELEMETRY_TELEMETRY__ENDPOINT={}", endpoint.url());
    let hurry = ["-e", &hurry, "-e", "PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY=0s"];
    podman(&["rm", "-f", "-t", "0", "life"]);
    let _removed = Removed;
    done(podman(&[&["run", "-d", "--name", "life"], &HARDENED[..], &of_the_file, &hurry, &[DEPLOYED]].concat()));
    let sent = endpoint.wait_for_pings(1, LIMIT).remove(0).json();
    let shown: Value = serde_json::from_str(&preview).unwrap();
    assert_eq!((&sent["version"], &sent["vms"]), (&shown["version"], &shown["vms"]));
    done(podman(&["exec", "life", "/pulse-telemetry", "healthcheck"]));
    let history = done(podman(&["exec", "life", "/pulse-telemetry", "history", "--bodies"]));
    assert!(history.contains(sent["install_id"].as_str().unwrap()), "{history}");
}

/// What the Compose file says of the service, with the secrets as its head makes them.
fn composed(test: &str, pulse: &SimulatedPulse, place: &Path) -> Option<Vec<String>> {
    let file = documents(test, &read("compose.example.yml"), &[])?.unwrap().remove(0);
    let service = &file["services"]["pulse-telemetry"];
    let mut arguments = Vec::new();
    for (name, value) in service["environment"].as_object().unwrap() {
        let value = if name == "PULSE_URL" { pulse.url() } else { value.as_str().unwrap().to_owned() };
        arguments.extend(["-e".to_owned(), format!("{name}={value}")]);
    }
    for secret in service["secrets"].as_array().unwrap() {
        let secret = secret.as_str().unwrap();
        let path = place.join(secret);
        std::fs::write(&path, TOKEN).unwrap();
        run("chmod", &["600", text(&path)]);
        run("chown", &[&format!("{USER}:{USER}"), text(&path)]);
        arguments.extend(["-v".to_owned(), format!("{}:/run/secrets/{secret}:ro", path.display())]);
    }
    for volume in service["volumes"].as_array().unwrap() {
        arguments.extend(["-v".to_owned(), volume.as_str().unwrap().to_owned()]);
    }
    let name = service["volumes"][0].as_str().unwrap().split(':').next().unwrap();
    podman(&["volume", "rm", "-f", name]);
    Some(arguments)
}

/// What the chart's Deployment says of the pod, with its volumes as kubelet makes them.
fn pod(test: &str, pulse: &SimulatedPulse, place: &Path) -> Option<Vec<String>> {
    let values = format!("token.existingSecret=a,pulse.url={}", pulse.url());
    let made = rendered(test, "x", &values)?.unwrap();
    let pod = &of_kind(&made, "Deployment").unwrap()["spec"]["template"]["spec"];
    volumes(pod, place);
    let user = &pod["securityContext"];
    let mut arguments = vec!["--user".to_owned(), format!("{}:{}", user["runAsUser"], user["fsGroup"])];
    for variable in pod["containers"][0]["env"].as_array().unwrap() {
        let (name, value) = (variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap());
        arguments.extend(["-e".to_owned(), format!("{name}={value}")]);
    }
    for mount in pod["containers"][0]["volumeMounts"].as_array().unwrap() {
        let path = mount["mountPath"].as_str().unwrap();
        let mode = if mount["readOnly"] == true { ":ro" } else { "" };
        arguments.extend(["-v".to_owned(), format!("{}{path}:{path}{mode}", place.display())]);
    }
    Some(arguments)
}
