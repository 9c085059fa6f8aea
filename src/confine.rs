//! The program's own confinement: what it can still touch once everything that it needs is open, kept by the kernel.
//!
//! [`Allowed`] says what that is, by the configuration alone. [`confine`] asks the kernel for it (Landlock, and no new
//! privileges), and [`Confinement`] tells what is in force: a kernel that has a part of it only keeps that part, and
//! one that has none of it costs nothing but a line in the log.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, NetPort, PathBeneath, PathFd, PathFdError, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};
use serde::{Deserialize, Serialize};

/// DNS over TCP, for an answer that does not fit into a datagram.
const DNS: u16 = 53;

/// Where the resolvers' file may come to lie when it is made by another program than now, such as a VPN's.
const RESOLVER_DIRS: [&str; 3] = ["/run/systemd/resolve", "/run/resolvconf", "/run/connman"];

/// Another one, which holds passwords as well that only root can read.
const NETWORK_MANAGER: &str = "/run/NetworkManager";

/// What a name lookup reads in `/etc`; the first one names the resolvers.
const LOOKUP_FILES: [&str; 7] =
    ["resolv.conf", "hosts", "host.conf", "nsswitch.conf", "gai.conf", "services", "ld.so.cache"];

/// Where the modules lie that a name lookup of glibc loads; musl has none.
const LOOKUP_MODULES: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];

/// Where randomness comes from in a program that was linked statically with glibc, which does not find the system call.
const RANDOM: [&str; 2] = ["/dev/random", "/dev/urandom"];

/// What the program can still touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The directory in which files are read, made, written, renamed and removed.
    pub written: PathBuf,
    /// What can be read: files, and directories with all below.
    pub read: Vec<PathBuf>,
    /// The directory in which a Unix socket can be made, until nothing may listen any more, and removed.
    pub socket_dir: Option<PathBuf>,
    /// The TCP ports that connections can be made to.
    pub ports: BTreeSet<u16>,
}

impl Allowed {
    /// For a program that keeps its state in this directory, and connects to these ports and to its resolvers. What
    /// else it needs has been opened and read.
    ///
    /// A lookup must find `/etc/hosts` and `/etc/resolv.conf` also after somebody put new files in their place, so of
    /// `/etc` everything can be read that the program's user can read. As root that would be too much: there it is
    /// those files themselves, and a new one is found at the next start. Where one of them is a link, what it leads to
    /// can be read; what it leads to later is found at the next start.
    #[must_use]
    pub fn new(state_dir: &Path, ports: impl IntoIterator<Item = u16>, lookups: &Lookups, root: bool) -> Self {
        let mut read = if root {
            LOOKUP_FILES.iter().map(|file| Path::new("/etc").join(file)).collect()
        } else {
            vec![PathBuf::from("/etc"), PathBuf::from(NETWORK_MANAGER)]
        };
        let resolver_dir = lookups.resolver_dir.as_ref();
        read.extend(resolver_dir.filter(|dir| !dir.starts_with("/etc") && dir.components().count() > 2).cloned());
        read.extend(lookups.files.iter().filter(|file| root || !file.starts_with("/etc")).cloned());
        read.extend(RESOLVER_DIRS.map(PathBuf::from));
        read.extend(RANDOM.map(PathBuf::from));
        if cfg!(target_env = "gnu") {
            read.extend(LOOKUP_MODULES.map(PathBuf::from));
        }
        let ports = ports.into_iter().chain([DNS]).collect();
        Self { written: state_dir.to_owned(), read, socket_dir: None, ports }
    }

    /// With the file of that Unix socket, which is made after the confinement and removed at the end.
    #[must_use]
    pub fn with_socket(self, socket: &Path) -> Self {
        Self { socket_dir: socket.parent().map(Path::to_owned), ..self }
    }
}

/// Where the files that a name lookup reads really lie, links followed, when it was looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookups {
    /// The directory of the resolvers' file; where its link leads to nothing yet, as before the network is up, the
    /// nearest one that is there on the way.
    pub resolver_dir: Option<PathBuf>,
    /// What links lead to.
    pub files: Vec<PathBuf>,
    /// Links that lead to nothing that could be allowed, a sentence each.
    pub unreadable: Vec<String>,
}

