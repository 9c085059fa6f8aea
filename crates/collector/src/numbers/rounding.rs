//! How an exact number becomes one that may be shown.
//!
//! A number is shown from a threshold on, rounded to a multiple of [`STEP`]. Each cell has a threshold and an offset
//! of its own, drawn once from a secret key that the storage keeps: the same cell always has the same, so that asking
//! again averages nothing away, and a sender who adds installations until a number moves learns the sum of the number
//! and an offset that it does not know. `crates/collector/NUMBERS.md` says why no group of one to four can be told from
//! none.

use ring::hmac::{self, HMAC_SHA256};

/// Shown numbers are multiples of this. An offset takes each value below it, so that an exact number has this many
/// candidates: one more than there are sizes of a group that is to stay hidden, so that none or [`STEP`] is among them.
pub const STEP: u64 = 5;

/// The least that the threshold of a cell may be, and how many values it takes from there on.
pub const THRESHOLD_MIN: u64 = 10;
const THRESHOLDS: u64 = 5;

/// The secret key of all cells of a storage.
pub struct RoundingKey(hmac::Key);

/// Its length in bytes.
pub const KEY_LENGTH: usize = 32;

impl RoundingKey {
    /// The key of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8; KEY_LENGTH]) -> Self {
        Self(hmac::Key::new(HMAC_SHA256, bytes))
    }

    /// What is shown of a cell: `None` where it has fewer IDs than its threshold.
    #[must_use]
    pub fn shown(&self, field: &str, cell: &str, ids: u64) -> Option<u64> {
        let threshold = THRESHOLD_MIN + self.draw("threshold", field, cell) % THRESHOLDS;
        let offset = self.draw("offset", field, cell) % STEP;
        (ids >= threshold).then(|| (ids + offset) / STEP * STEP)
    }

    /// A number that only the key's holder can tell.
    fn draw(&self, what: &str, field: &str, cell: &str) -> u64 {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [what, field, cell] {
            // The length stands before each part, so that no two cells are the same text.
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        let tag = context.sign();
        tag.as_ref().iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
    }
}
