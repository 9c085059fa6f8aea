//! The forge's workflows and every script, held to their linters.

use std::path::PathBuf;
use std::process::Command;

use pulse_telemetry_testkit::alone::{program_or_skip, run};
use pulse_telemetry_testkit::project;

use super::{beside_the_build, read};

const WORKFLOWS: [&str; 3] = [".github/workflows/apt.yml", ".github/workflows/ci.yml", ".github/workflows/release.yml"];

#[test]
fn the_workflows_pass_actionlint_and_run_what_a_maintainer_runs_with_actions_of_a_known_commit() {
    let test = "the_workflows_pass_actionlint_and_run_what_a_maintainer_runs_with_actions_of_a_known_commit";
    let all: Vec<PathBuf> = tracked(".github/workflows").collect();
    assert_eq!(all, WORKFLOWS.map(PathBuf::from));
    for workflow in WORKFLOWS {
        let text = read(workflow);
        for line in text.lines() {
            let Some((_, uses)) = line.split_once("uses: ") else { continue };
            let is_hash = |text: &str| text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
            let pin = uses.split_once('@').and_then(|(_, pin)| pin.split_once(" # v"));
            let is_pinned = pin.is_some_and(|(hash, version)| is_hash(hash) && !version.is_empty());
            assert!(is_pinned || uses.starts_with("./"), "{workflow}: {line}");
        }
        let toolchain: toml::Table = read("rust-toolchain.toml").parse().unwrap();
        let ours = format!("rust:{}-bookworm", toolchain["toolchain"]["channel"].as_str().unwrap());
        let named = |line: &str| {
            ["image: ", "container: "].iter().find_map(|key| line.trim().strip_prefix(key).map(str::to_owned))
        };
        assert!(text.lines().filter_map(named).all(|image| image == ours), "{workflow}");
        // What a job may do beyond reading, it says itself.
        assert!(text.contains("\npermissions:\n  contents: read\n"), "{workflow}");
        assert!(!text.contains("pull_request_target"), "{workflow}: a stranger's code would see the secrets");
    }
    assert!(read(WORKFLOWS[1]).contains("run: .ci/run\n"));
    let release = read(WORKFLOWS[2]);
    assert!(release.contains("needs: ci") && release.contains("make dist"));
    // What is published stays, and is signed before machines refuse it.
    let renews = read(WORKFLOWS[0]);
    assert!(renews.contains("schedule:\n") && renews.contains("workflow_dispatch:\n"));
    for signs in [release, renews] {
        let place = |what: &str| signs.find(what).unwrap_or_else(|| panic!("no {what} in {signs}"));
        assert!(place("environment: release") < place("packaging/apt-of-last-release target"));
        assert!(place("packaging/apt-of-last-release target") < place("make apt-repo"));
        assert!(place("make apt-repo") < place("tar --create --gzip --file target/apt.tar.gz --directory target apt"));
    }

    let Some(actionlint) = beside_the_build(test, "tools/bin/actionlint", "-version") else { return };
    // With shellcheck for what they run.
    if program_or_skip("shellcheck", &["--version"], test) {
        let output = Command::new(actionlint).arg("-no-color").current_dir(project()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn every_script_passes_shellcheck() {
    let test = "every_script_passes_shellcheck";
    if !program_or_skip("shellcheck", &["--version"], test) {
        return;
    }
    let is_script = |path: &PathBuf| {
        // One that is removed and not yet committed is still tracked.
        let text = std::fs::read(project().join(path)).ok();
        let shells = [&b"#!/bin/sh\n"[..], b"#!/usr/bin/env bash\n"];
        text.is_some_and(|text| shells.iter().any(|shell| text.starts_with(shell)))
    };
    let scripts: Vec<PathBuf> = tracked(".").filter(is_script).collect();
    assert!(scripts.len() >= 5, "{scripts:?}");
    let output = Command::new("shellcheck").args(&scripts).current_dir(project()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// The files of the repository below that path.
fn tracked(path: &str) -> impl Iterator<Item = PathBuf> {
    let files = run("git", &["-C", project().to_str().unwrap(), "ls-files", path]);
    files.lines().map(PathBuf::from).collect::<Vec<_>>().into_iter()
}
