//! What the benches of the sidecar share: processes seen from outside, the peers, and one form for the figures.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "each bench uses a part of this, and the person who runs it sees what failed"
)]

use std::convert::Infallible;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pulse_telemetry_testkit::client;
use pulse_telemetry_testkit::pulse::TOKEN;
use tempfile::TempDir;

/// Pulse is read no more often than this; a request before that gets what was read last.
pub const READING_PAUSE: Duration = Duration::from_secs(10);

/// The kernel's unit of CPU time in `/proc`, on every Linux that there is.
const TICK: Duration = Duration::from_millis(10);

/// Prints one figure beside the peer's.
pub fn row(what: &str, ours: &str, peer: &str, theirs: &str, ratio: &str, target: &str) {
    println!("{what:<38} {ours:>12}  {peer:<24} {theirs:>12}  {ratio:>10}  {target}");
}

pub fn head(title: &str) {
    println!("\n{title}");
    row("what", "ours", "peer", "peer's", "ratio", "target");
}

/// The sidecar that is measured, and what it is: the one that `make bench` built, or else the one that cargo did.
#[expect(clippy::disallowed_methods, reason = "make says in the environment what it built")]
pub fn sidecar() -> PathBuf {
    let Some(path) = std::env::var_os("SIDECAR").map(PathBuf::from) else {
        println!("SIDECAR is not set: this is the profile `bench`, not the program that is released (`make bench`)");
        return PathBuf::from(env!("CARGO_BIN_EXE_pulse-telemetry"));
    };
    println!("the sidecar: {}", path.display());
    path
}

/// A program of `benches/peers`, built with nothing from outside; none where there is no Go.
pub fn go_peer(name: &str) -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("peer-{name}"));
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    let mut build = Command::new("go");
    build.current_dir(sources).env("GOPROXY", "off").env("GOFLAGS", "-buildvcs=false");
    build.args(["build", "-o"]).arg(&built).arg(format!("./{name}"));
    match build.status() {
        Ok(status) if status.success() => Some(built),
        _ => {
            println!("no Go here that builds benches/peers/{name}: that peer is left out");
            None
        }
    }
}

/// Debian's node_exporter: in the path, or where NODE_EXPORTER says.
#[expect(clippy::disallowed_methods, reason = "where a peer is found is the environment's to say")]
pub fn node_exporter() -> Option<PathBuf> {
    let named = std::env::var_os("NODE_EXPORTER").map(PathBuf::from);
    let found = named.or_else(|| in_path("prometheus-node-exporter"));
    if found.is_none() {
        println!(
            "no prometheus-node-exporter here: that peer is left out. Without installing it: apt-get download \
             prometheus-node-exporter; dpkg -x prometheus-node-exporter_*.deb DIR; \
             NODE_EXPORTER=DIR/usr/bin/prometheus-node-exporter make bench"
        );
    }
    found
}

#[expect(clippy::disallowed_methods, reason = "where a peer is found is the environment's to say")]
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// What a process used, from its start to its end.
pub struct Used {
    pub cpu: Duration,
    /// The most resident memory it had, in KiB.
    pub peak: u64,
    pub output: String,
}

/// Runs a program to its end. Its output must fit into a pipe.
pub fn run(command: &mut Command) -> Used {
    let before = cpu_of_children();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        // A process that is ending has no memory any more.
        peak = memory(pid, "VmHWM").unwrap_or(0).max(peak);
        std::thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?} ended with {}", output.status);
    Used { cpu: cpu_of_children() - before, peak, output: String::from_utf8(output.stdout).unwrap() }
}

/// A server that runs, as a child; killed when dropped.
pub struct Running(pub Child);

impl Running {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Starts a peer that says first where it listens.
    pub fn peer(command: &mut Command) -> (Self, SocketAddr) {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Self(child), line.trim().parse().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A program that has ended is no longer there to be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A sidecar as in production: its own schedule, TLS set up for an endpoint where nobody is, a service manager that is
/// told.
pub struct Sidecar {
    pub running: Running,
    pub address: SocketAddr,
    /// From the start to `READY=1`.
    pub ready_after: Duration,
    /// Kept open: a program that logs into a closed pipe complains about that.
    _log: BufReader<ChildStderr>,
    _manager: UnixDatagram,
    _dir: TempDir,
}

impl Sidecar {
    /// A watchdog of zero is none.
    #[expect(clippy::disallowed_methods, reason = "it measures time")]
    pub fn start(program: &Path, pulse: &str, watchdog: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (token, manager) = (dir.path().join("token"), dir.path().join("notify"));
        fs::write(&token, TOKEN).unwrap();
        let heard = UnixDatagram::bind(&manager).unwrap();
        heard.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut command = Command::new(program);
        command.arg("run").env_clear().env("PULSE_URL", pulse).env("PULSE_TOKEN_FILE", token);
        command.env("PULSE_TELEMETRY_TELEMETRY__ENDPOINT", "https://127.0.0.1:9/");
        command.env("PULSE_TELEMETRY_STATE__DIR", dir.path().join("state"));
        command.env("PULSE_TELEMETRY_SERVE__LISTEN", "127.0.0.1:0");
        command.env("PULSE_TELEMETRY_PULSE__TIMEOUT", "60s").env("NOTIFY_SOCKET", &manager);
        if !watchdog.is_zero() {
            command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        }
        let began = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut told = [0; 64];
        let length = heard.recv(&mut told).unwrap();
        let ready_after = began.elapsed();
        assert!(told[..length].starts_with(b"READY=1"));
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("address=") {
            line.clear();
            log.read_line(&mut line).unwrap();
        }
        let address = line.trim().rsplit("address=").next().unwrap().parse().unwrap();
        Self { running: Running(child), address, ready_after, _log: log, _manager: heard, _dir: dir }
    }

    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub fn get(&self, target: &str) -> String {
        client::get(self.address, target, None).unwrap().text()
    }
}

/// A line of `/proc/PID/status` in KiB; none once the process has ended.
pub fn memory(pid: u32, line: &str) -> Option<u64> {
    field(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, line)
}

/// How often a process stopped to wait, all of its threads together.
pub fn waits(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |thread: PathBuf| field(&fs::read_to_string(thread.join("status")).unwrap(), "voluntary_ctxt_switches");
    threads.map(|thread| of(thread.unwrap().path()).unwrap()).sum()
}

fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().trim_end_matches(" kB").parse().ok()
}

/// The CPU time of a process that runs.
pub fn cpu(pid: u32) -> Duration {
    ticks(&format!("/proc/{pid}/stat"), 11)
}

fn cpu_of_children() -> Duration {
    ticks("/proc/self/stat", 13)
}

/// Two neighbouring fields of a `stat`, user and system, counted from after the name.
fn ticks(file: &str, first: usize) -> Duration {
    let stat = fs::read_to_string(file).unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_ascii_whitespace().skip(first).take(2);
    let ticks: u32 = fields.map(|ticks| ticks.parse::<u32>().unwrap()).sum();
    TICK * ticks
}

/// A number that is half way through.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// The smallest server that hyper makes, as a process of its own: the bench itself, told to be one.
pub fn hyper_peer() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("hello");
    command
}

/// What that process does.
pub fn hello() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("hello\n")))));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
}
