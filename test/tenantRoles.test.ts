/**
 * Who has some tenants only, over TLS as it is. Everything of tenant blue is called azure in some way, everything of tenant red crimson: what is
 * answered to blue's operator has none of the latter in it, whatever he asks, nor the red one's name.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Client } from '../src/client/client.ts';
import { kindByName } from '../src/model/kinds.ts';
import { grantOf } from '../src/protocol/access.ts';
import { ROUTES } from '../src/protocol/routes.ts';
import { issuePair } from '../src/tls/certificates.ts';
import { type Asked, openSecured, type Secured } from './secured.ts';

type Plain = Record<string, unknown>;

let secured: Secured;
let admin: Client;
/** Tokens: of blue's operator and reader, and of who has both tenants. */
let operator = '';
let reader = '';
let both = '';

/** The same of each tenant, in addresses that overlap. */
function objectsOf(tenantName: string, word: string): readonly Plain[] {
  const network = { kind: 'network', tenantName, subnet: '20.1.1.0/24', gateway: '20.1.1.254' };
  return [
    { kind: 'tenant', tenantName },
    { ...network, networkName: `${word}-net` },
    {
      kind: 'network',
      tenantName,
      networkName: `${word}-tagged`,
      subnet: '20.1.2.0/24',
      pktTag: word.length,
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
      fromEndpointGroup: `${word}-group`,
      action: 'deny',
    },
    { kind: 'netprofile', tenantName, profileName: `${word}-profile`, bandwidth: '10 mbps' },
    { kind: 'extContractsGroup', tenantName, contractsGroupName: `${word}-ext`, contractsType: 'provided' },
    {
      kind: 'endpointGroup',
      tenantName,
      groupName: `${word}-group`,
      networkName: `${word}-net`,
      policies: [`${word}-policy`],
      netProfile: `${word}-profile`,
      extContractsGrps: [`${word}-ext`],
    },
    { kind: 'appProfile', tenantName, appProfileName: `${word}-app`, endpointGroups: [`${word}-group`] },
    {
      kind: 'serviceLB',
      tenantName,
      serviceName: `${word}-service`,
      networkName: `${word}-net`,
      selectors: [`app=${word}`],
      ports: ['80:8080:TCP'],
    },
    {
      kind: 'externalEndpoint',
      tenantName,
      endpointName: `${word}-machine`,
      groupName: `${word}-group`,
      ipAddress: ['192.0.2.9'],
    },
    {
      kind: 'workload',
      namespaceName: word,
      workloadName: 'web',
      uid: '1',
      tenantName,
      networkName: `${word}-net`,
    },
    { kind: 'clusterService', namespaceName: word, serviceName: 'web', tenantName, addresses: [], ports: [] },
    {
      kind: 'swarmService',
      serviceID: word,
      swarmNetworkID: 'n1',
      swarm: 's1',
      serviceName: `${word}-task`,
      tenantName,
      networkName: `${word}-net`,
    },
  ];
}

async function attach(tenantName: string, word: string): Promise<void> {
  const address = word === 'azure' ? '20.1.1.9' : '20.1.1.10';
  await admin.call(
    'attach',
    { id: `${word}-endpoint`, wait: '0' },
    {
      endpointID: `${word}-endpoint`,
      tenantName,
      networkName: `${word}-net`,
      groupName: `${word}-group`,
      homingHost: 'node1',
      ipAddress: [address],
      macAddress: '02:02:14:01:01:09',
      containerName: `${word}-web`,
      labels: { app: word },
      status: 'running',
    },
  );
}

/** It lives for ten seconds then. */
const heartbeat = () =>
  admin.call('register', { name: 'node1' }, { name: 'node1', underlay: '192.0.2.1', run: 'r' });

