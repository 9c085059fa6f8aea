//! Too much, too slow, broken, stopping: nothing is acknowledged that is not stored, and everybody is told when to come
//! back.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pulse_telemetry_collector::server::{self, PING_PATH};
use pulse_telemetry_core::clock::Clock as _;
use pulse_telemetry_http::exposition::Format;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::client;
use pulse_telemetry_testkit::collector::{Setup, Storage, block_on, open, ping_of, row};
use pulse_telemetry_testkit::inside::{Inside, Obedient, Settings};
use pulse_telemetry_testkit::load::{Load, check_nothing_lost, post};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpSocket;

fn posted(address: SocketAddr, number: u64) -> std::thread::JoinHandle<Option<(u16, Option<u64>)>> {
    std::thread::spawn(move || post(address, &ping_of(number).to_string()))
}

/// Polls until something holds.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..4500 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited in vain until {what}");
}

#[test]
fn who_sends_too_much_gets_429_with_a_retry_after_that_is_spread() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).with("LIMITS__PER_MINUTE", "3").start();
    let answers: Vec<_> =
        (0..30).map(|number| post(collector.address, &ping_of(number).to_string()).unwrap()).collect();
    assert!(answers[..3].iter().all(|answer| *answer == (204, None)), "{answers:?}");
    // One may have become free again meanwhile.
    let refused: Vec<_> = answers.iter().filter(|(status, _)| *status == 429).collect();
    assert!(refused.len() >= 20, "{answers:?}");
    let waits: BTreeSet<u64> = refused.iter().map(|(_, after)| after.unwrap()).collect();
    assert!(waits.len() > 3 && waits.iter().all(|wait| (1..=62).contains(wait)), "{waits:?}");
    assert!(collector.metric("pings_total{outcome=\"limited\"}") > 19.5);
    collector.stop();
    assert!(storage.rows().len() <= 10);
}

#[test]
fn a_body_in_the_smallest_pieces_takes_no_more_memory_than_one_in_a_piece() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).start();
    let head = "POST /v1/telemetry/ping HTTP/1.1\r\nHost: c\r\nContent-Type: application/json\r\nConnection: close\r\n";
    let send = |body: String| {
        let mut caller = TcpStream::connect(collector.address).unwrap();
        caller.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        caller.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    };
    send(format!("Content-Length: 65000\r\n\r\n{}", " ".repeat(65_000)));
    let before = collector.memory("VmHWM");
    // One alone, for a body has ten seconds, and each piece takes its time in a build that is not optimised.
    send(format!("Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", "1\r\n \r\n".repeat(65_000)));
    let grown = collector.memory("VmHWM") - before;
    assert!(grown <= 1 << 20, "{grown} bytes");
}

#[test]
fn bodies_that_do_not_end_take_no_more_memory_than_the_limits_say() {
    // Fewer than one network may have, and one to spare.
    const CALLERS: usize = 250;
    let limits = server::limits(CALLERS);
    let head = "POST /v1/telemetry/ping HTTP/1.1\r\nHost: c\r\nContent-Type: application/json\r\n";
    let whole = format!("{head}Content-Length: 65000\r\n\r\n{}", " ".repeat(64_999));
    let chunks =
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", format!("2000\r\n{}\r\n", " ".repeat(8192)).repeat(7));
    let (first, second) = whole.split_at(33_000);
    for (what, pieces) in
        [("one piece", vec![&whole[..]]), ("two pieces", vec![first, second]), ("chunks", vec![&chunks])]
    {
        let storage = Storage::sqlite();
        let collector = Setup::new(&storage).with("SERVE__CONNECTIONS", "4096").start();
        let before = collector.memory("VmHWM");
        let mut callers: Vec<TcpStream> =
            (0..CALLERS).map(|_| TcpStream::connect(collector.address).unwrap()).collect();
        for piece in pieces {
            for caller in &mut callers {
                caller.write_all(piece.as_bytes()).unwrap();
            }
        }
        let grown = || usize::try_from(collector.memory("VmHWM") - before).unwrap();
        collector.wait_for("it holds all of them", || grown() > CALLERS * 56 * 1024);
        for caller in &callers {
            caller.shutdown(Shutdown::Write).unwrap();
        }
        for caller in &mut callers {
            let mut answer = String::new();
            caller.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 400 "), "{what}: {answer}");
        }
        let most = CALLERS * (limits.head_bytes + 2 * limits.body_bytes);
        assert!(grown() <= most, "{what}: {} bytes of {CALLERS} callers, and not {most} at most", grown());
    }
}

