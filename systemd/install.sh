#!/bin/sh
# install.sh [remove]: this machine's part of a cluster. Programs in /usr/local/lib/contiv, commands in /usr/local/bin, three
# services for systemd, none of which is started before its flags are known. Over an older one: it is replaced as a whole, and
# services that run are restarted. DESTDIR=FOLDER puts all below a folder and leaves the machine alone, to make a package of.
# shellcheck disable=SC2086  # lists of names
set -eu
cd "$(dirname "$0")/.."
root=${DESTDIR:-}
lib=/usr/local/lib/contiv
commands='netctl netmaster netplugin netkube'
services='contiv-netmaster contiv-netplugin contiv-netkube'

manage() { [ -n "$root" ] || systemctl "$@"; }

if [ -z "$root" ]; then
  if [ "$(id -u)" != 0 ]; then echo "install: must run as root: try sudo make" >&2; exit 1; fi
  command -v systemctl >/dev/null 2>&1 ||
    { echo "install: this machine has no systemd: docs/guide/hosts.md says how to start the programs by hand" >&2; exit 1; }
fi

if [ "${1:-}" = remove ]; then
  manage disable --now --quiet $services 2>/dev/null || true
  # Docker's networks, the rules that guard the host and names outlive netplugin; where containers are left, so do theirs.
  [ -n "$root" ] || [ ! -x "$lib/bin/netplugin" ] || "$lib/bin/netplugin" leave || true
  for service in $services; do rm -f "$root/etc/systemd/system/$service.service"; done
  for command in $commands; do rm -f "$root/usr/local/bin/$command"; done
  rm -rf "$root$lib"
  manage daemon-reload
  echo "Removed. What was declared and the flags are still in /var/lib/contiv-netmaster, /etc/contiv."
  exit 0
fi

lab/npm.sh .
ROOT=$PWD
. bin/.bundle

# The old programs stay in their place until the new ones are whole.
new=$root$lib.new
rm -rf "$new"
mkdir -p "$new/bin" "$new/dist" "$root/usr/local/bin" "$root/etc/contiv" "$root/etc/systemd/system"
cp -R docs package.json package-lock.json "$new/"
cp dist/*.cjs dist/contiv-cni dist/contiv-swarm "$new/dist/"
for command in $commands .node .bundle; do cp "bin/$command" "$new/bin/"; done
lab/npm.sh "$new" --omit=dev
rm -rf "$root$lib.old"
[ ! -e "$root$lib" ] || mv "$root$lib" "$root$lib.old"
mv "$new" "$root$lib"
rm -rf "$root$lib.old"
for command in $commands; do ln -sf "$lib/bin/$command" "$root/usr/local/bin/$command"; done
for service in $services; do cp "systemd/$service.service" "$root/etc/systemd/system/"; done
for file in netmaster.conf netplugin.conf netkube.conf; do
  [ -e "$root/etc/contiv/$file" ] || cp "systemd/$file" "$root/etc/contiv/"
done
manage daemon-reload
manage try-restart $services

cat <<'END'
Installed. On the machine that keeps what is declared, set NETMASTER_FLAGS in /etc/contiv/netmaster.conf, then

  systemctl enable --now contiv-netmaster

On each host with containers, set NETPLUGIN_FLAGS in /etc/contiv/netplugin.conf, then

  systemctl enable --now contiv-netplugin

Only with Kubernetes: set NETKUBE_FLAGS in /etc/contiv/netkube.conf, put its kubeconfig beside it, then

  systemctl enable --now contiv-netkube
END
