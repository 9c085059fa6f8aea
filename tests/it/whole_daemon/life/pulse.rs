//! Pulse and the way to it.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use pulse_telemetry::pulse::{PlatformSetting, PulseClient, PulseSettings, Tokens};
use pulse_telemetry_http::tls::Trust;
use pulse_telemetry_http::wire::{Dial, DialError, Dialing};

use super::pipe::{self, Answered, Spoken};
use super::{Shared, World};
use pulse_telemetry_testkit::pulse::{Counts, MONITORING_READ, PulseModel, TOKEN, Token, answer};
use pulse_telemetry_testkit::server::{Body, RequestRecord, ResponsePlan};

/// What is wrong with Pulse or with the way to it, or what it says of itself that keeps a ping from being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Refuses,
    NeverConnects,
    NeverAnswers,
    AnswersSlowly,
    Closes,
    Garbage,
    CutAnswers,
    Unauthorized,
    MissingScope,
    Fails(&'static str),
    Nonsense(&'static str),
    RateLimits,
    /// It has just started, and its counts are not filled yet.
    Starting,
    Mock,
    Demo,
    ReportsItself,
    SwitchedOff,
}

impl Trouble {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Refuses => "Pulse refuses connections",
            Self::NeverConnects => "no connection to Pulse comes about",
            Self::NeverAnswers => "Pulse never answers",
            Self::AnswersSlowly => "Pulse answers slowly",
            Self::Closes => "Pulse closes without an answer",
            Self::Garbage => "Pulse speaks no HTTP",
            Self::CutAnswers => "Pulse's answers are cut short",
            Self::Unauthorized => "Pulse refuses the token",
            Self::MissingScope => "the token lacks a scope",
            Self::Fails(_) => "a route of Pulse fails",
            Self::Nonsense(_) => "a route of Pulse answers nonsense",
            Self::RateLimits => "Pulse asks for patience",
            Self::Starting => "Pulse is half-filled",
            Self::Mock => "Pulse shows mock data",
            Self::Demo => "Pulse is a demo",
            Self::ReportsItself => "Pulse reports itself",
            Self::SwitchedOff => "telemetry is switched off in Pulse",
        }
    }

    /// The model with it.
    fn change(self, model: &mut PulseModel) {
        match self {
            Self::Unauthorized => model.tokens.clear(),
            Self::MissingScope => {
                model.tokens.insert(TOKEN.to_owned(), Token::new(&[MONITORING_READ], "default"));
            }
            Self::Fails(path) => drop(model.overrides.insert(path.to_owned(), ResponsePlan::status(503))),
            Self::Nonsense(path) => {
                model.overrides.insert(path.to_owned(), ResponsePlan::json(200, &serde_json::json!(["nonsense"])));
            }
            Self::RateLimits => {
                let patience = ResponsePlan::status(429).with_header("retry-after", "7200");
                model.overrides.insert("/api/resources/stats".to_owned(), patience);
            }
            Self::Starting => model.uptime = 30.0,
            Self::Mock => model.mock = true,
            Self::Demo => model.demo = true,
            Self::ReportsItself => model.telemetry_enabled = Some(true),
            Self::SwitchedOff => {
                model.telemetry_enabled = Some(false);
                model.telemetry_env_override = false;
            }
            _ => {}
        }
    }

    /// The answer to this request says that nothing may be sent.
    fn forbids_by(self, path: &str) -> bool {
        match self {
            Self::Starting => path == "/api/health",
            Self::Mock => matches!(path, "/api/version" | "/api/system/mock-mode"),
            Self::Demo => path == "/api/security/status",
            Self::ReportsItself | Self::SwitchedOff => path == "/api/system/settings",
            _ => false,
        }
    }
}

/// An answer: its status, its headers, and its body.
type Told = (u16, Vec<(String, String)>, Bytes);

pub(super) struct Pulse {
    healthy: PulseModel,
    model: PulseModel,
    pub(super) trouble: Option<Trouble>,
    /// What the model answers to each request, for as long as it stays the same; the counts never do.
    answers: HashMap<String, Told>,
    /// What Pulse said since the last attempt, in one reading that includes its own setting: there may be one, or not.
    pub(super) agreed: Option<bool>,
    /// No answer of the present reading said that there may be none.
    reading_agrees: bool,
}

impl Pulse {
    pub(super) fn new(is_v5: bool) -> Self {
        let healthy = if is_v5 { PulseModel::v5() } else { PulseModel::default() };
        Self {
            model: healthy.clone(),
            healthy,
            trouble: None,
            answers: HashMap::new(),
            agreed: None,
            reading_agrees: true,
        }
    }

