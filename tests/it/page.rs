//! The page in a real Chromium, in front of the real binary, a Pulse of our own and a stand-in for the endpoint.
//! Pictures are kept in the target directory's `test-output/page`.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod changing;
mod forgetting;
mod no_script;
mod showing;

use std::sync::Arc;

use pulse_telemetry_testkit::browser::{Browser, Page};
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, Relay, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar::{Setup, Sidecar};
use serde_json::json;

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
        Self::of(browser, &world.setup)
    }

    fn of(browser: &Arc<Browser>, setup: &Setup) -> Self {
        let (page, sidecar) = (browser.open(), setup.start());
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

    /// From now on what the page asks at a path that begins so is never answered (`silent`), or fails (`broken`), as
    /// with a proxy between; and the test says when the time for an answer has passed (`limits`).
    fn fetch_with_faults(&self) {
        self.eval(
            "{
                const { fetch } = window;
                const signals = new Map();
                AbortSignal.timeout = () => {
                    const limit = new AbortController();
                    signals.set(limit.signal, limit);
                    return limit.signal;
                };
                Object.assign(window, { limits: new Map(), silent: null, broken: null });
                window.fetch = (path, options) => {
                    const { signal } = options;
                    limits.set(path, signals.get(signal));
                    if (broken && path.startsWith(broken)) return Promise.reject(new TypeError('Failed to fetch'));
                    if (!silent || !path.startsWith(silent)) return fetch(path, options);
                    return new Promise((_, fail) => signal.addEventListener('abort', () => fail(signal.reason)));
                };
            }",
        );
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
