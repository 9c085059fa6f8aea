//! `[state]`: where the state is kept.

use std::path::{Path, PathBuf};

use pulse_telemetry_process::config::{Checker, Environment, Problem};
use serde::Deserialize;

/// Where the state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateConfig {
    /// The state directory, an absolute path: what another working directory would change is no place for an identity.
    pub dir: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawState {
    dir: String,
}

impl RawState {
    pub(super) fn check(self, check: &mut Checker<'_>, env: &Environment, is_root: bool) -> Option<StateConfig> {
        if !self.dir.is_empty() {
            let dir = absolute(&self.dir).ok_or("must be an absolute path, or empty for the default");
            return check.accept("state.dir", &self.dir, dir).map(|dir| StateConfig { dir });
        }
        let Some((dir, origin)) = default_dir(env, is_root) else {
            check.add(Problem::new(
                "state.dir",
                "is not set, and none of STATE_DIRECTORY, XDG_STATE_HOME and HOME gives an absolute path: \
                 set state.dir or PULSE_TELEMETRY_STATE__DIR",
            ));
            return None;
        };
        check.decide("state.dir", format!("{:?}", dir.display().to_string()), origin);
        Some(StateConfig { dir })
    }
}

fn default_dir(env: &Environment, is_root: bool) -> Option<(PathBuf, String)> {
    // What is not absolute is passed over, as the XDG specification asks.
    let variable = |name: &str| env.get(name).map(|value| (value.to_owned(), format!("environment variable {name}")));
    let below = |name: &str, rest: &str| {
        let (value, origin) = variable(name)?;
        Some((absolute(&value)?.join(rest), origin))
    };
    // Systemd names several directories with colons between them; ours has one, and it is the first.
    let given_by_systemd = variable("STATE_DIRECTORY")
        .and_then(|(value, origin)| Some((absolute(value.split(':').next().unwrap_or_default())?, origin)));
    given_by_systemd
        .or_else(|| is_root.then(|| (PathBuf::from("/var/lib/pulse-telemetry"), "default for root".to_owned())))
        .or_else(|| below("XDG_STATE_HOME", "pulse-telemetry"))
        .or_else(|| below("HOME", ".local/state/pulse-telemetry"))
}

fn absolute(text: &str) -> Option<PathBuf> {
    Path::new(text).is_absolute().then(|| PathBuf::from(text))
}
