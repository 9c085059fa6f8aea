//! What must hold in every life, seen from outside.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use hyper::http::request::Parts;
use jiff::Timestamp;
use pulse_telemetry_core::clock::Now;
use pulse_telemetry_core::contract;
use pulse_telemetry_core::identity::ROTATION;
use pulse_telemetry_core::ping::Event;
use serde_json::Value;

use super::disk::Content;
use super::{DAY, HOUR};
use pulse_telemetry_testkit::history::SCHEDULE;

/// Where nothing is wrong, a heartbeat arrives at least so often: a day in which the clock is doubted, a day of
/// `Retry-After` with what is added, the interval with its jitter, and an hour each for the spacing, the back-off and a
/// look. A new ID begins with a pause.
const SILENCE_MAX: Duration = Duration::from_secs((24 + 27 + 25 + 3) * 3600);
const NEW_ID_MAX: Duration = Duration::from_secs(36 * 3600);

/// Times on disk are right again when the daemon was awake for so long with a disk that works: a day of doubt, and a
/// look.
const SETTLED: Duration = Duration::from_secs(26 * 3600);

/// All that a request carries.
const HEADERS: [&str; 4] = ["host", "user-agent", "content-type", "content-length"];

/// An attempt as the ledger has it, on its way to the endpoint.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    body: String,
    event: Event,
}

#[derive(Default)]
pub(super) struct Witness {
    pub(super) violation: Option<String>,
    /// The switch is off, and the person who turned it was told so; or this process was started with telemetry off.
    off: bool,
    /// The switch is off on disk, and the person who turned it was told so.
    off_for_good: bool,
    /// When this process started.
    started: Duration,
    id: Option<String>,
    /// IDs that were replaced, deleted or reset.
    gone: HashSet<String>,
    pending: Option<String>,
    /// Pings that were concluded.
    done: HashSet<String>,
    startup: Option<Ping>,
    heartbeat: Option<Ping>,
    /// When another ID got onto the disk, or the last one went.
    id_since: Duration,
    /// When the ID was replaced or deleted, on a disk that worked for long.
    replaced_at: Option<Duration>,
    /// Since then nothing is wrong, and the last heartbeat that arrived.
    calm_since: Duration,
    last_heartbeat: Duration,
    /// The heartbeat that the endpoint kept last.
    kept: Option<String>,
    /// A clock stepped, or the disk failed, so that times on disk may be wrong: since then all was quiet.
    unsettled_since: Option<Duration>,
    /// An outage has ended: until then one heartbeat at most arrives, and this many have.
    after_outage: Option<(Duration, u32)>,
}

/// A ping that was attempted.
struct Ping {
    body: String,
    first: Duration,
    last: Duration,
}

impl Witness {
    pub(super) fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub(super) fn hold(&mut self, held: Result<(), String>) {
        if let Err(what) = held {
            self.violate(what);
        }
    }

    pub(super) fn expects_off(&self) -> bool {
        self.off
    }

    /// A process starts, and something says that telemetry is off or nothing does.
    pub(super) fn on_start(&mut self, passed: Duration, clock_is_right: bool, off: bool) {
        if self.off_for_good && !off {
            self.violate("the switch was turned off, durably, and a start finds it on".to_owned());
        }
        self.off = off;
        self.started = passed;
        self.unsettled_since = self.unsettled_since.filter(|since| passed.saturating_sub(*since) < SETTLED);
        if self.unsettled_since.is_some() {
            self.forget_times();
            self.unsettled_since = Some(passed);
        }
        // Each start may doubt the clock for a day.
        if self.unsettled_since.is_some() || !clock_is_right {
            self.calm_since = passed;
        }
    }

    /// What was kept by a wrong clock cannot be held against a right one.
    fn forget_times(&mut self) {
        self.startup = None;
        self.heartbeat = None;
        self.after_outage = None;
    }

    /// The switch was turned, and this was the answer.
    pub(super) fn on_switched(&mut self, off: bool, persisted: bool, disk: &Content) {
        self.off = off;
        self.off_for_good = off && persisted;
        if self.off_for_good && (disk.id().is_some() || disk.state().pending.is_some()) {
            self.violate("off was answered, and an ID or a pending ping is still on disk".to_owned());
        }
    }

    /// The file of the switch was left in the directory.
    pub(super) fn on_off_left(&mut self) {
        self.off = true;
        self.off_for_good = true;
    }

    /// The switch is about to be turned on: until the answer, both are right, unless something else says off.
    pub(super) fn on_switching_on(&mut self, off_otherwise: bool) {
        self.off &= off_otherwise;
        self.off_for_good &= off_otherwise;
    }

