//! What must hold, whatever happens: the invariants of `design.md`, told of what can be seen from outside.
//!
//! The rules are told what the world did, what got onto the disk and what reached the endpoint. They know nothing of
//! the engine's own memory.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use pulse_telemetry_core::clock::Now;
use pulse_telemetry_core::contract::{self, CONTRACT_DATE};
use pulse_telemetry_core::engine::{Action, DiskAction, Entry, EntryKind};
use pulse_telemetry_core::identity::{Identity, ROTATION};

use super::disk::Disk;
use super::pulse::{id_of, number_of};
use super::time::{DAY, HOUR, MINUTE, SECOND};

macro_rules! rules {
    ($($name:ident => $claim:literal,)*) => {
        /// A rule of `design.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Rule { $($name,)* }

        impl Rule {
            /// The rule in words.
            pub fn claim(self) -> &'static str {
                match self { $(Self::$name => $claim,)* }
            }
        }
    };
}

rules! {
    AcknowledgedIsKept => "what was acknowledged is under its name on the disk, and outlives a power loss",
    OffSendsNothing => "off sends nothing",
    OffLeavesNothing => "off leaves no ID file, no pending ping and no send under way",
    SwitchIsKept => "what was answered of the switch is on the disk",
    ResetIsKept => "what was reset is on the disk, and no send is under way",
    FreshReading => "consent and suppression are looked at before every attempt",
    UnknownIsNotSent => "no ping is sent when Pulse does not tell everything, or should not be reported",
    RecordedBefore => "every attempt is in the ledger before it is made",
    LedgerTellsTheTruth => "what the ledger says is what happened",
    OneAtATime => "at most one ping is under way, and its attempt is closed before the next",
    IdOnDisk => "an attempt carries the ID that is on the disk",
    IdIsCurrent => "no attempt carries an ID that is 30 days old, or more than an hour from the future",
    IdDoesNotComeBack => "no attempt carries an ID that was replaced",
    RotationIsDue => "the ID is rotated only when there is none, when it is 30 days old, or from the future",
    ImplausibleClockRests => "with an implausible clock nothing is sent, rotated or pruned for a day",
    BytesAreTheBytesBuilt => "the bytes retried are the bytes built, and an older ping never comes back",
    DeliveredOnce => "what was accepted is not sent again, but for an answer that was lost",
    ContractHolds => "a ping is what the contract says",
    HeartbeatsKeepTheirDistance => "heartbeats of an ID are at least the interval less the jitter apart",
    NewIdHasItsOwnTime => "the first heartbeat of a new ID goes half an interval to one and a half after it is made",
    RetryAfterIsForgotten => "what the endpoint asked of an ID does not hold for the next one",
    StartupsKeepTheirDistance => "no ping is built within the hour after a startup",
    RetryAfterIsHonoured => "the endpoint is not asked before the time it gave",
    RetriesBackOff => "a ping is not tried twelve times in ten minutes, not even in a crash loop",
    WakeIsNear => "the next wake is never in the past and never more than an hour away",
    NoSilence => "where nothing is wrong, a ping arrives every day",
    NotPostponed => "a restart does not postpone the heartbeat",
    AskedOnRequest => "the endpoint is asked for a deletion only where somebody asked for it and did not cancel",
    ForgottenIsNotSent => "an ID is replaced before its deletion is asked for, and no ping carries it after that",
    DeletionIsNotLost => "a deletion that was asked for is on the disk until its end is in the ledger",
    NotAskedAgain => "no deletion is asked for again after its receipt was saved",
    DeletionsAreApart => "deletions are asked for one by one, those of two IDs at least a minute apart",
    GivenUpInTime => "a deletion that fails is given up after seven days, and not before",
    DeletionsGoOn => "where nothing is wrong, a deletion is made",
}

/// A rule was broken, and how.
#[derive(Debug)]
pub struct Violation {
    pub rule: Rule,
    pub detail: String,
}

/// Breaks the rule where the claim does not hold.
macro_rules! hold {
    ($rule:ident, $holds:expr, $($detail:tt)+) => {
        if !$holds {
            return Err(Violation { rule: Rule::$rule, detail: format!($($detail)+) });
        }
    };
}
pub(super) use hold;

mod forgetting;

use forgetting::Deletions;