impl Lookups {
    /// Follows the links in this directory, which is `/etc`.
    #[must_use]
    pub fn look(etc: &Path) -> Self {
        let mut lookups = Self { resolver_dir: dir_of(&etc.join(LOOKUP_FILES[0])), ..Self::default() };
        for name in LOOKUP_FILES {
            let link = etc.join(name);
            let Ok(target) = fs::read_link(&link) else { continue };
            match fs::canonicalize(&link).and_then(|file| Ok((fs::metadata(&file)?.is_file(), file))) {
                Ok((true, file)) => lookups.files.push(file),
                Ok((false, file)) => lookups.unreadable.push(format!(
                    "{} leads to {}, which is no file: name lookups go without it",
                    link.display(),
                    file.display()
                )),
                // The network makes the resolvers' file when it is up.
                Err(_) if name == LOOKUP_FILES[0] && lookups.resolver_dir.is_some() => {}
                Err(error) => lookups.unreadable.push(format!(
                    "{} leads to {}, which cannot be read ({error}): name lookups go without it until the next start",
                    link.display(),
                    target.display()
                )),
            }
        }
        lookups
    }
}

fn dir_of(link: &Path) -> Option<PathBuf> {
    let file = match fs::canonicalize(link) {
        Ok(file) => file,
        Err(_) => link.parent()?.join(fs::read_link(link).ok()?),
    };
    file.parent()?.ancestors().find_map(|dir| fs::canonicalize(dir).ok())
}

/// How much of what was asked for the kernel's Landlock keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// All of it.
    Fully,
    /// What an older kernel knows.
    Partly,
    /// Nothing.
    None,
}

impl From<RulesetStatus> for Extent {
    fn from(status: RulesetStatus) -> Self {
        match status {
            RulesetStatus::FullyEnforced => Self::Fully,
            RulesetStatus::PartiallyEnforced => Self::Partly,
            RulesetStatus::NotEnforced => Self::None,
        }
    }
}

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// No program that this one starts can gain rights by being started.
    pub no_new_privileges: bool,
    /// Files are written in the state directory only, and read only there, where a name lookup reads, and of the random
    /// source; connections are made to those ports only; other processes get no signal from this one, and no connection
    /// to their abstract Unix sockets.
    pub landlock: Extent,
    /// The only TCP ports that connections can be made to; null where the kernel does not keep all of it.
    pub outgoing_ports: Option<Vec<u16>>,
}

impl Confinement {
    fn new(allowed: &Allowed, landlock: Extent, no_new_privileges: bool) -> Self {
        let outgoing_ports = (landlock == Extent::Fully).then(|| allowed.ports.iter().copied().collect());
        Self { no_new_privileges, landlock, outgoing_ports }
    }

    /// What is in force, a few words each.
    #[must_use]
    pub fn in_force(&self) -> Vec<String> {
        let mut parts: Vec<String> = match self.landlock {
            Extent::Fully => {
                let ports: Vec<_> = self.outgoing_ports.iter().flatten().map(u16::to_string).collect();
                vec![
                    "writes to the state directory only".to_owned(),
                    format!("connects to the TCP ports {} only", ports.join(", ")),
                    "no signal and no abstract socket to other processes".to_owned(),
                ]
            }
            Extent::Partly => vec!["makes, removes and opens files for writing in the state directory only".to_owned()],
            Extent::None => Vec::new(),
        };
        parts.extend(self.no_new_privileges.then(|| "no new privileges".to_owned()));
        parts
    }

    /// What is not in force, and why.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let landlock = match self.landlock {
            Extent::Fully => None,
            Extent::Partly => Some(
                "what is newer than this kernel's Landlock (truncating files Linux 6.2, outgoing ports 6.7, device \
                 files 6.10, other processes 6.12)",
            ),
            Extent::None => Some("files, ports and processes (Landlock, which can also be switched off or filtered)"),
        };
        let privileges = (!self.no_new_privileges).then_some("no new privileges (the kernel refused)");
        [landlock, privileges].into_iter().flatten().collect()
    }

    /// For people: what is in force and what is not, in one sentence or two.
    #[must_use]
    pub fn to_text(&self) -> String {
        let in_force = match self.in_force() {
            parts if parts.is_empty() => "nothing is in force".to_owned(),
            parts => parts.join("; "),
        };
        match self.missing() {
            missing if missing.is_empty() => in_force,
            missing => format!("{in_force}. Not in force here: {}", missing.join("; ")),
        }
    }
}

