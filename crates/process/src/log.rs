//! The log of both programs.

use tracing_subscriber::filter::{FilterFn, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{Log, LogFormat};

/// The log goes to standard error. Only this program's own events are in it, whatever the level: what the libraries
/// below say names hosts and addresses.
///
/// # Errors
/// The level is none.
pub fn start_log(log: &Log) -> Result<(), String> {
    let level = targets(&log.level).ok_or_else(|| "log.level cannot be used".to_owned())?;
    let ours = FilterFn::new(|metadata| metadata.target().starts_with("pulse_telemetry"));
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let layer = match log.format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(level).with_filter(ours)).init();
    Ok(())
}

/// Where the modules are that were once of one crate, and that log. Their old names in `log.level` go on to work.
const MOVED: [(&str, &str); 5] = [
    ("pulse_telemetry::collector", "pulse_telemetry_collector"),
    ("pulse_telemetry::serve::answers", "pulse_telemetry_http::server::answers"),
    ("pulse_telemetry::tls", "pulse_telemetry_http::tls"),
    ("pulse_telemetry::no_core", "pulse_telemetry_process::no_core"),
    ("pulse_telemetry::supervisor", "pulse_telemetry_process::supervisor"),
];

/// The level or directives, with each module under the name that it has now.
fn targets(level: &str) -> Option<Targets> {
    let written: Targets = level.parse().ok()?;
    let moved = written.iter().filter_map(|(target, level)| {
        let (name, rest) = MOVED.iter().find_map(|(old, new)| Some((new, target.strip_prefix(old)?)))?;
        Some((format!("{name}{rest}"), level))
    });
    Some(moved.fold(written.clone(), |targets, (target, level)| targets.with_target(target, level)))
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_module_of_an_old_configuration_is_logged_under_the_name_that_it_has_now() {
        for (written, target) in [
            ("info,pulse_telemetry::collector=debug", "pulse_telemetry_collector::server"),
            ("info,pulse_telemetry::collector::purge=debug", "pulse_telemetry_collector::purge"),
            ("info,pulse_telemetry::tls=debug", "pulse_telemetry_http::tls"),
            ("warn,pulse_telemetry=debug", "pulse_telemetry_process::supervisor"),
            ("info,pulse_telemetry::daemon=debug", "pulse_telemetry::daemon"),
        ] {
            let targets = targets(written).unwrap();
            assert!(targets.would_enable(target, &Level::DEBUG), "{written}");
            assert!(!targets.would_enable(target, &Level::TRACE), "{written}");
        }
        assert!(targets("pulse_telemetry=nonsense").is_none());
    }
}
