/** What a host is told by its certificate, against what netmaster has. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { openTestMirror } from '../../test/mirror.ts';
import { openView } from '../netplugin/intent/view.ts';
import type { WatchedObject, WatchMessage } from '../protocol/messages.ts';
import { type Feed, openFeed, type Reader } from './feed.ts';
import { hostPosition, isHostPosition, openHostScopes, TOLD_HOSTS, toldHost } from './hostScope.ts';
import type { Mirror } from './mirror.ts';

it('a host has the tenants of which it has addresses, from the first to the last', () => {
  const scopes = openHostScopes();
  scopes.put('blue:net/20.1.1.1', undefined, { host: 'a' });
  scopes.put('blue:net/20.1.1.2', undefined, { host: 'a', endpoint: 'e' });
  scopes.put('blue:net/20.1.1.3', undefined, { service: 'blue:web' });
  scopes.put('red:net/20.1.1.1', undefined, { host: 'b' });
  expect(scopes.changes()).toEqual([
    { host: 'a', tenant: 'blue', is: true },
    { host: 'b', tenant: 'red', is: true },
  ]);
  expect([...scopes.of('a')]).toEqual(['blue']);
  scopes.put('blue:net/20.1.1.1', { host: 'a' }, undefined);
  scopes.put('blue:net/20.1.1.2', { host: 'a', endpoint: 'e' }, { host: 'a' });
  expect(scopes.changes()).toEqual([]);
  // What goes and comes within one change was never away.
  scopes.put('blue:net/20.1.1.2', { host: 'a' }, undefined);
  scopes.put('blue:net/20.1.1.9', undefined, { host: 'a' });
  expect(scopes.changes()).toEqual([]);
  scopes.put('blue:net/20.1.1.9', { host: 'a' }, { host: 'b' });
  expect(scopes.changes()).toEqual([
    { host: 'a', tenant: 'blue', is: false },
    { host: 'b', tenant: 'blue', is: true },
  ]);
  expect([...scopes.of('a')]).toEqual([]);
  expect([...scopes.of('b')].sort()).toEqual(['blue', 'red']);
});

it('of a kind that an agent acts on something is told, and of no other', () => {
  const view = openView();
  const acted = TOLD_HOSTS.filter((kind) => {
    view.put({ kind, key: 'x', object: { name: 'x' } });
    return view.contents().some((o) => o.kind === kind);
  });
  expect(acted).toEqual(TOLD_HOSTS);
  for (const kind of ['policy', 'appProfile', 'extContractsGroup', 'aciGw', 'token', 'new'])
    expect(
      toldHost('a', new Set(['blue']), { kind, key: 'x', object: { tenantName: 'blue' } }),
    ).toBeUndefined();
});

it('of another tenant a host is told what it takes to start containers there', () => {
  const told = (kind: string, object: object): unknown =>
    toldHost('a', new Set(['blue']), { kind, key: 'x', object });
  const red = { tenantName: 'red', cfgdTag: 'secret' };
  const network = { ...red, networkName: 'n', subnet: '20.1.1.0/24', gateway: '20.1.1.254' };
  expect(told('network', { ...network, vni: 7, pktTag: 7, advertise: true })).toEqual({
    tenantName: 'red',
    networkName: 'n',
    subnet: '20.1.1.0/24',
    gateway: '20.1.1.254',
  });
  expect(
    told('endpointGroup', {
      ...red,
      groupName: 'g',
      networkName: 'n',
      policies: ['p'],
      netProfile: 'slow',
      ipPool: 'x',
    }),
  ).toEqual({ tenantName: 'red', groupName: 'g', networkName: 'n' });
  const pod = { namespaceName: 'shop', workloadName: 'web', uid: '1', tenantName: 'red', networkName: 'n' };
  expect(told('workload', { ...pod, labels: { app: 'web' }, namespaceLabels: {}, ports: [] })).toEqual(pod);
  for (const kind of [
    'tenant',
    'rule',
    'netprofile',
    'serviceLB',
    'clusterService',
    'swarmService',
    'endpoint',
  ])
    expect(told(kind, { ...red, groupName: 'g' }), kind).toBeUndefined();
  expect(told('externalEndpoint', red)).toBeUndefined();
  expect(told('global', { name: 'global', fwdMode: 'bridge', vlans: '1-9', vxlans: '1-9' })).toEqual({
    name: 'global',
    fwdMode: 'bridge',
  });
  expect(told('Bgp', { hostname: 'b' })).toBeUndefined();
  expect(toldHost('a', new Set(), { kind: 'Bgp', key: 'a', object: { hostname: 'a' } })).toEqual({
    hostname: 'a',
  });
});

it('what is in reserve for a host is told to that one alone', () => {
  const object = { network: 'blue:n', addresses: [{ address: '20.1.1.250' }] };
  const told = (host: string) =>
    toldHost(host, new Set(['blue']), { kind: 'reserve', key: 'a/blue:n', object });
  expect([told('a'), told('b'), told('')]).toEqual([object, undefined, undefined]);
});

it('a position of a host’s is known as one', () => {
  expect(isHostPosition(hostPosition('store.term'))).toBe(true);
  expect(isHostPosition('store.term')).toBe(false);
});

const TENANTS = ['blue', 'red', 'green'];
const HOSTS = ['a', 'b'];

const rule = (tenantName: string, i: number, priority: number) => ({
  tenantName,
  policyName: 'p',
  ruleId: `${i}`,
  direction: 'in',
  action: 'allow',
  protocol: 'tcp',
  priority,
});
const group = (tenantName: string, i: number, tag: number) => ({
  tenantName,
  groupName: `g${i}`,
  networkName: 'n',
  cfgdTag: `${tag}`,
});
const endpointOf = (tenantName: string, homingHost: string, i: number, tag: number) => ({
  endpointID: `${tenantName}-${homingHost}-${i}`,
  tenantName,
  networkName: 'n',
  homingHost,
  ipAddress: [`20.1.${HOSTS.indexOf(homingHost)}.${i}`],
  macAddress: '02:02:14:01:01:01',
  containerName: `c${tag}`,
});

async function opened() {
  const parts = await openTestMirror({
    tenant: TENANTS.map((tenantName) => ({ tenantName })),
    network: TENANTS.map((tenantName) => ({
      tenantName,
      networkName: 'n',
      subnet: '20.1.0.0/16',
      pktTag: 7,
    })),
    policy: TENANTS.map((tenantName) => ({ tenantName, policyName: 'p' })),
    rule: TENANTS.flatMap((tenant) => [1, 2, 3].map((i) => rule(tenant, i, 1))),
    host: HOSTS.map((name) => ({ name, underlay: '192.0.2.1' })),
    global: [{ name: 'global', fwdMode: 'routing', vlans: '1-9' }],
    Bgp: HOSTS.map((hostname) => ({ hostname, as: '1' })),
  });
  return { ...parts, feed: openFeed(parts.mirror) };
}

/** As the host is to know it, from what there is. */
function expected(mirror: Mirror, host: string): Map<string, unknown> {
  const found = new Map<string, unknown>();
  for (const kind of TOLD_HOSTS)
    for (const [key, { object }] of mirror.entries(kind)) {
      const told = toldHost(host, mirror.scopes.of(host), { kind, key, object });
      if (told !== undefined) found.set(`${kind} ${key}`, told);
    }
  return found;
}

