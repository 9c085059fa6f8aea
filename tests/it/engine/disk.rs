//! What is on the disk, what the ledger is told, and a disk that fails.

use std::collections::VecDeque;

use jiff::SignedDuration;
use pulse_telemetry_core::clock::Now;
use pulse_telemetry_core::consent::{OffSource, Sources};
use pulse_telemetry_core::engine::{Action, DiskAction, Engine, EntryKind, Input, Start};
use pulse_telemetry_core::ping::{self, Event};
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_testkit::seeded::Seeded;

use super::{DAY, HOUR, MINUTE, SCHEDULE, World, answered, noon, status};

#[test]
fn once_a_day_what_is_older_than_90_days_is_pruned_a_day_of_it_at_most_and_none_while_the_clock_is_doubted() {
    let mut world = World::new();
    world.run_for(DAY * 3 - MINUTE);
    assert_eq!(world.prunings.len(), 3);
    for (number, (at, before, at_most)) in (0_u32..).zip(&world.prunings) {
        assert_eq!(at.wall, noon() + SignedDuration::from_hours(24 * i64::from(number)));
        assert_eq!((at.wall.duration_since(*before), *at_most), (SignedDuration::from_hours(24 * 90), DAY));
    }
    world.step_clock(10 * 365 * 24 * 3600);
    world.run_for(DAY - HOUR);
    assert_eq!(world.prunings.len(), 3);
}

#[test]
fn what_a_crash_or_damage_took_is_told_with_the_ping_it_happened_to() {
    let start = Start { interrupted: Some(Event::Heartbeat), ..Start::default() };
    let now = Now { wall: noon(), mono: HOUR };
    let (engine, actions) = Engine::start(SCHEDULE, start, Seeded(7), now);
    let told = actions.iter().find_map(|action| match action {
        Action::Disk(DiskAction::Record(entry)) if entry.kind == EntryKind::Failed => {
            Some((entry.event, entry.reason.map(LedgerReason::word)))
        }
        _ => None,
    });
    assert_eq!(told, Some((Some(Event::Heartbeat), Some("interrupted"))));
    assert_eq!(engine.sources(), Sources::default());
}

#[test]
fn what_an_answer_said_is_in_the_ledger() {
    let mut world = World::new();
    world.answers = VecDeque::from([Some(status(503)), Some(status(400)), Some(status(202))]);
    world.run_for(DAY * 2);
    let answers: Vec<_> = world.ledger.iter().filter_map(|(_, entry)| entry.status).collect();
    assert_eq!(answers[..3], [503, 400, 202]);
}

#[test]
fn a_disk_that_fails_during_a_send_does_not_make_its_answer_void() {
    let mut world = World::new();
    world.answers.push_back(None);
    world.run_for(5 * MINUTE);
    world.feed(Input::StorageFailed { send_left_out: false, forget_left_out: false });
    world.feed(answered(status(204)));
    assert_eq!(world.ledger.iter().filter(|(_, entry)| entry.kind == EntryKind::Sent).count(), 1);
}

#[test]
fn an_attempt_that_was_left_out_is_told_with_its_ping() {
    let mut world = World::new();
    world.answers.push_back(None);
    world.run_for(5 * MINUTE);
    let actions = world.engine.handle(world.now, Input::StorageFailed { send_left_out: true, forget_left_out: false });
    let told = actions.into_iter().find_map(|action| match action {
        Action::Disk(DiskAction::Record(entry)) if entry.kind == EntryKind::Failed => {
            Some((entry.event, entry.reason.map(LedgerReason::word)))
        }
        _ => None,
    });
    assert_eq!(told, Some((Some(Event::Startup), Some("storage"))));
}

#[test]
fn a_disk_that_works_again_is_no_longer_told_as_broken_although_nothing_is_due() {
    let mut world = World::new();
    world.run_for(HOUR);
    world.disk_works = false;
    world.feed(Input::Reset);
    assert_eq!(world.suppressed(), Some("storage"));
    world.disk_works = true;
    let reads = world.reads;
    world.run_for(HOUR);
    assert_eq!((world.suppressed(), world.reads), (None, reads));
}

#[test]
fn a_restart_prunes_no_second_time_on_the_same_day() {
    let mut world = World::new();
    for _ in 0..5 {
        world.run_for(4 * HOUR);
        world.crash_and_start();
    }
    assert_eq!(world.prunings.len(), 1);
}

