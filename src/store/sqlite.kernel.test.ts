/** The store where the disk is full. */
import fs from 'node:fs';
import { pino } from 'pino';
import { beforeAll, expect, it, onTestFinished, vi } from 'vitest';
import { disk } from '../../test/disk.ts';
import { isolate } from '../../test/isolation.ts';
import { trackAcknowledgements } from '../netmaster/acknowledgements.ts';
import { createServer } from '../netmaster/api/server.ts';
import { openMirror } from '../netmaster/mirror.ts';
import { openWriter } from '../netmaster/writer.ts';
import { openSqlite } from './sqlite.ts';

beforeAll(isolate);

it('a full disk refuses writes and says why; what ends meanwhile ends when there is room', async () => {
  const { folder, fill, free } = disk(256);
  const store = openSqlite(`${folder}/store.db`);
  onTestFinished(() => store.close());
  // Long enough that it does not end before the disk is full, on a busy machine too.
  const lease = await store.grant(4);
  await store.transact([], [{ key: 'host', value: 1, lease }]);
  const before = await store.list('');
  fill();
  const large = 'x'.repeat(100_000);
  await expect(store.transact([], [{ key: 'a', value: large }])).rejects.toThrow(
    'the store cannot be written: database or disk is full',
  );
  expect(await store.list('')).toEqual(before);
  await new Promise((done) => setTimeout(done, 4500));
  // Its end, which is a write, did not end the process.
  expect(await store.get('host')).toBeDefined();
  free();
  await vi.waitFor(async () => expect(await store.get('host')).toBeUndefined(), { timeout: 20_000 });
  await store.transact([], [{ key: 'a', value: large }]);
});

/** A netmaster whose store is there. */
async function netmasterIn(folder: string) {
  const store = openSqlite(`${folder}/store.db`);
  const mirror = await openMirror(store);
  const writer = openWriter(store, mirror);
  const acknowledgements = trackAcknowledgements(mirror);
  const log = pino({ level: 'silent' });
  const server = await createServer({ store, mirror, writer, acknowledgements, version: 'test', log });
  onTestFinished(async () => {
    await server.close();
    await mirror.close();
    await store.close();
  });
  const create = (name: string) =>
    server.inject({ method: 'POST', url: `/api/v1/tenants/${name}`, payload: { tenantName: name } });
  return { server, create };
}

it('a full disk is what netmaster names to the caller', async () => {
  const { folder, fill, free } = disk(256);
  const { create } = await netmasterIn(folder);
  fill();
  const refused = await create('red');
  expect(refused.statusCode).toBe(503);
  expect(refused.json().error).toEqual({
    code: 'unavailable',
    message: 'the store cannot be written: database or disk is full',
  });
  free();
  expect((await create('red')).statusCode).toBe(200);
});

it('netmaster is not ready while the disk is full or nearly so, or the store gone, and says so', async () => {
  const { folder, fill, free } = disk(64 << 10);
  const { server, create } = await netmasterIn(folder);
  const ready = async () => {
    const { statusCode, body } = await server.inject({ method: 'GET', url: '/readyz' });
    return { status: statusCode, problems: JSON.parse(body).problems };
  };
  expect(await ready()).toEqual({ status: 200, problems: [] });
  fill();
  const space = expect.stringMatching(/^the disk of the store .*\/store\.db has \d+ KB left: free some/);
  expect(await ready()).toEqual({ status: 503, problems: [space] });
  const name = 't'.repeat(60);
  // Until what SQLite has of its own is full too.
  for (let i = 0; (await create(`${name}${i}`)).statusCode === 200; i++);
  const unwritable = expect.stringMatching(
    /^the store cannot be written: no space is left on the disk of .*store\.db: free some: what runs goes on/,
  );
  expect(await ready()).toEqual({ status: 503, problems: [unwritable, space] });
  free();
  expect(await ready()).toEqual({ status: 200, problems: [] });

  // The end of a host's lease is a write: that it is not heard of is said all the same.
  const beat = (): Promise<unknown> =>
    server.inject({
      method: 'PUT',
      url: '/api/v1/hosts/node1',
      payload: { name: 'node1', underlay: '192.0.2.1' },
    });
  await beat();
  fill();
  for (let i = 0; (await create(`${name}again${i}`)).statusCode === 200; i++);
  const silent = async (): Promise<void> => {
    const { body } = await server.inject({ method: 'GET', url: '/api/v1/status/hosts/node1' });
    expect(JSON.parse(body).reason).toMatch(
      /^nothing is heard of it since .*, and it does not count as away yet/,
    );
  };
  await vi.waitFor(silent, { timeout: 50_000, interval: 200 });
  free();
  fs.renameSync(`${folder}/store.db`, `${folder}/elsewhere`);
  expect(await ready()).toEqual({
    status: 503,
    problems: [expect.stringContaining(`file ${folder}/store.db is gone`)],
  });
  expect((await server.inject({ method: 'GET', url: '/healthz' })).statusCode).toBe(200);
});
