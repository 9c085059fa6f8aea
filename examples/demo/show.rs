//! What the demo tells on standard output.

use std::collections::HashSet;
use std::io::{self, Stdout, Write as _};
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use pulse_telemetry_core::clock::Clock as _;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::pulse::SimulatedPulse;
use pulse_telemetry_testkit::sidecar::binary;
use serde_json::Value;

use super::News;
use super::collector::{DAYS, OTHERS};
use super::files::{Files, INTERVAL, STARTUP_DELAY};

/// How long a ping may take, where a number of them was asked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the sidecar logs as soon as it listens, up to the address.
const LISTENS: &str = "the local page and API address=";

/// The demo, as it is told.
pub(super) struct Show<'a> {
    out: Stdout,
    files: &'a Files,
    pulse: &'a SimulatedPulse,
    wanted: Option<usize>,
    ticks: u64,
    /// The pings so far; null for one that is no JSON.
    received: Vec<Value>,
    /// When the sidecar was started, by the monotonic clock.
    started: Duration,
    /// When the last ping came, or the start.
    last: Duration,
}

impl<'a> Show<'a> {
    pub(super) fn new(files: &'a Files, pulse: &'a SimulatedPulse, wanted: Option<usize>) -> Self {
        let started = SystemClock.now().mono;
        Self { out: io::stdout(), files, pulse, wanted, ticks: 0, received: Vec::new(), started, last: started }
    }

    /// Says what runs where.
    pub(super) fn open(&mut self, pid: u32, collector: u32) -> io::Result<()> {
        let Files { pulse, endpoint, .. } = self.files;
        let dir = self.files.dir().display();
        writeln!(
            self.out,
            "\
pulse-telemetry, shown with a simulated Pulse. Everything is on this machine, and nothing leaves it.

  Pulse     {pulse}
            simulated: a homelab whose guests and alerts come and go
  sidecar   process {pid}
            the real program; its first ping goes after {STARTUP_DELAY}, then one every {INTERVAL}
  endpoint  {endpoint}
            shows below what passes, and hands it to the collector
  collector process {collector}
            the real program on SQLite; {OTHERS} simulated installations and more have sent it pings for {DAYS} days
  files     {dir}
            removed at the end
"
        )
    }

    /// Tells what happens, until it is time to stop.
    pub(super) fn follow(&mut self, news: &Receiver<News>) -> io::Result<()> {
        for news in news {
            match news {
                News::Log(line) => self.log(&line)?,
                News::Ping(body, at) => self.ping(&body, at)?,
                News::Tick => self.tick()?,
                News::LogEnded | News::Stop => break,
            }
            if self.wanted.is_some_and(|wanted| self.received.len() >= wanted) {
                break;
            }
        }
        Ok(())
    }

    /// Tells the end of the log, now that the sidecar has stopped, and sums up.
    pub(super) fn close(&mut self, news: &Receiver<News>) -> io::Result<()> {
        for news in news.try_iter() {
            if let News::Log(line) = news {
                self.log(&line)?;
            }
        }
        let count = self.received.len();
        let ids = self.received.iter().filter_map(|ping| ping["install_id"].as_str()).collect::<HashSet<_>>().len();
        writeln!(self.out, "\nStopped. Pings received: {count}; different install IDs: {ids}.")?;
        match self.wanted {
            Some(wanted) if count < wanted => Err(io::Error::other(format!("only {count} of {wanted} pings came"))),
            _ => Ok(()),
        }
    }

    /// Shows what the collector makes of it all.
    pub(super) fn report(&mut self, report: &str) -> io::Result<()> {
        writeln!(
            self.out,
            "
The collector's report of the last whole day, as `pulse-telemetry-collector report` tells it. An install ID counts from
its second day on, so this sidecar is not in it yet.

{report}"
        )
    }

    /// Says where the numbers are published.
    pub(super) fn site(&mut self, page: &Path) -> io::Result<()> {
        writeln!(
            self.out,
            "The same as a page, as `pulse-telemetry-collector publish` writes it; open it in a browser:\n  {}",
            page.display()
        )
    }

    fn log(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "sidecar | {line}")?;
        match line.split_once(LISTENS) {
            Some((_, address)) => self.invite(address.trim()),
            None => Ok(()),
        }
    }

    /// Says what to open and what to try.
    fn invite(&mut self, address: &str) -> io::Result<()> {
        self.files.write_config(address)?;
        let (program, config, pings) = (quoted(&binary()), quoted(&self.files.config()), self.files.pings());
        let pings = pings.display();
        writeln!(
            self.out,
            "
Open http://{address}/ in a browser, or try in another terminal:
  curl http://{address}/api/v1/preview
  curl http://{address}/api/v1/status
  curl -X POST http://{address}/api/v1/reset-id
  curl -X PUT -H 'Content-Type: application/json' -d '{{\"enabled\":false}}' http://{address}/api/v1/switch
  env -i {program} --config {config} preview
The last one also with status, check, reset-id, off or on in place of preview.
Every ping is kept in {pings}
Ctrl-C stops everything.
"
        )
    }

    fn ping(&mut self, body: &[u8], at: Duration) -> io::Result<()> {
        self.files.keep_ping(body)?;
        let ping = serde_json::from_slice(body).unwrap_or(Value::Null);
        let event = ping["event"].as_str().unwrap_or("no ping at all");
        let number = self.received.len() + 1;
        let seconds = at.saturating_sub(self.started).as_secs_f64();
        let equal = if self.files.ledger_holds(body) { "yes" } else { "no" };
        let body = String::from_utf8_lossy(body);
        writeln!(
            self.out,
            "\nping {number}: {event}, {seconds:.1} s after the start; equal to the ledger's bytes: {equal}\n  {body}"
        )?;
        if let Some(before) = self.received.last() {
            writeln!(self.out, "  changed since ping {}: {}", number - 1, changes(before, &ping))?;
        }
        writeln!(self.out)?;
        self.received.push(ping);
        self.last = at;
        Ok(())
    }

    /// Lets the simulated Pulse change, and looks whether a ping is overdue.
    fn tick(&mut self) -> io::Result<()> {
        self.pulse.drift(self.ticks);
        self.ticks += 1;
        let waited = SystemClock.now().mono.saturating_sub(self.last);
        if self.wanted.is_some() && waited > PATIENCE {
            return Err(io::Error::other(format!("no ping came for {} s", waited.as_secs())));
        }
        Ok(())
    }
}

/// The fields that differ between two pings, the event apart.
fn changes(before: &Value, now: &Value) -> String {
    let fields = now.as_object().into_iter().flatten().filter(|(name, _)| *name != "event");
    let changed = fields.filter(|(name, value)| before.get(name) != Some(value));
    let told: Vec<_> = changed.map(|(name, value)| format!("{name} {} -> {value}", before[name])).collect();
    if told.is_empty() { "nothing".to_owned() } else { told.join(", ") }
}

/// The path as a shell reads it back, whatever is in it.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = path.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c));
    if plain { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}
