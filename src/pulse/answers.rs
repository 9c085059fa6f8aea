//! Turns what Pulse answered into values that are known, or unknown for a named reason.

use std::time::Duration;

use pulse_telemetry_core::contract::{COUNT_MAX, Values};
use pulse_telemetry_core::count::Counts;
use pulse_telemetry_core::observation::{
    Commercial, Gate, OrganizationNames, OwnSender, Platform, Reading, Reason, Unknown, Value,
};
use pulse_telemetry_core::version::{self, VersionIdentity};
use serde_json::Number;

use super::shapes::{
    ALERTS, Ai, ApiTokens, ByType, DockerHosts, EnvOverrides, Health, JsonField, JsonObject, License, List, Meta,
    MockMode, Nodes, Organizations, Relay, STATE, Security, Settings, Shape, Stats, Summary, Version,
};
use crate::config::DEFAULT_ORGANIZATION;

/// For how many seconds after its start Pulse has not filled its counts.
const STARTING_SECONDS: f64 = 120.0;

/// What one request told, or why it told nothing. A feature's absence is a status like any other here.
pub(crate) type PulseAnswer<T> = Result<T, Reason>;

/// All that Pulse answered.
pub(crate) struct Answers {
    pub(crate) health: PulseAnswer<Health>,
    pub(crate) version: PulseAnswer<Version>,
    pub(crate) security: PulseAnswer<Security>,
    pub(crate) settings: PulseAnswer<Settings>,
    /// Not asked where the version already says it.
    pub(crate) mock_mode: Option<PulseAnswer<MockMode>>,
    pub(crate) estates: Vec<Estate>,
    pub(crate) ai: PulseAnswer<Ai>,
    pub(crate) relay: PulseAnswer<Relay>,
    /// As each configured token lists them, in the order of [`LocalOverrides::organizations`]; never empty.
    pub(crate) organizations: Vec<PulseAnswer<Organizations>>,
    pub(crate) license: PulseAnswer<License>,
    /// Not asked where a token has already been of use to a Pulse that asks for one.
    pub(crate) api_tokens: Option<PulseAnswer<ApiTokens>>,
}

/// The counts of one organization, in the words of the Pulse that told them.
#[expect(clippy::large_enum_variant, reason = "there is one for each organization, while Pulse is read")]
pub(crate) enum Estate {
    /// Pulse 6.
    V6 { stats: Stats, registry: Registry },
    /// Pulse 5.
    V5 { state: PulseAnswer<Counts>, alerts: PulseAnswer<Counts> },
    /// The stats did not tell which of them it is.
    Unread(Reason),
}

/// What Pulse 6 counts in its registry, as its own ping does.
pub(crate) enum Registry {
    /// Since 6.0.0-rc.7.
    Summary(PulseAnswer<Summary>),
    /// Before, there is none.
    Lists { nodes: PulseAnswer<Nodes>, docker_hosts: PulseAnswer<DockerHosts>, alerts: PulseAnswer<Counts> },
}

/// What the settings of this program add to Pulse's answers.
#[derive(Clone)]
pub(crate) struct LocalOverrides {
    /// The platform, where it is not left to Pulse.
    pub(crate) platform: Option<Platform>,
    /// The organizations that are configured, `default` first; none where a single token is.
    pub(crate) organizations: Vec<String>,
}

/// What the answers say. Nothing is invented: what no answer says is unknown.
pub(crate) fn read(answers: &Answers, overrides: &LocalOverrides, retry_after: Option<Duration>) -> Reading {
    Reading { payload: values(answers, overrides).complete(), gate: gate(answers, overrides), retry_after }
}

