/** Writes that wait for the disk together: what is counted is what goes to the store, and who is answered what. */
import fs from 'node:fs';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { temporaryFolder } from '../../test/folder.ts';
import { openMemory } from '../store/memory.ts';
import { openSqlite } from '../store/sqlite.ts';
import { type Outcome, type Store, type Transaction, UnwritableError } from '../store/store.ts';
import { EVENTS } from './events.ts';
import { openMirror, storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';
import type { View } from './tables.ts';
import { type Decision, openWriter } from './writer.ts';

/** What went to the store: how many transactions each time. */
async function netmaster(
  store: Store = openMemory(),
  fails?: (transactions: readonly Transaction[]) => void,
) {
  const commits: number[] = [];
  const counting: Store = {
    ...store,
    async transact(checks, writes) {
      fails?.([{ checks, writes }]);
      commits.push(1);
      return store.transact(checks, writes);
    },
    async transactTogether(transactions): Promise<Outcome[]> {
      fails?.(transactions);
      commits.push(transactions.length);
      return (await store.transactTogether?.(transactions)) ?? [];
    },
  };
  onTestFinished(() => store.close());
  const mirror = await openMirror(counting);
  onTestFinished(() => mirror.close());
  return { store, mirror, writer: openWriter(counting, mirror), commits };
}

/** A tenant that is not there yet. */
const create =
  (name: string) =>
  (view: View): Decision<string> => {
    const before = view.stored('tenant', name);
    if (before !== undefined) throw new Refusal(409, `tenant ${name} exists already`);
    const key = storeKey('tenant', name);
    return {
      checks: [{ key, revision: 0 }],
      writes: [{ key, value: { tenantName: name } }],
      answer: name,
      events: [{ kind: 'intent', action: 'created', object: 'tenant', key: name }],
    };
  };
/** A number that each one raises. */
const count = (view: View): Decision<number> => {
  const before = view.stored<{ tenantName: string; number: number }>('tenant', 'counter');
  const number = (before?.object.number ?? 0) + 1;
  const key = storeKey('tenant', 'counter');
  return {
    checks: [{ key, revision: before?.revision ?? 0 }],
    writes: [{ key, value: { tenantName: 'counter', number } }],
    answer: number,
  };
};
const names = Array.from({ length: 10 }, (_, i) => `t${i}`);

it('what waits goes to the disk at once, each with a revision and events of its own, and is there when it answers', async () => {
  const { writer, mirror, commits } = await netmaster();
  const before = mirror.revision;
  const written = await Promise.all(
    names.map(async (name) => {
      const { answer, revision } = await writer.writeTogether(create(name), { by: name });
      expect(mirror.stored('tenant', name)?.revision, 'it reads what it wrote').toBe(revision);
      return { answer, revision };
    }),
  );
  expect(commits).toEqual([10]);
  expect(written).toEqual(names.map((answer, i) => ({ answer, revision: before + i + 1 })));
  expect(mirror.events.list({}).map(({ key, by, id }) => [key, by, id])).toEqual(
    names.map((name, i) => [name, name, `${before + i + 1}-0`]),
  );
});

it('each sees those before it: of two of one name one is refused, and numbers go up by one', async () => {
  const { writer, commits } = await netmaster();
  const answers = await Promise.all([
    ...names.map(() => writer.writeTogether(count).then(({ answer }) => answer)),
    writer.writeTogether(create('a')).then(({ answer }) => answer),
    writer.writeTogether(create('a')).catch((error: Error) => error.message),
  ]);
  expect(answers).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 'a', 'tenant a exists already']);
  expect(commits).toEqual([11]);
});

it('a conflict of one fails no other: those before it have happened, and it and the rest are decided again', async () => {
  const { writer, store, commits } = await netmaster();
  // Another one writes it when all are decided: what the first look says is old by then.
  let other = false;
  const late = (view: View): Decision<string> => {
    if (!other) {
      other = true;
      void store.transact([], [{ key: storeKey('tenant', 'mine'), value: { tenantName: 'mine' } }]);
    }
    return create('mine')(view);
  };
  const answers = await Promise.all([
    writer.writeTogether(create('first')).then(({ answer }) => answer),
    writer.writeTogether(late).catch((error: Error) => error.message),
    writer.writeTogether(create('last')).then(({ answer }) => answer),
  ]);
  expect(answers).toEqual(['first', 'tenant mine exists already', 'last']);
  expect(commits).toEqual([3, 1]);
});

it('nobody is answered before the disk has it: what was refused because of others is not, where those do not come to be', async () => {
  let full = true;
  const { writer, mirror } = await netmaster(openMemory(), (transactions) => {
    if (full && transactions.some(({ writes }) => writes.some(({ key }) => key.endsWith('/a'))))
      throw new UnwritableError('the store cannot be written: no space is left');
  });
  const answers = await Promise.all([
    writer.writeTogether(create('a')).catch((error: Error) => error.message),
    writer
      .writeTogether(create('a'))
      .catch((error: Error) => error.message)
      .finally(() => {
        full = false;
      }),
    writer.writeTogether(create('b')).then(({ answer }) => answer),
    writer.writeTogether(create('a')).then(({ answer }) => answer),
  ]);
  const unwritable = 'the store cannot be written: no space is left';
  expect(answers).toEqual([unwritable, unwritable, 'b', 'a']);
  expect(mirror.list('tenant')).toEqual([{ tenantName: 'b' }, { tenantName: 'a' }]);
});

it('what looks at the mirror itself goes alone, in its turn', async () => {
  const { writer, mirror, commits } = await netmaster();
  await Promise.all([
    writer.writeTogether(create('a')),
    writer.writeTogether(create('b')),
    writer.write(() => create('c')(mirror)),
    writer.writeTogether(create('d')),
    writer.writeTogether(create('e')),
  ]);
  expect(commits).toEqual([2, 1, 2]);
});

it('many that wait are a few commits, none of them without end, and the log of events stays bounded', async () => {
  const { writer, mirror, commits } = await netmaster();
  const all = (round: number) =>
    Promise.all(Array.from({ length: 1000 }, (_, i) => writer.writeTogether(create(`r${round}n${i}`))));
  for (let round = 0; round < 6; round++) await all(round);
  expect(commits.reduce((sum, each) => sum + each, 0)).toBe(6000);
  expect(Math.max(...commits)).toBe(64);
  expect(commits.length).toBe(6 * Math.ceil(1000 / 64));
  expect(mirror.events.list({})).toHaveLength(EVENTS);
});

it('what was answered is in the file, one sync for all of a commit', async () => {
  const file = path.join(temporaryFolder(), 'netmaster.db');
  const { writer, store, commits } = await netmaster(openSqlite(file));
  await Promise.all(names.map((name) => writer.writeTogether(create(name))));
  expect(commits).toEqual([10]);
  // As it is at this moment: what a crash would leave.
  for (const suffix of ['', '-wal']) fs.copyFileSync(file + suffix, `${file}.copy${suffix}`);
  const copy = openSqlite(`${file}.copy`);
  onTestFinished(() => copy.close());
  expect((await copy.list(storeKey('tenant', ''))).entries).toEqual(
    (await store.list(storeKey('tenant', ''))).entries,
  );
  expect((await copy.list('')).revision).toBe((await store.list('')).revision);
});
