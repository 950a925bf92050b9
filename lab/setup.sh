#!/bin/sh
# Packages only: what a fresh Debian or Ubuntu machine lacks to run the demo and the tests. Quick when all is there.
set -eu
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then echo "setup: must run as root: try sudo make $*" >&2; exit 1; fi

# command or file, and Debian's package that has it
need=
want() { command -v "$1" >/dev/null 2>&1 || [ -e "$1" ] || need="$need $2"; }
want busybox busybox-static
want ip iproute2
want nft nftables
want bpftool bpftool
want iptables iptables
want nsenter util-linux
want curl curl
want dig bind9-dnsutils
want tcpdump tcpdump
want iperf3 iperf3
want socat socat
want traceroute traceroute
want arping arping
want wget wget
want ps procps
want npm npm
ldconfig -p | grep -q 'libnftables\.so\.1 ' || need="$need libnftables1"
# Whatever Docker the machine has is used; docker.io only where there is none.
command -v dockerd >/dev/null 2>&1 || need="$need docker.io"
# Where the kernel has AppArmor on, dockerd starts no container without it.
if [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ]; then want apparmor_parser apparmor; fi
if [ -n "$need" ]; then
  command -v apt-get >/dev/null 2>&1 || { echo "setup: missing:$need; install them, this machine has no apt-get" >&2; exit 1; }
  echo "  installing$need ..."
  # A Docker that is installed for the lab is not started on the machine itself.
  policy=
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    policy=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod +x $policy
    trap 'rm -f $policy' EXIT
  fi
  log=$(mktemp)
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $need; } >"$log" 2>&1 ||
    { tail -5 "$log" >&2; echo "setup: apt-get could not install$need" >&2; exit 1; }
  rm -f "$log"
fi

if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  echo "  installing npm packages ..."
  log=$(mktemp)
  npm ci --no-audit --no-fund >"$log" 2>&1 || { grep -m 8 'npm error' "$log" >&2; echo "setup: npm ci failed" >&2; exit 1; }
  rm -f "$log"
  touch node_modules/.package-lock.json
fi
if [ ! -x node_modules/node/bin/node ]; then
  (cd node_modules/node && npm run --silent preinstall) >/dev/null 2>&1 || { echo "setup: Node 24 was not installed by the npm package node" >&2; exit 1; }
fi
