#!/bin/bash
# The watch of the JavaScript client for Kubernetes drops what its callback throws, and ends by itself when nothing happens for 30 seconds.
#
# Seen on 2026-11-27 with @kubernetes/client-node 2.0.1 on Node 24, against a server that answers a watch with two valid events and then keeps silent:
#   the callback throws at the first event    nothing: no unhandled error, `done` is not called, the second event comes as if the first had been handled
#   30 s without an event                     `done` gets a DOMException named TimeoutError; the server has not closed
# A line is parsed and handed to the callback in one `try`, whose `catch` is for lines that are no JSON: a defect in the caller's code looks like an event that
# never came. What is called a request's timeout (requestTimeoutMs) becomes one of silence once the server has answered; an API server's bookmarks come about
# once a minute, and only to who asks for them, so a watch of something that rarely changes ends twice a minute. (The informer starts again and says nothing.)
#
# Exit status: 0 as seen, 1 something has changed (a line says what), 2 it could not be tried here.
# Needs Node 22 or later and npm. All of it is in a temporary folder; the server is on a port of 127.0.0.1 that is free.
set -euo pipefail

PACKAGE='@kubernetes/client-node@2.0.1'

untried() { echo "cannot be tried: $*" >&2 && exit 2; }

command -v node >/dev/null && command -v npm >/dev/null || untried 'no node or npm'
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix "$folder" "$PACKAGE" >"$folder/log" 2>&1 || untried "no $PACKAGE: $(tail -1 "$folder/log")"

cat >"$folder/watch.mjs" <<'END'
import { createServer } from 'node:http';
import { KubeConfig, Watch } from '@kubernetes/client-node';

const pod = (name, resourceVersion) => ({
  type: 'ADDED',
  object: { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'default', uid: name, resourceVersion } },
});
let closed = false;
const server = createServer((request, response) => {
  response.on('close', () => {
    closed = true;
  });
  response.writeHead(200, { 'content-type': 'application/json' });
  for (const event of [pod('first', '1'), pod('second', '2')]) response.write(`${JSON.stringify(event)}\n`);
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));

const config = new KubeConfig();
config.loadFromOptions({
  clusters: [{ name: 'c', server: `http://127.0.0.1:${server.address().port}`, skipTLSVerify: true }],
  users: [{ name: 'u' }],
  contexts: [{ name: 'x', cluster: 'c', user: 'u' }],
  currentContext: 'x',
});
const errors = [];
process.on('uncaughtException', (error) => errors.push(error));
process.on('unhandledRejection', (error) => errors.push(error));
const seen = [];
const began = performance.now();
const kept = setInterval(() => {}, 1000);
const ended = await new Promise((done) => {
  new Watch(config).watch(
    '/api/v1/pods',
    {},
    (type, object) => {
      seen.push(object.metadata.name);
      if (seen.length === 1) throw new Error('a defect of the caller');
    },
    (error) => done({ error, closed }),
  ).catch((error) => done({ error, closed }));
});
const seconds = Math.round((performance.now() - began) / 1000);
clearInterval(kept);
console.log(`node ${process.version}`);
console.log(`events that the callback got     ${seen.join(', ')}`);
console.log(`errors that anybody heard of     ${errors.length}`);
console.log(`done was called after about      ${seconds} s, with ${ended.error?.name ?? ended.error}`);
const changed = (what) => {
  console.error(`changed: ${what}`);
  process.exit(1);
};
if (seen.join() !== 'first,second') changed('which events the callback gets');
if (errors.length > 0) changed('what the callback throws is heard of');
if (ended.error?.name !== 'TimeoutError' || ended.closed) changed('how a silent watch ends');
if (seconds < 25 || seconds > 60) changed('when a silent watch ends');
console.log('as seen');
process.exit(0);
END
timeout 120 node "$folder/watch.mjs"
