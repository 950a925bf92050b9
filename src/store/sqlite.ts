/**
 * The embedded store: one SQLite file, written in WAL mode with synchronous=FULL, so that a transaction that
 * was acknowledged survives kill -9 and loss of power (sqlite.org/pragma.html#pragma_synchronous).
 * One process has it open at a time; history for watchers is of this process's time.
 */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type Journal, openEngine } from './engine.ts';
import { walOf, watchFile } from './sameFile.ts';
import { type Store, UnwritableError } from './store.ts';
import { leftOutOf } from './wal.ts';

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS entry (
    key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL, lease TEXT
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS lease (id TEXT PRIMARY KEY, ttl REAL NOT NULL) WITHOUT ROWID;
`;

/** Of the tables above, in the file's user_version: one that does not know it leaves the file as it is. */
const FORMAT = 1;

/** A database that another program made is left as it is. */
const COUNT_OTHERS = `
  SELECT count(*) AS count FROM sqlite_schema WHERE type = 'table' AND name NOT IN ('meta', 'entry', 'lease')
`;

/** Throws an Error with one plain line where the file cannot be used. `warn` is told of what was found in it, in one line. */
export function openSqlite(file: string, warn: (line: string) => void = () => {}): Store {
  let db: DatabaseSync | undefined;
  try {
    db = new DatabaseSync(file, { timeout: 0 });
    // The lock is held until the file is closed, also by kill -9: the kernel drops it with the process.
    db.exec('PRAGMA locking_mode = EXCLUSIVE;');
    if ((db.prepare(COUNT_OTHERS).get() as { count: number }).count > 0)
      throw new Error("another program's database, not netmaster's: name another file");
    const { user_version: format } = db.prepare('PRAGMA user_version').get() as { user_version: number };
    if (format > FORMAT)
      throw new Error(
        `a newer netmaster has written it (format ${format}, this one knows ${FORMAT}): start that version`,
      );
    // The lock is ours, and nothing is written yet.
    const leftOut = leftOutOf(walOf(file));
    if (leftOut !== undefined)
      warn(
        `store ${file}: ${leftOut.bytes} bytes of its log ${walOf(file)}, from byte ${leftOut.from}, are no whole transaction and were left out: they were being written when netmaster or its machine ended, or the file is damaged`,
      );
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
    db.exec(`BEGIN IMMEDIATE; ${SCHEMA} PRAGMA user_version = ${FORMAT}; COMMIT;`);
    return openEngine(openJournal(db, file));
  } catch (error) {
    db?.close();
    throw new Error(`store ${file}: ${reasonOf(error as Error, path.resolve(file))}`);
  }
}

/** Why the file cannot be used, and what would be right: SQLite's own words name neither the folder nor the user. */
function reasonOf({ message }: Error, file: string): string {
  const folder = path.dirname(file);
  const there = statOf(file);
  if (there === 'hidden')
    return `user ${process.geteuid?.()} may not enter ${folder}: let it (chmod), or name another file with --store sqlite:FILE`;
  if (there?.isDirectory())
    return `it is a folder: name a file in it, such as --store sqlite:${file}/netmaster.db`;
  if (there !== undefined && !there.isFile())
    return 'it is no regular file: name one with --store sqlite:FILE';
  if (/locked|busy/i.test(message))
    return 'another netmaster has it open; more than one netmaster needs etcd';
  if (/not a database/.test(message)) return `${message}: name another file with --store sqlite:FILE`;
  if (!/unable to open|readonly/.test(message)) return message;
  if (!isFolder(folder))
    return `there is no folder ${folder}: make it (mkdir -p ${folder}), or name another file with --store sqlite:FILE`;
  for (const [name, what] of [
    [folder, 'make files in'],
    [file, 'write'],
  ] as const)
    if (fs.existsSync(name) && !isWritable(name))
      return `user ${process.geteuid?.()} may not ${what} ${name}: let it (chown), or name another file with --store sqlite:FILE`;
  return message;
}

/** SQLite's own words name no file. */
const writeFailure = ({ message }: Error, file: string): string =>
  /disk is full/.test(message) ? `no space is left on the disk of ${file}: free some` : message;

/** `hidden`: some folder on the way is closed to this user. */
function statOf(file: string): fs.Stats | 'hidden' | undefined {
  try {
    return fs.statSync(file, { throwIfNoEntry: false });
  } catch {
    return 'hidden';
  }
}

const isFolder = (name: string): boolean => fs.existsSync(name) && fs.statSync(name).isDirectory();

function isWritable(name: string): boolean {
  try {
    fs.accessSync(name, fs.constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Throws where the tables are not as ours. */
function openJournal(db: DatabaseSync, path: string): Journal {
  const getMeta = db.prepare('SELECT value FROM meta WHERE name = ?');
  const putMeta = db.prepare('INSERT OR REPLACE INTO meta VALUES (?, ?)');
  const put = db.prepare('INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?)');
  const remove = db.prepare('DELETE FROM entry WHERE key = ?');
  const putLease = db.prepare('INSERT OR REPLACE INTO lease VALUES (?, ?)');
  const removeLease = db.prepare('DELETE FROM lease WHERE id = ?');
  const meta = (name: string): string | undefined =>
    (getMeta.get(name) as { value: string } | undefined)?.value;

  if (meta('id') === undefined) putMeta.run('id', randomUUID());
  // When all that opening writes is written.
  const file = watchFile(path);
  /** Why the last write failed. */
  let failed: string | undefined;

  function checkFile(): void {
    const problem = file.problem();
    if (problem !== undefined) throw new Error(problem);
  }

  /** Durable, in the file that others find by its path, when it returns. */
  function transact(run: () => void): void {
    try {
      checkFile();
      db.exec('BEGIN');
      try {
        run();
        db.exec('COMMIT');
      } finally {
        if (db.isTransaction) db.exec('ROLLBACK'); // on a full disk SQLite has done it
        file.wrote();
      }
      // Gone within the transaction: it counts as not written, and should the file come back, it is one that we do not know.
      checkFile();
      failed = undefined;
    } catch (error) {
      failed = writeFailure(error as Error, path);
      throw new UnwritableError(`the store cannot be written: ${(error as Error).message}`, { cause: error });
    }
  }

  return {
    load() {
      const rows = db.prepare('SELECT key, value, revision, lease FROM entry').all() as {
        key: string;
        value: string;
        revision: number;
        lease: string | null;
      }[];
      return {
        id: meta('id') as string,
        revision: Number(meta('revision') ?? 1),
        entries: rows.map(({ key, value, revision, lease }) => ({
          key,
          value: JSON.parse(value),
          revision,
          ...(lease === null ? {} : { lease }),
        })),
        leases: db.prepare('SELECT id, ttl FROM lease').all() as { id: string; ttl: number }[],
      };
    },
    write(transactions) {
      transact(() => {
        for (const { revision, writes } of transactions)
          for (const { key, value, lease } of writes)
            if (value === undefined) remove.run(key);
            else put.run(key, JSON.stringify(value), revision, lease ?? null);
        putMeta.run('revision', String(transactions.at(-1)?.revision));
      });
    },
    writeLease({ id, ttl }) {
      transact(() => {
        if (ttl === undefined) removeLease.run(id);
        else putLease.run(id, ttl);
      });
    },
    problem() {
      const problem = file.problem();
      if (problem !== undefined || failed === undefined) return problem;
      try {
        transact(() => putMeta.run('tried', randomUUID()));
      } catch {
        // transact() has said why
      }
      return failed;
    },
    describe() {
      const sizes = [path, walOf(path)].map(
        (name) => fs.statSync(name, { throwIfNoEntry: false })?.size ?? 0,
      );
      const { bavail, bsize } = fs.statfsSync(path);
      return {
        kind: 'sqlite',
        place: path,
        bytes: sizes.reduce((sum, size) => sum + size, 0),
        free: bavail * bsize,
      };
    },
    close: () => db.close(),
  };
}
