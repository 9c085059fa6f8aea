//! The answers that tell how Pulse is set up, and by whom.

use serde_json::{Map, Value, json};

use super::caller::Caller;
use super::model::{
    CLIENT_IP, CLUSTER, Counts, NODE, NODE_FQDN, Orgs, PulseModel, Relay, SETTINGS_READ, Shape, TOKEN_HINT, TOKEN_NAME,
    Token, USER,
};
use crate::server::ResponsePlan;

pub(super) fn error(status: u16, value: Value) -> ResponsePlan {
    ResponsePlan::json(status, &value)
}

pub(super) fn not_found() -> ResponsePlan {
    ResponsePlan::text(404, "404 page not found\n")
}

pub(super) fn version(model: &PulseModel) -> Value {
    let mut answer = json!({
        "version": model.version,
        "buildTime": "release",
        "build": "release",
        "goVersion": "go1.26.8",
        "runtime": "go",
        "channel": if model.version.contains("-rc") { "rc" } else { "stable" },
        "isDocker": model.is_docker,
        "isSourceBuild": false,
        "isDevelopment": false,
        "deploymentType": if model.mock { "mock" } else { &model.deployment_type },
        "updateAvailable": false,
        "containerized": model.is_docker,
    });
    if model.shape == Shape::V6 {
        answer["agentUpdateTargetVersion"] = json!(model.version);
    }
    answer
}

pub(super) fn health(model: &PulseModel) -> Value {
    let mut answer = json!({
        "status": "healthy",
        "timestamp": 1_795_423_706,
        "uptime": model.uptime,
        "proxyInstallScriptAvailable": true,
    });
    if model.shape == Shape::V6 {
        answer["dependencies"] = json!({"monitor": true, "scheduler": true, "websocket": true});
    }
    answer
}

/// Pulse 6 says more the more the caller may see; 5.1 says nearly all to everybody.
pub(super) fn security_status(model: &PulseModel, caller: &Caller<'_>) -> Value {
    let public = json!({
        "hasAuthentication": model.require_auth,
        "requiresAuth": model.require_auth,
        "hideLocalLogin": false,
    });
    let session = json!({
        "hasProxyAuth": false,
        "proxyAuthLogoutURL": "",
        "proxyAuthUsername": "",
        "proxyAuthIsAdmin": false,
    });
    let scopes = caller.scopes.map_or_else(|| json!({}), |scopes| json!({"tokenScopes": scopes}));
    if model.shape == Shape::V5 {
        return merged([public, session, security_of_all(model, caller), scopes, sso_of_5(model)]);
    }
    let privileged = caller.may(SETTINGS_READ);
    let mut parts = vec![public, security_of_6(model, caller)];
    if model.sso {
        parts.push(json!({"ssoProviders": sso_providers(model)}));
    }
    if caller.known() {
        parts.extend([session, scopes]);
        parts.push(json!({
            "ssoSessionUsername": "",
            "ssoSessionDisplayName": "",
            "sessionCapabilities": {"demoMode": model.demo, "assistantEnabled": model.ai},
            "settingsCapabilities": {"systemSettingsRead": privileged, "relayRead": privileged, "relayWrite": false},
        }));
    }
    if privileged {
        parts.push(security_of_all(model, caller));
    }
    merged(parts)
}

/// What both say of the installation.
fn security_of_all(model: &PulseModel, caller: &Caller<'_>) -> Value {
    json!({
        "apiTokenConfigured": !model.tokens.is_empty(),
        "apiTokenHint": if caller.known() { TOKEN_HINT } else { "" },
        "exportProtected": true,
        "unprotectedExportAllowed": false,
        "configuredButPendingRestart": false,
        "hasAuditLogging": false,
        "credentialsEncrypted": true,
        "hasHTTPS": false,
        "clientIP": CLIENT_IP,
        "isPrivateNetwork": true,
        "isTrustedNetwork": true,
        "publicAccess": false,
        "authUsername": if caller.known() { USER } else { "" },
        "authLastModified": "",
        "agentUrl": format!("http://{NODE_FQDN}:7655"),
    })
}

fn security_of_6(model: &PulseModel, caller: &Caller<'_>) -> Value {
    let level = match (caller.may(SETTINGS_READ), caller.known()) {
        (true, _) => "privileged",
        (false, true) => "authenticated",
        (false, false) => "public",
    };
    json!({
        "detailLevel": level,
        "ssoEnabled": model.sso,
        "presentationPolicy": {
            "demoMode": model.demo,
            "readOnly": model.demo,
            "hideCommercial": false,
            "hideUpgrade": true,
        },
    })
}

