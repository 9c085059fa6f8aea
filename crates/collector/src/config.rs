//! The configuration of `pulse-telemetry-collector`: the same layers, over other defaults.

pub mod admin;
mod database;
pub mod publish;
pub mod receipts;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use pulse_telemetry_http::host::{HostError, ZONE, unmapped};
use pulse_telemetry_http::tls::Authorities;
use pulse_telemetry_process::config::{
    Checker, ConfigError, Environment, Layers, Log, Problem, Program, SecretFile, Setting, TokenFile, authorities,
    credentials_directory, exposed, parse_duration, tcp_address,
};
use secrecy::SecretString;
use serde::Deserialize;

use self::admin::AdminConfig;
use self::database::Database;
use self::publish::PublishConfig;
use self::receipts::ReceiptsConfig;

/// The defaults: the text of `config/collector.toml`.
pub const DEFAULTS: &str = include_str!("../../../config/collector.toml");

/// The configuration file that is read, where it exists, when none is named.
pub const DEFAULT_FILE: &str = "/etc/pulse-telemetry-collector/config.toml";

/// The least that `limits.storage_bytes` may be. A thousand rows are half of it.
const STORAGE_MIN: u64 = 1 << 20;

const COLLECTOR: Program = Program {
    defaults: DEFAULTS,
    default_file: DEFAULT_FILE,
    prefix: "PULSE_TELEMETRY_COLLECTOR_",
    short_names: &[],
    others: &[],
    consent: "the collector has no such switch; it takes pings while it runs, and PULSE_TELEMETRY=false is for the \
              sidecar",
};

/// The whole configuration, checked. A part is handed its own section only.
#[derive(Clone, Debug)]
pub struct CollectorConfig {
    /// Where it listens, and whose word it takes for where a ping comes from.
    pub serve: CollectorServe,
    /// Where metrics and readiness are told, and whom.
    pub admin: AdminConfig,
    /// Whether numbers are published, and when.
    pub publish: PublishConfig,
    /// The key that signs receipts.
    pub receipts: ReceiptsConfig,
    /// Where pings are kept.
    pub storage: Storage,
    /// What is taken in how much time.
    pub limits: IngestLimits,
    /// What is logged, and how.
    pub log: Log,
    origins: Vec<Setting>,
    warnings: Vec<Problem>,
    credentials: Option<PathBuf>,
}

/// Where it listens, and whose word it takes for where a ping comes from.
#[derive(Clone, Debug)]
pub struct CollectorServe {
    /// The address that is bound; port 0 takes any free port.
    pub listen: SocketAddr,
    /// The certificate chain and its key, both PEM. `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// The proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How many connections are open at a time: 16 to 65536.
    pub connections: usize,
}

/// The files of a certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, the server's own first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Where pings are kept.
#[derive(Clone, Debug)]
pub enum Storage {
    /// One file, for one collector.
    Sqlite(PathBuf),
    /// A database, for any number of collectors.
    Postgres(Box<Postgres>),
}

/// How PostgreSQL is reached.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// What the URL says. Its `Debug` does not show the password.
    pub connect: tokio_postgres::Config,
    /// The file of the password, where the URL has none.
    pub password_file: Option<TokenFile>,
    /// A further certificate authority that is trusted, PEM.
    pub ca_file: Option<PathBuf>,
    /// The certificate authorities that the environment names.
    pub authorities: Authorities,
}

impl Postgres {
    /// Reads the password's file.
    ///
    /// # Errors
    /// It cannot be read, or does not hold one line of text.
    pub fn read_password(&self) -> Result<Option<SecretString>, ConfigError> {
        Ok(self.password_file.as_ref().map(TokenFile::read_password).transpose()?)
    }
}

/// What is taken in how much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngestLimits {
    /// How many pings one network may send in a minute; 0 for any number.
    pub per_minute: u32,
    /// How many new install IDs one network may bring in a UTC day; 0 for any number.
    pub new_ids: u32,
    /// How many bytes of the disk the pings may take; 0 for any number.
    pub storage_bytes: u64,
    /// How many pings may wait to be stored: 1 to 65536.
    pub queue: usize,
    /// How long a ping may wait for that: 1 to 9 seconds.
    pub commit_timeout: Duration,
}

