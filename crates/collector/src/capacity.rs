//! How much of the disk the pings may take, and who is turned away for it: first new install IDs, then everybody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::metrics::CollectorMetrics;

/// What a row takes at most, its place in the index included, so that what was stored since the last look is not
/// forgotten.
const ROW_BYTES: u64 = 1024;

/// How full the storage is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fullness {
    /// There is room.
    #[default]
    Roomy,
    /// Nine tenths of `limits.storage_bytes` are taken.
    Scarce,
    /// All of it is: no new install ID is taken.
    NoNewIds,
    /// A tenth more is: no ping is taken.
    Full,
}

impl Fullness {
    const ALL: [Self; 4] = [Self::Roomy, Self::Scarce, Self::NoNewIds, Self::Full];

    /// From how many tenths of the limit on it is so.
    fn tenths(self) -> u64 {
        match self {
            Self::Roomy => 0,
            Self::Scarce => 9,
            Self::NoNewIds => 10,
            Self::Full => 11,
        }
    }

    /// Of `used` bytes. What it was stays for as long as less than a 32nd of that is freed, so that it does not change
    /// back and forth.
    fn of(used: u64, limit: u64, before: Self) -> Self {
        let begins = |fullness: Self| {
            let begin = u128::from(limit) * u128::from(fullness.tenths()) / 10;
            if fullness <= before { begin - begin / 32 } else { begin }
        };
        Self::ALL.into_iter().rev().find(|fullness| u128::from(used) >= begins(*fullness)).unwrap_or_default()
    }
}

/// How much of the disk the pings take. Shared by who looks, who stores and who is asked.
#[derive(Debug)]
pub struct Capacity {
    /// `None`: any number of bytes.
    limit: Option<u64>,
    /// How many rows were stored since the last look began.
    rows: AtomicU64,
    found: Mutex<(u64, Fullness)>,
}

impl Capacity {
    /// Of `limits.storage_bytes`; 0 for any number.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { limit: (limit > 0).then_some(limit), rows: AtomicU64::new(0), found: Mutex::default() }
    }

    /// How full it is.
    #[must_use]
    pub fn fullness(&self) -> Fullness {
        self.found().1
    }

    /// `rows` rows were stored.
    pub fn stored(&self, rows: u64, metrics: &CollectorMetrics) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        let bytes = self.found().0;
        self.judge(bytes, metrics);
    }

    /// How many rows were stored since the last look, to be told to [`Capacity::looked`] after the next one.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// It was found to take `bytes` bytes, `rows` of those stored since then among them.
    pub fn looked(&self, bytes: u64, rows: u64, metrics: &CollectorMetrics) {
        self.rows.fetch_sub(rows, Ordering::Relaxed);
        metrics.storage_bytes(bytes, self.limit.unwrap_or(0));
        self.judge(bytes, metrics);
    }

    fn found(&self) -> MutexGuard<'_, (u64, Fullness)> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What changes is logged, not what stays.
    fn judge(&self, bytes: u64, metrics: &CollectorMetrics) {
        let Some(limit) = self.limit else { return };
        let used = bytes.saturating_add(self.rows() * ROW_BYTES);
        let mut found = self.found();
        let (before, now) = (found.1, Fullness::of(used, limit, found.1));
        *found = (bytes, now);
        if before == now {
            return;
        }
        metrics.storage_takes(now < Fullness::NoNewIds, now < Fullness::Full);
        let limit = format_args!("{limit}");
        match now {
            Fullness::Roomy => tracing::info!(bytes, %limit, "the pings take less of limits.storage_bytes again"),
            Fullness::Scarce => tracing::warn!(
                bytes,
                %limit,
                "the pings take nine tenths of limits.storage_bytes: above it new install IDs are refused; give it \
                 more, or look for what sends so much"
            ),
            Fullness::NoNewIds => tracing::error!(
                bytes,
                %limit,
                "the pings take all of limits.storage_bytes: new install IDs are refused, known ones are still stored"
            ),
            Fullness::Full => tracing::error!(
                bytes,
                %limit,
                "the pings take a tenth more than limits.storage_bytes: no ping is stored until a purge has made room"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 10 << 20;

    fn looked(capacity: &Capacity, bytes: u64) -> Fullness {
        capacity.looked(bytes, 0, &CollectorMetrics::default());
        capacity.fullness()
    }

    #[test]
    fn new_ids_are_refused_at_the_limit_everything_a_tenth_later_and_the_operator_is_told_before() {
        let capacity = Capacity::new(LIMIT);
        for (tenths, expected) in [
            (0, Fullness::Roomy),
            (8, Fullness::Roomy),
            (9, Fullness::Scarce),
            (10, Fullness::NoNewIds),
            (11, Fullness::Full),
            (20, Fullness::Full),
            (10, Fullness::NoNewIds),
            (9, Fullness::Scarce),
            (0, Fullness::Roomy),
        ] {
            assert_eq!(looked(&capacity, LIMIT / 10 * tenths), expected, "{tenths} tenths");
        }
    }

    #[test]
    fn what_is_stored_between_two_looks_counts_and_a_look_corrects_it() {
        let (capacity, metrics) = (Capacity::new(LIMIT), CollectorMetrics::default());
        looked(&capacity, LIMIT - 100 * ROW_BYTES);
        capacity.stored(99, &metrics);
        assert_eq!(capacity.fullness(), Fullness::Scarce);
        let rows = capacity.rows();
        capacity.stored(1, &metrics);
        assert_eq!(capacity.fullness(), Fullness::NoNewIds);
        capacity.looked(LIMIT / 2, rows, &metrics);
        assert_eq!((capacity.fullness(), capacity.rows()), (Fullness::Roomy, 1));
    }

    #[test]
    fn it_does_not_change_back_and_forth_around_a_limit() {
        let capacity = Capacity::new(LIMIT);
        assert_eq!(looked(&capacity, LIMIT), Fullness::NoNewIds);
        assert_eq!(looked(&capacity, LIMIT - 1), Fullness::NoNewIds);
        assert_eq!(looked(&capacity, LIMIT - LIMIT / 32), Fullness::NoNewIds);
        assert_eq!(looked(&capacity, LIMIT - LIMIT / 32 - 1), Fullness::Scarce);
    }

    #[test]
    fn without_a_limit_it_is_never_full() {
        assert_eq!(looked(&Capacity::new(0), u64::MAX), Fullness::Roomy);
    }
}
