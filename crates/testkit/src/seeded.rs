//! Chance from a seed.

use pulse_telemetry_core::rng::Rng;

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
