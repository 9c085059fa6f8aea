//! The layers of the configuration: defaults, file, variables.

use std::fs;
use std::path::Path;
use std::time::Duration;

use pulse_telemetry::config::{Config, DEFAULTS, Listen, PlatformSetting, TokenSource, Tokens};
use pulse_telemetry_endpoint::Variable;
use pulse_telemetry_process::config::{Environment, LogFormat};

use super::{SECRET, Setup, one_token, origin, variable_name, with_file, with_variable};

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
        ("telemetry.receipt_keys_file", tls.clone(), format!("{tls:?}")),
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
        "telemetry.enabled telemetry.endpoint telemetry.receipt_keys_file",
        "pulse.url pulse.token_file pulse.ca_file pulse.timeout pulse.platform",
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
