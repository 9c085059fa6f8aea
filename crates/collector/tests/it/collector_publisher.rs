//! When days are counted and the site is written, by whatever clock and into whatever directory.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::cell::RefCell;
use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::civil::time;
use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_collector::config::publish::PublishConfig;
use pulse_telemetry_collector::metrics::CollectorMetrics;
use pulse_telemetry_collector::publish::{LatestNumbers, PublishError, Published, Publisher, count_by_itself};
use pulse_telemetry_collector::storage::StorageError;
use pulse_telemetry_core::clock::{Clock, Now};
use pulse_telemetry_http::exposition::Format;
use tokio::time::{sleep, timeout};

use super::virtual_clock::Virtual;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A clock that leaps by a time, until it is set right again.
struct Leaping {
    clock: Virtual,
    leap: SignedDuration,
    from: Duration,
    until: Duration,
}

impl Clock for Leaping {
    fn now(&self) -> Now {
        let now = self.clock.now();
        let wall = if (self.from..self.until).contains(&now.mono) { now.wall + self.leap } else { now.wall };
        Now { wall, ..now }
    }
}

/// One that counts by that clock, into a directory or none.
fn publisher(clock: impl Clock + Send + Sync + 'static, dir: Option<&str>) -> Publisher {
    let start = clock.now();
    Publisher {
        config: PublishConfig { dir: dir.map(PathBuf::from), at: time(0, 30, 0, 0) },
        numbers: Arc::default(),
        metrics: Arc::default(),
        clock: Arc::new(clock),
        start: (start, None),
    }
}

fn nothing() -> Result<Published, StorageError> {
    Ok(Published { days: Vec::new() })
}

fn works(metrics: &CollectorMetrics) -> bool {
    metrics.text(Format::Text).contains("publishing_works 1\n")
}

/// As of which times it counts in that time, and what the numbers that are shown come to.
async fn counted(publisher: Publisher, hours: u32) -> (Vec<String>, Arc<LatestNumbers>) {
    let (times, numbers) = (Mutex::new(Vec::new()), Arc::clone(&publisher.numbers));
    let count = |now: Timestamp| {
        times.lock().unwrap().push(now.to_string()[..16].to_owned());
        async { nothing() }
    };
    let counting = count_by_itself(publisher, count, |_, _| async { Ok(()) });
    let _ = timeout(HOUR * hours, counting).await;
    (times.into_inner().unwrap(), numbers)
}