impl CollectorConfig {
    /// Reads and checks the configuration: `file` (without one, [`DEFAULT_FILE`] where that exists), then `env`.
    ///
    /// # Errors
    /// Everything that is wrong, as far as it can be told at once: each with its key, its origin and what is accepted.
    pub fn load(file: Option<&Path>, env: &Environment) -> Result<Self, ConfigError> {
        let layers = Layers::stack(&COLLECTOR, file, env)?;
        let sections: CollectorSections = layers.extract()?;
        let mut check = Checker::new(&layers);
        let config = sections.check(&mut check, env);
        check.finish(config)
    }

    /// Every key with the value in force and where it comes from, for `check` to show. A password is not among them.
    #[must_use]
    pub fn origins(&self) -> &[Setting] {
        &self.origins
    }

    /// What was passed over and may have been meant for this program, for `check` and the log to tell.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// A sentence for each file of a secret that everybody on this machine can read or change.
    #[must_use]
    pub fn exposed_secrets(&self) -> Vec<String> {
        let key =
            self.serve.tls.as_ref().map(|files| SecretFile { key: "serve.tls_key", origin: None, path: &files.key });
        let password = match &self.storage {
            Storage::Postgres(postgres) => postgres.password_file.as_ref().map(SecretFile::from),
            Storage::Sqlite(_) => None,
        };
        let others = [&self.admin.token_file, &self.receipts.key_file];
        let others = others.into_iter().flatten().map(SecretFile::from);
        exposed(key.into_iter().chain(password).chain(others), self.credentials.as_deref())
    }
}

