//! The collector's configuration, and the URL of its storage.

use std::os::unix::fs::PermissionsExt as _;

use pulse_telemetry_collector::config::{DEFAULTS, Storage as Configured};
use pulse_telemetry_testkit::collector::{Setup, Storage};
use pulse_telemetry_testkit::endpoint::CertificateAuthority;

use super::{config, postgres};

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

#[test]
fn each_secret_that_everybody_can_read_is_warned_of_with_what_ends_it() {
    let storage = Storage::sqlite();
    let setup = Setup::new(&storage).with_receipts();
    let issued = CertificateAuthority::new().issue_for_loopback();
    let postgres = setup.clone().with("STORAGE__URL", "postgres://pulse@127.0.0.1:1/pulse");
    let cert = setup.write("cert.pem", &issued.cert_pem);
    let tls = setup.clone().with("SERVE__TLS_CERT", cert.to_str().unwrap());
    let key = std::fs::read_to_string(setup.write("x", "").with_file_name("receipts.pem")).unwrap();
    for (setup, name, secret) in [
        (&tls, "SERVE__TLS_KEY", &*issued.key_pem),
        (&postgres, "STORAGE__PASSWORD_FILE", "hunter2"),
        (&setup, "ADMIN__TOKEN_FILE", "the-token-of-the-maintainers"),
        (&setup, "RECEIPTS__KEY_FILE", &key),
    ] {
        let path = setup.write(name, secret);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let setup = setup.clone().with(name, path.to_str().unwrap());
        let said = String::from_utf8(setup.run(&["check"]).stdout).unwrap();
        let lines: Vec<_> = said.lines().filter(|line| line.contains("everybody on this machine")).collect();
        assert_eq!(lines.len(), 1, "{name}: {said}");
        let words =
            [name.to_lowercase().replace("__", "."), "0644".to_owned(), format!("chmod 600 {}", path.display())];
        for word in words {
            assert!(lines[0].contains(&word), "{word} in {}", lines[0]);
        }
        if name != "STORAGE__PASSWORD_FILE" {
            let log = setup.start().stop();
            assert_eq!(log.matches("everybody on this machine").count(), 1, "{name}: {log}");
        }
    }
}
