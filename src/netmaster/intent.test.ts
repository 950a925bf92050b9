import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Endpoint } from '../model/endpoint.ts';
import { KINDS, kindByCollection, relationsOf } from '../model/kinds.ts';
import { openMemory } from '../store/memory.ts';
import type { Store } from '../store/store.ts';
import { findEndpoints } from './api/agents.ts';
import {
  decideCollection,
  decideEndpoint,
  decideEndpointRemoval,
  decideRelease,
  decideReserve,
  type Seen,
} from './endpoints.ts';
import { decideGuard } from './guards.ts';
import { decideWrite, present, readObject, remove } from './intent.ts';
import { type Mirror, openMirror, storeKey, type VisibleBatch } from './mirror.ts';
import { operOf } from './oper.ts';
import { openWriter } from './writer.ts';

type Plain = Record<string, unknown>;

/** What one netmaster does, without HTTP. Several over one store are several replicas. */
async function replica(store: Store) {
  const mirror = await openMirror(store);
  onTestFinished(() => mirror.close());
  const writer = openWriter(store, mirror);
  const kindOf = (path: string) => {
    const [collection = '', key = ''] = path.split('/');
    const kind = kindByCollection.get(collection);
    if (kind === undefined) throw new Error(`no collection ${collection}`);
    return { kind, key };
  };
  return {
    mirror,
    writer,
    /** POST: `post('networks/default:net1', { subnet: '20.1.1.0/24' })`. */
    async post(path: string, body: Plain = {}, mode: 'post' | 'put' = 'post') {
      const { kind, key } = kindOf(path);
      const object = readObject(kind, key, body);
      const { answer } = await writer.writeTogether((view) => decideWrite(kind, key, object, mode, view));
      return present(kind, answer, mirror);
    },
    async delete(path: string) {
      const { kind, key } = kindOf(path);
      return remove(kind, key, writer);
    },
    get(path: string) {
      const { kind, key } = kindOf(path);
      const object = mirror.get<Plain>(kind.name, key);
      return object && present(kind, object, mirror);
    },
    oper(path: string) {
      const { kind, key } = kindOf(path);
      return operOf(kind, mirror.get<Plain>(kind.name, key) as Plain, mirror);
    },
    async start(name: string, more: Partial<Endpoint> = {}) {
      const endpoint: Endpoint = {
        endpointID: name,
        tenantName: 'default',
        networkName: 'net1',
        ipAddress: [],
        macAddress: '02:02:00:00:00:01',
        homingHost: 'node1',
        containerName: name,
        status: 'running',
        ...more,
      };
      const { tenantName, networkName, groupName } = endpoint;
      if (endpoint.ipAddress.length === 0) {
        const request = {
          tenantName,
          networkName,
          family: 4,
          host: 'node1',
          ...(groupName ? { groupName } : {}),
        };
        const { answer } = await writer.write(() => decideReserve(mirror, { ...request, family: 4 }));
        endpoint.ipAddress = [answer.address];
      }
      await writer.write(() => decideEndpoint(mirror, endpoint));
      return endpoint.ipAddress[0] as string;
    },
  };
}

async function cluster() {
  const store = openMemory();
  onTestFinished(() => store.close());
  const one = await replica(store);
  await one.writer.write(() => ({
    checks: [],
    writes: [{ key: storeKey('tenant', 'default'), value: { tenantName: 'default' } }],
    answer: undefined,
  }));
  return { store, ...one };
}

/** With network net1, groups web and db, and policy p. */
async function shop() {
  const it = await cluster();
  await it.post('networks/default:net1', { subnet: '20.1.1.0/24', gateway: '20.1.1.254' });
  for (const group of ['web', 'db'])
    await it.post(`endpointGroups/default:${group}`, { networkName: 'net1' });
  await it.post('policys/default:p');
  return it;
}

const SERVICE = { networkName: 'net1', selectors: ['app=web'], ports: ['80:8080:TCP'] };

describe('a network of IPv6 alone', () => {
  it('gives addresses of that to endpoints, services and external endpoints, and counts them', async () => {
    const one = await cluster();
    await one.post('networks/default:six', { ipv6Subnet: 'fd00:6::/64', ipv6Gateway: 'fd00:6::1' });
    await one.post('endpointGroups/default:web', { networkName: 'six' });
    expect(one.get('networks/default:six')).not.toHaveProperty('subnet');
    const ask = (family: 4 | 6) =>
      one.writer.write(() =>
        decideReserve(one.mirror, { tenantName: 'default', networkName: 'six', family, host: 'node1' }),
      );
    await expect(ask(4)).rejects.toThrow('network default:six has no IPv4 subnet');
    const { address, prefixLength } = (await ask(6)).answer;
    expect([address, prefixLength]).toEqual(['fd00:6::2', 64]);
    const labels = { app: 'web' };
    await one.start('a', { networkName: 'six', groupName: 'web', ipAddress: [address], labels });
    await one.post('serviceLBs/default:lb', { ...SERVICE, networkName: 'six' });
    await one.post('externalEndpoints/default:box', { groupName: 'web', ipAddress: ['fd00:6::99'] });
    expect(one.oper('serviceLBs/default:lb')).toMatchObject({ serviceVip: 'fd00:6::3', numProviders: 1 });
    expect(one.oper('networks/default:six')).toMatchObject({
      allocatedAddressesCount: 3,
      allocatedIPAddresses: 'fd00:6::1-fd00:6::3, fd00:6::99',
      availableIPAddresses: 'fd00:6::4-fd00:6::98, fd00:6::9a-fd00:6::ffff:ffff:ffff:ffff',
    });
  });
});
const RULE = { direction: 'in', action: 'allow' };

