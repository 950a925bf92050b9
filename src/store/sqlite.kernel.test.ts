/** The store where the disk is full. */
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
  const lease = await store.grant(1);
  await store.transact([], [{ key: 'host', value: 1, lease }]);
  const before = await store.list('');
  fill();
  const large = 'x'.repeat(100_000);
  await expect(store.transact([], [{ key: 'a', value: large }])).rejects.toThrow(
    'the store cannot be written: database or disk is full',
  );
  expect(await store.list('')).toEqual(before);
  await new Promise((done) => setTimeout(done, 1500));
  // Its end, which is a write, did not end the process.
  expect(await store.get('host')).toBeDefined();
  free();
  await vi.waitFor(async () => expect(await store.get('host')).toBeUndefined(), { timeout: 20_000 });
  await store.transact([], [{ key: 'a', value: large }]);
});

it('a full disk is what netmaster names to the caller', async () => {
  const { folder, fill, free } = disk(256);
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
