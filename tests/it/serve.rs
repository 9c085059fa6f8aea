//! The local server over real sockets, in front of a daemon that answers what the test tells it to.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod guards;
mod limits;
mod listening;
mod page;
mod routes;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pulse_telemetry::daemon::{
    CancelForgetAnswer, Command, ForgetCommandAnswer, Handle, NoPreview, PostureSeen, Preview, ResetAnswer, Snapshot,
    SwitchAnswer,
};
use pulse_telemetry::events::Recorder;
use pulse_telemetry::metrics::Metrics;
use pulse_telemetry::posture::{
    AiPosture, Covered, DataHandling, Posture, Provider, RelayHost, RelayPosture, RelayState, UpdateChannel, Updates,
};
use pulse_telemetry::serve::{AppState, Listen, Listener, Server};
use pulse_telemetry::status::{StatusReport, SuppressedReport, UnknownReport};
use pulse_telemetry::store::{EventFile, HistoryPage};
use pulse_telemetry_core::observation::Commercial;
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_http::server::{Limits, ServeSettings};
use pulse_telemetry_process::clock::SystemClock;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const PAYLOAD: &str = r#"{"install_id":"a1b2c3d4-0000-4000-8000-000000000000","version":"6.0.0-rc.1","vms":25}"#;

const TOKEN: &str = "correct-horse";

/// Every path, what it allows, and methods that it does not.
const METHODS: [(&str, &str, [&str; 3]); 28] = [
    ("/", READS, ["POST", "PUT", "DELETE"]),
    ("/style.css", READS, ["POST", "PUT", "DELETE"]),
    ("/page.js", READS, ["POST", "PUT", "DELETE"]),
    ("/icon.svg", READS, ["POST", "PUT", "DELETE"]),
    ("/favicon.ico", READS, ["POST", "PUT", "DELETE"]),
    ("/docs/PRIVACY.md", READS, ["POST", "PUT", "DELETE"]),
    ("/docs/CONFIGURATION.md", READS, ["POST", "PUT", "DELETE"]),
    ("/docs/METRICS.md", READS, ["POST", "PUT", "DELETE"]),
    ("/docs/ping.schema.json", READS, ["POST", "PUT", "DELETE"]),
    ("/api/v1/preview", READS, ["POST", "PATCH", "TRACE"]),
    ("/api/v1/preview/bytes", READS, ["POST", "PUT", "DELETE"]),
    ("/api/v1/reset-id", "OPTIONS, POST", ["GET", "HEAD", "PUT"]),
    ("/api/v1/status", READS, ["POST", "PUT", "DELETE"]),
    ("/api/v1/posture", READS, ["POST", "PUT", "DELETE"]),
    ("/api/v1/history", "DELETE, GET, HEAD, OPTIONS", ["POST", "PUT", "PATCH"]),
    ("/api/v1/schema", READS, ["POST", "PUT", "DELETE"]),
    ("/api/v1/events", "DELETE, GET, HEAD, OPTIONS", ["POST", "PUT", "PATCH"]),
    ("/api/v1/switch", "OPTIONS, PUT", ["GET", "HEAD", "POST"]),
    ("/api/system/settings/telemetry-preview", READS, ["POST", "PUT", "DELETE"]),
    ("/api/system/settings/telemetry-reset-id", "OPTIONS, POST", ["GET", "HEAD", "PUT"]),
    ("/api/upgrade-metrics/events", "OPTIONS, POST", ["GET", "HEAD", "DELETE"]),
    ("/api/upgrade-metrics/stats", READS, ["POST", "PUT", "DELETE"]),
    ("/api/upgrade-metrics/health", READS, ["POST", "PUT", "DELETE"]),
    ("/api/upgrade-metrics/config", "GET, HEAD, OPTIONS, PUT", ["POST", "PATCH", "DELETE"]),
    ("/metrics", READS, ["POST", "PUT", "DELETE"]),
    ("/openapi.json", READS, ["POST", "PUT", "DELETE"]),
    ("/healthz", READS, ["POST", "PUT", "DELETE"]),
    ("/readyz", READS, ["POST", "PUT", "DELETE"]),
];

const READS: &str = "GET, HEAD, OPTIONS";

