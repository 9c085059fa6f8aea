//! What the endpoint said of pings and deletions, and that no ping has an ID whose deletion was asked for.

use std::collections::BTreeMap;

use super::Audit;
use crate::identity::InstallId;
use crate::ledger::Line;
use crate::receipt::{Expected, ReceiptKeys, ReceiptStanding, id_sha256, judge};

/// What is known of receipts and deletions.
#[derive(Debug, Default)]
pub(super) struct ReceiptsSeen {
    /// The keys to verify receipts with.
    pub(super) keys: Option<ReceiptKeys>,
    verified: u64,
    unverified: u64,
    false_ones: u64,
    missing: u64,
    asked: u64,
    forgotten: u64,
    failed: u64,
    /// The IDs whose deletion was asked for, and the line that says so.
    taken_back: BTreeMap<InstallId, u64>,
}

impl ReceiptsSeen {
    fn count(&mut self, standing: ReceiptStanding) {
        *match standing {
            ReceiptStanding::Verified => &mut self.verified,
            ReceiptStanding::Unverified => &mut self.unverified,
            ReceiptStanding::False => &mut self.false_ones,
            ReceiptStanding::Missing => &mut self.missing,
        } += 1;
    }

    /// What was checked of receipts.
    pub(super) fn told(&self) -> String {
        let Self { verified, unverified, false_ones, missing, keys, .. } = self;
        let how = if keys.is_some() { "" } else { " (no keys were given)" };
        format!(
            "{} receipts: {verified} verified, {unverified} not verified{how}; {missing} times none came, \
             {false_ones} times a false one",
            verified + unverified
        )
    }

    /// What was checked of deletions.
    pub(super) fn told_of_deletions(&self) -> String {
        let Self { asked, forgotten, failed, .. } = self;
        format!(
            "{asked} deletions were asked for, {forgotten} are done and {failed} were ended; no ping has an ID after \
             its deletion was asked for"
        )
    }
}

impl Audit {
    /// Verifies receipts with these keys, too.
    #[must_use]
    pub fn with_receipt_keys(mut self, keys: Option<ReceiptKeys>) -> Self {
        self.receipts.keys = keys;
        self
    }

    /// The receipt of a ping; the SHA-256 of its body is unknown where the attempt is.
    pub(super) fn check_receipt_of_ping(&mut self, line: &Line<'_>, body_sha256: Option<&str>) {
        match body_sha256 {
            Some(body_sha256) => self.check_receipt(line, Expected::Received { body_sha256 }),
            None => {
                // There is nothing left to hold it against.
                line.receipt_is.into_iter().for_each(|recorded| {
                    self.receipts.count(match recorded {
                        ReceiptStanding::Verified => ReceiptStanding::Unverified,
                        other => other,
                    })
                });
            }
        }
    }

    pub(super) fn on_forgotten(&mut self, line: &Line<'_>) {
        self.receipts.forgotten += 1;
        if let Some(id) = self.id_of_deletion(line) {
            self.check_receipt(line, Expected::Forgotten { id_sha256: &id_sha256(&id) });
        }
    }

    pub(super) fn on_forget_asked(&mut self, line: &Line<'_>) {
        let number = self.lines;
        if let Some(id) = self.id_of_deletion(line)
            && self.receipts.taken_back.insert(id, number).is_none()
        {
            self.receipts.asked += 1;
        }
    }

    pub(super) fn on_forget_failed(&mut self, line: &Line<'_>) {
        self.receipts.failed += 1;
        let _ = self.id_of_deletion(line);
    }

    /// A ping has this ID.
    pub(super) fn check_not_taken_back(&mut self, id: &str) {
        let Some(id) = InstallId::parse(id).filter(|_| !self.receipts.taken_back.is_empty()) else { return };
        if let Some(asked) = self.receipts.taken_back.get(&id.canonical()) {
            let what = format!("an attempt with an ID whose deletion was asked for in line {asked}");
            self.checks.deletions.add(self.lines, what);
        }
    }

    fn id_of_deletion(&mut self, line: &Line<'_>) -> Option<InstallId> {
        let id = line.install_id.as_deref().and_then(InstallId::parse).map(|id| id.canonical());
        if id.is_none() {
            self.checks.deletions.add(self.lines, "says of no ID what became of its deletion".to_owned());
        }
        id
    }

    fn check_receipt(&mut self, line: &Line<'_>, expected: Expected<'_>) {
        let Some(recorded) = line.receipt_is else {
            // An earlier version, which looked for none.
            if line.receipt.is_some() {
                self.checks.receipts.add(self.lines, "a receipt, and not what it was judged".to_owned());
            }
            return;
        };
        let (standing, _) = judge(self.receipts.keys.as_ref(), line.receipt.as_deref(), expected);
        let what = match (recorded, standing) {
            (ReceiptStanding::False, ReceiptStanding::Missing) => {
                self.receipts.count(ReceiptStanding::False);
                return;
            }
            (ReceiptStanding::Verified | ReceiptStanding::Unverified, ReceiptStanding::Missing) => {
                "the receipt that was judged is not there"
            }
            (ReceiptStanding::False | ReceiptStanding::Missing, _) if standing != ReceiptStanding::Missing => {
                "a receipt, although none is to be kept here"
            }
            (_, ReceiptStanding::False) => "a receipt that is of something else, or that none of the keys given signed",
            _ => {
                self.receipts.count(standing);
                return;
            }
        };
        self.checks.receipts.add(self.lines, what.to_owned());
    }
}
