/**
 * What hosts see by their certificates, over TLS as it is. Whatever only a host of a tenant is to know of it is called crimson or azure;
 * what any host is told is not.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Client } from '../src/client/client.ts';
import { type MutableView, openView } from '../src/netplugin/intent/view.ts';
import type { WatchedObject } from '../src/protocol/messages.ts';
import { ROUTES } from '../src/protocol/routes.ts';
import { type Pair, requestCertificate } from '../src/tls/certificates.ts';
import { openSecured, type Secured } from './secured.ts';

let secured: Secured;
let admin: Client;
const pairs = new Map<string, Pair>();

const SECRET: Readonly<Record<string, string>> = { blue: 'azure', red: 'crimson' };

function objectsOf(tenantName: string): readonly Record<string, unknown>[] {
  const word = SECRET[tenantName] as string;
  return [
    { kind: 'tenant', tenantName },
    {
      kind: 'network',
      tenantName,
      networkName: 'net',
      subnet: '20.1.1.0/24',
      gateway: '20.1.1.254',
      cfgdTag: word,
    },
    { kind: 'policy', tenantName, policyName: `${word}-policy` },
    {
      kind: 'rule',
      tenantName,
      policyName: `${word}-policy`,
      ruleId: '1',
      direction: 'in',
      protocol: 'tcp',
      port: 80,
      action: 'deny',
    },
    { kind: 'netprofile', tenantName, profileName: `${word}-profile`, bandwidth: '10 mbps' },
    {
      kind: 'endpointGroup',
      tenantName,
      groupName: 'group',
      networkName: 'net',
      policies: [`${word}-policy`],
      netProfile: `${word}-profile`,
      cfgdTag: word,
    },
    { kind: 'appProfile', tenantName, appProfileName: `${word}-app`, endpointGroups: ['group'] },
    {
      kind: 'serviceLB',
      tenantName,
      serviceName: `${word}-service`,
      networkName: 'net',
      selectors: [`app=${word}`],
      ports: ['80:8080:TCP'],
    },
    {
      kind: 'externalEndpoint',
      tenantName,
      endpointName: `${word}-machine`,
      groupName: 'group',
      ipAddress: ['192.0.2.9'],
    },
    {
      kind: 'workload',
      namespaceName: tenantName,
      workloadName: 'web',
      uid: '1',
      tenantName,
      networkName: 'net',
      labels: { app: word },
      namespaceLabels: { of: word },
    },
    {
      kind: 'clusterService',
      namespaceName: word,
      serviceName: 'web',
      tenantName,
      addresses: [],
      ports: [],
    },
    {
      kind: 'swarmService',
      serviceID: word,
      swarmNetworkID: 'n1',
      swarm: 's1',
      serviceName: `${word}-task`,
      tenantName,
      networkName: 'net',
    },
  ];
}

async function joined(name: string): Promise<Pair> {
  const { key, request } = await requestCertificate(name);
  const token = await secured.tokenFor('join');
  const client = secured.clientOf({ authority: secured.authority.certificate });
  const { certificate } = (await client.call('join', {}, { token, name, request })).body;
  client.close();
  return { key, certificate };
}

const of = (host: string): Client => secured.clientOf(secured.credentialsOf(pairs.get(host)));

beforeAll(async () => {
  secured = await openSecured();
  admin = secured.clientOf(secured.admin);
  for (const host of ['node1', 'node2']) {
    pairs.set(host, await joined(host));
    await admin.call(
      'register',
      { name: host },
      { name: host, underlay: `192.0.2.${host.at(-1)}`, run: host },
    );
  }
  for (const tenant of ['blue', 'red'])
    await admin.call('apply', { wait: '0' }, { objects: objectsOf(tenant) });
  await admin.call(
    'apply',
    { wait: '0' },
    {
      objects: ['node1', 'node2'].map((hostname) => ({
        kind: 'Bgp',
        hostname,
        routerip: `192.0.2.${hostname.at(-1)}/24`,
        as: '65000',
        neighbor: '192.0.2.254',
        'neighbor-as': '65001',
      })),
    },
  );
});
afterAll(async () => {
  admin.close();
  await secured.close();
});

interface Watch {
  readonly view: MutableView;
  /** All that came, as text. */
  text(): string;
  readonly at: { store: string; revision: number };
  until(what: () => boolean): Promise<void>;
  end(): Promise<void>;
}

function watch(
  host: string,
  from: { store?: string; after?: number; objects?: WatchedObject[] } = {},
): Watch {
  const stop = new AbortController();
  const client = of(host);
  const { objects = [], ...place } = from;
  const view = openView(objects);
  let text = '';
  const at = { store: '', revision: 0 };
  const following = (async () => {
    for await (const message of client.watch({ ...place, host, signal: stop.signal })) {
      text += `${JSON.stringify(message)}\n`;
      if (message.type === 'object') view.put(message);
      if (message.type === 'change') for (const object of message.changes) view.put(object);
      if (message.type !== 'change' && message.type !== 'synced') continue;
      at.revision = message.revision;
      at.store = message.store ?? at.store;
    }
  })().catch((error) => {
    if (!stop.signal.aborted) throw error;
  });
  return {
    view,
    text: () => text,
    at,
    until: (what) => expect.poll(what, { timeout: 20_000 }).toBe(true),
    async end() {
      stop.abort();
      await following;
      client.close();
    },
  };
}

