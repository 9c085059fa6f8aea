//! A Pulse of our own: the shapes of real answers (6 and 5.1), from a model that a test changes while it runs.

mod caller;
mod estate;
mod installation;
mod model;

use std::sync::{Arc, Mutex};

use serde_json::json;

use self::caller::{Caller, Needs, scope_of};
use self::estate::{alerts, resources, state_5, state_6, stats_5, stats_6, summary};
use self::installation::{
    ai, error, health, license, not_found, orgs, own_preview, relay, security_status, system_settings, tokens, version,
};
pub use self::model::{Counts, MONITORING_READ, Orgs, PLANTED, PulseModel, Relay, SETTINGS_READ, Shape, TOKEN, Token};
use super::lock;
use super::replay::{self, token_of};
use super::server::{RequestRecord, ResponsePlan, Server};

/// The simulated Pulse, running.
pub struct SimulatedPulse {
    pub server: Server,
    model: Arc<Mutex<PulseModel>>,
}

impl SimulatedPulse {
    pub fn start(model: PulseModel) -> Self {
        let model = Arc::new(Mutex::new(model));
        let seen_by_server = Arc::clone(&model);
        let server = Server::start(move |request| answer(&lock(&seen_by_server), &request));
        Self { server, model }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Changes the model; the next answer shows it.
    pub fn change(&self, change: impl FnOnce(&mut PulseModel)) {
        change(&mut lock(&self.model));
    }

    /// Makes one path answer that, until `restore`.
    pub fn replace(&self, path: &str, plan: ResponsePlan) {
        self.change(|model| drop(model.overrides.insert(path.to_owned(), plan)));
    }

    /// Undoes `replace`.
    pub fn restore(&self, path: &str) {
        self.change(|model| drop(model.overrides.remove(path)));
    }

    /// See `PulseModel::drift`.
    pub fn drift(&self, step: u64) {
        self.change(|model| model.drift(step));
    }
}

/// What a Pulse of that model answers, for a server that now and then answers something else.
pub fn answer(model: &PulseModel, request: &RequestRecord) -> ResponsePlan {
    if let Some(plan) = model.overrides.get(request.path()) {
        return plan.clone();
    }
    if request.method != "GET" {
        return ResponsePlan::text(405, "Method Not Allowed\n");
    }
    let token = token_of(request);
    let known = token.as_ref().and_then(|token| model.tokens.get(token));
    if model.require_auth && token.is_some() && known.is_none() {
        return error(401, json!({"error": "Invalid API token"}));
    }
    let caller = Caller {
        scopes: known.map(|token| token.scopes.as_slice()),
        organization: known.map_or("default", |token| &token.organization),
        open: !model.require_auth,
    };
    let needed = scope_of(model, request.path());
    match needed {
        Needs::Nothing => {}
        _ if !caller.known() => return error(401, json!({"error": "Authentication required"})),
        Needs::Scope(scope) if !caller.may(scope) => {
            return error(403, json!({"error": "missing_scope", "requiredScope": scope}));
        }
        Needs::Token | Needs::Scope(_) => {}
    }
    route(model, &caller, request)
}

fn route(model: &PulseModel, caller: &Caller<'_>, request: &RequestRecord) -> ResponsePlan {
    let counts = match model.other_organizations.get(caller.organization) {
        Some(counts) => counts,
        None => &model.counts,
    };
    let v6 = model.shape == Shape::V6;
    let value = match request.path() {
        "/api/version" => version(model),
        "/api/health" => health(model),
        "/api/security/status" => security_status(model, caller),
        "/api/security/tokens" => tokens(model),
        "/api/resources" if v6 => resources(counts, request),
        "/api/resources" => json!({"resources": null, "count": 0, "stats": stats_5(counts)}),
        "/api/resources/stats" if v6 => stats_6(counts),
        "/api/resources/stats" => stats_5(counts),
        "/api/state/summary" if v6 && model.summary => summary(counts),
        "/api/state" if v6 => state_6(counts),
        "/api/state" => state_5(counts),
        "/api/alerts/active" => alerts(counts),
        "/api/system/settings" => system_settings(model),
        replay::PREVIEW if v6 => own_preview(model),
        "/api/system/mock-mode" => json!({"enabled": model.mock, "config": {"NodeCount": 3, "VMsPerNode": 4}}),
        "/api/settings/ai" => ai(model),
        "/api/settings/relay" if v6 => return relay(model),
        "/api/license/status" => license(model),
        "/api/orgs" => return orgs(model, caller),
        _ => return not_found(),
    };
    ResponsePlan::json(200, &value)
}
