//! Carries out what the engine asks for, and keeps an eye on the disk.

use std::io;
use std::time::Duration;

use pulse_telemetry_core::clock::Clock;
use pulse_telemetry_core::engine::{Action, DiskAction, Input};
use pulse_telemetry_core::rng::Rng;
use tracing::{error, info, warn};

use super::Daemon;
use crate::store::Disk;

/// What came of a list of actions.
#[derive(Default)]
struct Tried {
    /// The first failure of the disk.
    failure: Option<io::Error>,
    send_left_out: bool,
    forget_left_out: bool,
}

impl Tried {
    fn note(&mut self, result: io::Result<()>) {
        self.failure = self.failure.take().or(result.err());
    }
}

/// Between two looks whether the files that were written are still there, for callers.
const STORAGE_LOOK: Duration = Duration::from_secs(1);

impl<D: Disk, K: Clock, C: Rng> Daemon<D, K, C> {
    /// Carries out the actions in their order, and says whether all that belongs on the disk got there.
    pub(super) fn carry_out(&mut self, actions: Vec<Action>) -> bool {
        let Tried { failure, send_left_out, forget_left_out } = self.try_all(actions);
        if failure.is_none() {
            return true;
        }
        let actions = self.engine.handle(self.clock.now(), Input::StorageFailed { send_left_out, forget_left_out });
        // What fails of these is what has failed already.
        self.try_all(actions);
        false
    }

    fn try_all(&mut self, actions: Vec<Action>) -> Tried {
        let touched = actions.iter().any(|action| matches!(action, Action::Disk(_)));
        let mut tried = Tried::default();
        for action in actions {
            self.try_one(action, &mut tried);
        }
        if touched {
            tried.note(self.store.confirm());
        }
        for notice in self.store.take_notices() {
            warn!("{notice}");
            self.notices.push(notice);
        }
        match &tried.failure {
            Some(error) => {
                if self.storage_works {
                    error!(%error, state_dir = self.state_dir, "failed to write the state directory; nothing is sent");
                }
                self.storage_error = Some(error.to_string());
                self.storage_works = false;
            }
            None if touched => {
                if !self.storage_works {
                    info!("the state directory can be written again");
                }
                self.storage_works = true;
            }
            None => {}
        }
        self.metrics.ledger(self.store.ledger_bytes());
        tried
    }

    fn try_one(&mut self, action: Action, tried: &mut Tried) {
        match action {
            Action::CancelSend => self.sending = None,
            Action::ReadPulse => self.readings.ask_for_engine(),
            Action::WakeAt(mono) => self.wake = mono,
            Action::CancelForget => self.forgetting = None,
            Action::Send(body) => {
                tried.send_left_out = !self.may_go(tried);
                if !tried.send_left_out {
                    self.start_sending(body);
                }
            }
            Action::Forget(id) => {
                tried.forget_left_out = !self.may_go(tried);
                if !tried.forget_left_out {
                    self.start_forgetting(id);
                }
            }
            Action::Disk(action) if tried.failure.is_some() && is_untrue_after_a_failure(&action) => {}
            Action::Disk(action) => tried.note(self.store.carry_out(&action, self.clock.now().wall)),
        }
    }

    /// Whether what has to be on the disk before anything goes out is there.
    fn may_go(&mut self, tried: &mut Tried) -> bool {
        if tried.failure.is_none() {
            tried.note(self.store.confirm());
        }
        tried.failure.is_none()
    }

    /// What was written may be gone although nothing had to be written since. Callers who only want to know how things
    /// stand do not make it look more often than once a [`STORAGE_LOOK`].
    pub(super) fn look_at_the_storage(&mut self) {
        let now = self.clock.now();
        if now.mono < self.storage_look_at || self.engine.is_unsaved() {
            return;
        }
        self.storage_look_at = now.mono + STORAGE_LOOK;
        if let Err(error) = self.store.confirm() {
            error!(%error, state_dir = self.state_dir, "the state directory lost what was written; nothing is sent");
            self.storage_works = false;
            self.storage_error = Some(error.to_string());
            self.feed(Input::StorageFailed { send_left_out: false, forget_left_out: false });
        }
    }

    pub(super) fn erase_history(&mut self) -> bool {
        match self.store.erase_history(self.clock.now().wall) {
            Ok(()) => {
                self.metrics.ledger(self.store.ledger_bytes());
                info!("the history was erased");
            }
            Err(error) => {
                error!(%error, state_dir = self.state_dir, "failed to erase the history");
                return false;
            }
        }
        true
    }
}

/// It would say what the failure made untrue. An on that is refused must not be found by the next start.
fn is_untrue_after_a_failure(action: &DiskAction) -> bool {
    match action {
        DiskAction::Record(entry) => entry.kind.claims_prior_writes(),
        DiskAction::SaveSwitch { off } => !off,
        _ => false,
    }
}
