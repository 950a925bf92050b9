/** Users with passwords and their sessions, over TLS as it is, by the API and by netctl; and what somebody tries who is none of them. */
import { argon2Sync } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Client, connect } from '../src/client/client.ts';
import { netctl } from '../src/netctl/run.ts';
import { openSecrets } from '../src/netctl/secret.ts';
import { openAttempts } from '../src/netmaster/attempts.ts';
import { storeKey } from '../src/netmaster/mirror.ts';
import { hashPassword, isPassword } from '../src/netmaster/passwords.ts';
import { SESSIONS } from '../src/netmaster/sessions.ts';
import type { Token } from '../src/netmaster/tokens.ts';
import { openApi } from './apiServer.ts';
import { temporaryFolder } from './folder.ts';
import { type Asked, openSecured, type Secured } from './secured.ts';

const PASSWORD = 'correct horse battery';
const LIFE = 3_600_000;
let secured: Secured;
let admin: Client;
/** Attempts are counted by it: it goes on when a test says so. */
let time = 0;

beforeAll(async () => {
  secured = await openSecured(() => ({ login: { life: LIFE, clock: () => time } }));
  admin = secured.clientOf(secured.admin);
  for (const tenantName of ['blue', 'red'])
    await admin.call('post', { collection: 'tenants', key: tenantName }, { tenantName });
});
afterAll(async () => {
  admin.close();
  await secured.close();
});

/** Everybody asks from an address of his own: wrong passwords of one test are not another's. */
let places = 10;
const place = (): string => `127.0.1.${places++}`;
const login = (name: string, password: unknown, from = place()): Promise<Asked> =>
  secured.ask({ method: 'POST', path: '/api/v1/login' }, { body: { name, password }, from });
async function user(name: string, role: 'reader' | 'operator' | 'admin' = 'reader', tenants?: string[]) {
  await admin.call('userCreate', {}, { name, role, password: PASSWORD, ...(tenants && { tenants }) });
}
async function session(name: string, password = PASSWORD): Promise<string> {
  const { status, text } = await login(name, password);
  expect(status, text).toBe(200);
  return JSON.parse(text).token;
}
const whoami = (token: string): Promise<Asked> =>
  secured.ask({ method: 'GET', path: '/api/v1/whoami' }, { token });
const accesses = async () => (await admin.call('events', { kind: 'access' })).body;

