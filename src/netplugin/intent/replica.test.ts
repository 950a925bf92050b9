import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Worker } from 'node:worker_threads';
import { pino } from 'pino';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { temporaryFolder } from '../../../test/folder.ts';
import { connect } from '../../client/client.ts';
import type { Endpoint } from '../../model/endpoint.ts';
import type { WatchedObject, WatchMessage } from '../../protocol/messages.ts';
import { retryDelay } from '../intervals.ts';
import { openReplica, type Replica, type ReplicaOptions } from './replica.ts';

const waitFor = <T>(check: () => T | Promise<T>): Promise<T> =>
  vi.waitFor(check, { timeout: 30_000, interval: 10 });

/** One watch that an agent has opened. */
interface Watch {
  /** `''` for a list, `store=s1&after=7` to go on. */
  readonly asked: string;
  say(...messages: WatchMessage[]): void;
  /** Refuses it as too old. */
  compacted(): void;
  /** Refuses it as too many are open. */
  tooMany(): void;
  breakOff(): void;
}

/** A netmaster that says what the test wants. */
async function startNetmaster(): Promise<{
  url: string;
  watches: Watch[];
  watch(n: number): Promise<Watch>;
}> {
  const watches: Watch[] = [];
  const server = http.createServer((request, response) => {
    response.on('error', () => {});
    watches.push({
      asked: (request.url ?? '').split('?')[1] ?? '',
      say(...messages) {
        response.write(messages.map((m) => `${JSON.stringify(m)}\n`).join(''));
      },
      compacted() {
        response.writeHead(410).end(JSON.stringify({ error: { code: 'compacted', message: 'too old' } }));
      },
      tooMany() {
        response.writeHead(429).end(JSON.stringify({ error: { code: 'too_many', message: 'too many' } }));
      },
      breakOff: () => response.destroy(),
    });
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    watches,
    watch: (n) => waitFor(() => watches[n] ?? Promise.reject(new Error(`no watch ${n} yet`))),
  };
}

interface Followed {
  readonly replica: Replica;
  /** What was told, in order. */
  readonly told: { keys: string[]; listed: boolean }[];
}

function follow(url: string, folder: string, options: Partial<ReplicaOptions> = {}): Followed {
  const client = connect({ urls: [url] });
  const told: Followed['told'] = [];
  const replica = openReplica({
    client,
    folder,
    log: pino({ level: 'silent' }),
    changed: (objects, listed) =>
      told.push({ keys: objects.map((o) => `${o.object ? '' : '-'}${o.key}`), listed }),
    ...options,
  });
  onTestFinished(() => {
    replica.close();
    client.close();
  });
  return { replica, told };
}

const tenant = (name: string): WatchedObject => ({ kind: 'tenant', key: name, object: { tenantName: name } });
const host = (name: string, underlay: string): WatchedObject => ({
  kind: 'host',
  key: name,
  object: { name, underlay },
});
const gone = ({ kind, key }: WatchedObject): WatchedObject => ({ kind, key, object: null });
const listing = (...objects: WatchedObject[]): WatchMessage[] =>
  objects.map((o) => ({ type: 'object', ...o }));
const synced = (revision: number, store = 's1'): WatchMessage => ({ type: 'synced', store, revision });
const change = (revision: number, ...changes: WatchedObject[]): WatchMessage => ({
  type: 'change',
  revision,
  changes,
});

/** Of the copy on disk. */
function savedRevision(folder: string): number {
  const db = new DatabaseSync(path.join(folder, 'view.db'), { readOnly: true });
  try {
    return (
      (db.prepare('SELECT revision FROM position').get() as { revision: number } | undefined)?.revision ?? 0
    );
  } finally {
    db.close();
  }
}

const tenants = (replica: Replica): string[] => [...replica.view.tenants.keys()].sort();

/** A replica that has listed tenants a and b of store s1 at revision 5, and its first watch. */
async function listed(folder = temporaryFolder()) {
  const netmaster = await startNetmaster();
  const followed = follow(netmaster.url, folder);
  const watch = await netmaster.watch(0);
  watch.say(...listing(tenant('a'), tenant('b')), synced(5));
  await waitFor(() => expect(followed.replica.live).toBe(true));
  return { netmaster, watch, folder, ...followed };
}

describe('a first list', () => {
  it('is in force when it is whole, and told as one', async () => {
    const netmaster = await startNetmaster();
    const { replica, told } = follow(netmaster.url, temporaryFolder());
    const watch = await netmaster.watch(0);
    expect(watch.asked).toBe('');
    watch.say(...listing(tenant('a')));
    watch.say({ type: 'ping', revision: 5 }, ...listing(tenant('b')), synced(5));
    await waitFor(() => expect(replica.live).toBe(true));
    expect(told).toEqual([{ keys: ['a', 'b'], listed: true }]);
    expect(tenants(replica)).toEqual(['a', 'b']);
    expect(replica).toMatchObject({ store: 's1', revision: 5 });
  });

  it('that breaks off counts for nothing', async () => {
    const netmaster = await startNetmaster();
    const { replica, told } = follow(netmaster.url, temporaryFolder());
    const first = await netmaster.watch(0);
    first.say(...listing(tenant('a')));
    first.breakOff();
    const second = await netmaster.watch(1);
    expect(second.asked).toBe('');
    second.say(...listing(tenant('b')), synced(6));
    await waitFor(() => expect(replica.live).toBe(true));
    expect(tenants(replica)).toEqual(['b']);
    expect(told).toHaveLength(1);
  });

  it('holds what changed while it was taken once more, as null where it is gone', async () => {
    const netmaster = await startNetmaster();
    const { replica, told } = follow(netmaster.url, temporaryFolder());
    const watch = await netmaster.watch(0);
    watch.say(...listing(tenant('a'), tenant('b'), host('h', '10.0.0.1')));
    watch.say(...listing(gone(tenant('a')), tenant('c'), host('h', '10.0.0.2')), synced(9));
    await waitFor(() => expect(replica.live).toBe(true));
    expect(tenants(replica)).toEqual(['b', 'c']);
    expect(replica.lastUnderlays.get('h')).toBe('10.0.0.2');
    expect(told).toHaveLength(1);
    expect(told[0]?.keys.toSorted()).toEqual(['b', 'c', 'h']);
  });

  it('is asked for ever later while netmaster refuses it, and soon where it was away', async () => {
    const netmaster = await startNetmaster();
    const { replica } = follow(netmaster.url, temporaryFolder());
    (await netmaster.watch(0)).tooMany();
    const second = await netmaster.watch(1);
    second.say(...listing(tenant('a')), synced(5));
    await waitFor(() => expect(replica.live).toBe(true));
    const delays = Array.from({ length: 9 }, (_, refusals) => retryDelay(refusals));
    expect(delays[0]).toBe(500);
    for (const [refusals, delay] of delays.entries()) {
      expect(delay).toBeGreaterThanOrEqual(refusals === 0 ? 500 : Math.min(250 * 2 ** refusals, 8000));
      expect(delay).toBeLessThanOrEqual(16_000);
    }
    expect(new Set(Array.from({ length: 20 }, () => retryDelay(5))).size).toBeGreaterThan(1);
  });

  it('may hold kinds that this agent does not know', async () => {
    const netmaster = await startNetmaster();
    const { replica } = follow(netmaster.url, temporaryFolder());
    (await netmaster.watch(0)).say(
      ...listing({ kind: 'novelty', key: 'x', object: {} }, tenant('a')),
      synced(5),
      change(6, { kind: 'novelty', key: 'x', object: null }),
    );
    await waitFor(() => expect(replica.revision).toBe(6));
    expect(tenants(replica)).toEqual(['a']);
  });
});

describe('changes', () => {
  it('are in force one batch after the other', async () => {
    const { replica, told, watch } = await listed();
    watch.say(change(6, tenant('c'), gone(tenant('a'))), change(7, gone(tenant('c'))));
    await waitFor(() => expect(replica.revision).toBe(7));
    expect(tenants(replica)).toEqual(['b']);
    expect(told.slice(1)).toEqual([
      { keys: ['c', '-a'], listed: false },
      { keys: ['-c'], listed: false },
    ]);
  });

  it('go on after the last one when the connection breaks', async () => {
    const { replica, told, watch, netmaster } = await listed();
    watch.say(change(6, tenant('c')));
    await waitFor(() => expect(replica.revision).toBe(6));
    watch.breakOff();
    const next = await netmaster.watch(1);
    expect(next.asked).toBe('store=s1&after=6');
    expect(tenants(replica)).toEqual(['a', 'b', 'c']);
    next.say(synced(6), change(7, gone(tenant('a'))));
    await waitFor(() => expect(replica.revision).toBe(7));
    expect(tenants(replica)).toEqual(['b', 'c']);
    expect(told.slice(2)).toEqual([
      { keys: [], listed: true },
      { keys: ['-a'], listed: false },
    ]);
  });

  it('remember the underlay of hosts that have gone', async () => {
    const { replica, watch } = await listed();
    watch.say(change(6, host('node2', '192.0.2.2')), change(7, gone(host('node2', ''))));
    await waitFor(() => expect(replica.revision).toBe(7));
    expect(replica.view.hosts.size).toBe(0);
    expect(replica.lastUnderlays.get('node2')).toBe('192.0.2.2');
  });
});

describe('when the history is gone (410)', () => {
  it('the copy stays in force until the new list is whole, which then replaces it', async () => {
    const { replica, told, watch, netmaster } = await listed();
    watch.breakOff();
    (await netmaster.watch(1)).compacted();
    const list = await netmaster.watch(2);
    expect(list.asked).toBe('');
    list.say(...listing(tenant('b')));
    list.say({ type: 'ping', revision: 100 });
    expect(tenants(replica)).toEqual(['a', 'b']);
    expect(told).toHaveLength(1);
    list.say(...listing(tenant('c')), synced(100, 's2'));
    await waitFor(() => expect(replica.revision).toBe(100));
    expect(replica.store).toBe('s2');
    expect(tenants(replica)).toEqual(['b', 'c']);
    // What is gone is told too: names of it must go.
    expect(told.slice(1)).toEqual([{ keys: ['-a', 'b', 'c'], listed: true }]);
  });

  it('the copy stays in force when the new list breaks off too', async () => {
    const { replica, told, watch, netmaster } = await listed();
    watch.breakOff();
    (await netmaster.watch(1)).compacted();
    const broken = await netmaster.watch(2);
    broken.say(...listing(tenant('c')));
    broken.breakOff();
    expect((await netmaster.watch(3)).asked).toBe('');
    expect(tenants(replica)).toEqual(['a', 'b']);
    expect(told).toHaveLength(1);
  });

  it('underlays of hosts that the new list lacks are remembered', async () => {
    const { replica, watch, netmaster } = await listed();
    watch.say(change(6, host('node2', '192.0.2.2')));
    await waitFor(() => expect(replica.revision).toBe(6));
    watch.breakOff();
    (await netmaster.watch(1)).compacted();
    (await netmaster.watch(2)).say(...listing(tenant('a')), synced(9, 's2'));
    await waitFor(() => expect(replica.store).toBe('s2'));
    expect(replica.view.hosts.size).toBe(0);
    expect(replica.lastUnderlays.get('node2')).toBe('192.0.2.2');
  });
});

describe('a netmaster that lost its store', () => {
  const network: WatchedObject = {
    kind: 'network',
    key: 'a:net',
    object: { tenantName: 'a', networkName: 'net', subnet: '10.0.0.0/24', vni: 1 },
  };
  const endpoint = (id: string, homingHost: string, address: string): WatchedObject => ({
    kind: 'endpoint',
    key: id,
    object: { endpointID: id, tenantName: 'a', networkName: 'net', homingHost, ipAddress: [address] },
  });
  const ids = (replica: Replica): string[] => [...replica.view.endpoints.keys()].sort();
  const before = [
    tenant('a'),
    network,
    endpoint('mine', 'node1', '10.0.0.2'),
    endpoint('theirs', 'node2', '10.0.0.3'),
    endpoint('moved', 'node2', '10.0.0.4'),
  ];

  /** A replica of node1, where a container of network a:net runs while it `runs`, after another store's list. */
  async function lost(list: WatchedObject[]) {
    const runs = { here: true };
    const waited: string[] = [];
    const folder = temporaryFolder();
    const netmaster = await startNetmaster();
    const { replica, told } = follow(netmaster.url, folder, {
      host: 'node1',
      missing: (view) => (runs.here && !view.networks.has('a:net') ? 'network a:net' : ''),
      waiting: (store) => waited.push(store),
    });
    const first = await netmaster.watch(0);
    first.say(...listing(...before), synced(5));
    await waitFor(() => expect(replica.live).toBe(true));
    first.breakOff();
    (await netmaster.watch(1)).compacted();
    const watch = await netmaster.watch(2);
    watch.say(...listing(...list), synced(1, 's2'));
    return { replica, told, watch, folder, runs, waited, netmaster };
  }

  it('is not believed while it does not know the networks of what runs here', async () => {
    const { replica, told, watch, waited, netmaster } = await lost([tenant('a')]);
    watch.say(change(2, tenant('b')), { type: 'ping', revision: 2 });
    await waitFor(() => expect(waited).toEqual(['s2', 's2', 's2']));
    expect(replica).toMatchObject({ live: false, store: 's1', revision: 5 });
    expect(tenants(replica)).toEqual(['a']);
    expect(ids(replica)).toEqual(['mine', 'moved', 'theirs']);
    expect(told).toHaveLength(1);
    // Nor when it is asked again.
    watch.breakOff();
    (await netmaster.watch(3)).say(...listing(tenant('a')), synced(3, 's2'));
    await waitFor(() => expect(waited).toHaveLength(4));
    expect(replica.view.networks.size).toBe(1);
  });

  it('is believed once they are declared anew; endpoints of other hosts stay until they are told or replaced', async () => {
    const { replica, watch, waited, told } = await lost([tenant('a')]);
    await waitFor(() => expect(waited).toEqual(['s2']));
    watch.say(change(2, network, tenant('b')));
    await waitFor(() => expect(replica).toMatchObject({ live: true, store: 's2', revision: 2 }));
    expect(tenants(replica)).toEqual(['a', 'b']);
    expect(ids(replica)).toEqual(['moved', 'theirs']);
    expect(told[1]).toEqual({ keys: ['-mine', 'a', 'b', 'a:net'], listed: true });
    watch.say(change(3, endpoint('mine', 'node1', '10.0.0.2'), endpoint('new', 'node2', '10.0.0.4')));
    await waitFor(() => expect(ids(replica)).toEqual(['mine', 'new', 'theirs']));
    expect(told.at(-1)?.keys).toEqual(['mine', 'new', '-moved']);
    watch.say(change(4, endpoint('theirs', 'node2', '10.0.0.3')));
    await waitFor(() => expect(replica.revision).toBe(4));
    expect(ids(replica)).toEqual(['mine', 'new', 'theirs']);
  });

  it('is believed when nothing of it runs here any more', async () => {
    const { replica, watch, waited, runs } = await lost([tenant('b')]);
    await waitFor(() => expect(waited).toEqual(['s2']));
    runs.here = false;
    watch.say({ type: 'ping', revision: 1 });
    await waitFor(() => expect(replica).toMatchObject({ live: true, store: 's2' }));
    expect(tenants(replica)).toEqual(['b']);
    expect(ids(replica)).toEqual([]);
  });

  it('leaves nothing on disk of endpoints that it does not know', async () => {
    const { replica, folder, waited } = await lost([tenant('a'), network]);
    await waitFor(() => expect(replica.store).toBe('s2'));
    expect(waited).toEqual([]);
    expect(ids(replica)).toEqual(['moved', 'theirs']);
    replica.close();
    expect(ids(follow((await startNetmaster()).url, folder).replica)).toEqual([]);
  });
});

describe('a restart', () => {
  it('has the copy at once, without netmaster, and goes on from its revision', async () => {
    const { replica, folder, watch } = await listed();
    watch.say(change(6, tenant('c'), host('node2', '192.0.2.2')), change(7, gone(host('node2', ''))));
    await waitFor(() => expect(replica.revision).toBe(7));
    replica.close();
    const netmaster = await startNetmaster();
    const again = follow(netmaster.url, folder);
    expect(tenants(again.replica)).toEqual(['a', 'b', 'c']);
    expect(again.replica).toMatchObject({ store: 's1', revision: 7, live: false });
    expect(again.replica.lastUnderlays.get('node2')).toBe('192.0.2.2');
    const next = await netmaster.watch(0);
    expect(next.asked).toBe('store=s1&after=7');
    next.say(synced(7));
    await waitFor(() => expect(again.replica.live).toBe(true));
  });

  it('has on disk at once what is to be told as applied', async () => {
    const netmaster = await startNetmaster();
    const folder = temporaryFolder();
    const saved: number[] = [];
    const { replica } = follow(netmaster.url, folder, {
      changed() {
        replica.keep();
        saved.push(savedRevision(folder));
      },
    });
    (await netmaster.watch(0)).say(...listing(tenant('default')), synced(3), change(4, tenant('blue')));
    await waitFor(() => expect(saved).toEqual([3, 4]));
  });

  it('after a kill has a copy that is a little old, whose rest comes by the watch', async () => {
    const { folder, watch, replica } = await listed();
    await waitFor(() => expect(savedRevision(folder)).toBe(5));
    const killed = temporaryFolder();
    fs.cpSync(folder, killed, { recursive: true });
    watch.say(change(6, tenant('c')));
    await waitFor(() => expect(replica.revision).toBe(6));
    const netmaster = await startNetmaster();
    const again = follow(netmaster.url, killed);
    expect(tenants(again.replica)).toEqual(['a', 'b']);
    const next = await netmaster.watch(0);
    expect(next.asked).toBe('store=s1&after=5');
    next.say(synced(5), change(6, tenant('c')));
    await waitFor(() => expect(tenants(again.replica)).toEqual(['a', 'b', 'c']));
  });

  it('after changes writes only those, and has them all', async () => {
    const { folder, watch, replica } = await listed();
    watch.say(change(6, tenant('c')), change(7, gone(tenant('a'))));
    await waitFor(() => expect(replica.revision).toBe(7));
    replica.close();
    const again = follow((await startNetmaster()).url, folder);
    expect(tenants(again.replica)).toEqual(['b', 'c']);
  });

  it('in the middle of a new list keeps the old copy', async () => {
    const { folder, watch, netmaster, replica } = await listed();
    watch.breakOff();
    (await netmaster.watch(1)).compacted();
    (await netmaster.watch(2)).say(...listing(tenant('z')));
    await waitFor(() => expect(savedRevision(folder)).toBe(5));
    replica.close();
    const again = follow((await startNetmaster()).url, folder);
    expect(tenants(again.replica)).toEqual(['a', 'b']);
  });

  it('with a copy that is broken puts it aside and lists anew', async () => {
    const folder = temporaryFolder();
    fs.writeFileSync(
      path.join(folder, 'view.db'),
      'not a database at all, and longer than a header of one. '.repeat(20),
    );
    const netmaster = await startNetmaster();
    const { replica } = follow(netmaster.url, folder);
    const list = await netmaster.watch(0);
    expect(list.asked).toBe('');
    list.say(...listing(tenant('a')), synced(5));
    await waitFor(() => expect(tenants(replica)).toEqual(['a']));
    expect(fs.readdirSync(folder)).toContain('view.db.broken');
  });

  /** Of a copy whose file is whole. */
  const spoil = (sql: string) => (file: string) => {
    const db = new DatabaseSync(file);
    db.exec(sql);
    db.close();
  };
  it.each<[string, (file: string) => void]>([
    ['in its pages', (file) => fs.writeFileSync(file, fs.readFileSync(file).fill('x', 2 * 4096))],
    ['in what it says of an object', spoil('UPDATE object SET object = substr(object, 1, 5)')],
    ['in its tables', spoil('DROP TABLE object; CREATE TABLE object (other TEXT)')],
  ])('with a copy that is broken %s does the same', async (_, spoilIn) => {
    const { replica, folder } = await listed();
    replica.close();
    spoilIn(path.join(folder, 'view.db'));
    const netmaster = await startNetmaster();
    const again = follow(netmaster.url, folder);
    const list = await netmaster.watch(0);
    expect(list.asked).toBe('');
    list.say(...listing(tenant('c')), synced(5));
    await waitFor(() => expect(tenants(again.replica)).toEqual(['c']));
    expect(fs.readdirSync(folder)).toContain('view.db.broken');
  });

  it('waits for the agent before it, which still has its hands on the copy', async () => {
    const { replica, folder } = await listed();
    replica.close();
    const before = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads');
      const db = new (require('node:sqlite').DatabaseSync)(workerData);
      db.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE');
      parentPort.postMessage('locked');
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
      db.exec('COMMIT');
      db.close();`,
      { eval: true, workerData: path.join(folder, 'view.db') },
    );
    await once(before, 'message');
    const again = follow('http://127.0.0.1:1', folder);
    expect(tenants(again.replica)).toEqual(['a', 'b']);
    expect(fs.readdirSync(folder)).not.toContain('view.db.broken');
    await once(before, 'exit');
  });

  it('before anything was listed has nothing', async () => {
    const folder = temporaryFolder();
    const { replica } = follow('http://127.0.0.1:1', folder);
    replica.close();
    expect(follow('http://127.0.0.1:1', folder).replica).toMatchObject({ store: '', revision: 0 });
  });
});

describe('an endpoint of this host that netmaster cannot be told of', () => {
  const endpoint = (key: string, status = 'running') =>
    ({
      endpointID: key,
      tenantName: 'a',
      networkName: 'n',
      homingHost: 'node1',
      ipAddress: ['20.1.1.2'],
      macAddress: '02:02:14:01:01:02',
      status,
    }) as Endpoint;
  const told = (key: string): WatchedObject => ({ kind: 'endpoint', key, object: endpoint(key) });

  it('is shown as it is until netmaster tells of it', async () => {
    const { replica, watch, netmaster, told: news } = await listed();
    watch.say(change(6, told('before')));
    await waitFor(() => expect(replica.revision).toBe(6));
    watch.breakOff();
    replica.assume('before', null);
    replica.assume('after', endpoint('after'));
    expect([...replica.view.endpoints.keys()]).toEqual(['after']);
    expect(news.slice(-2)).toEqual([
      { keys: ['-before'], listed: false },
      { keys: ['after'], listed: false },
    ]);
    expect([...replica.assumed.keys()]).toEqual(['before', 'after']);
    replica.assume('brief', endpoint('brief'));
    replica.assume('brief', null);
    expect([...replica.assumed.keys()]).toEqual(['before', 'after']);

    const next = await netmaster.watch(1);
    next.say(synced(6), change(7, gone(told('before')), told('after')));
    await waitFor(() => expect(replica.revision).toBe(7));
    expect([[...replica.view.endpoints.keys()], [...replica.assumed.keys()]]).toEqual([['after'], []]);
  });

  it('is as netmaster has it for an agent that starts anew', async () => {
    const { replica, folder, watch } = await listed();
    watch.say(change(6, told('before')));
    await waitFor(() => expect(replica.revision).toBe(6));
    replica.assume('before', null);
    replica.assume('after', endpoint('after'));
    // All of it is written anew.
    fs.rmSync(path.join(folder, 'view.db'));
    watch.say(change(7, tenant('c')));
    await waitFor(() => expect(replica.revision).toBe(7));
    replica.close();
    const again = follow((await startNetmaster()).url, folder);
    expect([...again.replica.view.endpoints.keys()]).toEqual(['before']);
  });
});

it('is not live while the watch is broken', async () => {
  const { replica, watch, netmaster } = await listed();
  watch.breakOff();
  await waitFor(() => expect(replica.live).toBe(false));
  (await netmaster.watch(1)).say(synced(5));
  await waitFor(() => expect(replica.live).toBe(true));
});

describe('a copy on disk that somebody takes away', () => {
  it.each<[what: string, take: (folder: string) => void]>([
    ['deleted', (folder) => fs.rmSync(path.join(folder, 'view.db'))],
    ['moved away with its folder', (folder) => fs.renameSync(folder, `${folder}.away`)],
  ])('%s: all of it is written anew, also while nothing changes', async (_what, take) => {
    const folder = path.join(temporaryFolder(), 'state');
    fs.mkdirSync(folder);
    const { watch, replica } = await listed(folder);
    watch.say(change(6, host('h', '10.0.0.9')));
    await waitFor(() => expect(savedRevision(folder)).toBe(6));
    take(folder);
    await waitFor(() => expect(savedRevision(folder)).toBe(6));
    watch.say(change(7, tenant('c')));
    await waitFor(() => expect(savedRevision(folder)).toBe(7));
    replica.close();
    // As it starts without netmaster.
    const { replica: again } = follow('http://127.0.0.1:9', folder);
    expect(tenants(again)).toEqual(['a', 'b', 'c']);
    expect([...again.lastUnderlays]).toEqual([['h', '10.0.0.9']]);
  });
});