/** The store over a network: transactions and watched changes arrive some turns of the event loop later. */
function distant(store: Store): Store {
  let seed = 1;
  const lag = async (most: number) => {
    seed = (seed * 48271) % 2147483647;
    for (let turns = seed % (most + 1); turns > 0; turns--) await new Promise(setImmediate);
  };
  return {
    ...store,
    async transact(checks, writes) {
      await lag(6);
      return store.transact(checks, writes);
    },
    async transactTogether(transactions) {
      await lag(6);
      return (await store.transactTogether?.(transactions)) ?? [];
    },
    async *watch(prefix, after, signal) {
      for await (const batch of store.watch(prefix, after, signal)) {
        await lag(6);
        yield batch;
      }
    },
  };
}

/** References to what is not there: `rule default:p:1 -> policy default:p`. */
function dangling(mirror: Mirror): string[] {
  return [...relationsOf].flatMap(([name, relations]) =>
    [...mirror.entries<Plain>(name)].flatMap(([key, { object }]) =>
      relations.flatMap(({ reference }) =>
        reference
          .keys(object)
          .filter((target) => mirror.get(reference.kind, target) === undefined)
          .map((target) => `${name} ${key} -> ${reference.kind} ${target}`),
      ),
    ),
  );
}

describe('references', () => {
  it('show on both ends', async () => {
    const { post, get } = await shop();
    await post('netprofiles/default:gold', { bandwidth: '10 mbps' });
    await post('extContractsGroups/default:ext', { contractsType: 'provided', contracts: ['c'] });
    await post('endpointGroups/default:web', {
      networkName: 'net1',
      policies: ['p'],
      netProfile: 'gold',
      extContractsGrps: ['ext'],
    });
    await post('appProfiles/default:shop', { endpointGroups: ['web', 'db'] });
    await post('rules/default:p:1', { ...RULE, fromEndpointGroup: 'db' });
    await post('rules/default:p:2', { ...RULE, direction: 'out', toNetwork: 'net1' });
    await post('serviceLBs/default:lb', SERVICE);
    const set = (type: string, ...keys: string[]) =>
      Object.fromEntries(keys.map((key) => [key, { type, key }]));

    expect(get('endpointGroups/default:web')).toMatchObject({
      links: {
        AppProfile: { type: 'appProfile', key: 'default:shop' },
        NetProfile: { type: 'netprofile', key: 'default:gold' },
        Network: { type: 'network', key: 'default:net1' },
        Tenant: { type: 'tenant', key: 'default' },
      },
      'link-sets': {
        Policies: set('policy', 'default:p'),
        ExtContractsGrps: set('extContractsGroup', 'default:ext'),
      },
    });
    expect(get('endpointGroups/default:db')?.['link-sets']).toEqual({
      MatchRules: set('rule', 'default:p:1'),
    });
    expect(get('policys/default:p')?.['link-sets']).toEqual({
      EndpointGroups: set('endpointGroup', 'default:web'),
      Rules: set('rule', 'default:p:1', 'default:p:2'),
    });
    expect(get('rules/default:p:1')).toMatchObject({
      links: { MatchEndpointGroup: { type: 'endpointGroup', key: 'default:db' } },
      'link-sets': { Policies: set('policy', 'default:p') },
    });
    expect(get('rules/default:p:2')?.links).toEqual({ MatchEndpointGroup: {} });
    expect(get('networks/default:net1')?.['link-sets']).toEqual({
      EndpointGroups: set('endpointGroup', 'default:db', 'default:web'),
      Servicelbs: set('serviceLB', 'default:lb'),
    });
    expect(get('serviceLBs/default:lb')?.links).toEqual({
      Network: { type: 'network', key: 'default:net1' },
      Tenant: { type: 'tenant', key: 'default' },
    });
    expect(get('tenants/default')?.['link-sets']).toMatchObject({
      AppProfiles: set('appProfile', 'default:shop'),
      NetProfiles: set('netprofile', 'default:gold'),
      Policies: set('policy', 'default:p'),
      Servicelbs: set('serviceLB', 'default:lb'),
    });
    await post('endpointGroups/default:web', { networkName: 'net1' });
    expect(get('policys/default:p')?.['link-sets']).not.toHaveProperty('EndpointGroups');
  });

  it.each<[string, Plain, string]>([
    ['rules/default:nosuch:1', RULE, 'policyName names policy default:nosuch'],
    [
      'rules/default:p:1',
      { ...RULE, fromEndpointGroup: 'x' },
      'fromEndpointGroup names endpointGroup default:x',
    ],
    ['rules/default:p:1', { ...RULE, fromNetwork: 'x' }, 'fromNetwork names network default:x'],
    ['appProfiles/default:a', { endpointGroups: ['x'] }, 'endpointGroups names endpointGroup default:x'],
    ['serviceLBs/default:a', { ...SERVICE, networkName: 'x' }, 'networkName names network default:x'],
    ['netprofiles/x:a', {}, 'tenantName names tenant x'],
    [
      'endpointGroups/default:a',
      { networkName: 'net1', extContractsGrps: ['x'] },
      'extContractsGrps names extContractsGroup default:x',
    ],
  ])('to what is not there are refused: %s %j', async (path, body, text) => {
    const { post, get } = await shop();
    await expect(post(path, body)).rejects.toMatchObject({
      status: 404,
      message: expect.stringContaining(`${text}, which does not exist`),
    });
    expect(get(path)).toBeUndefined();
  });

  it('keep what they refer to from being deleted, and the refusal names the users', async () => {
    const { post, start, delete: del } = await shop();
    const refusal = (users: string) => ({
      status: 409,
      message: expect.stringMatching(`is in use by ${users}: delete them first`),
    });
    await post('rules/default:p:1', { ...RULE, fromNetwork: 'net1' });
    await post('rules/default:p:2', { ...RULE, direction: 'out', toEndpointGroup: 'db' });
    await post('endpointGroups/default:web', { networkName: 'net1', policies: ['p'] });
    await start('c1', { groupName: 'db' });

    await expect(del('policys/default:p')).rejects.toMatchObject(refusal('endpointGroup default:web'));
    await expect(del('endpointGroups/default:db')).rejects.toMatchObject(
      refusal('container c1 on node1, rule default:p:2'),
    );
    await expect(del('networks/default:net1')).rejects.toMatchObject(refusal('.*rule default:p:1.*'));
    await del('endpointGroups/default:web');
    await post('appProfiles/default:shop', { endpointGroups: ['db'] });
    await del('rules/default:p:2');
    await expect(del('endpointGroups/default:db')).rejects.toMatchObject(
      refusal('container c1 on node1, appProfile default:shop'),
    );
  });

  it('are named five at most', async () => {
    const { post, delete: del } = await shop();
    for (let i = 0; i < 7; i++) await post(`rules/default:p:${i}`, { ...RULE, fromEndpointGroup: 'db' });
    await expect(del('endpointGroups/default:db')).rejects.toThrow(
      /default:p:4 and 2 more: delete them first/,
    );
  });
});

