//! The real collector as a child process, in front of a storage of its own.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use jiff::Timestamp;
use pulse_telemetry_collector::ingest;
use pulse_telemetry_collector::postgres::{PostgresReader, PostgresStore};
use pulse_telemetry_collector::server::FORGET_PATH;
use pulse_telemetry_collector::sqlite::{SqliteReader, SqliteStore};
use pulse_telemetry_collector::storage::{PingStore, Read, Row};
use pulse_telemetry_core::contract::{FIELDS, FieldKind};
use pulse_telemetry_http::tls::Trust;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::client::{self, Reply};
use super::endpoint::PING_PATH;
use super::lock;
use super::postgres::Cluster;
use super::sidecar::{LIMIT, comes_true};

/// The binary that cargo built for the tests; beside an example, two folders up.
pub fn binary() -> PathBuf {
    let built = option_env!("CARGO_BIN_EXE_pulse-telemetry-collector").map(PathBuf::from);
    let beside = || std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("pulse-telemetry-collector");
    built.unwrap_or_else(beside)
}

/// A body that every contract accepts; `change` makes it another one.
pub fn ping(change: &Value) -> Value {
    let mut ping = json!({
        "install_id": "4564b43e-e025-4641-8744-36ca666fdf59", "version": "6.0.0-rc.1", "version_channel": "rc",
        "version_is_development": false, "version_is_published_release": true, "platform": "binary", "os": "linux",
        "arch": "amd64", "event": "startup", "pve_nodes": 0, "pbs_instances": 0, "pmg_instances": 0, "vms": 0,
        "containers": 0, "docker_hosts": 0, "kubernetes_clusters": 0, "ai_enabled": false, "active_alerts": 0,
        "relay_enabled": false, "sso_enabled": false, "multi_tenant": false, "paid_license": false,
        "has_api_tokens": false,
    });
    for (field, value) in change.as_object().into_iter().flatten() {
        ping[field] = value.clone();
    }
    ping
}

/// The ping of one installation out of many.
pub fn ping_of(number: u64) -> Value {
    ping(&json!({"install_id": install_id(number)}))
}

/// The install ID of one installation out of many.
pub fn install_id(number: u64) -> String {
    uuid::Uuid::from_u64_pair(0x4564_b43e_e025_4641, 0x8744_0000_0000_0000 | number).to_string()
}

/// The body of a recorded ping; none where the recordings are not here.
pub fn recorded(name: &str) -> Option<Value> {
    let recorded = std::fs::read_to_string(super::replay::shared()?.join("wire").join(name)).unwrap();
    // The body is what begins with a brace, whatever ends the lines before it.
    let body = &recorded[recorded.find('{').unwrap()..];
    Some(serde_json::from_str(body).unwrap())
}

/// Where a collector keeps its pings.
pub enum Storage {
    Sqlite(TempDir),
    Postgres(Box<Cluster>),
}

impl Storage {
    /// Both kinds; SQLite alone where there is no PostgreSQL.
    pub fn both() -> Vec<Self> {
        std::iter::once(Self::sqlite()).chain(Cluster::start().map(Self::postgres)).collect()
    }

