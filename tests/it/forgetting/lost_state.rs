//! Files that are lost, damaged, an older copy or put back: no deletion is lost with them, and no ID comes back.

use std::fs;

use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse};
use pulse_telemetry_testkit::receiver::{FORGET_PATH, Receiver};
use pulse_telemetry_testkit::server::ResponsePlan;

use super::commands::delivered;
use super::{ask_in_vain, let_a_day_pass, let_all_be_done, recorded, status, wait_for, working};

#[test]
fn a_state_file_that_is_lost_damaged_or_an_older_copy_loses_no_deletion_and_brings_none_back() {
    let pulse = SimulatedPulse::start(PulseModel::default());
    for how in ["lost", "damaged", "an older copy"] {
        let receiver = Receiver::start();
        receiver.answer(FORGET_PATH, ResponsePlan::status(503));
        let setup = working(&pulse, &receiver);
        let (sidecar, id) = delivered(&setup, &receiver);
        let state = setup.state("state.json");
        let before = fs::read(&state).unwrap();
        ask_in_vain(&setup);
        sidecar.wait_for_log("did not delete");
        sidecar.stop();
        let pending = fs::read(&state).unwrap();
        let damage = |older: &[u8]| match how {
            "lost" => fs::remove_file(&state).unwrap(),
            "damaged" => fs::write(&state, &pending[..pending.len() / 2]).unwrap(),
            _ => fs::write(&state, older).unwrap(),
        };
        damage(&before);
        if how != "an older copy" {
            assert_eq!(status(&setup)["forget"]["pending"], 1, "{how}: told without a daemon, too");
        }
        let sidecar = setup.start();
        let forget = status(&setup)["forget"].clone();
        assert_eq!(forget["pending"], 1, "{how}");
        let next: jiff::Timestamp = forget["next"].as_str().unwrap().parse().unwrap();
        let asked: jiff::Timestamp = recorded(&setup, "forget_asked")[0]["at"].as_str().unwrap().parse().unwrap();
        assert!(next < asked + jiff::SignedDuration::from_hours(25), "{how}: {next}");
        sidecar.stop();
        receiver.answer_well(FORGET_PATH);
        let_all_be_done(&setup);
        assert_eq!(recorded(&setup, "forgotten").len(), 1, "{how}");
        assert_eq!(recorded(&setup, "forget_asked").len(), 1, "{how}: it is told once");

        // After its receipt.
        let asked = receiver.forgotten_ids();
        damage(&pending);
        let sidecar = setup.clone().with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "100ms").start();
        wait_for("a start that is through", || recorded(&setup, "started").len() > 3);
        assert_eq!(status(&setup)["forget"]["pending"], 0, "{how}");
        sidecar.stop();
        assert_eq!((receiver.forgotten_ids(), recorded(&setup, "forgotten").len()), (asked, 1), "{how}: {id}");
    }
}

#[test]
fn an_id_that_is_put_back_as_a_file_after_it_was_forgotten_is_not_sent_again() {
    let (pulse, receiver) = (SimulatedPulse::start(PulseModel::default()), Receiver::start());
    let setup = working(&pulse, &receiver);
    let (sidecar, id) = delivered(&setup, &receiver);
    let file = setup.state(".install_id");
    let backup = fs::read(&file).unwrap();
    assert!(setup.run(&["forget"]).status.success());
    wait_for("it is done", || recorded(&setup, "forgotten").len() == 1);
    sidecar.stop();
    fs::write(&file, backup).unwrap();
    let_a_day_pass(&setup);
    let (sidecar, next) = delivered(&setup, &receiver);
    assert_ne!(next, id);
    assert_eq!(setup.id_on_disk(), Some(next));
    sidecar.stop();
}
