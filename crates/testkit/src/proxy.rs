//! A reverse proxy before the local page, with the lines of `docs/PROXY.md`.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::alone::program_or_skip;
use super::endpoint::Issued;

/// The names that the document's lines give the page, and Pulse.
pub const OWN_NAME: &str = "telemetry.lan";
pub const PULSES_NAME: &str = "pulse.lan";

/// How often another port is tried, where somebody else was quicker to take it.
const TRIES: usize = 5;

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Nginx,
    Caddy,
}

/// What a proxy stands before, and how.
#[derive(Clone, Copy)]
pub struct Before<'a> {
    pub sidecar: SocketAddr,
    /// Where Pulse's own name is proxied; else the page has a name of its own.
    pub pulse: Option<SocketAddr>,
    /// Without it over plain http.
    pub tls: Option<&'a Issued>,
    /// Lines of the document, and what stands in their place.
    pub changed: &'a [(&'a str, &'a str)],
}

impl Before<'_> {
    /// The name that a browser asks for.
    fn name(&self) -> &'static str {
        if self.pulse.is_some() { PULSES_NAME } else { OWN_NAME }
    }

    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The document's lines for the program, with these addresses and files in place of its own.
    fn lines(&self, program: Program, files: &Path) -> String {
        let language = if program == Program::Nginx { "nginx" } else { "caddy" };
        let mut lines = documented(language, usize::from(self.pulse.is_some()));
        for (line, by) in self.changed {
            lines = replace(&lines, line, by);
        }
        lines = replace(&lines, "127.0.0.1:7656", &self.sidecar.to_string());
        if let Some(pulse) = self.pulse {
            lines = replace(&lines, "127.0.0.1:7655", &pulse.to_string());
        }
        let Some(tls) = self.tls else {
            let is_tls = |line: &&str| ["ssl_", "tls "].iter().any(|word| line.trim_start().starts_with(word));
            return lines.lines().filter(|line| !is_tls(line)).map(|line| line.to_owned() + "\n").collect();
        };
        let (cert, key) = (files.join("lan.pem"), files.join("lan.key"));
        std::fs::write(&cert, &tls.cert_pem).unwrap();
        std::fs::write(&key, &tls.key_pem).unwrap();
        lines = replace(&lines, "/etc/ssl/lan.pem", cert.to_str().unwrap());
        replace(&lines, "/etc/ssl/lan.key", key.to_str().unwrap())
    }
}

/// A running proxy. It ends when it is dropped.
pub struct Proxy {
    child: Child,
    url: String,
    _files: TempDir,
}

impl Proxy {
    /// The proxy with the document's lines; none where the program is not here.
    pub fn start_or_skip(test: &str, program: Program, before: &Before<'_>) -> Option<Self> {
        match program {
            Program::Nginx => {
                program_or_skip("nginx", &["-v"], test).then(|| Self::start(before, |port, at| nginx(before, port, at)))
            }
            Program::Caddy => program_or_skip("caddy", &["version"], test)
                .then(|| Self::start(before, |port, at| caddy(before, port, at))),
        }
    }

    fn start(before: &Before<'_>, command: impl Fn(u16, &Path) -> Command) -> Self {
        for _ in 0..TRIES {
            let files = tempfile::tempdir().unwrap();
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut command = command(free, files.path());
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let url = format!("{}://{}:{free}/", before.scheme(), before.name());
            let mut proxy = Self { child, url, _files: files };
            // It either listens or ends.
            while proxy.child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", free)).is_ok() {
                    return proxy;
                }
                std::thread::yield_now();
            }
        }
        panic!("the proxy does not start");
    }

    /// Where a browser finds what is at the root of its name.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // One that has ended is no longer there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nginx(before: &Before<'_>, port: u16, files: &Path) -> Command {
    let tls = if before.tls.is_some() { " ssl" } else { "" };
    let server =
        replace(&before.lines(Program::Nginx, files), "listen 443 ssl;", &format!("listen 127.0.0.1:{port}{tls};"));
    let folder = files.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
        .concat();
    let config = format!(
        "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log \
         off;\n{temporary}{server}}}\n"
    );
    let file = files.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("nginx");
    command.args(["-p", files.to_str().unwrap(), "-e", "stderr", "-c", file.to_str().unwrap()]);
    command
}

fn caddy(before: &Before<'_>, port: u16, files: &Path) -> Command {
    let name = before.name();
    let site = before.lines(Program::Caddy, files);
    let site = replace(&site, &format!("{name} {{"), &format!("{}://{name}:{port} {{", before.scheme()));
    let file = files.join("Caddyfile");
    let options = "admin off\nauto_https disable_redirects\ndefault_bind 127.0.0.1";
    std::fs::write(&file, format!("{{\n{options}\n}}\n{site}")).unwrap();
    let mut command = Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config", file.to_str().unwrap()]);
    for name in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
        command.env(name, files);
    }
    command
}

/// One of the document's blocks of that language.
fn documented(language: &str, at: usize) -> String {
    let page = include_str!("../../../docs/PROXY.md");
    let block = page.split(&format!("```{language}\n")).nth(at + 1).expect("docs/PROXY.md has lines for it");
    block.split_once("```").unwrap().0.to_owned()
}

fn replace(text: &str, what: &str, with: &str) -> String {
    assert!(text.contains(what), "docs/PROXY.md no longer says {what}");
    text.replace(what, with)
}
