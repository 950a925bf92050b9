#!/bin/bash
# `nft list tables` reads every rule of every table from the kernel, whatever family is asked for; `nft list chains` reads none.
#
# Seen on 2026-11-27 with Debian 12's nftables 1.0.6-2+deb12u2 (libnftnl 1.2.4, libmnl 1.0.4) on Linux 6.18. Answers received (recvmsg)
# with 20,000 rules in one table, and one rule in another:
#   nft list tables                        140  two lines are printed
#   nft list tables inet                   140  the big table is of family ip
#   nft -t list table ip big               140  terse leaves out elements of sets, not rules
#   nft list chains                          8
#   nft list chain inet small c             13
# Expected by who asks every few seconds whether a table is there: a list of names. On a host with many rules of others each look takes as
# long as listing all; `nft list chains FAMILY`, which names tables and chains, does not. More rules do not change it.
#
# Exit status: 0 as seen, 1 something has changed (a line says what), 2 it could not be tried here.
# Needs root and Debian 12's package lists. All of it is in a temporary folder and a network namespace of its own.
set -euo pipefail

PACKAGES=('nftables=1.0.6-2+deb12u2' 'libnftables1=1.0.6-2+deb12u2' 'libnftnl11=1.2.4-2' 'libmnl0=1.0.4-3' 'libjansson4=2.14-2'
  'libedit2=3.1-20221030-2' 'strace=6.1-0.1' 'libunwind8=1.6.2-3' 'liblzma5=5.4.1-1+deb12u2')
RULES=20000

untried() { echo "cannot be tried: $*" >&2 && exit 2; }
changed() { echo "changed: $*" >&2 && exit 1; }

# answers ARGUMENTS: how many messages nft receives for them.
answers() {
  strace -f -e trace=recvmsg -o "$folder/trace" nft "$@" >/dev/null
  grep -c recvmsg "$folder/trace"
}
# expect few|many ARGUMENTS: many is at least one message for each two hundred rules.
expect() {
  local wanted=$1 count && shift && count=$(answers "$@")
  local found=few && ((count < RULES / 200)) || found=many
  printf 'nft %-28s %4d answers\n' "$*" "$count"
  [ "$found" = "$wanted" ] || changed "nft $*: $count answers for $RULES rules, was $wanted"
}

inside() {
  export PATH=$folder/usr/sbin:$folder/usr/bin:$PATH
  export LD_LIBRARY_PATH=$folder/usr/lib/x86_64-linux-gnu:$folder/lib/x86_64-linux-gnu
  {
    printf 'table ip big {\nchain c {\n'
    for ((i = 0; i < RULES; i++)); do echo "ip saddr 10.1.$((i / 256)).$((i % 256)) counter"; done
    printf '}\n}\ntable inet small {\nchain c {\ncounter\n}\n}\n'
  } >"$folder/rules"
  nft -f "$folder/rules" || untried 'the kernel does not take the rules'
  echo "$(nft --version), Linux $(uname -r)"
  expect many list tables
  expect many list tables inet
  expect many -t list table ip big
  expect few list chains
  expect few list chain inet small c
  echo 'as seen'
}

[ "$(id -u)" = 0 ] || untried 'must run as root'
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "${PACKAGES[@]}") || untried "no ${PACKAGES[*]}"
for file in "$folder"/*.deb; do dpkg -x "$file" "$folder"; done
export folder RULES
export -f untried changed answers expect inside
unshare --net bash -euo pipefail -c inside
