//! `[log]`: what is logged, and how.

use serde::Deserialize;
use tracing_subscriber::filter::Targets;

use super::checker::Checker;

/// The words for how much is logged, the least first.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level, or directives for modules: what `tracing_subscriber::filter::Targets` reads.
    pub level: String,
    /// How a line is written.
    pub format: LogFormat,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[log]` as it is written, not yet checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLog {
    level: String,
    format: String,
}

impl RawLog {
    /// The section, or `None` and a problem.
    pub fn check(self, check: &mut Checker<'_>) -> Option<Log> {
        let level = level(&self.level).ok_or(
            "must be off, error, warn, info, debug or trace, or directives such as info,pulse_telemetry::pulse=debug",
        );
        let format = match self.format.to_ascii_lowercase().as_str() {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("must be text or json"),
        };
        let level = check.accept("log.level", &self.level, level);
        let format = check.accept("log.format", &self.format, format);
        Some(Log { level: level?, format: format? })
    }
}

/// The level or directives, where they are some. `Targets` alone would take a misspelled level for a module's name.
fn level(written: &str) -> Option<String> {
    let is_directive = |directive: &str| {
        let (module, level) = directive.rsplit_once('=').map_or((None, directive), |(m, level)| (Some(m), level));
        LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) && module.is_none_or(is_module)
    };
    (written.split(',').all(is_directive) && written.parse::<Targets>().is_ok()).then(|| written.to_owned())
}

fn is_module(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}
