//! When pings are sent, retried and given up.

use std::time::Duration;

use jiff::SignedDuration;
use pulse_telemetry_core::consent::Sources;
use pulse_telemetry_core::engine::{Action, DiskAction, EntryKind, Input, State};
use pulse_telemetry_core::observation::{ReadError, Reason};
use pulse_telemetry_core::ping::Event;
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_core::verdict::Answer;
use pulse_telemetry_testkit::readings::{change, handed_over, unknown};

use super::{DAY, HOUR, MINUTE, World, noon, some_id, status};

fn no_connection() -> Answer {
    Answer::NoConnection("connection refused".to_owned())
}

#[test]
fn a_ping_goes_two_minutes_after_the_start_and_then_one_every_24_hours() {
    let mut world = World::new();
    let start = world.now.mono;
    world.run_for(DAY * 60);
    assert_eq!(world.events()[..2], ["startup", "heartbeat"]);
    assert_eq!(world.sent[0].at.mono - start, 2 * MINUTE);
    assert!(world.events()[1..].iter().all(|event| event == "heartbeat"));
    for pair in world.sent.windows(2).filter(|pair| pair[0].id() == pair[1].id()) {
        let apart = pair[1].at.mono - pair[0].at.mono;
        assert!(apart >= DAY - HOUR / 2 && apart <= DAY + HOUR / 2, "{apart:?} apart");
    }
    // Each of the two rotations takes half a day to one and a half.
    assert!((56..=61).contains(&world.sent.len()), "{} pings in 60 days", world.sent.len());
}

#[test]
fn an_outage_of_a_month_ends_with_one_ping_not_a_backlog_and_its_id_is_valid() {
    let mut world = World::new();
    world.run_for(HOUR);
    world.answer_otherwise = Some(no_connection());
    world.run_for(DAY * 31);
    let failed = world.sent.len();
    world.answer_otherwise = Some(status(204));
    world.run_for(DAY * 2);
    let after: Vec<_> = world.accepted.iter().filter(|at| **at >= failed).collect();
    assert!((1..=2).contains(&after.len()), "{} pings in the two days after the outage", after.len());
    // That the ID was valid is checked at every attempt.
}

#[test]
fn pulse_away_for_a_month_costs_one_ping_at_its_end() {
    let mut world = World::new();
    world.run_for(HOUR);
    world.pulse = Err(ReadError::Unreachable("connection refused".to_owned()));
    world.run_for(DAY * 31);
    assert_eq!(world.sent.len(), 1);
    assert_eq!(world.suppressed(), Some("pulse_unreachable"));
    assert_eq!(world.reasons(EntryKind::Suppressed), ["pulse_unreachable"], "one entry, not one for each look");
    world.pulse = Ok(handed_over());
    world.run_for(2 * HOUR);
    assert_eq!(world.sent.len(), 2);
    assert_eq!(world.suppressed(), None);
}

#[test]
fn a_host_that_restarts_daily_still_sends_its_heartbeats() {
    let mut world = World::new();
    for _ in 0..30 {
        world.run_for(DAY - HOUR);
        world.pass(HOUR);
        world.crash_and_start();
    }
    let heartbeats = world.events().iter().filter(|event| *event == "heartbeat").count();
    assert!((27..=31).contains(&heartbeats), "{heartbeats} heartbeats in 30 days");
}

#[test]
fn a_crash_loop_sends_one_startup_an_hour_at_most() {
    let mut world = World::new();
    for _ in 0..600 {
        world.run_for(3 * MINUTE);
        world.crash_and_start();
    }
    let startups: Vec<_> = world.sent.iter().filter(|sent| sent.event() == "startup").map(|s| s.at.mono).collect();
    assert!(startups.windows(2).all(|pair| pair[1] - pair[0] >= HOUR));
    assert!((20..=31).contains(&startups.len()), "{} startups in 30 hours", startups.len());
}

#[test]
fn a_crash_loop_cannot_hammer_an_endpoint_that_fails() {
    let mut world = World::new();
    world.answer_otherwise = Some(status(500));
    for _ in 0..(24 * 20) {
        world.run_for(3 * MINUTE);
        world.crash_and_start();
    }
    assert!(world.sent.len() < 100, "{} attempts in a day of crashes", world.sent.len());
}

#[test]
fn a_pending_ping_found_at_a_start_stands_in_for_the_startup_and_is_the_same_bytes() {
    let mut world = World::new();
    world.answers.push_back(Some(status(503)));
    world.run_for(2 * MINUTE + Duration::from_secs(1));
    assert_eq!(world.sent.len(), 1);
    world.crash_and_start();
    // A count that changed in between does not change the bytes.
    change(world.pulse.as_mut().unwrap(), |values| values.vms = Ok(26));
    world.run_for(HOUR);
    assert_eq!(world.sent.len(), 2);
    assert_eq!(world.sent[0].body, world.sent[1].body);
}

