//! The real binary as a child process: an environment of its own, a state directory of its own, no fixed port.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use pulse_telemetry_core::clock::Clock as _;
use pulse_telemetry_core::identity::Identity;
use pulse_telemetry_process::clock::SystemClock;
use ring::digest::{SHA256, digest};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

use super::client::{self, Reply};
use super::lock;

/// How long a test waits for what must happen. Only a failing test waits this long.
pub const LIMIT: Duration = Duration::from_secs(45);

/// Whether it holds before the limit passes, of what nobody tells the test: it is asked again and again.
pub fn comes_true(mut holds: impl FnMut() -> bool) -> bool {
    let end = SystemClock.now().mono + LIMIT;
    while SystemClock.now().mono < end {
        if holds() {
            return true;
        }
        // What is waited for needs the processors, too.
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// The binary that cargo built for the tests; beside an example, two folders up.
pub fn binary() -> PathBuf {
    let built = option_env!("CARGO_BIN_EXE_pulse-telemetry").map(PathBuf::from);
    built.unwrap_or_else(|| std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("pulse-telemetry"))
}

/// How to start the binary: a state directory and an environment, and nothing of the test's own environment.
#[derive(Clone)]
pub struct Setup {
    dir: Arc<TempDir>,
    environment: BTreeMap<String, String>,
    /// A program that runs the binary, and its arguments; none: the binary runs by itself.
    through: Vec<String>,
}

impl Setup {
    /// For that Pulse and that endpoint, with a schedule for tests: the startup ping at once, the log at its most
    /// talkative, the local API on a free port.
    pub fn new(pulse: &str, endpoint: &str) -> Self {
        Self::in_dir(&std::env::temp_dir(), pulse, endpoint)
    }

    /// As `new`, with all files below that directory.
    pub fn in_dir(parent: &Path, pulse: &str, endpoint: &str) -> Self {
        let dir = Arc::new(tempfile::tempdir_in(parent).unwrap());
        let state = dir.path().join("state");
        let setup = Self { dir, environment: BTreeMap::new(), through: Vec::new() };
        setup
            .with("PULSE_URL", pulse)
            .with("PULSE_TELEMETRY_TELEMETRY__ENDPOINT", endpoint)
            .with("PULSE_TELEMETRY_STATE__DIR", state.to_str().unwrap())
            .with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "0s")
            .with("PULSE_TELEMETRY_SERVE__LISTEN", "127.0.0.1:0")
            .with("PULSE_TELEMETRY_LOG__LEVEL", "trace")
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Runs the binary through another program.
    pub fn through(mut self, program: &[String]) -> Self {
        self.through = program.to_vec();
        self
    }

    /// The local API on a Unix socket, so that the commands find it.
    pub fn on_a_socket(self) -> Self {
        let listen = format!("unix:{}", self.path("api.sock").display());
        self.with("PULSE_TELEMETRY_SERVE__LISTEN", &listen)
    }

    /// The token in a file, as `PULSE_TOKEN_FILE` names it.
    pub fn with_token(self, token: &str) -> Self {
        let file = self.write("token", token);
        self.with("PULSE_TOKEN_FILE", file.to_str().unwrap())
    }

    /// A path in this set-up's own directory, beside the state directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file that its owner alone can read, as one with a token should be.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub fn state(&self, name: &str) -> PathBuf {
        self.path("state").join(name)
    }

    pub fn id_file(&self) -> PathBuf {
        self.state(".install_id")
    }

    /// The ID in the ID file.
    pub fn id_on_disk(&self) -> Option<String> {
        let content = std::fs::read(self.id_file()).ok()?;
        let record: Value = serde_json::from_slice(&content).unwrap();
        Some(record["install_id"].as_str().unwrap().to_owned())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut whole = self.through.clone();
        whole.push(binary().display().to_string());
        let mut command = Command::new(&whole[0]);
        command.args(&whole[1..]).args(arguments).env_clear().envs(&self.environment).stdin(Stdio::null());
        command
    }

    /// Runs one command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts one command, and does not wait for it.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Starts the daemon, and waits until it listens.
    pub fn start(&self) -> Sidecar {
        self.start_if_it_can().unwrap_or_else(|log| panic!("the daemon did not start:\n{log}"))
    }

    /// Starts the daemon, and waits until it listens or ends; then its log.
    pub fn start_if_it_can(&self) -> Result<Sidecar, String> {
        let mut child = self.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new((Mutex::new(Log::default()), Condvar::new()));
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let lines = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines() {
                lock(&lines.0).lines.push(line.unwrap());
                lines.1.notify_all();
            }
            lock(&lines.0).ended = true;
            lines.1.notify_all();
        });
        let mut sidecar = Sidecar { child, log, reader: Some(reader), address: None, _dir: Arc::clone(&self.dir) };
        let Some(listening) = sidecar.wait_for_any(&[LISTENS]) else { return Err(sidecar.log()) };
        let address = listening.rsplit("address=").next().unwrap_or_default();
        sidecar.address = address.split_whitespace().next().and_then(|address| address.parse().ok());
        Ok(sidecar)
    }
}

