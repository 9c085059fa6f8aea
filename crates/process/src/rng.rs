//! The only module that asks the system for randomness.

use pulse_telemetry_core::rng::Rng;

/// The operating system's own random source.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    #[expect(clippy::expect_used, reason = "without the system's random source no ID may be made at all")]
    fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the system's random source works");
        bytes
    }
}
