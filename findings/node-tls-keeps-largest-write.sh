#!/bin/bash
# A TLS connection of Node keeps memory of the size of the largest piece that was ever written on it, for as long as it is open, though all of it has been sent.
#
# Seen on 2026-11-29 with Node 24.21.0 (npm's package node, OpenSSL 3.5), 200 connections by TLS 1.3 each, on which 1 MiB was written and read, and which stay open and idle;
# memory of the server (resident, after collections; one arena of malloc that gives back what is free) by the pieces in which it was written, each when the one before had been taken:
#   pieces of 16 KiB    some 110 kB a connection
#   one of 1 MiB        some 1,110 kB a connection
#   the same by TCP     nothing of it stays: 1 to 7 kB a connection
# What is kept are the encrypted bytes' buffers (in C++), which the next write uses again. It is in no heap snapshot, nor in `external` or `arrayBuffers` of process.memoryUsage():
# a server with connections that stay (keep-alive, streams) and now and then a large answer on each sees it in the resident memory alone.
#
# Exit status: 0 as seen, 1 something has changed (a line says what), 2 it could not be tried here.
# Needs npm, openssl, and room for 600 files in `ulimit -n`. All of it is in a temporary folder; servers are on ports of 127.0.0.1 that are free.
set -euo pipefail

PACKAGE='node@24.21.0'

untried() { echo "cannot be tried: $*" >&2 && exit 2; }

command -v npm >/dev/null || untried 'no npm'
command -v openssl >/dev/null || untried 'no openssl'
[ "$(ulimit -n)" = unlimited ] || [ "$(ulimit -n)" -ge 600 ] || untried 'too few open files are allowed'
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix "$folder" "$PACKAGE" >"$folder/log" 2>&1 || untried "no $PACKAGE: $(tail -1 "$folder/log")"
node=$folder/node_modules/node/bin/node
[ -x "$node" ] || untried "$PACKAGE has no program for this machine"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out cert.pem 2>>"$folder/log" ||
  untried "no certificate: $(tail -1 "$folder/log")"

cat >"$folder/server.mjs" <<'END'
import fs from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';

const [kind, piece] = [process.argv[2], Number(process.argv[3])];
const TOTAL = 1 << 20;
const bytes = Buffer.alloc(piece, 'x');
function serve(socket) {
  socket.on('error', () => {});
  let left = TOTAL;
  const next = () => {
    if (left === 0) return;
    left -= piece;
    socket.write(bytes, next); // when the one before has been taken
  };
  next();
}
const files = { cert: fs.readFileSync('cert.pem'), key: fs.readFileSync('key.pem'), minVersion: 'TLSv1.3' };
const server = kind === 'tls' ? tls.createServer(files, serve) : net.createServer(serve);
server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }));
process.on('message', () => {
  for (let i = 0; i < 4; i++) globalThis.gc();
  const { rss, external } = process.memoryUsage();
  process.send({ rss, external });
});
END

cat >"$folder/measure.mjs" <<'END'
import { fork } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';

const CONNECTIONS = 200;
const FIRST = 20;
const TOTAL = 1 << 20;
const ca = fs.readFileSync('cert.pem');

async function measure(kind, piece) {
  const server = fork(new URL('server.mjs', import.meta.url), [kind, `${piece}`], {
    execArgv: ['--expose-gc'],
    env: { ...process.env, MALLOC_ARENA_MAX: '1', MALLOC_TRIM_THRESHOLD_: '131072' },
  });
  const [{ port }] = await once(server, 'message');
  const memory = async () => {
    server.send('?');
    return (await once(server, 'message'))[0];
  };
  const sockets = [];
  const open = async (count) => {
    for (let i = 0; i < count; i++) {
      const to = { port, host: '127.0.0.1' };
      const socket = kind === 'tls' ? tls.connect({ ...to, ca, servername: 'localhost' }) : net.connect(to);
      let read = 0;
      while (read < TOTAL) read += (await once(socket, 'data'))[0].length;
      sockets.push(socket);
    }
  };
  await open(FIRST); // what is made once
  const before = await memory();
  await open(CONNECTIONS);
  const after = await memory();
  for (const socket of sockets) socket.destroy();
  server.kill();
  const each = (what) => (after[what] - before[what]) / CONNECTIONS / 1000;
  return { rss: each('rss'), external: each('external') };
}

const small = await measure('tls', 16 << 10);
const large = await measure('tls', TOTAL);
const plain = await measure('tcp', TOTAL);
const kB = (n) => n.toFixed(1).padStart(7);
console.log(`node ${process.version}, OpenSSL ${process.versions.openssl}, ${CONNECTIONS} connections, 1 MiB on each`);
console.log(`TLS, in pieces of 16 KiB  ${kB(small.rss)} kB resident each`);
console.log(`TLS, in one piece         ${kB(large.rss)} kB resident each, of which external ${kB(large.external)}`);
console.log(`TCP, in one piece         ${kB(plain.rss)} kB resident each`);
const changed = (what) => {
  console.error(`changed: ${what}`);
  process.exit(1);
};
if (large.rss - small.rss < 500) changed('what was written in one piece is not kept by TLS');
if (small.rss > 200) changed('what was written in small pieces is kept by TLS');
if (plain.rss > 200) changed('what was written in one piece is kept by TCP');
if (large.external > 100) changed('what is kept shows in what Node says of memory outside of its heap');
console.log('as seen');
process.exit(0);
END
timeout 120 "$node" "$folder/measure.mjs"
