//! The one runtime of both programs, which ends when what it ran has ended.

use std::future::Future;
use std::io;

use tokio::runtime::Builder;

/// Runs this to its end on this thread, and waits for nothing else. A lookup of a name that is under way cannot be
/// called back and takes a minute where no name server answers; a runtime that is merely dropped waits for it. The
/// thread that looks up ends with the process.
///
/// What must be on the disk before that is waited for in `future`.
///
/// # Errors
/// The system gives no runtime.
pub fn run<F: Future>(future: F) -> io::Result<F::Output> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let output = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(output)
}
