//! `storage.url`: read as it is written, or refused in words that show nothing of it, for it may hold a password.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use pulse_telemetry_http::host::{self, HostError, ZONE, is_loopback};
use tokio_postgres::config::{Host, SslMode};

/// Where pings are kept, as the URL says it.
pub(super) enum Database {
    /// One file.
    Sqlite(PathBuf),
    /// PostgreSQL, and the URL without login and parameters, to be shown.
    Postgres(Box<tokio_postgres::Config>, String),
}

/// How to write what a URL cannot hold as it is.
const ENCODE: &str = "in a user name or password write %40 for @, %3A for :, %2F for /, %3F for ?, %23 for # and %25 \
    for %, or put the password into storage.password_file";

const BAD_HOST: &str = "has a bad host: it must be a name, an address ([…] around one of IPv6), or the path of a \
    socket's directory with %2F for each slash";

/// Reads `storage.url`.
///
/// # Errors
/// What is wrong, in words that repeat no part of it but the names of parameters.
pub(super) fn read(url: &str) -> Result<Database, String> {
    if url.contains(|c: char| c.is_control()) || url.trim() != url {
        return Err(
            "has a blank or a control character at its beginning or end, or a control character in it".to_owned()
        );
    }
    let (scheme, rest) = url.split_once(':').unwrap_or_default();
    match scheme.to_ascii_lowercase().as_str() {
        "sqlite" => sqlite(rest).map(Database::Sqlite).map_err(str::to_owned),
        "postgres" | "postgresql" => postgres(rest.strip_prefix("//").ok_or("must have two slashes after postgres:")?),
        _ => Err("must be sqlite:/absolute/path or postgres://user@host/database".to_owned()),
    }
}

/// The file of `sqlite:/path` or `sqlite:///path`. The path stands as it is, without percent-encoding.
fn sqlite(rest: &str) -> Result<PathBuf, &'static str> {
    let path = match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err("must not name a host: write sqlite:/absolute/path"),
        None => rest,
    };
    if path.contains('?') {
        return Err("must not have parameters (?…) after sqlite:");
    }
    if path.contains('#') {
        return Err("must not have a fragment (#…) after sqlite:");
    }
    if !path.starts_with('/') {
        return Err("must have an absolute path after sqlite:");
    }
    if path.ends_with('/') {
        return Err("must name a file after sqlite:, not a directory");
    }
    Ok(PathBuf::from(path))
}

/// The parts of a URL of PostgreSQL, each as it is written.
struct UrlParts<'a> {
    login: Option<&'a str>,
    hosts: &'a str,
    database: &'a str,
    parameters: Vec<(String, &'a str)>,
}

fn postgres(rest: &str) -> Result<Database, String> {
    let parts = UrlParts::of(rest)?;
    let mut connect = parts.settings()?;
    if let Some(login) = parts.login {
        let (user, password) = login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
        connect.user(decode(user).filter(|user| !user.is_empty()).ok_or("must name a user before the @")?);
        if let Some(password) = password {
            connect.password(decode(password).ok_or("has a password that is not UTF-8")?);
        }
    }
    parts.add_hosts(&mut connect)?;
    if !parts.database.is_empty() {
        let name = decode(parts.database).filter(|_| !parts.database.contains('/'));
        connect.dbname(name.ok_or("has a bad path: it must be the name of one database (%2F for a slash in it)")?);
    }
    secure(&mut connect, parts.ssl_mode()?)?;
    let shown = shown(&connect);
    Ok(Database::Postgres(Box::new(connect), shown))
}

