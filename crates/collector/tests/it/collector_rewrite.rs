//! When days that had deletions are rewritten: each night, and again while something is in the way.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, date};
use pulse_telemetry_collector::metrics::CollectorMetrics;
use pulse_telemetry_collector::rewrite::rewrite_by_itself;
use pulse_telemetry_collector::storage::{PingStore, StorageError};
use pulse_telemetry_http::exposition::Format;

use super::counting::Counting;
use super::virtual_clock::Virtual;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// When it is looked in that time, by a clock that tells `wall` at the start, which days were to be rewritten then, in
/// how much time, and what the metrics say at its end.
async fn rewritings(wall: &str, time: Duration, store: Counting) -> (Vec<String>, Vec<(Date, Duration)>, String) {
    let store = Arc::new(store);
    let (clock, metrics) = (Virtual::new(wall.parse().unwrap()), Arc::new(CollectorMetrics::default()));
    let rewriting = rewrite_by_itself(Arc::clone(&store) as Arc<dyn PingStore>, Arc::clone(&metrics), Arc::new(clock));
    let _ = tokio::time::timeout(time, rewriting).await;
    let at = store.looks.lock().unwrap().iter().map(Timestamp::to_string).collect();
    let days = store.rewritings.lock().unwrap().clone();
    (at, days, metrics.text(Format::Text))
}

const DAYS: [Date; 3] = [date(2026, 11, 19), date(2026, 11, 20), date(2026, 11, 21)];

/// A storage whose next looks find that, and in which two of three days are in use.
fn finding(unrewritten: impl IntoIterator<Item = Result<Vec<Date>, StorageError>>) -> Counting {
    Counting {
        unrewritten: Mutex::new(unrewritten.into_iter().collect()),
        in_use: DAYS[..2].into(),
        ..Counting::default()
    }
}

fn found() -> Result<Vec<Date>, StorageError> {
    Ok(DAYS.into())
}

fn failed() -> Result<Vec<Date>, StorageError> {
    Err(StorageError::Failed("PostgreSQL: no answer in time".to_owned()))
}

#[track_caller]
fn assert_tells(metrics: &str, unrewritten: u32, failures: u32) {
    for (name, value) in [("unrewritten_partitions", unrewritten), ("rewrite_failures_total", failures)] {
        let line = format!("pulse_telemetry_collector_{name} {value}\n");
        assert!(metrics.contains(&line), "no {line} in {metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_had_deletions_is_rewritten_once_a_night_also_where_the_start_is_in_it() {
    let (at, _, metrics) = rewritings("2026-11-23T05:00:00Z", DAY * 40, Counting::default()).await;
    assert_eq!(at.len(), 40);
    assert!(at.iter().all(|at| at.ends_with("T02:00:00Z")), "{at:?}");
    assert_tells(&metrics, 0, 0);
    let (at, ..) = rewritings("2026-11-23T04:59:59Z", DAY, Counting::default()).await;
    assert_eq!(at, ["2026-11-23T04:59:59Z", "2026-11-24T02:00:59Z"][..at.len()]);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_use_or_fails_is_told_and_tried_again_in_the_same_night_and_then_the_night_is_done() {
    let store = || finding([found(), failed()]);
    let (at, _, metrics) = rewritings("2026-11-23T01:50:00Z", MINUTE * 15, store()).await;
    assert_eq!(at, ["2026-11-23T02:00:00Z"]);
    assert_tells(&metrics, 2, 0);
    let (at, _, metrics) = rewritings("2026-11-23T01:50:00Z", MINUTE * 25, store()).await;
    assert_eq!(at, ["2026-11-23T02:00:00Z", "2026-11-23T02:10:00Z"]);
    assert_tells(&metrics, 2, 1);
    let (at, days, metrics) = rewritings("2026-11-23T01:50:00Z", DAY, store()).await;
    assert_eq!(at, ["2026-11-23T02:00:00Z", "2026-11-23T02:10:00Z", "2026-11-23T02:20:00Z"]);
    assert_tells(&metrics, 0, 1);
    assert_eq!(days, DAYS.map(|day| (day, MINUTE * 60)), "each may take an hour");
}

#[tokio::test(start_paused = true)]
async fn what_stays_in_use_is_left_when_the_night_ends_until_the_next_one() {
    let never = finding(std::iter::repeat_with(found).take(1000));
    let (at, _, metrics) = rewritings("2026-11-23T12:00:00Z", DAY * 2, never).await;
    assert_eq!(at.len(), 2 * 18, "each ten minutes of three hours: {at:?}");
    assert_eq!((&*at[17], &*at[18]), ("2026-11-24T04:50:00Z", "2026-11-25T02:00:00Z"));
    assert_tells(&metrics, 2, 0);
}

#[tokio::test(start_paused = true)]
async fn no_rewriting_begins_or_goes_on_after_the_night_and_days_that_failed_come_last() {
    let store = Counting { takes: MINUTE * 50, ..finding(std::iter::repeat_with(found).take(3)) };
    let (at, days, metrics) = rewritings("2026-11-23T01:00:00Z", MINUTE * 60 * 9, store).await;
    assert_eq!(at, ["2026-11-23T02:00:00Z", "2026-11-23T04:40:00Z"]);
    // The two that were in use come after the one that was not, for which the rest of the night was enough.
    let minutes: Vec<_> = days.iter().map(|(day, within)| (day.day(), within.as_secs() / 60)).collect();
    assert_eq!(minutes, [(19, 60), (20, 60), (21, 60), (21, 20)]);
    assert_tells(&metrics, 2, 0);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_cannot_be_right_rewrites_nothing() {
    let (at, days, _) = rewritings("1970-01-01T00:00:00Z", DAY * 3, finding([found()])).await;
    assert_eq!((at, days), (Vec::new(), Vec::new()));
}
