//! Takes up the ledger that is on the disk, and finds out what of it is missing.

use std::collections::VecDeque;
use std::io::{self, BufReader};

use jiff::Timestamp;
use pulse_telemetry_core::engine::EntryKind;
use pulse_telemetry_core::ledger::{Line, Piece, kind_of, seq_of, sha256};
use pulse_telemetry_core::ping::Event;
use pulse_telemetry_core::reason::LedgerReason;

use super::super::files::{Dir, LEDGER, durable};
use super::super::fs::{At, FsFile, is_unusable};
use super::super::state_file::Head;
use super::Ledger;
use super::reading::{Lines, LinesBackwards};

/// Entries that were known and are not there.
#[derive(Clone, Debug)]
pub(super) struct Loss {
    /// Why: missing, replaced, truncated or damaged.
    reason: LedgerReason,
    /// The last entry that was known.
    pub(super) known: Option<Head>,
}

/// What a look at the file tells, from its end as far back as is needed.
#[derive(Default)]
struct Scan {
    /// Where the last whole line ends.
    whole: u64,
    is_torn: bool,
    /// The last whole line.
    last: Option<Vec<u8>>,
    first_seq: Option<u64>,
    /// What was attempted last, where nothing closed it.
    attempt: Option<Option<Event>>,
    /// When a ping was last delivered.
    delivered: Option<Timestamp>,
    /// What the last `pruned` line tells: the last line that was pruned, and its hash.
    pruned: Option<Option<(u64, String)>>,
    /// The entry that was known is there, or a line says why it is not.
    has_known: bool,
}

impl Ledger {
    /// Opens the ledger, and says which attempt nothing closed. `known` is its last entry, as far as it is known from
    /// elsewhere. A last line that a crash tore is cut off and kept beside; a ledger whose last whole line cannot be
    /// read is put aside as a whole; a pruning that a crash cut short is finished.
    pub(in super::super) fn open(
        dir: &Dir,
        known: Option<Head>,
        notices: &mut Vec<String>,
    ) -> io::Result<(Self, Option<Event>)> {
        let was_there = dir.look_at(LEDGER.name)?.is_some();
        let mut file = dir.open_or_create(LEDGER)?;
        let mut scan = Scan::of(&*file, known.as_ref())?;
        let last = scan.last.as_deref().and_then(Line::parse).filter(|line| line.seq < u64::MAX);
        let goes_on = || known.clone().map_or((0, String::new()), |head| (head.seq, head.hash));
        let (mut reason, (seq, prev)) = match (&scan.last, last) {
            (None, _) => (None, goes_on()),
            (Some(bytes), Some(line)) => (None, (line.seq, sha256(bytes))),
            (Some(_), None) => {
                notices.push(dir.put_aside(LEDGER)?);
                file = dir.open_or_create(LEDGER)?;
                scan = Scan::default();
                (Some(LedgerReason::Damaged), goes_on())
            }
        };
        if known.is_some() && !scan.has_known {
            reason.get_or_insert(if was_there { LedgerReason::Replaced } else { LedgerReason::Missing });
        }
        if scan.is_torn {
            let beside = keep_torn(dir, &*file, scan.whole)?;
            file.set_len(scan.whole)?;
            durable(file.sync_all())?;
            let path = dir.path().join(LEDGER.name);
            notices.push(format!(
                "The last line of {} was torn by a crash; it was cut off and is kept in {beside}.",
                path.display()
            ));
        }
        let mut ledger = Self {
            dir: dir.clone(),
            id: file.stat()?.id,
            file,
            named: false,
            length: scan.whole,
            untidy: false,
            seq,
            prev,
            delivered: scan.delivered,
            loss: reason.map(|reason| Loss { reason, known }),
            pruned_to: None,
            owed: VecDeque::new(),
        };
        notices.extend(ledger.loss.as_ref().map(Loss::to_text));
        if let Some(Some((through, last))) = &scan.pruned
            && scan.first_seq.is_some_and(|first| first <= *through)
        {
            ledger.pruned_to = ledger.end_of(last)?;
            ledger.finish_pruning()?;
        }
        Ok((ledger, scan.attempt.flatten()))
    }

    /// Takes up what has the ledger's name now, after the open file lost it, and tells of what is missing in it.
    pub(in super::super) fn take_up(&mut self, now: Timestamp, notices: &mut Vec<String>) -> io::Result<()> {
        let found = self.dir.look_at(LEDGER.name)?;
        let is_cut = found.is_some_and(|found| found.id == self.id && found.size < self.length);
        if let Err(error) = self.dir.open_to_read(LEDGER)
            && is_unusable(&error)
        {
            // It is not even read.
            notices.push(self.dir.clear_away(LEDGER, error)?);
        }
        let (mut ledger, _) = Self::open(&self.dir, self.head(), notices)?;
        if let (true, Some(loss)) = (is_cut, &mut ledger.loss) {
            loss.reason = LedgerReason::Truncated;
        }
        ledger.owed = std::mem::take(&mut self.owed);
        *self = ledger;
        self.tell_of_loss(now)
    }