#[test]
fn behind_a_trusted_proxy_each_client_is_limited_and_not_the_proxy() {
    let storage = Storage::sqlite();
    let setup = Setup::new(&storage).with("LIMITS__PER_MINUTE", "1");
    let collector = setup.with("SERVE__TRUSTED_PROXIES", r#"["127.0.0.1"]"#).start();
    let from = |client: &str, number: u64| {
        collector.post_bytes(ping_of(number).to_string(), &[("X-Forwarded-For", client)]).status
    };
    assert_eq!(from("192.0.2.1", 1), 204);
    assert_eq!(from("192.0.3.1", 2), 204);
    assert_eq!(from("192.0.2.9", 3), 429);
    assert_eq!(from("198.51.100.1, 192.0.3.7", 4), 429, "what the client writes itself stands further left");
}

#[test]
fn pings_that_wait_together_are_committed_together() {
    let store = Obedient::new();
    let inside = Inside::start(Arc::clone(&store) as _, Settings::default());
    store.let_through(false);
    let waiting: Vec<_> = (0..60).map(|number| posted(inside.address, number)).collect();
    wait_until("all wait", || {
        inside
            .metrics
            .text(Format::Text)
            .lines()
            .filter(|line| line.starts_with("pulse_telemetry_collector_waiting_pings "))
            .count()
            == 1
            && inside.metrics.text(Format::Text).contains("batch_rows_count 0")
    });
    // What came first is in a commit already; the rest waits behind it.
    store.let_through(true);
    let answers: Vec<_> = waiting.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect();
    assert!(answers.iter().all(|answer| *answer == (204, None)), "{answers:?}");
    assert_eq!(store.count(), 60);
    let commits = store.commits.load(Ordering::SeqCst);
    assert!(commits < 60, "{commits} commits of 60 pings");
}

#[test]
fn a_full_queue_turns_everybody_away_with_turns_of_their_own_and_says_it_is_not_ready() {
    let store = Obedient::taking(Duration::from_secs(1));
    let patient = Settings { queue: 2, commit_timeout: Duration::from_secs(600), ..Settings::default() };
    let inside = Inside::start(Arc::clone(&store) as _, patient);
    // From the first one it knows how slow its storage is, and gives out turns more slowly than anybody asks for them.
    assert_eq!(post(inside.address, &ping_of(1000).to_string()), Some((204, None)));
    store.let_through(false);
    // One is in a commit, two wait.
    let mut waiting = Vec::new();
    wait_until("the queue is full", || {
        let full = client::get(inside.admin, "/readyz", None).unwrap();
        if full.status == 200 {
            waiting.push(posted(inside.address, waiting.len() as u64));
        }
        full.status == 503 && full.json()["because"] == "full"
    });
    let refused: Vec<_> =
        (100..160).map(|number| post(inside.address, &ping_of(number).to_string()).unwrap()).collect();
    assert!(refused.iter().all(|(status, after)| *status == 503 && after.is_some()), "{refused:?}");
    let waits: BTreeSet<u64> = refused.iter().map(|(_, after)| after.unwrap()).collect();
    assert!(waits.len() >= 2, "60 turns at 3 a second: {waits:?}");
    store.let_through(true);
    let answers: Vec<_> = waiting.into_iter().map(|thread| thread.join().unwrap().unwrap().0).collect();
    let stored = answers.iter().filter(|status| **status == 204).count();
    assert_eq!(store.count(), 1 + stored, "{answers:?}");
    assert!(stored >= 3);
    wait_until("it is ready again", || client::get(inside.admin, "/readyz", None).unwrap().status == 200);
}

#[test]
fn a_storage_that_fails_is_503_and_not_ready_and_it_recovers_by_itself() {
    let store = Obedient::new();
    let inside = Inside::start(Arc::clone(&store) as _, Settings::default());
    store.break_down(true);
    let (status, after) = post(inside.address, &ping_of(1).to_string()).unwrap();
    assert_eq!(status, 503);
    assert!((30..=301).contains(&after.unwrap()), "{after:?}");
    let ready = client::get(inside.admin, "/readyz", None).unwrap();
    assert_eq!((ready.status, ready.json()["because"].as_str()), (503, Some("storage")));
    assert_eq!(client::get(inside.address, "/healthz", None).unwrap().status, 200, "the process is well");
    assert_eq!(store.count(), 0);
    store.break_down(false);
    // No ping is needed for that: a balancer sends none.
    wait_until("it is ready again", || client::get(inside.admin, "/readyz", None).unwrap().status == 200);
    assert_eq!(post(inside.address, &ping_of(1).to_string()), Some((204, None)));
}

#[test]
fn a_ping_that_waits_too_long_is_told_to_come_back_and_is_not_stored_behind_its_senders_back() {
    let store = Obedient::new();
    let settings = Settings { commit_timeout: Duration::from_millis(100), ..Settings::default() };
    let inside = Inside::start(Arc::clone(&store) as _, settings);
    store.let_through(false);
    let first = posted(inside.address, 0);
    wait_until("the first is in its commit", || inside.metrics.text(Format::Text).contains("waiting_pings 1"));
    let (status, after) = post(inside.address, &ping_of(1).to_string()).unwrap();
    assert!(status == 503 && after.is_some());
    first.join().unwrap();
    store.let_through(true);
    inside.stop();
    let ids: Vec<_> = store.rows.lock().unwrap().iter().map(|row| format!("{:?}", row.cells[0])).collect();
    assert!(!ids.iter().any(|id| id.contains(&pulse_telemetry_testkit::collector::install_id(1))), "{ids:?}");
}

#[test]
fn a_commit_that_is_stuck_is_told_to_a_balancer_until_it_ends() {
    let store = Obedient::new();
    let settings = Settings { commit_timeout: Duration::from_millis(100), ..Settings::default() };
    let inside = Inside::start(Arc::clone(&store) as _, settings);
    let ready = || client::get(inside.admin, "/readyz", None).unwrap();
    wait_until("it is ready", || ready().status == 200);
    store.let_through(false);
    assert_eq!(posted(inside.address, 1).join().unwrap().unwrap().0, 503);
    // Nothing fails, so only the commit that does not end can be the reason.
    wait_until("it is not ready", || ready().status == 503);
    assert_eq!(ready().json()["because"].as_str(), Some("storage"));
    store.let_through(true);
    wait_until("it is ready again", || ready().status == 200);
}

#[test]
fn a_stop_tells_a_balancer_first_and_takes_pings_until_it_has_looked() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).start_unready();
    collector.wait_until_ready();
    kill_process(collector.pid(), Signal::TERM).unwrap();
    collector.wait_for_log("stopping");
    let ready = collector.ask_admin("/readyz");
    assert_eq!((ready.status, ready.json()["because"].as_str()), (503, Some("stopping")));
    let options = collector.admin_options("/readyz");
    assert_eq!((options.status, options.header("allow")), (503, Some("GET, HEAD, OPTIONS")), "as HAProxy asks");
    assert_eq!(collector.post(&ping_of(1)).status, 204);
    collector.stop();
    assert_eq!(storage.rows().len(), 1);
}

