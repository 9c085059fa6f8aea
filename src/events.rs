//! The local-only commercial events of Pulse's privacy page: which plan links were seen, and the like. They stay here.
//!
//! A client made for Pulse 6.0 hands them over at Pulse's own routes, newer ones no longer do. They are kept in a file
//! of their own, 90 days, and no crate that builds or sends a ping can name this module.

mod event;
mod file;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use pulse_telemetry_core::clock::{Clock, DAY, Now};
use pulse_telemetry_core::contract::CONTRACT_DATE;
use pulse_telemetry_core::observation::Commercial;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::store::EventFile;
pub use event::{EventRefusal, LocalEvent, Switch, TYPES};
use file::EventsFile;
pub use file::Kept;

/// How long an event is kept.
const KEPT: Duration = DAY.saturating_mul(KEPT_DAYS);
const KEPT_DAYS: u32 = 90;
/// How many events are kept; the oldest go first. An event is at most some 1.5 KiB, so the file is less than 1 MiB.
const EVENTS_MAX: usize = 500;
/// How many events are taken within a second. No person clicks faster, and each may be a write of the whole file.
const A_SECOND: usize = 10;
/// How many changes may wait for a disk that hangs.
const WAITING_MAX: usize = 256;
/// How often what is too old is removed: of one day at a time, so that a clock that leaps ahead takes little with it.
const PRUNING: Duration = DAY;
/// What Pulse calls a pipeline without news.
const STALE: Duration = Duration::from_secs(5 * 60);
/// Pulse calls a pipeline degraded in which fewer than two of these were seen.
const CORE_TYPES: [&str; 4] = ["paywall_viewed", "trial_started", "upgrade_clicked", "checkout_completed"];

/// What switched the recording of local events off. Every off wins, the first one is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Off {
    /// `PULSE_DISABLE_LOCAL_UPGRADE_METRICS` in the sidecar's environment.
    Environment,
    /// `events.record = false` in the configuration.
    Config,
    /// The local switch.
    Switch,
    /// Pulse's own setting `disableLocalUpgradeMetrics`.
    Pulse,
    /// Pulse's own setting could not be read since the start, and what is unknown is not on.
    PulseUnread,
}

impl Off {
    /// The word for it in the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Config => "config",
            Self::Switch => "switch",
            Self::Pulse => "pulse",
            Self::PulseUnread => "pulse_unread",
        }
    }

    /// What is fixed for as long as the process lives. A variable that is not a clear no switches off.
    #[must_use]
    pub fn fixed(variable: Option<&str>, record: bool) -> Option<Self> {
        let no = ["", "0", "f", "false", "n", "no", "off", "disabled"];
        match variable {
            Some(value) if !no.contains(&value.trim().to_lowercase().as_str()) => Some(Self::Environment),
            _ => (!record).then_some(Self::Config),
        }
    }
}

impl fmt::Display for Off {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "PULSE_DISABLE_LOCAL_UPGRADE_METRICS in the sidecar's environment says so",
            Self::Config => "events.record in the sidecar's configuration says so",
            Self::Switch => "their local switch says so (PUT /api/upgrade-metrics/config)",
            Self::Pulse => "Pulse's own setting disableLocalUpgradeMetrics says so",
            Self::PulseUnread => "Pulse's own setting disableLocalUpgradeMetrics is not known, and unknown is off",
        })
    }
}

/// What came of turning the local switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwitchOutcome {
    /// It is turned.
    Done,
    /// On was asked for, and something that the switch cannot overrule says off.
    Locked(Off),
    /// It could not be written. Off holds until the process stops, on was not done.
    NotPersisted,
}

/// What `GET /api/upgrade-metrics/stats` tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventsStats {
    /// The first moment that is counted, in milliseconds since 1970.
    pub window_start: i64,
    /// Now, in milliseconds since 1970.
    pub window_end: i64,
    /// What was counted, in the order in which it was first seen.
    pub buckets: Vec<Bucket>,
    /// How many events that are.
    pub total_events: u64,
}

/// Events of one type, surface and capability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// The type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `surface:capability`.
    pub key: String,
    /// How many.
    pub count: u64,
    /// The same again: Pulse counts each event as one.
    pub total_value: u64,
}