fn sso_of_5(model: &PulseModel) -> Value {
    json!({
        "oidcEnabled": model.sso,
        "oidcClientId": "",
        "oidcIssuer": "",
        "oidcLogoutURL": "",
        "oidcUsername": "",
        "ssoProviders": sso_providers(model),
    })
}

fn merged(parts: impl IntoIterator<Item = Value>) -> Value {
    let members = parts.into_iter().flat_map(|part| match part {
        Value::Object(members) => members,
        _ => Map::new(),
    });
    Value::Object(members.collect())
}

fn sso_providers(model: &PulseModel) -> Value {
    if !model.sso {
        return json!([]);
    }
    let login = format!("https://login.{NODE_FQDN}/");
    json!([{"id": "6c1f", "name": CLUSTER, "type": "oidc", "displayName": CLUSTER, "loginUrl": login}])
}

pub(super) fn tokens(model: &PulseModel) -> Value {
    let (prefix, suffix) = TOKEN_HINT.split_once("...").unwrap();
    let one = |(at, token): (usize, &Token)| {
        let mut answer = json!({
            "id": format!("1f0c7be3-fa00-4c41-9d00-{at:012}"),
            "name": TOKEN_NAME,
            "prefix": prefix,
            "suffix": suffix,
            "createdAt": "2026-11-23T08:48:23.450744898Z",
            "lastUsedAt": "2026-11-23T08:48:27.069348406Z",
            "scopes": token.scopes,
        });
        if model.shape == Shape::V6 {
            answer["ownerUserId"] = json!(USER);
        }
        answer
    };
    json!({"tokens": model.tokens.values().enumerate().map(one).collect::<Vec<_>>()})
}

pub(super) fn system_settings(model: &PulseModel) -> Value {
    let mut overrides = json!({"BIND_ADDRESS": true, "discoveryEnabled": true});
    let mut answer = json!({
        "pvePollingInterval": 10,
        "pbsPollingInterval": 60,
        "pmgPollingInterval": 60,
        "backupPollingEnabled": true,
        "connectionTimeout": 60,
        "autoUpdateEnabled": false,
        "discoveryEnabled": false,
        "discoverySubnet": "auto",
        "discoveryConfig": {"environment_override": "auto", "subnet_blocklist": ["169.254.0.0/16"]},
        "fullWidthMode": false,
        "allowEmbedding": false,
        "temperatureMonitoringEnabled": true,
        "dnsCacheTimeout": 300,
        "hideLocalLogin": false,
        "disableDockerUpdateActions": false,
    });
    if model.shape == Shape::V6 {
        answer["updateChannel"] = json!("stable");
        answer["enableProxmoxGuestDockerInventory"] = json!(false);
        overrides["FRONTEND_PORT"] = json!(true);
    }
    if let Some(enabled) = model.telemetry_enabled {
        answer["telemetryEnabled"] = json!(enabled);
    }
    for (key, value) in [
        ("disableLocalUpgradeMetrics", model.disable_local_upgrade_metrics),
        ("reduceProUpsellNoise", model.reduce_pro_upsell_noise),
    ] {
        if let Some(value) = value {
            answer[key] = json!(value);
        }
    }
    if model.telemetry_env_override {
        overrides["PULSE_TELEMETRY"] = json!(true);
        overrides["telemetryEnabled"] = json!(true);
    }
    answer["envOverrides"] = overrides;
    answer
}