describe('a policy', () => {
  it('takes its rules with it, in one change', async () => {
    const { post, mirror, get, delete: del } = await shop();
    for (let i = 0; i < 300; i++) await post(`rules/default:p:${i}`, { ...RULE, fromEndpointGroup: 'db' });
    await post('policys/default:other');
    await post('rules/default:other:1', RULE);
    const batches: VisibleBatch[] = [];
    mirror.onChange((batch) => batches.push(batch));
    await del('policys/default:p');
    expect(batches).toHaveLength(1);
    expect(batches[0]?.changes).toHaveLength(301);
    expect(mirror.list('rule')).toHaveLength(1);
    expect(get('endpointGroups/default:db')?.['link-sets']).toEqual({});
    await post('policys/default:p');
    expect(get('policys/default:p')?.['link-sets']).toEqual({});
  });

  it('has rules that do not change', async () => {
    const { post } = await shop();
    await post('rules/default:p:1', RULE);
    await expect(post('rules/default:p:1', RULE)).rejects.toMatchObject({
      status: 409,
      message: 'rule default:p:1 exists already',
    });
    await expect(post('rules/default:p:1', { ...RULE, priority: 2 })).rejects.toMatchObject({
      status: 409,
      message:
        'rule default:p:1 exists already: priority is 1 and cannot change to 2: delete it and create it anew',
    });
    expect(await post('rules/default:p:1', RULE, 'put')).toMatchObject({ priority: 1 });
    await expect(post('rules/default:p:1', { ...RULE, priority: 2 }, 'put')).rejects.toMatchObject({
      status: 409,
    });
  });

  it('counts and lists the endpoints of the groups that carry it', async () => {
    const { post, start, oper } = await shop();
    await post('endpointGroups/default:web', { networkName: 'net1', policies: ['p'] });
    for (const name of ['w1', 'w2']) await start(name, { groupName: 'web' });
    await start('d1', { groupName: 'db' });
    expect(oper('policys/default:p')).toEqual({
      numEndpoints: 2,
      endpoints: [
        expect.objectContaining({ containerName: 'w1', endpointGroupKey: 'web:default' }),
        expect.objectContaining({ containerName: 'w2' }),
      ],
    });
  });
});

