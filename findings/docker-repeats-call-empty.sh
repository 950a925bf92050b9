#!/bin/bash
# Docker repeats a plugin's call whose answer broke off, but without what it is about.
#
# Seen on 2026-11-29 with Debian 12's docker.io 20.10.24+dfsg1-1+deb12u1+b6, containerd 1.6.20 and runc 1.1.5. moby's source (callWithRetry in
# pkg/plugins/client.go) reads the same: each attempt makes its request of one reader, which the first one has read to its end.
#
# A remote network driver reads NetworkDriver.CreateEndpoint and ends the connection in place of an answer, as one that is killed just then. dockerd asks
# again after a second, as it does where nobody listens, and takes what comes then as the answer to its call:
#   NetworkDriver.CreateEndpoint whole     ends without an answer
#   NetworkDriver.CreateEndpoint empty     "which endpoint?"
#   $ docker run --network net image       Error response from daemon: ... remote: which endpoint?
# Expected: the same call again, or an error of the connection. So a driver that was started anew cannot do what its predecessor was asked for, and
# what it says of the empty call is what Docker's user reads.
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

# A network driver that ends the connection of its first CreateEndpoint. It writes down each call, and how long it is.
driver() {
  python3 - <<'END'
import http.server, json, socketserver
ANSWERS = {'/Plugin.Activate': {'Implements': ['NetworkDriver']}, '/NetworkDriver.GetCapabilities': {'Scope': 'local'}}
calls = []
class Driver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers.get('Content-Length') or 0)
        self.rfile.read(length)
        calls.append(self.path)
        print(self.path, 'empty' if length == 0 else 'whole', flush=True)
        answer = ANSWERS.get(self.path, {})
        if self.path == '/NetworkDriver.CreateEndpoint':
            if calls.count(self.path) == 1:
                self.close_connection = True
                return
            if length == 0:
                answer = {'Err': 'which endpoint?'}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())
    def log_message(self, *args): pass
socketserver.ThreadingUnixStreamServer('/run/docker/plugins/breaker.sock', Driver).serve_forever()
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
calls() { grep CreateEndpoint "$folder/calls" | cut -d' ' -f2 | paste -sd' ' | sed 's/$/./'; }

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
  { tar -C "$folder" -c bin/busybox | docker import - image && docker network create --driver breaker net; } >/dev/null ||
    untried 'no image, or no network of the driver'

  echo "Docker $(docker version -f '{{.Server.Version}}')"
  expect 1 'remote: which endpoint?' docker run --rm --network net image busybox true
  expect 0 'whole empty.' calls
  echo 'as seen'
}

[ "$(id -u)" = 0 ] || untried 'must run as root'
folder=$(mktemp -d) group=call-repeated-$$ host=
trap leave EXIT && trap 'exit 130' INT TERM HUP
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "${PACKAGES[@]}") || untried "no ${PACKAGES[*]}"
for file in "$folder"/*.deb; do dpkg -x "$file" "$folder"; done
export folder group
export -f untried changed driver expect calls inside
unshare --mount --net --pid --fork --kill-child --mount-proc bash -euo pipefail -c inside &
host=$! status=0
wait $host || status=$?
host= && exit $status
