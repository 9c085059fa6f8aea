//! A real Chromium without a window, driven over its DevTools pipe: no port, no driver, no crate.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::alone::{file_or_skip, program_or_skip};
use super::lock;
use super::proxy::{OWN_NAME, PULSES_NAME};
use super::sidecar::{LIMIT, binary};

/// Names that lead to this machine, as a name does that somebody rebinds.
pub const EVIL: &str = "evil.example";
pub const REBOUND: &str = "rebound.example";

const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The browser that all tests of a process share while one of them needs it.
static SHARED: Mutex<Weak<Browser>> = Mutex::new(Weak::new());

/// A running browser. It ends when it is dropped.
pub struct Browser {
    child: Child,
    commands: Mutex<ChildStdin>,
    inbox: Arc<(Mutex<Inbox>, Condvar)>,
    next: AtomicU64,
    reader: Option<std::thread::JoinHandle<()>>,
    /// Its files; none of the person's own profile.
    _profile: TempDir,
}

#[derive(Default)]
struct Inbox {
    answers: Vec<Value>,
    events: Vec<Value>,
    ended: bool,
}

/// The browser, or a word that the test is skipped; on CI its absence fails.
pub fn browser_or_skip(test: &str) -> Option<Arc<Browser>> {
    let mut shared = lock(&SHARED);
    if let Some(running) = shared.upgrade() {
        return Some(running);
    }
    let there = |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    let name = NAMES.into_iter().find(there).unwrap_or(NAMES[0]);
    if !program_or_skip(name, &["--version"], test) {
        return None;
    }
    let browser = Arc::new(Browser::start(name));
    *shared = Arc::downgrade(&browser);
    Some(browser)
}

/// The source of axe-core, which `make setup` installs; where it is not there, a word that the test is skipped.
pub fn axe_or_skip(test: &str) -> Option<String> {
    file_or_skip(&target().join("axe/node_modules/axe-core/axe.min.js"), test)
}

/// Cargo's target directory.
fn target() -> PathBuf {
    binary().ancestors().nth(2).unwrap().to_owned()
}

impl Browser {
    fn start(name: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let rules = [EVIL, REBOUND, OWN_NAME, PULSES_NAME].map(|name| format!("MAP {name} 127.0.0.1, ")).concat()
            + "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1";
        // The pipe is the descriptors 3 and 4, which only a shell can hand over without unsafe code.
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#, name])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-extensions", "--disable-dev-shm-usage", "--remote-debugging-pipe"])
            // What newer browsers hold back by themselves, older ones do not: the guards are to be tried.
            .arg("--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests")
            .arg(format!("--host-resolver-rules={rules}"))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("TZ", "UTC")
            .env("TMPDIR", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = Mutex::new(child.stdin.take().unwrap());
        let inbox: Arc<(Mutex<Inbox>, Condvar)> = Arc::default();
        let output = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn({
            let inbox = Arc::clone(&inbox);
            move || {
                // The browser may end in the middle of a word.
                for message in output.split(0).map_while(Result::ok) {
                    let Ok(message) = serde_json::from_slice::<Value>(&message) else { break };
                    let mut news = lock(&inbox.0);
                    if message.get("id").is_some() { &mut news.answers } else { &mut news.events }.push(message);
                    inbox.1.notify_all();
                }
                lock(&inbox.0).ended = true;
                inbox.1.notify_all();
            }
        });
        Self { child, commands, inbox, next: AtomicU64::new(1), reader: Some(reader), _profile: profile }
    }

    /// A page of its own, with storage of its own.
    pub fn open(self: &Arc<Self>) -> Page {
        let context = self.call(None, "Target.createBrowserContext", &json!({}))["browserContextId"].clone();
        self.open_in(&Arc::new(Storage { browser: Arc::clone(self), context }))
    }

    fn open_in(self: &Arc<Self>, storage: &Arc<Storage>) -> Page {
        let place = json!({"url": "about:blank", "browserContextId": storage.context});
        let target = self.call(None, "Target.createTarget", &place)["targetId"].clone();
        let attached = self.call(None, "Target.attachToTarget", &json!({"targetId": target, "flatten": true}));
        let session = text(&attached["sessionId"]);
        let page = Page { browser: Arc::clone(self), session, storage: Arc::clone(storage) };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), &json!({}));
        }
        page.call("Emulation.setFocusEmulationEnabled", &json!({"enabled": true}));
        page.look_like(false, 1200, 900);
        page
    }

    fn call(&self, session: Option<&str>, method: &str, params: &Value) -> Value {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        lock(&self.commands).write_all(&bytes).expect("the browser listens");
        let answer = self.wait(method, |inbox| {
            let at = inbox.answers.iter().position(|answer| answer["id"] == id)?;
            Some(inbox.answers.swap_remove(at))
        });
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Waits until there is what is looked for.
    fn wait<T>(&self, what: &str, look: impl Fn(&mut Inbox) -> Option<T>) -> T {
        let (inbox, news) = &*self.inbox;
        let mut found = None;
        let waited = news.wait_timeout_while(lock(inbox), LIMIT, |inbox| {
            found = look(inbox);
            found.is_none() && !inbox.ended
        });
        drop(waited);
        found.unwrap_or_else(|| panic!("the browser never told of {what}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to end it cleans up behind itself; a test that fails does not wait for that.
        let asked = lock(&self.commands).write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        if asked.is_ok() && !std::thread::panicking() {
            let (inbox, news) = &*self.inbox;
            drop(news.wait_timeout_while(lock(inbox), LIMIT, |inbox| !inbox.ended));
        }
        // One that has ended is no longer there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// One tab.
pub struct Page {
    browser: Arc<Browser>,
    session: String,
    storage: Arc<Storage>,
}

/// Cookies and whatever else the tabs of one person share.
struct Storage {
    browser: Arc<Browser>,
    context: Value,
}

impl Drop for Storage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.browser.call(None, "Target.disposeBrowserContext", &json!({"browserContextId": self.context}));
        }
    }
}

/// What came back for one request of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub method: String,
    pub url: String,
    /// None where there was no answer.
    pub status: Option<u64>,
}

