//! The purge by itself: at the start, at every full hour and so at midnight, when a day becomes 90 days old.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_core::clock::Now;
use pulse_telemetry_core::clock::{DAY, MINUTE};
use pulse_telemetry_core::contract::CONTRACT_DATE;
use tokio::time::sleep;

use super::capacity::Capacity;
use super::metrics::CollectorMetrics;
use super::queue::{Readiness, SharedClock};
use super::storage::PingStore;

/// How soon a purge that failed is tried again.
const AGAIN: Duration = MINUTE;

/// How often a storage that failed is probed.
const LOOK: Duration = Duration::from_secs(1);

/// Consecutive successful probes that clear a failure; a commit clears it at once.
const LOOKS: u32 = 10;

/// A wall clock that leaps by more than this since the last purge is not believed.
const LEAP: Duration = DAY.saturating_mul(2);

/// How far ahead of the newest row the clock may be at the start to be believed at once, and how far behind it: the
/// clocks of two collectors differ.
const AHEAD: SignedDuration = SignedDuration::from_hours(7 * 24);
const BEHIND: SignedDuration = SignedDuration::from_hours(24);

/// For how long a clock has to go on telling what is doubted until it is believed.
const DOUBT: Duration = DAY;

/// The oldest row's time is told this much later at most.
const TOLD_LATE_SECONDS: i64 = 60 * 60;

/// Purges for ever. `newest` is when the newest row was received that was there before the start: a clock that is far
/// from it, or one that leaps later, is not believed before it has gone on for a day from there. It may be one that was
/// not set yet, and would have every row dropped.
pub async fn purge_by_itself(
    store: Arc<dyn PingStore>,
    metrics: Arc<CollectorMetrics>,
    clock: SharedClock,
    newest: Option<Timestamp>,
) {
    let mut trusted: Option<Now> = None;
    let mut doubted: Option<Now> = None;
    loop {
        let now = clock.now();
        let is_odd = match trusted {
            Some(before) => leapt(before, now),
            None => newest.is_some_and(|newest| is_far(newest, now.wall)),
        };
        let since = doubted.filter(|since| is_odd && !leapt(*since, now)).unwrap_or(now);
        if is_odd && since == now {
            tracing::error!(
                now = %now.wall,
                newest_ping = newest.map(tracing::field::display),
                "the clock is far from the newest ping that was stored at the start, or leapt by days: nothing is \
                 purged for a day; set it if it is wrong"
            );
        }
        doubted = is_odd.then_some(since);
        let worked = if is_odd && now.mono.saturating_sub(since.mono) < DOUBT {
            metrics.purge_failed();
            false
        } else {
            purge_once(store.as_ref(), &metrics, now.wall).await
        };
        if worked {
            trusted = Some(now);
        }
        if let Ok(span) = store.span().await {
            metrics.oldest(span.map(|span| span.oldest));
        }
        sleep(if worked { until_the_full_hour(clock.now().wall) } else { AGAIN }).await;
    }
}

/// Whether the clock tells a time that is far from that of the newest row.
#[must_use]
pub fn is_far(newest: Timestamp, now: Timestamp) -> bool {
    let ahead = now.duration_since(newest);
    ahead > AHEAD || ahead < -BEHIND
}

/// Looks for ever how much of the disk the storage takes, and whether one that failed works again, so that a balancer
/// that sends nothing any more learns of it.
pub async fn look_after_the_storage(
    store: Arc<dyn PingStore>,
    health: Arc<Readiness>,
    capacity: Arc<Capacity>,
    metrics: Arc<CollectorMetrics>,
) {
    let (mut in_a_row, mut untidy) = (0, None);
    loop {
        let found = store.tidy().await.map_err(|error| error.to_string()).err();
        if let Some(error) = found.as_ref().filter(|_| found != untidy) {
            tracing::error!(error, "failed to wipe what deleted rows left in the files; it is tried again");
        }
        untidy = found;
        let rows = capacity.rows();
        // Where it fails, a commit fails too, and tells.
        if let Ok(bytes) = store.size().await {
            capacity.looked(bytes, rows, &metrics);
        }
        if health.storage_works() {
            in_a_row = 0;
        } else {
            let found = store.probe().await.map_err(|error| error.to_string());
            in_a_row = if found.is_ok() { in_a_row + 1 } else { 0 };
            // A commit may still fail where a probe works, and `/readyz` must not flap for that.
            if found.is_err() || !health.storage_failed() || in_a_row >= LOOKS {
                health.found(found, &metrics);
            }
        }
        sleep(LOOK).await;
    }
}

async fn purge_once(store: &dyn PingStore, metrics: &CollectorMetrics, now: Timestamp) -> bool {
    if !is_plausible(now) {
        tracing::error!("the clock tells a time before the contract was published: nothing is purged until it is set");
        return false;
    }
    match store.purge(now).await {
        // The other collector may yet fail.
        Ok(purged) if purged.lock_held_by_other => false,
        Ok(purged) => {
            metrics.purged(now, purged.days);
            if purged.days > 0 {
                tracing::info!(days = purged.days, "dropped days that are 90 days old");
            }
            true
        }
        Err(error) => {
            metrics.purge_failed();
            tracing::error!(%error, "failed to purge; it is tried again in a minute");
            false
        }
    }
}

/// Whether the wall clock went otherwise than the monotonic one by more than [`LEAP`].
fn leapt(before: Now, now: Now) -> bool {
    now.wall.duration_since(before.expected_at(now)).unsigned_abs() > LEAP
}

/// Whether a clock that tells this time can be right.
#[must_use]
pub fn is_plausible(now: Timestamp) -> bool {
    now >= CONTRACT_DATE
}

fn until_the_full_hour(now: Timestamp) -> Duration {
    let rest = TOLD_LATE_SECONDS - now.as_second().rem_euclid(TOLD_LATE_SECONDS);
    Duration::from_secs(rest.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_purge_is_at_the_full_hour() {
        let until = |text: &str| until_the_full_hour(text.parse().unwrap());
        assert_eq!(until("2026-11-23T23:59:30Z"), Duration::from_secs(30));
        assert_eq!(until("2026-11-23T23:00:00Z"), Duration::from_secs(3600));
    }
}