describe('a user', () => {
  it('logs in by the password, may do what is said of the user, and logs out', async () => {
    await user('alice', 'operator', ['blue']);
    const token = await session('alice');
    expect(JSON.parse((await whoami(token)).text)).toEqual({
      role: 'operator',
      name: 'alice',
      tenants: ['blue'],
      shown: 'session',
      expires: expect.any(String),
    });
    const put = (tenantName: string): Promise<Asked> =>
      secured.ask(
        { method: 'POST', path: `/api/v1/policys/${tenantName}:p` },
        { token, body: { tenantName, policyName: 'p' } },
      );
    expect((await put('blue')).status).toBe(200);
    expect((await put('red')).status).toBe(403);
    expect((await admin.call('users')).body).toContainEqual({
      name: 'alice',
      role: 'operator',
      tenants: ['blue'],
      since: expect.any(String),
      sessions: 1,
    });
    expect((await admin.call('tokens')).body).toContainEqual(
      expect.objectContaining({ name: 'alice', session: true }),
    );
    const out = await secured.ask({ method: 'DELETE', path: '/api/v1/session' }, { token });
    expect(out.status).toBe(204);
    expect(await whoami(token)).toMatchObject({ status: 401, text: expect.stringMatching(/log in again/) });
    expect((await accesses()).slice(-2)).toMatchObject([
      { action: 'login', key: 'alice', text: expect.stringMatching(/^operator of blue, until /) },
      { action: 'logout', key: 'alice', by: 'operator alice' },
    ]);
  });

  it('is told when the session has ended, and what is followed by it ends too', async () => {
    const short = await openSecured(() => ({ login: { life: 1500 } }));
    const operator = short.clientOf(short.admin);
    await operator.call('userCreate', {}, { name: 'brief', role: 'reader', password: PASSWORD });
    const body = { name: 'brief', password: PASSWORD };
    const { text } = await short.ask({ method: 'POST', path: '/api/v1/login' }, { body });
    const client = short.clientOf({ authority: short.authority.certificate, token: JSON.parse(text).token });
    await expect(
      (async () => {
        for await (const _ of client.watch({}));
      })(),
    ).rejects.toThrow(/broke off|has ended/);
    await expect(client.call('whoami')).rejects.toThrow(/^session \w+: has ended .*netctl login/);
    client.close();
    operator.close();
    await short.close();
  });

  it('has no session any more that was got by an old password, or before the user was removed', async () => {
    await user('bob');
    const [first, second] = [await session('bob'), await session('bob')];
    const [id = ''] = [first.split('.')[1]];
    const kept = secured.api.mirror.get<Token>('token', id);
    const own = { method: 'PUT', path: '/api/v1/session/password' };
    const changed = 'another long password';
    const wrong = await secured.ask(own, {
      token: first,
      body: { current: 'x', password: changed },
      from: place(),
    });
    expect(wrong.status).toBe(401);
    const right = await secured.ask(own, { token: first, body: { current: PASSWORD, password: changed } });
    expect(right.status).toBe(204);
    for (const token of [first, second]) expect((await whoami(token)).status).toBe(401);
    expect((await login('bob', PASSWORD)).status).toBe(401);
    // One that another netmaster began at the same moment by the old one, and that was not there to be ended.
    await secured.api.writer.write(() => ({
      checks: [],
      writes: [{ key: storeKey('token', id), value: kept }],
      answer: undefined,
    }));
    expect((await whoami(first)).status).toBe(401);
    const third = await session('bob', changed);
    await admin.call('userPassword', { name: 'bob' }, { password: PASSWORD });
    expect((await whoami(third)).status).toBe(401);
    const fourth = await session('bob');
    await admin.call('userRemove', { name: 'bob' });
    expect((await whoami(fourth)).status).toBe(401);
    await user('bob', 'admin');
    expect((await whoami(fourth)).status).toBe(401);
  });

  it('has so many sessions at once, and loses the oldest', async () => {
    await user('many');
    const tokens: string[] = [];
    for (let i = 0; i <= SESSIONS; i++) tokens.push(await session('many'));
    expect((await whoami(tokens[0] as string)).status).toBe(401);
    expect((await whoami(tokens[1] as string)).status).toBe(200);
    expect((await whoami(tokens.at(-1) as string)).status).toBe(200);
  });

  it('keeps the tenants that it is for', async () => {
    await user('keeper', 'reader', ['red']);
    await expect(admin.call('delete', { collection: 'tenants', key: 'red' })).rejects.toThrow(
      /in use by user keeper/,
    );
    await admin.call('userRemove', { name: 'keeper' });
  });

  it.each([
    [{ name: 'x', role: 'reader', password: 'short' }, /password/],
    [{ name: 'longname', role: 'reader', password: 'LongName1234' }, /password must not be the name/],
    [{ name: 'x', role: 'operator', password: PASSWORD }, /tenants is missing/],
    [
      { name: 'x', role: 'admin', tenants: ['blue'], password: PASSWORD },
      /tenants do not go with role admin/,
    ],
    [
      { name: 'x', role: 'reader', tenants: ['nosuch'], password: PASSWORD },
      /tenant nosuch, which does not exist/,
    ],
    [{ name: 'oidc:x', role: 'reader', password: PASSWORD }, /name/],
    [{ name: 'alice', role: 'admin', password: PASSWORD }, /is there already/],
  ])('as %j is not made', async (body, line) => {
    await expect(admin.call('userCreate', {}, body as never)).rejects.toThrow(line);
  });

  it('is nobody where netmaster has no certificates', async () => {
    const open = await openApi();
    const body = { name: 'alice', password: PASSWORD };
    expect(await open.send('POST', '/api/v1/login', body)).toMatchObject({ status: 409 });
    expect(await open.send('POST', '/api/v1/users', { ...body, role: 'admin' })).toMatchObject({
      status: 409,
    });
    expect(await open.send('POST', '/api/v1/login/device')).toMatchObject({ status: 409 });
    await open.close();
  });
});

