//! The bytes of a file, in pieces that copies share: a ledger is copied at every pruning, and by every step of a
//! search.

use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// Each piece, and where it ends.
    pieces: Vec<(u64, Arc<Vec<u8>>)>,
}

/// A piece does not grow beyond this.
const PIECE: usize = 8 * 1024;

impl Content {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.append(bytes);
        content
    }

    pub(super) fn len(&self) -> u64 {
        self.pieces.last().map_or(0, |(end, _)| *end)
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let length = self.len() + bytes.len() as u64;
        if let Some((end, piece)) = self.pieces.last_mut()
            && piece.len() + bytes.len() <= PIECE
            && let Some(piece) = Arc::get_mut(piece)
        {
            piece.extend_from_slice(bytes);
            *end = length;
        } else {
            self.pieces.push((length, Arc::new(bytes.to_vec())));
        }
    }

    pub(super) fn write_at(&mut self, bytes: &[u8], offset: u64) {
        if offset == self.len() {
            return self.append(bytes);
        }
        let rest = self.read_from(offset + bytes.len() as u64);
        self.truncate(offset);
        self.append(bytes);
        self.append(&rest);
    }

    pub(super) fn truncate(&mut self, length: u64) {
        while let Some((end, piece)) = self.pieces.pop_if(|(end, _)| *end > length) {
            let begin = end - piece.len() as u64;
            if begin < length {
                self.pieces.push((length, Arc::new(piece[..(length - begin) as usize].to_vec())));
            }
        }
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> usize {
        let mut done = 0;
        let first = self.pieces.partition_point(|(end, _)| *end <= offset);
        for (end, piece) in &self.pieces[first..] {
            let from = (offset + done as u64 - (end - piece.len() as u64)) as usize;
            let length = (piece.len() - from).min(buffer.len() - done);
            buffer[done..done + length].copy_from_slice(&piece[from..from + length]);
            done += length;
            if done == buffer.len() {
                break;
            }
        }
        done
    }

    pub(super) fn read_from(&self, offset: u64) -> Vec<u8> {
        self.read(offset, self.len())
    }

    /// What stands between the two places.
    pub(super) fn read(&self, from: u64, to: u64) -> Vec<u8> {
        let mut bytes = vec![0; to.saturating_sub(from) as usize];
        self.read_at(&mut bytes, from);
        bytes
    }

    pub(super) fn begins_with(&self, bytes: &[u8]) -> bool {
        match &self.pieces[..] {
            [(_, piece)] => piece.starts_with(bytes),
            _ => self.read(0, self.len()).starts_with(bytes),
        }
    }

    /// At most `length` bytes from `offset` on.
    pub(super) fn slice(&self, offset: u64, length: u64) -> Self {
        let first = self.pieces.partition_point(|(end, _)| *end <= offset);
        let mut content = Self::default();
        for (end, piece) in &self.pieces[first..] {
            let begin = end - piece.len() as u64;
            if begin >= offset && *end <= offset + length {
                content.pieces.push((end - offset, Arc::clone(piece)));
            } else if begin < offset + length {
                let from = offset.saturating_sub(begin) as usize;
                let to = (offset + length - begin).min(piece.len() as u64) as usize;
                content.append(&piece[from..to]);
            }
        }
        content
    }
}
