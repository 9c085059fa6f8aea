//! Rewriting by itself: each night, the days before yesterday that had deletions, where only that frees the disk of
//! deleted rows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, Time, time};
use jiff::tz::Offset;
use pulse_telemetry_core::clock::MINUTE;
use tokio::time::sleep;

use super::metrics::CollectorMetrics;
use super::purge::is_plausible;
use super::queue::SharedClock;
use super::storage::{PingStore, day_of};

/// The night, in UTC: after the numbers were counted.
const BEGINS: Time = time(2, 0, 0, 0);
const ENDS: Time = time(5, 0, 0, 0);

/// How long one day may take, so that others have their turn.
const LONGEST: Duration = MINUTE.saturating_mul(60);

/// How soon what was not rewritten is tried again, in the same night.
const AGAIN: Duration = MINUTE.saturating_mul(10);

/// Rewrites for ever. What cannot be rewritten is told in the log and by a metric.
pub async fn rewrite_by_itself(store: Arc<dyn PingStore>, metrics: Arc<CollectorMetrics>, clock: SharedClock) {
    let mut rewriting = Rewriting { store, metrics, clock, left: BTreeSet::new() };
    let mut done: Option<Date> = None;
    loop {
        let now = rewriting.clock.now().wall;
        let mut pause = MINUTE;
        if done != Some(day_of(now)) && rest_of_the_night(now).is_some() && is_plausible(now) {
            if rewriting.rewrite(now).await {
                done = Some(day_of(now));
            }
            pause = AGAIN;
        }
        sleep(pause).await;
    }
}

struct Rewriting {
    store: Arc<dyn PingStore>,
    metrics: Arc<CollectorMetrics>,
    clock: SharedClock,
    /// The days that were not rewritten the last time.
    left: BTreeSet<Date>,
}

impl Rewriting {
    /// Rewrites what there is to rewrite while it is night, and says whether that was all.
    async fn rewrite(&mut self, now: Timestamp) -> bool {
        let mut days = match self.store.unrewritten(now).await {
            Ok(days) => days,
            Err(error) => {
                self.metrics.rewrite_failed();
                tracing::error!(%error, "failed to look for days that had deletions");
                return false;
            }
        };
        // One that takes its time and fails each time must not keep the others from theirs.
        days.sort_by_key(|day| self.left.contains(day));
        let mut rewritten = 0;
        self.left = days.iter().copied().collect();
        for day in days {
            let Some(rest) = rest_of_the_night(self.clock.now().wall) else {
                tracing::error!(days = self.left.len(), "the night is over: the rest is rewritten in the next one");
                break;
            };
            let failed = match self.store.rewrite(day, rest.min(LONGEST)).await {
                Ok(why) => why,
                Err(error) => Some(error.to_string()),
            };
            if let Some(why) = failed {
                tracing::error!(%day, why, "failed to rewrite a day: deleted rows are still in its files");
            } else {
                rewritten += 1;
                self.left.remove(&day);
            }
        }
        self.metrics.unrewritten(self.left.len());
        if rewritten > 0 {
            tracing::info!(days = rewritten, "rewrote days that had deletions");
        }
        self.left.is_empty()
    }
}

/// How long the night goes on; `None` while it is no night.
fn rest_of_the_night(now: Timestamp) -> Option<Duration> {
    let hour = Offset::UTC.to_datetime(now).time();
    (BEGINS..ENDS).contains(&hour).then(|| hour.duration_until(ENDS).unsigned_abs())
}
