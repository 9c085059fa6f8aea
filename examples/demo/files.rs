//! The demo's files: the sidecar's configuration, token and state, the collector's configuration and storage, and the
//! pings that passed.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use pulse_telemetry_testkit::pulse::TOKEN;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long after its start the sidecar sends the first ping. By default: two minutes.
pub(super) const STARTUP_DELAY: &str = "1s";
/// The time between two heartbeats. By default: a day.
pub(super) const INTERVAL: &str = "10s";

/// A temporary directory, and the addresses that its configuration names.
pub(super) struct Files {
    dir: TempDir,
    pub(super) pulse: String,
    pub(super) endpoint: String,
}

impl Files {
    pub(super) fn create(pulse: &str) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("pulse-telemetry-demo-").tempdir()?;
        let files = Self { dir, pulse: pulse.to_owned(), endpoint: String::new() };
        // For this user alone, or the sidecar warns of it.
        let mut token = File::options().write(true).create_new(true).mode(0o600).open(files.token())?;
        token.write_all(TOKEN.as_bytes())?;
        let collector = json!({
            "serve": {"listen": "127.0.0.1:0"},
            "admin": {"listen": "127.0.0.1:0"},
            "storage": {"url": format!("sqlite:{}", files.storage().display())},
            "limits": {"per_minute": 0},
        });
        fs::write(files.collector_config(), toml::to_string(&collector).map_err(io::Error::other)?)?;
        Ok(files)
    }

    /// Where the sidecar sends to, once it is known.
    pub(super) fn name_endpoint(&mut self, endpoint: &str) -> io::Result<()> {
        endpoint.clone_into(&mut self.endpoint);
        self.write_config("127.0.0.1:0")
    }

    pub(super) fn collector_config(&self) -> PathBuf {
        self.dir().join("collector.toml")
    }

    /// What the collector stores.
    pub(super) fn storage(&self) -> PathBuf {
        self.dir().join("pings.sqlite")
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn config(&self) -> PathBuf {
        self.dir().join("config.toml")
    }

    /// Every ping that arrived, one a line.
    pub(super) fn pings(&self) -> PathBuf {
        self.dir().join("pings.jsonl")
    }

    /// The sidecar is started with any free port. The commands, which read the same file, need the one that it got.
    pub(super) fn write_config(&self, listen: &str) -> io::Result<()> {
        let config = json!({
            "telemetry": {"endpoint": self.endpoint},
            "pulse": {"url": self.pulse, "token_file": self.token()},
            "schedule": {"startup_delay": STARTUP_DELAY, "interval": INTERVAL, "jitter": "0s"},
            "state": {"dir": self.state()},
            "serve": {"listen": listen},
        });
        fs::write(self.config(), toml::to_string(&config).map_err(io::Error::other)?)
    }

    pub(super) fn keep_ping(&self, body: &[u8]) -> io::Result<()> {
        let mut pings = File::options().create(true).append(true).open(self.pings())?;
        pings.write_all(&[body, b"\n"].concat())
    }

    /// Whether the sidecar's ledger has an attempt with exactly these bytes. It is written before the ping is sent.
    pub(super) fn ledger_holds(&self, body: &[u8]) -> bool {
        let ledger = fs::read_to_string(self.state().join("ledger.jsonl")).ok().unwrap_or_default();
        let entries = ledger.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut attempts = entries.filter(|entry| entry["kind"] == "attempted");
        attempts.any(|attempt| attempt["body"].as_str().map(str::as_bytes) == Some(body))
    }

    pub(super) fn remove(self) -> io::Result<()> {
        self.dir.close()
    }

    fn token(&self) -> PathBuf {
        self.dir().join("token")
    }

    fn state(&self) -> PathBuf {
        self.dir().join("state")
    }
}
