/** Every route of the table by every role, over TLS as it is: who is let through, and who is told what. */
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../src/client/client.ts';
import type { Credentials } from '../src/client/credentials.ts';
import { KINDS, kindByName } from '../src/model/kinds.ts';
import { DECLARED } from '../src/netkube/declared.ts';
import { grantOf, hostPlace, type Role, tenantPlace } from '../src/protocol/access.ts';
import { ROUTES, type Route } from '../src/protocol/routes.ts';
import {
  issue,
  issuePair,
  makeAuthority,
  type Pair,
  readRequest,
  requestCertificate,
} from '../src/tls/certificates.ts';
import type { Api } from './apiServer.ts';
import { type Asked, openSecured, type Secured } from './secured.ts';

const HOUR = 3_600_000;
let secured: Secured;
let authority: Pair;
let api: Api;
const pairs = new Map<string, Pair>();
let admin: Credentials;
let ask: Secured['ask'];
let clientOf: Secured['clientOf'];
let credentialsOf: Secured['credentialsOf'];
let tokenFor: Secured['tokenFor'];

beforeAll(async () => {
  secured = await openSecured();
  ({ api, authority, admin, ask, clientOf, credentialsOf, tokenFor } = secured);
  for (const role of ['netmaster', 'orchestrator', 'reader', 'admin'] as const)
    pairs.set(role, await issuePair(authority, { role, name: 'someone' }, HOUR));
  for (const role of ['tenantReader', 'operator'] as const)
    for (const tenants of [['blue'], ['red', 'green']])
      pairs.set(
        `${role} ${tenants[0]}`,
        await issuePair(authority, { role, name: 'someone', tenants }, HOUR),
      );
  pairs.set('host', await joined('node1'));
  await joined('node2');
});
afterAll(() => secured.close());

async function joinWith(token: string, name: string, request: string): Promise<string> {
  const client = clientOf({ authority: authority.certificate });
  try {
    return (await client.call('join', {}, { token, name, request })).body.certificate;
  } finally {
    client.close();
  }
}

async function joined(name: string): Promise<Pair> {
  const { key, request } = await requestCertificate(name);
  return { key, certificate: await joinWith(await tokenFor('join'), name, request) };
}

/** The route asked for a host or tenant, with nothing else that would be right: who is let through is told what is wrong with it. */
function requestTo(route: Route, host: string) {
  const place = (hostPlace(route) ?? tenantPlace(route)) as Record<string, string> | undefined;
  const named = hostPlace(route) === undefined ? 'blue' : host;
  const inPath = place?.path;
  const path = route.path.replace(/:(\w+)/g, (_, name) =>
    name !== inPath ? 'nosuch' : name === 'key' && route.tag !== 'tenant' ? `${named}:nosuch` : named,
  );
  const query = place?.query === undefined ? '' : `?${place.query}=${named}`;
  const body =
    place?.body !== undefined ? { [place.body]: named } : route.body === undefined ? undefined : {};
  return { line: { method: route.method, path: path + query }, body };
}

const WHO: readonly (readonly [who: string, role: Role, host: string, tenant: string])[] = [
  ['nobody', 'nobody', 'node1', ''],
  ['the host itself', 'host', 'node1', ''],
  ['another host', 'host', 'node2', ''],
  ['another netmaster', 'netmaster', 'node1', ''],
  ['netkube', 'orchestrator', 'node1', ''],
  ['a reader of the tenant', 'tenantReader', 'node1', 'blue'],
  ['a reader of other tenants', 'tenantReader', 'node1', 'red'],
  ["the tenant's operator", 'operator', 'node1', 'blue'],
  ["other tenants' operator", 'operator', 'node1', 'red'],
  ['a reader', 'reader', 'node1', ''],
  ['an admin', 'admin', 'node1', ''],
];

