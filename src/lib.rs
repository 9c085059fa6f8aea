//! The telemetry of a Pulse installation, outside Pulse.

pub mod chance;
pub mod cli;
pub mod clock;
pub mod config;
pub mod consent;
pub mod contract;
pub mod daemon;
pub mod engine;
pub mod identity;
pub mod ping;
pub mod pulse;
pub mod send;
pub mod serve;
pub mod snapshot;
pub mod status;
pub mod store;
pub mod verdict;
pub mod version;
pub mod wire;
