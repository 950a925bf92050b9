/** What every store does (store.ts), as tests: a new implementation calls testStore in its test file. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { type Batch, CompactedError, type Outcome, type Store } from './store.ts';

export interface StoreUnderTest {
  /** An empty store; the suite closes it. */
  open(): Promise<Store>;
  /** Makes it forget the history so far. Closes the store where it answers with another one over the same data. */
  compact(store: Store): Promise<Store>;
  /** Another connection to the same data, which the suite closes; absent where there is only one. */
  beside?(store: Store): Promise<Store>;
}

/** Only ends tests that hang. */
const LIMIT = 30_000;

export function testStore({ open, compact, beside }: StoreUnderTest): void {
  async function opened(): Promise<Store> {
    const store = await open();
    onTestFinished(() => store.close());
    return store;
  }

  describe('transactions that are made durable together', () => {
    const write = (key: string, value: unknown, revision = 0) => ({
      checks: [{ key, revision }],
      writes: [{ key, value }],
    });

    it('have a revision each, in their order, and see those before them', async () => {
      const store = await opened();
      if (store.transactTogether === undefined) return;
      const before = await put(store, { a: 0 });
      const stop = new AbortController();
      onTestFinished(() => stop.abort());
      const seen: [number, string[]][] = [];
      const watching = (async () => {
        for await (const { revision, changes } of store.watch('', before, stop.signal)) {
          seen.push([revision, changes.map(({ key, value }) => `${key}=${value}`)]);
          if (seen.length === 3) return;
        }
      })();
      const outcomes = await store.transactTogether([
        write('b', 1),
        write('b', undefined, before + 1),
        { checks: [{ key: 'b', revision: 0 }], writes: [{ key: 'a', value: 2 }] },
      ]);
      expect(outcomes).toEqual([1, 2, 3].map((i) => ({ ok: true, revision: before + i })));
      await watching;
      expect(seen).toEqual([
        [before + 1, ['b=1']],
        [before + 2, ['b=undefined']],
        [before + 3, ['a=2']],
      ]);
      expect((await store.list('')).entries).toEqual([{ key: 'a', value: 2, revision: before + 3 }]);
    });

    it('end at the first that conflicts, and those before it have happened', async () => {
      const store = await opened();
      if (store.transactTogether === undefined) return;
      const before = await put(store, { a: 0 });
      expect(await store.transactTogether([write('b', 1), write('a', 1), write('c', 1)])).toEqual([
        { ok: true, revision: before + 1 },
        { ok: false, conflicts: ['a'] },
      ]);
      expect((await store.list('')).entries.map(({ key, value }) => [key, value])).toEqual([
        ['a', 0],
        ['b', 1],
      ]);
      expect(await store.transactTogether([write('a', 1)])).toEqual([{ ok: false, conflicts: ['a'] }]);
    });
  });

  describe('get and list', () => {
    it('answers nothing for a key that was never written', async () => {
      const store = await opened();
      expect(await store.get('a')).toBeUndefined();
      expect((await store.list('')).entries).toEqual([]);
    });

    it('answers the value with the revision of its last write', async () => {
      const store = await opened();
      await put(store, { a: { deep: [1, 'two', null] } });
      const second = await put(store, { b: 1 });
      const third = await put(store, { a: { deep: [] } });
      expect(await store.get('a')).toEqual({ key: 'a', value: { deep: [] }, revision: third });
      expect(await store.get('b')).toEqual({ key: 'b', value: 1, revision: second });
    });

    it('lists what is under a prefix, in key order, and nothing else', async () => {
      const store = await opened();
      await put(store, { 'n/b': 2, 'n/a': 1, m: 0, 'n/a/x': 3, 'o/a': 4, n: 5 });
      expect((await store.list('n/')).entries.map((e) => e.key)).toEqual(['n/a', 'n/a/x', 'n/b']);
      expect((await store.list('')).entries.map((e) => e.key)).toEqual([
        'm',
        'n',
        'n/a',
        'n/a/x',
        'n/b',
        'o/a',
      ]);
      expect((await store.list('n/c')).entries).toEqual([]);
    });

    it('shows what was written and deleted after an earlier list', async () => {
      const store = await opened();
      await put(store, { 'n/a': 1, 'n/c': 3 });
      await store.list('n/');
      await put(store, { 'n/b': 2, 'n/c': undefined });
      expect((await store.list('n/')).entries.map((e) => e.key)).toEqual(['n/a', 'n/b']);
    });

    it('lists with the revision that the list shows', async () => {
      const store = await opened();
      const revision = await put(store, { a: 1 });
      expect((await store.list('elsewhere/')).revision).toBe(revision);
    });

    it('keeps an id of its own', async () => {
      const [one, other] = [await opened(), await opened()];
      expect(one.id).not.toBe('');
      expect(one.id).not.toBe(other.id);
    });
  });

  describe('transactions', () => {
    it('write all keys with one revision, higher than any before', async () => {
      const store = await opened();
      const first = await put(store, { a: 1, b: 2 });
      const second = await put(store, { a: 3, c: undefined });
      expect(second).toBeGreaterThan(first);
      expect((await store.get('a'))?.revision).toBe(second);
      expect((await store.get('b'))?.revision).toBe(first);
    });

    it('write when every check holds', async () => {
      const store = await opened();
      const revision = await put(store, { a: 1 });
      const outcome = await store.transact(
        [
          { key: 'a', revision },
          { key: 'new', revision: 0 },
        ],
        [{ key: 'new', value: 2 }],
      );
      expect(outcome.ok).toBe(true);
      expect((await store.get('new'))?.value).toBe(2);
    });

    it('leave nothing written on a conflict, and name the keys in conflict', async () => {
      const store = await opened();
      const old = await put(store, { a: 1, b: 1 });
      await put(store, { a: 2 });
      const before = await store.list('');
      const outcome = await store.transact(
        [
          { key: 'a', revision: old },
          { key: 'b', revision: old },
          { key: 'gone', revision: 7 },
        ],
        [
          { key: 'a', value: 3 },
          { key: 'b', value: undefined },
          { key: 'c', value: 3 },
        ],
      );
      expect(outcome).toEqual({ ok: false, conflicts: ['a', 'gone'] });
      expect(await store.list('')).toEqual(before);
    });

    it('conflict where a key should not exist and does', async () => {
      const store = await opened();
      await put(store, { a: 1 });
      expect(await store.transact([{ key: 'a', revision: 0 }], [{ key: 'a', value: 2 }])).toEqual({
        ok: false,
        conflicts: ['a'],
      });
    });

    it('see a key that was deleted and made again as another', async () => {
      const store = await opened();
      const first = await put(store, { a: 1 });
      await put(store, { a: undefined });
      expect(await store.get('a')).toBeUndefined();
      await put(store, { a: 1 });
      const outcome = await store.transact([{ key: 'a', revision: first }], [{ key: 'a', value: 2 }]);
      expect(outcome.ok).toBe(false);
    });

    it('hold values of a megabyte, and any text', async () => {
      const store = await opened();
      const big = { text: 'ä'.repeat(500_000), odd: '\u0000 \ud83d\ude00 "\\ \n' };
      await put(store, { big, 'schlüssel/☃': 1 });
      expect((await store.get('big'))?.value).toEqual(big);
      expect((await store.list('schlüssel/')).entries).toHaveLength(1);
    });

    it.each([126, 127, 128, 129, 5000])(
      'of %i checks and writes happen whole, and watchers see them in one piece',
      async (size) => {
        const store = await opened();
        const all = Array.from({ length: size }, (_, i) => `k/${i}`);
        const { revision: start } = await store.list('');
        const made = await store.transact(
          all.map((key) => ({ key, revision: 0 })),
          all.map((key, i) => ({ key, value: i })),
        );
        const { entries } = await store.list('k/');
        expect(entries).toHaveLength(size);
        const [batch] = await batches(store, 'k/', start, 1);
        expect(made).toEqual({ ok: true, revision: batch?.revision });
        expect(batch?.changes).toHaveLength(size);
        expect(
          await store.transact(
            [{ key: all.at(-1) as string, revision: 0 }, ...all.map((key) => ({ key, revision: 0 }))],
            all.map((key) => ({ key, value: 'no' })),
          ),
        ).toMatchObject({
          ok: false,
        });
        expect((await store.list('k/')).entries).toEqual(entries);
        const gone = await store.transact(
          entries.map(({ key, revision }) => ({ key, revision })),
          [...all.map((key) => ({ key, value: undefined })), { key: 'last', value: 1 }],
        );
        expect(gone.ok).toBe(true);
        expect((await store.list('')).entries.map(({ key }) => key)).toEqual(['last']);
      },
    );

    it('take keys of a megabyte, several at once', async () => {
      const store = await opened();
      const { revision } = await store.list('');
      const values = Array.from({ length: 5 }, (_, i) => String(i).repeat(1 << 20));
      await store.transact(
        [],
        values.map((value, i) => ({ key: `big/${i}`, value })),
      );
      expect((await store.list('big/')).entries.map(({ value }) => value)).toEqual(values);
      expect((await batches(store, '', revision, 1))[0]?.changes).toHaveLength(5);
    });

    it('that are large are seen whole or not at all by lists, watches and small transactions beside them', async () => {
      const store = await opened();
      const size = 600;
      const all = Array.from({ length: size }, (_, i) => `k/${i}`);
      const { revision: start } = await store.list('');
      let isDone = false;
      const large = (async () => {
        for (let round = 1; round <= 4; round++)
          await store.transact(
            [],
            all.map((key) => ({ key, value: round })),
          );
        isDone = true;
      })();
      const listing = (async () => {
        while (!isDone) {
          const { entries } = await store.list('k/');
          expect(new Set(entries.map(({ value }) => value)).size).toBe(entries.length === 0 ? 0 : 1);
          expect([0, size]).toContain(entries.length);
        }
      })();
      const small = (async () => {
        for (let i = 0; !isDone; i++) {
          expect(await store.transact([], [{ key: 'small', value: i }])).toMatchObject({ ok: true });
          const lease = await store.grant(600);
          await store.transact([], [{ key: 'leased', value: i, lease }]);
          await store.revoke(lease);
        }
      })();
      await Promise.all([large, listing, small]);
      const seen = await batches(store, 'k/', start, 4);
      expect(seen.map(({ changes }) => changes.length)).toEqual([size, size, size, size]);
      expect(seen.map(({ changes }) => changes[0]?.value)).toEqual([1, 2, 3, 4]);
    });

    it('of 64 concurrent clients that count up one key lose no step', async () => {
      const store = await opened();
      const steps = 10;
      let conflicts = 0;
      const client = async (): Promise<number[]> => {
        const revisions: number[] = [];
        while (revisions.length < steps) {
          const entry = await store.get('count');
          const outcome = await store.transact(
            [{ key: 'count', revision: entry?.revision ?? 0 }],
            [{ key: 'count', value: ((entry?.value as number | undefined) ?? 0) + 1 }],
          );
          if (outcome.ok) revisions.push(outcome.revision);
          else conflicts++;
        }
        return revisions;
      };
      const revisions = (await Promise.all(Array.from({ length: 64 }, client))).flat();
      expect((await store.get('count'))?.value).toBe(64 * steps);
      expect(new Set(revisions).size).toBe(64 * steps);
      expect(conflicts).toBeGreaterThan(0);
    });

    it('of 64 concurrent clients on keys of their own all succeed', async () => {
      const store = await opened();
      const outcomes = await Promise.all(
        Array.from({ length: 640 }, (_, i) =>
          store.transact([{ key: `k/${i}`, revision: 0 }], [{ key: `k/${i}`, value: i }]),
        ),
      );
      expect(outcomes.filter((o) => !o.ok)).toEqual([]);
      expect((await store.list('k/')).entries).toHaveLength(640);
    });
  });

  describe('watch', () => {
    it('brings each transaction after a revision in one piece and in order', async () => {
      const store = await opened();
      const start = await put(store, { 'n/before': 0 });
      const first = await put(store, { 'n/a': 1, 'n/b': 2 });
      const second = await put(store, { 'n/a': undefined });
      expect(await batches(store, 'n/', start, 2)).toEqual([
        {
          revision: first,
          changes: [
            { key: 'n/a', value: 1, revision: first },
            { key: 'n/b', value: 2, revision: first },
          ],
        },
        { revision: second, changes: [{ key: 'n/a', value: undefined, revision: second }] },
      ]);
    });

    it('brings what comes while it is open', async () => {
      const store = await opened();
      const { revision } = await store.list('');
      const coming = batches(store, '', revision, 3);
      for (const value of [1, 2, 3]) await put(store, { a: value });
      expect((await coming).map((b) => b.changes[0]?.value)).toEqual([1, 2, 3]);
    });

    it('leaves out what is not under the prefix', async () => {
      const store = await opened();
      const { revision } = await store.list('');
      await put(store, { 'other/a': 1 });
      await put(store, { 'other/b': 1, 'n/a': 1 });
      const [batch] = await batches(store, 'n/', revision, 1);
      expect(batch?.changes.map((c) => c.key)).toEqual(['n/a']);
    });

    it('leaves out what a conflict kept from being written', async () => {
      const store = await opened();
      const { revision } = await store.list('');
      await store.transact([{ key: 'a', revision: 99 }], [{ key: 'a', value: 'refused' }]);
      await put(store, { a: 'written' });
      const [batch] = await batches(store, '', revision, 1);
      expect(batch?.changes[0]?.value).toBe('written');
    });

    it('is resumed at any revision without a gap and without a repetition', async () => {
      const store = await opened();
      const { revision: start } = await store.list('');
      const writing = (async () => {
        for (let i = 0; i < 200; i++) {
          await put(store, { [`k/${i % 7}`]: i });
          if (i % 20 === 0) await sleep(1);
        }
      })();
      const seen: Batch[] = [];
      while (seen.length < 200)
        seen.push(
          ...(await batches(store, 'k/', seen.at(-1)?.revision ?? start, Math.min(13, 200 - seen.length))),
        );
      await writing;
      expect(seen.map((b) => b.changes[0]?.value)).toEqual(Array.from({ length: 200 }, (_, i) => i));
    });

    it('shows every watcher the same', async () => {
      const store = await opened();
      const { revision } = await store.list('');
      const watching = Array.from({ length: 10 }, () => batches(store, '', revision, 50));
      await Promise.all(Array.from({ length: 50 }, (_, i) => put(store, { a: i })));
      const [first, ...others] = await Promise.all(watching);
      for (const other of others) expect(other).toEqual(first);
    });

    it('from a list on equals the next list', async () => {
      const store = await opened();
      await put(store, { a: 1, b: 2, c: 3 });
      const { entries, revision } = await store.list('');
      const copy = new Map(entries.map((e) => [e.key, e.value]));
      await put(store, { b: undefined, d: 4 });
      await put(store, { a: 5 });
      for (const { changes } of await batches(store, '', revision, 2))
        for (const { key, value } of changes) value === undefined ? copy.delete(key) : copy.set(key, value);
      const after = await store.list('');
      expect([...copy].sort()).toEqual(after.entries.map((e) => [e.key, e.value]));
    });

    it('ends when its signal aborts, also while nothing happens', async () => {
      const store = await opened();
      const { revision } = await store.list('');
      const stop = new AbortController();
      const ended = (async () => {
        for await (const { changes } of store.watch('', revision, stop.signal))
          if (changes.length > 0) throw new Error('nothing was written');
        return 'ended';
      })();
      await sleep(1);
      stop.abort();
      expect(await ended).toBe('ended');
    });

    it('from a revision that is no longer kept says so', async () => {
      const before = await opened();
      const old = await put(before, { a: 1 });
      await put(before, { a: 2 });
      const store = await compact(before);
      onTestFinished(() => store.close());
      await expect(batches(store, '', old, 1)).rejects.toThrow(CompactedError);
    });

    it('goes on from the newest revision after older ones are forgotten', async () => {
      const before = await opened();
      await put(before, { a: 1 });
      const store = await compact(before);
      onTestFinished(() => store.close());
      const { revision } = await store.list('');
      const next = await put(store, { a: 3 });
      expect((await batches(store, '', revision, 1))[0]?.revision).toBe(next);
    });
  });

  describe('leases', () => {
    const write = (store: Store, lease: string, ...keys: string[]): Promise<Outcome> =>
      store.transact(
        [],
        keys.map((key) => ({ key, value: key, lease })),
      );

    it('take their keys with them when they end', async () => {
      const store = await opened();
      const lease = await store.grant(1);
      await write(store, lease, 'a', 'b');
      await put(store, { stays: 1 });
      expect((await store.list('')).entries).toHaveLength(3);
      await vi.waitUntil(async () => (await store.get('a')) === undefined, LIMIT);
      expect((await store.list('')).entries.map((e) => e.key)).toEqual(['stays']);
      expect(await store.renew(lease)).toBe(false);
    });

    it('live as long as they are renewed', async () => {
      const store = await opened();
      const [kept, left] = [await store.grant(2), await store.grant(2)];
      await write(store, kept, 'kept');
      await write(store, left, 'left');
      await vi.waitUntil(async () => {
        expect(await store.renew(kept)).toBe(true);
        return (await store.get('left')) === undefined;
      }, LIMIT);
      expect(await store.get('kept')).toBeDefined();
    });

    it('end at once when revoked: their keys go in one transaction that watchers see', async () => {
      const store = await opened();
      const lease = await store.grant(600);
      await write(store, lease, 'a', 'b');
      const { revision } = await store.list('');
      await store.revoke(lease);
      expect((await store.list('')).entries).toEqual([]);
      const [batch] = await batches(store, '', revision, 1);
      expect(batch?.changes.map(({ key, value }) => [key, value]).sort()).toEqual([
        ['a', undefined],
        ['b', undefined],
      ]);
      expect(await store.renew(lease)).toBe(false);
    });

    it('leave a key alone that was written again without them, or with another', async () => {
      const store = await opened();
      const [first, second] = [await store.grant(600), await store.grant(600)];
      await write(store, first, 'plain', 'moved', 'deleted');
      await put(store, { plain: 1, deleted: undefined });
      await write(store, second, 'moved');
      await store.revoke(first);
      expect((await store.list('')).entries.map((e) => e.key)).toEqual(['moved', 'plain']);
      await store.revoke(second);
      expect((await store.list('')).entries.map((e) => e.key)).toEqual(['plain']);
    });

    it('are named by the entries and changes that they hold', async () => {
      const store = await opened();
      const lease = await store.grant(600);
      const { revision } = await store.list('');
      await write(store, lease, 'a');
      expect(await store.get('a')).toMatchObject({ lease });
      expect((await store.list('')).entries).toMatchObject([{ key: 'a', lease }]);
      await put(store, { a: 1 });
      expect((await store.list('')).entries.map((e) => e.lease)).toEqual([undefined]);
      const seen = await batches(store, '', revision, 2);
      expect(seen.map((b) => b.changes[0]?.lease)).toEqual([lease, undefined]);
    });

    it.runIf(beside)('may be renewed by whoever reads their name', async () => {
      const store = await opened();
      const other = await (beside as NonNullable<typeof beside>)(store);
      onTestFinished(() => other.close());
      const [kept, left] = [await store.grant(2), await store.grant(2)];
      await write(store, kept, 'kept');
      await write(store, left, 'left');
      const held = (await other.get('kept'))?.lease as string;
      await vi.waitUntil(async () => {
        expect(await other.renew(held)).toBe(true);
        return (await other.get('left')) === undefined;
      }, LIMIT);
      expect(await store.get('kept')).toBeDefined();
      await other.revoke(held);
      expect(await store.get('kept')).toBeUndefined();
    });

    it('that ended are no longer written with', async () => {
      const store = await opened();
      const lease = await store.grant(600);
      await store.revoke(lease);
      expect((await write(store, lease, 'a')).ok).toBe(false);
      expect(await store.get('a')).toBeUndefined();
    });
  });
}

/** Writes without checks; answers the revision. */
async function put(store: Store, values: Readonly<Record<string, unknown>>): Promise<number> {
  const outcome = await store.transact(
    [],
    Object.entries(values).map(([key, value]) => ({ key, value })),
  );
  if (!outcome.ok) throw new Error(`conflict on ${outcome.conflicts}`);
  return outcome.revision;
}

/** The next so many batches. */
async function batches(store: Store, prefix: string, after: number, count: number): Promise<Batch[]> {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), LIMIT);
  const seen: Batch[] = [];
  try {
    for await (const batch of store.watch(prefix, after, stop.signal))
      if (batch.changes.length > 0 && seen.push(batch) === count) return seen;
    throw new Error(`the watch brought ${seen.length} of ${count} transactions`);
  } finally {
    clearTimeout(timer);
    stop.abort();
  }
}
