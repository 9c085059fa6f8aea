//! Every way to a new ID, and that the times of its pings tell nothing of the old one's.

use std::time::Duration;

use jiff::SignedDuration;
use pulse_telemetry_core::consent::{Fixed, Sources};
use pulse_telemetry_core::engine::{EntryKind, Input, Schedule, State};
use pulse_telemetry_core::identity::{Identity, InstallId, ROTATION};
use pulse_telemetry_core::observation::OwnSender;
use pulse_telemetry_core::rng::Rng;
use pulse_telemetry_core::verdict::Answer;
use pulse_telemetry_testkit::seeded::Seeded;

use super::{DAY, HOUR, MINUTE, SCHEDULE, World, noon, status};

/// How an installation came to a new ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Reset,
    /// Thirty days passed while the process ran.
    Expired,
    /// They passed while it did not, and no startup stands before the heartbeat.
    ExpiredAtAStart,
    /// The endpoint's `Retry-After` was longer than the ID's life.
    Outlived,
    Switch,
    Environment,
    DoNotTrack,
    Config,
    PulsesSetting,
    /// The ID file of a backup took the place of the one that was in use.
    Restored,
}

const WAYS: [Way; 10] = [
    Way::Reset,
    Way::Expired,
    Way::ExpiredAtAStart,
    Way::Outlived,
    Way::Switch,
    Way::Environment,
    Way::DoNotTrack,
    Way::Config,
    Way::PulsesSetting,
    Way::Restored,
];

/// What came of it: when there was a new ID, when its first heartbeat went, and what the old one's times were.
struct Case {
    old_heartbeat: Duration,
    /// When the endpoint had asked the old ID to come again.
    asked: Option<Duration>,
    new_id: Duration,
    first: Duration,
}

fn at_start(sources: Sources) -> Sources {
    Sources { switched_off: false, off_in_pulse: false, ..sources }
}

/// An installation of that seed whose old ID sent a heartbeat, and which then comes to a new ID.
fn case(way: Way, seed: u64) -> Case {
    let mut chance = Seeded(seed);
    let phase = chance.uniform_up_to(DAY);
    // Young enough to live through the preparation, old enough to end soon.
    let left = match way {
        Way::Expired | Way::Outlived => DAY * 3,
        Way::ExpiredAtAStart => DAY * 4,
        _ => DAY * 20,
    };
    let age = SignedDuration::try_from(ROTATION - left + phase).unwrap();
    let id = Identity::new(chance.uuid(), noon() - age);
    let due = noon() + SignedDuration::try_from(phase).unwrap();
    let state = State { heartbeat_due: Some(due), schedule_of: Some(id.issued_at), ..State::default() };
    let old = id.install_id.clone();
    let mut world = World::with(Sources::default(), state, Some(id), noon());
    world.lives = seed;
    world.crash_and_start();
    world.run_for(phase + HOUR * 2);
    let old_heartbeat = world.sent.iter().rfind(|sent| sent.event() == "heartbeat").expect("the old one's").at.mono;
    assert!(world.sent.iter().all(|sent| sent.id() == old));

    // The endpoint asks the next ping to wait, as it likes.
    let wanted = HOUR + chance.uniform_up_to(20 * HOUR);
    let mut asked = None;
    if way == Way::Outlived || seed.is_multiple_of(2) {
        let seconds = if way == Way::Outlived { 86_400 } else { wanted.as_secs() };
        let answer = Answer::Status { code: 503, retry_after: Some(seconds.to_string()) };
        world.answer_otherwise = Some(answer);
        world.run_for(DAY + HOUR);
        asked = world.sent.last().map(|sent| sent.at.mono + Duration::from_secs(seconds));
        world.answer_otherwise = if way == Way::Outlived { world.answer_otherwise } else { Some(status(204)) };
    }
    let new_id = come_to_a_new_id(way, &mut world, &mut chance, &old);
    world.answer_otherwise = Some(status(204));
    let sent = world.sent.len();
    world.run_for(DAY * 2);
    let new = &world.sent[sent..];
    assert!(new.iter().all(|sent| sent.id() != old), "{way:?}");
    let first = new.iter().find(|sent| sent.event() == "heartbeat").expect("a heartbeat within 36 hours").at.mono;
    Case { old_heartbeat, asked, new_id, first }
}

