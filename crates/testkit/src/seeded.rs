//! Chance from a seed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pulse_telemetry_core::rng::Rng;

use super::lock;

/// SplitMix64: the same draws in every run.
#[derive(Clone, Debug)]
pub struct Seeded(pub u64);

impl Seeded {
    /// A number below `most`.
    pub fn draw(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Rng for Seeded {
    fn bytes(&mut self) -> [u8; 16] {
        let (high, low) = (self.next(), self.next());
        (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
    }
}

/// What the engine draws: a time is none of what it may be, or nearly all of it. Each UUID is a new one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extremes {
    pub most: bool,
    /// How many UUIDs were drawn.
    pub uuids: u64,
    /// A time was drawn.
    pub drew: bool,
}

/// Where the engine's chance comes from.
#[derive(Clone, Debug)]
pub enum Draws {
    Seeded(Seeded),
    /// Shared, so that a search can say what is drawn in a step.
    Extremes(Arc<Mutex<Extremes>>),
}

impl Rng for Draws {
    fn bytes(&mut self) -> [u8; 16] {
        match self {
            Self::Seeded(seeded) => seeded.bytes(),
            Self::Extremes(extremes) => {
                let mut extremes = lock(extremes);
                extremes.uuids += 1;
                (u128::from(extremes.uuids) << 80).to_le_bytes()
            }
        }
    }

    fn uniform_up_to(&mut self, most: Duration) -> Duration {
        match self {
            Self::Seeded(seeded) => seeded.uniform_up_to(most),
            Self::Extremes(extremes) => {
                let mut extremes = lock(extremes);
                extremes.drew = true;
                if extremes.most { most.saturating_sub(Duration::from_nanos(1)) } else { Duration::ZERO }
            }
        }
    }
}
