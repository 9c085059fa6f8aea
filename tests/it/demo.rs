//! `make demo`, run as a stranger would run it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

#[test]
fn the_demo_shows_a_startup_and_a_heartbeat_that_are_what_the_ledger_holds() {
    let mut demo = Demo::start(&["--pings", "2"]);
    let (status, said) = demo.end();
    assert!(status.success(), "{said}");
    assert!(after(&said, "Open http://127.0.0.1:").is_some(), "the page to open:\n{said}");
    let pings: Vec<_> = said.lines().filter(|line| line.starts_with("ping ")).collect();
    assert_eq!(pings.len(), 2, "{said}");
    for (ping, start) in pings.iter().zip(["ping 1: startup, ", "ping 2: heartbeat, "]) {
        assert!(ping.starts_with(start) && ping.ends_with("equal to the ledger's bytes: yes"), "{ping}");
    }
    let bodies = said.lines().filter(|line| line.starts_with("  {\"install_id\":"));
    assert_eq!(bodies.count(), 2, "{said}");
    let changed = after(&said, "changed since ping 1: ");
    assert!(changed.is_some_and(|changed| changed != "nothing"), "the simulated Pulse changes:\n{said}");
    assert!(said.contains("Pings received: 2; different install IDs: 1."), "{said}");
    let active = after(&said, "active installations: ").and_then(|told| told.split(' ').next()?.parse().ok());
    assert!(active.is_some_and(|active: u64| (400..500).contains(&active)), "the collector's report:\n{said}");
    let page = Path::new(said.lines().next_back().unwrap().trim());
    assert_eq!(page, demo.site.path().join("index.html"), "it ends by telling where the page lies");
    let shown = std::fs::read_to_string(page).unwrap();
    assert!(shown.contains(&format!("<p class=\"total\">{}</p>", active.unwrap())), "the same number");
    let days = std::fs::read_dir(demo.site.path().join("days")).unwrap().count();
    assert!(days >= 39, "{days} days over which the page tells");
    demo.left_nothing(&said);
}

#[test]
fn ctrl_c_ends_the_demo_in_order_and_leaves_nothing_behind() {
    let mut demo = Demo::start(&[]);
    let mut said = demo.read_until("ping 1: ");
    demo.signal(Signal::INT);
    let (status, rest) = demo.end();
    said += &rest;
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("Stopped. Pings received: "), "{said}");
    demo.left_nothing(&said);
}

#[test]
fn a_reader_that_goes_away_ends_the_demo_in_order() {
    let mut demo = Demo::start(&[]);
    let said = demo.read_until("Open http://");
    drop(demo.out.take());
    assert_eq!(demo.child.wait().unwrap().code(), Some(0));
    let mut complaint = String::new();
    demo.child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert_eq!(complaint, "");
    demo.left_nothing(&said);
}

/// The demo, running, with a directory of its own for temporary files.
struct Demo {
    child: Child,
    out: Option<Lines<BufReader<ChildStdout>>>,
    temporary: TempDir,
    /// Where it publishes its page, which stays.
    site: TempDir,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let (temporary, site) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut command = Command::new(binary());
        command.args(arguments).arg("--site").arg(site.path()).env("TMPDIR", temporary.path());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = child.stdout.take().map(|out| BufReader::new(out).lines());
        Self { child, out, temporary, site }
    }

    /// What it says up to a line that starts so.
    fn read_until(&mut self, start: &str) -> String {
        let mut said = String::new();
        for line in self.out.as_mut().unwrap() {
            said += &(line.unwrap() + "\n");
            if said.lines().last().is_some_and(|line| line.starts_with(start)) {
                return said;
            }
        }
        panic!("the demo ended before it said {start:?}:\n{said}");
    }

    /// How it ends, and what else it says until then.
    fn end(&mut self) -> (ExitStatus, String) {
        let said = self.out.take().unwrap().map(|line| line.unwrap() + "\n").collect();
        (self.child.wait().unwrap(), said)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Neither the sidecar that it said it started, nor a file.
    fn left_nothing(&self, said: &str) {
        let pid: u32 = after(said, "process ").and_then(|pid| pid.parse().ok()).unwrap();
        assert!(!Path::new("/proc").join(pid.to_string()).exists(), "the sidecar {pid} still runs");
        let directory = after(said, "  files     ").unwrap();
        assert!(Path::new(directory).starts_with(self.temporary.path()), "{directory} is where TMPDIR says");
        let left: Vec<_> = std::fs::read_dir(&self.temporary).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Demo {
    /// A test that failed half-way must not leave it running. Killed outright, it could not stop its sidecar.
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.signal(Signal::TERM);
            self.child.wait().unwrap();
        }
    }
}

/// What stands behind the words, to the end of their line.
fn after<'a>(said: &'a str, words: &str) -> Option<&'a str> {
    said.lines().find_map(|line| Some(line.split_once(words)?.1))
}

/// The example that `cargo test` has built beside the tests.
fn binary() -> PathBuf {
    let built = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/demo");
    assert!(built.exists(), "build the demo first: cargo build --example demo");
    built
}
