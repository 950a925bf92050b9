/** GET /api/v1/watch of a real netmaster: the list, changes by revision, resuming, and watchers that are too slow. */
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { join } from 'node:path';
import { pino } from 'pino';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { ApiError, type Client, connect } from '../src/client/client.ts';
import { storeKey } from '../src/netmaster/mirror.ts';
import type { DeclaredObject } from '../src/protocol/declared.ts';
import type { WatchedObject, WatchMessage } from '../src/protocol/messages.ts';
import { openApi } from './apiServer.ts';
import { temporaryFolder } from './folder.ts';
import { netmasterOn } from './netmaster.ts';

type Change = Extract<WatchMessage, { type: 'change' }>;
type Synced = Extract<WatchMessage, { type: 'synced' }>;

async function started(store = 'memory') {
  const netmaster = await netmasterOn(store);
  await netmaster.start();
  const client = connect({ urls: [netmaster.url] });
  onTestFinished(() => client.close());
  return { netmaster, client };
}

/** As soon as it answers something. */
const until = <T>(look: () => T | Promise<T>): Promise<Exclude<T, false | undefined>> =>
  vi.waitUntil(look, { timeout: 30_000, interval: 5 }) as Promise<Exclude<T, false | undefined>>;

interface Watching {
  readonly messages: WatchMessage[];
  synced(): Promise<Synced>;
  /** Changes so far, without the objects of others. */
  changes(): Change[];
  readonly failure: Promise<unknown>;
  stop(): void;
}

function watch(client: Client, from: { store?: string; after?: number } = {}): Watching {
  const messages: WatchMessage[] = [];
  const stop = new AbortController();
  onTestFinished(() => stop.abort());
  const failure = (async () => {
    for await (const message of client.watch({ ...from, signal: stop.signal })) messages.push(message);
  })().then(
    () => undefined,
    (error: unknown) => error,
  );
  return {
    messages,
    failure,
    stop: () => stop.abort(),
    changes: () => messages.filter((m) => m.type === 'change'),
    synced: () => until(() => messages.find((m) => m.type === 'synced')),
  };
}

const createNetwork = (client: Client, name: string, i: number) =>
  client.call('post', { collection: 'networks', key: `default:${name}` }, { subnet: `10.1.${i}.0/24` });
/** An endpoint of network a with as many bytes. */
const large = (id: string, round: number, bytes: number) => ({
  endpointID: id,
  tenantName: 'default',
  networkName: 'a',
  ipAddress: [`10.1.1.${9 + (id === 'large' ? 0 : round)}`],
  macAddress: '02:02:0a:01:01:09',
  homingHost: 'h',
  status: 'running' as const,
  labels: { round: String(round), text: 'x'.repeat(bytes) },
});
/** `network default:a`, and `- network default:a` where it is gone. */
const texts = (changes: readonly Change[]): string[] =>
  changes.flatMap((c) => c.changes.map((o) => `${o.object === null ? '- ' : ''}${o.kind} ${o.key}`));
const objects = (messages: readonly WatchMessage[]): WatchedObject[] =>
  messages.filter((m) => m.type === 'object');

