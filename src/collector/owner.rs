//! Root's work in a directory of somebody else: done with the rights of that directory's owner.
//!
//! So nothing is made there that the collector, which runs as that user, could not open, and no link that the user left
//! there makes root overwrite or give away another file.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::{Gid, Uid, geteuid, getgroups};
use rustix::thread::{
    CapabilitySet, capabilities, set_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

/// Does something with the files in the directory of `file`, as the owner of that directory where this process is root and
/// may take on somebody else's rights.
pub(super) fn as_owner<T>(file: &Path, work: impl FnOnce() -> T) -> T {
    let directory = file.parent().and_then(|directory| fs::metadata(directory).ok());
    let _acting = directory
        .filter(|directory| geteuid().is_root() && directory.uid() != 0)
        .and_then(|directory| Acting::begin(Uid::from_raw(directory.uid()), Gid::from_raw(directory.gid())));
    work()
}

/// The rights of somebody else, for this thread, until it is dropped.
struct Acting {
    group: Gid,
    groups: Vec<Gid>,
}

impl Acting {
    /// None where root is not allowed this, as in some containers.
    fn begin(owner: Uid, group: Gid) -> Option<Self> {
        let acting = Self { group: rustix::process::getegid(), groups: getgroups().ok()? };
        set_thread_groups(&[]).ok()?;
        let done = set_thread_res_gid(None, group, None).and_then(|()| set_thread_res_uid(None, owner, Uid::ROOT));
        if done.is_err() {
            return None;
        }
        // Directories above it may be closed to their user, as /var/lib/private is, where systemd keeps the state of a unit
        // with a user of its own. The right to pass them lets nothing be written.
        if let Ok(mut sets) = capabilities(None) {
            sets.effective |= sets.permitted & CapabilitySet::DAC_READ_SEARCH;
            let _ = set_capabilities(None, sets);
        }
        Some(acting)
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        // The saved user is root still, so none of these can fail; where one did, this goes on with fewer rights.
        let _ = set_thread_res_uid(None, Uid::ROOT, None);
        let _ = set_thread_res_gid(None, self.group, None);
        let _ = set_thread_groups(&self.groups);
    }
}