    /// Whether this Pulse has a sender of its own.
    pub(super) fn has_sender(&self) -> bool {
        self.healthy.telemetry_enabled.is_some()
    }

    pub(super) fn set_trouble(&mut self, trouble: Option<Trouble>) {
        let counts = self.model.counts;
        self.model = PulseModel { counts, ..self.healthy.clone() };
        if let Some(trouble) = trouble {
            trouble.change(&mut self.model);
        }
        self.trouble = trouble;
        self.answers.clear();
    }

    fn answer(&mut self, request: &Request<Incoming>) -> Told {
        let path = request.uri().path();
        let target = request.uri().to_string();
        let is_counts = matches!(path, "/api/resources/stats" | "/api/state" | "/api/state/summary");
        if is_counts && path != "/api/state/summary" {
            count_on(&mut self.model.counts);
        }
        self.note_what_is_said(path);
        if let Some(known) = self.answers.get(&target).filter(|_| !is_counts) {
            return known.clone();
        }
        let text = |value: &hyper::header::HeaderValue| value.to_str().unwrap().to_owned();
        let record = RequestRecord {
            connection: 0,
            method: request.method().to_string(),
            target: target.clone(),
            headers: request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: Bytes::new(),
            tls: None,
        };
        let ResponsePlan::Answer(plan) = answer(&self.model, &record) else { unreachable!("every answer is one") };
        let Body::Full(body) = plan.body else { unreachable!("every body is a whole one") };
        let answer = (plan.status, plan.headers, body);
        self.answers.insert(target, answer.clone());
        answer
    }

    fn note_what_is_said(&mut self, path: &str) {
        let begins = path == "/api/health";
        let forbids = self.trouble.is_some_and(|trouble| trouble.forbids_by(path));
        self.reading_agrees = (begins || self.reading_agrees) && !forbids;
        if path == "/api/system/settings" {
            self.agreed = Some(self.reading_agrees);
        } else if forbids {
            self.agreed = self.agreed.map(|_| false);
        }
    }
}

/// No two readings are the same, so that no two pings are. Small numbers, for the answers of Pulse 5 grow with them.
fn count_on(counts: &mut Counts) {
    let Counts { vms, containers, docker_hosts, pbs, pmg, .. } = counts;
    for count in [vms, containers, docker_hosts, pbs, pmg] {
        *count = (*count + 1) % 8;
        if *count > 0 {
            break;
        }
    }
}

/// The client, as the daemon has it, whose connections lead here.
pub(super) fn client(world: &Shared) -> PulseClient {
    let settings = PulseSettings {
        url: "http://pulse.example:7655".parse().unwrap(),
        tokens: Tokens::One(TOKEN.into()),
        trust: Trust::default(),
        timeout: Duration::from_secs(10),
        platform: PlatformSetting::Auto,
    };
    PulseClient::with_dial(settings, Box::new(Way(world.clone()))).unwrap()
}

struct Way(Shared);

impl Dial for Way {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async {
            let trouble = self.0.lock().pulse.trouble;
            let spoken = match trouble {
                Some(Trouble::Refuses) => return Err(DialError::Peer("connection refused".to_owned())),
                Some(Trouble::NeverConnects) => return std::future::pending().await,
                Some(Trouble::Garbage) => Spoken::Garbage,
                Some(Trouble::CutAnswers) => Spoken::Cut,
                _ => Spoken::Well,
            };
            let world = self.0.clone();
            Ok(pipe::connect(spoken, move |request| answered(world.clone(), request)))
        })
    }
}

async fn answered(world: Shared, request: Request<Incoming>) -> Answered {
    let trouble = world.lock().pulse.trouble;
    match trouble {
        Some(Trouble::Closes) => return None,
        Some(Trouble::NeverAnswers) => return std::future::pending().await,
        Some(Trouble::AnswersSlowly) => tokio::time::sleep(Duration::from_secs(2)).await,
        _ => {}
    }
    let (status, headers, body) = world.lock().on_question(&request);
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    Some(response.body(Full::new(body)).unwrap())
}

impl World {
    fn on_question(&mut self, request: &Request<Incoming>) -> Told {
        assert!(request.headers().contains_key("x-api-token"), "Pulse is asked with the token");
        if request.uri().path() == "/api/health" {
            self.tally.readings += 1;
            self.tell("Pulse is read");
        }
        self.pulse.answer(request)
    }
}

/// The routes whose failure makes something unknown.
pub(super) const ROUTES: [&str; 8] = [
    "/api/health",
    "/api/version",
    "/api/security/status",
    "/api/system/settings",
    "/api/resources/stats",
    "/api/state/summary",
    "/api/settings/ai",
    "/api/license/status",
];
