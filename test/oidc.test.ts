/** People of an OpenID provider: a real one, over HTTPS, from `netctl login --oidc` to what they may do. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { netctl } from '../src/netctl/run.ts';
import { openProvider } from '../src/netmaster/oidc.ts';
import { type ProviderOptions, readProvider, rightsOfGroups } from '../src/netmaster/oidcOptions.ts';
import type { Device } from '../src/protocol/login.ts';
import { makeAuthority, type Pair } from '../src/tls/certificates.ts';
import { temporaryFolder } from './folder.ts';
import { CLIENT, type OpenidProvider, openOpenidProvider, type ProviderChanges } from './openidProvider.ts';
import { openSecured, type Secured } from './secured.ts';

let provider: OpenidProvider;
let secured: Secured;

const optionsFor = ({ issuer }: OpenidProvider, authority: Pair): ProviderOptions => ({
  issuer,
  ...CLIENT,
  ca: authority.certificate,
  scopes: 'openid profile groups',
  nameClaim: 'preferred_username',
  groupsClaim: 'groups',
  roles: [
    { group: 'netadmins', asked: { role: 'admin' } },
    { group: 'team blue', asked: { role: 'operator', tenants: ['blue', 'gone'] } },
    { group: 'team red', asked: { role: 'operator', tenants: ['red'] } },
    { group: 'gone', asked: { role: 'operator', tenants: ['gone'] } },
  ],
});

beforeAll(async () => {
  secured = await openSecured(async (authority) => {
    provider = await openOpenidProvider(authority);
    return { login: { life: 3_600_000, provider: optionsFor(provider, authority), clock: () => 0 } };
  });
  provider.accounts.set('sub-1', { preferred_username: 'alice', groups: ['team blue', 'other'] });
  provider.accounts.set('sub-2', { preferred_username: 'bob', groups: ['cooks', 'bakers'] });
  provider.accounts.set('sub-3', { preferred_username: 'carol' });
  provider.accounts.set('sub-4', { preferred_username: 'dave', groups: ['gone'] });
  const admin = secured.clientOf(secured.admin);
  for (const tenantName of ['blue', 'red'])
    await admin.call('post', { collection: 'tenants', key: tenantName }, { tenantName });
  admin.close();
});
afterAll(async () => {
  await secured.close();
  await provider.close();
});

const ask = async (path: string, body?: unknown) => {
  const { status, text } = await secured.ask({ method: 'POST', path: `/api/v1/${path}` }, { body });
  return { status, answer: JSON.parse(text), message: JSON.parse(text).error?.message as string };
};
const begin = async (): Promise<Device> => (await ask('login/device')).answer;
async function loginAs(subject: string) {
  const { deviceCode, complete = '' } = await begin();
  expect((await ask('login/device/end', { deviceCode })).answer).toEqual({});
  await provider.decide(complete, subject);
  return { deviceCode, ...(await ask('login/device/end', { deviceCode })) };
}

describe('a person of the provider', () => {
  it('is let in by the groups, in the tenants that there are of theirs, and shown as one of the provider', async () => {
    const { answer } = await loginAs('sub-1');
    expect(answer).toEqual({
      session: {
        token: expect.stringMatching(/^session\./),
        whom: 'operator oidc:alice',
        expires: expect.any(String),
      },
    });
    const { token } = answer.session;
    const who = await secured.ask({ method: 'GET', path: '/api/v1/whoami' }, { token });
    expect(JSON.parse(who.text)).toMatchObject({ name: 'oidc:alice', tenants: ['blue'], shown: 'session' });
    const { text } = await secured.ask({ method: 'GET', path: '/api/v1/events?kind=access' }, { token });
    expect(JSON.parse(text)).toEqual([]);
    const all = secured.clientOf(secured.admin);
    expect((await all.call('events', { kind: 'access' })).body.at(-1)).toMatchObject({
      action: 'login',
      key: 'oidc:alice',
      text: expect.stringMatching(/^operator of blue, until .*, subject sub-1$/),
    });
    all.close();
  });

  it('gets one session by a code', async () => {
    const { deviceCode } = await loginAs('sub-1');
    const again = await ask('login/device/end', { deviceCode });
    expect(again.status).toBe(401);
    expect(again.message).toMatch(/the code has ended, was used, or is none of its own/);
  });

  it.each([
    [
      'is of no group with a role',
      'sub-2',
      403,
      /oidc:bob is of groups cooks, bakers, none of which has a role here/,
    ],
    ['is of no groups at all', 'sub-3', 403, /its ID token for carol has no groups, claim groups/],
    [
      'has rights in tenants that are not there',
      'sub-4',
      404,
      /tenants names tenant gone, which does not exist/,
    ],
    ['says no there', 'abort', 403, /the login was refused there/],
  ])('is told in one line who %s', async (_, subject, status, line) => {
    const told = await loginAs(subject);
    expect(told.status).toBe(status);
    expect(told.message).toMatch(line);
    expect(told.message).toMatch(/^[^\n]{20,300}$/);
  });

  it('is not let in by a code that nobody gave', async () => {
    expect((await ask('login/device/end', { deviceCode: 'x'.repeat(43) })).status).toBe(401);
    expect((await ask('login/device/end', {})).status).toBe(400);
  });

  it('is not asked for by whoever asks too often', async () => {
    const from = '127.0.0.9';
    const line = { method: 'POST', path: '/api/v1/login/device/end' };
    const body = { deviceCode: 'x' };
    const answers = await Promise.all(Array.from({ length: 90 }, () => secured.ask(line, { body, from })));
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(30);
  });
});

it('netctl shows what to open, waits for it, and is logged in', async () => {
  const home = temporaryFolder();
  const authority = path.join(home, 'authority');
  writeFileSync(authority, secured.authority.certificate);
  const printed: string[] = [];
  const problems: string[] = [];
  const run = (...words: string[]) =>
    netctl(words, {
      env: { HOME: home, NETMASTER: `https://localhost:${secured.api.port}`, NETCTL_TLS_CA: authority },
      print: (line) => {
        printed.push(line);
        const [, url] =
          /^Open (\S+) in a browser, and look whether it shows [A-Z]{4}-[A-Z]{4}$/.exec(line) ?? [];
        if (url !== undefined) void provider.decide(url, 'sub-1');
      },
      printError: (line) => problems.push(line),
    });
  expect([await run('login', '--oidc'), problems]).toEqual([0, []]);
  expect(printed.at(-1)).toMatch(/^Logged in as operator oidc:alice, until /);
  await run('whoami');
  expect(printed.at(-1)).toMatch(
    /^operator oidc:alice, by session until \S+: may read and change what is of tenant blue$/,
  );
  expect(await run('user', 'ls')).toBe(3);
  expect(problems.at(-1)).toMatch(/operator oidc:alice may not ask this/);
  await run('logout');
  expect(printed.at(-1)).toBe('Logged out');
});

describe('what is wrong with the provider is one line that says what to do', () => {
  async function told(
    change: (options: ProviderOptions) => Partial<ProviderOptions> = (options) => options,
    how: ProviderChanges = {},
    subject = 'sub-1',
  ): Promise<string> {
    const authority = await makeAuthority();
    const other = await openOpenidProvider(authority, how);
    other.accounts.set('sub-1', { groups: ['netadmins'] });
    const options = optionsFor(other, authority);
    const asked = openProvider({ ...options, ...change(options) });
    try {
      const { deviceCode, complete = '' } = await asked.begin();
      await other.decide(complete, subject);
      const person = await asked.end(deviceCode);
      return JSON.stringify(person);
    } catch (error) {
      expect((error as Error).message).toMatch(/^OpenID provider https:[^\n]{20,300}$/);
      return (error as Error).message;
    } finally {
      await other.close();
    }
  }

  it('and nothing where nothing is', async () => {
    expect(await told()).toContain('"subject":"sub-1"');
  });
  it('its certificate', async () => {
    expect(await told(() => ({ ca: secured.authority.certificate }))).toMatch(
      /does not hold here.*--oidc-ca/,
    );
    expect(await told(undefined, { names: ['other.example'] })).toMatch(/does not hold here/);
  });
  it('its name', async () => {
    const calls = 'https://sso.example.com';
    expect(await told(undefined, { calls })).toMatch(
      /calls itself https:\/\/sso\.example\.com: --oidc-issuer must be the same/,
    );
  });
  it('that nothing is there', async () => {
    expect(await told(() => ({ issuer: 'https://127.0.0.1:1' }))).toMatch(
      /cannot be reached from netmaster: ECONNREFUSED/,
    );
  });
  it('the client', async () => {
    expect(await told(() => ({ client: 'somebody' }))).toMatch(/does not take netmaster for client somebody/);
    expect(await told(() => ({ secret: 'wrong' }))).toMatch(/--oidc-client, --oidc-secret-file/);
  });
  it('the device flow', async () => {
    const more = {
      features: { deviceFlow: { enabled: false }, devInteractions: { enabled: true } },
      clients: [],
    };
    expect(await told(undefined, { more })).toMatch(/does not say where its device flow is/);
  });
  it('the clock', async () => {
    // Two hours pass while the token is on its way.
    vi.useFakeTimers({ toFake: ['Date'] });
    const alter = (token: string): string => {
      vi.setSystemTime((vi.getMockedSystemTime()?.getTime() ?? 0) + 2 * 3_600_000);
      return token;
    };
    try {
      expect(await told(undefined, { alter })).toMatch(
        /does not hold at this time, .*: the clock of netmaster's machine/,
      );
    } finally {
      vi.useRealTimers();
    }
  });

  /** What the token says is another thing than what was signed. */
  const saying = (claims: object, header?: object) => (token: string) => {
    const [head, payload, signature] = token.split('.') as [string, string, string];
    const changed = (part: string, by: object | undefined): string =>
      by === undefined
        ? part
        : Buffer.from(
            JSON.stringify({ ...JSON.parse(Buffer.from(part, 'base64url').toString()), ...by }),
          ).toString('base64url');
    return `${changed(head, header)}.${changed(payload, claims)}.${signature}`;
  };
  it.each([
    ['says another person than was signed', saying({ sub: 'somebody else' })],
    ['is signed by nothing', saying({ sub: 'somebody else' }, { alg: 'none' })],
    ['is signed by what everybody has', saying({ sub: 'somebody else' }, { alg: 'HS256' })],
    ["is signed by a key that is not the provider's", saying({}, { kid: 'other' })],
    ['is for another client', saying({ aud: 'other' })],
    ['is of another issuer', saying({ iss: 'https://other.example' })],
  ])('an ID token that %s', async (_, alter) => {
    expect(await told(undefined, { alter })).toMatch(/is not for netmaster|is no OpenID Connect/);
  });
});

