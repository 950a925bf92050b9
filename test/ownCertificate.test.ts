/** netmaster's own certificate while it runs, with netmaster as the program that it is. */
import { execFile } from 'node:child_process';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import https from 'node:https';
import path from 'node:path';
import tls from 'node:tls';
import { promisify } from 'node:util';
import { expect, it, onTestFinished, vi } from 'vitest';
import { connect } from '../src/client/client.ts';
import { readCredentials } from '../src/client/credentials.ts';
import { init } from '../src/netmaster/init.ts';
import { namesOf } from '../src/netmaster/security.ts';
import { issuePair, makeAuthority, type Pair } from '../src/tls/certificates.ts';
import { lifeOf } from '../src/tls/identity.ts';
import { temporaryFolder } from './folder.ts';
import { restarted } from './netmaster.ts';
import { freePort } from './ports.ts';

vi.setConfig({ testTimeout: 240_000 });

const DAY = 86_400_000;
const run = promisify(execFile);
const initBy = (...args: string[]): Promise<unknown> =>
  run(path.join(import.meta.dirname, '../bin/netmaster'), ['init', ...args]);

/** What is done so many days from now. */
function at<T>(days: number, use: () => Promise<T>): Promise<T> {
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + days * DAY });
  return use().finally(() => void vi.useRealTimers());
}
/** One that ends in ten days. */
const endingSoon = (authority: Pair, names: readonly string[]): Promise<Pair> =>
  at(-815, () => issuePair(authority, { role: 'netmaster', name: 'one', names }, 825 * DAY));

/** A netmaster with these flags; ends with the test. */
async function netmaster(authority: string, ...flags: string[]) {
  const port = await freePort();
  const { begin } = restarted();
  const store = `sqlite:${temporaryFolder()}/m.db`;
  const process = begin(['--listen', `localhost:${port}`, '--store', store, ...flags]);
  let said = '';
  process.stderr.setEncoding('utf8').on('data', (chunk) => {
    said += chunk;
  });
  return {
    port,
    said: () => said,
    /** What a new connection is shown, which is believed. */
    shown: (host = '127.0.0.1') =>
      new Promise<X509Certificate>((done, fail) => {
        const socket = tls.connect({ port, host, ca: authority }, () => {
          done(socket.getPeerX509Certificate() as X509Certificate);
          socket.destroy();
        });
        socket.once('error', fail);
      }),
  };
}

it('is renewed in its last third, with the names that it had; connections that are open go on, new ones are shown the new one', async () => {
  const dir = `${temporaryFolder()}/tls`;
  const file = (name: string): string => path.join(dir, name);
  await initBy('--dir', dir);
  const authority = {
    certificate: fs.readFileSync(file('ca.crt'), 'utf8'),
    key: fs.readFileSync(file('ca.key'), 'utf8'),
  };
  const old = await endingSoon(authority, ['127.0.0.1', 'localhost', 'netmaster.example']);
  fs.writeFileSync(file('netmaster.key'), old.key);
  fs.writeFileSync(file('netmaster.crt'), old.certificate);
  const before = new X509Certificate(old.certificate).serialNumber;

  const { port, shown } = await netmaster(authority.certificate, '--tls-dir', dir);
  const credentials = readCredentials({
    'tls-ca': file('ca.crt'),
    'tls-cert': file('admin.crt'),
    'tls-key': file('admin.key'),
  });
  // The operator's are for who asks, and need not be there.
  for (const name of ['admin.crt', 'admin.key']) fs.rmSync(file(name));
  const client = connect({ urls: [`https://127.0.0.1:${port}`], credentials: () => credentials });
  onTestFinished(() => client.close());
  await expect
    .poll(
      () =>
        client.call('version').then(
          ({ status }) => status,
          () => 0,
        ),
      { timeout: 60_000 },
    )
    .toBe(200);
  const stop = new AbortController();
  onTestFinished(() => stop.abort());
  const keys: string[] = [];
  const watching = (async () => {
    for await (const message of client.watch({ signal: stop.signal }))
      if (message.type === 'change') keys.push(...message.changes.map(({ key }) => key));
  })();

  await expect.poll(async () => (await shown()).serialNumber, { timeout: 60_000 }).not.toBe(before);
  const now = fs.readFileSync(file('netmaster.crt'), 'utf8');
  expect((await shown()).serialNumber).toBe(new X509Certificate(now).serialNumber);
  expect(lifeOf(now).to).toBeGreaterThan(Date.now() + 800 * DAY);
  expect(namesOf({ certificate: now })).toEqual(expect.arrayContaining(['127.0.0.1', 'netmaster.example']));
  expect(fs.readdirSync(dir).sort()).toEqual(['ca.crt', 'ca.key', 'netmaster.crt', 'netmaster.key']);
  await client.call('post', { collection: 'networks', key: 'default:later' }, { subnet: '10.1.0.0/24' });
  await expect.poll(() => keys).toContain('default:later');
  stop.abort();
  await watching.catch(() => {});
});

