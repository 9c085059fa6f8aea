//! Mistakes that an engine might have, made between the real engine and the world. The rules must find each.

mod forgetting;

use jiff::Timestamp;
use pulse_telemetry_core::engine::{Action, DiskAction, EntryKind, Input, PendingRecord, Start};
use pulse_telemetry_core::identity::{Identity, InstallId};
use pulse_telemetry_core::observation::OwnSender;
use pulse_telemetry_core::ping::PingBytes;
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_core::verdict::Answer;

use super::disk::Disk;
use crate::memory_fs::MemoryFs;
use crate::readings::change;
pub use forgetting::{
    AskingTimeNotKept, CancelUnheard, DeletionPutOff, DeletionsNotKept, DeletionsNotTakenUp, DeletionsTogether,
    FailureTakenForDeletion, ForgetsWithoutReset, OffForgets, ReceiptNotKept,
};

/// Stands between engine and world, and may change what either tells the other. A new one for each installation, which
/// outlives the processes.
pub trait Saboteur: Clone + Default {
    /// The disk of an installation.
    fn disk(fs: MemoryFs) -> Disk {
        Disk::new(fs)
    }
    /// Before the engine starts with this.
    fn start(&mut self, _start: &mut Start) {}
    /// Before the engine takes this in.
    fn input(&mut self, _input: &mut Input) {}
    /// Before the world carries this out.
    fn actions(&mut self, _actions: &mut Vec<Action>) {}
}

/// None at all: the engine as it is.
#[derive(Clone, Default)]
pub struct Honest;
impl Saboteur for Honest {}

/// The open ledger is not compared with what has its name.
#[derive(Clone, Default)]
pub struct LedgerNotCompared;
impl Saboteur for LedgerNotCompared {
    fn disk(fs: MemoryFs) -> Disk {
        fs.take_out_the_comparison();
        Disk::new(fs)
    }
}

/// An ID that takes the place of another one wherever it is written or sent.
#[derive(Clone, Default)]
struct Swap {
    on_disk: Option<Identity>,
    swapped: Option<(InstallId, Identity)>,
}

impl Swap {
    /// The ID that is written stays the old one.
    fn keep_the_old(&mut self, new: &Identity) {
        if let Some(old) = &self.on_disk {
            self.swapped = Some((new.install_id.clone(), old.clone()));
        }
    }

    fn apply(&mut self, actions: &mut [Action]) {
        for action in actions {
            if let Some((new, old)) = &self.swapped {
                let swap = |text: &mut String| *text = text.replace(new.as_str(), old.install_id.as_str());
                let swap_in = |body: &mut PingBytes| {
                    *body = PingBytes::parse(&body.replace(new.as_str(), old.install_id.as_str())).unwrap();
                };
                match action {
                    Action::Disk(DiskAction::SaveId(identity)) if identity.install_id == *new => {
                        *identity = old.clone()
                    }
                    Action::Disk(DiskAction::Save(state)) => {
                        if let Some(pending) = &mut state.pending {
                            swap(&mut pending.body);
                            swap(&mut pending.install_id);
                        }
                    }
                    Action::Disk(DiskAction::Record(entry)) => entry.body.iter_mut().for_each(swap_in),
                    Action::Send(body) => swap_in(body),
                    _ => {}
                }
            }
            if let Action::Disk(DiskAction::SaveId(identity)) = action {
                self.on_disk = Some(identity.clone());
            }
        }
    }
}

/// The ID that is due for rotation goes on being used.
#[derive(Clone, Default)]
pub struct RotationForgotten(Swap);
impl Saboteur for RotationForgotten {
    fn start(&mut self, start: &mut Start) {
        self.0 = Swap { on_disk: start.identity.clone(), swapped: None };
    }

    fn actions(&mut self, actions: &mut Vec<Action>) {
        let rotates = actions.iter().any(|action| {
            matches!(action, Action::Disk(DiskAction::Record(entry))
                if entry.kind == EntryKind::IdRotated && entry.reason == Some(LedgerReason::Expired))
        });
        for action in actions.iter().filter(|_| rotates) {
            if let Action::Disk(DiskAction::SaveId(new)) = action {
                self.0.keep_the_old(new);
            }
        }
        self.0.apply(actions);
    }
}

