//! What `GET /metrics` tells Prometheus. No label holds an ID, a host or an address: each value is a word of a small
//! set of this program's own.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use pulse_telemetry_core::observation::{ReadError, Reading};
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_core::receipt::ReceiptStanding;
use pulse_telemetry_core::verdict::Verdict;
use pulse_telemetry_http::exposition::Format;

use crate::status::StatusReport;

/// Where one reading of Pulse, a dozen requests, ends: from a Pulse beside it to one that hangs, in seconds.
const READ_BUCKETS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// One metric, as it is documented.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// Its name, as Prometheus stores it.
    pub name: &'static str,
    /// What its labels tell, by name; empty where it has none.
    pub labels: &'static str,
    /// What it tells.
    pub help: &'static str,
}

const fn describe(name: &'static str, labels: &'static str, help: &'static str) -> Described {
    Described { name, labels, help }
}

const BUILD: Described = describe("pulse_telemetry_build_info", "version", "The version that runs; always 1");
const PINGS: Described = describe(
    "pulse_telemetry_pings_total",
    "verdict (delivered, retry, drop), reason",
    "Attempts to send a ping since the start, by what the answer meant",
);
const RECEIPTS: Described = describe(
    "pulse_telemetry_receipts_total",
    "standing (verified, unverified, false, missing)",
    "Receipts of delivered pings and of deletions since the start, by what they were worth",
);
const DELETIONS: Described = describe(
    "pulse_telemetry_deletions_pending",
    "",
    "Install IDs whose deletion at the endpoint was asked for and is not over",
);
const LAST_SUCCESS: Described = describe(
    "pulse_telemetry_last_success_timestamp_seconds",
    "",
    "When a ping was last delivered; absent where the history knows of none",
);
const NEXT_DUE: Described = describe(
    "pulse_telemetry_next_due_timestamp_seconds",
    "",
    "When the next ping is due, or is looked at again; absent while telemetry is off",
);
const CONSENT: Described = describe("pulse_telemetry_consent", "", "1 while telemetry is on, 0 while it is off");
const OFF: Described = describe(
    "pulse_telemetry_off",
    "source (pulse_telemetry, do_not_track, config, switch, pulse)",
    "1 for the source that switched telemetry off; absent while it is on",
);
const SUPPRESSED: Described = describe(
    "pulse_telemetry_suppressed",
    "reason",
    "1 for what keeps pings from being sent although telemetry is on; absent where nothing does",
);
const SUPPRESSIONS: Described = describe(
    "pulse_telemetry_suppressions_total",
    "reason",
    "How often since the start something began to keep pings from being sent",
);
const READS: Described = describe(
    "pulse_telemetry_pulse_reads_total",
    "outcome (complete, incomplete, unreachable, unauthorized, not_pulse)",
    "Readings of Pulse since the start",
);
const READ_TIME: Described =
    describe("pulse_telemetry_pulse_read_duration_seconds", "", "How long readings of Pulse took; a histogram");
const ID_ISSUED: Described = describe(
    "pulse_telemetry_id_issued_timestamp_seconds",
    "",
    "When the current install ID was made (its age is time() minus this); absent where there is none",
);
const LEDGER: Described = describe("pulse_telemetry_ledger_bytes", "", "The size of the history on disk");
const WRITABLE: Described =
    describe("pulse_telemetry_state_writable", "", "1 while the state directory can be written, else 0");
const EVENTS: Described =
    describe("pulse_telemetry_local_events", "", "How many local-only commercial events are kept");

/// Every metric there is.
pub const DESCRIBED: [Described; 16] = [
    BUILD,
    CONSENT,
    OFF,
    SUPPRESSED,
    SUPPRESSIONS,
    PINGS,
    RECEIPTS,
    DELETIONS,
    LAST_SUCCESS,
    NEXT_DUE,
    READS,
    READ_TIME,
    ID_ISSUED,
    LEDGER,
    WRITABLE,
    EVENTS,
];

/// The table of `docs/METRICS.md`.
#[must_use]
pub fn markdown_table() -> String {
    let row = |metric: &Described| format!("| `{}` | {} | {} |\n", metric.name, metric.labels, metric.help);
    format!("| metric | labels | what it tells |\n|---|---|---|\n{}", DESCRIBED.iter().map(row).collect::<String>())
}

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// What is counted while the process lives. A clone counts into the same counters.
#[derive(Clone, Debug)]
pub struct Metrics {
    pings: Family<Labels<2>, Counter>,
    receipts: Family<Labels<1>, Counter>,
    suppressions: Family<Labels<1>, Counter>,
    reads: Family<Labels<1>, Counter>,
    read_time: Histogram,
    /// In seconds since 1970; 0 where there was none.
    last_success: Gauge,
    ledger: Gauge<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            pings: Family::default(),
            receipts: Family::default(),
            suppressions: Family::default(),
            reads: Family::default(),
            read_time: Histogram::new(READ_BUCKETS),
            last_success: Gauge::default(),
            ledger: Gauge::default(),
        };
        // From zero, so that the first increase is seen as one.
        drop(metrics.pings.get_or_create(&ping_labels(&Verdict::Delivered)));
        for standing in ["verified", "unverified", "false", "missing"] {
            drop(metrics.receipts.get_or_create(&[("standing", standing)]));
        }
        for outcome in ["complete", "incomplete", "unreachable", "unauthorized", "not_pulse"] {
            drop(metrics.reads.get_or_create(&[("outcome", outcome)]));
        }
        metrics
    }
}

