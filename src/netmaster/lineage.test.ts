/** Which revisions are of a store's past: of stores in memory, which are put back as a file would be. */
import { expect, it, onTestFinished } from 'vitest';
import { openMemory } from '../store/memory.ts';
import type { Store } from '../store/store.ts';
import { decideTerm, firstTerm, judge } from './lineage.ts';
import { openMirror, storeKey } from './mirror.ts';
import { openWriter } from './writer.ts';

async function opened(store: Store = openMemory()) {
  const mirror = await openMirror(store);
  onTestFinished(() => mirror.close());
  const writer = openWriter(store, mirror);
  const write = async (name: string): Promise<void> => {
    const outcome = await store.transact(
      [],
      [{ key: storeKey('tenant', name), value: { tenantName: name } }],
    );
    if (outcome.ok) await mirror.seen(outcome.revision);
  };
  return {
    store,
    mirror,
    write,
    begin: () => writer.write(() => decideTerm(mirror)),
    at: () => ({ store: mirror.storeId, revision: mirror.revision }),
    judge: (position: { store: string; revision: number }, alone = true) =>
      judge(mirror, position.store, position.revision, alone),
  };
}

/** The same store as of an earlier moment: the same id, terms and revision. */
async function putBack(of: Awaited<ReturnType<typeof opened>>): Promise<Store> {
  const memory = openMemory();
  const { entries } = await of.store.list('');
  // Each write is one revision: they are written in their order, with fillers between.
  let revision = 1;
  for (const { key, value, revision: at } of entries.toSorted((a, b) => a.revision - b.revision))
    for (; revision < at; revision++)
      await memory.transact([], [revision + 1 === at ? { key, value } : { key: 'filler', value: revision }]);
  return { ...memory, id: of.store.id };
}

it('a start more is the same store, and so is every revision of its terms', async () => {
  const netmaster = await opened();
  await netmaster.begin();
  await netmaster.write('a');
  const early = netmaster.at();
  await netmaster.begin();
  await netmaster.write('b');
  const late = netmaster.at();
  expect(late.store).not.toBe(early.store);
  expect([netmaster.judge(early), netmaster.judge(late)]).toEqual(['past', 'past']);
  // By the term before, nobody was told what came later.
  expect(netmaster.judge({ ...early, revision: late.revision })).toBe('ahead');
  expect(netmaster.judge({ ...late, store: 'other.term' })).toBe('another');
});

it('what a store has seen that was put back is not its past, however far it has come since', async () => {
  const netmaster = await opened();
  await netmaster.begin();
  await netmaster.write('a');
  const before = netmaster.at();
  const copy = await putBack(netmaster);
  await netmaster.write('b');
  const same = netmaster.at();
  await netmaster.begin();
  await netmaster.write('c');
  const next = netmaster.at();

  const again = await opened(copy);
  expect(again.at()).toEqual(before);
  expect([again.judge(before), again.judge(same)]).toEqual(['past', 'ahead']);
  // Others write to it too: it may only not be seen here yet.
  expect(again.judge(same, false)).toBe('past');
  await again.begin();
  for (let i = 0; i < 10; i++) await again.write(`d${i}`);
  expect(again.at().revision).toBeGreaterThan(next.revision);
  for (const alone of [true, false])
    expect([before, same, next].map((at) => again.judge(at, alone))).toEqual(['past', 'ahead', 'ahead']);
});

it('terms of what was in a store that was filled anew are known, and no proof that it was put back', async () => {
  const netmaster = await opened();
  await netmaster.begin();
  const before = netmaster.at();
  const lineage = (await netmaster.store.get('/contiv/lineage/lineage'))?.value;
  const outcome = await netmaster.store.transact([], [firstTerm('restored', lineage)]);
  if (outcome.ok) await netmaster.mirror.seen(outcome.revision);
  expect(netmaster.judge(before)).toBe('another');
  expect(netmaster.judge({ ...before, store: `${netmaster.store.id}.unheard` })).toBe('ahead');
  expect(netmaster.judge(netmaster.at())).toBe('past');
});