/// Gives the moment at which there is a new ID, or consent to one.
fn come_to_a_new_id(way: Way, world: &mut World, chance: &mut Seeded, old: &InstallId) -> Duration {
    let some_time = chance.uniform_up_to(2 * HOUR);
    match way {
        Way::Reset => {
            world.run_for(some_time);
            world.feed(Input::Reset);
        }
        Way::Expired | Way::Outlived => {
            while world.identity.as_ref().is_some_and(|identity| identity.install_id == *old) {
                world.run_for(MINUTE);
            }
            return world.ledger.last().unwrap().0.mono;
        }
        Way::ExpiredAtAStart => {
            // No startup goes, for one went within the hour; the heartbeat is long overdue.
            world.pass(DAY * 4);
            world.state.startup_attempted_at = Some(world.now.wall);
            world.crash_and_start();
        }
        Way::Switch => {
            world.feed(Input::Switch { off: true });
            world.run_for(some_time);
            world.feed(Input::Switch { off: false });
        }
        Way::PulsesSetting => {
            world.feed(Input::OwnSender(OwnSender::OffBySetting));
            world.pass(some_time);
            world.feed(Input::OwnSender(OwnSender::OffByEnvironment));
        }
        Way::Environment | Way::DoNotTrack | Way::Config => {
            let fixed = match way {
                Way::Environment => Fixed::new(Some("false"), None, true),
                Way::DoNotTrack => Fixed::new(None, Some("1"), true),
                _ => Fixed::new(None, None, false),
            };
            world.sources = Sources { fixed, ..Sources::default() };
            world.crash_and_start();
            world.run_for(some_time);
            world.sources = at_start(Sources::default());
            world.state.startup_attempted_at = Some(world.now.wall);
            world.crash_and_start();
        }
        Way::Restored => {
            let age = SignedDuration::from_hours(24 * 9);
            world.identity = Some(Identity::new(chance.uuid(), world.now.wall - age));
            world.state.startup_attempted_at = Some(world.now.wall);
            world.crash_and_start();
        }
    }
    world.now.mono
}