/// What `GET /api/upgrade-metrics/health` tells: what was handed over since the start, repetitions included.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventsHealth {
    /// `healthy`, `stale` or `degraded`, by Pulse's own rules.
    pub status: &'static str,
    /// How long ago the last event came; without one, how long ago the start was.
    pub last_event_age_seconds: f64,
    /// How many came.
    pub events_total: u64,
    /// How many of each type.
    pub events_by_type: BTreeMap<String, u64>,
    /// When the process started, in milliseconds since 1970.
    pub started_at: i64,
}

/// What `GET /api/v1/events` and `pulse-telemetry events --json` tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsReport {
    /// A daemon answered. False where the command looked at the file itself.
    pub running: bool,
    /// Events that are handed over are kept.
    pub enabled: bool,
    /// What switched that off, in one word; null while it is on.
    pub off_by: Option<String>,
    /// State and source in a sentence or two.
    pub summary: String,
    /// Surfaces whose events are not kept.
    pub disabled_surfaces: Vec<String>,
    /// Pulse's setting `disableLocalUpgradeMetrics`; null where it could not be read.
    pub disable_local_upgrade_metrics: Option<bool>,
    /// Pulse's legacy preference `reduceProUpsellNoise`, which nothing here depends on; null where it could not be
    /// read.
    pub reduce_pro_upsell_noise: Option<bool>,
    /// For how many days an event is kept.
    pub kept_days: u64,
    /// How many events are kept at most.
    pub kept_max: usize,
    /// What was last recorded could be written.
    pub writable: bool,
    /// The events, the newest first.
    pub events: Vec<Kept>,
}

/// Takes events and keeps them.
pub struct Recorder {
    file: EventFile,
    clock: Box<dyn Clock + Send + Sync>,
    fixed: Option<Off>,
    started: Now,
    held: Mutex<Held>,
    waiting: Mutex<WaitingEvents>,
}

struct Held {
    switch: Switch,
    kept: Vec<Kept>,
    /// When the last events were taken.
    taken: VecDeque<Duration>,
    total: u64,
    by_type: BTreeMap<String, u64>,
    last: Option<Duration>,
    writable: bool,
}

/// A change of what is kept.
enum Change {
    Keep(Kept),
    SetSwitch(Switch),
    Erase,
    /// Remove the oldest day of what is too old.
    Prune,
}

/// The changes that wait to be written.
#[derive(Default)]
struct WaitingEvents {
    changes: Vec<(Change, oneshot::Sender<io::Result<()>>)>,
    /// A thread writes, and looks here again before it ends.
    is_written: bool,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("fixed", &self.fixed).finish_non_exhaustive()
    }
}

impl Recorder {
    /// A recorder over this file, and what of it was damaged and put aside, in a sentence. The
    /// oldest day of what is too old goes at once.
    ///
    /// # Errors
    /// Where the file cannot be read, or put aside where it is damaged.
    pub fn open(
        file: EventFile,
        fixed: Option<Off>,
        clock: Box<dyn Clock + Send + Sync>,
    ) -> io::Result<(Self, Option<String>)> {
        let EventsFile { switch, kept, damaged } = EventsFile::parse(file.read()?.as_deref());
        let notice = damaged.then(|| file.put_aside()).transpose()?;
        let (taken, by_type) = (VecDeque::new(), BTreeMap::new());
        let held = Held { switch, kept, taken, total: 0, by_type, last: None, writable: true };
        let (started, waiting) = (clock.now(), Mutex::default());
        let recorder = Self { started, file, clock, fixed, held: Mutex::new(held), waiting };
        // What was damaged is written anew. Why that failed has been logged, and the next change tries again.
        let _ = recorder.write(&[Change::Prune], damaged);
        Ok((recorder, notice))
    }

    /// Takes what a client handed over. While recording is off it is taken too, and not kept, as Pulse does.
    ///
    /// # Errors
    /// Where it is no event of this installation, or too many come at a time.
    pub async fn record(self: &Arc<Self>, body: &[u8], in_pulse: Option<Commercial>) -> Result<(), EventRefusal> {
        let event = LocalEvent::parse(body)?;
        if let Some(kept) = self.take(event, in_pulse)? {
            // A client is not to be told that its user's click was in vain. It is in the log.
            let _ = self.change(Change::Keep(kept)).await;
        }
        Ok(())
    }

