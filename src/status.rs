//! What is told about the sidecar: the same shapes for the API, the page and the commands.

use jiff::Timestamp;
use pulse_telemetry_core::consent::OffSource;
use pulse_telemetry_core::engine::{Concluded, Deletions, Status, Suppression};
use pulse_telemetry_core::identity::ROTATION;
use pulse_telemetry_core::observation::{ReadError, Reading, Reason, Unknown};
use pulse_telemetry_core::ping::Event;
use pulse_telemetry_core::reason::{LedgerReason, ReasonWord};
use pulse_telemetry_core::receipt::ReceiptStanding;
use pulse_telemetry_core::version::VERSION_MAX;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::confine::Confinement;
use crate::posture::{AiPosture, DataHandling, Posture, RelayPosture, Updates};

/// The answer of `GET /api/v1/status`, and of `pulse-telemetry status --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The version of the sidecar.
    pub version: String,
    /// A daemon answered. False where the command looked at the state directory itself.
    pub running: bool,
    /// Consent alone: telemetry is on.
    pub enabled: bool,
    /// What switched it off, in one word; null while it is on.
    pub off_by: Option<ReasonWord>,
    /// State and source in one sentence.
    pub summary: String,
    /// The local switch cannot turn it on.
    pub locked: bool,
    /// Why nothing may be sent now although telemetry is on; null where nothing stands in the way.
    pub suppressed: Option<SuppressedReport>,
    /// Where pings go.
    pub endpoint: String,
    /// What is due next, and when; null while telemetry is off.
    pub next: Option<NextReport>,
    /// The ping that was built and is not yet accepted.
    pub pending: Option<PendingReport>,
    /// What became of the last ping.
    pub last: Option<Concluded>,
    /// What the receipt for the last delivered ping was worth, since this process runs; null before.
    #[serde(default)]
    pub last_receipt: Option<ReceiptStanding>,
    /// What was asked to be deleted at the endpoint.
    #[serde(default)]
    pub forget: ForgetReport,
    /// When the current ID was made and when it rotates; null where there is none yet.
    pub id: Option<IdReport>,
    /// Where the state is kept.
    pub state_dir: String,
    /// The state could be written when that was last tried.
    pub writable: bool,
    /// What the kernel holds the daemon to; null where none runs.
    pub confinement: Option<Confinement>,
    /// When Pulse was last read, which all that comes from it is as of; null where it was not yet.
    #[serde(default)]
    pub as_of: Option<Timestamp>,
    /// Pulse is being read again, so that asking in a moment tells more.
    #[serde(default)]
    pub is_being_read: bool,
    /// What somebody should look at, a sentence each.
    pub warnings: Vec<String>,
}

/// Why nothing may be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressedReport {
    /// One word of a small set.
    pub reason: ReasonWord,
    /// What it means and what to do, for people.
    pub message: String,
    /// What could not be read.
    pub unknown: Vec<UnknownReport>,
}

/// One thing that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownReport {
    /// The field, or the fact.
    pub what: String,
    /// The request that should have told.
    pub request: String,
    /// Why it did not.
    pub reason: String,
    /// The scope that the token lacks, where that is why.
    pub required_scope: Option<String>,
}

/// What is due next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextReport {
    /// Startup or heartbeat.
    pub event: Event,
    /// When it is sent, or looked at again.
    pub at: Timestamp,
    /// The ID is replaced then, and the heartbeat goes at a random time of the next 12 to 36 hours.
    #[serde(default)]
    pub replaces_id: bool,
}

/// The pending ping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingReport {
    /// Startup or heartbeat.
    pub event: Event,
    /// How many attempts were made.
    pub attempts: u32,
    /// Its exact bytes.
    pub bytes: String,
}

/// Deletions at the endpoint that were asked for and are not over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetReport {
    /// Of how many IDs.
    pub pending: usize,
    /// When the endpoint is asked next; null where nothing is pending.
    pub next: Option<Timestamp>,
    /// The endpoint offers none, and was sent no ID. Where it has no contract, it is asked again for a day.
    pub not_offered: bool,
}

