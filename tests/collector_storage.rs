//! What is stored is what the contract says, also after somebody else had it in hand; and the configuration of the collector.
#![cfg(feature = "collector")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use std::os::unix::fs::PermissionsExt as _;

use pulse_telemetry::config::Environment;
use pulse_telemetry::config::collector::{Config, DEFAULTS, Storage as Configured};
use rusqlite::Connection;
use support::collector::{Setup, Storage, block_on, open, ping_of, row};
use support::endpoint::CertificateAuthority;
use support::postgres::Cluster;

/// Changes a storage by hand, then starts a collector; what it says as it ends.
fn refused(storage: &Storage, change: &str) -> String {
    match storage {
        Storage::Sqlite(_) => Connection::open(storage.file()).unwrap().execute_batch(change).unwrap(),
        Storage::Postgres(cluster) => drop(cluster.psql("pulse", change)),
    }
    assert_eq!(Setup::new(storage).run(&["check"]).status.code(), Some(5));
    let ended = Setup::new(storage).run(&["run"]);
    assert_eq!(ended.status.code(), Some(5));
    String::from_utf8(ended.stderr).unwrap()
}

#[test]
fn a_column_more_or_less_than_the_contract_stops_the_start_and_is_named() {
    for storage in Storage::both() {
        block_on(async {
            open(&storage).await.commit(vec![row(&ping_of(1), "2026-11-23T12:00:00Z".parse().unwrap())]).await.unwrap();
        });
        let (table, drop_view) = match storage {
            Storage::Sqlite(_) => ("pings_20261123", "DROP VIEW telemetry_pings;"),
            Storage::Postgres(_) => ("pings", "DROP VIEW telemetry_pings;"),
        };
        let said = refused(&storage, &format!("ALTER TABLE {table} ADD COLUMN client_ip TEXT"));
        assert!(
            said.contains(table)
                && said.to_lowercase().contains("nothing is missing, client_ip (text) is there besides"),
            "{said}"
        );
        let said = refused(
            &storage,
            &format!("{drop_view} ALTER TABLE {table} DROP COLUMN client_ip; ALTER TABLE {table} DROP COLUMN vms"),
        );
        assert!(said.to_lowercase().contains("vms (integer) is missing, nothing is there besides"), "{said}");
    }
}

#[test]
fn a_file_of_sqlite_is_its_owners_alone() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).start();
    assert_eq!(collector.post(&ping_of(1)).status, 204);
    for (path, _) in support::disk::files_below(storage.dir()) {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
}

#[test]
fn a_storage_that_cannot_be_opened_stops_the_start_with_a_code_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("no-database");
    std::fs::write(&file, "this is no database, and is not made one either").unwrap();
    for url in [
        format!("sqlite:{}", file.display()),
        "sqlite:/nonexistent/pings".to_owned(),
        "postgres:///x?host=/nonexistent".to_owned(),
    ] {
        let ended = Setup::new(&Storage::sqlite()).with("STORAGE__URL", &url).run(&["run"]);
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(5), "{url}: {said}");
    }
}

#[test]
fn a_second_collector_on_one_file_of_sqlite_is_refused_under_any_name_of_it_and_the_first_goes_on() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).start();
    let other_name = storage.dir().join("other.sqlite");
    std::os::unix::fs::symlink(storage.file(), &other_name).unwrap();
    for file in [storage.file(), other_name] {
        let second = Setup::new(&storage).with("STORAGE__URL", &format!("sqlite:{}", file.display())).run(&["run"]);
        let said = String::from_utf8(second.stderr).unwrap();
        assert_eq!(second.status.code(), Some(5), "{said}");
        assert!(said.contains("another collector takes pings into"), "{said}");
    }
    assert_eq!(collector.post(&ping_of(1)).status, 204);
    collector.kill();
    // A kill leaves no lock behind.
    let next = Setup::new(&storage).start();
    assert_eq!(next.post(&ping_of(2)).status, 204);
}

#[test]
fn while_a_commit_waits_every_other_request_is_answered() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).start();
    assert_eq!(collector.post(&ping_of(1)).status, 204);
    let other = Connection::open(storage.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| collector.post(&ping_of(2)).status);
        collector.wait_for("a commit waits", || collector.metric("waiting_pings") > 0.0);
        assert_eq!(collector.get("/healthz").status, 200);
        other.execute_batch("COMMIT").unwrap();
        assert_eq!(waiting.join().unwrap(), 204);
    });
}

#[test]
fn a_commit_that_is_stuck_is_answered_in_time_and_keeps_no_stop_waiting() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).with("LIMITS__COMMIT_TIMEOUT", "1s").start();
    collector.wait_until_ready();
    let other = Connection::open(storage.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let reply = collector.post(&ping_of(1));
    assert!(reply.status == 503 && reply.header("retry-after").is_some(), "{}", reply.status);
    collector.stop();
    other.execute_batch("COMMIT").unwrap();
    assert!(storage.install_ids().is_empty());
}

