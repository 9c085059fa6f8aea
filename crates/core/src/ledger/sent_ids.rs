//! The IDs that something may have been sent with, as far as a ledger tells.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Line, Piece, kind_of};
use crate::engine::EntryKind;
use crate::identity::InstallId;
use crate::receipt::ReceiptStanding;

/// Reads a ledger from its beginning for the IDs of its attempts. Those that the endpoint has deleted since are not
/// among them, but for those of which its receipt is false.
#[derive(Debug, Default)]
pub struct SentIds(BTreeSet<InstallId>);

impl SentIds {
    /// Takes the next piece of the ledger. What cannot be read tells nothing.
    pub fn take(&mut self, piece: Piece<'_>) {
        let Piece::Line(bytes) = piece else { return };
        // Most lines need not be understood for this.
        if matches!(kind_of(bytes), Some(kind) if !matches!(kind, EntryKind::Attempted | EntryKind::Forgotten)) {
            return;
        }
        let Some(line) = Line::parse(bytes) else { return };
        match line.kind {
            EntryKind::Attempted => self.0.extend(line.body.as_deref().and_then(id_in)),
            EntryKind::Forgotten if line.receipt_is != Some(ReceiptStanding::False) => {
                if let Some(id) = line.install_id.as_deref().and_then(InstallId::parse) {
                    self.0.remove(&id.canonical());
                }
            }
            _ => {}
        }
    }

    /// The IDs, in the spelling that most have.
    #[must_use]
    pub fn into_ids(self) -> Vec<InstallId> {
        self.0.into_iter().collect()
    }
}

/// The ID in a ping, of whatever contract, in the spelling that most have.
#[must_use]
pub fn id_in(body: &str) -> Option<InstallId> {
    #[derive(Deserialize)]
    struct Body<'a> {
        install_id: std::borrow::Cow<'a, str>,
    }
    let body: Body<'_> = serde_json::from_str(body).ok()?;
    InstallId::parse(&body.install_id).map(|id| id.canonical())
}