impl Page {
    pub fn call(&self, method: &str, params: &Value) -> Value {
        self.browser.call(Some(&self.session), method, params)
    }

    /// Another tab of the same person.
    pub fn beside(&self) -> Self {
        self.browser.open_in(&self.storage)
    }

    /// Goes there, and waits until it is loaded.
    pub fn visit(&self, url: &str) {
        let before = self.events("Page.loadEventFired").len();
        self.call("Page.navigate", &json!({"url": url}));
        self.wait_for_events("Page.loadEventFired", before + 1);
    }

    /// Goes there, and is answered with that page instead of the server's: what runs then runs as of that origin.
    pub fn visit_as_if(&self, url: &str, html: &str) {
        let loaded = self.events("Page.loadEventFired").len();
        let paused = self.events("Fetch.requestPaused").len();
        self.call("Fetch.enable", &json!({"patterns": [{"urlPattern": url}]}));
        self.eval(&format!("void (location.href = {})", json!(url)));
        let paused = self.wait_for_events("Fetch.requestPaused", paused + 1).pop().unwrap();
        let answer = json!({
            "requestId": paused["requestId"],
            "responseCode": 200,
            "responseHeaders": [{"name": "Content-Type", "value": "text/html"}],
            "body": BASE64.encode(html),
        });
        self.call("Fetch.fulfillRequest", &answer);
        self.wait_for_events("Page.loadEventFired", loaded + 1);
        self.call("Fetch.disable", &json!({}));
    }

