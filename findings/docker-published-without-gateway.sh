#!/bin/bash
# `docker port` shows a published port of a remote driver's network where the driver was never asked to publish it, and none where it was.
#
# Seen on 2026-11-28 with Debian 12's docker.io 20.10.24+dfsg1-1+deb12u1+b6, containerd 1.6.20 and runc 1.1.5, by two networks of a remote driver whose
# answers to NetworkDriver.Join differ in Gateway only:
#                                               Gateway ''                    Gateway 10.9.0.1
#   docker run -p 8080:80 --network ...         exit status 0, no warning     exit status 0
#   NetworkDriver.CreateEndpoint                once, with the port map       once, with the port map
#   NetworkDriver.ProgramExternalConnectivity   never                         once, with the port map
#   docker port CONTAINER                       80/tcp -> 0.0.0.0:8080        nothing
# So who has no gateway is told that a port is published that nobody has published, and who has one that none is.
# With `-P` the driver is asked with HostPort 0 and chooses; Docker has no call by which it would hear which port that is:
#   docker port CONTAINER 80                    "Error: No public port '80/tcp' published for ...", exit status 1
#
# Exit status: 0 as seen, 1 something has changed (a line says what), 2 it could not be tried here.
# Needs root, Debian 12's package lists and python3. All of it is in a temporary folder and namespaces of its own.
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

# A network driver whose networks have a gateway, or none, by their option. It writes down each call with its body.
driver() {
  python3 - <<'END'
import http.server, json, socketserver, subprocess
gateways = {}
class Driver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get('Content-Length') or 0)) or b'{}')
        answer = {'/Plugin.Activate': {'Implements': ['NetworkDriver']}, '/NetworkDriver.GetCapabilities': {'Scope': 'local'}}.get(self.path, {})
        network = body.get('NetworkID')
        if self.path == '/NetworkDriver.CreateNetwork':
            gateways[network] = body['Options']['com.docker.network.generic'].get('gateway', '')
        if self.path == '/NetworkDriver.Join':
            name = 'v' + body['EndpointID'][:8]
            subprocess.run(['ip', 'link', 'add', name, 'type', 'veth', 'peer', 'name', 'p' + name], check=True)
            answer = {'InterfaceName': {'SrcName': name, 'DstPrefix': 'eth'}, 'Gateway': gateways[network]}
        print(gateways.get(network, '-') or 'none', self.path.split('.')[-1], json.dumps(body), flush=True)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())
    def log_message(self, *args): pass
socketserver.UnixStreamServer('/run/docker/plugins/two.sock', Driver).serve_forever()
END
}

# expect STATUS TEXT COMMAND...: shows the command and its output, which has the text in it.
expect() {
  local wanted=$1 text=$2 status=0 output && shift 2
  output=$("$@" 2>&1) || status=1
  printf '$ %s\n  %s\n' "$*" "${output:-(no output)}"
  [ $status = "$wanted" ] || changed "'$*' has exit status $status, was $wanted"
  [[ $output == *"$text"* ]] || changed "'$*' does not print '$text' any more"
}
# Of the network with this gateway: how often the driver was called so, and how often with a port map that is not empty.
calls() { echo "$2=$(grep -c "^$1 $2 " "$folder/calls") with ports=$(grep "^$1 $2 " "$folder/calls" | grep -c '"HostPort"')."; }

ports() { echo "ports: $(docker port "$1")."; }

inside() {
  export PATH=$folder/usr/sbin:$folder/usr/bin:$PATH DOCKER_HOST=unix:///run/docker.sock DOCKER_CONFIG=$folder/client
  mount -t tmpfs -o mode=755 tmpfs /run && mkdir -p /run/docker/plugins
  driver >"$folder/calls" &
  echo '{ "iptables": false, "bridge": "none", "storage-driver": "vfs" }' >"$folder/daemon.json"
  dockerd --config-file="$folder/daemon.json" --data-root="$folder/data" --exec-root="$folder/exec" \
    --pidfile=/run/docker.pid --host="$DOCKER_HOST" --cgroup-parent="/$group" >"$folder/log" 2>&1 &
  until docker version >/dev/null 2>&1; do
    kill -0 $! 2>/dev/null && ((SECONDS < 60)) || untried "dockerd does not start: $(tail -n 1 "$folder/log")"
    sleep 0.2
  done
  { tar -C "$folder" -c bin/busybox | docker import - image && docker network create --driver two --subnet 10.8.0.0/24 closed &&
    docker network create --driver two --subnet 10.9.0.0/24 --opt gateway=10.9.0.1 open; } >/dev/null || untried 'no network of the driver'

  echo "Docker $(docker version -f '{{.Server.Version}}')"
  expect 0 '' docker run -d --name silent -p 8080:80 --network closed image busybox sleep 600
  expect 0 'CreateEndpoint=1 with ports=1.' calls none CreateEndpoint
  expect 0 'ProgramExternalConnectivity=0 with ports=0.' calls none ProgramExternalConnectivity
  expect 0 'ports: 80/tcp -> 0.0.0.0:8080.' ports silent
  expect 0 '' docker run -d --name led -p 8081:80 --network open image busybox sleep 600
  expect 0 'CreateEndpoint=1 with ports=1.' calls 10.9.0.1 CreateEndpoint
  expect 0 'ProgramExternalConnectivity=1 with ports=1.' calls 10.9.0.1 ProgramExternalConnectivity
  expect 0 'ports: .' ports led
  expect 0 '' docker run -d --name chosen -P --expose 80 --network open image busybox sleep 600
  expect 0 'ProgramExternalConnectivity=2 with ports=2.' calls 10.9.0.1 ProgramExternalConnectivity
  expect 1 "No public port '80/tcp' published" docker port chosen 80
  echo 'as seen'
}

[ "$(id -u)" = 0 ] || untried 'must run as root'
folder=$(mktemp -d) group=published-$$ host=
trap leave EXIT && trap 'exit 130' INT TERM HUP
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "${PACKAGES[@]}") || untried "no ${PACKAGES[*]}"
for file in "$folder"/*.deb; do dpkg -x "$file" "$folder"; done
export folder group
export -f untried changed driver expect calls ports inside
unshare --mount --net --pid --fork --kill-child --mount-proc bash -euo pipefail -c inside &
host=$! status=0
wait $host || status=$?
host= && exit $status
