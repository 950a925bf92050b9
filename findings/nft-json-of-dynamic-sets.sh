#!/bin/bash
# What `nft -j list` says of sets and maps that packets write is not what `nft -j -f` takes.
#
# Seen on 2026-11-27 with Debian 12's nftables 1.0.6-2+deb12u2 on Linux 6.18, of a map with `flags dynamic,timeout` and a rule that updates it:
#   in text                                in JSON
#   flags dynamic,timeout                  "flags": ["timeout"]: dynamic is missing
#   update @m { ip daddr : 0x00000005 }    a string with that text among the objects of "expr"
#   nothing on stderr                      "warning: stmt ops map have no json callback" on stderr, with exit status 0
# Given back to `nft -j -f` the rule is refused ("Unexpected expr array element of type string, expected object"). An update of a *set*
# (`update @s { ip daddr }`) is an object and is taken.
# Who reads rules as JSON meets strings where the documentation has objects (libnftables-json(5), STATEMENTS), and whoever compares flags with what he has
# set sees a difference that is none. libnftables writes the warning past the error buffer of nft_ctx_buffer_error.
#
# Exit status: 0 as seen, 1 something has changed (a line says what), 2 it could not be tried here.
# Needs root, python3 and Debian 12's package lists. All of it is in a temporary folder and a network namespace of its own.
set -euo pipefail

PACKAGES=('nftables=1.0.6-2+deb12u2' 'libnftables1=1.0.6-2+deb12u2' 'libnftnl11=1.2.4-2' 'libmnl0=1.0.4-3' 'libjansson4=2.14-2'
  'libedit2=3.1-20221030-2')

untried() { echo "cannot be tried: $*" >&2 && exit 2; }
changed() { echo "changed: $*" >&2 && exit 1; }
expect() { # WHAT WANTED FOUND
  printf '%-28s %s\n' "$1" "$3"
  [ "$3" = "$2" ] || changed "$1: was $2"
}
# what EXPRESSION: of the listing on stdin, as python has it in `kinds`: the objects by their kind.
what() { python3 -c 'import json, sys
kinds = {}
for entry in json.load(sys.stdin)["nftables"]:
    for kind, value in entry.items(): kinds.setdefault(kind, []).append(value)
print(eval(sys.argv[1]))' "$1"; }

inside() {
  export PATH=$folder/usr/sbin:$PATH LD_LIBRARY_PATH=$folder/usr/lib/x86_64-linux-gnu
  local own='flags dynamic,timeout; timeout 1m; size 100;'
  printf 'table ip t {\nmap m { type ipv4_addr : mark; %s }\nset s { type ipv4_addr; %s }\nchain c {\nupdate @m { ip daddr : 5 }\nupdate @s { ip daddr }\n}\n}\n' \
    "$own" "$own" | nft -f - || untried 'the kernel does not take the table'
  echo "$(nft --version), Linux $(uname -r)"
  nft -j list table ip t >"$folder/listed" 2>"$folder/errors" || untried 'the table cannot be listed'
  expect "flags of the map, in text" 'flags dynamic,timeout' "$(nft list map ip t m | grep -o 'flags.*')"
  expect 'flags of the map, in JSON' "['timeout']" "$(what 'kinds["map"][0]["flags"]' <"$folder/listed")"
  expect 'flags of the set, in JSON' "['timeout']" "$(what 'kinds["set"][0]["flags"]' <"$folder/listed")"
  expect 'the rule about the map' 'update @m { ip daddr : 0x00000005 }' "$(what 'kinds["rule"][0]["expr"][0]' <"$folder/listed")"
  expect 'the rule about the set' 'dict' "$(what 'type(kinds["rule"][1]["expr"][0]).__name__' <"$folder/listed")"
  expect 'on stderr' 'warning: stmt ops map have no json callback' "$(cat "$folder/errors")"
  nft flush ruleset
  nft -j -f "$folder/listed" 2>"$folder/errors" && changed 'what was listed is taken'
  expect 'given back' 'Unexpected expr array element of type string, expected object.' "$(grep -o 'Unexpected.*' "$folder/errors" | head -1)"
  echo 'as seen'
}

[ "$(id -u)" = 0 ] || untried 'must run as root'
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "${PACKAGES[@]}") || untried "no ${PACKAGES[*]}"
for file in "$folder"/*.deb; do dpkg -x "$file" "$folder"; done
export folder
export -f untried changed expect what inside
unshare --net bash -euo pipefail -c inside