#[test]
fn a_stop_waits_two_seconds_for_who_is_not_done_and_for_no_storage_that_does_not_answer() {
    // Ten times what it may take.
    let stops = Duration::from_secs(20);
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).start();
    // A body that does not come, and a request that does not end.
    let head = format!("POST {PING_PATH} HTTP/1.1\r\nHost: localhost\r\n");
    let slow = ["Content-Type: application/json\r\nContent-Length: 900\r\n\r\n{", ""].map(|rest| {
        let mut stream = TcpStream::connect(collector.address).unwrap();
        stream.write_all((head.clone() + rest).as_bytes()).unwrap();
        stream
    });
    let started = SystemClock.now().mono;
    collector.stop();
    assert!(SystemClock.now().mono - started < stops);
    drop(slow);
    // A database that takes the connection and says nothing, before and while it is opened.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://pulse@{}/pulse?sslmode=disable", silent.local_addr().unwrap());
    let mut starting = Setup::new(&storage).with("STORAGE__URL", &url).spawn(&["run"]);
    let _taken = silent.accept().unwrap();
    let started = SystemClock.now().mono;
    kill_process(Pid::from_child(&starting), Signal::TERM).unwrap();
    assert!(starting.wait().unwrap().success(), "a signal that nobody waits for does nothing to a first process");
    assert!(SystemClock.now().mono - started < stops);
}