    /// Both kinds, and PostgreSQL in each way that it is reached by.
    pub fn all() -> Vec<Self> {
        let others = [Cluster::start_with_tls(), Cluster::start_with_pooler()];
        Self::both().into_iter().chain(others.into_iter().flatten().map(Self::postgres)).collect()
    }

    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub fn postgres(cluster: Cluster) -> Self {
        cluster.database("pulse");
        Self::Postgres(Box::new(cluster))
    }

    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(_) => format!("sqlite:{}", self.file().display()),
            Self::Postgres(cluster) => cluster.url("pulse"),
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SQLite",
            Self::Postgres(cluster) => cluster.name(),
        }
    }

    /// Where everything lies that it keeps.
    pub fn dir(&self) -> &Path {
        match self {
            Self::Sqlite(dir) => dir.path(),
            Self::Postgres(cluster) => cluster.dir(),
        }
    }

    /// SQLite's file.
    pub fn file(&self) -> PathBuf {
        self.dir().join("pings.sqlite")
    }

    pub fn cluster(&mut self) -> &mut Cluster {
        match self {
            Self::Postgres(cluster) => cluster,
            Self::Sqlite(_) => panic!("not PostgreSQL"),
        }
    }

    /// The tables, or partitions, that hold rows, and the columns of each. Beside them there is nothing but what was
    /// published, and the key by which it is rounded.
    pub fn columns(&self) -> BTreeMap<String, Vec<String>> {
        let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
        match self {
            Self::Sqlite(_) => {
                let connection = read_only(&self.file());
                let query = "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c \
                             WHERE m.type = 'table' ORDER BY m.name, c.cid";
                let mut statement = connection.prepare(query).unwrap();
                let mut rows = statement.query([]).unwrap();
                while let Some(row) = rows.next().unwrap() {
                    tables.entry(row.get(0).unwrap()).or_default().push(row.get(1).unwrap());
                }
            }
            Self::Postgres(cluster) => {
                let query = "SELECT c.table_name, c.column_name FROM information_schema.columns c \
                             JOIN information_schema.tables t USING (table_schema, table_name) \
                             WHERE table_schema = 'public' AND table_type = 'BASE TABLE' ORDER BY 1, ordinal_position";
                for line in cluster.psql("pulse", query).lines() {
                    let (table, column) = line.split_once('|').unwrap();
                    tables.entry(table.to_owned()).or_default().push(column.to_owned());
                }
            }
        }
        for (beside, columns) in [
            ("published_days", &["day", "numbers"][..]),
            ("rounding_key", &["key"]),
            ("forgotten_days", &["day", "deletions"]),
        ] {
            assert!(tables.remove(beside).is_none_or(|found| found == columns), "{beside}");
        }
        tables
    }

    /// Every row, each with its columns by name; flags as booleans, and `received_at` as text.
    pub fn rows(&self) -> Vec<Map<String, Value>> {
        match self {
            Self::Sqlite(_) => self.columns().keys().flat_map(|table| sqlite_rows(&self.file(), table)).collect(),
            Self::Postgres(cluster) => {
                let rows = cluster.psql("pulse", "SELECT to_jsonb(p) FROM pings p ORDER BY received_at");
                rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect()
            }
        }
    }

    /// The install IDs of all rows, sorted.
    pub fn install_ids(&self) -> Vec<String> {
        let mut ids: Vec<String> =
            self.rows().iter().map(|row| row["install_id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }
}

pub fn read_only(file: &Path) -> Connection {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.busy_timeout(LIMIT).unwrap();
    connection
}

/// The rows of a table or view of that name, all its columns by name.
pub fn sqlite_rows(file: &Path, table: &str) -> Vec<Map<String, Value>> {
    let connection = read_only(file);
    let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut rows = statement.query([]).unwrap();
    let mut found = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let value = |(at, name): (usize, &String)| {
            let is_flag = FIELDS.iter().any(|field| field.name == name && field.kind == FieldKind::Flag);
            let value = match row.get_ref(at).unwrap() {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(number) if is_flag => json!(number == 1),
                ValueRef::Integer(number) => json!(number),
                other => json!(other.as_str().unwrap()),
            };
            (name.clone(), value)
        };
        found.push(names.iter().enumerate().map(value).collect());
    }
    found
}

/// What a stored row should hold of a ping: its fields of the contract, and null for those that it leaves out.
pub fn expected_row(ping: &Value) -> Map<String, Value> {
    FIELDS.iter().map(|field| (field.name.to_owned(), ping[field.name].clone())).collect()
}

/// How to start a collector.
#[derive(Clone)]
pub struct Setup {
    dir: Arc<TempDir>,
    environment: BTreeMap<String, String>,
    user: Option<u32>,
}

impl Setup {
    /// With that storage, on a free port, the log at its most talkative, and nobody limited.
    pub fn new(storage: &Storage) -> Self {
        let mut setup = Self { dir: Arc::new(tempfile::tempdir().unwrap()), environment: BTreeMap::new(), user: None };
        if let Storage::Postgres(cluster) = storage
            && let Some(authority) = cluster.authority()
        {
            let file = setup.write("authority.pem", authority);
            setup = setup.with("STORAGE__CA_FILE", file.to_str().unwrap());
        }
        setup
            .with("STORAGE__URL", &storage.url())
            .with("SERVE__LISTEN", "127.0.0.1:0")
            .with("ADMIN__LISTEN", "127.0.0.1:0")
            .with("LIMITS__PER_MINUTE", "0")
            .with("LIMITS__NEW_IDS", "0")
            .with("LOG__LEVEL", "trace")
    }

    /// Sets `PULSE_TELEMETRY_COLLECTOR_…`.
    pub fn with(self, name: &str, value: &str) -> Self {
        self.with_variable(&format!("PULSE_TELEMETRY_COLLECTOR_{name}"), value)
    }

    /// Sets a variable of another name.
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Runs everything as that user, which root may.
    pub fn with_user(self, user: u32) -> Self {
        std::os::unix::fs::chown(self.dir.path(), Some(user), Some(user)).unwrap();
        Self { user: Some(user), ..self }
    }

    /// With a new key that signs receipts.
    pub fn with_receipts(self) -> Self {
        let path = self.dir.path().join("receipts.pem");
        let made = self.run(&["keygen", path.to_str().unwrap()]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        self.with("RECEIPTS__KEY_FILE", path.to_str().unwrap())
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).env_clear().envs(&self.environment).stdin(Stdio::null()).current_dir(self.dir.path());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Runs one command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts one command, and does not wait for it.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Starts it, and waits until it can store pings. It is not asked whether it is ready, for then its stop waits for
    /// a balancer to look again.
    pub fn start(&self) -> Collector {
        let collector = self.start_unready();
        collector.wait_for_log("pings can be stored");
        collector
    }

    /// Starts it, and waits until it listens.
    pub fn start_unready(&self) -> Collector {
        let mut child = self.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new((Mutex::new((Vec::new(), false)), Condvar::new()));
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let lines = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines() {
                lock(&lines.0).0.push(line.unwrap());
                lines.1.notify_all();
            }
            lock(&lines.0).1 = true;
            lines.1.notify_all();
        });
        let mut collector = Collector {
            child,
            log,
            reader: Some(reader),
            address: SocketAddr::from(([0; 4], 0)),
            admin: SocketAddr::from(([0; 4], 0)),
            _dir: self.dir.clone(),
        };
        let address = |text| collector.wait_for_log(text).rsplit("address=").next().unwrap().trim().parse().unwrap();
        (collector.admin, collector.address) =
            (address("metrics and readiness are told"), address("the collector listens"));
        collector
    }
}

