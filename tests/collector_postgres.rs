//! PostgreSQL as people run it: behind a pooler, with TLS or without, with small roles, restarted, and read-only after a
//! failover; and cells that somebody changed by hand.
#![cfg(feature = "collector")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use std::net::TcpListener;
use std::process::Output;

use rusqlite::Connection;
use support::collector::{Setup, Storage, block_on, install_id, ping_of};
use support::endpoint::CertificateAuthority;
use support::postgres::Cluster;

fn said(ended: &Output) -> String {
    String::from_utf8_lossy(&[&ended.stdout[..], &ended.stderr[..]].concat()).into_owned()
}

/// What whoever gets the pooler's one connection next finds on it.
fn left_behind(url: &str) -> String {
    block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let query = "SELECT concat_ws(' ', (SELECT count(*) FROM pg_prepared_statements),
            (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
            (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),
            current_setting('statement_timeout'), current_setting('lock_timeout'),
            current_setting('idle_in_transaction_session_timeout'), current_setting('enable_seqscan'),
            current_setting('default_transaction_read_only'), current_setting('tcp_keepalives_idle'))";
        let answer = client.simple_query(query).await.unwrap();
        let row = answer.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        row.unwrap().to_owned()
    })
}

#[test]
fn behind_a_pooler_in_transaction_mode_nothing_outlives_its_transaction_over_restarts_of_either() {
    let Some(cluster) = Cluster::start_with_pooler() else { return };
    let mut storage = Storage::postgres(cluster);
    let setup = Setup::new(&storage);
    let file = setup.write("place", "").with_file_name("export.sqlite");
    for round in 0..3 {
        let collectors = [setup.start(), setup.start()];
        for number in 0..8_u8 {
            let reply = collectors[usize::from(number % 2)].post(&ping_of(round * 16 + u64::from(number)));
            assert_eq!(reply.status, 204, "round {round}: {}", reply.text());
        }
        let export = ["export", "--sqlite", file.to_str().unwrap()];
        for command in [&["report"][..], &export, &["purge"], &["check"]] {
            let ended = setup.run(command);
            assert_eq!(ended.status.code(), Some(0), "{command:?}: {}", said(&ended));
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(left_behind(&storage.url()), "0 0 0 0 0 0 on off 0");
        storage.cluster().restart_pooler();
        for number in 8..16 {
            let collector = &collectors[0];
            // What was sent into the old connection is sent again by its sender.
            collector.wait_for("it is stored", || collector.post(&ping_of(round * 16 + number)).status == 204);
        }
        let [one, other] = collectors;
        one.stop();
        other.kill();
    }
    let expected: Vec<String> = (0..48).map(install_id).collect();
    assert_eq!(storage.install_ids(), expected);
}

#[test]
fn a_cell_that_cannot_be_read_is_an_error_that_names_column_and_day_and_never_a_zero() {
    for storage in Storage::both() {
        let setup = Setup::new(&storage);
        let collector = setup.start();
        assert_eq!(collector.post(&ping_of(1)).status, 204);
        collector.stop();
        let table = storage.columns().into_keys().find(|table| table.starts_with("pings_")).unwrap();
        let day = format!("{}-{}-{}", &table[6..10], &table[10..12], &table[12..14]);
        let cells = match storage {
            Storage::Sqlite(_) => &[
                ("vms", "-1"),
                ("vms", "4294967296"),
                ("ai_enabled", "2"),
                ("version", "CAST(x'36ff' AS TEXT)"),
                ("version_raw", "CAST(x'ff' AS TEXT)"),
                ("received_at", "'2026-13-23 12:00:00'"),
            ][..],
            Storage::Postgres(_) => &[("vms", "-1"), ("containers", "-2147483648"), ("vms", "NULL")],
        };
        let change = |statement: &str| match &storage {
            Storage::Sqlite(_) => Connection::open(storage.file()).unwrap().execute_batch(statement).unwrap(),
            Storage::Postgres(cluster) => drop(cluster.psql("pulse", statement)),
        };
        if let Storage::Postgres(cluster) = &storage {
            cluster.psql("pulse", "ALTER TABLE pings ALTER vms DROP NOT NULL");
        }
        let file = setup.write("place", "").with_file_name("export.sqlite");
        let export = ["export", "--sqlite", file.to_str().unwrap()];
        for (column, value) in cells {
            change(&format!("CREATE TABLE kept AS SELECT * FROM {table}"));
            change(&format!("UPDATE {table} SET {column} = {value}"));
            for command in [&["report"][..], &["report", "--json"], &export] {
                let ended = setup.run(command);
                let said = said(&ended);
                assert_eq!(ended.status.code(), Some(5), "{}: {column} = {value}: {said}", storage.name());
                assert!(ended.stdout.is_empty() && said.contains(&format!("column {column} of {day}")), "{said}");
            }
            assert!(!file.exists() && !file.with_extension("sqlite.new").exists());
            change(&format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept; DROP TABLE kept"));
        }
        for command in [&["report"][..], &export] {
            assert_eq!(setup.run(command).status.code(), Some(0));
        }
    }
}

#[test]
fn on_this_machine_a_server_whose_certificate_nobody_knows_is_used_unless_the_url_asks_for_tls() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.database("pulse");
    let port = cluster.listen_with_tls(&CertificateAuthority::new().issue_for_loopback());
    let mut hosts = vec!["127.0.0.1", "localhost", "LOCALHOST"];
    hosts.extend(TcpListener::bind("[::1]:0").is_ok().then_some("[::1]"));
    for host in hosts {
        for (mode, code) in [
            ("", 0),
            ("?sslmode=prefer", 0),
            ("?sslmode=allow", 0),
            ("?sslmode=disable", 0),
            ("?sslmode=require", 5),
            ("?sslmode=verify-ca", 5),
            ("?sslmode=verify-full", 5),
        ] {
            let url = format!("postgres://pulse@{host}:{port}/pulse{mode}");
            let ended = Setup::new(&Storage::sqlite()).with("STORAGE__URL", &url).run(&["check"]);
            assert_eq!(ended.status.code(), Some(code), "{url}: {}", said(&ended));
            assert!(code == 0 || said(&ended).contains("certificate"), "{url}: {}", said(&ended));
        }
    }
}

#[test]
fn what_postgresql_does_not_let_the_collector_do_is_told_with_the_statement_that_ends_it() {
    let Some(mut cluster) = Cluster::start() else { return };
    let port = cluster.listen(None);
    cluster.database("pulse");
    cluster.psql("pulse", "CREATE ROLE small LOGIN; CREATE ROLE \"An Other\" LOGIN");
    let storage = Storage::sqlite();
    let setup = |url: &str| Setup::new(&storage).with("STORAGE__URL", url);
    let told = |url: &str, words: &str| {
        let ended = setup(url).run(&["run"]);
        let said = said(&ended);
        assert!(ended.status.code() == Some(5) && said.contains(words), "{url}: {said}");
    };
    let of = |role: &str| cluster.url("pulse").replace("user=pulse", &format!("user={role}"));
    // As the messages say, one after the other; the quotes are there where a name needs them.
    for (role, quoted) in [("small", "small"), ("An%20Other", "\"An Other\"")] {
        let grant = format!("GRANT USAGE, CREATE ON SCHEMA public TO {quoted}");
        told(&of(role), &grant);
        cluster.psql("pulse", &grant);
    }
    setup(&of("small")).start().stop();
    let owner = "ALTER TABLE pings OWNER TO \"An Other\"";
    told(&of("An%20Other"), owner);
    cluster.psql("pulse", owner);
    cluster.psql("pulse", "ALTER VIEW telemetry_pings OWNER TO \"An Other\"");
    setup(&of("An%20Other")).start().stop();
    told(&cluster.url("nowhere"), "make it with CREATE DATABASE");
    told(&format!("postgres://pulse@127.0.0.1:{port}/pulse?sslmode=require"), "switch it on there (ssl = on)");
    told(
        &format!("postgres://pulse@127.0.0.1:{port}/pulse?options=-c%20search_path%3Dnone"),
        "GRANT USAGE, CREATE ON SCHEMA",
    );
}

#[test]
fn a_restart_and_a_failover_that_leaves_the_server_read_only_cost_no_ping_and_are_told() {
    let Some(cluster) = Cluster::start() else { return };
    let mut storage = Storage::postgres(cluster);
    let url = storage.url().replace("host=", "host=/nonexistent,");
    let setup = Setup::new(&storage).with("STORAGE__URL", &format!("{url}&target_session_attrs=any"));
    let collector = setup.start();
    assert_eq!(collector.post(&ping_of(1)).status, 204, "the second host answers");
    let read_only = |storage: &mut Storage, on: &str| {
        let cluster = storage.cluster();
        cluster.psql("postgres", &format!("ALTER SYSTEM SET default_transaction_read_only = {on}"));
        cluster.psql("postgres", "SELECT pg_reload_conf()");
    };
    read_only(&mut storage, "on");
    collector.wait_for("it is read-only", || collector.post(&ping_of(2)).status == 503);
    let said = collector.wait_for_log("it is a standby, or set to read only");
    assert!(said.contains("25006") && said.contains("target_session_attrs=read-write"), "{said}");
    read_only(&mut storage, "off");
    collector.wait_for("it takes writes", || collector.post(&ping_of(3)).status == 204);
    storage.cluster().stop();
    assert_eq!(collector.post(&ping_of(4)).status, 503);
    storage.cluster().restart();
    collector.wait_for("it is back", || collector.post(&ping_of(4)).status == 204);
    collector.stop();
    let expected: Vec<String> = [1, 3, 4].map(install_id).into();
    assert_eq!(storage.install_ids().into_iter().filter(|id| *id != install_id(2)).collect::<Vec<_>>(), expected);
}