/// A schedule of the real program: the interval less the jitter, less what slewing a clock may take of it.
const APART: u64 = DAY - 30 * MINUTE - SLEWED;
/// The first heartbeat of a new ID goes within these, from the moment that there is one.
const NEW_ID: std::ops::RangeInclusive<u64> = DAY / 2..=DAY + DAY / 2;
/// Wall times on disk may be off by this without anybody noticing.
const SLEWED: u64 = 10 * MINUTE;
/// Every schedule that a fault left behind has ended after this.
const CALM: u64 = 100 * HOUR;
/// The longest pause between two pings where nothing is wrong.
const SILENCE: u64 = 26 * HOUR;
/// As long as that, with restarts: each may take the heartbeat's hour for its startup.
const POSTPONED: u64 = 30 * HOUR;
/// How many attempts of one ping, and within what time, are hammering. The back-off draws such a run once in 10^12.
const HAMMERING: (usize, u64) = (12, 10 * MINUTE);
/// The longest `Retry-After` that is honoured.
const RETRY_AFTER_MAX: u64 = DAY;

/// Who is told off, and by whom, as everybody outside of the engine knows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Consent {
    pub fixed_off: bool,
    pub switched_off: bool,
    pub off_in_pulse: bool,
}

impl Consent {
    pub fn is_off(self) -> bool {
        self.fixed_off || self.switched_off || self.off_in_pulse
    }
}

/// What the last reading of Pulse allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// The engine was handed something else since.
    None,
    Forbidden,
    /// By the reading of that number.
    Granted(u64),
}

/// A wall clock that cannot be right, seen by a process that has known better.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    since: u64,
    /// How far it was ahead before.
    offset: i64,
}

/// The memory of the rules.
#[derive(Clone, Debug)]
pub struct Rules {
    pub consent: Consent,
    pub permission: Permission,
    pub deletions: Deletions,
    /// IDs that were replaced or deleted.
    replaced: HashSet<String>,
    /// The ping that was attempted last: its number, its bytes, its kind.
    last: Option<(u64, String)>,
    /// The last attempts of that ping.
    tries: Vec<u64>,
    /// It was accepted, the answer came, and all of it was written.
    concluded: Option<u64>,
    /// The last heartbeat, and the ID in it.
    heartbeat: Option<(u64, String)>,
    /// Since then there is a new ID, or may be one: what hung on the old one is over.
    new_id_at: Option<u64>,
    /// What that was before telemetry was switched off: so it is again where a crash undoes the off.
    before_off: Option<Option<u64>>,
    /// The time of the first heartbeat was drawn before the start, while there was no ID. An off that a crash undid
    /// since then has not drawn another one.
    keeps_the_draw: bool,
    /// The ID that the endpoint asked something of.
    asked_of: Option<String>,
    startup_at: Option<u64>,
    not_before: u64,
    /// How far the clock was ahead when the state was last written, where that is known.
    saved_offset: Option<i64>,
    /// The process found an implausible clock at its start and goes by the times on disk later.
    adopts: Option<u64>,
    /// An earlier process doubted the clock already.
    starts_in_doubt: bool,
    /// What the process saw of the wall clock last.
    seen_offset: i64,
    doubt: Option<Doubt>,
    /// Something on the disk is not what the process wanted there.
    pub dirty: bool,
    /// The process was just given an answer: an acceptance, or not.
    answered: Option<bool>,
    accepted_at: u64,
    heartbeat_accepted_at: u64,
    /// Something else than a restart happened, or anything at all.
    disturbed_at: u64,
    restarted_at: u64,
    disturbed: bool,
}

impl Rules {
    pub fn new() -> Self {
        Self {
            consent: Consent::default(),
            permission: Permission::None,
            deletions: Deletions::default(),
            replaced: HashSet::new(),
            last: None,
            tries: Vec::new(),
            concluded: None,
            heartbeat: None,
            new_id_at: None,
            before_off: None,
            keeps_the_draw: false,
            asked_of: None,
            startup_at: None,
            not_before: 0,
            saved_offset: None,
            adopts: None,
            starts_in_doubt: false,
            seen_offset: 0,
            doubt: None,
            dirty: false,
            answered: None,
            accepted_at: 0,
            heartbeat_accepted_at: 0,
            disturbed_at: 0,
            restarted_at: 0,
            disturbed: false,
        }
    }

