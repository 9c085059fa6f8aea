//! How the local server asks the daemon, which alone holds the engine and the state directory.

use std::time::Duration;

use jiff::Timestamp;
use pulse_telemetry_core::consent::OffSource;
use pulse_telemetry_core::observation::Commercial;
use tokio::sync::{mpsc, oneshot};

use crate::posture::Posture;
use crate::status::{StatusReport, SuppressedReport};
use crate::store::HistoryPage;

/// Asks the daemon.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
}

/// The daemon has ended, or is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the daemon is stopping")]
pub struct Gone;

/// A question to the daemon, and where the answer goes.
#[derive(Debug)]
pub enum Command {
    /// How things stand, at once.
    Status {
        /// Somebody wants to know, so that an old reading of Pulse is followed by another one.
        is_looked_at: bool,
        /// Where the answer goes.
        answer: oneshot::Sender<StatusReport>,
    },
    /// All that is known, at once; an old reading of Pulse is followed by another one.
    Snapshot(oneshot::Sender<Snapshot>),
    /// The heartbeat that would be sent now.
    Preview(oneshot::Sender<Result<Preview, NoPreview>>),
    /// What else may leave the installation. Where Pulse cannot be read at all, why not.
    Posture(oneshot::Sender<Result<PostureSeen, NoPreview>>),
    /// A new ID.
    Reset(oneshot::Sender<ResetAnswer>),
    /// Have everything that was sent deleted at the endpoint.
    Forget(oneshot::Sender<ForgetCommandAnswer>),
    /// The deletions that are not done yet are not wanted any more.
    CancelForget(oneshot::Sender<CancelForgetAnswer>),
    /// Turn the local switch.
    Switch {
        /// To on.
        on: bool,
        /// Where the answer goes.
        answer: oneshot::Sender<SwitchAnswer>,
    },
    /// A part of the history.
    History {
        /// Entries with a `seq` below this one; the newest where there is none.
        before: Option<u64>,
        /// The most entries to tell.
        limit: usize,
        /// Where the answer goes: `None` where the ledger cannot be read.
        answer: oneshot::Sender<Option<HistoryPage>>,
    },
    /// What Pulse's settings say of its commercial side, as of the last reading that told it. Pulse is read where none
    /// has yet; the answer is `None` where that does not tell it either.
    Commercial(oneshot::Sender<Option<Commercial>>),
    /// Erase the history. The answer says whether it is gone, durably.
    EraseHistory(oneshot::Sender<bool>),
}

impl Command {
    /// The caller of one that may have to wait has gone away.
    pub(super) fn has_gone(&self) -> bool {
        match self {
            Self::Reset(answer) => answer.is_closed(),
            Self::Forget(answer) => answer.is_closed(),
            Self::EraseHistory(answer) => answer.is_closed(),
            _ => false,
        }
    }
}

/// All that is known, as of the last reading of Pulse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// How things stand.
    pub status: StatusReport,
    /// The heartbeat that would be sent now; `None` where Pulse was not read yet.
    pub preview: Option<Result<Preview, NoPreview>>,
    /// What else may leave the installation; `None` where Pulse was not read yet.
    pub posture: Option<Result<PostureSeen, NoPreview>>,
    /// What Pulse's settings say of its commercial side; `None` where they were not read yet, or could not be.
    pub commercial: Option<Commercial>,
}

/// The heartbeat that would be sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// Consent alone, Pulse's setting as of this reading included.
    pub enabled: bool,
    /// The exact bytes.
    pub bytes: String,
    /// How old the reading of Pulse is.
    pub age: Duration,
    /// Pulse asked to be left alone until then, and this is the last good reading of before.
    pub paused_until: Option<Timestamp>,
}

/// Why there is no preview: Pulse cannot be read fully, or too many wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPreview {
    /// Consent alone, as far as it is known.
    pub enabled: bool,
    /// The reason, and what is unknown.
    pub because: SuppressedReport,
    /// When to ask again: Pulse is not read before.
    pub retry_after: Duration,
}

/// What else may leave the installation, as the last reading of Pulse told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostureSeen {
    /// What was told.
    pub posture: Posture,
    /// How old the reading of Pulse is.
    pub age: Duration,
}

/// What came of asking for a new ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetAnswer {
    /// The new ID is durable and the old one will not be sent again. The preview shows it.
    Done(Result<Preview, NoPreview>),
    /// The state directory cannot be written.
    NotPersisted,
}

