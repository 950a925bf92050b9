#!/bin/bash
# Whether a proxy neighbour outlives a loss of carrier follows from a state that it was added with and that nothing shows.
#
# Seen on 2026-11-28 with Debian 12's iproute2 6.1.0-3 on Linux 6.18 (net/core/neighbour.c: neigh_carrier_down keeps what is permanent):
#   ip neigh add proxy ADDRESS dev veth                  answers for the address again after the veth's other end was down for a moment
#   ip neigh add proxy ADDRESS dev veth nud none         is gone after that, without a message
# `ip neigh show proxy` lists both with the same words. `ip` says "permanent" where nothing is said; who speaks netlink and leaves the
# state of a proxy at 0, which ip-neighbour(8) gives no meaning for, has the other kind.
# Both go when the device itself is set down, as permanent neighbours do.
#
# Exit status: 0 as seen, 1 something has changed (a line says what), 2 it could not be tried here.
# Needs root and Debian 12's package lists. All of it is in a temporary folder and a network namespace of its own.
set -euo pipefail

PACKAGES=('iproute2=6.1.0-3' 'libbpf1=1:1.1.2-0+deb12u1' 'libbsd0=0.11.7-2' 'libelf1=0.188-2.1' 'libmnl0=1.0.4-3')

untried() { echo "cannot be tried: $*" >&2 && exit 2; }
changed() { echo "changed: $*" >&2 && exit 1; }
expect() { # WANTED WHAT
  local found && found=$(ip neigh show proxy | sort | tr -s ' \n' ' ')
  printf '%-24s %s\n' "$2:" "$found"
  [ "$found" = "$1" ] || changed "$2: was $1"
}
# carrier STATE (RFC 2863): waits until the kernel has told all of its parts, up to a second after the change.
carrier() {
  for _ in {1..100}; do
    [ "$(cat /sys/class/net/veth/operstate)" != "$1" ] || return 0
    sleep 0.1
  done
  untried "the veth's other end does not make it $1"
}

inside() {
  export PATH=$folder/sbin:$folder/bin:$PATH LD_LIBRARY_PATH=$folder/usr/lib/x86_64-linux-gnu:$folder/lib/x86_64-linux-gnu
  mount -t sysfs sysfs /sys
  ip link add name veth type veth peer name other || untried 'no veth in this kernel'
  ip link set veth up && ip link set other up && carrier up
  ip neigh add proxy 192.0.2.1 dev veth
  ip neigh add proxy 192.0.2.2 dev veth nud none
  echo "$(ip -V), Linux $(uname -r)"
  expect '192.0.2.1 dev veth proxy 192.0.2.2 dev veth proxy ' 'added'
  ip link set other down && carrier lowerlayerdown
  expect '192.0.2.1 dev veth proxy ' 'other end down'
  ip link set other up && carrier up
  expect '192.0.2.1 dev veth proxy ' 'and up again'
  ip link set veth down
  expect '' 'the device itself down'
  echo 'as seen'
}

[ "$(id -u)" = 0 ] || untried 'must run as root'
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "${PACKAGES[@]}") || untried "no ${PACKAGES[*]}"
for file in "$folder"/*.deb; do dpkg -x "$file" "$folder"; done
export folder
export -f untried changed expect carrier inside
unshare --net --mount bash -euo pipefail -c inside