#[test]
fn a_stop_leaves_everything_in_the_one_file() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).start();
    assert_eq!(collector.post(&ping_of(1)).status, 204);
    collector.stop();
    let beside = |ending| storage.dir().join(format!("pings.sqlite{ending}")).exists();
    assert!(!beside("-wal") && !beside("-shm"));
    assert_eq!(storage.install_ids(), [support::collector::install_id(1)]);
}

#[test]
fn a_file_that_is_removed_or_replaced_under_the_collector_gets_no_ping_acknowledged_until_it_is_back() {
    for ending in ["", "-wal"] {
        let storage = Storage::sqlite();
        let collector = Setup::new(&storage).start();
        assert_eq!(collector.post(&ping_of(1)).status, 204);
        let name = format!("pings.sqlite{ending}");
        let (file, away) = (storage.dir().join(&name), storage.dir().join("away"));
        std::fs::rename(&file, &away).unwrap();
        let refused = |number| {
            let reply = collector.post(&ping_of(number));
            assert!(reply.status == 503 && reply.header("retry-after").is_some(), "{ending}: {}", reply.status);
            let ready = collector.get("/readyz");
            assert_eq!((ready.status, ready.json()["because"].as_str()), (503, Some("storage")));
        };
        refused(2);
        // Another file in its place is not the one that is written to.
        std::fs::copy(&away, &file).unwrap();
        refused(3);
        let told = collector.wait_for_log("was removed, or another file was put in its place");
        assert!(told.contains(&name) && told.contains("restart the collector"), "{told}");
        std::fs::rename(&away, &file).unwrap();
        collector.wait_until_ready();
        assert_eq!(collector.post(&ping_of(4)).status, 204);
        collector.stop();
        let (stored, acknowledged) = (storage.install_ids(), [1, 4].map(support::collector::install_id));
        assert!(acknowledged.iter().all(|id| stored.contains(id)), "{ending}: {stored:?}");
    }
}

#[test]
fn no_command_that_reads_makes_or_changes_a_storage_and_one_that_is_not_there_yet_is_told_so() {
    for storage in Storage::both() {
        let setup = Setup::new(&storage);
        let check = setup.run(&["check"]);
        let said = String::from_utf8(check.stdout).unwrap();
        assert!(check.status.success() && said.contains("holds no pings yet: the first start"), "{said}");
        let file = storage.dir().join("export.sqlite");
        for command in [&["report"][..], &["report", "--json"], &["export", "--sqlite", file.to_str().unwrap()]] {
            let ended = setup.run(command);
            let said = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code(), Some(5), "{command:?}: {said}");
            assert!(said.contains("holds no pings yet: the first start"), "{said}");
        }
        assert!(!file.exists(), "half an export");
        match &storage {
            Storage::Sqlite(_) => assert!(!storage.file().exists()),
            Storage::Postgres(_) => assert_eq!(storage.columns().len(), 0),
        }
        setup.start().stop();
        // What a program of another version left, which only a start would bring up to date.
        let (change, view) = ("DROP VIEW telemetry_pings", "SELECT count(*) FROM telemetry_pings");
        match &storage {
            Storage::Sqlite(_) => Connection::open(storage.file()).unwrap().execute_batch(change).unwrap(),
            Storage::Postgres(cluster) => drop(cluster.psql("pulse", change)),
        }
        for command in [&["check"][..], &["report"], &["export", "--sqlite", file.to_str().unwrap()]] {
            let ended = setup.run(command);
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert!(ended.status.success(), "{}: {command:?}: {said}", storage.name());
        }
        let has_a_view = match &storage {
            Storage::Sqlite(_) => Connection::open(storage.file()).unwrap().prepare(view).is_ok(),
            Storage::Postgres(cluster) => cluster.psql("pulse", "SELECT to_regclass('telemetry_pings')").trim() != "",
        };
        assert!(!has_a_view, "{}", storage.name());
    }
}

#[test]
fn postgresql_is_talked_to_over_tls_and_only_with_a_certificate_that_is_trusted() {
    let Some(cluster) = Cluster::start() else { return };
    let authority = CertificateAuthority::new();
    let mut storage = Storage::postgres(cluster);
    let port = storage.cluster().listen_with_tls(&authority.issue_for_loopback());
    let url = format!("postgres://pulse@localhost:{port}/pulse?sslmode=require");
    let setup = Setup::new(&storage).with("STORAGE__URL", &url);
    let ended = setup.run(&["run"]);
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.code() == Some(5) && said.contains("certificate"), "an authority that nobody named: {said}");
    let file = setup.write("ca.pem", &authority.ca_pem());
    let collector = setup.with("STORAGE__CA_FILE", file.to_str().unwrap()).start();
    assert_eq!(collector.post(&ping_of(1)).status, 204);
    collector.stop();
}

