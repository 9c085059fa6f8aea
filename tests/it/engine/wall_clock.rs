//! Clocks that step, start in 1970 or are years ahead.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_core::consent::Sources;
use pulse_telemetry_core::contract;
use pulse_telemetry_core::engine::{EntryKind, Input, Outcome, State};

use super::{DAY, HOUR, MINUTE, Sent, World, noon, status};

#[test]
fn a_doubt_is_kept_on_disk_every_ten_minutes_and_nothing_is_where_there_is_none() {
    let mut world = World::with(
        Sources { switched_off: true, ..Sources::default() },
        State::default(),
        None,
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(world.saves, 1, "off is written at the start");
    world.run_for(2 * HOUR - MINUTE);
    assert_eq!((world.saves, world.state.suspect_seconds), (12, Some(110 * 60)));

    let mut world = World::new();
    world.run_for(HOUR);
    let before = world.saves;
    world.run_for(10 * HOUR);
    assert_eq!(world.saves, before);
}

#[test]
fn a_step_of_more_than_a_minute_is_recorded_with_its_seconds() {
    let mut world = World::new();
    for seconds in [60, -60, 61, -61] {
        world.step_clock(seconds);
        world.feed(Input::Tick);
    }
    assert_eq!(world.ledger.iter().filter_map(|(_, entry)| entry.step_seconds).collect::<Vec<_>>(), [61, -61]);
}

#[test]
fn a_running_clock_is_doubted_when_it_leaps_more_than_a_day_ahead_or_more_than_an_hour_back() {
    for (seconds, is_believed) in [(86_400, true), (86_401, false), (-3600, true), (-3601, false)] {
        let mut world = World::new();
        world.run_for(HOUR);
        world.step_clock(seconds);
        world.feed(Input::Tick);
        assert_eq!(world.state.suspect_seconds, (!is_believed).then_some(0), "{seconds} seconds");
    }
}

/// What is made of a clock at a start, by what earlier processes left.
#[test]
fn a_clock_is_believed_at_a_start_unless_something_speaks_against_it() {
    let hours_ago = |hours| Some(noon() - SignedDuration::from_hours(hours));
    let in_1970 = |days: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * days);
    for (last_trusted, suspect_seconds, wall, is_believed) in [
        (None, None, contract::CONTRACT_DATE, true),
        (None, None, contract::CONTRACT_DATE - SignedDuration::from_hours(1), false),
        (Some(in_1970(1)), None, in_1970(2), false),
        (hours_ago(-1), None, noon(), true),
        (hours_ago(-2), None, noon(), false),
        // The machine was off for as long as the clock says.
        (hours_ago(24 * 30), None, noon(), true),
        (hours_ago(24), Some(600), noon(), true),
        (hours_ago(25), Some(600), noon(), false),
        // Nobody had set it before.
        (Some(in_1970(1)), Some(600), noon(), true),
    ] {
        let state = State { last_trusted, suspect_seconds, ..State::default() };
        let mut world = World::with(Sources::default(), state, None, wall);
        world.run_for(5 * MINUTE);
        assert_eq!(world.sent.len() == 1, is_believed, "{last_trusted:?}, {suspect_seconds:?}: {wall}");
    }
}

#[test]
fn a_clock_that_leaps_a_week_ahead_sends_no_ping_before_its_time_and_makes_no_new_id() {
    let mut world = World::new();
    world.run_for(HOUR);
    world.step_clock(7 * 24 * 3600);
    world.run_for(DAY * 3);
    for pair in world.sent.windows(2) {
        assert!(pair[1].at.mono - pair[0].at.mono >= DAY - HOUR / 2);
    }
    assert_eq!(world.ledger.iter().filter(|(_, entry)| entry.kind == EntryKind::ClockStepped).count(), 1);
    assert_eq!(world.sent.iter().map(Sent::id).collect::<BTreeSet<_>>().len(), 1);
}

#[test]
fn a_clock_ten_years_ahead_and_back_again_costs_a_day_of_silence_at_most_and_no_new_id() {
    let ten_years = 3652 * 24 * 3600;
    let mut world = World::new();
    world.run_for(HOUR);
    world.step_clock(ten_years);
    world.run_for(20 * HOUR);
    world.step_clock(-ten_years);
    world.run_for(DAY * 2);
    assert_eq!(world.sent.iter().map(Sent::id).collect::<BTreeSet<_>>().len(), 1);
    assert!(world.sent.len() >= 3, "{} pings in three days", world.sent.len());
}

#[test]
fn a_clock_that_starts_in_1970_sends_nothing_and_rotates_nothing_until_it_is_set() {
    let mut before = World::new();
    before.run_for(DAY * 2);
    let id = before.identity.clone();
    let mut world = World::with(
        Sources::default(),
        before.state.clone(),
        id.clone(),
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(9),
    );
    world.run_for(6 * HOUR);
    assert_eq!((world.sent.len(), world.suppressed()), (0, Some("clock_implausible")));
    assert_eq!(world.identity, id, "no new installation");
    world.now.wall = before.now.wall + SignedDuration::from_hours(7);
    world.run_for(2 * HOUR);
    assert!(!world.sent.is_empty(), "as soon as the clock is set");
    assert_eq!(world.identity, id);
}