/// What the daemon answers.
struct Daemon {
    status: StatusReport,
    preview: Result<Preview, NoPreview>,
    reset: ResetAnswer,
    switch: SwitchAnswer,
    erased: bool,
    posture: Result<PostureSeen, NoPreview>,
    /// Pulse was read.
    has_read: bool,
    /// Lines of the ledger, the newest first; none: a line that repeats the question.
    history: Option<Vec<Value>>,
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            status: status(),
            preview: Ok(preview()),
            reset: ResetAnswer::Done(Ok(preview())),
            switch: SwitchAnswer::Done { off: None, persisted: true },
            erased: true,
            posture: Ok(PostureSeen { posture: posture(), age: Duration::from_millis(7900) }),
            has_read: true,
            history: None,
        }
    }
}

type Asked = Arc<Mutex<Vec<&'static str>>>;

impl Daemon {
    /// Starts it, and tells what it was asked.
    fn spawn(self) -> (Handle, Asked) {
        let (handle, questions) = Handle::new(8);
        let asked = Asked::default();
        tokio::spawn(self.answer(questions, Arc::clone(&asked)));
        (handle, asked)
    }

    async fn answer(self, mut questions: mpsc::Receiver<Command>, asked: Asked) {
        while let Some(question) = questions.recv().await {
            let word = match question {
                Command::Status { is_looked_at, answer } => {
                    let word = if is_looked_at { "status" } else { "glance" };
                    answer.send(self.status.clone()).map_or("gone", |()| word)
                }
                Command::Snapshot(answer) => {
                    let known = Snapshot {
                        status: self.status.clone(),
                        preview: Some(self.preview.clone()).filter(|_| self.has_read),
                        posture: Some(self.posture.clone()).filter(|_| self.has_read),
                        commercial: Some(COMMERCIAL).filter(|_| self.has_read),
                    };
                    answer.send(known).map_or("gone", |()| "known")
                }
                Command::Preview(answer) => answer.send(self.preview.clone()).map_or("gone", |()| "preview"),
                Command::Posture(answer) => answer.send(self.posture.clone()).map_or("gone", |()| "posture"),
                Command::Reset(answer) => answer.send(self.reset.clone()).map_or("gone", |()| "reset"),
                Command::Forget(answer) => answer.send(ForgetCommandAnswer::Unreadable).map_or("gone", |()| "forget"),
                Command::CancelForget(answer) => answer
                    .send(CancelForgetAnswer { cancelled: 0, persisted: false })
                    .map_or("gone", |()| "cancel forget"),
                Command::Switch { on, answer } => {
                    answer.send(self.switch).map_or("gone", |()| if on { "switch on" } else { "switch off" })
                }
                Command::History { before, limit, answer } => {
                    let asked_for = json!({"limit": limit, "before": before}).to_string();
                    let entries = self.history.as_ref().map_or_else(
                        || vec![RawValue::from_string(asked_for).unwrap()],
                        |lines| lines.iter().map(|line| RawValue::from_string(line.to_string()).unwrap()).collect(),
                    );
                    answer.send(Some(HistoryPage { entries, before: Some(7) })).map_or("gone", |()| "history")
                }
                Command::EraseHistory(answer) => answer.send(self.erased).map_or("gone", |()| "erase"),
                Command::Commercial(answer) => answer.send(Some(COMMERCIAL)).map_or("gone", |()| "commercial"),
            };
            asked.lock().unwrap().push(word);
        }
    }
}

const COMMERCIAL: Commercial = Commercial { disable_local_upgrade_metrics: false, reduce_pro_upsell_noise: true };

/// What a server asks, with a recorder that can keep nothing.
fn app(daemon: Handle) -> AppState {
    let file = EventFile::new(Path::new("/nonexistent"));
    let recorder = Recorder::open(file, None, Box::new(SystemClock)).unwrap().0;
    AppState { daemon, events: Arc::new(recorder), metrics: Metrics::default() }
}

fn status() -> StatusReport {
    serde_json::from_value(json!({
        "version": "0.1.0",
        "running": true,
        "enabled": true,
        "off_by": null,
        "summary": "Telemetry is on.",
        "locked": false,
        "suppressed": null,
        "endpoint": "https://example.invalid/",
        "next": {"event": "heartbeat", "at": "2026-06-02T10:20:30Z"},
        "pending": {"event": "startup", "attempts": 2, "bytes": "{}"},
        "last": {
            "at": "2026-06-01T10:20:30Z",
            "event": "heartbeat",
            "outcome": "delivered",
            "reason": "delivered",
            "status": 204,
        },
        "id": {"issued_at": "2026-06-01T00:00:00Z", "rotates_at": "2026-07-01T00:00:00Z"},
        "state_dir": "/var/lib/pulse-telemetry",
        "writable": true,
        "confinement": {
            "no_new_privileges": true,
            "landlock": "fully",
            "outgoing_ports": [53, 443, 7655],
        },
        "as_of": "2026-06-01T22:52:04Z",
        "is_being_read": false,
        "warnings": [],
    }))
    .unwrap()
}

