//! Wipes what SQLite leaves of rows that were deleted.
//!
//! `secure_delete` overwrites a row where it is deleted. But where SQLite moves rows between pages it may leave copies
//! behind, between the cell pointers of a page and its cells, and a copy stays when its row goes. So before a page
//! passes from the write-ahead log into the file, that gap is wiped, and what is in the file from before is wiped in
//! portions.
//!
//! Another program may move the log into the file before that, as any SQLite does that is the last to close it after a
//! kill. So what is not swept says so itself: the first commit after a sweep takes a mark out of the head of the file,
//! and the next sweep puts it back, all in the log, and who moves the pages moves the mark with them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use super::super::files::{LOG, beside};
use super::super::schema::{BUSY_TIMEOUT, head_of};
use super::Writer;
use crate::storage::StorageError;

const _: () = assert!(
    option_env!("LIBSQLITE3_FLAGS").is_some(),
    "build from within the workspace: its .cargo/config.toml asks SQLite for the table sqlite_dbpage"
);

/// How many pages of the log are swept and checkpointed together, as SQLite does by itself.
const LOG_PAGES: u32 = 1000;

/// How many pages of a file from before are looked at in one go.
const PORTION: u32 = 2000;

/// What stands in the head of a file (`application_id`) all of whose pages were swept, and of one where only those were
/// that came from the log since the sweep of the others began. An older collector wrote another one for good.
const SWEPT: i64 = 0x7075_6c02;
const BEGUN: i64 = 0x7075_6c03;
const UNSWEPT: i64 = 0;

/// The heads of the log and of each page in it.
const LOG_HEAD: usize = 32;
const FRAME_HEAD: usize = 24;

/// The head of the whole file, before the first page's own.
const FILE_HEAD: usize = 100;

/// How far the sweep has come.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// How many pages of the log were swept, and which log that was.
    log_pages: u32,
    log: [u8; 8],
    /// The next page of the file, where not all of it was swept; 0 before that has begun.
    next: Option<u32>,
    /// Others moved pages that were not swept into the file meanwhile, so that it begins anew at its end.
    again: bool,
    /// Rows were deleted, and the log still has them; or it may have some from before a kill.
    pub(super) rows_are_in_the_log: bool,
}

/// A transaction that may leave copies of rows in its pages.
pub(in crate::sqlite) fn begin(connection: &mut Connection) -> Result<Transaction<'_>, StorageError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if mark_of(&transaction)? != UNSWEPT {
        set_mark(&transaction, UNSWEPT)?;
    }
    Ok(transaction)
}

/// The mark as it is in the file and its log together.
fn mark_of(connection: &Connection) -> Result<i64, StorageError> {
    Ok(connection.prepare_cached("PRAGMA application_id")?.query_row([], |row| row.get(0))?)
}

fn set_mark(connection: &Connection, mark: i64) -> Result<(), StorageError> {
    Ok(connection.pragma_update(None, "application_id", mark)?)
}

impl Writer {
    /// After each commit: sweeps the log where it has grown, and moves it into the file.
    pub(super) fn look_at_the_log(&mut self) -> Result<(), StorageError> {
        let mut look = self.connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?;
        let pages: u32 = look.query_row([], |row| row.get(1))?;
        drop(look);
        // A smaller number is of a log that began anew.
        if pages.checked_sub(self.sweep.log_pages).unwrap_or(pages) < LOG_PAGES {
            return Ok(());
        }
        self.sweep_log()?;
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        Ok(())
    }

    /// Leaves nothing of deleted rows in the files; what a reader keeps is left for the next time.
    pub(in crate::sqlite) fn tidy(&mut self) -> Result<(), StorageError> {
        if self.sweep.next == Some(0) {
            self.sweep.next = Some(1);
            // So that the mark of the beginning is in the file.
            self.sweep.rows_are_in_the_log = true;
        }
        if self.sweep.rows_are_in_the_log {
            self.sweep_log()?;
            // Nobody waits for a reader.
            self.connection.busy_timeout(std::time::Duration::ZERO)?;
            let emptied = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
            self.connection.busy_timeout(BUSY_TIMEOUT)?;
            let busy: bool = emptied?;
            self.sweep.rows_are_in_the_log = busy;
        }
        match self.sweep.next {
            Some(next) if next > 0 => self.sweep_portion(next),
            _ => Ok(()),
        }
    }

    /// Wipes the gaps of the pages in the log that were not swept yet.
    pub(super) fn sweep_log(&mut self) -> Result<(), StorageError> {
        let log = beside(&self.real, LOG);
        let failed = |error: io::Error| StorageError::Failed(format!("failed to read {}: {error}", log.display()));
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // From here on nobody adds to the log or begins another one.
        let Unswept { pages, is_another_log } = self.sweep.unswept(&log).map_err(failed)?;
        wipe(&transaction, &pages)?;
        // Of a log that began anew, all of the one before is in the file, with its mark.
        if is_another_log && !head_of(&self.real).is_some_and(|head| [SWEPT, BEGUN].contains(&head.mark)) {
            self.sweep.others_moved_pages();
        }
        let mark = match self.sweep.next {
            None => SWEPT,
            Some(0) => UNSWEPT,
            Some(_) => BEGUN,
        };
        if mark_of(&transaction)? != mark {
            set_mark(&transaction, mark)?;
        }
        Ok(transaction.commit()?)
    }

