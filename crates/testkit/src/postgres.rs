//! A PostgreSQL of a test's own: made and started as a user that is not root, on a Unix socket, and gone at the end.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

use super::endpoint::{CertificateAuthority, Issued};
use super::sidecar::comes_true;

/// How long it may take to start. After a kill it recovers first.
const START: Duration = Duration::from_secs(60);

/// Debian's pooler, and the port that names its socket.
const POOLER: &str = "/usr/sbin/pgbouncer";
const POOLER_PORT: u16 = 6432;

/// The port that names the socket of a server that listens nowhere else.
const PORT: u16 = 5432;

/// The user `nobody`: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65_534;

/// Makes a directory that of the user as whom PostgreSQL runs.
pub fn give_to_postgres(dir: &Path) {
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// A running cluster; stopped and removed when dropped.
pub struct Cluster {
    dir: TempDir,
    programs: PathBuf,
    server: Option<Child>,
    settings: Vec<String>,
    port: u16,
    way: Way,
}

/// How a collector reaches it.
enum Way {
    /// By its socket.
    Socket,
    /// Over TLS at that port; the certificate's authority.
    Tls(u16, String),
    /// By the socket of a pooler in transaction mode.
    Pooler(Option<Child>),
}

impl Cluster {
    /// One, where PostgreSQL is installed. With `CI=true` it has to be.
    #[expect(clippy::disallowed_methods, reason = "CI says that nothing may be missing")]
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "PostgreSQL is not installed");
            let _ = writeln!(std::io::stderr(), "PostgreSQL is not here: on SQLite alone");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        give_to_postgres(dir.path());
        let mut cluster = Self { dir, programs, server: None, settings: Vec::new(), port: PORT, way: Way::Socket };
        let output = cluster
            .command("initdb")
            .args(["--username=pulse", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"])
            .arg(cluster.data())
            .output()
            .unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        cluster.restart();
        Some(cluster)
    }

    /// One that is reached over TLS, with a certificate that an authority of its own issued.
    pub fn start_with_tls() -> Option<Self> {
        let mut cluster = Self::start()?;
        let authority = CertificateAuthority::new();
        let port = cluster.listen_with_tls(&authority.issue_for_loopback());
        cluster.way = Way::Tls(port, authority.ca_pem());
        Some(cluster)
    }

    /// One that is reached through a pooler which shares one connection of it for all of a database, transaction by
    /// transaction. With `CI=true` there has to be a pooler.
    #[expect(clippy::disallowed_methods, reason = "CI says that nothing may be missing")]
    pub fn start_with_pooler() -> Option<Self> {
        if !Path::new(POOLER).exists() {
            assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "pgbouncer is not installed");
            let _ = writeln!(std::io::stderr(), "pgbouncer is not here: without a pooler");
            return None;
        }
        let mut cluster = Self::start()?;
        let dir = cluster.dir.path().display().to_string();
        let settings = format!(
            "[databases]\n* = host={dir}\n[pgbouncer]\npool_mode = transaction\ndefault_pool_size = 1\n\
             listen_port = {POOLER_PORT}\nunix_socket_dir = {dir}\nauth_type = trust\nauth_file = {dir}/users\n"
        );
        std::fs::write(cluster.dir.path().join("pooler.ini"), settings).unwrap();
        std::fs::write(cluster.dir.path().join("users"), "\"pulse\" \"\"\n").unwrap();
        cluster.restart_pooler();
        Some(cluster)
    }

    /// Starts the pooler, again where it runs already.
    pub fn restart_pooler(&mut self) {
        self.stop_pooler();
        let mut pooler =
            self.command(POOLER).arg("pooler.ini").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = lines_of(pooler.stderr.take().unwrap());
        let said = std::iter::from_fn(|| log.recv_timeout(START).ok()).find(|line| line.contains("process up"));
        assert!(said.is_some(), "pgbouncer did not start");
        self.way = Way::Pooler(Some(pooler));
    }

    fn stop_pooler(&mut self) {
        if let Way::Pooler(pooler) = &mut self.way
            && let Some(mut pooler) = pooler.take()
        {
            let _ = pooler.kill();
            let _ = pooler.wait();
        }
    }

    /// The authority of its certificate, where it is reached over TLS.
    pub fn authority(&self) -> Option<&str> {
        if let Way::Tls(_, authority) = &self.way { Some(authority) } else { None }
    }

    pub fn name(&self) -> &'static str {
        match self.way {
            Way::Socket => "PostgreSQL",
            Way::Tls(..) => "PostgreSQL over TLS",
            Way::Pooler(_) => "PostgreSQL behind a pooler",
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A program of PostgreSQL's, as a user that is not root.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.env_clear().env("LC_ALL", "C").current_dir(self.dir.path());
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Starts the server, and waits until it takes connections. After a kill its sessions may live for a moment longer,
    /// and it does not start beside them.
    pub fn restart(&mut self) {
        let has_started = || match self.start_once() {
            Ok(()) => true,
            Err(log) => {
                assert!(log.contains("is still in use"), "PostgreSQL did not start:\n{log}");
                false
            }
        };
        assert!(comes_true(has_started), "the sessions of a killed PostgreSQL do not end");
    }

    /// Starts the server. The error is what it says when it does not take connections.
    fn start_once(&mut self) -> Result<(), String> {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.dir.path()).args([
            "-c",
            "listen_addresses=",
            "-c",
            "max_prepared_transactions=4",
        ]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        // A group of its own, so that a signal for it is for nobody else.
        let mut server = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = lines_of(server.stderr.take().unwrap());
        let mut log = String::new();
        while let Ok(line) = lines.recv_timeout(START) {
            if line.contains("ready to accept connections") {
                self.server = Some(server);
                return Ok(());
            }
            log += &(line + "\n");
        }
        let _ = server.kill();
        server.wait().unwrap();
        Err(log)
    }

    /// The URL of a database, which is made.
    pub fn database(&self, name: &str) -> String {
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(name)
    }

    /// The URL of a database.
    pub fn url(&self, name: &str) -> String {
        let dir = self.dir.path().display();
        match self.way {
            Way::Socket => format!("postgres:///{name}?host={dir}&port={}&user=pulse", self.port),
            Way::Tls(port, _) => format!("postgres://pulse@localhost:{port}/{name}?sslmode=verify-full"),
            Way::Pooler(_) => format!("postgres:///{name}?host={dir}&port={POOLER_PORT}&user=pulse"),
        }
    }

    /// What psql says, a line a row.
    pub fn psql(&self, database: &str, statement: &str) -> String {
        let output = self
            .command("psql")
            .args(["-X", "-q", "-At", "-U", "pulse", "-d", database, "-v", "ON_ERROR_STOP=1", "-c", statement])
            .args(["-p", &self.port.to_string(), "-h"])
            .arg(self.dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Lets that role in by its password alone.
    pub fn ask_for_a_password(&self, role: &str) {
        let file = self.data().join("pg_hba.conf");
        let others = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, format!("local all {role} scram-sha-256\n{others}")).unwrap();
        self.psql("postgres", "SELECT pg_reload_conf()");
    }

    /// Everything of a database, as statements.
    pub fn dump(&self, database: &str) -> String {
        let output = self
            .command("pg_dump")
            .args(["-U", "pulse", "--inserts", "-p", &self.port.to_string(), "-h"])
            .arg(self.dir.path())
            .arg(database)
            .output()
            .unwrap();
        let dump = String::from_utf8(output.stdout).unwrap();
        // Newer ones write a word of chance into it.
        dump.lines().filter(|line| !line.starts_with('\\')).map(|line| format!("{line}\n")).collect()
    }

    /// Everything that it keeps on the disk.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it again on TCP too, with TLS and that certificate. The port.
    pub fn listen_with_tls(&mut self, certificate: &Issued) -> u16 {
        self.listen(Some(certificate))
    }

    /// Starts it again on TCP too, with TLS where there is a certificate. The port.
    pub fn listen(&mut self, certificate: Option<&Issued>) -> u16 {
        self.settings = vec!["listen_addresses=127.0.0.1,::1".to_owned()];
        if let Some(certificate) = certificate {
            self.settings.push("ssl=on".to_owned());
            let files = [("ssl_cert_file", &certificate.cert_pem), ("ssl_key_file", &certificate.key_pem)];
            for (setting, content) in files {
                let path = self.dir.path().join(setting);
                std::fs::write(&path, content).unwrap();
                std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
                if rustix::process::geteuid().is_root() {
                    std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
                }
                self.settings.push(format!("{setting}={}", path.display()));
            }
        }
        loop {
            // PostgreSQL takes no port 0, so a free one is looked for. Another test may have it by then: PostgreSQL
            // goes on without that address.
            self.stop();
            self.port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            self.settings.push(format!("port={}", self.port));
            self.restart();
            let lock = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
            if lock.lines().nth(5) == Some("127.0.0.1") {
                return self.port;
            }
            self.settings.pop();
        }
    }

    /// Kills all its processes, at once.
    pub fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        kill_process_group(Pid::from_child(&server), Signal::KILL).unwrap();
        server.wait().unwrap();
    }

    /// Stops it in order.
    pub fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // SIGINT: sessions are ended, everything is written.
        kill_process(Pid::from_child(&server), Signal::INT).unwrap();
        server.wait().unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop_pooler();
        let Some(mut server) = self.server.take() else { return };
        // A server that is killed leaves its piece of shared memory, and a machine has 4,096 of them for everybody.
        let _ = kill_process(Pid::from_child(&server), Signal::QUIT);
        if !comes_true(|| !matches!(server.try_wait(), Ok(None))) {
            let _ = kill_process_group(Pid::from_child(&server), Signal::KILL);
            let _ = server.wait();
        }
    }
}

/// The lines that a program says. They are read to the end, or a full pipe would hold it up.
fn lines_of(stderr: ChildStderr) -> mpsc::Receiver<String> {
    let (line, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for said in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = line.send(said);
        }
    });
    lines
}

/// Where PostgreSQL's programs are: the newest of Debian's, else on the path.
#[expect(clippy::disallowed_methods, reason = "the path is in the environment")]
fn programs() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = debian.map(|version| version.path().join("bin")).collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    found.into_iter().rev().chain(on_path).find(|dir| dir.join("postgres").exists() && dir.join("initdb").exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_leaves_none_of_the_shared_memory_behind_that_a_machine_has_little_of() {
        let Some(cluster) = Cluster::start() else { return };
        let lock = std::fs::read_to_string(cluster.data().join("postmaster.pid")).unwrap();
        let id = lock.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap();
        let segments = || std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
        let is_there = || segments().lines().any(|line| line.split_whitespace().nth(1) == Some(id));
        assert!(is_there());
        drop(cluster);
        assert!(!is_there());
    }
}
