#!/bin/sh
# Packages only: what a fresh Debian or Ubuntu machine lacks to run the demo and the tests. Quick when all is there.
# setup.sh install: what the programs themselves need, Debian's packages only.
# setup.sh cluster: also what a lab with Kubernetes needs; setup.sh kubernetes: and upstream's suites, and what judges the chart. setup.sh docker VERSION: what
# one with that Docker needs.
set -eu
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then echo "setup: must run as root: try sudo make $*" >&2; exit 1; fi

# command or file, and Debian's package that has it
need=
want() { command -v "$1" >/dev/null 2>&1 || [ -e "$1" ] || need="$need $2"; }
want npm npm
# contiv-cni is compiled.
want gcc gcc
want /usr/include/stdlib.h libc6-dev
ldconfig -p | grep -q 'libnftables\.so\.1 ' || need="$need libnftables1"
if [ "${1:-}" != install ]; then
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
  want etcd etcd-server
  # By it the churn has disks that are full, or slow.
  want strace strace
  case "${1:-}" in cluster|kubernetes)
    want containerd containerd
    want runc runc
    # containerd sets up each pod's loopback with a plugin.
    want /usr/lib/cni/loopback containernetworking-plugins
    # Upstream's suites call it in pods.
    want nc.openbsd netcat-openbsd
    want gcc gcc
    want /usr/include/stdlib.h libc6-dev ;;
  test-package) want debootstrap debootstrap ;;
  test-ovs)
    want ovs-vswitchd openvswitch-switch
    want ethtool ethtool ;;
  # What judges the churn's histories is made with it (newGo.sh).
  test|test-lab|churn) want go golang-go ;;
  # runc's, which is built with it.
  docker)
    want /usr/include/seccomp.h libseccomp-dev
    want pkg-config pkg-config ;;
  bench)
    want wrk wrk
    want dnsperf dnsperf
    # What ours is measured beside.
    want dnsmasq dnsmasq-base
    want /usr/lib/cni/bridge containernetworking-plugins ;;
  test|test-lab)
    want podman podman
    # A fabric's router, and the daemon by which hosts speak to it.
    want /usr/lib/frr/bgpd frr
    want bird bird2 ;;
  esac
  # The shells whose completion is tested, and what alerts are tested with.
  case "${1:-}" in test|test-unit)
    want zsh zsh
    want fish fish
    want promtool prometheus
    # What reads an ACI fabric back is from PyPI.
    python3 -c 'import ensurepip' 2>/dev/null || need="$need python3-venv" ;;
  esac
  # Whatever Docker the machine has is used; docker.io only where there is none.
  command -v dockerd >/dev/null 2>&1 || need="$need docker.io"
  # Where the kernel has AppArmor on, dockerd starts no container without it.
  if [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ]; then want apparmor_parser apparmor; fi
fi
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

if [ "${1:-}" != install ]; then
  lab/npm.sh .
  ROOT=$PWD
  . bin/.bundle
fi
case "${1:-}" in
  cluster) lab/kubernetes/build.sh cluster ;;
  kubernetes) lab/kubernetes/build.sh && lab/chart/build.sh ;;
  docker) lab/docker/build.sh "${2:-}" ;;
esac
