//! Deletions at the endpoint, beside the pings: asked for, cancelled, answered; and what the endpoint's receipts are
//! worth.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pulse_telemetry_core::clock::Clock;
use pulse_telemetry_core::engine::{Deletions, ForgetAnswer, Input, KeptReceipt};
use pulse_telemetry_core::identity::InstallId;
use pulse_telemetry_core::ledger::{id_in, sha256};
use pulse_telemetry_core::ping::PingBytes;
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_core::receipt::{Expected, ReceiptKeys, ReceiptStanding, id_sha256, judge};
use pulse_telemetry_core::rng::Rng;
use pulse_telemetry_core::verdict::Verdict;
use pulse_telemetry_endpoint::{ATTEMPT_TIME, DeletionAnswer};
use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};

use super::{CancelForgetAnswer, Command, Daemon, ForgetCommandAnswer, Sending};
use crate::store::Disk;

/// Somebody asked for deletions, and the IDs that were sent are being read. A disk may take its time for that, or hang:
/// meanwhile everything else goes on, an off and a stop above all.
#[derive(Default)]
pub(super) struct Asking {
    /// Who asks; nobody where that was cancelled meanwhile.
    answer: Option<oneshot::Sender<ForgetCommandAnswer>>,
    /// The IDs that pings went with since. An off or a rotation may have replaced them before all is read.
    sent: Vec<InstallId>,
    /// What would change the history or the ID that is to be deleted waits for the end of it.
    waiting: Vec<Command>,
}

/// What keeps deletions from being made, as the log tells it.
const NOT_OFFERED: &str = "the endpoint offers no deletion, and was sent no ID";
const NOT_DELETED: &str = "the endpoint did not delete what was sent with an ID";

/// An attempt that goes on for so much longer than it may was stopped in between, as a machine that sleeps is.
const OVERDUE: Duration = Duration::from_secs(1);

/// A receipt as it is kept.
pub(super) fn kept(keys: Option<&ReceiptKeys>, text: Option<&str>, expected: Expected<'_>) -> KeptReceipt {
    let (standing, text) = judge(keys, text, expected);
    KeptReceipt { standing, text }
}

impl<D: Disk, K: Clock, C: Rng> Daemon<D, K, C> {
    /// Reads the IDs that were sent, beside this loop.
    pub(super) fn ask_to_forget(&mut self, answer: oneshot::Sender<ForgetCommandAnswer>) {
        let reading = tokio::task::spawn_blocking(self.store.read_sent_ids());
        self.asking = Asking { answer: Some(answer), ..Asking::default() };
        self.reading_ids = Some(Box::pin(async { reading.await.map_err(io::Error::other).and_then(|ids| ids) }));
    }

    /// Keeps a command that has to wait until the IDs are read. Callers who have gone away were answered by nobody, and
    /// do not pile up.
    pub(super) fn unless_it_waits(&mut self, command: Command) -> Option<Command> {
        let waits = matches!(command, Command::Reset(_) | Command::Forget(_) | Command::EraseHistory(_));
        if self.reading_ids.is_none() || !waits {
            return Some(command);
        }
        self.asking.waiting.retain(|waiting| !waiting.has_gone());
        self.asking.waiting.push(command);
        None
    }

    pub(super) fn on_sent_ids(&mut self, ids: io::Result<Vec<InstallId>>) {
        let Asking { answer, sent, waiting } = std::mem::take(&mut self.asking);
        if let Some(answer) = answer {
            let outcome = self.forget(ids, sent);
            // A caller that has gone away needs no answer.
            let _ = answer.send(outcome);
        }
        for command in waiting.into_iter().filter(|command| !command.has_gone()) {
            self.on_command(command);
        }
    }

    fn forget(&mut self, ids: io::Result<Vec<InstallId>>, mut sent: Vec<InstallId>) -> ForgetCommandAnswer {
        match ids {
            Ok(mut ids) => {
                self.deletion_trouble = None;
                sent.retain(|id| !ids.contains(id));
                ids.append(&mut sent);
                let is_written = self.feed(Input::Forget { ids });
                let pending = self.engine.status(self.clock.now()).deletions.pending;
                info!(pending, "the endpoint is to delete what was sent");
                if is_written { ForgetCommandAnswer::Asked { pending } } else { ForgetCommandAnswer::NotPersisted }
            }
            Err(error) => {
                error!(%error, state_dir = self.state_dir, "failed to read which IDs were sent");
                ForgetCommandAnswer::Unreadable
            }
        }
    }

