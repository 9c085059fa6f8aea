//! Wipes what SQLite leaves of rows that were deleted.
//!
//! `secure_delete` overwrites a row where it is deleted. But where SQLite moves rows between pages it may leave copies
//! behind, between the cell pointers of a page and its cells, and a copy stays when its row goes. So before a page
//! passes from the write-ahead log into the file, that gap is wiped, and what is in the file from before is wiped in
//! portions.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::super::files::{LOG, beside};
use super::super::schema::BUSY_TIMEOUT;
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

/// Stands in the file's head (`application_id`) when all of it was swept once.
const SWEPT: i64 = 0x7075_6c01;

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
    /// The next page of the file, which was not yet swept as a whole.
    next: Option<u32>,
    /// Rows were deleted, and the log still has them; or it may have some from before a kill.
    pub(super) rows_are_in_the_log: bool,
}

impl Sweep {
    /// Of this file, as it is opened.
    pub(super) fn of(connection: &Connection, is_new: bool) -> Result<Self, StorageError> {
        // By hand, when its pages are swept.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        if is_new {
            connection.pragma_update(None, "application_id", SWEPT)?;
        }
        let mark: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        Ok(Self { next: (mark != SWEPT).then_some(1), rows_are_in_the_log: true, ..Self::default() })
    }
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
        if let Some(next) = self.sweep.next {
            self.sweep_portion(next)?;
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
        Ok(())
    }

    /// Wipes the gaps of the pages in the log that were not swept yet.
    pub(super) fn sweep_log(&mut self) -> Result<(), StorageError> {
        let log = beside(&self.real, LOG);
        let failed = |error: io::Error| StorageError::Failed(format!("failed to read {}: {error}", log.display()));
        let Some((pages, end)) = self.sweep.unswept(&log).map_err(failed)? else { return Ok(()) };
        self.wipe(&pages)?;
        // The pages that were just written are clean.
        self.sweep.log_pages = end + u32::try_from(pages.len()).unwrap_or(u32::MAX);
        Ok(())
    }

    /// Wipes the gaps of the next pages of the file; at its end it is marked as swept.
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
        self.wipe(&pages)?;
        if end > count {
            self.connection.pragma_update(None, "application_id", SWEPT)?;
        }
        self.sweep.next = (end <= count).then_some(end);
        // What was there is in the log until that is emptied.
        self.sweep.rows_are_in_the_log |= !pages.is_empty();
        Ok(())
    }

    fn wipe(&mut self, pages: &[u32]) -> Result<(), StorageError> {
        if pages.is_empty() {
            return Ok(());
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
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
        transaction.commit()?;
        Ok(())
    }
}

impl Sweep {
    /// The pages of the log whose newest state has a gap that is not empty, and how many pages the log has.
    fn unswept(&mut self, log: &std::path::Path) -> io::Result<Option<(Vec<u32>, u32)>> {
        let file = File::open(log)?;
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        if length < LOG_HEAD {
            return Ok(None);
        }
        let mut head = [0; LOG_HEAD];
        file.read_exact_at(&mut head, 0)?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number: u32, byte| number << 8 | u32::from(*byte));
        let (size, salts) = (number(&head[8..12]) as usize, &head[16..24]);
        if self.log != *salts {
            self.log.copy_from_slice(salts);
            self.log_pages = 0;
        }
        let (mut found, mut at) = (BTreeMap::new(), self.log_pages);
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
            found.insert(page, dirty_gap(page, &frame[FRAME_HEAD..]).is_some());
            at += 1;
        }
        Ok(Some((found.into_iter().filter_map(|(page, is_dirty)| is_dirty.then_some(page)).collect(), at)))
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