class Follower {
  readonly objects = new Map<string, unknown>();
  revision = 0;
  store = '';
  #reader: Reader;
  readonly host: string;
  constructor(feed: Feed, host: string) {
    this.host = host;
    this.#reader = feed.listFor(host);
  }
  /** One piece; false where there is none. */
  read(): boolean {
    const piece = this.#reader.next();
    if (piece === undefined) return false;
    for (const text of piece.toString().split('\n').filter(Boolean)) this.#take(JSON.parse(text));
    return true;
  }
  #take(message: WatchMessage): void {
    const put = ({ kind, key, object }: WatchedObject): void => {
      if (object === null) this.objects.delete(`${kind} ${key}`);
      else this.objects.set(`${kind} ${key}`, object);
    };
    if (message.type === 'object') put(message);
    if (message.type === 'change') {
      expect(message.revision).toBeGreaterThan(this.revision);
      message.changes.forEach(put);
    }
    if (message.type === 'change' || message.type === 'synced') {
      this.revision = message.revision;
      this.store = message.store ?? this.store;
    }
  }
  drain(): this {
    while (this.read());
    return this;
  }
  resume(feed: Feed): void {
    const reader = feed.afterFor(this.host, this.revision, this.store);
    if (reader !== undefined) this.#reader = reader;
  }
}

