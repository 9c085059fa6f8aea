//! Standard output of a command, which may be a pipe that nobody reads any more.

use std::io::{self, ErrorKind, Write};

/// Takes all that a command says, and passes it on for as long as that works: a command goes on to what it finds, and
/// its exit code, whether or not somebody reads.
pub struct Output<'a> {
    out: &'a mut dyn Write,
    failure: Option<io::Error>,
}

impl<'a> Output<'a> {
    /// Of what is written there.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, failure: None }
    }

    /// Passes on what still waits, and gives the first failure. A closed pipe is none: who reads has read enough.
    pub fn finish(mut self) -> Option<io::Error> {
        // It keeps its own failure.
        let _ = self.flush();
        self.failure.filter(|error| error.kind() != ErrorKind::BrokenPipe)
    }

    fn pass_on(&mut self, act: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        if self.failure.is_none() {
            self.failure = act(self.out).err();
        }
    }
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pass_on(|out| out.write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass_on(|out| out.flush());
        Ok(())
    }
}