#[tokio::test(start_paused = true)]
async fn days_are_counted_at_the_start_and_daily_at_the_time_that_is_set_as_soon_as_they_are_over() {
    for (start, expected) in [
        ("2026-11-25T09:00:00Z", &["2026-11-25T09:00", "2026-11-26T00:30", "2026-11-27T00:30"][..]),
        // Yesterday is not settled yet.
        ("2026-11-25T00:05:00Z", &["2026-11-25T00:05", "2026-11-25T00:30", "2026-11-26T00:30"]),
        ("2026-11-25T00:15:00Z", &["2026-11-25T00:15", "2026-11-26T00:30"]),
    ] {
        for dir in [None, Some("site")] {
            let (times, numbers) = counted(publisher(Virtual::new(start.parse().unwrap()), dir), 48).await;
            assert_eq!(times, expected, "{start}");
            assert!(numbers.get().is_some());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_leaps_ahead_publishes_no_day_that_goes_on_and_set_right_counts_on_without_a_restart() {
    // From 13:00 on, and then for two hours, or for good.
    for (leap, until, dir, expected) in [
        (12, 3, Some("site"), &["25T12:00", "26T00:30", "27T00:30"][..]),
        (47, 3, Some("site"), &["25T12:00", "26T00:30", "27T00:30"]),
        (24 * 30, 3, Some("site"), &["25T12:00", "26T00:30", "27T00:30"]),
        // After a day it is believed, a day later by it.
        (12, 1000, Some("site"), &["25T12:00", "26T00:30", "27T01:00"]),
        // What is shown and not kept follows the clock at once, and back.
        (12, 3, None, &["25T12:00", "26T01:00", "25T15:00", "26T00:30", "27T00:30"]),
    ] {
        let clock = Virtual::new("2026-11-25T12:00:00Z".parse().unwrap());
        let leap = SignedDuration::from_hours(leap);
        let clock = Leaping { clock, leap, from: HOUR, until: HOUR * until };
        let (times, _) = counted(publisher(clock, dir), 48).await;
        let expected: Vec<String> = expected.iter().map(|time| format!("2026-11-{time}")).collect();
        assert_eq!(times, expected, "{leap}, until {until}, {dir:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_a_day_is_published_when_as_much_time_has_passed_as_it_lacked() {
    let mut publisher = publisher(Virtual::new("2026-11-25T08:00:00Z".parse().unwrap()), Some("site"));
    // Since when nothing was stored; a clock that is wrong from the start tells the same.
    publisher.start.1 = Some("2026-11-24T20:00:00Z".parse().unwrap());
    let (times, _) = counted(publisher, 48).await;
    let expected = ["24T20:00", "25T00:30", "26T08:00", "27T00:30"];
    assert_eq!(times, expected.map(|time| format!("2026-11-{time}")));
}

#[tokio::test(start_paused = true)]
async fn a_site_that_cannot_be_written_is_told_and_tried_again_each_minute_until_it_can() {
    let publisher = publisher(Virtual::new("2026-11-25T09:00:00Z".parse().unwrap()), Some("/nonexistent/site"));
    let (metrics, tries) = (Arc::clone(&publisher.metrics), RefCell::new(0));
    let write = |_, dir: PathBuf| {
        *tries.borrow_mut() += 1;
        let error = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        let written = if *tries.borrow() < 4 { Err(PublishError::Io { path: dir, error }) } else { Ok(()) };
        async move { written }
    };
    let counting = count_by_itself(publisher, |_| async { nothing() }, write);
    let looking = async {
        sleep(Duration::from_secs(150)).await;
        (*tries.borrow(), works(&metrics))
    };
    let (_, meanwhile) = tokio::join!(timeout(HOUR, counting), looking);
    assert_eq!((meanwhile, *tries.borrow(), works(&metrics)), ((3, false), 4, true));
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_hangs_keeps_no_day_from_being_counted_and_shown_and_is_told() {
    let publisher = publisher(Virtual::new("2026-11-25T09:00:00Z".parse().unwrap()), Some("/nonexistent/site"));
    let (metrics, numbers) = (Arc::clone(&publisher.metrics), Arc::clone(&publisher.numbers));
    let times = RefCell::new(0);
    let count = |_| {
        *times.borrow_mut() += 1;
        async { nothing() }
    };
    let counting = count_by_itself(publisher, count, |_, _| pending());
    assert!(timeout(HOUR * 48, counting).await.is_err());
    assert_eq!(*times.borrow(), 3);
    assert!(numbers.get().is_some() && !works(&metrics));
}

#[tokio::test(start_paused = true)]
async fn a_day_that_cannot_be_counted_is_told_and_tried_again_each_minute() {
    let publisher = publisher(Virtual::new("2026-11-25T09:00:00Z".parse().unwrap()), None);
    let (metrics, times) = (Arc::clone(&publisher.metrics), RefCell::new(0));
    let count = |_| {
        *times.borrow_mut() += 1;
        let failed = *times.borrow() < 4;
        async move { if failed { Err(StorageError::Failed("SQLite: disk I/O error".to_owned())) } else { nothing() } }
    };
    let counting = count_by_itself(publisher, count, |_, _| async { Ok(()) });
    let looking = async {
        sleep(Duration::from_secs(90)).await;
        works(&metrics)
    };
    let (_, works_after_90_seconds) = tokio::join!(timeout(HOUR, counting), looking);
    assert_eq!((*times.borrow(), works_after_90_seconds, works(&metrics)), (4, false, true));
}
