//! Root's work in a directory of somebody else, done with the rights of that directory's owner, who is the daemon's
//! user.
//!
//! So nothing is made there that the daemon could not use, and nothing that the user left there makes root read,
//! overwrite or give away what only root may touch.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::{Gid, Uid, getegid, geteuid, getgroups, getuid};
use rustix::thread::{
    CapabilitySet, capabilities, set_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

/// Does something in a directory, as its owner where this process is root and may take on somebody else's rights.
pub fn as_owner<T>(dir: &Path, work: impl FnOnce() -> T) -> T {
    let owner = fs::metadata(dir).ok().filter(|dir| geteuid().is_root() && dir.uid() != 0);
    let _acting = owner.and_then(|dir| Acting::begin(Uid::from_raw(dir.uid()), Gid::from_raw(dir.gid())));
    work()
}

/// Whether the user whose rights are acted with may read that file. The right to pass closed directories, which is kept
/// with them, would let it be read in any case.
pub fn may_read(file: &Metadata) -> bool {
    let is_acting = getuid().is_root() && !geteuid().is_root();
    let own = file.uid() == geteuid().as_raw() && file.mode() & 0o400 != 0;
    let groups = file.gid() == getegid().as_raw() && file.mode() & 0o040 != 0;
    !is_acting || own || groups || file.mode() & 0o004 != 0
}

/// The rights of somebody else, for this thread, until it is dropped.
struct Acting {
    group: Gid,
    groups: Vec<Gid>,
}

impl Acting {
    /// None where root is not allowed this, as in some containers.
    fn begin(owner: Uid, group: Gid) -> Option<Self> {
        let acting = Self { group: getegid(), groups: getgroups().ok()? };
        set_thread_groups(&[]).ok()?;
        let done = set_thread_res_gid(None, group, None).and_then(|()| set_thread_res_uid(None, owner, Uid::ROOT));
        if done.is_err() {
            return None;
        }
        // Directories above it may be closed to their user, as /var/lib/private is, where systemd keeps the state of a
        // unit with a user of its own. The right to pass them lets nothing be written.
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
