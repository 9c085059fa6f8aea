//! When days that had deletions are rewritten: each night, and again while something is in the way.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::date;
use pulse_telemetry_collector::metrics::CollectorMetrics;
use pulse_telemetry_collector::rewrite::rewrite_by_itself;
use pulse_telemetry_collector::storage::{PingStore, Rewritten, StorageError};
use pulse_telemetry_http::exposition::Format;

use super::counting::Counting;
use super::virtual_clock::Virtual;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// When it is rewritten in that time, by a clock that tells `wall` at the start, and what the metrics say at its end.
/// `rewritten` is what comes of the first rewritings.
async fn rewritings(
    wall: &str,
    time: Duration,
    rewritten: Vec<Result<Rewritten, StorageError>>,
) -> (Vec<String>, String) {
    let store = Arc::new(Counting { rewritten: Mutex::new(rewritten.into()), ..Counting::default() });
    let (clock, metrics) = (Virtual::new(wall.parse().unwrap()), Arc::new(CollectorMetrics::default()));
    let rewriting = rewrite_by_itself(Arc::clone(&store) as Arc<dyn PingStore>, Arc::clone(&metrics), Arc::new(clock));
    let _ = tokio::time::timeout(time, rewriting).await;
    let at = store.rewritings.lock().unwrap().iter().map(Timestamp::to_string).collect();
    (at, metrics.text(Format::Text))
}

fn left() -> Result<Rewritten, StorageError> {
    Ok(Rewritten { days: 1, left: [20, 21].map(|day| (date(2026, 11, day), "it was in use".to_owned())).into() })
}

fn failed() -> Result<Rewritten, StorageError> {
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
    let (at, metrics) = rewritings("2026-11-23T05:00:00Z", DAY * 40, Vec::new()).await;
    assert_eq!(at.len(), 40);
    assert!(at.iter().all(|at| at.ends_with("T02:00:00Z")), "{at:?}");
    assert_tells(&metrics, 0, 0);
    let (at, _) = rewritings("2026-11-23T04:59:59Z", DAY, Vec::new()).await;
    assert_eq!(at, ["2026-11-23T04:59:59Z", "2026-11-24T02:00:59Z"][..at.len()]);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_use_or_fails_is_told_and_tried_again_in_the_same_night_and_then_the_night_is_done() {
    let (at, metrics) = rewritings("2026-11-23T01:50:00Z", MINUTE * 15, vec![left(), failed()]).await;
    assert_eq!(at, ["2026-11-23T02:00:00Z"]);
    assert_tells(&metrics, 2, 0);
    let (at, metrics) = rewritings("2026-11-23T01:50:00Z", MINUTE * 25, vec![left(), failed()]).await;
    assert_eq!(at, ["2026-11-23T02:00:00Z", "2026-11-23T02:10:00Z"]);
    assert_tells(&metrics, 2, 1);
    let (at, metrics) = rewritings("2026-11-23T01:50:00Z", DAY, vec![left(), failed()]).await;
    assert_eq!(at, ["2026-11-23T02:00:00Z", "2026-11-23T02:10:00Z", "2026-11-23T02:20:00Z"]);
    assert_tells(&metrics, 0, 1);
}

#[tokio::test(start_paused = true)]
async fn what_stays_in_use_is_left_when_the_night_ends_until_the_next_one() {
    let never = std::iter::repeat_with(left).take(1000).collect();
    let (at, metrics) = rewritings("2026-11-23T12:00:00Z", DAY * 2, never).await;
    assert_eq!(at.len(), 2 * 18, "each ten minutes of three hours: {at:?}");
    assert_eq!((&*at[17], &*at[18]), ("2026-11-24T04:50:00Z", "2026-11-25T02:00:00Z"));
    assert_tells(&metrics, 2, 0);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_cannot_be_right_rewrites_nothing() {
    assert_eq!(rewritings("1970-01-01T00:00:00Z", DAY * 3, Vec::new()).await.0, Vec::<String>::new());
}
