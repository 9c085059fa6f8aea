//! A Pulse that does not answer, before the real program: nobody who asks for what is known waits for it.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]
#![expect(clippy::disallowed_methods, reason = "how long an answer takes is what this is about")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pulse_telemetry::readings::READERS_MAX;
use pulse_telemetry_testkit::client::Reply;
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::server::{Body, Refusing, ResponsePlan, Server};
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup, Sidecar, comes_true};
use serde_json::Value;

/// Ten times of what is promised.
const AT_ONCE: Duration = Duration::from_secs(10);

/// Something in the place of Pulse that keeps each connection busy in its own way, until it is dropped.
struct Tiresome {
    url: String,
    stop: Arc<AtomicBool>,
    address: std::net::SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Tiresome {
    /// Writes this piece again and again, with that pause before each.
    fn start(piece: &'static [u8], pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut writers = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let stopped = Arc::clone(&stopped);
                writers.push(std::thread::spawn(move || {
                    let _ = stream.read(&mut [0; 4096]);
                    while !stopped.load(Ordering::Relaxed) && stream.write_all(piece).is_ok() {
                        std::thread::sleep(pause);
                    }
                }));
            }
            for writer in writers {
                let _ = writer.join();
            }
        });
        Self { url: format!("http://{address}"), stop, address, thread: Some(thread) }
    }
}

impl Drop for Tiresome {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn within<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = act();
    assert!(begun.elapsed() < AT_ONCE, "{what} took {:?}", begun.elapsed());
    done
}

/// Each of the routes that tell what is known, and the switch.
fn ask_for_what_is_known(sidecar: &Sidecar, what: &str) {
    for path in ["/", "/api/v1/status", "/api/v1/history", "/healthz", "/readyz", "/metrics", "/?before=9"] {
        let answer = within(&format!("{what}: {path}"), || sidecar.get(path));
        assert_eq!(answer.status, 200, "{what}: {path}: {}", answer.text());
    }
    // Whoever asks for a reading without a script is given what there is after a moment.
    assert_eq!(within(what, || sidecar.get("/?read")).status, 200);
    for enabled in [false, true] {
        let body = format!("{{\"enabled\":{enabled}}}");
        let answer = within(what, || sidecar.put("/api/v1/switch", &body));
        assert_eq!(answer.json()["enabled"], enabled, "{what}");
    }
}

#[test]
fn page_status_switch_and_health_answer_at_once_whatever_pulse_does() {
    let endpoint = Endpoint::start();
    let silent = Server::start(|_| ResponsePlan::Hang);
    let refusing = Refusing::new();
    let drips = Tiresome::start(b"H", Duration::from_millis(300));
    let floods = Tiresome::start(b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n", Duration::ZERO);
    for (what, url) in [
        ("accepts and says nothing", silent.url()),
        ("refuses", refusing.url()),
        ("drips", drips.url.clone()),
        ("floods", floods.url.clone()),
    ] {
        let setup = Setup::new(&url, &endpoint.url()).with_token(TOKEN).with("PULSE_TELEMETRY_LOG__LEVEL", "info");
        let sidecar = setup.start();
        ask_for_what_is_known(&sidecar, what);
        let page = sidecar.get("/").text();
        assert!(page.contains("href=\"?read\">Read Pulse again</a>"), "{what}: {page}");
        let told = page.contains("has not answered yet") || page.contains("There is nothing to show");
        assert!(told, "{what}: {page}");
    }
    assert!(endpoint.pings().is_empty());
}

/// Two readings of Pulse are ten seconds apart, so all are tried at once.
#[test]
fn a_ping_that_is_due_goes_when_pulse_is_back_whatever_it_did_before() {
    let flood = Body::Generated { total: u64::MAX, generator: Arc::new(|_| Bytes::from_static(&[b' '; 4096])) };
    let troubles = [
        ("hangs before an answer", ResponsePlan::Hang),
        ("hangs in the middle of one", ResponsePlan::body(Body::Never)),
        ("resets", ResponsePlan::Reset),
        ("is broken", ResponsePlan::status(502)),
        ("floods", ResponsePlan::body(flood)),
    ];
    std::thread::scope(|scope| {
        for (what, plan) in troubles {
            scope.spawn(move || {
                let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
                let routes = ["/api/health", "/api/version", "/api/security/status"];
                routes.into_iter().for_each(|route| pulse.replace(route, plan.clone()));
                let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN);
                let setup = setup.with("PULSE_TELEMETRY_PULSE__TIMEOUT", "1s");
                // The pauses between two readings are no longer than this.
                let sidecar = setup.with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "2s").start();
                sidecar.wait_for_log("nothing is sent now");
                assert!(endpoint.pings().is_empty(), "{what}");
                routes.into_iter().for_each(|route| pulse.restore(route));
                assert_eq!(endpoint.wait_for_pings(1, LIMIT).len(), 1, "{what}");
                ask_for_what_is_known(&sidecar, what);
            });
        }
    });
}

