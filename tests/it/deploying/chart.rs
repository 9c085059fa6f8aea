//! The Helm chart, rendered by Helm itself: what it makes of many sets of values, and what holds in all of them.

use std::fs::{Permissions, create_dir_all, set_permissions};
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use pulse_telemetry_testkit::alone::run;
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::project;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup};
use rustix::process::geteuid;
use serde_json::{Value, json};

use super::{Environment, beside_the_build, documents, read};

/// The oldest Kubernetes that the chart says it runs on, and a current one.
const KUBERNETES: [&str; 2] = ["1.29.0", "1.37.0"];

/// The user of the image, who owns its state directory.
const USER: u32 = 65_532;

/// Sets of values, each with the name that the release has.
const VALUES: [(&str, &str, &str); 14] = [
    ("an existing secret", "pulse-telemetry", "token.existingSecret=a"),
    ("a token", "telemetry", "token.value=a-token"),
    ("another release of Pulse", "x", "token.existingSecret=a,pulse.release=monitoring"),
    (
        "Pulse elsewhere",
        "x",
        "token.existingSecret=a,pulse.url=https://pulse.lan:7655,pulse.ca.configMap=lan,pulse.ca.key=lan.pem",
    ),
    ("Pulse at an address", "x", "token.existingSecret=a,pulse.url=http://192.0.2.5:7655"),
    ("Pulse at an address of IPv6", "x", "token.existingSecret=a,pulse.url=http://[2001:db8::5]:7655"),
    ("Pulse at the port of its scheme", "x", "token.existingSecret=a,pulse.url=https://pulse.lan/pulse"),
    (
        "organizations",
        "x",
        "token.existingSecret=a,token.organizations.default=default,token.organizations.acme-1=token-of-acme",
    ),
    ("a service", "x", "token.existingSecret=a,service.enabled=true,service.tokenSecret=page,service.hosts={a.lan}"),
    ("another service", "x", "token.value=a,service.enabled=true,service.tokenSecret=b,service.type=NodePort"),
    ("no volume", "x", "token.existingSecret=a,persistence.enabled=false"),
    ("a claim that is there", "x", "token.existingSecret=a,persistence.existingClaim=state"),
    (
        "a volume of a class, and no policy",
        "x",
        "token.existingSecret=a,persistence.storageClass=slow,persistence.size=1Gi,networkPolicy.enabled=false",
    ),
    (
        "everything besides",
        "a-release-with-a-name-of-fifty-three-characters-so-lo",
        "token.existingSecret=a,enabled=false,image.repository=registry.lan/pulse-telemetry,image.tag=1.2.3,\
         imagePullSecrets[0].name=pull,extraEnv[0].name=HTTPS_PROXY,extraEnv[0].value=http://192.0.2.7:3128,\
         networkPolicy.extraEgress[0].to[0].ipBlock.cidr=192.0.2.7/32,podAnnotations.a=b,podLabels.c=d,\
         nodeSelector.disk=ssd,tolerations[0].operator=Exists,priorityClassName=low,nameOverride=tele",
    ),
];

