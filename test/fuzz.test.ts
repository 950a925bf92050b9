/**
 * Bad bodies, keys and parameters: every field of every kind, then what agents send, then mutations of what is right.
 * The judgement of each answer is in apiServer.ts.
 */
import type { TObject, TSchema } from '@sinclair/typebox';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Kind } from '../src/model/kind.ts';
import { KINDS, keyOf, kindByName } from '../src/model/kinds.ts';
import { exportSet } from '../src/netmaster/batch.ts';
import { storeKey } from '../src/netmaster/mirror.ts';
import { type Api, openApi } from './apiServer.ts';

type Plain = Record<string, unknown>;

/** What all the others refer to. */
const BASE: Plain[] = [
  { kind: 'network', networkName: 'net1', subnet: '20.1.1.0/24', gateway: '20.1.1.254' },
  { kind: 'network', networkName: 'net6', subnet: '20.1.6.0/24', ipv6Subnet: 'fd00:6::/64' },
  { kind: 'network', networkName: 'six', ipv6Subnet: 'fd00:66::/64', ipv6Gateway: 'fd00:66::1' },
  { kind: 'policy', policyName: 'p1' },
  { kind: 'netprofile', profileName: 'gold', bandwidth: '10 mbps' },
  { kind: 'extContractsGroup', contractsGroupName: 'c1', contractsType: 'provided', contracts: ['x'] },
  { kind: 'endpointGroup', groupName: 'web', networkName: 'net1' },
];

const T = { tenantName: 'default' };
const SELECTOR: Plain = {
  matchLabels: { app: 'web' },
  matchExpressions: [{ key: 'tier', operator: 'In', values: ['front'] }],
};

/** One object of each kind with every field that goes together. */
const VALID: Readonly<Record<string, Plain>> = {
  tenant: { tenantName: 'fz', defaultNetwork: 'net1' },
  network: {
    ...T,
    networkName: 'fz',
    nwType: 'data',
    encap: 'vxlan',
    pktTag: 77,
    subnet: '30.1.1.0/24',
    gateway: '30.1.1.254',
    ipv6Subnet: 'fd00:30::/64',
    ipv6Gateway: 'fd00:30::1',
    cfgdTag: 'tag',
  },
  endpointGroup: {
    ...T,
    groupName: 'fz',
    networkName: 'net1',
    ipPool: '20.1.1.10-20.1.1.20',
    policies: ['p1'],
    netProfile: 'gold',
    extContractsGrps: ['c1'],
    cfgdTag: 'tag',
  },
  policy: { ...T, policyName: 'fz' },
  rule: {
    ...T,
    policyName: 'p1',
    ruleId: 'fz',
    direction: 'in',
    priority: 2,
    fromEndpointGroup: 'web',
    fromNetwork: 'net1',
    protocol: 'tcp',
    port: 80,
    action: 'allow',
  },
  externalEndpoint: {
    ...T,
    endpointName: 'fz',
    groupName: 'web',
    ipAddress: ['192.0.2.7', '2001:db8::7'],
    labels: { app: 'db' },
    healthCheck: 'http:8080/healthz',
  },
  netprofile: { ...T, profileName: 'fz', bandwidth: '10 mbps', DSCP: 3, burst: 10 },
  appProfile: { ...T, appProfileName: 'fz', endpointGroups: ['web'] },
  serviceLB: {
    ...T,
    serviceName: 'fz',
    networkName: 'net1',
    ipAddress: '20.1.1.77',
    selectors: ['app=web'],
    ports: ['80:8080:TCP'],
  },
  extContractsGroup: { ...T, contractsGroupName: 'fz', contractsType: 'provided', contracts: ['x'] },
  Bgp: {
    hostname: 'fz',
    routerip: '50.1.1.2/24',
    as: '65000',
    'neighbor-as': '65001',
    neighbor: '50.1.1.1',
    passwordFile: 'tor',
    maxPrefixes: 1000,
  },
  aciGw: {
    name: 'aciGw',
    pathBindings: 'topology/pod-1/paths-101/pathep-[eth1/14]',
    nodeBindings: 'topology/pod-1/node-101',
    physicalDomain: 'dom',
    vmmDomains: 'VMware/dvs1',
    enforcePolicies: 'yes',
    includeCommonTenant: 'no',
  },
  global: {
    name: 'global',
    networkInfraType: 'default',
    vlans: '1-4094',
    vxlans: '1-10000',
    fwdMode: 'routing',
    arpMode: 'proxy',
    pvtSubnet: '172.19.0.0/16',
  },
  workload: {
    namespaceName: 'ns',
    workloadName: 'fz',
    uid: 'u1',
    ...T,
    networkName: 'net1',
    groupName: 'web',
    labels: { app: 'web' },
    namespaceLabels: { 'kubernetes.io/metadata.name': 'ns' },
    ports: [{ name: 'http', protocol: 6, port: 80 }],
    ingressBandwidth: 1_000_000,
    egressBandwidth: 1_000_000,
  },
  networkPolicy: {
    tier: 'namespace',
    namespaceName: 'ns',
    policyName: 'fz',
    subject: { workloads: { matchLabels: { app: 'web' } } },
    isolates: ['in', 'out'],
    rules: [
      {
        direction: 'in',
        action: 'accept',
        peers: [
          { namespaces: { matchLabels: { env: 'prod' } }, workloads: SELECTOR },
          { prefix: '10.0.0.0/8', except: ['10.1.0.0/16'] },
        ],
        ports: [{ protocol: 6, port: 80, endPort: 90 }, { name: 'http' }],
      },
    ],
  },
  clusterService: {
    namespaceName: 'ns',
    serviceName: 'fz',
    ...T,
    addresses: ['10.96.0.7'],
    externalAddresses: ['192.0.2.9'],
    sourceRanges: ['192.0.2.0/24'],
    ports: [
      {
        name: 'http',
        protocol: 6,
        port: 80,
        nodePort: 30080,
        backends: [
          { address: '20.1.1.2', port: 8080, host: 'node1', ready: true, serving: true, terminating: false },
        ],
      },
    ],
    affinity: 60,
    internalTraffic: 'cluster',
    externalTraffic: 'local',
    healthCheckNodePort: 30081,
  },
  swarmService: {
    serviceID: 'fz',
    swarmNetworkID: 'n1',
    swarm: 's1',
    serviceName: 'web',
    ...T,
    networkName: 'net1',
    groupName: 'web',
    virtualAddress: '20.1.1.78',
    ipv6: true,
    aliases: ['front'],
  },
};

