//! The real binary as a child that does not outlive the demo.

use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pulse_telemetry_core::clock::Clock as _;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::sidecar::binary;
use rustix::process::{Pid, Signal, kill_process};

use super::News;

/// How long it may take to stop. An attempt under way is cancelled, so it stops at once unless something is wrong.
const GRACE: Duration = Duration::from_secs(10);
/// How often to look whether it has stopped.
const LOOK: Duration = Duration::from_millis(20);

/// The sidecar, running. One that was not stopped is killed when this is dropped.
pub(super) struct Sidecar {
    child: Child,
    log: Option<JoinHandle<()>>,
}

impl Sidecar {
    /// Starts it with this configuration and an empty environment, lest a setting for a real Pulse gets in here.
    pub(super) fn start(config: &Path, teller: Sender<News>) -> io::Result<Self> {
        let mut command = Command::new(binary());
        command.env_clear().arg("--config").arg(config).arg("run");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            let hint = "build it with `cargo build --bin pulse-telemetry`";
            io::Error::other(format!("failed to start {}: {error}; {hint}", binary().display()))
        })?;
        let log = child.stderr.take().map(|stderr| thread::spawn(move || pass_on(stderr, &teller)));
        Ok(Self { child, log })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, and waits until it has and its whole log was passed on.
    pub(super) fn stop(&mut self) -> io::Result<ExitStatus> {
        // One that has ended already needs no asking, and its status tells how.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let give_up = SystemClock.now().mono + GRACE;
        while self.child.try_wait()?.is_none() && SystemClock.now().mono < give_up {
            thread::sleep(LOOK);
        }
        self.child.kill()?;
        let ended = self.child.wait()?;
        // A reader that panicked has been told by the panic.
        let _ = self.log.take().map(JoinHandle::join);
        Ok(ended)
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // After `stop` there is nothing left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads to the end even where nobody listens any more, or a full pipe would hold the sidecar up.
fn pass_on(log: impl io::Read, teller: &Sender<News>) {
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        let _ = teller.send(News::Log(line));
    }
    let _ = teller.send(News::LogEnded);
}
