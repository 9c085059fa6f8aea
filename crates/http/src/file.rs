//! Files that a configuration names: however large one is, or silent, a start is not held up by it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};

/// How long a pipe is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads a file of at most `most` bytes.
///
/// # Errors
/// It cannot be read, has more, or is a pipe to which nobody writes.
pub fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Otherwise a pipe is not even opened before somebody writes.
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?;
    let mut bytes = Vec::new();
    Awaited(file.into()).take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {most} bytes")));
    }
    Ok(bytes)
}

/// A file of which each part is waited for, and not for ever.
struct Awaited(File);

impl Read for Awaited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        if poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&limit))? == 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("nobody writes to it for {PATIENCE:?}")));
        }
        self.0.read(buffer)
    }
}