describe('names', () => {
  it.each<[string, Plain, string]>([
    [
      'endpointGroups/default:DB',
      { networkName: 'net1' },
      'groupName is the name of endpointGroup default:db',
    ],
    ['endpointGroups/default:Net1', { networkName: 'net1' }, 'groupName is the name of network default:net1'],
    [
      'networks/default:WEB',
      { subnet: '30.1.1.0/24' },
      'networkName is the name of endpointGroup default:web',
    ],
    ['networks/default:NET1', { subnet: '30.1.1.0/24' }, 'networkName is the name of network default:net1'],
    ['serviceLBs/default:web', SERVICE, 'serviceName is the name of endpointGroup default:web'],
    ['serviceLBs/default:net1', SERVICE, 'serviceName is the name of network default:net1'],
  ])('are unique among networks, groups and services of a tenant: %s', async (path, body, text) => {
    const { post, get } = await shop();
    await expect(post(path, body)).rejects.toMatchObject({
      status: 409,
      message: expect.stringContaining(`${text} already`),
    });
    expect(get(path)).toBeUndefined();
  });

  it('of a service are free again when it has gone, and free in any other tenant', async () => {
    const { post, delete: del } = await shop();
    await post('tenants/blue');
    await post('serviceLBs/default:lb', SERVICE);
    await post('networks/blue:lb', { subnet: '20.1.1.0/24' });
    await expect(post('endpointGroups/default:lb', { networkName: 'net1' })).rejects.toMatchObject({
      field: 'groupName',
      message: expect.stringContaining('groupName is the name of serviceLB default:lb already'),
    });
    await del('serviceLBs/default:lb');
    await post('endpointGroups/default:lb', { networkName: 'net1' });
  });
});

describe("a service's address", () => {
  const vip = (mirror: Mirror, key: string) => mirror.get<{ vip: string }>('serviceLB', key)?.vip;

  it('is given out, seen by agents and inspect, and not in answers', async () => {
    const { post, mirror, oper } = await shop();
    const answer = await post('serviceLBs/default:lb', SERVICE);
    expect(answer).not.toHaveProperty('vip');
    expect(answer).not.toHaveProperty('ipAddress');
    expect(vip(mirror, 'default:lb')).toBe('20.1.1.2');
    expect(oper('serviceLBs/default:lb')).toEqual({ serviceVip: '20.1.1.2' });
    expect(oper('networks/default:net1')).toMatchObject({
      allocatedAddressesCount: 1,
      allocatedIPAddresses: '20.1.1.2, 20.1.1.254',
      availableIPAddresses: '20.1.1.1, 20.1.1.3-20.1.1.253',
    });
  });

  it('is that which was asked for', async () => {
    const { post, mirror } = await shop();
    expect(await post('serviceLBs/default:lb', { ...SERVICE, ipAddress: '20.1.1.77' })).toMatchObject({
      ipAddress: '20.1.1.77',
    });
    expect(vip(mirror, 'default:lb')).toBe('20.1.1.77');
  });

  it('is no container’s and no other service’s', async () => {
    const { post, mirror, writer, start } = await shop();
    await post('serviceLBs/default:lb', { ...SERVICE, ipAddress: '20.1.1.3' });
    const [first, second] = [await start('c1'), await start('c2')];
    expect([first, second]).toEqual(['20.1.1.2', '20.1.1.4']);
    const taken = { status: 409, message: expect.stringContaining('in use by service default:lb') };
    await expect(post('serviceLBs/default:two', { ...SERVICE, ipAddress: '20.1.1.3' })).rejects.toMatchObject(
      {
        ...taken,
        field: 'ipAddress',
      },
    );
    const request = { tenantName: 'default', networkName: 'net1', family: 4, host: 'node1' } as const;
    await expect(
      writer.write(() => decideReserve(mirror, { ...request, address: '20.1.1.3' })),
    ).rejects.toMatchObject(taken);
    await expect(start('thief', { ipAddress: ['20.1.1.3'] })).rejects.toMatchObject({
      status: 409,
      message: expect.stringContaining('belongs to service default:lb'),
    });
    await post('serviceLBs/default:two', SERVICE);
    expect(vip(mirror, 'default:two')).toBe('20.1.1.5');
  });

  it('is refused where it is the gateway, or taken, with who has it', async () => {
    const { post, start, get } = await shop();
    await start('c1', { ipAddress: ['20.1.1.9'] });
    const wanted = (ipAddress: string) => post('serviceLBs/default:lb', { ...SERVICE, ipAddress });
    await expect(wanted('20.1.1.254')).rejects.toThrow(
      'service default:lb: address 20.1.1.254 is the gateway; choose a free one of 20.1.1.0/24',
    );
    await expect(wanted('20.1.1.9')).rejects.toThrow('address 20.1.1.9 is in use by c1 on node1');
    await expect(wanted('20.1.1.255')).rejects.toThrow("is the subnet's own or its broadcast address");
    await expect(wanted('30.1.1.1')).rejects.toThrow('must lie in 20.1.1.0/24 of network net1');
    expect(get('serviceLBs/default:lb')).toBeUndefined();
  });

  it('stays through updates unless another one is asked for, which frees the old one', async () => {
    const { post, mirror, start } = await shop();
    await post('serviceLBs/default:lb', SERVICE);
    await post('serviceLBs/default:lb', { ...SERVICE, ports: ['81:8080:TCP'] });
    expect(vip(mirror, 'default:lb')).toBe('20.1.1.2');
    await post('serviceLBs/default:lb', { ...SERVICE, ipAddress: '20.1.1.2' });
    expect(vip(mirror, 'default:lb')).toBe('20.1.1.2');
    await post('serviceLBs/default:lb', { ...SERVICE, ipAddress: '20.1.1.50' });
    expect(vip(mirror, 'default:lb')).toBe('20.1.1.50');
    expect([...mirror.addresses('default:net1').keys()]).toEqual(['20.1.1.50']);
    expect(await start('c1', { ipAddress: ['20.1.1.2'] })).toBe('20.1.1.2');
  });

  it('is never collected as unused, nor released by a host, and free when the service has gone', async () => {
    const { post, mirror, writer, delete: del } = await shop();
    await post('serviceLBs/default:lb', SERVICE);
    const request = { tenantName: 'default', networkName: 'net1', family: 4, host: 'node1' } as const;
    await writer.write(() => decideReserve(mirror, request));
    const seen: Seen = new Map();
    const collect = async (at: number) =>
      (await writer.write(() => decideCollection(mirror, seen, 1000, at))).answer;
    expect([await collect(5000), await collect(6000), await collect(6001)]).toEqual([0, 0, 1]);
    for (const host of ['', 'node1', 'undefined'])
      await writer.write(() => decideRelease(mirror, 'default:net1', '20.1.1.2', host));
    expect([...mirror.addresses('default:net1').keys()]).toEqual(['20.1.1.2']);
    await del('serviceLBs/default:lb');
    expect(mirror.addresses('default:net1').size).toBe(0);
  });

  it('is one service’s, however many ask at once on two replicas', async () => {
    const { store, post, mirror } = await shop();
    const two = await replica(store);
    await Promise.all(
      Array.from({ length: 60 }, (_, i) => (i % 2 ? post : two.post)(`serviceLBs/default:s${i}`, SERVICE)),
    );
    await sleep(0);
    const vips = mirror.list<{ vip: string }>('serviceLB').map((s) => s.vip);
    expect(new Set(vips).size).toBe(60);
    expect(new Set(mirror.addresses('default:net1').keys())).toEqual(new Set(vips));
  });
});