describe('a watch', () => {
  it('lists what is there, then tells changes by revision, in order', async () => {
    const { client } = await started();
    await createNetwork(client, 'a', 1);
    const watching = watch(client);
    const { revision } = await watching.synced();
    expect(objects(watching.messages).map((o) => `${o.kind} ${o.key}`)).toEqual(
      expect.arrayContaining(['tenant default', 'global global', 'network default:a']),
    );
    await createNetwork(client, 'b', 2);
    await client.call('delete', { collection: 'networks', key: 'default:a' });
    await until(() => watching.changes().length === 2);
    expect(texts(watching.changes())).toEqual(['network default:b', '- network default:a']);
    const revisions = watching.changes().map((c) => c.revision);
    expect(revisions).toEqual(revisions.toSorted((a, b) => a - b));
    expect(revisions[0]).toBeGreaterThan(revision);
  });

  it('shows nothing of netmaster’s own records', async () => {
    const { client } = await started();
    await createNetwork(client, 'a', 1);
    const watching = watch(client);
    await watching.synced();
    await client.call('reserve', {}, { tenantName: 'default', networkName: 'a', family: 4, host: 'h' });
    await createNetwork(client, 'b', 2);
    await until(() => watching.changes().length > 0);
    const kinds = new Set([
      ...objects(watching.messages).map((o) => o.kind),
      ...watching.changes().flatMap((c) => c.changes.map((o) => o.kind)),
    ]);
    expect([...kinds].sort()).toEqual(['global', 'network', 'tenant']);
  });

  it('resumes after a revision without a list and without a gap', async () => {
    const { client } = await started();
    const first = watch(client);
    const { store, revision } = await first.synced();
    first.stop();
    for (let i = 0; i < 5; i++) await createNetwork(client, `n${i}`, i);
    const second = watch(client, { store, after: revision });
    expect(await second.synced()).toEqual({ type: 'synced', store, revision });
    await createNetwork(client, 'n5', 5);
    await until(() => second.changes().length === 6);
    expect(objects(second.messages)).toEqual([]);
    expect(texts(second.changes())).toEqual([0, 1, 2, 3, 4, 5].map((i) => `network default:n${i}`));
    const third = watch(client, { store, after: second.changes()[3]?.revision as number });
    await until(() => third.changes().length === 2);
    expect(texts(third.changes())).toEqual(['network default:n4', 'network default:n5']);
  });

  it('of what waits for it has small changes in one piece and large ones as they are, each once and in order', async () => {
    const { client } = await started();
    const { synced } = watch(client);
    const { store, revision } = await synced();
    const set = (objects: DeclaredObject[]) => client.call('apply', {}, { objects });
    const rules = (first: number, count: number) =>
      Array.from({ length: count }, (_, i): DeclaredObject => {
        const ruleId = `${first + i}`;
        return {
          kind: 'rule',
          tenantName: 'default',
          policyName: 'p',
          ruleId,
          direction: 'in',
          action: 'deny',
        };
      });
    await set([{ kind: 'policy', tenantName: 'default', policyName: 'p' }]);
    for (let i = 0; i < 40; i++) await set(rules(i, 1));
    await set(rules(40, 300)); // one change, of more than is written as one
    for (let i = 0; i < 40; i++) await set(rules(340 + i, 1));
    // All of it waits for who comes now.
    const { changes } = watch(client, { store, after: revision });
    await until(() =>
      changes()
        .at(-1)
        ?.changes.some(({ key }) => key === 'default:p:379'),
    );
    const told = changes();
    expect(told.map((change) => change.revision)).toEqual(
      told.map((change) => change.revision).toSorted((a, b) => a - b),
    );
    const keys = told
      .flatMap((change) => change.changes.filter(({ kind }) => kind === 'rule'))
      .map(({ key }) => key);
    expect(keys).toEqual(Array.from({ length: 380 }, (_, i) => `default:p:${i}`));
  });

  it('of another store, of a revision that is not yet, and after a restart is 410: list again', async () => {
    const { netmaster, client } = await started(`sqlite:${join(temporaryFolder(), 'netmaster.db')}`);
    const first = watch(client);
    const { store, revision } = await first.synced();
    await createNetwork(client, 'a', 1);
    const gone = (from: { store?: string; after: number }) => expect(watch(client, from).failure).resolves;
    await gone({ store: 'another', after: revision }).toMatchObject({ status: 410 });
    await gone({ after: revision }).toMatchObject({ status: 410 });
    await gone({ store, after: revision + 1000 }).toMatchObject({ status: 410 });
    await netmaster.kill();
    expect(await first.failure).toBeInstanceOf(ApiError);
    await netmaster.start();
    // The history is this process's; the store, and what is in it, are the same.
    await gone({ store, after: revision }).toMatchObject({ status: 410 });
    const again = watch(client);
    const idOf = (position: string): string => position.split('.')[0] as string;
    expect(idOf((await again.synced()).store)).toBe(idOf(store));
    expect(objects(again.messages).map((o) => o.key)).toContain('default:a');
  });

  it('after a revision that is no number is refused', async () => {
    const { client } = await started();
    const watching = client.watch({ after: Number.NaN })[Symbol.asyncIterator]();
    await expect(watching.next()).rejects.toMatchObject({ status: 400, field: 'after' });
  });

  it('says that it lives while nothing changes', async () => {
    const { client } = await started();
    const watching = watch(client);
    await until(() => watching.messages.some((m) => m.type === 'ping'));
  });
});