#[test]
fn one_address_cannot_shut_others_out_by_holding_connections() {
    let storage = Storage::sqlite();
    // 16 connections in all, and 8 of one network.
    let setup = Setup::new(&storage).with("LIMITS__PER_MINUTE", "60").with("SERVE__CONNECTIONS", "16");
    let collector = setup.start_unready();
    let held: Vec<TcpStream> = (0..64).map(|_| connect([127, 7, 7, 7], collector.address)).collect();
    let mut other = connect([127, 8, 8, 8], collector.address);
    other.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    other.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(held);
    let refused = collector.metric("refused_connections_total");
    assert!((refused - 56.0).abs() < 0.5, "{refused}");
}

/// A connection from that address.
fn connect(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let stream = block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream
}

/// Whether the other end has closed it.
fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let closed = match (&*stream).read(&mut [0; 1024]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    };
    stream.set_nonblocking(false).unwrap();
    closed
}

#[test]
fn whatever_many_networks_hold_connections_with_an_honest_ping_is_stored() {
    let kind = "Content-Type: application/json\r\nContent-Length";
    let body = format!("POST /v1/telemetry/ping HTTP/1.1\r\nHost: x\r\n{kind}: 60000\r\n\r\n{{");
    let networks = |n: u8| [127, 20 + n, 0, 1];
    let of_one_wider = |n: u8| [127, 77, n, 1];
    for (what, sent, from) in [
        ("idle connections", "", &networks as &dyn Fn(u8) -> [u8; 4]),
        ("half heads", "POST /v1/telemetry/ping HTTP/1.1\r\nHost: x\r\nX: ", &networks),
        ("bodies that never end", &body, &networks),
        ("probes", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", &networks),
        ("probes that keep a connection", "OPTIONS /healthz HTTP/1.1\r\nHost: x\r\n\r\n", &networks),
        ("networks of a wider one", "", &of_one_wider),
    ] {
        let storage = Storage::sqlite();
        let setup = Setup::new(&storage).with("LIMITS__PER_MINUTE", "60").with("SERVE__CONNECTIONS", "64");
        let collector = setup.start();
        // Twice as many as there are places, and again before each ping.
        let mut held: Vec<(u8, TcpStream)> = Vec::new();
        for number in 0..20 {
            held.retain(|(_, stream)| !is_closed(stream));
            for network in 0..16 {
                for _ in held.iter().filter(|(of, _)| *of == network).count()..8 {
                    let mut stream = connect(from(network), collector.address);
                    // It may be closed at once.
                    let _ = stream.write_all(sent.as_bytes());
                    held.push((network, stream));
                }
            }
            let mut honest = connect([127, 200, u8::try_from(number).unwrap(), 1], collector.address);
            honest.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let body = ping_of(number).to_string();
            let head = format!("POST /v1/telemetry/ping HTTP/1.1\r\nHost: x\r\n{kind}: {}\r\n\r\n", body.len());
            honest.write_all(format!("{head}{body}").as_bytes()).unwrap();
            let mut answer = [0; 12];
            honest.read_exact(&mut answer).unwrap_or_else(|error| panic!("{what}: ping {number}: {error}"));
            assert_eq!(std::str::from_utf8(&answer), Ok("HTTP/1.1 204"), "{what}");
            assert_eq!(collector.ask_admin("/readyz").status, 200, "{what}");
        }
        // A probe's connection is closed once it is answered, so those hold none.
        assert!(collector.metric("displaced_connections_total") > 0.0 || what == "probes", "{what}: no pressure");
    }
}

#[test]
fn whoever_sends_one_ping_after_another_on_every_connection_shuts_out_nobody() {
    let storage = Storage::sqlite();
    let setup = Setup::new(&storage).with("LIMITS__PER_MINUTE", "1000000").with("SERVE__CONNECTIONS", "16");
    let collector = setup.with("LOG__LEVEL", "info").start();
    let (address, stop) = (collector.address, AtomicBool::new(false));
    let message = |number: u64| {
        let body = ping_of(number).to_string();
        let head = format!("POST {PING_PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    std::thread::scope(|scope| {
        // Each has a network of its own, and they are twice as many as there are places.
        for number in 0..32 {
            let message = message(number);
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut stream = connect([127, 20 + u8::try_from(number).unwrap(), 0, 1], address);
                    while !stop.load(Ordering::Relaxed) {
                        let sent = stream.write_all(message.as_bytes());
                        if sent.is_err() || !matches!(stream.read(&mut [0; 1024]), Ok(1..)) {
                            break;
                        }
                    }
                }
            });
        }
        let mut answers = Vec::new();
        for number in 0..10 {
            let mut honest = connect([127, 200, u8::try_from(number).unwrap(), 1], address);
            honest.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            honest.write_all(message(100 + number).as_bytes()).unwrap();
            let mut answer = [0; 12];
            answers.push(honest.read_exact(&mut answer).map(|()| String::from_utf8_lossy(&answer).into_owned()));
        }
        stop.store(true, Ordering::Relaxed);
        assert!(answers.iter().all(|answer| answer.as_deref().is_ok_and(|a| a == "HTTP/1.1 204")), "{answers:?}");
    });
}