beforeAll(async () => {
  secured = await openSecured();
  admin = secured.clientOf(secured.admin);
  await heartbeat();
  for (const [tenant, word] of [
    ['blue', 'azure'],
    ['red', 'crimson'],
  ] as const) {
    const objects = objectsOf(tenant, word);
    await admin.call('apply', { wait: '0', set: 'shop' }, { objects });
    await attach(tenant, word);
  }
  const flow = {
    direction: 'in',
    from: '20.1.1.9',
    to: '20.1.1.9',
    protocol: 6,
    port: 80,
    count: 1,
    last: 1,
  };
  await admin.call('report', { name: 'node1' }, {
    reporter: 'r',
    sequence: 1,
    hits: [
      { rule: 'blue:azure-policy:1', packets: 3, bytes: 4 },
      { rule: 'red:crimson-policy:1', packets: 3, bytes: 4 },
    ],
    denied: [
      { ...flow, tenant: 'blue', rule: 'blue:azure-policy:1' },
      { ...flow, tenant: 'red', rule: 'red:crimson-policy:1' },
    ],
    refused: [],
  } as never);
  operator = await secured.tokenFor('operator', 3600, ['blue']);
  reader = await secured.tokenFor('reader', 3600, ['blue']);
  both = await secured.tokenFor('operator', 3600, ['blue', 'red']);
}, 60_000);
afterAll(async () => {
  admin.close();
  await secured.close();
});

const FOREIGN = /crimson|\bred\b/i;

const ask = (token: string, line: string, body?: unknown): Promise<Asked> => {
  const [method = '', path = ''] = line.split(' ');
  return secured.ask({ method, path: `/api/v1/${path}` }, { token, body });
};
const get = async (path: string, token = operator): Promise<string> => (await ask(token, `GET ${path}`)).text;
const as = (token: string): Client => secured.clientOf({ authority: secured.authority.certificate, token });
/** All intent; hosts go meanwhile. */
const declared = (): string =>
  JSON.stringify([...kindByName.keys()].map((kind) => secured.api.mirror.list(kind)));

/** What is refused, and that nothing is written for it. */
async function refused(token: string, line: string, body?: unknown): Promise<Asked & { message: string }> {
  const before = declared();
  const asked = await ask(token, line, body);
  expect(asked.status, `${line}: ${asked.text}`).toBeGreaterThanOrEqual(400);
  expect(declared(), line).toBe(before);
  return { ...asked, message: JSON.parse(asked.text).error.message };
}

