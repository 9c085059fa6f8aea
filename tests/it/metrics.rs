//! What Prometheus is told: documented, used rightly by the examples, and nothing that identifies anybody.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{ACCEPT, HeaderMap, HeaderValue};
use pulse_telemetry::metrics::{DESCRIBED, Metrics};
use pulse_telemetry::status::StatusReport;
use pulse_telemetry_core::credential::Credential;
use pulse_telemetry_core::observation::ReadError;
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_core::verdict::Verdict;
use pulse_telemetry_http::exposition::Format;
use pulse_telemetry_testkit::alone::program_or_skip;
use pulse_telemetry_testkit::client::{self, Reply};
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::server::ResponsePlan;
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup};
use serde_json::json;

/// The names of this program's metrics in a text, without the suffixes of a histogram's series.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|word| word.starts_with("pulse_telemetry_"));
    ours.map(|name| {
        let series = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        series.unwrap_or(name).to_owned()
    })
    .collect()
}

/// The names of the series in a scrape.
fn series(scrape: &str) -> BTreeSet<String> {
    names(&scrape.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n"))
}

fn described() -> BTreeSet<String> {
    DESCRIBED.iter().map(|metric| metric.name.to_owned()).collect()
}

/// A status of which everything is told that ever is.
fn everything() -> StatusReport {
    serde_json::from_value(json!({
        "version": "0.1.0", "running": true, "enabled": true, "off_by": "switch", "summary": "", "locked": false,
        "suppressed": {"reason": "incomplete", "message": "", "unknown": []},
        "endpoint": "https://secret.example/", "next": {"event": "heartbeat", "at": "2026-11-24T00:00:00Z"},
        "pending": null, "last": null,
        "id": {"issued_at": "2026-11-01T00:00:00Z", "rotates_at": "2026-12-01T00:00:00Z"},
        "state_dir": "/secret", "writable": true, "confinement": null, "warnings": ["secret"],
    }))
    .unwrap()
}

#[test]
fn every_metric_is_described_and_every_description_is_of_a_metric() {
    let metrics = Metrics::default();
    metrics.suppressed(LedgerReason::Incomplete);
    metrics.answered(&Verdict::Delivered, "2026-11-23T00:00:00Z".parse().unwrap());
    metrics.answered(&Verdict::Drop { reason: LedgerReason::Refused }, "2026-11-23T00:00:01Z".parse().unwrap());
    metrics.read(Err(&ReadError::Unauthorized(Credential::default())), Duration::from_millis(300));
    metrics.ledger(1234);
    let [scrape, text] = [Format::OpenMetrics, Format::Text].map(|format| metrics.encode(format, &everything(), 3));
    assert_eq!(series(&scrape), described());
    let samples = |scrape: &str| -> Vec<String> {
        scrape.lines().filter(|line| !line.starts_with('#')).map(ToOwned::to_owned).collect()
    };
    assert_eq!(samples(&scrape), samples(&text), "the samples are the same");
    for line in [
        "pulse_telemetry_build_info{version=\"0.1.0\"} 1",
        "pulse_telemetry_pings_total{verdict=\"delivered\",reason=\"delivered\"} 1",
        "pulse_telemetry_pings_total{verdict=\"drop\",reason=\"refused\"} 1",
        "pulse_telemetry_last_success_timestamp_seconds 1795392000",
        "pulse_telemetry_next_due_timestamp_seconds 1795478400",
        "pulse_telemetry_id_issued_timestamp_seconds 1793491200",
        "pulse_telemetry_off{source=\"switch\"} 1",
        "pulse_telemetry_suppressed{reason=\"incomplete\"} 1",
        "pulse_telemetry_suppressions_total{reason=\"incomplete\"} 1",
        "pulse_telemetry_pulse_reads_total{outcome=\"unauthorized\"} 1",
        "pulse_telemetry_pulse_reads_total{outcome=\"complete\"} 0",
        "pulse_telemetry_pulse_read_duration_seconds_bucket{le=\"0.25\"} 0",
        "pulse_telemetry_pulse_read_duration_seconds_bucket{le=\"0.5\"} 1",
        "pulse_telemetry_ledger_bytes 1234",
        "pulse_telemetry_local_events 3",
    ] {
        assert!(scrape.lines().any(|said| said == line), "{line} in\n{scrape}");
    }
    assert!(scrape.ends_with("# EOF\n") && !scrape.contains("secret"), "{scrape}");
    for line in [
        "# TYPE pulse_telemetry_build_info gauge",
        "# TYPE pulse_telemetry_pings_total counter",
        "# HELP pulse_telemetry_pings_total Attempts to send a ping since the start, by what the answer meant.",
        "# TYPE pulse_telemetry_pulse_read_duration_seconds histogram",
    ] {
        assert!(text.lines().any(|said| said == line), "{line} in\n{text}");
    }
    assert!(!text.contains("EOF") && !text.contains("UNIT") && !text.contains(" info\n"), "{text}");
}

#[test]
fn who_prefers_openmetrics_gets_it_and_everybody_else_the_text_format() {
    let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                        text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                        application/openmetrics-text;version=0.0.1;q=0.5,\
                        text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    for (accept, format) in [
        (vec![], Format::Text),
        (vec![""], Format::Text),
        (vec!["*/*"], Format::Text),
        (vec!["text/html, */*;q=0.8"], Format::Text),
        (vec!["text/plain;version=0.0.4"], Format::Text),
        (vec!["TEXT/Plain; Version=0.0.4; Q=1"], Format::Text),
        (vec!["application/json"], Format::Text),
        (vec!["text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5"], Format::Text),
        (vec!["text/plain, application/openmetrics-text"], Format::Text),
        (vec!["application/openmetrics-text;version=0.0.1"], Format::Text),
        (vec!["application/openmetrics-text;version=2.0.0, */*;q=0.1"], Format::Text),
        (vec!["application/openmetrics-text;q=0, */*;q=0.1"], Format::Text),
        (vec!["application/openmetrics-text;q=nonsense"], Format::Text),
        (vec!["application/openmetrics-text;q=0.2, */*"], Format::Text),
        (vec!["text/*;q=0.5, application/openmetrics-text;q=0.4"], Format::Text),
        (vec![";;,,=;q"], Format::Text),
        (vec![prometheus_2], Format::OpenMetrics),
        (vec![prometheus_3], Format::OpenMetrics),
        (vec!["application/openmetrics-text"], Format::OpenMetrics),
        (vec!["application/openmetrics-text; version=\"1.0.0\"; charset=utf-8"], Format::OpenMetrics),
        (vec!["Application/OpenMetrics-Text, */*"], Format::OpenMetrics),
        (vec!["*/*, text/plain;q=0"], Format::OpenMetrics),
        (vec!["text/plain;q=0.3", "application/openmetrics-text;q=0.4"], Format::OpenMetrics),
    ] {
        let mut headers = HeaderMap::new();
        for line in &accept {
            headers.append(ACCEPT, HeaderValue::from_str(line).unwrap());
        }
        assert_eq!(Format::wanted(&headers), format, "{accept:?}");
    }
}

/// What Debian's promtool and Prometheus' own Python parser say of both formats of a scrape.
fn check_with_the_parsers_of_others(test: &str, text: &Reply, open_metrics: &Reply) {
    let types = [text, open_metrics].map(|scrape| scrape.header("content-type").unwrap().to_owned());
    assert_eq!(types, [Format::Text.media_type(), Format::OpenMetrics.media_type()]);
    assert_eq!(text.header("vary").map(str::to_lowercase).as_deref(), Some("accept"));
    if program_or_skip("promtool", &["--version"], test) {
        let (said, ended) = fed(Command::new("promtool").args(["check", "metrics"]), &text.body);
        assert!(ended && said.is_empty(), "promtool: {said}\n{}", text.text());
    }
    let python = pulse_telemetry_testkit::sidecar::binary().ancestors().nth(2).unwrap().join("schemathesis/bin/python");
    let parse = "import sys\nfrom prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n\
                 print(sum(len(family.samples) for family in parse(sys.stdin.read())))";
    if program_or_skip(python.to_str().unwrap(), &["--version"], test) {
        let (said, ended) = fed(Command::new(python).args(["-c", parse]), &open_metrics.body);
        let samples = open_metrics.text().lines().filter(|line| !line.starts_with('#')).count();
        assert!(ended && said.trim() == samples.to_string(), "{said}\n{}", open_metrics.text());
    }
}

/// All that the program says when it is given this, and whether it ended well.
fn fed(command: &mut Command, input: &[u8]) -> (String, bool) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8(said).unwrap(), output.status.success())
}

