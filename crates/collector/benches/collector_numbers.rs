//! What it costs to count the last whole day of 3 million rows (100,000 installations, 30 days), beside DuckDB, which
//! counts the same in a file of its own, with one thread: `make bench-collector`. `ROWS` asks for more.
//!
//! Either runs in a process of its own, in turn, five times. Of PostgreSQL the server's CPU time counts, too, and of
//! its memory what a session has for itself. It fails where the median is beyond the limit, or the memory beyond
//! DuckDB's, which comes with `make fuzzer`.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "figures on standard output")]
#![expect(clippy::disallowed_methods, reason = "how many rows is the environment's to say, and who the process is")]
#![expect(clippy::cast_precision_loss, reason = "figures")]

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use std::{env, fs, thread};

use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_collector::postgres::PostgresReader;
use pulse_telemetry_collector::publish;
use pulse_telemetry_collector::sqlite::SqliteReader;
use pulse_telemetry_collector::storage::Read;
use pulse_telemetry_core::contract::{FIELDS, Field, FieldKind};
use pulse_telemetry_http::tls::Trust;
use pulse_telemetry_testkit::collector::{Storage, block_on, open, ping_of, row};
use pulse_telemetry_testkit::postgres::Cluster;
use rusqlite::Connection;
use serde_json::Value;

const DAYS: u64 = 30;
const ROUNDS: usize = 5;
/// Set where this process is the one that counts: the storage's URL.
const COUNTS: &str = "NUMBERS_URL";

fn main() {
    if let Ok(url) = env::var(COUNTS) {
        return count(&url);
    }
    let python = env::current_exe().unwrap().ancestors().nth(3).unwrap().join("schemathesis/bin/python");
    let installations = env::var("ROWS").map_or(3_000_000, |rows| rows.parse().unwrap()) / DAYS;
    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/collector_numbers.py");
    let duckdb = |arguments: &[&str]| {
        let mut command = Command::new(&python);
        command.arg(&script).arg(dir.path().join("pings.duckdb")).arg(last_day().strftime("%F").to_string());
        said(command.args(arguments))
    };
    if !Command::new(&python).args(["-c", "import duckdb"]).output().is_ok_and(|output| output.status.success()) {
        println!("DuckDB is not here: `make fuzzer` installs it");
        return;
    }
    let filled = fill_statements(installations, Dialect::DuckDb);
    let filled: String = filled.iter().map(|(_, select)| format!("INSERT INTO pings {select};\n")).collect();
    let kind = |field: &Field| match field.kind {
        FieldKind::Count => "INTEGER",
        FieldKind::Flag => "BOOLEAN",
        _ => "VARCHAR",
    };
    let columns: String = FIELDS.iter().map(|field| format!(", {} {}", field.name, kind(field))).collect();
    let statements = dir.path().join("fill.sql");
    fs::write(&statements, format!("CREATE TABLE pings (received_at TIMESTAMP{columns});\n{filled}")).unwrap();
    duckdb(&[statements.to_str().unwrap()]);
    let mut are_kept = true;
    for kind in [Dialect::Sqlite, Dialect::Postgres] {
        let storage = match kind {
            Dialect::Postgres => match Cluster::start() {
                Some(cluster) => Storage::postgres(cluster),
                None => continue,
            },
            _ => Storage::sqlite(),
        };
        are_kept &= measure(&storage, installations, kind, &duckdb);
    }
    assert!(are_kept, "a limit is not kept");
}

/// Counts by turns with DuckDB, and says whether the limits are kept.
fn measure(storage: &Storage, installations: u64, kind: Dialect, duckdb: &dyn Fn(&[&str]) -> String) -> bool {
    fill(storage, installations, kind);
    let most = if kind == Dialect::Sqlite { 2.0 } else { 3.0 };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(Counted::of(storage));
        theirs.push(Counted::new(&duckdb(&[])));
        compare(&ours[ours.len() - 1].numbers, &theirs[theirs.len() - 1].numbers);
    }
    let mut ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours.cpu / theirs.cpu).collect();
    ratios.sort_by(f64::total_cmp);
    let memory = |all: &[Counted]| all.iter().map(|counted| counted.memory).max().unwrap() as f64 / 1e6;
    let is_kept = ratios[ROUNDS / 2] <= most && memory(&ours) <= memory(&theirs);
    println!(
        "{}, {} rows: {:.2} s of CPU, {:.2} ({:.2} to {:.2}) times DuckDB's {:.2} s ({most} at most); memory {:.0} \
         MB, DuckDB's {:.0} MB",
        storage.name(),
        (installations + installations / 32) * DAYS,
        median(&ours),
        ratios[ROUNDS / 2],
        ratios[0],
        ratios[ROUNDS - 1],
        median(&theirs),
        memory(&ours),
        memory(&theirs)
    );
    is_kept
}

fn median(all: &[Counted]) -> f64 {
    let mut cpu: Vec<f64> = all.iter().map(|counted| counted.cpu).collect();
    cpu.sort_by(f64::total_cmp);
    cpu[cpu.len() / 2]
}

