#!/bin/bash
# Docker's embedded resolver has the kernel track every connection of a container, at the container's own end.
#
# Seen on 2026-11-27 with Debian 12's docker.io 20.10.24+dfsg1-1+deb12u1+b6, containerd 1.6.20, runc 1.1.5 and iptables 1.8.9 (nf_tables).
# moby's source (setupNAT in daemon/libnetwork/resolver_unix.go) does the same by nftables where that is its firewall.
#
# On a network of one's own, unlike on the default bridge, Docker leads 127.0.0.11 to its resolver by NAT in the container's namespace.
# NAT takes conntrack for all of a namespace's packets, not for those alone that a rule catches. So:
#   default bridge     a datagram that the container sends elsewhere is not in its /proc/net/nf_conntrack
#   a network's own    it is, although no rule of the namespace is about it
# Expected by who counts a host's conntrack entries: one a connection. There is one more for each end in a container on such a network
# (all of a machine's namespaces share the memory, and nf_conntrack_max), and each packet pays for it.
# With `nft flush ruleset` in the namespace the next datagram is not tracked any more.
#
# Exit status: 0 as seen, 1 something has changed (a line says what), 2 it could not be tried here.
# Needs root, Debian 12's package lists, nft, and a kernel with /proc/net/nf_conntrack. All of it is in a temporary folder and
# namespaces of its own.
set -euo pipefail

PACKAGES=('docker.io=20.10.24+dfsg1-1+deb12u1+b6' 'containerd=1.6.20~ds1-1+deb12u3' 'runc=1.1.5+ds1-1+deb12u1'
  'busybox-static=1:1.35.0-4+deb12u1+b1')

untried() { echo "cannot be tried: $*" >&2 && exit 2; }
changed() { echo "changed: $*" >&2 && exit 1; }

# What runs in the namespaces ends with their first process, and their mounts with the last one: only files are left.
leave() {
  trap '' INT TERM HUP
  [ -z "${host:-}" ] || kill -KILL "$host" || true
  for _ in {1..100}; do
    find /sys/fs/cgroup -depth -type d -path "*/$group*" -exec rmdir {} + 2>/dev/null || true
    rm -rf "$folder" 2>/dev/null || true
    [ -e "$folder" ] || [ -n "$(find /sys/fs/cgroup -type d -name "$group" 2>/dev/null)" ] || return 0
    sleep 0.1
  done
  untried "$folder or the control group $group cannot be removed"
}

# tracked BOX PORT: sends a datagram from the container's namespace to elsewhere, and says whether its kernel tracks it.
tracked() {
  local pid && pid=$(docker inspect -f '{{.State.Pid}}' "$1")
  nsenter --net="/proc/$pid/ns/net" bash -c "echo >/dev/udp/192.0.2.1/$2; cat /proc/self/net/nf_conntrack" | grep -q "dport=$2 " &&
    echo tracked || echo 'not tracked'
}
expect() {
  local wanted=$1 what=$2 found && found=$(tracked "$3" "$4")
  printf '%-55s %s\n' "$what" "$found"
  [ "$found" = "$wanted" ] || changed "$what: was $wanted"
}

inside() {
  export PATH=$folder/usr/sbin:$folder/usr/bin:$PATH DOCKER_HOST=unix:///run/docker.sock DOCKER_CONFIG=$folder/client
  mount -t tmpfs -o mode=755 tmpfs /run && ip link set lo up
  echo '{ "storage-driver": "vfs" }' >"$folder/daemon.json"
  dockerd --config-file="$folder/daemon.json" --data-root="$folder/data" --exec-root="$folder/exec" \
    --pidfile=/run/docker.pid --host="$DOCKER_HOST" --cgroup-parent="/$group" >"$folder/log" 2>&1 &
  until docker version >/dev/null 2>&1; do
    kill -0 $! 2>/dev/null && ((SECONDS < 60)) || untried "dockerd does not start: $(tail -n 1 "$folder/log")"
    sleep 0.2
  done
  { tar -C "$folder" -c bin/busybox | docker import - image && docker network create own &&
    docker run -d --name default image busybox sleep 600 && docker run -d --name own --network own image busybox sleep 600
  } >/dev/null || untried 'no container, or no network'

  echo "Docker $(docker version -f '{{.Server.Version}}'), Linux $(uname -r)"
  expect 'not tracked' 'on the default bridge' default 9001
  expect tracked 'on a network of its own' own 9002
  nsenter --net="/proc/$(docker inspect -f '{{.State.Pid}}' own)/ns/net" nft flush ruleset
  expect 'not tracked' "there, without the resolver's rules" own 9003
  echo 'as seen'
}

[ "$(id -u)" = 0 ] || untried 'must run as root'
[ -e /proc/net/nf_conntrack ] || untried 'this kernel has no /proc/net/nf_conntrack'
folder=$(mktemp -d) group=resolver-conntrack-$$ host=
trap leave EXIT && trap 'exit 130' INT TERM HUP
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "${PACKAGES[@]}") || untried "no ${PACKAGES[*]}"
for file in "$folder"/*.deb; do dpkg -x "$file" "$folder"; done
export folder group
export -f untried changed tracked expect inside
unshare --mount --net --pid --fork --kill-child --mount-proc bash -euo pipefail -c inside &
host=$! status=0
wait $host || status=$?
host= && exit $status