    /// A process starts, and goes by the times on the disk.
    pub fn process_starts(&mut self, at: u64, now: Now, offset: i64, disk: &Disk) {
        self.restarted_at = at;
        if self.seen_offset != offset {
            self.deletions.clock_set();
        }
        self.seen_offset = offset;
        self.not_before = self.not_before.saturating_sub(SLEWED);
        self.doubt = None;
        // A doubt goes on over a restart.
        self.starts_in_doubt = disk.state.suspect_seconds.is_some();
        let doubted_for = u64::from(disk.state.suspect_seconds.unwrap_or(0)) * SECOND;
        self.answered = None;
        if let Some(before) = self.before_off.take()
            && disk.identity.is_some()
        {
            self.new_id_at = before;
        }
        if std::mem::take(&mut self.dirty) {
            self.forget_the_schedule();
        }
        self.adopts = self.is_implausible(now, disk).then_some(at.saturating_sub(doubted_for));
        if self.adopts.is_none() {
            self.go_by_the_disk(offset);
        }
        // A time that was drawn while there was no ID is kept; any other belongs to an ID that is gone.
        let has_none = disk.identity.is_none() && disk.state.heartbeat_due.is_some();
        self.keeps_the_draw = has_none && disk.state.schedule_of == Some(Timestamp::UNIX_EPOCH);
        if has_none && !self.keeps_the_draw {
            self.new_id_at = Some(at);
        }
    }

    /// What was lost with a file is not to be held against the engine.
    pub fn state_lost(&mut self) {
        self.deletions.state_lost();
        self.forget_the_schedule();
        self.saved_offset = None;
    }

    fn forget_the_schedule(&mut self) {
        self.heartbeat = None;
        self.new_id_at = None;
        self.startup_at = None;
        self.not_before = 0;
    }

    /// Wall times mean what they meant only where the clock is as far off as it was.
    fn go_by_the_disk(&mut self, offset: i64) {
        self.adopts = None;
        if self.saved_offset.is_none_or(|saved| saved.abs_diff(offset) > SLEWED / 2) {
            self.forget_the_schedule();
        }
    }

    /// Such a clock a start must not go by.
    fn is_implausible(&self, now: Now, disk: &Disk) -> bool {
        let believed = disk.state.last_trusted.unwrap_or(now.wall);
        let ahead = now.wall.duration_since(believed).as_nanos();
        let leapt = self.starts_in_doubt && believed >= CONTRACT_DATE && ahead > i128::from(DAY);
        now.wall < CONTRACT_DATE || ahead < -i128::from(HOUR) || leapt
    }

    /// The process looks at the clock.
    pub fn process_looks(&mut self, at: u64, now: Now, offset: i64, disk: &Disk) {
        if self.consent.is_off() {
            self.before_off.get_or_insert(self.new_id_at);
            self.new_id_at = Some(at);
            self.keeps_the_draw = false;
        } else {
            self.before_off = None;
        }
        let knew_better = self.adopts.is_none();
        if let Some(since) = self.adopts {
            if !self.is_implausible(now, disk) {
                self.go_by_the_disk(offset);
            } else if at - since >= DAY {
                // Whatever the clock says is believed now, and the times on disk may mean anything.
                self.adopts = None;
                self.forget_the_schedule();
            }
        }
        // A clock that nobody had set may be set at any time.
        let plausible = |before: i64| {
            let ahead = offset - before;
            let was_set = now.wall.as_second() - ahead / SECOND as i64 >= CONTRACT_DATE.as_second();
            ahead >= -(HOUR as i64) && (ahead <= DAY as i64 || !was_set)
        };
        if self.doubt.is_none() && knew_better && !plausible(self.seen_offset) {
            self.doubt = Some(Doubt { since: at, offset: self.seen_offset });
        }
        if self.seen_offset != offset {
            self.deletions.clock_set();
        }
        self.seen_offset = offset;
        if self.doubt.is_some_and(|doubt| at - doubt.since >= DAY || plausible(doubt.offset)) {
            self.doubt = None;
        }
    }

    /// Nothing may be made of this clock.
    fn clock_rests(&self, at: u64, now: Now) -> bool {
        let sees_1970 = now.wall < CONTRACT_DATE && self.adopts.is_some_and(|since| at - since < DAY);
        sees_1970 || self.doubt.is_some()
    }

