//! What each section takes and refuses.

use std::path::PathBuf;
use std::time::Duration;

use pulse_telemetry::config::{Config, Listen, PlatformSetting};
use pulse_telemetry_process::config::{Environment, LogFormat};
use secrecy::ExposeSecret as _;
use tokio_postgres::config::SslMode;

use super::{SECRET, Setup, collector, origin, with_file, with_variable};

#[test]
fn the_endpoint_is_https_or_on_loopback() {
    let accepted = |endpoint: &str| with_file(&format!("telemetry.endpoint = '{endpoint}'")).load();
    for endpoint in [
        "https://example.org/ping",
        "HTTPS://example.org",
        "https://[2001:db8::1]:8443/x",
        "http://127.0.0.1:80/x",
        "http://127.9.9.9/x",
        "http://[::1]:1/x",
        "http://localhost/x",
        "http://LOCALHOST:8080/x",
        "http://localhost./x",
        "http://[::ffff:127.0.0.1]/x",
        "https://license.example.org.:443/ping",
    ] {
        assert!(accepted(endpoint).is_ok(), "{endpoint}");
    }
    for endpoint in [
        "http://example.org/ping",
        "http://10.0.0.1/ping",
        "http://128.0.0.1/",
        "http://localhost.example.org/",
        "http://127.0.0.1.example.org/",
        "http://127.1/",
        "http://2130706433/",
        "http://[::2]/",
        "ftp://127.0.0.1/",
        "https://user@example.org/",
        "https://user:pw@example.org/",
        "https://example.org/?a=b",
        "https://example.org/?",
        "https://example.org/#x",
        "https://example.org:0/",
        "https://example.org:65536/",
        "https://example.org:/",
        "https://:443/",
        "https://exa mple.org/",
        "https://exämple.org/",
        "https://..",
        "https://example..",
        "https://.",
        "https://127.0.0.1./",
        "https://[::1",
        "https://[::1]x/",
        "//example.org/",
        "/v1",
        "*",
        &format!("https://example.org/{}", "x".repeat(2048)),
    ] {
        let error = accepted(endpoint).err().unwrap_or_else(|| panic!("{endpoint} is accepted")).to_string();
        assert!(error.starts_with("telemetry.endpoint"), "{error}");
    }
}

#[test]
fn pulse_may_live_under_a_path_with_or_without_a_slash_at_its_end() {
    for url in [
        "http://pulse.lan/",
        "https://pulse.lan:8443/",
        "https://pulse.lan/monitor//",
        "https://[2001:db8::1]/",
        "http://pulse.monitoring.svc.cluster.local.:7655/",
        "https://pulse./",
    ] {
        assert_eq!(with_variable("PULSE_URL", url).config().pulse.url.to_string(), url);
    }
}

#[test]
fn whoever_only_shortens_the_interval_need_not_think_of_the_jitter() {
    let config = with_file("telemetry.endpoint = 'http://127.0.0.1:1/'\nschedule.interval = '48s'").load().unwrap();
    assert_eq!(config.schedule.jitter, Duration::from_secs(1));
    let shown = config.origins().iter().find(|setting| setting.key == "schedule.jitter").unwrap();
    assert_eq!((shown.value.as_str(), shown.origin.as_str()), ("\"1000ms\"", "a 48th of schedule.interval"));
}

#[test]
fn short_schedules_are_for_loopback_only() {
    let schedule = |endpoint: &str, delay: &str, interval: &str, jitter: &str| {
        with_file(&format!(
            "telemetry.endpoint = '{endpoint}'\n[schedule]\nstartup_delay = '{delay}'\ninterval = '{interval}'\n\
             jitter = '{jitter}'"
        ))
        .load()
        .map_err(|error| error.problems.into_iter().map(|problem| problem.key).collect::<Vec<_>>())
    };
    let (near, far) = ("http://127.0.0.1:1/", "https://example.org/");
    assert!(schedule(near, "0s", "1s", "0s").is_ok());
    assert!(schedule(far, "2m", "24h", "1ms").is_ok());
    assert!(schedule(far, "24h", "30d", "14d23h").is_ok());
    let refused = |key: &str| Err(vec![key.to_owned()]);
    let keys = |result: Result<Config, Vec<String>>| result.map(|_| ());
    assert_eq!(keys(schedule(far, "1m59s", "24h", "30m")), refused("schedule.startup_delay"));
    assert_eq!(keys(schedule(far, "24h1ms", "48h", "30m")), refused("schedule.startup_delay"));
    assert_eq!(keys(schedule(far, "2m", "23h59m", "30m")), refused("schedule.interval"));
    assert_eq!(keys(schedule(far, "2m", "30d1ms", "30m")), refused("schedule.interval"));
    assert_eq!(keys(schedule(near, "2m", "99ms", "0s")), refused("schedule.interval"));
    assert_eq!(keys(schedule(far, "2m", "24h", "0s")), refused("schedule.jitter"));
    assert_eq!(keys(schedule(far, "2m", "24h", "12h")), refused("schedule.jitter"));
    assert_eq!(keys(schedule(near, "2m", "1m", "30s")), refused("schedule.jitter"));
    assert_eq!(keys(schedule("http://far.example/", "0s", "1s", "0s")), refused("telemetry.endpoint"));
}