#[test]
fn whoever_reads_postgresql_holds_up_no_ping_and_no_start_and_a_purge_waits_for_him_alone() {
    let Some(cluster) = Cluster::start() else { return };
    let storage = Storage::postgres(cluster);
    let Storage::Postgres(cluster) = &storage else { return };
    let setup = Setup::new(&storage);
    let collector = setup.start();
    let old = "2026-05-22T12:00:00Z".parse().unwrap();
    block_on(async {
        open(&storage).await.commit(vec![row(&ping_of(1), old)]).await.unwrap();
        let (reader, connection) = tokio_postgres::connect(&cluster.url("pulse"), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        reader.batch_execute("BEGIN; SELECT count(*) FROM pings; SELECT count(*) FROM telemetry_pings").await.unwrap();
        // The first ping of a day makes its partition.
        assert_eq!(collector.post(&ping_of(2)).status, 204);
        let second = setup.start();
        assert_eq!(second.post(&ping_of(3)).status, 204);
        let purge = || setup.run(&["purge"]).status.code();
        assert_eq!(purge(), Some(5), "what is being read is not dropped");
        assert_eq!(collector.post(&ping_of(4)).status, 204);
        reader.batch_execute("COMMIT").await.unwrap();
        assert_eq!(purge(), Some(0));
    });
    assert_eq!(storage.install_ids(), [2, 3, 4].map(support::collector::install_id));
}

#[test]
fn a_database_that_cannot_hold_every_ping_or_lets_nobody_look_is_refused_at_the_start() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.psql("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
    cluster.psql("postgres", "CREATE ROLE small LOGIN");
    cluster.psql("postgres", "CREATE DATABASE strict");
    cluster.psql("postgres", "REVOKE TEMPORARY ON DATABASE strict FROM PUBLIC");
    let storage = Storage::sqlite();
    for (url, reason) in [
        (cluster.url("latin"), "the database's encoding is LATIN1"),
        (cluster.url("strict").replace("user=pulse", "user=small"), "GRANT TEMPORARY ON DATABASE"),
    ] {
        let ended = Setup::new(&storage).with("STORAGE__URL", &url).run(&["run"]);
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.code() == Some(5) && said.contains(reason), "{said}");
    }
}

fn config(variables: &[(&str, &str)]) -> Result<Config, String> {
    let name = |name: &str| format!("PULSE_TELEMETRY_COLLECTOR_{name}");
    let environment = Environment::new(variables.iter().map(|(key, value)| (name(key), (*value).to_owned())));
    Config::load(None, &environment).map_err(|error| error.to_string())
}

#[test]
fn the_defaults_are_the_shipped_file_and_nothing_else_is_needed() {
    let config = config(&[]).unwrap();
    assert!(matches!(config.storage, Configured::Sqlite(_)));
    assert_eq!(config.limits.per_minute, 60);
    assert!(config.serve.listen.ip().is_loopback());
    assert!(DEFAULTS.contains("90 days"), "and it says how long pings are kept");
}

#[test]
fn what_is_wrong_is_told_at_once_with_its_key() {
    let wrong = [
        ("SERVE__LISTEN", "here"),
        ("SERVE__TLS_CERT", "/cert"),
        ("SERVE__CONNECTIONS", "1"),
        ("LIMITS__QUEUE", "many"),
        ("LIMITS__COMMIT_TIMEOUT", "1m"),
        ("STORAGE__URL", "mysql://user:hunter2@host/db"),
        ("SERVE__RETENTION", "10y"),
    ];
    for (name, value) in wrong {
        let said = config(&[(name, value)]).unwrap_err();
        let key = name.to_lowercase().replace("__", ".");
        let key = if key == "serve.tls_cert" { "serve.tls_key".to_owned() } else { key };
        assert!(said.starts_with(&key) && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_password_is_shown_nowhere_and_off_the_machine_the_connection_is_encrypted() {
    use tokio_postgres::config::SslMode;
    let mode = |url: &str| match config(&[("STORAGE__URL", url)]).unwrap().storage {
        Configured::Postgres(postgres) => postgres.connect.get_ssl_mode(),
        Configured::Sqlite(_) => panic!("not PostgreSQL"),
    };
    assert_eq!(mode("postgres://pulse:hunter2@db.example/pulse"), SslMode::Require);
    assert_eq!(mode("postgres://pulse@db.example/pulse?sslmode=prefer"), SslMode::Require);
    assert_eq!(mode("postgres://pulse@db.example/pulse?sslmode=disable"), SslMode::Disable);
    assert_eq!(mode("postgres://pulse@127.0.0.1/pulse"), SslMode::Prefer);
    let config = config(&[("STORAGE__URL", "postgres://pulse:hunter2@db.example/pulse")]).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    assert!(config.origins().iter().all(|setting| !setting.value.contains("hunter2")));
}
