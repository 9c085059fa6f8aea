//! A release: signed, put into an apt repository, and installed from there and by `install.sh`, under a systemd that is
//! really booted. `make test-package`; besides what `package` needs, gpg and apt-ftparchive.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may fail loudly, and tells times")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pulse_telemetry_testkit::booted::{self, Debian, Machine};
use pulse_telemetry_testkit::packages::Stripped;
use pulse_telemetry_testkit::project;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::server::{ResponsePlan, Server};
use pulse_telemetry_testkit::sidecar;

const DAY: i64 = 24 * 60 * 60;

#[test]
#[ignore = "needs root and cargo-deb: make test-package"]
fn debian_12_installs_and_upgrades_to_what_is_signed_and_refuses_everything_else() {
    let name = "release::debian_12_installs_and_upgrades_to_what_is_signed_and_refuses_everything_else";
    booted::alone_on(Debian::Bookworm, name, || life_of_a_release(Debian::Bookworm, "release-12"));
}

#[test]
#[ignore = "needs root and cargo-deb: make test-package"]
fn debian_13_installs_and_upgrades_to_what_is_signed_and_refuses_everything_else() {
    let name = "release::debian_13_installs_and_upgrades_to_what_is_signed_and_refuses_everything_else";
    booted::alone_on(Debian::Trixie, name, || life_of_a_release(Debian::Trixie, "release-13"));
}

fn life_of_a_release(debian: Debian, name: &str) {
    let machine = Machine::on(debian, name);
    let given = machine.path("given");
    std::fs::create_dir(&given).unwrap();
    let keys = Keys::new();
    let folder = given.join("2");
    let http = Server::start(move |request| {
        let content = std::fs::read(folder.join(request.path().trim_start_matches('/')));
        content.map_or_else(
            |_| ResponsePlan::status(404),
            |bytes| ResponsePlan::bytes(200, "application/octet-stream", bytes),
        )
    });
    folders(&given, &keys, &http.url());
    repositories(&given, &keys);
    let pulse = SimulatedPulse::start(PulseModel::default());
    machine.write("given/token", TOKEN);
    machine.write("given/key", &keys.public);
    let variables = format!("export PULSE_URL={}\n", pulse.url());
    let seen = machine.boot(&[&variables, FUNCTIONS, APT, INSTALL_SH].concat());
    println!("{seen}");
    what_apt_did(&seen);
    what_install_sh_did(&seen);
}

/// Made anew in each test; no private key is in the repository.
struct Keys {
    home: tempfile::TempDir,
    /// The public half of the SSH key.
    public: String,
    apt: String,
    apt_of_another: String,
}

impl Keys {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut keys = Self { home, public: String::new(), apt: String::new(), apt_of_another: String::new() };
        let ssh = keys.ssh();
        done(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "a test", "-f"]).arg(&ssh));
        let public = std::fs::read_to_string(ssh.with_extension("pub")).unwrap();
        keys.public = public.split(' ').take(2).collect::<Vec<_>>().join(" ");
        keys.apt = keys.made("ours");
        keys.apt_of_another = keys.made("another");
        keys
    }

    fn ssh(&self) -> PathBuf {
        self.home.path().join("ssh")
    }

    /// A new OpenPGP key's fingerprint.
    fn made(&self, name: &str) -> String {
        let user = format!("{name} <{name}@example.invalid>");
        // A year ago, so that it can have signed before today.
        done(self.gpg(&["--faked-system-time", &format!("{}!", now() - 400 * DAY), "--passphrase", ""]).args([
            "--quick-generate-key",
            &user,
            "ed25519",
            "sign",
            "never",
        ]));
        let listed = done(&mut self.gpg(&["--with-colons", "--list-keys", &user]));
        let fingerprint = listed.lines().find_map(|line| line.strip_prefix("fpr:::::::::"));
        fingerprint.unwrap().trim_end_matches(':').to_owned()
    }

    fn gpg(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--quiet", "--homedir"]).arg(self.home.path()).args(arguments);
        command
    }

    /// A script of `packaging/` that signs with these keys.
    fn script(&self, name: &str, arguments: &[&Path]) -> Command {
        let mut command = Command::new(project().join("packaging").join(name));
        command.args(arguments).env("GNUPGHOME", self.home.path());
        command.env("RELEASE_APT_KEY", &self.apt).env("RELEASE_APT_URL", "file:/repository");
        command.env("RELEASE_SSH_KEY", self.ssh());
        command
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").arg("--homedir").arg(self.home.path()).args(["--kill", "all"]).output();
    }
}

