#!/bin/bash
# Of an answer that stays open, Node's http server keeps the parser for the next request of that connection, some 10 kB outside of the heap: more than all else of it.
#
# Seen on 2026-11-28 with Node 24.21.0 (npm's package node), 2,000 connections that came one after the other, each with an answer whose end does not come:
#   by `request`: head, chunked lines                              memory of the server grows by some 22 kB a connection
#   by `upgrade`: the same head and lines, written on the socket   some 7 to 8 kB a connection: the parser went back when the socket was given away
# Of the 14 kB between the parser has 10,112 bytes (malloc was counted), the request and the answer 4 kB. It (llhttp's state and room for the headers of a request, in C++) is in no heap snapshot, nor in `external` of process.memoryUsage(): a server of watches
# or of server-sent events sees it in the resident memory alone. Until the answer has ended no request can use it, but pipelined ones, which wait.
#
# Exit status: 0 as seen, 1 something has changed (a line says what), 2 it could not be tried here.
# Needs npm, and room for 4,200 files in `ulimit -n`. All of it is in a temporary folder; servers are on ports of 127.0.0.1 that are free.
set -euo pipefail

PACKAGE='node@24.21.0'

untried() { echo "cannot be tried: $*" >&2 && exit 2; }

command -v npm >/dev/null || untried 'no npm'
ulimit -n 8192 2>/dev/null || [ "$(ulimit -n)" = unlimited ] || [ "$(ulimit -n)" -ge 4200 ] || untried 'too few open files are allowed'
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix "$folder" "$PACKAGE" >"$folder/log" 2>&1 || untried "no $PACKAGE: $(tail -1 "$folder/log")"
node=$folder/node_modules/node/bin/node
[ -x "$node" ] || untried "$PACKAGE has no program for this machine"

cat >"$folder/server.mjs" <<'END'
import { createServer } from 'node:http';

const LINE = `${JSON.stringify({ type: 'ping' })}\n`;
const server = createServer((_, response) => {
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  response.write(LINE);
});
server.on('upgrade', (_, socket) => {
  socket.on('error', () => {});
  socket.write('HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n');
  socket.write(`${LINE.length.toString(16)}\r\n${LINE}\r\n`);
});
server.timeout = 0;
server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }));
process.on('message', () => {
  for (let i = 0; i < 4; i++) globalThis.gc();
  process.send({ rss: process.memoryUsage.rss(), external: process.memoryUsage().external });
});
END

cat >"$folder/measure.mjs" <<'END'
import { fork } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';

const CONNECTIONS = 2000;
const FIRST = 200;
const request = (upgrade) =>
  `GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n${upgrade ? 'Connection: Upgrade\r\nUpgrade: lines\r\n' : ''}\r\n`;

async function measure(upgrade) {
  const server = fork(new URL('server.mjs', import.meta.url), { execArgv: ['--expose-gc'] });
  const [{ port }] = await once(server, 'message');
  const memory = async () => {
    server.send('?');
    return (await once(server, 'message'))[0];
  };
  const sockets = [];
  const open = async (count) => {
    for (let i = 0; i < count; i++) {
      const socket = net.connect(port, '127.0.0.1');
      socket.on('error', () => {});
      socket.write(request(upgrade));
      let text = '';
      while (!text.includes('ping')) text += (await once(socket, 'data'))[0];
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

const open = await measure(false);
const upgraded = await measure(true);
const kB = (n) => n.toFixed(1).padStart(5);
console.log(`node ${process.version}, ${CONNECTIONS} connections`);
console.log(`open answers by request   ${kB(open.rss)} kB resident each, of which external ${kB(open.external)}`);
console.log(`the same by upgrade       ${kB(upgraded.rss)} kB resident each, of which external ${kB(upgraded.external)}`);
const changed = (what) => {
  console.error(`changed: ${what}`);
  process.exit(1);
};
if (open.rss - upgraded.rss < 7) changed('a connection with an open answer costs no parser more');
if (open.external > 2) changed('the parser shows in what Node says of memory outside of its heap');
console.log('as seen');
process.exit(0);
END
timeout 120 "$node" "$folder/measure.mjs"
