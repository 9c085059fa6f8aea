//! Rewriting by itself: each night, the days before yesterday that had deletions, where only that frees the disk of
//! deleted rows.

use std::sync::Arc;
use std::time::Duration;

use jiff::civil::{Date, Time, time};
use jiff::tz::Offset;
use pulse_telemetry_core::clock::MINUTE;
use tokio::time::sleep;

use super::metrics::CollectorMetrics;
use super::purge::is_plausible;
use super::queue::SharedClock;
use super::storage::PingStore;

/// The night, in UTC: after the numbers were counted.
const BEGINS: Time = time(2, 0, 0, 0);
const ENDS: Time = time(5, 0, 0, 0);

/// How soon what was not rewritten is tried again, in the same night.
const AGAIN: Duration = MINUTE.saturating_mul(10);

/// Rewrites for ever. What cannot be rewritten is told in the log and by a metric.
pub async fn rewrite_by_itself(store: Arc<dyn PingStore>, metrics: Arc<CollectorMetrics>, clock: SharedClock) {
    let mut done: Option<Date> = None;
    loop {
        let now = clock.now().wall;
        let (today, hour) = (Offset::UTC.to_datetime(now).date(), Offset::UTC.to_datetime(now).time());
        let mut pause = MINUTE;
        if done != Some(today) && (BEGINS..ENDS).contains(&hour) && is_plausible(now) {
            match store.rewrite(now).await {
                Ok(rewritten) => {
                    metrics.unrewritten(rewritten.left.len());
                    if rewritten.days > 0 {
                        tracing::info!(days = rewritten.days, "rewrote days that had deletions");
                    }
                    for (day, why) in &rewritten.left {
                        tracing::error!(%day, why, "failed to rewrite a day: deleted rows are still in its files");
                    }
                    if rewritten.left.is_empty() {
                        done = Some(today);
                    }
                }
                Err(error) => {
                    metrics.rewrite_failed();
                    tracing::error!(%error, "failed to rewrite days that had deletions");
                }
            }
            pause = AGAIN;
        }
        sleep(pause).await;
    }
}