    /// The engine handed out these actions.
    pub fn handed_out(&mut self, at: u64, now: Now, actions: &[Action], stops: bool) -> Result<(), Violation> {
        let wakes = actions.iter().filter_map(|a| if let Action::WakeAt(mono) = a { Some(*mono) } else { None });
        for wake in wakes.clone() {
            let near = wake >= now.mono && wake <= now.mono + Duration::from_nanos(HOUR);
            hold!(WakeIsNear, near, "it is {:?}, and the wake is at {wake:?}", now.mono);
        }
        hold!(WakeIsNear, stops || wakes.count() == 1, "not one wake: {actions:?}");
        let rests = self.clock_rests(at, now);
        for action in actions {
            let acts = match action {
                Action::Send(_) | Action::Forget(_) | Action::Disk(DiskAction::Prune { .. }) => true,
                Action::Disk(DiskAction::Record(entry)) => entry.kind == EntryKind::IdRotated,
                _ => false,
            };
            hold!(ImplausibleClockRests, !(rests && acts), "{action:?}");
            if let Action::Disk(DiskAction::Record(entry)) = action {
                self.tells_the_truth(entry)?;
                self.deletions.tells_the_truth(entry)?;
            }
        }
        self.answered = None;
        Ok(())
    }

    fn tells_the_truth(&mut self, entry: &Entry) -> Result<(), Violation> {
        let answered = self.answered;
        match entry.kind {
            EntryKind::Sent => hold!(LedgerTellsTheTruth, answered == Some(true), "sent, but the answer: {answered:?}"),
            EntryKind::Failed if entry.status.is_some() => {
                hold!(LedgerTellsTheTruth, answered == Some(false), "failed, but the answer: {answered:?}");
            }
            _ => {}
        }
        Ok(())
    }

    /// This got onto the disk, where that ID was before.
    pub fn wrote(&mut self, at: u64, offset: i64, action: &DiskAction, before: Option<&Identity>) {
        let after = match action {
            DiskAction::SaveId(identity) => Some(&identity.install_id),
            DiskAction::DeleteId => None,
            DiskAction::Save(_) => {
                if self.adopts.is_none() {
                    self.saved_offset = Some(offset);
                }
                return;
            }
            _ => return,
        };
        if let Some(before) = before
            && after != Some(&before.install_id)
        {
            self.replaced.insert(before.install_id.to_string());
            self.before_off = None;
            // An ID that no ping went with is replaced without a pause; and what could not be written when it happened
            // has happened earlier.
            if self.last.as_ref().is_some_and(|(_, body)| id_of(body) == before.install_id.as_str()) {
                self.new_id_at = (!self.dirty).then_some(at);
            }
        }
        self.not_before = 0;
    }

    /// The ID on the disk is another one than before: its first heartbeat is set, by nothing but chance.
    pub fn replaced(&mut self, at: u64, now: Now, disk: &Disk) -> Result<(), Violation> {
        self.keeps_the_draw = false;
        if self.dirty || self.adopts.is_some() || disk.identity.is_none() {
            return Ok(());
        }
        self.new_id_at = Some(at);
        let is_new = disk.identity.as_ref().is_some_and(|identity| identity.is_current(now.wall));
        hold!(IdIsCurrent, is_new, "it is {}, and the disk has {:?}", now.wall, disk.identity);
        let due = disk.state.heartbeat_due;
        let drawn = due.and_then(|due| Duration::try_from(due.duration_since(now.wall)).ok());
        let within = drawn.is_some_and(|drawn| NEW_ID.contains(&(drawn.as_nanos() as u64)));
        hold!(NewIdHasItsOwnTime, within, "it is {}, and the heartbeat is due at {due:?}", now.wall);
        Ok(())
    }

    /// The ID is about to be rotated: what was on the disk must have had its time.
    pub fn rotates(&self, now: Now, before: Option<&Identity>) -> Result<(), Violation> {
        if let Some(before) = before
            && !self.dirty
        {
            let due = !before.is_current_where_it_was_made(now.wall);
            hold!(RotationIsDue, due, "made at {}, rotated at {}", before.issued_at, now.wall);
        }
        Ok(())
    }

