//! What a caller may take of the server.

use std::time::Duration;

use pulse_telemetry::daemon::{Command, Handle};
use pulse_telemetry_http::server::{Limits, ServeSettings};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Answer, Daemon, exchange, start, start_with, status, switch};

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_kept() {
    let server = start(Daemon::default()).await;
    let start_of = |more: &str| format!("PUT /api/v1/switch HTTP/1.1\r\nHost: localhost\r\n{more}\r\n\r\n");
    let announced = start_of("Content-Type: application/json\r\nContent-Length: 4097");
    assert_eq!(server.ask(&announced).await.status, 413);
    let chunked = start_of("Content-Type: application/json\r\nTransfer-Encoding: chunked");
    assert_eq!(server.ask(&format!("{chunked}1001\r\n{}", " ".repeat(0x1001))).await.status, 413);
    let padded = format!("{}{}", r#"{"enabled":true}"#, " ".repeat(4096 - 16));
    assert_eq!(server.ask(&switch(&padded)).await.status, 200, "4 KiB are read");
    let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: {}", "x".repeat(16 * 1024));
    let answer = server.ask(&head).await;
    assert_eq!((answer.status, answer.body.len()), (431, 0));
    let target = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(70_000));
    let answer = server.ask(&target).await;
    assert!([414, 431].contains(&answer.status) && answer.body.is_empty(), "{answer:?}");
    let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(15 * 1024));
    assert_eq!(server.ask(&head).await.status, 200, "15 KiB are read");
}

#[tokio::test]
async fn garbage_ends_its_own_connection_only() {
    let server = start(Daemon::default()).await;
    for garbage in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}\r\n\r\n"] {
        let answer = server.ask(garbage).await;
        assert_eq!((answer.status, answer.body.len()), (400, 0), "{garbage:?}");
    }
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_head_is_held_to_its_limit_also_where_a_buffer_could_hold_more() {
    let limits = Limits { head_bytes: 1024, ..Limits::default() };
    let server = start_with(Daemon::default().spawn().0, ServeSettings::default(), limits).await;
    let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(1024));
    assert_eq!(server.ask(&head).await.status, 431);
}

#[tokio::test]
async fn with_every_place_taken_whoever_keeps_the_server_waiting_for_longest_gives_way() {
    // Where that is not so, somebody waits for ever.
    tokio::time::timeout(Duration::from_secs(45), every_place_is_taken()).await.unwrap();
}

async fn every_place_is_taken() {
    let limits = Limits { connections: 3, ..Limits::default() };
    let (handle, mut questions) = Handle::new(4);
    let server = start_with(handle, ServeSettings::default(), limits).await;
    let status_request = "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut answers = Vec::new();
    // One is being answered, two have begun a request and do not go on.
    let answered = tokio::spawn(exchange(server.connect().await, status_request));
    let Some(Command::Status { answer, .. }) = questions.recv().await else {
        unreachable!("only the status is asked for")
    };
    answers.push(answer);
    let mut silent = server.connect().await;
    silent.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let mut later = server.connect().await;
    later.write_all(b"GET /api/v1/status HTTP/1.1\r\n").await.unwrap();
    // A new one takes the place of the first of these.
    let third = tokio::spawn(exchange(server.connect().await, status_request));
    let Some(Command::Status { answer, .. }) = questions.recv().await else {
        unreachable!("only the status is asked for")
    };
    answers.push(answer);
    let ended = silent.read(&mut [0; 64]).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    later.write_all(b"Host: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let Some(Command::Status { answer, .. }) = questions.recv().await else {
        unreachable!("only the status is asked for")
    };
    answers.push(answer);
    // Now each is being answered: another one waits until one of them has been.
    let mut fourth = server.connect().await;
    fourth.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    for answer in answers.drain(..) {
        answer.send(status()).unwrap();
    }
    assert_eq!((answered.await.unwrap().status, third.await.unwrap().status), (200, 200));
    for stream in [&mut later, &mut fourth] {
        let mut raw = Vec::new();
        stream.read_to_end(&mut raw).await.unwrap();
        assert_eq!(Answer::parse(&raw).status, 200);
    }
}

/// Some 16 MB of it, which no buffer of a kernel holds.
fn long_history() -> Option<Vec<Value>> {
    Some(vec![json!({"seq": 1, "kind": "attempted", "body": "x".repeat(16 << 20)})])
}

const HISTORY: &[u8] = b"GET /api/v1/history HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn an_answer_that_is_on_its_way_is_not_cut_off_with_every_place_taken() {
    let limits = Limits { connections: 3, ..Limits::default() };
    let daemon = Daemon { history: long_history(), ..Daemon::default() };
    let server = start_with(daemon.spawn().0, ServeSettings::default(), limits).await;
    // Two take their answers slowly, and idle ones and others who ask take turns at the last place.
    let mut slow = [server.connect().await, server.connect().await];
    let (mut taken, mut pieces) = ([0, 0], 0);
    for stream in &mut slow {
        stream.write_all(HISTORY).await.unwrap();
    }
    let mut piece = vec![0; 1 << 20];
    loop {
        let mut ended = 0;
        for (stream, taken) in slow.iter_mut().zip(&mut taken) {
            let read = stream.read(&mut piece).await.expect("the connection is not cut off");
            *taken += read;
            ended += usize::from(read == 0);
        }
        if ended == slow.len() {
            break;
        }
        pieces += 1;
        if pieces % 8 == 0 {
            let _idle = server.connect().await;
            assert_eq!(server.get("/healthz").await.status, 200);
        }
    }
    assert!(taken.iter().all(|taken| *taken > 16 << 20), "{taken:?}");
}

#[tokio::test]
async fn callers_who_take_no_byte_of_their_answers_shut_nobody_out() {
    let limits = Limits { connections: 3, ..Limits::default() };
    let daemon = Daemon { history: long_history(), ..Daemon::default() };
    let server = start_with(daemon.spawn().0, ServeSettings::default(), limits).await;
    let mut stalled = Vec::new();
    for round in 0..3 {
        for _ in 0..limits.connections {
            let mut stream = server.connect().await;
            stream.write_all(HISTORY).await.unwrap();
            stalled.push(stream);
        }
        let answer = tokio::time::timeout(Duration::from_secs(45), server.get("/healthz")).await;
        assert_eq!(answer.unwrap().status, 200, "round {round}");
    }
}