describe.each(WHO)('%s', (_, role, host, tenant) => {
  it.each(ROUTES.map((route) => [`${route.method} ${route.path}`, route] as const))(
    'asks %s',
    async (_, route) => {
      const { line, body } = requestTo(route, host);
      const pair = pairs.get(tenant === '' ? role : `${role} ${tenant}`);
      const { status, text } = await ask(line, { pair, body });
      const grant = grantOf(route, role);
      const passes =
        grant === 'yes' ||
        (grant === 'own' && host === 'node1') ||
        (grant === 'unnamed' && hostPlace(route) === undefined) ||
        (grant === 'theirs' &&
          hostPlace(route) === undefined &&
          (tenantPlace(route) === undefined || tenant === 'blue'));
      const what = `${status} ${text.slice(0, 300)}`;
      if (passes) {
        // A join token that is none is refused by who reads it.
        if (route.name !== 'join') expect([401, 403], what).not.toContain(status);
        return;
      }
      expect(status, what).toBe(role === 'nobody' ? 401 : 403);
      const { message } = JSON.parse(text).error;
      expect(message).toMatch(/^[^\n]{20,200}$/);
    },
  );
});

it('netkube writes what its orchestrator has and declares, by sets too, and nothing else', async () => {
  const pair = pairs.get('orchestrator');
  const apply = (objects: object[], query = '') =>
    ask({ method: 'POST', path: `/api/v1/apply${query}` }, { pair, body: { objects } });
  expect((await apply([{ kind: 'tenant', tenantName: 'ofKubernetes' }])).status).toBe(200);
  for (const { kind } of DECLARED) expect(kindByName.get(kind)?.forOrchestrators, kind).toBe(true);
  expect(
    await apply([
      { kind: 'tenant', tenantName: 'other' },
      { kind: 'appProfile', tenantName: 'other', appProfileName: 'shop', endpointGroups: [] },
    ]),
  ).toMatchObject({
    status: 403,
    text: expect.stringContaining('appProfile: orchestrator someone may not write objects of this kind'),
  });
  // What others' sets have made goes with none of its.
  expect((await apply([], '?set=prod&prune=true')).status).toBe(403);
  expect((await ask({ method: 'GET', path: '/api/v1/tenants/other/' }, { pair })).status).toBe(404);
});

it('the table says of each role what people expect of it', () => {
  const named = (name: string): Route => ROUTES.find((route) => route.name === name) as Route;
  expect(grantOf(named('register'), 'host')).toBe('own');
  expect(grantOf(named('register'), 'reader')).toBe('no');
  expect(grantOf(named('watch'), 'reader')).toBe('unnamed');
  expect(grantOf(named('export'), 'host')).toBe('no');
  expect(grantOf(named('export'), 'reader')).toBe('yes');
  expect(grantOf(named('apply'), 'reader')).toBe('no');
  expect(grantOf(named('replicaAsk'), 'reader')).toBe('no');
  expect(grantOf(named('tokenCreate'), 'netmaster')).toBe('no');
  expect(grantOf(named('version'), 'nobody')).toBe('yes');
  expect(grantOf(named('tokenCreate'), 'operator')).toBe('no');
  expect(grantOf(named('apply'), 'tenantReader')).toBe('no');
  expect(grantOf(named('attach'), 'operator')).toBe('no');
  expect(grantOf(named('watch'), 'orchestrator')).toBe('unnamed');
  expect(grantOf(named('tokenCreate'), 'orchestrator')).toBe('no');
  expect(grantOf(named('export'), 'orchestrator')).toBe('no');
});

