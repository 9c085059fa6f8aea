//! For how long a deletion that fails is tried again.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_core::engine::{EntryKind, Input, State};

use super::super::{DAY, HOUR, World, noon};
use super::{WEEK, failed, off, off_answering, old_ids};

#[test]
fn a_deletion_is_retried_with_the_back_off_and_given_up_after_seven_days() {
    let mut world = off_answering(Some(failed()));
    world.forget(&old_ids(1));
    world.run_for(HOUR);
    assert!((6..40).contains(&world.asked.len()), "{} in the first hour", world.asked.len());
    let before = world.asked.len();
    world.run_for(WEEK - HOUR * 2);
    assert_eq!(world.pending(), 1);
    assert!((160..800).contains(&(world.asked.len() - before)), "{}", world.asked.len());
    world.run_for(HOUR * 3);
    assert_eq!((world.pending(), world.reasons(EntryKind::ForgetFailed)), (0, vec!["gave_up"]));
    let last = world.asked.len();
    world.run_for(WEEK);
    assert_eq!(world.asked.len(), last);
}

#[test]
fn a_deletion_that_could_not_be_tried_for_a_month_is_retried_for_seven_days_from_then_on() {
    let mut world = off_answering(Some(failed()));
    let ids = old_ids(2);
    world.forget(&ids);
    world.pass(DAY * 30);
    world.crash_and_start();
    world.run_for(WEEK - HOUR);
    assert_eq!((world.asked_ids().into_iter().collect::<BTreeSet<_>>().len(), world.pending()), (2, 2));
    world.run_for(HOUR * 5);
    assert_eq!(world.reasons(EntryKind::ForgetFailed), ["gave_up"; 2]);
}

#[test]
fn a_deletion_that_is_asked_for_once_more_is_retried_for_another_seven_days() {
    let mut world = off_answering(Some(failed()));
    let ids = old_ids(1);
    world.forget(&ids);
    world.run_for(WEEK - HOUR);
    world.forget(&ids);
    world.run_for(WEEK - HOUR);
    assert_eq!((world.pending(), world.ids_of(EntryKind::ForgetAsked)), (1, ids));
    world.run_for(HOUR * 3);
    assert_eq!(world.reasons(EntryKind::ForgetFailed), ["gave_up"]);
}

#[test]
fn a_deletion_that_was_asked_for_under_a_wrong_clock_is_retried_for_seven_days_of_the_right_one() {
    let mut world = off_answering(Some(failed()));
    world.step_clock(-SignedDuration::from_hours(24 * 365 * 50).as_secs());
    world.crash_and_start();
    world.forget(&old_ids(1));
    world.crash_and_start();
    world.now.wall = noon() + SignedDuration::from_hours(1);
    world.feed(Input::Tick);
    world.run_for(WEEK - HOUR);
    assert!(world.asked.len() > 100 && world.pending() == 1, "{} attempts", world.asked.len());
    world.run_for(DAY * 2);
    assert_eq!(world.reasons(EntryKind::ForgetFailed), ["gave_up"]);
}

#[test]
fn a_deletion_whose_time_on_disk_cannot_be_goes_within_a_day() {
    for not_before in [Timestamp::MAX, Timestamp::MIN, noon() + SignedDuration::from_hours(24 * 365)] {
        let mut world = World::with(off(), State::default(), None, noon());
        world.forget(&old_ids(2));
        let mut state = world.state.clone();
        state
            .deletions
            .iter_mut()
            .for_each(|deletion| (deletion.not_before, deletion.since) = (not_before, not_before));
        let mut world = World::with(off(), state, None, noon());
        world.run_for(DAY + HOUR * 2);
        assert_eq!((world.asked.len(), world.pending()), (2, 0), "{not_before}");
    }
}