    /// A reset was answered, with that ID on disk before it was asked for.
    pub(super) fn on_reset(&mut self, before: Option<String>, disk: &Content) {
        let Some(before) = before else { return };
        if disk.id().as_deref().map(install_id).as_ref() == Some(&before) {
            self.violate("a reset was answered, and the old ID is still on disk".to_owned());
        }
        self.gone.insert(before);
    }

    /// Something is wrong, or was until now.
    pub(super) fn on_trouble(&mut self, passed: Duration) {
        self.calm_since = passed;
    }

    /// What times on disk say may be wrong.
    pub(super) fn on_wrong_times(&mut self, passed: Duration) {
        self.calm_since = passed;
        self.unsettled_since = Some(passed);
        self.after_outage = None;
        // A process that doubts the clock since its start takes the times on disk by the clock that it believes later.
        if passed.saturating_sub(self.started) < SETTLED {
            self.forget_times();
        }
    }

    /// The machine was suspended until now.
    pub(super) fn on_suspend(&mut self, passed: Duration) {
        self.calm_since = passed;
        self.unsettled_since = self.unsettled_since.map(|_| passed);
    }

    /// Pulse or the endpoint is back.
    pub(super) fn on_end_of_outage(&mut self, passed: Duration) {
        self.calm_since = passed;
        let interval = SCHEDULE.interval.saturating_sub(SCHEDULE.jitter);
        self.after_outage = Some((passed + interval, 0));
    }

    /// Another ID is on disk, or none.
    pub(super) fn on_id(&mut self, passed: Duration, id: Option<&str>) {
        if self.id.as_deref() != id {
            self.id_since = passed;
            // One that no ping went with says nothing of the next one: the pause is counted from the one before it.
            let pings = [&self.startup, &self.heartbeat].into_iter().flatten();
            let was_used = pings.map(|ping| install_id(&ping.body)).any(|used| self.id.as_deref() == Some(&*used));
            if self.id.is_some() && was_used {
                self.replaced_at = (passed.saturating_sub(self.calm_since) > SETTLED).then_some(passed);
            }
            if self.id.is_some() {
                self.after_outage = None;
            }
            self.gone.extend(self.id.take());
            self.id = id.map(str::to_owned);
        }
    }

    /// Another ping is pending on disk, or none.
    pub(super) fn on_pending(&mut self, body: Option<&str>) {
        if self.pending.as_deref() != body {
            self.done.extend(self.pending.take());
            self.pending = body.map(str::to_owned);
        }
    }

    /// A preview shows what would be sent.
    pub(super) fn on_preview(&mut self, bytes: &str) {
        let id = serde_json::from_str::<Value>(bytes).unwrap()["install_id"].as_str().unwrap().to_owned();
        if self.gone.contains(&id) {
            self.violate("the preview shows an ID that is gone".to_owned());
        }
    }

    /// Nothing is wrong just now.
    pub(super) fn check_silence(&mut self, passed: Duration) {
        let since = self.calm_since.max(self.last_heartbeat);
        let silent = passed.saturating_sub(since);
        if silent > SILENCE_MAX + if self.id_since > since { NEW_ID_MAX } else { Duration::ZERO } {
            self.violate(format!("nothing was wrong, and no heartbeat arrived for {} hours", silent.as_secs() / 3600));
        }
    }

    /// A connection to the endpoint is asked for. What the disk holds now is what a crash would leave.
    pub(super) fn on_attempt(
        &mut self,
        now: Now,
        passed: Duration,
        disk: &Content,
        pulse_agrees: Option<bool>,
    ) -> Attempt {
        let Some(open) = disk.open_attempt() else {
            self.violate("an attempt is made that is not in the ledger".to_owned());
            return Attempt { body: String::new(), event: Event::Startup };
        };
        let attempt = Attempt { body: open.body, event: open.event };
        if self.off {
            self.violate("an attempt is made while telemetry is off".to_owned());
        }
        match pulse_agrees {
            None => self.violate("an attempt is made, and Pulse was not asked since the last one".to_owned()),
            Some(false) => self.violate("an attempt is made, and Pulse had said that there should be none".to_owned()),
            Some(true) => {}
        }
        let held = self.check_id(&attempt, now.wall, disk);
        self.hold(held);
        if disk.state().pending.is_none_or(|pending| pending.body != attempt.body) {
            self.violate("an attempt is made with other bytes than those that are pending on disk".to_owned());
        }
        if self.done.contains(&attempt.body) {
            self.violate("a ping that was done with is sent again".to_owned());
        }
        self.check_distance(&attempt, passed);
        attempt
    }