/// The current ID's age. The ID itself is in the preview.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdReport {
    /// When it was made.
    pub issued_at: Timestamp,
    /// When it will be 30 days old.
    pub rotates_at: Timestamp,
}

/// What of a report does not come from the engine.
#[derive(Clone, Debug)]
pub struct StatusContext<'a> {
    /// A daemon answers.
    pub running: bool,
    /// Where pings go.
    pub endpoint: &'a str,
    /// There are keys that the endpoint's receipts are verified with.
    pub expects_receipts: bool,
    /// Where the state is kept.
    pub state_dir: &'a str,
    /// What the kernel holds the daemon to.
    pub confinement: Option<&'a Confinement>,
    /// When Pulse was last read.
    pub as_of: Option<Timestamp>,
    /// Pulse is being read again.
    pub is_being_read: bool,
    /// What somebody should look at.
    pub warnings: &'a [String],
}

impl StatusReport {
    /// Tells the engine's status.
    #[must_use]
    pub fn new(status: &Status<'_>, context: &StatusContext<'_>) -> Self {
        let suppressed = status.suppressed.map(SuppressedReport::new);
        let mut warnings = context.warnings.to_vec();
        if status.unsaved {
            warnings.push("The state directory cannot be written; it is tried again. See state.dir.".to_owned());
        }
        if status.counted_twice {
            warnings.push(COUNTED_TWICE.to_owned());
        }
        warnings.extend(receipt_warning(status.last_receipt, context.expects_receipts).map(str::to_owned));
        let Deletions { pending, next, not_offered } = status.deletions;
        if not_offered {
            warnings.push(NOT_OFFERED.to_owned());
        }
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            running: context.running,
            enabled: status.off.is_none(),
            off_by: status.off.map(|source| source.reason().into()),
            summary: summary(status.off, suppressed.as_ref()),
            locked: status.off.is_some_and(OffSource::is_locked),
            suppressed,
            endpoint: context.endpoint.to_owned(),
            next: status.next_due.zip(status.next_event).map(|(at, event)| NextReport {
                event,
                at,
                replaces_id: status.next_replaces_id,
            }),
            pending: status.pending.map(|(event, bytes, attempts)| PendingReport {
                event,
                attempts,
                bytes: bytes.to_owned(),
            }),
            last: status.last.cloned(),
            last_receipt: status.last_receipt,
            forget: ForgetReport { pending, next, not_offered },
            id: status.id_issued_at.map(|issued_at| IdReport {
                issued_at,
                rotates_at: issued_at.saturating_add(ROTATION).unwrap_or(Timestamp::MAX),
            }),
            state_dir: context.state_dir.to_owned(),
            writable: !status.unsaved,
            confinement: context.confinement.cloned(),
            as_of: context.as_of,
            is_being_read: context.is_being_read,
            warnings,
        }
    }
}

fn summary(off: Option<OffSource>, suppressed: Option<&SuppressedReport>) -> String {
    match (off, suppressed) {
        (Some(source), _) => format!("Telemetry is off: {source} says so. Nothing is sent."),
        (None, Some(suppressed)) => {
            format!("Telemetry is on, but nothing is sent now ({}). {}", suppressed.reason, suppressed.message)
        }
        (None, None) => "Telemetry is on.".to_owned(),
    }
}

fn receipt_warning(standing: Option<ReceiptStanding>, expects_receipts: bool) -> Option<&'static str> {
    match standing? {
        ReceiptStanding::False => Some(
            "The endpoint's receipt for the last ping is false: it is of something else, or of a key that is not in \
             telemetry.receipt_keys_file.",
        ),
        ReceiptStanding::Missing if expects_receipts => {
            Some("The endpoint gave no receipt for the last ping, and telemetry.receipt_keys_file expects one.")
        }
        _ => None,
    }
}

/// What it means that the endpoint offers no deletions.
pub const NOT_OFFERED: &str = "The endpoint offers no deletion, and was sent no ID for one.";

