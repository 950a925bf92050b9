/** Backups and restores where the disk is full. */
import fs from 'node:fs';
import { beforeAll, expect, it } from 'vitest';
import { disk } from '../../test/disk.ts';
import { temporaryFolder } from '../../test/folder.ts';
import { isolate } from '../../test/isolation.ts';
import { openStore } from '../store/open.ts';
import { copy } from './copies.ts';

beforeAll(isolate);

const quiet = (): void => {};
const backup = (from: string, file: string) => copy({ name: 'backup', file, from, replace: false }, quiet);
const restore = (file: string, to: string) => copy({ name: 'restore', file, to, replace: true }, quiet);

async function filled(spec: string, count: number, length: number): Promise<void> {
  const store = await openStore(spec, quiet);
  const text = 'x'.repeat(length);
  await store.transact(
    [],
    Array.from({ length: count }, (_, i) => ({ key: `/contiv/tenant/t${i}`, value: { text } })),
  );
  await store.close();
}
async function tenantsIn(spec: string): Promise<number> {
  const store = await openStore(spec, quiet);
  const { entries } = await store.list('/contiv/tenant/');
  await store.close();
  return entries.length;
}

it('a backup on a full disk leaves the one before, and says what is wrong', async () => {
  const { folder, fill, free } = disk(1024);
  const elsewhere = temporaryFolder();
  const [small, large] = [`sqlite:${elsewhere}/small.db`, `sqlite:${elsewhere}/large.db`];
  await filled(small, 3, 10);
  await filled(large, 3000, 1000);
  const file = `${folder}/cluster.backup`;
  await backup(small, file);
  const before = fs.readFileSync(file);
  await expect(backup(large, file)).rejects.toThrow(
    `${file}: no space is left on the disk of ${folder}: free some, or name a file elsewhere`,
  );
  fill();
  await expect(backup(small, file)).rejects.toThrow('no space is left');
  expect(fs.readFileSync(file)).toEqual(before);
  free();
  expect(fs.readdirSync(folder)).toEqual(['cluster.backup']);
  await backup(small, file);
});

it('a restore on a full disk leaves the store as it was', async () => {
  const { folder } = disk(1024);
  const elsewhere = temporaryFolder();
  const file = `${elsewhere}/large.backup`;
  await filled(`sqlite:${elsewhere}/large.db`, 3000, 1000);
  await backup(`sqlite:${elsewhere}/large.db`, file);
  const store = `sqlite:${folder}/netmaster.db`;
  await filled(store, 3, 10);
  await expect(restore(file, store)).rejects.toThrow(/the store cannot be written: .*full/);
  expect(await tenantsIn(store)).toBe(3);
});