/// What came of asking for the deletion of everything that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForgetCommandAnswer {
    /// It is on the disk, and goes its way.
    Asked {
        /// For how many IDs.
        pending: usize,
    },
    /// The state directory cannot be written.
    NotPersisted,
    /// The history cannot be read, which has the IDs.
    Unreadable,
    /// Somebody cancelled it while the IDs were being read.
    Cancelled,
}

/// What came of no longer wanting deletions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CancelForgetAnswer {
    /// For how many IDs.
    pub cancelled: usize,
    /// It will be so after a restart.
    pub persisted: bool,
}

/// What came of turning the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchAnswer {
    /// It is turned.
    Done {
        /// What keeps telemetry off all the same; `None` where it is on now.
        off: Option<OffSource>,
        /// It will be so after a restart. Off holds at once even where it cannot be written.
        persisted: bool,
    },
    /// On was asked for, and something that the switch cannot overrule says off.
    Locked(OffSource),
    /// On was asked for and could not be written, so it stays off.
    NotPersisted,
}

impl Handle {
    /// A handle, and where its questions arrive. At most `waiting` of them wait at a time.
    #[must_use]
    pub fn new(waiting: usize) -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(waiting);
        (Self { commands }, receiver)
    }

    /// How things stand. An old reading of Pulse is followed by another one, which is not waited for.
    ///
    /// # Errors
    /// Where the daemon has ended; the same for every question.
    pub async fn status(&self) -> Result<StatusReport, Gone> {
        self.ask(|answer| Command::Status { is_looked_at: true, answer }).await
    }

    /// How things stand, for a machine that asks all the time: Pulse is not read because of it.
    ///
    /// # Errors
    /// Where the daemon has ended.
    pub async fn glance(&self) -> Result<StatusReport, Gone> {
        self.ask(|answer| Command::Status { is_looked_at: false, answer }).await
    }

    /// All that is known. An old reading of Pulse is followed by another one, which is not waited for.
    ///
    /// # Errors
    /// Where the daemon has ended.
    pub async fn known(&self) -> Result<Snapshot, Gone> {
        self.ask(Command::Snapshot).await
    }

    /// The heartbeat that would be sent now.
    ///
    /// # Errors
    /// Where the daemon has ended.
    pub async fn preview(&self) -> Result<Result<Preview, NoPreview>, Gone> {
        self.ask(Command::Preview).await
    }

    /// What else may leave the installation, or why Pulse cannot tell.
    ///
    /// # Errors
    /// Where the daemon has ended.
    pub async fn posture(&self) -> Result<Result<PostureSeen, NoPreview>, Gone> {
        self.ask(Command::Posture).await
    }

    /// Rotates the ID at once.
    ///
    /// # Errors
    /// Where the daemon has ended.
    pub async fn reset(&self) -> Result<ResetAnswer, Gone> {
        self.ask(Command::Reset).await
    }

    /// Has everything that was sent deleted at the endpoint. What comes of it is in the status and the history.
    ///
    /// # Errors
    /// Where the daemon has ended.
    pub async fn forget(&self) -> Result<ForgetCommandAnswer, Gone> {
        self.ask(Command::Forget).await
    }

    /// Ends the deletions that are not done yet.
    ///
    /// # Errors
    /// Where the daemon has ended.
    pub async fn cancel_forget(&self) -> Result<CancelForgetAnswer, Gone> {
        self.ask(Command::CancelForget).await
    }

    /// Turns the local switch.
    ///
    /// # Errors
    /// Where the daemon has ended.
    pub async fn switch(&self, on: bool) -> Result<SwitchAnswer, Gone> {
        self.ask(|answer| Command::Switch { on, answer }).await
    }

    /// The newest entries of the history with a `seq` below `before`, at most `limit`; `None` where the ledger cannot
    /// be read.
    ///
    /// # Errors
    /// Where the daemon has ended.
    pub async fn history(&self, before: Option<u64>, limit: usize) -> Result<Option<HistoryPage>, Gone> {
        self.ask(|answer| Command::History { before, limit, answer }).await
    }

    /// What Pulse's settings say of its commercial side; `None` where they could not be read.
    ///
    /// # Errors
    /// Where the daemon has ended.
    pub async fn commercial(&self) -> Result<Option<Commercial>, Gone> {
        self.ask(Command::Commercial).await
    }

    /// Erases the history, and says whether it is gone, durably.
    ///
    /// # Errors
    /// Where the daemon has ended.
    pub async fn erase_history(&self) -> Result<bool, Gone> {
        self.ask(Command::EraseHistory).await
    }

    async fn ask<A>(&self, question: impl FnOnce(oneshot::Sender<A>) -> Command) -> Result<A, Gone> {
        let (sender, answer) = oneshot::channel();
        self.commands.send(question(sender)).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}