impl Metrics {
    /// An attempt came to this at that time.
    pub fn answered(&self, verdict: &Verdict, at: Timestamp) {
        self.pings.get_or_create(&ping_labels(verdict)).inc();
        if *verdict == Verdict::Delivered {
            self.delivered(at);
        }
    }

    /// The endpoint's receipt, or that there is none, was worth this.
    pub fn receipt(&self, standing: ReceiptStanding) {
        self.receipts.get_or_create(&[("standing", standing.word())]).inc();
    }

    /// A ping was delivered at that time, by this process or an earlier one.
    pub fn delivered(&self, at: Timestamp) {
        self.last_success.set(at.as_second());
    }

    /// Something began to keep pings from being sent.
    pub fn suppressed(&self, reason: LedgerReason) {
        self.suppressions.get_or_create(&[("reason", reason.word())]).inc();
    }

    /// The result of a reading of Pulse, and how long it took.
    pub fn read(&self, read: Result<&Reading, &ReadError>, took: Duration) {
        let outcome = match read.map(Reading::known) {
            Ok(Ok(_)) => "complete",
            Ok(Err(_)) => "incomplete",
            Err(ReadError::Unreachable(_)) => "unreachable",
            Err(ReadError::Unauthorized(_)) => "unauthorized",
            Err(ReadError::NotPulse(_)) => "not_pulse",
        };
        self.reads.get_or_create(&[("outcome", outcome)]).inc();
        self.read_time.observe(took.as_secs_f64());
    }

    /// How many bytes the history takes on disk.
    pub fn ledger(&self, bytes: u64) {
        self.ledger.set(bytes);
    }

    /// All of it in this format, together with how things stand and how many local events are kept.
    #[must_use]
    pub fn encode(&self, format: Format, status: &StatusReport, local_events: usize) -> String {
        let mut registry = Registry::default();
        let out = &mut registry;
        add(out, BUILD, one("version", &status.version));
        add(out, CONSENT, flag(status.enabled));
        add_some(out, OFF, status.off_by.as_ref().map(|source| one("source", source.as_str())));
        add_some(
            out,
            SUPPRESSED,
            status.suppressed.as_ref().map(|suppressed| one("reason", suppressed.reason.as_str())),
        );
        add(out, SUPPRESSIONS, self.suppressions.clone());
        add(out, PINGS, self.pings.clone());
        add(out, RECEIPTS, self.receipts.clone());
        add(out, DELETIONS, count(status.forget.pending));
        add_some(out, LAST_SUCCESS, Some(self.last_success.clone()).filter(|time| time.get() != 0));
        add_some(out, NEXT_DUE, status.next.as_ref().map(|next| time(next.at)));
        add(out, READS, self.reads.clone());
        add(out, READ_TIME, self.read_time.clone());
        add_some(out, ID_ISSUED, status.id.as_ref().map(|id| time(id.issued_at)));
        add(out, LEDGER, self.ledger.clone());
        add(out, WRITABLE, flag(status.writable));
        add(out, EVENTS, count(local_events));
        format.encode(&registry)
    }
}

fn add(registry: &mut Registry, described: Described, metric: impl Metric) {
    // The encoder itself puts what is cut off here behind the names of counters.
    let name = described.name.strip_suffix("_total").unwrap_or(described.name);
    registry.register(name, described.help, metric);
}

fn add_some(registry: &mut Registry, described: Described, metric: Option<impl Metric>) {
    if let Some(metric) = metric {
        add(registry, described, metric);
    }
}

fn count(of: usize) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(i64::try_from(of).unwrap_or(i64::MAX));
    gauge
}

fn flag(is_so: bool) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(is_so.into());
    gauge
}

fn time(at: Timestamp) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(at.as_second());
    gauge
}

/// A gauge of 1 with one label.
fn one(name: &'static str, value: &str) -> Family<[(&'static str, String); 1], Gauge> {
    let family = Family::<_, Gauge>::default();
    family.get_or_create(&[(name, value.to_owned())]).set(1);
    family
}

fn ping_labels(verdict: &Verdict) -> Labels<2> {
    let (verdict, reason) = match verdict {
        Verdict::Delivered => ("delivered", LedgerReason::Delivered.word()),
        Verdict::Retry { reason, .. } => ("retry", reason.word()),
        Verdict::Drop { reason } => ("drop", reason.word()),
    };
    [("verdict", verdict), ("reason", reason)]
}