impl SuppressedReport {
    /// Tells a suppression.
    #[must_use]
    pub fn new(suppression: &Suppression) -> Self {
        let unknown = match suppression {
            Suppression::MissingScope(unknown) | Suppression::Incomplete(unknown) => unknown.as_slice(),
            _ => &[],
        };
        Self {
            reason: suppression.reason().into(),
            message: explain(suppression),
            unknown: unknown.iter().map(UnknownReport::new).collect(),
        }
    }
}

impl SuppressedReport {
    /// Why somebody is not told now who asks what needs a reading.
    #[must_use]
    pub fn busy() -> Self {
        Self {
            reason: LedgerReason::Busy.into(),
            message: "As many callers as may wait for Pulse do so already. Ask again in a moment.".to_owned(),
            unknown: Vec::new(),
        }
    }
}

/// That Pulse asked for a pause, and until when.
#[must_use]
pub fn paused(until: Timestamp) -> String {
    format!("Pulse asked for fewer requests (429): it is read again at {}.", seconds(until))
}

impl UnknownReport {
    fn new(unknown: &Unknown) -> Self {
        Self {
            what: unknown.what.to_owned(),
            request: unknown.request.to_owned(),
            reason: unknown.reason.to_string(),
            required_scope: match &unknown.reason {
                Reason::MissingScope(scope) => Some(scope.to_string()),
                _ => None,
            },
        }
    }
}

/// What a suppression means and what to do about it.
fn explain(suppression: &Suppression) -> String {
    match suppression {
        Suppression::Storage => {
            "The state directory cannot be written, or what was written there is gone, and nothing \
                                 is sent that could not be recorded first. Look at its space, its permissions, and who \
                                 removes or replaces files there."
                .to_owned()
        }
        Suppression::ClockImplausible => {
            "The clock of this machine says a time that cannot be. It is believed after a \
                                          day, or as soon as it is set."
                .to_owned()
        }
        Suppression::PulseUnreachable(why) => {
            format!("Pulse cannot be reached: {why}. Look at pulse.url (PULSE_URL) and whether Pulse runs.")
        }
        Suppression::PulseUnauthorized(credential) => credential.to_string(),
        Suppression::NotPulse(what) => capitalized(&format!("{what}.")),
        Suppression::MissingScope(_) => "The API token may not read all that the ping needs. In Pulse, give it the \
                                         scopes monitoring:read and settings:read."
            .to_owned(),
        Suppression::MockMode => "Pulse shows mock data, which is nobody's installation.".to_owned(),
        Suppression::DemoMode => "Pulse is a public demo, which is nobody's installation.".to_owned(),
        Suppression::PulseStarting => {
            "Pulse started less than two minutes ago and does not know its counts yet.".to_owned()
        }
        Suppression::PulseReportsItself => format!(
            "{REPORTS_ITSELF} To hand over, set {HAND_OVER_LINE} in Pulse's environment (not in a file that the \
             sidecar reads as well) and restart Pulse."
        ),
        Suppression::Incomplete(unknown) => incomplete(unknown),
    }
}

fn capitalized(sentence: &str) -> String {
    let mut rest = sentence.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}

/// What is unknown for a reason that only somebody here can mend is told by what to do.
fn incomplete(unknown: &[Unknown]) -> String {
    let lasting = unknown.iter().find_map(|unknown| match &unknown.reason {
        Reason::OrganizationsNotConfigured => Some(
            "This Pulse has organizations, and a token reads its own alone. Name each organization and its token in \
             pulse.organizations, default alone if there is no other."
                .to_owned(),
        ),
        Reason::OrganizationsNotNamed(names) => Some(format!(
            "This Pulse has organizations that pulse.organizations does not name: {names}. Name each of them there, \
             with its token."
        )),
        Reason::OrganizationsGone(names) => Some(format!(
            "pulse.organizations names what its own token does not list: {names}. Remove the organization there, or \
             give it the token that belongs to it."
        )),
        Reason::OutOfBounds if unknown.what == "version" => Some(format!(
            "The version that this build of Pulse reports cannot be sent: it has more than letters, digits, ., + and \
             -, or more than {VERSION_MAX} of them."
        )),
        _ => None,
    });
    lasting.unwrap_or_else(|| {
        "Something in the ping could not be read from Pulse, and what is unknown is not sent. It is tried again."
            .to_owned()
    })
}

