//! The configuration: which layer wins, and what is said of a wrong one.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod variables;

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use pulse_telemetry::config::{Config, DEFAULTS, Listen, PlatformSetting, TokenSource, Tokens, Url};
use pulse_telemetry_collector::config as collector;
use pulse_telemetry_endpoint::Variable;
use pulse_telemetry_process::config::{ConfigError, Environment, LogFormat, parse_duration};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;
use tokio_postgres::config::SslMode;

/// What must never be seen again once it went in.
const SECRET: &str = "s3cret0123456789abcdef";

/// A configuration file and an environment.
struct Setup {
    directory: TempDir,
    variables: Vec<(String, String)>,
}

impl Setup {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), variables: Vec::new() }.file("")
    }

    fn file(self, text: &str) -> Self {
        fs::write(self.path(), text).unwrap();
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("config.toml")
    }

    /// Puts a file beside the configuration and returns its path.
    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(Some(&self.path()), &Environment::new(self.variables.clone()), true)
    }

    fn config(&self) -> Config {
        self.load().unwrap()
    }

    /// The error's text, with `FILE` for the path of the configuration file.
    fn error(&self) -> String {
        let error = self.load().unwrap_err();
        error.to_string().replace(self.path().to_str().unwrap(), "FILE")
    }
}

fn with_file(text: &str) -> Setup {
    Setup::new().file(text)
}

fn with_variable(name: &str, value: &str) -> Setup {
    Setup::new().variable(name, value)
}

fn origin(config: &Config, key: &str) -> (String, String) {
    let setting = config.origins().iter().find(|setting| setting.key == key).unwrap();
    (setting.value.clone(), setting.origin.clone())
}

fn one_token(config: &Config) -> String {
    match config.pulse.read_tokens().unwrap() {
        Tokens::One(token) => token.expose_secret().to_owned(),
        other => panic!("one token, not {other:?}"),
    }
}

// The layers.

#[test]
fn an_empty_configuration_has_the_documented_defaults() {
    let config = Setup::new().config();
    assert!(config.telemetry.enabled);
    assert_eq!(config.telemetry.endpoint.to_string(), "https://license.pulserelay.pro/v1/telemetry/ping");
    assert_eq!(config.pulse.url.to_string(), "http://127.0.0.1:7655/");
    assert_eq!(config.pulse.timeout, Duration::from_secs(10));
    assert_eq!(config.pulse.platform, PlatformSetting::Auto);
    assert_eq!(config.pulse.ca_file, None);
    assert!(matches!(config.pulse.tokens, TokenSource::None));
    assert!(matches!(config.pulse.read_tokens().unwrap(), Tokens::None));
    assert_eq!(config.schedule.startup_delay, Duration::from_secs(120));
    assert_eq!(config.schedule.interval, Duration::from_secs(86_400));
    assert_eq!(config.schedule.jitter, Duration::from_secs(1_800));
    assert_eq!(config.state.dir, Path::new("/var/lib/pulse-telemetry"));
    assert_eq!(config.serve.listen, Listen::Tcp("127.0.0.1:7656".parse().unwrap()));
    assert_eq!(config.serve.token_file, None);
    assert!(config.serve.allowed_hosts.is_empty());
    assert_eq!((config.log.level.as_str(), config.log.format), ("info", LogFormat::Text));
}

#[test]
fn each_layer_overrides_the_one_below() {
    let setup = Setup::new();
    let url_and_origin = |setup: &Setup| origin(&setup.config(), "pulse.url");
    let expect = |url: &str, origin: &str| (format!("{url:?}"), origin.to_owned());

    assert_eq!(url_and_origin(&setup), expect("http://127.0.0.1:7655", "built-in default"));
    let setup = setup.file("[pulse]\nurl = 'http://from-file'\ntimeout = '3s'");
    let path = setup.path();
    assert_eq!(url_and_origin(&setup), expect("http://from-file", path.to_str().unwrap()));
    let setup = setup.variable("PULSE_TELEMETRY_PULSE__URL", "http://from-key");
    assert_eq!(url_and_origin(&setup), expect("http://from-key", "environment variable PULSE_TELEMETRY_PULSE__URL"));
    let setup = setup.variable("PULSE_URL", "http://from-name");
    assert_eq!(url_and_origin(&setup), expect("http://from-name", "environment variable PULSE_URL"));

    let config = setup.config();
    assert_eq!(config.pulse.url.to_string(), "http://from-name/");
    assert_eq!(config.pulse.timeout, Duration::from_secs(3), "the file's other keys still hold");
}

