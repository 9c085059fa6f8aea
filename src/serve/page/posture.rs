//! What else may leave the installation.

use maud::{Markup, html};
use pulse_telemetry_core::observation::Value;

use super::html::{code, facts, joined, not_read_yet};
use crate::daemon::{NoPreview, PostureSeen};
use crate::posture::{
    AiPosture, Covered, DataHandling, Posture, Provider, RelayPosture, RelayState, UpdateChannel, Updates,
};

/// The posture in words, or why it is not known.
pub(super) fn posture(posture: Option<&Result<PostureSeen, NoPreview>>) -> Markup {
    match posture {
        None => not_read_yet(),
        Some(Ok(PostureSeen { posture, .. })) => facts(&told(posture)),
        Some(Err(NoPreview { because, .. })) => {
            html! { p class="trouble" { "Pulse does not tell now. " (because.message) } }
        }
    }
}

fn told(posture: &Posture) -> [(&'static str, Markup); 4] {
    [
        ("AI providers", known(&posture.ai, ai)),
        ("Relay", known(&posture.relay, relay)),
        ("Updates", known(&posture.updates, updates)),
        ("Data handling", known(&posture.data_handling, data_handling)),
    ]
}

fn known<T>(value: &Value<T>, tell: impl FnOnce(&T) -> Markup) -> Markup {
    value.as_ref().map_or_else(
        |unknown| html! { "not known: " (unknown.reason.to_string()) " (" (code(unknown.request)) ")" },
        tell,
    )
}

fn ai(ai: &AiPosture) -> Markup {
    let of = |local: bool| {
        let those = ai.providers.iter().filter(move |provider| provider.local == local);
        those.map(|Provider { name, .. }| code(name)).collect::<Vec<_>>()
    };
    let (near, mut far) = (of(true), of(false));
    match ai.other_providers {
        0 => {}
        1 => far.push(html! { "one that is not known here" }),
        more => far.push(html! { (more) " that are not known here" }),
    }
    let (near_ones, far_ones) = (joined(&near, ", "), joined(&far, ", "));
    let outside = html! { (far_ones) ", " strong { "outside of your network" } };
    let named = match (far.is_empty(), near.is_empty()) {
        (true, true) => html! { "no provider is configured" },
        (true, false) => html! { (near_ones) ", in your own network" },
        (false, true) => outside,
        (false, false) => html! { (outside) ", and " (near_ones) " in it" },
    };
    match (ai.enabled, far.is_empty() && near.is_empty()) {
        (true, true) => html! { "on, but " (named) ": nothing is asked" },
        (true, false) => html! { "on, with " (named) ". Pulse sends a provider what your request needs" },
        (false, true) => html! { "off, and " (named) },
        (false, false) => html! { "off: nothing is asked. Configured: " (named) },
    }
}

fn relay(relay: &RelayPosture) -> Markup {
    match (relay.state, &relay.host) {
        (RelayState::On, Some(host)) => {
            html! { "on: Pulse is connected to " (code(&host.to_string())) ", for remote access" }
        }
        (RelayState::On, None) => html! { "on: Pulse is connected to a host whose name cannot be shown" },
        (RelayState::Off, _) => html! { "off: Pulse does not connect to it" },
        (RelayState::NotLicensed, _) => html! { "off: not in this Pulse's licence" },
        (RelayState::Absent, _) => html! { "this Pulse has none" },
    }
}

fn updates(updates: &Updates) -> Markup {
    let channel = match updates.channel {
        UpdateChannel::Stable => "releases",
        UpdateChannel::Rc => "release candidates",
        UpdateChannel::Other => "versions of a channel that is not known here",
        UpdateChannel::Unset => "versions of Pulse's own choice",
    };
    html! {
        @if updates.automatic {
            "automatic: Pulse looks for " (channel) " by itself, and installs them"
        } @else {
            "not installed by itself. Pulse looks for " (channel) " while its own page is used"
        }
    }
}

fn data_handling(rules: &Option<DataHandling>) -> Markup {
    let Some(rules) = rules else { return html! { "this Pulse has no rules for it" } };
    if rules.resources == 0 {
        return html! { "no resources yet" };
    }
    let parts = [
        ("by sensitivity", &rules.sensitivity),
        ("where it may go", &rules.routing),
        ("taken out before it goes", &rules.redaction),
    ];
    html! {
        "Pulse's rules cover " (rules.resources) " resources"
        ul { @for (title, covered) in parts { li { (title) ": " (listed(covered)) } } }
    }
}

fn listed(covered: &Covered) -> Markup {
    let parts: Vec<Markup> = covered.0.iter().map(|(rule, resources)| html! { (code(rule)) " " (resources) }).collect();
    html! { @if parts.is_empty() { "none" } @else { (joined(&parts, ", ")) } }
}
