//! What a variable's name means, and what a blank value is: for every key of both programs.

use std::fs;
use std::path::Path;

use pulse_telemetry::config::{Config, DEFAULTS};
use pulse_telemetry_collector::config as collector;
use pulse_telemetry_process::config::{Environment, Setting};

use super::{SECRET, Setup, variable_name, with_file, with_variable};

/// Every key of a program's defaults, with a value that is not its default, as the file writes it.
fn every_key(defaults: &str) -> Vec<(String, String)> {
    let table: toml::Table = defaults.parse().unwrap();
    let keys = table.iter().flat_map(|(section, keys)| {
        keys.as_table().unwrap().iter().map(move |(key, default)| (format!("{section}.{key}"), default.clone()))
    });
    let other = |(key, default): (String, toml::Value)| {
        let value = match (key.as_str(), default) {
            (_, toml::Value::Boolean(default)) => (!default).to_string(),
            (_, toml::Value::Integer(default)) => (default + 1).to_string(),
            ("serve.trusted_proxies" | "serve.allowed_hosts" | "admin.allowed_hosts", _) => "['10.0.0.5']".to_owned(),
            ("pulse.organizations", _) => "{default = '/d'}".to_owned(),
            ("log.level", _) => "'warn'".to_owned(),
            ("log.format", _) => "'json'".to_owned(),
            ("pulse.platform", _) => "'binary'".to_owned(),
            ("pulse.timeout" | "limits.commit_timeout", _) => "'3s'".to_owned(),
            ("schedule.startup_delay", _) => "'3m'".to_owned(),
            ("schedule.interval", _) => "'25h'".to_owned(),
            ("schedule.jitter", _) => "'3m'".to_owned(),
            ("serve.listen" | "admin.listen", _) => "'127.0.0.1:3'".to_owned(),
            ("publish.at", _) => "'01:00'".to_owned(),
            ("storage.url", _) => "'sqlite:/elsewhere'".to_owned(),
            (_, toml::Value::String(default)) if default.starts_with("http") => "'https://elsewhere/'".to_owned(),
            (_, toml::Value::String(default)) if default.is_empty() => "'/elsewhere'".to_owned(),
            (key, default) => panic!("a value for {key}, whose default is {default}"),
        };
        (key, value)
    };
    keys.map(other).collect()
}

/// What a program says of every key: the value in force and its origin, or what is wrong.
type Said = Result<Vec<Setting>, String>;

/// Loads the sidecar's configuration from a file and variables.
fn sidecars(file: &Path, env: &Environment) -> Said {
    let config = Config::load(Some(file), env, true).map_err(|error| error.to_string())?;
    Ok(config.origins().to_vec())
}

fn collectors(file: &Path, env: &Environment) -> Said {
    let config = collector::CollectorConfig::load(Some(file), env).map_err(|error| error.to_string())?;
    Ok(config.origins().to_vec())
}

/// For every key: blank in the file it is the default, blank in a variable it is what the file says, or the default.
fn blank_is_not_set(defaults: &str, prefix: &str, load: impl Fn(&Path, &Environment) -> Said) {
    let name = |key: &str| format!("{prefix}{}", key.replace('.', "__").to_uppercase());
    let setup = Setup::new();
    let said = |file: &str, variable: Option<(&str, &str)>| {
        fs::write(setup.path(), file).unwrap();
        load(&setup.path(), &Environment::new(variable.map(|(key, value)| (name(key), value.to_owned()))))
    };
    let by_default = said("", None);
    assert!(by_default.is_ok());
    let keys = every_key(defaults);
    assert!(keys.len() > 10);
    for (key, value) in &keys {
        let set = format!("{key} = {value}");
        // Half of a pair may be refused, and has to be refused in the same words.
        let by_file = said(&set, None);
        assert_ne!(by_file, by_default, "{key} = {value}");
        for blank in ["", " ", "\t \u{a0}\n"] {
            assert_eq!(said("", Some((key, blank))), by_default, "{key}: {blank:?} in a variable");
            assert_eq!(said(&set, Some((key, blank))), by_file, "{key}: {blank:?} over the file");
            assert_eq!(
                said(&format!("{key} = {}", toml::Value::from(blank)), None),
                by_default,
                "{key}: {blank:?} in the file"
            );
        }
    }
}