it('a service’s providers are the tenant’s endpoints that carry all its labels', async () => {
  const { post, start, oper } = await shop();
  await post('serviceLBs/default:lb', { ...SERVICE, selectors: ['app=web', 'tier=front'] });
  const address = await start('c1', { groupName: 'web', labels: { app: 'web', tier: 'front', x: 'y' } });
  await start('c2', { labels: { app: 'web' } });
  await start('c3', { groupName: 'db' });
  expect(oper('serviceLBs/default:lb')).toMatchObject({
    numProviders: 1,
    providers: [{ containerName: 'c1', ipAddress: [address] }],
  });
});

it('a tenant has its totals', async () => {
  const { post, start, oper } = await shop();
  await post('serviceLBs/default:lb', SERVICE);
  await start('c1');
  expect(oper('tenants/default')).toMatchObject({
    totalNetworks: 1,
    totalEPGs: 2,
    totalPolicies: 1,
    totalServicelbs: 1,
    totalEndpoints: 1,
  });
});

it('inspect has what 1.x has of tenants, networks, groups and settings', async () => {
  const { post, start, oper } = await shop();
  await post('endpointGroups/default:pooled', { networkName: 'net1', ipPool: '20.1.1.10-20.1.1.14' });
  await post('appProfiles/default:shop', { endpointGroups: ['web'] });
  await post('aciGws/aciGw', { physicalDomain: 'dom' });
  await start('c1', { groupName: 'pooled' });
  await start('c2', { groupName: 'web' });
  const pooled = {
    groupTag: 'pooled.default',
    allocatedIPAddresses: '20.1.1.10',
    availableIPAddresses: '20.1.1.11-20.1.1.14',
  };
  const net1 = {
    networkTag: 'net1.default',
    allocatedIPAddresses: '20.1.1.2, 20.1.1.10, 20.1.1.254',
    availableIPAddresses: '20.1.1.1, 20.1.1.3-20.1.1.9, 20.1.1.15-20.1.1.253',
    allocatedAddressesCount: 2,
  };
  expect(oper('endpointGroups/default:pooled')).toMatchObject(pooled);
  expect(oper('endpointGroups/default:web')).not.toHaveProperty('availableIPAddresses');
  expect(oper('networks/default:net1')).toMatchObject(net1);
  expect(oper('tenants/default')).toMatchObject({
    networks: [net1],
    endpointGroups: expect.arrayContaining([expect.objectContaining(pooled)]),
  });
  expect(oper('aciGws/aciGw')).toMatchObject({ numAppProfiles: 1 });
  await post('globals/global', { name: 'global', vxlans: '1-20000' });
  expect(oper('globals/global')).toMatchObject({ clusterMode: 'docker', numNetworks: 1 });
});

