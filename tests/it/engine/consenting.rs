//! Off by every source, and what else keeps a ping back.

use pulse_telemetry_core::consent::{Fixed, OffSource, Sources};
use pulse_telemetry_core::credential::Credential;
use pulse_telemetry_core::engine::{Action, DiskAction, EntryKind, Input, Outcome, State, Suppression};
use pulse_telemetry_core::observation::{OwnSender, ReadError, Reading, Reason, Scope};
use pulse_telemetry_testkit::readings::{change, handed_over, unknown};

use super::{DAY, HOUR, MINUTE, World, answered, noon, status};

#[test]
fn off_by_any_source_sends_nothing_in_400_virtual_days_and_leaves_no_id_file() {
    let fixed = |pulse_telemetry, do_not_track, enabled| Sources {
        fixed: Fixed::new(pulse_telemetry, do_not_track, enabled),
        ..Sources::default()
    };
    let off_sources = [
        (fixed(Some("false"), None, true), OffSource::PulseTelemetry),
        (fixed(Some("off"), None, true), OffSource::PulseTelemetry),
        (fixed(Some("nonsense"), None, true), OffSource::PulseTelemetry),
        (fixed(None, Some("1"), true), OffSource::DoNotTrack),
        (fixed(None, None, false), OffSource::Config),
        (Sources { switched_off: true, ..Sources::default() }, OffSource::Switch),
        (fixed(Some("true"), Some("yes"), true), OffSource::DoNotTrack),
    ];
    for (sources, source) in off_sources {
        // What an earlier process left: a pending ping, a heartbeat due, an ID.
        let mut before = World::new();
        before.answer_otherwise = Some(status(503));
        before.run_for(HOUR);
        assert!(before.state.pending.is_some() && before.identity.is_some());

        let mut world = World::with(sources, before.state, before.identity, before.now.wall);
        assert!(world.identity.is_none() && world.state.pending.is_none(), "deleted before anything else runs");
        assert_eq!(world.engine.status(world.now).off, Some(source));
        world.run_for(DAY * 400);
        assert_eq!((world.sent.len(), world.reads), (0, 0), "{source}");
        assert!(world.identity.is_none(), "{source}");
        assert!(!world.engine.preview_id(world.now).as_str().is_empty(), "the preview has a candidate all the same");
    }
}

#[test]
fn off_by_pulses_own_setting_sends_nothing_and_leaves_no_id_file() {
    let mut world = World::new();
    world.run_for(HOUR);
    let before = world.sent.len();
    world.pulse.as_mut().unwrap().gate.own_sender = Ok(OwnSender::OffBySetting);
    world.run_for(DAY * 400);
    assert_eq!(world.sent.len(), before);
    assert!(world.identity.is_none());
    assert_eq!(world.engine.status(world.now).off, Some(OffSource::Pulse));
    assert_eq!(world.reasons(EntryKind::ConsentChanged), ["pulse"]);

    world.pulse.as_mut().unwrap().gate.own_sender = Ok(OwnSender::OffByEnvironment);
    world.run_for(DAY * 2);
    assert!(world.sent.len() > before, "on again in Pulse is on again here");
}

#[test]
fn switching_off_deletes_the_id_and_the_pending_ping_and_on_again_makes_a_new_id() {
    let mut world = World::new();
    world.answers.push_back(Some(status(503)));
    world.run_for(5 * MINUTE);
    let old = world.sent[0].id();
    world.feed(Input::Switch { off: true });
    assert!(world.identity.is_none() && world.state.pending.is_none() && world.sources.switched_off);
    let sent = world.sent.len();
    world.run_for(DAY * 3);
    assert_eq!(world.sent.len(), sent);
    world.feed(Input::Switch { off: false });
    world.run_for(DAY * 2);
    assert!(world.sent.len() > sent);
    assert!(world.sent[sent..].iter().all(|sent| sent.id() != old));
    assert_eq!(world.reasons(EntryKind::ConsentChanged), ["switch", "on"]);
}