    /// Wipes the gaps of the next pages of the file. After its last one the mark is that of a file that was swept.
    fn sweep_portion(&mut self, next: u32) -> Result<(), StorageError> {
        let count: u32 = self.connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let end = next.saturating_add(PORTION).min(count.saturating_add(1));
        let pages: Vec<u32> = {
            let mut read = self.connection.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
            let mut is_dirty = |number: u32| -> rusqlite::Result<bool> {
                read.query_row([number], |row| Ok(dirty_gap(number, row.get_ref(0)?.as_blob()?).is_some()))
            };
            let mut pages = Vec::new();
            for number in next..end {
                if is_dirty(number)? {
                    pages.push(number);
                }
            }
            pages
        };
        if !pages.is_empty() {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            wipe(&transaction, &pages)?;
            transaction.commit()?;
        }
        let is_last = end > count;
        self.sweep.next = match is_last {
            false => Some(end),
            true => std::mem::take(&mut self.sweep.again).then_some(1),
        };
        // What was there is in the log until that is emptied, and so is the mark.
        self.sweep.rows_are_in_the_log |= is_last || !pages.is_empty();
        Ok(())
    }
}

/// Wipes the gaps of these pages.
fn wipe(transaction: &Transaction<'_>, pages: &[u32]) -> Result<(), StorageError> {
    for number in pages {
        let mut read = transaction.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
        let page: Option<Vec<u8>> = read.query_row([number], |row| row.get(0)).optional()?;
        let Some(mut page) = page else { continue };
        if let Some(gap) = dirty_gap(*number, &page) {
            page[gap].fill(0);
            let mut write = transaction.prepare_cached("UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1")?;
            write.execute((number, page))?;
        }
    }
    Ok(())
}

/// What a log has that was not swept.
struct Unswept {
    /// The pages whose newest state has a gap that is not empty.
    pages: Vec<u32>,
    /// Whether it is another log than at the last sweep.
    is_another_log: bool,
}

impl Sweep {
    /// Of this file, as it is opened.
    pub(super) fn of(connection: &Connection, real: &Path) -> Result<Self, StorageError> {
        // By hand, when its pages are swept.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        let is_swept = head_of(real).is_some_and(|head| head.mark == SWEPT);
        Ok(Self { next: (!is_swept).then_some(0), rows_are_in_the_log: true, ..Self::default() })
    }

    fn others_moved_pages(&mut self) {
        match self.next {
            None => self.next = Some(0),
            Some(0) => {}
            Some(_) => self.again = true,
        }
    }

    /// What the log has that was not swept. From then on it counts as swept.
    fn unswept(&mut self, log: &Path) -> io::Result<Unswept> {
        // SQLite has no lock on the log that a closing could drop.
        let file = File::open(log)?;
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        let mut head = [0; LOG_HEAD];
        if length >= LOG_HEAD {
            file.read_exact_at(&mut head, 0)?;
        }
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number: u32, byte| number << 8 | u32::from(*byte));
        let (size, salts) = (number(&head[8..12]) as usize, &head[16..24]);
        // Of one that is empty it cannot be told what it was.
        let is_another_log = self.log != *salts || length < LOG_HEAD;
        if is_another_log {
            self.log.copy_from_slice(salts);
            self.log_pages = 0;
        }
        let (mut found, mut uncommitted, mut at) = (BTreeMap::new(), BTreeMap::new(), self.log_pages);
        let mut frame = vec![0; FRAME_HEAD + size];
        loop {
            let offset = LOG_HEAD + at as usize * frame.len();
            if offset + frame.len() > length {
                break;
            }
            file.read_exact_at(&mut frame, offset as u64)?;
            // What follows is of a log before this one.
            if frame[8..16] != *salts {
                break;
            }
            let page = number(&frame[..4]);
            uncommitted.insert(page, dirty_gap(page, &frame[FRAME_HEAD..]).is_some());
            at += 1;
            // The last page of a commit tells how many the file then has.
            if number(&frame[4..8]) > 0 {
                found.append(&mut uncommitted);
                self.log_pages = at;
            }
        }
        let pages = found.into_iter().filter_map(|(page, is_dirty)| is_dirty.then_some(page)).collect();
        Ok(Unswept { pages, is_another_log })
    }
}

/// Where the page has bytes between its cell pointers and its cells that are not zero. `None` where it has none, or is
/// no page of a table or index.
fn dirty_gap(number: u32, page: &[u8]) -> Option<std::ops::Range<usize>> {
    let head = if number == 1 { FILE_HEAD } else { 0 };
    let pair = |at: usize| Some(usize::from(u16::from_be_bytes([*page.get(at)?, *page.get(at + 1)?])));
    let pointers = match page.get(head)? {
        2 | 5 => head + 12,
        10 | 13 => head + 8,
        _ => return None,
    };
    let begin = pointers + 2 * pair(head + 3)?;
    // Of a page of 64 KiB that has no cells it is written as zero.
    let end = match pair(head + 5)? {
        0 => page.len(),
        end => end,
    };
    page.get(begin..end)?.iter().any(|byte| *byte != 0).then_some(begin..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_that_holds_anything_is_told_from_one_that_is_empty_and_from_a_page_of_another_kind() {
        let mut page = vec![0; 512];
        page[0] = 13;
        page[4] = 1;
        page[5..7].copy_from_slice(&500_u16.to_be_bytes());
        page[8..10].copy_from_slice(&500_u16.to_be_bytes());
        page[500..].fill(7);
        assert_eq!(dirty_gap(2, &page), None);
        page[499] = 1;
        assert_eq!(dirty_gap(2, &page), Some(10..500));
        page[0] = 0;
        assert_eq!(dirty_gap(2, &page), None, "a free page");
        assert_eq!(dirty_gap(2, &[13]), None);
    }
}