#[test]
fn what_could_not_be_written_is_written_before_the_next_attempt() {
    let mut world = World::new();
    world.holds_readings = true;
    world.run_for(10 * MINUTE);
    let reading = world.held.take().expect("the startup is due");
    world.disk_works = false;
    world.feed(reading);
    assert!(world.sent.is_empty() && world.identity.is_none());
    // The next reading is asked for while the disk is full, and comes when it is not.
    world.run_for(HOUR);
    let reading = world.held.take().expect("asked for again");
    world.disk_works = true;
    world.holds_readings = false;
    world.feed(reading);
    assert!(world.sent.is_empty(), "the ID is not on the disk yet");
    world.run_for(HOUR);
    assert_eq!(world.sent.len(), 1, "with an ID that is on the disk: `attempt` looks");
}

#[test]
fn what_a_damaged_state_holds_is_not_sent() {
    let mut world = World::new();
    world.answer_otherwise = Some(status(503));
    world.run_for(3 * MINUTE);
    let sound = world.state.clone();
    let pending = sound.pending.clone().unwrap();
    let other_event = pending.body.replace("startup", "heartbeat");
    let other_id = pending.body.replace(&pending.install_id, "81f9c1f6-6c0f-4459-b79b-17aeefba91fc");
    let another_key = pending.body.replace("{", "{\"hostname\":\"pve-secret\",");
    // Nothing may be hidden where a reader of JSON passes over it.
    let free_text = pending.body.replacen("{", "{\"vms\":\"hostname pve01, token full\",", 1);
    let twice = pending.body.replacen("{", "{\"pve_nodes\":3,", 1);
    let two_documents = format!("{0}{0}", pending.body);
    let other_order = pending.body.replace("\"vms\":1,\"containers\":12", "\"containers\":12,\"vms\":1");
    let spaced = pending.body.replace("\"vms\":", "\"vms\": ");
    let newline = format!("{}\n", pending.body);
    let fraction = pending.body.replace("\"pve_nodes\":3", "\"pve_nodes\":3.0");
    let exponent = pending.body.replace("\"pve_nodes\":3", "\"pve_nodes\":3e0");
    let escaped = pending.body.replace("startup", "st\\u0061rtup");
    let escaped_key = pending.body.replace("\"vms\"", "\"v\\u006ds\"");
    let misspelled =
        [free_text, twice, two_documents, other_order, spaced, newline, fraction, exponent, escaped, escaped_key];
    for body in &misspelled {
        // The audit asks the same function.
        assert!(body != &pending.body && ping::decode(body).is_err(), "{body}");
    }
    let others = [other_event, other_id, another_key, "{}".to_owned(), "[".to_owned(), String::new()];
    for body in misspelled.into_iter().chain(others) {
        let mut state = sound.clone();
        state.pending.as_mut().unwrap().body = body.clone();
        let mut world = World::with(Sources::default(), state, world.identity.clone(), world.now.wall);
        world.run_for(HOUR * 2);
        assert_eq!(world.reasons(EntryKind::Failed), ["damaged"]);
        assert!(world.sent.iter().all(|sent| sent.body != body), "{body}");
    }
}

#[test]
fn a_disk_that_cannot_be_written_sends_nothing_and_recovers_without_a_restart() {
    let mut world = World::new();
    world.disk_works = false;
    world.run_for(DAY);
    assert_eq!((world.sent.len(), world.suppressed()), (0, Some("storage")));
    assert!(world.engine.status(world.now).unsaved);
    world.disk_works = true;
    world.run_for(2 * HOUR);
    assert_eq!(world.suppressed(), None);
    assert!(!world.engine.status(world.now).unsaved);
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn off_holds_in_memory_where_it_cannot_be_written_and_is_written_as_soon_as_it_can() {
    let mut world = World::new();
    world.run_for(HOUR);
    world.disk_works = false;
    world.feed(Input::Switch { off: true });
    assert_eq!(world.engine.status(world.now).off, Some(OffSource::Switch));
    assert!(world.identity.is_some() && !world.sources.switched_off, "the disk still says on");
    world.disk_works = true;
    world.run_for(2 * HOUR);
    assert!(world.identity.is_none() && world.sources.switched_off, "now it says off");
    assert_eq!(world.sent.len(), 1);
}
