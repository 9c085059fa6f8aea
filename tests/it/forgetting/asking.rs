//! What asks the endpoint, over real connections.

use std::time::Duration;

use pulse_telemetry_core::identity::InstallId;
use pulse_telemetry_core::verdict::Answer;
use pulse_telemetry_endpoint::{DeletionAnswer, ProxyVariables, SendSettings, Sender};
use pulse_telemetry_http::tls::Trust;
use pulse_telemetry_http::wire::{Dial, Dialing, Stream};
use pulse_telemetry_testkit::receiver::{CONTRACT_PATH, FORGET_PATH, Receiver};
use pulse_telemetry_testkit::server::{Body, ResponsePlan, Server};
use serde_json::json;
use tokio::io::DuplexStream;
use tokio::sync::Mutex;

const ID: &str = "81F9C1F6-6C0F-4459-B79B-17AEEFBA91FC";
const CANONICAL: &str = "81f9c1f6-6c0f-4459-b79b-17aeefba91fc";

fn sender(url: &str) -> Sender {
    let settings =
        SendSettings { endpoint: url.parse().unwrap(), proxy: ProxyVariables::default(), trust: Trust::default() };
    Sender::new(&settings).unwrap()
}

fn forget(url: &str) -> DeletionAnswer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(sender(url).forget(&InstallId::parse(ID).unwrap()))
}

fn status(code: u16) -> DeletionAnswer {
    DeletionAnswer::Failed(Answer::Status { code, retry_after: None })
}

#[test]
fn a_deletion_is_asked_for_after_a_contract_that_is_asked_without_an_id_over_another_connection() {
    let receiver = Receiver::start();
    let DeletionAnswer::Done(Some(receipt)) = forget(&receiver.url()) else { panic!("not done") };
    assert_eq!(receipt.split('.').count(), 3);
    let [asked, posted] = &receiver.server.requests()[..] else { panic!("two requests") };
    assert_eq!((asked.method.as_str(), asked.target.as_str(), asked.body.len()), ("GET", CONTRACT_PATH, 0));
    assert_eq!((posted.method.as_str(), posted.target.as_str()), ("POST", FORGET_PATH));
    assert_eq!(posted.body, format!(r#"{{"install_id":"{CANONICAL}"}}"#));
    assert_ne!(asked.connection, posted.connection);
    let names = |headers: &[(String, String)]| headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&asked.headers), ["host", "user-agent"]);
    assert_eq!(names(&posted.headers), ["host", "user-agent", "content-type", "content-length"]);
    for request in [asked, posted] {
        assert_eq!(request.header("user-agent"), Some("pulse-telemetry"), "the same for everyone");
    }
}

