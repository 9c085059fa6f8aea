//! The ID: when it rotates, and what a reset does.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use pulse_telemetry_core::consent::Sources;
use pulse_telemetry_core::engine::{Input, State};
use pulse_telemetry_core::identity::{InstallId, ROTATION};

use super::{DAY, HOUR, MINUTE, Sent, World, answered, noon, status};

#[test]
fn a_reset_cancels_a_send_under_way_and_nothing_else() {
    let mut world = World::new();
    world.run_for(HOUR);
    world.feed(Input::Reset);
    assert_eq!(world.cancels, 0);
    world.answers.push_back(None);
    world.run_for(DAY * 2);
    world.feed(Input::Reset);
    assert_eq!(world.cancels, 1);
}

#[test]
fn the_id_rotates_every_thirty_days_while_the_process_runs() {
    let mut world = World::new();
    world.run_for(DAY * 365);
    let ids: Vec<InstallId> = world.sent.iter().map(Sent::id).collect();
    let distinct: BTreeSet<_> = ids.iter().collect();
    assert!((12..=13).contains(&distinct.len()), "{} IDs in a year", distinct.len());
    for id in &distinct {
        let used: Vec<_> = world.sent.iter().filter(|sent| sent.id() == **id).map(|sent| sent.at.mono).collect();
        assert!(*used.last().unwrap() - used[0] < ROTATION);
    }
}

#[test]
fn after_a_reset_no_ping_carries_the_old_id_a_retry_under_way_included() {
    for pending in ["none", "waiting", "under way"] {
        let mut world = World::new();
        match pending {
            "waiting" => world.answers.push_back(Some(status(503))),
            "under way" => world.answers.push_back(None),
            _ => {}
        }
        world.run_for(2 * MINUTE + Duration::from_secs(1));
        let (old, sent) = (world.sent[0].id(), world.sent.len());
        world.feed(Input::Reset);
        let new = world.identity.clone().unwrap().install_id;
        assert_ne!(new, old);
        assert_eq!(world.engine.preview_id(world.now), new);
        assert!(world.state.pending.is_none());
        world.crash_and_start();
        world.run_for(DAY * 3);
        assert!(world.sent.len() > sent && world.sent[sent..].iter().all(|sent| sent.id() == new), "{pending}");
    }
}

#[test]
fn a_reset_while_off_shows_a_new_candidate_and_writes_no_id_file() {
    let mut world = World::with(Sources { switched_off: true, ..Sources::default() }, State::default(), None, noon());
    let before = world.engine.preview_id(world.now);
    world.feed(Input::Reset);
    assert_ne!(world.engine.preview_id(world.now), before);
    assert!(world.identity.is_none());
}

#[test]
fn what_a_preview_shows_becomes_the_id_of_the_next_ping() {
    let mut world = World::new();
    let shown = world.engine.preview_id(world.now);
    assert!(world.identity.is_none(), "looking writes no file");
    world.run_for(HOUR);
    assert_eq!(world.sent[0].id(), shown);
}

#[test]
fn a_reset_while_pulse_is_read_triggers_no_ping() {
    let mut world = World::new();
    world.answer_otherwise = Some(status(503));
    world.run_for(2 * HOUR);
    world.holds_readings = true;
    world.run_for(2 * HOUR);
    let reading = world.held.take().expect("a retry is due");
    let sent = world.sent.len();
    world.feed(Input::Reset);
    world.feed(reading);
    assert_eq!(world.sent.len(), sent, "the new ID at the old one's time would link both");
}

#[test]
fn a_reset_is_on_the_disk_although_the_opt_out_before_could_not_be_written() {
    let mut world = World::new();
    world.run_for(HOUR);
    world.disk_works = false;
    world.feed(Input::Switch { off: true });
    assert!(world.identity.is_some());
    world.disk_works = true;
    world.feed(Input::Reset);
    assert_eq!(world.identity, None, "the old ID must not come back with the next start");
}

#[test]
fn a_reset_leaves_no_pending_ping_on_a_disk_that_could_not_be_written() {
    let mut world = World::new();
    world.answers = VecDeque::from([Some(status(503)), None]);
    world.run_for(5 * MINUTE);
    world.disk_works = false;
    world.feed(answered(status(204)));
    assert!(world.state.pending.is_some());
    world.disk_works = true;
    world.feed(Input::Reset);
    assert_eq!(world.state.pending, None);
}

#[test]
fn a_reset_or_a_switch_while_pulse_is_read_for_a_retry_triggers_no_ping() {
    for inputs in [vec![Input::Reset], vec![Input::Switch { off: true }, Input::Switch { off: false }]] {
        let mut world = World::new();
        world.answers.push_back(Some(status(503)));
        world.run_for(2 * MINUTE + MINUTE / 60);
        world.holds_readings = true;
        world.run_for(HOUR);
        let reading = world.held.take().expect("the retry is due");
        world.holds_readings = false;
        inputs.into_iter().for_each(|input| world.feed(input));
        world.feed(reading);
        assert_eq!(world.sent.len(), 1, "or the timing would link the old ID to the new one");
        world.run_for(DAY - 2 * HOUR);
        assert_eq!(world.sent.len(), 1);
    }
}

#[test]
fn an_id_that_the_disk_does_not_have_is_not_sent() {
    let mut world = World::new();
    world.run_for(HOUR);
    world.holds_readings = true;
    world.run_for(DAY);
    let reading = world.held.take().expect("the heartbeat is due");
    world.disk_works = false;
    world.feed(Input::Reset);
    world.disk_works = true;
    world.holds_readings = false;
    world.feed(reading);
    assert_eq!((world.sent.len(), world.suppressed()), (1, Some("storage")));
    world.run_for(DAY + DAY / 2);
    assert_eq!(world.sent.len(), 2, "that it is the ID on disk is checked at every attempt");
}
