/** Three netmasters on a real etcd, as the processes that they are; hosts are clients of their API. */
import { afterAll, beforeAll, expect, it, onTestFinished, vi } from 'vitest';
import { type Client, connect } from '../src/client/client.ts';
import { HOST_TTL } from '../src/model/host.ts';
import type { HostState } from '../src/protocol/hosts.ts';
import type { AddressAnswer, LiveQuestion, WatchMessage } from '../src/protocol/messages.ts';
import { LATE_HEADER, STALE_HEADER } from '../src/protocol/wire.ts';
import { netctl } from './cluster.ts';
import { type EtcdCluster, type Member, startEtcd } from './etcd.ts';
import { type Netmaster, netmasterOn } from './netmaster.ts';

/** Only ends tests that hang. */
const LIMIT = { timeout: 60_000, interval: 20 };

// Elections take seconds, and machines are busy.
vi.setConfig({ testTimeout: 180_000 });

let etcd: EtcdCluster;
let names = 0;
beforeAll(async () => {
  etcd = await startEtcd();
}, 60_000);
afterAll(() => etcd?.close());

interface Netmasters {
  readonly netmasters: readonly Netmaster[];
  /** One to each. */
  readonly clients: readonly Client[];
  /** With another netmaster first. */
  to(first: number): Client;
}

async function start(count = 3): Promise<Netmasters> {
  const store = `etcd://${etcd.endpoints.join(',')}/n${++names}`;
  const netmasters = await Promise.all(Array.from({ length: count }, () => netmasterOn(store)));
  await Promise.all(netmasters.map((netmaster) => netmaster.start()));
  const urls = netmasters.map(({ url }) => url);
  const open = (...urls: string[]): Client => {
    const client = connect({ urls });
    onTestFinished(() => client.close());
    return client;
  };
  return {
    netmasters,
    clients: urls.map((url) => open(url)),
    to: (first) => open(...urls.slice(first % count), ...urls.slice(0, first % count)),
  };
}

interface Host {
  readonly name: string;
  /** It says what it has applied as long as this is true. */
  isSaying: boolean;
  readonly asked: LiveQuestion[];
}

/** A host that beats, watches and acknowledges at one client. */
async function join(client: Client, name: string, underlay: string): Promise<Host> {
  const host: Host = { name, isSaying: true, asked: [] };
  const stop = new AbortController();
  const beat = async (): Promise<unknown> => client.call('register', { name }, { name, underlay });
  await beat();
  const beating = setInterval(() => void beat().catch(() => {}), 2000);
  const { promise: synced, resolve } = Promise.withResolvers<void>();
  let store = '';
  const take = async (message: WatchMessage): Promise<void> => {
    if (message.type === 'synced') ({ store } = message);
    if (message.type === 'ask') {
      host.asked.push(message.question);
      await client.call('answer', { name, id: message.id }, { verdict: 'allow', rule: '', changed: [] });
    }
    if ((message.type === 'synced' || message.type === 'change') && host.isSaying)
      await client.call('applied', { name }, { store, revision: message.revision });
    if (message.type === 'synced') resolve();
  };
  void (async () => {
    for await (const message of client.watch({ host: name, signal: stop.signal })) await take(message);
  })().catch(() => {});
  onTestFinished(() => {
    clearInterval(beating);
    stop.abort();
  });
  await synced;
  return host;
}

const network = (n: number) => ({
  tenantName: 'default',
  networkName: `net${n}`,
  subnet: `10.${n}.0.0/16`,
  gateway: `10.${n}.255.254`,
});
const make = (client: Client, n: number) =>
  client.call('post', { collection: 'networks', key: `default:net${n}` }, network(n));

it('a write waits for a host that talks to another netmaster, names it when it says nothing, and is seen at all of them', async () => {
  const { clients } = await start();
  const [a, b, c] = clients as [Client, Client, Client];
  const host = await join(b, 'node1', '192.0.2.1');
  // Until its word has come through, it counts as starting.
  await vi.waitUntil(async () => {
    const { headers } = await make(a, 1);
    await a.call('delete', { collection: 'networks', key: 'default:net1' });
    return headers[LATE_HEADER] === undefined;
  }, LIMIT);
  const made = await make(a, 2);
  expect(made.headers[LATE_HEADER]).toBeUndefined();
  expect((await c.call('get', { collection: 'networks', key: 'default:net2' })).body).toMatchObject({
    networkName: 'net2',
  });
  // Each as soon as the answer is there, at whichever netmaster.
  for (let i = 3; i < 20; i++) {
    await clients[i % 3]?.call('post', { collection: 'networks', key: `default:net${i}` }, network(i));
    const group = { tenantName: 'default', groupName: `g${i}`, networkName: `net${i}` };
    await clients[(i + 1) % 3]?.call('post', { collection: 'endpointGroups', key: `default:g${i}` }, group);
  }
  host.isSaying = false;
  expect((await make(c, 30)).headers[LATE_HEADER]).toBe('node1');
});

