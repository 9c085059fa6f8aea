//! Who asks for a reading of Pulse, when one starts, and what is known between two.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::time::Duration;

use pulse_telemetry::posture::Posture;
use pulse_telemetry::pulse::Observation;
use pulse_telemetry::readings::{PAUSE, READERS_MAX, Readings, STALE_AFTER};
use pulse_telemetry_core::clock::Now;
use pulse_telemetry_core::observation::{Commercial, ReadError, Reading, Reason};
use pulse_telemetry_testkit::readings::{change, handed_over, unknown};

const SECOND: Duration = Duration::from_secs(1);

/// So long after the start of the machine.
fn at(mono: Duration) -> Now {
    Now { wall: "2026-11-23T12:00:00Z".parse().unwrap(), mono }
}

fn seconds(seconds: u32) -> Now {
    at(SECOND * seconds)
}

fn read(reading: Reading) -> Result<Observation, ReadError> {
    let untold = || unknown("posture", Reason::NotJson);
    let posture =
        Posture { ai: Err(untold()), relay: Err(untold()), updates: Err(untold()), data_handling: Err(untold()) };
    Ok(Observation { reading, posture })
}

fn good(vms: u32) -> Result<Observation, ReadError> {
    let mut reading = handed_over();
    change(&mut reading, |values| values.vms = Ok(vms));
    read(reading)
}

/// Pulse answers 429, so that not all is known, and asks to be left alone for that long.
fn paused(retry_after: Duration) -> Result<Observation, ReadError> {
    let mut reading = handed_over();
    change(&mut reading, |values| values.vms = Err(unknown("vms", Reason::RateLimited)));
    reading.retry_after = Some(retry_after);
    read(reading)
}

fn unreachable() -> Result<Observation, ReadError> {
    Err(ReadError::Unreachable("no connection".to_owned()))
}

/// Nobody goes away.
fn stays(_: &u32) -> bool {
    false
}

/// The guests of what a preview is made of, and the pause that it tells.
fn shown(readings: &Readings<u32>, now: Now) -> Option<(Option<u32>, Option<Duration>)> {
    let source = readings.preview_source(now)?;
    let guests = source.completed.reading().ok().and_then(|reading| reading.known().ok()).map(|payload| payload.vms);
    Some((guests, source.pause))
}

#[test]
fn pulse_is_not_read_where_nobody_asks_and_at_once_where_somebody_does() {
    let mut readings = Readings::<u32>::new(seconds(100));
    assert!(!readings.start(seconds(200)) && readings.starts_at().is_none() && !readings.is_under_way(seconds(200)));
    let asks: [fn(&mut Readings<u32>); 4] = [
        Readings::ask_for_engine,
        Readings::want,
        |readings| readings.want_if_stale(seconds(200)),
        |readings| readings.wait(1, seconds(200), stays).unwrap(),
    ];
    for ask in asks {
        let mut readings = Readings::new(seconds(100));
        ask(&mut readings);
        assert!(readings.is_under_way(seconds(200)), "it starts at once");
        assert!(readings.start(seconds(200)) && readings.is_under_way(seconds(200)));
    }
}

#[test]
fn one_reading_runs_at_a_time_and_the_next_starts_ten_seconds_after_its_end_whoever_asks() {
    let mut readings = Readings::new(seconds(0));
    readings.ask_for_engine();
    assert!(readings.start(seconds(5)));
    readings.want();
    readings.wait(1, seconds(6), stays).unwrap();
    assert!(!readings.start(seconds(30)) && readings.starts_at().is_none(), "one is under way");
    let end = readings.end(good(1), seconds(35));
    assert_eq!((end.took, end.is_for_engine), (SECOND * 30, true));
    assert_eq!(
        readings.take_answerable(seconds(35)),
        [1],
        "a request that waited is answered by a reading that was slow, too"
    );
    assert!(readings.starts_at().is_none(), "nobody asks any more");

    readings.ask_for_engine();
    assert_eq!(readings.starts_at(), Some(SECOND * 35 + PAUSE));
    assert!(!readings.start(at(SECOND * 35 + PAUSE - Duration::from_millis(1))));
    assert!(readings.start(at(SECOND * 35 + PAUSE)));
    assert!(readings.end(good(2), seconds(46)).is_for_engine);
    readings.want();
    assert!(readings.start(seconds(60)));
    assert!(!readings.end(good(3), seconds(61)).is_for_engine, "the engine did not ask for this one");
}

#[test]
fn the_engine_that_asks_while_one_is_under_way_is_given_that_one() {
    let mut readings = Readings::<u32>::new(seconds(0));
    readings.want();
    assert!(readings.start(seconds(0)));
    readings.ask_for_engine();
    assert!(readings.end(unreachable(), seconds(2)).is_for_engine);
    assert!(readings.starts_at().is_none(), "and no other one");
}

