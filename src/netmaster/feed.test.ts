/** What watchers are sent, against what the mirror shows. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { openTestMirror } from '../../test/mirror.ts';
import type { WatchMessage } from '../protocol/messages.ts';
import { openFeed, type Reader } from './feed.ts';

const rules = (from: number, count: number, priority = 1) =>
  Array.from({ length: count }, (_, i) => ({
    tenantName: 'default',
    policyName: 'p',
    ruleId: `${from + i}`,
    direction: 'in',
    action: 'allow',
    protocol: 'tcp',
    priority,
  }));

async function opened(count: number) {
  const parts = await openTestMirror({
    tenant: [{ tenantName: 'default' }],
    policy: [{ tenantName: 'default', policyName: 'p' }],
    rule: rules(0, count),
  });
  return { ...parts, feed: openFeed(parts.mirror) };
}

const messagesOf = (piece: Buffer): WatchMessage[] =>
  piece
    .toString()
    .split('\n')
    .filter((text) => text !== '')
    .map((text) => JSON.parse(text) as WatchMessage);

/** Everything that is there now. */
function drain(reader: Reader): WatchMessage[] {
  const found: WatchMessage[] = [];
  for (let piece = reader.next(); piece !== undefined; piece = reader.next())
    found.push(...messagesOf(piece));
  return found;
}

/** Objects as a watcher knows them that has read these. */
function known(messages: readonly WatchMessage[]): Map<string, unknown> {
  const objects = new Map<string, unknown>();
  const put = (o: { kind: string; key: string; object: unknown }): void => {
    if (o.object === null) objects.delete(`${o.kind} ${o.key}`);
    else objects.set(`${o.kind} ${o.key}`, o.object);
  };
  for (const message of messages)
    if (message.type === 'object') put(message);
    else if (message.type === 'change') message.changes.forEach(put);
  return objects;
}

it('a list that many ask for is made once, and its bytes are the same ones', async () => {
  const { feed, put } = await opened(3000);
  const readers = Array.from({ length: 50 }, () => feed.list());
  const first = readers.map((reader) => reader.next());
  expect(new Set(first).size).toBe(1);
  await put({ rule: rules(3000, 1) });
  const late = feed.list();
  expect(late.next()).toBe(first[0]);
  expect(feed.lists).toBe(1);
  const messages = drain(late);
  expect(messages.slice(-2).map((m) => m.type)).toEqual(['object', 'synced']);
  for (const reader of readers) expect(drain(reader).at(-1)).toEqual(messages.at(-1));
  // All the same, it is not kept for ever: neither when much has changed, nor when nobody asks.
  await put({ rule: rules(0, 3000, 2) });
  drain(feed.list());
  expect(feed.lists).toBe(2);
  feed.tidy();
  feed.list();
  expect(feed.lists).toBe(2);
  feed.tidy();
  feed.tidy();
  feed.list();
  expect(feed.lists).toBe(3);
});

it('a change is made into bytes once for all', async () => {
  const { feed, put } = await opened(3);
  const readers = Array.from({ length: 10 }, () => feed.list());
  for (const reader of readers) drain(reader);
  await put({ rule: rules(7, 1) });
  expect(new Set(readers.map((reader) => reader.next())).size).toBe(1);
  expect(readers.map((reader) => reader.next())).toEqual(Array(10).fill(undefined));
});

/** Somebody asks for a list, somebody reads a piece, or something is written. */
const steps = fc.array(
  fc.record({
    what: fc.constantFrom('list', 'read', 'read', 'read', 'put', 'remove'),
    which: fc.nat(1600),
    count: fc.integer({ min: 1, max: 400 }),
  }),
  { minLength: 20, maxLength: 60 },
);

it('who reads slowly while others write knows at each revision what the mirror showed then', async () => {
  const follows = async (chosen: typeof steps extends fc.Arbitrary<infer T> ? T : never): Promise<void> => {
    const { feed, mirror, put, remove } = await opened(1500);
    const readers: { reader: Reader; messages: WatchMessage[] }[] = [];
    const shown = new Map<number, Map<string, unknown>>();
    const note = (): void => {
      const objects = ['tenant', 'policy', 'rule'].flatMap((kind) =>
        [...mirror.entries(kind)].map(([key, { object }]) => [`${kind} ${key}`, object] as const),
      );
      shown.set(mirror.revision, new Map(objects));
    };
    note();
    for (const [step, { what, which, count }] of chosen.entries()) {
      if (what === 'list') readers.push({ reader: feed.list(), messages: [] });
      const read = what === 'read' ? readers[which % readers.length] : undefined;
      read?.messages.push(...messagesOf(read.reader.next() ?? Buffer.alloc(0)));
      if (what === 'put') await put({ rule: rules(which, count, step) });
      if (what === 'remove') await remove('rule', `default:p:${which % 1500}`);
      note();
    }
    for (const { reader, messages } of readers) {
      messages.push(...drain(reader));
      const synced = messages.findIndex((m) => m.type === 'synced');
      expect(messages.slice(synced + 1).every((m) => m.type === 'change')).toBe(true);
      for (let end = synced + 1; end <= messages.length; end++) {
        const { revision } = messages[end - 1] as { revision: number };
        expect(known(messages.slice(0, end)), `revision ${revision}`).toEqual(shown.get(revision));
      }
      expect(known(messages)).toEqual(shown.get(mirror.revision));
    }
  };
  await fc.assert(fc.asyncProperty(steps, follows), { numRuns: 12 });
});

