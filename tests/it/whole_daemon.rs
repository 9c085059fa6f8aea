//! Years of the whole daemon: installations in virtual time, in which everything goes wrong, and what must hold in
//! each.
//!
//! 4 installation-years; `YEARS=300` asks for more, as CI does. A violation prints how to replay it:
//! `SEED=… INSTALLATION=… cargo test --test it whole_daemon::`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod life;

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use life::{Mistake, Tally, Violation, YEAR, live};

/// How long an installation lives.
const LIFE: u32 = 4;

const SEED: u64 = 20_261_123;

/// How many lives of a year a mistake may stay unseen.
const LIVES_WITH_A_MISTAKE: u64 = 8;

#[expect(clippy::disallowed_methods, reason = "sizes and seeds are the environment's to say")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value}")))
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how fast it is belongs to the result")]
fn years_of_the_whole_daemon_break_no_promise() {
    let seed = number("SEED").unwrap_or(SEED);
    let installations = match number("INSTALLATION") {
        Some(one) => one..one + 1,
        None => 0..number("YEARS").unwrap_or(4).div_ceil(u64::from(LIFE)),
    };
    let begun = std::time::Instant::now();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let tally = Mutex::new(Tally::default());
    let next = AtomicU64::new(installations.start);
    let live_in_turn = || {
        while let Some(installation) = Some(next.fetch_add(1, Relaxed)).filter(|next| *next < installations.end) {
            match live(seed, installation, YEAR * LIFE, Mistake::None) {
                Ok(life) => tally.lock().unwrap().add(&life),
                Err(violation) => panic!("{}", told(seed, installation, &violation)),
            }
        }
    };
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(live_in_turn))));
    let tally = tally.into_inner().unwrap();
    assert!(tally.happened.len() > 40 || installations.end - installations.start < 7, "{:?}", tally.happened);
    let _ = write!(std::io::stderr(), "{}", summary(&tally, begun.elapsed(), cores));
}

fn told(seed: u64, installation: u64, Violation { what, trace }: &Violation) -> String {
    let trace = trace.join("\n");
    format!("{trace}\n\n{what}\nreplay: SEED={seed} INSTALLATION={installation} cargo test --test it whole_daemon::")
}

fn summary(tally: &Tally, took: Duration, cores: usize) -> String {
    let years = tally.lived.as_secs_f64() / YEAR.as_secs_f64();
    let mut text = format!(
        "{years:.0} installation-years of {} installations in {:.1} s on {cores} threads: {:.1} years a second\n\
         {} processes, {} readings of Pulse, {} attempts, {} pings kept by the endpoint; what happened, by kind:\n",
        tally.installations,
        took.as_secs_f64(),
        years / took.as_secs_f64(),
        tally.processes,
        tally.readings,
        tally.pings,
        tally.accepted,
    );
    for (what, times) in &tally.happened {
        writeln!(text, "{times:>7} {what}").unwrap();
    }
    text
}

#[test]
fn a_life_can_be_replayed() {
    let life = || live(SEED, 1, YEAR / 2, Mistake::None).unwrap();
    assert_eq!(life(), life());
}

/// Whether the witness sees the mistake, in one of the first lives, and what it says then.
fn seen(mistake: Mistake) -> String {
    let violation = (0..LIVES_WITH_A_MISTAKE).find_map(|installation| live(SEED, installation, YEAR, mistake).err());
    violation.unwrap_or_else(|| panic!("nothing was seen of {mistake:?}")).what
}

fn assert_seen(mistake: Mistake, expected: &str) {
    let what = seen(mistake);
    assert!(what.contains(expected), "{mistake:?} was seen as: {what}");
}

#[test]
fn a_disk_that_loses_the_due_time_is_seen() {
    assert_seen(Mistake::DueTimeLost, "no heartbeat arrived");
}

#[test]
fn a_disk_that_loses_the_time_of_the_startup_is_seen() {
    assert_seen(Mistake::StartupTimeLost, "startup");
}

#[test]
fn a_disk_that_says_saved_and_keeps_the_old_id_is_seen() {
    assert_seen(Mistake::IdNotWritten, "ID");
}

#[test]
fn a_disk_that_says_off_and_is_not_is_seen() {
    assert_seen(Mistake::OffNotWritten, "a start finds it on");
}

#[test]
fn an_attempt_that_is_recorded_only_afterwards_is_seen() {
    assert_seen(Mistake::AttemptRecordedLate, "not in the ledger");
}

#[test]
fn a_pending_ping_that_outlives_an_off_or_its_delivery_is_seen() {
    assert_seen(Mistake::PendingKept, "still on disk");
}

#[test]
fn a_redirect_that_is_followed_is_seen() {
    assert_seen(Mistake::RedirectFollowed, "asked something else");
}

#[test]
fn a_header_too_many_is_seen() {
    assert_seen(Mistake::HeaderAdded, "other headers");
}