#[test]
fn an_overdue_heartbeat_waits_an_hour_after_the_startup() {
    let state = State { heartbeat_due: Some(noon() - SignedDuration::from_hours(48)), ..State::default() };
    let mut world = World::with(Sources::default(), state, Some(some_id()), noon());
    world.run_for(3 * HOUR);
    assert_eq!(world.events(), ["startup", "heartbeat"]);
    assert!(world.sent[1].at.mono - world.sent[0].at.mono >= HOUR);
}

#[test]
fn a_due_time_in_the_far_future_does_not_silence_for_years() {
    let state = State { heartbeat_due: Some(noon() + SignedDuration::from_hours(24 * 3650)), ..State::default() };
    let mut world = World::with(Sources::default(), state, Some(some_id()), noon());
    world.run_for(3 * HOUR);
    assert_eq!(world.events(), ["startup", "heartbeat"]);
}

#[test]
fn a_due_time_as_far_away_as_any_is_set_is_kept() {
    let due = noon() + SignedDuration::from_hours(36);
    let state = State { heartbeat_due: Some(due), ..State::default() };
    let mut world = World::with(Sources::default(), state, Some(some_id()), noon());
    world.run_for(DAY + DAY / 2);
    assert_eq!(world.events(), ["startup"]);
    world.run_for(MINUTE);
    assert_eq!(world.events(), ["startup", "heartbeat"]);
}

#[test]
fn what_the_endpoint_asked_for_holds_after_a_restart_as_well() {
    let mut world = World::new();
    world.answers.push_back(Some(Answer::Status { code: 503, retry_after: Some("18000".to_owned()) }));
    world.run_for(5 * MINUTE);
    let asked = world.sent[0].at;
    let not_before = world.state.not_before.unwrap().duration_since(asked.wall);
    assert!((SignedDuration::from_hours(5)..=SignedDuration::from_mins(330)).contains(&not_before), "{not_before:?}");
    world.crash_and_start();
    world.run_for(DAY);
    assert!(world.sent[1].at.mono - asked.mono >= 5 * HOUR);
}

#[test]
fn what_pulse_asked_for_is_honoured() {
    let mut world = World::new();
    if let Ok(reading) = &mut world.pulse {
        change(reading, |values| values.vms = Err(unknown("vms", Reason::RateLimited)));
        reading.retry_after = Some(5 * HOUR);
    }
    world.run_for(5 * HOUR);
    assert_eq!(world.reads, 1);
    world.run_for(HOUR);
    assert_eq!(world.reads, 2);
}

#[test]
fn the_bytes_retried_are_the_bytes_built() {
    let mut world = World::new();
    for answer in [
        status(408),
        status(425),
        status(429),
        status(500),
        status(503),
        no_connection(),
        Answer::CutShort,
        Answer::TimedOut,
    ] {
        world.answers.push_back(Some(answer));
    }
    world.run_for(12 * HOUR);
    assert_eq!(world.sent.len(), 9);
    assert!(world.sent.iter().all(|sent| sent.body == world.sent[0].body));
    assert_eq!(
        world.reasons(EntryKind::Failed),
        [
            "asked_to_retry",
            "asked_to_retry",
            "rate_limited",
            "server_error",
            "server_error",
            "no_connection",
            "cut_short",
            "timed_out"
        ]
    );
}

#[test]
fn retry_after_is_honoured_up_to_a_day_and_for_the_next_ping_too() {
    let mut world = World::new();
    world.answers.push_back(Some(Answer::Status { code: 503, retry_after: Some("7200".to_owned()) }));
    world.run_for(DAY / 2);
    assert!(world.sent[1].at.mono - world.sent[0].at.mono >= 2 * HOUR);

    let mut world = World::new();
    world.answers.push_back(Some(Answer::Status { code: 429, retry_after: Some("99999999999999999999".to_owned()) }));
    world.run_for(HOUR);
    world.crash_and_start();
    world.run_for(DAY * 2);
    let apart = world.sent[1].at.mono - world.sent[0].at.mono;
    assert!((DAY..DAY + DAY / 10 + HOUR).contains(&apart), "{apart:?}, over a restart");
}