#[test]
fn blank_is_not_set_for_every_key_in_a_variable_and_in_the_file() {
    blank_is_not_set(DEFAULTS, "PULSE_TELEMETRY_", sidecars);
}

#[test]
fn blank_is_not_set_for_every_key_of_the_collector() {
    blank_is_not_set(collector::DEFAULTS, "PULSE_TELEMETRY_COLLECTOR_", collectors);
}

#[test]
fn a_blank_short_name_is_not_set_and_the_layer_below_holds() {
    for blank in ["", "  ", "\t"] {
        let names = ["PULSE_URL", "PULSE_TOKEN", "PULSE_TOKEN_FILE", "PULSE_CACERT", "CREDENTIALS_DIRECTORY"];
        let blank = |setup: Setup| names.iter().fold(setup, |setup, name| setup.variable(name, blank));
        assert_eq!(blank(Setup::new()).config().origins(), Setup::new().config().origins());
        let set = || with_variable("PULSE_TELEMETRY_PULSE__URL", "http://below");
        assert_eq!(blank(set()).config().origins(), set().config().origins());
    }
}

#[test]
fn what_is_not_a_key_stays_an_error_when_it_is_blank() {
    let error = with_variable("PULSE_TELEMETRY_SERVE__PORT", "").error();
    assert!(
        error.starts_with("serve.port from environment variable PULSE_TELEMETRY_SERVE__PORT: is not a key"),
        "{error}"
    );
    assert!(with_file("pulse.token = ''").error().starts_with("pulse.token from FILE: is not a key"));
    assert!(with_file("[pulse.organizations]\ndefault = '/d'\nacme = ' '").load().is_err(), "no file for acme");
}

/// What Kubernetes and Docker write for a service of that name, but for the program's own prefix.
fn service_links(service: &str) -> Vec<(String, String)> {
    let forms = [
        ("SERVICE_HOST", "10.96.4.2"),
        ("SERVICE_PORT", "9090"),
        ("SERVICE_PORT_WEB_UI", "9090"),
        ("PORT", "tcp://10.96.4.2:9090"),
        ("PORT_9090_TCP", "tcp://10.96.4.2:9090"),
        ("PORT_9090_TCP_PROTO", "tcp"),
        ("PORT_9090_TCP_PORT", "9090"),
        ("PORT_9090_TCP_ADDR", "10.96.4.2"),
        ("PORT_53_UDP", "udp://10.96.4.2:53"),
        ("PORT_132_SCTP_ADDR", "10.96.4.2"),
    ];
    forms.iter().map(|(form, value)| (format!("{service}{form}"), (*value).to_owned())).collect()
}

#[test]
fn the_addresses_of_neighbours_are_passed_over_whatever_stands_before_them() {
    let sections: toml::Table = DEFAULTS.parse().unwrap();
    let of_sections = sections.keys().map(|section| format!("{}_", section.to_uppercase()));
    let services = ["", "METRICS_", "COLLECTOR_", "COLLECTOR_POSTGRESQL_", "STATE_DIR_", "X_Y_Z_1_"].map(str::to_owned);
    for service in services.into_iter().chain(of_sections) {
        let mut setup = Setup::new();
        for (name, value) in service_links(&service) {
            setup = setup.variable(&format!("PULSE_TELEMETRY_{name}"), &value);
        }
        let config = setup.config();
        assert_eq!(config.origins(), Setup::new().config().origins(), "{service}");
        assert!(config.warnings().is_empty(), "{service}");
    }
}