describe('what is answered', () => {
  const KEYS = [
    'azure-net',
    'azure-policy',
    'azure-policy:1',
    'azure-group',
    'azure-app',
    'azure-service',
    'azure-profile',
    'azure-ext',
    'azure-machine',
  ];
  const NAMED = ['blue', 'global', 'azure:web', 'azure:n1', 'azure-endpoint', 'azure-web'];
  const ALL = [...KEYS.map((key) => `blue:${key}`), ...NAMED];
  const foreign = (key: string): string => key.replace('azure', 'crimson').replace('blue', 'red');
  const asked = ROUTES.filter(({ method, as: form }) => method === 'GET' && form !== 'lines').filter(
    (route) => grantOf(route, 'operator') === 'theirs',
  );

  it.each(asked.map(({ method, path }) => `${method} ${path}`))(
    '%s has nothing of another tenant',
    async (line) => {
      const path = line.replace('GET /api/v1/', '');
      const collections = [...kindByName.values()].map(({ collection }) => collection).concat('endpoints');
      const paths = (path.includes(':collection') ? collections : ['']).flatMap((collection) => {
        const filled = path.replace(':collection', collection);
        return filled.includes(':key')
          ? [...ALL, ...ALL.map(foreign)].map((key) => filled.replace(':key', key))
          : [filled];
      });
      const queries = QUERIES[path] ?? [''];
      let found = 0;
      for (const each of paths.flatMap((p) => queries.map((query) => p + query)))
        for (const token of [operator, reader]) {
          const { status, text } = await ask(token, `GET ${each}`);
          // What he names himself he may be told.
          const told = FOREIGN.test(each) ? text.replaceAll(/[\w:-]*(?:crimson|\bred\b)[\w:-]*/gi, '') : text;
          expect(told, each).not.toMatch(FOREIGN);
          if (FOREIGN.test(each)) expect([403, 404], each).toContain(status);
          if (status === 200 && /azure|blue/.test(text)) found++;
        }
      // Global settings are of no tenant.
      if (!path.startsWith('globals')) expect(found).toBeGreaterThan(0);
    },
  );
  const QUERIES: Readonly<Record<string, readonly string[]>> = {
    flows: ['?denied=true', '?denied=true&tenant=blue', '?denied=true&tenant=red'],
    events: ['', '?tenant=blue', '?tenant=red', '?kind=intent', '?kind=orchestrator'],
    export: ['', '?kind=network', '?kind=workload', '?kind=tenant', '?kind=Bgp'],
    trace: [
      '?tenant=blue&from=azure-web&to=azure-group&port=80',
      '?tenant=blue&from=azure-web&to=20.1.1.10&port=80',
      '?tenant=blue&from=azure-web&to=192.0.2.1&port=80',
      '?tenant=red&from=azure-web&to=azure-web&port=80',
      '?from=azure-web&to=azure-web&port=80',
    ],
  };

  it('lists what one tenant has, each object once, and totals of it', async () => {
    for (const kind of kindByName.values()) {
      if (kind.forTenants === undefined || kind.name === 'global') continue;
      const own = objectsOf('blue', 'azure').filter((object) => object.kind === kind.name);
      expect(JSON.parse(await get(`${kind.collection}/`)), kind.name).toHaveLength(own.length);
      expect(JSON.parse(await get(`${kind.collection}/`, both)), kind.name).toHaveLength(2 * own.length);
    }
    expect(JSON.parse(await get('endpoints/'))).toMatchObject([
      { endpointID: 'blue:azure-machine', external: true },
      { endpointID: 'azure-endpoint' },
    ]);
    const { Oper } = JSON.parse(await get('inspect/tenants/blue/'));
    expect(Oper).toMatchObject({ totalNetworks: 2, totalEndpoints: 1 });
    const global = JSON.parse(await get('inspect/globals/global/'));
    expect(global.Oper).toMatchObject({ numNetworks: 2 });
    expect(JSON.parse(await get('flows?denied=true'))).toHaveLength(1);
  });

  it('an admin is shown all, before and after', async () => {
    for (const kind of ['networks', 'policys']) {
      const all = JSON.stringify((await admin.call('list', { collection: kind })).body);
      expect(all).toMatch(FOREIGN);
      expect(await get(`${kind}/`)).not.toMatch(FOREIGN);
      expect(JSON.stringify((await admin.call('list', { collection: kind })).body)).toBe(all);
    }
  });

  it('a name of another tenant is one that is not there', async () => {
    const asked = (to: string) => refused(operator, `GET trace?tenant=blue&from=azure-web&to=${to}&port=80`);
    const [there, nowhere] = [await asked('crimson-web'), await asked('nosuch-web0')];
    expect(there.message).toBe(nowhere.message.replace('nosuch-web0', 'crimson-web'));
    for (const key of ['crimson-web', 'crimson-endpoint'])
      expect(await refused(operator, `GET inspect/endpoints/${key}/`)).toMatchObject({ status: 404 });
  });
});

it.each([
  'GET networks/blue:azure-net?tenant=red',
  'GET networks/red%3Acrimson-net',
  'GET networks/red:crimson-net%2F..%2Fblue:azure-net',
  'GET networks/blue:azure-net%2F..%2Fred:crimson-net',
  'GET networks/BLUE:azure-net',
  'GET policys/%20red:crimson-policy',
  'GET tenants/red:',
  'GET tenants/blue:crimson',
  'GET events?tenant=blue&tenant=red',
  'GET events?tenant=red&tenant=blue',
  'GET events?tenant[]=red',
  'GET events?tenant=',
  'GET flows?denied=true&tenant=blue&tenant=red',
  'GET trace?tenant=blue&tenant=red&from=azure-web&to=azure-web&port=80',
  'GET watch?host=node1&host=node2',
  'GET watch?host=',
  'GET inspect/networks/red:crimson-net',
  'GET inspect/tenants/red',
  'GET inspect/Bgps/node1',
  'GET inspect/networkPolicies/namespace:azure:web',
  'GET //networks/red:crimson-net',
  'GET hosts/',
  'GET status',
  'GET status/hosts/node1',
  'GET tokens',
  'POST backup',
])('%s gets him nothing', async (line) => {
  const { status, text } = await ask(operator, line);
  const told = text.replaceAll(/[\w:-]*(?:crimson|\bred\b)[\w:-]*/gi, '');
  expect(told).not.toMatch(FOREIGN);
  if (line !== 'GET networks/blue:azure-net?tenant=red') expect(status, text).toBeGreaterThanOrEqual(400);
});