/// What a ping is made of, a line for each row of the contract that Pulse is read for.
fn values(answers: &Answers, overrides: &LocalOverrides) -> Values {
    let estates = &answers.estates;
    Values {
        version: known_from::<Version, _>("version", version(&answers.version)),
        os: Ok(go_os()),
        arch: Ok(go_arch()),
        platform: known_from::<Version, _>("platform", platform(&answers.version, overrides.platform)),
        pve_nodes: sum("pve_nodes", estates, Estate::pve_nodes),
        pbs_instances: sum("pbs_instances", estates, |e| e.resources(|six| &six.pbs, "pbs")),
        pmg_instances: sum("pmg_instances", estates, |e| e.resources(|six| &six.pmg, "pmg")),
        vms: sum("vms", estates, |e| e.guests(|summary| &summary.vms, |six| &six.vm, "vms")),
        containers: sum("containers", estates, |e| {
            e.guests(|summary| &summary.containers, |six| &six.system_container, "containers")
        }),
        docker_hosts: sum("docker_hosts", estates, Estate::docker_hosts),
        kubernetes_clusters: sum("kubernetes_clusters", estates, |e| {
            e.resources(|six| &six.k8s_cluster, "kubernetesClusters")
        }),
        ai_enabled: known_from::<Ai, _>("ai_enabled", licensed(&answers.ai, |ai| ai.enabled.required().copied())),
        active_alerts: sum("active_alerts", estates, Estate::active_alerts),
        relay_enabled: known_from::<Relay, _>(
            "relay_enabled",
            licensed(&answers.relay, |r| r.enabled.required().copied()),
        ),
        sso_enabled: known_from::<Security, _>("sso_enabled", of_every_pulse(&answers.security, sso)),
        multi_tenant: known_from::<Organizations, _>("multi_tenant", multi_tenant(&answers.organizations)),
        paid_license: known_from::<License, _>("paid_license", licensed(&answers.license, paid)),
        has_api_tokens: known_from::<ApiTokens, _>("has_api_tokens", has_api_tokens(answers.api_tokens.as_ref())),
    }
}

/// What decides whether a ping may be sent.
fn gate(answers: &Answers, overrides: &LocalOverrides) -> Gate {
    Gate {
        mock_mode: mock_mode(&answers.version, answers.mock_mode.as_ref()),
        demo_mode: known_from::<Security, _>("demo_mode", of_every_pulse(&answers.security, demo)),
        starting: known_from::<Health, _>("starting", of_every_pulse(&answers.health, starting)),
        own_sender: known_from::<Settings, _>("own_sender", own_sender(&answers.settings)),
        commercial: known_from::<Settings, _>("commercial", commercial(&answers.settings)),
        organizations: known_from::<Organizations, _>(
            "organizations",
            organizations(&answers.organizations, overrides),
        ),
    }
}

impl Version {
    /// Whether it says that Pulse shows mock data.
    pub(crate) fn is_mock(&self) -> bool {
        matches!(&self.deployment_type, JsonField::Is(kind) if kind == "mock")
    }
}

/// A value that that request told.
fn known_from_request<T>(what: &'static str, request: &'static str, value: Result<T, Reason>) -> Value<T> {
    value.map_err(|reason| Unknown { what, request, reason })
}

/// A value that the request for `S` told.
pub(crate) fn known_from<S: Shape, T>(what: &'static str, value: Result<T, Reason>) -> Value<T> {
    known_from_request(what, S::REQUEST, value)
}

/// A flag that every Pulse tells. Where its route is not there, something in front of Pulse hides it.
fn of_every_pulse<T>(answer: &PulseAnswer<T>, read: impl FnOnce(&T) -> Result<bool, Reason>) -> Result<bool, Reason> {
    answer.as_ref().map_err(Clone::clone).and_then(read)
}

/// A flag of something that this Pulse may not have (404): then it is off.
fn flag<T>(answer: &PulseAnswer<T>, read: impl FnOnce(&T) -> Result<bool, Reason>) -> Result<bool, Reason> {
    match answer {
        Ok(answer) => read(answer),
        Err(Reason::Status(404)) => Ok(false),
        Err(reason) => Err(reason.clone()),
    }
}

/// A flag of something that Pulse's licence may not include (402) either.
fn licensed<T>(answer: &PulseAnswer<T>, read: impl FnOnce(&T) -> Result<bool, Reason>) -> Result<bool, Reason> {
    match answer {
        Err(Reason::Status(402)) => Ok(false),
        answer => flag(answer, read),
    }
}