fn day(number: u64) -> Timestamp {
    let first: Timestamp = "2026-10-01T00:00:00Z".parse().unwrap();
    first + SignedDuration::from_hours(24 * i64::try_from(number).unwrap())
}

fn last_day() -> Timestamp {
    day(DAYS - 1)
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What one counting took, and gave.
struct Counted {
    /// In seconds.
    cpu: f64,
    /// The most, in bytes.
    memory: u64,
    numbers: Value,
}

impl Counted {
    fn new(line: &str) -> Self {
        let told: Value = serde_json::from_str(line).unwrap();
        let (cpu, memory) = (told["cpu"].as_f64().unwrap(), told["memory"].as_u64().unwrap());
        Self { cpu, memory, numbers: told["numbers"].clone() }
    }

    fn of(storage: &Storage) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg("--bench").env(COUNTS, storage.url());
        let Storage::Postgres(cluster) = storage else { return Self::new(&said(&mut command)) };
        let server = Server::of(cluster);
        server.wait_for_sessions();
        let (before, ended, memory) = (server.cpu(), AtomicBool::new(false), AtomicU64::new(0));
        let line = thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    memory.fetch_max(server.memory(), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(5));
                }
            });
            let line = said(&mut command);
            ended.store(true, Ordering::Relaxed);
            line
        });
        server.wait_for_sessions();
        let mut counted = Self::new(&line);
        counted.cpu += server.cpu() - before;
        counted.memory += memory.load(Ordering::Relaxed);
        counted
    }
}

/// The processes of PostgreSQL.
struct Server(String);

impl Server {
    fn of(cluster: &Cluster) -> Self {
        let file = fs::read_to_string(cluster.dir().join("data/postmaster.pid")).unwrap();
        Self(file.lines().next().unwrap().to_owned())
    }

    fn children(&self) -> Vec<String> {
        let listed = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.0)).unwrap();
        listed.split_whitespace().map(str::to_owned).collect()
    }

    /// The sessions of the database, and what works for them. One that has ended has no name, and its time is not yet
    /// that of the server's children.
    fn workers(&self) -> Vec<String> {
        let is_one = |pid: &String| {
            let name = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_else(|_| String::new());
            name.is_empty() || ["pulse pulse", "parallel worker"].iter().any(|part| name.contains(part))
        };
        self.children().into_iter().filter(is_one).collect()
    }

    fn wait_for_sessions(&self) {
        while !self.workers().is_empty() {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What they have for themselves, in bytes.
    fn memory(&self) -> u64 {
        let of = |pid: String| memory_of(&pid, "RssAnon:").unwrap_or_default();
        self.workers().into_iter().map(of).sum()
    }

    /// Of the server and all its children that have ended, in seconds.
    fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap();
        let fields = stat.rsplit(')').next().unwrap().split_ascii_whitespace().skip(11).take(4);
        // A hundredth of a second each, on every Linux.
        fields.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
    }
}

fn memory_of(pid: &str, line: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib =
        status.lines().find_map(|told| told.strip_prefix(line))?.trim().strip_suffix(" kB")?.parse::<u64>().ok()?;
    Some(kib << 10)
}

/// Counts in this process, and says what it took.
fn count(url: &str) {
    let reader: Box<dyn Read> = match url.strip_prefix("sqlite:") {
        Some(file) => Box::new(SqliteReader::new(Path::new(file))),
        None => Box::new(PostgresReader::new(url.parse().unwrap(), None, &Trust::default()).unwrap()),
    };
    let before = cpu_of_this_process();
    let published = block_on(publish::report(reader.as_ref(), day(DAYS) + SignedDuration::from_hours(1))).unwrap();
    let cpu = cpu_of_this_process() - before;
    let numbers = serde_json::to_value(published.latest().unwrap()).unwrap();
    let memory = memory_of("self", "VmHWM:");
    println!("{}", serde_json::json!({"cpu": cpu, "memory": memory, "numbers": numbers}));
}

/// In seconds, of all its threads.
fn cpu_of_this_process() -> f64 {
    let of = |thread: fs::DirEntry| -> f64 {
        let told = fs::read_to_string(thread.path().join("schedstat")).unwrap();
        told.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
    };
    fs::read_dir("/proc/self/task").unwrap().map(|thread| of(thread.unwrap())).sum()
}

