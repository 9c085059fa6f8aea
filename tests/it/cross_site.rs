//! Other sites in the same browser: they read nothing of the sidecar and change nothing of it.
//!
//! Each attack is the same script. That it would do all it tries is shown where it runs as the sidecar's own page.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use pulse_telemetry_testkit::browser::{Asked, EVIL, Page, REBOUND, browser_or_skip};
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::server::{ResponsePlan, Server};
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup, Sidecar};
use serde_json::{Map, Value, json};

/// All that a page can try, and what it got.
const ATTACK: &str = r#"
(async (target) => {
  const got = {};
  const ask = async (name, path, options) => {
    try {
      const answer = await fetch(target + path, options);
      got[name] = answer.type === "opaque" ? "unreadable" : `${answer.status} ${await answer.text()}`;
    } catch { got[name] = "refused"; }
  };
  const load = (name, element, attribute, path) => new Promise((done) => {
    element.onload = () => done(got[name] = "loaded");
    element.onerror = () => done(got[name] = "refused");
    element[attribute] = target + path;
    document.body.append(element);
  });
  const json = { "Content-Type": "application/json" };
  await ask("status", "/api/v1/status");
  await ask("preview", "/api/v1/preview/bytes");
  await ask("page", "/");
  await ask("blind reset", "/api/v1/reset-id", { method: "POST", mode: "no-cors" });
  await ask("blind switch", "/api/v1/switch", { method: "POST", mode: "no-cors", body: '{"enabled":false}' });
  await ask("reset by pulse's path", "/api/system/settings/telemetry-reset-id", { method: "POST", mode: "no-cors" });
  await load("image", new Image(), "src", "/icon.svg");
  await load("script", document.createElement("script"), "src", "/page.js");
  const style = Object.assign(document.createElement("link"), { rel: "stylesheet" });
  await load("style", style, "href", "/style.css");
  got.socket = await new Promise((done) => {
    const socket = new WebSocket(target.replace("http", "ws") + "/api/v1/status");
    socket.onopen = () => done("open");
    socket.onerror = () => done("refused");
  });
  const frame = Object.assign(document.createElement("iframe"), { name: "frame" });
  const loaded = () => new Promise((done) => { frame.onload = done; });
  const read = () => { try { return frame.contentDocument.body.innerText; } catch { return "unreadable"; } };
  document.body.append(frame);
  let wait = loaded();
  frame.src = target + "/";
  await wait;
  got.frame = read();
  const form = document.createElement("form");
  Object.assign(form, { method: "post", action: target + "/api/v1/reset-id", target: "frame" });
  document.body.append(form);
  wait = loaded();
  form.submit();
  await wait;
  got.form = read();
  navigator.sendBeacon(target + "/api/v1/reset-id");
  await ask("erase", "/api/v1/history", { method: "DELETE" });
  await ask("switch", "/api/v1/switch", { method: "PUT", headers: json, body: '{"enabled":false}' });
  return got;
})"#;

#[test]
fn another_site_in_the_same_browser_reads_nothing_and_changes_nothing() {
    let test = "another_site_in_the_same_browser_reads_nothing_and_changes_nothing";
    let Some(browser) = browser_or_skip(test) else { return };
    let world = World::new();
    let evil = Server::start(|_| ResponsePlan::bytes(200, "text/html", "<!doctype html><body>A nice page.</body>"));
    // Another site, and one that a browser takes for the same because only its port is another.
    for host in [EVIL, "127.0.0.1"] {
        let page = browser.open();
        page.visit(&format!("http://{host}:{}/", evil.addr.port()));
        let before = world.state();
        let got = world.attack(&page);
        assert_eq!(world.state(), before, "{host}");
        for (name, result) in &got {
            let result = result.as_str().unwrap();
            assert!(["refused", "unreadable"].contains(&result), "{host}: {name} got {result:?}");
        }
        // What was sent reached the sidecar, which refused it; the rest the browser held back.
        let answered = |method, status| answered(&page, method, status);
        assert!(answered("POST", 403) >= 3 && answered("GET", 403) == 7, "{host}: {:?}", page.asked());
        assert_eq!((answered("OPTIONS", 403), answered("DELETE", 204)), (2, 0), "{host}: {:?}", page.asked());
    }
    world.endpoint.wait_for_pings(1, LIMIT);
    assert_eq!(world.endpoint.pings().len(), 1, "nothing was sent because of it");
}

