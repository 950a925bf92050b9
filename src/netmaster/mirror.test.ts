import { expect, it, onTestFinished, vi } from 'vitest';
import { openMemory } from '../store/memory.ts';
import { CompactedError, type Store } from '../store/store.ts';
import { openMirror, storeKey, type VisibleBatch } from './mirror.ts';

it('lists anew where the store has forgotten what came next, and says what became of it as one change', async () => {
  const store = openMemory();
  onTestFinished(() => store.close());
  const put = (values: Record<string, unknown>) =>
    store.transact(
      [],
      Object.entries(values).map(([key, value]) => ({ key: storeKey('host', key), value })),
    );
  await put({ stays: 1, changes: 1, goes: 1 });
  const { promise: forgets, resolve: forget } = Promise.withResolvers<void>();
  let watches = 0;
  const forgetful: Store = {
    ...store,
    async *watch(prefix, after, signal) {
      if (++watches === 1) {
        await forgets;
        throw new CompactedError('forgotten');
      }
      yield* store.watch(prefix, after, signal);
    },
  };
  const mirror = await openMirror(forgetful);
  onTestFinished(() => mirror.close());
  const told: VisibleBatch[] = [];
  mirror.onChange((batch) => told.push(batch));
  await put({ changes: 2, goes: undefined, comes: 1 });
  const lease = await store.grant(600);
  await store.transact([], [{ key: storeKey('underlay', 'x'), value: { host: 'comes' }, lease }]);
  forget();
  await vi.waitUntil(() => told.length > 0, { timeout: 20_000 });
  expect(Object.fromEntries(told[0]?.changes.map(({ key, object }) => [key, object]) ?? [])).toEqual({
    changes: 2,
    goes: null,
    comes: 1,
  });
  expect(told[0]?.revision).toBe(mirror.revision);
  expect(mirror.get('host', 'goes')).toBeUndefined();
  expect(mirror.stored('underlay', 'x')?.lease).toBe(lease);
  await put({ later: 1 });
  await vi.waitUntil(() => mirror.get('host', 'later') === 1, { timeout: 20_000 });
  expect(told).toHaveLength(2);
});
