//! What the collector counts about itself, as Prometheus reads it. No label holds anything that a ping brought.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use pulse_telemetry_http::exposition::Format;

use super::network::ProxyMismatch;
use super::storage::Committed;

/// The limits that a ping may meet.
pub(super) const PER_MINUTE: &str = "per_minute";
pub(super) const NEW_IDS: &str = "new_ids";
pub(super) const ROWS_OF_AN_ID: &str = "rows_of_an_id";

/// What becomes of a deletion.
pub(super) const DONE: &str = "done";
pub(super) const REFUSED: &str = "refused";
pub(super) const LIMITED: &str = "limited";
pub(super) const TURNED_AWAY: &str = "turned_away";
pub(super) const FAILED: &str = "failed";

fn problem(mismatch: ProxyMismatch) -> &'static str {
    match mismatch {
        ProxyMismatch::Untrusted => "untrusted",
        ProxyMismatch::Missing => "no_client",
    }
}

/// What becomes of pings: the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Which limit a ping met that was answered with 429: the label `limit`, a key of the configuration or a word of the
/// collector's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Limit {
    limit: &'static str,
}

/// What is wrong between a proxy and `serve.trusted_proxies`: the label `problem`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProblemLabel {
    problem: &'static str,
}

/// Why requests are refused: the label `reason`, a word of the collector's own, and `field`, one of the contract or
/// none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
    field: &'static str,
}

/// The metrics of one collector.
#[derive(Debug)]
pub struct CollectorMetrics {
    registry: Registry,
    pings: Family<OutcomeLabel, Counter>,
    deletions: Family<OutcomeLabel, Counter>,
    unrewritten: Gauge,
    rewrite_failures: Counter,
    publishing_works: Gauge,
    refused: Family<ReasonLabel, Counter>,
    limited: Family<Limit, Counter>,
    proxy_mismatches: Family<ProblemLabel, Counter>,
    dropped_fields: Counter,
    commit_seconds: Histogram,
    batch_rows: Histogram,
    waiting: Gauge,
    works: Gauge,
    storage_bytes: Gauge,
    storage_limit_bytes: Gauge,
    takes_new_ids: Gauge,
    takes_pings: Gauge,
    oldest: Gauge<f64, AtomicU64>,
    purged_at: Gauge<f64, AtomicU64>,
    purged_tables: Counter,
    purge_failures: Counter,
    networks: Gauge,
    refused_connections: Counter,
    displaced_connections: Counter,
    certificate_ends: Gauge<f64, AtomicU64>,
}

impl Default for CollectorMetrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("pulse_telemetry_collector");
        let metrics = Self {
            pings: Family::default(),
            deletions: Family::default(),
            unrewritten: Gauge::default(),
            rewrite_failures: Counter::default(),
            publishing_works: Gauge::default(),
            refused: Family::default(),
            limited: Family::default(),
            proxy_mismatches: Family::default(),
            dropped_fields: Counter::default(),
            commit_seconds: Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]),
            batch_rows: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]),
            waiting: Gauge::default(),
            works: Gauge::default(),
            storage_bytes: Gauge::default(),
            storage_limit_bytes: Gauge::default(),
            takes_new_ids: Gauge::default(),
            takes_pings: Gauge::default(),
            oldest: Gauge::default(),
            purged_at: Gauge::default(),
            purged_tables: Counter::default(),
            purge_failures: Counter::default(),
            networks: Gauge::default(),
            refused_connections: Counter::default(),
            displaced_connections: Counter::default(),
            certificate_ends: Gauge::default(),
            registry: Registry::default(),
        };
        metrics.register_requests(&mut registry);
        metrics.register_storage(&mut registry);
        metrics.register_rewriting(&mut registry);
        metrics.register_networks(&mut registry);
        metrics.storage_takes(true, true);
        for limit in [PER_MINUTE, NEW_IDS, ROWS_OF_AN_ID] {
            drop(metrics.limited.get_or_create(&Limit { limit }));
        }
        for mismatch in [ProxyMismatch::Untrusted, ProxyMismatch::Missing] {
            drop(metrics.proxy_mismatches.get_or_create(&ProblemLabel { problem: problem(mismatch) }));
        }
        for outcome in ["stored", "duplicate", "refused", "limited", "turned_away", "failed"] {
            // So that it is there, with 0, before the first one.
            drop(metrics.pings.get_or_create(&OutcomeLabel { outcome }));
        }
        for outcome in [DONE, REFUSED, LIMITED, TURNED_AWAY, FAILED] {
            drop(metrics.deletions.get_or_create(&OutcomeLabel { outcome }));
        }
        Self { registry, ..metrics }
    }
}

