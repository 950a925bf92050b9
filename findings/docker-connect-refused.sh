#!/bin/bash
# Docker keeps a connection that the network's driver has refused.
#
# Seen on 2026-11-27 with Debian 12's docker.io 20.10.24+dfsg1-1+deb12u1+b6, containerd 1.6.20 and runc 1.1.5. moby's source
# (connectToNetwork in daemon/container_operations.go) reads the same up to 28.5.2: the network is written into the container's
# settings before the driver is asked. 29.0.0 takes it out again where Join fails, not yet where CreateEndpoint does.
#
# A remote driver answers NetworkDriver.Join with an error, on `docker network connect` to a running container. Then:
#   $ docker network connect net box       Error response from daemon: remote: refused
#   $ docker inspect box                   net is among its networks all the same, and stays there
#   $ docker network disconnect net box    Error response from daemon: container ID is not connected to network net
#   $ docker restart box                   asks the driver once more, fails by the same error, and box stays down
#   $ docker start box                     likewise
# Only now that it is down, `docker network disconnect net box` is done, and box starts again.
# Expected: what was refused is not kept, and a container that ran without the network starts without it.
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

# A network driver that does everything but let a container join. It writes down each call.
driver() {
  python3 - <<'END'
import http.server, json, socketserver
ANSWERS = {'/Plugin.Activate': {'Implements': ['NetworkDriver']}, '/NetworkDriver.GetCapabilities': {'Scope': 'local'},
           '/NetworkDriver.Join': {'Err': 'refused'}}
class Driver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get('Content-Length') or 0))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(ANSWERS.get(self.path, {})).encode())
    def log_message(self, *args): print(self.path, flush=True)
socketserver.UnixStreamServer('/run/docker/plugins/refuser.sock', Driver).serve_forever()
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
networks() { docker inspect -f 'running={{.State.Running}}{{range $n, $_ := .NetworkSettings.Networks}} {{$n}}{{end}}.' "$1"; }
joins() { echo "joins=$(grep -c '^/NetworkDriver.Join$' "$folder/calls")."; }

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
  { tar -C "$folder" -c bin/busybox | docker import - image && docker network create first &&
    docker network create --driver refuser net && docker run -d --name box --network first image busybox sleep 600
  } >/dev/null || untried 'no container, or no network of the driver'

  echo "Docker $(docker version -f '{{.Server.Version}}')"
  expect 0 'running=true first.' networks box
  expect 1 'remote: refused' docker network connect net box
  expect 0 'running=true first net.' networks box
  expect 1 'is not connected to network net' docker network disconnect net box
  expect 0 'joins=1.' joins
  expect 1 'remote: refused' docker restart -t 0 box
  expect 0 'running=false first net.' networks box
  expect 1 'remote: refused' docker start box
  expect 0 'joins=3.' joins
  expect 0 '' docker network disconnect net box
  expect 0 box docker start box
  expect 0 'running=true first.' networks box
  echo 'as seen'
}

[ "$(id -u)" = 0 ] || untried 'must run as root'
folder=$(mktemp -d) group=connect-refused-$$ host=
trap leave EXIT && trap 'exit 130' INT TERM HUP
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "${PACKAGES[@]}") || untried "no ${PACKAGES[*]}"
for file in "$folder"/*.deb; do dpkg -x "$file" "$folder"; done
export folder group
export -f untried changed driver expect networks joins inside
unshare --mount --net --pid --fork --kill-child --mount-proc bash -euo pipefail -c inside &
host=$! status=0
wait $host || status=$?
host= && exit $status
