//! The file `off`: whatever has that name says off.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use pulse_telemetry::store::{Disk as _, Store};
use pulse_telemetry_testkit::alone::run;
use serde_json::json;

use super::{names, said, world};

type Form = (&'static str, fn(&Path));

const FORMS: [Form; 6] = [
    ("a dangling link", |off| symlink("/nonexistent", off).unwrap()),
    ("a link to itself", |off| symlink("off", off).unwrap()),
    ("a link to a file", |off| symlink("/etc/hostname", off).unwrap()),
    ("a directory", |off| fs::create_dir(off).unwrap()),
    ("a named pipe", |off| drop(run("mkfifo", &[off.to_str().unwrap()]))),
    ("a socket", |off| drop(UnixListener::bind(off).unwrap())),
];

#[test]
fn off_in_any_form_is_off_at_a_start_under_a_daemon_and_for_the_commands() {
    for (what, make) in FORMS {
        let (_pulse, endpoint, setup) = world();
        let setup = setup.on_a_socket();
        fs::create_dir(setup.path("state")).unwrap();
        make(&setup.state("off"));
        for _ in 0..2 {
            let sidecar = setup.start();
            let status = setup.run(&["status", "--json"]);
            let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
            assert_eq!((&status["enabled"], &status["off_by"]), (&json!(false), &json!("switch")), "{what}");
            sidecar.stop();
            assert!(said(&setup.run(&["status"])).contains("Telemetry is off"), "{what}: without a daemon");
        }
        assert!(setup.run(&["off"]).status.success(), "{what}: off again");
        assert!(setup.run(&["on"]).status.success(), "{what}: and on, which removes it");
        assert!(fs::symlink_metadata(setup.state("off")).is_err(), "{what}");

        let idle = setup.clone().with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h").start();
        make(&setup.state("off"));
        let status = setup.run(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        assert_eq!(status["off_by"], "switch", "{what}: under a daemon");
        idle.stop();
        assert_eq!(endpoint.server.connections(), 0, "{what}");
    }
}

#[test]
fn where_the_switch_cannot_be_looked_at_nothing_may_go_and_that_is_no_operators_off() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("state");
    let (mut store, found) = Store::open(&dir).unwrap();
    assert!(!found.switched_off && !store.is_switched_off().unwrap());
    fs::rename(&dir, parent.path().join("away")).unwrap();
    // Where a file stands in the directory's place, not even root can look.
    fs::write(&dir, "").unwrap();
    assert!(store.is_switched_off().is_err() && store.confirm().is_err());
    fs::remove_file(&dir).unwrap();
    symlink("state", &dir).unwrap();
    assert!(store.is_switched_off().is_err() && store.confirm().is_err());
}

#[test]
fn an_off_in_the_volume_of_an_earlier_image_is_not_passed_over_by_one_that_looks_a_level_deeper() {
    let (_pulse, endpoint, setup) = world();
    assert!(setup.run(&["off"]).status.success());
    let before = names(&setup.path("state"));
    let deeper = setup.state("state");
    let upgraded = setup.clone().with("PULSE_TELEMETRY_STATE__DIR", deeper.to_str().unwrap());
    for command in [&["run"][..], &["status"], &["preview"], &["on"], &["off"], &["forget"]] {
        let output = upgraded.run(command);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(5), "{command:?}: {said}");
        let named = format!("{} is one: name that in state.dir", setup.path("state").display());
        assert!(said.contains(&named), "{command:?}: {said}");
    }
    assert_eq!((names(&setup.path("state")), endpoint.pings().len()), (before, 0), "nothing was made or sent");
    fs::rename(setup.path("state"), setup.path("elsewhere")).unwrap();
    fs::create_dir(setup.path("state")).unwrap();
    fs::rename(setup.path("elsewhere"), &deeper).unwrap();
    assert!(said(&upgraded.run(&["status"])).starts_with("Telemetry is off"), "moved, it holds");
}

#[test]
fn a_directory_that_was_made_ready_in_another_one_passes_over_no_off_and_pulses_own_is_none() {
    let (_pulse, _endpoint, setup) = world();
    let deeper = setup.state("state");
    let upgraded = setup.clone().with("PULSE_TELEMETRY_STATE__DIR", deeper.to_str().unwrap());
    fs::create_dir_all(&deeper).unwrap();
    // The file of its ID stands in Pulse's directory.
    fs::write(setup.state(".install_id"), "").unwrap();
    assert_eq!(upgraded.run(&["off"]).status.code(), Some(0));
    fs::remove_dir_all(&deeper).unwrap();
    fs::create_dir(&deeper).unwrap();
    fs::write(setup.state("off"), "").unwrap();
    assert_eq!(upgraded.run(&["status"]).status.code(), Some(5));
}
