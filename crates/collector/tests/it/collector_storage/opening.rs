//! Starting on a storage, and one that is not as it should be.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use pulse_telemetry_testkit::alone::run;
use pulse_telemetry_testkit::collector::{Setup, Storage, block_on, open, ping_of, row};
use pulse_telemetry_testkit::endpoint::{CertificateAuthority, Issued};
use pulse_telemetry_testkit::postgres::Cluster;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use rusqlite::Connection;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::refused;

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
fn a_file_with_a_second_name_beside_which_its_log_is_not_is_refused_before_it_is_touched() {
    let storage = Storage::sqlite();
    Setup::new(&storage).start().stop();
    let other = storage.dir().join("other");
    std::fs::hard_link(storage.file(), &other).unwrap();
    for command in ["check", "run"] {
        let ended = Setup::new(&storage).run(&[command]);
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.code() == Some(5) && said.contains("has several names"), "{command}: {said}");
    }
    std::fs::remove_file(other).unwrap();
    let collector = Setup::new(&storage).start();
    assert_eq!(collector.post(&ping_of(1)).status, 204);
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
