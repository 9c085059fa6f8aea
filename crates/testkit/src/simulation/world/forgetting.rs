//! Deletions that somebody asks for, and what the endpoint does about them.

use pulse_telemetry_core::clock::Now;
use pulse_telemetry_core::engine::{ForgetAnswer, Input};
use pulse_telemetry_core::identity::InstallId;

use super::super::endpoint;
use super::super::faults::Fault;
use super::super::rules::{Rule, Violation, hold};
use super::super::saboteurs::Saboteur;
use super::{Died, Held, World};

/// A deletion under way: of what, when it ends, and what comes of it.
#[derive(Clone)]
pub(super) struct Deleting {
    pub(super) ends: u64,
    pub(super) id: InstallId,
    pub(super) answer: ForgetAnswer,
}

impl<S: Saboteur> World<S> {
    /// As the daemon does: the ledger tells which IDs.
    pub(super) fn forget(&mut self) -> Held<Result<(), Died>> {
        self.meet(Fault::Forget);
        if self.process.is_none() {
            return Ok(Ok(()));
        }
        self.offers_deletions = self.chance.draw(5) > 0;
        let ids = self.disk.sent_ids();
        let current = self.disk.identity.iter().map(|identity| identity.install_id.clone());
        self.rules.deletions.commanded(ids.iter().cloned().chain(current));
        let fed = self.feed(Input::Forget { ids: ids.clone() })?;
        if matches!(fed, Ok(true)) {
            let is_kept = |id: &InstallId| self.disk.state.deletions.iter().any(|it| it.install_id == *id);
            hold!(DeletionIsNotLost, ids.iter().all(is_kept), "{ids:?}: {:?}", self.disk.state.deletions);
        }
        Ok(fed.map(|_| ()))
    }

    pub(super) fn cancel_forgetting(&mut self) -> Held<Result<(), Died>> {
        self.meet(Fault::ForgetCancelled);
        let fed = self.feed(Input::CancelForget)?;
        if matches!(fed, Ok(true)) {
            self.rules.deletions.ended();
            let goes_on = self.process.as_ref().is_some_and(|process| process.deleting.is_some());
            hold!(AskedOnRequest, !goes_on, "a deletion is under way after it was cancelled");
        }
        Ok(fed.map(|_| ()))
    }

    pub(super) fn ask_for_deletion(&mut self, now: Now, id: InstallId) -> Held<()> {
        self.note(|_| format!("ask for the deletion of {id}"));
        let is_one_under_way = self.process.as_ref().is_some_and(|process| process.deleting.is_some());
        self.rules.deletions.asks(self.at, &id, is_one_under_way, &self.disk)?;
        let true_seconds = self.clock.true_seconds(self.at);
        let (takes, answer) =
            endpoint::delete(self.endpoint, &mut self.chance, true_seconds, self.offers_deletions, now);
        let ends = self.at + takes;
        self.ambush(ends, Fault::DuringDeletion);
        if let Some(process) = &mut self.process {
            process.deleting = Some(Deleting { ends, id, answer });
        }
        Ok(())
    }

    pub(super) fn on_deletion(&mut self) -> Held<Result<(), Died>> {
        let Some(Deleting { id, answer, .. }) = self.process.as_mut().and_then(|process| process.deleting.take())
        else {
            return Ok(Ok(()));
        };
        self.note(|_| format!("deletion of {id}: {answer:?}"));
        self.rules.deletions.answers(&id, &answer);
        let fed = self.feed(Input::ForgetAnswer { id: id.clone(), answer: answer.clone() })?;
        if matches!(fed, Ok(true)) {
            self.rules.deletions.answer_written(self.at, &id, &answer, &self.disk)?;
        }
        Ok(fed.map(|_| ()))
    }
}