/// After a reset the old ID goes on being used.
#[derive(Clone, Default)]
pub struct IdKeptAfterReset(Swap);
impl Saboteur for IdKeptAfterReset {
    fn start(&mut self, start: &mut Start) {
        self.0 = Swap { on_disk: start.identity.clone(), swapped: None };
    }

    fn actions(&mut self, actions: &mut Vec<Action>) {
        let resets = actions
            .iter()
            .any(|a| matches!(a, Action::Disk(DiskAction::Record(entry)) if entry.kind == EntryKind::IdReset));
        for action in actions.iter().filter(|_| resets) {
            if let Action::Disk(DiskAction::SaveId(new)) = action {
                self.0.keep_the_old(new);
            }
        }
        self.0.apply(actions);
    }
}

/// A reset leaves the send under way alone.
#[derive(Clone, Default)]
pub struct ResetWithoutCancel {
    resetting: bool,
}
impl Saboteur for ResetWithoutCancel {
    fn input(&mut self, input: &mut Input) {
        self.resetting = matches!(input, Input::Reset);
    }

    fn actions(&mut self, actions: &mut Vec<Action>) {
        if self.resetting {
            actions.retain(|action| *action != Action::CancelSend);
        }
    }
}

/// The state file does not say when the next heartbeat is due.
#[derive(Clone, Default)]
pub struct DueTimeNotKept;
impl Saboteur for DueTimeNotKept {
    fn actions(&mut self, actions: &mut Vec<Action>) {
        for action in actions {
            if let Action::Disk(DiskAction::Save(state)) = action {
                state.heartbeat_due = None;
            }
        }
    }
}

/// The state file does not say when a startup was last attempted.
#[derive(Clone, Default)]
pub struct StartupTimeNotKept;
impl Saboteur for StartupTimeNotKept {
    fn actions(&mut self, actions: &mut Vec<Action>) {
        for action in actions {
            if let Action::Disk(DiskAction::Save(state)) = action {
                state.startup_attempted_at = None;
            }
        }
    }
}

/// The state file does not say when the pending ping may be tried again.
#[derive(Clone, Default)]
pub struct BackoffNotKept;
impl Saboteur for BackoffNotKept {
    fn actions(&mut self, actions: &mut Vec<Action>) {
        for action in actions {
            if let Action::Disk(DiskAction::Save(state)) = action
                && let Some(pending) = &mut state.pending
            {
                pending.attempts = 0;
                pending.not_before = pending.built_at;
            }
        }
    }
}

/// Switching off leaves the pending ping in the state file.
#[derive(Clone, Default)]
pub struct PendingKeptWhenOff {
    pending: Option<PendingRecord>,
    off: bool,
}
impl Saboteur for PendingKeptWhenOff {
    fn input(&mut self, input: &mut Input) {
        if let Input::Switch { off } = input {
            self.off = *off;
        }
    }

    fn actions(&mut self, actions: &mut Vec<Action>) {
        for action in actions {
            if let Action::Disk(DiskAction::Save(state)) = action {
                if self.off {
                    state.pending.clone_from(&self.pending);
                } else {
                    self.pending.clone_from(&state.pending);
                }
            }
        }
    }
}

/// The switch is turned in memory only.
#[derive(Clone, Default)]
pub struct SwitchNotWritten;
impl Saboteur for SwitchNotWritten {
    fn actions(&mut self, actions: &mut Vec<Action>) {
        actions.retain(|action| !matches!(action, Action::Disk(DiskAction::SaveSwitch { .. })));
    }
}

/// The attempt is made first and recorded then.
#[derive(Clone, Default)]
pub struct AttemptBeforeItsEntry;
impl Saboteur for AttemptBeforeItsEntry {
    fn actions(&mut self, actions: &mut Vec<Action>) {
        if let Some(at) = actions.iter().position(|action| matches!(action, Action::Send(_))) {
            actions.swap(at - 1, at);
        }
    }
}

