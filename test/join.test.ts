/** netmaster init, netctl token and netplugin join, as the programs that they are. */
import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { expect, it, vi } from 'vitest';
import { temporaryFolder } from './folder.ts';
import { restarted } from './netmaster.ts';
import { freePort } from './ports.ts';

// Programs are started one after the other, on a machine that is busy.
vi.setConfig({ testTimeout: 120_000 });

const bin = (name: string): string => path.join(import.meta.dirname, '../bin', name);

interface Ended {
  readonly exit: number;
  readonly out: string;
  readonly err: string;
}
function run(name: string, args: readonly string[], home = '/nonexistent'): Promise<Ended> {
  return new Promise((done) => {
    const options = { env: { PATH: process.env.PATH, HOME: home } };
    execFile(bin(name), args, options, (error, out, err) =>
      done({ exit: error === null ? 0 : Number(error.code ?? 255), out: out.trim(), err: err.trim() }),
    );
  });
}

/** Answers when netmaster has ended by kill -9, and how to start it. */
async function netmasterIn(folder: string, url: string, ...flags: string[]) {
  const { kill, begin } = restarted();
  const listen = url.replace('https://', '');
  const args = ['--listen', listen, '--store', `sqlite:${folder}/m.db`, '--log-level', 'error'];
  return {
    kill,
    async start() {
      begin([...args, '--tls-dir', `${folder}/tls`, ...flags]);
      const ask = ['--netmaster', url, ...authorityOf(folder), 'version'];
      await vi.waitUntil(async () => (await run('netctl', ask)).out.includes('netmaster  '), {
        timeout: 60_000,
        interval: 50,
      });
    },
  };
}
const authorityOf = (folder: string): string[] => ['--tls-ca', `${folder}/tls/ca.crt`];

it('netmaster init makes what is not there, for its owner alone, and nothing twice', async () => {
  const folder = temporaryFolder();
  const at = (file: string): string => path.join(folder, 'tls', file);
  const first = await run('netmaster', ['init', '--dir', `${folder}/tls`, '--name', 'netmaster.example']);
  expect(first).toMatchObject({ exit: 0, err: '' });
  for (const key of ['ca.key', 'netmaster.key', 'admin.key'])
    expect(fs.statSync(at(key)).mode & 0o777).toBe(0o600);
  const certificate = new X509Certificate(fs.readFileSync(at('netmaster.crt')));
  for (const name of ['netmaster.example', 'localhost']) expect(certificate.checkHost(name)).toBe(name);
  expect(certificate.checkIP('127.0.0.1')).toBe('127.0.0.1');
  const all = (): string[] =>
    fs.readdirSync(`${folder}/tls`).map((file) => fs.readFileSync(at(file), 'utf8'));
  const before = all();
  expect(before).toHaveLength(6);
  expect(await run('netmaster', ['init', '--dir', `${folder}/tls`])).toMatchObject({ exit: 0 });
  expect(all()).toEqual(before);
  fs.rmSync(at('netmaster.key'));
  const half = await run('netmaster', ['init', '--dir', `${folder}/tls`]);
  expect(half).toMatchObject({ exit: 3, err: expect.stringContaining('one alone is there') });
  const renewed = await run('netmaster', ['init', '--dir', `${folder}/tls`, '--renew']);
  expect(renewed).toMatchObject({ exit: 0 });
  expect(fs.readFileSync(at('ca.crt'), 'utf8')).toBe(
    before[fs.readdirSync(`${folder}/tls`).indexOf('ca.crt')],
  );
});

it('a host joins by a token, and once more by its key where netmaster was killed before the answer came', async () => {
  const folder = temporaryFolder();
  const url = `https://127.0.0.1:${await freePort()}`;
  expect((await run('netmaster', ['init', '--dir', `${folder}/tls`])).exit).toBe(0);
  const netmaster = await netmasterIn(folder, url);
  await netmaster.start();

  // As an operator has it at home.
  fs.mkdirSync(`${folder}/.netctl`);
  for (const file of ['ca.crt', 'admin.crt', 'admin.key'])
    fs.copyFileSync(`${folder}/tls/${file}`, `${folder}/.netctl/${file}`);
  const netctl = (...words: string[]): Promise<Ended> =>
    run('netctl', ['--netmaster', url, ...words], folder);
  const nobody = await run('netctl', ['--netmaster', url, ...authorityOf(folder), 'net', 'ls']);
  expect(nobody).toMatchObject({ exit: 3, err: expect.stringContaining('needs a certificate or a token') });
  const stranger = await run('netctl', ['--netmaster', url, 'net', 'ls']);
  expect(stranger).toMatchObject({
    exit: 3,
    err: expect.stringContaining('not of an authority that is believed'),
  });

  const { out: token, exit } = await netctl('token', 'create', '--host=node1');
  expect(exit).toBe(0);
  const state = `${folder}/state`;
  const join = (name: string): Promise<Ended> =>
    run('netplugin', ['join', url, token, '--host', name, '--state-dir', state]);
  expect(await join('node2')).toMatchObject({ exit: 3, err: expect.stringContaining('is for host node1') });
  fs.rmSync(`${state}/host/joining.pem`); // a request is for one name
  expect(await join('node1')).toMatchObject({ exit: 0, err: '' });
  const pair = `${state}/host/host.pem`;
  const text = fs.readFileSync(pair, 'utf8');
  expect(fs.statSync(pair).mode & 0o777).toBe(0o600);
  expect(fs.readFileSync(`${state}/host/netmasters`, 'utf8').trim()).toBe(url);
  expect(new X509Certificate(text).checkHost('node1')).toBe('node1');

  await netmaster.kill();
  await netmaster.start();
  const again = (): Promise<Ended> =>
    run('netplugin', ['join', url, token, '--host', 'node1', '--state-dir', state]);
  fs.rmSync(pair);
  expect(await again()).toMatchObject({ exit: 3, err: expect.stringContaining('was used by host node1') });
  // What was on disk when the answer did not come.
  fs.writeFileSync(`${state}/host/joining.pem`, text.slice(0, text.indexOf('-----BEGIN CERTIFICATE')));
  expect(await again()).toMatchObject({ exit: 0, err: '' });
  expect((await netctl('token', 'ls')).out).toContain('node1');
});