/// The lines so far, and whether that was all.
type Log = Arc<(Mutex<(Vec<String>, bool)>, Condvar)>;

/// A collector that runs; killed when dropped.
pub struct Collector {
    child: Child,
    log: Log,
    reader: Option<std::thread::JoinHandle<()>>,
    pub address: SocketAddr,
    /// Where metrics and readiness are told.
    pub admin: SocketAddr,
    _dir: Arc<TempDir>,
}

impl Collector {
    /// The first line of the log that holds the text.
    pub fn wait_for_log(&self, text: &str) -> String {
        let (log, news) = &*self.log;
        let found = |lines: &[String]| lines.iter().find(|line| line.contains(text)).cloned();
        let (log, _) =
            news.wait_timeout_while(lock(log), LIMIT, |(lines, ended)| found(lines).is_none() && !*ended).unwrap();
        found(&log.0).unwrap_or_else(|| panic!("the log never said {text:?}:\n{}", log.0.join("\n")))
    }

    pub fn log(&self) -> String {
        lock(&self.log.0).0.join("\n")
    }

    /// Asks until it is ready.
    pub fn wait_until_ready(&self) {
        self.wait_for("it is ready", || self.ask_admin("/readyz").status == 200);
    }

    /// Asks until something holds. It is polled, for nobody outside is told.
    pub fn wait_for(&self, what: &str, holds: impl FnMut() -> bool) {
        assert!(comes_true(holds), "never: {what}:\n{}", self.log());
    }

