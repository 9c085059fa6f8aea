//! A reverse proxy before the local page, with the lines of `docs/INSTALL.md`.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::alone::program_or_skip;

/// The name that the document's lines give the page.
pub const PROXIED: &str = "telemetry.lan";

/// How often another port is tried, where somebody else was quicker to take it.
const TRIES: usize = 5;

/// A running proxy. It ends when it is dropped.
pub struct Proxy {
    child: Child,
    port: u16,
    _files: TempDir,
}

impl Proxy {
    /// nginx before that address, with the document's lines but for `left_out`; none where nginx is not here.
    pub fn nginx(test: &str, sidecar: SocketAddr, left_out: Option<&str>) -> Option<Self> {
        program_or_skip("nginx", &["-v"], test).then(|| {
            let documented = documented("nginx");
            Self::start(|port, files| {
                let server = replace(&documented, "listen 80;", &format!("listen 127.0.0.1:{port};"));
                let server = replace(&server, "127.0.0.1:7656", &sidecar.to_string());
                let server = left_out.map_or(server.clone(), |line| replace(&server, line, ""));
                let folder = files.path().display();
                let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
                    .concat();
                let config = format!(
                    "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n\
                     access_log off;\n{temporary}{server}}}\n"
                );
                let file = files.path().join("nginx.conf");
                std::fs::write(&file, config).unwrap();
                let mut command = Command::new("nginx");
                command.args(["-p", files.path().to_str().unwrap(), "-e", "stderr", "-c", file.to_str().unwrap()]);
                command
            })
        })
    }

    /// Caddy before that address, with the document's lines; none where Caddy is not here.
    pub fn caddy(test: &str, sidecar: SocketAddr) -> Option<Self> {
        program_or_skip("caddy", &["version"], test).then(|| {
            let documented = documented("caddy");
            Self::start(|port, files| {
                let site = replace(&documented, PROXIED, &format!("{PROXIED}:{port}"));
                let site = replace(&site, "127.0.0.1:7656", &sidecar.to_string());
                let file = files.path().join("Caddyfile");
                std::fs::write(&file, format!("{{\nadmin off\n}}\n{site}")).unwrap();
                let mut command = Command::new("caddy");
                command.args(["run", "--adapter", "caddyfile", "--config", file.to_str().unwrap()]);
                for name in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
                    command.env(name, files.path());
                }
                command
            })
        })
    }

    fn start(command: impl Fn(u16, &TempDir) -> Command) -> Self {
        for _ in 0..TRIES {
            let files = tempfile::tempdir().unwrap();
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let child = command(free, &files).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let mut proxy = Self { child: child.unwrap(), port: free, _files: files };
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

    /// Where a browser finds the page.
    pub fn url(&self) -> String {
        format!("http://{PROXIED}:{}/", self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // One that has ended is no longer there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of `docs/INSTALL.md` for that proxy.
fn documented(language: &str) -> String {
    let page = include_str!("../../../docs/INSTALL.md");
    let (_, rest) = page.split_once(&format!("```{language}\n")).expect("docs/INSTALL.md has lines for it");
    rest.split_once("```").unwrap().0.to_owned()
}

fn replace(text: &str, what: &str, with: &str) -> String {
    assert!(text.contains(what), "docs/INSTALL.md no longer says {what}");
    text.replace(what, with)
}
