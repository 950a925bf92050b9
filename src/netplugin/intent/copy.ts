/**
 * The copy of netmaster's objects on disk: one SQLite file, into which only what changed is written. A kill at any
 * moment leaves the state before or after a save; loss of power may leave an older one, which is then caught up by revision.
 */
import fs from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { HostKey } from '../../model/encryption.ts';
import type { WatchedObject } from '../../protocol/messages.ts';

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS object (kind TEXT, key TEXT, object TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS underlay (host TEXT PRIMARY KEY, address TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS host_key (host TEXT PRIMARY KEY, keys TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS position (id INTEGER PRIMARY KEY CHECK (id = 0), store TEXT NOT NULL, revision INTEGER NOT NULL);
`;

export interface Position {
  /** Id of the store that it is a copy of; '' where it is none yet. */
  readonly store: string;
  readonly revision: number;
  /** Last known underlay address by host; to be saved, of those that changed. */
  readonly underlays: ReadonlyMap<string, string>;
  /** The same of the keys that it has told. */
  readonly keys: ReadonlyMap<string, readonly HostKey[]>;
}

export interface Contents extends Position {
  readonly objects: readonly WatchedObject[];
}

export interface Copy {
  load(): Contents;
  /** Somebody has deleted or moved the file: what is written goes where nobody finds it, until all is saved anew. */
  lost(): boolean;
  /** `changed` undefined: everything is written anew, as `all` tells it, to a new file where it is lost. */
  save(position: Position, changed: Iterable<WatchedObject> | undefined, all: () => WatchedObject[]): void;
  close(): void;
}

/** A file that is not ours or broken is put aside: what was in it is listed anew. One on a full disk is kept. */
export function openCopy(folder: string): Copy {
  const file = path.join(folder, 'view.db');
  try {
    return open(file);
  } catch (error) {
    const { errcode, message } = error as Error & { errcode?: number };
    if (errcode !== undefined && !BROKEN.has(errcode & 0xff))
      throw new Error(`${file}: ${message}: is its disk full?`);
    for (const suffix of ['', '-wal', '-shm'])
      if (fs.existsSync(file + suffix)) fs.renameSync(file + suffix, `${file}.broken${suffix}`);
    return open(file);
  }
}

/** SQLite's result codes for tables that are not ours, and for a file that is not or is broken (sqlite3.h). */
const BROKEN = new Set([1, 11, 26]);

/** Throws where any of it cannot be read. */
function open(file: string): Copy {
  let copy = openFile(file);
  const lost = (): boolean => !fs.existsSync(file);
  return {
    load: () => copy.load(),
    lost,
    save(position, changed, all) {
      if (changed === undefined && lost()) {
        copy.close();
        fs.mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
        // The log of one that is gone is no part of the new one.
        for (const suffix of ['-wal', '-shm']) fs.rmSync(file + suffix, { force: true });
        copy = openFile(file);
      }
      copy.save(position, changed, all);
    },
    close: () => copy.close(),
  };
}

function openFile(file: string): Omit<Copy, 'lost'> {
  // Milliseconds: an earlier agent that is about to end may still write.
  const db = new DatabaseSync(file, { timeout: 5000 });
  try {
    db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; ${SCHEMA}`);
    return copyIn(db);
  } catch (error) {
    db.close();
    throw error;
  }
}

function copyIn(db: DatabaseSync): Omit<Copy, 'lost'> {
  const put = db.prepare('INSERT OR REPLACE INTO object VALUES (?, ?, ?)');
  const remove = db.prepare('DELETE FROM object WHERE kind = ? AND key = ?');
  const putUnderlay = db.prepare('INSERT OR REPLACE INTO underlay VALUES (?, ?)');
  const putKeys = db.prepare('INSERT OR REPLACE INTO host_key VALUES (?, ?)');
  const putPosition = db.prepare('INSERT OR REPLACE INTO position VALUES (0, ?, ?)');
  let found: Contents | undefined = read(db);
  return {
    load() {
      const contents = found ?? read(db);
      found = undefined;
      return contents;
    },
    save({ store, revision, underlays, keys }, changed, all) {
      found = undefined;
      db.exec('BEGIN');
      try {
        if (changed === undefined) db.exec('DELETE FROM object');
        for (const { kind, key, object } of changed ?? all())
          if (object === null) remove.run(kind, key);
          else put.run(kind, key, JSON.stringify(object));
        for (const [host, address] of underlays) putUnderlay.run(host, address);
        for (const [host, list] of keys) putKeys.run(host, JSON.stringify(list));
        putPosition.run(store, revision);
        db.exec('COMMIT');
      } catch (error) {
        if (db.isTransaction) db.exec('ROLLBACK'); // on a full disk SQLite has done it
        throw error;
      }
    },
    close: () => db.close(),
  };
}

function read(db: DatabaseSync): Contents {
  const position = db.prepare('SELECT store, revision FROM position').get() as
    | { store: string; revision: number }
    | undefined;
  const rows = db.prepare('SELECT kind, key, object FROM object').all() as Record<string, string>[];
  const hosts = db.prepare('SELECT host, address FROM underlay').all() as Record<string, string>[];
  const keys = db.prepare('SELECT host, keys FROM host_key').all() as Record<string, string>[];
  return {
    store: position?.store ?? '',
    revision: position?.revision ?? 0,
    objects: rows.map((row) => ({
      kind: row.kind as string,
      key: row.key as string,
      object: JSON.parse(row.object as string),
    })),
    underlays: new Map(hosts.map((row) => [row.host as string, row.address as string])),
    keys: new Map(keys.map((row) => [row.host as string, JSON.parse(row.keys as string)])),
  };
}
