//! What every request is answered with.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipnet::IpNet;
use pulse_telemetry_http::server::Limits;
use pulse_telemetry_http::server::places::Places;

use crate::capacity::Capacity;
use crate::limiter::Limiter;
use crate::metrics::CollectorMetrics;
use crate::places::Networks;
use crate::publish::LatestNumbers;
use crate::queue::{Queue, Readiness, SharedClock};
use crate::receipts::Receipts;
use crate::retry::Retry;

/// What every request is answered with.
pub struct App {
    /// Who sends too much.
    pub limiter: Limiter,
    /// Whose word is taken for where a ping comes from.
    pub trusted_proxies: Vec<IpNet>,
    /// Who has which of the connections.
    pub places: Arc<Places<Networks>>,
    /// How much of the disk is left for pings.
    pub capacity: Arc<Capacity>,
    /// The way into the storage.
    pub queue: Queue,
    /// Signs receipts, where there is a key.
    pub receipts: Option<Receipts>,
    /// Whether the collector can do its work.
    pub health: Arc<Readiness>,
    /// What is counted.
    pub metrics: Arc<CollectorMetrics>,
    /// The numbers of the last whole day.
    pub numbers: Arc<LatestNumbers>,
    /// When those who are refused should come back.
    pub retry: Arc<Mutex<Retry>>,
    /// The time.
    pub clock: SharedClock,
    /// How long a ping may wait to be stored.
    pub commit_timeout: Duration,
    /// What a caller may take of memory and time.
    pub limits: Limits,
}