it('beats by turns to all netmasters keep a host alive, and without beats it goes at all of them', async () => {
  const { clients } = await start();
  const [a] = clients as [Client];
  const hosts = async (client: Client) => (await client.call('hosts')).body.map(({ name }) => name);
  const began = performance.now();
  let missing = 0;
  for (let i = 0; performance.now() - began < 2 * HOST_TTL * 1000; i++) {
    await clients[i % 3]?.call('register', { name: 'node1' }, { name: 'node1', underlay: '192.0.2.1' });
    for (const client of clients) if (!(await hosts(client)).includes('node1')) missing++;
    await new Promise((done) => setTimeout(done, 1500));
  }
  expect(missing).toBe(0);
  await vi.waitUntil(async () => (await hosts(a)).length === 0, LIMIT);
}, 120_000);

it('what a host says of itself, and that one is refused, is known at all netmasters, as is which one is away', async () => {
  const { netmasters, clients } = await start();
  const [a, b, c] = clients as [Client, Client, Client];
  const condition = { fastPath: false, problems: [{ problem: 'a name is taken', remedy: 'free it' }] };
  const beat = () =>
    b.call('register', { name: 'node1' }, { name: 'node1', underlay: '192.0.2.1', condition });
  await beat();
  const beating = setInterval(() => void beat().catch(() => {}), 1000);
  onTestFinished(() => clearInterval(beating));
  const states = async (client: Client) => (await client.call('hostStates')).body as readonly HostState[];
  const everywhere = (look: (states: readonly HostState[]) => boolean) =>
    vi.waitUntil(async () => (await Promise.all(clients.map(states))).every(look), LIMIT);
  await everywhere(([host]) => host?.problems[0]?.remedy === 'free it' && host.fastPath === false);
  // Asked again as agents do, within what is heard of refusals.
  const twin = { name: 'node1', underlay: '192.0.2.9' };
  await everywhere((all) => {
    void c.call('register', { name: 'node1' }, twin).catch(() => {});
    return all.some(({ state, underlay }) => state === 'refused' && underlay === '192.0.2.9');
  });
  clearInterval(beating);
  await everywhere(([host]) => host?.name === 'node1' && host.state === 'away');
  const seen = new Set((await Promise.all(clients.map(states))).map(([host]) => host?.seen));
  expect(seen.size).toBe(1);
  // Of them all, and then a new one, from the store.
  await vi.waitUntil(async () => {
    await netmasters[0]?.kill();
    await netmasters[0]?.start();
    const [host] = await states(a);
    return host?.state === 'away' && seen.has(host.seen);
  }, LIMIT);
  await c.call('hostRemove', { name: 'node1' });
  await everywhere((all) => all.every(({ state }) => state === 'refused'));
});

it('without a leader of etcd a netmaster is not ready, and says of its answers that they may be old', async () => {
  const { netmasters } = await start(1);
  const stale = async () => {
    const { headers, status } = await fetch(`${netmasters[0]?.url}/api/v1/tenants/default/`);
    return `${status} ${headers.get(STALE_HEADER)}`;
  };
  const ready = async () => {
    const response = await fetch(`${netmasters[0]?.url}/readyz`);
    return { status: response.status, ...((await response.json()) as { problems: string[] }) };
  };
  await vi.waitUntil(async () => (await ready()).status === 200, LIMIT);
  expect(await stale()).toBe('200 null');
  const [first, second] = etcd.members as [Member, Member];
  for (const member of [first, second]) member.signal('SIGSTOP');
  try {
    await vi.waitUntil(async () => {
      const { status, problems } = await ready();
      return (
        status === 503 && problems.some((line) => /^the store (cannot be written|does not answer)/.test(line))
      );
    }, LIMIT);
    expect(await stale()).toBe('200 true');
    const { status, err } = await netctl(netmasters[0]?.url ?? '', ['tenant', 'ls', '-q']);
    expect({ status, err }).toEqual({
      status: 0,
      err: "netctl: warning: netmaster's store does not answer: what it knows may have changed since\n",
    });
  } finally {
    for (const member of [first, second]) member.signal('SIGCONT');
  }
  await vi.waitUntil(async () => (await ready()).status === 200, LIMIT);
  await vi.waitUntil(async () => (await stale()) === '200 null', LIMIT);
});