    pub fn get(&self, target: &str) -> Reply {
        client::get(self.address, target, None).unwrap()
    }

    /// Asks the listener of the operator.
    pub fn ask_admin(&self, target: &str) -> Reply {
        client::get(self.admin, target, None).unwrap()
    }

    /// The same, with these headers.
    pub fn ask_admin_with(&self, target: &str, headers: &[(&str, &str)]) -> Reply {
        client::fetch(self.admin, "GET", target, headers, Bytes::new()).unwrap()
    }

    /// Asks as HAProxy does where it is told no method.
    pub fn admin_options(&self, target: &str) -> Reply {
        client::fetch(self.admin, "OPTIONS", target, &[], Bytes::new()).unwrap()
    }

    /// The value of a metric, by its name with labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.ask_admin("/metrics").text();
        let name = format!("pulse_telemetry_collector_{name} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    pub fn post(&self, ping: &Value) -> Reply {
        self.post_bytes(ping.to_string(), &[])
    }

    pub fn post_bytes(&self, body: impl Into<Bytes>, headers: &[(&str, &str)]) -> Reply {
        let mut all = vec![("Content-Type", "application/json")];
        all.extend(headers);
        client::fetch(self.address, "POST", PING_PATH, &all, body.into()).unwrap()
    }

    /// Asks for the deletion of everything of an ID.
    pub fn forget(&self, id: &str) -> Reply {
        self.forget_bytes(json!({"install_id": id}).to_string())
    }

    pub fn forget_bytes(&self, body: impl Into<Bytes>) -> Reply {
        client::fetch(self.address, "POST", FORGET_PATH, &[("Content-Type", "application/json")], body.into()).unwrap()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// A line of `/proc/PID/status`, in bytes.
    pub fn memory(&self, line: &str) -> u64 {
        super::sidecar::memory_of(&self.child, line)
    }

    /// Asks it to stop, waits for its end, and gives its log.
    pub fn stop(mut self) -> String {
        kill_process(self.pid(), Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        assert!(status.success(), "ended with {status}:\n{}", self.log());
        self.log()
    }

    /// Kills it, at once.
    pub fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        self.log()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // One that has ended is no longer there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the collector's log:\n{}", self.log());
        }
    }
}

/// A row as the collector makes it of a ping that comes at that time.
pub fn row(ping: &Value, received_at: Timestamp) -> Row {
    Row { received_at, cells: ingest::read(ping.to_string().as_bytes()).unwrap().cells }
}

/// Opens a storage as the collector does, without one.
pub async fn open(storage: &Storage) -> Arc<dyn PingStore> {
    match storage {
        Storage::Sqlite(_) => Arc::new(SqliteStore::open(&storage.file()).unwrap()),
        Storage::Postgres(_) => Arc::new(open_postgres(storage).await),
    }
}

/// Opens PostgreSQL.
pub async fn open_postgres(storage: &Storage) -> PostgresStore {
    let (connect, trust) = way_to_postgres(storage);
    PostgresStore::open(connect, None, &trust).await.unwrap()
}

/// Opens a storage for reading.
pub fn reader(storage: &Storage) -> Box<dyn Read> {
    match storage {
        Storage::Sqlite(_) => Box::new(SqliteReader::new(&storage.file())),
        Storage::Postgres(_) => {
            let (connect, trust) = way_to_postgres(storage);
            Box::new(PostgresReader::new(connect, None, &trust).unwrap())
        }
    }
}

fn way_to_postgres(storage: &Storage) -> (tokio_postgres::Config, Trust) {
    let authority = match storage {
        Storage::Postgres(cluster) => cluster.authority(),
        Storage::Sqlite(_) => None,
    };
    let named = |pem: &str| Trust::default().and("storage.ca_file", pem.as_bytes().to_vec());
    let trust = authority.map_or_else(Trust::default, named);
    (storage.url().replace("verify-full", "require").parse().unwrap(), trust)
}

/// Waits for something on a runtime of its own.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