    fn check_id(&self, attempt: &Attempt, wall: Timestamp, disk: &Content) -> Result<(), String> {
        let document: Value = serde_json::from_str(&attempt.body).map_err(|error| error.to_string())?;
        let id = document["install_id"].as_str().unwrap_or_default();
        let Some(record) = disk.id() else {
            return Err("an attempt is made, and no ID is on disk".to_owned());
        };
        if install_id(&record) != id {
            return Err("an attempt is made with another ID than the one on disk".to_owned());
        }
        if self.gone.contains(id) {
            return Err("an attempt is made with an ID that was replaced, deleted or reset".to_owned());
        }
        let record: Value = serde_json::from_str(&record).unwrap();
        let issued: Timestamp = record["issued_at"].as_str().unwrap().parse().unwrap();
        match Duration::try_from(wall.duration_since(issued)) {
            Ok(age) if age < ROTATION => Ok(()),
            Ok(_) => Err("an attempt is made with an ID that is 30 days old".to_owned()),
            // A clock that was set back by up to an hour.
            Err(_) if issued.duration_since(wall).as_secs() < 3600 => Ok(()),
            Err(_) => Err("an attempt is made with an ID of the future".to_owned()),
        }
    }

    fn check_distance(&mut self, attempt: &Attempt, passed: Duration) {
        let Attempt { body, event } = attempt;
        let known = match event {
            Event::Startup => &mut self.startup,
            Event::Heartbeat => &mut self.heartbeat,
        };
        if let Some(known) = known.as_mut().filter(|known| known.body == *body) {
            known.last = passed;
            return;
        }
        let before = known.replace(Ping { body: body.clone(), first: passed, last: passed });
        let same_id = before.as_ref().is_some_and(|ping| install_id(&ping.body) == install_id(body));
        let (since, least) = match event {
            Event::Startup => (before.map(|ping| ping.last), HOUR),
            Event::Heartbeat if same_id => (before.map(|ping| ping.first), DAY - HOUR / 2),
            Event::Heartbeat => (before.and(self.replaced_at.take()), DAY / 2),
        };
        if let Some(apart) = since.map(|since| passed - since).filter(|apart| *apart < least) {
            self.violate(format!("a {} only {apart:?} after the last one", event.word()));
        }
        if *event == Event::Heartbeat
            && let Some(apart) = self.startup.as_ref().map(|ping| passed - ping.last).filter(|apart| *apart < HOUR)
        {
            self.violate(format!("a heartbeat only {apart:?} after a startup"));
        }
    }

    /// The endpoint received a request, and keeps it or not.
    pub(super) fn on_request(&mut self, passed: Duration, attempt: &Attempt, head: &Parts, body: &Bytes, keeps: bool) {
        if self.off {
            self.violate("the endpoint receives a ping while telemetry is off".to_owned());
        }
        let held = check_request(attempt, head, body);
        self.hold(held);
        if keeps && attempt.event == Event::Heartbeat {
            self.last_heartbeat = passed;
            let is_new = self.kept.replace(attempt.body.clone()).is_none_or(|kept| kept != attempt.body);
            if let Some((until, heartbeats)) = &mut self.after_outage
                && passed < *until
                && is_new
            {
                *heartbeats += 1;
                if *heartbeats > 1 {
                    self.violate("an outage ended, and more than one heartbeat arrived".to_owned());
                }
            }
        }
    }
}

/// The request is the one of the contract, to the letter, and carries the bytes of the ledger.
fn check_request(attempt: &Attempt, head: &Parts, body: &Bytes) -> Result<(), String> {
    let target = (head.method.as_str(), head.uri.to_string());
    if target != ("POST", "/v1/telemetry/ping".to_owned()) {
        return Err(format!("the endpoint is asked something else: {target:?}"));
    }
    let length = body.len().to_string();
    let values = ["endpoint.example", "pulse-telemetry", "application/json", &length];
    let as_promised =
        HEADERS.iter().zip(values).all(|(name, value)| head.headers.get(*name).is_some_and(|v| v == value));
    if !as_promised || head.headers.len() != HEADERS.len() {
        return Err(format!("other headers than those of the privacy page: {:?}", head.headers));
    }
    if *body != attempt.body {
        return Err("the endpoint receives other bytes than those in the ledger".to_owned());
    }
    let document: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    contract::validate(&document).map_err(|violation| format!("a ping breaks the contract: {violation}"))?;
    if document["event"] != attempt.event.word() {
        return Err("a ping is of another event than its ledger entry".to_owned());
    }
    Ok(())
}

/// The ID in an ID file, or in a ping.
pub(super) fn install_id(record: &str) -> String {
    serde_json::from_str::<Value>(record).unwrap()["install_id"].as_str().unwrap().to_owned()
}
