#!/bin/sh
# Which Debian packages are missing? Installs them if we are root, and starts none of their services; else says so.
# usage: debian.sh PACKAGE...      Speaks on stderr only. Fails only where apt-get does.
set -eu

missing=
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed:$missing (only root can, on Debian; what needs them is left out)" >&2
    exit 0
fi

echo "installing$missing ..." >&2
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    # Debian starts what it installs, unless this says no.
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
install() {
    apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends "$@" </dev/null >/dev/null
}
# The lists of a fresh container are empty, those of an old machine name files that are gone.
install --download-only $missing 2>/dev/null || apt-get -qq update </dev/null >&2
case "$missing" in
*postgresql-[0-9]*)
    # Programs are wanted, not the cluster that a first installation makes.
    if ! dpkg-query -W postgresql-common >/dev/null 2>&1; then
        install postgresql-common >&2
        sed -i 's/^#create_main_cluster = true/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
    fi
    ;;
esac
install $missing >&2