/// What must hold for each pod: a place in its specification, and the JSON that stands there.
const POLICY: [(&str, &str); 12] = [
    ("/automountServiceAccountToken", "false"),
    ("/enableServiceLinks", "false"),
    ("/securityContext/runAsNonRoot", "true"),
    ("/securityContext/runAsUser", "65532"),
    ("/securityContext/runAsGroup", "65532"),
    ("/securityContext/fsGroup", "65532"),
    ("/securityContext/seccompProfile", r#"{"type": "RuntimeDefault"}"#),
    (
        "/containers/0/securityContext",
        r#"{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}}"#,
    ),
    ("/containers/0/livenessProbe/exec/command/0", r#""/pulse-telemetry""#),
    ("/containers/0/readinessProbe/exec/command/1", r#""healthcheck""#),
    ("/containers/0/resources/limits/memory", r#""64Mi""#),
    ("/containers/1", "null"),
];

/// What no pod has, at any depth.
const BANNED: [&str; 14] = [
    "privileged",
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "hostPath",
    "hostPort",
    "hostUsers",
    "add",
    "procMount",
    "serviceAccountName",
    "initContainers",
    "shareProcessNamespace",
    "windowsOptions",
    "sysctls",
];

/// What the chart makes of these values, or Helm's word against them.
pub(crate) fn rendered(test: &str, release: &str, values: &str) -> Option<Result<Vec<Value>, String>> {
    let helm = beside_the_build(test, "tools/bin/helm", "version")?;
    let mut template = Command::new(helm);
    template.args(["template", release, "--namespace", "monitoring", "--kube-version", KUBERNETES[0]]);
    let output = template.args(["--set", values]).arg(project().join("deploy/helm")).output().unwrap();
    if !output.status.success() {
        return Some(Err(String::from_utf8(output.stderr).unwrap()));
    }
    documents(test, &String::from_utf8(output.stdout).unwrap(), &KUBERNETES)
}

pub(crate) fn of_kind<'a>(documents: &'a [Value], kind: &str) -> Option<&'a Value> {
    documents.iter().find(|document| document["kind"] == kind)
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// What is wrong with a pod.
fn against_the_policy(pod: &Value) -> Vec<String> {
    let mut found: Vec<String> = POLICY
        .iter()
        .filter(|(place, must)| pod.pointer(place).unwrap_or(&Value::Null) != &json_of(must))
        .map(|(place, _)| (*place).to_owned())
        .collect();
    let mut inner = vec![pod];
    while let Some(value) = inner.pop() {
        for (key, value) in value.as_object().into_iter().flatten() {
            found.extend(BANNED.contains(&key.as_str()).then(|| key.clone()));
            inner.push(value);
        }
        inner.extend(value.as_array().into_iter().flatten());
    }
    for mount in pod["containers"][0]["volumeMounts"].as_array().into_iter().flatten() {
        if mount["name"] != "state" && mount["readOnly"] != true {
            found.push(format!("{} can be written", mount["name"]));
        }
    }
    found
}

#[test]
fn every_set_of_values_passes_the_schemas_of_two_kubernetes_versions_and_the_policy_of_its_pod() {
    let test = "every_set_of_values_passes_the_schemas_of_two_kubernetes_versions_and_the_policy_of_its_pod";
    for (what, release, values) in VALUES {
        let Some(made) = rendered(test, release, values) else { return };
        let made = made.unwrap_or_else(|error| panic!("{what}: {error}"));
        let pod = &of_kind(&made, "Deployment").unwrap()["spec"]["template"]["spec"];
        assert_eq!(against_the_policy(pod), Vec::<String>::new(), "{what}");
        let kinds: Vec<&str> = made.iter().map(|document| document["kind"].as_str().unwrap()).collect();
        for kind in kinds {
            let known = ["Deployment", "Secret", "Service", "PersistentVolumeClaim", "NetworkPolicy"];
            assert!(known.contains(&kind), "{what} makes a {kind}");
        }
        for document in &made {
            assert!(document["metadata"]["name"].as_str().unwrap().len() <= 63, "{what}");
            let token = document["kind"] == "Secret" || !document.to_string().contains("a-token");
            assert!(token, "{what}: the token is in {document}");
        }
    }
}

#[test]
fn the_policy_finds_what_it_is_there_for() {
    let Some(made) = rendered("the_policy_finds_what_it_is_there_for", "x", "token.existingSecret=a") else { return };
    let made = made.unwrap();
    let pod = &of_kind(&made, "Deployment").unwrap()["spec"]["template"]["spec"];
    for (place, _) in POLICY {
        let mut other = pod.clone();
        match other.pointer_mut(place) {
            Some(value) => *value = json!("else"),
            None => other["containers"].as_array_mut().unwrap().push(json!({"name": "second"})),
        }
        assert!(against_the_policy(&other).contains(&place.to_owned()), "{place}");
    }
    for key in BANNED {
        let mut other = pod.clone();
        other["containers"][0]["securityContext"][key] = json!(true);
        assert!(against_the_policy(&other).contains(&key.to_owned()), "{key}");
    }
}

#[test]
fn helm_lint_is_strict_and_content() {
    let test = "helm_lint_is_strict_and_content";
    let Some(helm) = beside_the_build(test, "tools/bin/helm", "version") else { return };
    for (what, _, values) in VALUES {
        let mut lint = Command::new(&helm);
        lint.args(["lint", "--strict", "--kube-version", KUBERNETES[0], "--set", values]);
        let output = lint.arg(project().join("deploy/helm")).output().unwrap();
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn values_that_mean_nothing_are_refused_with_their_name() {
    let test = "values_that_mean_nothing_are_refused_with_their_name";
    for (values, word) in [
        ("pulse.release=pulse", "token.existingSecret"),
        ("token.existingSecret=a,token.value=b", "both set"),
        ("token.value=b,token.organizations.default=a", "token.organizations"),
        ("token.existingSecret=a,service.enabled=true", "tokenSecret"),
        ("token.existingSecret=a,pulse.url=pulse.lan", "url"),
        ("token.existingSecret=a,pulse.url=http://user:secret@pulse.lan", "holds a login"),
        ("token.existingSecret=a,replicas=2", "replicas"),
        ("token.existingSecret=a,enabled=no", "enabled"),
        ("token.existingSecret=a,persistence.accessModes={ReadOnlyMany}", "accessModes"),
        ("token.existingSecret=a,image.digest=sha256:12", "digest"),
    ] {
        let Some(made) = rendered(test, "x", values) else { return };
        let said = made.expect_err(values);
        assert!(said.contains(word) && !said.contains("secret@"), "{values}: {said}");
    }
}

#[test]
fn pulse_is_found_by_the_name_that_its_own_chart_gives_its_service() {
    let test = "pulse_is_found_by_the_name_that_its_own_chart_gives_its_service";
    for (values, url, port) in [
        ("pulse.release=pulse", "http://pulse:7655", 7655),
        ("pulse.release=my-pulse-2", "http://my-pulse-2:7655", 7655),
        ("pulse.release=monitoring", "http://monitoring-pulse:7655", 7655),
        ("pulse.url=https://pulse.lan", "https://pulse.lan", 443),
        ("pulse.url=http://pulse.lan/x", "http://pulse.lan/x", 80),
        ("pulse.url=http://[2001:db8::5]:8080", "http://[2001:db8::5]:8080", 8080),
    ] {
        let Some(made) = rendered(test, "x", &format!("token.existingSecret=a,{values}")) else { return };
        let made = made.unwrap();
        let pod = &of_kind(&made, "Deployment").unwrap()["spec"]["template"]["spec"];
        assert_eq!(variable(pod, "PULSE_URL").as_deref(), Some(url));
        let policy = &of_kind(&made, "NetworkPolicy").unwrap()["spec"]["egress"][0];
        assert_eq!(policy["ports"], json!([{"port": port}]), "{values}");
        let pods = policy.pointer("/to/0/podSelector/matchLabels/app.kubernetes.io~1instance");
        let release = values.strip_prefix("pulse.release=").map(|release| json!(release));
        assert_eq!(pods.cloned(), release, "{values}");
    }
}

/// Whether an address is in a CIDR.
fn holds(cidr: &Value, address: IpAddr) -> bool {
    let (network, length) = cidr.as_str().unwrap().split_once('/').unwrap();
    let length: u32 = length.parse().unwrap();
    let differs = match (network.parse().unwrap(), address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => u128::from(network.to_bits() ^ address.to_bits()) << 96,
        (IpAddr::V6(network), IpAddr::V6(address)) => network.to_bits() ^ address.to_bits(),
        _ => return false,
    };
    differs.leading_zeros() >= length
}

/// Whether a policy lets the pod reach that port of an address that is no pod's.
fn lets_through(policy: &Value, address: &str, port: u16) -> bool {
    let address: IpAddr = address.parse().unwrap();
    policy["egress"].as_array().unwrap().iter().any(|rule| {
        let is_the_port = rule["ports"].as_array().unwrap().iter().any(|open| open["port"] == port);
        // No `to` is everywhere.
        let is_within = rule["to"].as_array().is_none_or(|to| {
            to.iter().map(|to| &to["ipBlock"]).filter(|block| block.is_object()).any(|block| {
                let except = block["except"].as_array().into_iter().flatten();
                holds(&block["cidr"], address) && !except.into_iter().any(|cidr| holds(cidr, address))
            })
        });
        is_the_port && is_within
    })
}

/// A cloud's credentials, a resolver on the node, a neighbour's machine, and two of the Internet.
const ADDRESSES: [&str; 5] = ["169.254.169.254", "169.254.20.10", "192.168.1.9", "198.51.100.7", "2001:db8::7"];

#[test]
fn nothing_but_pulse_names_and_port_443_of_public_addresses_is_let_through() {
    let test = "nothing_but_pulse_names_and_port_443_of_public_addresses_is_let_through";
    // Where each port is open, of those addresses.
    let always = [(53, [true, true, true, false, false]), (443, [false, false, false, true, true])];
    for (values, port, open) in [
        ("pulse.release=pulse", 7655, [false; 5]),
        ("pulse.url=http://192.168.1.9:7655", 7655, [false, false, true, false, false]),
        ("pulse.url=https://192.168.1.9", 443, [false, false, true, true, true]),
        ("pulse.url=http://[2001:db8::7]:7655", 7655, [false, false, false, false, true]),
        ("pulse.url=http://pulse.lan:7655", 7655, [false, false, true, true, true]),
        ("pulse.url=https://pulse.lan", 443, [false, false, true, true, true]),
    ] {
        let Some(made) = rendered(test, "x", &format!("token.existingSecret=a,{values}")) else { return };
        let made = made.unwrap();
        let policy = &of_kind(&made, "NetworkPolicy").unwrap()["spec"];
        assert_eq!((&policy["ingress"], &policy["policyTypes"]), (&json!([]), &json!(["Ingress", "Egress"])));
        for (port, open) in always.into_iter().filter(|(other, _)| *other != port).chain([(port, open)]) {
            let reached = ADDRESSES.map(|address| lets_through(policy, address, port));
            assert_eq!(reached, open, "{values}: port {port} of {ADDRESSES:?}");
        }
        let known = [json!(53), json!(443), json!(port)];
        let ports = policy["egress"].as_array().unwrap().iter().flat_map(|rule| rule["ports"].as_array().unwrap());
        assert!(ports.into_iter().all(|open| known.contains(&open["port"])), "{values}");
        // No Service, no port: the page is for `kubectl port-forward`.
        assert!(of_kind(&made, "Service").is_none());
    }
}

fn variable(pod: &Value, name: &str) -> Option<String> {
    variables(pod).into_iter().find_map(|(variable, value)| (variable == name).then_some(value))
}

pub(crate) fn variables(pod: &Value) -> Environment {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let variables = pod["containers"][0]["env"].as_array().unwrap();
    variables.iter().map(|variable| (text(&variable["name"]), text(&variable["value"]))).collect()
}

/// What the chart sets by itself.
pub(crate) fn environment(test: &str) -> Option<Environment> {
    let made = rendered(test, "x", "token.existingSecret=a")?.unwrap();
    Some(variables(&of_kind(&made, "Deployment").unwrap()["spec"]["template"]["spec"]))
}

#[test]
fn off_in_the_values_is_off_in_the_pod() {
    let test = "off_in_the_values_is_off_in_the_pod";
    for (values, off) in [("enabled=false", Some("false")), ("enabled=true", None)] {
        let Some(made) = rendered(test, "x", &format!("token.existingSecret=a,{values}")) else { return };
        let made = made.unwrap();
        let pod = &of_kind(&made, "Deployment").unwrap()["spec"]["template"]["spec"];
        assert_eq!(variable(pod, "PULSE_TELEMETRY").as_deref(), off, "{values}");
    }
}

/// What kubelet does is not tried here: the volumes are directories as it makes them for an `fsGroup`.
#[test]
fn the_program_runs_with_the_environment_and_the_volumes_that_its_pod_has() {
    let test = "the_program_runs_with_the_environment_and_the_volumes_that_its_pod_has";
    for values in [
        "token.existingSecret=a",
        "token.existingSecret=a,service.enabled=true,service.tokenSecret=page,service.hosts={telemetry.lan}",
        "token.existingSecret=a,token.organizations.default=default",
    ] {
        let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
        let values = format!("{values},pulse.url={}", pulse.url());
        let Some(made) = rendered(test, "x", &values) else { return };
        let made = made.unwrap();
        let pod = &of_kind(&made, "Deployment").unwrap()["spec"]["template"]["spec"];
        let place = tempfile::tempdir().unwrap();
        volumes(pod, place.path());
        let inside = |value: &str| {
            ["/run/secrets", "/var/lib/pulse-telemetry"]
                .iter()
                .fold(value.to_owned(), |value, path| value.replace(path, &format!("{}{path}", place.path().display())))
        };
        let mut setup = Setup::new(&pulse.url(), &endpoint.url());
        for (name, value) in variables(pod) {
            setup = setup.with(&name, &inside(&value).replace(":7656", ":0"));
        }
        if geteuid().is_root() {
            let user = [format!("--reuid={USER}"), format!("--regid={USER}"), "--clear-groups".to_owned()];
            setup = setup.through(&[&["setpriv".to_owned()][..], &user].concat());
        }
        let output = setup.run(&["preview"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && output.stdout.starts_with(b"{\"install_id\""), "{values}: {said}");
        let sidecar = setup.start();
        endpoint.wait_for_pings(1, LIMIT);
        let log = sidecar.stop();
        // That the test runs in a container is no fault of the pod's.
        let warns = |line: &&str| line.contains("WARN") && !line.contains("inside of this container");
        assert_eq!(log.lines().filter(warns).count(), 0, "{values}: {log}");
    }
}

/// The directories that kubelet mounts for the pod: of root, and of the group in `fsGroup`.
pub(crate) fn volumes(pod: &Value, place: &Path) {
    let owned = |path: &Path, mode| {
        if geteuid().is_root() {
            chown(path, Some(0), Some(USER)).unwrap();
        }
        set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    owned(place, 0o755);
    for mount in pod["containers"][0]["volumeMounts"].as_array().unwrap() {
        let path = place.join(mount["mountPath"].as_str().unwrap().trim_start_matches('/'));
        create_dir_all(&path).unwrap();
        owned(&path, 0o2775);
        for key in ["token", "default"].iter().filter(|_| mount["name"] != "state") {
            let file = path.join(key);
            std::fs::write(&file, TOKEN).unwrap();
            owned(&file, 0o440);
        }
    }
}

#[test]
fn the_notes_say_how_to_look_to_hand_over_and_what_ends_with_the_pod() {
    let test = "the_notes_say_how_to_look_to_hand_over_and_what_ends_with_the_pod";
    let Some(helm) = beside_the_build(test, "tools/bin/helm", "version") else { return };
    let place = tempfile::tempdir().unwrap();
    let chart = place.path().join("chart");
    run("cp", &["-r", project().join("deploy/helm").to_str().unwrap(), chart.to_str().unwrap()]);
    // Helm renders the notes for an installation only.
    let notes = "notes: {{ include (print $.Template.BasePath \"/NOTES.txt\") . | quote }}\n";
    std::fs::write(chart.join("templates/notes.yaml"), notes).unwrap();
    for (values, says, not) in [
        ("token.existingSecret=a", "at http://127.0.0.1:7656", "is false"),
        ("token.existingSecret=a,persistence.enabled=false", "persistence.enabled is false", "asks for the token"),
        ("token.existingSecret=a,service.enabled=true,service.tokenSecret=b", "asks for the token", "is false"),
    ] {
        let mut template = Command::new(&helm);
        template.args(["template", "x", "--namespace", "monitoring", "--kube-version", KUBERNETES[0], "--set", values]);
        let output = template.args(["--show-only", "templates/notes.yaml"]).arg(&chart).output().unwrap();
        let made = documents(test, &String::from_utf8(output.stdout).unwrap(), &[]);
        let Some(made) = made else { return };
        let notes = made.unwrap()[0]["notes"].as_str().unwrap().to_owned();
        let always = [
            "kubectl -n monitoring exec deploy/x-pulse-telemetry -- /pulse-telemetry preview",
            "kubectl -n monitoring port-forward deploy/x-pulse-telemetry 7656",
            "- name: PULSE_TELEMETRY\n           value: \"false\"",
            "kubectl -n monitoring rollout restart deploy/x-pulse-telemetry",
        ];
        assert!(always.iter().chain([&says]).all(|words| notes.contains(words)) && !notes.contains(not), "{notes}");
    }
}

/// Each command of Helm in a document, in a block or within a line.
fn commands_of_helm(document: &str) -> Vec<String> {
    let whole = |(begins, ends): (&'static str, char)| {
        let rest = document.split(begins).skip(1);
        rest.map(move |rest| rest.split(ends).next().unwrap().split_whitespace().collect::<Vec<_>>().join(" "))
    };
    [("\nhelm ", '\n'), ("`helm ", '`')].into_iter().flat_map(whole).collect()
}

#[test]
fn helm_knows_the_commands_of_the_documents_and_an_upgrade_takes_what_is_new_in_the_chart() {
    let test = "helm_knows_the_commands_of_the_documents_and_an_upgrade_takes_what_is_new_in_the_chart";
    let Some(helm) = beside_the_build(test, "tools/bin/helm", "version") else { return };
    let commands: Vec<String> =
        ["README.md", "docs/INSTALL.md"].iter().flat_map(|file| commands_of_helm(&read(file))).collect();
    for verb in ["install ", "upgrade ", "uninstall ", "show values "] {
        assert!(commands.iter().any(|command| command.contains(verb)), "{verb}: {commands:?}");
    }
    for command in commands {
        let output = Command::new(&helm).args(command.split(' ')).arg("--help").output().unwrap();
        assert!(output.status.success(), "helm {command}: {}", String::from_utf8_lossy(&output.stderr));
        // Old values alone lack those that a newer chart has, and its templates stop at them.
        assert!(!command.contains(" --reuse-values"), "helm {command}");
    }
}