/// What it means that Pulse was asked and nothing came of it yet.
pub const UNANSWERED: &str = "Pulse has not answered yet, and nothing is sent before it does";

/// What it means that Pulse reports itself.
pub const REPORTS_ITSELF: &str = "Pulse's own telemetry is on, so Pulse reports itself and the sidecar keeps silent: \
otherwise this installation would be counted twice.";

/// The line that hands over, in Pulse's environment.
pub const HAND_OVER_LINE: &str = "PULSE_TELEMETRY=false";

/// What it means to insist where Pulse reports itself.
pub const COUNTED_TWICE: &str = "Pulse reports itself as well, so this installation is counted twice: \
PULSE_TELEMETRY=true tells the sidecar to report all the same. Set PULSE_TELEMETRY=false in Pulse's environment.";

/// The answer of `GET /api/v1/preview` and of Pulse's own preview route: the heartbeat that would be sent now.
#[derive(Debug, Serialize)]
pub struct PreviewReport<'a> {
    /// Consent alone.
    pub enabled: bool,
    /// The exact bytes of the heartbeat.
    pub payload: &'a RawValue,
    /// Why it is not made of a newer reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The answer of `GET /api/v1/posture`: what else may leave the installation. A part that is null is unknown and named
/// in `unknown`, but for `data_handling`, which is null as well where this Pulse has no such rules.
#[derive(Debug, Serialize)]
pub struct PostureReport<'a> {
    /// AI features and their providers.
    pub ai: Option<&'a AiPosture>,
    /// The relay for remote access.
    pub relay: Option<&'a RelayPosture>,
    /// How Pulse looks for new versions of itself.
    pub updates: Option<&'a Updates>,
    /// How many resources each of Pulse's data-handling rules covers.
    pub data_handling: Option<&'a DataHandling>,
    /// What could not be read.
    pub unknown: Vec<UnknownReport>,
}

impl<'a> PostureReport<'a> {
    /// Tells a posture.
    #[must_use]
    pub fn new(posture: &'a Posture) -> Self {
        Self {
            ai: posture.ai.as_ref().ok(),
            relay: posture.relay.as_ref().ok(),
            updates: posture.updates.as_ref().ok(),
            data_handling: posture.data_handling.as_ref().ok().and_then(Option::as_ref),
            unknown: posture.unknown().map(UnknownReport::new).collect(),
        }
    }
}

/// What a reading of Pulse tells that somebody should look at, a sentence each.
#[must_use]
pub fn reading_warnings(read: Result<&Reading, &ReadError>) -> Vec<String> {
    let Ok(reading) = read else { return Vec::new() };
    let Ok(version) = reading.values().version else { return Vec::new() };
    let left_out = [(version.raw_left_out, "version_raw"), (version.build_left_out, "version_build")];
    let left_out = left_out.into_iter().filter(|(left_out, _)| *left_out);
    left_out
        .map(|(_, field)| {
            format!(
                "{field} is left out of the ping: what this build of Pulse says there has more than letters, digits, \
                 ., + and -, or more than {VERSION_MAX} of them."
            )
        })
        .collect()
}

impl SuppressedReport {
    /// The report for people, over several lines where something is unknown.
    #[must_use]
    pub fn to_text(&self) -> String {
        let unknown = self.unknown.iter().map(|u| format!("\n  {}: {} ({})", u.what, u.reason, u.request));
        format!("{} ({}){}", self.message, self.reason, unknown.collect::<String>())
    }
}

impl StatusReport {
    /// Telemetry is on, and the daemon has not read Pulse to an end since it started, with success or without: nobody
    /// knows yet whether anything stands in the way.
    #[must_use]
    pub fn waits_for_pulse(&self) -> bool {
        self.running && self.enabled && self.suppressed.is_none() && self.as_of.is_none()
    }

