//! `[publish]`: whether the collector publishes numbers by itself, and when.

use std::path::PathBuf;

use jiff::civil::{Time, time};
use pulse_telemetry_process::config::Checker;
use serde::Deserialize;

use super::absolute_path;

/// The first minute at which a day can be published: its last pings are stored by then.
const FIRST: Time = time(0, 10, 0, 0);

/// Whether the collector publishes numbers by itself, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishConfig {
    /// The directory of the site; `None`: nothing is published.
    pub dir: Option<PathBuf>,
    /// When the day before is counted, in UTC.
    pub at: Time,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPublish {
    dir: String,
    at: String,
}

impl RawPublish {
    pub(super) fn check(self, check: &mut Checker<'_>) -> Option<PublishConfig> {
        let dir = absolute_path(check, "publish.dir", &self.dir);
        let at = Time::strptime("%H:%M", &self.at).ok().filter(|at| *at >= FIRST);
        let at = check.accept("publish.at", &self.at, at.ok_or("must be a time of day in UTC, from 00:10 to 23:59"));
        Some(PublishConfig { dir: dir?, at: at? })
    }
}