fn preview() -> Preview {
    Preview { enabled: true, bytes: PAYLOAD.to_owned(), age: Duration::from_millis(7900), paused_until: None }
}

/// One in which everything is known and nothing is as it is by default.
fn posture() -> Posture {
    let providers = vec![Provider { name: "anthropic", local: false }, Provider { name: "ollama", local: true }];
    Posture {
        ai: Ok(AiPosture { enabled: true, providers, other_providers: 1 }),
        relay: Ok(RelayPosture { state: RelayState::On, host: RelayHost::of("wss://relay.example/ws") }),
        updates: Ok(Updates { automatic: true, channel: UpdateChannel::Rc }),
        data_handling: Ok(Some(DataHandling {
            resources: 110,
            sensitivity: Covered(vec![("internal", 14), ("sensitive", 96)]),
            routing: Covered(vec![("cloud-summary", 14), ("local-first", 93), ("other", 3)]),
            redaction: Covered(vec![("hostname", 95)]),
        })),
    }
}

fn missing_scope() -> NoPreview {
    let unknown = UnknownReport {
        what: "ai_enabled".to_owned(),
        request: "GET /api/settings/ai".to_owned(),
        reason: "the token lacks the scope settings:read".to_owned(),
        required_scope: Some("settings:read".to_owned()),
    };
    let because = SuppressedReport {
        reason: LedgerReason::MissingScope.into(),
        message: "The API token may not read all that the ping needs.".to_owned(),
        unknown: vec![unknown],
    };
    NoPreview { enabled: true, because, retry_after: Duration::from_millis(8100) }
}

/// A server that is up.
struct Running {
    address: SocketAddr,
    asked: Asked,
}

async fn start(daemon: Daemon) -> Running {
    let (handle, asked) = daemon.spawn();
    Running { asked, ..start_with(handle, ServeSettings::default(), Limits::default()).await }
}

async fn start_guarded(settings: ServeSettings) -> Running {
    start_at("127.0.0.1:0", settings).await
}

async fn start_at(address: &str, settings: ServeSettings) -> Running {
    let (handle, asked) = Daemon::default().spawn();
    let listener = Listener::bind(&Listen::Tcp(address.parse().unwrap())).await.unwrap();
    let port = listener.local_addr().parse::<SocketAddr>().unwrap().port();
    tokio::spawn(Server::new(listener, &settings, app(handle)).unwrap().run(std::future::pending()));
    Running { address: SocketAddr::from(([127, 0, 0, 1], port)), asked }
}

async fn start_with(handle: Handle, settings: ServeSettings, limits: Limits) -> Running {
    let (server, address) = bound(handle, settings, limits).await;
    tokio::spawn(server.run(std::future::pending()));
    Running { address, asked: Asked::default() }
}

async fn bound(handle: Handle, settings: ServeSettings, limits: Limits) -> (Server, SocketAddr) {
    let listener = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let address = listener.local_addr().parse().unwrap();
    (Server::new(listener, &settings, app(handle)).unwrap().with_limits(limits), address)
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn ask(&self, request: &str) -> Answer {
        exchange(self.connect().await, request).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
    }

    fn asked(&self) -> Vec<&'static str> {
        self.asked.lock().unwrap().clone()
    }
}

/// An answer, read until the server closed the connection.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn parse(raw: &[u8]) -> Self {
        let end = raw.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&raw[..end]).unwrap();
        let (first, headers) = head.split_once("\r\n").unwrap_or((head, ""));
        let headers = headers.lines().map(|line| line.split_once(": ").unwrap());
        Self {
            status: first.split(' ').nth(1).unwrap().parse().unwrap(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            body: raw[end + 4..].to_vec(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Sends a request, which may end in the middle, and reads until the server has closed the connection.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Answer {
    let request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    // A server that refuses early may close before it has read everything.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut raw = Vec::new();
    let _ = stream.read_to_end(&mut raw).await;
    Answer::parse(&raw)
}

fn post(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
}

fn switch(body: &str) -> String {
    put("application/json", body)
}

fn put(content_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "PUT /api/v1/switch HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: \
         {length}\r\n\r\n{body}"
    )
}