/// What the daemon says as soon as it listens.
const LISTENS: &str = "the local page and API";

#[derive(Default)]
struct Log {
    lines: Vec<String>,
    ended: bool,
}

/// A daemon that runs; killed when dropped.
pub struct Sidecar {
    child: Child,
    log: Arc<(Mutex<Log>, Condvar)>,
    reader: Option<std::thread::JoinHandle<()>>,
    address: Option<SocketAddr>,
    /// Its files stay for as long as it runs.
    _dir: Arc<TempDir>,
}

impl Sidecar {
    /// The first line of the log that holds the text.
    pub fn wait_for_log(&self, text: &str) -> String {
        self.wait_for_any(&[text]).unwrap_or_else(|| panic!("the log never said {text:?}:\n{}", self.log()))
    }

    /// The first line of the log that holds any of the texts; none where the daemon ends without a word of them.
    pub fn wait_for_any(&self, texts: &[&str]) -> Option<String> {
        let (log, news) = &*self.log;
        let found = |log: &Log| log.lines.iter().find(|line| texts.iter().any(|text| line.contains(text))).cloned();
        let waiting = |log: &mut Log| found(log).is_none() && !log.ended;
        let (log, _) = news.wait_timeout_while(lock(log), LIMIT, waiting).unwrap();
        found(&log)
    }

    pub fn log(&self) -> String {
        lock(&self.log.0).lines.join("\n")
    }

    /// Where the local API listens, on TCP.
    pub fn address(&self) -> SocketAddr {
        self.address.expect("the local API is on TCP")
    }

    /// One request to a daemon that may be gone.
    pub fn ask(&self, method: &str, target: &str, body: &str) -> Option<Reply> {
        let stream = std::net::TcpStream::connect(self.address()).ok()?;
        let headers = [("Content-Type", "application/json")];
        client::fetch_over(stream, self.address(), method, target, &headers, Bytes::from(body.to_owned())).ok()
    }

    pub fn get(&self, target: &str) -> Reply {
        client::get(self.address(), target, None).unwrap()
    }

    pub fn post(&self, target: &str) -> Reply {
        client::fetch(self.address(), "POST", target, &[], Bytes::new()).unwrap()
    }

    pub fn put(&self, target: &str, body: &str) -> Reply {
        let headers = [("Content-Type", "application/json")];
        client::fetch(self.address(), "PUT", target, &headers, Bytes::from(body.to_owned())).unwrap()
    }

    pub fn status(&self) -> Value {
        self.get("/api/v1/status").json()
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A line of `/proc/PID/status`, in bytes.
    pub fn memory(&self, line: &str) -> u64 {
        memory_of(&self.child, line)
    }

    /// Asks the daemon to stop, waits for its end, and gives its log.
    pub fn stop(mut self) -> String {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        assert!(status.success(), "ended with {status}:\n{}", self.log());
        self.log()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // A daemon that has ended is no longer there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

/// Whether the file's content is there; the state directory may not be.
pub fn exists(path: &Path) -> bool {
    path.try_exists().unwrap()
}

/// What a crash may leave: files that are whole, and a ledger whose chain is, but for a line that it may have torn.
pub fn check_the_state(setup: &Setup) {
    if let Ok(content) = std::fs::read(setup.id_file()) {
        assert!(Identity::parse(&content).is_some(), "half an ID: {content:?}");
    }
    if let Ok(content) = std::fs::read(setup.state("state.json")) {
        let state: Value = serde_json::from_slice(&content).expect("half a state");
        assert_eq!(state["version"], 2);
    }
    let ledger = std::fs::read(setup.state("ledger.jsonl")).ok().unwrap_or_default();
    let whole = ledger.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let mut before = String::new();
    for (number, line) in ledger[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
        let entry: Value = serde_json::from_slice(line).expect("half a line within the ledger");
        assert_eq!((entry["seq"].as_u64(), entry["prev"].as_str()), (Some(number as u64 + 1), Some(before.as_str())));
        before = digest(&SHA256, line).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    }
}

/// A line of a process's `/proc/PID/status`, in bytes.
pub fn memory_of(process: &Child, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let value = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).unwrap();
    value.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
