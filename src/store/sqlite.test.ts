import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { temporaryFolder } from '../../test/folder.ts';
import { startNetmaster } from '../../test/netmaster.ts';
import { openSqlite } from './sqlite.ts';
import { type Store, UnwritableError } from './store.ts';
import { testStore } from './suite.ts';

const ROOT = join(import.meta.dirname, '../..');

const newFile = (): string => join(temporaryFolder(), 'store.db');

function opened(file: string): Store {
  const store = openSqlite(file);
  onTestFinished(() => store.close());
  return store;
}

describe('SQLite store', () => {
  const files = new Map<Store, string>();
  testStore({
    async open() {
      const file = newFile();
      const store = openSqlite(file);
      files.set(store, file);
      return store;
    },
    // History is of one process's time.
    async compact(store) {
      await store.close();
      return openSqlite(files.get(store) as string);
    },
  });
});

describe('SQLite file', () => {
  it('opened again has the same id, revision, keys and values', async () => {
    const file = newFile();
    const first = openSqlite(file);
    await first.transact([], [{ key: 'a', value: { text: 'ä\u0000☃' } }]);
    await first.transact([], [{ key: 'b', value: 1 }]);
    await first.transact([], [{ key: 'b', value: undefined }]);
    const before = await first.list('');
    await first.close();
    const second = opened(file);
    expect(second.id).toBe(first.id);
    expect(await second.list('')).toEqual(before);
  });

  it('opened again ends the leases that nobody renews any more', async () => {
    const file = newFile();
    const first = openSqlite(file);
    const lease = await first.grant(1);
    await first.transact([], [{ key: 'host', value: 1, lease }]);
    await first.close();
    const second = opened(file);
    expect(await second.get('host')).toBeDefined();
    expect(await second.renew(lease)).toBe(true);
    await vi.waitUntil(async () => (await second.get('host')) === undefined, 30_000);
  });

  it('is written in WAL mode, and each commit waits for the disk', async () => {
    const exec = vi.spyOn(DatabaseSync.prototype, 'exec');
    onTestFinished(() => exec.mockRestore());
    opened(newFile());
    const db = exec.mock.contexts[0] as DatabaseSync;
    expect(db.prepare('PRAGMA journal_mode').get()).toEqual({ journal_mode: 'wal' });
    expect(db.prepare('PRAGMA synchronous').get()).toEqual({ synchronous: 2 }); // FULL
  });

  it('that a process has open is refused to a second one, with one plain line', async () => {
    const file = newFile();
    const store = opened(file);
    const second = spawn('bin/netmaster', ['--listen', '127.0.0.1:0', '--store', `sqlite:${file}`], {
      cwd: ROOT,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    onTestFinished(() => void second.kill('SIGKILL'));
    const errors = text(second.stderr);
    await once(second, 'close');
    expect(errors()).toBe(
      `netmaster: store ${file}: another netmaster has it open; more than one netmaster needs etcd\n`,
    );
    expect(second.exitCode).toBe(3);
    expect((await store.transact([], [{ key: 'a', value: 1 }])).ok).toBe(true);
  });

  it('that is no database, or cannot be made, is named in one line', () => {
    const folder = temporaryFolder();
    const other = join(folder, 'letter.txt');
    writeFileSync(other, 'Dear reader,\n'.repeat(1000));
    expect(() => openSqlite(other)).toThrow(
      /^store .*letter\.txt: .*not a database: name another file with --store sqlite:FILE$/,
    );
    expect(() => openSqlite(join(folder, 'missing/store.db'))).toThrow(
      /^store .*missing\/store\.db: there is no folder .*\/missing: make it \(mkdir -p .*\/missing\), or name another file/,
    );
    expect(readdirSync(folder)).toEqual(['letter.txt']);
  });
});

describe('SQLite file that is taken away from under a store', () => {
  const wayOut =
    /^the store cannot be written: file \S+ .*netctl export, restart netmaster, and netctl apply it$/;

  it.each<[what: string, take: (folder: string) => void, said: string]>([
    ['is deleted', (folder) => rmSync(`${folder}/store.db`), 'store.db is gone'],
    ['whose log is deleted', (folder) => rmSync(`${folder}/store.db-wal`), 'store.db-wal is gone'],
    ['whose folder is moved away', (folder) => renameSync(folder, `${folder}.away`), 'store.db is gone'],
    [
      'is replaced by a copy',
      (folder) => {
        copyFileSync(`${folder}/store.db`, `${folder}/copy`);
        renameSync(`${folder}/copy`, `${folder}/store.db`);
      },
      'store.db is another one',
    ],
    [
      'is written over in its place',
      (folder) => writeFileSync(`${folder}/store.db`, readFileSync(`${folder}/store.db`)),
      'store.db was written by somebody else',
    ],
    ['is cut off', (folder) => truncateSync(`${folder}/store.db-wal`, 100), 'was written by somebody else'],
  ])('that %s: writes are refused with what to do, reads go on', async (_what, take, said) => {
    const folder = join(temporaryFolder(), 'store');
    mkdirSync(folder);
    const store = opened(join(folder, 'store.db'));
    const lease = await store.grant(100);
    await store.transact([], [{ key: 'a', value: 1 }]);
    expect(await store.problem()).toBeUndefined();
    const before = await store.list('');
    take(folder);
    for (const write of [
      () => store.transact([], [{ key: 'b', value: 2 }]),
      () => store.grant(1),
      () => store.revoke(lease),
    ]) {
      const failure = await write().catch((error: Error) => error);
      expect(failure).toBeInstanceOf(UnwritableError);
      expect((failure as Error).message).toMatch(wayOut);
      expect((failure as Error).message).toContain(said);
    }
    expect(await store.list('')).toEqual(before);
    expect(await store.problem()).toContain(said);
  });

  it('is written again when it has been put back, and what it then has is what was acknowledged', async () => {
    const folder = join(temporaryFolder(), 'store');
    mkdirSync(folder);
    const file = join(folder, 'store.db');
    const store = opened(file);
    await store.transact([], [{ key: 'a', value: 1 }]);
    renameSync(folder, `${folder}.away`);
    await expect(store.transact([], [{ key: 'b', value: 2 }])).rejects.toThrow('is gone');
    renameSync(`${folder}.away`, folder);
    expect((await store.transact([], [{ key: 'c', value: 3 }])).ok).toBe(true);
    const before = await store.list('');
    await store.close();
    expect(await opened(file).list('')).toEqual(before);
  });

  it('is its own through many transactions, a checkpoint, a restart, and a symbolic link', async () => {
    const folder = temporaryFolder();
    symlinkSync(join(folder, 'store.db'), join(folder, 'link.db'));
    for (let round = 0; round < 2; round++) {
      const store = openSqlite(join(folder, 'link.db'));
      for (let i = 0; i < 300; i++)
        expect((await store.transact([], [{ key: `k${i}`, value: 'x'.repeat(20_000) }])).ok).toBe(true);
      expect(await store.problem()).toBeUndefined();
      await store.close();
    }
  });

  it('answers 503 at netmaster, whose health says why', async () => {
    const file = newFile();
    const url = await startNetmaster(`sqlite:${file}`);
    const create = (name: string): Promise<Response> =>
      fetch(`${url}/api/v1/tenants/${name}/`, { method: 'POST', body: JSON.stringify({ tenantName: name }) });
    expect((await create('kept')).status).toBe(200);
    rmSync(file);
    const answer = await create('lost');
    expect(answer.status).toBe(503);
    expect(await answer.json()).toEqual({
      error: { code: 'unavailable', message: expect.stringMatching(wayOut) },
    });
    const tenants = (await (await fetch(`${url}/api/v1/tenants/`)).json()) as { key: string }[];
    expect(tenants.map((t) => t.key).sort()).toEqual(['default', 'kept']);
    expect(await (await fetch(`${url}/healthz`)).json()).toMatchObject({
      status: 'unwritable',
      problem: expect.stringContaining(`file ${file} is gone`),
    });
  });
});

describe('SQLite log that ends in something else than a transaction', () => {
  /** What a machine whose power was cut has on disk: a copy of a store that runs. */
  async function image(transactions: number, length: number): Promise<string> {
    const [file, copy] = [newFile(), newFile()];
    const store = opened(file);
    for (let i = 0; i < transactions; i++)
      await store.transact([], [{ key: `k${i % 500}`, value: 'x'.repeat(length) }]);
    for (const suffix of ['', '-wal']) copyFileSync(file + suffix, copy + suffix);
    return copy;
  }

  /** Opens it: what was said, and how many keys there are. */
  async function open(file: string): Promise<{ said: string[]; keys: number }> {
    const said: string[] = [];
    const store = openSqlite(file, (line) => said.push(line));
    onTestFinished(() => store.close());
    return { said, keys: (await store.list('')).entries.length };
  }

  /** Each of these transactions changes two pages. */
  const FRAME = 4096 + 24;

  it.each<[what: string, damage: (wal: string, size: number) => void, bytes: number, keys: number]>([
    ['a frame that is cut off', (wal, size) => truncateSync(wal, size - 100), 2 * FRAME - 100, 9],
    ['a frame of which a head is there', (wal, size) => truncateSync(wal, size - FRAME + 10), FRAME + 10, 9],
    ['a frame of which a byte is another', (wal, size) => flip(wal, size - 50), 2 * FRAME, 9],
    ['a broken frame before whole ones', (wal, size) => flip(wal, size - 3 * FRAME + 50), 4 * FRAME, 8],
    ['zeros', (wal) => appendFileSync(wal, Buffer.alloc(FRAME)), FRAME, 10],
    ['a few bytes', (wal) => appendFileSync(wal, 'torn'), 4, 10],
  ])('%s: one line says how much was left out', async (_what, damage, bytes, keys) => {
    const file = await image(10, 10);
    const wal = `${file}-wal`;
    const { size } = statSync(wal);
    damage(wal, size);
    const found = await open(file);
    expect(found.said).toEqual([
      expect.stringMatching(new RegExp(`^store ${file}: ${bytes} bytes of its log ${wal}, from byte \\d+, `)),
    ]);
    expect(found.keys).toBe(keys);
  });

  it('a head that is broken: all of it is left out', async () => {
    const file = await image(10, 10);
    const { size } = statSync(`${file}-wal`);
    flip(`${file}-wal`, 20);
    const said: string[] = [];
    openSqlite(file, (line) => said.push(line)).close();
    expect(said).toEqual([expect.stringContaining(`${size} bytes of its log ${file}-wal, from byte 0, `)]);
  });

  it('nothing is said of a whole one, of one that was begun anew over older frames, and of none', async () => {
    expect(await open(await image(10, 10))).toEqual({ said: [], keys: 10 });
    // More than the thousand pages after which SQLite begins at the top again.
    const anew = await image(400, 20_000);
    expect(statSync(`${anew}-wal`).size).toBeLessThan(400 * 5 * FRAME);
    expect(await open(anew)).toEqual({ said: [], keys: 400 });
    expect(await open(newFile())).toEqual({ said: [], keys: 0 });
  });
});

/** Makes one byte of a file another. */
function flip(file: string, at: number): void {
  const bytes = readFileSync(file);
  bytes[at] = (bytes[at] as number) ^ 0xff;
  writeFileSync(file, bytes);
}

describe('SQLite store killed with SIGKILL while it writes', () => {
  it('has every acknowledged transaction when it is opened again, and none of it half', async () => {
    const file = newFile();
    let lastAcknowledged = 0;
    const acknowledged = new Set<number>();
    for (let round = 0; round < 6; round++) {
      const writer = spawn(process.execPath, [join(ROOT, 'test/storeWriter.ts'), file], {
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      onTestFinished(() => void writer.kill('SIGKILL'));
      const [numbers, errors] = [text(writer.stdout), text(writer.stderr)];
      await vi.waitUntil(() => numbers().split('\n').length > 50 * (round + 1) || !running(writer), 30_000);
      expect(running(writer), errors()).toBe(true);
      process.kill(writer.pid as number, 'SIGKILL');
      await once(writer, 'close');
      for (const number of numbers().split('\n').slice(0, -1)) acknowledged.add(Number(number));
      expect(acknowledged.size).toBeGreaterThan(lastAcknowledged);
      lastAcknowledged = acknowledged.size;

      const store = openSqlite(file);
      const { entries, revision } = await store.list('');
      await store.close();
      const parts = Map.groupBy(entries, (e) => Number(e.key.slice(2)));
      for (const number of acknowledged) expect(parts.has(number), `transaction ${number}`).toBe(true);
      for (const [number, keys] of parts) {
        expect(keys.map((e) => e.key)).toEqual([`a/${number}`, `b/${number}`, `c/${number}`]);
        expect(new Set(keys.map((e) => e.revision)).size).toBe(1);
        for (const { value } of keys)
          expect(value).toEqual({ number, text: 'x'.repeat((number % 10) * 1000) });
      }
      expect(revision).toBe(Math.max(...entries.map((e) => e.revision)));
    }
  });
});

const running = (child: ChildProcess): boolean => child.exitCode === null && child.signalCode === null;

/** What it has sent so far. */
function text(stream: NodeJS.ReadableStream): () => string {
  let received = '';
  stream.setEncoding('utf8').on('data', (chunk) => {
    received += chunk;
  });
  return () => received;
}
