//! PostgreSQL as people run it: behind a pooler, with TLS or without, with small roles, restarted, and read-only after
//! a failover; and cells that somebody changed by hand.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::net::TcpListener;
use std::process::Output;

use jiff::SignedDuration;
use pulse_telemetry_collector::storage::day_of;
use pulse_telemetry_core::clock::Clock as _;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::collector::{Setup, Storage, block_on, expected_row, install_id, open, ping_of, row};
use pulse_telemetry_testkit::endpoint::CertificateAuthority;
use pulse_telemetry_testkit::postgres::Cluster;
use rusqlite::Connection;
use serde_json::{Map, Value};

use super::collector_numbers::settled;

fn said(ended: &Output) -> String {
    String::from_utf8_lossy(&[&ended.stdout[..], &ended.stderr[..]].concat()).into_owned()
}

/// What the next user of the pooler's one connection finds on it.
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
fn a_day_that_is_locked_as_by_a_rewriting_holds_up_no_ping_and_no_start_and_a_deletion_is_put_off_at_once() {
    let Some(cluster) = Cluster::start() else { return };
    let storage = Storage::postgres(cluster);
    let Storage::Postgres(cluster) = &storage else { return };
    let now = SystemClock.now().wall;
    let before = |days: i64| now - SignedDuration::from_hours(24 * days);
    let setup = Setup::new(&storage);
    let collector = setup.start();
    let table = format!("pings_{}", day_of(before(4)).strftime("%Y%m%d"));
    for (first, statement) in
        [(0, format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")), (10, format!("REINDEX TABLE {table}"))]
    {
        block_on(async {
            let store = open(&storage).await;
            for days in [1, 3, 4, 5] {
                let old = row(&ping_of(first + days), before(days.try_into().unwrap()));
                store.commit(vec![old]).await.unwrap();
            }
        });
        cluster.psql("pulse", &format!("BEGIN; {statement}; PREPARE TRANSACTION 'rewriting'"));
        let other = setup.start();
        // Of yesterday, of a day that can be read, of the one that cannot, and new ones.
        for (collector, numbers) in [(&collector, [1, 4, 6]), (&other, [3, 7, 8])] {
            for number in numbers {
                let reply = collector.post(&ping_of(first + number));
                assert_eq!(reply.status, 204, "{statement}: {number}: {}", reply.text());
            }
            assert_eq!(collector.forget(&install_id(first + 5)).status, 503, "{statement}");
            collector.wait_for_log("is locked, as it is while it is rewritten");
        }
        let size = block_on(async { open(&storage).await.size().await.unwrap_err().to_string() });
        assert!(size.contains("is locked"), "{statement}: nobody is left waiting: {size}");
        cluster.psql("pulse", "ROLLBACK PREPARED 'rewriting'");
        assert_eq!(other.forget(&install_id(first + 5)).status, 200, "{statement}");
        assert!(!storage.install_ids().contains(&install_id(first + 5)), "{statement}");
    }
}

#[test]
fn a_cell_that_cannot_be_read_is_an_error_that_names_column_and_day_and_never_a_zero() {
    for storage in Storage::all() {
        let setup = Setup::new(&storage);
        let now = settled();
        block_on(async {
            let store = open(&storage).await;
            let before = |days: i64| now - SignedDuration::from_hours(24 * days);
            for days in [2, 1] {
                store.commit(vec![row(&ping_of(1), before(days))]).await.unwrap();
            }
        });
        let table = storage.columns().into_keys().rfind(|table| table.starts_with("pings_")).unwrap();
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
                // What is counted needs neither of these.
                if command[0] == "report" && ["version_raw", "received_at"].contains(column) {
                    continue;
                }
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
    for beside in ["VIEW telemetry_pings", "TABLE published_days", "TABLE rounding_key", "TABLE forgotten_days"] {
        cluster.psql("pulse", &format!("ALTER {beside} OWNER TO \"An Other\""));
    }
    setup(&of("An%20Other")).start().stop();
    told(&cluster.url("nowhere"), "make it with CREATE DATABASE");
    told(&format!("postgres://pulse@127.0.0.1:{port}/pulse?sslmode=require"), "switch it on there (ssl = on)");
    told(
        &format!("postgres://pulse@127.0.0.1:{port}/pulse?options=-c%20search_path%3Dnone"),
        "GRANT USAGE, CREATE ON SCHEMA",
    );
}

#[test]
fn where_a_policy_hides_rows_from_the_collector_no_deletion_is_acknowledged() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.database("pulse");
    cluster.psql("pulse", "CREATE ROLE small LOGIN; GRANT CREATE ON SCHEMA public TO small");
    let url = cluster.url("pulse").replace("user=pulse", "user=small");
    let collector = Setup::new(&Storage::sqlite()).with("STORAGE__URL", &url).start();
    assert_eq!(collector.post(&ping_of(1)).status, 204);
    cluster.psql("pulse", "CREATE POLICY hides ON pings USING (false) WITH CHECK (true)");
    let policies = |on: &str| cluster.psql("pulse", &format!("ALTER TABLE pings {on} ROW LEVEL SECURITY"));
    // The owner's own rows are hidden only where that is forced.
    for on in ["ENABLE", "FORCE"] {
        policies(on);
    }
    assert_eq!(collector.forget(&install_id(1)).status, 503);
    assert!(collector.wait_for_log("row-level security").contains("42501"));
    policies("NO FORCE");
    assert_eq!(collector.forget(&install_id(1)).status, 200);
    assert_eq!(cluster.psql("pulse", "SELECT count(*) FROM pings").trim(), "0");
}

#[test]
fn no_commit_has_its_statement_compiled_which_takes_longer_than_to_run_it() {
    for storage in Storage::all() {
        let Storage::Postgres(cluster) = &storage else { continue };
        block_on(async {
            let store = open(&storage).await;
            cluster.psql("pulse", "ALTER DATABASE pulse SET jit = on");
            cluster.psql("pulse", "ALTER TABLE pings ADD CHECK (current_setting('jit') = 'off')");
            store.commit(vec![row(&ping_of(1), SystemClock.now().wall)]).await.unwrap();
        });
    }
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

fn fixture(name: &str) -> std::path::PathBuf {
    pulse_telemetry_testkit::project().join("tests/fixtures/collector-1").join(name)
}

/// Puts what the first version wrote into a storage.
fn take_up(storage: &Storage) {
    match storage {
        Storage::Sqlite(_) => drop(std::fs::copy(fixture("pings.sqlite"), storage.file()).unwrap()),
        Storage::Postgres(cluster) => {
            drop(cluster.psql("pulse", &std::fs::read_to_string(fixture("pings.sql")).unwrap()));
        }
    }
}

fn without_its_time(mut row: Map<String, Value>) -> Map<String, Value> {
    row.remove("received_at");
    row
}

#[test]
fn what_the_first_version_stored_and_how_it_was_configured_is_taken_up_without_loss() {
    let pings = std::fs::read_to_string(fixture("pings.json")).unwrap();
    let pings: Vec<Value> = serde_json::from_str(&pings).unwrap();
    for storage in Storage::all() {
        take_up(&storage);
        let setup = Setup::new(&storage);
        let run = |command: &str| {
            let ended = setup.run(&[command]);
            (ended.status.code(), said(&ended))
        };
        assert_eq!(run("check").0, Some(0), "{}: {}", storage.name(), run("check").1);
        // It has no key yet, and numbers by another one each time would be averaged.
        let (code, told) = run("report");
        assert!(code == Some(5) && told.contains("start this one on it once"), "{}: {told}", storage.name());
        let collector = setup.start();
        assert_eq!(collector.post(&ping_of(9)).status, 204);
        collector.stop();
        assert_eq!(run("report").0, Some(0), "{}: {}", storage.name(), run("report").1);
        let expected: Vec<_> = pings.iter().chain([&ping_of(9)]).map(expected_row).collect();
        let mut rows: Vec<_> = storage.rows().into_iter().map(without_its_time).collect();
        rows.sort_by_key(|row| row["install_id"].to_string());
        assert_eq!(rows, expected, "{}", storage.name());
    }
    let written = fixture("collector.toml");
    let ended = Setup::new(&Storage::sqlite()).run(&["check", "--config", written.to_str().unwrap()]);
    assert_eq!(ended.status.code(), Some(0), "{}", said(&ended));
}

#[test]
fn a_storage_of_a_newer_version_is_refused_by_every_command_and_left_as_it_is() {
    for storage in Storage::all() {
        take_up(&storage);
        match &storage {
            Storage::Sqlite(_) => {
                let connection = Connection::open(storage.file()).unwrap();
                connection.execute_batch("PRAGMA user_version = 3; PRAGMA journal_mode = DELETE").unwrap();
            }
            Storage::Postgres(cluster) => {
                drop(cluster.psql("pulse", "COMMENT ON TABLE pings IS 'pulse-telemetry-collector, version 2'"));
            }
        }
        let all = || match &storage {
            Storage::Sqlite(_) => pulse_telemetry_testkit::disk::files_below(storage.dir())
                .into_iter()
                .map(|(path, content)| (path.display().to_string(), content))
                .collect(),
            Storage::Postgres(cluster) => vec![(String::new(), cluster.dump("pulse").into_bytes())],
        };
        let before = all();
        let setup = Setup::new(&storage);
        let file = setup.write("place", "").with_file_name("export.sqlite");
        let export = ["export", "--sqlite", file.to_str().unwrap()];
        for command in [&["run"][..], &["check"], &["purge"], &["report"], &export] {
            let ended = setup.run(command);
            let said = said(&ended);
            assert_eq!(ended.status.code(), Some(5), "{}: {command:?}: {said}", storage.name());
            let expected = match storage {
                Storage::Sqlite(_) => "is 3, and this program knows 2: use the newer program",
                Storage::Postgres(_) => "is 2, and this program knows 1: use the newer program",
            };
            assert!(said.contains(expected), "{said}");
            assert!(all() == before, "{}: {command:?} left it otherwise", storage.name());
        }
    }
}

#[test]
fn whatever_ends_a_start_ends_a_check_with_the_same_code_and_words_and_the_check_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::create_dir(path("directory")).unwrap();
    std::fs::write(path("text"), "this is no database, and is not made one either").unwrap();
    std::fs::write(path("file"), "").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let storage = Storage::sqlite();
    let mut cases = vec![
        vec![("STORAGE__URL", format!("sqlite:{}", path("directory")))],
        vec![("STORAGE__URL", format!("sqlite:{}", path("text")))],
        vec![("STORAGE__URL", format!("sqlite:{}", path("nowhere/pings.sqlite")))],
        vec![("STORAGE__URL", format!("sqlite:{}", path("file/pings.sqlite")))],
        vec![("STORAGE__URL", "sqlite:/proc/pings.sqlite".to_owned())],
        vec![("STORAGE__URL", "postgres:///x?host=/nonexistent".to_owned())],
        vec![("STORAGE__URL", "postgres://x@127.0.0.1/x".to_owned()), ("STORAGE__PASSWORD_FILE", path("nowhere"))],
        vec![("SERVE__TLS_CERT", path("nowhere")), ("SERVE__TLS_KEY", path("nowhere"))],
        vec![("SERVE__TLS_CERT", path("text")), ("SERVE__TLS_KEY", path("text"))],
        vec![("SERVE__LISTEN", address.clone())],
        vec![("SERVE__LISTEN", "192.0.2.1:1".to_owned())],
        vec![("ADMIN__LISTEN", address.clone())],
        vec![("SERVE__LISTEN", "127.0.0.1:1".to_owned()), ("ADMIN__LISTEN", "127.0.0.1:1".to_owned())],
        vec![("ADMIN__LISTEN", "192.0.2.1:1".to_owned())],
        vec![("ADMIN__TOKEN_FILE", path("nowhere"))],
        vec![("SERVE__LISTEN", "nowhere".to_owned())],
    ];
    let mut cluster = Cluster::start();
    if let Some(cluster) = &mut cluster {
        cluster.database("pulse");
        cluster.psql("pulse", "CREATE ROLE small LOGIN");
        cases.push(vec![("STORAGE__URL", cluster.url("pulse").replace("user=pulse", "user=small"))]);
        cases.push(vec![("STORAGE__URL", cluster.url("nowhere"))]);
    }
    for case in cases {
        let setup = case.iter().fold(Setup::new(&storage), |setup, (name, value)| setup.with(name, value));
        let [check, run] =
            [&["check"][..], &["run"]].map(|command| setup.clone().with("LOG__LEVEL", "off").run(command));
        assert_eq!(check.status.code(), run.status.code(), "{case:?}: {} / {}", said(&check), said(&run));
        assert_ne!(check.status.code(), Some(0), "{case:?}");
        assert_eq!(String::from_utf8_lossy(&check.stderr), String::from_utf8_lossy(&run.stderr), "{case:?}");
    }
}

#[test]
fn a_check_makes_nothing_in_a_storage_that_can_be_used_and_finds_the_collector_that_runs() {
    for storage in Storage::all() {
        // SQLite's index of its log is memory that all who have the database open write in.
        let is_index = |path: &str| path.ends_with("-shm");
        let all = || match &storage {
            Storage::Sqlite(_) => pulse_telemetry_testkit::disk::files_below(storage.dir())
                .into_iter()
                .map(|(path, content)| (path.display().to_string(), content))
                .map(|(path, content)| if is_index(&path) { (path, Vec::new()) } else { (path, content) })
                .collect(),
            Storage::Postgres(cluster) => vec![(String::new(), cluster.dump("pulse").into_bytes())],
        };
        let setup = Setup::new(&storage);
        let check = |setup: &Setup| {
            let before = all();
            let ended = setup.run(&["check"]);
            assert!(all() == before, "{}: {}", storage.name(), said(&ended));
            (ended.status.code(), said(&ended))
        };
        let (code, words) = check(&setup);
        assert!(code == Some(0) && words.contains("holds no pings yet: the first start"), "{words}");
        let collector = setup.start();
        assert_eq!(collector.post(&ping_of(1)).status, 204);
        // Beside it, with its address, and with another one.
        let (code, words) = check(&setup.clone().with("SERVE__LISTEN", &collector.address.to_string()));
        let (code, words) = if code == Some(0) {
            check(&setup.clone().with("ADMIN__LISTEN", &collector.admin.to_string()))
        } else {
            (code, words)
        };
        assert_eq!(code, Some(0), "{words}");
        let (code, words) = check(&setup);
        let is_sqlite = matches!(storage, Storage::Sqlite(_));
        assert_eq!(code, Some(if is_sqlite { 5 } else { 0 }), "{words}");
        assert!(!is_sqlite || words.contains("another collector takes pings into"), "{words}");
        assert_eq!(collector.post(&ping_of(2)).status, 204);
        collector.stop();
        assert_eq!(check(&setup).0, Some(0));
        assert_eq!(storage.rows().len(), 2);
    }
}

#[test]
fn a_password_of_any_characters_opens_the_database_by_the_url_and_by_its_file() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.database("pulse");
    cluster.psql("pulse", "CREATE ROLE small LOGIN; GRANT CREATE ON SCHEMA public TO small");
    cluster.ask_for_a_password("small");
    let url = cluster.url("pulse").replace("user=pulse", "user=small");
    for password in ["hunter2", "p@ss:w/rd?#[%]&=+", " blanks at both ends ", "'quotes\" \\ and $1", "pässwörd 日本語"]
    {
        cluster.psql(
            "pulse",
            &format!(
                "SET password_encryption = 'scram-sha-256'; ALTER ROLE small PASSWORD '{}'",
                password.replace('\'', "''")
            ),
        );
        let encoded: String = password.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let setup = Setup::new(&Storage::sqlite());
        let file = setup.write("password", &format!("{password}\n"));
        let by_url = setup.clone().with("STORAGE__URL", &format!("{url}&password={encoded}")).run(&["check"]);
        assert_eq!(by_url.status.code(), Some(0), "{password}: {}", said(&by_url));
        let by_file = setup.with("STORAGE__URL", &url).with("STORAGE__PASSWORD_FILE", file.to_str().unwrap());
        let ended = by_file.run(&["check"]);
        assert_eq!(ended.status.code(), Some(0), "{password}: {}", said(&ended));
        let wrong = by_file.with("STORAGE__URL", &format!("{url}&password=another")).with("STORAGE__PASSWORD_FILE", "");
        let ended = wrong.run(&["check"]);
        let said = said(&ended);
        assert!(ended.status.code() == Some(5) && said.contains("storage.password_file"), "{said}");
        assert!(!said.contains(password) && !said.contains("another"), "{said}");
    }
}