describe('who guesses', () => {
  beforeAll(() => user('carol', 'admin'));

  it('is told the same whether or not there is such a user; what was typed as a name is kept nowhere', async () => {
    const before = (await accesses()).length;
    const answers = [await login('carol', 'wrong password'), await login('MyPassw0rd', 'wrong password')];
    expect(answers.map(({ status }) => status)).toEqual([401, 401]);
    expect(answers[0]?.text).toBe(answers[1]?.text);
    const events = (await accesses()).slice(before);
    expect(events.map(({ action, key, text, from }) => [action, key, text, from])).toEqual([
      ['refused', 'carol', 'wrong password', expect.stringMatching(/^127\.0\.1\./)],
      ['refused', undefined, 'no such user', expect.stringMatching(/^127\.0\.1\./)],
    ]);
    const { entries } = await secured.api.store.list('');
    expect(JSON.stringify(entries)).not.toMatch(/MyPassw0rd|wrong password"?,"?x|correct horse/);
  });

  it('has ten attempts from an address, at once or one by one, and then no right one either', async () => {
    const from = place();
    const answers = await Promise.all(
      Array.from({ length: 30 }, (_, i) => login('carol', `guess ${i}`, from)),
    );
    const count = (status: number): number => answers.filter((answer) => answer.status === status).length;
    expect([count(401), count(429)]).toEqual([10, 20]);
    const right = await login('carol', PASSWORD, from);
    expect(right).toMatchObject({
      status: 429,
      text: expect.stringMatching(/too many attempts: again in \d+ s/),
    });
    await session('carol'); // from elsewhere
    time += 10_000;
    expect((await login('carol', 'guess', from)).status).toBe(401);
    expect((await login('carol', PASSWORD, from)).status).toBe(429);
    time += 10_000;
    expect((await login('carol', PASSWORD, from)).status).toBe(200);
  });

  it('has twenty at a name from many addresses', async () => {
    await user('dora');
    const statuses = [];
    for (let i = 0; i < 22; i++) statuses.push((await login('dora', `guess ${i}`)).status);
    expect(statuses).toEqual([...Array(20).fill(401), 429, 429]);
  });

  it('gets no session out of a token, nor a token out of a session, nor out of an id', async () => {
    const [, id, secret] = (await session('carol')).split('.');
    for (const token of [`api.${id}.${secret}`, `session.${id}.${'A'.repeat(43)}`, `join.${id}.${secret}`])
      expect((await whoami(token)).status, token).toBe(401);
    const api = await secured.tokenFor('admin');
    expect((await whoami(api.replace('api', 'session'))).status).toBe(401);
    const own = { method: 'PUT', path: '/api/v1/session/password' };
    const body = { current: PASSWORD, password: PASSWORD };
    expect((await secured.ask(own, { token: api, body })).status).toBe(409);
    expect((await secured.ask({ method: 'DELETE', path: '/api/v1/session' }, { token: api })).status).toBe(
      409,
    );
  });

  it('costs memory for a few passwords at a time, of users that there are not too', async () => {
    const outcomes = await Promise.allSettled(Array.from({ length: 40 }, () => isPassword('x', undefined)));
    expect(outcomes.filter(({ status }) => status === 'rejected')).toHaveLength(8);
    expect(outcomes.every((o) => o.status === 'rejected' || !o.value)).toBe(true);
  });
});

it('attempts come back one by one, and what was right is given back', () => {
  let now = 0;
  const attempts = openAttempts({ burst: 2, every: 1000 }, () => now);
  expect([attempts.take('a'), attempts.take('a'), attempts.take('a'), attempts.take('b')]).toEqual([
    0, 0, 1000, 0,
  ]);
  now = 999;
  expect(attempts.take('a')).toBe(1);
  attempts.giveBack('a');
  expect([attempts.take('a'), attempts.take('a')]).toEqual([0, 1]);
  now = 5000;
  expect([attempts.take('a'), attempts.take('a'), attempts.take('a')]).toEqual([0, 0, 1000]);
});

