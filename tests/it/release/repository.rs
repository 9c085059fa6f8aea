//! The apt repository: what is added to it and signed anew, by whoever has the key, and who can read it then. Its
//! packages have nothing in them. Needs gpg, apt-ftparchive and dpkg-deb.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pulse_telemetry_testkit::alone::{program_or_skip, run};
use pulse_telemetry_testkit::project;

use super::{DAY, Keys, done, flip, now};

const IN_RELEASE: &str = "dists/stable/InRelease";

/// Keys, and a place with the sealed folders of two versions.
struct Releases {
    keys: Keys,
    place: tempfile::TempDir,
}

impl Releases {
    fn new(test: &str) -> Option<Self> {
        let is_there = |program| program_or_skip(program, &["--version"], test);
        if !["gpg", "apt-ftparchive", "dpkg-deb"].into_iter().all(is_there) {
            return None;
        }
        let releases = Self { keys: Keys::new(), place: tempfile::tempdir().unwrap() };
        for version in ["1", "2"] {
            let (folder, tree) = (releases.folder(version), releases.path("tree"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
            let control = format!(
                "Package: pulse-telemetry\nVersion: {version}-1\nArchitecture: amd64\nMaintainer: a test\n\
                 Description: nothing\n"
            );
            std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
            let file = folder.join(format!("pulse-telemetry_{version}-1_amd64.deb"));
            done(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).args([&tree, &file]));
            done(releases.keys.script("seal", &[&folder]).env("VERSION", version).env("SOURCE_DATE_EPOCH", "1"));
        }
        Some(releases)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn folder(&self, version: &str) -> PathBuf {
        self.path(&format!("release-{version}"))
    }

    /// Adds that version, if any, to the repository of that name, and signs it.
    fn sign(&self, repository: &Path, version: Option<&str>, days_ago: i64) -> Output {
        let folder = version.map(|version| self.folder(version));
        let arguments: Vec<&Path> = [repository].into_iter().chain(folder.as_deref()).collect();
        let mut script = self.keys.script("apt-repo", &arguments);
        script.env("RELEASE_NOW", (now() - days_ago * DAY).to_string()).output().unwrap()
    }

    fn signed(&self, repository: &Path, version: Option<&str>, days_ago: i64) {
        let output = self.sign(repository, version, days_ago);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What somebody does to a repository.
type Change<'a> = &'a dyn Fn(&Path);

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// The versions that a repository offers.
fn offered(repository: &Path) -> Vec<String> {
    let list = read(repository.join("dists/stable/main/binary-amd64/Packages"));
    list.lines().filter_map(|line| line.strip_prefix("Version: ").map(str::to_owned)).collect()
}

fn valid_until(repository: &Path) -> String {
    let signed = read(repository.join(IN_RELEASE));
    signed.lines().find(|line| line.starts_with("Valid-Until: ")).unwrap().to_owned()
}

#[test]
fn everybody_can_read_a_repository_that_was_signed_where_new_files_are_the_signers_alone() {
    let test = "everybody_can_read_a_repository_that_was_signed_where_new_files_are_the_signers_alone";
    let Some(releases) = Releases::new(test) else { return };
    let repository = releases.path("apt");
    let arguments = [repository.as_path(), &releases.folder("1")];
    let script = releases.keys.script("apt-repo", &arguments);
    let mut strict = Command::new("sh");
    strict.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(script.get_program()).args(script.get_args());
    strict.envs(script.get_envs().filter_map(|(name, value)| Some((name, value?))));
    done(&mut strict);
    let listed = run("find", &[repository.to_str().unwrap(), "-printf", "%y %m %p\n"]);
    assert!(listed.lines().count() > 10, "{listed}");
    for line in listed.lines() {
        assert!(line.starts_with("d 755 ") || line.starts_with("f 644 "), "{line}");
    }
}

#[test]
fn a_repository_is_signed_anew_as_it_was_and_with_what_is_new_beside_what_is_there() {
    let test = "a_repository_is_signed_anew_as_it_was_and_with_what_is_new_beside_what_is_there";
    let Some(releases) = Releases::new(test) else { return };
    let repository = releases.path("apt");
    releases.signed(&repository, Some("1"), 60);
    let before = valid_until(&repository);
    releases.signed(&repository, None, 30);
    assert_ne!(valid_until(&repository), before);
    assert_eq!(offered(&repository), ["1-1"]);
    releases.signed(&repository, Some("2"), 0);
    assert_eq!(offered(&repository), ["1-1", "2-1"]);

    // The same version with other bytes, however well it is signed.
    let file = releases.folder("2").join("pulse-telemetry_2-1_amd64.deb");
    std::fs::copy(releases.folder("1").join("pulse-telemetry_1-1_amd64.deb"), &file).unwrap();
    done(releases.keys.script("seal", &[&releases.folder("2")]).env("VERSION", "2").env("SOURCE_DATE_EPOCH", "1"));
    let refused = releases.sign(&repository, Some("2"), 0);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("a version that is published never changes"), "{said}");
    assert!(!releases.sign(&releases.path("empty"), None, 0).status.success(), "there is nothing to sign");
}

#[test]
fn what_the_key_has_not_signed_is_not_signed_with_the_rest() {
    let test = "what_the_key_has_not_signed_is_not_signed_with_the_rest";
    let Some(releases) = Releases::new(test) else { return };
    let repository = releases.path("apt");
    releases.signed(&repository, Some("1"), 1);
    let package = "pool/main/p/pulse-telemetry/pulse-telemetry_1-1_amd64.deb";
    let of_another = |changed: &Path| releases.keys.clearsign(&[], &releases.keys.apt_of_another, changed);
    let changes: [(&str, Change); 6] = [
        ("a changed package", &|changed| flip(&changed.join(package))),
        ("a package besides", &|changed| {
            std::fs::copy(changed.join(package), changed.join(package.replace("_1-1_", "_9-1_"))).unwrap();
        }),
        ("a package less", &|changed| std::fs::remove_file(changed.join(package)).unwrap()),
        ("a changed list", &|changed| flip(&changed.join("dists/stable/main/binary-amd64/Packages"))),
        ("a signature of another", &of_another),
        ("no signature", &|changed| std::fs::remove_dir_all(changed.join("dists")).unwrap()),
    ];
    for (what, change) in changes {
        let changed = releases.path(what);
        done(Command::new("cp").arg("-a").args([&repository, &changed]));
        change(&changed);
        let before = std::fs::read(changed.join(IN_RELEASE)).ok();
        let refused = releases.sign(&changed, Some("2"), 0);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains("has not signed there"), "{what}: {said}");
        assert_eq!(std::fs::read(changed.join(IN_RELEASE)).ok(), before, "{what}");
    }
}

/// A forge whose last release has that tag; its repository lies beside the program.
const FORGE: &str = r#"#!/bin/sh
case "$1 $2" in
    "release list") echo "$LAST" ;;
    "release download") test "$3" = "$LAST" && cp "${0%/*}/apt.tar.gz" . ;;
    *) exit 1 ;;
