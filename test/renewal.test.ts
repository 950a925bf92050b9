/** The agent's part that keeps a host's certificate, with netmaster as the program that it is and certificates that hold for seconds. */
import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { type Logger, pino } from 'pino';
import { afterAll, beforeAll, expect, it, onTestFinished, vi } from 'vitest';
import { ApiError, connect } from '../src/client/client.ts';
import { readCredentials } from '../src/client/credentials.ts';
import { join, openHostCertificate } from '../src/netplugin/certificate.ts';
import { type EtcdCluster, startEtcd } from './etcd.ts';
import { temporaryFolder } from './folder.ts';
import { restarted } from './netmaster.ts';
import { freePort } from './ports.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

const bin = (name: string): string => path.join(import.meta.dirname, '../bin', name);
const run = promisify(execFile);

let etcd: EtcdCluster;
beforeAll(async () => {
  etcd = await startEtcd(1);
});
afterAll(() => etcd.close());

interface Server {
  readonly url: string;
  /** `life`: another one of hosts' certificates from now on. */
  start(life?: string): Promise<void>;
  kill(): Promise<void>;
}

/** Netmasters of one authority, started; hosts' certificates hold for `life`. */
async function cluster(life: string, count = 1) {
  const folder = temporaryFolder();
  await run(bin('netmaster'), ['init', '--dir', `${folder}/tls0`]);
  const files = {
    'tls-ca': `${folder}/tls0/ca.crt`,
    'tls-cert': `${folder}/tls0/admin.crt`,
    'tls-key': `${folder}/tls0/admin.key`,
  };
  const shown = readCredentials(files);
  const netmasters: Server[] = [];
  for (let i = 0; i < count; i++) {
    const dir = `${folder}/tls${i}`;
    if (i > 0) {
      fs.mkdirSync(dir);
      for (const file of ['ca.crt', 'ca.key']) fs.copyFileSync(`${folder}/tls0/${file}`, `${dir}/${file}`);
      await run(bin('netmaster'), ['init', '--dir', dir]);
    }
    const listen = `127.0.0.1:${await freePort()}`;
    const url = `https://${listen}`;
    const store =
      count === 1 ? `sqlite:${folder}/m.db` : `etcd://${etcd.endpoints[0]}/${path.basename(folder)}`;
    const { kill, begin } = restarted();
    const start = async (now = life): Promise<void> => {
      const flags = ['--listen', listen, '--store', store, '--tls-dir', dir, '--host-certificates', now];
      begin([...flags, '--log-level', 'error']);
      const client = connect({ urls: [url], credentials: () => shown });
      await vi.waitUntil(
        () =>
          client.call('version').then(
            () => true,
            () => false,
          ),
        {
          timeout: 60_000,
          interval: 50,
        },
      );
      client.close();
    };
    netmasters.push({ url, start, kill });
    await start();
  }
  /** Of an operator, at one of them. */
  const at = (i: number) => {
    const client = connect({ urls: [netmasters[i]?.url as string], credentials: () => shown });
    onTestFinished(() => client.close());
    return client;
  };
  const tokenFor = async (host: string, i = 0): Promise<string> =>
    ((await at(i).call('tokenCreate', {}, { role: 'join', host, seconds: 600 })).body as { token: string })
      .token;
  return { folder, netmasters, at, tokenFor };
}

/** A host that joins at a netmaster, and then asks these, with all its agent has for that. */
async function hostOf(urls: readonly string[], token: string, stateDir: string) {
  await join({ urls, token, host: 'node1', stateDir });
  const said: string[] = [];
  const log = pino(
    { level: 'info', base: {} },
    { write: (line: string) => void said.push((JSON.parse(line) as { msg: string }).msg) },
  ) as Logger;
  const certificate = openHostCertificate({ stateDir, host: 'node1', urls, files: {} }, log);
  const client = connect({ urls, credentials: certificate.credentials, timeoutMs: 5000 });
  certificate.keep(client);
  onTestFinished(async () => {
    await certificate.close();
    client.close();
  });
  const pem = (): X509Certificate => new X509Certificate(certificate.credentials().certificate as string);
  return { client, said, pem };
}

const beat = { name: 'node1', underlay: '10.9.9.9', mtu: 1500, version: 'test' };