    /// Ends what is pending, and what somebody asked for and is not pending yet.
    pub(super) fn cancel_forget(&mut self) -> CancelForgetAnswer {
        let mut asked: Vec<_> = self.asking.answer.take().into_iter().collect();
        for command in std::mem::take(&mut self.asking.waiting) {
            match command {
                Command::Forget(answer) => asked.push(answer),
                another => self.asking.waiting.push(another),
            }
        }
        for answer in asked {
            // A caller that has gone away needs no answer.
            let _ = answer.send(ForgetCommandAnswer::Cancelled);
        }
        let cancelled = self.engine.status(self.clock.now()).deletions.pending;
        let persisted = self.feed(Input::CancelForget);
        CancelForgetAnswer { cancelled, persisted }
    }

    /// Makes one attempt to send a ping.
    pub(super) fn start_sending(&mut self, body: PingBytes) {
        if self.reading_ids.is_some()
            && let Some(id) = id_in(body.as_str())
            && !self.asking.sent.contains(&id)
        {
            self.asking.sent.push(id);
        }
        let (sender, keys) = (Arc::clone(&self.sender), Arc::clone(&self.receipt_keys));
        let answer = Box::pin(async move {
            let body_sha256 = sha256(body.as_bytes());
            let (answer, receipt) = sender.attempt(body).await;
            let expected = Expected::Received { body_sha256: &body_sha256 };
            (answer, kept(keys.as_ref().as_ref(), receipt.as_deref(), expected))
        });
        self.sending = Some(Sending { answer, ends: self.clock.now().mono + ATTEMPT_TIME + OVERDUE });
    }

    /// Asks the endpoint for a deletion, as the engine wants it.
    pub(super) fn start_forgetting(&mut self, id: InstallId) {
        let sender = Arc::clone(&self.sender);
        self.forgetting = Some(Box::pin(async move {
            let deletion = sender.forget(&id).await;
            (id, deletion)
        }));
    }

    pub(super) fn on_deletion(&mut self, (id, deletion): (InstallId, DeletionAnswer)) {
        let pending = |daemon: &Self| daemon.engine.status(daemon.clock.now()).deletions;
        let before = pending(self).pending;
        let (answer, trouble, reason) = match deletion {
            DeletionAnswer::Done(receipt) => {
                let expected = Expected::Forgotten { id_sha256: &id_sha256(&id) };
                let receipt = kept(self.receipt_keys.as_ref().as_ref(), receipt.as_deref(), expected);
                info!(receipt = receipt.standing.word(), "the endpoint says that it deleted what was sent with an ID");
                self.note_receipt(receipt.standing);
                (ForgetAnswer::Done(receipt), None, None)
            }
            DeletionAnswer::NotOffered => (ForgetAnswer::NotOffered, Some(NOT_OFFERED), None),
            DeletionAnswer::NoContract => (ForgetAnswer::NoContract, Some(NOT_OFFERED), None),
            DeletionAnswer::Failed(answer) => {
                let (after, reason) = match answer.verdict(self.clock.now().wall) {
                    Verdict::Retry { after, reason } => (after, reason),
                    Verdict::Drop { reason } => (None, reason),
                    // A 2xx that has no contract in it.
                    Verdict::Delivered => (None, LedgerReason::Incomplete),
                };
                let (status, detail) = (answer.status(), answer.detail());
                debug!(reason = reason.word(), status, detail, "a deletion failed");
                (ForgetAnswer::Failed { after }, Some(NOT_DELETED), Some(reason.word()))
            }
        };
        self.feed(Input::ForgetAnswer { id, answer });
        let Deletions { pending, next, .. } = pending(self);
        // A trouble is told when it begins; its retries are not.
        let is_new = std::mem::replace(&mut self.deletion_trouble, trouble) != trouble;
        if let Some(trouble) = trouble.filter(|_| is_new || pending < before) {
            match next.filter(|_| pending == before) {
                Some(next) => warn!(reason, %next, "{trouble}; it is asked again"),
                None => warn!(reason, pending, "{trouble}; it is not asked for that any more"),
            }
        }
    }

    /// Counts what a receipt was worth, and tells of one that is not what it should be.
    pub(super) fn note_receipt(&self, standing: ReceiptStanding) {
        self.metrics.receipt(standing);
        match standing {
            ReceiptStanding::False => warn!("the endpoint's receipt is false"),
            ReceiptStanding::Missing if self.receipt_keys.is_some() => warn!("the endpoint gave no receipt"),
            _ => {}
        }
    }
}