/// How far the cases are from being spread evenly over a day: chi-squared of 24 hours. Of 23 degrees of freedom, one in
/// a million is beyond 72.
fn unevenness(times: &[Duration]) -> f64 {
    let mut hours = [0_u32; 24];
    for time in times {
        hours[usize::try_from(time.as_secs() % 86_400 / 3600).unwrap()] += 1;
    }
    let expected = times.len() as f64 / 24.0;
    hours.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

#[test]
fn the_first_heartbeat_of_a_new_id_tells_nothing_of_the_old_ones_in_10_000_cases() {
    let mut all = Vec::new();
    for way in WAYS {
        let cases: Vec<Case> = (0..1000).map(|seed| case(way, seed * 31 + way as u64)).collect();
        for (seed, Case { new_id, first, .. }) in cases.iter().enumerate() {
            let after = *first - *new_id;
            // A look within the hour, and a minute of the preparation.
            assert!(after >= DAY / 2 - 2 * MINUTE && after <= DAY + DAY / 2 + MINUTE, "{way:?}, {seed}: {after:?}");
        }
        let of_the_old = |case: &Case| case.first - case.old_heartbeat;
        let of_the_endpoint = |case: &Case| case.asked.map(|asked| case.first + DAY * 4 - asked);
        let since_old: Vec<_> = cases.iter().map(of_the_old).collect();
        let since_asked: Vec<_> = cases.iter().filter_map(of_the_endpoint).collect();
        assert!(since_asked.len() >= 400);
        for (what, times) in [("the old heartbeat", &since_old), ("the endpoint's time", &since_asked)] {
            let uneven = unevenness(times);
            assert!(uneven < 72.0, "{way:?}: the time of day hangs on {what}: {uneven}");
        }
        all.extend(since_old);
    }
    assert_eq!(all.len(), 10_000);
    assert!(unevenness(&all) < 72.0, "{}", unevenness(&all));
}

#[test]
fn a_startups_time_follows_from_the_programs_start_alone() {
    for retry_after in [None, Some("7200"), Some("86400")] {
        for way in ["expired", "off and on", "restored", "reset"] {
            let mut world = World::new();
            let answer = Answer::Status { code: 503, retry_after: retry_after.map(str::to_owned) };
            world.answers.push_back(Some(answer));
            world.run_for(90 * MINUTE);
            match way {
                "expired" => world.pass(ROTATION),
                "off and on" => {
                    world.sources.switched_off = true;
                    world.crash_and_start();
                    world.sources.switched_off = false;
                }
                "restored" => world.identity = Some(super::some_id()),
                _ => world.feed(Input::Reset),
            }
            // Some time in which the process does not run.
            world.pass(DAY * 3 / 7);
            let (start, sent) = (world.now.mono, world.sent.len());
            world.crash_and_start();
            world.run_for(HOUR);
            let startup = &world.sent[sent];
            assert_eq!((startup.event(), startup.at.mono - start), ("startup".to_owned(), 2 * MINUTE), "{way}");
        }
    }
}

#[test]
fn a_startup_that_the_endpoint_held_back_does_not_go_when_that_is_forgotten() {
    let mut prepared = World::new();
    prepared.run_for(3 * HOUR);
    prepared.state.not_before = Some(prepared.now.wall + SignedDuration::from_hours(20));
    for way in ["reset", "switch", "expired"] {
        let mut identity = prepared.identity.clone().unwrap();
        if way == "expired" {
            let age = SignedDuration::try_from(ROTATION).unwrap() - SignedDuration::from_hours(5);
            identity.issued_at = prepared.now.wall - age;
        }
        let state = State { schedule_of: Some(identity.issued_at), ..prepared.state.clone() };
        let mut world = World::with(Sources::default(), state, Some(identity), prepared.now.wall);
        world.run_for(4 * HOUR);
        assert_eq!(world.sent.len(), 0, "the startup waits");
        match way {
            "reset" => world.feed(Input::Reset),
            "switch" => {
                world.feed(Input::Switch { off: true });
                world.feed(Input::Switch { off: false });
            }
            _ => {}
        }
        world.run_for(13 * HOUR);
        assert!(world.sent.iter().all(|sent| sent.event() == "heartbeat"), "{way}: {:?}", world.events());
        world.run_for(DAY * 2);
        assert_eq!(world.sent[0].event(), "heartbeat", "{way}");
    }
}

#[test]
fn a_reset_an_off_and_a_rotation_send_nothing_by_themselves() {
    for way in [Way::Reset, Way::Switch, Way::PulsesSetting, Way::Expired, Way::Outlived] {
        let Case { new_id, first, .. } = case(way, 77);
        assert!(first - new_id >= DAY / 2 - 2 * MINUTE, "{way:?}");
    }
}

#[test]
fn a_retry_that_outlives_its_id_is_dropped_and_the_new_ids_first_ping_is_a_heartbeat() {
    let left = SignedDuration::from_mins(10);
    let identity = Identity::new(Seeded(1).uuid(), noon() - SignedDuration::from_hours(24 * 30) + left);
    let mut world = World::with(Sources::default(), State::default(), Some(identity), noon());
    world.answer_otherwise = Some(status(503));
    world.run_for(HOUR);
    assert_eq!(world.reasons(EntryKind::Failed).last(), Some(&"id_expired"));
    assert_eq!(world.reasons(EntryKind::IdRotated), ["expired"]);
    let rotated = world.ledger.last().unwrap().0.wall;
    assert_eq!(rotated, noon() + left, "when it is 30 days old, not when the endpoint or the back-off says");
    world.answer_otherwise = Some(status(204));
    let sent = world.sent.len();
    world.run_for(DAY * 2);
    let first = &world.sent[sent];
    assert_eq!(first.event(), "heartbeat");
    let after = first.at.wall.duration_since(rotated);
    assert!((SignedDuration::from_hours(12)..=SignedDuration::from_hours(36)).contains(&after), "{after:?}");
}

#[test]
fn an_id_that_expires_is_replaced_when_the_heartbeat_is_due_and_status_knows() {
    let mut world = World::new();
    world.run_for(DAY * 29 + 12 * HOUR);
    let before = world.identity.clone();
    let status = world.engine.status(world.now);
    let due = status.next_due.unwrap();
    assert!(status.next_replaces_id && due > before.as_ref().unwrap().issued_at + SignedDuration::from_hours(720));
    let sent = world.sent.len();
    world.run_for(DAY);
    assert_ne!(world.identity, before);
    assert_eq!(world.identity.as_ref().unwrap().issued_at, due);
    assert_eq!(world.sent.len(), sent);
    let status = world.engine.status(world.now);
    assert!(!status.next_replaces_id && status.next_due.unwrap() >= due + SignedDuration::from_hours(12));
}

#[test]
fn what_the_endpoint_asks_for_is_never_answered_to_its_second() {
    // A tenth of it, and at least two minutes.
    for (asked, most) in [("0", 120), ("60", 120), ("1200", 120), ("36000", 3600), ("86400", 8640), ("99999999", 8640)]
    {
        let mut waits = Vec::new();
        for seed in 0..40 {
            let mut world = World::new();
            world.lives = seed * 1000;
            world.crash_and_start();
            world.answers.push_back(Some(Answer::Status { code: 429, retry_after: Some(asked.to_owned()) }));
            world.run_for(2 * MINUTE + Duration::from_secs(1));
            let asked_for = Duration::from_secs(asked.parse::<u64>().unwrap().min(86_400));
            let not_before = world
                .state
                .not_before
                .map_or(Duration::ZERO, |at| Duration::try_from(at.duration_since(world.sent[0].at.wall)).unwrap());
            assert!(not_before >= asked_for && not_before <= asked_for + Duration::from_secs(most), "{asked}");
            waits.push(not_before.saturating_sub(asked_for));
            // It is kept over a restart as it was drawn.
            let kept = world.state.not_before;
            world.crash_and_start();
            world.feed(Input::Tick);
            assert!(world.engine.status(world.now).next_due >= kept);
        }
        waits.sort();
        waits.dedup();
        assert!(waits.len() > 30, "{asked}: {} different times", waits.len());
        assert!(waits[waits.len() - 1] >= Duration::from_secs(most) / 2, "{asked}");
    }
}

#[test]
fn what_the_endpoint_asked_of_an_id_ends_with_it() {
    let date = || httpdate::fmt_http_date((noon() + SignedDuration::from_hours(20)).into());
    for asked in ["72000".to_owned(), date()] {
        for way in ["reset", "switch", "pulse", "rotation"] {
            let mut world = World::new();
            world.answers.push_back(Some(Answer::Status { code: 503, retry_after: Some(asked.clone()) }));
            world.run_for(HOUR);
            assert!(world.state.not_before.is_some());
            match way {
                "reset" => world.feed(Input::Reset),
                "switch" => world.feed(Input::Switch { off: true }),
                "pulse" => world.feed(Input::OwnSender(OwnSender::OffBySetting)),
                _ => {
                    // The clock is believed: it is less than a day ahead.
                    world.identity.as_mut().unwrap().issued_at = world.now.wall - SignedDuration::from_hours(24 * 30);
                    world.crash_and_start();
                }
            }
            assert_eq!(world.state.not_before, None, "{asked}, {way}");
            world.crash_and_start();
            assert_eq!(world.state.not_before, None, "{asked}, {way}, after a restart");
        }
    }
}

#[test]
fn a_clock_that_is_set_back_by_up_to_an_hour_makes_no_new_id() {
    // A retry, a heartbeat, a preview, a restart, and a clock that goes back more than once.
    for steps in [vec![5_i64], vec![3600], vec![1200, 1200, 1200], vec![1, 59, 3500]] {
        for what in ["retry", "heartbeat", "preview", "restart"] {
            let mut world = World::new();
            world.answers.push_back(Some(status(503)));
            world.run_for(2 * MINUTE + Duration::from_secs(1));
            if what == "heartbeat" {
                world.run_for(HOUR);
            }
            let made = world.identity.clone().unwrap();
            // As if it had been made just now.
            world.identity.as_mut().unwrap().issued_at = world.now.wall;
            world.state.schedule_of = Some(world.now.wall);
            world.crash_and_start();
            for step in &steps {
                world.step_clock(-step);
                world.feed(Input::Tick);
                if what == "restart" {
                    world.crash_and_start();
                }
            }
            assert_eq!(world.engine.preview_id(world.now), made.install_id, "{what}, {steps:?}");
            world.run_for(DAY * 2);
            assert_eq!(world.reasons(EntryKind::IdRotated), ["none"], "{what}, {steps:?}");
            assert!(world.sent.iter().all(|sent| sent.id() == made.install_id));
            assert!(!world.reasons(EntryKind::Failed).contains(&"id_expired"), "{what}, {steps:?}");
        }
    }
}

#[test]
fn an_id_file_from_elsewhere_is_judged_by_pulses_own_rule() {
    for ahead in [1, 5, 3600] {
        for (is_ours, kept) in [(true, true), (false, false)] {
            let identity = Identity::new(Seeded(3).uuid(), noon() + SignedDuration::from_secs(ahead));
            let id = identity.install_id.clone();
            let start = pulse_telemetry_core::engine::Start {
                identity: Some(identity),
                identity_is_ours: is_ours,
                identity_is_forgotten: false,
                ..pulse_telemetry_core::engine::Start::default()
            };
            let now = pulse_telemetry_core::clock::Now { wall: noon(), mono: HOUR };
            let (engine, _) = pulse_telemetry_core::engine::Engine::start(SCHEDULE, start, Seeded(7), now);
            assert_eq!(engine.preview_id(now) == id, kept, "{ahead} s ahead, ours: {is_ours}");
        }
    }
    let two_hours = Identity::new(Seeded(3).uuid(), noon() + SignedDuration::from_secs(3601));
    assert!(!two_hours.is_current_where_it_was_made(noon()));
}

#[test]
fn a_restart_does_not_postpone_the_heartbeat_that_was_drawn_while_there_was_no_id() {
    for way in [Way::Switch, Way::PulsesSetting, Way::Environment, Way::Config] {
        for restarts in [1, 3, 12] {
            let mut world = World::new();
            world.run_for(3 * HOUR);
            let old = world.identity.clone().unwrap().install_id;
            come_to_a_new_id(way, &mut world, &mut Seeded(restarts), &old);
            assert_eq!(world.identity, None, "{way:?}");
            let (due, sent) = (world.state.heartbeat_due.unwrap(), world.sent.len());
            for _ in 0..restarts {
                world.pass(HOUR / 2);
                // A startup would make an ID, and that ID's heartbeat has a time of its own.
                world.state.startup_attempted_at = Some(world.now.wall);
                world.crash_and_start();
                assert_eq!(world.state.heartbeat_due, Some(due), "{way:?}, {restarts}");
            }
            world.run_for(DAY * 2);
            let first = &world.sent[sent];
            assert_eq!((first.event(), first.at.wall), ("heartbeat".to_owned(), due), "{way:?}, {restarts}");
        }
    }
}

#[test]
fn an_interval_as_long_as_an_ids_life_has_its_heartbeats_all_the_same() {
    let schedule = Schedule { interval: DAY * 30, jitter: DAY / 2, ..SCHEDULE };
    let mut world = World::scheduled(schedule, Sources::default(), State::default(), None, noon());
    let start = world.now.mono;
    world.run_for(DAY * 3650);
    let heartbeats: Vec<_> = world.sent.iter().filter(|sent| sent.event() == "heartbeat").collect();
    assert!(world.reasons(EntryKind::IdRotated).contains(&"unused"));
    for pair in heartbeats.windows(2) {
        let apart = pair[1].at.mono - pair[0].at.mono;
        assert!(apart <= DAY * 76, "{apart:?}: an interval, and one and a half for the new ID");
    }
    assert!(heartbeats.len() > 55, "{} in {:?}", heartbeats.len(), world.now.mono - start);
}
