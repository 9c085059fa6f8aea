//! Answers of any size are counted in memory that does not grow with them. One test, so that the peak is its own.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use pulse_telemetry::pulse::{PlatformSetting, PulseClient, PulseSettings, Tokens};
use pulse_telemetry::snapshot::Reading;
use pulse_telemetry::wire::Trust;

const MB: usize = 1_000_000;
/// What one alert, or one virtual machine, looks like.
const ELEMENT: &[u8] = br#"{"id":"a1","resourceName":"pve1.example.org","message":"CPU at 97 % of \"4\"","since":[1,2.5e3,null],"node":{"vms":[{}],"ok":true}}"#;

#[test]
fn answers_of_100_mb_are_counted_with_less_than_1_mib_of_memory_over_idle() {
    let elements = 100 * MB / (ELEMENT.len() + 1);
    let small = serve(3);
    let large = serve(elements);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    // Once with small answers: the code is in memory then, as it is in a sidecar that idles between two readings.
    assert_counted(&runtime.block_on(client(small).read()).unwrap(), 3);
    let idle = resident("VmRSS");
    fs::write("/proc/self/clear_refs", "5").unwrap();
    assert!(resident("VmHWM") <= idle + 100, "the peak starts again");

    assert_counted(&runtime.block_on(client(large).read()).unwrap(), elements as u32);
    let growth = resident("VmHWM").saturating_sub(idle);
    println!("idle {idle} KiB, grown by {growth} KiB");
    assert!(growth < 1024, "grown by {growth} KiB over {idle} KiB");
}

fn assert_counted(reading: &Reading, elements: u32) {
    assert_eq!(reading.snapshot.active_alerts, Ok(elements));
    assert_eq!(reading.snapshot.vms, Ok(elements));
    assert_eq!(reading.snapshot.pve_nodes, Ok(0));
}

fn client(port: u16) -> PulseClient {
    PulseClient::new(PulseSettings {
        url: format!("http://127.0.0.1:{port}").parse().unwrap(),
        tokens: Tokens::One("token".into()),
        trust: Trust::System,
        timeout: Duration::from_secs(600),
        platform: PlatformSetting::Auto,
    })
    .unwrap()
}

/// A value of `/proc/self/status`, in KiB.
fn resident(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A Pulse 5 with so many alerts and virtual machines, on the port that is returned.
fn serve(elements: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that hangs up is no fault of the server.
            let _ = answer(stream.unwrap(), elements);
        }
    });
    port
}

fn answer(mut stream: TcpStream, elements: usize) -> io::Result<()> {
    let mut head = BufReader::with_capacity(1024, stream.try_clone()?).lines();
    let line = head.next().unwrap()?;
    for line in head {
        if line?.is_empty() {
            break;
        }
    }
    let (before, elements, after) = match line.as_str() {
        "GET /api/alerts/active HTTP/1.1" => ("[", elements, "]"),
        "GET /api/state HTTP/1.1" => (
            r#"{"nodes":[],"pbs":[],"pmg":[],"containers":[],"dockerHosts":[],"kubernetesClusters":[],"vms":["#,
            elements,
            "]}",
        ),
        _ => return stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
    };
    let length = before.len() + elements * (ELEMENT.len() + 1) - 1 + after.len();
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{before}")?;
    // Pieces that do not end with an element, written many elements at a time.
    let block = [ELEMENT, b","].concat().repeat(400);
    let mut left = elements * (ELEMENT.len() + 1) - 1;
    while left > 0 {
        let piece = left.min(block.len());
        stream.write_all(&block[..piece])?;
        left -= piece;
    }
    stream.write_all(after.as_bytes())
}