impl<'a> UrlParts<'a> {
    /// Takes the URL apart where it can be read in one way only.
    fn of(rest: &'a str) -> Result<Self, String> {
        if rest.contains('#') {
            return Err(format!("holds a #, with which a fragment begins: {ENCODE}"));
        }
        if !is_encoded_well(rest) {
            return Err(format!("holds a % that begins no %XX: {ENCODE}"));
        }
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (Some(login), rest),
            None => (None, rest),
        };
        // What other programs take for the end of the login stands in it: nobody can tell where it ends.
        if login.is_some_and(|login| login.contains(['@', '/', '?', '[', ']']) || login.matches(':').count() > 1) {
            return Err(format!("has a login that can be read in more than one way: {ENCODE}"));
        }
        if rest.contains(char::is_whitespace) || login.is_some_and(|login| login.contains(char::is_whitespace)) {
            return Err("holds a blank: leave it out, or write %20 where it is meant".to_owned());
        }
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, database) = before.split_once('/').unwrap_or((before, ""));
        Ok(Self { login, hosts, database, parameters: parameters(query)? })
    }

    /// Whether a parameter's name can be told: a word as programs use it, no part of a password that an & cut in two.
    fn may_be_told(&self, name: &str) -> bool {
        let is_a_word = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        KNOWN.contains(&name) || (is_a_word && self.get("password").is_none())
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// The parameters that the driver knows and that are nothing that is looked at here.
    fn settings(&self) -> Result<tokio_postgres::Config, String> {
        let twice = [
            ("user", self.login.is_some()),
            ("password", self.login.is_some_and(|login| login.contains(':'))),
            ("host", !self.hosts.is_empty()),
            ("port", !self.hosts.is_empty()),
            ("dbname", !self.database.is_empty()),
        ];
        if let Some((name, _)) = twice.iter().find(|(name, is_written)| *is_written && self.get(name).is_some()) {
            return Err(format!("says what the parameter {name} says before the ? already: leave one of both out"));
        }
        let mut all = String::new();
        for (name, value) in self.parameters.iter().filter(|(name, _)| !["sslmode", "host"].contains(&name.as_str())) {
            let refused = |why: &str| Err(format!("has a parameter {name} {why}"));
            if !self.may_be_told(name) {
                return Err(format!("has a parameter that is not supported; {ENCODE} (%26 for &)"));
            }
            match name.as_str() {
                "sslrootcert" => {
                    return refused("that belongs into storage.ca_file; the system's authorities are trusted anyway");
                }
                "sslcert" | "sslkey" | "sslpassword" => {
                    return refused("that is not supported: the login is a password");
                }
                "user" | "password" if value.contains('=') => {
                    return Err(format!("has a login that can be read in more than one way: {ENCODE} (%3D for =)"));
                }
                _ => {}
            }
            let one: Result<tokio_postgres::Config, _> = format!("postgres:///?{name}={value}").parse();
            match one {
                Ok(_) => all += &format!("&{name}={value}"),
                Err(_) if KNOWN.contains(&name.as_str()) => return refused(bad_value(name)),
                Err(_) => return refused("that is not supported: leave it out"),
            }
        }
        format!("postgres:///?{}", all.trim_start_matches('&')).parse().map_err(|_| "has bad parameters".to_owned())
    }

    fn add_hosts(&self, connect: &mut tokio_postgres::Config) -> Result<(), String> {
        let written = self.get("host").unwrap_or(self.hosts);
        if written.is_empty() {
            if connect.get_hostaddrs().is_empty() {
                return Err(
                    "names no host: write one after the two slashes, or the directory of the server's socket as \
                            ?host=/run/postgresql"
                        .to_owned(),
                );
            }
            return Ok(());
        }
        for one in written.split(',') {
            let has_port = self.get("host").is_none();
            let (host, port) = if has_port { split_port(one)? } else { (one, None) };
            let host = decode(host).ok_or("has a bad host")?;
            if host.starts_with('/') {
                connect.host_path(host);
            } else {
                let known = if has_port { host::Host::parse(&host) } else { host::Host::parse_bare(&host) };
                known.map_err(|why| match why {
                    HostError::Zone => ZONE,
                    HostError::Malformed => BAD_HOST,
                })?;
                connect.host(host.trim_start_matches('[').trim_end_matches(']'));
            }
            if has_port {
                connect.port(port.unwrap_or(5432));
            }
        }
        let (hosts, ports) = (connect.get_hosts().len(), connect.get_ports().len());
        if ports > 1 && ports != hosts {
            return Err("has a parameter port with another number of ports than there are hosts".to_owned());
        }
        let addresses = connect.get_hostaddrs().len();
        if addresses > 0 && addresses != hosts {
            return Err("has a parameter hostaddr with another number of addresses than there are hosts".to_owned());
        }
        Ok(())
    }

    /// Whether TLS is asked for, forbidden, or neither.
    fn ssl_mode(&self) -> Result<Option<SslMode>, String> {
        match self.get("sslmode") {
            None | Some("allow" | "prefer") => Ok(None),
            Some("disable") => Ok(Some(SslMode::Disable)),
            // A certificate is always checked, its name included.
            Some("require" | "verify-ca" | "verify-full") => Ok(Some(SslMode::Require)),
            Some(_) => {
                Err("has a parameter sslmode that must be disable, allow, prefer, require, verify-ca or verify-full; \
                            a certificate is always checked"
                    .to_owned())
            }
        }
    }
}

