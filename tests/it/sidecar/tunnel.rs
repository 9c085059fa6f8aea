//! What a proxy for pings can write down.

use std::io::{Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use pulse_telemetry_testkit::endpoint::{CertificateAuthority, Endpoint};
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse};
use pulse_telemetry_testkit::sidecar::{LIMIT, comes_true};

use super::{text, working};

/// One connection, as the proxy saw it.
#[derive(Default)]
struct Seen {
    head: String,
    up: Vec<u8>,
    down: Vec<u8>,
}

/// A proxy that makes tunnels, and writes down all that passes.
fn curious() -> (SocketAddr, Arc<Mutex<Vec<Seen>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let notes: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let kept = Arc::clone(&notes);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            let head = String::from_utf8(head).unwrap();
            let server = TcpStream::connect(head.split(' ').nth(1).unwrap()).unwrap();
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let up = std::thread::spawn(move || passed_on(from, to));
            let down = passed_on(server, client);
            kept.lock().unwrap().push(Seen { head, up: up.join().unwrap(), down });
        }
    });
    (address, notes)
}

/// Passes on what comes until there is no more, and gives it.
fn passed_on(mut from: TcpStream, mut to: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut some = [0; 4096];
    // Either side may go away when it has what it wants.
    while let Ok(read @ 1..) = from.read(&mut some) {
        all.extend(&some[..read]);
        if to.write_all(&some[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    all
}

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
}

#[test]
fn a_proxy_that_writes_down_all_that_passes_learns_a_name_a_time_and_a_size() {
    let pulse = SimulatedPulse::start(PulseModel::default());
    let authority = CertificateAuthority::new();
    let endpoint = Endpoint::start_tls(&authority.issue_for_loopback());
    let (proxy, notes) = curious();
    let setup = working(&pulse, &endpoint).with("HTTPS_PROXY", &format!("http://{proxy}"));
    let ca = setup.write("ca.pem", &authority.ca_pem());
    let setup = setup.with("SSL_CERT_FILE", ca.to_str().unwrap());
    // By its name, as the real one is.
    let url = endpoint.url().replace("127.0.0.1", "localhost");
    let sidecar = setup.with("PULSE_TELEMETRY_TELEMETRY__ENDPOINT", &url).start();
    let ping = endpoint.wait_for_pings(1, LIMIT).remove(0);
    sidecar.wait_for_log("ping delivered");
    sidecar.stop();

    assert!(comes_true(|| !notes.lock().unwrap().is_empty()), "the tunnel never ends");
    let notes = notes.lock().unwrap();
    let [Seen { head, up, down }] = &notes[..] else { panic!("{} connections", notes.len()) };
    // The name, and nothing of who asks: not even the program's name.
    let name = format!("localhost:{}", endpoint.server.addr.port());
    assert_eq!(head.to_ascii_lowercase(), format!("connect {name} http/1.1\r\nhost: {name}\r\n\r\n"));
    // The same name, for TLS.
    assert!(holds(up, "localhost"));
    // The size.
    assert!(up.len() > ping.body.len() && !down.is_empty());
    let values = ping.json();
    let values = values.as_object().unwrap();
    let words = values.keys().map(String::as_str).chain(values.values().filter_map(|value| value.as_str()));
    let words = words.chain(ping.headers.iter().map(|(header, _)| header.as_str()).filter(|header| *header != "host"));
    // A shorter one could be in random bytes by chance.
    let words: Vec<&str> = words.chain(["pulse", "telemetry", "POST", &ping.target]).filter(|w| w.len() > 3).collect();
    assert!(words.len() > 25);
    let sent = format!("{} {} {:?} {}", ping.method, ping.target, ping.headers, text(&ping.body));
    for word in words {
        assert!(holds(sent.as_bytes(), word), "{word} is not what was sent");
        assert!(!holds(up, word) && !holds(down, word) && !holds(head.as_bytes(), word), "the proxy learns {word}");
    }
}
