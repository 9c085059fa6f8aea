//! The bytes of a file, in pieces that copies share: a ledger is copied at every pruning.

use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// Each piece, and where it ends.
    pieces: Vec<(u64, Arc<[u8]>)>,
}

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
        if !bytes.is_empty() {
            self.pieces.push((self.len() + bytes.len() as u64, bytes.into()));
        }
    }

    pub(super) fn truncate(&mut self, length: u64) {
        while let Some((end, piece)) = self.pieces.pop_if(|(end, _)| *end > length) {
            let begin = end - piece.len() as u64;
            if begin < length {
                self.pieces.push((length, piece[..(length - begin) as usize].into()));
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
        let mut bytes = vec![0; self.len().saturating_sub(offset) as usize];
        self.read_at(&mut bytes, offset);
        bytes
    }

    /// So many bytes from that place on, as far as they are there.
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