/** A route or a kind that says nothing of tenants is in neither list. What is in them is for handlers to keep apart (tenantRoles.test.ts). */
it("who has some tenants only asks these routes, and a tenant's operator writes these kinds", () => {
  const granted = (role: Role): string[] => [
    ...new Set(
      ROUTES.filter((route) => grantOf(route, role) === 'theirs').map(({ name, tag }) =>
        ['list', 'get', 'post', 'put', 'delete'].includes(name) ? `${tag} ${name}` : name,
      ),
    ),
  ];
  const READ = [
    'tenant',
    'externalEndpoint',
    'extContractsGroup',
    'global',
    'workload',
    'clusterService',
    'swarmService',
  ];
  const WRITTEN = ['network', 'endpointGroup', 'policy', 'rule', 'netprofile', 'appProfile', 'serviceLB'];
  const reads = [...READ, ...WRITTEN].flatMap((kind) => [`${kind} list`, `${kind} get`]);
  const asked = ['inspect', 'export', 'endpoints', 'watch', 'trace', 'flows', 'events', 'followEvents'];
  expect(granted('tenantReader').sort()).toEqual([...reads, ...asked].sort());
  const writes = WRITTEN.flatMap((kind) => [`${kind} post`, `${kind} put`, `${kind} delete`]);
  expect(granted('operator').sort()).toEqual([...reads, ...asked, ...writes, 'apply', 'removeSet'].sort());
});

it("of what a tenant's operator writes these fields are an admin's: a new one is, until its kind names it", () => {
  const admins = KINDS.flatMap(({ name, forTenants, schema }) =>
    forTenants?.sets === undefined
      ? []
      : Object.keys(schema.properties)
          .filter((field) => !forTenants.sets?.includes(field))
          .map((field) => `${name} ${field}`),
  );
  expect(admins).toEqual([
    'network pktTag',
    'network hostAccess',
    'network externalGateway',
    'network advertise',
    'endpointGroup pktTag',
  ]);
});

it('a host cannot change an endpoint of another one, though it names itself', async () => {
  const client = clientOf(admin);
  await client.call(
    'post',
    { collection: 'networks', key: 'default:n' },
    { tenantName: 'default', networkName: 'n', subnet: '20.1.1.0/24', encap: 'vxlan' },
  );
  const endpoint = {
    endpointID: 'e1',
    tenantName: 'default',
    networkName: 'n',
    groupName: '',
    homingHost: 'node2',
    ipAddress: ['20.1.1.9'],
    macAddress: '02:02:14:01:01:09',
    status: 'running',
  } as const;
  await client.call('attach', { id: 'e1', wait: '0' }, endpoint as never);
  client.close();
  const pair = pairs.get('host');
  const detach = await ask({ method: 'DELETE', path: '/api/v1/endpoints/e1?host=node1' }, { pair });
  expect(detach.status).toBe(403);
  const body = { ...endpoint, homingHost: 'node1' };
  expect((await ask({ method: 'PUT', path: '/api/v1/endpoints/e1' }, { pair, body })).status).toBe(403);
  const twice = await ask({ method: 'DELETE', path: '/api/v1/endpoints/e1?host=node1&host=node2' }, { pair });
  expect(twice.status).toBe(403);
  expect(api.mirror.get('endpoint', 'e1')).toMatchObject({ homingHost: 'node2' });
});

it('a host tells of no other host’s key', async () => {
  const pair = pairs.get('host');
  const keys = [{ epoch: 1, key: `${'A'.repeat(43)}=` }];
  for (const name of ['node2', 'node1']) {
    const body = { name: 'node2', underlay: '192.0.2.2', keys };
    const path = `/api/v1/hosts/${name}`;
    expect((await ask({ method: 'PUT', path }, { pair, body })).status).toBe(name === 'node2' ? 403 : 400);
  }
  expect(api.mirror.get('registration', 'node2')).toBeUndefined();
});

it('events say by whom, as the certificate has it', async () => {
  const client = clientOf(credentialsOf(pairs.get('admin')));
  await client.call('post', { collection: 'tenants', key: 'red' }, { tenantName: 'red' });
  const found = (await client.call('events', { kind: 'intent', tenant: 'red' })).body;
  expect(found.at(-1)).toMatchObject({ by: 'admin someone', from: '127.0.0.1' });
  client.close();
});

