//! Captures of real Pulse builds, served as `tools/replay-pulse` serves them.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;

use super::server::{Body, RequestRecord, ResponsePlan, Server};

/// What `tools/replay-pulse` says that Pulse has been up, in seconds, unless told otherwise.
pub const A_DAY: u64 = 86_400;

/// The folder that every developer and CI share: `../shared`, or where PULSE_TELEMETRY_SHARED points. Its absence
/// is a panic on CI, where a skipped test would pass for one that ran.
#[expect(clippy::disallowed_methods, reason = "where the captures are is the environment's to say")]
pub fn shared() -> Option<PathBuf> {
    let folder =
        std::env::var_os("PULSE_TELEMETRY_SHARED").map_or_else(|| crate::project().join("../shared"), PathBuf::from);
    if folder.join("captures").is_dir() {
        return Some(folder);
    }
    let on_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(!on_ci, "{} is not here, and CI must not skip what needs it", folder.display());
    None
}

/// As `shared`, and says so where the test cannot run.
pub fn shared_or_skip(test_name: &str) -> Option<PathBuf> {
    let folder = shared();
    if folder.is_none() {
        // Past the test harness, which keeps what a passing test prints to itself.
        let _ = writeln!(io::stderr(), "SKIPPED {test_name}: ../shared is not here");
    }
    folder
}

/// Where the reduced captures are.
pub fn reduced_folder() -> PathBuf {
    crate::project().join("tests/fixtures/captures")
}

/// All captures that there are: the folders of `shared`, and their reduced forms among the fixtures.
pub fn recorded() -> Vec<PathBuf> {
    let entries = fs::read_dir(reduced_folder()).unwrap();
    let mut fixtures: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    fixtures.retain(|path| path.extension().is_some_and(|end| end == "json"));
    fixtures.sort();
    assert!(!fixtures.is_empty(), "the fixtures are part of every clone");
    let mut all = captures();
    all.extend(fixtures);
    all
}

/// The captures of `shared`, or their reduced forms where it is not there: for tests that take long.
pub fn recorded_once() -> Vec<PathBuf> {
    if shared().is_some() { captures() } else { recorded() }
}

/// Whether that Pulse had organizations switched on.
pub fn serves_many(capture: &Path) -> bool {
    index(capture)["env"]["PULSE_MULTI_TENANT_ENABLED"] == "true"
}

/// What to configure as `pulse.organizations`, names and tokens; nothing where a single token is enough.
pub fn organizations(capture: &Path) -> Vec<(String, String)> {
    let tokens = tokens(capture);
    let of_their_own = tokens.iter().any(|token| token == "default");
    match (of_their_own, serves_many(capture)) {
        (true, _) => tokens.into_iter().map(|token| (token.clone(), token)).collect(),
        (false, true) => vec![("default".to_owned(), "full".to_owned())],
        (false, false) => Vec::new(),
    }
}

/// Says how many were compared, past the test harness, which keeps what a passing test prints to itself. Nothing
/// compared is a failure.
pub fn compared(test_name: &str, recorded: usize) {
    assert!(recorded > 0, "{test_name} compared nothing");
    let _ = writeln!(io::stderr(), "{test_name}: {recorded} captures were compared");
}

/// All capture folders, sorted; none where there is no `shared`.
pub fn captures() -> Vec<PathBuf> {
    let Some(shared) = shared() else { return Vec::new() };
    let entries = fs::read_dir(shared.join("captures")).unwrap();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("index.json").is_file());
    folders.sort();
    folders
}

/// A capture's name.
pub fn name(capture: &Path) -> String {
    capture.file_name().unwrap().to_str().unwrap().trim_end_matches(".json").to_owned()
}