    /// Counts an event, and says what is to be kept of it.
    fn take(&self, event: LocalEvent, in_pulse: Option<Commercial>) -> Result<Option<Kept>, EventRefusal> {
        let mut held = self.held();
        if self.off(&held, in_pulse).is_some() || held.switch.disabled_surfaces.contains(&event.surface) {
            return Ok(None);
        }
        let now = self.clock.now();
        if held.taken.len() == A_SECOND {
            let since = held.taken.front().map_or(Duration::MAX, |first| now.mono.saturating_sub(*first));
            if since < Duration::from_secs(1) {
                return Err(EventRefusal::TooMany);
            }
            held.taken.pop_front();
        }
        held.taken.push_back(now.mono);
        held.total += 1;
        *held.by_type.entry(event.kind.clone()).or_default() += 1;
        held.last = Some(now.mono);
        Ok(Some(Kept { at: now.wall, event }))
    }

    /// What is kept, counted as Pulse counts it.
    #[must_use]
    pub fn stats(&self) -> EventsStats {
        let (held, now) = (self.held(), self.clock.now().wall);
        let kept = unexpired(&held.kept, now);
        let mut buckets: Vec<Bucket> = Vec::new();
        for Kept { event, .. } in &kept {
            let key = event.key();
            match buckets.iter_mut().find(|bucket| bucket.kind == event.kind && bucket.key == key) {
                Some(bucket) => {
                    bucket.count += 1;
                    bucket.total_value += 1;
                }
                None => buckets.push(Bucket { kind: event.kind.clone(), key, count: 1, total_value: 1 }),
            }
        }
        let first = kept.iter().map(|kept| kept.at).chain([self.started.wall]).min().unwrap_or(now);
        EventsStats {
            window_start: first.as_millisecond(),
            window_end: now.as_millisecond(),
            total_events: buckets.iter().map(|bucket| bucket.count).sum(),
            buckets,
        }
    }

    /// What was handed over since the start.
    #[must_use]
    pub fn health(&self) -> EventsHealth {
        let (held, now) = (self.held(), self.clock.now().mono);
        let age = now.saturating_sub(held.last.unwrap_or(self.started.mono));
        let seen = CORE_TYPES.iter().filter(|kind| held.by_type.contains_key(**kind)).count();
        EventsHealth {
            status: match seen {
                _ if age > STALE => "stale",
                0 | 1 if held.total > 0 => "degraded",
                _ => "healthy",
            },
            last_event_age_seconds: age.as_secs_f64(),
            events_total: held.total,
            events_by_type: held.by_type.clone(),
            started_at: self.started.wall.as_millisecond(),
        }
    }

    /// The switch as Pulse's route tells it: what is in force, by any source.
    #[must_use]
    pub fn switch(&self, in_pulse: Option<Commercial>) -> Switch {
        let held = self.held();
        Switch { enabled: self.off(&held, in_pulse).is_none(), ..held.switch.clone() }
    }

    /// Turns the local switch.
    pub async fn set_switch(self: &Arc<Self>, wanted: Switch) -> SwitchOutcome {
        if let (true, Some(off)) = (wanted.enabled, self.fixed) {
            return SwitchOutcome::Locked(off);
        }
        match self.change(Change::SetSwitch(wanted)).await {
            Ok(()) => SwitchOutcome::Done,
            Err(_) => SwitchOutcome::NotPersisted,
        }
    }

    /// All that is kept and who decided what.
    #[must_use]
    pub fn report(&self, in_pulse: Option<Commercial>) -> EventsReport {
        let held = self.held();
        let off = self.off(&held, in_pulse);
        EventsReport {
            running: true,
            writable: held.writable,
            disable_local_upgrade_metrics: in_pulse.map(|pulse| pulse.disable_local_upgrade_metrics),
            reduce_pro_upsell_noise: in_pulse.map(|pulse| pulse.reduce_pro_upsell_noise),
            ..report(&held.switch, &held.kept, off, self.clock.now().wall)
        }
    }

    /// How many events are kept.
    #[must_use]
    pub fn count(&self) -> usize {
        unexpired(&self.held().kept, self.clock.now().wall).len()
    }

    /// Removes every event, durably, and what was put aside of them. The switch stays as it is.
    ///
    /// # Errors
    /// Where the state directory cannot be written. Asking again is safe.
    pub async fn erase(self: &Arc<Self>) -> io::Result<()> {
        self.change(Change::Erase).await
    }