const OPEN_METRICS: [(&str, &str); 1] = [("Accept", "application/openmetrics-text")];

#[test]
fn the_parsers_of_others_read_both_formats_of_the_sidecar() {
    let test = "the_parsers_of_others_read_both_formats_of_the_sidecar";
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    endpoint.answer_next(ResponsePlan::text(500, "no"));
    let sidecar = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN).start();
    endpoint.wait_for_pings(1, LIMIT);
    sidecar.wait_for_log("did not take the ping");
    let open_metrics = client::fetch(sidecar.address(), "GET", "/metrics", &OPEN_METRICS, Bytes::new()).unwrap();
    check_with_the_parsers_of_others(test, &sidecar.get("/metrics"), &open_metrics);
    pulse.change(|model| model.mock = true);
    sidecar.put("/api/v1/switch", r#"{"enabled":false}"#);
    let open_metrics = client::fetch(sidecar.address(), "GET", "/metrics", &OPEN_METRICS, Bytes::new()).unwrap();
    check_with_the_parsers_of_others(test, &sidecar.get("/metrics"), &open_metrics);
}

#[test]
fn the_parsers_of_others_read_both_formats_of_the_collector() {
    use pulse_telemetry_testkit::collector::{Setup, Storage, ping_of};

    let test = "the_parsers_of_others_read_both_formats_of_the_collector";
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).start();
    for number in 0..3 {
        assert_eq!(collector.post(&ping_of(number)).status, 204);
    }
    assert_eq!(collector.post(&json!({"nonsense": true})).status, 400);
    let text = collector.ask_admin("/metrics");
    check_with_the_parsers_of_others(test, &text, &collector.ask_admin_with("/metrics", &OPEN_METRICS));
}