/// Confines the calling thread, and every thread that it starts from now on, to `allowed`, as far as the kernel can,
/// and logs what it cannot. To be called while there is one thread, and before anything of the state directory is
/// opened. What still listens then has to be bound before [`listen_no_more`].
pub fn confine(allowed: &Allowed) -> Confinement {
    let confinement = match restrict_to(allowed) {
        Ok(status) => Confinement::new(allowed, status.ruleset.into(), status.no_new_privs),
        Err(error) => {
            tracing::warn!(%error, "failed to confine this program");
            Confinement::new(allowed, Extent::None, false)
        }
    };
    let in_force = confinement.in_force();
    if !in_force.is_empty() {
        tracing::info!("confined by the kernel: {}", in_force.join("; "));
    }
    for missing in confinement.missing() {
        tracing::warn!("not confined by this kernel: {missing}");
    }
    confinement
}

/// Ends that the calling thread, and every thread that it starts from now on, can listen anywhere new, as far as the
/// kernel can end it. What it can do apart from that has been told.
pub fn listen_no_more() {
    let ports = Ruleset::default().handle_access(AccessNet::BindTcp).and_then(restrict);
    let sockets = Ruleset::default().handle_access(AccessFs::MakeSock).and_then(restrict);
    for error in [ports, sockets].into_iter().filter_map(Result::err) {
        tracing::warn!(%error, "failed to confine this program: listening");
    }
}

fn restrict(ruleset: Ruleset) -> Result<RestrictionStatus, RulesetError> {
    ruleset.create()?.restrict_self()
}