fn version(answer: &PulseAnswer<Version>) -> Result<VersionIdentity, Reason> {
    let raw = answer.as_ref().map_err(Clone::clone)?.version.required()?;
    version::identify(raw).ok_or(Reason::OutOfBounds)
}

fn platform(answer: &PulseAnswer<Version>, configured: Option<Platform>) -> Result<Platform, Reason> {
    if let Some(platform) = configured {
        return Ok(platform);
    }
    let is_docker = *answer.as_ref().map_err(Clone::clone)?.is_docker.required()?;
    Ok(if is_docker { Platform::Docker } else { Platform::Binary })
}

fn sso(security: &Security) -> Result<bool, Reason> {
    if security.sso_enabled != JsonField::Absent {
        return security.sso_enabled.required().copied();
    }
    let by_oidc = match &security.oidc_enabled {
        JsonField::Absent => None,
        field => Some(field.required().copied()),
    };
    let by_provider = match &security.sso_providers {
        JsonField::Absent => None,
        field => Some(field.required().map(|providers| providers.as_ref().is_some_and(|list| !list.is_empty()))),
    };
    match (by_oidc, by_provider) {
        (Some(Ok(true)), _) | (_, Some(Ok(true))) => Ok(true),
        (Some(Err(reason)), _) | (_, Some(Err(reason))) => Err(reason),
        (None, None) => Err(Reason::WrongShape),
        _ => Ok(false),
    }
}

fn demo(security: &Security) -> Result<bool, Reason> {
    match &security.presentation_policy {
        JsonField::Absent => Ok(false),
        policy => policy.required()?.0.demo_mode.or(&false).copied(),
    }
}

fn starting(health: &Health) -> Result<bool, Reason> {
    health.uptime.required().map(|&uptime| uptime < STARTING_SECONDS)
}

fn multi_tenant(listed: &[PulseAnswer<Organizations>]) -> Result<bool, Reason> {
    match listed.first() {
        // 501 is how Pulse says that it is switched off.
        Some(Err(Reason::Status(501))) | None => Ok(false),
        Some(answer) => licensed(answer, |_| Ok(true)),
    }
}

/// Whether every organization is counted. A token lists those alone that it reaches, so what none of them lists and
/// nobody names stays unseen.
fn organizations(listed: &[PulseAnswer<Organizations>], overrides: &LocalOverrides) -> Result<(), Reason> {
    if overrides.organizations.is_empty() {
        // Why there is no list is told of `multi_tenant`.
        return if matches!(listed, [Ok(_), ..]) { Err(Reason::OrganizationsNotConfigured) } else { Ok(()) };
    }
    let mut not_named = Vec::new();
    let mut gone = Vec::new();
    for (name, answer) in overrides.organizations.iter().zip(listed) {
        let ids: Vec<&str> = match answer {
            Ok(Organizations(list)) => list.iter().map(|JsonObject(organization)| organization.id.as_str()).collect(),
            // Without organizations there is this one.
            Err(Reason::Status(501 | 402 | 404)) => vec![DEFAULT_ORGANIZATION],
            Err(_) if name == DEFAULT_ORGANIZATION => continue,
            Err(reason) => return Err(reason.clone()),
        };
        not_named.extend(ids.iter().copied().filter(|id| overrides.organizations.iter().all(|named| named != id)));
        if !ids.contains(&name.as_str()) {
            gone.push(name.as_str());
        }
    }
    if !not_named.is_empty() {
        return Err(Reason::OrganizationsNotNamed(OrganizationNames::new(not_named)));
    }
    if gone.is_empty() { Ok(()) } else { Err(Reason::OrganizationsGone(OrganizationNames::new(gone))) }
}

fn paid(license: &License) -> Result<bool, Reason> {
    match license.tier.required()?.as_str() {
        "" => Err(Reason::WrongShape),
        tier => Ok(tier != "free"),
    }
}