/// A capture's `index.json`; of a reduced one, all that there is.
pub fn index(capture: &Path) -> Value {
    let file = if capture.is_dir() { &capture.join("index.json") } else { capture };
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// What the caller with that token was told.
pub fn told(capture: &Path, token: &str, target: &str) -> Option<Captured> {
    load(capture).remove(&key(token, target))
}

/// As `told`, as JSON; null where nothing was recorded.
pub fn told_json(capture: &Path, token: &str, target: &str) -> Value {
    told(capture, token, target).and_then(|told| serde_json::from_slice(&told.body).ok()).unwrap_or_default()
}

/// The heartbeat that Pulse itself would have sent at that moment; None for 5.1, which has none.
pub fn oracle(capture: &Path) -> Option<Value> {
    if let Some(oracle) = index(capture).get("oracle") {
        return Some(oracle.clone());
    }
    told_json(capture, "full", PREVIEW).get("payload").cloned()
}

/// Pulse's own preview of its ping.
pub const PREVIEW: &str = "/api/system/settings/telemetry-preview";

/// The tokens that the capture knows, in the order of its index, without `anonymous`.
pub fn tokens(folder: &Path) -> Vec<String> {
    let mut tokens = Vec::new();
    for response in index(folder)["responses"].as_array().unwrap() {
        let token = text(response, "token");
        if token != ANONYMOUS && !tokens.contains(&token) {
            tokens.push(token);
        }
    }
    tokens
}

/// A capture being served.
pub struct Replay {
    pub server: Server,
}

impl Replay {
    /// Serves that capture; `/api/health` says that Pulse has been up for `uptime` seconds.
    pub fn start(folder: &Path, uptime: u64) -> Self {
        let answers = load_up_for(folder, uptime);
        let tokens = tokens(folder);
        Self { server: Server::start(move |request| answer(&answers, &tokens, &request)) }
    }
}

/// The capture as it would be were its fleet a real one: what says "mock" says otherwise, all else is the same.
pub fn start_as_if_real(folder: &Path) -> Server {
    let (answers, tokens) = (load_up_for(folder, A_DAY), tokens(folder));
    Server::start(move |request| match answer(&answers, &tokens, &request) {
        ResponsePlan::Answer(mut plan) if ["/api/version", "/api/system/mock-mode"].contains(&request.path()) => {
            if let Body::Full(body) = &plan.body {
                let text = std::str::from_utf8(body).unwrap();
                let text = text.replace(r#""deploymentType":"mock""#, r#""deploymentType":"systemd""#);
                plan.body = Body::Full(text.replace(r#"{"enabled":true"#, r#"{"enabled":false"#).into());
            }
            ResponsePlan::Answer(plan)
        }
        plan => plan,
    })
}

const ANONYMOUS: &str = "anonymous";

/// Who asks for what: the path, and the query's pairs sorted, since their order means nothing.
pub type Key = (String, String, Vec<(String, String)>);

#[derive(Clone)]
pub struct Captured {
    pub status: u16,
    content_type: String,
    pub body: Bytes,
}

pub fn load(capture: &Path) -> HashMap<Key, Captured> {
    let index = index(capture);
    let responses = index["responses"].as_array().unwrap();
    let mut answers = HashMap::new();
    for response in responses {
        let body = match (response.get("file"), response.get("body")) {
            (Some(_), _) => Bytes::from(fs::read(capture.join(text(response, "file"))).unwrap()),
            (None, Some(body)) => Bytes::from(body.to_string()),
            (None, None) => continue,
        };
        let content_type = response["content_type"].as_str().filter(|kind| !kind.is_empty());
        let content_type = content_type.unwrap_or("application/json").to_owned();
        let status = response["status"].as_u64().unwrap().try_into().unwrap();
        answers.insert(key(&text(response, "token"), &text(response, "path")), Captured { status, content_type, body });
    }
    for response in responses.iter().filter(|response| response.get("same_as").is_some()) {
        let path = text(response, "path");
        let same = answers[&key(&text(response, "same_as"), &path)].clone();
        answers.insert(key(&text(response, "token"), &path), same);
    }
    answers
}

fn load_up_for(capture: &Path, uptime: u64) -> HashMap<Key, Captured> {
    let mut answers = load(capture);
    for ((_, path, _), captured) in &mut answers {
        if path == "/api/health" {
            captured.body = with_uptime(&captured.body, uptime);
        }
    }
    answers
}

fn text(response: &Value, name: &str) -> String {
    response[name].as_str().unwrap().to_owned()
}

pub fn key(who: &str, target: &str) -> Key {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut pairs: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect();
    pairs.sort();
    (who.to_owned(), path.to_owned(), pairs)
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, escaped) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(first),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn with_uptime(body: &[u8], uptime: u64) -> Bytes {
    const NAME: &str = "\"uptime\":";
    let body = std::str::from_utf8(body).unwrap();
    let Some((before, after)) = body.split_once(NAME) else { return Bytes::from(body.to_owned()) };
    let after = after.trim_start_matches(|c: char| c.is_ascii_digit() || "e.+".contains(c));
    Bytes::from(format!("{before}{NAME}{uptime}{after}"))
}

fn answer(answers: &HashMap<Key, Captured>, tokens: &[String], request: &RequestRecord) -> ResponsePlan {
    if request.method != "GET" {
        return ResponsePlan::status(405);
    }
    let token = token_of(request).unwrap_or_else(|| ANONYMOUS.to_owned());
    if token != ANONYMOUS && !tokens.contains(&token) {
        return ResponsePlan::bytes(401, "application/json", r#"{"error":"Invalid API token"}"#);
    }
    match answers.get(&key(&token, &request.target)) {
        Some(captured) => ResponsePlan::bytes(captured.status, &captured.content_type, captured.body.clone()),
        None => ResponsePlan::bytes(404, "text/plain", "404 page not found\n"),
    }
}

/// The API token of a request, from either header that Pulse reads.
pub fn token_of(request: &RequestRecord) -> Option<String> {
    let bearer = || request.header("Authorization").map(|value| value.strip_prefix("Bearer ").unwrap_or(value).trim());
    let own = request.header("X-API-Token").filter(|token| !token.is_empty());
    own.or_else(bearer).filter(|token| !token.is_empty()).map(str::to_owned)
}
