//! What the page shows, and that it keeps up.

use std::sync::{Arc, Condvar, Mutex};

use pulse_telemetry_core::contract::FIELDS;
use pulse_telemetry_testkit::browser::{Page, axe_or_skip, browser_or_skip};
use pulse_telemetry_testkit::pulse::{MONITORING_READ, PulseModel, TOKEN, Token, answer};
use pulse_telemetry_testkit::server::{ResponsePlan, Server};
use pulse_telemetry_testkit::sidecar::{LIMIT, Sidecar};
use serde_json::{Value, json};

use super::{Tab, World, address, homelab, locked};

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
    // Without JavaScript a person reads the same.
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
fn axe_finds_nothing_to_mend_in_any_state() {
    let test = "axe_finds_nothing_to_mend_in_any_state";
    let (Some(browser), Some(axe)) = (browser_or_skip(test), axe_or_skip(test)) else { return };
    let audit = |state: &str, page: &Page| page.audit(&axe, state);
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

fn reports_itself() -> PulseModel {
    PulseModel { telemetry_enabled: Some(true), telemetry_env_override: false, ..homelab() }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