describe('a token', () => {
  it('asks as its role says, until it is removed', async () => {
    const reader = await tokenFor('reader');
    expect((await ask({ method: 'GET', path: '/api/v1/export' }, { token: reader })).status).toBe(200);
    expect((await ask({ method: 'POST', path: '/api/v1/apply' }, { token: reader, body: {} })).status).toBe(
      403,
    );
    expect((await ask({ method: 'GET', path: '/api/v1/export' }, { token: `${reader}x` })).status).toBe(401);
    const client = clientOf(admin);
    await client.call('tokenRemove', { id: reader.split('.')[1] as string });
    client.close();
    const after = await ask({ method: 'GET', path: '/api/v1/export' }, { token: reader });
    expect(after.status).toBe(401);
    expect(after.text).toContain('was removed');
  });

  it('is refused when it has ended, and is nowhere but with who has it', async () => {
    const token = await tokenFor('admin', 1);
    const secret = token.split('.')[2] as string;
    await expect
      .poll(() => ask({ method: 'GET', path: '/api/v1/export' }, { token }), {
        timeout: 30_000,
        interval: 100,
      })
      .toMatchObject({ status: 401, text: expect.stringContaining('has ended at') });
    const { entries } = await api.store.list('');
    expect(JSON.stringify(entries)).not.toContain(secret);
    expect(
      JSON.stringify(
        (await ask({ method: 'GET', path: '/api/v1/tokens' }, { pair: pairs.get('admin') })).text,
      ),
    ).not.toContain(secret);
  });

  it('of a join lets nobody ask anything else', async () => {
    const [, id, secret] = (await tokenFor('join')).split('.');
    const { status } = await ask({ method: 'GET', path: '/api/v1/export' }, { token: `api.${id}.${secret}` });
    expect(status).toBe(401);
  });
});

describe('a host joins', () => {
  it('once by a token: of many at once exactly one', async () => {
    const token = await tokenFor('join');
    const names = Array.from({ length: 8 }, (_, i) => `many${i}`);
    const outcomes = await Promise.allSettled(
      names.map(async (name) => joinWith(token, name, (await requestCertificate(name)).request)),
    );
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const outcome of outcomes)
      if (outcome.status === 'rejected')
        expect(outcome.reason).toMatchObject({
          status: 401,
          message: expect.stringMatching(/was used by host many\d/),
        });
  });

  it('again by the same key where the answer was lost, and not by another', async () => {
    const token = await tokenFor('join');
    const { key, request } = await requestCertificate('lost');
    await joinWith(token, 'lost', request);
    const again = await joinWith(token, 'lost', (await requestCertificate('lost', key)).request);
    expect(
      (await ask({ method: 'GET', path: '/api/v1/watch?host=lost' }, { pair: { key, certificate: again } }))
        .status,
    ).toBe(200);
    await expect(joinWith(token, 'lost', (await requestCertificate('lost')).request)).rejects.toThrow(
      'was used',
    );
  });

  it('not under the name of one that has, nor with a request for another name or by another key', async () => {
    const token = await tokenFor('join');
    const { request } = await requestCertificate('node1');
    await expect(joinWith(token, 'node1', request)).rejects.toMatchObject({ status: 409 });
    await expect(joinWith(token, 'node9', request)).rejects.toThrow('its CN must be node9');
    await expect(joinWith(token, 'node9', 'x')).rejects.toThrow('is not a signing request');
    const broken = `${request.slice(0, -12)}AAAA${request.slice(-8)}`;
    await expect(joinWith(token, 'node1', broken)).rejects.toMatchObject({ status: 400 });
    await expect(joinWith(`${token.slice(0, 60)}`, 'node9', request)).rejects.toMatchObject({
      status: expect.any(Number),
    });
    // Nothing of that has used it up.
    await joinWith(token, 'node9', (await requestCertificate('node9')).request);
  });

  it('and is refused from its revocation on, in what it follows too', async () => {
    const pair = await joined('stolen');
    const client = clientOf(credentialsOf(pair));
    const { promise: synced, resolve: seen } = Promise.withResolvers<void>();
    const broken = (async () => {
      for await (const message of client.watch({ host: 'stolen' })) if (message.type === 'synced') seen();
    })();
    broken.catch(() => {});
    await synced;
    const operator = clientOf(admin);
    await operator.call('hostRevoke', { name: 'stolen' });
    await expect(broken).rejects.toThrow('broke off');
    const line = { method: 'GET', path: '/api/v1/watch?host=stolen' };
    expect(await ask(line, { pair })).toMatchObject({
      status: 401,
      text: expect.stringContaining('is revoked'),
    });
    const renewal = { method: 'POST', path: '/api/v1/hosts/stolen/certificate' };
    const { request } = await requestCertificate('stolen');
    expect((await ask(renewal, { pair, body: { request } })).status).toBe(401);
    const again = await joined('stolen');
    expect((await ask(line, { pair: again })).status).toBe(200);
    expect((await ask(line, { pair })).status).toBe(401);
    client.close();
    operator.close();
  });

  it('renews its certificate, and both hold', async () => {
    const pair = pairs.get('host') as Pair;
    const { key, request } = await requestCertificate('node1');
    const renewal = { method: 'POST', path: '/api/v1/hosts/node1/certificate' };
    const { status, text } = await ask(renewal, { pair, body: { request } });
    expect(status, text).toBe(200);
    const renewed = { key, certificate: JSON.parse(text).certificate };
    const line = { method: 'GET', path: '/api/v1/watch?host=node1' };
    expect((await ask(line, { pair: renewed })).status).toBe(200);
    expect((await ask(line, { pair })).status).toBe(200);
  });
});