it('is the one that netmaster init --renew has made, with another name that netmaster is asked by', async () => {
  const dir = `${temporaryFolder()}/tls`;
  await initBy('--dir', dir);
  const authority = fs.readFileSync(`${dir}/ca.crt`, 'utf8');
  const { port, shown } = await netmaster(authority, '--tls-dir', dir);
  await expect
    .poll(
      () =>
        shown().then(
          () => true,
          () => false,
        ),
      { timeout: 60_000 },
    )
    .toBe(true);
  const asked = (): Promise<number> =>
    new Promise((done, fail) => {
      const options = { host: '127.0.0.1', port, path: '/healthz', ca: authority, agent: false };
      const headers = { host: 'other.example' };
      https
        .get({ ...options, headers, servername: 'localhost' }, (answer) =>
          done(answer.resume().statusCode ?? 0),
        )
        .once('error', fail);
    });
  expect(await asked()).not.toBe(200);
  await initBy('--dir', dir, '--renew', '--name', 'other.example');
  await expect
    .poll(async () => (await shown()).subjectAltName, { timeout: 60_000 })
    .toContain('other.example');
  expect(await asked()).toBe(200);
  // Nowhere else is there another server, which would go on with the old one.
  await expect(shown('::1')).rejects.toThrow(/ECONNREFUSED|EADDRNOTAVAIL/);
});

it("of a PKI of one's own is read anew as it changes, when key and certificate go together", async () => {
  const folder = temporaryFolder();
  const authority = await makeAuthority();
  const names = ['127.0.0.1', 'localhost'];
  const make = (): Promise<Pair> => issuePair(authority, { role: 'netmaster', name: 'one', names }, DAY);
  const [first, second, third] = [await make(), await make(), await make()];
  const files = { 'tls-ca': authority.certificate, 'tls-cert': first.certificate, 'tls-key': first.key };
  for (const [name, text] of Object.entries(files)) fs.writeFileSync(`${folder}/${name}`, text);
  const flags = Object.keys(files).flatMap((name) => [`--${name}`, `${folder}/${name}`]);
  const { shown, said } = await netmaster(authority.certificate, ...flags);
  const serial = async (): Promise<string> => (await shown()).serialNumber;
  const of = ({ certificate }: Pair): string => new X509Certificate(certificate).serialNumber;
  await expect.poll(() => serial().catch(() => ''), { timeout: 60_000 }).toBe(of(first));
  fs.writeFileSync(`${folder}/tls-cert`, second.certificate);
  await expect.poll(said, { timeout: 60_000 }).toContain('is not the key of');
  expect(await serial()).toBe(of(first));
  fs.writeFileSync(`${folder}/tls-key`, second.key);
  await expect.poll(serial, { timeout: 60_000 }).toBe(of(second));
  // What is first in the file is in order, and TLS takes it with all else that is there.
  const none = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
  fs.writeFileSync(`${folder}/tls-key`, third.key);
  fs.writeFileSync(`${folder}/tls-cert`, `${third.certificate}${none}`);
  await expect.poll(said, { timeout: 60_000 }).toContain('TLS does not take it');
  expect(await serial()).toBe(of(second));
  fs.writeFileSync(`${folder}/tls-cert`, third.certificate);
  await expect.poll(serial, { timeout: 60_000 }).toBe(of(third));
});

it('is made anew by netmaster init where a renewal ended between its two files, and the authority never is', async () => {
  const folder = temporaryFolder();
  const of = (name: string): string => fs.readFileSync(`${folder}/${name}`, 'utf8');
  const again = (): Promise<unknown> => init({ folder, names: [], renew: false });
  await again();
  const [authority, admin] = [of('ca.crt'), of('admin.crt')];
  fs.copyFileSync(`${folder}/admin.key`, `${folder}/netmaster.key`);
  await again();
  const own = of('netmaster.crt');
  expect(new X509Certificate(own).checkPrivateKey(createPrivateKey(of('netmaster.key')))).toBe(true);
  await again();
  expect([of('ca.crt'), of('netmaster.crt'), of('admin.crt')]).toEqual([authority, own, admin]);
  fs.copyFileSync(`${folder}/admin.key`, `${folder}/ca.key`);
  await expect(again()).rejects.toThrow(`${folder}: ca.key is not the key of ca.crt`);
  expect([of('ca.crt'), of('netmaster.crt')]).toEqual([authority, own]);
});

it('holds no longer than its authority, which stays: in the last third of that both are as they were', async () => {
  const folder = temporaryFolder();
  const textOf = (name: string): string => fs.readFileSync(`${folder}/${name}`, 'utf8');
  const again = (days: number): Promise<unknown> =>
    at(days, () => init({ folder, names: ['netmaster.example'], renew: false }));
  await again(0);
  const [authority, first] = [textOf('ca.crt'), textOf('netmaster.crt')];
  // Ten years are 3650 days.
  await again(3000);
  expect(textOf('netmaster.crt')).not.toBe(first);
  expect(lifeOf(textOf('netmaster.crt')).to).toBe(lifeOf(authority).to);
  const [last, admin] = [textOf('netmaster.crt'), textOf('admin.crt')];
  await again(3640);
  await again(3660);
  expect([textOf('ca.crt'), textOf('netmaster.crt'), textOf('admin.crt')]).toEqual([authority, last, admin]);
});
