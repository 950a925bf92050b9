/**
 * Clients of netmaster that read, write and delete a few objects, each asking whichever netmaster it comes to, and note what came of it (history.ts):
 * FILE CERTIFICATES URL,URL,... SEED. They go on until SIGTERM. Then what has become of every object is read once more at each netmaster that answers.
 */
import fs from 'node:fs';
import { ApiError, type Client, connect } from '../src/client/client.ts';
import { readCredentials } from '../src/client/credentials.ts';
import { CHANGES_HEADER, RESULT_HEADER } from '../src/protocol/wire.ts';
import { now } from './churnPackets.ts';
import type { Answered, Sent } from './history.ts';
import { randomFrom } from './random.ts';

const CLIENTS = 5;
/** Objects that are asked for at one time; after a while others are, so that few requests without an answer meet in one. */
const OBJECTS = 3;
const WHILE = 20_000;
/** Milliseconds between two requests of a client, at most. */
const PAUSE = 200;
/** One that says nothing has taken the request, or not. */
const PATIENCE = 6000;

const [file = '', certificates = '', urls = '', seed = '0'] = process.argv.slice(2);
const shown =
  certificates === ''
    ? {}
    : readCredentials({
        'tls-ca': `${certificates}/ca.crt`,
        'tls-cert': `${certificates}/admin.crt`,
        'tls-key': `${certificates}/admin.key`,
      });
interface Netmaster {
  readonly url: string;
  readonly client: Client;
  /** It said that its last answer may be of an earlier time. */
  stale: boolean;
}
/** Of one who has one request at a time. */
const connectAll = (): Netmaster[] =>
  urls.split(',').map((url) => {
    const onStale = (): void => {
      netmaster.stale = true;
    };
    const options = { urls: [url], timeoutMs: PATIENCE, name: 'history', credentials: () => shown, onStale };
    const netmaster: Netmaster = { url, client: connect(options), stale: false };
    return netmaster;
  });

const out = fs.openSync(file, 'a');
const note = (line: Sent | Answered): void => void fs.writeSync(out, `${JSON.stringify(line)}\n`);

let count = 0;
let values = 0;
let isOver = false;
const keys = new Set<string>();

/** What the answer to a request says was there before. */
async function ask(client: Client, { key, do: done, value }: Sent): Promise<number> {
  const at = { collection: 'netprofiles', key };
  try {
    if (done === 'read') return ((await client.call('get', at)).body as { burst: number }).burst;
    if (done === 'delete') {
      await client.call('delete', { ...at, wait: '0' });
      return -1;
    }
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return 0;
    throw error;
  }
  // A create says an object anew, as an update does.
  const name = Number(value) % 2 === 0 ? 'post' : 'put';
  const { headers } = await client.call(name, { ...at, wait: '0' }, { burst: value });
  if (headers[RESULT_HEADER] === 'created') return 0;
  const changes = JSON.parse(String(headers[CHANGES_HEADER] ?? '{}')) as { burst?: { before?: number } };
  return changes.burst?.before ?? -1;
}

/** Answers whether it is known what came of it. */
async function request(
  who: number,
  netmaster: Netmaster,
  wanted: Pick<Sent, 'key' | 'do' | 'value'>,
): Promise<boolean> {
  const n = count++;
  const sent: Sent = { n, client: who, ...wanted, to: netmaster.url, sent: now() };
  note(sent);
  netmaster.stale = false;
  try {
    const before = await ask(netmaster.client, sent);
    note({ n, is: { before }, answered: now(), ...(netmaster.stale ? { stale: true } : {}) });
    return true;
  } catch (error) {
    const { status = 0, message } = error as Partial<ApiError> & Error;
    // Nobody listened, or it was refused. What netmaster or its store failed at may have been done.
    const failed = status === 0 ? message.includes('ECONNREFUSED') : status < 500;
    note({ n, is: failed ? 'failed' : 'lost', answered: now(), why: `${status} ${message}` });
    return failed;
  }
}

const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

async function work(who: number): Promise<void> {
  const netmasters = connectAll();
  const random = randomFrom(Number(seed) + who * 0x9e3779b9);
  const one = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)] as T;
  // A client changes an object no more once it does not know what came of a change: what is judged doubles with each such request (history.ts).
  const unsure = new Set<string>();
  for (const began = now(); !isOver; ) {
    const key = `default:r${Math.floor((now() - began) / WHILE)}-${Math.floor(random() * OBJECTS)}`;
    keys.add(key);
    const wanted = one(['read', 'read', 'read', 'write', 'write', 'delete'] as const);
    const done = unsure.has(key) ? 'read' : wanted;
    const sent = { key, do: done, ...(done === 'write' && { value: ++values }) };
    if (!(await request(who, one(netmasters), sent)) && done !== 'read') unsure.add(key);
    await pause(random() * PAUSE);
  }
}

process.on('SIGTERM', () => {
  isOver = true;
});
await Promise.all(Array.from({ length: CLIENTS }, (_, who) => work(who)));
for (const netmaster of connectAll())
  for (const key of keys) await request(CLIENTS, netmaster, { key, do: 'read' });
process.exit(0);
