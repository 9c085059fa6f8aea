//! The directory that a web server shows.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Published, page};

/// The JSON Schema of `numbers.json`.
pub(super) const SCHEMA: &str = include_str!("../../../../config/numbers.schema.json");

/// Why the directory was not written.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No whole day has been counted.
    #[error("nothing to publish yet: a day is counted when it is over, from the second day with pings on")]
    Nothing,
    /// A file cannot be written.
    #[error("failed to write {path}: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// Writes the site. Each file appears complete or not at all; those of other programs stay as they are.
///
/// # Errors
/// Nothing was published yet, or a file cannot be written.
pub fn write(published: &Published, dir: &Path) -> Result<(), PublishError> {
    let Some(numbers) = published.to_file() else { return Err(PublishError::Nothing) };
    let days = dir.join("days");
    for path in [dir, &days] {
        make(path).map_err(|error| PublishError::Io { path: path.to_owned(), error })?;
    }
    for day in &published.days {
        put_json(&days.join(format!("{}.json", day.day)), day)?;
    }
    put(&dir.join("numbers.schema.json"), SCHEMA)?;
    put_json(&dir.join("numbers.json"), &numbers)?;
    put(&dir.join("index.html"), &page(published).into_string())
}

/// Makes a directory that a web server can read, whatever this process's umask is, where there is none.
fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

fn put_json(path: &Path, value: &impl serde::Serialize) -> Result<(), PublishError> {
    let json = serde_json::to_string_pretty(value);
    let json = json.map_err(|error| PublishError::Io { path: path.to_owned(), error: error.into() })?;
    put(path, &(json + "\n"))
}

/// Makes the file hold this text, where it does not.
fn put(path: &Path, text: &str) -> Result<(), PublishError> {
    let is_file = fs::symlink_metadata(path).is_ok_and(|there| there.is_file());
    if is_file && fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    let temporary = path.with_extension("new");
    let written = || {
        // What another user put there, such as a link, is neither followed nor written.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::create_new(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    written().map_err(|error| PublishError::Io { path: path.to_owned(), error })
}
