//! Files of secrets that everybody on this machine can read or change.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::process::geteuid;

use super::{Environment, TokenFile};

/// The bits of a mode that let everybody read or write.
const FOR_ALL: u32 = 0o006;

/// A file that holds a secret, and the key that names it.
pub struct SecretFile<'a> {
    /// The key.
    pub key: &'a str,
    /// Where the key's value comes from, where that is told.
    pub origin: Option<&'a str>,
    /// Where the file lies.
    pub path: &'a Path,
}

impl<'a> From<&'a TokenFile> for SecretFile<'a> {
    fn from(file: &'a TokenFile) -> Self {
        Self { key: &file.key, origin: Some(&file.origin), path: &file.path }
    }
}

/// Where systemd puts this unit's credentials.
pub fn credentials_directory(env: &Environment) -> Option<PathBuf> {
    env.get_filled("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// A sentence for each file that everybody can read or change: which, and what ends it.
///
/// Not for systemd's credentials, which lie in a directory of the unit's own, nor for what is mounted read-only:
/// secrets that an orchestrator mounts are readable for all inside of a container that has one user. It mounts a file
/// system of their own; a unit that makes the machine's own read-only leaves them readable for everybody on it.
pub fn exposed<'a>(files: impl Iterator<Item = SecretFile<'a>>, credentials: Option<&Path>) -> Vec<String> {
    let is_credential = |path: &Path| credentials.is_some_and(|directory| path.starts_with(directory));
    files.filter(|file| !is_credential(file.path)).filter_map(|file| exposure(&file)).collect()
}

fn exposure(SecretFile { key, origin, path }: &SecretFile<'_>) -> Option<String> {
    // A file that cannot be looked at cannot be read either, and its reader says so.
    let found = fs::metadata(path).ok()?;
    let mode = found.permissions().mode() & 0o7777;
    let is_read_only = statvfs(*path).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY));
    let is_mounted = fs::metadata("/").is_ok_and(|root| root.dev() != found.dev());
    if mode & FOR_ALL == 0 || (is_read_only && is_mounted) {
        return None;
    }
    let can = match mode & FOR_ALL {
        0o004 => "read",
        0o002 => "change",
        _ => "read and change",
    };
    let (shown, user) = (path.display(), geteuid());
    let remedy = if user.is_root() || found.uid() == user.as_raw() {
        format!("chmod 600 {shown}")
    } else {
        format!("chown {} {shown} && chmod 600 {shown}", user.as_raw())
    };
    let origin = origin.map(|origin| format!(" from {origin}")).unwrap_or_default();
    Some(format!("{key}: {shown}{origin}: everybody on this machine can {can} it (mode {mode:04o}): {remedy}"))
}
