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
    let level: Targets = log.level.parse().map_err(|_| "log.level cannot be used".to_owned())?;
    let ours = FilterFn::new(|metadata| metadata.target().starts_with("pulse_telemetry"));
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let layer = match log.format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(level).with_filter(ours)).init();
    Ok(())
}
