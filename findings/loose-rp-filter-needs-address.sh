#!/bin/bash
# With rp_filter=2 (loose) a device that has no IPv4 address takes no packet whose sender is reached by another device.
#
# Seen on 2026-11-29 with Debian 12's iproute2 6.1.0-3 on Linux 6.18 (net/ipv4/fib_frontend.c: __fib_validate_source, no_addr):
#   rp_filter 2, no address                 dropped, counted as IPReversePathFilter
#   rp_filter 2, any address, /32 too       taken
#   rp_filter 0, no address                 taken
# ip-sysctl.rst says of 2 that a packet is dropped "if the source address is not reachable via any interface"; this one is, and of addresses it says
# nothing. Tunnels that hand on packets with addresses of the network below (WireGuard, tun devices) have no address of their own otherwise.
#
# Exit status: 0 as seen, 1 something has changed (a line says what), 2 it could not be tried here.
# Needs root and Debian 12's package lists. All of it is in a temporary folder and network namespaces of its own.
set -euo pipefail

PACKAGES=('iproute2=6.1.0-3' 'libbpf1=1:1.1.2-0+deb12u1' 'libbsd0=0.11.7-2' 'libelf1=0.188-2.1' 'libmnl0=1.0.4-3')

untried() { echo "cannot be tried: $*" >&2 && exit 2; }
changed() { echo "changed: $*" >&2 && exit 1; }
# count NAME: of the kernel's own, here.
count() { nstat -asz "$1" | awk -v name="$1" '$1 == name { print $2 }'; }
# expect WANTED WHAT: what becomes of a packet that arrives by "tun"; nobody has its port.
expect() {
  local dropped taken found=nothing
  dropped=$(count TcpExtIPReversePathFilter) taken=$(count UdpNoPorts)
  ip netns exec far bash -c 'echo >/dev/udp/192.0.2.1/9'
  for _ in {1..50}; do
    if [ "$(count TcpExtIPReversePathFilter)" != "$dropped" ]; then found=dropped; break; fi
    if [ "$(count UdpNoPorts)" != "$taken" ]; then found=taken; break; fi
    sleep 0.1
  done
  printf '%-36s %s\n' "$2:" "$found"
  [ "$found" = "$1" ] || changed "$2: was $1"
}

inside() {
  export PATH=$folder/sbin:$folder/bin:$PATH LD_LIBRARY_PATH=$folder/usr/lib/x86_64-linux-gnu:$folder/lib/x86_64-linux-gnu
  mount -t tmpfs run /run && ip netns add far
  ip link add name eth0 type veth peer name below || untried 'no veth in this kernel'
  ip link add name tun address 02:00:00:00:00:01 type veth peer name end netns far
  ip link set below up && ip link set eth0 up && ip link set tun up && ip link set lo up
  # The sender's address is reached by eth0.
  ip addr add 192.0.2.1/24 dev eth0
  ip -n far addr add 192.0.2.2/24 dev end && ip -n far link set end up
  ip -n far neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev end
  echo "$(ip -V), Linux $(uname -r)"
  echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
  echo 2 >/proc/sys/net/ipv4/conf/tun/rp_filter
  expect dropped 'rp_filter 2, no address'
  ip addr add 198.51.100.1/32 dev tun
  expect taken 'rp_filter 2, an address'
  ip addr del 198.51.100.1/32 dev tun
  expect dropped 'rp_filter 2, no address again'
  echo 0 >/proc/sys/net/ipv4/conf/tun/rp_filter
  expect taken 'rp_filter 0, no address'
  echo 'as seen'
}

[ "$(id -u)" = 0 ] || untried 'must run as root'
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "${PACKAGES[@]}") || untried "no ${PACKAGES[*]}"
for file in "$folder"/*.deb; do dpkg -x "$file" "$folder"; done
export folder
export -f untried changed count expect inside
unshare --net --mount bash -euo pipefail -c inside