#[test]
fn whoever_looks_at_what_is_stale_makes_the_next_one_start_and_whoever_looks_at_what_is_fresh_does_not() {
    let mut readings = Readings::<u32>::new(seconds(0));
    readings.want();
    assert!(readings.start(seconds(0)));
    readings.end(good(1), seconds(1));
    readings.want_if_stale(at(SECOND + STALE_AFTER));
    assert!(readings.starts_at().is_none());
    readings.want_if_stale(at(SECOND + STALE_AFTER + Duration::from_millis(1)));
    assert!(readings.starts_at().is_some());
    assert_eq!(shown(&readings, seconds(90)), Some((Some(1), None)), "and is told what is known");
}

#[test]
fn whoever_asks_within_ten_seconds_of_a_reading_is_answered_by_it_and_later_by_the_next() {
    let mut readings = Readings::new(seconds(0));
    readings.wait(1, seconds(0), stays).unwrap();
    assert!(readings.take_answerable(seconds(0)).is_empty(), "nothing is known yet");
    assert!(readings.start(seconds(0)));
    readings.end(good(1), seconds(1));
    readings.wait(2, seconds(10), stays).unwrap();
    assert_eq!(readings.take_answerable(seconds(10)), [1, 2]);
    readings.wait(3, seconds(11), stays).unwrap();
    assert!(readings.take_answerable(seconds(11)).is_empty());
    assert!(readings.start(seconds(11)));
    assert!(readings.take_answerable(seconds(12)).is_empty(), "the one under way answers");
    readings.end(unreachable(), seconds(13));
    assert_eq!(readings.take_answerable(seconds(13)), [3], "also where it failed");
}

#[test]
fn as_many_wait_as_may_and_those_who_have_gone_make_room() {
    let mut readings = Readings::new(seconds(0));
    readings.want();
    assert!(readings.start(seconds(0)));
    let most = u32::try_from(READERS_MAX).unwrap();
    for caller in 0..most {
        readings.wait(caller, seconds(1), stays).unwrap();
    }
    assert_eq!(readings.wait(most, seconds(1), stays), Err(most));
    readings.wait(most, seconds(1), |caller| *caller == 3).unwrap();
    assert_eq!(readings.wait(99, seconds(1), stays), Err(99));
    readings.end(good(1), seconds(2));
    readings.wait(99, seconds(2), stays).unwrap();
    let answered = readings.take_answerable(seconds(2));
    assert_eq!((answered.len(), answered.contains(&3), answered.last()), (READERS_MAX + 1, false, Some(&99)));
}

#[test]
fn a_pause_that_pulse_asks_for_is_kept_and_does_not_hide_what_is_known() {
    let mut readings = Readings::<u32>::new(seconds(0));
    readings.want();
    assert!(readings.start(seconds(0)));
    readings.end(good(7), seconds(0));
    readings.want();
    assert!(readings.start(seconds(10)));
    readings.end(paused(SECOND * 300), seconds(11));
    readings.ask_for_engine();
    assert!(!readings.start(seconds(310)));
    assert_eq!((readings.starts_at(), readings.pause(seconds(301))), (Some(SECOND * 311), SECOND * 10));
    assert_eq!(shown(&readings, seconds(301)), Some((Some(7), Some(SECOND * 10))));
    assert_eq!(shown(&readings, seconds(311)), Some((None, None)), "once it is over, the last reading counts");
    assert!(readings.start(seconds(311)));
}

#[test]
fn a_short_pause_is_no_shorter_than_the_one_between_two_readings() {
    let mut readings = Readings::<u32>::new(seconds(0));
    readings.want();
    assert!(readings.start(seconds(0)));
    readings.end(paused(SECOND), seconds(1));
    assert_eq!(readings.pause(seconds(1)), PAUSE);
    assert_eq!(shown(&readings, seconds(1)), Some((None, Some(PAUSE))), "there is no good one to show");
}

#[test]
fn a_reading_that_failed_takes_the_place_of_a_good_one_in_what_is_shown() {
    let mut readings = Readings::<u32>::new(seconds(0));
    assert_eq!(shown(&readings, seconds(0)), None);
    for (observed, then) in [(good(1), Some(1)), (unreachable(), None), (good(2), Some(2))] {
        readings.want();
        let now = at(readings.pause(seconds(0)));
        assert!(readings.start(now));
        readings.end(observed, now);
        assert_eq!(shown(&readings, now), Some((then, None)));
        assert_eq!(readings.last().map(|last| last.age(at(now.mono + SECOND))), Some(SECOND));
    }
}

#[test]
fn what_pulse_said_last_of_its_commercial_side_is_kept_where_a_reading_does_not_tell_it() {
    let mut readings = Readings::<u32>::new(seconds(0));
    assert_eq!(readings.commercial(), None);
    let told = Commercial { disable_local_upgrade_metrics: true, reduce_pro_upsell_noise: false };
    let mut tells = handed_over();
    tells.gate.commercial = Ok(told);
    let mut tells_nothing = handed_over();
    tells_nothing.gate.commercial = Err(unknown("commercial", Reason::NotJson));
    for observed in [read(tells), read(tells_nothing), unreachable()] {
        readings.want();
        let now = at(readings.pause(seconds(0)));
        assert!(readings.start(now));
        readings.end(observed, now);
        assert_eq!(readings.commercial(), Some(told));
    }
}