    /// An attempt is made with what the disk says now.
    pub fn attempted(&mut self, at: u64, now: Now, body: &str, disk: &Disk) -> Result<(), Violation> {
        let number = number_of(body);
        hold!(OffSendsNothing, !self.consent.is_off(), "{:?}", self.consent);
        let newest = match self.permission {
            Permission::None => u64::MAX,
            Permission::Forbidden => {
                return Err(Violation { rule: Rule::UnknownIsNotSent, detail: body.to_owned() });
            }
            Permission::Granted(newest) => newest,
        };
        hold!(FreshReading, newest != u64::MAX, "without a reading: {body}");
        let recorded = disk
            .last
            .as_ref()
            .is_some_and(|entry| entry.kind == EntryKind::Attempted && entry.body.as_deref() == Some(body));
        hold!(RecordedBefore, recorded, "the ledger ends with {:?}", disk.last);
        let Some(identity) = &disk.identity else {
            return Err(Violation { rule: Rule::IdOnDisk, detail: "there is none".to_owned() });
        };
        let id = id_of(body);
        hold!(OneAtATime, !disk.left_open, "the attempt before is open");
        hold!(IdOnDisk, identity.install_id.as_str() == id, "the disk has {}, the ping {id}", identity.install_id);
        let age = now.wall.duration_since(identity.issued_at);
        let current = age.as_secs() >= -3600 && age.as_secs() < ROTATION.as_secs() as i64;
        hold!(IdIsCurrent, current, "{age:?} old");
        self.deletions.sends(id)?;
        hold!(IdDoesNotComeBack, !self.replaced.contains(id), "{id} was replaced");
        hold!(RetryAfterIsHonoured, at >= self.not_before, "{} s too early", (self.not_before - at) / SECOND);
        match &self.last {
            Some((last, bytes)) if *last == number => {
                hold!(BytesAreTheBytesBuilt, bytes == body, "built: {bytes}\nsent:  {body}");
                hold!(DeliveredOnce, self.concluded != Some(number), "{body}");
                self.tries.push(at);
                let (most, within) = HAMMERING;
                if self.tries.len() >= most {
                    let first = self.tries[self.tries.len() - most];
                    hold!(RetriesBackOff, at - first > within, "{most} attempts in {} s", (at - first) / SECOND);
                }
                Ok(())
            }
            last => {
                let newer = last.as_ref().is_none_or(|(last, _)| *last < number);
                // A ping that a crash kept from its first attempt was built from an older reading.
                hold!(BytesAreTheBytesBuilt, newer && number <= newest, "number {number} after {last:?}");
                let id = id.to_owned();
                self.built(at, number, body, id)
            }
        }
    }

    /// The first attempt of a ping.
    fn built(&mut self, at: u64, number: u64, body: &str, id: String) -> Result<(), Violation> {
        if number.is_multiple_of(64) {
            let document = serde_json::from_str(body).unwrap();
            let valid = contract::validate(&document);
            hold!(ContractHolds, valid.is_ok(), "{valid:?}: {body}");
        }
        let is_startup = body.contains("\"event\":\"startup\"");
        let since = |last: Option<u64>| last.map_or(u64::MAX, |last| at - last);
        let apart = since(self.startup_at);
        hold!(StartupsKeepTheirDistance, apart >= HOUR - SLEWED, "{} s after a startup", apart / SECOND);
        if is_startup {
            self.startup_at = Some(at);
        } else {
            let before = self.heartbeat.replace((at, id.clone()));
            if let Some(before) = before.as_ref().filter(|(_, before)| *before == id) {
                let apart = at - before.0;
                hold!(HeartbeatsKeepTheirDistance, apart >= APART, "only {} s apart", apart / SECOND);
            } else {
                let last_ping = before.map(|(at, _)| at).max(self.startup_at);
                // A ping with this ID before means that a startup or a reset made it, and drew a time for it.
                let made_it = self.last.as_ref().is_none_or(|(_, last)| id_of(last) != id);
                let drawn = std::mem::take(&mut self.keeps_the_draw) && made_it;
                let apart = since(if drawn { last_ping } else { self.new_id_at });
                let its_own = apart >= NEW_ID.start() - SLEWED;
                hold!(NewIdHasItsOwnTime, its_own, "only {} s after the new ID", apart / SECOND);
            }
        }
        self.last = Some((number, body.to_owned()));
        self.tries = vec![at];
        Ok(())
    }

    /// The endpoint stored it.
    pub fn stored(&mut self, at: u64, body: &str) {
        self.accepted_at = at;
        if body.contains("\"event\":\"heartbeat\"") {
            self.heartbeat_accepted_at = at;
        }
    }