const ENDPOINT: Plain = {
  endpointID: 'ep1',
  ...T,
  networkName: 'net6',
  ipAddress: ['20.1.6.9', 'fd00:6::9'],
  macAddress: '02:02:14:01:06:09',
  homingHost: 'node1',
  containerID: 'c0ffee',
  containerName: 'web1',
  aliases: ['a'],
  labels: { app: 'web' },
  status: 'running',
  intfName: 'eth0',
};

const MB = 'x'.repeat(900_000);
const LISTS: readonly unknown[] = [
  [1],
  [null],
  [['a']],
  [{}],
  [MB],
  ['a', 'a'],
  ['\ud800'],
  ['a\nb'],
  Array(2000).fill('a'),
  Array.from({ length: 50_000 }, (_, i) => `a${i}`),
];
const TEXTS = [MB, '\u0000', 'a\u0000b', 'a\nb', 'a\rb', '\u001b[31m', '\ud800', 'a\udc00', '\u2028'];
const NUMBERS = [1e308, -1, 1.5, 2 ** 53 + 1, 1e20];
/** Text of people: some fields take it, some have a form of their own. */
const UNICODE = [
  'שלום',
  '\u202egnp.exe',
  'e\u0301',
  '☃',
  '👩‍👩‍👧',
  'ﬁ',
  'ï',
  'Ａ',
  ' ',
  'a b',
  "'",
  '"',
  '`',
  '%{a}',
  '%s',
  '../..',
];

/** Of a type that the field does not have, or beyond its limits: must be refused, and the field named. */
function wrongValues(schema: TSchema): readonly unknown[] {
  const others: unknown[] = [null, true, false, {}, { a: [] }, [[]]];
  switch (schema.type) {
    case 'string':
      return [...others, 5, ...NUMBERS, ['a'], ...TEXTS];
    case 'integer':
      return [...others, '5', 'a', '', ['a'], [5], ...NUMBERS];
    case 'boolean':
      return [...others.filter((value) => typeof value !== 'boolean'), 5, 'true'];
    case 'array':
      return [...others, 5, 'a', { 0: 'a', length: 1 }, ...LISTS];
    case 'object':
      return [null, true, 5, 'a', ['a'], { a: 5 }, { a: null }, { a: {} }];
    default:
      return [...others, 5, ['a'], 'x', MB, 'IN', ' in', ...UNICODE];
  }
}