it('a container in several networks is found as one, by its name or id; several of one name are not', async () => {
  const { post, start, mirror } = await shop();
  await post('networks/default:net2', { subnet: '20.2.1.0/24' });
  const containerID = '0123456789abcdef';
  await start('c1', { containerName: 'web', containerID });
  await start('c2', { containerName: 'web', containerID, networkName: 'net2' });
  for (const name of ['web', '0123456789ab'])
    expect(
      findEndpoints(name, mirror)
        .map((e) => e.networkName)
        .toSorted(),
    ).toEqual(['net1', 'net2']);
  expect(findEndpoints('c2', mirror).map((e) => e.networkName)).toEqual(['net2']);
  await start('c3', { containerName: 'web', containerID: 'fedcba9876543210' });
  expect(() => findEndpoints('web', mirror)).toThrow('web is the name of several containers');
});

it('what only is kept says so when it is inspected', async () => {
  const { post, oper, writer } = await cluster();
  await post('aciGws/aciGw', { physicalDomain: 'dom' });
  await post('Bgps/node1', { routerip: '50.1.1.2/24', as: '65002' });
  await post('extContractsGroups/default:ext', { contractsType: 'consumed' });
  await post('networks/default:v', { encap: 'vlan', subnet: '20.1.1.0/24' });
  for (const path of ['aciGws/aciGw', 'extContractsGroups/default:ext'])
    expect(oper(path)).toMatchObject({ note: expect.stringContaining('kept only') });
  expect(oper('networks/default:v')).toMatchObject({ note: expect.stringContaining('acts on hosts') });
  expect(() => oper('Bgps/node1')).toThrow('no agent runs on a host named node1');
  const host = { name: 'node1', underlay: '10.0.0.1' };
  await writer.write(() => ({
    checks: [],
    writes: [{ key: storeKey('host', 'node1'), value: host }],
    answer: undefined,
  }));
  expect(oper('Bgps/node1')).toMatchObject({ note: expect.stringContaining('no neighbour is given') });
});

it('writes look at what they refer to, never through all there is', async () => {
  const { mirror, writer, post, start } = await shop();
  await post('serviceLBs/default:lb', SERVICE);
  await start('c1', { groupName: 'web' });
  const narrow: Mirror = {
    ...mirror,
    list(kind) {
      throw new Error(`looks through all of ${kind}`);
    },
    entries(kind) {
      throw new Error(`looks through all of ${kind}`);
    },
  };
  const write = (path: string, body: Plain) => {
    const [collection = '', key = ''] = path.split('/');
    const kind = kindByCollection.get(collection);
    if (kind === undefined) throw new Error(collection);
    return writer.write(() => decideWrite(kind, key, readObject(kind, key, body), 'post', narrow));
  };
  await write('rules/default:p:1', { ...RULE, fromEndpointGroup: 'web', fromNetwork: 'net1' });
  await write('endpointGroups/default:new', { networkName: 'net1', policies: ['p'] });
  await write('endpointGroups/default:web', { networkName: 'net1', policies: ['p'] });
  await write('serviceLBs/default:new-lb', SERVICE);
  await write('netprofiles/default:gold', {});
  await write('appProfiles/default:shop', { endpointGroups: ['web'] });
  const request = { tenantName: 'default', networkName: 'net1', family: 4, host: 'node1' } as const;
  await writer.write(() => decideReserve(narrow, request));
  await writer.write(() => decideEndpointRemoval(narrow, 'c1'));
  for (const path of [
    'rules/default:p:1',
    'appProfiles/default:shop',
    'serviceLBs/default:lb',
    'endpointGroups/default:web',
  ]) {
    const [collection = '', key = ''] = path.split('/');
    await remove(kindByCollection.get(collection) as (typeof KINDS)[number], key, {
      ...writer,
      writeTogether: (decide, caller) => writer.write(() => decide(narrow), caller),
    });
  }
});

describe("a group's pool", () => {
  it('is where its members’ addresses come from, and nobody else’s, also where an address is named', async () => {
    const { post, mirror, writer } = await shop();
    await post('endpointGroups/default:web', { networkName: 'net1', ipPool: '20.1.1.2-20.1.1.4' });
    const reserve = async (groupName?: string, address?: string): Promise<string> => {
      const request = { tenantName: 'default', networkName: 'net1', family: 4, host: 'node1' } as const;
      const asked = { ...request, ...(groupName && { groupName }), ...(address && { address }) };
      return (await writer.write(() => decideReserve(mirror, asked))).answer.address;
    };
    expect(await reserve()).toBe('20.1.1.5');
    expect(await reserve('db')).toBe('20.1.1.6');
    expect(await reserve('web', '20.1.1.3')).toBe('20.1.1.3');
    expect([await reserve('web'), await reserve('web')]).toEqual(['20.1.1.2', '20.1.1.4']);
    await expect(reserve('web')).rejects.toThrow('all addresses of 20.1.1.2-20.1.1.4 of group web are taken');
    await expect(reserve('web', '20.1.1.9')).rejects.toThrow(
      "address 20.1.1.9 is not in the group's pool 20.1.1.2-20.1.1.4",
    );
    await post('endpointGroups/default:late', { networkName: 'net1', ipPool: '20.1.1.20-20.1.1.29' });
    await expect(reserve(undefined, '20.1.1.20')).rejects.toThrow(
      'address 20.1.1.20 is in the pool 20.1.1.20-20.1.1.29 of a group',
    );
  });
});

