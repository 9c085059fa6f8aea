//! What the environment says of consent and of proxies.

use pulse_telemetry_endpoint::{ProxyVariables, Variable};
use pulse_telemetry_process::config::Environment;

/// The variables that speak of consent, as they were found; `None` where unset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsentVariables {
    /// `PULSE_TELEMETRY`.
    pub pulse_telemetry: Option<String>,
    /// `DO_NOT_TRACK`.
    pub do_not_track: Option<String>,
    /// `PULSE_DISABLE_LOCAL_UPGRADE_METRICS`, which speaks of the local-only commercial events.
    pub disable_local_events: Option<String>,
}

impl ConsentVariables {
    pub(super) fn of(env: &Environment) -> Self {
        let value = |name| env.get(name).map(str::to_owned);
        Self {
            pulse_telemetry: value("PULSE_TELEMETRY"),
            do_not_track: value("DO_NOT_TRACK"),
            disable_local_events: value("PULSE_DISABLE_LOCAL_UPGRADE_METRICS"),
        }
    }
}

/// The proxy that pings are to take.
pub(super) fn proxy_variables(env: &Environment) -> ProxyVariables {
    ProxyVariables {
        https: first(env, &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
        no_proxy: first(env, &["no_proxy", "NO_PROXY"]),
    }
}

/// The first of the variables that is set and not empty.
fn first(env: &Environment, names: &[&'static str]) -> Option<Variable> {
    names.iter().find_map(|name| env.get_filled(name).map(|value| Variable { name, value: value.to_owned() }))
}
