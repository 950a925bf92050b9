/** netmaster backup, restore and move, as the programs that they are, over both stores; and what hosts are told of a store that was put back. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { connect } from '../src/client/client.ts';
import { contentsOf } from '../src/netmaster/backup.ts';
import { openStore } from '../src/store/open.ts';
import type { Entry } from '../src/store/store.ts';
import { netctl } from './cluster.ts';
import { type EtcdCluster, startEtcd } from './etcd.ts';
import { temporaryFolder } from './folder.ts';
import { netmasterOn } from './netmaster.ts';

// Programs are started one after the other, on a machine that is busy.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

const COMMAND = path.join(import.meta.dirname, '../bin/netmaster');

let etcd: EtcdCluster;
beforeAll(async () => {
  etcd = await startEtcd(1);
});
afterAll(() => etcd.close());

interface Ended {
  readonly exit: number;
  readonly out: string;
  readonly err: string;
}
function netmaster(...args: readonly string[]): Promise<Ended> {
  return new Promise((done) => {
    execFile(COMMAND, args, { maxBuffer: 1 << 26 }, (error, out, err) =>
      done({ exit: error === null ? 0 : Number(error.code ?? 255), out: out.trim(), err: err.trim() }),
    );
  });
}
async function must(...args: readonly string[]): Promise<string> {
  const { exit, out, err } = await netmaster(...args);
  if (exit !== 0) throw new Error(`netmaster ${args.join(' ')}: ${exit}: ${err}`);
  return out;
}

let names = 0;
const STORES = {
  sqlite: (folder: string) => `sqlite:${folder}/${++names}.db`,
  etcd: () => `etcd://${etcd.endpoints[0]}/backup${++names}`,
} as const;
type StoreKind = keyof typeof STORES;
/** For what takes processes, on a machine that is busy with others. */
const PATIENT = { timeout: 30_000 };
const KINDS = Object.keys(STORES) as StoreKind[];