/** What is answered to bytes on a connection of their own, as it comes, and whether that is over. */
async function answered(port: number, sent: string) {
  const socket = net.connect({ port, host: '127.0.0.1' });
  onTestFinished(() => void socket.destroy());
  const seen = { socket, text: '', isClosed: false };
  socket.setEncoding('utf8').on('data', (chunk) => {
    seen.text += chunk;
  });
  socket
    .on('error', () => {})
    .on('close', () => {
      seen.isClosed = true;
    });
  await once(socket, 'connect');
  socket.write(sent);
  return seen;
}
const get = (path: string, version = '1.1'): string =>
  `GET ${path} HTTP/${version}\r\nHost: 127.0.0.1\r\n\r\n`;

describe('the connection of a watch', () => {
  it('has chunks on HTTP/1.1, behind the answers to what was asked before, and lines alone on HTTP/1.0', async () => {
    const { port, close } = await openApi();
    onTestFinished(close);
    const chunked = await answered(port, get('/version') + get('/healthz') + get('/api/v1/watch'));
    await until(() => chunked.text.includes('"synced"'));
    expect(chunked.text.match(/HTTP\/1\.1 200 OK/g)).toHaveLength(3);
    const answer = chunked.text.slice(chunked.text.lastIndexOf('HTTP/1.1'));
    const [head = '', body = ''] = answer.split('\r\n\r\n');
    expect(head.toLowerCase().split('\r\n')).toContain('transfer-encoding: chunked');
    const [size = ''] = body.split('\r\n');
    expect(body.slice(size.length + 2 + Number.parseInt(size, 16)).slice(0, 2)).toBe('\r\n');

    const plain = await answered(port, get('/api/v1/watch', '1.0'));
    await until(() => plain.text.includes('"synced"'));
    const lines = plain.text.split('\r\n\r\n')[1] as string;
    for (const line of lines.trimEnd().split('\n')) expect(JSON.parse(line)).toHaveProperty('type');
  });

  it('goes on as soon as its head is taken, which may wait too', async () => {
    const api = await openApi();
    onTestFinished(() => api.close());
    // More than the buffers of a connection hold.
    let filled = 0;
    const full = new Promise<void>((done) => {
      api.server.server.prependListener('request', ({ socket }: http.IncomingMessage) => {
        while (socket.writableLength < 1 << 20) {
          const filling = Buffer.alloc(1 << 20);
          filled += filling.length;
          socket.write(filling);
        }
        done();
      });
    });
    const socket = net.connect(api.port, '127.0.0.1').setEncoding('latin1').pause();
    onTestFinished(() => void socket.destroy());
    socket.write('GET /api/v1/watch HTTP/1.1\r\nHost: x\r\n\r\n');
    await full;
    await until(async () => /^contiv_netmaster_watches 1$/m.test((await api.server.inject('/metrics')).body));
    let text = '';
    socket.on('data', (chunk: string) => {
      text += chunk;
    });
    socket.resume();
    await until(() => text.includes('"type"'));
    const [first] = /"type":"\w+"/.exec(text.slice(filled)) ?? [];
    expect(first).not.toBe('"type":"ping"');
  });

  it('is closed where a request waits behind the watch, or its client has ended', async () => {
    const { port, close } = await openApi();
    onTestFinished(close);
    const behind = await answered(port, get('/api/v1/watch') + get('/version'));
    await until(() => behind.isClosed);
    const ended = await answered(port, get('/api/v1/watch'));
    await until(() => ended.text.includes('"synced"'));
    ended.socket.write(get('/version'));
    ended.socket.end();
    await until(() => ended.isClosed);
    expect(ended.text.match(/HTTP\/1\.1/g)).toHaveLength(1);
    expect(await metric(`http://127.0.0.1:${port}`, 'watches')).toBe(0);
  });

  it('ends with netmaster, and has nothing of Node’s for a further request', async () => {
    const { server, port, close } = await openApi();
    const sockets: net.Socket[] = [];
    server.server.on('connection', (socket) => sockets.push(socket));
    const watching = await answered(port, get('/api/v1/watch'));
    await until(() => watching.text.includes('"synced"'));
    expect(sockets[0]).toMatchObject({ parser: null, _httpMessage: null });
    await close();
    await until(() => watching.isClosed);
  });
});

