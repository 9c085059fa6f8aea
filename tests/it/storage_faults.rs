//! A fault at every system call that touches the state directory, one at a time: the process is killed there, or the
//! call fails with ENOSPC, EIO or EROFS.
//!
//! A tenth of the faults; `FAULTS=all` tries every one, as `make soak` does. Needs strace.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::io::Write as _;

use pulse_telemetry_testkit::alone::program_or_skip;
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar::{Setup, check_the_state, exists};
use serde_json::Value;

/// The calls that change something, or open what is to be changed.
const CALLS: [&str; 8] = ["mkdir", "openat", "write", "fsync", "fdatasync", "rename", "unlink", "ftruncate"];
const FAULTS: [&str; 4] = ["signal=KILL", "error=ENOSPC", "error=EIO", "error=EROFS"];
const FILES: [&str; 11] = [
    "",
    "/.install_id",
    "/.install_id.new",
    "/state.json",
    "/state.json.new",
    "/ledger.jsonl",
    "/off",
    "/off.new",
    "/lock",
    "/probe",
    "/probe.new",
];

/// An ID that is due for rotation.
const OLD: &str = "0fbd0a2c-3e7f-4f0e-8d43-f7d2f94a5a11";

#[test]
#[expect(clippy::disallowed_methods, reason = "how many faults is the environment's to say")]
fn no_fault_of_the_disk_leaves_a_half_written_file_or_undoes_what_was_answered() {
    let name = "no_fault_of_the_disk_leaves_a_half_written_file_or_undoes_what_was_answered";
    if !program_or_skip("strace", &["--version"], name) {
        return;
    }
    let all = std::env::var_os("FAULTS").is_some_and(|value| value == "all");
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let counts = calls_of_a_life(&pulse, &endpoint);
    let total: usize = counts.values().sum();
    assert!(total > 60, "a life touches the state {total} times only: {counts:?}");
    let places = counts.iter().flat_map(|(call, count)| (1..=*count).map(move |at| (call, at)));
    let mut tried = 0;
    for (number, ((call, at), fault)) in places.flat_map(|place| FAULTS.map(|fault| (place, fault))).enumerate() {
        if all || number % 10 == 3 {
            a_life_with(&pulse, &endpoint, &format!("inject={call}:{fault}:when={at}"));
            tried += 1;
        }
    }
    let _ = writeln!(std::io::stderr(), "{tried} faults at {total} calls");
}

fn setup(pulse: &SimulatedPulse, endpoint: &Endpoint) -> Setup {
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN);
    std::fs::create_dir(setup.path("state")).unwrap();
    let record = format!("{{\"install_id\":\"{OLD}\",\"issued_at\":\"2026-01-01T00:00:00Z\"}}\n");
    std::fs::write(setup.id_file(), record).unwrap();
    setup
}

fn strace(setup: &Setup, options: &[&str]) -> Vec<String> {
    let mut words = vec!["strace", "-D", "-f", "-qq"];
    words.extend(options);
    let state = setup.path("state").display().to_string();
    let paths = FILES.iter().flat_map(|file| ["-P".to_owned(), format!("{state}{file}")]);
    words.into_iter().map(str::to_owned).chain(paths).collect()
}

/// How often each call touches the state in a life without a fault.
fn calls_of_a_life(pulse: &SimulatedPulse, endpoint: &Endpoint) -> BTreeMap<&'static str, usize> {
    let setup = setup(pulse, endpoint);
    let trace = setup.path("trace");
    let through = strace(&setup, &["-o", trace.to_str().unwrap()]);
    let answered = live(&setup.clone().through(&through), &endpoint.pings().len(), endpoint);
    assert!(answered.reset.is_some() && answered.off, "a life without a fault does it all");
    let trace = std::fs::read_to_string(trace).unwrap();
    let count = |call: &str| trace.lines().filter(|line| line.contains(&format!(" {call}("))).count();
    CALLS.iter().map(|call| (*call, count(call))).collect()
}

/// What the daemon said it had done.
#[derive(Debug, Default)]
struct Answered {
    /// The new ID, after a reset.
    reset: Option<String>,
    off: bool,
}

/// A start, a rotation, a ping, a reset, an opt-out, a stop: as far as it gets.
fn live(setup: &Setup, pings_before: &usize, endpoint: &Endpoint) -> Answered {
    let mut answered = Answered::default();
    let Ok(sidecar) = setup.start_if_it_can() else { return answered };
    sidecar.wait_for_any(&["ping delivered", "failed to write"]);
    if let Some(reply) = sidecar.ask("POST", "/api/v1/reset-id", "")
        && reply.status == 200
    {
        answered.reset = reply.json()["payload"]["install_id"].as_str().map(str::to_owned);
    }
    if let Some(reply) = sidecar.ask("PUT", "/api/v1/switch", r#"{"enabled":false}"#) {
        assert_eq!(reply.status, 200, "off is always possible");
        answered.off = reply.json()["persisted"] == true;
    }
    drop(sidecar);
    for ping in &endpoint.pings()[*pings_before..] {
        assert_ne!(ping.json()["install_id"], OLD, "an ID that was due for rotation went out");
    }
    answered
}

fn a_life_with(pulse: &SimulatedPulse, endpoint: &Endpoint, fault: &str) {
    let setup = setup(pulse, endpoint);
    let through = strace(&setup, &["-o", "/dev/null", "-e", fault]);
    let answered = live(&setup.clone().through(&through), &endpoint.pings().len(), endpoint);
    check_the_state(&setup);
    if answered.off {
        assert!(exists(&setup.state("off")), "{fault}: an opt-out that was answered is undone");
    }
    let status = setup.run(&["status", "--json"]);
    assert!(status.status.success(), "{fault}: {}", String::from_utf8_lossy(&status.stderr));
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["enabled"], !answered.off && !exists(&setup.state("off")), "{fault}");
    let left = setup.id_on_disk();
    if let Some(new) = &answered.reset {
        // An opt-out that came after it may have deleted the ID already.
        assert!(left.is_none() || left.as_ref() == Some(new), "{fault}: a reset that was answered is undone");
    }
    let before = endpoint.pings().len();
    let next = setup.start();
    assert_eq!(next.status()["writable"], true, "{fault}");
    assert_eq!(next.get("/api/v1/preview").status, 200, "{fault}");
    assert!(!answered.off || !exists(&setup.id_file()), "{fault}: off, and an ID file all the same");
    next.stop();
    check_the_state(&setup);
    for ping in &endpoint.pings()[before..] {
        assert!(!answered.off, "{fault}: a ping after the opt-out");
        let id = &ping.json()["install_id"];
        assert_ne!(*id, OLD, "{fault}: an ID that was due for rotation went out");
        assert!(left.as_ref().is_none_or(|left| left == OLD || id == left), "{fault}: {id} instead of {left:?}");
    }
}