it('of two hosts with one address that register at two netmasters at once one is refused', async () => {
  const { clients } = await start(2);
  const [a, b] = clients as [Client, Client];
  for (let i = 1; i < 20; i++) {
    const underlay = `192.0.2.${i}`;
    const outcomes = await Promise.allSettled([
      a.call('register', { name: `a${i}` }, { name: `a${i}`, underlay }),
      b.call('register', { name: `b${i}` }, { name: `b${i}`, underlay }),
    ]);
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  }
});

it('a report that is sent to two netmasters counts once, and a question goes to the netmaster that has the watch', async () => {
  const { clients } = await start();
  const [a, b, c] = clients as [Client, Client, Client];
  const host = await join(b, 'node1', '192.0.2.1');
  await make(a, 1);
  await a.call(
    'post',
    { collection: 'policys', key: 'default:p' },
    { tenantName: 'default', policyName: 'p' },
  );
  const rule = { tenantName: 'default', policyName: 'p', ruleId: '1', direction: 'in', action: 'allow' };
  await a.call('post', { collection: 'rules', key: 'default:p:1' }, rule);
  const group = { tenantName: 'default', groupName: 'g', networkName: 'net1', policies: ['p'] };
  await a.call('post', { collection: 'endpointGroups', key: 'default:g' }, group);
  const report = { reporter: 'r', hits: [{ rule: 'default:p:1', packets: 3, bytes: 180 }], denied: [] };
  await b.call('report', { name: 'node1' }, { ...report, sequence: 1 });
  await c.call('report', { name: 'node1' }, { ...report, sequence: 1 });
  await vi.waitUntil(async () => {
    const { body } = await a.call('inspect', { collection: 'policys', key: 'default:p' });
    const hits = (body.Oper as { hits?: { packets: number }[] }).hits;
    expect(hits?.[0]?.packets ?? 3).toBe(3);
    return hits !== undefined;
  }, LIMIT);

  const addresses: string[] = [];
  for (const [i, containerName] of ['db', 'web'].entries()) {
    const wanted = { tenantName: 'default', networkName: 'net1', family: 4, host: 'node1' } as const;
    const { address } = (await c.call('reserve', {}, wanted)).body as AddressAnswer;
    addresses.push(address);
    await c.call(
      'attach',
      { id: `e${i}`, host: 'node1', wait: '0' },
      {
        endpointID: `e${i}`,
        tenantName: 'default',
        networkName: 'net1',
        groupName: 'g',
        homingHost: 'node1',
        macAddress: `02:02:0a:01:00:0${i}`,
        ipAddress: [address],
        containerName,
        status: 'running',
      },
    );
  }
  await vi.waitUntil(async () => {
    const { body } = await a.call('trace', { from: 'db', to: 'web', port: '80', live: 'true' });
    return body.live?.some(({ host }) => host === 'node1') && host.asked.length > 0;
  }, LIMIT);
  expect(host.asked).toContainEqual(expect.objectContaining({ own: addresses[1], direction: 'in' }));
});