describe('a watcher that does not read', () => {
  it('is dropped, keeps nobody waiting, and resumes where it was', async () => {
    const { netmaster, client } = await started();
    await createNetwork(client, 'a', 1);
    const asleep = async (path: string): Promise<http.IncomingMessage> => {
      const [response] = await once(http.get(netmaster.url + path), 'response');
      onTestFinished(() => void response.destroy());
      return response.on('error', () => {}).pause(); // it is broken off, as it must be
    };
    const response = await asleep('/api/v1/watch');
    const brokenOff = new Promise<void>((done) => response.on('close', () => done()));
    const watching = watch(client);
    const { store, revision } = await watching.synced();

    // 150 times 0.7 MB: what it may be behind is 64 MiB, and some is in the kernel's buffers.
    const count = 150;
    for (let i = 0; i < count; i++) await client.call('attach', { id: 'large' }, large('large', i, 700_000));
    await until(() => watching.changes().length === count);
    response.resume();
    await brokenOff;
    expect(response.complete).toBe(false);

    // More than it may be behind, all at once: that is no reason to drop it, also when it takes its time.
    const resumed = await asleep(`/api/v1/watch?store=${store}&after=${revision}`);
    const pings = (): number => watching.messages.filter((m) => m.type === 'ping').length;
    const before = pings();
    await until(() => pings() > before + 1);
    let text = '';
    resumed.setEncoding('utf8').on('data', (chunk) => {
      text += chunk;
    });
    resumed.resume();
    await until(() => text.length > count * 700_000 && text.endsWith('\n'));
    const rounds = [...text.matchAll(/"round":"(\d+)"/g)].map((match) => Number(match[1]));
    expect(rounds).toEqual(Array.from({ length: count }, (_, i) => i));
  });
});

/** A number of /metrics. */
async function metric(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(new RegExp(`^contiv_netmaster_${name} (\\S+)$`, 'm').exec(text)?.[1]);
}

/** Opens a watch and never reads. */
async function sleeper(port: number, from = '127.0.0.1'): Promise<net.Socket> {
  const socket = net.connect({ port, host: '127.0.0.1', localAddress: from });
  onTestFinished(() => void socket.destroy());
  socket.on('error', () => {}).pause();
  await once(socket, 'connect');
  socket.write('GET /api/v1/watch HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n');
  return socket;
}

/** Status of a watch, and what is said where it is refused. */
async function asked(port: number, from: string): Promise<{ status: number; message: string }> {
  const request = http.get({ port, host: '127.0.0.1', localAddress: from, path: '/api/v1/watch' });
  onTestFinished(() => void request.destroy());
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  response.on('error', () => {});
  if (response.statusCode === 200) return { status: 200, message: '' };
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  return { status: response.statusCode ?? 0, message: JSON.parse(text).error.message };
}