    /// The same on this thread, for a command, which has no loop to hold up.
    ///
    /// # Errors
    /// As for [`Recorder::erase`].
    pub fn erase_here(&self) -> io::Result<()> {
        self.write(&[Change::Erase], false)
    }

    /// Waits until all that was handed over before is on the disk, or failed to get there: also that of callers who did
    /// not wait for it.
    pub async fn flush(self: &Arc<Self>) {
        // Changes are written in their order, and this one is the last. Whether it fails has been logged.
        let _ = self.change(Change::Prune).await;
    }

    fn off(&self, held: &Held, in_pulse: Option<Commercial>) -> Option<Off> {
        self.fixed.or_else(|| {
            Some(match in_pulse {
                _ if !held.switch.enabled => Off::Switch,
                None => Off::PulseUnread,
                Some(pulse) if pulse.disable_local_upgrade_metrics => Off::Pulse,
                Some(_) => return None,
            })
        })
    }

    /// Has a change written, and waits for that. One write serves all that wait, on a thread where it holds up nobody.
    async fn change(self: &Arc<Self>, change: Change) -> io::Result<()> {
        let (done, written) = oneshot::channel();
        let begins = {
            let mut waiting = self.waiting();
            if waiting.changes.len() >= WAITING_MAX {
                drop(waiting);
                if let Change::SetSwitch(off @ Switch { enabled: false, .. }) = change {
                    self.held().switch = off;
                }
                return Err(io::Error::other("too many changes wait for the disk"));
            }
            waiting.changes.push((change, done));
            !mem::replace(&mut waiting.is_written, true)
        };
        if begins {
            let recorder = Arc::clone(self);
            tokio::task::spawn_blocking(move || recorder.write_what_waits());
        }
        written.await.unwrap_or_else(|_| Err(io::Error::other("it was not written")))
    }

    fn write_what_waits(&self) {
        loop {
            let changes = {
                let mut waiting = self.waiting();
                if waiting.changes.is_empty() {
                    waiting.is_written = false;
                    return;
                }
                mem::take(&mut waiting.changes)
            };
            let (changes, done): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
            let written = self.write(&changes, false).map_err(Arc::new);
            for done in done {
                let written = written.clone().map_err(|error| io::Error::new(error.kind(), error));
                // A caller that has gone away needs no answer.
                let _ = done.send(written);
            }
        }
    }

    /// Writes what comes of these changes, in their order, and holds it where that was done; an off is held in any
    /// case. A failure is logged when it begins. Where nothing comes of them nothing is written, unless it `must` be.
    fn write(&self, changes: &[Change], must: bool) -> io::Result<()> {
        let (mut switch, mut kept, writable) = {
            let held = self.held();
            (held.switch.clone(), held.kept.clone(), held.writable)
        };
        let before = (switch.clone(), kept.clone());
        let mut erases = false;
        for change in changes {
            match change {
                Change::Keep(new) if !switch.enabled || switch.disabled_surfaces.contains(&new.event.surface) => {}
                Change::Keep(new) => {
                    let is_known = |kept: &Kept| kept.event.idempotency_key == new.event.idempotency_key;
                    if !kept.iter().any(is_known) {
                        kept.push(new.clone());
                        kept.drain(..kept.len().saturating_sub(EVENTS_MAX));
                    }
                }
                Change::SetSwitch(wanted) => switch = wanted.clone(),
                Change::Erase => {
                    kept.clear();
                    erases = true;
                }
                Change::Prune => kept = without_one_day_of_the_old(&kept, self.clock.now().wall),
            }
        }
        if !must && writable && !erases && before.0 == switch && before.1 == kept {
            return Ok(());
        }
        let file = EventsFile::encode(&switch, &kept).map_err(io::Error::from);
        let written = file.and_then(|file| self.file.replace(&file));
        if let (Err(error), true) = (&written, writable) {
            tracing::warn!(%error, "failed to write the local events; they are not kept");
        }
        let mut held = self.held();
        held.writable = written.is_ok();
        if held.writable {
            (held.switch, held.kept) = (switch, kept);
        } else if !switch.enabled {
            held.switch = switch;
        }
        drop(held);
        written?;
        if erases { self.file.remove_what_was_put_aside() } else { Ok(()) }
    }