const steps = fc.array(
  fc.record({
    what: fc.constantFrom(
      'list',
      'read',
      'read',
      'resume',
      'attach',
      'attach',
      'detach',
      'detach',
      'rule',
      'group',
      'drop',
      'reserve',
      'give up',
    ),
    host: fc.constantFrom(...HOSTS),
    tenant: fc.constantFrom(...TENANTS),
    i: fc.integer({ min: 1, max: 3 }),
  }),
  { minLength: 10, maxLength: 60 },
);

it('who follows slowly, from a list or from where he was, knows in the end what is told to his host, and nothing besides', async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (chosen) => {
      const { feed, mirror, put, set, remove } = await opened();
      const followers: Follower[] = [];
      for (const [step, { what, host, tenant, i }] of chosen.entries()) {
        const one = followers[(step * 7 + i) % Math.max(followers.length, 1)];
        const place = endpointOf(tenant, host, i, step);
        if (what === 'list') followers.push(new Follower(feed, host));
        if (what === 'read') one?.read();
        if (what === 'resume' && one !== undefined && one.revision > 0) one.resume(feed);
        if (what === 'attach') await put({ endpoint: [place] });
        if (what === 'detach') {
          await remove('endpoint', place.endpointID);
          await remove('address', `${tenant}:n/${place.ipAddress[0]}`);
        }
        if (what === 'rule') await put({ rule: [rule(tenant, i, step)] });
        if (what === 'group') await put({ endpointGroup: [group(tenant, i, step)] });
        if (what === 'reserve') {
          const addresses = [{ address: `20.1.9.${step}` }];
          await set('reserve', `${host}/${tenant}:n`, { network: `${tenant}:n`, addresses });
        }
        if (what === 'give up') await remove('reserve', `${host}/${tenant}:n`);
        if (what === 'drop') await remove('rule', `${tenant}:p:${i}`);
      }
      for (const follower of followers) {
        const { objects, host } = follower.drain();
        expect(new Map([...objects].sort())).toEqual(new Map([...expected(mirror, host)].sort()));
      }
    }),
    { numRuns: 60 },
  );
}, 60_000);

it('of a change there are as many forms as hosts differ in the tenants that it is about, however many follow', async () => {
  const { feed, mirror, put } = await opened();
  await put({ endpoint: [endpointOf('blue', 'a', 1, 1)] });
  const followers = Array.from({ length: 200 }, (_, i) => ({ host: i % 2 === 0 ? 'a' : 'b' }));
  const readers = followers.map(({ host }) => feed.listFor(host));
  for (const reader of readers) while (reader.next() !== undefined);
  expect(feed.lists).toBe(1);
  await put({ rule: [rule('blue', 1, 9)] });
  const lines = readers.map((reader) => reader.next());
  expect(new Set(lines).size).toBe(2);
  const [whole, nothing] = lines.map((line) => JSON.parse(String(line)));
  expect(whole.changes).toMatchObject([{ kind: 'rule', key: 'blue:p:1', object: { priority: 9 } }]);
  // It is told that there was one, so that it says how far it is.
  expect(nothing).toEqual({ type: 'change', revision: mirror.revision, changes: [] });
});

