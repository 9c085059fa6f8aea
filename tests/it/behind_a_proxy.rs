//! nginx and Caddy before the real program, with the lines of `docs/PROXY.md`, over http on a LAN name and over https,
//! in a real Chromium: the page under a name and under a path, and Pulse's two routes as Pulse's own page calls them.

use std::sync::Arc;

use pulse_telemetry_testkit::browser::{Browser, EVIL, Page, browser_or_skip};
use pulse_telemetry_testkit::endpoint::{CertificateAuthority, Endpoint, Issued};
use pulse_telemetry_testkit::proxy::{Before, OWN_NAME, PULSES_NAME, Program, Proxy};
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::server::{Refusing, RequestRecord, ResponsePlan, Server};
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup, Sidecar};
use serde_json::{Value, json};

const LOCAL_TOKEN: &str = "correct-horse";

/// Both programs, without and with TLS.
const WAYS: [(Program, bool); 4] =
    [(Program::Nginx, false), (Program::Nginx, true), (Program::Caddy, false), (Program::Caddy, true)];

/// Pulse's address: what it answers to somebody who is logged in, and to anybody else.
fn pulse_before_its_login() -> Server {
    Server::start(|request| {
        let is_in = request.header("cookie").is_some_and(|cookie| cookie.contains("pulse_session=good"));
        let by_token = [request.header("authorization"), request.header("x-api-token")].iter().any(Option::is_some);
        match request.path() {
            "/" => ResponsePlan::bytes(200, "text/html", "<!doctype html><title>Pulse</title><body>Pulse's own page."),
            "/login" => ResponsePlan::text(200, "in").with_header("Set-Cookie", "pulse_session=good; Path=/; HttpOnly"),
            "/api/system/settings" if is_in || by_token => ResponsePlan::json(200, &json!({"telemetryEnabled": false})),
            "/api/system/settings" => ResponsePlan::json(401, &json!({"error": "Authentication required"})),
            _ => ResponsePlan::text(404, "Pulse knows no such page"),
        }
    })
}

struct World {
    _simulated: SimulatedPulse,
    pulse: Server,
    _endpoint: Endpoint,
    sidecar: Sidecar,
    certificate: Issued,
}