/// A crash, or a disk that fails, between any two of the actions leaves it off.
#[test]
fn off_is_the_first_that_is_written_and_on_the_last() {
    let mut world = World::new();
    world.run_for(HOUR);
    let switches = |actions: &[Action]| {
        let written: Vec<&Action> = actions.iter().filter(|action| matches!(action, Action::Disk(_))).collect();
        let is_switch = |action: Option<&&Action>| matches!(action, Some(Action::Disk(DiskAction::SaveSwitch { .. })));
        (is_switch(written.first()), is_switch(written.last()), written.len() > 1)
    };
    let off = world.engine.handle(world.now, Input::Switch { off: true });
    assert_eq!(switches(&off), (true, false, true), "{off:?}");
    let on = world.engine.handle(world.now, Input::Switch { off: false });
    assert_eq!(switches(&on), (false, true, true), "{on:?}");
}

#[test]
fn an_answer_that_comes_after_switching_off_changes_nothing() {
    let mut world = World::new();
    world.answers.push_back(None);
    world.run_for(5 * MINUTE);
    world.feed(Input::Switch { off: true });
    let (state, entries) = (world.state.clone(), world.ledger.len());
    world.feed(answered(status(204)));
    assert_eq!((world.state.clone(), world.ledger.len()), (state, entries));
}

#[test]
fn pulses_own_setting_is_read_again_before_every_attempt_retries_included() {
    let mut world = World::new();
    world.answer_otherwise = Some(status(503));
    world.run_for(12 * HOUR);
    assert!(world.sent.len() > 5);
    assert!(world.reads >= world.sent.len(), "{} reads for {} attempts", world.reads, world.sent.len());
    let sent = world.sent.len();
    world.pulse.as_mut().unwrap().gate.own_sender = Ok(OwnSender::OffBySetting);
    world.run_for(12 * HOUR);
    assert_eq!(world.sent.len(), sent, "the retry was held back");
}

#[test]
fn whatever_suppresses_is_named_recorded_once_and_looked_at_again_within_the_hour() {
    let scope = Reason::MissingScope(Scope::new("settings:read"));
    let with = |change: &dyn Fn(&mut Reading)| {
        let mut reading = handed_over();
        change(&mut reading);
        Ok(reading)
    };
    let cases: Vec<(Result<Reading, ReadError>, &str)> = vec![
        (Err(ReadError::Unreachable("connection refused".to_owned())), "pulse_unreachable"),
        (Err(ReadError::Unauthorized(Credential::default())), "pulse_unauthorized"),
        (with(&|r| change(r, |values| values.ai_enabled = Err(unknown("ai_enabled", scope.clone())))), "missing_scope"),
        (with(&|r| r.gate.own_sender = Err(unknown("own_sender", scope.clone()))), "missing_scope"),
        (with(&|r| r.gate.mock_mode = Ok(true)), "mock_mode"),
        (with(&|r| r.gate.demo_mode = Ok(true)), "demo_mode"),
        (with(&|r| r.gate.starting = Ok(true)), "pulse_starting"),
        (with(&|r| r.gate.own_sender = Ok(OwnSender::On)), "pulse_reports_itself"),
        (with(&|r| change(r, |values| values.vms = Err(unknown("vms", Reason::Status(500))))), "incomplete"),
        (with(&|r| r.gate.own_sender = Err(unknown("own_sender", Reason::TimedOut))), "incomplete"),
        (with(&|r| r.gate.mock_mode = Err(unknown("mock_mode", Reason::NotJson))), "incomplete"),
    ];
    for (pulse, word) in cases {
        let mut world = World::new();
        world.pulse = pulse;
        world.run_for(DAY);
        assert_eq!((world.suppressed(), world.sent.len()), (Some(word), 0));
        assert_eq!(world.reasons(EntryKind::Suppressed), [word]);
        assert!((24..200).contains(&world.reads), "{word}: {} looks in a day", world.reads);
        world.pulse = Ok(handed_over());
        world.run_for(HOUR + MINUTE);
        assert_eq!((world.suppressed(), world.sent.len()), (None, 1), "{word}");
    }
}

#[test]
fn pulse_telemetry_true_insists_although_pulse_reports_itself_and_says_so() {
    let sources = Sources { fixed: Fixed::new(Some(" YES "), None, true), ..Sources::default() };
    let mut world = World::with(sources, State::default(), None, noon());
    world.pulse.as_mut().unwrap().gate.own_sender = Ok(OwnSender::On);
    world.run_for(HOUR);
    assert_eq!(world.sent.len(), 1);
    assert!(world.engine.status(world.now).counted_twice);
    world.feed(Input::Switch { off: true });
    assert!(!world.engine.status(world.now).counted_twice && world.engine.sources().switched_off);

    for (fixed, own_sender) in [
        (Fixed::default(), OwnSender::OffByEnvironment),
        (Fixed::default(), OwnSender::On),
        (Fixed::new(Some("yes"), None, true), OwnSender::OffByEnvironment),
    ] {
        let mut world = World::with(Sources { fixed, ..Sources::default() }, State::default(), None, noon());
        world.pulse.as_mut().unwrap().gate.own_sender = Ok(own_sender);
        world.run_for(HOUR);
        assert!(!world.engine.status(world.now).counted_twice);
    }
}