#[test]
fn the_page_on_metrics_the_dashboard_and_the_alerts_name_every_metric_that_there_is_and_no_other() {
    let page = include_str!("../../docs/METRICS.md");
    assert_eq!(names(page), described());
    let dashboard = include_str!("../../docs/grafana-dashboard.json");
    serde_json::from_str::<serde_json::Value>(dashboard).unwrap();
    assert_eq!(names(dashboard), described(), "the dashboard shows all of them");
    let alerts = names(include_str!("../../docs/alerts.yml"));
    assert!(!alerts.is_empty() && alerts.is_subset(&described()), "{alerts:?}");
    for metric in DESCRIBED {
        let (seconds, bytes) = (metric.name.contains("seconds"), metric.name.contains("bytes"));
        assert!(!seconds || metric.name.ends_with("_seconds"), "{}", metric.name);
        assert!(!bytes || metric.name.ends_with("_bytes"), "{}", metric.name);
    }
}

#[test]
fn the_real_program_counts_its_pings_readings_and_suppressions_and_names_nobody() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    endpoint.answer_next(ResponsePlan::text(500, "no"));
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN);
    let sidecar = setup.start();
    endpoint.wait_for_pings(1, LIMIT);
    sidecar.wait_for_log("did not take the ping");
    let scraped = sidecar.get("/metrics");
    assert_eq!((scraped.status, scraped.header("content-type")), (200, Some(Format::Text.media_type())));
    let first = scraped.text();
    let has = |scrape: &str, line: &str| scrape.lines().any(|said| said.starts_with(line));
    assert!(has(&first, "pulse_telemetry_pings_total{verdict=\"retry\",reason=\"server_error\"} 1"), "{first}");
    assert!(has(&first, "pulse_telemetry_pings_total{verdict=\"delivered\",reason=\"delivered\"} 0"), "{first}");
    assert!(!has(&first, "pulse_telemetry_last_success"), "{first}");
    assert!(has(&first, "pulse_telemetry_pulse_reads_total{outcome=\"complete\"} 1"), "{first}");
    assert!(has(&first, "pulse_telemetry_consent 1") && !has(&first, "pulse_telemetry_off"), "{first}");
    let size = std::fs::metadata(setup.state("ledger.jsonl")).unwrap().len();
    assert!(has(&first, &format!("pulse_telemetry_ledger_bytes {size}")), "{first}");
    let id = setup.id_on_disk().unwrap();
    for identifying in [id.as_str(), &id[..8], "127.0.0.1", "http", setup.path("state").to_str().unwrap()] {
        assert!(!first.contains(identifying), "{identifying} in {first}");
    }
    assert!(series(&first).is_subset(&described()));

    sidecar.put("/api/v1/switch", r#"{"enabled":false}"#);
    let off = sidecar.get("/metrics").text();
    assert!(has(&off, "pulse_telemetry_consent 0") && has(&off, "pulse_telemetry_off{source=\"switch\"} 1"), "{off}");
    assert!(!has(&off, "pulse_telemetry_next_due") && !has(&off, "pulse_telemetry_id_issued"), "{off}");
}

#[test]
fn the_last_success_is_known_after_a_restart() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN);
    let sidecar = setup.start();
    endpoint.wait_for_pings(1, LIMIT);
    sidecar.wait_for_log("ping delivered");
    let last = |scrape: String| -> Option<String> {
        scrape.lines().find(|line| line.starts_with("pulse_telemetry_last_success")).map(ToOwned::to_owned)
    };
    let before = last(sidecar.get("/metrics").text());
    drop(sidecar);
    pulse.change(|model| model.mock = true);
    let sidecar = setup.start();
    let scrape = sidecar.get("/metrics").text();
    assert!(before.is_some());
    assert_eq!(last(scrape), before);
}