    /// Writes down what is missing, where that was not done yet.
    pub(super) fn tell_of_loss(&mut self, now: Timestamp) -> io::Result<()> {
        let Some(Loss { reason, known }) = self.loss.clone() else { return Ok(()) };
        let (through, last) = known.map(|head| (head.seq, head.hash)).unzip();
        let line = Line::new(EntryKind::HistoryLost, now);
        self.write_at_end(Line { reason: Some(reason.into()), through, last, ..line })?;
        self.loss = None;
        Ok(())
    }
}

impl Loss {
    fn to_text(&self) -> String {
        let reason = match self.reason {
            LedgerReason::Missing => "was missing",
            LedgerReason::Damaged => "could not be read",
            _ => "was replaced or cut short",
        };
        let known = self.known.as_ref().map(|head| format!("; its last entry was number {}", head.seq));
        format!(
            "The history {} {reason}{}. An entry says so; see who removes or restores files there.",
            LEDGER.name,
            known.unwrap_or_default()
        )
    }
}

impl Scan {
    fn of(file: &dyn FsFile, known: Option<&Head>) -> io::Result<Self> {
        let size = file.stat()?.size;
        let mut lines = LinesBackwards::new(file, size);
        let whole = lines.skip_torn()?;
        let mut scan = Self {
            whole,
            is_torn: whole < size,
            first_seq: first_seq(file)?,
            has_known: known.is_none(),
            ..Self::default()
        };
        while !scan.is_complete()
            && let Some(piece) = lines.next()?
        {
            let bytes = if let Piece::Line(bytes) = piece { bytes } else { &[] };
            scan.last.get_or_insert_with(|| bytes.to_vec());
            let may_be_known = known.is_some_and(|known| seq_of(bytes) == Some(known.seq));
            if !may_be_known && !scan.needs(kind_of(bytes)) {
                continue;
            }
            let Some(line) = Line::parse(bytes) else { continue };
            scan.has_known |= known.is_some_and(|known| scan.tells_of(&line, bytes, known));
            scan.look_at(line);
        }
        Ok(scan)
    }

    /// Nothing further back tells more.
    fn is_complete(&self) -> bool {
        self.last.is_some()
            && self.attempt.is_some()
            && self.delivered.is_some()
            && self.pruned.is_some()
            && self.has_known
    }

    /// Whether a line of that kind may tell something; `None` where only reading it can say its kind.
    fn needs(&self, kind: Option<EntryKind>) -> bool {
        match kind {
            Some(EntryKind::Attempted | EntryKind::Failed) => self.attempt.is_none(),
            Some(EntryKind::Sent) => self.attempt.is_none() || self.delivered.is_none(),
            Some(EntryKind::Pruned) => self.pruned.is_none() || !self.has_known,
            Some(EntryKind::HistoryLost | EntryKind::Erased) => !self.has_known,
            Some(_) => false,
            None => true,
        }
    }

    /// Takes what a line tells that nothing behind it told.
    fn look_at(&mut self, line: Line<'_>) {
        match line.kind {
            EntryKind::Attempted => drop(self.attempt.get_or_insert(line.event)),
            EntryKind::Sent => {
                self.attempt.get_or_insert(None);
                self.delivered.get_or_insert(line.at);
            }
            EntryKind::Failed => drop(self.attempt.get_or_insert(None)),
            EntryKind::Pruned => drop(self.pruned.get_or_insert(line.through.zip(line.last))),
            _ => {}
        }
    }

    /// Whether the line is the known one, or says why that is not there.
    fn tells_of(&self, line: &Line<'_>, bytes: &[u8], known: &Head) -> bool {
        match line.kind {
            _ if line.seq == known.seq => sha256(bytes) == known.hash,
            EntryKind::Pruned | EntryKind::HistoryLost => line.through.is_some_and(|through| through >= known.seq),
            // With everything before it, on request.
            EntryKind::Erased => self.first_seq == Some(line.seq) && line.seq > known.seq,
            _ => false,
        }
    }
}

/// The `seq` of the first line that has one.
fn first_seq(file: &dyn FsFile) -> io::Result<Option<u64>> {
    let mut lines = Lines::new(BufReader::new(At::new(file, 0)));
    while let Some(piece) = lines.next()? {
        if let Piece::Line(bytes) = piece
            && let Some(line) = Line::parse(bytes)
        {
            return Ok(Some(line.seq));
        }
    }
    Ok(None)
}

/// Copies what is behind the last whole line to a new file beside the ledger, durably, and gives its name.
fn keep_torn(dir: &Dir, file: &dyn FsFile, whole: u64) -> io::Result<String> {
    let (beside, kept) = dir.create_torn(LEDGER)?;
    kept.copy_from(file, whole, file.stat()?.size.saturating_sub(whole))?;
    durable(kept.sync_all())?;
    dir.sync()?;
    Ok(beside)
}