#[test]
fn a_contract_that_lies_redirects_floods_or_is_none_sends_no_id_anywhere() {
    let elsewhere = Receiver::start();
    let there = format!("{}{CONTRACT_PATH}", elsewhere.server.url());
    let yes = json!({"forget": true});
    let padded = format!(r#"{{"forget":true,"pad":"{}"}}"#, "x".repeat(64 * 1024));
    let cut = Body::CutShort { declared: 100, sent: br#"{"forget":true}"#.as_slice().into() };
    let flood = Body::repeated(r#"{"forget":true,"pad":["#, "0", 1 << 30, "]}");
    let not_offered = [
        ResponsePlan::json(200, &json!({"forget": false})),
        ResponsePlan::json(200, &json!({"forget": "true"})),
        ResponsePlan::json(200, &json!({"forget": 1})),
        ResponsePlan::json(200, &json!({"forget": [true]})),
        ResponsePlan::json(200, &json!({"sha256": "…", "schema": {}})),
    ];
    let no_contract = [
        ResponsePlan::status(204),
        ResponsePlan::json(201, &yes),
        ResponsePlan::status(404),
        ResponsePlan::json(404, &yes),
        ResponsePlan::status(405),
        ResponsePlan::status(410),
    ];
    // A proxy's page, a portal that leads elsewhere, or what passes.
    let failed = [
        (ResponsePlan::json(200, &json!({})), status(200)),
        (ResponsePlan::json(200, &json!({"error": "maintenance"})), status(200)),
        (ResponsePlan::json(200, &json!({"contract": {"forget": true}})), status(200)),
        (ResponsePlan::json(200, &json!({"Forget": true})), status(200)),
        (ResponsePlan::json(200, &json!([yes])), status(200)),
        (ResponsePlan::json(200, &json!(true)), status(200)),
        (ResponsePlan::text(200, "<html>Please log in.</html>"), status(200)),
        (ResponsePlan::text(200, "forget: true"), status(200)),
        (ResponsePlan::text(200, r#"{"forget":true"#), status(200)),
        (ResponsePlan::text(200, r#"{"forget":true}{}"#), status(200)),
        (ResponsePlan::text(200, &"[".repeat(60_000)), status(200)),
        (ResponsePlan::text(200, ""), status(200)),
        (ResponsePlan::text(200, &padded), status(200)),
        (ResponsePlan::body(flood), status(200)),
        (ResponsePlan::redirect(301, &there), status(301)),
        (ResponsePlan::redirect(307, &there), status(307)),
        (ResponsePlan::json(403, &yes), status(403)),
        (ResponsePlan::json(503, &yes), status(503)),
        (ResponsePlan::json(429, &yes), status(429)),
        (ResponsePlan::json(408, &yes), status(408)),
        (ResponsePlan::Reset, DeletionAnswer::Failed(Answer::CutShort)),
        (ResponsePlan::body(cut), DeletionAnswer::Failed(Answer::CutShort)),
    ];
    let not_offered = not_offered.into_iter().map(|plan| (plan, DeletionAnswer::NotOffered));
    let no_contract = no_contract.into_iter().map(|plan| (plan, DeletionAnswer::NoContract));
    for (plan, expected) in not_offered.chain(no_contract).chain(failed) {
        let receiver = Receiver::start();
        let told = format!("{plan:?}");
        receiver.answer(CONTRACT_PATH, plan);
        assert_eq!(forget(&receiver.url()), expected, "{told}");
        let requests = receiver.server.requests();
        assert!(requests.iter().all(|request| request.target == CONTRACT_PATH), "{told}: {requests:?}");
    }
    assert_eq!(elsewhere.server.connections(), 0, "no redirect is followed");
}

#[test]
fn an_endpoint_whose_path_leaves_no_place_for_deletions_is_not_asked() {
    let receiver = Receiver::start();
    for path in ["/", "/ping", "/v1/telemetry/ping/", "/v1/telemetry/pings", "/v2/telemetry/ping"] {
        assert_eq!(forget(&format!("{}{path}", receiver.server.url())), DeletionAnswer::NotOffered, "{path}");
    }
    assert_eq!(receiver.server.connections(), 0);
    // What stands before stays.
    let server = Server::start(|_| ResponsePlan::json(200, &json!({"forget": true})));
    assert!(matches!(forget(&format!("{}/pulse/v1/telemetry/ping", server.url())), DeletionAnswer::Done(None)));
    let targets: Vec<_> = server.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/pulse/v1/contract", "/pulse/v1/telemetry/forget"]);
}

#[test]
fn what_the_endpoint_answers_to_a_deletion_is_done_with_its_word_or_failed_and_never_followed() {
    let elsewhere = Receiver::start();
    let there = format!("{}{FORGET_PATH}", elsewhere.server.url());
    let done = |receipt: &str| DeletionAnswer::Done(Some(receipt.to_owned()));
    let long = "x".repeat(10_000);
    for (plan, expected) in [
        (ResponsePlan::json(200, &json!({"receipt": "a.b.c"})), done("a.b.c")),
        (ResponsePlan::json(200, &json!({})), DeletionAnswer::Done(None)),
        (ResponsePlan::status(204), DeletionAnswer::Done(None)),
        (ResponsePlan::json(200, &json!({"receipt": 7})), done("7")),
        (ResponsePlan::text(200, "done"), done("done")),
        (ResponsePlan::redirect(307, &there), status(307)),
        (ResponsePlan::status(404), status(404)),
        (ResponsePlan::status(500), status(500)),
        (ResponsePlan::Reset, DeletionAnswer::Failed(Answer::CutShort)),
    ] {
        let receiver = Receiver::start();
        let told = format!("{plan:?}");
        receiver.answer(FORGET_PATH, plan);
        assert_eq!(forget(&receiver.url()), expected, "{told}");
    }
    let receiver = Receiver::start();
    receiver.answer(FORGET_PATH, ResponsePlan::text(200, &long));
    let DeletionAnswer::Done(Some(said)) = forget(&receiver.url()) else { panic!("not done") };
    assert!(said.len() > 1024, "so long that it is no receipt");
    assert_eq!(elsewhere.server.connections(), 0, "no redirect is followed");
}

/// Gives one connection after the other, and keeps their other ends.
struct Silent(Mutex<Vec<DuplexStream>>);

impl Dial for Silent {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async {
            let (ours, theirs) = tokio::io::duplex(1024);
            self.0.lock().await.push(theirs);
            Ok(Box::new(hyper_util::rt::TokioIo::new(ours)) as Box<dyn Stream>)
        })
    }
}

/// Virtual time passes at once where nothing else can happen.
#[tokio::test(start_paused = true)]
async fn a_contract_that_hangs_has_ten_seconds_and_is_sent_no_id() {
    let url = "http://127.0.0.1/v1/telemetry/ping".parse().unwrap();
    let sender = Sender::with_dial(url, Box::new(Silent(Mutex::default()))).unwrap();
    let started = tokio::time::Instant::now();
    let deletion = sender.forget(&InstallId::parse(ID).unwrap()).await;
    assert_eq!(deletion, DeletionAnswer::Failed(Answer::TimedOut));
    assert_eq!(started.elapsed(), Duration::from_secs(10), "one exchange, and no other after it");
}