#[test]
fn the_timeout_lies_between_a_second_and_two_minutes() {
    let load = |timeout: &str| with_variable("PULSE_TELEMETRY_PULSE__TIMEOUT", timeout).load();
    assert!(load("1s").is_ok() && load("2m").is_ok());
    assert!(load("999ms").is_err() && load("2m1ms").is_err() && load("10").is_err());
}

#[test]
fn the_state_directory_follows_the_documented_order() {
    let dir = |variables: &[(&str, &str)], is_root: bool| {
        let setup = Setup::new();
        let env = Environment::new(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let config = Config::load(Some(&setup.path()), &env, is_root).map_err(|error| error.to_string())?;
        Ok::<_, String>((config.state.dir.to_str().unwrap().to_owned(), origin(&config, "state.dir").1))
    };
    let found = |dir: &str, origin: &str| Ok((dir.to_owned(), origin.to_owned()));
    let all = [
        ("HOME", "/home/a"),
        ("XDG_STATE_HOME", "/xdg"),
        ("STATE_DIRECTORY", "/var/lib/one:/var/lib/two"),
        ("PULSE_TELEMETRY_STATE__DIR", "/set"),
    ];
    assert_eq!(dir(&all, true), found("/set", "environment variable PULSE_TELEMETRY_STATE__DIR"));
    assert_eq!(dir(&all[..3], true), found("/var/lib/one", "environment variable STATE_DIRECTORY"));
    assert_eq!(dir(&all[..2], true), found("/var/lib/pulse-telemetry", "default for root"));
    assert_eq!(dir(&all[..2], false), found("/xdg/pulse-telemetry", "environment variable XDG_STATE_HOME"));
    assert_eq!(dir(&all[..1], false), found("/home/a/.local/state/pulse-telemetry", "environment variable HOME"));
    assert_eq!(
        dir(&[("XDG_STATE_HOME", "relative"), ("HOME", "")], false),
        Err("state.dir: is not set, and none of STATE_DIRECTORY, XDG_STATE_HOME and HOME gives an absolute path: \
             set state.dir or PULSE_TELEMETRY_STATE__DIR"
            .to_owned())
    );
    assert!(dir(&[("PULSE_TELEMETRY_STATE__DIR", "relative")], true).is_err());
}

#[test]
fn a_listen_address_is_an_address_localhost_or_a_socket() {
    let listen = |text: &str| with_file(&format!("serve.listen = '{text}'\nserve.token_file = '/t'")).load();
    let address = |text: &str| Listen::Tcp(text.parse().unwrap());
    for (text, expected) in [
        ("127.0.0.1:0", address("127.0.0.1:0")),
        ("[::1]:7656", address("[::1]:7656")),
        ("localhost:99", address("127.0.0.1:99")),
        ("Localhost:99", address("127.0.0.1:99")),
        ("localhost.:99", address("127.0.0.1:99")),
        ("[::ffff:127.0.0.1]:99", address("[::ffff:127.0.0.1]:99")),
        ("0.0.0.0:7656", address("0.0.0.0:7656")),
        ("unix:/run/x.sock", Listen::Unix(PathBuf::from("/run/x.sock"))),
    ] {
        assert_eq!(listen(text).unwrap().serve.listen, expected);
    }
    for text in ["7656", ":7656", "127.0.0.1", "pulse.lan:80", "unix:", "unix:x", "localhost:", "127.0.0.1:65536"] {
        assert!(listen(text).is_err(), "{text}");
    }
}

#[test]
fn a_server_that_others_can_reach_needs_a_token() {
    for listen in ["0.0.0.0:7656", "[::]:7656", "192.168.1.2:7656"] {
        let setup = with_variable("PULSE_TELEMETRY_SERVE__LISTEN", listen);
        assert_eq!(
            setup.error(),
            format!(
                "serve.token_file: is not set, and serve.listen {listen:?} from environment variable \
                 PULSE_TELEMETRY_SERVE__LISTEN is not on loopback: name a file that holds a token"
            )
        );
        let path = setup.write("token", format!("{SECRET}\n"));
        let setup = setup.variable("PULSE_TELEMETRY_SERVE__TOKEN_FILE", &path);
        assert_eq!(setup.config().serve.read_token().unwrap().unwrap().expose_secret(), SECRET);
    }
    assert!(Setup::new().config().serve.read_token().unwrap().is_none());
}

#[test]
fn allowed_hosts_are_bare_names_in_lower_case() {
    let hosts = |list: &str| {
        with_variable("PULSE_TELEMETRY_SERVE__ALLOWED_HOSTS", list)
            .load()
            .map(|config| config.serve.allowed_hosts.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(
        hosts(r#"["Pulse.LAN", "pulse.lan.", 10.0.0.5, "[FD00::1]", fd00::2]"#).unwrap(),
        ["pulse.lan", "pulse.lan", "10.0.0.5", "fd00::1", "fd00::2"]
    );
    assert!(hosts("[]").unwrap().is_empty());
    for list in ["pulse.lan", r#"["a:80"]"#, r#"["*"]"#, r#"[""]"#, r#"["http://a"]"#, "[1]", "{a=b}", "[[a]]"] {
        assert!(hosts(list).is_err(), "{list}");
    }
    let deep = "[".repeat(100_000);
    assert!(hosts(&deep).is_err());
}

#[test]
fn an_ipv6_address_with_a_zone_is_refused_with_what_to_use_instead() {
    let allowed = |host: &str| format!("[\"{host}\"]");
    for (name, value) in [
        ("PULSE_URL", "http://[fe80::1%25eth0]:7655".to_owned()),
        ("PULSE_URL", "https://[fe80::1%eth0]".to_owned()),
        ("PULSE_TELEMETRY_TELEMETRY__ENDPOINT", "https://[fe80::1%252]/ping".to_owned()),
        ("PULSE_TELEMETRY_SERVE__LISTEN", "[fe80::1%eth0]:7656".to_owned()),
        ("PULSE_TELEMETRY_SERVE__LISTEN", "[fe80::1%2]:7656".to_owned()),
        ("PULSE_TELEMETRY_SERVE__ALLOWED_HOSTS", allowed("fe80::1%eth0")),
        ("PULSE_TELEMETRY_SERVE__ALLOWED_HOSTS", allowed("[fe80::1%25eth0]")),
    ] {
        let error = with_variable(name, &value).error();
        let said = ": must not hold an IPv6 address with a zone (%…), which is a matter of one machine's interfaces: \
            use a host name, or an address that needs no zone";
        assert!(error.ends_with(said), "{value}: {error}");
    }
}

#[test]
fn words_are_taken_in_any_case() {
    let config = with_file("pulse.platform = 'Docker'\nlog.format = 'JSON'\nlog.level = 'INFO,hyper=Warn'").config();
    assert_eq!(config.pulse.platform, PlatformSetting::Docker);
    assert_eq!((config.log.level.as_str(), config.log.format), ("INFO,hyper=Warn", LogFormat::Json));
    for (value, enabled) in [("False", false), ("TRUE", true)] {
        let config = with_variable("PULSE_TELEMETRY_TELEMETRY__ENABLED", value).config();
        assert_eq!(config.telemetry.enabled, enabled, "{value}");
    }
}

#[test]
fn a_log_level_is_one_of_six_words_or_directives() {
    let load = |level: &str| with_file(&format!("log.level = '{level}'")).load();
    for level in
        ["off", "error", "warn", "info", "debug", "trace", "info,pulse_telemetry_core::engine=debug", "hyper=warn"]
    {
        assert_eq!(load(level).unwrap().log.level, level);
    }
    for level in ["verbose", "3", "info,", "engine=loud", "=info", "info,a b=info"] {
        assert!(load(level).is_err(), "{level}");
    }
}

#[test]
fn the_collector_takes_hosts_and_words_as_the_sidecar_does() {
    for (listen, expected) in [
        ("localhost:7657", "127.0.0.1:7657"),
        ("LocalHost.:7657", "127.0.0.1:7657"),
        ("[::1]:0", "[::1]:0"),
        ("0.0.0.0:80", "0.0.0.0:80"),
    ] {
        let config = collector(&[("serve.listen", listen), ("log.level", "WARN"), ("log.format", "Json")]).unwrap();
        assert_eq!(config.serve.listen, expected.parse().unwrap());
        assert_eq!((config.log.level.as_str(), config.log.format), ("WARN", LogFormat::Json));
    }
    for listen in ["collector.lan:7657", "localhost", "localhost:", "localhost.lan:7657", "127.0.0.1.:80", ":80"] {
        let error = collector(&[("serve.listen", listen)]).err().unwrap().to_string();
        assert!(error.contains("must be an address with a port, such as 0.0.0.0:7657, or localhost:PORT"), "{error}");
    }
    let zone = collector(&[("serve.listen", "[fe80::1%eth0]:7657")]).err().unwrap().to_string();
    assert!(zone.contains("an IPv6 address with a zone"), "{zone}");
}

#[test]
fn postgresql_on_this_machine_is_recognised_in_both_forms_of_its_name() {
    for (host, mode) in [
        ("localhost", SslMode::Disable),
        ("localhost.", SslMode::Disable),
        ("LocalHost.", SslMode::Disable),
        ("127.0.0.1", SslMode::Disable),
        ("db.lan", SslMode::Require),
        ("db.lan.", SslMode::Require),
        ("localhost.lan.", SslMode::Require),
    ] {
        let config = collector(&[("storage.url", &format!("postgres://pulse@{host}/pulse"))]).unwrap();
        let collector::Storage::Postgres(postgres) = config.storage else { panic!("{host}") };
        assert_eq!(postgres.connect.get_hosts(), [tokio_postgres::config::Host::Tcp(host.to_owned())]);
        assert_eq!(postgres.connect.get_ssl_mode(), mode, "{host}");
    }
}
