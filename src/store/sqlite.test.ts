import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { temporaryFolder } from '../../test/folder.ts';
import { openSqlite } from './sqlite.ts';
import type { Store } from './store.ts';
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
    expect(() => openSqlite(other)).toThrow(/^store .*letter\.txt: .*not a database$/);
    expect(() => openSqlite(join(folder, 'missing/store.db'))).toThrow(
      /^store .*missing\/store\.db: unable to open database file$/,
    );
    expect(readdirSync(folder)).toEqual(['letter.txt']);
  });
});

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
