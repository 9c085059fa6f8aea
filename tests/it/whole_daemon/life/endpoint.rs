//! The endpoint and the way to it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, LOCATION, RETRY_AFTER};
use hyper::{Request, Response};
use pulse_telemetry_endpoint::Sender;
use pulse_telemetry_http::wire::{Dial, DialError, Dialing, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::pipe::{self, Answered, Spoken};
use super::witness::Attempt;
use super::{Mistake, Shared, World};
use pulse_telemetry_testkit::seeded::Seeded;

pub(super) const URL: &str = "https://endpoint.example/v1/telemetry/ping";

/// What is wrong with the endpoint, or with the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Refuses,
    NeverConnects,
    ConnectsSlowly,
    NeverAnswers,
    AnswersSlowly,
    Closes,
    /// It keeps the ping, and the answer gets lost.
    ClosesAfterKeeping,
    Garbage,
    CutAnswer,
    Status(u16, Option<String>),
    Redirects(u16),
}

impl Trouble {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Refuses => "the endpoint refuses connections",
            Self::NeverConnects => "no connection to the endpoint comes about",
            Self::ConnectsSlowly => "connections to the endpoint take seconds",
            Self::NeverAnswers => "the endpoint never answers",
            Self::AnswersSlowly => "the endpoint answers slowly",
            Self::Closes => "the endpoint closes without an answer",
            Self::ClosesAfterKeeping => "the endpoint keeps the ping and its answer is lost",
            Self::Garbage => "the endpoint speaks no HTTP",
            Self::CutAnswer => "the endpoint's answer is cut short",
            Self::Status(_, Some(_)) => "the endpoint asks for patience",
            Self::Status(500.., None) => "the endpoint fails",
            Self::Status(_, None) => "the endpoint does not want the ping",
            Self::Redirects(_) => "the endpoint redirects",
        }
    }
}

pub(super) struct Endpoint {
    pub(super) trouble: Option<Trouble>,
    chance: Seeded,
}

impl Endpoint {
    pub(super) fn new(chance: Seeded) -> Self {
        Self { trouble: None, chance }
    }
}

/// The sender, as the daemon has it, whose connections lead here.
pub(super) fn sender(world: &Shared) -> Sender {
    Sender::with_dial(URL.parse().unwrap(), Box::new(Way(world.clone()))).unwrap()
}

struct Way(Shared);

impl Dial for Way {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async {
            let (trouble, mistake) = {
                let world = self.0.lock();
                (world.endpoint.trouble.clone(), world.mistake)
            };
            let Some((attempt, wait)) = self.0.lock().on_dial() else { return std::future::pending().await };
            match trouble {
                Some(Trouble::Refuses) => return Err(DialError::Peer("connection refused".to_owned())),
                Some(Trouble::NeverConnects) => return std::future::pending().await,
                Some(Trouble::ConnectsSlowly) => tokio::time::sleep(wait).await,
                _ => {}
            }
            let spoken = match trouble {
                Some(Trouble::Garbage) => Spoken::Garbage,
                Some(Trouble::CutAnswer) => Spoken::Cut,
                _ => Spoken::Well,
            };
            let stream = match mistake {
                Mistake::RedirectFollowed | Mistake::HeaderAdded => meddled(&self.0, attempt, spoken, mistake),
                _ => connect(&self.0, attempt, spoken),
            };
            Ok(stream)
        })
    }
}

fn connect(world: &Shared, attempt: Attempt, spoken: Spoken) -> Box<dyn Stream> {
    let world = world.clone();
    pipe::connect(spoken, move |request| receive(world.clone(), attempt.clone(), request))
}