it('kill -9 of a netmaster while 64 clients reserve addresses and make networks gives none twice and loses none', async () => {
  const { netmasters, clients, to } = await start();
  const [a] = clients as [Client];
  for (const [i, name] of ['node1', 'node2', 'node3'].entries())
    await a.call('register', { name }, { name, underlay: `192.0.2.${i + 1}` });
  await make(a, 1);
  const given: { address: string; request: string }[] = [];
  const tags: string[] = [];
  let isOver = false;
  /** What is asked again has the same answer: until there is one. */
  const insist = async <T>(call: () => Promise<T>): Promise<T> => {
    for (;;)
      try {
        return await call();
      } catch (error) {
        const { status } = error as { status?: number };
        if (status !== 0 && status !== 503 && status !== 500) throw error;
        await new Promise((done) => setTimeout(done, 50));
      }
  };
  const work = async (client: Client, n: number): Promise<void> => {
    const host = `node${(n % 3) + 1}`;
    for (let i = 0; !isOver; i++) {
      const request = `r${n}-${i}`;
      const wanted = { tenantName: 'default', networkName: 'net1', family: 4, host, request } as const;
      const { address } = (await insist(() => client.call('reserve', {}, wanted))).body as AddressAnswer;
      given.push({ address, request });
      if (n % 8 !== 0) continue;
      const name = `n${n}x${i}`;
      const at = `${100 + n / 8}.${i >> 8}.${i & 255}`;
      const body = { tenantName: 'default', networkName: name, subnet: `${at}.0/24`, gateway: `${at}.254` };
      await insist(() =>
        client.call('put', { collection: 'networks', key: `default:${name}`, wait: '0' }, body),
      );
      tags.push(name);
    }
  };
  const working = Array.from({ length: 64 }, (_, n) => work(to(n), n));
  for (const netmaster of netmasters) {
    const before = given.length;
    await vi.waitUntil(() => given.length > before + 50, LIMIT);
    await netmaster.kill();
    const then = given.length;
    await vi.waitUntil(() => given.length > then + 50, LIMIT);
    await netmaster.start();
  }
  isOver = true;
  await Promise.all(working);
  expect(new Set(given.map(({ address }) => address)).size).toBe(given.length);
  const networks = (await to(1).call('list', { collection: 'networks' })).body as { networkName: string }[];
  const there = new Set(networks.map(({ networkName }) => networkName));
  expect(tags.filter((name) => !there.has(name))).toEqual([]);
  const health = await Promise.all(clients.map((client) => client.call('health')));
  expect(new Set(health.map(({ body }) => body.store)).size).toBe(1);
}, 240_000);

it('what happens is kept with the change, on etcd too: any netmaster has it, in the same order, one follower goes on at another', async () => {
  const { netmasters, clients, to } = await start();
  const [first, second, third] = clients as [Client, Client, Client];
  const make = (client: Client, name: string) =>
    client.call('post', { collection: 'tenants', key: name, wait: '0' }, {});
  await Promise.all([make(first, 'a'), make(second, 'b'), make(third, 'c')]);
  // Large enough to be done in steps.
  const objects = Array.from({ length: 200 }, (_, i) => ({ kind: 'policy', policyName: `p${i}` }));
  await second.call('apply', { wait: '0' }, { objects });
  await make(third, 'd');
  const lists = await Promise.all(
    clients.map(async (client) => (await client.call('events', { kind: 'intent' })).body),
  );
  const [events = []] = lists;
  for (const list of lists) expect(list).toEqual(events);
  expect(events.map(({ key }) => key).sort()).toEqual(
    ['a', 'b', 'c', 'd', ...objects.map(({ policyName }) => `default:${policyName}`)].sort(),
  );
  expect(events.at(-1)?.key).toBe('d');
  expect(new Set(events.map(({ id }) => id)).size).toBe(events.length);

  const seen: string[] = [];
  const follow = async (client: Client, after: string | undefined): Promise<void> => {
    for await (const message of client.lines('followEvents', { kind: 'intent', after }))
      if (message.type === 'event') seen.push(message.event.id);
  };
  const broken = follow(to(0), undefined).catch(() => 'broken');
  await vi.waitUntil(() => seen.length === events.length, LIMIT);
  await netmasters[0]?.kill();
  expect(await broken).toBe('broken');
  await make(second, 'e');
  const stop = follow(to(1), seen.at(-1)).catch(() => {});
  await make(third, 'f');
  await vi.waitUntil(() => seen.length === events.length + 2, LIMIT);
  expect(seen).toEqual((await second.call('events', { kind: 'intent' })).body.map(({ id }) => id));
  await netmasters[1]?.kill();
  await stop;
});

it('a host that falls silent has left, once, whichever netmasters saw it go', async () => {
  const { clients } = await start();
  const [first, second] = clients as [Client, Client];
  await first.call('register', { name: 'h1' }, { name: 'h1', underlay: '10.0.0.1' });
  const kept = async () => (await second.call('events', { kind: 'host' })).body.map(({ action }) => action);
  await vi.waitUntil(async () => (await kept()).length >= 2, { timeout: 120_000, interval: 200 });
  expect(await kept()).toEqual(['joined', 'left']);
});