fn has_api_tokens(answer: Option<&PulseAnswer<ApiTokens>>) -> Result<bool, Reason> {
    let Some(answer) = answer else { return Ok(true) };
    flag(answer, |answer| Ok(answer.tokens.required()?.as_ref().is_some_and(|tokens| !tokens.is_empty())))
}

fn mock_mode(version: &PulseAnswer<Version>, asked: Option<&PulseAnswer<MockMode>>) -> Value<bool> {
    match asked {
        None => Ok(true),
        // Where there is no such route, the version alone must say that there is no mock data.
        Some(Err(Reason::Status(404))) => {
            let known = version.as_ref().map_err(Clone::clone).and_then(|version| match version.deployment_type {
                JsonField::Wrong => Err(Reason::WrongShape),
                _ => Ok(version.is_mock()),
            });
            known_from::<Version, _>("mock_mode", known)
        }
        Some(answer) => known_from::<MockMode, _>("mock_mode", flag(answer, |mode| mode.enabled.required().copied())),
    }
}

fn own_sender(answer: &PulseAnswer<Settings>) -> Result<OwnSender, Reason> {
    // Every Pulse has this route. Where something hides it, an off in Pulse may be behind.
    let settings = answer.as_ref().map_err(Clone::clone)?;
    if settings.telemetry_enabled == JsonField::Absent {
        return Ok(OwnSender::Absent);
    }
    if *settings.telemetry_enabled.required()? {
        return Ok(OwnSender::On);
    }
    let nothing = None;
    let overrides = settings.env_overrides.or(&nothing)?;
    let by_environment = match overrides.as_ref().map(|overrides| &overrides.0) {
        None => false,
        Some(
            EnvOverrides { variable: JsonField::Is(true), .. } | EnvOverrides { setting: JsonField::Is(true), .. },
        ) => true,
        Some(EnvOverrides { variable, setting }) => *variable.or(&false)? || *setting.or(&false)?,
    };
    Ok(if by_environment { OwnSender::OffByEnvironment } else { OwnSender::OffBySetting })
}

fn commercial(answer: &PulseAnswer<Settings>) -> Result<Commercial, Reason> {
    let of =
        |setting: fn(&Settings) -> &JsonField<bool>| flag(answer, |settings| setting(settings).or(&false).copied());
    Ok(Commercial {
        disable_local_upgrade_metrics: of(|settings| &settings.disable_local_upgrade_metrics)?,
        reduce_pro_upsell_noise: of(|settings| &settings.reduce_pro_upsell_noise)?,
    })
}

