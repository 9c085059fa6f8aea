//! The telemetry of a Pulse installation, outside Pulse.

pub mod chance;
pub mod clock;
pub mod pulse;
pub mod snapshot;
pub mod version;
pub mod wire;