/// Why the kernel was not asked.
#[derive(Debug, thiserror::Error)]
enum ConfineError {
    #[error(transparent)]
    Path(#[from] PathFdError),
    #[error(transparent)]
    Ruleset(#[from] RulesetError),
}

fn restrict_to(allowed: &Allowed) -> Result<RestrictionStatus, ConfineError> {
    // A folder is removed where one is named `off`, or nobody could switch on again.
    let written = make_bitflags!(AccessFs::{
        ReadFile | ReadDir | WriteFile | Truncate | MakeReg | RemoveFile | RemoveDir
    });
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let ports = allowed.ports.iter().map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp)));
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::ConnectTcp)?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new(&allowed.written)?, written))?
        // A path that is absent gets no rule, so it cannot be read once it is made.
        .add_rules(path_beneath_rules(&allowed.read, read))?
        .add_rules(path_beneath_rules(&allowed.socket_dir, AccessFs::MakeSock | AccessFs::RemoveFile))?
        .add_rules(ports)?;
    Ok(rules.restrict_self()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Allowed {
        Allowed::new(Path::new("/var/lib/state"), [7655, 443, 443], &Lookups::default(), true)
    }

    #[test]
    fn a_kernel_that_keeps_all_of_it_leaves_nothing_to_tell() {
        let full = Confinement::new(&allowed(), Extent::Fully, true);
        assert_eq!(full.outgoing_ports, Some(vec![53, 443, 7655]));
        assert!(full.missing().is_empty() && full.no_new_privileges);
        assert_eq!(
            full.to_text(),
            "writes to the state directory only; connects to the TCP ports 53, 443, 7655 only; no signal and no \
             abstract socket to other processes; no new privileges"
        );
    }

    #[test]
    fn a_kernel_that_keeps_a_part_or_nothing_of_it_is_told_of() {
        let old = Confinement::new(&allowed(), Extent::Partly, true);
        assert_eq!((old.in_force().len(), old.missing().len(), &old.outgoing_ports), (2, 1, &None));
        let older = Confinement::new(&allowed(), Extent::None, true);
        assert_eq!((older.in_force(), older.missing().len()), (vec!["no new privileges".to_owned()], 1));
        let nothing = Confinement::new(&allowed(), Extent::None, false);
        assert_eq!(nothing.missing().len(), 2);
        assert!(nothing.to_text().starts_with("nothing is in force. Not in force here: files, ports and processes"));
    }

    #[test]
    fn only_as_another_user_than_root_the_whole_of_etc_can_be_read_and_what_network_manager_keeps() {
        let dir = Path::new("/var/lib/state");
        let lookups = Lookups::default();
        let (root, user) = (Allowed::new(dir, [], &lookups, true), Allowed::new(dir, [], &lookups, false));
        assert!(root.read.contains(&PathBuf::from("/etc/hosts")) && !root.read.contains(&PathBuf::from("/etc")));
        assert!(user.read.contains(&PathBuf::from("/etc")));
        let passwords = PathBuf::from("/run/NetworkManager");
        assert!(user.read.contains(&passwords) && !root.read.contains(&passwords));
    }

    #[test]
    fn where_the_resolver_file_really_lies_can_be_read() {
        let read = |dir: &str| {
            let lookups = Lookups { resolver_dir: Some(PathBuf::from(dir)), ..Lookups::default() };
            Allowed::new(Path::new("/var/lib/state"), [], &lookups, true).read
        };
        assert!(read("/mnt/wsl").contains(&PathBuf::from("/mnt/wsl")));
        let without = allowed().read;
        assert!(without.contains(&PathBuf::from("/run/systemd/resolve")), "where it may lie later");
        assert_eq!(read("/etc"), without);
        assert_eq!(read("/etc/resolvconf/run"), without, "which /etc covers, or a link within it");
        assert_eq!(read("/"), without, "which would open the whole machine");
        assert_eq!(read("/run"), without, "which would open other programs' secrets");
    }

    #[test]
    fn a_resolver_file_that_is_not_there_yet_is_looked_for_where_its_link_leads() {
        let etc = tempfile::tempdir().unwrap();
        let root = etc.path().canonicalize().unwrap();
        let link = root.join("resolv.conf");
        assert_eq!(dir_of(&link), None, "neither file nor link");
        std::os::unix::fs::symlink("../there/yet/resolv.conf", &link).unwrap();
        assert_eq!(dir_of(&link), Some(root.parent().unwrap().to_owned()), "the nearest that is there");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("later/resolv.conf", &link).unwrap();
        assert_eq!(dir_of(&link), Some(root.clone()));
        fs::create_dir(root.join("later")).unwrap();
        assert_eq!(dir_of(&link), Some(root.join("later")), "before the file is made");
        fs::write(root.join("later/resolv.conf"), "").unwrap();
        assert_eq!(dir_of(&link), Some(root.join("later")));
    }

    #[test]
    fn every_file_of_a_lookup_is_followed_to_where_it_really_lies_for_users_as_for_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (etc, store) = (root.join("etc"), root.join("store"));
        for made in [&etc, &store] {
            fs::create_dir(made).unwrap();
        }
        let link = |from: &str, to: &str| std::os::unix::fs::symlink(to, etc.join(from)).unwrap();
        for name in ["hosts", "nsswitch.conf", "host.conf", "resolv.conf"] {
            fs::write(store.join(name), "").unwrap();
        }
        link("hosts", store.join("hosts").to_str().unwrap());
        link("nsswitch.conf", "static/nsswitch.conf");
        link("static", "../current");
        std::os::unix::fs::symlink("store", root.join("current")).unwrap();
        link("host.conf", "second");
        link("second", "../current/host.conf");
        link("resolv.conf", "../store/resolv.conf");
        fs::write(etc.join("services"), "").unwrap();
        let lookups = Lookups::look(&etc);
        let expected = ["resolv.conf", "hosts", "host.conf", "nsswitch.conf"].map(|name| store.join(name));
        assert_eq!(lookups.files, expected, "a file that is no link needs nothing");
        assert_eq!((lookups.resolver_dir.as_ref(), lookups.unreadable.len()), (Some(&store), 0));
        for is_root in [true, false] {
            let allowed = Allowed::new(Path::new("/var/lib/state"), [], &lookups, is_root);
            assert!(expected.iter().all(|file| allowed.read.contains(file)), "root: {is_root}");
        }
    }

    #[test]
    fn a_link_of_a_lookup_that_leads_to_nothing_that_can_be_allowed_is_told() {
        let etc = tempfile::tempdir().unwrap();
        let link = |from: &str, to: &str| std::os::unix::fs::symlink(to, etc.path().join(from)).unwrap();
        link("hosts", "/nonexistent/hosts");
        link("nsswitch.conf", "nsswitch.conf");
        link("gai.conf", "/tmp");
        link("resolv.conf", "/run/later/resolv.conf");
        let lookups = Lookups::look(etc.path());
        assert_eq!(lookups.files, Vec::<PathBuf>::new());
        assert_eq!(lookups.unreadable.len(), 3, "{:?}", lookups.unreadable);
        for name in ["hosts leads to /nonexistent/hosts", "nsswitch.conf leads to", "gai.conf leads to /tmp"] {
            assert!(lookups.unreadable.iter().any(|told| told.contains(name)), "{name}: {:?}", lookups.unreadable);
        }
        assert!(lookups.resolver_dir.is_some(), "the network's own file comes later");
    }
}