#[test]
fn a_network_brings_so_many_new_ids_a_day_and_its_known_ones_are_stored_all_the_same() {
    for storage in Storage::all() {
        let setup = Setup::new(&storage).with("LIMITS__NEW_IDS", "3");
        let collector = setup.with("SERVE__TRUSTED_PROXIES", r#"["127.0.0.1"]"#).start();
        let from = |client: &str, ping: &serde_json::Value| {
            collector.post_bytes(ping.to_string(), &[("X-Forwarded-For", client)])
        };
        for (network, (one, other, another)) in (0..).zip([
            ("192.0.2.1", "::ffff:192.0.2.200", "192.0.3.1"),
            ("198.51.100.1", "64:ff9b::198.51.100.200", "198.51.101.1"),
            ("2001:db8:0:100::1", "2001:db8:0:1ff::1", "2001:db8:0:200::1"),
        ]) {
            let number = |n: u64| 100 * network + n;
            for n in 0..3 {
                assert_eq!(from(one, &ping_of(number(n))).status, 204, "{one}");
                assert_eq!(from(other, &ping_of(number(n))).status, 204, "a duplicate is nothing new");
            }
            let refused = from(other, &ping_of(number(3)));
            assert_eq!((refused.status, refused.json()["error"].as_str()), (429, Some("too_many_new_ids")), "{other}");
            assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() <= 86_400 + 61);
            let mut known = ping_of(number(0));
            known["vms"] = serde_json::json!(77);
            assert_eq!(from(other, &known).status, 204, "a known ID is stored");
            assert_eq!(from(another, &ping_of(number(4))).status, 204, "another network brings its own");
        }
        let limited = collector.metric("limited_total{limit=\"new_ids\"}");
        assert!((limited - 3.0).abs() < 0.5, "{limited}");
    }
}