describe('many watchers', () => {
  it('that do not read cost their connections, keep nobody waiting, and those who read see each change', async () => {
    const { netmaster, client } = await started();
    const port = Number(new URL(netmaster.url).port);
    const declared: DeclaredObject[] = [{ kind: 'policy', policyName: 'p' }];
    for (let i = 0; i < 10_000; i++)
      declared.push({ kind: 'rule', policyName: 'p', ruleId: `${i}`, direction: 'in', action: 'deny' });
    await client.call('apply', {}, { objects: declared });
    const first = watch(client);
    await first.synced();
    const size = first.messages.reduce((sum, m) => sum + JSON.stringify(m).length, 0);
    const before = await metric(netmaster.url, 'process_resident_memory_bytes');

    const count = 200;
    for (let i = 0; i < count; i++) await sleeper(port);
    const clients = Array.from({ length: 2 }, () => connect({ urls: [netmaster.url] }));
    for (const one of clients) onTestFinished(() => one.close());
    const readers = Array.from({ length: 50 }, (_, i) => watch(clients[i % 2] as Client));
    for (const reader of readers) await reader.synced();
    await until(() => metric(netmaster.url, 'watches').then((open) => open === 1 + count + readers.length));
    for (let i = 0; i < 20; i++) await createNetwork(client, `n${i}`, i);
    for (const reader of readers) {
      await until(() => reader.changes().length === 20);
      expect(texts(reader.changes())).toEqual(Array.from({ length: 20 }, (_, i) => `network default:n${i}`));
      expect(objects(reader.messages)).toHaveLength(10_003);
    }
    expect((await metric(netmaster.url, 'process_resident_memory_bytes')) - before).toBeLessThan(
      (count * size) / 10,
    );
    expect(await metric(netmaster.url, 'lists')).toBe(1);
    expect(await metric(netmaster.url, 'watch_queued_bytes')).toBeLessThan(count * (128 << 10));
  });

  it('are handed a piece at a time, as Node keeps for a connection by TLS as much as was ever handed to it at once', async () => {
    const api = await openApi();
    onTestFinished(() => api.close());
    // More than a connection's buffers hold, so that some of it waits.
    const [bytes, count] = [4000, 2500];
    const writes = Array.from({ length: count }, (_, i) => ({
      key: storeKey('endpoint', `e${i}`),
      value: large(`e${i}`, i, bytes),
    }));
    await api.store.transact([], writes);
    const writing = net.Socket.prototype as unknown as { _writev(chunks: { chunk: Buffer }[]): void };
    const handed = vi.spyOn(writing, '_writev');
    onTestFinished(() => handed.mockRestore());
    const asleep = await sleeper(api.port);
    await until(async () => (await metric(`http://127.0.0.1:${api.port}`, 'watch_queued_bytes')) > 0);
    let end = '';
    asleep.setEncoding('latin1').on('data', (chunk) => {
      end = `${end}${chunk}`.slice(-500);
    });
    asleep.resume();
    await vi.waitUntil(() => end.includes('"synced"'), { timeout: 120_000, interval: 50 });
    const pieces = handed.mock.calls.map(([chunks]) =>
      chunks.reduce((sum, { chunk }) => sum + chunk.length, 0),
    );
    expect(pieces.reduce((sum, length) => sum + length, 0)).toBeGreaterThan(count * bytes);
    // A piece, with the line that fills it.
    expect(Math.max(...pieces)).toBeLessThan((16 << 10) + 2 * bytes);
  });

  it('are refused above a number of one client and of all, and the log says so in one line', async () => {
    const said: string[] = [];
    const log = pino({ level: 'warn' }, { write: (text: string) => void said.push(JSON.parse(text).msg) });
    const api = await openApi(undefined, { watchLimits: { client: 3, all: 5 }, log });
    onTestFinished(() => api.close());
    const { port } = api;
    const opened = [];
    for (const from of ['127.0.0.1', '127.0.0.1', '127.0.0.1', '127.0.0.2']) {
      opened.push(await sleeper(port, from));
      await until(async () => (await metric(`http://127.0.0.1:${port}`, 'watches')) === opened.length);
    }
    for (let i = 0; i < 10; i++)
      expect(await asked(port, '127.0.0.1')).toEqual({
        status: 429,
        message: 'watch: 3 are open from 127.0.0.1, as many as one client may have: close some',
      });
    expect(await asked(port, '127.0.0.3')).toEqual({ status: 200, message: '' });
    expect(await asked(port, '127.0.0.3')).toEqual({
      status: 503,
      message: 'watch: 5 are open, as many as there may be: try again later',
    });
    expect(await metric(`http://127.0.0.1:${port}`, 'watches_refused')).toBe(11);
    await until(() => said.length > 0);
    expect(said).toEqual([
      '11 watches were refused, 10 of them from 127.0.0.1: too many are open from one client or in all',
    ]);
    opened[0]?.destroy();
    await until(async () => (await asked(port, '127.0.0.1')).status === 200);
  });

  it('make room for another one where they do not take what is sent', async () => {
    const api = await openApi(undefined, { watchLimits: { client: 3, all: 5 } });
    onTestFinished(() => api.close());
    const url = `http://127.0.0.1:${api.port}`;
    // More than a connection's buffers hold.
    const own = connect({ urls: [url] });
    onTestFinished(() => own.close());
    await createNetwork(own, 'a', 1);
    for (let i = 0; i < 20; i++) await own.call('attach', { id: `e${i}` }, large(`e${i}`, i, 1 << 19));
    for (let i = 0; i < 3; i++) await sleeper(api.port);
    await until(async () => (await metric(url, 'watches')) === 3);
    await until(async () => (await asked(api.port, '127.0.0.1')).status === 200);
    expect(await metric(url, 'watches_closed')).toBe(1);
    expect(await metric(url, 'watches')).toBe(3);
  });
});
