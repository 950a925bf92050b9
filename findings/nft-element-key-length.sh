#!/bin/bash
# Asking the kernel for one element of a set: a part of a key is padded to four bytes in a concatenation, and must not be where it is alone.
#
# Seen on 2026-11-28 with Linux 6.18 and Debian 12's nftables 1.0.6-2+deb12u2, by NFT_MSG_GETSETELEM for an element that is there:
#   set of inet_service                key of 2 bytes 0x0050           found
#                                      key of 4 bytes 0x00500000       EINVAL
#   set of ipv4_addr . inet_service    key of 8 bytes, port padded     found
#                                      key of 6 bytes, port unpadded   EINVAL
# Both lie in registers of four bytes while a packet is judged, and `nft list` shows both sets alike. NFTA_SET_KEY_LEN says 2 and 8, which is the length that
# is meant: a program that encodes parts in one way for both asks in vain for half of its sets, and EINVAL does not say that it is the length.
#
# Exit status: 0 as seen, 1 something has changed (a line says what), 2 it could not be tried here.
# Needs root, python3 and Debian 12's package lists. All of it is in a temporary folder and a network namespace of its own.
set -euo pipefail

PACKAGES=('nftables=1.0.6-2+deb12u2' 'libnftables1=1.0.6-2+deb12u2' 'libnftnl11=1.2.4-2' 'libmnl0=1.0.4-3' 'libjansson4=2.14-2'
  'libedit2=3.1-20221030-2')

untried() { echo "cannot be tried: $*" >&2 && exit 2; }
changed() { echo "changed: $*" >&2 && exit 1; }

# ask SET KEY: the key in hexadecimal.
ask() {
  python3 - "$1" "$2" <<'END'
import errno, os, socket, struct, sys
GET_ELEMENT, INET, REQUEST = (10 << 8) | 13, 1, 1
def attribute(kind, value):
    return struct.pack('=HH', 4 + len(value), kind) + value + b'\0' * (-len(value) % 4)
NESTED = 0x8000
key = attribute(NESTED | 1, attribute(1, bytes.fromhex(sys.argv[2])))  # NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE
elements = attribute(NESTED | 3, attribute(NESTED | 1, key))           # NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_LIST_ELEM
body = struct.pack('>BBH', INET, 0, 0) + attribute(1, b't\0') + attribute(2, sys.argv[1].encode() + b'\0') + elements
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as kernel:
    kernel.bind((0, 0))
    kernel.send(struct.pack('=IHHII', 16 + len(body), GET_ELEMENT, REQUEST, 1, 0) + body)
    answer = kernel.recv(65536)
kind, = struct.unpack_from('=H', answer, 4)
code = -struct.unpack_from('=i', answer, 16)[0] if kind == 2 else 0
print(errno.errorcode[code] if code else 'found')
END
}
expect() { # WANTED WHAT SET KEY
  local found && found=$(ask "$3" "$4")
  printf '%-62s %s\n' "$2" "$found"
  [ "$found" = "$1" ] || changed "$2: was $1"
}

inside() {
  export PATH=$folder/usr/sbin:$PATH LD_LIBRARY_PATH=$folder/usr/lib/x86_64-linux-gnu
  printf 'table inet t {\nset one { type inet_service; elements = { 80 }; }\nset two { type ipv4_addr . inet_service; elements = { 192.0.2.1 . 80 }; }\n}\n' |
    nft -f - || untried 'the kernel does not take the table'
  echo "$(nft --version), Linux $(uname -r)"
  expect found 'inet_service, 2 bytes' one 0050
  expect EINVAL 'inet_service, padded to 4 bytes' one 00500000
  expect found 'ipv4_addr . inet_service, port padded: 8 bytes' two c000020100500000
  expect EINVAL 'ipv4_addr . inet_service, port unpadded: 6 bytes' two c00002010050
  echo 'as seen'
}

[ "$(id -u)" = 0 ] || untried 'must run as root'
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "${PACKAGES[@]}") || untried "no ${PACKAGES[*]}"
for file in "$folder"/*.deb; do dpkg -x "$file" "$folder"; done
export folder
export -f untried changed ask expect inside
unshare --net bash -euo pipefail -c inside