impl CollectorMetrics {
    /// Everything, in this format.
    #[must_use]
    pub fn text(&self, format: Format) -> String {
        format.encode(&self.registry)
    }

    fn register_requests(&self, r: &mut Registry) {
        r.register("pings", "Pings by what became of them", self.pings.clone());
        let help = "Deletions that were asked for, by what became of them, whether there was anything to delete or not";
        r.register("deletions", help, self.deletions.clone());
        r.register("refused", "Requests that were no acceptable ping, by reason and field", self.refused.clone());
        r.register("limited", "Pings that were answered with 429, by the limit that they met", self.limited.clone());
        let mismatches = self.proxy_mismatches.clone();
        let help = "Pings whose client may be another one than it seems: see serve.trusted_proxies";
        r.register("proxy_mismatches", help, mismatches);
        let dropped = self.dropped_fields.clone();
        r.register(
            "dropped_fields",
            "Fields of pings that the contract does not have or allow, and that were dropped",
            dropped,
        );
        let ends = self.certificate_ends.clone();
        r.register(
            "certificate_end_timestamp_seconds",
            "When the certificate in serve.tls_cert ends; 0 for none",
            ends,
        );
    }

    fn register_storage(&self, r: &mut Registry) {
        r.register("commit_seconds", "How long a commit of a batch takes", self.commit_seconds.clone());
        r.register("batch_rows", "How many pings a batch has", self.batch_rows.clone());
        r.register("waiting_pings", "Pings that wait to be stored", self.waiting.clone());
        r.register("storage_works", "1 while pings can be stored, else 0", self.works.clone());
        r.register("storage_bytes", "Bytes that the pings take of the disk", self.storage_bytes.clone());
        let limit = self.storage_limit_bytes.clone();
        r.register("storage_limit_bytes", "limits.storage_bytes; 0 for any number", limit);
        let new_ids = self.takes_new_ids.clone();
        r.register("storage_takes_new_ids", "1 while new install IDs are stored, 0 while the storage is full", new_ids);
        let pings = self.takes_pings.clone();
        r.register("storage_takes_pings", "1 while known install IDs are stored, 0 while the storage is full", pings);
        let oldest = self.oldest.clone();
        r.register("oldest_row_timestamp_seconds", "When the oldest stored ping was received; 0 for none", oldest);
        let purged_at = self.purged_at.clone();
        r.register("last_purge_timestamp_seconds", "When the last purge that worked began; 0 for none", purged_at);
        let help = "1 while the last whole day is counted and, where publish.dir is set, written there, else 0";
        r.register("publishing_works", help, self.publishing_works.clone());
        let tables = self.purged_tables.clone();
        r.register(
            "purged_tables",
            "Tables or partitions of a day that were dropped because it was 90 days ago",
            tables,
        );
        r.register("purge_failures", "Purges that failed", self.purge_failures.clone());
    }

    fn register_rewriting(&self, r: &mut Registry) {
        let help = "Days that could not be rewritten, so that deleted rows are still in PostgreSQL's files; as of the \
                    last night";
        r.register("unrewritten_partitions", help, self.unrewritten.clone());
        r.register("rewrite_failures", "Rewritings of days that failed", self.rewrite_failures.clone());
    }

    fn register_networks(&self, r: &mut Registry) {
        r.register("limited_networks", "Networks that are counted for the rate limit now", self.networks.clone());
        let connections = self.refused_connections.clone();
        r.register("refused_connections", "Connections closed because their network had too many", connections);
        let displaced = self.displaced_connections.clone();
        let help = "Waiting connections closed for another network's when all places were taken";
        r.register("displaced_connections", help, displaced);
    }

    fn count(&self, outcome: &'static str, pings: u64) {
        self.pings.get_or_create(&OutcomeLabel { outcome }).inc_by(pings);
    }

    pub(super) fn refused(&self, reason: &'static str, field: Option<&'static str>) {
        self.count("refused", 1);
        self.refused.get_or_create(&ReasonLabel { reason, field: field.unwrap_or("") }).inc();
    }

