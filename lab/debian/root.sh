#!/bin/sh
# root.sh: prints the folder of a Debian 12 with systemd, made by debootstrap where it is not there yet (two minutes), which all checkouts share. It
# has what contiv's packages depend on, and what they are tried with. Made aside and renamed: one that is there is whole.
set -eu
SUITE=bookworm
PROGRAMS=systemd,systemd-sysv,dbus,iproute2,nftables,libnftables1,libstdc++6,procps,iputils-ping,busybox-static,ca-certificates
cache=${CONTIV_CACHE:-/var/cache/contiv-lab}
root=$cache/debian/$SUITE-$(cat "$0" | sha256sum | cut -c1-12)
mkdir -p "$cache/debian"
exec 9>"$cache/debian/.lock"
flock 9
if [ ! -e "$root" ]; then
  command -v debootstrap >/dev/null 2>&1 || { echo 'debian: debootstrap is missing: apt install debootstrap' >&2; exit 3; }
  # Where this machine has Debian from.
  lists() { apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' | sed -n "s|^$SUITE ||p" | head -1; }
  mirror=$(lists)
  [ -n "$mirror" ] || { apt-get update -qq; mirror=$(lists); }
  [ -n "$mirror" ] || { echo "debian: this machine's apt has no list of Debian $SUITE" >&2; exit 3; }
  rm -rf "$root.new"
  echo "  making a Debian with systemd: the first time takes two minutes ..." >&2
  debootstrap --variant=minbase --include="$PROGRAMS" "$SUITE" "$root.new" "$mirror" >"$root.log" 2>&1 ||
    { tail -8 "$root.log" >&2; echo 'debian: it could not be made' >&2; exit 3; }
  rm -rf "$root.new/var/cache/apt/archives" "$root.new/var/lib/apt/lists"
  mv "$root.new" "$root"
  rm -f "$root.log"
fi
echo "$root"