#[test]
fn a_ping_that_is_refused_or_redirected_is_dropped_and_the_next_goes_in_its_time() {
    for (code, reason) in
        [(400, "refused"), (404, "refused"), (301, "redirected"), (307, "redirected"), (308, "redirected")]
    {
        let mut world = World::new();
        world.answers.push_back(Some(status(code)));
        world.run_for(DAY - HOUR);
        assert_eq!(world.sent.len(), 1, "{code}");
        assert_eq!(world.reasons(EntryKind::Failed), [reason]);
        world.run_for(2 * HOUR);
        assert_eq!(world.events(), ["startup", "heartbeat"]);
    }
}

#[test]
fn a_ping_is_given_up_an_interval_after_it_was_built_and_a_startup_is_replaced_by_one_heartbeat() {
    let mut world = World::new();
    world.answer_otherwise = Some(status(500));
    world.run_for(DAY - MINUTE);
    assert!(world.events().iter().all(|event| event == "startup"));
    world.run_for(2 * HOUR);
    assert_eq!(world.reasons(EntryKind::Failed).iter().filter(|r| **r == "gave_up").count(), 1);
    assert!(world.events().last().is_some_and(|event| event == "heartbeat"));
}

#[test]
fn a_suspend_of_a_week_costs_one_ping_not_seven() {
    let mut world = World::new();
    world.run_for(DAY);
    let before = world.sent.len();
    // The monotonic clock goes on during a suspend; only the process does not run.
    world.pass(DAY * 7);
    world.feed(Input::Tick);
    world.run_for(HOUR);
    assert_eq!(world.sent.len(), before + 1);
}

#[test]
fn a_ping_whose_time_passes_while_pulse_is_read_is_given_up() {
    let mut world = World::new();
    world.answer_otherwise = Some(status(503));
    world.run_for(DAY - 2 * HOUR);
    world.holds_readings = true;
    world.run_for(2 * HOUR);
    let reading = world.held.take().expect("a retry is due");
    let sent = world.sent.len();
    world.pass(DAY);
    world.holds_readings = false;
    world.feed(reading);
    assert!(world.reasons(EntryKind::Failed).contains(&"gave_up"));
    assert!(world.sent[sent..].iter().all(|late| late.body != world.sent[0].body));
}

/// A Pulse that asks to be left alone lets a reading wait.
#[test]
fn whatever_has_its_time_has_it_while_pulse_is_being_read_too() {
    let reading = |prepare: &dyn Fn(&mut World)| {
        let mut world = World::new();
        prepare(&mut world);
        world.holds_readings = true;
        world.run_for(2 * DAY);
        assert!(world.held.is_some(), "the engine waits for a reading");
        world
    };
    let pending = |world: &mut World| {
        world.answer_otherwise = Some(status(503));
        world.run_for(3 * HOUR);
    };
    let mut world = reading(&pending);
    assert_eq!(world.reasons(EntryKind::Failed).last(), Some(&"gave_up"), "a ping is given up");
    assert_eq!(world.prunings.len(), 3, "the history is pruned");
    let sent = world.sent.len();
    world.disk_works = false;
    world.feed(Input::Switch { off: true });
    assert!(!world.sources.switched_off);
    world.disk_works = true;
    world.run_for(2 * HOUR);
    assert!(world.sources.switched_off && world.identity.is_none(), "an off is written as soon as it can be");
    assert_eq!(world.sent.len(), sent);

    let old_id = |world: &mut World| {
        pending(world);
        let age = SignedDuration::from_hours(24 * 29 + 12);
        world.identity.as_mut().unwrap().issued_at = world.now.wall - age;
        world.state.schedule_of = None;
        world.crash_and_start();
    };
    let world = reading(&old_id);
    assert_eq!(world.reasons(EntryKind::Failed).last(), Some(&"id_expired"), "an ID expires, and its retry with it");
    assert_eq!(world.reasons(EntryKind::IdRotated), ["none", "expired"]);
}

#[test]
fn stopping_closes_the_attempt_under_way() {
    let mut world = World::new();
    world.answers.push_back(None);
    world.run_for(5 * MINUTE);
    let actions = world.engine.handle(world.now, Input::Stop);
    assert_eq!(actions[0], Action::CancelSend);
    let recorded: Vec<_> = actions
        .iter()
        .filter_map(|a| {
            if let Action::Disk(DiskAction::Record(entry)) = a {
                Some((entry.kind, entry.event, entry.reason.map(LedgerReason::word)))
            } else {
                None
            }
        })
        .collect();
    let closed = (EntryKind::Failed, Some(Event::Startup), Some("stopped"));
    assert_eq!(recorded, [closed, (EntryKind::Stopped, None, None)]);
}
