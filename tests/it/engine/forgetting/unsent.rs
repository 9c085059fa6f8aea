//! IDs that were never sent: the endpoint is not told of them either.

use jiff::SignedDuration;
use pulse_telemetry_core::consent::Sources;
use pulse_telemetry_core::engine::{EntryKind, Input, State};

use super::super::{DAY, HOUR, World, noon, some_id};

#[test]
fn an_id_that_nothing_was_sent_with_is_not_told_to_the_endpoint() {
    let mut world = World::new();
    world.feed(Input::Reset);
    assert!(world.identity.is_some());
    world.forget(&[]);
    world.run_for(DAY);
    assert_eq!(world.asked.len(), 0);
}

#[test]
fn an_id_whose_first_ping_the_disk_kept_from_going_is_not_told_to_the_endpoint_either() {
    let mut world = World::new();
    world.holds_readings = true;
    world.run_for(HOUR);
    world.disk_works = false;
    let reading = world.held.take().unwrap();
    world.feed(reading);
    assert_eq!((world.sent.len(), &world.identity), (0, &None), "neither sent nor written");
    world.forget(&[]);
    world.disk_works = true;
    world.run_for(DAY);
    assert_eq!((world.asked.len(), world.pending()), (0, 0));
}

#[test]
fn an_id_that_was_made_under_a_wrong_clock_and_never_sent_is_not_told_to_the_endpoint_either() {
    // Nor after a start by which the clock is still wrong.
    for restarts in [false, true] {
        let mut world = World::with(Sources::default(), State::default(), Some(some_id()), noon());
        world.run_for(HOUR);
        assert_eq!(world.sent.len(), 1);
        world.step_clock(-SignedDuration::from_hours(24 * 365 * 50).as_secs());
        world.holds_readings = true;
        world.crash_and_start();
        world.feed(Input::Reset);
        if restarts {
            world.crash_and_start();
        }
        world.now.wall = noon() + SignedDuration::from_hours(2);
        world.feed(Input::Tick);
        world.forget(&[some_id().install_id]);
        world.run_for(DAY);
        let asked = world.ids_of(EntryKind::ForgetAsked);
        assert_eq!((world.sent.len(), asked), (1, vec![some_id().install_id]), "{restarts}");
    }
}