it('is renewed again and again while a watch and calls go on; a netmaster that is away for a while is waited for', async () => {
  const { folder, netmasters, tokenFor, at } = await cluster('15s');
  const urls = [netmasters[0]?.url as string];
  const { client, pem, said } = await hostOf(urls, await tokenFor('node1'), `${folder}/state`);
  const stop = new AbortController();
  onTestFinished(() => stop.abort());
  const names: string[] = [];
  let breaks = 0;
  const watching = (async () => {
    for await (const message of client.watch({ host: 'node1', signal: stop.signal }))
      if (message.type === 'change') names.push(...message.changes.map(({ key }) => key));
  })().catch(() => {
    if (!stop.signal.aborted) breaks++;
  });
  const serials = new Set<string>();
  const deadline = performance.now() + 60_000;
  let declared = 0;
  // Each holds for 15 s and is renewed after 10: a third one is there after 20.
  for (let i = 0; serials.size < 3 && performance.now() < deadline; i++) {
    serials.add(pem().serialNumber);
    await client.call('register', { name: 'node1' }, beat);
    if (i % 10 === 0) {
      const key = `default:t${i}`;
      await at(0).call('post', { collection: 'networks', key }, { subnet: `10.${i}.0.0/24` });
      declared++;
    }
    await sleep(250);
  }
  expect(serials.size).toBe(3);
  await vi.waitUntil(() => names.filter((key) => /^default:t\d+$/.test(key)).length === declared, {
    timeout: 20_000,
  });
  expect(breaks).toBe(0);
  stop.abort();
  await watching;

  // Away when it was time, and back before the end.
  const isAway = (line: string): boolean => line.includes('is not renewed; tried again');
  for (let tries = 1; ; tries++) {
    const [before, count] = [pem(), said.filter(isAway).length];
    await netmasters[0]?.kill();
    await vi.waitUntil(() => said.filter(isAway).length > count, { timeout: 40_000 });
    await netmasters[0]?.start();
    const isAnother = (): boolean => pem().serialNumber !== before.serialNumber;
    const hasEnded = (): boolean => before.validToDate.getTime() < Date.now();
    await vi.waitUntil(() => isAnother() || hasEnded(), { timeout: 40_000 });
    if (isAnother()) break;
    // Back too late, as it may be on a busy machine: once more, with a certificate that the host has joined for.
    expect(tries).toBeLessThan(4);
    await at(0).call('hostRevoke', { name: 'node1' });
    await join({ urls, token: await tokenFor('node1'), host: 'node1', stateDir: `${folder}/state` });
    await vi.waitUntil(isAnother, { timeout: 40_000 });
  }
  await client.call('register', { name: 'node1' }, beat);
}, 400_000);

it('that has ended while netmaster was away is told so, with what is to be done, and holds again when the host has joined once more', async () => {
  const { folder, netmasters, tokenFor, at } = await cluster('4s');
  const urls = [netmasters[0]?.url as string];
  const state = `${folder}/state`;
  const { client, pem, said } = await hostOf(urls, await tokenFor('node1'), state);
  await netmasters[0]?.kill();
  await vi.waitUntil(() => pem().validToDate.getTime() < Date.now(), { timeout: 20_000 });
  await netmasters[0]?.start('1h');
  await expect(client.call('register', { name: 'node1' }, beat)).rejects.toMatchObject({
    status: 401,
    message: expect.stringContaining('has ended'),
  });
  await at(0).call('hostRevoke', { name: 'node1' });
  await join({ urls, token: await tokenFor('node1'), host: 'node1', stateDir: state });
  // Without a restart of the agent, at its next look.
  await vi.waitUntil(
    () =>
      client.call('register', { name: 'node1' }, beat).then(
        () => true,
        () => false,
      ),
    {
      timeout: 40_000,
      interval: 500,
    },
  );
  expect(said.some((line) => /has ended.*netctl host revoke node1.*netplugin join/.test(line))).toBe(true);
}, 180_000);

it('of a host that is revoked is not renewed, whichever of several netmasters is asked; joining and renewing go by each of them', async () => {
  const { folder, netmasters, tokenFor, at } = await cluster('12s', 3);
  const urls = netmasters.map(({ url }) => url);
  // The token of one, at another.
  const { client, pem, said } = await hostOf(
    [urls[1] as string],
    await tokenFor('node1', 0),
    `${folder}/state`,
  );
  const first = pem().serialNumber;
  await client.call('register', { name: 'node1' }, beat);
  await vi.waitUntil(() => pem().serialNumber !== first, { timeout: 20_000 });
  const credentials = () =>
    readCredentials({
      'tls-ca': `${folder}/state/host/ca.crt`,
      'tls-cert': `${folder}/state/host/host.pem`,
      'tls-key': `${folder}/state/host/host.pem`,
    });
  const everywhere = urls.map((url) => {
    const one = connect({ urls: [url], credentials: () => credentials() });
    onTestFinished(() => one.close());
    return one;
  });
  for (const one of everywhere)
    expect((await one.call('register', { name: 'node1' }, beat)).status).toBe(200);

  const { requestCertificate } = await import('../src/tls/certificates.ts');
  const { request } = await requestCertificate('node1');
  for (const one of everywhere)
    expect((await one.call('certificate', { name: 'node1' }, { request })).body).toHaveProperty(
      'certificate',
    );

  await at(2).call('hostRevoke', { name: 'node1' });
  // The answer has been given: no netmaster lets it in, whatever it has heard of the others since.
  for (const one of everywhere) {
    const refused = await one.call('register', { name: 'node1' }, beat).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(ApiError);
    expect(refused).toMatchObject({ status: 401, message: expect.stringContaining('is revoked') });
    const renewed = await one
      .call('certificate', { name: 'node1' }, { request })
      .catch((error: unknown) => error);
    expect(renewed).toMatchObject({ status: 401 });
  }
  await vi.waitUntil(() => said.some((line) => line.startsWith('this host is not let in')), {
    timeout: 20_000,
  });
  const last = pem().serialNumber;
  await sleep(3000);
  expect(pem().serialNumber).toBe(last);
  // One of them is enough to join again.
  await netmasters[0]?.kill();
  await netmasters[2]?.kill();
  await netmasters[1]?.kill();
  await netmasters[1]?.start('1h');
  await join({ urls, token: await tokenFor('node1', 1), host: 'node1', stateDir: `${folder}/state` });
  await vi.waitUntil(() => pem().serialNumber !== last, { timeout: 40_000, interval: 200 });
  await client.call('register', { name: 'node1' }, beat);
}, 180_000);