let api: Api;
beforeAll(async () => {
  api = await openApi();
  expect((await api.send('POST', '/api/v1/apply', { objects: BASE })).status).toBe(200);
  // Without a lease: on a slow machine it would end in between, and the store change without a request.
  const host = { key: storeKey('host', 'node1'), value: { name: 'node1', underlay: '10.0.0.1' } };
  const underlay = { key: storeKey('underlay', '10.0.0.1'), value: { host: 'node1' } };
  await api.store.transact([], [host, underlay]);
});
afterAll(() => api.close());

const all = (): string => JSON.stringify(exportSet(api.mirror));
/** For a path: each part in percent encoding, halves of pairs as they come out of it. */
const encode = (key: string): string => encodeURIComponent(key.toWellFormed());

describe.each(KINDS.map((kind) => [kind.name, kind] as const))('%s', (_name, kind) => {
  const valid = VALID[kind.name] as Plain;
  const key = keyOf(kind, valid);
  const url = `/api/v1/${kind.collection}/${key}`;
  const name = key.split(':').at(-1) as string;
  const properties = Object.entries((kind.schema as TObject).properties) as [string, TSchema][];
  /** One of many, or the one that there is. */
  const single = properties.some(([, schema]) => schema.const !== undefined);
  async function undo(): Promise<void> {
    if (kind.name === 'global') await api.send('POST', url, valid);
    else await api.send('DELETE', url);
  }

  it('is taken as it should be', async () => {
    expect(await api.send('POST', url, valid)).toMatchObject({ status: 200 });
    await undo();
  });

  it.each(properties)('%s that is wrong is refused, named, and nothing is written', async (field, schema) => {
    const before = all();
    for (const value of wrongValues(schema))
      for (const method of ['POST', 'PUT']) {
        const body = JSON.stringify({ ...valid, [field]: value });
        const { status, message, field: named } = await api.send(method, url, body);
        const what = `${method} ${field} = ${JSON.stringify(value)?.slice(0, 40)}: ${message}`;
        expect(status, what).toBe(400);
        expect(named, what).toBe(field);
        expect(message, what).toContain(name);
        expect(message, what).toContain(field);
      }
    expect(all()).toBe(before);
  });

  it.each(properties)(
    '%s in any script, empty or out of range is taken or refused',
    async (field, schema) => {
      for (const value of [
        ...UNICODE,
        '',
        0,
        -0,
        [],
        ...(schema.type === 'array' ? UNICODE.map((u) => [u]) : []),
      ]) {
        const { status, message } = await api.send('POST', url, { ...valid, [field]: value });
        if (status >= 400) expect(message).toContain(name);
        else await undo();
      }
    },
  );

  it('with fields that it does not have, or without those that it needs, is refused', async () => {
    const before = all();
    const unknown = [
      'x',
      '',
      '__proto__',
      'constructor',
      'toString',
      'hasOwnProperty',
      'a\nb',
      '\ud800',
      MB,
      'tenantname',
    ];
    for (const field of unknown) {
      const body = `${JSON.stringify(valid).slice(0, -1)},${JSON.stringify(field)}:{"a":1}}`;
      const { status, message, field: named } = await api.send('POST', url, body);
      expect({ status, message }).toEqual({
        status: 400,
        message: expect.stringContaining('is not a field'),
      });
      expect(named).toBeDefined();
    }
    for (const [field, schema] of properties) {
      if (!kind.schema.required?.includes(field) || (kind.keyFields as string[]).includes(field)) continue;
      const { [field]: _gone, ...rest } = valid;
      const { status, message, field: named } = await api.send('POST', url, rest);
      expect({ status, named }, schema.description).toEqual({ status: 400, named: field });
      expect(message).toContain('is missing');
    }
    expect(all()).toBe(before);
  });

  it('bodies that are no object are refused', async () => {
    for (const body of [
      'null',
      '5',
      '"x"',
      '[]',
      `[${JSON.stringify(valid)}]`,
      'true',
      '{',
      '{"a"',
      'NaN',
      '\ufeff{}',
      '\u0000',
      "{'a':1}",
      '[['.repeat(100_000),
      `${'['.repeat(100_000)}${']'.repeat(100_000)}`,
      `{"x":${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}}`,
    ]) {
      const { status } = await api.send('POST', url, body);
      expect(status, body.slice(0, 50)).toBe(400);
      for (const [field] of properties) {
        const deep = `{"${field}":${body.startsWith('[[') ? body : '[[]]'}}`;
        expect((await api.send('POST', url, deep)).status).toBe(400);
      }
    }
  });

  it('keys that are wrong are refused, whatever is done with them', async () => {
    const before = all();
    const parts = key.split(':');
    const keys = [
      ':',
      '::',
      ':::',
      `${key}:`,
      `:${key}`,
      `${key}:x`,
      parts.slice(1).join(':') || 'x:y',
      '%00',
      '%2f',
      '%2F..%2F',
      '%',
      '%zz',
      '%c3%28',
      '%ed%a0%80',
      '%ff',
      '%0a',
      '%20',
      encode(MB.slice(0, 999)),
      MB.slice(0, 1001),
      MB.slice(0, 12_000),
      '__proto__',
      'constructor',
      ...UNICODE.map((u) => [...parts.slice(0, -1), u].map(encode).join(':')),
      encode('cafe\u0301'),
      encode('café'),
      encode(key.toUpperCase()),
      `${key}?x=1`,
      `${key}?wait=x`,
      `${key}?wait=1&wait=2`,
    ];
    for (const one of keys)
      for (const method of ['POST', 'PUT', 'GET', 'DELETE', 'PATCH', 'OPTIONS', 'HEAD']) {
        const path = `/api/v1/${kind.collection}/${one}`;
        if (method === 'HEAD') {
          expect((await api.server.inject({ method, url: path })).statusCode).toBeLessThan(500);
          continue;
        }
        const writes = method === 'POST' || method === 'PUT';
        const { status } = await api.send(method, path, writes ? valid : undefined);
        // A parameter that a read does not know does not matter.
        if (!(method === 'GET' && single && one.includes('?')))
          expect(status, `${method} ${one}`).toBeGreaterThanOrEqual(400);
        await api.send('GET', `/api/v1/inspect/${kind.collection}/${one}`);
      }
    expect(all()).toBe(before);
  });
});

