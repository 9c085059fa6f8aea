//! The page in a real Chromium, in front of the real binary, a Pulse of our own and a stand-in for the endpoint.
//! Pictures are kept in the target directory's `test-output/page`.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::sync::{Arc, Condvar, Mutex};

use pulse_telemetry_core::contract::FIELDS;
use pulse_telemetry_testkit::browser::{Browser, Page, axe_or_skip, browser_or_skip};
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::proxy::{PROXIED, Proxy};
use pulse_telemetry_testkit::pulse::{MONITORING_READ, PulseModel, Relay, SimulatedPulse, TOKEN, Token, answer};
use pulse_telemetry_testkit::server::{Body, ResponsePlan, Server};
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup, Sidecar, exists};
use serde_json::{Value, json};

const ENTER: u32 = 13;
const ESCAPE: u32 = 27;

#[test]
fn the_page_shows_the_bytes_of_the_preview_and_each_of_its_values() {
    let test = "the_page_shows_the_bytes_of_the_preview_and_each_of_its_values";
    let Some(browser) = browser_or_skip(test) else { return };
    let world = World::new(homelab());
    let tab = Tab::open(&browser, &world);
    tab.picture("on");
    let bytes = tab.sidecar.get("/api/v1/preview/bytes");
    assert_eq!(tab.eval("document.getElementById('bytes').textContent"), json!(bytes.text()));
    assert_eq!(tab.text("#sha256"), sha256(&bytes.body));
    let payload = bytes.json();
    for (row, field) in FIELDS.iter().enumerate() {
        let cells = format!("document.querySelectorAll('#payload tbody tr:not(.group)')[{row}].cells");
        let shown = tab.eval(&format!("[...{cells}].map((cell) => cell.innerText)"));
        let value = match &payload[field.name] {
            Value::Null => "left out".to_owned(),
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        assert_eq!((&shown[0], &shown[1]), (&json!(field.name), &json!(value)));
        assert!(shown[2].as_str().unwrap().starts_with(field.purpose), "{}", field.name);
    }
    tab.click("#copy-bytes");
    tab.wait_for_word("Copied.");
    tab.eval("document.querySelector('main').append(document.createElement('textarea'))");
    tab.eval("document.querySelector('textarea').focus()");
    tab.paste();
    assert_eq!(tab.eval("document.querySelector('textarea').value"), json!(bytes.text()));
    tab.check();
}

#[test]
fn the_page_and_all_that_it_links_to_ask_nobody_but_its_own_server_and_keep_nothing_in_the_browser() {
    let test = "the_page_and_all_that_it_links_to_ask_nobody_but_its_own_server_and_keep_nothing_in_the_browser";
    let Some(browser) = browser_or_skip(test) else { return };
    let world = World::new(homelab());
    let tab = Tab::open(&browser, &world);
    tab.refresh();
    let links = tab.eval("[...document.querySelectorAll('a')].map((link) => link.href)");
    let links: Vec<&str> = links.as_array().unwrap().iter().map(|link| link.as_str().unwrap()).collect();
    assert!(links.len() > 5);
    for link in links {
        assert!(link.starts_with(&address(&tab.sidecar)), "{link} is elsewhere");
        if link.contains("/docs/") || link.ends_with("/openapi.json") {
            tab.visit(link);
            assert!(tab.text("body").len() > 1000, "{link} says nothing");
        }
    }
    let kept = "[sessionStorage.length, localStorage.length, document.cookie, navigator.serviceWorker.controller]";
    assert_eq!(tab.eval(kept), json!([0, 0, "", null]));
    tab.check();
}

#[test]
fn a_reset_asks_first_and_then_the_page_shows_the_new_id() {
    let Some(browser) = browser_or_skip("a_reset_asks_first_and_then_the_page_shows_the_new_id") else { return };
    let world = World::new(homelab());
    let tab = Tab::open(&browser, &world);
    world.endpoint.wait_for_pings(1, LIMIT);
    tab.refresh();
    let before = tab.shown_id();
    // By keyboard alone, and with second thoughts.
    tab.eval("document.getElementById('reset').focus()");
    tab.press("Enter", ENTER);
    tab.wait_until("document.querySelector('dialog').open");
    assert_eq!(tab.eval("document.activeElement.innerText"), json!("Keep the ID"));
    assert!(tab.text("dialog").contains("Nothing in it tells of the old one"));
    tab.picture("reset");
    tab.press("Escape", ESCAPE);
    tab.wait_until("!document.querySelector('dialog').open");
    assert_eq!(tab.eval("document.activeElement.id"), json!("reset"));
    assert_eq!(world.setup.id_on_disk(), Some(before.clone()));

    tab.click("#reset");
    tab.click("dialog button[value=reset]");
    tab.wait_for_word("The ID is a new one now.");
    let after = tab.shown_id();
    assert_ne!(after, before);
    assert_eq!(world.setup.id_on_disk(), Some(after));
    assert_eq!(world.endpoint.pings().len(), 1, "a reset sends nothing");
    tab.check();
}

#[test]
fn switching_off_names_the_switch_and_the_preview_still_works() {
    let Some(browser) = browser_or_skip("switching_off_names_the_switch_and_the_preview_still_works") else { return };
    let world = World::new(homelab());
    let tab = Tab::open(&browser, &world);
    tab.click("#switch");
    tab.wait_for_word("Telemetry is off now. No ping waits, and the ID file is gone.");
    assert!(tab.text("#state").contains("Telemetry is off: the local switch"));
    assert!(tab.text("#state").contains("none is due"));
    assert!(!exists(&world.setup.id_file()) && exists(&world.setup.state("off")));
    let bytes = tab.sidecar.get("/api/v1/preview/bytes").text();
    assert_eq!(tab.eval("document.getElementById('bytes').textContent"), json!(bytes));
    tab.picture("off");
    tab.click("#switch");
    tab.wait_for_word("Telemetry is on now, with a new ID.");
    assert!(!tab.text("#state").contains("Telemetry is off"));
    assert!(!exists(&world.setup.state("off")));
    tab.check();
}

#[test]
fn an_off_by_the_environment_is_explained_and_has_no_switch() {
    let Some(browser) = browser_or_skip("an_off_by_the_environment_is_explained_and_has_no_switch") else { return };
    let mut world = World::new(homelab());
    world.setup = world.setup.with("PULSE_TELEMETRY", "nope");
    let tab = Tab::open(&browser, &world);
    let state = tab.text("#state");
    assert!(state.contains("Telemetry is off: PULSE_TELEMETRY in the sidecar's environment says so."), "{state}");
    assert!(state.contains("unset the variable and restart the sidecar"));
    assert_eq!(tab.eval("document.getElementById('switch')"), Value::Null);
    assert!(tab.text("#payload").contains("6.3.0"), "the preview still works");
    tab.picture("off-by-the-environment");
    tab.check();
}

#[test]
fn a_pulse_that_reports_itself_is_explained_on_the_first_screen() {
    let Some(browser) = browser_or_skip("a_pulse_that_reports_itself_is_explained_on_the_first_screen") else { return };
    let world = World::new(reports_itself());
    let tab = Tab::open(&browser, &world);
    assert!(tab.text("#state").contains("Pulse reports itself, so this program sends nothing"));
    assert_eq!(tab.text("#hand-over"), "PULSE_TELEMETRY=false");
    let bottom = tab.eval("document.getElementById('hand-over').getBoundingClientRect().bottom");
    assert!(bottom.as_f64().unwrap() < 600.0, "the line that hands over is at {bottom}");
    assert!(tab.text("#payload").contains("6.3.0"), "the preview works");
    tab.picture("reports-itself");
    assert_eq!(world.endpoint.pings().len(), 0);
    tab.check();
}

#[test]
fn what_could_not_be_read_is_named_with_what_to_do() {
    let Some(browser) = browser_or_skip("what_could_not_be_read_is_named_with_what_to_do") else { return };
    let mut model = homelab();
    model.tokens.insert(TOKEN.to_owned(), Token::new(&[MONITORING_READ], "default"));
    let world = World::new(model);
    let tab = Tab::open(&browser, &world);
    assert!(tab.text("#state").contains("give it the scopes monitoring:read and settings:read"));
    let payload = tab.text("#payload");
    assert!(payload.contains("There is nothing to show") && payload.contains("ai_enabled"), "{payload}");
    assert!(payload.contains("the token lacks the scope settings:read"));
    let elsewhere = tab.text("#elsewhere");
    assert!(elsewhere.contains("not known: the token lacks the scope settings:read (GET /api/settings/relay)"));
    tab.picture("missing-scope");
    tab.check();
}

#[test]
fn a_pulse_that_is_not_there_is_told_with_where_to_look() {
    let Some(browser) = browser_or_skip("a_pulse_that_is_not_there_is_told_with_where_to_look") else { return };
    let mut world = World::new(homelab());
    world.setup = world.setup.with("PULSE_URL", "http://127.0.0.1:1");
    let tab = Tab::open(&browser, &world);
    for part in ["#state", "#elsewhere"] {
        let said = tab.text(part);
        assert!(said.contains("Pulse cannot be reached") && said.contains("PULSE_URL"), "{said}");
    }
    assert!(tab.text("#payload").contains("What is unknown is not sent, and not made up."));
    tab.picture("unreachable");
    tab.check();
}

#[test]
fn what_stays_here_is_shown_as_text_as_it_comes_and_goes() {
    let Some(browser) = browser_or_skip("what_stays_here_is_shown_as_text_as_it_comes_and_goes") else { return };
    let world = World::new(homelab());
    let tab = Tab::open(&browser, &world);
    let shown = tab.text("#events");
    assert!(
        shown.contains("kept on this machine and never sent") && shown.contains("No local event is kept."),
        "{shown}"
    );
    assert!(shown.contains("reduceProUpsellNoise is off"), "{shown}");
    record(&tab.sidecar, "<b>settings</b>", 1);
    tab.refresh();
    let event = "limit_blocked, <b>settings</b>, relay, max_nodes, at 9, of 10, multi";
    assert!(tab.text("#events").contains(event), "{}", tab.text("#events"));
    assert_eq!(tab.eval("document.querySelector('#events b')"), Value::Null);
    assert!(!tab.eval("document.querySelector('#events time').dateTime").as_str().unwrap().is_empty());
    for number in 2..=22 {
        record(&tab.sidecar, "alerts", number);
    }
    tab.refresh();
    assert_eq!(tab.eval("document.querySelectorAll('#events li').length"), json!(20));
    assert!(tab.text("#events").contains("And 2 older: pulse-telemetry events shows them all."));
    tab.picture("events");
    // Whoever has no JavaScript reads the same.
    assert!(tab.sidecar.get("/").text().contains("limit_blocked, alerts, relay"));
    assert_eq!(tab.sidecar.ask("DELETE", "/api/v1/events", "").unwrap().status, 204);
    tab.refresh();
    assert!(tab.text("#events").contains("No local event is kept."));
    tab.check();
}

#[test]
fn events_that_are_off_are_shown_with_who_decided_it() {
    let Some(browser) = browser_or_skip("events_that_are_off_are_shown_with_who_decided_it") else { return };
    let off = |world: &World, said: &str| {
        let tab = Tab::open(&browser, world);
        record(&tab.sidecar, "settings", 1);
        tab.refresh();
        let shown = tab.text("#events");
        assert!(shown.contains("Local events are not kept") && shown.contains(said), "{shown}");
        assert!(shown.contains("No local event is kept.") && !shown.contains("limit_blocked"), "{shown}");
        assert!(!tab.text("#state").contains("Telemetry is off"), "telemetry is another matter");
        tab
    };
    for (variable, value, said) in [
        ("PULSE_DISABLE_LOCAL_UPGRADE_METRICS", "true", "PULSE_DISABLE_LOCAL_UPGRADE_METRICS"),
        ("PULSE_TELEMETRY_EVENTS__RECORD", "false", "events.record"),
    ] {
        let mut world = World::new(homelab());
        world.setup = world.setup.with(variable, value);
        off(&world, said).check();
    }
    let in_pulse = PulseModel { disable_local_upgrade_metrics: Some(true), ..homelab() };
    let tab = off(&World::new(in_pulse), "Pulse's own setting disableLocalUpgradeMetrics says so");
    tab.picture("events-off");
    tab.check();
    let mut unread = World::new(homelab());
    unread.setup = unread.setup.with("PULSE_URL", "http://127.0.0.1:1");
    off(&unread, "is not known, and unknown is off").check();

    let world = World::new(homelab());
    let switch = |tab: &Tab, body: &str| {
        assert_eq!(tab.sidecar.put("/api/upgrade-metrics/config", body).status, 200);
        tab.refresh();
    };
    let tab = Tab::open(&browser, &world);
    switch(&tab, r#"{"enabled":true,"disabled_surfaces":["settings"]}"#);
    record(&tab.sidecar, "settings", 1);
    tab.refresh();
    assert!(tab.text("#events").contains("Not kept from these surfaces: settings. "));
    assert!(tab.text("#events").contains("No local event is kept."));
    switch(&tab, r#"{"enabled":false}"#);
    assert!(tab.text("#events").contains("their local switch says so"));
    switch(&tab, r#"{"enabled":true}"#);
    assert!(tab.text("#events").contains("kept on this machine and never sent"));
    tab.check();
}

#[test]
fn the_history_grows_when_a_ping_is_sent() {
    let Some(browser) = browser_or_skip("the_history_grows_when_a_ping_is_sent") else { return };
    let world = World::new(homelab());
    assert!(world.setup.run(&["off"]).status.success());
    let tab = Tab::open(&browser, &world);
    let entries = "document.querySelectorAll('.history > li').length";
    let before = tab.eval(entries).as_u64().unwrap();
    assert!(!tab.text("#entries").contains("was sent"));
    tab.click("#switch");
    tab.wait_for_word("Telemetry is on now, with a new ID.");
    // Pulse is read once in ten seconds, and a ping needs a reading of its own.
    let ping = world.endpoint.wait_for_pings(1, LIMIT).remove(0);
    tab.until_shown("#entries", "A startup was sent and accepted, the endpoint answered 204");
    assert!(tab.eval(entries).as_u64().unwrap() > before);
    tab.eval("document.querySelector('.history details').open = true");
    assert_eq!(tab.eval("document.querySelector('.history pre').textContent").as_str().unwrap().as_bytes(), ping.body);
    assert!(tab.text(".history details").contains(&sha256(&ping.body)));
    assert!(tab.text("#state").contains("a startup, accepted; the endpoint answered 204"));
    tab.picture("history");
    tab.sidecar.put("/api/v1/switch", r#"{"enabled":false}"#);
    tab.refresh();
    assert!(tab.text("#entries").contains("Telemetry was turned off, by switch"));
    assert_eq!(tab.eval("document.querySelector('.history details').open"), json!(true), "what is open stays open");
    tab.check();
}

#[test]
fn a_long_history_has_pages() {
    let Some(browser) = browser_or_skip("a_long_history_has_pages") else { return };
    let world = World::new(homelab());
    let tab = Tab::open(&browser, &world);
    for turn in 0..30 {
        tab.sidecar.put("/api/v1/switch", &format!("{{\"enabled\":{}}}", turn % 2 == 1));
    }
    tab.refresh();
    assert_eq!(
        tab.eval("[...document.querySelectorAll('.ways a')].map((way) => way.innerText)"),
        json!(["Older entries"])
    );
    tab.picture("long-history");
    let newest = tab.text("#entries");
    let seen = tab.loads();
    tab.click(".ways a");
    tab.wait_for_events("Page.loadEventFired", seen + 1);
    assert!(tab.text("#entries").contains("The sidecar started"));
    tab.refresh();
    assert!(tab.text("#entries").contains("The sidecar started"), "it stays where it is");
    let seen = tab.loads();
    tab.click(".ways a");
    tab.wait_for_events("Page.loadEventFired", seen + 1);
    assert_eq!(tab.text("#entries"), newest);
    tab.check();
}

#[test]
fn the_page_keeps_up_by_itself_and_asks_nothing_while_it_is_hidden() {
    let test = "the_page_keeps_up_by_itself_and_asks_nothing_while_it_is_hidden";
    let Some(browser) = browser_or_skip(test) else { return };
    let world = World::new(homelab());
    let tab = Tab::open(&browser, &world);
    assert!(tab.eval("tick.ms").as_u64().unwrap() >= 10_000, "no more often than Pulse is read");
    tab.eval("getSelection().selectAllChildren(document.getElementById('bytes'))");
    tab.refresh();
    let bytes = tab.sidecar.get("/api/v1/preview/bytes").text();
    assert_eq!(tab.eval("getSelection().toString()"), json!(bytes), "what is the same is left alone");
    tab.sidecar.put("/api/v1/switch", r#"{"enabled":false}"#);
    tab.refresh();
    assert!(tab.text("#state").contains("Telemetry is off"));
    let asked = tab.asked().len();
    tab.eval("Object.defineProperty(document, 'hidden', { value: true, configurable: true }), tick.action()");
    assert_eq!(tab.asked().len(), asked);
    let seen = "(Object.defineProperty(document, 'hidden', { value: false }), document.dispatchEvent(new \
                Event('visibilitychange')))";
    tab.sidecar.put("/api/v1/switch", r#"{"enabled":true}"#);
    tab.eval(seen);
    tab.wait_until("!document.getElementById('state').innerText.includes('Telemetry is off')");
    assert!(tab.asked().len() > asked);
    tab.check();
    let Tab { page, sidecar, .. } = tab;
    sidecar.stop();
    page.eval("tick.action()");
    assert!(page.text("#message").starts_with("This page is not up to date"));
}

#[test]
fn it_can_be_read_in_the_dark_and_on_a_narrow_screen() {
    let Some(browser) = browser_or_skip("it_can_be_read_in_the_dark_and_on_a_narrow_screen") else { return };
    let world = World::new(homelab());
    let tab = Tab::open(&browser, &world);
    let ground = "getComputedStyle(document.body).backgroundColor";
    let light = tab.eval(ground);
    tab.look_like(true, 1200, 900);
    assert_ne!(tab.eval(ground), light);
    tab.picture("dark");
    for dark in [true, false] {
        tab.look_like(dark, 360, 740);
        let width = tab.eval("document.documentElement.scrollWidth");
        assert!(width.as_u64().unwrap() <= 360, "{width} pixels wide");
        tab.picture(if dark { "narrow-dark" } else { "narrow" });
    }
    tab.check();
}

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
    assert!(all.contains("pulse-telemetry off"));
    let buttons = "[...document.querySelectorAll('button')].filter((button) => button.checkVisibility()).length";
    assert_eq!(page.eval(buttons), json!(0));
    assert_eq!(page.complaints(), Vec::<String>::new());
}

#[test]
fn with_a_pulse_that_is_silent_the_page_is_there_at_once_and_the_rest_of_it_when_pulse_answers() {
    let test = "with_a_pulse_that_is_silent_the_page_is_there_at_once_and_the_rest_of_it_when_pulse_answers";
    let Some(browser) = browser_or_skip(test) else { return };
    let answers = Arc::new((Mutex::new(false), Condvar::new()));
    let (asked, model) = (Arc::clone(&answers), homelab());
    let pulse = Server::start(move |request| {
        let silent = asked.0.lock().unwrap();
        drop(asked.1.wait_timeout_while(silent, LIMIT, |answers| !*answers).unwrap());
        answer(&model, &request)
    });
    let mut world = World::new(homelab());
    world.setup = world.setup.with("PULSE_URL", &pulse.url()).with("PULSE_TELEMETRY_PULSE__TIMEOUT", "1m");
    let sidecar = world.setup.start();
    let page = browser.open();
    page.visit(&address(&sidecar));
    page.picture("silent");
    for (part, said) in [
        ("#state-title", "Pulse has not answered yet, and nothing is sent before it does"),
        ("#state", "Look whether Pulse runs, and at pulse.url (PULSE_URL)"),
        ("#payload", "Pulse is being asked, and has not answered yet."),
        ("#elsewhere", "Pulse is being asked, and has not answered yet."),
        ("#entries", "The sidecar started"),
        ("#age", "Pulse is being read."),
    ] {
        assert!(page.text(part).contains(said), "{part}: {}", page.text(part));
    }
    for said in ["Telemetry is off now", "Telemetry is on now"] {
        page.click("#switch");
        page.wait_until(&format!("document.getElementById('message').textContent.startsWith({})", json!(said)));
    }
    assert!(page.text("#payload").contains("has not answered yet"), "nobody waited for Pulse");
    *answers.0.lock().unwrap() = true;
    answers.1.notify_all();
    page.wait_until("document.querySelector('#payload table.fields')");
    assert_eq!(page.text("#state-title"), "One small ping goes out each day");
    let bytes = sidecar.get("/api/v1/preview/bytes").text();
    assert_eq!(page.eval("document.getElementById('bytes').textContent"), json!(bytes));
    assert!(page.text("#elsewhere").contains("relay.pulserelay.pro"));
    page.picture("no-longer-silent");
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

#[test]
fn off_loopback_the_page_asks_for_the_token_and_keeps_it_for_the_tab_only() {
    let test = "off_loopback_the_page_asks_for_the_token_and_keeps_it_for_the_tab_only";
    let Some(browser) = browser_or_skip(test) else { return };
    let world = World::new(homelab());
    let sidecar = locked(&world).start();
    let port = sidecar.address().port();
    let page = browser.open();
    page.visit(&format!("http://127.0.0.1:{port}/"));
    assert!(page.text("main").contains("This page needs its token"));
    assert!(!page.text("body").contains("Telemetry is"));
    page.picture("token");
    let enter = |token: &str| {
        page.eval("document.getElementById('token').select()");
        page.type_text(token);
        page.press("Enter", ENTER);
    };
    enter("wrong");
    page.wait_until("document.getElementById('message').textContent.includes('does not accept this token')");
    assert_eq!(page.eval("sessionStorage.length"), json!(0));
    enter(LOCAL_TOKEN);
    page.wait_until("document.getElementById('switch')");
    page.click("#switch");
    page.wait_until("document.getElementById('message').textContent.startsWith('Telemetry is off now')");
    assert_eq!(page.eval("[sessionStorage.length, localStorage.length, document.cookie]"), json!([1, 0, ""]));
    // The tab has it after a reload, and another tab does not have it.
    page.visit(&format!("http://127.0.0.1:{port}/?before=3"));
    page.wait_until("document.getElementById('switch')");
    let other = page.beside();
    other.visit(&format!("http://127.0.0.1:{port}/"));
    assert!(other.text("main").contains("This page needs its token"));
    assert_eq!([page.complaints(), other.complaints()], [const { Vec::<String>::new() }; 2]);
}

#[test]
fn behind_nginx_and_caddy_as_documented_the_buttons_work_and_without_the_host_they_say_why_not() {
    let test = "behind_nginx_and_caddy_as_documented_the_buttons_work_and_without_the_host_they_say_why_not";
    let Some(browser) = browser_or_skip(test) else { return };
    let mut world = World::new(homelab());
    world.setup = world.setup.with("PULSE_TELEMETRY_SERVE__ALLOWED_HOSTS", &format!("[\"{PROXIED}\"]"));
    let sidecar = world.setup.start();
    let behind = [Proxy::nginx(test, sidecar.address(), None), Proxy::caddy(test, sidecar.address())];
    for proxy in behind.into_iter().flatten() {
        let page = browser.open();
        page.visit(&proxy.url());
        for said in ["Telemetry is off now", "Telemetry is on now"] {
            page.click("#switch");
            page.wait_until(&format!("document.getElementById('message').textContent.startsWith({})", json!(said)));
        }
    }
    let line = "proxy_set_header Host $http_host;";
    let Some(proxy) = Proxy::nginx(test, sidecar.address(), Some(line)) else { return };
    let page = browser.open();
    page.visit(&proxy.url());
    page.click("#switch");
    page.wait_until("document.getElementById('message').textContent");
    let said = page.text("#message");
    let (origin, host) = (proxy.url(), sidecar.address().to_string());
    for part in [origin.trim_end_matches('/'), &host, line] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(sidecar.status()["enabled"], true);
}

#[test]
fn axe_finds_nothing_to_mend_in_any_state() {
    let test = "axe_finds_nothing_to_mend_in_any_state";
    let (Some(browser), Some(axe)) = (browser_or_skip(test), axe_or_skip(test)) else { return };
    let audit = |state: &str, page: &Page| {
        page.eval(&format!("{axe}; void 0"));
        let found = page.eval(
            "axe.run(document, { resultTypes: ['violations'] }).then(({ violations, passes }) => ({ passes: \
             passes.length, violations: violations.map((v) => [v.id, v.help, v.nodes.map((n) => n.html)]) }))",
        );
        assert_eq!(found["violations"], json!([]), "{state}");
        assert!(found["passes"].as_u64().unwrap() > 10, "{state}: axe looked at nothing");
    };
    let world = World::new(homelab());
    let tab = Tab::open(&browser, &world);
    world.endpoint.wait_for_pings(1, LIMIT);
    record(&tab.sidecar, "alerts", 1);
    tab.until_shown("#entries", "was sent and accepted");
    tab.eval("document.querySelectorAll('details').forEach((details) => { details.open = true; })");
    audit("on", &tab);
    tab.look_like(true, 1200, 900);
    audit("on, in the dark", &tab);
    tab.look_like(false, 360, 740);
    audit("on, on a narrow screen", &tab);
    tab.look_like(true, 360, 740);
    audit("on, in the dark on a narrow screen", &tab);
    tab.look_like(false, 1200, 900);
    tab.click("#reset");
    audit("the question before a reset", &tab);
    tab.click("dialog button[value=cancel]");
    tab.click("#switch");
    tab.wait_for_word("Telemetry is off now. No ping waits, and the ID file is gone.");
    audit("off", &tab);
    drop(tab);

    let mut lacking = homelab();
    lacking.tokens.insert(TOKEN.to_owned(), Token::new(&[MONITORING_READ], "default"));
    for (state, model) in [("Pulse reports itself", reports_itself()), ("a scope is missing", lacking)] {
        let world = World::new(model);
        let tab = Tab::open(&browser, &world);
        audit(state, &tab);
        tab.look_like(true, 1200, 900);
        audit(&format!("{state}, in the dark"), &tab);
    }
    let silent = Server::start(|_| ResponsePlan::Hang);
    let mut world = World::new(homelab());
    world.setup = world.setup.with("PULSE_URL", &silent.url()).with("PULSE_TELEMETRY_PULSE__TIMEOUT", "2m");
    let (page, sidecar) = (browser.open(), world.setup.start());
    page.visit(&address(&sidecar));
    assert!(page.text("#state").contains("Waiting"));
    audit("Pulse has not answered yet", &page);
    page.look_like(true, 360, 740);
    audit("Pulse has not answered yet, in the dark on a narrow screen", &page);
    let world = World::new(homelab());
    let sidecar = locked(&world).start();
    let page = browser.open();
    page.visit(&format!("http://127.0.0.1:{}/", sidecar.address().port()));
    audit("the token is asked for", &page);
}

/// Hands over an event, as a client made for Pulse does.
fn record(sidecar: &Sidecar, surface: &str, number: u32) {
    let event = json!({
        "type": "limit_blocked", "surface": surface, "capability": "relay", "limit_key": "max_nodes",
        "current_value": 9, "limit_value": 10, "tenant_mode": "multi",
        "timestamp": 1_795_427_342_072_i64, "idempotency_key": number.to_string(),
    });
    loop {
        let answer = sidecar.ask("POST", "/api/upgrade-metrics/events", &event.to_string()).unwrap();
        // Ten are taken within a second.
        if answer.status != 429 {
            assert_eq!(answer.status, 202, "{}", answer.text());
            return;
        }
    }
}

const LOCAL_TOKEN: &str = "correct-horse";

/// A Pulse, an endpoint, and a set-up of the sidecar between them.
struct World {
    /// It is asked for as long as the test runs.
    pulse: SimulatedPulse,
    endpoint: Endpoint,
    setup: Setup,
}

impl World {
    fn new(model: PulseModel) -> Self {
        let pulse = SimulatedPulse::start(model);
        let endpoint = Endpoint::start();
        let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN);
        Self { pulse, endpoint, setup }
    }
}

/// A homelab that uses what there is to use.
fn homelab() -> PulseModel {
    let ai_providers = ["anthropic", "ollama"].map(str::to_owned).into();
    PulseModel { relay: Relay::Enabled, ai_providers, ..PulseModel::default() }
}

fn reports_itself() -> PulseModel {
    PulseModel { telemetry_enabled: Some(true), telemetry_env_override: false, ..homelab() }
}

/// The page on all addresses, with a token.
fn locked(world: &World) -> Setup {
    let file = world.setup.write("local-token", LOCAL_TOKEN);
    let setup = world.setup.clone().with("PULSE_TELEMETRY_SERVE__LISTEN", "0.0.0.0:0");
    setup.with("PULSE_TELEMETRY_SERVE__TOKEN_FILE", file.to_str().unwrap())
}

/// The page in a tab, and the sidecar that it is of.
struct Tab {
    page: Page,
    sidecar: Sidecar,
}

impl std::ops::Deref for Tab {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.page
    }
}

impl Tab {
    fn open(browser: &Arc<Browser>, world: &World) -> Self {
        let (page, sidecar) = (browser.open(), world.setup.start());
        // The test says when it is time to look again.
        let source = "window.setInterval = (action, ms) => { window.tick = { action, ms }; };";
        page.call("Page.addScriptToEvaluateOnNewDocument", &json!({"source": source}));
        page.visit(&address(&sidecar));
        let tab = Self { page, sidecar };
        // What Pulse tells is filled in when it is there.
        tab.refresh();
        tab
    }

    /// As if it were time.
    fn refresh(&self) {
        self.eval("tick.action()");
    }

    /// Looks again until the element says that. What the daemon has yet to write, it writes within a moment.
    fn until_shown(&self, selector: &str, text: &str) {
        let deadline = std::time::Duration::from_secs(30).as_millis();
        self.eval(&format!(
            "(async () => {{ for (const end = Date.now() + {deadline}; !document.querySelector({selector}).innerText\
             .includes({text}) && Date.now() < end;) await tick.action(); }})()",
            selector = json!(selector),
            text = json!(text)
        ));
        assert!(self.text(selector).contains(text), "{}", self.text(selector));
    }

    fn wait_for_word(&self, word: &str) {
        self.wait_until(&format!("document.getElementById('message').textContent === {}", json!(word)));
    }

    fn shown_id(&self) -> String {
        self.text("#payload tbody tr:not(.group) td").trim().to_owned()
    }

    fn loads(&self) -> usize {
        self.wait_for_events("Page.loadEventFired", 1).len()
    }

    /// The console is silent, and nobody but the sidecar was asked anything.
    fn check(&self) {
        assert_eq!(self.complaints(), Vec::<String>::new());
        let asked = self.asked();
        assert!(asked.len() > 3, "page, style, script and icon at least: {asked:?}");
        for asked in asked {
            assert!(asked.url.starts_with(&address(&self.sidecar)), "{} was asked", asked.url);
        }
    }
}

fn address(sidecar: &Sidecar) -> String {
    format!("http://{}/", sidecar.address())
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