describe('what is followed', () => {
  async function* through<T>(lines: AsyncIterable<T>, isLast: (line: T) => boolean): AsyncGenerator<T> {
    for await (const line of lines) {
      yield line;
      if (isLast(line)) return;
    }
  }

  it('a watch has the tenant, then what changes of it, and what goes', async () => {
    const client = as(operator);
    const seen: string[] = [];
    const lines = through(client.watch({}), (message) => JSON.stringify(message).includes('azure-last'));
    for await (const message of lines) {
      if (message.type === 'ping') continue;
      seen.push(JSON.stringify(message));
      if (message.type !== 'synced') continue;
      await admin.call(
        'apply',
        { wait: '0' },
        {
          objects: ['blue:azure', 'red:crimson'].map((of) => {
            const [tenantName, word] = of.split(':');
            return { kind: 'policy', tenantName, policyName: `${word}-more` };
          }),
        },
      );
      await admin.call('delete', { collection: 'policys', key: 'red:crimson-more', wait: '0' });
      await admin.call('detach', { id: 'crimson-endpoint', wait: '0', host: 'node1' });
      await admin.call('detach', { id: 'azure-endpoint', wait: '0', host: 'node1' });
      await attach('red', 'crimson');
      await attach('blue', 'azure');
      await admin.call('delete', { collection: 'policys', key: 'blue:azure-more', wait: '0' });
      await admin.call('post', { collection: 'policys', key: 'blue:azure-last', wait: '0' }, {} as never);
    }
    client.close();
    const all = seen.join('\n');
    expect(all).not.toMatch(FOREIGN);
    expect(all).not.toMatch(/"kind":"(host|draining|Bgp|aciGw|networkPolicy)"/);
    const objects = seen.flatMap((text) => (text.includes('"type":"object"') ? [JSON.parse(text)] : []));
    const declared = objectsOf('blue', 'azure').length;
    // With the settings of all, and the endpoint.
    expect(objects).toHaveLength(declared + 2);
    const changes = seen.flatMap((text) => JSON.parse(text).changes ?? []);
    expect(changes).toEqual([
      expect.objectContaining({ kind: 'policy', key: 'blue:azure-more', object: expect.anything() }),
      { kind: 'endpoint', key: 'azure-endpoint', object: null },
      expect.objectContaining({ kind: 'endpoint', key: 'azure-endpoint' }),
      { kind: 'policy', key: 'blue:azure-more', object: null },
      expect.objectContaining({ kind: 'policy', key: 'blue:azure-last' }),
    ]);
    await admin.call('delete', { collection: 'policys', key: 'blue:azure-last', wait: '0' });
  });

  it('a watch of a host is not his, nor one from a revision on', async () => {
    expect(await refused(operator, 'GET watch?host=node1')).toMatchObject({ status: 403 });
    const { storeId, revision } = secured.api.mirror;
    const line = `GET watch?store=${encodeURIComponent(storeId)}&after=${revision}`;
    expect(await refused(operator, line)).toMatchObject({ status: 410 });
  });

  it('events are those of the tenant', async () => {
    const client = as(reader);
    const seen: string[] = [];
    const isLast = (text: string): boolean => text.includes('azure-seen') && text.includes('deleted');
    for await (const message of through(client.lines('followEvents', {}), (m) => isLast(JSON.stringify(m)))) {
      seen.push(JSON.stringify(message));
      if (seen.length > 1) continue;
      for (const key of ['red:crimson-seen', 'blue:azure-seen'])
        for (const name of ['post', 'delete'] as const)
          await admin.call(name as 'post', { collection: 'policys', key, wait: '0' }, {} as never);
    }
    client.close();
    expect(seen.join('\n')).not.toMatch(FOREIGN);
    expect(seen.filter((text) => text.includes('azure-seen'))).toHaveLength(2);
  });
});