#[test]
fn a_strangers_variable_is_a_warning_that_names_the_nearest_key_and_never_the_value() {
    for (name, nearest) in [
        ("TAG", None),
        ("VERSION", None),
        ("UID", None),
        ("DATA", None),
        ("COLOUR", None),
        ("", None),
        ("LOGGING_LEVEL", Some("LOG__LEVEL")),
        ("TOKEN_FILE", Some("PULSE__TOKEN_FILE")),
        ("URL", Some("PULSE__URL")),
        ("LISTENS", Some("SERVE__LISTEN")),
        ("STATE_DIRECTORY", Some("STATE__DIR")),
        ("SCHEDULE_INTERVALL", Some("SCHEDULE__INTERVAL")),
    ] {
        let name = format!("PULSE_TELEMETRY_{name}");
        let config = with_variable(&name, SECRET).config();
        assert_eq!(config.origins(), Setup::new().config().origins(), "{name}");
        let [warning] = config.warnings() else { panic!("one warning for {name}: {:?}", config.warnings()) };
        let said = warning.to_string();
        let start = format!(
            "environment variable {name}: is not a key and changes nothing: the nearest key is PULSE_TELEMETRY_"
        );
        assert!(said.starts_with(&start) && !said.contains(SECRET), "{said}");
        if let Some(nearest) = nearest {
            assert_eq!(said, format!("{start}{nearest}"));
        }
    }
}

#[test]
fn a_key_with_an_underscore_missing_ends_the_start_with_the_right_spelling() {
    let mut seen = 0;
    for (key, _) in every_key(DEFAULTS) {
        let right = variable_name(&key);
        let (section, key) = key.split_once('.').unwrap();
        for wrong in
            [format!("{section}_{key}"), format!("{section}{key}"), format!("{section}_{}", key.replace('_', ""))]
        {
            let name = format!("PULSE_TELEMETRY_{}", wrong.to_uppercase());
            let error = with_variable(&name, SECRET).error();
            assert_eq!(error, format!("environment variable {name}: is not a key: write {right}"));
            seen += 1;
        }
    }
    assert!(seen > 50);
}

#[test]
fn a_variable_that_speaks_of_consent_ends_the_start_with_the_right_spelling() {
    let bare = ["ENABLED", "ENABLE", "DISABLED", "DISABLE", "OFF", "OPT_OUT", "OPTOUT", "DO_NOT_TRACK"];
    for name in
        bare.into_iter().chain(["PINGS_ENABLED", "SENDING_OFF", "EVENTS_DISABLED", "MY_OPT_OUT", "PINGS_DISABLE"])
    {
        for value in ["true", "false", ""] {
            let name = format!("PULSE_TELEMETRY_{name}");
            assert_eq!(
                with_variable(&name, value).error(),
                format!(
                    "environment variable {name}: is not a key: write PULSE_TELEMETRY=false or \
                     PULSE_TELEMETRY_TELEMETRY__ENABLED=false to switch telemetry off, and \
                     PULSE_TELEMETRY_EVENTS__RECORD=false for the local events"
                )
            );
        }
    }
    for name in ["PULSE_TELEMETRY_KICKOFF", "PULSE_TELEMETRY_OFFSET", "PULSE_TELEMETRY_ENABLED_AT"] {
        assert_eq!(with_variable(name, "1").config().warnings().len(), 1, "{name}");
    }
}

#[test]
fn the_collector_judges_the_variables_of_neighbours_by_the_same_rules() {
    let said = |name: &str, value: &str| {
        let name = format!("PULSE_TELEMETRY_COLLECTOR_{name}");
        let env = Environment::new([(name, value.to_owned())]);
        let config =
            collector::CollectorConfig::load(Some(&Setup::new().path()), &env).map_err(|error| error.to_string())?;
        Ok::<_, String>(config.warnings().iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    for service in ["", "POSTGRESQL_", "STORAGE_", "SERVE_"] {
        for (name, value) in service_links(service) {
            assert_eq!(said(&name, &value), Ok(Vec::new()), "{name}");
        }
    }
    let warned = said("VERSION", SECRET).unwrap();
    assert!(warned[0].contains("the nearest key is PULSE_TELEMETRY_COLLECTOR_") && !warned[0].contains(SECRET));
    for (key, _) in every_key(collector::DEFAULTS) {
        let right = format!("write PULSE_TELEMETRY_COLLECTOR_{}", key.replace('.', "__").to_uppercase());
        let error = said(&key.replace('.', "_").to_uppercase(), SECRET).unwrap_err();
        assert!(error.ends_with(&right) && !error.contains(SECRET), "{error}");
    }
    assert!(said("ENABLED", "false").unwrap_err().contains("the collector has no such switch"));
    assert!(said("STORAGE__FILE", "x").unwrap_err().contains("is not a key: the keys of storage are"));
}