#[test]
fn an_opt_out_while_pulse_is_read_holds_back_the_ping() {
    for off in [Input::Switch { off: true }, Input::OwnSender(OwnSender::OffBySetting)] {
        let mut world = World::new();
        world.holds_readings = true;
        world.run_for(HOUR);
        let mut reading = world.held.take().expect("the startup is due");
        if let (Input::OwnSender(own_sender), Input::Reading(reading)) = (&off, &mut reading) {
            reading.as_mut().as_mut().unwrap().gate.own_sender = Ok(*own_sender);
        }
        world.feed(off);
        world.feed(reading);
        assert_eq!((world.sent.len(), &world.identity), (0, &None));
    }
}

#[test]
fn whoever_sees_that_pulse_was_opted_out_the_id_goes_at_once() {
    let mut world = World::new();
    world.run_for(HOUR);
    assert!(world.identity.is_some());
    world.feed(Input::OwnSender(OwnSender::OffBySetting));
    assert_eq!((world.engine.status(world.now).off, &world.identity), (Some(OffSource::Pulse), &None));
}

#[test]
fn everything_has_the_word_that_the_design_gives_it() {
    use EntryKind::*;
    let kinds = [
        (Started, "started"),
        (Attempted, "attempted"),
        (Sent, "sent"),
        (Failed, "failed"),
        (Suppressed, "suppressed"),
        (IdRotated, "id_rotated"),
        (IdReset, "id_reset"),
        (ConsentChanged, "consent_changed"),
        (ClockStepped, "clock_stepped"),
        (Erased, "erased"),
        (Pruned, "pruned"),
        (Stopped, "stopped"),
    ];
    for (kind, word) in kinds {
        assert_eq!((kind.word(), serde_json::to_value(kind).unwrap()), (word, word.into()));
        assert_eq!(kind.claims_prior_writes(), matches!(kind, Attempted | IdRotated | IdReset), "{word}");
    }
    let outcomes = [Outcome::Delivered, Outcome::Dropped, Outcome::GaveUp].map(Outcome::word);
    assert_eq!(outcomes, ["delivered", "dropped", "given up"]);
}

#[test]
fn what_is_wrong_here_is_told_from_what_is_wrong_in_pulse() {
    for (suppression, word, of_this_machine) in [
        (Suppression::Storage, "storage", true),
        (Suppression::ClockImplausible, "clock_implausible", true),
        (Suppression::PulseUnreachable(String::new()), "pulse_unreachable", false),
        (Suppression::PulseUnauthorized(Credential::default()), "pulse_unauthorized", false),
        (Suppression::MissingScope(Vec::new()), "missing_scope", false),
        (Suppression::MockMode, "mock_mode", false),
        (Suppression::DemoMode, "demo_mode", false),
        (Suppression::PulseStarting, "pulse_starting", false),
        (Suppression::PulseReportsItself, "pulse_reports_itself", false),
        (Suppression::Incomplete(Vec::new()), "incomplete", false),
    ] {
        assert_eq!((suppression.reason().word(), suppression.is_of_this_machine()), (word, of_this_machine));
    }
}

#[test]
fn a_scope_that_is_missing_is_told_before_what_pulse_says_of_itself_and_what_is_unknown_after_it() {
    let mut reading = handed_over();
    reading.gate.mock_mode = Ok(true);
    change(&mut reading, |values| values.vms = Err(unknown("vms", Reason::TimedOut)));
    assert_eq!(Suppression::sendable_payload(Ok(&reading), false), Err(Suppression::MockMode));
    let missing = unknown("ai_enabled", Reason::MissingScope(Scope::new("settings:read")));
    change(&mut reading, |values| values.ai_enabled = Err(missing.clone()));
    let told = Suppression::sendable_payload(Ok(&reading), false);
    assert!(matches!(&told, Err(Suppression::MissingScope(unknown)) if unknown.contains(&missing)), "{told:?}");
}
