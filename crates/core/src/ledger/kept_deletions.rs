//! The deletions that are pending, as far as a ledger tells more of them than the state file does.

use jiff::Timestamp;

use super::{Line, Piece, kind_of};
use crate::engine::{DeletionRecord, EntryKind};
use crate::identity::InstallId;

/// Reads a ledger for the deletions that were asked for, and ended, after the last entry that the state file knows: a
/// state file that is lost, damaged or an older copy loses none, and brings none back.
#[derive(Debug)]
pub struct KeptDeletions {
    known: u64,
    deletions: Vec<DeletionRecord>,
}

impl KeptDeletions {
    /// What a state file says that knows the entries up to this one.
    #[must_use]
    pub fn new(known: u64, deletions: Vec<DeletionRecord>) -> Self {
        Self { known, deletions }
    }

    /// Takes the next piece of the ledger. What cannot be read tells nothing.
    pub fn take(&mut self, piece: Piece<'_>) {
        use EntryKind::{ForgetAsked, ForgetFailed, Forgotten};
        let Piece::Line(bytes) = piece else { return };
        // Most lines need not be understood for this.
        if matches!(kind_of(bytes), Some(kind) if !matches!(kind, ForgetAsked | Forgotten | ForgetFailed)) {
            return;
        }
        let Some(line) = Line::parse(bytes).filter(|line| line.seq > self.known) else { return };
        let Some(id) = line.install_id.as_deref().and_then(InstallId::parse).map(|id| id.canonical()) else { return };
        match line.kind {
            ForgetAsked => self.asked(id, line.at),
            Forgotten | ForgetFailed => self.deletions.retain(|deletion| deletion.install_id != id),
            _ => {}
        }
    }

    fn asked(&mut self, install_id: InstallId, since: Timestamp) {
        match self.deletions.iter_mut().find(|deletion| deletion.install_id == install_id) {
            Some(deletion) => deletion.is_recorded |= deletion.end.is_none(),
            // When it was due is lost: a time so far away is drawn again.
            None => self.deletions.push(DeletionRecord {
                install_id,
                since,
                not_before: Timestamp::MAX,
                attempts: 0,
                end: None,
                is_recorded: true,
            }),
        }
    }

    /// The deletions that are pending, or ended without an entry that says so.
    #[must_use]
    pub fn into_deletions(self) -> Vec<DeletionRecord> {
        self.deletions
    }
}