it('answers a request for an address that comes again as it did, until its reservation is an endpoint’s or is given back', async () => {
  const { mirror, writer } = await shop();
  const reserve = async (request: string, address?: string): Promise<string> => {
    const asked = { tenantName: 'default', networkName: 'net1', family: 4, host: 'node1', request } as const;
    const write = await writer.write(() => decideReserve(mirror, { ...asked, ...(address && { address }) }));
    expect(write.answer.prefixLength).toBe(24);
    return write.answer.address;
  };
  const next = await reserve('a');
  expect([await reserve('a'), await reserve('a')]).toEqual([next, next]);
  expect(await reserve('b')).not.toBe(next);
  expect([await reserve('c', '20.1.1.77'), await reserve('c', '20.1.1.77')]).toEqual([
    '20.1.1.77',
    '20.1.1.77',
  ]);
  await expect(reserve('d', '20.1.1.77')).rejects.toThrow(
    'address 20.1.1.77 is in use by a container that starts on node1',
  );
  await writer.write(() => decideRelease(mirror, 'default:net1', '20.1.1.77', 'node1'));
  expect([await reserve('d', '20.1.1.77'), await reserve('d', '20.1.1.77')]).toEqual([
    '20.1.1.77',
    '20.1.1.77',
  ]);
  await expect(reserve('c', '20.1.1.77')).rejects.toThrow('in use');
});