/// The parameters that the driver knows.
const KNOWN: [&str; 17] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslnegotiation",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];

fn bad_value(name: &str) -> &'static str {
    match name {
        "target_session_attrs" => {
            "that must be any, read-write or read-only: read-write finds the server that takes pings"
        }
        "port" => "that must be a number from 1 to 65535, or one for each host",
        "hostaddr" => "that must be an address, or one for each host",
        "channel_binding" => "that must be disable, prefer or require",
        "sslnegotiation" => "that must be postgres or direct",
        "load_balance_hosts" => "that must be disable or random",
        _ => "with a value that cannot be read",
    }
}

fn parameters(query: &str) -> Result<Vec<(String, &str)>, String> {
    let mut names = BTreeSet::new();
    let mut parameters = Vec::new();
    for piece in query.split('&').filter(|piece| !piece.is_empty()) {
        let (name, value) = piece.split_once('=').ok_or("has a parameter without a value (%26 is an & within one)")?;
        let name = decode(name).ok_or("has a parameter whose name is not UTF-8")?;
        if !names.insert(name.clone()) {
            return Err("has a parameter twice: leave one of both out".to_owned());
        }
        parameters.push((name, value));
    }
    Ok(parameters)
}

/// The host and the port, which may be absent.
fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let end = text.find(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = text[end..].find(':') else { return Ok((text, None)) };
    let (host, port) = (&text[..end + colon], &text[end + colon + 1..]);
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_number.then(|| port.parse().ok()).flatten().filter(|port| *port != 0);
    let number = number.ok_or("has a bad port: it must be a number from 1 to 65535")?;
    Ok((host, Some(number)))
}

/// Whether each % begins the two digits of a byte, which is not zero.
fn is_encoded_well(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit) && digits != b"00")
    })
}

/// The text with each %XX as its byte; none where it is not UTF-8 then.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut pieces = text.split('%');
    bytes.extend(pieces.next()?.bytes());
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(rest.bytes());
    }
    String::from_utf8(bytes).ok()
}

/// On this machine TLS is used where it is asked for, elsewhere where it is not forbidden. It is always checked.
fn secure(connect: &mut tokio_postgres::Config, asked: Option<SslMode>) -> Result<(), &'static str> {
    let hosts = connect.get_hosts();
    let is_a_socket = |host: &Host| matches!(host, Host::Unix(_));
    // PostgreSQL has no TLS there.
    let is_socket = !hosts.is_empty() && hosts.iter().all(is_a_socket);
    let is_here = hosts.iter().all(|host| match host {
        Host::Tcp(name) => is_loopback(name),
        Host::Unix(_) => true,
    });
    let is_here = is_here && connect.get_hostaddrs().iter().all(IpAddr::is_loopback);
    let mode = match asked {
        _ if is_socket => SslMode::Disable,
        Some(mode) => mode,
        None if is_here => SslMode::Disable,
        None => SslMode::Require,
    };
    if mode == SslMode::Require && connect.get_hosts().is_empty() {
        return Err("has the parameter hostaddr and no host, whose name the certificate must have: add it");
    }
    connect.ssl_mode(mode);
    Ok(())
}

/// The URL without login and parameters.
fn shown(connect: &tokio_postgres::Config) -> String {
    let hosts = connect.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) if name.contains(':') => format!("[{name}]"),
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let mut hosts: Vec<String> = hosts.collect();
    if hosts.is_empty() {
        hosts = connect.get_hostaddrs().iter().map(ToString::to_string).collect();
    }
    format!("postgres://{}/{}", hosts.join(","), connect.get_dbname().unwrap_or_default())
}
