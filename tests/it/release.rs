//! A release: signed, put into an apt repository, and installed from there and by `install.sh`, under a systemd that is
//! really booted. `make test-package`; besides what `package` needs, gpg and apt-ftparchive.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may fail loudly, and tells times")]

mod install_sh;
mod repository;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use bytes::Bytes;
use pulse_telemetry_testkit::booted::{self, Debian, Machine, step};
use pulse_telemetry_testkit::packages::Stripped;
use pulse_telemetry_testkit::project;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::server::{Body, ResponsePlan, Server};
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
    let mirror = hostile_mirror(given.join("2"));
    folders(&given, &keys, &http.url());
    repositories(&given, &keys);
    let pulse = SimulatedPulse::start(PulseModel::default());
    machine.write("given/token", TOKEN);
    machine.write("given/key", &keys.public);
    let variables = format!("export PULSE_URL={} MIRROR={}\n", pulse.url(), mirror.url());
    let seen = machine.boot(&[&variables, FUNCTIONS, APT, install_sh::SCRIPT].concat());
    println!("{seen}");
    what_apt_did(&seen);
    install_sh::what_it_did(&seen);
}

/// One that answers as its path says: never, or with no end, for all files or for the package alone.
fn hostile_mirror(folder: PathBuf) -> Server {
    let no_end =
        || Body::Generated { total: 200_000_000, generator: Arc::new(|_| Bytes::from_static(&[b'0'; 65_536])) };
    Server::start(move |request| {
        let (how, file) = request.path().trim_start_matches('/').split_once('/').unwrap();
        match how {
            "silent" => ResponsePlan::Hang,
            "stalls" => ResponsePlan::body(Body::Never),
            "endless" => ResponsePlan::body(no_end()),
            _ if file.ends_with(".deb") => ResponsePlan::body(no_end()),
            _ => ResponsePlan::bytes(200, "text/plain", std::fs::read(folder.join(file)).unwrap()),
        }
    })
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

    /// Signs what a repository's signed list says with that key of these, in place of who signed it.
    fn clearsign(&self, options: &[&str], key: &str, repository: &Path) {
        let release = repository.join("dists/stable/Release");
        std::fs::write(&release, signed_words(repository)).unwrap();
        let signed = repository.join("dists/stable/InRelease");
        std::fs::remove_file(&signed).unwrap();
        let sign = [options, &["--local-user", key, "--output"]].concat();
        done(self.gpg(&sign).arg(&signed).arg("--clearsign").arg(&release));
        std::fs::remove_file(&release).unwrap();
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
        let deb = folder.join(format!("pulse-telemetry_{version}-1_amd64.deb"));
        stripped.deb(&format!("{version}-1"), &deb);
        if version == "2" {
            suggest_more(&deb);
        }
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

/// Changes what a package suggests in the configuration, so that dpkg asks where somebody else has changed it, too.
fn suggest_more(deb: &Path) {
    let tree = tempfile::tempdir().unwrap();
    done(Command::new("dpkg-deb").arg("--raw-extract").args([deb, tree.path()]));
    let file = tree.path().join("etc/pulse-telemetry/config.toml");
    let more = std::fs::read_to_string(&file).unwrap() + "#[serve]\n";
    std::fs::write(&file, more).unwrap();
    done(Command::new("dpkg-deb").args(["--root-owner-group", "-Z", "gzip", "--build"]).args([tree.path(), deb]));
}

/// What a repository's list of lists says, without its signature.
fn signed_words(repository: &Path) -> String {
    let signed = std::fs::read_to_string(repository.join("dists/stable/InRelease")).unwrap();
    let (_, release) = signed.split_once("\n\n").unwrap();
    release.split_once("-----BEGIN PGP SIGNATURE").unwrap().0.to_owned()
}

/// The states of a repository: two in a row, and what an attacker or an outage can make of them.
fn repositories(given: &Path, keys: &Keys) {
    let repository = given.join("new");
    let state = |version: &str, days_ago: i64| {
        let time = (now() - days_ago * DAY).to_string();
        let mut script = keys.script("apt-repo", &[&repository, &given.join(version)]);
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
    done(&mut state("2", 91));
    copy("outdated");
    done(&mut state("2", 1));

    // What stood in it before it was signed, signed by another, and signed for a day that is over.
    let unsigned = copy("not-signed");
    std::fs::write(unsigned.join("dists/stable/Release"), signed_words(&unsigned)).unwrap();
    std::fs::remove_file(unsigned.join("dists/stable/InRelease")).unwrap();
    keys.clearsign(&[], &keys.apt_of_another, &copy("signed-by-another"));
    let then = format!("{}!", now() - 10 * DAY);
    let brief = ["--faked-system-time", &then, "--default-sig-expire", "1d"];
    keys.clearsign(&brief, &keys.apt, &copy("signature-expired"));
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
process() { systemctl show -p MainPID --value pulse-telemetry; }
configure() {
    (umask 077; cat /given/token >/etc/pulse-telemetry/token)
    {
        printf '[pulse]\nurl = "%s"\n' "$PULSE_URL"
        printf '[telemetry]\nendpoint = "http://127.0.0.1:9/"\n'
    } >/etc/pulse-telemetry/config.toml
}
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
    in_a_minute(step("old"), "apt");
    assert!(step("old").ends_with("there: installed 1-1\nunit: inactive disabled\n"), "{}", step("old"));
    assert!(step("offered").contains("Inst pulse-telemetry [1-1] (2-1 "), "{}", step("offered"));
    assert!(step("upgraded").ends_with("there: installed 2-1\n"), "{}", step("upgraded"));
    assert!(!step("set back").contains("there: installed 1-1\n"), "{}", step("set back"));
    assert!(step("set back").contains("there: installed 2-1\n"), "{}", step("set back"));
    assert!(!step("later refused").contains("updated\n"), "{}", step("later refused"));
    assert!(step("purged").contains("there: installed 2-1\n"), "{}", step("purged"));
    assert!(step("purged").ends_with("there: \n"), "{}", step("purged"));
}

/// How long that way took, from the first command to the first preview.
fn in_a_minute(step: &str, way: &str) {
    let told =
        step.split_once(&format!("to the first preview with {way}: ")).and_then(|(_, rest)| rest.split_once(' '));
    let taken: u64 = told.unwrap_or_else(|| panic!("no preview with {way}: {step}")).0.parse().unwrap();
    assert!(taken <= 60_000, "{way} took {taken} ms");
}