/// Two versions' folders, as `make dist` writes them, of the programs that the tests are built with. The newer is to be
/// had from that URL, and beside it is what others could make of it.
fn folders(given: &Path, keys: &Keys, url: &str) {
    let stripped = Stripped::new("pulse-telemetry", &sidecar::binary());
    for (version, url) in [("1", ""), ("2", url)] {
        let folder = given.join(version);
        std::fs::create_dir(&folder).unwrap();
        stripped.deb(&format!("{version}-1"), &folder.join(format!("pulse-telemetry_{version}-1_amd64.deb")));
        stripped.tarball(version, "x86_64-unknown-linux-musl", &folder);
        done(keys.script("seal", &[&folder]).env("VERSION", version).env("RELEASE_BASE_URL", url));
    }
    let other = Keys::new();
    for (name, key, namespace) in [("other-key", &other, "pulse-telemetry"), ("other-namespace", keys, "file")] {
        let folder = given.join(name);
        done(Command::new("cp").arg("-a").args([&given.join("2"), &folder]));
        std::fs::remove_file(folder.join("SHA256SUMS.sshsig")).unwrap();
        let sign = ["-q", "-Y", "sign", "-n", namespace, "-f"];
        done(Command::new("ssh-keygen").args(sign).arg(key.ssh()).arg(folder.join("SHA256SUMS")));
        std::fs::rename(folder.join("SHA256SUMS.sig"), folder.join("SHA256SUMS.sshsig")).unwrap();
    }
}

/// The states of a repository: two in a row, and what an attacker or an outage can make of them.
fn repositories(given: &Path, keys: &Keys) {
    let repository = given.join("new");
    let state = |version: &str, days_ago: i64| {
        let time = (now() - days_ago * DAY).to_string();
        let mut script = keys.script("apt-repo", &[&given.join(version), &repository]);
        script.env("RELEASE_NOW", time);
        script
    };
    let copy = |name: &str| {
        let to = given.join(name);
        done(Command::new("cp").arg("-a").args([&repository, &to]));
        to
    };
    done(&mut state("1", 3));
    copy("old");
    done(state("2", 2).env("RELEASE_APT_KEY", &keys.apt_of_another));
    copy("signed-by-another");
    done(&mut state("2", 91));
    copy("outdated");
    done(&mut state("2", 1));

    // What stood in it before it was signed, and signed for a day that is over.
    let in_release = "dists/stable/InRelease";
    let signed = std::fs::read_to_string(repository.join(in_release)).unwrap();
    let (_, release) = signed.split_once("\n\n").unwrap();
    let (release, _) = release.split_once("-----BEGIN PGP SIGNATURE").unwrap();
    let unsigned = copy("not-signed");
    std::fs::remove_file(unsigned.join(in_release)).unwrap();
    std::fs::write(unsigned.join("dists/stable/Release"), release).unwrap();
    let expired = copy("signature-expired").join(in_release);
    std::fs::remove_file(&expired).unwrap();
    let then = format!("{}!", now() - 10 * DAY);
    done(
        keys.gpg(&["--faked-system-time", &then, "--default-sig-expire", "1d", "--local-user", &keys.apt, "--output"])
            .arg(&expired)
            .arg("--clearsign")
            .arg(unsigned.join("dists/stable/Release")),
    );
    flip(&copy("package-changed").join("pool/main/p/pulse-telemetry/pulse-telemetry_2-1_amd64.deb"));
    let lists = copy("list-changed").join("dists/stable/main/binary-amd64");
    for list in std::fs::read_dir(lists).unwrap() {
        flip(&list.unwrap().path());
    }
}

