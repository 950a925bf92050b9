import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { type Journal, noJournal, openEngine } from './engine.ts';
import { CompactedError } from './store.ts';

describe('journal', () => {
  /** Calls `check` after each durable step, with the leases and the lease of each key as they are on disk then. */
  function watchedJournal(
    check: (leases: Set<string>, keys: Map<string, string | undefined>) => void,
  ): Journal {
    const leases = new Set<string>();
    const keys = new Map<string, string | undefined>();
    return {
      ...noJournal(),
      write(transactions) {
        for (const { key, value, lease } of transactions.flatMap(({ writes }) => writes))
          if (value === undefined) keys.delete(key);
          else keys.set(key, lease);
        check(leases, keys);
      },
      writeLease({ id, ttl }) {
        if (ttl === undefined) leases.delete(id);
        else leases.add(id);
        check(leases, keys);
      },
    };
  }

  it('never holds a key of a lease that it does not know: after a crash nothing would remove it', async () => {
    let steps = 0;
    const store = openEngine(
      watchedJournal((leases, keys) => {
        steps++;
        for (const [key, lease] of keys) expect(lease === undefined || leases.has(lease), key).toBe(true);
      }),
    );
    onTestFinished(() => store.close());
    const lease = await store.grant(600);
    await store.transact([], [{ key: 'host', value: 1, lease }]);
    await store.revoke(lease);
    expect(steps).toBe(4);
    expect(await store.get('host')).toBeUndefined();
  });

  it('that fails leaves the store as it was', async () => {
    let full = false;
    const store = openEngine({
      ...noJournal(),
      write() {
        if (full) throw new Error('disk full');
      },
    });
    onTestFinished(() => store.close());
    await store.transact([], [{ key: 'a', value: 1 }]);
    const before = await store.list('');
    full = true;
    await expect(store.transact([], [{ key: 'a', value: 2 }])).rejects.toThrow('disk full');
    expect(await store.list('')).toEqual(before);
    full = false;
    expect(await store.transact([], [{ key: 'a', value: 3 }])).toEqual({
      ok: true,
      revision: before.revision + 1,
    });
  });

  it('refuses a watch from a revision that is yet to come: the store is older than the caller', async () => {
    const store = openEngine(noJournal());
    onTestFinished(() => store.close());
    const watch = store.watch('', 1000, new AbortController().signal)[Symbol.asyncIterator]();
    await expect(watch.next()).rejects.toThrow(CompactedError);
  });
});

it('a lease has its whole time again when the process was stopped for longer, and ends then', async () => {
  const store = openEngine(noJournal());
  onTestFinished(() => store.close());
  const lease = await store.grant(2);
  await store.transact([], [{ key: '/a', value: 1, lease }]);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5000);
  for (let turn = 0; turn < 3; turn++) await new Promise((done) => setTimeout(done, 0));
  expect(await store.get('/a')).toMatchObject({ value: 1 });
  expect(await store.renew(lease)).toBe(true);
  await vi.waitFor(async () => expect(await store.get('/a')).toBeUndefined(), { timeout: 20_000 });
});