const contentOf = (i: number, by: string) => ({ tenantName: `t${i}`, by, text: 'x'.repeat(i % 300) });
/** Entries as netmaster has them, more than one of etcd's transactions takes; and one that a host keeps alive. */
async function filled(spec: string, count: number, by = 'first'): Promise<void> {
  const store = await openStore(spec, () => {});
  const tenants = Array.from({ length: count }, (_, i) => ({
    key: `/contiv/tenant/t${i}`,
    value: contentOf(i, by),
  }));
  for (let i = 0; i < 3; i++)
    await store.transact(
      [],
      [
        {
          key: `/contiv/event/intent/${'zyx'[i]}`,
          value: {
            time: '2026-11-28T07:00:00.000Z',
            first: 0,
            events: [{ text: `${i}a` }, { text: `${i}b` }],
          },
        },
      ],
    );
  await store.transact([], tenants);
  const lease = await store.grant(600);
  await store.transact([], [{ key: '/contiv/host/node1', value: { name: 'node1' }, lease }]);
  await store.close();
}
/** What is in it, without what each store has of its own. */
async function inside(spec: string): Promise<{ entries: Entry[]; plain: Map<string, unknown> }> {
  const store = await openStore(spec, () => {});
  try {
    const { entries } = await store.list('/contiv/');
    const plain = entries.filter(({ key }) => !/^\/contiv\/(event|lineage|host)\//.test(key));
    return { entries, plain: new Map(plain.map(({ key, value }) => [key, value])) };
  } finally {
    await store.close();
  }
}

describe.each(KINDS.flatMap((from) => KINDS.map((to) => [from, to] as const)))(
  'from %s to %s',
  (from, to) => {
    it('all comes by a backup and by a move, but what hosts keep alive; events in the order in which they happened', async () => {
      const folder = temporaryFolder();
      const [source, restored, moved] = [STORES[from](folder), STORES[to](folder), STORES[to](folder)];
      await filled(source, 400);
      const file = `${folder}/cluster.backup`;
      expect(await must('backup', file, '--store', source)).toMatch(
        /: 403 entries of revision \d+, \d+ bytes$/,
      );
      expect(fs.statSync(file).mode & 0o777).toBe(0o600);
      await must('restore', file, '--store', restored);
      await must('move', source, moved);
      const before = await inside(source);
      expect(before.plain.size).toBe(400);
      for (const spec of [restored, moved]) {
        const after = await inside(spec);
        expect(after.plain).toEqual(before.plain);
        expect(after.entries.some(({ lease }) => lease !== undefined)).toBe(false);
        const texts = after.entries
          .filter(({ key }) => key.startsWith('/contiv/event/'))
          .map(({ revision, value }) => ({
            revision,
            ...(value as { first: number; events: { text: string }[] }),
          }))
          .sort((a, b) => a.revision - b.revision || a.first - b.first)
          .flatMap(({ first, events }) => events.map(({ text }, i) => `${first + i} ${text}`));
        expect(texts).toEqual(['0 0a', '1 0b', '2 1a', '3 1b', '4 2a', '5 2b']);
      }
    });
  },
);

describe('refused in one line', () => {
  async function backup() {
    const folder = temporaryFolder();
    const store = STORES.sqlite(folder);
    await filled(store, 20);
    const file = `${folder}/cluster.backup`;
    await must('backup', file, '--store', store);
    return { folder, store, file, bytes: fs.readFileSync(file) };
  }
  const signed = (text: string): string =>
    `${text}${JSON.stringify({ sha256: createHash('sha256').update(text).digest('hex') })}\n`;

  it('a damaged file, wherever it is damaged, one that is cut short, and one of a newer netmaster; the store stays as it was', async () => {
    const { folder, file, bytes } = await backup();
    const to = STORES.sqlite(folder);
    const bad = `${folder}/bad.backup`;
    const attempts: [string | Buffer, RegExp][] = [];
    for (const at of [300, bytes.length >> 1, bytes.length - 40]) {
      const damaged = Buffer.from(bytes);
      damaged[at] = (damaged[at] as number) ^ 1;
      attempts.push([damaged, /is damaged, its checksum .*: copy it anew/]);
    }
    attempts.push([bytes.subarray(0, bytes.length - 10), /is cut short.*: copy it anew/]);
    attempts.push([bytes.subarray(0, 700), /is cut short/]);
    attempts.push([Buffer.alloc(0), /is no backup/]);
    attempts.push(['tenants: []\n', /is no backup/]);
    const text = bytes.toString('utf8');
    const body = text.slice(0, text.lastIndexOf('\n', text.length - 2) + 1);
    attempts.push([
      signed(body.replace('"contiv-netmaster-backup":1', '"contiv-netmaster-backup":2')),
      /has made it in format 2, and this one knows 1: restore it by that version/,
    ]);
    attempts.push([signed(body.replaceAll('/contiv/tenant/', '/other/')), /is no key of netmaster's/]);
    for (const [content, why] of attempts) {
      fs.writeFileSync(bad, content);
      const { exit, err } = await netmaster('restore', bad, '--store', to);
      expect(err).toMatch(why);
      expect([exit, err.split('\n').length]).toEqual([3, 1]);
    }
    // Nothing of all that was written: it counts as empty.
    await must('restore', file, '--store', to);
    expect((await inside(to)).plain.size).toBe(20);
  });

  it('a store in which something is, until it is told to replace it', async () => {
    const { file, store, folder } = await backup();
    await filled(store, 30, 'second');
    const before = await inside(store);
    expect(await netmaster('restore', file, '--store', store)).toMatchObject({
      exit: 3,
      err: expect.stringMatching(/30 entries are in it: name an empty store, or say --replace/),
    });
    expect(await netmaster('move', store, STORES.sqlite(folder))).toMatchObject({ exit: 0 });
    expect((await inside(store)).plain).toEqual(before.plain);
    expect(await must('restore', file, '--store', store, '--replace')).toMatch(/in place of 30$/);
    expect((await inside(store)).plain.get('/contiv/tenant/t3')).toEqual(contentOf(3, 'first'));
    expect((await inside(store)).plain.size).toBe(20);
  });

  it('what is no backup, in the place of one', async () => {
    const { store, folder } = await backup();
    const file = store.slice('sqlite:'.length);
    expect((await netmaster('backup', file, '--store', store)).err).toMatch(/is there and is no backup/);
    expect((await netmaster('backup', `${folder}/no/x`, '--store', store)).err).toMatch(/there is no folder/);
    expect((await netmaster('restore', file, '--store', STORES.sqlite(folder))).err).toMatch(
      /is a store itself/,
    );
    expect((await netmaster('backup', `${folder}/x`, '--store', `sqlite:${folder}/none.db`)).err).toMatch(
      /there is no file/,
    );
    expect(fs.existsSync(`${folder}/none.db`)).toBe(false);
    for (const [args, why] of [
      [['move', store, store], 'the same store'],
      [['move', store], 'FROM and TO'],
      [['move', 'memory', store], "FROM 'memory'"],
      [['restore', store], 'is a store: netmaster move'],
      [['backup'], 'takes FILE'],
      [['backup', '--', '-'], 'must be the name of a file'],
      [['backup', 'a\nb'], 'must be the name of a file'],
      [['backup', 'x', '--replace'], '--replace'],
    ] as const)
      expect(await netmaster(...args)).toMatchObject({ exit: 1, err: expect.stringContaining(why) });
  });

  it.each(KINDS)(
    'a store on which netmaster runs (%s); a backup of it is taken by asking it',
    async (kind) => {
      const folder = temporaryFolder();
      const store = STORES[kind](folder);
      const running = await netmasterOn(store);
      await running.start();
      await vi.waitUntil(
        async () => (await netctl(running.url, ['tenant', 'create', 'blue'])).status === 0,
        PATIENT,
      );
      const file = `${folder}/asked.backup`;
      expect((await netctl(running.url, ['backup', file])).out).toMatch(/entries of revision \d+/);
      expect(fs.statSync(file).mode & 0o777).toBe(0o600);
      const offline = await netmaster('backup', `${folder}/offline.backup`, '--store', store);
      if (kind === 'sqlite') expect(offline.err).toMatch(/netctl backup FILE/);
      else expect(offline.exit).toBe(0);
      if (kind === 'etcd')
        await vi.waitUntil(async () => {
          const opened = await openStore(store, () => {});
          const { entries } = await opened.list('/contiv/replica/');
          await opened.close();
          return entries.length === 1;
        }, PATIENT);
      for (const args of [
        ['restore', file, '--store', store, '--replace'],
        ['move', store, STORES.sqlite(folder)],
        ['move', STORES.sqlite(folder), store],
      ]) {
        if (args[0] === 'move' && args[2] === store) await filled(args[1] as string, 3);
        expect(await netmaster(...args)).toMatchObject({
          exit: 3,
          err: expect.stringMatching(/runs on it: stop it first/),
        });
      }
      await running.kill();
      const to = STORES.sqlite(folder);
      await must('restore', file, '--store', to);
      expect((await inside(to)).plain.has('/contiv/tenant/blue')).toBe(true);
    },
  );
});

describe('killed in the middle', () => {
  async function killedAfter(milliseconds: number, ...args: string[]): Promise<boolean> {
    const child: ChildProcess = spawn(COMMAND, args, { stdio: 'ignore' });
    const ended = once(child, 'close');
    await Promise.race([sleep(milliseconds), ended]);
    child.kill('SIGKILL');
    await ended;
    return child.signalCode === 'SIGKILL';
  }

  it.each(KINDS)('a restore has happened or not (%s)', async (kind) => {
    const folder = temporaryFolder();
    const count = kind === 'etcd' ? 6000 : 30_000;
    const other = STORES.sqlite(folder);
    await filled(other, count, 'other');
    const file = `${folder}/other.backup`;
    await must('backup', file, '--store', other);
    const store = STORES[kind](folder);
    await filled(store, count / 2, 'own');
    const seen = new Set<string>();
    let killed = 0;
    const started = performance.now();
    // How long a whole one takes, and then at moments of it.
    await must('restore', file, '--store', store, '--replace');
    let whole = performance.now() - started;
    await filled(store, count / 2, 'own');
    for (let i = 1; i <= 8; i++) {
      const began = performance.now();
      if (await killedAfter((whole * (i + 1)) / 9, 'restore', file, '--store', store, '--replace')) killed++;
      // One that was done sooner: the machine is less busy than it was.
      else whole = Math.min(whole, performance.now() - began);
      const { plain } = await inside(store);
      const by = [...plain.values()].map((value) => (value as { by: string }).by);
      const state = `${new Set(by).size === 1 ? by[0] : 'mixed'} ${plain.size}`;
      seen.add(state);
      // What was there: of the first fill half are the restore's own.
      expect([`other ${count}`, `mixed ${count}`]).toContain(state);
      if (state.startsWith('mixed')) expect(by.filter((who) => who === 'own')).toHaveLength(count / 2);
      await filled(store, count / 2, 'own');
    }
    expect(killed).toBeGreaterThan(2);
    expect(seen.has(`mixed ${count}`)).toBe(true);
  });

  it('a backup is whole or the one before, and what was left is cleared away', async () => {
    const folder = temporaryFolder();
    const [small, large] = [STORES.sqlite(folder), STORES.sqlite(folder)];
    await filled(small, 5);
    await filled(large, 40_000);
    const file = `${folder}/cluster.backup`;
    await must('backup', file, '--store', small);
    const started = performance.now();
    await must('backup', `${folder}/whole.backup`, '--store', large);
    const whole = performance.now() - started;
    const check = STORES.sqlite(folder);
    for (let i = 1; i <= 8; i++) {
      await killedAfter((whole * (i + 2)) / 10, 'backup', file, '--store', large);
      const out = await must('restore', file, '--store', check, '--replace');
      expect(out).toMatch(/: (8|40003) entries/);
    }
    await must('backup', file, '--store', small);
    expect(fs.readdirSync(folder).filter((name) => name.endsWith('.partial'))).toEqual([]);
  });
});

describe('a store that was put back', () => {
  it.each(['a copy of its file', 'a restore'] as const)(
    'by %s: who has seen more lists everything, also where revisions have come as far again; status says so',
    async (how) => {
      const folder = temporaryFolder();
      const file = `${folder}/m.db`;
      const netmaster = await netmasterOn(`sqlite:${file}`);
      await netmaster.start();
      const client = connect({ urls: [netmaster.url] });
      onTestFinished(() => client.close());
      const create = (name: string) => netctl(netmaster.url, ['tenant', 'create', name]);
      /** What a watcher is told first: `synced` and the position, or 410. */
      const resumed = async (from: { store: string; after: number }): Promise<unknown> => {
        const stop = new AbortController();
        try {
          for await (const message of client.watch({ ...from, signal: stop.signal })) return message;
        } catch (error) {
          return (error as { status?: number }).status;
        } finally {
          stop.abort();
        }
        return undefined;
      };
      const position = async (): Promise<{ store: string; after: number }> => {
        const stop = new AbortController();
        for await (const message of client.watch({ signal: stop.signal }))
          if (message.type === 'synced') {
            stop.abort();
            return { store: message.store, after: message.revision };
          }
        throw new Error('no list');
      };
      await create('one');
      const early = await position();
      expect(await resumed(early)).toMatchObject({ type: 'synced', revision: early.after });

      // A start more is no other store.
      await netmaster.kill();
      if (how === 'a copy of its file') fs.cpSync(folder, `${folder}-copy`, { recursive: true });
      else await must('backup', `${folder}/b`, '--store', `sqlite:${file}`);
      onTestFinished(() => fs.rmSync(`${folder}-copy`, { recursive: true, force: true }));
      await netmaster.start();
      expect(await resumed(early)).toMatchObject({ type: 'synced', ...{ store: early.store } });
      for (const name of ['two', 'three']) await create(name);
      const late = await position();
      expect(late.store).not.toBe(early.store);
      await netmaster.kill();

      if (how === 'a copy of its file') {
        for (const name of ['m.db', 'm.db-wal', 'm.db-shm']) fs.rmSync(`${folder}/${name}`, { force: true });
        fs.cpSync(`${folder}-copy`, folder, { recursive: true });
      } else await must('restore', `${folder}/b`, '--store', `sqlite:${file}`, '--replace');
      await netmaster.start();
      for (const name of ['four', 'five', 'six', 'seven', 'eight']) await create(name);
      const now = await position();
      expect(now.after).toBeGreaterThan(late.after);
      expect(await resumed(late)).toBe(410);
      expect(await resumed(now)).toMatchObject({ type: 'synced' });
      const status = (await netctl(netmaster.url, ['status'])).out;
      if (how === 'a restore')
        expect(status).toMatch(/restored {3}.*: restored from a backup of .*, revision \d+/);
      else
        await vi.waitUntil(
          async () =>
            /restored {3}.*put back to an earlier state: a watcher from 127.0.0.1 has seen revision \d+/.test(
              (await netctl(netmaster.url, ['status'])).out,
            ),
          { timeout: 10_000 },
        );
    },
  );

  it('is of one revision: what is written while it is taken is in it whole or not', async () => {
    const folder = temporaryFolder();
    const spec = STORES.etcd();
    const store = await openStore(spec, () => {});
    onTestFinished(() => store.close());
    let going = true;
    const keys = Array.from({ length: 5000 }, (_, i) => `/contiv/tenant/t${i}`);
    const write = (n: number) =>
      store.transact(
        [],
        keys.map((key) => ({ key, value: n })),
      );
    await write(0);
    const writing = (async () => {
      for (let n = 1; going; n++) await write(n);
    })();
    const reader = await openStore(spec, () => {});
    for (let i = 0; i < 5; i++) {
      const { entries } = await contentsOf(reader);
      expect(new Set(entries.map(({ value }) => value)).size).toBe(1);
      expect(entries).toHaveLength(5000);
    }
    await must('backup', `${folder}/b`, '--store', spec);
    going = false;
    await writing;
    await reader.close();
  });
});