it('resumes behind any revision that is kept, and no other', async () => {
  const { feed, mirror, put } = await opened(1);
  const start = mirror.revision;
  for (let i = 0; i < 10_010; i++) await put({ rule: rules(i % 5, 1, i) });
  expect(feed.after(start)).toBeUndefined();
  expect(feed.after(mirror.revision + 1)).toBeUndefined();
  const after = mirror.revision - 7;
  const messages = drain(feed.after(after) as Reader);
  expect(
    messages.map((m) =>
      m.type === 'ask' || m.type === 'object' ? m.type : (m as { revision: number }).revision,
    ),
  ).toEqual([0, 1, 2, 3, 4, 5, 6, 7].map((i) => after + i));
});

it('says how far a reader is behind, and that what comes next is not kept', async () => {
  const { feed, put } = await opened(1);
  const reader = feed.list();
  expect(reader.behind()).toBe(0);
  await put({ rule: rules(1, 1) });
  const one = reader.behind();
  expect(one).toBeGreaterThan(100);
  await put({ rule: rules(2, 1) });
  expect(reader.behind()).toBe(2 * one);
  drain(reader);
  expect(reader.behind()).toBe(0);
  const large = { ...rules(1, 1)[0], description: 'x'.repeat(30 << 20) };
  for (let i = 0; i < 6; i++) await put({ rule: [{ ...large, priority: i }] });
  expect(() => reader.next()).toThrow('not kept');
});

const moves = fc.array(
  fc.record({
    what: fc.constantFrom('list', 'read', 'put', 'put', 'put', 'remove'),
    which: fc.nat(9),
    tenants: fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 3 }),
  }),
  { minLength: 10, maxLength: 60 },
);

it('who has some tenants only knows what is of these, also where it becomes another tenant’s, and of others not a key', async () => {
  const follows = async (chosen: typeof moves extends fc.Arbitrary<infer T> ? T : never): Promise<void> => {
    const { mirror, put, remove } = await openTestMirror({ tenant: [{ tenantName: 'a' }] });
    const feed = openFeed(mirror);
    const readers: { reader: Reader; messages: WatchMessage[] }[] = [];
    const once = new Set(['a']);
    const isTheirs = (tenant: string): boolean => tenant !== 'c';
    for (const { what, which, tenants } of chosen) {
      if (what === 'list')
        readers.push({ reader: feed.list({ tenants: new Set(['a', 'b']), whom: 'reader r' }), messages: [] });
      const read = what === 'read' ? readers[which % readers.length] : undefined;
      read?.messages.push(...messagesOf(read.reader.next() ?? Buffer.alloc(0)));
      const workload = tenants.map((tenantName, i) => ({
        namespaceName: 'n',
        workloadName: `${which + i}`,
        tenantName,
      }));
      if (what === 'put') await put({ workload });
      if (what === 'remove' && mirror.get('workload', `n:${which}`)) await remove('workload', `n:${which}`);
      for (const [key, { object }] of mirror.entries<{ tenantName: string }>('workload'))
        if (isTheirs(object.tenantName)) once.add(key);
    }
    const shown = [...mirror.entries<{ tenantName: string }>('workload')]
      .filter(([, { object }]) => isTheirs(object.tenantName))
      .map(([key, { object }]) => [`workload ${key}`, object] as const);
    for (const { reader, messages } of readers) {
      messages.push(...drain(reader));
      expect(known(messages)).toEqual(new Map([['tenant a', { tenantName: 'a' }], ...shown]));
      const text = JSON.stringify(messages);
      expect(text).not.toContain('"tenantName":"c"');
      for (const [, key = ''] of text.matchAll(/"key":"([^"]+)"/g)) expect(once).toContain(key);
    }
  };
  await fc.assert(fc.asyncProperty(moves, follows), { numRuns: 100 });
});
