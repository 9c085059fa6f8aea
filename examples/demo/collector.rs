//! The real collector as a child that does not outlive the demo, with SQLite in the demo's own directory.

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use bytes::Bytes;
use jiff::Span;
use jiff::tz::Offset;
use pulse_telemetry_collector::sqlite::SqliteStore;
use pulse_telemetry_collector::storage::{PingStore as _, StorageError};
use pulse_telemetry_core::clock::Clock as _;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::client::fetch;
use pulse_telemetry_testkit::collector::binary;
use pulse_telemetry_testkit::endpoint::PING_PATH;
use pulse_telemetry_testkit::fleet::Fleet;
use rustix::process::{Pid, Signal, kill_process};

/// What the collector logs as soon as it listens, up to the address.
const LISTENS: &str = "the collector listens address=";

/// How many other installations there are at first, and for how many days they have sent pings: with one alone there
/// would be no numbers to show.
pub(super) const OTHERS: u64 = 400;
pub(super) const DAYS: i64 = 40;

/// The collector, running. One that was not stopped is killed when this is dropped.
pub(super) struct Collector {
    child: Child,
    config: PathBuf,
    pub(super) address: SocketAddr,
}

impl Collector {
    /// Starts it with this configuration and an empty environment, and waits until it listens.
    pub(super) fn start(config: &Path) -> io::Result<Self> {
        let mut command = command(config);
        command.arg("run").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            let hint = "build it with `cargo build --workspace --bins`";
            io::Error::other(format!("failed to start {}: {error}; {hint}", binary().display()))
        })?;
        let stderr = child.stderr.take().ok_or_else(|| io::Error::other("the collector has no log"))?;
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let mut said = String::new();
        let address = lines.by_ref().find_map(|line| {
            said += &(line.clone() + "\n");
            line.split_once(LISTENS)?.1.trim().parse().ok()
        });
        // Its log is read to the end, or a full pipe would hold it up.
        thread::spawn(move || lines.count());
        let collector = |address| Self { child, config: config.to_owned(), address };
        address.map(collector).ok_or_else(|| io::Error::other(format!("the collector did not start:\n{said}")))
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Hands it a ping, and tells its answer's status; 503 where there is none.
    pub(super) fn take(address: SocketAddr, body: Bytes) -> u16 {
        let headers = [("Content-Type", "application/json")];
        fetch(address, "POST", PING_PATH, &headers, body).map_or(503, |answer| answer.status)
    }

    /// What `report` says.
    pub(super) fn report(&self) -> io::Result<String> {
        self.ask(&["report".as_ref()])
    }

    /// Publishes into that directory, and tells where the page lies.
    pub(super) fn publish(&self, site: &Path) -> io::Result<PathBuf> {
        self.ask(&["publish".as_ref(), site.as_os_str()])?;
        std::path::absolute(site.join("index.html"))
    }

    fn ask(&self, arguments: &[&OsStr]) -> io::Result<String> {
        let said = command(&self.config).args(arguments).output()?;
        if said.status.success() {
            return Ok(String::from_utf8_lossy(&said.stdout).into_owned());
        }
        Err(io::Error::other(String::from_utf8_lossy(&said.stderr).into_owned()))
    }

    /// Asks it to stop, and waits until it has.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        // One that has ended already needs no asking, and its status tells how.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let ended = self.child.wait()?;
        if ended.success() { Ok(()) } else { Err(io::Error::other(format!("the collector ended with {ended}"))) }
    }
}

/// Stores what the others have sent until yesterday, as a collector that ran all the time would have.
pub(super) fn store_others(storage: &Path) -> io::Result<()> {
    let today = Offset::UTC.to_datetime(SystemClock.now().wall).date();
    let first = today.saturating_sub(Span::new().days(DAYS));
    let fleet = Fleet::new(OTHERS, first, DAYS, 17);
    let store = SqliteStore::open(storage).map_err(io::Error::other)?;
    let stored = async {
        for day in 0..DAYS {
            store.commit(fleet.rows(day)).await?;
        }
        Ok::<_, StorageError>(())
    };
    tokio::runtime::Builder::new_current_thread().build()?.block_on(stored).map_err(io::Error::other)
}

impl Drop for Collector {
    fn drop(&mut self) {
        // After `stop` there is nothing left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(config: &Path) -> Command {
    let mut command = Command::new(binary());
    command.env_clear().arg("--config").arg(config);
    command
}
