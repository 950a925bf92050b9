#!/bin/bash
# BIRD tells a new neighbour all routes but the last up to 256, and those only when something else wakes it.
#
# Seen on 2026-11-28 with Debian 12's bird2 2.0.12-7, 1,000 routes, a neighbour that says nothing after its OPEN and KEEPALIVE:
#   at once                      768 routes, three times 256
#   a KEEPALIVE of the neighbour, or a question at the control socket (birdc show status)   the other 232, at once
# Without either they wait for BIRD's next timer, up to 3 s. Where one comes just then (four of eight sessions) nothing is seen, and the session is
# tried again. Routes are fed to a session 256 in a turn of the main loop, as work events, each of which schedules the session's
# sending as an event of the other list. Whether the loop may sleep is decided by what is left of the work events (sysdep/unix/io.c, io_loop), and
# after the last turn nothing is, while the sending of that turn waits in the other list. Later versions look at both lists.
#
# Exit status: 0 as seen, 1 something has changed (a line says what), 2 it could not be tried here.
# Needs root, node and Debian 12's package lists. All of it is in a temporary folder and network namespaces of its own.
set -euo pipefail

PACKAGE='bird2=2.0.12-7'

untried() { echo "cannot be tried: $*" >&2 && exit 2; }

[ "$(id -u)" = 0 ] || untried 'must run as root'
command -v node >/dev/null || untried 'no node'
folder=$(mktemp -d)
trap '[ ! -s "$folder/pid" ] || kill "$(cat "$folder/pid")" 2>/dev/null || true; rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "$PACKAGE") || untried "no $PACKAGE"
dpkg -x "$folder"/*.deb "$folder"
ldd "$folder/usr/sbin/bird" >"$folder/libraries" || true
! grep -q 'not found' "$folder/libraries" || untried "it needs $(awk '/not found/ { print $1 }' "$folder/libraries" | xargs)"

{
  cat <<END
log "$folder/log" all;
router id 192.0.2.1;
protocol device { scan time 60; }
protocol bgp silent {
  local 192.0.2.1 as 65001;
  neighbor 192.0.2.2 as 65000;
  hold time 240;
  connect delay time 1;
  ipv4 { import none; export all; next hop self; };
}
protocol static {
  ipv4;
END
  for i in {0..999}; do echo "  route 198.18.$((i / 250)).$((i % 250))/32 blackhole;"; done
  echo '}'
} >"$folder/bird.conf"

cat >"$folder/neighbor.mjs" <<'END'
import { execFileSync } from 'node:child_process';
import net from 'node:net';

const [folder, way, other] = process.argv.slice(2);
const [OPEN, UPDATE, KEEPALIVE] = [1, 2, 4];
const changed = (what) => {
  console.error(`changed: ${what}`);
  process.exit(1);
};
/** RFC 4271, 4.1. */
function message(type, body = Buffer.alloc(0)) {
  const head = Buffer.alloc(19, 0xff);
  head.writeUInt16BE(19 + body.length, 16);
  head[18] = type;
  return Buffer.concat([head, body]);
}
const open = Buffer.from([4, 0xfd, 0xe8, 0, 240, 192, 0, 2, 2, 0]); // version, AS 65000, hold time, identifier, no options
/** Of an UPDATE: prefixes of the field behind its attributes. */
function routesIn(body) {
  let at = 2 + body.readUInt16BE(0);
  at += 2 + body.readUInt16BE(at);
  let count = 0;
  for (; at < body.length; count++) at += 1 + Math.ceil(body[at] / 8);
  return count;
}
const start = performance.now();
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
let routes = 0;
let last = 0;
let peer;
let begun = false;
function take(type, body) {
  if (type === OPEN) peer.write(Buffer.concat([message(OPEN, open), message(KEEPALIVE)]));
  if (type === UPDATE) {
    begun = true;
    routes += routesIn(body);
    last = performance.now();
  }
}
net
  .createServer((socket) => {
    peer = socket;
    let rest = Buffer.alloc(0);
    socket.on('error', () => {});
    socket.on('data', (piece) => {
      rest = Buffer.concat([rest, piece]);
      while (rest.length >= 19 && rest.length >= rest.readUInt16BE(16)) {
        const length = rest.readUInt16BE(16);
        take(rest[18], rest.subarray(19, length));
        rest = rest.subarray(length);
      }
    });
  })
  .listen(179, '192.0.2.2', () =>
    execFileSync('nsenter', [
      `--net=/proc/${other}/ns/net`,
      `${folder}/usr/sbin/bird`,
      ...['-c', `${folder}/bird.conf`, '-s', `${folder}/ctl`, '-P', `${folder}/pid`],
    ]),
  );
/** Until nothing more has come for as long. */
async function quiet(ms) {
  while (!begun || performance.now() - last < ms) {
    if (performance.now() - start > 60_000) {
      console.error('cannot be tried here: no session within a minute');
      process.exit(2);
    }
    await sleep(20);
  }
}
await quiet(500);
console.log(`at once: ${routes} routes`);
// One of BIRD's timers has woken it just then: once more.
if (routes === 1000) process.exit(4);
if (routes !== 768) changed(`${routes} routes are told at once, not 768`);
const before = performance.now();
if (way === 'keepalive') peer.write(message(KEEPALIVE));
else execFileSync(`${folder}/usr/sbin/birdc`, ['-s', `${folder}/ctl`, 'show', 'status']);
while (routes < 1000 && performance.now() - before < 10_000) await sleep(1);
console.log(`${way}: ${routes} routes`);
if (routes !== 1000) changed(`${routes} routes after being woken, not 1,000`);
process.exit(0);
END
inside() { # WAY
  unshare --net sleep 300 &
  local other=$!
  trap "kill $other" EXIT
  while [ "$(readlink /proc/$other/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
  ip link add name one type veth peer name other netns "$other" || untried 'no veth in this kernel'
  ip addr add 192.0.2.2/24 dev one && ip link set one up
  nsenter --net="/proc/$other/ns/net" sh -c 'ip addr add 192.0.2.1/24 dev other && ip link set other up'
  timeout 120 node "$folder/neighbor.mjs" "$folder" "$1" "$other"
}
export folder
export -f inside untried
for way in keepalive question; do
  for try in {1..10}; do
    status=0
    unshare --net bash -euo pipefail -c "inside $way" || status=$?
    number=$(cat "$folder/pid") && kill "$number"
    while kill -0 "$number" 2>/dev/null; do sleep 0.1; done
    rm -f "$folder/pid"
    [ "$status" = 4 ] || break
  done
  [ "$status" != 4 ] || { echo "changed: all routes are told at once, $try times of $try" >&2 && exit 1; }
  [ "$status" = 0 ] || exit "$status"
done
echo 'as seen'