    /// The value of an expression, a promise's too.
    pub fn eval(&self, expression: &str) -> Value {
        let how = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true,
        });
        let answer = self.call("Runtime.evaluate", &how);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The text that a person sees of the element.
    pub fn text(&self, selector: &str) -> String {
        text(&self.eval(&format!("document.querySelector({}).innerText", json!(selector))))
    }

    /// Waits until the expression is true; it is looked at whenever the page changes.
    pub fn wait_until(&self, expression: &str) {
        self.eval(&format!(
            "new Promise((done) => {{
               const look = () => {{ if ({expression}) {{ watch.disconnect(); done(true); }} }};
               const watch = new MutationObserver(look);
               watch.observe(document, {{ subtree: true, childList: true, characterData: true, attributes: true }});
               look();
             }})"
        ));
    }

    /// Clicks the element. Not by its place: what comes from Pulse may move it between a look and the click.
    pub fn click(&self, selector: &str) {
        self.eval(&format!(
            "(() => {{ const e = document.querySelector({});
               e.scrollIntoView({{ block: 'center' }}); e.focus(); e.click(); }})()",
            json!(selector)
        ));
    }

    /// Presses a key.
    pub fn press(&self, key: &str, code: u32) {
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// Pastes what was copied to where the focus is.
    pub fn paste(&self) {
        self.call("Input.dispatchKeyEvent", &json!({"type": "keyDown", "key": "v", "commands": ["paste"]}));
    }

    pub fn type_text(&self, text: &str) {
        self.call("Input.insertText", &json!({"text": text}));
    }

    /// Dark or light, and how large the window is, in pixels.
    pub fn look_like(&self, dark: bool, width: u32, height: u32) {
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", &json!({"features": features}));
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// Keeps a picture of the whole page as test output.
    pub fn picture(&self, name: &str) {
        let shot = self.call("Page.captureScreenshot", &json!({"format": "png", "captureBeyondViewport": true}));
        self.keep(name, &shot);
        let first = self.call("Page.captureScreenshot", &json!({"format": "png"}));
        self.keep(&format!("{name}-first-screen"), &first);
    }

    /// Holds the page against the rules of axe, whose source this is.
    pub fn audit(&self, axe: &str, state: &str) {
        self.eval(&format!("{axe}; void 0"));
        let found = self.eval(
            "axe.run(document, { resultTypes: ['violations'] }).then(({ violations, passes }) => ({ passes: \
             passes.length, violations: violations.map((v) => [v.id, v.help, v.nodes.map((n) => n.html)]) }))",
        );
        assert_eq!(found["violations"], json!([]), "{state}");
        assert!(found["passes"].as_u64().unwrap() > 10, "{state}: axe looked at nothing");
    }

    fn keep(&self, name: &str, shot: &Value) {
        let folder = target().join("test-output/page");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), BASE64.decode(text(&shot["data"])).unwrap()).unwrap();
    }

    fn events(&self, method: &str) -> Vec<Value> {
        let inbox = lock(&self.browser.inbox.0);
        let ours = inbox.events.iter().filter(|e| e["sessionId"] == self.session.as_str() && e["method"] == method);
        ours.map(|event| event["params"].clone()).collect()
    }

    pub fn wait_for_events(&self, method: &str, count: usize) -> Vec<Value> {
        self.browser.wait(method, |inbox| {
            let ours = inbox.events.iter().filter(|e| e["sessionId"] == self.session.as_str() && e["method"] == method);
            let ours: Vec<Value> = ours.map(|event| event["params"].clone()).collect();
            (ours.len() >= count).then_some(ours)
        })
    }

    /// Every request that the page made, from the browser's own log.
    pub fn asked(&self) -> Vec<Asked> {
        let answers = self.events("Network.responseReceived");
        let early = self.events("Network.responseReceivedExtraInfo");
        let status = |id: &Value| {
            let answer = answers.iter().find(|answer| answer["requestId"] == *id);
            let answer = answer.and_then(|answer| answer["response"]["status"].as_u64());
            answer.or_else(|| early.iter().find(|e| e["requestId"] == *id).and_then(|e| e["statusCode"].as_u64()))
        };
        let sent = self.events("Network.requestWillBeSent");
        let asked = sent.iter().map(|sent| Asked {
            method: text(&sent["request"]["method"]),
            url: text(&sent["request"]["url"]),
            status: status(&sent["requestId"]),
        });
        asked.collect()
    }

    /// What the console holds against the page: errors, exceptions, and what the policy refused.
    pub fn complaints(&self) -> Vec<String> {
        let said = self.events("Runtime.consoleAPICalled");
        let said = said.into_iter().filter(|said| said["type"] == "error" || said["type"] == "warning");
        let logged = self.events("Log.entryAdded");
        let logged = logged.into_iter().filter(|entry| entry["entry"]["level"] != "info");
        said.chain(self.events("Runtime.exceptionThrown")).chain(logged).map(|it| it.to_string()).collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}