esac
"#;

#[test]
fn the_repository_of_the_last_release_is_the_next_ones_and_an_older_one_is_refused() {
    let test = "the_repository_of_the_last_release_is_the_next_ones_and_an_older_one_is_refused";
    let Some(releases) = Releases::new(test) else { return };
    releases.signed(&releases.path("apt"), Some("1"), 1);
    done(
        Command::new("tar")
            .arg("-C")
            .arg(releases.place.path())
            .arg("-czf")
            .arg(releases.path("apt.tar.gz"))
            .arg("apt"),
    );
    let forge = releases.path("gh");
    let fetched = |forges: &str, last: &str| {
        std::fs::write(&forge, forges).unwrap();
        std::fs::set_permissions(&forge, std::fs::Permissions::from_mode(0o755)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = format!("{}:/usr/bin:/bin", releases.place.path().display());
        let mut script = Command::new(project().join("packaging/apt-of-last-release"));
        let output = script.arg(folder.path()).env("PATH", path).env("LAST", last).output().unwrap();
        (folder, output)
    };
    let (folder, output) = fetched(FORGE, "v1");
    assert_eq!((output.status.success(), String::from_utf8(output.stdout).unwrap()), (true, "v1\n".to_owned()));
    releases.signed(&folder.path().join("apt"), Some("2"), 0);
    assert_eq!(offered(&folder.path().join("apt")), ["1-1", "2-1"]);

    let (folder, output) = fetched(FORGE, "");
    assert!(output.status.success() && output.stdout.is_empty(), "before the first release there is none");
    assert!(!folder.path().join("apt").exists());
    for (forge, last) in [(FORGE, "v2"), ("#!/bin/sh\nexit 1\n", "v1")] {
        let (_folder, output) = fetched(forge, last);
        assert!(!output.status.success() && output.stdout.is_empty(), "{last}");
    }
}