#[test]
fn a_flood_of_new_ids_does_not_outgrow_the_storage_and_known_installations_are_stored_meanwhile() {
    const LIMIT: u32 = 2 << 20;
    for storage in Storage::both() {
        let name = storage.name();
        let mut numbers = 0..;
        // Nearly as much as it may hold, by the way that is faster.
        let fill = |until: u64, numbers: &mut std::ops::RangeFrom<u64>| {
            block_on(async {
                let store = open(&storage).await;
                while store.size().await.unwrap() < until {
                    let now = SystemClock.now().wall;
                    let rows = numbers.by_ref().take(32).map(|number| row(&ping_of(number), now)).collect();
                    store.commit(rows).await.unwrap();
                }
            });
        };
        fill(u64::from(LIMIT) / 1000 * 975, &mut numbers);
        let setup = Setup::new(&storage).with("LIMITS__STORAGE_BYTES", &LIMIT.to_string());
        let collector = setup.start();
        collector.wait_until_ready();
        // What is stored is overestimated until the next look, which finds enough to stay at what was decided.
        collector.wait_for("it was measured", || collector.metric("storage_bytes") > 31.0 / 32.0 * f64::from(LIMIT));
        let mut flood = numbers.by_ref().take(1000).map(|number| post(collector.address, &ping_of(number).to_string()));
        let refused = flood.find(|answer| !matches!(answer, Some((204, None))));
        let Some(Some((503, Some(after)))) = refused else { panic!("{name}: {refused:?}") };
        assert!(after > 60, "{name}: {after}");
        collector.wait_for_log("nine tenths of limits.storage_bytes");
        collector.wait_for_log("new install IDs are refused, known ones are still stored");
        for number in 0..20 {
            let mut known = ping_of(number);
            known["vms"] = serde_json::json!(77);
            assert_eq!(collector.post(&known).status, 204, "{name}");
            assert_eq!(collector.post(&ping_of(900_000 + number)).status, 503, "{name}");
        }
        let ready = collector.ask_admin("/readyz");
        assert_eq!((ready.status, ready.json()["but"].as_str()), (200, Some("no_new_ids")), "{name}");
        assert!(collector.metric("storage_takes_new_ids") < 0.5 && collector.metric("storage_takes_pings") > 0.5);
        assert!(collector.metric("storage_limit_bytes") > 2e6 && collector.metric("storage_bytes") > 1.8e6);
        collector.stop();
        let size = block_on(async { open(&storage).await.size().await.unwrap() });
        assert!(size <= LIMIT.into(), "{name}: {size}");
        // A tenth more, which known installations may bring.
        fill(u64::from(LIMIT) / 10 * 11 + 4096, &mut numbers);
        let collector = setup.start_unready();
        let full = || {
            let ready = collector.ask_admin("/readyz");
            ready.status == 503 && ready.json()["because"] == "storage_full"
        };
        collector.wait_for("it says that it is full", full);
        assert_eq!(collector.post(&ping_of(0)).status, 503, "{name}: not even a known one");
        assert!(collector.metric("storage_takes_pings") < 0.5);
        collector.wait_for_log("no ping is stored until a purge has made room");
    }
}

#[test]
fn what_is_no_request_gets_a_bare_status_and_the_connection_closes() {
    let collector = Setup::new(&Storage::sqlite()).start_unready();
    let large = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(16 * 1024));
    for (head, status) in [("no HTTP at all\r\n\r\n", "400"), (&large, "431")] {
        let mut stream = TcpStream::connect(collector.address).unwrap();
        // A server that has answered may close before it has read everything.
        let _ = stream.write_all(head.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "no body: {answer}");
    }
}

#[test]
fn a_stop_under_load_commits_or_refuses_what_it_holds() {
    for storage in Storage::all() {
        let collector = Setup::new(&storage).start();
        let address = collector.address;
        let load = Load::start(8, move |_| Some(address));
        load.wait_for_more(50);
        let log = collector.stop();
        let acknowledged = load.stop();
        assert!(log.contains("stopping"));
        check_nothing_lost(&acknowledged, &storage.install_ids());
    }
}

#[test]
fn in_a_storm_senders_that_obey_are_all_served_in_the_end() {
    // 100 pings a second, and 400 senders at once that each try again when they are told to.
    let store = Obedient::taking(Duration::from_millis(10));
    let settings = Settings { queue: 50, ..Settings::default() };
    let inside = Inside::start(Arc::clone(&store) as _, settings);
    let address = inside.address;
    let senders: Vec<_> = (0..400_u64)
        .map(|number| {
            std::thread::spawn(move || {
                let body = ping_of(number).to_string();
                let mut refused = 0;
                loop {
                    match post(address, &body) {
                        Some((204, _)) => return refused,
                        Some((503, Some(after))) => {
                            refused += 1;
                            std::thread::sleep(Duration::from_secs(after));
                        }
                        other => panic!("neither taken nor told when to come back: {other:?}"),
                    }
                }
            })
        })
        .collect();
    let refused: Vec<u32> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
    assert_eq!(store.count(), 400);
    assert!(refused.iter().any(|times| *times > 0), "it was a storm");
}