#[test]
fn the_status_says_that_pulse_has_not_answered_yet_and_what_to_do() {
    let endpoint = Endpoint::start();
    let silent = Server::start(|_| ResponsePlan::Hang);
    let drips = Tiresome::start(b"H", Duration::from_millis(300));
    // The system takes the connection, and nobody reads from it.
    let unattended = TcpListener::bind("127.0.0.1:0").unwrap();
    let secured = format!("https://{}", unattended.local_addr().unwrap());
    for url in [silent.url(), drips.url.clone(), secured] {
        let setup = Setup::new(&url, &endpoint.url()).with_token(TOKEN).on_a_socket();
        let setup = setup.with("PULSE_TELEMETRY_PULSE__TIMEOUT", "2m");
        let sidecar = setup.start();
        let output = within("status", || setup.run(&["status"]));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && said.starts_with("Telemetry is on.\nPulse has not answered yet, and"),
            "{said}"
        );
        assert!(said.contains("pulse.url (PULSE_URL)") && said.contains("Next:      a look at Pulse"), "{said}");
        let output = setup.run(&["off"]);
        assert!(output.status.success());
        let said = String::from_utf8(setup.run(&["status"]).stdout).unwrap();
        assert!(said.starts_with("Telemetry is off") && !said.contains("nothing is sent before"), "{said}");
        sidecar.stop();
    }
}

#[test]
fn with_every_place_wanted_for_a_reading_half_of_them_wait_and_everybody_else_is_answered() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    pulse.replace("/api/health", ResponsePlan::Hang);
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN).with("PULSE_TELEMETRY_LOG__LEVEL", "info");
    let sidecar = setup.start();
    let reads = [
        ("GET", "/api/v1/preview"),
        ("GET", "/api/v1/preview/bytes"),
        ("GET", "/api/v1/posture"),
        ("GET", "/api/system/settings/telemetry-preview"),
    ];
    let ask = |(method, path): (&str, &str)| {
        let mut stream = TcpStream::connect(sidecar.address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        stream
    };
    let asking: Vec<TcpStream> = (0..2 * READERS_MAX).map(|n| ask(reads[n % reads.len()])).collect();
    // Those who may not wait are answered at once: half of the places, for no more than the others wait.
    let (mut busy, mut others) = (0, 0);
    let answered: Vec<JoinHandle<String>> = asking
        .into_iter()
        .map(|mut stream| {
            std::thread::spawn(move || {
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                answer
            })
        })
        .collect();
    ask_for_what_is_known(&sidecar, "with every place wanted");
    for answer in answered {
        let answer = answer.join().unwrap();
        if !answer.contains("\"busy\"") {
            others += 1;
            continue;
        }
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: "), "{answer}");
        busy += 1;
    }
    assert!(busy >= READERS_MAX && others > 0, "{busy} turned away, {others} waited");
}

#[test]
fn a_reset_is_on_the_disk_before_pulse_answers_and_says_why_there_is_no_preview() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup =
        Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN).with("PULSE_TELEMETRY_PULSE__TIMEOUT", "3s");
    let sidecar = setup.start();
    endpoint.wait_for_pings(1, LIMIT);
    sidecar.wait_for_log("ping delivered");
    for path in ["/api/v1/reset-id", "/api/system/settings/telemetry-reset-id"] {
        pulse.replace("/api/health", ResponsePlan::Hang);
        let before = setup.id_on_disk();
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| sidecar.post(path));
            while setup.id_on_disk() == before {
                assert!(!asking.is_finished() || setup.id_on_disk() != before, "answered before it was done");
                std::thread::yield_now();
            }
            let answer = asking.join().unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            let told = answer.json();
            // Within ten seconds of the reading before, that one shows the new ID.
            let shows_it = told["payload"]["install_id"].as_str() == setup.id_on_disk().as_deref();
            let says_why = told["payload"] == Value::Null && !told["message"].as_str().unwrap_or_default().is_empty();
            assert!(shows_it || says_why, "{told}");
        });
        pulse.restore("/api/health");
    }
}

#[test]
fn the_command_gives_a_newer_reading_two_seconds_and_then_tells_what_is_known() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    pulse.replace("/api/health", ResponsePlan::Hang);
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN).on_a_socket();
    let _sidecar = setup.start();
    let status = |json: bool| -> Reply {
        let arguments: &[&str] = if json { &["status", "--json"] } else { &["status"] };
        let output = within("status", || setup.run(arguments));
        assert!(output.status.success(), "{output:?}");
        Reply { status: 0, headers: Vec::new(), body: output.stdout.into() }
    };
    let said = status(false).text();
    assert!(said.contains("Pulse has not answered yet, and nothing is sent before it does"), "{said}");
    assert_eq!(status(true).json()["is_being_read"], true);
    pulse.restore("/api/health");
    // Pulse is read once in ten seconds.
    assert!(comes_true(|| setup.run(&["preview"]).status.success()), "Pulse is not read again");
    let said = status(false).text();
    assert!(said.lines().next().unwrap().contains("(as of ") && !said.contains("not answered yet"), "{said}");
    assert!(status(true).json()["as_of"].is_string());
}
