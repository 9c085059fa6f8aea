//! Whatever Pulse answers, each fault has its own outcome, and none of them is a zero, a false or a panic.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod asked;
mod faults;
mod meaning;
mod organizations;
mod refusals;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use pulse_telemetry::pulse::{PlatformSetting, PulseClient, PulseSettings, Tokens};
use pulse_telemetry_core::observation::{ReadError, Reading, Reason};
use pulse_telemetry_http::tls::Trust;
use pulse_telemetry_http::wire::{Dial, DialError, Dialing, Stream};
use pulse_telemetry_testkit::pulse::{
    Counts, MONITORING_READ, Orgs, PulseModel, Relay, SETTINGS_READ, SimulatedPulse, TOKEN, Token,
};
use pulse_telemetry_testkit::server::{Answer, Body, ResponsePlan};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::time;

const STATS: &str = "/api/resources/stats";
const SUMMARY: &str = "/api/state/summary";
const NODES: &str = "/api/resources";
const ALERTS: &str = "/api/alerts/active";
const ORGS: &str = "/api/orgs";
const SETTINGS: &str = "/api/system/settings";
const SECURITY: &str = "/api/security/status";

/// A request, and what it tells.
type Told = (&'static str, &'static [&'static str]);

/// The requests of a reading, in their order, and what each one tells.
const TOLD: [Told; 11] = [
    ("/api/health", &["starting"]),
    ("/api/version", &["version", "platform"]),
    (SECURITY, &["sso_enabled", "demo_mode"]),
    (SETTINGS, &["own_sender"]),
    ("/api/system/mock-mode", &["mock_mode"]),
    (STATS, ALL_COUNTS),
    (SUMMARY, &["pve_nodes", "vms", "containers", "docker_hosts", "active_alerts"]),
    ("/api/settings/ai", &["ai_enabled"]),
    ("/api/settings/relay", &["relay_enabled"]),
    (ORGS, &["multi_tenant"]),
    ("/api/license/status", &["paid_license"]),
];
const ALL_COUNTS: &[&str] = &[
    "pve_nodes",
    "pbs_instances",
    "pmg_instances",
    "vms",
    "containers",
    "docker_hosts",
    "kubernetes_clusters",
    "active_alerts",
];

/// The longest that a request may take here.
const TIMEOUT: Duration = Duration::from_secs(90);

/// A Pulse 6 that has some of everything.
fn healthy() -> PulseModel {
    PulseModel {
        is_docker: true,
        counts: Counts { nodes: 7, pbs: 1, pmg: 2, vms: 3, containers: 4, docker_hosts: 5, k8s: 6, alerts: 8 },
        relay: Relay::Enabled,
        sso: true,
        tier: "pro".to_owned(),
        ..PulseModel::default()
    }
}

/// The same, of a build before 6.0.0-rc.7.
fn early() -> PulseModel {
    PulseModel { summary: false, version: "6.0.0-rc.5".to_owned(), ..healthy() }
}

const ACME_TOKEN: &str = "acme-token";

/// As `healthy`, with a second organization.
fn with_acme() -> PulseModel {
    let mut model = PulseModel { orgs: Orgs::List, ..healthy() };
    let counts = Counts { nodes: 20, pbs: 1, vms: 30, alerts: 40, ..Counts::default() };
    model.other_organizations.insert("acme".to_owned(), counts);
    model.tokens.insert(ACME_TOKEN.to_owned(), Token::new(&[MONITORING_READ, SETTINGS_READ], "acme"));
    model
}

fn ok(body: &str) -> ResponsePlan {
    ResponsePlan::bytes(200, "application/json", body.to_owned())
}

fn gone() -> ResponsePlan {
    ResponsePlan::text(404, "404 page not found\n")
}

fn missing_scope(scope: &str) -> serde_json::Value {
    serde_json::json!({"error": "missing_scope", "requiredScope": scope})
}

fn cut_short(status: u16, sent: &'static str) -> ResponsePlan {
    let body = Body::CutShort { declared: 99, sent: Bytes::from(sent) };
    ResponsePlan::Answer(Answer { status, headers: Vec::new(), body })
}

fn one() -> Tokens {
    Tokens::One(TOKEN.into())
}

fn both() -> Tokens {
    Tokens::Organizations(vec![("acme".to_owned(), ACME_TOKEN.into()), ("default".to_owned(), TOKEN.into())])
}

fn settings(url: &str, tokens: Tokens) -> PulseSettings {
    PulseSettings {
        url: url.parse().unwrap(),
        tokens,
        trust: Trust::default(),
        timeout: TIMEOUT,
        platform: PlatformSetting::Auto,
    }
}

async fn read_at(settings: PulseSettings) -> Result<Reading, ReadError> {
    PulseClient::new(settings).unwrap().read().await
}

async fn read_by(dialer: Dialer, settings: PulseSettings) -> Result<Reading, ReadError> {
    PulseClient::with_dial(settings, Box::new(dialer)).unwrap().read().await
}

async fn outcome(pulse: &SimulatedPulse, tokens: Tokens) -> Result<Reading, ReadError> {
    read_at(settings(&pulse.url(), tokens)).await
}

async fn read(pulse: &SimulatedPulse) -> Reading {
    outcome(pulse, one()).await.unwrap()
}

/// What is read of a healthy Pulse that answers this at one path.
async fn read_with(path: &str, plan: ResponsePlan) -> Reading {
    let pulse = SimulatedPulse::start(healthy());
    pulse.replace(path, plan);
    read(&pulse).await
}

/// As `read_with`, of a build before 6.0.0-rc.7.
async fn read_early_with(path: &str, plan: ResponsePlan) -> Reading {
    let pulse = SimulatedPulse::start(early());
    pulse.replace(path, plan);
    read(&pulse).await
}

/// What is unknown, and why.
fn unknown(reading: &Reading) -> Vec<(&'static str, Reason)> {
    reading.unknown().into_iter().map(|unknown| (unknown.what, unknown.reason.clone())).collect()
}

fn reason<T>(value: pulse_telemetry_core::observation::Value<T>) -> Result<T, Reason> {
    value.map_err(|unknown| unknown.reason)
}

/// As `unknown`, where one and the same request should have told all of it.
fn asked_for_nothing_but(request: &str, reading: &Reading) -> Vec<(&'static str, Reason)> {
    assert!(reading.unknown().iter().all(|unknown| unknown.request == request), "{:?}", reading.unknown());
    unknown(reading)
}

/// The counts that `/api/state` of Pulse 5 tells.
fn all_of_state(reason: &Reason) -> Vec<(&'static str, Reason)> {
    let counts = ALL_COUNTS.iter().filter(|what| **what != "active_alerts");
    counts.map(|what| (*what, reason.clone())).collect()
}

/// What one failed request leaves unknown, and nothing else.
fn assert_told(target: &str, told: &[&str], reason: &Reason, reading: &Reading) {
    let request = format!("GET {target}");
    let expected: Vec<_> = told.iter().map(|what| (*what, request.as_str(), reason)).collect();
    let unknown = reading.unknown().into_iter().map(|unknown| (unknown.what, unknown.request, &unknown.reason));
    assert_eq!(unknown.collect::<Vec<_>>(), expected);
}

/// Each request in turn is answered like this.
async fn each_request_fails_with(plan: ResponsePlan, reason: Reason) {
    each_of(TOLD, plan, reason).await;
}

async fn each_of(told: impl IntoIterator<Item = Told>, plan: ResponsePlan, reason: Reason) {
    let pulse = SimulatedPulse::start(healthy());
    for (target, told) in told {
        let path = target.split('?').next().unwrap();
        pulse.replace(path, plan.clone());
        assert_told(target, told, &reason, &read(&pulse).await);
        pulse.restore(path);
    }
}

/// What becomes of one connection.
#[derive(Clone, Copy)]
enum Fault {
    /// There is none.
    Refused,
    /// There is none, and no error either.
    Unanswered,
    /// These bytes come in place of an answer, and then its end.
    Says(&'static [u8]),
    /// These bytes come in place of an answer, and then nothing.
    Stalls(&'static [u8]),
}

/// Connects to a Pulse, whatever the settings say. One connection may be faulty, which is one request.
struct Dialer {
    pulse: SocketAddr,
    fault: Option<(usize, Fault)>,
    flood: Option<(usize, Flood)>,
    dialed: Arc<AtomicUsize>,
}

impl Dialer {
    fn to(pulse: &SimulatedPulse) -> Self {
        Self { pulse: pulse.server.addr, fault: None, flood: None, dialed: Arc::default() }
    }

    /// The connection that has this number, from 0, is faulty.
    fn with(self, fault: Fault, at: usize) -> Self {
        Self { fault: Some((at, fault)), ..self }
    }

    /// The connection that has this number brings no end of bytes.
    fn flooding(self, at: usize, flood: Flood) -> Self {
        Self { flood: Some((at, flood)), ..self }
    }
}

impl Dial for Dialer {
    fn dial(&self) -> Dialing<'_> {
        let number = self.dialed.fetch_add(1, Ordering::Relaxed);
        let fault = self.fault.filter(|(at, _)| *at == number).map(|(_, fault)| fault);
        let flood = self.flood.clone().filter(|(at, _)| *at == number).map(|(_, flood)| flood);
        Box::pin(async move {
            if let Some(flood) = flood {
                return Ok(boxed(flood.start()));
            }
            match fault {
                None => Ok(boxed(TcpStream::connect(self.pulse).await.unwrap())),
                Some(Fault::Refused) => Err(DialError::Peer("connection refused".to_owned())),
                Some(Fault::Unanswered) => {
                    let _passing = TimePasses::at_once();
                    std::future::pending().await
                }
                Some(Fault::Says(bytes)) => Ok(boxed(say(bytes, false))),
                Some(Fault::Stalls(bytes)) => Ok(boxed(say(bytes, true))),
            }
        })
    }
}

fn boxed(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static) -> Box<dyn Stream> {
    Box::new(TokioIo::new(stream))
}

/// The end of a pipe at whose other end these bytes are said once the request is there.
fn say(bytes: &'static [u8], stalls: bool) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(4096);
    tokio::spawn(async move {
        let mut pipe = ours;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(pipe.read_u8().await.unwrap());
        }
        // A client that has read enough hangs up.
        let _ = pipe.write_all(bytes).await;
        if stalls {
            let _passing = TimePasses::at_once();
            let _ = pipe.read_u8().await;
        }
    });
    theirs
}

/// Bytes without end.
#[derive(Clone)]
struct Flood {
    begin: String,
    again: String,
    sent: Arc<AtomicUsize>,
}

impl Flood {
    /// The end of a pipe at whose other end it begins once a request is there.
    fn start(self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(16 * 1024);
        tokio::spawn(async move {
            let mut pipe = ours;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(pipe.read_u8().await.unwrap());
            }
            let mut more = self.begin.as_bytes();
            while pipe.write_all(more).await.is_ok() {
                self.sent.fetch_add(more.len(), Ordering::Relaxed);
                more = self.again.as_bytes();
            }
        });
        theirs
    }
}

/// While this lives, whatever the runtime waits for, it waits for no time. Servers have runtimes of their own.
struct TimePasses;

impl TimePasses {
    fn at_once() -> Self {
        time::pause();
        Self
    }
}

impl Drop for TimePasses {
    fn drop(&mut self) {
        time::resume();
    }
}
