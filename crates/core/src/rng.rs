//! Randomness, which is an argument everywhere.

use std::time::Duration;

use uuid::Uuid;

/// Where chance comes from. The engine is handed one, so that a simulation can be replayed from its seed.
pub trait Rng {
    /// Sixteen random bytes.
    fn bytes(&mut self) -> [u8; 16];

    /// A random (version 4) UUID.
    fn uuid(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid()
    }

    /// A duration drawn evenly from zero to `most`.
    fn uniform_up_to(&mut self, most: Duration) -> Duration {
        let draw = u128::from_le_bytes(self.bytes()) >> 64;
        // draw / 2^64 of `most`, in whole nanoseconds. `most` is hours at the most, so nothing overflows.
        let nanos = (draw * most.as_nanos()) >> 64;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}
