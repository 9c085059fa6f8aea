//! What is stored is what the contract says, also after somebody else had it in hand; and the configuration of the
//! collector.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test may fail loudly")]

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use pulse_telemetry_collector::config::{CollectorConfig, DEFAULTS, Storage as Configured};
use pulse_telemetry_process::config::Environment;
use pulse_telemetry_testkit::alone::run;
use pulse_telemetry_testkit::collector::{Setup, Storage, block_on, open, ping_of, row};
use pulse_telemetry_testkit::endpoint::{CertificateAuthority, Issued};
use pulse_telemetry_testkit::postgres::Cluster;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use rusqlite::Connection;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

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
    for storage in Storage::all() {
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
    for (path, _) in pulse_telemetry_testkit::disk::files_below(storage.dir()) {
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
fn no_start_waits_for_a_pipe_that_was_planted_beside_the_database() {
    for end in ["", "-lock", "-wal", "-shm"] {
        let storage = Storage::sqlite();
        // The database is there already.
        if !end.is_empty() {
            Setup::new(&storage).start().stop();
        }
        let pipe = format!("{}{end}", storage.file().display());
        let _ = std::fs::remove_file(&pipe);
        run("mkfifo", &[&pipe]);
        for command in [&["run"][..], &["check"], &["report"], &["purge"]] {
            let mut child = Setup::new(&storage).spawn(command);
            let ended = (0..450).any(|_| {
                std::thread::sleep(Duration::from_millis(100));
                child.try_wait().unwrap().is_some()
            });
            let _ = child.kill();
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(ended, "{command:?} waits for {end}: {said}");
            assert_eq!(output.status.code(), Some(5), "{command:?}, {end}: {said}");
            assert!(said.contains(&format!("{pipe} is not a file")), "{command:?}, {end}: {said}");
        }
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
    assert_eq!(storage.install_ids(), [pulse_telemetry_testkit::collector::install_id(1)]);
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
            let ready = collector.ask_admin("/readyz");
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
        let (stored, acknowledged) =
            (storage.install_ids(), [1, 4].map(pulse_telemetry_testkit::collector::install_id));
        assert!(acknowledged.iter().all(|id| stored.contains(id)), "{ending}: {stored:?}");
    }
}

#[test]
fn no_command_that_reads_makes_or_changes_a_storage_and_one_that_is_not_there_yet_is_told_so() {
    for storage in Storage::all() {
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
fn postgresqls_own_certificate_can_be_named_and_each_fault_of_its_tls_has_words_of_its_own() {
    let Some(cluster) = Cluster::start() else { return };
    let mut storage = Storage::postgres(cluster);
    let setup = Setup::new(&storage);
    let own = |names: &[&str]| {
        let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
        // As PostgreSQL's manual makes it with `openssl req -x509`: an authority's, for a common name.
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "localhost");
        let key = KeyPair::generate().unwrap();
        Issued { cert_pem: params.self_signed(&key).unwrap().pem(), key_pem: key.serialize_pem() }
    };
    let said = |setup: &Setup, url: &str| {
        let ended = setup.clone().with("STORAGE__URL", url).run(&["report"]);
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    let port = storage.cluster().listen(None);
    let (code, without) = said(&setup, &format!("postgres://pulse@127.0.0.1:{port}/pulse?sslmode=require"));
    assert!(code == Some(5) && without.contains("sslmode=disable"), "no TLS there: {without}");

    for (issued, words) in [(own(&["localhost"]), None), (own(&[]), Some("a common name alone does not count"))] {
        let port = storage.cluster().listen_with_tls(&issued);
        let url = format!("postgres://pulse@localhost:{port}/pulse?sslmode=require");
        let file = setup.write("own.pem", &issued.cert_pem);
        let named = setup.clone().with("STORAGE__CA_FILE", file.to_str().unwrap());
        let by_variable = setup.clone().with_variable("SSL_CERT_FILE", file.to_str().unwrap());
        for named in [named, by_variable] {
            let (code, told) = said(&named, &url);
            match words {
                None => assert!(told.contains("no pings yet"), "{told}"),
                Some(words) => assert!(code == Some(5) && told.contains(words), "{told}"),
            }
        }
        let (code, told) = said(&setup, &url);
        assert!(code == Some(5) && told.contains("an authority's own"), "{told}");
    }
}

#[test]
fn the_collectors_certificates_are_read_by_the_same_rules_as_the_sidecars() {
    let storage = Storage::sqlite();
    let setup = Setup::new(&storage);
    let issued = CertificateAuthority::new().issue_for_loopback();
    let der = CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).unwrap().to_vec();
    let write = |name: &str, content: &[u8]| {
        let path = setup.write(name, "");
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (cert, key) = (issued.cert_pem.clone(), issued.key_pem.clone());
    let marked = |text: &str| format!("\u{feff}{text}").into_bytes();
    let with = |cert: &[u8], key: &[u8]| {
        let setup = setup.clone().with("SERVE__TLS_CERT", &write("cert.pem", cert));
        setup.with("SERVE__TLS_KEY", &write("key.pem", key))
    };
    let both = [cert.as_bytes(), key.as_bytes()].concat();
    for (cert, key) in [(marked(&cert), marked(&key)), (both.clone(), both)] {
        let ended = with(&cert, &key).run(&["check"]);
        assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    let trusted = cert.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
    let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
    for (cert, key, words) in [
        (&der[..], key.as_bytes(), "serve.tls_cert: ... DER"),
        (trusted.as_bytes(), key.as_bytes(), "serve.tls_cert: ... TRUSTED CERTIFICATE"),
        (cert.as_bytes(), &der, "serve.tls_key: ... DER"),
        (cert.as_bytes(), encrypted.as_bytes(), "serve.tls_key: ... `openssl pkey -in"),
        (cert.as_bytes(), cert.as_bytes(), "serve.tls_key: ... no private key"),
    ] {
        let ended = with(cert, key).run(&["check"]);
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(3), "{said}");
        assert!(words.split("...").all(|part| said.contains(part.trim())), "{words}: {said}");
    }
    let off_the_machine = setup.clone().with("STORAGE__URL", "postgres://pulse@192.0.2.1/pulse");
    for (name, content) in [("nothing", &b""[..]), ("der", &der), ("trusted", trusted.as_bytes())] {
        let path = write(name, content);
        let by_key = off_the_machine.clone().with("STORAGE__CA_FILE", &path);
        let by_variable = off_the_machine.clone().with_variable("SSL_CERT_FILE", &path);
        for (setup, key) in [(by_key, "storage.ca_file"), (by_variable, "SSL_CERT_FILE")] {
            let ended = setup.run(&["check"]);
            let said = String::from_utf8(ended.stderr).unwrap();
            assert!(ended.status.code() == Some(3) && said.contains(&format!("{key}: {path}: ")), "{said}");
        }
    }
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
        // The collectors purge by themselves as they start, and only one does at a time.
        let purge = || {
            std::iter::repeat_with(|| setup.run(&["purge"]))
                .find(|ended| !ended.stdout.starts_with(b"Another collector"))
                .and_then(|ended| ended.status.code())
        };
        assert_eq!(purge(), Some(5), "what is being read is not dropped");
        assert_eq!(collector.post(&ping_of(4)).status, 204);
        reader.batch_execute("COMMIT").await.unwrap();
        assert_eq!(purge(), Some(0));
    });
    assert_eq!(storage.install_ids(), [2, 3, 4].map(pulse_telemetry_testkit::collector::install_id));
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

fn config(variables: &[(&str, &str)]) -> Result<CollectorConfig, String> {
    let name = |name: &str| format!("PULSE_TELEMETRY_COLLECTOR_{name}");
    let environment = Environment::new(variables.iter().map(|(key, value)| (name(key), (*value).to_owned())));
    CollectorConfig::load(None, &environment).map_err(|error| error.to_string())
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
    assert_eq!(mode("postgres://pulse@127.0.0.1/pulse"), SslMode::Disable);
    let config = config(&[("STORAGE__URL", "postgres://pulse:hunter2@db.example/pulse")]).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    assert!(config.origins().iter().all(|setting| !setting.value.contains("hunter2")));
}

/// What `storage.url` is refused with.
fn refusal(url: &str) -> String {
    config(&[("STORAGE__URL", url)]).unwrap_err()
}

fn postgres(url: &str) -> pulse_telemetry_collector::config::Postgres {
    match config(&[("STORAGE__URL", url)]).unwrap().storage {
        Configured::Postgres(postgres) => *postgres,
        Configured::Sqlite(_) => panic!("not PostgreSQL: {url}"),
    }
}

#[test]
fn a_login_that_can_be_read_in_more_than_one_way_is_refused_before_any_of_it_is_shown_or_looked_up() {
    let storage = Storage::sqlite();
    for scheme in ["postgres", "postgresql", "POSTGRES"] {
        for url in [
            "pulse:hunter@Secret2024@127.0.0.1:1/pulse",
            "pulse:hunter/Secret2024@127.0.0.1:1/pulse",
            "pulse:hunter?Secret2024@127.0.0.1:1/pulse",
            "pulse:hunter?sslmode=Secret2024@127.0.0.1:1/pulse",
            "pulse:hunter#Secret2024@127.0.0.1:1/pulse",
            "pulse:hunter:Secret2024@127.0.0.1:1/pulse",
            "pulse:hunter[Secret2024@127.0.0.1:1/pulse",
            "pulse:hunter]Secret2024@127.0.0.1:1/pulse",
            "pulse:hunter%Secret2024@127.0.0.1:1/pulse",
            "pulse:hunter%00Secret2024@127.0.0.1:1/pulse",
            "hunter@Secret2024@127.0.0.1:1/pulse",
            "pulse:hunter%40x@Secret2024@127.0.0.1:1/pulse",
            "pulse:hunter2@127.0.0.1:1/pulse@Secret2024",
            "pulse@127.0.0.1:1/pulse?application_name=hunter@Secret2024",
            "127.0.0.1:1/pulse?user=pulse&password=hunter@Secret2024",
            "127.0.0.1:1/pulse?user=pulse&password=hunter&Secret2024=x",
            "127.0.0.1:1/pulse?user=pulse&password=hunter&Secret2024",
            "127.0.0.1:1/pulse?user=pulse&password=hunter=Secret2024",
            "127.0.0.1:1/pulse?user=pulse&password=hunter#Secret2024",
            "pulse:hunter2@127.0.0.1:1/pulse?password=Secret2024",
            "pulse:hunter2/Secret2024",
            "pulse:Secret2024/127.0.0.1/pulse",
            "pulse:hunter Secret2024@127.0.0.1:1/pulse",
        ] {
            let said = refusal(&format!("{scheme}://{url}"));
            assert!(said.starts_with("storage.url from "), "{said}");
            assert!(!said.contains("Secret") && !said.contains("hunter"), "{url}: {said}");
        }
    }
    let url = "postgres://pulse:hunter@Secret2024@127.0.0.1:1/pulse";
    let setup = Setup::new(&storage).with("STORAGE__URL", url);
    for command in [&["check"][..], &["run"], &["purge"], &["report"], &["export", "--sqlite", "./out"]] {
        let ended = setup.run(command);
        let said = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
        assert!(ended.status.code() == Some(3) && !said.contains("Secret") && !said.contains("hunter"), "{said}");
        assert!(said.contains("%40 for @") && said.contains("storage.password_file"), "{said}");
    }
}

#[test]
fn every_character_of_a_password_can_be_written_encoded_and_reaches_the_driver_as_it_is() {
    let password: String = (1_u8..=126).map(char::from).chain("é€😀".chars()).collect();
    let encoded: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let of = |url: &str| postgres(url).connect.get_password().map(<[u8]>::to_vec);
    assert_eq!(of(&format!("postgres://pulse:{encoded}@127.0.0.1/pulse")), Some(password.clone().into_bytes()));
    assert_eq!(of(&format!("postgres://127.0.0.1/pulse?user=a&password={encoded}")), Some(password.into_bytes()));
    // What no program takes for the end of a login may stand as it is.
    let plain = "a-z_0.9~!$&'()*+,;=";
    assert_eq!(of(&format!("postgres://pulse:{plain}@127.0.0.1/pulse")), Some(plain.as_bytes().to_vec()));
    let connect = postgres("postgres://p%40x:@db.example:5433/a%2Fb").connect;
    assert_eq!(
        (connect.get_user(), connect.get_dbname(), connect.get_ports()),
        (Some("p@x"), Some("a/b"), &[5433][..])
    );
}

#[test]
fn each_word_of_sslmode_is_taken_and_none_checks_less_than_it_says() {
    use tokio_postgres::config::SslMode::{Disable, Require};
    let words = ["", "?sslmode=allow", "?sslmode=prefer", "?sslmode=disable", "?sslmode=require"];
    let modes =
        |host: &str| words.map(|word| postgres(&format!("postgres://pulse@{host}/pulse{word}")).connect.get_ssl_mode());
    for here in ["127.0.0.1", "localhost", "LOCALHOST:5433", "[::1]", "127.9.9.9", "127.0.0.1,[::1]"] {
        assert_eq!(modes(here), [Disable, Disable, Disable, Disable, Require], "{here}");
    }
    for elsewhere in ["db.example", "10.0.0.5", "127.0.0.1,db.example", "localhost.example"] {
        assert_eq!(modes(elsewhere), [Require, Require, Require, Disable, Require], "{elsewhere}");
    }
    for word in ["verify-ca", "verify-full"] {
        for host in ["127.0.0.1", "db.example"] {
            let url = format!("postgres://pulse@{host}/pulse?sslmode={word}");
            assert_eq!(postgres(&url).connect.get_ssl_mode(), Require, "{url}");
        }
    }
    let mode = |url: &str| postgres(url).connect.get_ssl_mode();
    // There is no TLS on a socket, whatever is asked for.
    assert_eq!(mode("postgres:///pulse?host=/run/postgresql&sslmode=verify-full"), Disable);
    assert_eq!(mode("postgres://localhost/pulse?hostaddr=10.0.0.5"), Require);
    assert_eq!(mode("postgres://db.example/pulse?hostaddr=127.0.0.1"), Require);
}

#[test]
fn what_is_wrong_with_a_url_of_postgresql_is_named_and_no_value_is() {
    for (url, named) in [
        ("postgres://u:hunter2@127.0.0.1/db?sslmode=secret", "sslmode"),
        ("postgres://u:hunter2@127.0.0.1/db?sslmode=verify-full&sslrootcert=/etc/secret.pem", "storage.ca_file"),
        ("postgres://u:hunter2@127.0.0.1/db?sslrootcert=secret", "sslrootcert"),
        ("postgres://u:hunter2@127.0.0.1/db?sslcert=/secret", "sslcert"),
        ("postgres://u:hunter2@127.0.0.1/db?target_session_attrs=secret", "target_session_attrs"),
        ("postgres://u:hunter2@127.0.0.1/db?schema=secret", "parameter schema"),
        ("postgres://u:hunter2@127.0.0.1/db?currentSchema=secret", "parameter currentSchema"),
        ("postgres://u:hunter2@127.0.0.1/db?connect_timeout=secret", "connect_timeout"),
        ("postgres://u:hunter2@127.0.0.1/db?channel_binding=secret", "channel_binding"),
        ("postgres://u:hunter2@127.0.0.1:secret/db", "bad port"),
        ("postgres://u:hunter2@127.0.0.1:0/db", "bad port"),
        ("postgres://u:hunter2@127.0.0.1:65536/db", "bad port"),
        ("postgres://u:hunter2@127.0.0.1:/db", "bad port"),
        ("postgres://u:hunter2@sec!ret/db", "bad host"),
        ("postgres://u:hunter2@secret..example/db", "bad host"),
        ("postgres://u:hunter2@127.0.0.1,/db", "bad host"),
        ("postgres://u:hunter2@[fe80::1%25eth0]/db", "zone"),
        ("postgres://u:hunter2@127.0.0.1/secret/db", "bad path"),
        ("postgres://u:hunter2@127.0.0.1/secret ", "blank"),
        (" postgres://u:hunter2@127.0.0.1/secret", "blank"),
        ("postgres://u:hunter2@127.0.0.1/se cret", "blank"),
        ("postgres://u:hunter2@/secret", "names no host"),
        ("postgres:///secret", "?host=/run/postgresql"),
        ("postgres://u@127.0.0.1/db?host=/secret", "parameter host"),
        ("postgres://u@127.0.0.1/db?sslmode=require&sslmode=disable", "twice"),
        ("postgres://:hunter2@127.0.0.1/secret", "must name a user"),
        ("postgres:u:hunter2@127.0.0.1/secret", "two slashes"),
    ] {
        let said = refusal(url);
        assert!(said.contains(named), "{url}: {said}");
        assert!(
            !said.contains("hunter2") && !said.contains("secret") && !said.contains("must be sqlite"),
            "{url}: {said}"
        );
    }
}

#[test]
fn urls_as_providers_hand_them_out_are_taken() {
    for url in [
        "postgres://u:p@ep-x.neon.example/db?sslmode=require&channel_binding=require",
        "POSTGRES://u:p@db.example/db?sslmode=verify-full",
        "PostgreSQL://u:p@db.example:25060/defaultdb?sslmode=verify-ca&connect_timeout=10",
        "postgresql://u:p@a.example:5432,b.example:5433/db?target_session_attrs=read-write",
        "postgres://u:p@db.example./db",
        "postgres://u:p@[2001:db8::1]:5432/db",
        "postgres://u:p@db_1/db?options=-c%20search_path%3Dtelemetry",
        "postgres://%2Frun%2Fpostgresql/db",
        "postgres:///db?host=/run/postgresql&port=5433&user=pulse",
        "postgres://u:p@db.example/db?",
    ] {
        let config = config(&[("STORAGE__URL", url)]).unwrap();
        assert!(matches!(config.storage, Configured::Postgres(_)), "{url}");
        let shown = config.origins().iter().find(|setting| setting.key == "storage.url").unwrap();
        assert!(!shown.value.contains("u:p"), "{}", shown.value);
    }
}

#[test]
fn any_text_on_one_line_of_the_password_file_is_the_password_without_the_lines_end() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    let variables =
        [("STORAGE__URL", "postgres://pulse@127.0.0.1/pulse"), ("STORAGE__PASSWORD_FILE", file.to_str().unwrap())];
    let Configured::Postgres(postgres) = config(&variables).unwrap().storage else { panic!("not PostgreSQL") };
    let read = |content: &[u8]| {
        std::fs::write(&file, content).unwrap();
        let password = postgres.read_password().map_err(|error| error.to_string())?;
        Ok::<_, String>(secrecy::ExposeSecret::expose_secret(&password.unwrap()).to_owned())
    };
    for password in ["hunter2", "pä ss wörd", " blanks at both ends ", "tab\there", "@:/?#[]%\\'\"", "日本語", "="]
    {
        for end in ["", "\n", "\r\n"] {
            assert_eq!(read(format!("{password}{end}").as_bytes()).as_deref(), Ok(password));
        }
    }
    for content in [&b""[..], b"\n", b"one hunter2\ntwo", b"hunter2\0", b"hunter2\xff", &[b'x'; 5000]] {
        let said = read(content).unwrap_err();
        assert!(said.starts_with("storage.password_file: ") && !said.contains("hunter2"), "{said}");
        assert!(!said.contains("token"), "{said}");
    }
}

#[test]
fn a_password_where_the_path_of_its_file_belongs_is_not_shown() {
    for written in ["hunter2", "hunter2/x", "~/hunter2"] {
        let said = config(&[("STORAGE__PASSWORD_FILE", written)]).unwrap_err();
        assert!(said.starts_with("storage.password_file ") && !said.contains("hunter2"), "{said}");
        assert!(said.contains("the password"), "{said}");
    }
}

#[test]
fn a_url_of_sqlite_is_read_as_it_is_written_or_refused_by_the_name_of_what_it_cannot_have() {
    for (url, path) in [
        ("sqlite:/data/p.sqlite", "/data/p.sqlite"),
        ("sqlite:///data/p.sqlite", "/data/p.sqlite"),
        ("SQLite:/data/with blank%20.sqlite", "/data/with blank%20.sqlite"),
    ] {
        match config(&[("STORAGE__URL", url)]).unwrap().storage {
            Configured::Sqlite(found) => assert_eq!(found, std::path::Path::new(path)),
            Configured::Postgres(_) => panic!("{url}"),
        }
    }
    for (url, named) in [
        ("sqlite:/data/p.sqlite?mode=rwc", "parameters"),
        ("sqlite:///data/p.sqlite?mode=rwc", "parameters"),
        ("sqlite:/data/p.sqlite#x", "fragment"),
        ("sqlite://data/p.sqlite", "host"),
        ("sqlite://u:hunter2@data/p.sqlite", "host"),
        ("sqlite:data/p.sqlite", "absolute"),
        ("sqlite:./p.sqlite", "absolute"),
        ("sqlite::memory:", "absolute"),
        ("sqlite:", "absolute"),
        ("sqlite:/data/", "a file"),
        ("sqlite:/data/p.sqlite ", "blank"),
    ] {
        let said = refusal(url);
        assert!(said.starts_with("storage.url from ") && said.contains(named) && !said.contains("hunter2"), "{said}");
    }
}