    pub(super) fn deletion(&self, outcome: &'static str) {
        self.deletions.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(super) fn unrewritten(&self, days: usize) {
        self.unrewritten.set(i64::try_from(days).unwrap_or(i64::MAX));
    }

    pub(super) fn publishing_works(&self, works: bool) {
        self.publishing_works.set(works.into());
    }

    pub(super) fn rewrite_failed(&self) {
        self.rewrite_failures.inc();
    }

    pub(super) fn limited(&self, limit: &'static str) {
        self.count("limited", 1);
        self.limited.get_or_create(&Limit { limit }).inc();
    }

    /// Counts it, and says whether it is the first of its kind.
    pub(super) fn proxy_mismatch(&self, mismatch: ProxyMismatch) -> bool {
        self.proxy_mismatches.get_or_create(&ProblemLabel { problem: problem(mismatch) }).inc() == 0
    }

    pub(super) fn counted_networks(&self, networks: usize) {
        self.networks.set(i64::try_from(networks).unwrap_or(i64::MAX));
    }

    pub(super) fn connection_refused(&self) {
        self.refused_connections.inc();
    }

    pub(super) fn connection_displaced(&self) {
        self.displaced_connections.inc();
    }

    pub(super) fn storage_bytes(&self, bytes: u64, limit: u64) {
        self.storage_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.storage_limit_bytes.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    pub(super) fn storage_takes(&self, new_ids: bool, pings: bool) {
        self.takes_new_ids.set(new_ids.into());
        self.takes_pings.set(pings.into());
    }

    pub(super) fn turned_away(&self, pings: usize) {
        self.count("turned_away", pings as u64);
    }

    pub(super) fn dropped(&self, fields: u64) {
        self.dropped_fields.inc_by(fields);
    }

    pub(super) fn committed(&self, committed: Committed, rows: usize, took: Duration) {
        self.count("stored", committed.stored);
        self.count("duplicate", committed.duplicates);
        self.batch(rows, took);
    }

    pub(super) fn failed(&self, rows: usize, took: Duration) {
        self.count("failed", rows as u64);
        self.batch(rows, took);
    }

    fn batch(&self, rows: usize, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
        self.batch_rows.observe(f64::from(u32::try_from(rows).unwrap_or(u32::MAX)));
    }

    pub(super) fn waiting(&self, pings: usize) {
        self.waiting.set(i64::try_from(pings).unwrap_or(i64::MAX));
    }

    pub(super) fn storage_works(&self, works: bool) {
        self.works.set(works.into());
    }

    pub(super) fn purged(&self, at: Timestamp, days: u64) {
        self.purged_at.set(at.as_duration().as_secs_f64());
        self.purged_tables.inc_by(days);
    }

    pub(super) fn certificate_ends(&self, at: Timestamp) {
        self.certificate_ends.set(at.as_duration().as_secs_f64());
    }

    pub(super) fn purge_failed(&self) {
        self.purge_failures.inc();
    }

    pub(super) fn oldest(&self, at: Option<Timestamp>) {
        self.oldest.set(at.map_or(0.0, |at| at.as_duration().as_secs_f64()));
    }

    /// How the collector is, for its maintainers' page: a name and a value each.
    pub(super) fn health(&self) -> Vec<(&'static str, String)> {
        let pings = |outcome| self.pings.get_or_create(&OutcomeLabel { outcome }).get().to_string();
        let time = |seconds: f64, none: &str| match Timestamp::from_second(seconds as i64) {
            Ok(at) if seconds > 0.0 => at.to_string(),
            _ => none.to_owned(),
        };
        let megabytes = |bytes: i64| format!("{} MB", (bytes + 500_000) / 1_000_000);
        let limit = match self.storage_limit_bytes.get() {
            0 => "no limit".to_owned(),
            bytes => format!("at most {}", megabytes(bytes)),
        };
        let works = |gauge: &Gauge| if gauge.get() == 1 { "works" } else { "does not work" }.to_owned();
        vec![
            ("storage", works(&self.works)),
            ("size of the storage", format!("{}, {limit}", megabytes(self.storage_bytes.get()))),
            ("pings stored since the start", pings("stored")),
            ("duplicates", pings("duplicate")),
            ("refused", pings("refused")),
            ("limited", pings("limited")),
            ("turned away", pings("turned_away")),
            ("failed", pings("failed")),
            ("deletions", self.deletions.get_or_create(&OutcomeLabel { outcome: DONE }).get().to_string()),
            ("days that could not be rewritten", self.unrewritten.get().to_string()),
            ("counting and publishing", works(&self.publishing_works)),
            ("oldest ping", time(self.oldest.get(), "none")),
            ("last purge", time(self.purged_at.get(), "none yet")),
            ("end of the certificate", time(self.certificate_ends.get(), "none of its own")),
        ]
    }
}