/// The far end of an attempt: the request as it came, and the answer.
async fn receive(world: Shared, attempt: Attempt, request: Request<Incoming>) -> Answered {
    let (head, body) = pipe::body_of(request).await.ok()?;
    let (trouble, wait) = {
        let mut world = world.lock();
        let trouble = world.endpoint.trouble.clone();
        let keeps = matches!(
            trouble,
            None | Some(
                Trouble::ConnectsSlowly
                    | Trouble::AnswersSlowly
                    | Trouble::ClosesAfterKeeping
                    | Trouble::Garbage
                    | Trouble::CutAnswer
            )
        );
        world.on_request(&attempt, &head, &body, keeps);
        (trouble, Duration::from_millis(500 + world.endpoint.chance.draw(14_000)))
    };
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = hyper::StatusCode::NO_CONTENT;
    match trouble {
        Some(Trouble::Closes | Trouble::ClosesAfterKeeping) => return None,
        Some(Trouble::NeverAnswers) => return std::future::pending().await,
        Some(Trouble::AnswersSlowly) => tokio::time::sleep(wait).await,
        Some(Trouble::Status(status, retry_after)) => {
            *response.status_mut() = status.try_into().unwrap();
            let retry_after = retry_after.map(|value| HeaderValue::try_from(value).unwrap());
            response.headers_mut().extend(retry_after.map(|value| (RETRY_AFTER, value)));
        }
        Some(Trouble::Redirects(status)) => {
            *response.status_mut() = status.try_into().unwrap();
            response.headers_mut().insert(LOCATION, HeaderValue::from_static("/v1/elsewhere"));
        }
        _ => {}
    }
    Some(response)
}

impl World {
    /// The daemon asks for a connection to the endpoint, which may take so long. `None` where the power is gone.
    fn on_dial(&mut self) -> Option<(Attempt, Duration)> {
        if self.disk.fs.has_died() {
            return None;
        }
        let (now, passed) = (self.time.now(), self.time.passed());
        self.tell("an attempt");
        self.tally.pings += 1;
        let pulse_agrees = self.pulse.agreed.take();
        let attempt = self.witness.on_attempt(now, passed, &self.disk, pulse_agrees);
        Some((attempt, Duration::from_millis(self.endpoint.chance.draw(9_000))))
    }

    fn on_request(&mut self, attempt: &Attempt, head: &hyper::http::request::Parts, body: &Bytes, keeps: bool) {
        let passed = self.time.passed();
        self.tell(format_args!("the endpoint received a ping{}", if keeps { " and keeps it" } else { "" }));
        if keeps {
            self.tally.accepted += 1;
            self.check_silence();
        }
        self.witness.on_request(passed, attempt, head, body, keeps);
    }
}

/// A connection that does more than it is asked for: a mistake.
fn meddled(world: &Shared, attempt: Attempt, spoken: Spoken, mistake: Mistake) -> Box<dyn Stream> {
    let (near, mut asked) = tokio::io::duplex(16 * 1024);
    let world = world.clone();
    tokio::spawn(async move {
        let mut request = vec![0; 16 * 1024];
        let length = asked.read(&mut request).await.unwrap_or(0);
        let mut request = String::from_utf8_lossy(&request[..length]).into_owned();
        if mistake == Mistake::HeaderAdded {
            request = request.replacen("\r\n", "\r\nx-installation: 7\r\n", 1);
        }
        let answer = exchanged(&world, &attempt, spoken, &request).await;
        if answer.contains(" 307 ") || answer.contains(" 308 ") {
            exchanged(&world, &attempt, spoken, &request.replacen("/v1/telemetry/ping", "/v1/elsewhere", 1)).await;
        }
        let _ = asked.write_all(answer.as_bytes()).await;
    });
    Box::new(hyper_util::rt::TokioIo::new(near))
}

async fn exchanged(world: &Shared, attempt: &Attempt, spoken: Spoken, request: &str) -> String {
    let (mut near, far) = tokio::io::duplex(16 * 1024);
    let (world, attempt) = (world.clone(), attempt.clone());
    tokio::spawn(pipe::serve(far, spoken, move |request| receive(world.clone(), attempt.clone(), request)));
    let mut answer = String::new();
    if near.write_all(request.as_bytes()).await.is_ok() {
        let _ = near.read_to_string(&mut answer).await;
    }
    answer
}