/// What the endpoint asks for is not heard.
#[derive(Clone, Default)]
pub struct RetryAfterIgnored;
impl Saboteur for RetryAfterIgnored {
    fn input(&mut self, input: &mut Input) {
        if let Input::Answer(Answer::Status { retry_after, .. }, _) = input {
            *retry_after = None;
        }
    }
}

/// Every answer is taken for an acceptance.
#[derive(Clone, Default)]
pub struct FailureTakenForDelivery;
impl Saboteur for FailureTakenForDelivery {
    fn input(&mut self, input: &mut Input) {
        if let Input::Answer(answer, _) = input {
            *answer = Answer::Status { code: 204, retry_after: None };
        }
    }
}

/// What Pulse's own setting said first holds for the life of the installation.
#[derive(Clone, Default)]
pub struct PulsesSettingReadOnce {
    first: Option<OwnSender>,
}
impl Saboteur for PulsesSettingReadOnce {
    fn input(&mut self, input: &mut Input) {
        let own_sender = match input {
            Input::OwnSender(own_sender) => own_sender,
            Input::Reading(reading) => match &mut **reading {
                Ok(reading) => match &mut reading.gate.own_sender {
                    Ok(own_sender) => own_sender,
                    Err(_) => return,
                },
                Err(_) => return,
            },
            _ => return,
        };
        *own_sender = *self.first.get_or_insert(*own_sender);
    }
}

/// What could not be counted is zero.
#[derive(Clone, Default)]
pub struct UnknownTakenForZero;
impl Saboteur for UnknownTakenForZero {
    fn input(&mut self, input: &mut Input) {
        if let Input::Reading(reading) = input
            && let Ok(reading) = &mut **reading
            && reading.values().pve_nodes.is_err()
        {
            change(reading, |values| values.pve_nodes = Ok(0));
        }
    }
}

/// After a reset the state file still says when the old ID's heartbeat was due.
#[derive(Clone, Default)]
pub struct PhaseKeptOverReset {
    due: Option<Timestamp>,
    resetting: bool,
}
impl Saboteur for PhaseKeptOverReset {
    fn input(&mut self, input: &mut Input) {
        self.resetting = matches!(input, Input::Reset);
    }

    fn actions(&mut self, actions: &mut Vec<Action>) {
        for action in actions {
            if let Action::Disk(DiskAction::Save(state)) = action {
                if self.resetting {
                    state.heartbeat_due = self.due.or(state.heartbeat_due);
                }
                self.due = state.heartbeat_due;
            }
        }
    }
}

/// What the endpoint asked for outlives the ID that it was asked of.
#[derive(Clone, Default)]
pub struct RetryAfterKeptOverNewId {
    asked: Option<Timestamp>,
}
impl Saboteur for RetryAfterKeptOverNewId {
    fn actions(&mut self, actions: &mut Vec<Action>) {
        let replaces = actions.iter().any(|action| matches!(action, Action::Disk(DiskAction::SaveId(_))));
        for action in actions {
            if let Action::Disk(DiskAction::Save(state)) = action {
                if replaces {
                    state.not_before = self.asked;
                }
                self.asked = state.not_before;
            }
        }
    }
}

/// A retry sends other bytes than those that were built.
#[derive(Clone, Default)]
pub struct BodyBuiltAnewForRetry {
    attempts: u32,
}
impl Saboteur for BodyBuiltAnewForRetry {
    fn actions(&mut self, actions: &mut Vec<Action>) {
        self.attempts += u32::from(actions.iter().any(|action| matches!(action, Action::Send(_))));
        for action in actions {
            let body = match action {
                Action::Send(body) => body,
                Action::Disk(DiskAction::Record(entry)) => match &mut entry.body {
                    Some(body) => body,
                    None => continue,
                },
                _ => continue,
            };
            let from = body.find("\"active_alerts\":").unwrap() + "\"active_alerts\":".len();
            let to = from + body[from..].find(',').unwrap();
            let changed = format!("{}{}{}", &body[..from], self.attempts, &body[to..]);
            *body = PingBytes::parse(&changed).unwrap();
        }
    }
}
