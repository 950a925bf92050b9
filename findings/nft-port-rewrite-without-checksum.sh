#!/bin/bash
# nftables' `udp dport set` makes a datagram that has no checksum (0, which IPv4 allows: RFC 768) into one with a wrong checksum, and the receiver drops it.
#
# Seen on 2026-11-27 with Debian 12's nftables 1.0.6-2+deb12u2 on Linux 6.18. A datagram to port 5000 whose port a rule makes 6000:
#   udp dport set 6000                       with checksum: arrives      without (SO_NO_CHECK): dropped, InCsumErrors of /proc/net/snmp counts it
#   udp dport set 6000 udp checksum set 0    arrives                     arrives
#   redirect to :6000 (NAT)                  arrives                     arrives: NAT leaves a checksum of 0 alone
# Expected: the same as of NAT. Who sends without checksums: VXLAN and other tunnels over IPv4, some DNS and RTP programs; with stateless
# rewriting they are lost, and nothing but the receiver's counter says so.
#
# Exit status: 0 as seen, 1 something has changed (a line says what), 2 it could not be tried here.
# Needs root, python3 and Debian 12's package lists. All of it is in a temporary folder and a network namespace of its own.
set -euo pipefail

PACKAGES=('nftables=1.0.6-2+deb12u2' 'libnftables1=1.0.6-2+deb12u2' 'libnftnl11=1.2.4-2' 'libmnl0=1.0.4-3' 'libjansson4=2.14-2'
  'libedit2=3.1-20221030-2')

untried() { echo "cannot be tried: $*" >&2 && exit 2; }
changed() { echo "changed: $*" >&2 && exit 1; }

# send 0|1: one datagram to port 5000, with SO_NO_CHECK (11, asm-generic/socket.h) where 1; whether it arrives at 6000, and what the kernel counts.
SEND='
import socket, sys
def errors():
    names, values = [line.split() for line in open("/proc/self/net/snmp") if line.startswith("Udp:")]
    return int(dict(zip(names, values))["InCsumErrors"])
to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
to.bind(("127.0.0.1", 6000))
to.settimeout(1)
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.SOL_SOCKET, 11, int(sys.argv[1]))
before = errors()
sender.sendto(b"hello", ("127.0.0.1", 5000))
try:
    arrived = to.recv(9) == b"hello"
except TimeoutError:
    arrived = False
print("arrives" if arrived else "dropped, InCsumErrors +%d" % (errors() - before))
'
# expect WITH WITHOUT HOOK RULE: what becomes of a datagram with and of one without a checksum.
expect() {
  local with without
  printf 'flush ruleset\ntable ip t {\nchain c {\ntype %s\n%s\n}\n}\n' "$3" "$4" | nft -f - || untried "the kernel does not take $4"
  with=$(python3 -c "$SEND" 0) without=$(python3 -c "$SEND" 1)
  printf '%-60s with: %-10s without: %s\n' "$4" "$with" "$without"
  [ "$with" = "$1" ] || changed "$4, with a checksum: was $1"
  [ "$without" = "$2" ] || changed "$4, without a checksum: was $2"
}

inside() {
  export PATH=$folder/usr/sbin:$PATH LD_LIBRARY_PATH=$folder/usr/lib/x86_64-linux-gnu
  ip link set lo up
  echo "$(nft --version), Linux $(uname -r)"
  local output='filter hook output priority 0;' nat='nat hook output priority -100;'
  expect arrives 'dropped, InCsumErrors +1' "$output" 'udp dport 5000 udp dport set 6000'
  expect arrives arrives "$output" 'udp dport 5000 udp dport set 6000 udp checksum set 0'
  expect arrives arrives "$nat" 'udp dport 5000 redirect to :6000'
  echo 'as seen'
}

[ "$(id -u)" = 0 ] || untried 'must run as root'
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "${PACKAGES[@]}") || untried "no ${PACKAGES[*]}"
for file in "$folder"/*.deb; do dpkg -x "$file" "$folder"; done
export folder SEND
export -f untried changed expect inside
unshare --net bash -euo pipefail -c inside
