//! The telemetry of a Pulse installation, outside Pulse.

pub mod chance;
pub mod clock;
pub mod config;
pub mod snapshot;
pub mod version;
