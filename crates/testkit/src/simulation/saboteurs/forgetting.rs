//! Mistakes with deletions.

use jiff::Timestamp;
use pulse_telemetry_core::engine::{
    Action, DeletionEnd, DeletionRecord, DiskAction, EntryKind, ForgetAnswer, Input, Start, State,
};
use pulse_telemetry_core::identity::InstallId;

use super::super::endpoint::receipt;
use super::Saboteur;

fn saved(actions: &mut [Action]) -> impl Iterator<Item = &mut State> {
    actions
        .iter_mut()
        .filter_map(|action| if let Action::Disk(DiskAction::Save(it)) = action { Some(it) } else { None })
}

/// Switching off asks for a deletion.
#[derive(Clone, Default)]
pub struct OffForgets {
    off: bool,
    id: Option<InstallId>,
}
impl Saboteur for OffForgets {
    fn start(&mut self, start: &mut Start) {
        self.id = start.identity.as_ref().map(|identity| identity.install_id.clone());
    }

    fn input(&mut self, input: &mut Input) {
        self.off = matches!(input, Input::Switch { off: true });
    }

    fn actions(&mut self, actions: &mut Vec<Action>) {
        for action in actions.iter() {
            if let Action::Disk(DiskAction::SaveId(identity)) = action {
                self.id = Some(identity.install_id.clone());
            }
        }
        actions.extend(self.id.clone().filter(|_| self.off).map(Action::Forget));
    }
}

/// The current ID is asked to be deleted and stays in use.
#[derive(Clone, Default)]
pub struct ForgetsWithoutReset {
    forgetting: bool,
}
impl Saboteur for ForgetsWithoutReset {
    fn input(&mut self, input: &mut Input) {
        self.forgetting = matches!(input, Input::Forget { .. });
    }

    fn actions(&mut self, actions: &mut Vec<Action>) {
        if self.forgetting {
            actions.retain(|action| !matches!(action, Action::Disk(DiskAction::SaveId(_))));
        }
    }
}

/// The state file does not say which deletions were asked for.
#[derive(Clone, Default)]
pub struct DeletionsNotKept;
impl Saboteur for DeletionsNotKept {
    fn actions(&mut self, actions: &mut Vec<Action>) {
        saved(actions).for_each(|state| state.deletions.clear());
    }
}

/// A start does not go by what the state file says of deletions.
#[derive(Clone, Default)]
pub struct DeletionsNotTakenUp;
impl Saboteur for DeletionsNotTakenUp {
    fn start(&mut self, start: &mut Start) {
        start.state.deletions.clear();
    }
}

/// The state file never says that the endpoint has done it.
#[derive(Clone, Default)]
pub struct ReceiptNotKept {
    done: Vec<DeletionRecord>,
}
impl Saboteur for ReceiptNotKept {
    fn actions(&mut self, actions: &mut Vec<Action>) {
        for state in saved(actions) {
            for deletion in &mut state.deletions {
                if deletion.end.take_if(|end| matches!(end, DeletionEnd::Forgotten(_))).is_some() {
                    self.done.push(deletion.clone());
                }
            }
            let is_there = |id: &InstallId| state.deletions.iter().any(|deletion| deletion.install_id == *id);
            let left = self.done.iter().filter(|deletion| !is_there(&deletion.install_id)).cloned();
            state.deletions = [left.collect(), std::mem::take(&mut state.deletions)].concat();
        }
    }
}

/// All deletions are asked for together.
#[derive(Clone, Default)]
pub struct DeletionsTogether {
    pending: Vec<DeletionRecord>,
}
impl Saboteur for DeletionsTogether {
    fn actions(&mut self, actions: &mut Vec<Action>) {
        saved(actions).for_each(|state| self.pending.clone_from(&state.deletions));
        let asked =
            actions.iter().find_map(|action| if let Action::Forget(id) = action { Some(id.clone()) } else { None });
        let others = self.pending.iter().filter(|it| it.end.is_none()).map(|it| &it.install_id);
        let together = others.filter(|id| asked.is_some() && asked.as_ref() != Some(*id)).cloned().map(Action::Forget);
        actions.extend(together.collect::<Vec<_>>());
    }
}

/// What failed is taken for a deletion that is done.
#[derive(Clone, Default)]
pub struct FailureTakenForDeletion;
impl Saboteur for FailureTakenForDeletion {
    fn input(&mut self, input: &mut Input) {
        if let Input::ForgetAnswer { answer, .. } = input {
            *answer = ForgetAnswer::Done(receipt());
        }
    }
}

/// The state file does not say when a deletion was asked for.
#[derive(Clone, Default)]
pub struct AskingTimeNotKept;
impl Saboteur for AskingTimeNotKept {
    fn start(&mut self, start: &mut Start) {
        start.state.deletions.iter_mut().for_each(|deletion| deletion.since = Timestamp::MAX);
    }
}

/// A deletion that is cancelled goes on.
#[derive(Clone, Default)]
pub struct CancelUnheard;
impl Saboteur for CancelUnheard {
    fn input(&mut self, input: &mut Input) {
        if matches!(input, Input::CancelForget) {
            *input = Input::Tick;
        }
    }
}

/// The deletion of an older ID is never made.
#[derive(Clone, Default)]
pub struct DeletionPutOff;
impl Saboteur for DeletionPutOff {
    fn actions(&mut self, actions: &mut Vec<Action>) {
        let forgets = actions.iter().any(|action| matches!(action, Action::Forget(_)));
        let asks = |action: &Action| match action {
            Action::Disk(DiskAction::Record(entry)) => entry.kind == EntryKind::ForgetAsked,
            _ => false,
        };
        if forgets && !actions.iter().any(asks) {
            actions.retain(|action| !matches!(action, Action::Forget(_)));
        }
    }
}
