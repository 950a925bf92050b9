#!/bin/bash
# Replacing an nftables table in one transaction is atomic for the rules, but not for a packet that is on its way through them.
#
# Seen on 2026-11-27 with Debian 12's nftables 1.0.6-2+deb12u2 on Linux 6.18: a table with 400 rules that match nothing, then `meta mark set ip daddr map @marks`,
# was made anew over and over by one file each ("table; delete table; table {...}"), always with the same element in the map, while a process sent to that address:
#   table replaced 120 times, 96,000 packets       6 came out without a mark
#   only another element added and removed         none did
# A packet that has begun in the old chain when the transaction commits finishes there, but finds the old map's elements gone: the lookup misses, and
# the rest of the rule is not done. Where a miss means drop, as in verdict maps before a policy of drop, a reload of the same rules drops packets, more
# of them the longer the way to the lookup. Scripts that "reload atomically" (nft(8), ATOMIC RULE REPLACEMENT) hold the rules constant, not the verdicts.
#
# Exit status: 0 as seen, 1 something has changed (a line says what), 2 it could not be tried here.
# Needs root, python3, two processors and Debian 12's package lists. All of it is in a temporary folder and a network namespace of its own.
set -euo pipefail

PACKAGES=('nftables=1.0.6-2+deb12u2' 'libnftables1=1.0.6-2+deb12u2' 'libnftnl11=1.2.4-2' 'libmnl0=1.0.4-3' 'libjansson4=2.14-2'
  'libedit2=3.1-20221030-2')
SECONDS_EACH=8

untried() { echo "cannot be tried: $*" >&2 && exit 2; }
changed() { echo "changed: $*" >&2 && exit 1; }

# Sends for a while, by a process of its own; prints nothing.
sending() {
  python3 -c "import socket, time
to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end = time.time() + $SECONDS_EACH
while time.time() < end:
    for _ in range(200):
        to.sendto(b'x', ('127.0.0.1', 9))"
}
counted() { nft list counter inet seen "$1" | sed -n 's/.*packets \([0-9]*\).*/\1/p'; }

# round WHAT FILE: the file is given to nft for as long as packets are sent; sets `missed`.
round() {
  nft reset counters table inet seen >"$folder/before"
  sending &
  local sender=$! times=0
  while kill -0 "$sender" 2>"$folder/error"; do
    nft -f "$2" || untried "nft does not take $2"
    times=$((times + 1))
  done
  missed=$(counted missed)
  printf '%-34s %4d times, %7d packets, %d missed\n' "$1" "$times" "$(counted every)" "$missed"
}

inside() {
  export PATH=$folder/usr/sbin:$PATH LD_LIBRARY_PATH=$folder/usr/lib/x86_64-linux-gnu
  ip link set lo up
  {
    printf 'table inet replaced\ndelete table inet replaced\ntable inet replaced {\nmap marks { type ipv4_addr : mark; elements = { 127.0.0.1 : 0x1 }; }\n'
    printf 'chain out {\ntype filter hook output priority 0;\n'
    for number in $(seq 400); do echo "ip saddr 192.0.2.$((number % 200)) counter"; done
    printf 'meta mark set ip daddr map @marks\n}\n}\n'
  } >"$folder/table"
  printf 'add element inet replaced marks { 192.0.2.1 : 0x2 }\ndelete element inet replaced marks { 192.0.2.1 }\n' >"$folder/element"
  nft -f "$folder/table" || untried 'the kernel does not take the table'
  printf 'table inet seen {\ncounter every { }\ncounter missed { }\nchain out {\ntype filter hook output priority 1;\nudp dport 9 counter name every\nudp dport 9 meta mark 0 counter name missed\n}\n}\n' | nft -f -
  echo "$(nft --version), Linux $(uname -r)"
  round 'another element put in and out' "$folder/element"
  [ "$missed" = 0 ] || changed 'a change of another element made lookups miss'
  local all=0
  for _ in 1 2 3; do
    round 'the same table made anew' "$folder/table"
    all=$((all + missed))
    [ "$all" = 0 ] || break
  done
  [ "$all" -gt 0 ] || changed 'no lookup missed while the table was made anew'
  echo 'as seen'
}

[ "$(id -u)" = 0 ] || untried 'must run as root'
[ "$(nproc)" -gt 1 ] || untried 'a single processor'
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "${PACKAGES[@]}") || untried "no ${PACKAGES[*]}"
for file in "$folder"/*.deb; do dpkg -x "$file" "$folder"; done
export folder SECONDS_EACH
export -f untried changed sending counted round inside
unshare --net bash -euo pipefail -c inside