/// Ours are DuckDB's, rounded.
fn compare(ours: &Value, theirs: &Value) {
    let is_rounded = |what: &str, ours: &Value, theirs: &Value| {
        let (ours, theirs) = (ours.as_u64().unwrap(), theirs.as_u64().unwrap());
        assert!(ours.abs_diff(theirs) < 5, "{what}: {ours} and {theirs}");
    };
    is_rounded("all", &ours["ids"], &theirs["ids"]);
    for cell in ours["versions"].as_array().unwrap() {
        let version = cell["version"].as_str().unwrap();
        is_rounded(version, &cell["ids"], &theirs["version"][version]);
    }
    for field in ours["fields"].as_array().unwrap() {
        let name = field["field"].as_str().unwrap();
        for cell in field["cells"].as_array().unwrap() {
            let value = cell["value"].as_str().unwrap();
            is_rounded(&format!("{name} {value}"), &cell["ids"], &theirs[name][value]);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Sqlite,
    Postgres,
    DuckDb,
}

fn fill(storage: &Storage, installations: u64, dialect: Dialect) {
    block_on(async {
        let store = open(storage).await;
        // It makes the tables.
        for number in 0..DAYS {
            store.commit(vec![row(&ping_of(number), day(number))]).await.unwrap();
        }
    });
    let statements = fill_statements(installations, dialect);
    let insert = |(table, select): &(String, String)| format!("DELETE FROM {table}; INSERT INTO {table} {select};");
    let statements = statements.iter().map(insert);
    match storage {
        Storage::Sqlite(_) => {
            let connection = Connection::open(storage.file()).unwrap();
            connection.execute_batch("PRAGMA synchronous = OFF").unwrap();
            statements.for_each(|statement| connection.execute_batch(&format!("BEGIN; {statement} COMMIT")).unwrap());
            connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        }
        Storage::Postgres(cluster) => {
            statements.for_each(|statement| drop(cluster.psql("pulse", &statement)));
            // As it does by itself, later.
            cluster.psql("pulse", "VACUUM ANALYZE");
        }
    }
}

/// The rows of each day, and its table. An ID is replaced after 30 days, so that on each day some are new, and of 32
/// installations one has a second ping.
fn fill_statements(installations: u64, dialect: Dialect) -> Vec<(String, String)> {
    let second = installations / 32;
    let numbers = match dialect {
        Dialect::Sqlite => format!(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {}) ",
            installations + second
        ),
        Dialect::Postgres => format!("WITH n AS (SELECT generate_series(0, {}) AS i) ", installations + second - 1),
        Dialect::DuckDb => format!("WITH n AS (SELECT range AS i FROM range({})) ", installations + second),
    };
    let of_a_day = |number: u64| {
        let columns: Vec<String> = FIELDS.iter().map(|field| column(field, number, dialect)).collect();
        let began = day(number).strftime("%F").to_string();
        let at = format!("(60 + k * 80000 / {installations} + i / {installations} * 100)");
        let at = match dialect {
            Dialect::Sqlite => format!("datetime('{began}', '+' || {at} || ' seconds')"),
            Dialect::Postgres => format!("timestamp '{began}' + {at} * interval '1 second'"),
            Dialect::DuckDb => format!("timestamp '{began}' + to_seconds({at})").replace(" / ", " // "),
        };
        let from = format!("(SELECT CAST(i AS bigint) AS i, CAST(i % {installations} AS bigint) AS k FROM n) AS n");
        let table = format!("pings_{}", day(number).strftime("%Y%m%d"));
        (table, format!("{numbers}SELECT {at}, {} FROM {from}", columns.join(", ")))
    };
    (0..DAYS).map(of_a_day).collect()
}

/// What an installation says, by its number `k`.
fn column(field: &Field, day: u64, dialect: Dialect) -> String {
    let chance =
        format!("((k * 7919 + {}) % 1000)", FIELDS.iter().position(|other| other.name == field.name).unwrap() * 331);
    match (field.name, field.kind) {
        ("install_id", _) => {
            let id = match dialect {
                Dialect::DuckDb => format!("(k * 2 + (k % 30 + {day}) // 30)"),
                _ => format!("(k * 2 + (k % 30 + {day}) / 30)"),
            };
            let first = format!("(({id} * 2654435761) % 4294967296)");
            match dialect {
                Dialect::Postgres => {
                    format!("lpad(to_hex({first}), 8, '0') || '-4b43-4e02-8744-' || lpad(to_hex({id}), 12, '0')")
                }
                _ => format!("printf('%08x-4b43-4e02-8744-%012x', {first}, {id})"),
            }
        }
        ("version", _) => {
            format!("CASE WHEN {chance} < 700 THEN '6.4.0' WHEN {chance} < 950 THEN '6.3.1' ELSE '6.2.0' END")
        }
        ("version_channel", _) => "'stable'".to_owned(),
        ("version_is_published_release", _) => match dialect {
            Dialect::Sqlite => "1".to_owned(),
            _ => "true".to_owned(),
        },
        ("platform", _) => format!("CASE WHEN {chance} < 550 THEN 'docker' ELSE 'binary' END"),
        ("os", _) => format!("CASE WHEN {chance} < 985 THEN 'linux' ELSE 'freebsd' END"),
        ("arch", _) => format!("CASE WHEN {chance} < 840 THEN 'amd64' ELSE 'arm64' END"),
        ("event", _) => "'heartbeat'".to_owned(),
        (_, FieldKind::Flag) => format!("({chance} < 120)"),
        (_, FieldKind::Count) => format!("({chance} * {chance} / 900)")
            .replace(" / ", if dialect == Dialect::DuckDb { " // " } else { " / " }),
        (_, FieldKind::Choice(words)) => format!("'{}'", words[0]),
        _ => "NULL".to_owned(),
    }
}
