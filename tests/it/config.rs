//! The configuration: which layer wins, and what is said of a wrong one.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod durations;
mod errors;
mod layers;
mod secrets;
mod sections;
mod variables;

use std::fs;
use std::path::PathBuf;

use pulse_telemetry::config::{Config, Tokens};
use pulse_telemetry_collector::config as collector;
use pulse_telemetry_process::config::{ConfigError, Environment};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;

/// What must never be seen again once it went in.
const SECRET: &str = "s3cret0123456789abcdef";

/// A configuration file and an environment.
struct Setup {
    directory: TempDir,
    variables: Vec<(String, String)>,
}

impl Setup {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), variables: Vec::new() }.file("")
    }

    fn file(self, text: &str) -> Self {
        fs::write(self.path(), text).unwrap();
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("config.toml")
    }

    /// Puts a file beside the configuration and returns its path.
    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(Some(&self.path()), &Environment::new(self.variables.clone()), true)
    }

    fn config(&self) -> Config {
        self.load().unwrap()
    }

    /// The error's text, with `FILE` for the path of the configuration file.
    fn error(&self) -> String {
        let error = self.load().unwrap_err();
        error.to_string().replace(self.path().to_str().unwrap(), "FILE")
    }
}

fn with_file(text: &str) -> Setup {
    Setup::new().file(text)
}

fn with_variable(name: &str, value: &str) -> Setup {
    Setup::new().variable(name, value)
}

fn origin(config: &Config, key: &str) -> (String, String) {
    let setting = config.origins().iter().find(|setting| setting.key == key).unwrap();
    (setting.value.clone(), setting.origin.clone())
}

fn one_token(config: &Config) -> String {
    match config.pulse.read_tokens().unwrap() {
        Tokens::One(token) => token.expose_secret().to_owned(),
        other => panic!("one token, not {other:?}"),
    }
}

fn collector(variables: &[(&str, &str)]) -> Result<collector::CollectorConfig, ConfigError> {
    let setup = Setup::new();
    let name = |key: &str| format!("PULSE_TELEMETRY_COLLECTOR_{}", key.replace('.', "__").to_uppercase());
    let env = variables.iter().map(|(key, value)| (name(key), (*value).to_owned()));
    collector::CollectorConfig::load(Some(&setup.path()), &Environment::new(env))
}

fn variable_name(key: &str) -> String {
    format!("PULSE_TELEMETRY_{}", key.replace('.', "__").to_uppercase())
}