#[test]
fn every_key_can_be_set_by_file_and_by_variable() {
    let setup = Setup::new();
    let tls = setup.write("ca.pem", "");
    let token = setup.write("token", SECRET);
    let values = [
        ("telemetry.enabled", "false".to_owned(), "false".to_owned()),
        ("telemetry.endpoint", "http://127.0.0.1:1/p".to_owned(), r#""http://127.0.0.1:1/p""#.to_owned()),
        ("pulse.url", "https://p/x".to_owned(), r#""https://p/x""#.to_owned()),
        ("pulse.token_file", token.clone(), format!("{token:?}")),
        ("pulse.ca_file", tls.clone(), format!("{tls:?}")),
        ("pulse.timeout", "1m".to_owned(), r#""1m""#.to_owned()),
        ("pulse.platform", "docker".to_owned(), r#""docker""#.to_owned()),
        ("schedule.startup_delay", "1s".to_owned(), r#""1s""#.to_owned()),
        ("schedule.interval", "25h".to_owned(), r#""25h""#.to_owned()),
        ("schedule.jitter", "0s".to_owned(), r#""0s""#.to_owned()),
        ("state.dir", "/s".to_owned(), r#""/s""#.to_owned()),
        ("serve.listen", "unix:/run/x".to_owned(), r#""unix:/run/x""#.to_owned()),
        ("serve.token_file", token.clone(), format!("{token:?}")),
        ("serve.allowed_hosts", r#"["a.lan","10.0.0.5"]"#.to_owned(), r#"["a.lan","10.0.0.5"]"#.to_owned()),
        ("events.record", "false".to_owned(), "false".to_owned()),
        ("log.level", "warn".to_owned(), r#""warn""#.to_owned()),
        ("log.format", "json".to_owned(), r#""json""#.to_owned()),
    ];
    let mut text = String::new();
    let mut by_variable = Setup::new();
    for (key, raw, toml) in &values {
        text += &format!("{key} = {toml}\n");
        by_variable = by_variable.variable(&variable_name(key), raw);
    }
    let (by_file, by_variable) = (with_file(&text).config(), by_variable.config());
    let shown = |config: &Config| -> Vec<_> {
        config.origins().iter().map(|setting| (setting.key.clone(), setting.value.clone())).collect()
    };
    let mut expected: Vec<_> = values.iter().map(|(key, _, toml)| ((*key).to_owned(), toml.clone())).collect();
    expected.push(("pulse.organizations".to_owned(), "{}".to_owned()));
    expected.sort();
    assert_eq!(shown(&by_file), expected);
    assert_eq!(shown(&by_variable), expected);
}

#[test]
fn the_embedded_file_has_every_key_and_no_other() {
    let table: toml::Table = DEFAULTS.parse().unwrap();
    let of_file: Vec<String> = table
        .iter()
        .flat_map(|(section, keys)| keys.as_table().unwrap().keys().map(move |key| format!("{section}.{key}")))
        .collect();
    let mut expected = [
        "telemetry.enabled telemetry.endpoint pulse.url pulse.token_file pulse.ca_file pulse.timeout pulse.platform",
        "pulse.organizations schedule.startup_delay schedule.interval schedule.jitter state.dir serve.listen",
        "serve.token_file serve.allowed_hosts events.record log.level log.format",
    ]
    .join(" ")
    .split(' ')
    .map(str::to_owned)
    .collect::<Vec<_>>();
    expected.sort();
    let mut sorted = of_file.clone();
    sorted.sort();
    assert_eq!(sorted, expected);
    for key in of_file {
        let line = format!("\n{} = ", key.split('.').next_back().unwrap());
        let before = DEFAULTS.split(&line).next().unwrap();
        assert!(before.lines().next_back().unwrap().starts_with("# "), "{key} has a sentence above it");
    }
}

#[test]
fn every_shipped_file_is_accepted_as_a_configuration_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("pulse-telemetry") && name.ends_with(".toml") {
            Config::load(Some(&path), &Environment::default(), true).unwrap();
            seen += 1;
        }
    }
    assert!(seen >= 1);
}

#[test]
fn short_names_are_texts_whatever_they_look_like() {
    for token in ["123", "true", "1.5", "[a]", "{a=b}", "QUJDRA==", "a=b"] {
        assert_eq!(one_token(&with_variable("PULSE_TOKEN", token).config()), token);
    }
    let config = with_variable("PULSE_CACERT", "123").config();
    assert_eq!(config.pulse.ca_file.as_deref(), Some(Path::new("123")));
    let error = with_variable("PULSE_URL", "7655").error();
    assert!(error.starts_with(r#"pulse.url: "7655" from environment variable PULSE_URL: must be a URL"#), "{error}");
}

#[test]
fn texts_in_key_variables_are_taken_as_they_stand() {
    for path in ["/1", "/a,b", "/[x]", "/{x=y}", "/'a'", "/with space", "/\"q\""] {
        let config = with_variable("PULSE_TELEMETRY_STATE__DIR", path).config();
        assert_eq!(config.state.dir, Path::new(path));
    }
    let config = with_variable("PULSE_TELEMETRY_PULSE__CA_FILE", "true").config();
    assert_eq!(config.pulse.ca_file.as_deref(), Some(Path::new("true")));
}

#[test]
fn the_variables_of_consent_and_of_others_are_no_keys() {
    let setup = with_variable("PULSE_TELEMETRY", "off").variable("DO_NOT_TRACK", "").variable("PULSE_DATA_DIR", "/x");
    let config = setup.config();
    assert!(config.telemetry.enabled);
    assert_eq!(config.consent.pulse_telemetry.as_deref(), Some("off"));
    assert_eq!(config.consent.do_not_track.as_deref(), Some(""));
    assert_eq!(Setup::new().config().consent.pulse_telemetry, None);
}

#[test]
fn proxies_are_found_in_the_order_of_curl() {
    let found = |variable: &Option<Variable>| variable.as_ref().map(|found| format!("{}={}", found.name, found.value));
    let proxy = |setup: &Setup| found(&setup.config().proxy.https).unwrap();
    let setup = with_variable("ALL_PROXY", "http://all").variable("NO_PROXY", "upper");
    assert_eq!(proxy(&setup), "ALL_PROXY=http://all");
    let setup = setup.variable("HTTPS_PROXY", "http://upper");
    assert_eq!(proxy(&setup), "HTTPS_PROXY=http://upper");
    assert_eq!(found(&setup.config().proxy.no_proxy).unwrap(), "NO_PROXY=upper");
    let setup = setup.variable("https_proxy", "http://lower").variable("no_proxy", "lower");
    assert_eq!(proxy(&setup), "https_proxy=http://lower");
    assert_eq!(found(&setup.config().proxy.no_proxy).unwrap(), "no_proxy=lower");
    assert_eq!(Setup::new().config().proxy.https, None);
    assert!(!format!("{:?}", setup.config().proxy).contains("http://"), "it may hold a password");
}

// What is said of a wrong configuration.

#[test]
fn an_error_names_key_value_origin_and_what_is_accepted() {
    assert_eq!(
        with_variable("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "5m").error(),
        "schedule.interval: \"5m\" from environment variable PULSE_TELEMETRY_SCHEDULE__INTERVAL: \
         must be at least 24h unless telemetry.endpoint is on loopback"
    );
}

#[test]
fn everything_wrong_is_told_at_once_one_line_each() {
    let setup = with_file("pulse.platform = 'vm'\nlog.format = 'xml'").variable("PULSE_URL", "ftp://x");
    assert_eq!(
        setup.error(),
        "pulse.url: \"ftp://x\" from environment variable PULSE_URL: must be a URL that begins with http:// or \
         https:// and a host, such as https://pulse.lan:7655\n\
         pulse.platform: \"vm\" from FILE: must be auto, docker or binary\n\
         log.format: \"xml\" from FILE: must be text or json"
    );
}

#[test]
fn an_unknown_key_or_section_is_named_with_the_known_ones() {
    let setup = with_file(&format!("pulse.token = '{SECRET}'\n[shedule]\ninterval = '24h'"))
        .variable("PULSE_TELEMETRY_SERVE__PORT", "1");
    assert_eq!(
        setup.error(),
        "pulse.token from FILE: is not a key: the keys of pulse are ca_file, organizations, platform, timeout, \
         token_file, url\n\
         shedule from FILE: is not a section: the sections are events, log, pulse, schedule, serve, state, telemetry\n\
         serve.port from environment variable PULSE_TELEMETRY_SERVE__PORT: is not a key: the keys of serve are \
         allowed_hosts, listen, token_file"
    );
}

#[test]
fn a_wrong_type_is_told_with_the_right_one() {
    let text = "telemetry.enabled = 'yes'\nschedule.interval = 24\nserve.allowed_hosts = 'pulse.lan'\n\
                pulse.organizations = ['/x']\npulse.ca_file = ['/x']\nstate.dir = 2026-01-01\nlog = 3";
    assert_eq!(
        with_file(text).error(),
        "log from FILE: must be a section: [log]\n\
         pulse.ca_file from FILE: must be a text in quotes\n\
         pulse.organizations from FILE: must be a map of texts, such as {acme=\"/path\",default=\"/path\"}\n\
         schedule.interval: 24 from FILE: must be a text in quotes, such as \"24h\"\n\
         serve.allowed_hosts: \"pulse.lan\" from FILE: must be a list of texts, such as [\"one\",\"two\"]\n\
         state.dir from FILE: must be a text in quotes\n\
         telemetry.enabled: \"yes\" from FILE: must be true or false"
    );
    assert_eq!(
        with_variable("PULSE_TELEMETRY_TELEMETRY__ENABLED", "off").error(),
        "telemetry.enabled: \"off\" from environment variable PULSE_TELEMETRY_TELEMETRY__ENABLED: must be true or false"
    );
}

#[test]
fn a_syntax_error_names_file_and_line_and_repeats_nothing_of_the_line() {
    let error = with_file(&format!("[pulse]\ntoken_file = {SECRET}\n")).error();
    assert!(error.starts_with("FILE: TOML parse error at line 2, column "), "{error}");
    assert_eq!(error.lines().count(), 1);
    assert!(!error.contains(SECRET), "{error}");
}

#[test]
fn a_named_file_that_is_absent_is_an_error() {
    let error = Config::load(Some(Path::new("/nonexistent/x.toml")), &Environment::default(), true).err().unwrap();
    assert!(error.to_string().starts_with("/nonexistent/x.toml: cannot be read: "), "{error}");
}

#[test]
fn a_value_that_is_not_utf_8_is_an_error_that_names_the_variable() {
    let name = |name: &str| OsString::from(name);
    let broken = || OsString::from_vec(b"/srv/\xff".to_vec());
    let env = Environment::from_os([(name("PULSE_TELEMETRY_STATE__DIR"), broken()), (name("OTHER"), broken())]);
    let setup = Setup::new();
    let error = Config::load(Some(&setup.path()), &env, true).err().unwrap();
    assert_eq!(
        error.to_string(),
        "state.dir from environment variable PULSE_TELEMETRY_STATE__DIR: must be valid UTF-8"
    );
}

#[test]
fn a_key_with_a_line_break_stays_on_its_line() {
    let error = with_file("\"a\\nb\" = 1\npulse.\"c\\nd\" = 1").error();
    assert!(error.starts_with("a\\nb from FILE: "), "{error}");
    assert_eq!(error.lines().count(), 2, "{error}");
}

#[test]
fn a_url_with_a_password_is_told_why_it_is_refused() {
    assert_eq!(
        with_variable("PULSE_URL", "https://me:pw@pulse.lan").error(),
        "pulse.url from environment variable PULSE_URL: must not hold a user name or password"
    );
}

#[test]
fn a_url_is_refused_with_a_sentence_that_fits_what_is_wrong_with_it() {
    let blanks = "must not have blanks or line ends around it";
    let port = "must have a port from 1 to 65535 behind the colon";
    let form = "must be a URL that begins with http:// or https:// and a host, such as https://pulse.lan:7655";
    for (url, told) in [
        ("http://pulse.lan:7655\r", blanks),
        (" http://pulse.lan:7655", blanks),
        ("http://pulse.lan:7655\n", blanks),
        ("http://pulse.lan:99999", port),
        ("http://pulse.lan:0/", port),
        ("http://pulse.lan:/pulse", port),
        ("http://[fd00::1]:x", port),
        ("http://pulse.lan:-1", port),
        ("http://pulse.lan:7655\\x", port),
        ("http://fd00::1", form),
        ("pulse.lan:7655", form),
        ("http://pulse lan", form),
    ] {
        for (name, key) in [("PULSE_URL", "pulse.url"), ("PULSE_TELEMETRY_TELEMETRY__ENDPOINT", "telemetry.endpoint")] {
            let error = with_variable(name, url).error();
            assert_eq!(error, format!("{key}: {url:?} from environment variable {name}: {told}"));
        }
    }
    for url in
        ["http://me:pw@pulse.lan:0", "http://me:0@pulse.lan", " http://me:pw@pulse.lan", "http://me:pw@pulse.lan\r"]
    {
        assert!(!with_variable("PULSE_URL", url).error().contains("pw"), "{url}");
    }
}

// The sections.

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

// The collector's.

fn collector(variables: &[(&str, &str)]) -> Result<collector::CollectorConfig, ConfigError> {
    let setup = Setup::new();
    let name = |key: &str| format!("PULSE_TELEMETRY_COLLECTOR_{}", key.replace('.', "__").to_uppercase());
    let env = variables.iter().map(|(key, value)| (name(key), (*value).to_owned()));
    collector::CollectorConfig::load(Some(&setup.path()), &Environment::new(env))
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

// The tokens.

#[test]
fn the_token_comes_from_the_first_source_there_is() {
    let setup = Setup::new();
    let key = setup.write("key", "of-the-key");
    let name = setup.write("name", "of-the-name\n");
    let credentials = setup.directory.path().to_str().unwrap().to_owned();

    let setup = setup.variable("CREDENTIALS_DIRECTORY", &credentials);
    assert!(matches!(setup.config().pulse.tokens, TokenSource::None), "there is no such credential");
    let credential = setup.write("pulse-token", "of-the-credential\n");
    assert_eq!(one_token(&setup.config()), "of-the-credential");
    assert_eq!(
        origin(&setup.config(), "pulse.token_file"),
        (format!("{credential:?}"), "systemd credential pulse-token".to_owned())
    );
    let setup = setup.file(&format!("pulse.token_file = '{key}'"));
    assert_eq!(one_token(&setup.config()), "of-the-key");
    let setup = setup.variable("PULSE_TOKEN_FILE", &name);
    assert_eq!(one_token(&setup.config()), "of-the-name");
    let setup = setup.variable("PULSE_TOKEN", " of-the-variable ");
    assert_eq!(one_token(&setup.config()), "of-the-variable");
    assert_eq!(
        origin(&setup.config(), "PULSE_TOKEN"),
        ("[not shown]".to_owned(), "environment variable PULSE_TOKEN".to_owned())
    );
}

#[test]
fn a_token_file_that_holds_no_token_is_named_and_not_quoted() {
    let said = |content: &[u8]| {
        let setup = Setup::new();
        let path = setup.write("token", content);
        let setup = setup.variable("PULSE_TOKEN_FILE", &path);
        setup.config().pulse.read_tokens().err().unwrap().to_string().replace(&path, "TOKEN")
    };
    let from = "pulse.token_file: \"TOKEN\" from environment variable PULSE_TOKEN_FILE";
    let empty = "it is empty";
    let lines = "it has more than one line";
    let words = "it has more than one word (take what stands before the token, such as Bearer or token:, away)";
    let others = "it has others (write the token anew)";
    for (content, found) in [
        (String::new(), empty),
        (" \n".to_owned(), empty),
        (format!("{SECRET}\n{SECRET}"), lines),
        (format!("# of anna\n{SECRET}"), lines),
        (format!("{SECRET} x"), words),
        (format!("Bearer {SECRET}"), words),
        (format!("token:\t{SECRET}"), words),
        (format!("{SECRET}\u{e9}"), others),
        (format!("\u{200b}{SECRET}"), others),
        (format!("{SECRET}\u{7f}"), others),
    ] {
        let expected = format!("{from}: must hold one token: visible ASCII characters on one line, and {found}");
        assert_eq!(said(content.as_bytes()), expected);
    }
    assert!(said(b"\xff").ends_with(others));
    assert_eq!(said(&[b'x'; 4097]), format!("{from}: cannot be read: more than 4096 bytes"));
    let absent = with_variable("PULSE_TOKEN_FILE", "/nonexistent/token").config().pulse.read_tokens();
    assert_eq!(
        absent.err().unwrap().to_string(),
        "pulse.token_file: \"/nonexistent/token\" from environment variable PULSE_TOKEN_FILE: \
         cannot be read: No such file or directory (os error 2). Write it, or name another one; it is read at a start \
         only"
    );
}

#[test]
fn a_token_as_people_write_it_is_refused_with_a_sentence_that_names_what_was_found() {
    let utf_16 = |little: bool, text: &str| -> Vec<u8> {
        text.encode_utf16().flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect()
    };
    let quoted = "has quotation marks around the token: take them away, for they would be sent with it";
    let assigned = "holds an assignment, such as PULSE_TOKEN=… or export PULSE_TOKEN=…: leave the token alone in it";
    let wide = "is UTF-16, as > of PowerShell writes it: save it as UTF-8 or ASCII (Set-Content -Encoding ascii)";
    let text = |pattern: &str| pattern.replace('@', SECRET).into_bytes();
    for (content, said) in [
        (text("\"@\""), quoted),
        (text("'@'\n"), quoted),
        (text("`@`"), quoted),
        (text("\u{feff}\"@\"\r\n"), quoted),
        (text("\u{201c}@\u{201d}"), quoted),
        (text("\"@"), quoted),
        (text("PULSE_TOKEN=@"), assigned),
        (text("PULSE_KEY=@\n"), assigned),
        (text("export PULSE_KEY=@"), assigned),
        (text("export key='@'"), assigned),
        (text("# of Pulse\nPULSE_KEY = \"@\"\n"), assigned),
        (text("$env:pulse=\"@\""), assigned),
        (text("pulse_token=@"), assigned),
        (text("\u{feff}api_token=@"), assigned),
        ([b"\xff\xfe".to_vec(), utf_16(true, SECRET)].concat(), wide),
        ([b"\xfe\xff".to_vec(), utf_16(false, SECRET)].concat(), wide),
        (utf_16(true, &format!("{SECRET}\r\n")), wide),
    ] {
        let setup = Setup::new();
        let path = setup.write("token", &content);
        for (key, read) in [
            ("pulse.token_file", &(|config: &Config| config.pulse.read_tokens().map(drop)) as &dyn Fn(&Config) -> _),
            ("serve.token_file", &|config: &Config| config.serve.read_token().map(drop)),
        ] {
            let config = with_variable(&variable_name(key), &path).config();
            let error = read(&config).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key}: {path:?} from")) && error.ends_with(said), "{error}");
            assert!(!error.contains(SECRET), "{error}");
        }
        if let Ok(text) = String::from_utf8(content)
            && !text.contains('\0')
        {
            let error = with_variable("PULSE_TOKEN", &text).error();
            assert_eq!(error, format!("environment variable PULSE_TOKEN: {said}"));
        }
    }
}

#[test]
fn a_byte_order_mark_alone_is_passed_over_and_a_token_may_look_like_much() {
    for token in [SECRET, "QUJDRA==", "a=b", "aB3=x", "{a=b}", "don't", "AB=", "=="] {
        for content in [token.to_owned(), format!("\u{feff}{token}\r\n"), format!(" {token}\n\n")] {
            let setup = Setup::new();
            let path = setup.write("token", &content);
            assert_eq!(one_token(&setup.variable("PULSE_TOKEN_FILE", &path).config()), token, "{content:?}");
        }
    }
}

#[test]
fn a_password_may_have_the_characters_that_a_token_may_not() {
    let setup = Setup::new();
    for password in ["\"quoted\"", "PASS=word", "it's"] {
        let path = setup.write("password", format!("\u{feff}{password}\n"));
        let config =
            collector(&[("storage.url", "postgres://pulse@127.0.0.1/pulse"), ("storage.password_file", &path)])
                .unwrap();
        let collector::Storage::Postgres(postgres) = config.storage else { panic!("PostgreSQL") };
        assert_eq!(postgres.read_password().unwrap().unwrap().expose_secret(), password);
    }
}

#[test]
fn organizations_have_a_token_file_each() {
    let setup = Setup::new();
    let (acme, default) = (setup.write("a", "token-a"), setup.write("d", "token-d"));
    let in_file = with_file(&format!("[pulse.organizations]\nacme = '{acme}'\ndefault = '{default}'"));
    let in_variable =
        with_variable("PULSE_TELEMETRY_PULSE__ORGANIZATIONS", &format!("{{acme=\"{acme}\",default=\"{default}\"}}"));
    let joined = with_file(&format!("pulse.organizations.acme = '{acme}'"))
        .variable("PULSE_TELEMETRY_PULSE__ORGANIZATIONS", &format!("{{default={default}}}"));
    for setup in [in_file, in_variable, joined] {
        let Tokens::Organizations(tokens) = setup.config().pulse.read_tokens().unwrap() else {
            panic!("tokens of organizations")
        };
        let tokens: Vec<_> = tokens.iter().map(|(name, token)| (name.as_str(), token.expose_secret())).collect();
        assert_eq!(tokens, [("acme", "token-a"), ("default", "token-d")]);
        assert_eq!(origin(&setup.config(), "pulse.organizations.acme").0, format!("{acme:?}"));
    }
}

#[test]
fn organizations_without_default_or_with_an_odd_name_are_refused() {
    assert_eq!(
        with_file("pulse.organizations = {acme = '/a'}").error(),
        "pulse.organizations from FILE: must have an entry named default: the flags of the whole installation come \
         from it"
    );
    assert_eq!(
        with_file("pulse.organizations = {default = '/a', 'a b' = '/b', '' = '/c'}").error(),
        "pulse.organizations. from FILE: must have a name of 1 to 64 letters, digits, - and _\n\
         pulse.organizations.a b from FILE: must have a name of 1 to 64 letters, digits, - and _"
    );
    let long = "x".repeat(65);
    assert!(with_file(&format!("pulse.organizations = {{default = '/a', {long} = '/b'}}")).load().is_err());
    for text in ["{default=", "default=/a", "{default=1}", "[/a]", "/a"] {
        let error = with_variable("PULSE_TELEMETRY_PULSE__ORGANIZATIONS", text).error();
        assert!(error.contains(r#"such as {acme="/path",default="/path"}"#), "{error}");
    }
}

#[test]
fn every_unreadable_token_file_of_the_organizations_is_told() {
    let config = with_file("pulse.organizations = {default = '/nonexistent/d', acme = '/nonexistent/a'}").config();
    let error = config.pulse.read_tokens().err().unwrap();
    let keys: Vec<_> = error.problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["pulse.organizations.acme", "pulse.organizations.default"]);
}

#[test]
fn organizations_and_a_single_token_contradict_each_other() {
    let organizations = || with_file("pulse.organizations = {default = '/d'}");
    let error = |other: &str| {
        format!(
            "pulse.organizations from FILE: contradicts {other}: \
             give either one token or a token file for each organization"
        )
    };
    assert_eq!(organizations().variable("PULSE_TOKEN", SECRET).error(), error("environment variable PULSE_TOKEN"));
    assert_eq!(
        organizations().variable("PULSE_TOKEN_FILE", "/t").error(),
        error("pulse.token_file from environment variable PULSE_TOKEN_FILE")
    );
    assert_eq!(
        organizations().file("pulse = {token_file = '/t', organizations = {default = '/d'}}").error(),
        error("pulse.token_file from FILE")
    );
}

// Secrets.

#[test]
fn no_secret_is_in_debug_or_in_the_origins() {
    let setup = with_variable("PULSE_TOKEN", SECRET);
    let path = setup.write("token", SECRET);
    let setup = setup
        .variable("PULSE_TELEMETRY_SERVE__TOKEN_FILE", &path)
        .variable("HTTPS_PROXY", &format!("http://me:{SECRET}@proxy:3128"));
    let config = setup.config();
    let env = Environment::new(setup.variables.clone());
    for shown in [
        format!("{config:?}"),
        format!("{:?}", config.origins()),
        format!("{:?}", config.pulse.read_tokens()),
        format!("{:?}", config.serve.read_token()),
        format!("{env:?}"),
    ] {
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

#[test]
fn a_secret_in_a_wrong_place_is_refused_and_not_repeated() {
    let url = format!("http://me:{SECRET}@pulse.lan");
    let query = format!("http://pulse.lan/?token={SECRET}");
    for (name, value) in [
        ("PULSE_TOKEN_FILE", SECRET),
        ("PULSE_TELEMETRY_PULSE__TOKEN_FILE", SECRET),
        ("PULSE_TELEMETRY_PULSE__TOKEN", SECRET),
        ("PULSE_TELEMETRY_SERVE__TOKEN_FILE", SECRET),
        ("PULSE_TELEMETRY_PULSE_TOKEN_FILE", SECRET),
        ("PULSE_TELEMETRY_PULSE__ORGANIZATIONS", SECRET),
        ("PULSE_TELEMETRY_PULSE__ORGANIZATIONS", &format!("{{default={SECRET}}}")),
        ("PULSE_TOKEN", &format!("{SECRET}\n{SECRET}")),
        ("PULSE_URL", &url),
        ("PULSE_URL", &query),
        ("PULSE_TELEMETRY_TELEMETRY__ENDPOINT", &url),
        ("PULSE_TELEMETRY_TELEMETRY__ENDPOINT", &query),
    ] {
        let setup = with_variable(name, value);
        let error = setup.load().err().unwrap_or_else(|| panic!("{name} is accepted"));
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains(SECRET), "{shown}");
        }
    }
    let numeric = with_file("pulse.token_file = 8675309").error();
    assert!(!numeric.contains("8675309"), "{numeric}");
}

// Durations.

#[test]
fn durations_are_numbers_with_units() {
    for (text, millis) in [
        ("500ms", 500),
        ("10s", 10_000),
        ("2m", 120_000),
        ("24h", 86_400_000),
        ("30d", 2_592_000_000),
        ("1h30m", 5_400_000),
        ("0s", 0),
        ("007s", 7_000),
    ] {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in ["", "10", "s", "1.5h", "-1s", "+1s", "1 h", " 1h", "1h ", "30m1h", "1h1h", "1H", "1w", "1é", "٣s"] {
        let error = parse_duration(text).err().unwrap_or_else(|| panic!("{text} is accepted"));
        assert!(error.contains(r#"such as "90s", "24h" or "1h30m""#), "{error}");
    }
    for text in ["99999999999999999999s", "18446744073709551615d", "18446744073709551615ms1ms", "213503982334d23h"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn a_compound_duration_is_the_sum_of_its_parts(
        days in 0u64..100_000, hours in 0u64..1_000, minutes in 0u64..1_000, seconds in 0u64..1_000, millis in 0u64..1_000,
    ) {
        let text = format!("{days}d{hours}h{minutes}m{seconds}s{millis}ms");
        let sum = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000 + millis;
        prop_assert_eq!(parse_duration(&text), Ok(Duration::from_millis(sum)));
    }

    #[test]
    fn no_text_makes_the_parsers_panic(text in ".*", spaced in "[0-9dhms é]{0,40}") {
        let _ = parse_duration(&text);
        let _ = parse_duration(&spaced);
        let _ = Url::parse(&text);
        let _ = Url::parse(&format!("http://{text}"));
    }

    #[test]
    fn no_environment_makes_the_loading_panic_or_an_error_run_over_its_lines(
        key in "(pulse|serve|schedule|log|state|telemetry|x)__(url|organizations|allowed_hosts|interval|level|enabled|y)",
        value in "[a-z0-9{}\\[\\]=,\"'\\\\\n :/.é-]{0,30}",
    ) {
        let setup = with_variable(&format!("PULSE_TELEMETRY_{}", key.to_uppercase()), &value);
        if let Err(error) = setup.load() {
            prop_assert!(!error.problems.is_empty());
            prop_assert_eq!(error.to_string().lines().count(), error.problems.len());
        }
    }
}

fn variable_name(key: &str) -> String {
    format!("PULSE_TELEMETRY_{}", key.replace('.', "__").to_uppercase())
}