    /// The process is given an answer.
    pub fn answers(&mut self, accepted: bool, silent_until: Option<u64>, at: u64) {
        self.answered = Some(accepted);
        if let Some(until) = silent_until {
            self.not_before = until.min(at + RETRY_AFTER_MAX);
            self.asked_of = self.last.as_ref().map(|(_, body)| id_of(body).to_owned());
        }
    }

    /// A crash kept what the answer asked for from the disk.
    pub fn answer_lost(&mut self) {
        self.not_before = 0;
    }

    /// What came of an acceptance is on the disk.
    pub fn acceptance_written(&mut self) {
        self.concluded = self.last.as_ref().map(|(number, _)| *number);
    }

    /// All of a list was carried out.
    pub fn carried_out(&mut self, disk: &Disk, sends: bool) -> Result<(), Violation> {
        if self.consent.is_off() {
            hold!(OffLeavesNothing, !sends, "a send is under way");
            hold!(OffLeavesNothing, self.dirty || disk.identity.is_none(), "{:?}", disk.identity);
            hold!(OffLeavesNothing, self.dirty || disk.state.pending.is_none(), "{:?}", disk.state.pending);
        }
        let id = disk.identity.as_ref().map(|identity| identity.install_id.as_str());
        if !self.dirty && self.asked_of.is_some() && self.asked_of.as_deref() != id && self.adopts.is_none() {
            hold!(RetryAfterIsForgotten, disk.state.not_before.is_none(), "{:?}", disk.state.not_before);
        }
        Ok(())
    }

    /// All that decides what breaks a rule later, with times as ages. Silence is left out: [`Self::nobody_waits`] alone
    /// goes by it.
    pub fn relative(&self, at: u64) -> impl std::fmt::Debug {
        let age = |time: u64| at.saturating_sub(time).min(2 * DAY) / SECOND;
        let is_replaced = |body: &String| self.replaced.contains(id_of(body));
        (
            (self.consent.is_off(), self.consent.fixed_off, self.consent.switched_off, self.consent.off_in_pulse),
            (self.last.as_ref().map(|(_, body)| (body.clone(), is_replaced(body))), self.tries.len()),
            self.concluded.is_some() && self.concluded == self.last.as_ref().map(|(number, _)| *number),
            self.heartbeat.as_ref().map(|(time, id)| (age(*time), id.clone())),
            (self.new_id_at.map(age), self.keeps_the_draw, self.asked_of.clone(), self.startup_at.map(age)),
            (self.not_before.saturating_sub(at) / SECOND, self.saved_offset, self.adopts.map(age)),
            (self.starts_in_doubt, self.seen_offset, self.doubt.map(|doubt| (age(doubt.since), doubt.offset))),
            (self.dirty, self.answered, self.before_off.map(|before| before.map(age))),
            self.deletions.relative(move |time| at.saturating_sub(time).min(8 * DAY) / SECOND),
        )
    }

    /// Something is wrong from now on, or happened just now.
    pub fn disturb(&mut self, at: u64) {
        self.disturbed_at = at;
    }

    /// As long as something is wrong, silence is no fault.
    pub fn set_disturbed(&mut self, at: u64, disturbed: bool) {
        if self.disturbed || disturbed {
            self.disturbed_at = at;
        }
        self.disturbed = disturbed;
    }

    /// Time passed.
    pub fn nobody_waits(&self, at: u64) -> Result<(), Violation> {
        if self.disturbed || at < self.disturbed_at + CALM {
            return Ok(());
        }
        self.deletions.nobody_waits(at)?;
        // A new ID begins with a pause of its own.
        let late = |last: u64, most: u64| match self.new_id_at.filter(|new| *new > last) {
            Some(new) => (at.saturating_sub(new), most - DAY + NEW_ID.end()),
            None => (at.saturating_sub(last), most),
        };
        if at >= self.restarted_at + CALM {
            let (silence, most) = late(self.accepted_at, SILENCE);
            hold!(NoSilence, silence <= most, "for {} hours", silence / HOUR);
        }
        let (silence, most) = late(self.heartbeat_accepted_at, POSTPONED);
        hold!(NotPostponed, silence <= most, "for {} hours", silence / HOUR);
        Ok(())
    }
}
