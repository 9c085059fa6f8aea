//! What else may leave the installation.

use pulse_telemetry_core::observation::Value;

use super::html::{NOT_READ_YET, code, escape, facts};
use crate::daemon::{NoPreview, PostureSeen};
use crate::posture::{Ai, Channel, Covered, DataHandling, Posture, Provider, Relay, RelayState, Updates};

/// The posture in words, or why it is not known.
pub(super) fn elsewhere(posture: Option<&Result<PostureSeen, NoPreview>>) -> String {
    match posture {
        None => NOT_READ_YET.to_owned(),
        Some(Ok(PostureSeen { posture, .. })) => facts(&told(posture)),
        Some(Err(NoPreview { because, .. })) => {
            format!("<p class=\"trouble\">Pulse does not tell now. {}</p>\n", escape(&because.message))
        }
    }
}

fn told(posture: &Posture) -> [(&'static str, String); 4] {
    [
        ("AI providers", known(&posture.ai, ai)),
        ("Relay", known(&posture.relay, relay)),
        ("Updates", known(&posture.updates, updates)),
        ("Data handling", known(&posture.data_handling, data_handling)),
    ]
}

fn known<T>(value: &Value<T>, tell: impl FnOnce(&T) -> String) -> String {
    value.as_ref().map_or_else(
        |unknown| format!("not known: {} ({})", escape(&unknown.reason.to_string()), code(unknown.request)),
        tell,
    )
}

fn ai(ai: &Ai) -> String {
    let of = |local: bool| {
        let those = ai.providers.iter().filter(move |provider| provider.local == local);
        those.map(|Provider { name, .. }| code(name)).collect::<Vec<_>>()
    };
    let (near, mut far) = (of(true), of(false));
    match ai.other_providers {
        0 => {}
        1 => far.push("one that is not known here".to_owned()),
        more => far.push(format!("{more} that are not known here")),
    }
    let named = match (far.is_empty(), near.is_empty()) {
        (true, true) => "no provider is configured".to_owned(),
        (true, false) => format!("{}, in your own network", near.join(", ")),
        (false, true) => format!("{}, <strong>outside of your network</strong>", far.join(", ")),
        (false, false) => {
            format!("{}, <strong>outside of your network</strong>, and {} in it", far.join(", "), near.join(", "))
        }
    };
    match (ai.enabled, far.is_empty() && near.is_empty()) {
        (true, true) => format!("on, but {named}: nothing is asked"),
        (true, false) => format!("on, with {named}. Pulse sends a provider what your request needs"),
        (false, true) => format!("off, and {named}"),
        (false, false) => format!("off: nothing is asked. Configured: {named}"),
    }
}

fn relay(relay: &Relay) -> String {
    match (relay.state, &relay.host) {
        (RelayState::On, Some(host)) => {
            format!("on: Pulse is connected to {}, for remote access", code(&host.to_string()))
        }
        (RelayState::On, None) => "on: Pulse is connected to a host whose name cannot be shown".to_owned(),
        (RelayState::Off, _) => "off: Pulse does not connect to it".to_owned(),
        (RelayState::NotLicensed, _) => "off: not in this Pulse's licence".to_owned(),
        (RelayState::Absent, _) => "this Pulse has none".to_owned(),
    }
}

fn updates(updates: &Updates) -> String {
    let channel = match updates.channel {
        Channel::Stable => "releases",
        Channel::Rc => "release candidates",
        Channel::Other => "versions of a channel that is not known here",
        Channel::Unset => "versions of Pulse's own choice",
    };
    if updates.automatic {
        format!("automatic: Pulse looks for {channel} by itself, and installs them")
    } else {
        format!("not installed by itself. Pulse looks for {channel} while its own page is used")
    }
}

fn data_handling(rules: &Option<DataHandling>) -> String {
    let Some(rules) = rules else { return "this Pulse has no rules for it".to_owned() };
    if rules.resources == 0 {
        return "no resources yet".to_owned();
    }
    let parts: Vec<String> = [
        ("by sensitivity", &rules.sensitivity),
        ("where it may go", &rules.routing),
        ("taken out before it goes", &rules.redaction),
    ]
    .into_iter()
    .map(|(title, covered)| format!("<li>{title}: {}</li>\n", listed(covered)))
    .collect();
    format!("Pulse's rules cover {} resources\n<ul>\n{}</ul>", rules.resources, parts.concat())
}

fn listed(covered: &Covered) -> String {
    let parts: Vec<String> = covered.0.iter().map(|(rule, resources)| format!("{} {resources}", code(rule))).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}
