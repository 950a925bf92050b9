#!/bin/bash
# A rule that takes an element out of a map must say a value for it, which nobody looks at.
#
# Seen on 2026-11-27 with Debian 12's nftables 1.0.6-2+deb12u2 on Linux 6.18:
#   delete @set { ip daddr }          taken
#   delete @map { ip daddr }          refused by the kernel: "Could not process rule: Invalid argument", with the arrows under the whole statement
#   delete @map { ip daddr : 7 }      taken; a packet takes the element of its key out, though its value is 5
# nft(8) gives `delete` for sets and says nothing of maps; the message does not say that a value is missing. (nft's own
# `delete element ip t map { KEY }` from the command line takes a key alone.)
#
# Exit status: 0 as seen, 1 something has changed (a line says what), 2 it could not be tried here.
# Needs root and Debian 12's package lists. All of it is in a temporary folder and a network namespace of its own.
set -euo pipefail

PACKAGES=('nftables=1.0.6-2+deb12u2' 'libnftables1=1.0.6-2+deb12u2' 'libnftnl11=1.2.4-2' 'libmnl0=1.0.4-3' 'libjansson4=2.14-2'
  'libedit2=3.1-20221030-2')

untried() { echo "cannot be tried: $*" >&2 && exit 2; }
changed() { echo "changed: $*" >&2 && exit 1; }
expect() { # WANTED RULE
  local found=taken && nft add rule ip t c "$2" 2>"$folder/error" || found=$(head -1 "$folder/error" | sed 's/.*Error: //')
  printf '%-30s %s\n' "$2" "$found"
  [ "$found" = "$1" ] || changed "$2: was $1"
}

inside() {
  export PATH=$folder/usr/sbin:$PATH LD_LIBRARY_PATH=$folder/usr/lib/x86_64-linux-gnu
  ip link set lo up
  local own='flags dynamic,timeout; timeout 1h; size 100;'
  printf 'table ip t {\nmap m { type ipv4_addr : mark; %s }\nset s { type ipv4_addr; %s }\nchain c {\ntype filter hook output priority 0; policy accept;\n}\n}\n' \
    "$own" "$own" | nft -f - || untried 'the kernel does not take the table'
  nft add element ip t m '{ 127.0.0.9 : 5, 127.0.0.8 : 5 }'
  echo "$(nft --version), Linux $(uname -r)"
  expect taken 'delete @s { ip daddr }'
  expect 'Could not process rule: Invalid argument' 'delete @m { ip daddr }'
  expect taken 'delete @m { ip daddr : 7 }'
  echo hello >/dev/udp/127.0.0.9/9
  local left && left=$(nft list map ip t m | grep -o '127\.0\.0\.[89]' | tr '\n' ' ')
  echo "after a packet to 127.0.0.9 there is left: $left"
  [ "$left" = '127.0.0.8 ' ] || changed 'which element was taken out'
  echo 'as seen'
}

[ "$(id -u)" = 0 ] || untried 'must run as root'
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "${PACKAGES[@]}") || untried "no ${PACKAGES[*]}"
for file in "$folder"/*.deb; do dpkg -x "$file" "$folder"; done
export folder
export -f untried changed expect inside
unshare --net bash -euo pipefail -c inside
