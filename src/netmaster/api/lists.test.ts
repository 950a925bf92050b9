import { expect, it, vi } from 'vitest';
import type { Kind } from '../../model/kind.ts';
import { kindByCollection } from '../../model/kinds.ts';
import { openMemory } from '../../store/memory.ts';
import { openMirror, storeKey } from '../mirror.ts';
import { openLists } from './lists.ts';

const TENANTS = kindByCollection.get('tenants') as Kind;

it('is made once for all who ask for the same state, and anew when something has changed', async () => {
  const store = openMemory();
  const tenant = (name: string) => [{ key: storeKey('tenant', name), value: { tenantName: name } }];
  await store.transact([], tenant('default'));
  const mirror = await openMirror(store);
  const listing = vi.spyOn(mirror, 'list');
  const list = openLists(mirror);
  const first = list(TENANTS);
  const others = Array.from({ length: 20 }, () => list(TENANTS));
  expect(listing).toHaveBeenCalledTimes(1);
  for (const { json } of others) expect(json).toBe(first.json);
  expect(JSON.parse(first.json.toString())).toMatchObject([{ key: 'default', tenantName: 'default' }]);

  await store.transact([], tenant('blue'));
  await vi.waitUntil(() => mirror.get('tenant', 'blue') !== undefined);
  const keys = JSON.parse(list(TENANTS).json.toString()).map(({ key }: { key: string }) => key);
  expect(keys.sort()).toEqual(['blue', 'default']);
  await mirror.close();
});