#[test]
fn a_name_that_is_rebound_to_this_machine_reads_nothing_and_changes_nothing() {
    let test = "a_name_that_is_rebound_to_this_machine_reads_nothing_and_changes_nothing";
    let Some(browser) = browser_or_skip(test) else { return };
    let world = World::new();
    let origin = format!("http://{REBOUND}:{}", world.sidecar.address().port());
    let page = browser.open();
    page.visit(&format!("{origin}/"));
    let said = page.text("body");
    assert!(said.contains("host_not_allowed") && !said.contains("install_id"), "{said}");

    page.visit_as_if(&format!("{origin}/attack"), "<!doctype html><body>A nice page.</body>");
    let before = world.state();
    // For the browser that is the page's own origin, so that it may read whatever comes back.
    let got = attack(&page, &origin);
    assert_eq!(world.state(), before);
    for (name, result) in &got {
        let result = result.as_str().unwrap();
        let nothing = ["refused", "unreadable"].contains(&result) || result.contains("host_not_allowed");
        assert!(nothing && !result.contains("install_id"), "{name} got {result:?}");
    }
    assert!(answered(&page, "POST", 421) >= 4 && answered(&page, "PUT", 421) == 1, "{:?}", page.asked());
}

#[test]
fn the_same_script_as_the_own_page_does_all_that_it_tries() {
    let test = "the_same_script_as_the_own_page_does_all_that_it_tries";
    let Some(browser) = browser_or_skip(test) else { return };
    let world = World::new();
    let page = browser.open();
    let before = world.state();
    page.visit_as_if(&format!("{}/attack", world.origin()), "<!doctype html><body>The own page.</body>");
    let got = world.attack(&page);
    for (name, begins) in [
        ("status", "200 {"),
        ("preview", "200 {\"install_id\""),
        ("page", "200 <!doctype html>"),
        ("blind reset", "200 {"),
        ("reset by pulse's path", "200 {"),
        ("image", "loaded"),
        ("script", "loaded"),
        ("style", "loaded"),
        ("erase", "204"),
        ("switch", "200 {\"enabled\":false"),
        // Not even the own page may do these: nobody may frame it, and there is no socket and no switch by POST.
        ("frame", "unreadable"),
        ("form", "unreadable"),
        ("socket", "refused"),
        ("blind switch", "405"),
    ] {
        let result = got[name].as_str().unwrap();
        assert!(result.starts_with(begins), "{name} got {result:?}");
    }
    assert!(answered(&page, "POST", 200) >= 3, "the form was sent all the same: {:?}", page.asked());
    let after = world.state();
    assert!(before["enabled"] == true && after["enabled"] == false);
    assert_ne!(before["id"], after["id"]);
    assert_ne!(before["history"], after["history"]);
}

struct World {
    _pulse: SimulatedPulse,
    endpoint: Endpoint,
    sidecar: Sidecar,
}

impl World {
    /// One whose startup ping has been sent, so that nothing happens by itself any more.
    fn new() -> Self {
        let pulse = SimulatedPulse::start(PulseModel::default());
        let endpoint = Endpoint::start();
        let sidecar = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN).start();
        endpoint.wait_for_pings(1, LIMIT);
        sidecar.wait_for_log("ping delivered");
        Self { _pulse: pulse, endpoint, sidecar }
    }

    fn origin(&self) -> String {
        format!("http://{}", self.sidecar.address())
    }

    fn attack(&self, page: &Page) -> Map<String, Value> {
        attack(page, &self.origin())
    }

    /// Whatever somebody could have changed.
    fn state(&self) -> Value {
        let status = self.sidecar.status();
        let id = self.sidecar.get("/api/v1/preview").json()["payload"]["install_id"].clone();
        let history = self.sidecar.get("/api/v1/history").json();
        json!({"enabled": status["enabled"], "id": id, "pending": status["pending"], "history": history})
    }
}

fn attack(page: &Page, target: &str) -> Map<String, Value> {
    let got = page.eval(&format!("{ATTACK}({})", json!(target)));
    got.as_object().unwrap().clone()
}

/// How many requests of that method were answered with that status.
fn answered(page: &Page, method: &str, status: u64) -> usize {
    page.asked().iter().filter(|Asked { method: m, status: s, .. }| m == method && *s == Some(status)).count()
}
