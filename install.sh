#!/bin/sh
# Installs pulse-telemetry on a machine with systemd, such as a Proxmox LXC container: as a package where there is dpkg,
# else from the tarball. It checks the signature and the sum of what it installs, asks nothing and starts nothing.
#
#   sh install.sh [FOLDER | URL]    from that folder, or from where this release lives
#   sh install.sh --uninstall       configuration, token and state stay
#
# Check this file first: docs/INSTALL.md says how.
set -eu
umask 022
export LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# `make dist` fills these in. The release installs its own version alone, so no older one can be put in its place.
VERSION=
BASE_URL=
SSH_KEY=

NAME=pulse-telemetry
UNIT=/etc/systemd/system/$NAME.service
MANUAL=/usr/share/man/man1/$NAME.1
COMPLETION=/usr/share/bash-completion/completions/$NAME
DOCUMENTS=/usr/share/doc/$NAME

stop() {
    echo "install.sh: $1" >&2
    exit 1
}

# needs PROGRAM PACKAGE
needs() {
    command -v "$1" >/dev/null || stop "$1 is missing; on Debian: apt install $2"
}

# The version of a package, where dpkg has installed it.
installed() {
    command -v dpkg-query >/dev/null || return 0
    dpkg-query --show --showformat='${db:Status-Status} ${Version}' "$1" 2>/dev/null | sed -n 's/^installed //p'
}

is_booted() {
    [ -d /run/systemd/system ]
}

uninstall() {
    if [ -n "$(installed $NAME)" ]; then
        dpkg --remove $NAME
        remove="dpkg --purge $NAME"
    else
        ! is_booted || systemctl disable --now $NAME 2>/dev/null || true
        rm -rf "/usr/bin/${NAME:?}" $UNIT $MANUAL $COMPLETION $DOCUMENTS
        ! is_booted || systemctl daemon-reload
        remove="rm -rf /etc/$NAME /var/lib/private/$NAME /var/lib/$NAME"
    fi
    cat <<END
Configuration and token stay in /etc/$NAME, the state in /var/lib/private/$NAME. To remove them, too:
  $remove
What you changed of the unit is in $UNIT.d.
END
}

# What is installed, by its architecture.
choose() {
    # Elsewhere dpkg may be a program among others.
    is_debian=$(installed systemd)
    machine=$(uname -m)
    [ -z "$is_debian" ] || machine=$(dpkg --print-architecture)
    case $machine in
        x86_64 | amd64) triple=x86_64-unknown-linux-musl debian=amd64 ;;
        aarch64 | arm64) triple=aarch64-unknown-linux-musl debian=arm64 ;;
        *) stop "there is no release for $machine, only for amd64 and arm64" ;;
    esac
    file=$NAME-$VERSION-$triple.tar.gz
    [ -z "$is_debian" ] || file=${NAME}_$VERSION-1_$debian.deb
}

# fetch NAME: into the place that only root can write, where nobody exchanges it after it was checked. It takes five
# minutes and 32 MiB at most, whatever the other side sends or does not.
fetch() (
    ulimit -f 65536
    case $from in
        http://* | https://*)
            if command -v curl >/dev/null; then
                timeout --foreground 300 curl --fail --silent --show-error --location --retry 2 --connect-timeout 20 \
                    --speed-limit 1000 --speed-time 30 --output "$place/$1" "$from/$1"
            else
                needs wget curl
                timeout --foreground 300 wget -q -t 3 -T 30 -O "$place/$1" "$from/$1"
            fi ;;
        *) cp -- "$from/$1" "$place/$1" ;;
    esac || stop "$1 could not be had from $from; nothing was installed"
)

# Fetches what is chosen, and ends unless it is what was signed.
verified() {
    fetch SHA256SUMS
    fetch SHA256SUMS.sshsig
    echo "$NAME namespaces=\"$NAME\" $SSH_KEY" >"$place/signers"
    ssh-keygen -Y verify -f "$place/signers" -I $NAME -n $NAME -s "$place/SHA256SUMS.sshsig" \
        <"$place/SHA256SUMS" >"$place/said" 2>&1 ||
        stop "SHA256SUMS is not what was signed: $(tail -n 1 "$place/said"); nothing was installed"
    fetch "$file"
    sum=$(awk -v file="$file" '$2 == file { print $1 }' "$place/SHA256SUMS")
    [ "$(sha256sum <"$place/$file")" = "$sum  -" ] || stop "$file is not what was signed; nothing was installed"
}