/// The ping that Pulse would send itself, with some fields of newer builds.
pub(super) fn own_preview(model: &PulseModel) -> Value {
    let count = |of: fn(&Counts) -> u64| of(&model.counts) + model.other_organizations.values().map(of).sum::<u64>();
    let mut payload = json!({
        "schema_version": 10,
        "sent_at": "2026-11-25T23:43:35Z",
        "install_id": "1a1ecd79-a9c5-4a1c-a155-4f0689724ae7",
        "version": model.version,
        "version_raw": format!("v{}", model.version),
        "version_channel": if model.version.contains("-rc") { "rc" } else { "stable" },
        "version_is_development": false,
        "version_is_published_release": true,
        "platform": if model.is_docker { "docker" } else { "binary" },
        "os": "linux",
        "arch": "amd64",
        "event": "heartbeat",
        "estate_size_bucket": "11_50",
        "pve_nodes": count(|counts| counts.nodes),
        "pbs_instances": count(|counts| counts.pbs),
        "pmg_instances": count(|counts| counts.pmg),
        "vms": count(|counts| counts.vms),
        "containers": count(|counts| counts.containers),
        "docker_hosts": count(|counts| counts.docker_hosts),
        "docker_containers": count(|counts| 3 * counts.docker_hosts),
        "kubernetes_clusters": count(|counts| counts.k8s),
        "ai_enabled": model.ai,
        "active_alerts": count(|counts| counts.alerts),
        "relay_enabled": model.relay == Relay::Enabled,
        "sso_enabled": model.sso,
        "multi_tenant": false,
        "paid_license": model.tier != "free",
        "has_api_tokens": !model.tokens.is_empty(),
    });
    let members = payload.as_object_mut().unwrap();
    members.extend(model.own_ping.clone());
    members.retain(|_, value| !value.is_null());
    json!({"enabled": model.telemetry_enabled, "payload": payload})
}

pub(super) fn ai(model: &PulseModel) -> Value {
    const PROVIDERS: &[&str] = &["anthropic", "openai", "deepseek", "gemini", "ollama"];
    // While Pulse shows mock data it says that AI is on, whatever was saved.
    let enabled = model.ai || model.mock;
    let mut answer = json!({
        "enabled": enabled,
        "model": "",
        "configured": enabled,
        "custom_context": if model.ai { format!("{NODE} belongs to {USER}") } else { String::new() },
        "auth_method": "api_key",
        "oauth_connected": false,
        "patrol_interval_minutes": 360,
        "patrol_enabled": true,
        "patrol_auto_fix": false,
        "alert_triggered_analysis": true,
        "use_proactive_thresholds": false,
        "available_models": [],
        "ollama_base_url": "http://localhost:11434",
        "configured_providers": model.ai_providers,
        "control_level": "read_only",
        "discovery_enabled": false,
    });
    for provider in PROVIDERS {
        let configured = model.ai_providers.iter().any(|own| own == provider);
        answer[format!("{provider}_configured")] = json!(configured);
    }
    answer
}

pub(super) fn relay(model: &PulseModel) -> ResponsePlan {
    const URL: &str = "wss://relay.pulserelay.pro/ws/instance";
    match model.relay {
        Relay::Enabled => ResponsePlan::json(
            200,
            &json!({
                "enabled": true,
                "server_url": URL,
                "identity_public_key": "bm90IGEga2V5IGF0IGFsbCwgb25seSBpdHMgc2hhcGU=",
                "identity_fingerprint": "4E:6F:74:20:61:20:66:69:6E:67:65:72:70:72:69:6E:74",
            }),
        ),
        Relay::Disabled => ResponsePlan::json(200, &json!({"enabled": false, "server_url": URL})),
        Relay::NotLicensed => not_licensed("relay"),
    }
}

fn not_licensed(feature: &str) -> ResponsePlan {
    error(
        402,
        json!({
            "error": "license_required",
            "feature": feature,
            "message": "feature not included in license",
            "upgrade_url": "https://pulserelay.pro/pricing",
        }),
    )
}

pub(super) fn license(model: &PulseModel) -> Value {
    let paid = model.tier != "free";
    let mut answer = json!({
        "valid": paid,
        "tier": model.tier,
        "is_lifetime": false,
        "days_remaining": if paid { 200 } else { 0 },
        "features": ["update_alerts", "sso", "ai_patrol"],
    });
    if model.shape == Shape::V5 {
        answer["state"] = json!(if paid { "active" } else { "none" });
    }
    answer
}

pub(super) fn orgs(model: &PulseModel, caller: &Caller<'_>) -> ResponsePlan {
    match model.orgs {
        Orgs::Absent404 => not_found(),
        Orgs::NotLicensed => not_licensed("multi_tenant"),
        Orgs::Off501 => {
            error(501, json!({"error": "feature_disabled", "message": "Multi-tenant functionality is not enabled."}))
        }
        Orgs::List => ResponsePlan::json(
            200,
            &json!([{
                "id": caller.organization,
                "displayName": caller.organization,
                "createdAt": "2026-11-23T09:03:36.460138766Z",
                "ownerUserId": USER,
                "members": [{"userId": USER, "role": "owner", "addedBy": USER}],
            }]),
        ),
    }
}