describe('two replicas over one store', () => {
  const endpoint: Endpoint = {
    endpointID: 'e',
    tenantName: 'default',
    networkName: 'n',
    groupName: 'g',
    ipAddress: ['20.1.1.10'],
    macAddress: '02:02:00:00:00:01',
    homingHost: 'node1',
    status: 'running',
  };
  const creates: readonly [path: string, body: Plain][] = [
    ['endpointGroups/default:g2', { networkName: 'n', policies: ['p'] }],
    ['rules/default:p:1', { ...RULE, fromEndpointGroup: 'g' }],
    ['rules/default:p:2', { ...RULE, fromNetwork: 'n' }],
    ['serviceLBs/default:s', { ...SERVICE, networkName: 'n' }],
    ['appProfiles/default:a', { endpointGroups: ['g'] }],
  ];
  const deletes = ['policys/default:p', 'endpointGroups/default:g', 'networks/default:n'];
  const leftovers = [
    'appProfiles/default:a',
    'serviceLBs/default:s',
    'endpointGroups/default:g2',
    ...deletes,
  ];

  it('leave nothing that refers to what has gone, however creates and deletes meet', async () => {
    const store = openMemory();
    onTestFinished(() => store.close());
    const [one, two] = [await replica(distant(store)), await replica(distant(store))];
    await one.post('tenants/default');
    const outcomes = { done: 0, refused: 0 };
    const settle = async (attempts: readonly Promise<unknown>[]) => {
      for (const outcome of await Promise.allSettled(attempts)) {
        if (outcome.status === 'fulfilled') outcomes.done++;
        else if ([404, 409].includes(outcome.reason.status)) outcomes.refused++;
        else throw outcome.reason;
      }
      const { revision } = await store.list('/contiv/');
      await Promise.all([one.mirror.seen(revision), two.mirror.seen(revision)]);
    };
    for (let round = 0; round < 300; round++) {
      await one.post('networks/default:n', { subnet: '20.1.1.0/24' });
      await one.post('policys/default:p');
      await one.post('endpointGroups/default:g', { networkName: 'n' });
      await settle([]);
      // One thing that is created against one that is deleted, every pair of them in turn, and now and then all.
      const chosen = round % 7 === 6 ? creates : creates.slice(round % 5, (round % 5) + 1);
      await settle([
        ...chosen.map(([path, body]) => one.post(path, body)),
        ...(round % 2 ? [one.writer.write(() => decideEndpoint(one.mirror, endpoint))] : []),
        ...(round % 7 === 6 ? deletes : deletes.slice(round % 3, (round % 3) + 1)).map(two.delete),
      ]);
      expect(dangling(one.mirror), `round ${round}`).toEqual([]);
      await one.writer.write(() => decideEndpointRemoval(one.mirror, 'e'));
      for (const path of leftovers) if (one.get(path) !== undefined) await one.delete(path);
      expect(KINDS.flatMap((kind) => [...one.mirror.entries(kind.name)].map(([key]) => key))).toEqual([
        'default',
      ]);
      for (const kind of ['name', 'tag', 'cursor', 'guard'])
        expect([...one.mirror.entries(kind)].map(([key]) => `${kind} ${key}`)).toEqual([]);
    }
    // Both sides won at times, or they never met.
    expect(outcomes.done).toBeGreaterThan(300);
    expect(outcomes.refused).toBeGreaterThan(50);
  });

  it('give a VLAN once, of networks and groups, and no group has one by a fabric that is another by then', async () => {
    const store = openMemory();
    onTestFinished(() => store.close());
    const [one, two] = [await replica(distant(store)), await replica(distant(store))];
    await one.post('tenants/blue');
    const mode = (at: typeof one, networkInfraType: string) =>
      at.post('globals/global', { networkInfraType, vlans: '1-100' });
    const level = async (): Promise<void> => {
      const { revision } = await store.list('');
      await Promise.all([one.mirror.seen(revision), two.mirror.seen(revision)]);
    };
    await mode(one, 'aci');
    await one.post('networks/blue:lan', { subnet: '20.1.0.0/24', encap: 'vlan' });
    await level();
    const tags = (): number[] =>
      [
        ...one.mirror.list<{ vni: number }>('network').map((n) => n.vni),
        ...one.mirror.list<{ vlan?: number }>('endpointGroup').flatMap((g) => g.vlan ?? []),
      ].sort((a, b) => a - b);
    for (let round = 0; round < 10; round++) {
      const outcomes = await Promise.allSettled([
        one.post(`endpointGroups/blue:a${round}`, { networkName: 'lan' }),
        two.post(`endpointGroups/blue:b${round}`, { networkName: 'lan' }),
        two.post(`networks/blue:n${round}`, { subnet: `20.2.${round}.0/24`, encap: 'vlan' }),
      ]);
      expect(outcomes.map((o) => o.status)).toEqual(['fulfilled', 'fulfilled', 'fulfilled']);
    }
    await level();
    expect(tags()).toEqual(Array.from({ length: 31 }, (_, i) => i + 1));
    await expect(mode(one, 'default')).rejects.toThrow(
      /^global: networkInfraType is aci and cannot change to default while 20 groups have VLANs/,
    );
    for (const { groupName } of one.mirror.list<{ groupName: string }>('endpointGroup'))
      await one.delete(`endpointGroups/blue:${groupName}`);
    await level();
    expect(tags()).toHaveLength(11);
    // Against a group that is created elsewhere at that moment: either it has one and the mode stays, or the reverse.
    for (let round = 0; round < 20; round++) {
      const [changed] = await Promise.allSettled([
        mode(two, 'default'),
        one.post('endpointGroups/blue:g', { networkName: 'lan' }),
      ]);
      await level();
      const { vlan } = one.mirror.get<{ vlan?: number }>('endpointGroup', 'blue:g') ?? {};
      const { networkInfraType } = one.mirror.get<{ networkInfraType: string }>('global', 'global') ?? {};
      expect({ changed: changed.status, vlan: vlan !== undefined }).toEqual(
        networkInfraType === 'aci'
          ? { changed: 'rejected', vlan: true }
          : { changed: 'fulfilled', vlan: false },
      );
      await one.delete('endpointGroups/blue:g');
      await level();
      await mode(one, 'aci');
      await level();
    }
    // The range likewise: no group has a VLAN that it leaves out.
    for (let round = 0; round < 20; round++) {
      const [changed] = await Promise.allSettled([
        two.post('globals/global', { networkInfraType: 'aci', vlans: '1-31' }),
        one.post('endpointGroups/blue:g', { networkName: 'lan', pktTag: 99 }),
      ]);
      await level();
      const { vlan } = one.mirror.get<{ vlan?: number }>('endpointGroup', 'blue:g') ?? {};
      expect({ changed: changed.status, vlan }).toEqual(
        one.mirror.get<{ vlans: string }>('global', 'global')?.vlans === '1-100'
          ? { changed: 'rejected', vlan: 99 }
          : { changed: 'fulfilled', vlan: undefined },
      );
      if (vlan !== undefined) await one.delete('endpointGroups/blue:g');
      await level();
      await mode(one, 'aci');
      await level();
    }
  });

  it('give a subnet once in a tenant', async () => {
    const store = openMemory();
    onTestFinished(() => store.close());
    const [one, two] = [await replica(distant(store)), await replica(distant(store))];
    await one.post('tenants/blue');
    await two.mirror.seen((await store.list('')).revision);
    for (let round = 0; round < 20; round++) {
      const subnet = `20.1.${round}.0/24`;
      const outcomes = await Promise.allSettled([
        one.post(`networks/blue:a${round}`, { subnet, pktTag: 100 + round }),
        two.post(`networks/blue:b${round}`, { subnet, pktTag: 200 + round }),
      ]);
      expect(outcomes.map((o) => o.status).sort(), `round ${round}`).toEqual(['fulfilled', 'rejected']);
    }
    for (const { networkName } of one.mirror.list<{ networkName: string }>('network'))
      await one.delete(`networks/blue:${networkName}`);
    await one.delete('tenants/blue');
    const { entries } = await store.list('/contiv/');
    expect(entries.filter(({ key }) => !key.startsWith('/contiv/event/'))).toEqual([]);
  });

  it('leave no guard that stops anything, whichever replica died between the steps of a delete', async () => {
    const { post, mirror, writer, get, delete: del } = await shop();
    await writer.write(() => decideGuard(mirror, 'policy', 'default:p'));
    await post('rules/default:p:1', RULE);
    await writer.write(() => decideGuard(mirror, 'policy', 'default:p'));
    await del('policys/default:p');
    expect(get('rules/default:p:1')).toBeUndefined();
    expect(mirror.count('guard')).toBe(0);
  });
});
