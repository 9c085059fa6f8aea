//! The Compose file's service, Unraid's container and the chart's pod, as podman runs them: with the settings that
//! those files have, but for networks, limits and what kubelet does.

use std::path::Path;

use pulse_telemetry_testkit::alone::{FIGURE, run};
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar::{LIMIT, comes_true};
use serde_json::Value;

use super::released::{folder, now};
use super::{HARDENED, Removed, USER, alone_with_podman, buildah, done, of_its_own_cgroups, podman, text};
use crate::deploying::chart::{of_kind, rendered, variables, volumes};
use crate::deploying::{Environment, compose, documents, read, unraid};

const DEPLOYED: &str = "localhost/deployed";

#[test]
#[ignore = "needs root: make test-image"]
fn each_deployed_container_previews_within_a_minute_and_sends_what_it_showed_once_pulse_hands_over() {
    let name = "image::deployed::each_deployed_container_previews_within_a_minute_and_sends_what_it_showed_once_pulse_\
                hands_over";
    let ways = || {
        of_its_own_cgroups();
        in_a_minute(name, "Compose", composed);
        in_a_minute(name, "Unraid", on_unraid);
        in_a_minute(name, "Kubernetes", pod);
    };
    alone_with_podman(name, || (), ways);
}

/// From the folder of a release to a preview, and on to the first ping.
fn in_a_minute(test: &str, way: &str, arguments: fn(&str, &SimulatedPulse, &Path) -> Option<Vec<String>>) {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    pulse.change(|model| model.telemetry_enabled = Some(true));
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
    let inside = |command: &[&str]| done(podman(&[&["exec", "life", "/pulse-telemetry"], command].concat()));
    // Until it has begun there is nothing to be asked.
    let history = || podman(&["exec", "life", "/pulse-telemetry", "history"]).stdout;
    let is_silent = || String::from_utf8_lossy(&history()).contains("pulse_reports_itself");
    assert!(comes_true(is_silent), "{way}: {}", inside(&["history"]));
    assert!(inside(&["status"]).contains("PULSE_TELEMETRY=false"), "{way}: {}", inside(&["status"]));
    assert_eq!(endpoint.server.connections(), 0, "{way}: this installation is counted twice");
    pulse.change(|model| model.telemetry_enabled = Some(false));
    done(podman(&["restart", "-t", "10", "life"]));
    let sent = endpoint.wait_for_pings(1, LIMIT).remove(0).json();
    let shown: Value = serde_json::from_str(&preview).unwrap();
    assert_eq!((&sent["version"], &sent["vms"]), (&shown["version"], &shown["vms"]));
    inside(&["healthcheck"]);
    let history = inside(&["history", "--bodies"]);
    assert!(history.contains(sent["install_id"].as_str().unwrap()), "{history}");
}

/// The words that set an environment, with the test's own Pulse.
fn environment(variables: Environment, pulse: &SimulatedPulse) -> Vec<String> {
    let set = |(name, value): (String, String)| {
        let value = if name == "PULSE_URL" { pulse.url() } else { value };
        ["-e".to_owned(), format!("{name}={value}")]
    };
    variables.into_iter().flat_map(set).collect()
}

/// What the Compose file says of the service, with the secrets as its head makes them.
fn composed(test: &str, pulse: &SimulatedPulse, place: &Path) -> Option<Vec<String>> {
    let file = documents(test, &read("compose.example.yml"), &[])?.unwrap().remove(0);
    let service = &file["services"]["pulse-telemetry"];
    let mut arguments = environment(compose::environment(test)?, pulse);
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

/// What Unraid makes of the template, with the folder that docs/INSTALL.md makes.
fn on_unraid(test: &str, pulse: &SimulatedPulse, place: &Path) -> Option<Vec<String>> {
    let mut arguments = environment(unraid::environment(test)?, pulse);
    let parameters = unraid::parameters(test)?;
    // Limits need cgroups, and a container of the test has none.
    let is_limit = |parameter: &String| ["--memory", "--pids-limit"].iter().any(|limit| parameter.starts_with(limit));
    arguments.extend(parameters.into_iter().filter(|parameter| !is_limit(parameter)));
    for (target, folder) in unraid::defaults(test, "Path")? {
        let folder = place.join(folder.trim_start_matches('/'));
        std::fs::create_dir_all(&folder).unwrap();
        for secret in ["pulse-token", "page-token"].iter().filter(|_| target == "/run/secrets") {
            std::fs::write(folder.join(secret), TOKEN).unwrap();
            run("chmod", &["600", text(&folder.join(secret))]);
        }
        run("chmod", &["700", text(&folder)]);
        run("chown", &["-R", "99:100", text(&folder)]);
        arguments.extend(["-v".to_owned(), format!("{}:{target}", folder.display())]);
    }
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
    arguments.extend(environment(variables(pod), pulse));
    for mount in pod["containers"][0]["volumeMounts"].as_array().unwrap() {
        let path = mount["mountPath"].as_str().unwrap();
        let mode = if mount["readOnly"] == true { ":ro" } else { "" };
        arguments.extend(["-v".to_owned(), format!("{}{path}:{path}{mode}", place.display())]);
    }
    Some(arguments)
}