    /// The report for people who read it now, line by line.
    #[must_use]
    pub fn to_text(&self, now: Timestamp) -> String {
        let mut lines = vec![match self.as_of {
            Some(at) => format!("{} (as of {})", self.summary, time_of(at, now)),
            None => self.summary.clone(),
        }];
        let mut line = |text: String| lines.push(text);
        if self.waits_for_pulse() {
            line(format!("{UNANSWERED}. Look whether Pulse runs, and at pulse.url (PULSE_URL)."));
        } else if self.is_being_read {
            line("Pulse is being read and has not answered yet; this is what was known before.".to_owned());
        }
        for unknown in self.suppressed.iter().flat_map(|suppressed| &suppressed.unknown) {
            line(format!("  unknown: {}: {} ({})", unknown.what, unknown.reason, unknown.request));
        }
        if !self.running {
            line("No pulse-telemetry answers at serve.listen: this is what the state directory says.".to_owned());
        }
        if let Some(next) = &self.next {
            line(self.next_to_text(next));
        }
        if let Some(PendingReport { event, attempts, .. }) = &self.pending {
            line(format!("Pending:   a {} ping, after {attempts} attempts without success", event.word()));
        }
        line(match &self.last {
            None => "Last:      no ping yet".to_owned(),
            Some(last) => {
                format!(
                    "Last:      {} at {}: {} ({})",
                    last.event.word(),
                    seconds(last.at),
                    last.outcome.word(),
                    last.reason
                )
            }
        });
        if let Some(standing) = self.last_receipt {
            line(format!("Receipt:   {standing}"));
        }
        if let ForgetReport { pending: pending @ 1.., next: Some(next), .. } = &self.forget {
            let when = if self.running { format!("next at {}", seconds(*next)) } else { UNTIL_IT_RUNS.to_owned() };
            line(format!("Forget:    deletions are pending, of {}; the endpoint is asked {when}", ids(*pending)));
        }
        line(match &self.id {
            None => {
                "ID:        none that is valid; the next ping makes one, and the preview shows a candidate".to_owned()
            }
            Some(id) => {
                format!("ID:        made at {}, rotates at {}", seconds(id.issued_at), seconds(id.rotates_at))
            }
        });
        line(format!("Endpoint:  {}", self.endpoint));
        line(format!("State:     {}", self.state_dir));
        if let Some(confinement) = &self.confinement {
            line(format!("Confined:  {}", confinement.to_text()));
        }
        for warning in &self.warnings {
            line(format!("Warning:   {warning}"));
        }
        lines.push(String::new());
        lines.join("\n")
    }

    fn next_to_text(&self, NextReport { event, at, replaces_id }: &NextReport) -> String {
        match (self.running, &self.suppressed) {
            _ if self.waits_for_pulse() => format!("Next:      a look at Pulse, at {}", seconds(*at)),
            (false, _) => format!("Next:      a {} ping, {UNTIL_IT_RUNS}", event.word()),
            (true, None) if *replaces_id => format!(
                "Next:      a new ID, at {}; its first heartbeat goes at a random time of the 12 to 36 hours after",
                seconds(*at)
            ),
            (true, None) => format!("Next:      a {} ping, at {}", event.word(), seconds(*at)),
            (true, Some(_)) => format!("Next:      a look at Pulse, at {}", seconds(*at)),
        }
    }
}

/// A number of install IDs, in words.
#[must_use]
pub fn ids(n: usize) -> String {
    if n == 1 { "1 ID".to_owned() } else { format!("{n} IDs") }
}

const UNTIL_IT_RUNS: &str = "once the daemon runs";

/// The time of day, where it is one of this day.
fn time_of(time: Timestamp, now: Timestamp) -> String {
    let text = seconds(time).to_string();
    let today = now.strftime("%Y-%m-%dT").to_string();
    text.strip_prefix(&today).map(ToOwned::to_owned).unwrap_or(text)
}

/// The time without fractions of a second, which say nothing to people.
fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