describe('a certificate is refused in one line', () => {
  const line = { method: 'GET', path: '/api/v1/watch?host=node1' };
  const lineFor = async (pair: Pair): Promise<Asked> => ask(line, { pair });

  it('of another authority, whatever it says', async () => {
    const other = await makeAuthority();
    const pair = await issuePair(other, { role: 'admin', name: 'admin' }, HOUR);
    expect(await lineFor(pair)).toMatchObject({
      status: 401,
      text: expect.stringContaining("not of this cluster's authority"),
    });
  });
  it('that has ended', async () => {
    const { key, request } = await requestCertificate('node1');
    const asked = await readRequest(request);
    const certificate = await issue(authority, asked, { role: 'admin', name: 'a' }, -60_000);
    expect(await lineFor({ key, certificate })).toMatchObject({
      status: 401,
      text: expect.stringContaining('has ended'),
    });
  });
  it('of a host that was never admitted', async () => {
    const pair = await issuePair(authority, { role: 'host', name: 'node1' }, HOUR);
    expect(await lineFor(pair)).toMatchObject({ status: 401, text: expect.stringContaining('is revoked') });
    const forged = await issuePair(authority, { role: 'host', name: 'nodeX' }, HOUR);
    expect((await ask({ method: 'GET', path: '/api/v1/watch?host=nodeX' }, { pair: forged })).status).toBe(
      401,
    );
  });
});