    fn waiting(&self) -> MutexGuard<'_, WaitingEvents> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // What it guards is replaced as a whole, so that a panic elsewhere leaves nothing half done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes events as they become too old, for as long as it is polled.
pub async fn prune_expired(recorder: &Arc<Recorder>) {
    loop {
        tokio::time::sleep(PRUNING).await;
        // Why it failed has been logged, and tomorrow it is tried again.
        let _ = recorder.change(Change::Prune).await;
    }
}

/// What a file says, where no daemon answers.
#[must_use]
pub fn read(file: Option<&[u8]>, fixed: Option<Off>, now: Timestamp) -> EventsReport {
    let EventsFile { switch, kept, .. } = EventsFile::parse(file);
    let off = fixed.or_else(|| (!switch.enabled).then_some(Off::Switch));
    EventsReport { running: false, ..report(&switch, &kept, off, now) }
}

fn report(switch: &Switch, kept: &[Kept], off: Option<Off>, now: Timestamp) -> EventsReport {
    let mut events = unexpired(kept, now);
    events.reverse();
    EventsReport {
        running: true,
        enabled: off.is_none(),
        off_by: off.map(|off| off.word().to_owned()),
        summary: match off {
            None => "Local events are kept on this machine and never sent.".to_owned(),
            Some(off) => format!("Local events are not kept: {off}. None is ever sent."),
        },
        disabled_surfaces: switch.disabled_surfaces.iter().cloned().collect(),
        disable_local_upgrade_metrics: None,
        reduce_pro_upsell_noise: None,
        kept_days: KEPT_DAYS.into(),
        kept_max: EVENTS_MAX,
        writable: true,
        events,
    }
}

/// Those that are not too old. One of a time to come, which a clock that was wrong gave it, is taken for one of now. A
/// clock that says a time before the contract's date is wrong itself, and decides nothing.
fn unexpired(kept: &[Kept], now: Timestamp) -> Vec<Kept> {
    retain(kept, now, |at| !is_expired(at, now))
}

/// Those that are not too old, and of the others all but the oldest day of them.
fn without_one_day_of_the_old(kept: &[Kept], now: Timestamp) -> Vec<Kept> {
    let oldest = kept.iter().map(|kept| kept.at).filter(|at| is_expired(*at, now)).min();
    let of_that_day = |at: Timestamp| {
        oldest.is_some_and(|oldest| Duration::try_from(at.duration_since(oldest)).is_ok_and(|after| after < DAY))
    };
    retain(kept, now, |at| !(is_expired(at, now) && of_that_day(at)))
}

fn retain(kept: &[Kept], now: Timestamp, stay: impl Fn(Timestamp) -> bool) -> Vec<Kept> {
    if now < CONTRACT_DATE {
        return kept.to_vec();
    }
    let those = kept.iter().filter(|kept| stay(kept.at));
    those.map(|kept| Kept { at: kept.at.min(now), event: kept.event.clone() }).collect()
}

fn is_expired(at: Timestamp, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(at)).is_ok_and(|age| age >= KEPT)
}

#[cfg(test)]
mod tests {
    use pulse_telemetry_process::clock::SystemClock;

    use super::*;

    #[tokio::test]
    async fn on_a_disk_that_hangs_a_bounded_number_of_changes_waits_and_an_off_holds_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let opened = Recorder::open(EventFile::new(dir.path()), None, Box::new(SystemClock)).unwrap();
        let recorder = Arc::new(opened.0);
        // A thread writes, and never ends.
        recorder.waiting().is_written = true;
        for _ in 0..2 * WAITING_MAX {
            let waits = recorder.change(Change::Prune);
            // The caller goes away.
            let _ = tokio::time::timeout(Duration::ZERO, waits).await;
        }
        assert_eq!(recorder.waiting().changes.len(), WAITING_MAX);
        let in_pulse = Commercial { disable_local_upgrade_metrics: false, reduce_pro_upsell_noise: false };
        let off = Switch { enabled: false, ..recorder.switch(Some(in_pulse)) };
        assert_eq!(recorder.set_switch(off).await, SwitchOutcome::NotPersisted);
        assert!(!recorder.switch(Some(in_pulse)).enabled);
    }
}
