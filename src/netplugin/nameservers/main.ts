/**
 * Entry of the process that answers names on a host. The agent starts it, tells it what it knows and finds it again: it goes on
 * with what was told last while no agent runs. It ends when another has taken its place, or by a signal.
 *
 *   agent --POST /feed--> objects, routers --> a nameserver in each router
 */
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { lines } from '../../client/lines.ts';
import { giveBackMemory } from '../../linux/libc.ts';
import { listenOnSocket } from '../control.ts';
import { MEMORY_INTERVAL } from '../intervals.ts';
import { openUnpacker } from './parcel.ts';
import { enterPlace, placeIn } from './place.ts';
import type { Health, Said, Told } from './protocol.ts';
import { openNameservers } from './serve.ts';

/** Milliseconds in which queries are answered that came before another process took the place; a client waits for 5 s. */
const LINGER = 6000;

const text = { type: 'string', default: '' } as const;
const { values } = parseArgs({ options: { folder: text, host: text, 'log-level': text, program: text } });

const output = pino.destination(2);
output.on('error', () => {}); // whoever read the agent's log may be gone, as the agent is
const log = pino({ name: 'names', level: values['log-level'], base: { host: values.host } }, output);

giveBackMemory(MEMORY_INTERVAL);
const nameservers = openNameservers(log);
fs.mkdirSync(values.folder, { recursive: true });
const place = enterPlace(placeIn(values.folder));

function health(): Health {
  const { user, system } = process.cpuUsage();
  return {
    pid: process.pid,
    program: values.program,
    routers: nameservers.routers,
    residentBytes: process.memoryUsage.rss(),
    cpuSeconds: (user + system) / 1e6,
  };
}

/** Of the agent that came last: an earlier one is about to end. */
let feed: http.IncomingMessage | undefined;

async function follow(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
  feed?.destroy();
  feed = request;
  response.writeHead(200, { 'content-type': 'application/x-ndjson' }).flushHeaders();
  const unpack = openUnpacker();
  for await (const line of lines(request)) {
    const told = JSON.parse(line) as Told;
    if (request !== feed) return;
    if (told.type === 'list') nameservers.list(told.objects);
    if (told.type === 'changes') nameservers.change(told.objects);
    if (told.type !== 'routers') continue;
    await nameservers.serve(unpack(told.parcel));
    place.take();
    response.write(`${JSON.stringify({ holds: told.id } satisfies Said)}\n`);
  }
}

const server = http.createServer((request, response) => {
  if (request.method === 'POST' && request.url === '/feed') {
    follow(request, response)
      .catch((error) => {
        if (request === feed) log.debug({ err: error }, 'the agent has gone: names stay as it told them');
      })
      .finally(() => response.destroy());
    return;
  }
  const found = request.url === '/health';
  response.writeHead(found ? 200 : 404, { 'content-type': 'application/json' });
  response.end(
    JSON.stringify(found ? health() : { error: { code: 'not_found', message: 'ask for /health' } }),
  );
});
server.requestTimeout = 0; // a feed is one request
void listenOnSocket(server, path.join(values.folder, 'names.sock'));

process.once('SIGTERM', () => {
  setTimeout(
    () => {
      nameservers.close().finally(() => process.exit(0));
    },
    place.lost() ? LINGER : 0,
  );
});