impl World {
    /// One whose startup ping has been sent, so that nothing happens by itself any more.
    fn new(change: impl FnOnce(Setup) -> Setup) -> Self {
        let (simulated, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
        let setup = Setup::new(&simulated.url(), &endpoint.url()).with_token(TOKEN);
        let names = format!("[\"{OWN_NAME}\",\"{PULSES_NAME}\"]");
        let sidecar = change(setup.with("PULSE_TELEMETRY_SERVE__ALLOWED_HOSTS", &names)).start();
        endpoint.wait_for_pings(1, LIMIT);
        sidecar.wait_for_log("ping delivered");
        let certificate = CertificateAuthority::new().issue(&[OWN_NAME, PULSES_NAME]);
        Self { _simulated: simulated, pulse: pulse_before_its_login(), _endpoint: endpoint, sidecar, certificate }
    }

    /// The proxy with the document's lines, these changed.
    fn proxy(
        &self,
        test: &str,
        (program, tls): (Program, bool),
        pulse: bool,
        changed: &[(&str, &str)],
    ) -> Option<Proxy> {
        let before = Before {
            sidecar: self.sidecar.address(),
            pulse: pulse.then_some(self.pulse.addr),
            tls: tls.then_some(&self.certificate),
            changed,
        };
        Proxy::start_or_skip(test, program, &before)
    }

    fn id(&self) -> Value {
        self.sidecar.get("/api/v1/preview").json()["payload"]["install_id"].clone()
    }

    fn is_on(&self) -> bool {
        self.sidecar.status()["enabled"] == true
    }

    /// What Pulse was asked by the proxy, since then.
    fn questions(&self, since: usize) -> Vec<RequestRecord> {
        let asked = self.pulse.requests().into_iter().skip(since);
        asked.filter(|request| request.path() == "/api/system/settings").collect()
    }
}

/// A tab that takes a certificate of the tests, and looks again when it is told to.
fn tab(browser: &Arc<Browser>) -> Page {
    prepared(browser.open())
}

fn prepared(page: Page) -> Page {
    page.call("Security.setIgnoreCertificateErrors", &json!({"ignore": true}));
    let source = "window.setInterval = (action, ms) => { window.tick = { action, ms }; };";
    page.call("Page.addScriptToEvaluateOnNewDocument", &json!({"source": source}));
    page
}

/// The page's own buttons, and a change that was made elsewhere.
fn everything_works(world: &World, page: &Page, what: &str) {
    let said = |words: &str| format!("document.getElementById('message').textContent.startsWith({})", json!(words));
    page.wait_until("document.querySelector('#payload tbody')");
    for (words, on) in [("Telemetry is off now", false), ("Telemetry is on now", true)] {
        page.click("#switch");
        page.wait_until(&said(words));
        assert_eq!(world.is_on(), on, "{what}");
    }
    let before = world.id();
    page.click("#reset");
    page.click("dialog button[value=reset]");
    page.wait_until(&said("The ID is a new one now."));
    let after = world.id();
    assert_ne!(before, after, "{what}");
    // Somebody else resets it once more: the page shows that, without a reload.
    world.sidecar.post("/api/v1/reset-id");
    let loads = page.wait_for_events("Page.loadEventFired", 1).len();
    page.eval("tick.action()");
    page.wait_until(&format!("document.querySelector('#payload').innerText.includes({})", world.id()));
    assert_eq!(page.wait_for_events("Page.loadEventFired", 1).len(), loads, "{what}");
    // Over plain http a browser has no use for one of the headers, and says so.
    let is_fault = |said: &String| !said.contains("The Cross-Origin-Opener-Policy header has been ignored");
    assert_eq!(page.complaints().into_iter().filter(is_fault).collect::<Vec<_>>(), Vec::<String>::new(), "{what}");
}

#[test]
fn under_a_name_of_its_own_the_page_works_with_switch_reset_and_news() {
    let test = "under_a_name_of_its_own_the_page_works_with_switch_reset_and_news";
    let Some(browser) = browser_or_skip(test) else { return };
    let world = World::new(|setup| setup);
    for way in WAYS {
        let Some(proxy) = world.proxy(test, way, false, &[]) else { return };
        let page = tab(&browser);
        page.visit(proxy.url());
        everything_works(&world, &page, &format!("{way:?}"));
    }
}

#[test]
fn without_the_browsers_host_the_page_says_what_the_proxy_must_pass_on() {
    let test = "without_the_browsers_host_the_page_says_what_the_proxy_must_pass_on";
    let Some(browser) = browser_or_skip(test) else { return };
    let world = World::new(|setup| setup);
    let line = "proxy_set_header Host $http_host;";
    let Some(proxy) = world.proxy(test, (Program::Nginx, false), false, &[(line, "")]) else { return };
    let page = tab(&browser);
    page.visit(proxy.url());
    page.click("#switch");
    page.wait_until("document.getElementById('message').textContent");
    let said = page.text("#message");
    for part in [proxy.url().trim_end_matches('/'), &world.sidecar.address().to_string(), line] {
        assert!(said.contains(part), "{said}");
    }
    assert!(world.is_on());
}

#[test]
fn under_pulses_name_its_administrators_have_the_page_at_a_path_and_nobody_else() {
    let test = "under_pulses_name_its_administrators_have_the_page_at_a_path_and_nobody_else";
    let Some(browser) = browser_or_skip(test) else { return };
    let world = World::new(|setup| setup);
    for way in WAYS {
        let Some(proxy) = world.proxy(test, way, true, &[]) else { return };
        let page = tab(&browser);
        for path in ["telemetry", "telemetry/", "telemetry/api/v1/status"] {
            page.visit(&format!("{}{path}", proxy.url()));
            let said = page.text("body");
            assert!(!said.contains("install_id") && !said.contains("Pulse telemetry"), "{way:?}: {said}");
        }
        page.visit(&format!("{}login", proxy.url()));
        page.visit(&format!("{}telemetry", proxy.url()));
        assert_eq!(page.eval("location.pathname"), json!("/telemetry/"), "{way:?}");
        // The refusals of before are not the page's own.
        let page = prepared(page.beside());
        page.visit(&format!("{}telemetry/", proxy.url()));
        everything_works(&world, &page, &format!("{way:?}"));
        page.visit(&format!("{}telemetry/docs/PRIVACY.md", proxy.url()));
        assert!(page.text("body").contains("Every field"), "{way:?}");
        page.visit(proxy.url());
        assert_eq!(page.text("body"), "Pulse's own page.", "{way:?}");
    }
}

#[test]
fn where_pulse_is_gone_or_answers_with_something_else_nobody_gets_in() {
    let test = "where_pulse_is_gone_or_answers_with_something_else_nobody_gets_in";
    let Some(browser) = browser_or_skip(test) else { return };
    let gone = Refusing::new();
    let odd = Server::start(|request| match request.path() {
        "/api/system/settings" => ResponsePlan::redirect(302, "/somewhere"),
        _ => ResponsePlan::text(200, "somewhere"),
    });
    let world = World::new(|setup| setup);
    let before = world.id();
    for (program, pulse) in [Program::Nginx, Program::Caddy].into_iter().flat_map(|p| [(p, gone.addr), (p, odd.addr)]) {
        let stands = Before { sidecar: world.sidecar.address(), pulse: Some(pulse), tls: None, changed: &[] };
        let Some(proxy) = Proxy::start_or_skip(test, program, &stands) else { return };
        let page = tab(&browser);
        page.visit_as_if(&format!("{}any", proxy.url()), "<!doctype html><body>Pulse's own page, of before.</body>");
        let got = page.eval(PULSES_PAGE);
        for name in ["preview", "reset", "again"] {
            assert_eq!(got[name]["body"]["payload"], Value::Null, "{program:?}, {pulse}: {got}");
        }
    }
    assert_eq!(world.id(), before);
}

/// What Pulse's own page does: its routes, its cookie, its CSRF header, and a body of JSON.
const PULSES_PAGE: &str = r#"
(async () => {
  const json = { "Content-Type": "application/json", "X-CSRF-Token": "of-pulse" };
  const ask = async (name, options) => {
    const answer = await fetch(`/api/system/settings/telemetry-${name}`, { credentials: "include", ...options });
    return { status: answer.status, body: await answer.json().catch(() => null) };
  };
  return {
    preview: await ask("preview", { headers: json }),
    reset: await ask("reset-id", { method: "POST", headers: json }),
    again: await ask("preview", { headers: json }),
  };
})()"#;

#[test]
fn pulses_own_preview_and_reset_show_and_change_what_is_sent_for_its_administrators_alone() {
    let test = "pulses_own_preview_and_reset_show_and_change_what_is_sent_for_its_administrators_alone";
    let Some(browser) = browser_or_skip(test) else { return };
    let world = World::new(|setup| setup);
    for way @ (_, tls) in WAYS {
        let Some(proxy) = world.proxy(test, way, true, &[]) else { return };
        let page = tab(&browser);
        page.visit(proxy.url());
        let before = world.id();
        let refused = page.eval(PULSES_PAGE);
        assert_eq!([&refused["preview"]["status"], &refused["reset"]["status"]], [401, 401], "{way:?}");
        // A token opens Pulse's settings to its holder, and not these routes.
        let tokens = r#""of-pulse", Authorization: "Bearer a", "X-API-Token": "a""#;
        let with_token = PULSES_PAGE.replace("\"of-pulse\"", tokens);
        assert_eq!(page.eval(&with_token)["reset"]["status"], 401, "{way:?}");
        assert_eq!(world.id(), before, "{way:?}");

        page.visit(&format!("{}login", proxy.url()));
        page.visit(proxy.url());
        let asked = world.pulse.requests().len();
        let got = page.eval(PULSES_PAGE);
        let [shown, reset, again] = ["preview", "reset", "again"].map(|name| &got[name]);
        assert_eq!([&shown["status"], &reset["status"], &again["status"]], [200, 200, 200], "{way:?}: {got}");
        assert_eq!(shown["body"]["enabled"], true, "{way:?}");
        assert_eq!(shown["body"]["payload"]["install_id"], before, "{way:?}");
        let new = world.id();
        assert_ne!(new, before, "{way:?}");
        assert_eq!([&reset["body"]["payload"]["install_id"], &again["body"]["payload"]["install_id"]], [&new, &new]);
        // Over plain http on a LAN name a browser tells nothing of the site, and the Origin has to do.
        let questions = world.questions(asked);
        assert_eq!(questions.len(), 3, "{way:?}");
        for question in questions {
            assert_eq!(question.method, "GET");
            assert_eq!(question.header("sec-fetch-site"), tls.then_some("same-origin"), "{way:?}");
            assert!(question.body.is_empty() && question.target.trim_end_matches('?') == "/api/system/settings");
            assert_eq!(question.header("x-forwarded-for"), Some("127.0.0.1"), "{way:?}");
        }
    }
}

#[test]
fn neither_pulses_cookie_nor_its_tokens_reach_the_sidecar() {
    let test = "neither_pulses_cookie_nor_its_tokens_reach_the_sidecar";
    let Some(browser) = browser_or_skip(test) else { return };
    let pulse = pulse_before_its_login();
    for program in [Program::Nginx, Program::Caddy] {
        let sidecar = Server::start(|_| ResponsePlan::json(200, &json!({"payload": "seen"})));
        let before = Before { sidecar: sidecar.addr, pulse: Some(pulse.addr), tls: None, changed: &[] };
        let Some(proxy) = Proxy::start_or_skip(test, program, &before) else { return };
        let page = tab(&browser);
        page.visit(&format!("{}login", proxy.url()));
        let tokens = r#""of-pulse", Authorization: "Bearer a", "X-API-Token": "a""#;
        let got = page.eval(&PULSES_PAGE.replace("\"of-pulse\"", tokens));
        assert_eq!(got["reset"]["body"]["payload"], "seen", "{program:?}: {got}");
        page.visit(&format!("{}telemetry/?read=", proxy.url()));
        let asked = sidecar.requests();
        for request in &asked {
            for header in ["cookie", "authorization", "x-api-token"] {
                assert_eq!(request.header(header), None, "{program:?}: {}", request.target);
            }
        }
        assert!(asked.iter().any(|request| request.target == "/?read="), "{program:?}: {asked:?}");
    }
}

/// What a page of another site can try on Pulse's two routes and the page's own.
const ATTACK: &str = r#"
(async (target) => {
  const got = {};
  for (const [path, method] of [
    ["api/system/settings/telemetry-preview", "GET"], ["api/system/settings/telemetry-reset-id", "POST"],
    ["telemetry/api/v1/reset-id", "POST"], ["telemetry/api/v1/preview", "GET"], ["telemetry/", "GET"],
  ]) for (const mode of ["no-cors", "cors"]) {
    try {
      const answer = await fetch(target + path, { method, mode, credentials: "include" });
      got[`${mode} ${path}`] = answer.type === "opaque" ? "unreadable" : `${answer.status} ${await answer.text()}`;
    } catch { got[`${mode} ${path}`] = "refused"; }
  }
  const frame = Object.assign(document.createElement("iframe"), { name: "frame" });
  document.body.append(frame);
  for (const path of ["api/system/settings/telemetry-reset-id", "telemetry/api/v1/reset-id"]) {
    const form = document.createElement("form");
    Object.assign(form, { method: "post", action: target + path, target: "frame" });
    document.body.append(form);
    const loaded = new Promise((done) => { frame.onload = done; });
    form.submit();
    await loaded;
    try { got[`form ${path}`] = frame.contentDocument.body.innerText; } catch { got[`form ${path}`] = "unreadable"; }
  }
  return got;
})"#;

#[test]
fn a_strangers_page_gets_nothing_even_where_its_victim_is_pulses_administrator() {
    let test = "a_strangers_page_gets_nothing_even_where_its_victim_is_pulses_administrator";
    let Some(browser) = browser_or_skip(test) else { return };
    let world = World::new(|setup| setup);
    let evil = Server::start(|_| ResponsePlan::bytes(200, "text/html", "<!doctype html><body>A nice page.</body>"));
    for (way, is_pulses) in WAYS.into_iter().flat_map(|way| [(way, true), (way, false)]) {
        let Some(proxy) = world.proxy(test, way, is_pulses, &[]) else { return };
        let before = world.id();
        let name = if is_pulses { PULSES_NAME } else { OWN_NAME };
        // Another site, and another port of the same name, which a browser sends Pulse's cookie to as well.
        for host in [EVIL, name] {
            let page = tab(&browser);
            page.visit(&format!("{}login", proxy.url()));
            page.visit(&format!("http://{host}:{}/", evil.addr.port()));
            let got = page.eval(&format!("{ATTACK}({})", json!(proxy.url())));
            for (name, result) in got.as_object().unwrap() {
                let result = result.as_str().unwrap();
                assert!(["refused", "unreadable", ""].contains(&result), "{way:?}, {host}: {name} got {result:?}");
            }
            let asked = page.asked();
            let arrived = asked.iter().filter(|asked| asked.url.starts_with(proxy.url())).count();
            assert!(arrived >= 10, "{way:?}, {host}: {asked:?}");
            // Where Pulse is not asked, or Pulse's cookie came along, it is the sidecar that refuses.
            let refused = asked.iter().filter(|asked| asked.method == "POST" && asked.status == Some(403)).count();
            assert!(refused >= 4 || (is_pulses && (host == EVIL || way.1)), "{way:?}, {host}: {asked:?}");
        }
        assert_eq!((world.id(), world.is_on()), (before, true), "{way:?}");
    }
}

#[test]
fn where_the_sidecar_has_a_token_the_proxy_shows_it_for_those_that_pulse_let_in() {
    let test = "where_the_sidecar_has_a_token_the_proxy_shows_it_for_those_that_pulse_let_in";
    let Some(browser) = browser_or_skip(test) else { return };
    let world = World::new(|setup| {
        let file = setup.write("local-token", LOCAL_TOKEN);
        setup.with("PULSE_TELEMETRY_SERVE__TOKEN_FILE", file.to_str().unwrap())
    });
    for (program, indent, cookie, emptied, shown) in [
        (Program::Nginx, 8, "proxy_set_header Cookie \"\";", "proxy_set_header X \"\";", "proxy_set_header X \"Y\";"),
        (Program::Caddy, 12, "header_up -Cookie", "header_up -X", "header_up X \"Y\""),
    ] {
        // The last of the three lines that keep what is Pulse's from the sidecar.
        let lines = |last: &str| {
            let second = emptied.replace('X', "Authorization");
            let last = last.replace('X', "X-API-Token").replace('Y', LOCAL_TOKEN);
            [cookie, &second, &last].join(&format!("\n{}", " ".repeat(indent)))
        };
        let (line, by) = (lines(emptied), lines(shown));
        let Some(proxy) = world.proxy(test, (program, true), true, &[(line.as_str(), by.as_str())]) else { return };
        let page = tab(&browser);
        page.visit(&format!("{}telemetry/", proxy.url()));
        assert!(!page.text("body").contains("Pulse telemetry"));
        page.visit(&format!("{}login", proxy.url()));
        page.visit(&format!("{}telemetry/", proxy.url()));
        page.wait_until("document.querySelector('#payload tbody')");
        page.click("#switch");
        page.wait_until("document.getElementById('message').textContent.startsWith('Telemetry is o')");
        page.click("#switch");
        page.wait_until("document.getElementById('message').textContent.startsWith('Telemetry is on now')");
    }
}
