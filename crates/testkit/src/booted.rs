//! A Debian whose systemd is really booted, in a container of systemd-nspawn. Needs root, mmdebstrap, systemd-nspawn
//! and Debian's mirror. The tree is made once and kept; each test has a copy.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use super::alone::run;
use super::lock;

/// In a namespace of its own, with a hierarchy of cgroups as systemd wants it; one that an earlier container left
/// belongs to that one's root. The container's own filter of system calls lets Landlock's through, as a machine does.
const BOOT: &str = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && \
                    mkdir -p /sys/fs/cgroup/booted && \
                    find /sys/fs/cgroup/booted -depth -mindepth 1 -type d -exec rmdir {} + && \
                    echo $$ >/sys/fs/cgroup/booted/cgroup.procs && \
                    mount -t tmpfs tmpfs /run && mkdir /run/systemd && \
                    exec timeout 180 systemd-nspawn --register=no --keep-unit -q --console=passive \
                    --system-call-filter='landlock_create_ruleset landlock_add_rule landlock_restrict_self' \
                    $1 -b -D \"$0\"";

/// What makes the container's root a user of no rights outside of it, as that of an unprivileged LXC is.
const UNPRIVILEGED: &str = "--private-users=524288:65536 --private-users-ownership=chown";

/// Runs the script once the system is up.
const REPORT: &str = "[Unit]\nAfter=multi-user.target\n[Service]\nType=oneshot\nExecStart=/bin/sh /seen.sh\n\
                      StandardOutput=file:/seen.txt\nStandardError=file:/seen.txt\n";

/// One machine at a time: they would share a cgroup.
static ONE: Mutex<()> = Mutex::new(());

/// A release of Debian.
#[derive(Clone, Copy)]
pub enum Debian {
    Bookworm,
    Trixie,
}

impl Debian {
    fn suite(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// The tree that is copied, with what an image of a container has besides. Making it takes a minute.
    fn tree(self) -> PathBuf {
        // One that is kept has these packages.
        let packages = "systemd,systemd-sysv,openssh-client,curl,wget";
        let root = crate::kept().join(format!("debian-{}-{packages}", self.suite()));
        if !root.exists() {
            let new = root.with_extension("new");
            let _ = std::fs::remove_dir_all(&new);
            let packages = format!("--include={packages}");
            run("mmdebstrap", &["-q", "--variant=minbase", &packages, self.suite(), new.to_str().unwrap()]);
            std::fs::rename(new, &root).unwrap();
        }
        root
    }
}

/// Runs that test again where every port is free, once the tree is there and no other machine runs.
pub fn alone(name: &str, test: impl FnOnce()) {
    alone_on(Debian::Bookworm, name, test);
}

/// The same for a test whose machines are of that release.
pub fn alone_on(debian: Debian, name: &str, test: impl FnOnce()) {
    let mut one = None;
    let prepare = || {
        one = Some(lock(&ONE));
        debian.tree();
    };
    super::alone::alone(name, &[], prepare, test);
}

/// A machine that is off.
pub struct Machine {
    root: PathBuf,
    /// More for systemd-nspawn.
    options: &'static str,
}

impl Machine {
    /// A new one, in the place of an earlier one of that name.
    pub fn new(name: &str) -> Self {
        Self::on(Debian::Bookworm, name)
    }

    /// The same, with that release.
    pub fn on(debian: Debian, name: &str) -> Self {
        let root = crate::kept().join(name);
        let _ = std::fs::remove_dir_all(&root);
        run("cp", &["-a", "--reflink=auto", debian.tree().to_str().unwrap(), root.to_str().unwrap()]);
        Self { root, options: "" }
    }

    /// As an unprivileged container.
    pub fn unprivileged(self) -> Self {
        Self { options: UNPRIVILEGED, ..self }
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Has the unit started at boot.
    pub fn enable(&self, unit: &str) {
        let wanted = self.root.join(format!("etc/systemd/system/multi-user.target.wants/{unit}.service"));
        std::fs::create_dir_all(wanted.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(format!("../{unit}.service"), wanted).unwrap();
    }

    /// Boots it, runs the script in it, switches it off, and gives what the script said.
    pub fn boot(self, script: &str) -> String {
        self.write("etc/systemd/system/seen.service", REPORT);
        self.write("seen.sh", format!("{script}\nsystemctl poweroff >/dev/null 2>&1\n"));
        self.enable("seen");
        let mut boot = Command::new("unshare");
        boot.args(["--mount", "bash", "-c", BOOT]).arg(&self.root).arg(self.options);
        let boot = boot.output().unwrap();
        let seen = std::fs::read_to_string(self.root.join("seen.txt")).ok().unwrap_or_default();
        assert!(!seen.is_empty(), "{}", String::from_utf8_lossy(&boot.stdout));
        seen
    }
}

/// What a step of a script said, which begins it by `== NAME`.
pub fn step<'a>(seen: &'a str, name: &str) -> &'a str {
    let (_, rest) = seen.split_once(&format!("== {name}\n")).unwrap_or_else(|| panic!("no step {name}: {seen}"));
    rest.split_once("== ").map_or(rest, |(step, _)| step)
}