describe('the port', () => {
  it('speaks TLS 1.3 and nothing older', async () => {
    const refused = new Promise((done) => {
      const socket = tls.connect({
        port: api.port,
        host: '127.0.0.1',
        maxVersion: 'TLSv1.2',
        rejectUnauthorized: false,
      });
      socket.on('error', (error: NodeJS.ErrnoException) => done(error.code));
      socket.on('secureConnect', () => done('connected'));
    });
    expect(await refused).toBe('ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION');
  });

  it('ends what is no TLS, and answers others meanwhile', async () => {
    const garbage = [
      'GET / HTTP/1.1\r\nHost: x\r\n\r\n',
      '\x00'.repeat(5000),
      '\x16\x03\x01\xff\xff'.repeat(400),
    ];
    const ended = garbage.map(
      (text) =>
        new Promise<void>((done) => {
          const socket = net.connect(api.port, '127.0.0.1', () => socket.write(text, 'latin1'));
          socket.resume();
          socket.on('error', () => {});
          socket.on('close', () => done());
        }),
    );
    await Promise.all(ended);
    expect((await ask({ method: 'GET', path: '/version' })).status).toBe(200);
  });

  it('answers others while hundreds have begun to greet and go no further', async () => {
    const slow = Array.from({ length: 300 }, () => {
      const socket = net.connect(api.port, '127.0.0.1', () => socket.write('\x16\x03\x01\x02\x00', 'latin1'));
      socket.on('error', () => {});
      return socket;
    });
    await Promise.all(slow.map((socket) => new Promise((done) => socket.once('connect', done))));
    expect((await ask({ method: 'GET', path: '/version' })).status).toBe(200);
    for (const socket of slow) socket.destroy();
  });

  it('ends who does not greet in time', async () => {
    const socket = net.connect(api.port, '127.0.0.1').resume();
    await new Promise((done) => socket.once('close', done));
  }, 60_000);

  it('closes at once while somebody has not greeted', async () => {
    const other = await openSecured();
    const taken = new Promise((done) => other.api.server.server.once('connection', done));
    const socket = net.connect(other.api.port, '127.0.0.1').resume();
    const ended = new Promise((done) => socket.once('close', done));
    await taken;
    await other.close();
    await ended;
  }, 60_000);

  it('greets two hundred at once', async () => {
    const pair = pairs.get('reader');
    const answers = await Promise.all(
      Array.from({ length: 200 }, () => ask({ method: 'GET', path: '/api/v1/tenants' }, { pair })),
    );
    expect(answers.map(({ status }) => status)).toEqual(Array(200).fill(200));
  }, 60_000);
});

describe('a client says in one line what is wrong with', () => {
  const told = async (credentials: Credentials, host = 'localhost', port = api.port): Promise<string> => {
    const client = connect({ urls: [`https://${host}:${port}`], credentials: () => credentials });
    return client.call('version').then(
      () => 'answered',
      (error: Error) => error.message,
    );
  };
  /** A server with another certificate. */
  async function serverWith(pair: Pair): Promise<number> {
    const server = https.createServer({ cert: pair.certificate, key: pair.key }, (_, response) =>
      response.end('{}'),
    );
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    servers.push(server);
    return (server.address() as net.AddressInfo).port;
  }
  const servers: https.Server[] = [];
  afterAll(() => {
    for (const server of servers) server.close();
  });

  it('an authority that it does not know', async () => {
    expect(await told({})).toContain('not of an authority that is believed here');
    expect(await told({ authority: (await makeAuthority()).certificate })).toContain('not of an authority');
  });
  it('a name', async () => {
    const names = ['other.example'];
    const port = await serverWith(await issuePair(authority, { role: 'netmaster', name: 'o', names }, HOUR));
    expect(await told(credentialsOf(undefined), 'localhost', port)).toContain(
      'its certificate is for other names',
    );
  });
  it('the time', async () => {
    const names = ['localhost'];
    const pair = await issuePair(authority, { role: 'netmaster', name: 'o', names }, -1000);
    expect(await told(credentialsOf(undefined), 'localhost', await serverWith(pair))).toContain('has ended');
  });
  it('a port that speaks no TLS', async () => {
    const plain = net.createServer((socket) => socket.end('HTTP/1.1 400 Bad\r\n\r\n'));
    await new Promise<void>((done) => plain.listen(0, '127.0.0.1', done));
    const { port } = plain.address() as net.AddressInfo;
    expect(await told(credentialsOf(undefined), '127.0.0.1', port)).toContain('does not speak TLS');
    plain.close();
  });
  it('a token that would go in the clear', async () => {
    const client = connect({
      urls: [`http://127.0.0.1:${api.port}`],
      credentials: () => ({ token: 'api.x' }),
    });
    await expect(client.call('version')).rejects.toThrow('a token goes by https:// only');
  });
});