/// Changes one bit in the middle of a file.
fn flip(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "what is signed is held against the machine's own clock")]
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn done(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Nothing but our own repository is asked. Where the machine's own files are what counts, apt's and dpkg's are not.
const FUNCTIONS: &str = r#"
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
step() { echo "== $*"; }
use() { ln -sfn "/given/$1" /repository; }
forget() { rm -rf /var/lib/apt/lists/*; }
update() { apt-get -qq -o APT::Update::Error-Mode=any update 2>&1; test $? = 0 && echo updated; }
install() { apt-get -qq -y install pulse-telemetry </dev/null 2>&1; test $? = 0 && echo installed; }
there() { echo "there: $(dpkg-query -f '${db:Status-Status} ${Version}' -W pulse-telemetry 2>/dev/null)"; }
unit() { echo "unit: $(systemctl is-active pulse-telemetry) $(systemctl is-enabled pulse-telemetry 2>&1)"; }
files() {
    find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /dev -o -path /tmp -o -path /var/tmp \
        -o -path /var/log -o -path '/seen*' -o -path '/given*' -o -path '/*.files' -o -path '/var/lib/dpkg*' \
        -o -path /var/lib/apt -o -path /var/cache -o -path /var/lib/systemd/random-seed \) -prune -o -print | sort
}
begin() { began=$(date +%s%3N); }
previewed() {
    (umask 077; cat /given/token >/etc/pulse-telemetry/token)
    PULSE_TOKEN_FILE=/etc/pulse-telemetry/token pulse-telemetry preview >/preview.files
    grep -q install_id /preview.files &&
        echo "FIGURE from the first command to the first preview with $1: $(($(date +%s%3N) - began)) ms; 60000 at most"
}
verified() {
    echo "pulse-telemetry $(cat /given/key)" >/given/signers
    ssh-keygen -Y verify -f /given/signers -I pulse-telemetry -n pulse-telemetry -s SHA256SUMS.sshsig <SHA256SUMS ||
        return 1
    unsigned=$(sha256sum -- * | grep -vxFf SHA256SUMS | cut -c 67-)
    [ "$unsigned" = "$(printf 'SHA256SUMS\nSHA256SUMS.sshsig')" ] || { echo "unsigned: $unsigned"; return 1; }
}
"#;

const APT: &str = r#"
cp /given/new/pulse-telemetry.sources /etc/apt/sources.list.d/
for state in signed-by-another not-signed signature-expired outdated list-changed package-changed; do
    step "$state"; forget; use $state; update; install; there
    dpkg --purge pulse-telemetry >/dev/null 2>&1
done
rm /etc/apt/sources.list.d/*
step old
forget; use old; begin
(cd /given/2 && verified && cp pulse-telemetry.sources /etc/apt/sources.list.d/)
update; install; previewed apt; there; unit
step offered
use new; update
apt-get -s upgrade | grep ^Inst
step upgraded
apt-get -qq -y upgrade </dev/null 2>&1; there
step set back
use old; update; apt-get -qq -y upgrade </dev/null 2>&1; there
apt-get -qq -y remove pulse-telemetry </dev/null 2>&1; install; there
step later refused
use outdated; update
use not-signed; update
use signed-by-another; update
step purged
use new; update; install; there
apt-get -qq -y purge pulse-telemetry </dev/null 2>&1; there
rm /etc/apt/sources.list.d/*
"#;

fn what_apt_did(seen: &str) {
    let step = |name: &str| step(seen, name);
    for state in ["signed-by-another", "not-signed", "signature-expired", "outdated", "list-changed"] {
        let step = step(state);
        assert!(step.contains("E: ") && step.ends_with("there: \n"), "{state}: {step}");
        assert!(!step.contains("updated\n") && !step.contains("installed\n"), "{state}: {step}");
    }
    assert!(step("package-changed").contains("updated\n"));
    assert!(!step("package-changed").contains("installed\n") && step("package-changed").ends_with("there: \n"));
    assert!(step("old").contains("updated\n") && step("old").contains("installed\n"), "{}", step("old"));
    assert!(step("old").contains("to the first preview with apt: "), "{}", step("old"));
    assert!(step("old").ends_with("there: installed 1-1\nunit: inactive disabled\n"), "{}", step("old"));
    assert!(step("offered").contains("Inst pulse-telemetry [1-1] (2-1 "), "{}", step("offered"));
    assert!(step("upgraded").ends_with("there: installed 2-1\n"), "{}", step("upgraded"));
    assert!(!step("set back").contains("there: installed 1-1\n"), "{}", step("set back"));
    assert!(step("set back").contains("there: installed 2-1\n"), "{}", step("set back"));
    assert!(!step("later refused").contains("updated\n"), "{}", step("later refused"));
    assert!(step("purged").contains("there: installed 2-1\n"), "{}", step("purged"));
    assert!(step("purged").ends_with("there: \n"), "{}", step("purged"));
}

const INSTALL_SH: &str = r#"
files >/before.files
left() { files >/after.files; diff /before.files /after.files | grep '^[<>]'; }
# One changed bit at each of these places of a file.
changed() {
    size=$(stat -c %s "/given/2/$1"); at=0
    while [ $at -lt $size ]; do
        rm -rf /given/bad; cp -rl /given/2 /given/bad; rm "/given/bad/$1"; cp "/given/2/$1" "/given/bad/$1"
        byte=$(od -An -tu1 -j $at -N 1 "/given/bad/$1")
        printf "\\$(printf %o $((byte ^ 1)))" | dd of="/given/bad/$1" bs=1 seek=$at conv=notrunc status=none
        sh /given/2/install.sh /given/bad >/given/said 2>&1 && echo "installed in spite of byte $at of $1"
        grep -q 'nothing was installed' /given/said || { echo "byte $at of $1:"; cat /given/said; }
        at=$((at + $2))
    done
}
step changed
changed SHA256SUMS 97
changed SHA256SUMS.sshsig 41
changed pulse-telemetry_2-1_amd64.deb 900000
rm /given/bad/install.sh; cp /given/2/install.sh /given/bad/; echo '# more' >>/given/bad/install.sh
(cd /given/bad && verified 2>&1 | grep -c 'install.sh$')
echo unlisted >/given/bad/pulse-telemetry_9-1_amd64.deb
(cd /given/bad && verified 2>&1 | grep -c 'pulse-telemetry_9-1_amd64.deb$')
left; there
step signed otherwise
for other in other-key other-namespace 1; do sh /given/2/install.sh /given/$other >/dev/null || echo refused; done
left; there
step missing
rm /given/bad/SHA256SUMS.sshsig; sh /given/2/install.sh /given/bad
sh /given/2/install.sh --force
left; there
step as a package
begin
(cd /given/2 && verified && sh install.sh .)
previewed install.sh; unit; there
sh /given/1/install.sh; there
step removed
sh /given/2/install.sh --uninstall; there
dpkg --purge pulse-telemetry 2>&1; left
step as a tarball
mv /usr/bin/dpkg-query /given/
sh /given/1/install.sh
sh /given/2/install.sh
unit; test -x /usr/bin/pulse-telemetry && echo the program
step an older tarball
mv /usr/bin/pulse-telemetry /given/kept
printf '#!/bin/sh\necho pulse-telemetry 3\n' >/usr/bin/pulse-telemetry
chmod 755 /usr/bin/pulse-telemetry
sh /given/2/install.sh
mv /given/kept /usr/bin/pulse-telemetry
step without credentials
mkdir -p /etc/systemd/system/service.d
printf '[Service]\nLoadCredential=\n' >/etc/systemd/system/service.d/zzz-lxc-service.conf
sh /given/2/install.sh
(umask 077; cat /given/token >/etc/pulse-telemetry/token)
{
    printf '[pulse]\nurl = "%s"\n' "$PULSE_URL"
    printf '[telemetry]\nendpoint = "http://127.0.0.1:9/"\n'
} >/etc/pulse-telemetry/config.toml
sh /given/2/install.sh /given/2 | sed -n 's/^  \(mkdir\|printf\|systemctl\) /\1 /p' >/given/remedy
sh /given/remedy
systemctl enable --now pulse-telemetry; unit
pulse-telemetry status | grep -c unauthorized
step tarball removed
sh /given/2/install.sh --uninstall
left; unit
rm -rf /etc/pulse-telemetry /var/lib/private/pulse-telemetry /var/lib/pulse-telemetry /etc/systemd/system/service.d
rm -rf /etc/systemd/system/pulse-telemetry.service.d
echo "after that:"; mv /given/dpkg-query /usr/bin/; left
"#;

fn what_install_sh_did(seen: &str) {
    let step = |name: &str| step(seen, name);
    assert_eq!(step("changed"), "1\n1\nthere: \n");
    let otherwise = step("signed otherwise");
    assert!(otherwise.matches("nothing was installed\nrefused\n").count() == 3, "{otherwise}");
    assert!(otherwise.ends_with("refused\nthere: \n"), "{otherwise}");
    assert!(
        step("missing").contains("SHA256SUMS.sshsig could not be had from /given/bad; nothing was installed"),
        "{seen}"
    );
    assert!(step("missing").ends_with("or sh install.sh --uninstall\nthere: \n"), "{}", step("missing"));
    let package = step("as a package");
    assert!(
        package.contains("it is not started, and nothing is sent. Next, as root:\n  1. ")
            && package.contains("\n  3. ")
    );
    assert!(!package.contains("Missing"), "{package}");
    assert!(package.contains("to the first preview with install.sh: "), "{package}");
    assert!(package.contains("unit: inactive disabled\nthere: installed 2-1\n"), "{package}");
    assert!(
        package.ends_with("2-1 is installed, which is newer; nothing was changed\nthere: installed 2-1\n"),
        "{package}"
    );
    assert!(step("removed").contains("To remove them, too:\n  dpkg --purge pulse-telemetry\n"), "{}", step("removed"));
    assert!(
        step("removed").contains("there: config-files 2-1\n") && !step("removed").contains("\n> "),
        "{}",
        step("removed")
    );
    assert!(step("as a tarball").ends_with("unit: inactive disabled\nthe program\n"), "{}", step("as a tarball"));
    assert!(step("an older tarball").ends_with("3 is installed, which is newer; nothing was changed\n"), "{seen}");
    let without = step("without credentials");
    assert!(without.contains("Missing: a drop-in of this image takes LoadCredential="), "{without}");
    assert!(without.ends_with("unit: active enabled\n0\n"), "{without}");
    let (removed, after) = step("tarball removed").split_once("after that:\n").unwrap();
    assert!(removed.contains("To remove them, too:\n  rm -rf /etc/pulse-telemetry "), "{removed}");
    assert!(removed.contains("> /etc/pulse-telemetry/token\n") && !removed.contains("> /usr/"), "{removed}");
    assert_eq!(after, "", "{seen}");
}

/// What a step of the script said.
fn step<'a>(seen: &'a str, name: &str) -> &'a str {
    let (_, rest) = seen.split_once(&format!("== {name}\n")).unwrap_or_else(|| panic!("no step {name}: {seen}"));
    rest.split_once("== ").map_or(rest, |(step, _)| step)
}
