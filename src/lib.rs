//! The telemetry of a Pulse installation, outside Pulse.

pub mod chance;
pub mod clock;
pub mod consent;
pub mod contract;
pub mod daemon;
pub mod engine;
pub mod identity;
pub mod ping;
pub mod serve;
pub mod snapshot;
pub mod status;
pub mod verdict;
pub mod version;
pub mod wire;