describe('what agents send', () => {
  const REQUESTS: readonly [
    method: string,
    url: string,
    body: Plain,
    schema: Readonly<Record<string, string>>,
    name: string,
  ][] = [
    [
      'PUT',
      '/api/v1/hosts/node9',
      { name: 'node9', underlay: '10.0.0.9', version: '1' },
      { name: 'string', underlay: 'string', version: 'string' },
      'node9',
    ],
    [
      'POST',
      '/api/v1/hosts/node1/applied',
      { store: 'x', revision: 1 },
      { store: 'string', revision: 'integer' },
      'node1',
    ],
    [
      'POST',
      '/api/v1/addresses',
      { ...T, networkName: 'net1', groupName: 'web', address: '20.1.1.99', family: 4, host: 'node1' },
      {
        tenantName: 'string',
        networkName: 'string',
        groupName: 'string',
        address: 'string',
        family: 'union',
        host: 'string',
      },
      '',
    ],
    [
      'PUT',
      '/api/v1/endpoints/ep1?wait=0',
      ENDPOINT,
      {
        endpointID: 'string',
        tenantName: 'string',
        networkName: 'string',
        ipAddress: 'array',
        macAddress: 'string',
        homingHost: 'string',
        containerID: 'string',
        aliases: 'array',
        labels: 'object',
        status: 'union',
      },
      'ep1',
    ],
  ];
  it.each(REQUESTS)(
    '%s %s: each field that is wrong is refused and named',
    async (method, url, body, fields, name) => {
      for (const [field, type] of Object.entries(fields))
        for (const value of wrongValues({ type } as unknown as TSchema)) {
          // The agent's lists of names have no limits but the body's.
          if (
            field === 'aliases' &&
            Array.isArray(value) &&
            value.every((v) => typeof v === 'string' && /^[ -~]*$/.test(v))
          )
            continue;
          const sent = JSON.stringify({ ...body, [field]: value });
          const { status, message, field: named } = await api.send(method, url, sent);
          const what = `${field} = ${JSON.stringify(value)?.slice(0, 60)}: ${message}`;
          expect(status, what).toBeGreaterThanOrEqual(400);
          expect(named, what).toBe(field);
          expect(message, what).toContain(field);
          expect(message, what).toContain(name);
        }
      for (const field of ['x', '__proto__', 'constructor', '\ud800'])
        expect(
          (await api.send(method, url, `${JSON.stringify(body).slice(0, -1)},${JSON.stringify(field)}:1}`))
            .status,
        ).toBe(400);
      for (const wrong of ['', 'null', '[]', '{', '{}', '5'])
        expect((await api.send(method, url, wrong)).status).toBe(400);
    },
  );

  it.each([
    ['PUT', '/api/v1/hosts/n%20x', { name: 'n x', underlay: '10.0.0.7' }, 'name'],
    ['PUT', '/api/v1/hosts/n%2Cx', { name: 'n,x', underlay: '10.0.0.7' }, 'name'],
    ['PUT', '/api/v1/hosts/%E2%98%83', { name: '☃', underlay: '10.0.0.7' }, 'name'],
    ['PUT', '/api/v1/hosts/node7', { name: 'node8', underlay: '10.0.0.7' }, 'name'],
    ['PUT', '/api/v1/hosts/node7', { name: 'node7', underlay: 'eth0' }, 'underlay'],
    ['PUT', '/api/v1/hosts/node7', { name: 'node7', underlay: '10.0.0.1' }, 'underlay'],
    ['POST', '/api/v1/hosts/nobody/applied', { store: 'x', revision: 1 }, undefined],
    ['POST', '/api/v1/addresses', { ...T, networkName: 'gone', family: 4, host: 'node1' }, 'networkName'],
    [
      'POST',
      '/api/v1/addresses',
      { ...T, networkName: 'net1', groupName: 'gone', family: 4, host: 'node1' },
      'groupName',
    ],
    ['POST', '/api/v1/addresses', { ...T, networkName: 'net1', family: 6, host: 'node1' }, 'family'],
    ['POST', '/api/v1/addresses', { ...T, networkName: 'six', family: 4, host: 'node1' }, 'family'],
    [
      'POST',
      '/api/v1/addresses',
      { ...T, networkName: 'net1', family: 4, address: '1.2.3.4', host: 'node1' },
      'address',
    ],
    [
      'POST',
      '/api/v1/addresses',
      { ...T, networkName: 'net1', family: 4, address: 'fd00::1', host: 'node1' },
      'address',
    ],
    ['PUT', '/api/v1/endpoints/ep1', { ...ENDPOINT, networkName: 'gone' }, 'networkName'],
    ['PUT', '/api/v1/endpoints/ep1', { ...ENDPOINT, groupName: 'web' }, 'groupName'],
    ['PUT', '/api/v1/endpoints/ep1', { ...ENDPOINT, ipAddress: ['9.9.9.9'] }, 'ipAddress'],
    ['PUT', '/api/v1/endpoints/ep1', { ...ENDPOINT, ipAddress: ['20.1.6.9', 'FD00:6::9'] }, 'ipAddress'],
    ['PUT', '/api/v1/endpoints/ep1', { ...ENDPOINT, ipAddress: ['x'] }, 'ipAddress'],
    ['PUT', '/api/v1/endpoints/ep1', { ...ENDPOINT, macAddress: 'x' }, 'macAddress'],
    ['PUT', '/api/v1/endpoints/ep2', ENDPOINT, 'endpointID'],
  ])('%s %s %j is refused', async (method, url, body, field) => {
    const answer = await api.send(method, url, body);
    expect(answer.status).toBeGreaterThanOrEqual(400);
    expect(answer.field, answer.message).toBe(field);
  });

  it('reports of flows and answers that are wrong are refused, and a report counts whole or not at all', async () => {
    const flow = {
      tenant: 'default',
      direction: 'in',
      from: '20.1.1.2',
      to: '20.1.1.3',
      protocol: 6,
      rule: '',
      count: 1,
      last: 1,
    };
    const report = { reporter: 'r', sequence: 1, hits: [], denied: [flow] };
    const url = '/api/v1/hosts/node1/flows';
    const wrong: Plain[] = [
      ...[null, 5, {}, 'x', [5], [null], [{}], [{ ...flow, x: 1 }]].map((denied) => ({ ...report, denied })),
      ...[-1, 1.5, 1e308, 8.64e15 + 2, null, '1'].map((last) => ({
        ...report,
        denied: [flow, { ...flow, last }],
      })),
      ...[MB, null, 5].map((from) => ({ ...report, denied: [{ ...flow, from }] })),
      ...[null, [5], [{ rule: MB, packets: 1, bytes: 1 }], [{ rule: 'x', packets: 1e308, bytes: 1 }]].map(
        (hits) => ({ ...report, hits }),
      ),
      ...[null, -1, '1', 2 ** 53].map((sequence) => ({ ...report, sequence })),
      { ...report, reporter: MB },
    ];
    for (const body of wrong) {
      const { status, message } = await api.send('POST', url, body);
      expect(status, JSON.stringify(body).slice(0, 200)).toBe(400);
      expect(message).toContain('host node1');
    }
    expect(JSON.parse((await api.send('GET', '/api/v1/flows?denied=true')).text)).toEqual([]);
    expect((await api.send('POST', url, { ...report, denied: [{ ...flow, last: 8.64e15 }] })).status).toBe(
      204,
    );
    expect(JSON.parse((await api.send('GET', '/api/v1/flows?denied=true')).text)).toHaveLength(1);
    expect((await api.send('POST', url.replace('node1', 'nobody'), report)).status).toBe(404);

    const answer = { verdict: 'allow', rule: '', changed: [] };
    for (const body of [
      { ...answer, verdict: 'maybe' },
      { ...answer, rule: MB },
      { ...answer, changed: [5] },
      { ...answer, problem: null },
      {},
    ])
      expect((await api.send('POST', '/api/v1/hosts/node1/answers/x', body)).status).toBe(400);
    expect((await api.send('POST', '/api/v1/hosts/node1/answers/x', answer)).status).toBe(204);
    expect((await api.send('POST', '/api/v1/hosts/nobody/answers/x', answer)).status).toBe(404);
  });

  it('labels of containers may hold any text: they are the users of Docker who write them', async () => {
    const labels = {
      ...Object.fromEntries(UNICODE.map((u, i) => [u, `${i}`])),
      'a\nb': 'c\u0000',
      big: MB.slice(0, 100_000),
    };
    const body = `${JSON.stringify({ ...ENDPOINT, labels }).replace('"labels":{', '"labels":{"__proto__":"x",')}`;
    expect(await api.send('PUT', '/api/v1/endpoints/ep1?wait=0', body)).toMatchObject({ status: 200 });
    expect((await api.send('GET', '/api/v1/inspect/endpoints/web1')).status).toBe(200);
    expect(JSON.parse((await api.send('GET', '/api/v1/endpoints')).text)[0].labels).toHaveProperty(
      ['a\nb'],
      'c\u0000',
    );
    expect((await api.send('DELETE', '/api/v1/endpoints/ep1?wait=0&host=node1')).status).toBe(200);
  });
});

