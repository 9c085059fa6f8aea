//! What leaves: a month of pings of the real binary in a network namespace of its own, whose filter counts every packet
//! that goes anywhere but to Pulse and to the endpoint; and, while telemetry is off, to these two as well. Needs root:
//! `make test-system`.
//!
//! The test runs itself again in the namespace. A route leads out of it, to nobody: what would leave is counted.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use pulse_telemetry_testkit::alone::{alone, run};
use pulse_telemetry_testkit::endpoint::PING_PATH;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::receiver::{FORGET_PATH, Receiver};
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup};

/// Where nobody is.
const ELSEWHERE: &str = "10.77.0.9";
const DAYS: usize = 30;

#[test]
#[ignore = "needs root: make test-system"]
fn in_a_month_no_packet_leaves_but_to_pulse_and_the_endpoint() {
    alone("egress::in_a_month_no_packet_leaves_but_to_pulse_and_the_endpoint", &[], || {}, a_month_inside);
}

fn a_month_inside() {
    for words in [
        "link add name out type veth peer name nowhere",
        "address add 10.77.0.1/24 dev out",
        "link set out up",
        "link set nowhere up",
        "route add default dev out",
    ] {
        run("ip", &words.split(' ').collect::<Vec<_>>());
    }
    let (pulse, receiver) = (SimulatedPulse::start(PulseModel::default()), Receiver::start());
    filter(port(&pulse.url()), port(&receiver.url()));

    let setup = Setup::new(&pulse.url(), &receiver.url())
        .with_token(TOKEN)
        .on_a_socket()
        .with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "300ms");
    // Pulse is read every ten seconds at most, so most days of this month begin with a start.
    for day in 1..DAYS {
        let sidecar = setup.start();
        receiver.wait_for(PING_PATH, day, LIMIT);
        sidecar.stop();
    }
    let sidecar = setup.start();
    receiver.wait_for(PING_PATH, DAYS + 1, LIMIT);
    for command in ["preview", "status", "history", "audit", "check"] {
        assert!(setup.run(&[command]).status.success(), "{command}");
    }
    sidecar.stop();
    assert_eq!(packets("refused"), 0, "something else was talked to");
    off_and_a_deletion(&setup, &receiver);
    assert!(packets("to_pulse") > 100 && packets("to_the_endpoint") > 100);

    // The filter does count.
    let address: SocketAddr = format!("{ELSEWHERE}:443").parse().unwrap();
    assert!(TcpStream::connect_timeout(&address, Duration::from_millis(50)).is_err());
    let refused = packets("refused");
    assert!(refused > 0, "a connection to elsewhere");
    let _ = UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"?", (ELSEWHERE, 53));
    assert!(packets("refused") > refused, "a question to a resolver");
}

/// While telemetry is off nothing leaves; after `forget` something goes to the endpoint alone, and then nothing again.
fn off_and_a_deletion(setup: &Setup, receiver: &Receiver) {
    assert!(setup.run(&["off"]).status.success());
    let counted = || [packets("to_pulse"), packets("to_the_endpoint"), packets("refused")];
    let [to_pulse, to_the_endpoint, _] = counted();
    let sidecar = setup.start();
    for command in ["status", "history", "audit"] {
        assert!(setup.run(&[command]).status.success(), "{command}");
    }
    sidecar.stop();
    assert_eq!(counted(), [to_pulse, to_the_endpoint, 0], "off");
    let sidecar = setup.start();
    assert!(setup.run(&["forget"]).status.success());
    receiver.wait_for(FORGET_PATH, 1, LIMIT);
    sidecar.wait_for_log("the endpoint says that it deleted");
    let [_, to_the_endpoint_then, _] = counted();
    assert!(to_the_endpoint_then > to_the_endpoint);
    sidecar.stop();
    let after = counted();
    assert_eq!((after[0], after[2]), (to_pulse, 0), "nothing but the endpoint is contacted");
    setup.start().stop();
    assert_eq!(counted(), after, "and it is not once more");
}

/// Nothing goes out but to those two, and back from them; all of it is counted.
fn filter(pulse: u16, endpoint: u16) {
    let rules = format!(
        "table inet egress {{
            counter to_pulse {{ }}
            counter to_the_endpoint {{ }}
            counter refused {{ }}
            chain out {{
                type filter hook output priority 0; policy drop;
                ip daddr 127.0.0.1 tcp dport {pulse} counter name to_pulse accept
                ip daddr 127.0.0.1 tcp dport {endpoint} counter name to_the_endpoint accept
                ip saddr 127.0.0.1 tcp sport {{ {pulse}, {endpoint} }} accept
                meta l4proto ipv6-icmp accept comment \"the kernel, which looks for neighbours\"
                counter name refused drop
            }}
        }}"
    );
    run("nft", &[&rules]);
}

fn packets(counter: &str) -> u64 {
    let told = run("nft", &["list", "counter", "inet", "egress", counter]);
    let mut words = told.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).unwrap().parse().unwrap()
}

fn port(url: &str) -> u16 {
    let authority = url.split('/').nth(2).unwrap();
    authority.rsplit(':').next().unwrap().parse().unwrap()
}
