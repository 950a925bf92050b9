#!/bin/sh
# install.sh [remove]: this machine's part of a cluster. Programs in /usr/local/lib/contiv, commands in /usr/local/bin, three
# services for systemd, none of which is started before its flags are known. Over an older one: it is replaced as a whole, and
# services that run are restarted. DESTDIR=FOLDER puts all below a folder and leaves the machine alone.
# shellcheck disable=SC2086  # lists of names
set -eu
cd "$(dirname "$0")/.."
root=${DESTDIR:-}
prefix=/usr/local
lib=$prefix/lib/contiv
. packaging/lay.sh

manage() { [ -n "$root" ] || systemctl "$@"; }

if [ -z "$root" ]; then
  if [ "$(id -u)" != 0 ]; then echo "install: must run as root: try sudo make" >&2; exit 1; fi
  command -v systemctl >/dev/null 2>&1 ||
    { echo "install: this machine has no systemd: docs/guide/hosts.md says how to start the programs by hand" >&2; exit 1; }
  [ ! -e /usr/lib/contiv ] ||
    { echo "install: this machine has Debian's packages of contiv: apt remove contiv-netctl first, or upgrade these" >&2; exit 1; }
fi

if [ "${1:-}" = remove ]; then
  manage disable --now --quiet $SERVICES 2>/dev/null || true
  # Docker's networks, the rules that guard the host and names outlive netplugin; where containers are left, so do theirs.
  [ -n "$root" ] || [ ! -x "$lib/bin/netplugin" ] || "$lib/bin/netplugin" leave || true
  rm -rf "$root$lib"
  entries $prefix $PACKAGES | while read -r what from to; do [ "$what" = conf ] || rm -rf "$root$to"; done
  rmdir "$root$prefix/share/doc/contiv-netctl" 2>/dev/null || true
  manage daemon-reload
  echo "Removed. What was declared and the flags are still in /var/lib/contiv-netmaster, /etc/contiv."
  exit 0
fi

lab/npm.sh .
packaging/inventory.sh

# The old programs stay in their place until the new ones are whole.
new=$root$lib.new
rm -rf "$new" "$root$lib.old"
lay "$new" $prefix $PACKAGES
mkdir -p "$root$prefix/lib"
[ ! -e "$root$lib" ] || mv "$root$lib" "$root$lib.old"
mv "$new$lib" "$root$lib"
rm -rf "$root$lib.old"
entries $prefix $PACKAGES | while read -r what from to; do
  case $to in "$lib"/*) continue ;; esac
  [ "$what" = conf ] && [ -e "$root$to" ] && continue
  mkdir -p "$root${to%/*}"
  rm -rf "$root$to"
  mv "$new$to" "$root$to"
done
rm -rf "$new"
manage daemon-reload
manage try-restart $SERVICES

cat <<'END'
Installed. On the machine that keeps what is declared, set NETMASTER_FLAGS in /etc/contiv/netmaster.conf, then

  systemctl enable --now contiv-netmaster

On each host with containers, set NETPLUGIN_FLAGS in /etc/contiv/netplugin.conf, then

  systemctl enable --now contiv-netplugin

Only with Kubernetes: set NETKUBE_FLAGS in /etc/contiv/netkube.conf, put its kubeconfig, netmaster's ca.crt and a token beside it (docs/guide/kubernetes.md), then

  systemctl enable --now contiv-netkube
END