it('a password is kept by its hash, which says how it was made, and is the same however it is composed', async () => {
  const kept = await hashPassword('caf\u00e9 au lait, grand');
  expect(kept).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$[\w+/]{22}\$[\w+/]{43}$/);
  expect(await isPassword('cafe\u0301 au lait, grand', kept)).toBe(true);
  expect(await isPassword('cafe au lait, grand', kept)).toBe(false);
  // Made at another cost: by an earlier netmaster, or a later one.
  const salt = Buffer.from('another salt');
  const hash = argon2Sync('argon2id', {
    message: 'password',
    nonce: salt,
    memory: 8192,
    passes: 3,
    parallelism: 2,
    tagLength: 24,
  });
  const other = `$argon2id$v=19$m=8192,t=3,p=2$${salt.toString('base64')}$${hash.toString('base64')}`;
  expect(await isPassword('password', other)).toBe(true);
  expect(await isPassword('Password', other)).toBe(false);
});

describe('netctl', () => {
  interface Run {
    readonly exit: number;
    readonly out: string[];
    readonly err: string[];
  }
  const run = async (line: string, home: string, answers: string[] = [], env: object = {}): Promise<Run> => {
    const [out, err]: [string[], string[]] = [[], []];
    const exit = await netctl(line.split(' '), {
      env: {
        HOME: home,
        NETMASTER: `https://localhost:${secured.api.port}`,
        NETCTL_TLS_CA: path.join(home, 'authority'),
        ...env,
      },
      print: (text) => out.push(text),
      printError: (text) => err.push(text),
      secret: async () => answers.shift() ?? '',
    });
    return { exit, out, err };
  };
  /** Of somebody who has been told whom to believe. */
  function home(): string {
    const folder = temporaryFolder();
    writeFileSync(path.join(folder, 'authority'), secured.authority.certificate);
    return folder;
  }
  function adminHome(): [home: string, env: object] {
    const folder = home();
    for (const [file, text] of [
      ['crt', secured.admin.certificate],
      ['key', secured.admin.key],
    ])
      writeFileSync(path.join(folder, `admin.${file}`), text ?? '');
    return [
      folder,
      { NETCTL_TLS_CERT: path.join(folder, 'admin.crt'), NETCTL_TLS_KEY: path.join(folder, 'admin.key') },
    ];
  }

  it('makes users, lists them, sets passwords, removes them', async () => {
    const [folder, env] = adminHome();
    const created = await run('user create --role=operator --tenant=blue,red erin', folder, [PASSWORD], env);
    expect(created).toEqual({ exit: 0, out: ['Creating user erin'], err: [] });
    const { out } = await run('user ls', folder, [], env);
    expect(out.join('\n')).toMatch(/erin +operator +blue,red +20\S+Z +0/);
    expect((await run('user passwd erin', folder, ['quite another one'], env)).exit).toBe(0);
    expect((await run('user rm erin', folder, [], env)).out).toEqual(['Deleting user erin']);
    expect((await run('user rm erin', folder, [], env)).err).toEqual([
      'netctl: user erin does not exist (netctl user ls)',
    ]);
    expect((await run('user create --tenant=nosuch x', folder, [PASSWORD], env)).err[0]).toMatch(
      /--tenant names tenant nosuch, which does not exist/,
    );
    expect((await run('user create x', folder, ['short'], env)).err[0]).toMatch(/^netctl: .*password/);
    expect((await run('user create x', folder, [], env)).err[0]).toMatch(/the password is empty/);
  });

  it('logs in, keeps the session for its owner alone, and goes on without flags; then logs out', async () => {
    await user('frank', 'operator', ['blue']);
    const folder = home();
    expect((await run('tenant ls', folder)).err[0]).toMatch(/needs a certificate or a token \(netctl login/);
    expect((await run('login frank', folder, ['wrong'])).err).toEqual([
      'netctl: login: the name or the password is wrong',
    ]);
    const { exit, out } = await run('login frank', folder, [PASSWORD]);
    expect([exit, out]).toEqual([
      0,
      [expect.stringMatching(/^Logged in as operator frank, until 20\S+Z \(netctl logout/)],
    ]);
    const file = path.join(folder, '.netctl/token');
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(statSync(path.dirname(file)).mode & 0o777).toBe(0o700);
    const bare = { NETCTL_TLS_CA: '' };
    expect((await run('whoami', folder, [], bare)).out[0]).toMatch(
      /^operator frank, by session until 20\S+Z: may read and change what is of tenant blue$/,
    );
    const token = readFileSync(file, 'utf8').trim();
    expect((await run('user passwd', folder, [PASSWORD, 'quite another one'], bare)).out[0]).toMatch(
      /log in again/,
    );
    expect((await whoami(token)).status).toBe(401);
    expect((await run('logout', folder, [], bare)).err[0]).toMatch(/nobody is logged in here/);
    expect((await run('login frank', folder, ['quite another one'], bare)).exit).toBe(0);
    const again = readFileSync(file, 'utf8').trim();
    expect((await run('logout', folder, [], bare)).out).toEqual(['Logged out']);
    expect((await whoami(again)).status).toBe(401);
    expect(() => statSync(file)).toThrow();
  });

  it('writes over no token that it has not got, and tells passwords to nobody in the clear or unknown', async () => {
    const folder = home();
    await run('login carol', folder, [PASSWORD]);
    writeFileSync(path.join(folder, '.netctl/token'), 'api.x.y');
    expect((await run('login carol', folder, [PASSWORD])).err[0]).toMatch(
      /holds a token that netctl login has not got/,
    );
    const other = home();
    const plain = { NETMASTER: `http://localhost:${secured.api.port}` };
    expect((await run('login carol', other, [PASSWORD], plain)).err[0]).toMatch(/go by https:\/\/ only/);
    expect((await run('--insecure login carol', other, [PASSWORD])).err[0]).toMatch(/leave --insecure out/);
    const set = { NETCTL_TOKEN_FILE: path.join(other, 'authority') };
    expect((await run('login carol', other, [PASSWORD], set)).err[0]).toMatch(/NETCTL_TOKEN_FILE is set/);
    await run('login carol', other, [PASSWORD]);
    const kept = path.join(other, '.netctl/token');
    expect((await run('logout', other, [], set)).err[0]).toMatch(/it ends the session of ~\/\.netctl\/token/);
    expect(readFileSync(kept, 'utf8')).toMatch(/^session\./);
    expect((await run('login --oidc', other)).err[0]).toMatch(/no OpenID provider is configured/);
    const client = connect({ urls: [`http://127.0.0.1:${secured.api.port}`] });
    await expect(client.call('userPassword', { name: 'x' }, { password: PASSWORD })).rejects.toThrow(
      'https:// only',
    );
  });
});

describe('a password is read', () => {
  const input = (pieces: string[], isTTY: boolean) => ({
    isTTY,
    modes: [] as boolean[],
    setRawMode(raw: boolean) {
      this.modes.push(raw);
    },
    async *[Symbol.asyncIterator]() {
      yield* pieces;
    },
  });
  const said: string[] = [];
  const output = { write: (text: string) => said.push(text) };

  it('from a terminal, which does not show it, twice where it is new', async () => {
    const terminal = input(['pass', 'wx\u007f', 'ord\r', 'new one\rnew one\r', 'a\rb\r'], true);
    const secret = openSecrets(terminal, output);
    expect(await secret('Password')).toBe('password');
    expect(await secret('New', 'new')).toBe('new one');
    await expect(secret('New', 'new')).rejects.toThrow('the two passwords differ');
    expect(terminal.modes).toEqual([true, false, true, false, true, false, true, false, true, false]);
    expect(said.join('')).not.toMatch(/pass\b|word\b.*:.*pass/);
    await expect(openSecrets(input(['abc\u0003'], true), output)('Password')).rejects.toThrow('Ctrl-C');
  });

  it('from standard input, a line each', async () => {
    const secret = openSecrets(input(['first o', 'ne\r\nsecond\n\nthi', 'rd'], false), output);
    const lines = [];
    for (let i = 0; i < 5; i++) lines.push(await secret('Password', 'new'));
    expect(lines).toEqual(['first one', 'second', '', 'third', '']);
  });
});