it('parameters of queries that are wrong are refused and named', async () => {
  const object = JSON.stringify(VALID.policy);
  const set = '{"objects":[{"kind":"policy","policyName":"fz"}]}';
  for (const [method, path, name, body] of [
    ['POST', '/api/v1/policys/default:fz', 'wait', object],
    ['DELETE', '/api/v1/policys/default:p1', 'wait', undefined],
    ['POST', '/api/v1/apply', 'wait', set],
    ['POST', '/api/v1/apply', 'dryRun', set],
    ['PUT', '/api/v1/endpoints/ep1', 'wait', JSON.stringify(ENDPOINT)],
    ['DELETE', '/api/v1/endpoints/ep1', 'wait', undefined],
    ['GET', '/api/v1/watch', 'after', undefined],
    ['GET', '/api/v1/export', 'kind', undefined],
    ['GET', '/api/v1/flows', 'denied', undefined],
  ] as const) {
    for (const value of [
      '',
      'NaN',
      '1e400',
      '-1',
      '0x10',
      '1e1',
      'Infinity',
      '%20',
      '%00',
      '9'.repeat(400),
      '1,2',
      'null',
      '%E2%98%83',
      'TRUE',
      '__proto__',
      '601.1e3',
      '9007199254740993',
    ]) {
      const { status, field } = await api.send(method, `${path}?${name}=${value}`, body);
      expect(
        { status: status === 400 || status === 404, field },
        `${method} ${path} ${name}=${value}`,
      ).toEqual({ status: true, field: name });
    }
    expect((await api.send(method, `${path}?${name}=0&${name}=1`, body)).field).toBe(name);
    for (const unknown of ['dryrun', '__proto__', 'Wait'])
      expect(await api.send(method, `${path}?${unknown}=1`, body)).toMatchObject({
        status: 400,
        field: unknown,
      });
    await api.send(method, `${path}?${'&'.repeat(2000)}${'a=1&'.repeat(2000)}`, body);
    await api.send(method, `${path}?%=%&%zz=%ff`, body);
  }
  for (const after of ['1', '99999999'])
    expect((await api.send('GET', `/api/v1/watch?after=${after}&store=x`)).status).toBe(410);
});