/// All sections as they are written, of the right types and not yet checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CollectorSections {
    serve: WrittenServe,
    admin: admin::RawAdmin,
    publish: publish::RawPublish,
    receipts: receipts::RawReceipts,
    storage: WrittenStorage,
    limits: WrittenLimits,
    log: pulse_telemetry_process::config::RawLog,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenServe {
    listen: String,
    tls_cert: String,
    tls_key: String,
    trusted_proxies: Vec<String>,
    connections: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStorage {
    url: String,
    password_file: String,
    ca_file: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLimits {
    per_minute: u64,
    new_ids: u64,
    storage_bytes: u64,
    queue: u64,
    commit_timeout: String,
}

impl CollectorSections {
    fn check(self, check: &mut Checker<'_>, env: &Environment) -> Option<CollectorConfig> {
        // Each section is checked before the first `?`, so that one error does not hide another.
        let serve = self.serve.check(check);
        let admin = self.admin.check(check);
        let publish = self.publish.check(check);
        let receipts = self.receipts.check(check);
        let storage = self.storage.check(check, env);
        let limits = self.limits.check(check);
        let log = self.log.check(check);
        Some(CollectorConfig {
            serve: serve?,
            admin: admin?,
            publish: publish?,
            receipts: receipts?,
            storage: storage?,
            limits: limits?,
            log: log?,
            origins: check.settings(),
            warnings: check.warnings(),
            credentials: credentials_directory(env),
        })
    }
}

impl WrittenServe {
    fn check(self, check: &mut Checker<'_>) -> Option<CollectorServe> {
        let listen = tcp_address(&self.listen).map_err(|why| match why {
            HostError::Zone => ZONE,
            HostError::Malformed => "must be an address with a port, such as 0.0.0.0:7657, or localhost:PORT",
        });
        let listen = check.accept("serve.listen", &self.listen, listen);
        let cert = absolute_path(check, "serve.tls_cert", &self.tls_cert);
        let key = absolute_path(check, "serve.tls_key", &self.tls_key);
        let proxies: Vec<_> = self.trusted_proxies.iter().map(|written| network(check, written)).collect();
        let connections = whole(check, "serve.connections", self.connections, 16, 65_536);
        let tls = match (cert?, key?) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (cert, _) => {
                let missing = if cert.is_some() { "serve.tls_key" } else { "serve.tls_cert" };
                check.add(Problem::new(missing, "is not set, and the other of the two is: TLS needs both"));
                return None;
            }
        };
        let trusted_proxies = proxies.into_iter().collect::<Option<_>>()?;
        Some(CollectorServe { listen: listen?, tls, trusted_proxies, connections: usize::try_from(connections?).ok()? })
    }
}

impl WrittenStorage {
    fn check(self, check: &mut Checker<'_>, env: &Environment) -> Option<Storage> {
        let password_file = TokenFile::check_optional(check, "storage.password_file", &self.password_file);
        let ca_file = absolute_path(check, "storage.ca_file", &self.ca_file);
        // The URL may hold a password, so it is shown neither in an error nor in the list of settings.
        let origin = check.origin("storage.url");
        match database::read(&self.url) {
            Ok(Database::Sqlite(path)) => Some(Storage::Sqlite(path)),
            Ok(Database::Postgres(connect, shown)) => {
                check.decide("storage.url", format!("{shown:?}"), origin);
                Some(Storage::Postgres(Box::new(Postgres {
                    connect: *connect,
                    password_file: password_file?,
                    ca_file: ca_file?,
                    authorities: authorities(env),
                })))
            }
            Err(why) => {
                let accepted = format!("{why} (what is written there is not shown, in case it holds a password)");
                check.add(Problem::new("storage.url", accepted).with_origin(origin));
                None
            }
        }
    }
}

impl WrittenLimits {
    fn check(self, check: &mut Checker<'_>) -> Option<IngestLimits> {
        let per_minute = whole(check, "limits.per_minute", self.per_minute, 0, 1_000_000);
        let new_ids = whole(check, "limits.new_ids", self.new_ids, 0, 1_000_000);
        let bytes = match self.storage_bytes {
            0 => Ok(0),
            bytes if bytes >= STORAGE_MIN => Ok(bytes),
            _ => Err(format!("must be 0, for any number, or at least {STORAGE_MIN}")),
        };
        let storage_bytes = check.accept("limits.storage_bytes", &self.storage_bytes.to_string(), bytes);
        let queue = whole(check, "limits.queue", self.queue, 1, 65_536);
        let timeout = parse_duration(&self.commit_timeout).and_then(|timeout| match timeout {
            timeout if timeout < Duration::from_secs(1) => Err("must be at least 1s"),
            timeout if timeout > Duration::from_secs(9) => Err("must be at most 9s, for senders wait 10s"),
            timeout => Ok(timeout),
        });
        let commit_timeout = check.accept("limits.commit_timeout", &self.commit_timeout, timeout);
        Some(IngestLimits {
            per_minute: u32::try_from(per_minute?).ok()?,
            new_ids: u32::try_from(new_ids?).ok()?,
            storage_bytes: storage_bytes?,
            queue: usize::try_from(queue?).ok()?,
            commit_timeout: commit_timeout?,
        })
    }
}

fn whole(check: &mut Checker<'_>, key: &str, written: u64, least: u64, most: u64) -> Option<u64> {
    let within = (least..=most).contains(&written);
    let number = if within { Ok(written) } else { Err(format!("must be from {least} to {most}")) };
    check.accept(key, &written.to_string(), number)
}

/// The path, where one is set. The outer `None` stands for a refused path.
fn absolute_path(check: &mut Checker<'_>, key: &str, written: &str) -> Option<Option<PathBuf>> {
    if written.is_empty() {
        return Some(None);
    }
    let path = PathBuf::from(written);
    let path = if path.is_absolute() { Ok(path) } else { Err("must be an absolute path") };
    check.accept(key, written, path).map(Some)
}

fn network(check: &mut Checker<'_>, written: &str) -> Option<IpNet> {
    let address = || written.parse::<IpAddr>().map(IpNet::from).ok();
    let network = written.parse().ok().or_else(address);
    let network = network.map(unmapped);
    check.accept("serve.trusted_proxies", written, network.ok_or("must be addresses or networks, such as 10.0.0.0/8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_is_written_as_an_ipv4_mapped_network_is_that_ipv4_network() {
        let of = |text: &str| unmapped(text.parse().unwrap()).to_string();
        assert_eq!(of("::ffff:10.0.0.0/104"), "10.0.0.0/8");
        assert_eq!(of("::ffff:10.0.0.5/128"), "10.0.0.5/32");
        assert_eq!(of("fd00::/8"), "fd00::/8");
        assert_eq!(of("10.0.0.0/8"), "10.0.0.0/8");
    }
}