it('of changes in a row that are nothing of its own a host is told the last revision alone, also where its own come between', async () => {
  const { feed, mirror, put } = await opened();
  await put({ endpoint: [endpointOf('blue', 'a', 1, 1)] });
  const reader = feed.listFor('a');
  while (reader.next() !== undefined);
  const told = (): { revision: number; keys: string[] }[] => {
    const lines: Buffer[] = [];
    for (let next = reader.next(); next !== undefined; next = reader.next()) lines.push(next);
    return lines.map((line) => {
      const { revision, changes } = JSON.parse(String(line));
      return { revision, keys: changes.map((c: WatchedObject) => c.key) };
    });
  };
  const from = mirror.revision;
  for (let i = 0; i < 600; i++) await put({ rule: [rule('red', 1, i)] });
  const revisions = told();
  expect(revisions.map(({ keys }) => keys)).toEqual([[], [], []]);
  // In some lines, between which others are served.
  expect(revisions.map(({ revision }) => revision - from)).toEqual([256, 512, 600]);
  expect(told()).toEqual([]);
  for (let i = 0; i < 5; i++) await put({ rule: [rule('red', 1, 100 + i)] });
  await put({ rule: [rule('blue', 1, 9)] });
  const own = mirror.revision;
  expect(told()).toEqual([{ revision: own, keys: ['blue:p:1'] }]);
  await put({ rule: [rule('blue', 1, 8)] });
  const before = mirror.revision;
  for (let i = 0; i < 5; i++) await put({ rule: [rule('red', 1, 200 + i)] });
  expect(told()).toEqual([
    { revision: before, keys: ['blue:p:1'] },
    { revision: mirror.revision, keys: [] },
  ]);
});

it('a host’s first address of a tenant brings it all of that in one line, before it has an endpoint; others hear nothing', async () => {
  const { feed, mirror, put, remove } = await opened();
  const [a, b, everybody] = [feed.listFor('a'), feed.listFor('b'), feed.list()];
  for (const reader of [a, b, everybody]) while (reader.next() !== undefined);
  await put({ endpoint: [endpointOf('red', 'a', 1, 1)] });
  const line = JSON.parse(String(a.next())) as Extract<WatchMessage, { type: 'change' }>;
  expect(a.next()).toBeUndefined();
  expect(line.revision).toBe(mirror.revision);
  const view = openView(
    [...expected(mirror, 'b')].map(([text, object]) => {
      const [kind = '', key = ''] = text.split(' ');
      return { kind, key, object };
    }),
  );
  for (const object of line.changes) view.put(object);
  expect([...view.tenants.keys()]).toEqual(['red']);
  expect(view.of('red').rules.get('p')).toHaveLength(3);
  while (b.next() !== undefined);
  while (everybody.next() !== undefined);
  // The endpoint ends: its address is reserved still, so nothing is taken away yet.
  await remove('endpoint', 'red-a-1');
  expect(JSON.parse(String(a.next())).changes).toEqual([{ kind: 'endpoint', key: 'red-a-1', object: null }]);
  while (b.next() !== undefined);
  while (everybody.next() !== undefined);
  await remove('address', 'red:n/20.1.0.1');
  for (const object of JSON.parse(String(a.next())).changes) view.put(object);
  expect([b.next(), everybody.next()]).toEqual([undefined, undefined]);
  expect([...view.tenants.keys()]).toEqual([]);
  expect(view.of('red').rules.size + view.of('red').networks.length).toBe(0);
  expect(view.networks.get('red:n')).toEqual({ tenantName: 'red', networkName: 'n', subnet: '20.1.0.0/16' });
});