it('traces of what there is not are refused and name the end', async () => {
  for (const odd of [
    '',
    ...UNICODE,
    ...TEXTS.slice(1),
    MB.slice(0, 3000),
    'gone',
    'group:',
    'container:',
    '1.2.3',
    '::1::',
    '__proto__',
  ]) {
    for (const [name, query] of [
      ['from', 'to=20.1.1.3'],
      ['to', 'from=20.1.1.3'],
    ])
      expect(await api.send('GET', `/api/v1/trace?${query}&${name}=${encode(odd)}&port=80`)).toMatchObject({
        status: expect.toSatisfy((s) => s >= 400),
        field: name,
      });
    for (const name of ['port', 'protocol', 'live', 'tenant'])
      expect(
        await api.send(
          'GET',
          `/api/v1/trace?from=20.1.1.2&to=20.1.1.3&${name === 'port' ? '' : 'port=80&'}${name}=${encode(odd)}`,
        ),
      ).toMatchObject({ status: expect.toSatisfy((s) => s >= 400), field: name });
  }
});

it('sets that are wrong are refused with the position of the object, and nothing of them is written', async () => {
  const before = all();
  const policy = { kind: 'policy', policyName: 'fz' };
  const wrong: unknown[] = [
    null,
    5,
    'x',
    [],
    {},
    { kind: null },
    { kind: {} },
    { kind: '__proto__' },
    { kind: MB },
    { kind: 'policy' },
    { ...policy, policyName: null },
    { ...policy, policyName: 5 },
    { ...policy, policyName: '\ud800' },
    { ...policy, tenantName: null },
    { ...policy, tenantName: ['default'] },
    { ...policy, x: 1 },
    policy,
    { kind: 'network', networkName: 'n', subnet: MB },
    { kind: 'rule', policyName: 'gone', ruleId: '1', direction: 'in', action: 'allow' },
  ];
  for (const object of wrong) {
    const { status, text } = await api.send('POST', '/api/v1/apply', { objects: [policy, object] });
    expect(status, JSON.stringify(object)?.slice(0, 100)).toBeGreaterThanOrEqual(400);
    expect(JSON.parse(text).error.position, text).toBe(2);
  }
  const deep = `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`;
  for (const body of [
    `{"objects":[${deep}]}`,
    `{"objects":[{"kind":${deep}}]}`,
    `{"objects":[{"kind":"policy","policyName":${deep}}]}`,
    `{"objects":${deep}}`,
    `{"objects":[{"kind":"policy","policyName":"a","x":${deep}}]}`,
  ])
    expect((await api.send('POST', '/api/v1/apply', body)).status).toBe(400);
  expect(all()).toBe(before);
});