const reserve = async (host: string, tenantName: string): Promise<string> =>
  (
    await of(host).call(
      'reserve',
      {},
      {
        tenantName,
        networkName: 'net',
        family: 4,
        host,
        groupName: 'group',
      },
    )
  ).body.address;

async function attach(host: string, tenantName: string, ipAddress: string): Promise<void> {
  const id = `${SECRET[tenantName]}-${host}`;
  await of(host).call(
    'attach',
    { id, host, wait: '0' },
    {
      endpointID: id,
      tenantName,
      networkName: 'net',
      groupName: 'group',
      homingHost: host,
      ipAddress: [ipAddress],
      macAddress: '02:02:14:01:01:09',
      status: 'running',
    },
  );
}
async function detach(host: string, tenantName: string, address: string): Promise<void> {
  const client = of(host);
  await client.call('detach', { id: `${SECRET[tenantName]}-${host}`, host, wait: '0' });
  await client.call('release', { network: `${tenantName}:net`, address, host });
}

it('of every route that answers a host with something to read, none but the watch says what is declared', () => {
  const read = ROUTES.filter(
    ({ method, who }) =>
      method === 'GET' && (who === 'anyone' || who === 'known' || (typeof who === 'object' && 'host' in who)),
  ).map(({ path }) => path);
  expect(read.sort()).toEqual([
    '/api/v1/watch',
    '/api/v1/whoami',
    '/healthz',
    '/metrics',
    '/openapi.json',
    '/readyz',
    '/version',
  ]);
});

it('a host without containers is told outlines, and its own BGP; of tenants it has one of as long as it has', async () => {
  const one = watch('node1');
  await one.until(() => one.at.revision > 0);
  expect(one.text()).not.toMatch(/azure|crimson/);
  expect([...one.view.networks.keys()].sort()).toEqual(['blue:net', 'red:net']);
  expect([...one.view.networks.values()].map(({ vni }) => vni)).toEqual([undefined, undefined]);
  expect([...one.view.groups.values()].map((group) => Object.keys(group))).toEqual([
    ['tenantName', 'groupName', 'networkName'],
    ['tenantName', 'groupName', 'networkName'],
  ]);
  expect(one.view.workloads.get('red:web')).toEqual({
    namespaceName: 'red',
    workloadName: 'web',
    uid: '1',
    tenantName: 'red',
    networkName: 'net',
  });
  expect([...one.view.bgps.keys()]).toEqual(['node1']);
  expect([...one.view.hosts.keys()].sort()).toEqual(['node1', 'node2']);
  expect(Object.keys(one.view.settings ?? {})).toEqual(['name', 'fwdMode']);
  expect([...one.view.tenants.keys()]).toEqual([]);

  // Its tenant comes with the address, before there is an endpoint.
  const address = await reserve('node1', 'blue');
  await one.until(() => one.view.tenants.has('blue'));
  const mine = one.view.of('blue');
  expect(mine.rules.get('azure-policy')).toHaveLength(1);
  expect(
    [mine.networks, mine.groups, mine.services, mine.externals, mine.profiles].map((l) => l.length),
  ).toEqual([1, 1, 1, 1, 1]);
  await attach('node1', 'blue', address);
  await one.until(() => one.view.endpoints.has('azure-node1'));

  // What is another host's, and of another tenant, is none of its business: but how far it is.
  const two = watch('node2');
  const other = await reserve('node2', 'red');
  await attach('node2', 'red', other);
  await admin.call(
    'apply',
    { wait: '0' },
    {
      objects: [{ kind: 'netprofile', tenantName: 'red', profileName: 'crimson-other', bandwidth: '1 mbps' }],
    },
  );
  await two.until(() => two.view.of('red').profiles.length === 2);
  await one.until(() => one.at.revision === two.at.revision);
  expect(one.text()).not.toMatch(/crimson/);
  expect(two.text()).not.toMatch(/azure/);

  // Where it was it goes on, with what its tenants are by then.
  await one.end();
  const objects = one.view.contents();
  await detach('node1', 'blue', address);
  const again = watch('node1', { store: one.at.store, after: one.at.revision, objects });
  await again.until(() => !again.view.tenants.has('blue'));
  expect(
    again.view
      .contents()
      .map(({ object }) => JSON.stringify(object))
      .join(),
  ).not.toMatch(/azure|crimson/);
  expect(again.view.networks.has('blue:net')).toBe(true);
  await again.end();
  await detach('node2', 'red', other);
  await two.until(() => two.view.tenants.size === 0);
  await two.end();
}, 60_000);

it('who was told all goes on from there by a certificate only after it has listed anew, nor the reverse', async () => {
  const { storeId, revision } = secured.api.mirror;
  const ask = (by: Pair | undefined, token: string | undefined, store: string) =>
    secured.ask(
      {
        method: 'GET',
        path: `/api/v1/watch?store=${store}&after=${revision}${by === undefined ? '' : '&host=node1'}`,
      },
      { pair: by, token },
    );
  const token = await secured.tokenFor('reader');
  expect((await ask(pairs.get('node1'), undefined, storeId)).status).toBe(410);
  expect((await ask(pairs.get('node1'), undefined, `${storeId}.scoped`)).status).toBe(200);
  expect((await ask(undefined, token, `${storeId}.scoped`)).status).toBe(410);
  expect((await ask(undefined, token, storeId)).status).toBe(200);
});