#[test]
fn boots_without_a_clock_send_no_heartbeat_before_its_time() {
    let mut world = World::new();
    world.run_for(HOUR);
    for _ in 0..20 {
        let truth = world.now.wall;
        world.now.wall = Timestamp::UNIX_EPOCH;
        world.crash_and_start();
        world.run_for(Duration::from_secs(30));
        world.now.wall = truth + SignedDuration::from_secs(30);
        world.run_for(3 * HOUR);
    }
    let heartbeats: Vec<_> = world.sent.iter().filter(|sent| sent.event() == "heartbeat").collect();
    assert!(heartbeats.windows(2).all(|pair| pair[1].at.mono - pair[0].at.mono >= DAY - HOUR / 2));
    assert!((2..=3).contains(&heartbeats.len()), "{} heartbeats in 60 hours", heartbeats.len());
    assert!(world.events().iter().filter(|event| *event == "startup").count() > 10, "startups go on");
    assert_eq!(world.sent.iter().map(Sent::id).collect::<BTreeSet<_>>().len(), 1);
}

#[test]
fn a_machine_that_is_restarted_every_day_is_silent_for_a_day_and_a_new_ids_pause_after_its_clock_was_ten_years_ahead() {
    let mut world = World::new();
    world.run_for(2 * HOUR);
    let ten_years = 10 * 365 * 24 * 3600;
    world.step_clock(ten_years);
    world.run_for(2 * DAY);
    world.step_clock(-ten_years);
    let sent = world.sent.len();
    // The ID that was made ten years ahead is replaced.
    for _ in 0..5 {
        world.crash_and_start();
        world.run_for(14 * HOUR);
    }
    assert!(world.sent.len() > sent, "70 hours of silence");
}

#[test]
fn a_clock_that_is_doubted_is_doubted_after_a_restart_as_well() {
    let mut world = World::new();
    world.run_for(2 * HOUR);
    let (id, sent) = (world.identity.clone(), world.sent.len());
    world.step_clock(10 * 365 * 24 * 3600);
    world.run_for(HOUR);
    world.crash_and_start();
    world.run_for(20 * HOUR);
    assert_eq!((world.sent.len(), world.suppressed()), (sent, Some("clock_implausible")));
    world.step_clock(-10 * 365 * 24 * 3600);
    world.run_for(8 * HOUR);
    assert!(world.sent.len() > sent);
    assert_eq!(world.identity, id, "no new installation");
}

#[test]
fn a_clock_step_costs_no_second_startup_within_the_hour() {
    let mut world = World::new();
    world.run_for(5 * MINUTE);
    world.step_clock(15 * 3600);
    world.feed(Input::Tick);
    world.crash_and_start();
    world.run_for(HOUR / 2);
    assert_eq!(world.events(), ["startup"]);
}

#[test]
fn a_clock_that_steps_while_pulse_is_read_sends_nothing_and_rotates_nothing() {
    let mut world = World::new();
    world.run_for(HOUR);
    let id = world.identity.clone();
    world.holds_readings = true;
    world.run_for(DAY);
    let reading = world.held.take().expect("the heartbeat is due");
    world.step_clock(40 * 24 * 3600);
    world.feed(reading);
    assert_eq!((world.sent.len(), world.suppressed()), (1, Some("clock_implausible")));
    assert_eq!(world.identity, id);
}

#[test]
fn a_clock_that_is_never_set_is_believed_after_a_day() {
    let mut world = World::with(Sources::default(), State::default(), None, Timestamp::UNIX_EPOCH);
    world.run_for(DAY - MINUTE);
    assert_eq!(world.sent.len(), 0);
    world.run_for(2 * HOUR);
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn a_reset_in_1970_sends_no_heartbeat_before_its_time_when_the_clock_is_set() {
    let mut world = World::new();
    world.run_for(DAY - HOUR);
    world.answer_otherwise = Some(status(503));
    world.run_for(3 * HOUR);
    let last = world.sent.last().unwrap().clone();
    assert_eq!(last.event(), "heartbeat");
    world.answer_otherwise = Some(status(204));
    let truth = world.now.wall;
    world.now.wall = Timestamp::UNIX_EPOCH;
    world.crash_and_start();
    world.feed(Input::Reset);
    assert_eq!((world.state.pending.clone(), world.state.last.as_ref().unwrap().outcome), (None, Outcome::Dropped));
    world.crash_and_start();
    world.now.wall = truth;
    world.run_for(DAY * 2);
    let heartbeat = world.sent.iter().find(|sent| sent.event() == "heartbeat" && sent.id() != last.id()).unwrap();
    assert!(heartbeat.at.mono - last.at.mono >= DAY / 2);
}