it('paths and methods that there are not are 404 and 405, and say which there are', async () => {
  for (const path of [
    '/',
    '/api',
    '/api/v1',
    '/api/v1/',
    '/api/v1/nope',
    '/api/v1/nope/x',
    '/api/v1/inspect/nope/x',
    '/api/v1/inspect/endpoints/x',
    '/api/v2/tenants',
    '//',
    '/api//v1/tenants',
    `/${MB.slice(0, 9000)}`,
    '/%',
    '/\u0001',
    '/api/v1/tenants/a/b',
  ])
    for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])
      expect(
        (await api.send(method, path, method === 'POST' ? '{' : undefined)).status,
        `${method} ${path}`,
      ).toBeGreaterThanOrEqual(400);
  for (const [method, path, allow] of [
    ['PATCH', '/api/v1/tenants/default', 'DELETE, GET, HEAD, POST, PUT'],
    ['OPTIONS', '/api/v1/tenants/', 'GET, HEAD'],
    ['POST', '/api/v1/tenants/', 'GET, HEAD'],
    ['POST', '/healthz', 'GET, HEAD'],
    ['GET', '/api/v1/apply', 'POST'],
    ['DELETE', '/api/v1/inspect/tenants/default', 'GET, HEAD'],
  ] as const) {
    expect((await api.send(method, path)).status, path).toBe(405);
    const { headers } = await api.server.inject({ method, url: path });
    expect(headers.allow).toBe(allow);
  }
});

