//! The page without JavaScript.

use pulse_telemetry_testkit::browser::{Page, browser_or_skip};
use pulse_telemetry_testkit::server::{Body, ResponsePlan, Server};
use pulse_telemetry_testkit::sidecar::LIMIT;
use serde_json::json;

use super::{World, address, homelab};

#[test]
fn without_javascript_the_same_can_be_read_and_nothing_be_changed() {
    let test = "without_javascript_the_same_can_be_read_and_nothing_be_changed";
    let Some(browser) = browser_or_skip(test) else { return };
    let world = World::new(homelab());
    let sidecar = world.setup.start();
    let page = browser.open();
    page.call("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    page.visit(&address(&sidecar));
    page.picture("without-javascript");
    let all = page.text("body");
    for said in [
        "One small ping goes out each day",
        "kubernetes_clusters",
        "The sidecar started",
        "relay.pulserelay.pro",
        "never sent",
    ] {
        assert!(all.contains(said), "{said}");
    }
    assert!(all.contains("pulse-telemetry off") && all.contains("pulse-telemetry forget"));
    let buttons = "[...document.querySelectorAll('button')].filter((button) => button.checkVisibility()).length";
    assert_eq!(page.eval(buttons), json!(0));
    assert_eq!(page.complaints(), Vec::<String>::new());
}

#[test]
fn without_javascript_the_headline_says_that_pulse_has_never_answered_and_what_to_do() {
    let test = "without_javascript_the_headline_says_that_pulse_has_never_answered_and_what_to_do";
    let Some(browser) = browser_or_skip(test) else { return };
    let silent = Server::start(|_| ResponsePlan::Hang);
    let half = Server::start(|_| ResponsePlan::body(Body::Never));
    // The system takes the connection, and nobody reads from it.
    let unattended = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let secured = format!("https://{}", unattended.local_addr().unwrap());
    for (what, url) in [("silent", silent.url()), ("half-an-answer", half.url()), ("without-a-handshake", secured)] {
        let mut world = World::new(homelab());
        world.setup = world.setup.with("PULSE_URL", &url).with("PULSE_TELEMETRY_PULSE__TIMEOUT", "2m");
        let sidecar = world.setup.start();
        let page = browser.open();
        page.call("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
        page.visit(&address(&sidecar));
        page.picture(&format!("never-answered-{what}"));
        for look in ["at first", "again"] {
            let (title, said) = (page.text("#state-title"), page.text("#state"));
            assert_eq!(title, "Pulse has not answered yet, and nothing is sent before it does", "{what}, {look}");
            assert!(said.contains("Waiting") && said.contains("pulse-telemetry check"), "{what}, {look}: {said}");
            assert!(!said.contains("goes out each day") && !said.contains("Next ping"), "{what}, {look}: {said}");
            assert!(page.text("#payload").contains("Pulse is being asked"), "{what}, {look}");
            let seen = page.wait_for_events("Page.loadEventFired", 1).len();
            page.click("#state a.without-script");
            page.wait_for_events("Page.loadEventFired", seen + 1);
        }
        // Off is off all the same, whatever Pulse does.
        assert_eq!(sidecar.put("/api/v1/switch", r#"{"enabled":false}"#).status, 200);
        page.visit(&address(&sidecar));
        assert_eq!(page.text("#state-title"), "No ping goes out, and none waits", "{what}");
        assert_eq!(page.complaints(), Vec::<String>::new());
    }
}

#[test]
fn without_javascript_a_pulse_that_is_silent_leaves_the_last_reading_with_its_age_and_a_link_that_reads_again() {
    let test =
        "without_javascript_a_pulse_that_is_silent_leaves_the_last_reading_with_its_age_and_a_link_that_reads_again";
    let Some(browser) = browser_or_skip(test) else { return };
    let world = World::new(homelab());
    let sidecar = world.setup.start();
    world.endpoint.wait_for_pings(1, LIMIT);
    world.pulse.replace("/api/health", ResponsePlan::Hang);
    let page = browser.open();
    page.call("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    page.visit(&address(&sidecar));
    let age = "document.querySelector('[data-age]').innerText";
    assert!(page.eval(age).as_str().unwrap().ends_with(" before this page was made"), "{}", page.text("#age"));
    assert!(page.text("#payload").contains("kubernetes_clusters"));
    page.picture("silent-without-javascript");
    // Somebody asks for a reading that does not come: the last one stays.
    let seen = page.wait_for_events("Page.loadEventFired", 1).len();
    page.click("#age a");
    page.wait_for_events("Page.loadEventFired", seen + 1);
    assert!(page.text("#payload").contains("kubernetes_clusters"), "{}", page.text("#payload"));
    assert!(page.eval("location.search") == json!("?read"));
    world.pulse.restore("/api/health");
    let read = |page: &Page| {
        let seen = page.wait_for_events("Page.loadEventFired", 1).len();
        page.click("#age a");
        page.wait_for_events("Page.loadEventFired", seen + 1);
        page.eval("Number(document.querySelector('[data-age]')?.dataset.age ?? 999)").as_u64().unwrap()
    };
    world.pulse.change(|model| model.counts.k8s = 77);
    // Pulse is read once in ten seconds. It is polled, for without a script nobody is told.
    let step = std::time::Duration::from_millis(200);
    let is_newer = (0..LIMIT.as_millis() / step.as_millis()).any(|_| {
        std::thread::sleep(step);
        read(&page) < 5 && page.text("#payload").contains("77")
    });
    assert!(is_newer, "{}", page.text("#age"));
}