/// What a request told about a count.
type Sourced = (&'static str, Result<u32, Reason>);

/// The sum over all organizations. One that is unknown makes the sum unknown.
fn sum(what: &'static str, estates: &[Estate], count: impl Fn(&Estate) -> Sourced) -> Value<u32> {
    estates.iter().try_fold(0, |sum, estate| {
        let (request, more) = count(estate);
        known_from_request(what, request, more.and_then(|more| in_bounds(u64::from(sum) + u64::from(more))))
    })
}

impl Estate {
    fn pve_nodes(&self) -> Sourced {
        match self {
            Self::V6 { registry: Registry::Summary(summary), .. } => summarized(summary, |all| number(&all.nodes)),
            Self::V6 { registry: Registry::Lists { nodes, .. }, .. } => {
                (Nodes::REQUEST, total(nodes, |nodes| &nodes.meta))
            }
            Self::V5 { state, .. } => of_five(state, "nodes"),
            Self::Unread(reason) => unread(reason),
        }
    }

    fn docker_hosts(&self) -> Sourced {
        match self {
            Self::V6 { registry: Registry::Summary(summary), .. } => {
                summarized(summary, |all| length(&all.docker_hosts))
            }
            Self::V6 { registry: Registry::Lists { docker_hosts, .. }, .. } => {
                (DockerHosts::REQUEST, total(docker_hosts, |hosts| &hosts.meta))
            }
            Self::V5 { state, .. } => of_five(state, "dockerHosts"),
            Self::Unread(reason) => unread(reason),
        }
    }

    /// Guests, by what the summary, the stats and Pulse 5 call them.
    fn guests(
        &self,
        all: impl Fn(&Summary) -> &JsonField<Number>,
        six: impl Fn(&ByType) -> &JsonField<Number>,
        five: &str,
    ) -> Sourced {
        match self {
            Self::V6 { registry: Registry::Summary(summary), .. } => {
                summarized(summary, |summary| number(all(summary)))
            }
            other => other.resources(six, five),
        }
    }

    /// What Pulse shows no less of than it counts, by what Pulse 6 and Pulse 5 call it.
    fn resources(&self, six: impl Fn(&ByType) -> &JsonField<Number>, five: &str) -> Sourced {
        match self {
            Self::V6 { stats, .. } => {
                let number = stats.by_type.required().map(|types| six(&types.0));
                (Stats::REQUEST, number.and_then(|number| number.or(&Number::from(0)).and_then(to_count)))
            }
            Self::V5 { state, .. } => of_five(state, five),
            Self::Unread(reason) => unread(reason),
        }
    }

    fn active_alerts(&self) -> Sourced {
        let alerts = match self {
            Self::V6 { registry: Registry::Summary(summary), .. } => {
                return summarized(summary, |all| number(&all.active_alerts));
            }
            Self::V6 { registry: Registry::Lists { alerts, .. }, .. } | Self::V5 { alerts, .. } => alerts,
            Self::Unread(reason) => return unread(reason),
        };
        let count = match alerts {
            Ok(counts) => in_bounds(counts.elements()),
            Err(Reason::Status(404)) => Ok(0),
            Err(reason) => Err(reason.clone()),
        };
        (ALERTS, count)
    }
}

fn summarized(answer: &PulseAnswer<Summary>, count: impl FnOnce(&Summary) -> Result<u32, Reason>) -> Sourced {
    (Summary::REQUEST, answer.as_ref().map_err(Clone::clone).and_then(count))
}

/// The length of one array of Pulse 5's state.
fn of_five(state: &PulseAnswer<Counts>, name: &str) -> Sourced {
    let count = state.as_ref().map_err(Clone::clone);
    (STATE, count.and_then(|counts| counts.member(name).ok_or(Reason::WrongShape)).and_then(in_bounds))
}

fn unread(reason: &Reason) -> Sourced {
    (Stats::REQUEST, Err(reason.clone()))
}

/// How many a list has, of which one is shown.
fn total<T>(list: &PulseAnswer<T>, meta: impl FnOnce(&T) -> &JsonField<JsonObject<Meta>>) -> Result<u32, Reason> {
    number(&meta(list.as_ref().map_err(Clone::clone)?).required()?.0.total)
}

fn number(field: &JsonField<Number>) -> Result<u32, Reason> {
    field.required().and_then(to_count)
}

fn length(field: &JsonField<Option<List>>) -> Result<u32, Reason> {
    in_bounds(field.required()?.as_ref().map_or(0, |list| list.len() as u64))
}

/// A count, as the contract bounds it.
pub(crate) fn to_count(number: &Number) -> Result<u32, Reason> {
    if let Some(count) = number.as_u64() {
        return in_bounds(count);
    }
    // A negative number, one of more than 64 bits, or a fraction.
    let beyond = number.as_f64().is_none_or(|number| number < 0.0 || number > f64::from(COUNT_MAX));
    Err(if beyond { Reason::OutOfBounds } else { Reason::WrongShape })
}

fn in_bounds(count: u64) -> Result<u32, Reason> {
    u32::try_from(count).ok().filter(|&count| count <= COUNT_MAX).ok_or(Reason::OutOfBounds)
}

/// The operating system, as Go names it. The sidecar's own: it shares the host with Pulse.
fn go_os() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        os => os,
    }
}

/// The processor architecture, as Go names it.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "loongarch64" => "loong64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "mips64" if cfg!(target_endian = "little") => "mips64le",
        "mips" if cfg!(target_endian = "little") => "mipsle",
        arch => arch,
    }
}