describe('at random', () => {
  const scalar = fc.oneof(
    fc.constantFrom(...UNICODE, ...TEXTS.slice(1), ...NUMBERS, null, true, '', 0),
    fc.string({ unit: 'binary' }),
    fc.double(),
    fc.integer(),
  );
  const anything = fc.oneof(
    { weight: 4, arbitrary: scalar },
    { weight: 1, arbitrary: fc.array(scalar, { maxLength: 5 }) },
    { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 4 }) as fc.Arbitrary<unknown> },
  );
  /** A valid value that is a little wrong, or all wrong. */
  const mutation = (value: unknown): fc.Arbitrary<unknown> =>
    typeof value === 'string'
      ? fc.oneof(
          anything,
          fc
            .nat(value.length)
            .chain((at) =>
              fc
                .string({ unit: 'binary', maxLength: 3 })
                .map((s) => value.slice(0, at) + s + value.slice(at + 1)),
            ),
        )
      : anything;
  const mutated: fc.Arbitrary<[kind: string, body: Plain]> = fc
    .constantFrom(...KINDS.map((kind) => kind.name))
    .chain((kind) => {
      const valid = VALID[kind] as Plain;
      return fc
        .subarray(Object.keys(valid), {
          minLength: 1,
          maxLength: Math.min(3, Object.keys(valid).length),
        })
        .chain((fields) =>
          fc.tuple(
            fc.constant(kind),
            fc
              .record(Object.fromEntries(fields.map((field) => [field, mutation(valid[field])])))
              .map((changes) => ({ ...valid, ...changes })),
          ),
        );
    });

  it('mutations of valid bodies are taken whole or refused in one line', async () => {
    await fc.assert(
      fc.asyncProperty(mutated, fc.boolean(), fc.boolean(), async ([name, body], follow, put) => {
        const kind = kindByName.get(name) as Kind;
        const named = kind.keyFields.every((field) => typeof body[field] === 'string');
        const key = keyOf(kind, follow && named ? body : (VALID[kind.name] as Plain));
        const url = `/api/v1/${kind.collection}/${encode(key).replaceAll('%3A', ':')}`;
        const before = all();
        const { status, text } = await api.send(put ? 'PUT' : 'POST', url, body);
        if (status >= 400) {
          expect(all()).toBe(before);
          return;
        }
        // What was taken can be read, declared again with no change, and deleted.
        expect((await api.send('GET', `/api/v1/inspect/${kind.collection}/${key}`)).status).toBe(
          kind.name === 'Bgp' ? 404 : 200,
        );
        expect((await api.send('GET', url)).text).toBe(text);
        const exported = { objects: exportSet(api.mirror) };
        const again = JSON.parse((await api.send('POST', '/api/v1/apply?dryRun=true', exported)).text);
        expect(again.objects.every((o: Plain) => o.result === 'unchanged')).toBe(true);
        if (kind.name === 'global') await api.send('POST', url, VALID.global);
        else expect((await api.send('DELETE', url)).status).toBe(200);
      }),
      { numRuns: 1500 },
    );
  });

  it('sets of mutations are taken whole or refused in one line', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(mutated, { minLength: 1, maxLength: 4 }), async (entries) => {
        const objects = entries.map(([kind, body]) => ({ kind, ...body }));
        const before = all();
        const { status } = await api.send('POST', '/api/v1/apply?dryRun=true', { objects });
        expect(all()).toBe(before);
        const done = await api.send('POST', '/api/v1/apply', { objects });
        expect(done.status).toBe(status);
        if (status >= 400) {
          expect(all()).toBe(before);
          return;
        }
        for (const [name, body] of entries.reverse()) {
          const kind = kindByName.get(name) as Kind;
          if (name !== 'global') await api.send('DELETE', `/api/v1/${kind.collection}/${keyOf(kind, body)}`);
        }
        await api.send('POST', '/api/v1/globals/global', VALID.global);
      }),
      { numRuns: 300 },
    );
  });
});

it('after all of it netmaster answers, and nothing was left behind', async () => {
  expect((await api.send('GET', '/healthz')).status).toBe(200);
  const names = exportSet(api.mirror).map((object) => object.kind);
  expect(names.sort()).toEqual([...BASE.map((o) => o.kind as string), 'global', 'tenant'].sort());
  expect(({} as Plain).a).toBeUndefined();
  // The names, tags and addresses of what was refused or deleted are free.
  expect([...api.mirror.entries('name')].map(([key]) => key).sort()).toEqual([
    'default/net1',
    'default/net6',
    'default/six',
    'default/web',
  ]);
  expect(api.mirror.count('tag')).toBe(3);
  expect(api.mirror.count('endpoint')).toBe(0);
});