describe('flags', () => {
  const read = (more: object) =>
    readProvider({
      'oidc-issuer': 'https://sso.example.com',
      'oidc-client': 'c',
      'oidc-role': ['a=admin'],
      ...more,
    });
  it("say what a group may do, the first that is a person's with others of its role", () => {
    const { roles = [] } =
      read({ 'oidc-role': ['cn=net,dc=x=admin', 'b=operator:blue', 'r=reader', 'c=operator:red,blue'] }) ??
      {};
    expect(roles[0]).toEqual({ group: 'cn=net,dc=x', asked: { role: 'admin' } });
    expect(rightsOfGroups(roles, ['b', 'cn=net,dc=x'])).toEqual({ role: 'admin' });
    expect(rightsOfGroups(roles, ['c', 'b', 'r'])).toEqual({ role: 'operator', tenants: ['blue', 'red'] });
    expect(rightsOfGroups(roles, ['r'])).toEqual({ role: 'reader' });
    expect(rightsOfGroups(roles, ['R', '', 'cn=net'])).toBeUndefined();
  });
  it.each([
    [{ 'oidc-issuer': undefined }, '--oidc-client: --oidc-issuer is missing'],
    [{ 'oidc-issuer': 'http://sso.example.com' }, "--oidc-issuer: 'http://sso.example.com' must be"],
    [{ 'oidc-client': undefined }, '--oidc-client is missing'],
    [{ 'oidc-role': [] }, '--oidc-role is missing'],
    [{ 'oidc-role': ['a'] }, "--oidc-role: 'a' must be"],
    [{ 'oidc-role': ['a=operator'] }, 'tenants is missing'],
    [{ 'oidc-role': ['a=operator:,'] }, 'names no tenant'],
    [{ 'oidc-role': ['a=admin:blue'] }, 'tenants do not go with role admin'],
    [{ 'oidc-scopes': 'profile' }, 'must have openid'],
    [{ 'oidc-ca': '/nosuch' }, 'there is no such file'],
  ])('%j are refused', (more, line) => {
    expect(() => read(more)).toThrow(line);
  });
});
