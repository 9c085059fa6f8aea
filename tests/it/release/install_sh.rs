//! `install.sh`: what it refuses and says, and what it leaves, on a machine that is given two versions of a release.

use pulse_telemetry_testkit::booted::step;

use super::in_a_minute;

pub(super) const SCRIPT: &str = r#"
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
step a hostile mirror
install_from() { /usr/bin/timeout 60 sh /given/2/install.sh "$MIRROR/$1" 2>&1 | tail -n 1; }
hostile() {
    install_from endless; install_from endless-package
    # What else ends after five minutes, ends at once.
    printf '#!/bin/sh\ntest "$1 $2" = "--foreground 300" && shift 2 && exec /usr/bin/timeout 1 "$@"\n' \
        >/usr/local/sbin/timeout
    chmod 755 /usr/local/sbin/timeout
    install_from silent; install_from stalls
    rm /usr/local/sbin/timeout
}
hostile
echo "by wget:"; mv /usr/bin/curl /given/; hostile; mv /given/curl /usr/bin/
ls -d /tmp/tmp.* 2>/dev/null
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
step a package upgraded
sh /given/1/install.sh >/dev/null; configure
systemctl enable --now pulse-telemetry; before=$(process)
sh /given/2/install.sh; unit; there
test "$before" != "$(process)" && echo another process
grep -c "$PULSE_URL" /etc/pulse-telemetry/config.toml
systemctl disable --now pulse-telemetry 2>/dev/null; dpkg --purge pulse-telemetry >/dev/null 2>&1; left
step as a tarball
mv /usr/bin/dpkg-query /usr/bin/curl /given/
sh /given/1/install.sh
sh /given/2/install.sh
mv /given/curl /usr/bin/
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
configure
changes=/etc/systemd/system/pulse-telemetry.service.d; mkdir $changes
printf '[Service]\nLoadCredential=page-token:/etc/pulse-telemetry/token\n' >$changes/override.conf
remedied() {
    sh /given/2/install.sh /given/2 | sed -n 's/^  \(mkdir\|printf\|systemctl\) /\1 /p' >/given/remedy
    sh /given/remedy
}
credentials() { ls "/proc/$(process)/root/run/credentials/pulse-telemetry.service" | tr '\n' ' '; echo; }
remedied
systemctl enable --now pulse-telemetry; unit
pulse-telemetry status | grep -c unauthorized
credentials
step with a drop-in that sorts last
mv $changes/override.conf $changes/zzzz-own.conf; rm $changes/zzzz-credentials.conf
remedied; credentials
step a tarball upgraded
before=$(process)
sh /given/2/install.sh; unit
test "$before" != "$(process)" && echo another process
step tarball removed
sh /given/2/install.sh --uninstall
left; unit
rm -rf /etc/pulse-telemetry /var/lib/private/pulse-telemetry /var/lib/pulse-telemetry /etc/systemd/system/service.d
rm -rf /etc/systemd/system/pulse-telemetry.service.d
echo "after that:"; mv /given/dpkg-query /usr/bin/; left
"#;

pub(super) fn what_it_did(seen: &str) {
    let step = |name: &str| step(seen, name);
    assert_eq!(step("changed"), "1\n1\nthere: \n");
    what_mirrors_got(step("a hostile mirror"));
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
    in_a_minute(package, "install.sh");
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
    assert!(without.ends_with("unit: active enabled\n0\npage-token pulse-token \n"), "{without}");
    assert_eq!(step("with a drop-in that sorts last"), "page-token pulse-token \n");
    for (step, also) in [(step("a package upgraded"), "there: installed 2-1\n"), (step("a tarball upgraded"), "")] {
        let said = "pulse-telemetry 2 is installed, and the service that ran is restarted with it.\n";
        assert!(step.contains(&format!("{said}unit: active enabled\n{also}another process\n")), "{step}");
    }
    assert!(step("a package upgraded").ends_with("another process\n1\n"), "{}", step("a package upgraded"));
    let (removed, after) = step("tarball removed").split_once("after that:\n").unwrap();
    assert!(removed.contains("To remove them, too:\n  rm -rf /etc/pulse-telemetry "), "{removed}");
    assert!(removed.contains("> /etc/pulse-telemetry/token\n") && !removed.contains("> /usr/"), "{removed}");
    assert_eq!(after, "", "{seen}");
}

fn what_mirrors_got(step: &str) {
    let (by_curl, by_wget) = step.split_once("by wget:\n").unwrap();
    let by_wget = by_wget.strip_suffix("there: \n").unwrap();
    for refused in [by_curl, by_wget] {
        let files = ["SHA256SUMS", "pulse-telemetry_2-1_amd64.deb", "SHA256SUMS", "SHA256SUMS"];
        let starts = files.map(|file| format!("install.sh: {file} could not be had from http://"));
        assert_eq!(refused.lines().count(), 4, "{step}");
        for (line, start) in refused.lines().zip(starts) {
            assert!(line.starts_with(&start) && line.ends_with("; nothing was installed"), "{step}");
        }
    }
}
