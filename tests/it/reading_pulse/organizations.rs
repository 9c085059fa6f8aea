//! Pulse 5, and Pulses with organizations.

use pulse_telemetry::pulse::Tokens;
use pulse_telemetry_core::observation::{OrganizationNames, OwnSender, Reason, Scope};
use pulse_telemetry_testkit::pulse::{self, PulseModel, SETTINGS_READ, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::server::{ResponsePlan, Server};

use super::{
    ACME_TOKEN, ALL_COUNTS, NODES, ORGS, STATS, SUMMARY, TOLD, all_of_state, asked_for_nothing_but, both, cut_short,
    gone, healthy, missing_scope, ok, one, outcome, read, read_at, read_early_with, read_with, settings, unknown,
    with_acme,
};

#[tokio::test]
async fn pulse_5_is_told_by_its_stats_and_counted_from_its_state() {
    let pulse = SimulatedPulse::start(five());
    let reading = read(&pulse).await;
    assert!(reading.unknown().is_empty());
    let s = reading.values();
    assert_eq!([s.pve_nodes, s.pbs_instances, s.pmg_instances, s.vms], [Ok(7), Ok(1), Ok(2), Ok(3)]);
    assert_eq!([s.containers, s.docker_hosts, s.kubernetes_clusters, s.active_alerts], [Ok(4), Ok(5), Ok(6), Ok(8)]);
    assert_eq!(
        ([s.relay_enabled, s.multi_tenant], reading.gate.own_sender),
        ([Ok(false), Ok(false)], Ok(OwnSender::Absent))
    );
    assert!(pulse.server.requests().iter().all(|request| request.path() != NODES), "Pulse 5 counts by its state");

    let whole = r#"{"nodes":[{"vms":[1]}],"pbs":null,"pmg":[],"vms":[1,2],"containers":[[],[],[]],
        "dockerHosts":[1,2,3,4],"kubernetesClusters":[1,2,3,4,5],"activeAlerts":null}"#;
    pulse.replace("/api/state", ok(whole));
    let s = read(&pulse).await.values();
    assert_eq!([s.pve_nodes, s.pbs_instances, s.pmg_instances, s.vms], [Ok(1), Ok(0), Ok(0), Ok(2)]);
    assert_eq!([s.containers, s.docker_hosts, s.kubernetes_clusters, s.active_alerts], [Ok(3), Ok(4), Ok(5), Ok(8)]);

    pulse.replace("/api/state", ok(r#"{"nodes":[],"pbs":[],"pmg":[],"vms":[],"containers":[]}"#));
    let expected = [("docker_hosts", Reason::WrongShape), ("kubernetes_clusters", Reason::WrongShape)];
    assert_eq!(unknown(&read(&pulse).await), expected);
    for (plan, reason) in [
        (ok("[]"), Reason::WrongShape),
        (ok(r#"{"nodes":7}"#), Reason::WrongShape),
        (ok(r#"{"nodes":["#), Reason::CutShort),
        (ok("{'nodes'"), Reason::NotJson),
        (ok(&"[".repeat(1000)), Reason::WrongShape),
        (cut_short(200, r#"{"nodes":[]"#), Reason::CutShort),
        (gone(), Reason::Status(404)),
        (ResponsePlan::status(502), Reason::Status(502)),
    ] {
        pulse.replace("/api/state", plan);
        assert_eq!(asked_for_nothing_but("GET /api/state", &read(&pulse).await), all_of_state(&reason));
    }
}

#[tokio::test]
async fn stats_that_are_neither_of_5_nor_of_6_are_not_counted() {
    for body in ["{}", r#"{"byType":{"vm":3}}"#] {
        let reading = read_with(STATS, ok(body)).await;
        let request = format!("GET {STATS}");
        assert_eq!(asked_for_nothing_but(&request, &reading).len(), ALL_COUNTS.len());
    }
    for types in [r#"{"total":9}"#, r#"{"total":9,"byType":[]}"#] {
        let shown = ["pbs_instances", "pmg_instances", "kubernetes_clusters"].map(|what| (what, Reason::WrongShape));
        assert_eq!(unknown(&read_with(STATS, ok(types)).await), shown, "the others have a request of their own");
    }
    let none = read_with(STATS, ok(r#"{"total":0,"byType":{"other":"x"}}"#)).await;
    assert_eq!((none.values().pbs_instances, none.values().kubernetes_clusters), (Ok(0), Ok(0)));
    let one_wrong = read_with(STATS, ok(r#"{"total":0,"byType":{"pbs":"3"}}"#)).await;
    assert_eq!(unknown(&one_wrong), [("pbs_instances", Reason::WrongShape)]);
    let early = read_early_with(STATS, ok(r#"{"total":0,"byType":{"vm":"3"}}"#)).await;
    assert_eq!(unknown(&early), [("vms", Reason::WrongShape)]);
}

#[tokio::test]
async fn organizations_are_summed_and_flags_are_those_of_the_default_one() {
    let pulse = SimulatedPulse::start(with_acme());
    let reading = outcome(&pulse, both()).await.unwrap();
    assert!(reading.unknown().is_empty());
    let s = reading.values();
    assert_eq!([s.pve_nodes, s.pbs_instances, s.pmg_instances, s.vms], [Ok(27), Ok(2), Ok(2), Ok(33)]);
    assert_eq!([s.containers, s.docker_hosts, s.kubernetes_clusters, s.active_alerts], [Ok(4), Ok(5), Ok(6), Ok(48)]);
    assert_eq!(s.multi_tenant, Ok(true));
    assert_eq!(reading.gate.organizations, Ok(()));
    let requests = pulse.server.requests();
    assert_eq!(requests.len(), TOLD.len() + 3);
    for request in requests {
        let name = request.header("x-pulse-org-id").unwrap();
        let token = if name == "default" { TOKEN } else { ACME_TOKEN };
        assert_eq!(request.header("x-api-token"), Some(token), "each organization has its own token");
        let counted = [STATS, SUMMARY, ORGS].contains(&request.path());
        assert!(name == "default" || counted, "{} of {name}", request.target);
    }
}

#[tokio::test]
async fn each_organization_is_read_by_its_own_shape() {
    let state =
        r#"{"nodes":[1],"pbs":[],"pmg":[],"vms":[1,2],"containers":[],"dockerHosts":[],"kubernetesClusters":[]}"#;
    let server = with_acme_answering(move |path| match path {
        STATS => Some(gone()),
        "/api/state" => Some(ok(state)),
        _ => None,
    });
    let s = read_at(settings(&server.url(), both())).await.unwrap().values();
    assert_eq!((s.pve_nodes, s.vms), (Ok(8), Ok(5)));
}

#[tokio::test]
async fn one_organization_that_is_unknown_makes_the_sum_unknown() {
    let server = with_acme_answering(|path| match path {
        STATS => Some(ok(r#"{"total":9,"byType":{"pbs":"many"}}"#)),
        SUMMARY => Some(ok(r#"{"activeAlerts":"2","nodes":9999999,"vms":1,"containers":1,"dockerHosts":[]}"#)),
        _ => None,
    });
    let reading = read_at(settings(&server.url(), both())).await.unwrap();
    // Each is within the bounds, and together they are not.
    let expected = [
        ("pve_nodes", Reason::OutOfBounds),
        ("pbs_instances", Reason::WrongShape),
        ("active_alerts", Reason::WrongShape),
    ];
    assert_eq!(unknown(&reading), expected);
}

#[tokio::test]
async fn where_pulse_has_organizations_and_none_is_configured_nothing_is_whole() {
    let pulse = SimulatedPulse::start(with_acme());
    let alone = [("organizations", Reason::OrganizationsNotConfigured)];
    for list in [None, Some(r#"[{"id":"default"}]"#), Some(r#"[{"id":"default"},{"id":"acme"}]"#), Some("[]")] {
        if let Some(list) = list {
            pulse.replace(ORGS, ok(list));
        }
        assert_eq!(unknown(&outcome(&pulse, one()).await.unwrap()), alone, "{list:?}");
    }
    pulse.restore(ORGS);
    assert_eq!(unknown(&outcome(&pulse, both()).await.unwrap()), []);
    // That there is no other is for the operator to say.
    let default = || Tokens::Organizations(vec![("default".to_owned(), TOKEN.into())]);
    let reading = outcome(&pulse, default()).await.unwrap();
    assert_eq!((unknown(&reading), reading.values().multi_tenant), (vec![], Ok(true)));
    // It is no harm where organizations are off.
    for plan in [ResponsePlan::status(501), ResponsePlan::status(402), gone()] {
        pulse.replace(ORGS, plan);
        let reading = outcome(&pulse, default()).await.unwrap();
        assert_eq!((unknown(&reading), reading.values().multi_tenant), (vec![], Ok(false)));
    }
}

#[tokio::test]
async fn every_organization_that_a_token_lists_has_to_be_named_and_every_one_that_is_named_listed() {
    let listed = |default: &'static str, acme: &'static str| {
        let model = with_acme();
        Server::start(move |request| match (request.path(), request.header("x-pulse-org-id")) {
            (ORGS, Some("default")) => ok(default),
            (ORGS, Some("acme")) => match acme {
                "501" => ResponsePlan::status(501),
                "500" => ResponsePlan::status(500),
                "scope" => ResponsePlan::json(403, &missing_scope(SETTINGS_READ)),
                list => ok(list),
            },
            _ => pulse::answer(&model, &request),
        })
    };
    let not_named =
        |names: &[&'static str]| Reason::OrganizationsNotNamed(OrganizationNames::new(names.iter().copied()));
    let gone = |names: &[&'static str]| Reason::OrganizationsGone(OrganizationNames::new(names.iter().copied()));
    let default = r#"[{"id":"default","displayName":"planted"}]"#;
    let acme = r#"[{"id":"acme"}]"#;
    for (by_default, by_acme, expected) in [
        (default, acme, None),
        (r#"[{"id":"acme"},{"id":"default"}]"#, acme, None),
        // One was added while this runs.
        (r#"[{"id":"default"},{"id":"new"}]"#, acme, Some(not_named(&["new"]))),
        (default, r#"[{"id":"acme"},{"id":"b"},{"id":"a"}]"#, Some(not_named(&["a", "b"]))),
        (r#"[{"id":"default"},{"id":"a planted name"}]"#, acme, Some(not_named(&["unnamed"]))),
        // One is gone, or its token belongs to another one.
        (default, "[]", Some(gone(&["acme"]))),
        (default, default, Some(gone(&["acme"]))),
        (default, "501", Some(gone(&["acme"]))),
        ("[]", acme, Some(gone(&["default"]))),
        // What cannot be read is not empty.
        (default, "500", Some(Reason::Status(500))),
        (default, "scope", Some(Reason::MissingScope(Scope::new(SETTINGS_READ)))),
        (default, r#"[{"id":7}]"#, Some(Reason::WrongShape)),
    ] {
        let server = listed(by_default, by_acme);
        let reading = read_at(settings(&server.url(), both())).await.unwrap();
        let expected: Vec<_> = expected.into_iter().map(|reason| ("organizations", reason)).collect();
        assert_eq!(unknown(&reading), expected, "{by_default} and {by_acme}");
        assert_eq!(reading.values().multi_tenant, Ok(true));
        let shown = format!("{reading:?}");
        assert!(!shown.contains("planted") && !shown.contains("new"), "{shown}");
    }
}

#[tokio::test]
async fn a_list_of_organizations_that_is_none_says_nothing_of_them() {
    for (body, told) in [
        ("<html>Welcome</html>", Reason::NotJson),
        ("", Reason::CutShort),
        ("{}", Reason::WrongShape),
        ("null", Reason::WrongShape),
        (r#"["default"]"#, Reason::WrongShape),
        (r#"[["default"]]"#, Reason::WrongShape),
        (r#"[{"name":"default"}]"#, Reason::WrongShape),
        (r#"[{"id":""}]"#, Reason::WrongShape),
        (r#"[{"id":null}]"#, Reason::WrongShape),
    ] {
        for tokens in [one(), Tokens::Organizations(vec![("default".to_owned(), TOKEN.into())])] {
            let pulse = SimulatedPulse::start(healthy());
            pulse.replace(ORGS, ok(body));
            assert_eq!(unknown(&outcome(&pulse, tokens).await.unwrap()), [("multi_tenant", told.clone())], "{body}");
        }
    }
}

fn five() -> PulseModel {
    PulseModel { counts: healthy().counts, ..PulseModel::v5() }
}

/// As `with_acme`, but a request for `acme` may get another answer, by the path.
fn with_acme_answering(instead: impl Fn(&str) -> Option<ResponsePlan> + Send + Sync + 'static) -> Server {
    let model = with_acme();
    Server::start(move |request| {
        let of_acme = request.header("x-pulse-org-id") == Some("acme");
        let plan = if of_acme { instead(request.path()) } else { None };
        plan.unwrap_or_else(|| pulse::answer(&model, &request))
    })
}