describe('what is written', () => {
  const network = { tenantName: 'blue', networkName: 'azure-new', subnet: '20.7.0.0/24' };

  it('a tenant has all that containers need made and removed by its operator', async () => {
    const client = as(operator);
    const set = {
      objects: objectsOf('blue', 'cobalt').filter(
        ({ kind }) => kindByName.get(String(kind))?.forTenants?.sets,
      ),
    };
    const objects = set.objects.map((object) => {
      const { pktTag: _, extContractsGrps: __, ...rest } = object;
      return {
        ...rest,
        ...(rest.subnet ? { subnet: `${String(rest.subnet).replace('20.1', '20.8')}` } : {}),
        ...(rest.gateway ? { gateway: '20.8.1.254' } : {}),
      };
    });
    await client.call('apply', { wait: '0' }, { objects });
    expect((await client.call('apply', { wait: '0' }, { objects })).body.objects).toEqual(
      objects.map(() => expect.objectContaining({ result: 'unchanged' })),
    );
    expect(secured.api.mirror.get('endpointGroup', 'blue:cobalt-group')).toMatchObject({
      netProfile: 'cobalt-profile',
    });
    const events = (await client.call('events', { kind: 'intent' })).body;
    expect(events.at(-1)).toMatchObject({ by: expect.stringMatching(/^operator token /), tenant: 'blue' });
    const { body } = await client.call('removeSet', { wait: '0' }, { objects });
    expect(body.objects).toEqual(objects.map(() => expect.objectContaining({ result: 'deleted' })));
    client.close();
  });

  it.each([
    ['a network with a tag', 'networks/blue:azure-new', { ...network, pktTag: 77 }, 'pktTag'],
    ['a VLAN network', 'networks/blue:azure-new', { ...network, encap: 'vlan' }, 'encap'],
    ['an infra network', 'networks/blue:azure-new', { ...network, nwType: 'infra' }, 'hostAccess'],
    [
      'a network that the hosts reach',
      'networks/blue:azure-new',
      { ...network, hostAccess: true },
      'hostAccess',
    ],
    ['a network of another tenant', 'networks/red:azure-new', { ...network, tenantName: 'red' }, 'key'],
    [
      'a network under a key of its own tenant',
      'networks/blue:azure-new',
      { ...network, tenantName: 'red' },
      'tenantName',
    ],
    ['a tenant', 'tenants/azure-tenant', { tenantName: 'azure-tenant' }, undefined],
    ['its own tenant anew', 'tenants/blue', { tenantName: 'blue', defaultNetwork: 'n' }, undefined],
    ['external contracts', 'extContractsGroups/blue:azure-ext', { contractsType: 'consumed' }, undefined],
    ['global settings', 'globals/global', { fwdMode: 'bridge' }, undefined],
    [
      'a workload',
      'workloads/azure:web',
      { uid: '2', tenantName: 'blue', networkName: 'azure-net' },
      undefined,
    ],
  ] as const)('%s is refused', async (_, path, body, field) => {
    for (const method of ['POST', 'PUT']) {
      const { status, text } = await refused(operator, `${method} ${path}`, body);
      expect([400, 403], text).toContain(status);
      if (field !== undefined) expect(JSON.parse(text).error.field).toBe(field);
      const set = { objects: [{ kind: kindOf(path), ...keyed(path), ...body }] };
      for (const query of ['', '?dryRun=true'])
        expect((await refused(operator, `POST apply${query}`, set)).status, text).toBe(403);
    }
  });
  const kindOf = (path: string): string =>
    [...kindByName.values()].find(({ collection }) => path.startsWith(`${collection}/`))?.name as string;
  function keyed(path: string): Plain {
    const kind = kindByName.get(kindOf(path));
    const parts = path.split('/')[1]?.split(':') ?? [];
    return Object.fromEntries(kind?.keyFields.map((field, i) => [field, parts[i]]) ?? []);
  }

  it('nothing in a tenant that the hosts reach: what is added there they reach too', async () => {
    const infra = { tenantName: 'blue', networkName: 'azure-infra', subnet: '20.6.0.0/24', nwType: 'infra' };
    await admin.call('post', { collection: 'networks', key: 'blue:azure-infra', wait: '0' }, infra);
    const made = await refused(operator, 'POST networks/blue:azure-new', network);
    expect(made).toMatchObject({ status: 403, message: expect.stringContaining('infra network') });
    const gone = await refused(operator, 'DELETE networks/blue:azure-infra');
    expect(gone.status).toBe(403);
    await admin.call('delete', { collection: 'networks', key: 'blue:azure-infra', wait: '0' });
    const client = as(operator);
    await client.call('post', { collection: 'networks', key: 'blue:azure-new', wait: '0' }, network);
    await client.call('delete', { collection: 'networks', key: 'blue:azure-new', wait: '0' });
    client.close();
  });

  it('what only an admin makes only an admin deletes', async () => {
    const { status, message } = await refused(operator, 'DELETE networks/blue:azure-tagged');
    expect(status).toBe(403);
    expect(message).toMatch(/pktTag is an admin's to set, operator token \w+ may not/);
    for (const path of ['tenants/blue', 'extContractsGroups/blue:azure-ext', 'networks/red:crimson-net'])
      expect((await refused(operator, `DELETE ${path}`)).status, path).toBe(403);
    expect((await refused(reader, 'DELETE policys/blue:azure-policy')).status).toBe(403);
  });

  it.each([
    ['endpointGroup', { groupName: 'azure-x', networkName: 'red:crimson-net' }],
    ['endpointGroup', { groupName: 'azure-x', networkName: 'crimson-net' }],
    ['endpointGroup', { groupName: 'azure-x', networkName: 'azure-net', policies: ['crimson-policy'] }],
    ['endpointGroup', { groupName: 'azure-x', networkName: 'azure-net', netProfile: 'red:crimson-profile' }],
    ['endpointGroup', { groupName: 'azure-x', networkName: 'azure-net', extContractsGrps: ['crimson-ext'] }],
    [
      'rule',
      {
        policyName: 'azure-policy',
        ruleId: '9',
        direction: 'in',
        action: 'deny',
        fromEndpointGroup: 'crimson-group',
      },
    ],
    [
      'rule',
      {
        policyName: 'azure-policy',
        ruleId: '9',
        direction: 'in',
        action: 'deny',
        fromNetwork: 'red:crimson-net',
      },
    ],
    ['rule', { policyName: 'crimson-policy', ruleId: '9', direction: 'in', action: 'deny' }],
    ['appProfile', { appProfileName: 'azure-x', endpointGroups: ['crimson-group'] }],
    [
      'serviceLB',
      { serviceName: 'azure-x', networkName: 'crimson-net', selectors: ['a=b'], ports: ['80:80:TCP'] },
    ],
  ])('%s that refers to another tenant is refused: %o', async (kind, fields) => {
    const object = { kind, tenantName: 'blue', ...fields };
    const { status } = await refused(operator, 'POST apply', { objects: [object] });
    expect([400, 403, 404]).toContain(status);
    // Whoever asks: tenants have nothing in common.
    expect([400, 404]).toContain((await refused(both, 'POST apply', { objects: [object] })).status);
  });
});

describe('sets', () => {
  const policy = (tenantName: string, policyName: string): Plain => ({
    kind: 'policy',
    tenantName,
    policyName,
  });

  it('are all or nothing, and say of what is not theirs nothing but that', async () => {
    for (const foreign of [policy('red', 'crimson-policy'), policy('red', 'nosuch')])
      for (const line of ['POST apply', 'POST apply?dryRun=true', 'POST delete', 'POST delete?dryRun=true']) {
        const asked = await refused(operator, line, { objects: [policy('blue', 'azure-x'), foreign] });
        expect(asked).toMatchObject({
          status: 403,
          message: expect.stringMatching(
            /^object 2: policy red:[\w-]+: operator token \w+ has no rights in tenant red$/,
          ),
        });
      }
    expect(secured.api.mirror.get('policy', 'blue:azure-x')).toBeUndefined();
  });

  it('an export of theirs is one that they may apply, also where it is to be made anew', async () => {
    const client = as(operator);
    const { objects } = (await client.call('export')).body;
    const { body } = await client.call('apply', { wait: '0' }, { objects });
    expect(body.objects.map(({ result }) => result)).toEqual(objects.map(() => 'unchanged'));
    await client.call(
      'post',
      { collection: 'networks', key: 'blue:azure-a', wait: '0' },
      {
        tenantName: 'blue',
        networkName: 'azure-a',
        subnet: '20.5.0.0/24',
      },
    );
    const again = (await client.call('export', { kind: 'network' })).body.objects.filter(
      ({ networkName }) => networkName === 'azure-a',
    );
    expect(again).toHaveLength(1);
    await client.call('removeSet', { wait: '0' }, { objects: again });
    await client.call('apply', { wait: '0' }, { objects: again });
    await client.call('removeSet', { wait: '0' }, { objects: again });
    client.close();
  });

  it('prune takes what the set made in their tenants, and nothing of what another made by that name', async () => {
    const client = as(operator);
    const keep = policy('blue', 'azure-keep');
    for (const objects of [[keep, policy('blue', 'azure-goes')], [keep]])
      await client.call('apply', { wait: '0', set: 'mine', prune: 'true' }, { objects });
    expect(secured.api.mirror.get('policy', 'blue:azure-goes')).toBeUndefined();
    await admin.call('apply', { wait: '0', set: 'mine' }, { objects: [policy('red', 'crimson-made')] });
    const { body } = await client.call(
      'apply',
      { wait: '0', set: 'mine', prune: 'true' },
      { objects: [policy('blue', 'azure-other')] },
    );
    expect(body.objects.map(({ key, result }) => `${key} ${result}`)).toEqual([
      'blue:azure-other created',
      'blue:azure-keep deleted',
    ]);
    expect(secured.api.mirror.get('policy', 'red:crimson-made')).toBeDefined();
    // An admin's set has made the tenant too: that does not go by the way.
    const { message } = await refused(operator, 'POST apply?set=shop&prune=true', { objects: [keep] });
    expect(message).toMatch(
      /: an admin makes and deletes it, operator token \w+ may not$|is an admin's to set/,
    );
    await client.call('removeSet', { wait: '0' }, { objects: [policy('blue', 'azure-other')] });
    await admin.call('removeSet', { wait: '0' }, { objects: [policy('red', 'crimson-made')] });
    client.close();
  });
});

describe('what collides with another tenant', () => {
  it('is said without naming it to who may not see it, and with to who may', async () => {
    // All tags but those that red has had, of which a host has not applied the end.
    const { vxlans: before } = (await admin.call('get', { collection: 'globals', key: 'global' }))
      .body as Plain;
    const tags = [...secured.api.mirror.list<{ vni: number }>('network')].map(({ vni }) => vni);
    const vxlans = `1-${Math.max(...tags) + 1}`;
    await heartbeat();
    const { storeId: store, revision } = secured.api.mirror;
    await admin.call('applied', { name: 'node1' }, { store, revision });
    await admin.call('post', { collection: 'globals', key: 'global', wait: '0' }, { name: 'global', vxlans });
    const made: string[] = [];
    const add = (tenantName: string, i: number) =>
      admin.call(
        'post',
        { collection: 'networks', key: `${tenantName}:n${i}`, wait: '0' },
        { tenantName, networkName: `n${i}`, subnet: `21.0.${i}.0/24` },
      );
    for (let i = 0; i < 50; i++)
      try {
        await add('red', i);
        made.push(`red:n${i}`);
      } catch {
        break;
      }
    await admin.call('delete', { collection: 'networks', key: made.pop() as string, wait: '0' });
    const network = { tenantName: 'blue', networkName: 'azure-tag', subnet: '20.4.0.0/24' };
    const told = await refused(operator, 'POST networks/blue:azure-tag', network);
    expect(told).toMatchObject({
      status: 423,
      message: expect.stringMatching(/pktTag \d+ was in use, and node1 /),
    });
    expect(told.message).not.toMatch(FOREIGN);
    const set = await refused(operator, 'POST apply', { objects: [{ kind: 'network', ...network }] });
    expect(set.message).not.toMatch(FOREIGN);
    await expect(
      admin.call('post', { collection: 'networks', key: 'blue:azure-tag', wait: '0' }, network),
    ).rejects.toThrow(/was network red:n\d+'s/);
    for (const key of made) await admin.call('delete', { collection: 'networks', key, wait: '0' });
    await admin.call(
      'post',
      { collection: 'globals', key: 'global', wait: '0' },
      { name: 'global', vxlans: before as string },
    );
  });
});

describe('a token', () => {
  it('says who asks', async () => {
    expect(JSON.parse(await get('whoami'))).toEqual({
      role: 'operator',
      name: expect.stringMatching(/^token /),
      tenants: ['blue'],
      shown: 'token',
      expires: expect.any(String),
    });
    expect(JSON.parse(await get('whoami', reader))).toMatchObject({
      role: 'tenantReader',
      tenants: ['blue'],
    });
    const listed = (await admin.call('tokens')).body.map(({ role, tenants }) => `${role} ${tenants}`);
    expect(listed).toEqual(expect.arrayContaining(['reader blue', 'operator blue', 'operator blue,red']));
    expect((await admin.call('whoami')).body).toEqual({
      role: 'admin',
      name: 'someone',
      shown: 'certificate',
    });
    const nobody = await secured.ask({ method: 'GET', path: '/api/v1/whoami' });
    expect(nobody.status).toBe(401);
  });

  it.each([
    [{ role: 'operator' }, 400, 'tenants is missing'],
    [{ role: 'operator', tenants: ['nosuch'] }, 404, 'tenant nosuch, which does not exist'],
    [{ role: 'admin', tenants: ['blue'] }, 400, 'do not go with role admin'],
    [{ role: 'join', tenants: ['blue'] }, 400, 'do not go with role join'],
    [{ role: 'operator', tenants: [] }, 400, 'tenants'],
  ] as const)('%o is refused', async (wanted, status, message) => {
    const body = { seconds: 60, ...wanted } as never;
    await expect(admin.call('tokenCreate', {}, body)).rejects.toMatchObject({
      status,
      message: expect.stringContaining(message),
    });
  });

  it('keeps its tenants from being deleted, until it is gone itself', async () => {
    await admin.call('post', { collection: 'tenants', key: 'brief', wait: '0' }, { tenantName: 'brief' });
    const token = await secured.tokenFor('reader', 3600, ['brief']);
    const id = token.split('.')[1] as string;
    const deletion = () => admin.call('delete', { collection: 'tenants', key: 'brief', wait: '0' });
    await expect(deletion()).rejects.toMatchObject({
      status: 409,
      message: expect.stringContaining(`in use by token ${id}`),
    });
    await admin.call('tokenRemove', { id });
    await deletion();
  });
});

it('a certificate of an operator says its tenants, each as an OU, and one that says none is refused', async () => {
  const { authority, ask: askAs } = secured;
  const line = { method: 'GET', path: '/api/v1/whoami' };
  const of = async (tenants: string[]): Promise<Asked> =>
    askAs(line, {
      pair: await issuePair(authority, { role: 'operator', name: 'alice', tenants }, 3_600_000),
    });
  expect(JSON.parse((await of(['red', 'blue'])).text)).toEqual({
    role: 'operator',
    name: 'alice',
    tenants: ['blue', 'red'],
    shown: 'certificate',
  });
  expect(JSON.parse((await of(['blue'])).text)).toMatchObject({ tenants: ['blue'] });
  expect(await of([])).toMatchObject({ status: 401, text: expect.stringContaining('says no tenant') });
});