install_package() {
    there=$(installed $NAME)
    if [ -n "$there" ] && dpkg --compare-versions "$there" gt "$VERSION-1"; then
        stop "$NAME $there is installed, which is newer; nothing was changed"
    fi
    # A configuration that you changed stays as it is. What the package says is said below.
    dpkg --force-confold --install "$place/$file" >"$place/said" 2>&1 </dev/null || stop "$(cat "$place/said")"
}

install_tarball() {
    there=$(/usr/bin/$NAME --version 2>/dev/null | awk '{ print $2 }')
    [ "$(printf '%s\n' "$there" "$VERSION" | sort -V | tail -n 1)" = "$VERSION" ] ||
        stop "$NAME $there is installed, which is newer; nothing was changed"
    tar --extract --gzip --file="$place/$file" --directory="$place"
    tree=$place/$NAME-$VERSION-$triple
    install -D -m 0644 "$tree/man/$NAME.1" $MANUAL
    install -D -m 0644 "$tree/completions/$NAME.bash" $COMPLETION
    rm -rf $DOCUMENTS
    mkdir -p $DOCUMENTS
    cp -R "$tree"/*.md "$tree/docs" "$tree/config" "$tree/systemd" $DOCUMENTS
    chown -R 0:0 $DOCUMENTS
    mkdir -p /etc/$NAME
    install -m 0755 "$tree/$NAME" /usr/bin/$NAME.new
    mv /usr/bin/$NAME.new /usr/bin/$NAME
    install -m 0644 "$tree/systemd/$NAME.service" $UNIT
    if is_booted; then
        systemctl daemon-reload
        systemctl try-restart $NAME || true
    fi
}

# Images of LXD and Incus have a drop-in that takes every unit's credentials away, and with them the token. What it took,
# one that sorts after it gives back.
tell_of_credentials() {
    is_booted || return 0
    lost=$(systemctl cat $NAME | awk '
        $0 == "LoadCredential=" { if (has != "") lost = has; has = ""; token = 0 }
        /^LoadCredential=./ { has = has "\\n" $0; if ($0 !~ /=page-token:/) token = 1 }
        END { if (!token) print lost }')
    [ -n "$lost" ] || return 0
    cat <<END

Missing: a drop-in of this image takes LoadCredential= from every unit, so the token would not reach the program.
Give it back:
  mkdir -p $UNIT.d
  printf '%b\n' '[Service]$lost' >$UNIT.d/zzzz-credentials.conf
  systemctl daemon-reload; systemctl try-restart $NAME
END
}

tell_the_next_steps() {
    case $(systemctl is-active $NAME 2>/dev/null) in
        active) echo "$NAME $VERSION is installed, and the service that ran is restarted with it."; return ;;
        activating | failed) echo "$NAME $VERSION is installed, and does not start: journalctl -u $NAME"; return ;;
    esac
    cat <<END
$NAME $VERSION is installed; it is not started, and nothing is sent. Next, as root:
  1. the API token of Pulse: (umask 077; cat >/etc/$NAME/token), paste, Enter, Ctrl-D
  2. look: PULSE_TOKEN_FILE=/etc/$NAME/token $NAME check, then preview in its place
  3. hand over: PULSE_TELEMETRY=false in Pulse's environment, restart Pulse, systemctl enable --now $NAME
$DOCUMENTS/docs/INSTALL.md says more.
END
}

main() {
    [ "$(id -u)" = 0 ] || stop "must be run as root"
    case ${1:-} in
        --uninstall) uninstall; return ;;
        -*) stop "sh install.sh [FOLDER | URL], or sh install.sh --uninstall" ;;
    esac
    [ -n "$VERSION" ] || stop "this is the source of install.sh; make dist writes the one of a release"
    [ -n "$SSH_KEY" ] || stop "this release is not signed (make dist without RELEASE_SSH_KEY), so nothing can be checked"
    from=${1:-${BASE_URL:-$(dirname "$0")}}
    from=${from%/}
    needs ssh-keygen openssh-client
    needs systemctl systemd
    systemd=$(systemctl --version | awk 'NR == 1 { print $2 + 0 }')
    [ "$systemd" -ge 252 ] || stop "systemd is $systemd, and the unit needs 252 (Debian 12) or newer"
    choose
    place=$(mktemp -d)
    trap 'rm -rf "$place"' EXIT
    verified
    case $file in
        *.deb) install_package ;;
        *) install_tarball ;;
    esac
    tell_the_next_steps
    tell_of_credentials
}

# Read whole before any of it runs.
main "$@"
