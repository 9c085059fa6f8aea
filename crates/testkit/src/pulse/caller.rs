//! Who asks, and what that caller may see.

use super::model::{MONITORING_READ, PulseModel, SETTINGS_READ, Shape};
use crate::replay;

/// What the caller may see.
pub(super) struct Caller<'a> {
    /// None where no token was shown.
    pub(super) scopes: Option<&'a [String]>,
    pub(super) organization: &'a str,
    /// No token is needed here.
    pub(super) open: bool,
}

impl Caller<'_> {
    pub(super) fn known(&self) -> bool {
        self.open || self.scopes.is_some()
    }

    pub(super) fn may(&self, scope: &str) -> bool {
        self.open || self.scopes.is_some_and(|scopes| scopes.iter().any(|own| own == scope))
    }
}

pub(super) enum Needs {
    Nothing,
    Token,
    Scope(&'static str),
}

pub(super) fn scope_of(model: &PulseModel, path: &str) -> Needs {
    let absent_in_5 = ["/api/orgs", "/api/settings/relay"].contains(&path) && model.shape == Shape::V5;
    match path {
        "/api/version" | "/api/health" | "/api/security/status" => Needs::Nothing,
        "/api/resources" | "/api/resources/stats" | "/api/alerts/active" | "/api/state" | "/api/state/summary" => {
            Needs::Scope(MONITORING_READ)
        }
        "/api/settings/ai"
        | "/api/settings/relay"
        | "/api/security/tokens"
        | "/api/system/settings"
        | replay::PREVIEW
        | "/api/system/mock-mode"
        | "/api/orgs"
            if !absent_in_5 =>
        {
            Needs::Scope(SETTINGS_READ)
        }
        _ => Needs::Token,
    }
}
