//! What is said of a wrong configuration.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use pulse_telemetry::config::Config;
use pulse_telemetry_process::config::Environment;

use super::{SECRET, Setup, with_file, with_variable};

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
