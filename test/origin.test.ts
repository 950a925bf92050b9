/** What browsers send for pages that are not netmaster's, and what its clients send. */
import http from 'node:http';
import os from 'node:os';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Api, judge, openApi } from './apiServer.ts';

let api: Api;
beforeAll(async () => {
  api = await openApi();
});
afterAll(() => api.close());

type Headers = Readonly<Record<string, string>>;
const own = (): string => `127.0.0.1:${api.port}`;

/** With exactly these headers beside the body's length. */
function ask(method: string, path: string, headers: Headers, body?: string) {
  return new Promise<ReturnType<typeof judge>>((done, fail) => {
    const options = { port: api.port, host: '127.0.0.1', method, path, headers, setDefaultHeaders: false };
    const request = http.request(options, async (response) => {
      let text = '';
      for await (const chunk of response.setEncoding('utf8')) text += chunk;
      done(judge(response.statusCode ?? 0, text, `${method} ${path}`));
    });
    request.on('error', fail);
    if (body !== undefined) request.setHeader('content-length', Buffer.byteLength(body));
    request.setHeader('connection', 'close');
    request.end(body);
  });
}

/** Refused, and nothing has changed. */
async function refused(status: number, [method, path, headers, body]: Parameters<typeof ask>) {
  const before = api.mirror.revision;
  const answer = await ask(method, path, headers, body);
  expect(answer, `${method} ${path} ${JSON.stringify(headers)}`).toMatchObject({ status });
  expect(api.mirror.revision).toBe(before);
  return answer.message;
}

const TENANT = '/api/v1/tenants/evil/';
const BODY = '{"tenantName":"evil"}';
const READS = ['/api/v1/export', '/api/v1/tenants/', '/metrics', '/healthz', '/openapi.json', '/nowhere'];

it('a page of another server writes nothing, whatever the content type and the body', async () => {
  for (const origin of [
    'http://evil.example',
    'https://evil.example:9999',
    'http://127.0.0.1:1',
    'null',
    '',
    'x',
  ])
    for (const type of ['text/plain', 'application/json', 'application/x-www-form-urlencoded']) {
      const headers = { host: own(), origin, 'content-type': type };
      await refused(403, ['POST', TENANT, headers, BODY]);
      await refused(403, ['PUT', '/api/v1/networks/default:evil/', headers, '{"subnet":"10.1.1.0/24"}']);
      await refused(403, ['DELETE', '/api/v1/tenants/default/', headers]);
      await refused(403, ['POST', TENANT, headers]);
    }
  const preflight = { host: own(), origin: 'http://evil.example', 'access-control-request-method': 'PUT' };
  expect(await refused(403, ['OPTIONS', TENANT, preflight])).toBe(
    `OPTIONS ${TENANT}: origin 'http://evil.example' is not netmaster's, and it answers no page of another server`,
  );
});

it('after a request that was right, others by the same host are judged as before', async () => {
  const rest = '/api/v1/tenants/';
  for (let i = 0; i < 2; i++) {
    expect(await ask('GET', rest, { host: own() })).toMatchObject({ status: 200 });
    await refused(403, ['GET', rest, { host: own(), origin: 'http://evil.example' }]);
    await refused(403, ['GET', rest, { host: own(), 'sec-fetch-site': 'cross-site' }]);
    await refused(421, ['GET', rest, { host: 'evil.example' }]);
    await refused(421, ['GET', `http://evil.example${rest}`, { host: own() }]);
  }
});

it('a page of another server reads nothing, nor opens a watch', async () => {
  for (const path of [...READS, '/api/v1/watch']) {
    await refused(403, ['GET', path, { host: own(), origin: 'http://evil.example' }]);
    for (const site of ['cross-site', 'same-site'])
      await refused(403, ['GET', path, { host: own(), 'sec-fetch-site': site }]);
  }
});

it('a name that was made to lead to netmaster is told nothing', async () => {
  const foreign = [
    'evil.example',
    `evil.example:${api.port}`,
    'localhost.evil.example',
    '203.0.113.9',
    '[2001:db8::9]:80',
  ];
  for (const host of [...foreign, 'evil.example@127.0.0.1', '127.0.0.1.evil.example', '127.0.0.1/', ''])
    for (const path of [...READS, '/api/v1/watch']) await refused(421, ['GET', path, { host }]);
  await refused(421, ['POST', TENANT, { host: 'evil.example', origin: 'http://evil.example' }, BODY]);
  // A target that names another than Host does: it is the one that counts (RFC 9112 3.2.2).
  await refused(421, ['GET', 'http://evil.example/api/v1/export', { host: own() }]);
  expect(await refused(421, ['GET', '/api/v1/export', { host: 'evil.example' }])).toBe(
    `GET /api/v1/export: host 'evil.example' is not netmaster's, and browsers may have been led here: ask by its address, or start netmaster with --name`,
  );
});

it('its addresses, the host name and what --name says are its own, with any port', async () => {
  const addresses = Object.values(os.networkInterfaces()).flatMap((all) => all ?? []);
  const hosts = addresses
    .filter(({ address }) => !address.startsWith('fe80:'))
    .map(({ address, family }) => (family === 'IPv6' ? `[${address}]` : address));
  for (const host of [
    ...hosts,
    '[::1]',
    '127.9.9.9',
    'localhost',
    'LocalHost.',
    os.hostname(),
    'netmaster',
    'netmaster.example',
    '192.0.2.7',
  ])
    for (const port of ['', `:${api.port}`, ':80'])
      expect(await ask('GET', '/api/v1/tenants/', { host: host + port }), host).toMatchObject({
        status: 200,
      });
  expect(await ask('GET', `http://${own()}/api/v1/tenants/`, { host: own() })).toMatchObject({ status: 200 });
});

it('its own page writes JSON, and nothing that a form could send', async () => {
  const origin = `http://${own()}`;
  for (const type of ['text/plain', 'text/plain;application/json', 'application/jsonp', '']) {
    const headers = { host: own(), origin, 'content-type': type };
    expect(await refused(415, ['POST', TENANT, headers, BODY])).toContain('must be application/json');
  }
  const json = { host: own(), origin, 'content-type': 'application/json; charset=utf-8' };
  expect(await ask('POST', TENANT, json, BODY)).toMatchObject({ status: 200 });
  expect(await ask('DELETE', TENANT, { host: own(), origin })).toMatchObject({ status: 200 });
  expect(
    await ask('GET', '/api/v1/export', { host: own(), origin: `http://localhost:${api.port}` }),
  ).toMatchObject({
    status: 200,
  });
});

it('what 1.x clients and curl send is taken: no content type or a form’s, no Origin', async () => {
  const types: Headers[] = [
    {},
    { 'content-type': 'application/x-www-form-urlencoded' },
    { 'content-type': 'text/plain' },
  ];
  for (const type of types) {
    expect(await ask('POST', TENANT, { host: own(), ...type }, BODY)).toMatchObject({ status: 200 });
    expect(await ask('DELETE', TENANT, { host: own(), ...type })).toMatchObject({ status: 200 });
  }
});
