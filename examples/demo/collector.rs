//! The real collector as a child that does not outlive the demo, with SQLite in the demo's own directory.

use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use bytes::Bytes;
use pulse_telemetry_testkit::client::fetch;
use pulse_telemetry_testkit::collector::{binary, ping};
use pulse_telemetry_testkit::endpoint::PING_PATH;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use uuid::Uuid;

/// What the collector logs as soon as it listens, up to the address.
const LISTENS: &str = "the collector listens address=";

/// How many other installations there are: with one alone the report would have nothing to show.
pub(super) const OTHERS: u32 = 40;

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

    /// Lets other installations send a ping each.
    pub(super) fn add_others(&self) {
        for number in 0..OTHERS {
            let version = if number % 3 == 0 { "6.3.0" } else { "6.0.0-rc.1" };
            let ping = ping(&json!({
                "install_id": Uuid::from_u128(u128::from(number) << 64).to_string(),
                "version": version,
                "version_channel": if number % 3 == 0 { "stable" } else { "rc" },
                "event": "heartbeat",
                "platform": if number % 2 == 0 { "docker" } else { "binary" },
                "vms": number * number,
                "ai_enabled": number % 4 == 0,
            }));
            Self::take(self.address, Bytes::from(ping.to_string()));
        }
    }

    /// What `report` says.
    pub(super) fn report(&self) -> io::Result<String> {
        let said = command(&self.config).arg("report").output()?;
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
