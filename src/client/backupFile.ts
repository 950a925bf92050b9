/**
 * A store's contents as one file:
 *
 *   {"contiv-netmaster-backup": 1, "netmaster": VERSION, "store": ID, "revision": N, "entries": N, "made": TIME}
 *   [KEY, VALUE, REVISION]                one line for each entry, in the order of keys
 *   {"sha256": HEX}                       of all bytes in front of this line
 *
 * netmaster writes and reads it (netmaster/backup.ts), and netctl keeps what netmaster has answered.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { oneLine } from '../model/text.ts';

/** A reader of a lower one refuses it. */
export const FORMAT = 1;
const MAGIC = 'contiv-netmaster-backup';
/** Bytes that are written at once. */
const PIECE = 1 << 20;

export interface Kept {
  readonly key: string;
  readonly value: unknown;
  /** Of its last write, in that store. */
  readonly revision: number;
}

export interface Contents {
  /** Id of the store that they are of. */
  readonly store: string;
  /** Which they show. */
  readonly revision: number;
  /** Without those that have a lease. */
  readonly entries: readonly Kept[];
}

/** The file, in pieces. */
export function* backupLines(
  { store, revision, entries }: Contents,
  version: string,
): Generator<string, void> {
  const hash = createHash('sha256');
  const head = {
    [MAGIC]: FORMAT,
    netmaster: version,
    store,
    revision,
    entries: entries.length,
    made: new Date().toISOString(),
  };
  let piece = `${JSON.stringify(head)}\n`;
  for (const { key, value, revision } of entries) {
    piece += `${JSON.stringify([key, value, revision])}\n`;
    if (piece.length < PIECE) continue;
    hash.update(piece);
    yield piece;
    piece = '';
  }
  hash.update(piece);
  yield `${piece}${JSON.stringify({ sha256: hash.digest('hex') })}\n`;
}

/** Why it is no name of a file that a backup may have; undefined: it is one. */
export const nameProblem = (file: string): string | undefined =>
  file.trim() === '' || file.startsWith('-') || /\p{Cc}/u.test(file)
    ? `FILE: '${oneLine(file, 64)}' must be the name of a file, as /var/backups/contiv.backup`
    : undefined;

/** Throws an Error with one plain line where something is there that a backup must not take the place of. */
export function mayBeWritten(file: string): void {
  const there = fs.statSync(file, { throwIfNoEntry: false });
  if (there === undefined) return;
  if (!there.isFile()) throw new Error(`${file}: is no regular file: name one that is to be written`);
  const begin = Buffer.alloc(MAGIC.length + 2);
  const opened = fs.openSync(file, 'r');
  try {
    fs.readSync(opened, begin, 0, begin.length, 0);
  } finally {
    fs.closeSync(opened);
  }
  if (there.size > 0 && begin.toString('latin1') !== `{"${MAGIC}`)
    throw new Error(`${file}: is there and is no backup, so it is not written over: name another file`);
}

const draftOf = (file: string, pid: number | string): string => `${file}.${pid}.partial`;

/** What one that was killed has left. */
function removeLeft(file: string): void {
  const [head = '', tail = ''] = draftOf(path.basename(file), '*').split('*');
  for (const name of fs.readdirSync(path.dirname(file))) {
    if (!name.startsWith(head) || !name.endsWith(tail)) continue;
    const pid = name.slice(head.length, -tail.length);
    if (/^\d+$/.test(pid) && !fs.existsSync(`/proc/${pid}`))
      fs.rmSync(path.join(path.dirname(file), name), { force: true });
  }
}

/** The file is whole, for its owner alone and on disk, or as it was before. Answers its bytes. */
export async function writeWhole(
  file: string,
  pieces: Iterable<string> | AsyncIterable<string>,
): Promise<number> {
  const failed = (error: unknown): Error => {
    const { code, message } = error as NodeJS.ErrnoException;
    const folder = path.dirname(path.resolve(file));
    const reasons: Readonly<Record<string, string>> = {
      ENOSPC: `no space is left on the disk of ${folder}: free some, or name a file elsewhere`,
      EDQUOT: `the quota of user ${process.geteuid?.()} in ${folder} is used up: free some, or name a file elsewhere`,
      ENOENT: `there is no folder ${folder}: make it (mkdir -p ${folder})`,
      ENOTDIR: `${folder} is no folder: name a file in one`,
      EACCES: `user ${process.geteuid?.()} may not make files in ${folder}: name a file elsewhere`,
      EROFS: `${folder} is on a disk that cannot be written: name a file elsewhere`,
    };
    return new Error(`${file}: ${reasons[code ?? ''] ?? message}`, { cause: error });
  };
  let draft: string | undefined;
  try {
    removeLeft(file);
    const name = draftOf(file, process.pid);
    const opened = fs.openSync(name, 'wx', 0o600);
    draft = name;
    let bytes = 0;
    try {
      for await (const piece of pieces) {
        fs.writeFileSync(opened, piece);
        bytes += Buffer.byteLength(piece);
      }
      fs.fsyncSync(opened);
    } finally {
      fs.closeSync(opened);
    }
    fs.renameSync(name, file);
    draft = undefined;
    const folder = fs.openSync(path.dirname(file), 'r');
    try {
      fs.fsyncSync(folder);
    } finally {
      fs.closeSync(folder);
    }
    return bytes;
  } catch (error) {
    throw (error as NodeJS.ErrnoException).syscall === undefined ? error : failed(error);
  } finally {
    if (draft !== undefined) fs.rmSync(draft, { force: true });
  }
}

const AGAIN = 'copy it anew from where it was made, or take an earlier backup';

function readBytes(file: string): Buffer {
  try {
    return fs.readFileSync(file);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reasons: Readonly<Record<string, string>> = {
      ENOENT: 'there is no such file',
      EACCES: `user ${process.geteuid?.()} may not read it`,
      EISDIR: 'is a folder: name a file in it',
    };
    throw new Error(`${file}: ${reasons[code ?? ''] ?? message}`);
  }
}

export interface Backup extends Contents {
  /** ISO 8601. */
  readonly made: string;
}

export const readBackup = (file: string): Backup => parseBackup(file, readBytes(file));

/** Throws an Error with one plain line where it is no backup, or not whole, or of a newer netmaster. */
export function parseBackup(file: string, bytes: Buffer): Backup {
  if (bytes.subarray(0, 15).toString('latin1') === 'SQLite format 3')
    throw new Error(`${file}: is a store itself: netmaster move sqlite:${file} STORE takes what is in it`);
  const end = bytes.indexOf(10);
  const head = parseObject(bytes.subarray(0, end < 0 ? bytes.length : end));
  const format = head?.[MAGIC];
  if (head === undefined || typeof format !== 'number')
    throw new Error(
      `${file}: is no backup that netmaster backup has made, or its first line is damaged: ${AGAIN}`,
    );
  if (format > FORMAT)
    throw new Error(
      `${file}: netmaster ${oneLine(String(head.netmaster), 64)} has made it in format ${format}, and this one knows ${FORMAT}: restore it by that version`,
    );

  const last = bytes.lastIndexOf(10, bytes.length - 2) + 1;
  const sum = parseObject(bytes.subarray(last))?.sha256;
  if (sum === undefined || bytes.at(-1) !== 10)
    throw new Error(`${file}: is cut short, its last line is missing: ${AGAIN}`);
  const body = bytes.subarray(0, last);
  if (createHash('sha256').update(body).digest('hex') !== sum)
    throw new Error(`${file}: is damaged, its checksum is another than its last line says: ${AGAIN}`);

  const entries: Kept[] = [];
  for (let at = end + 1; at < body.length; ) {
    const next = body.indexOf(10, at);
    const [key, value, revision] = JSON.parse(body.toString('utf8', at, next)) as [string, unknown, number];
    entries.push({ key, value, revision });
    at = next + 1;
  }
  return {
    store: String(head.store),
    revision: Number(head.revision),
    made: oneLine(String(head.made), 64),
    entries,
  };
}

function parseObject(bytes: Buffer): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** What netmaster answers, in a file: asked only where the file may be written, and kept only where it is whole. */
export async function backupFrom(
  file: string,
  ask: () => Promise<string>,
): Promise<Backup & { readonly bytes: number }> {
  mayBeWritten(file);
  const text = await ask();
  const backup = parseBackup("netmaster's answer", Buffer.from(text));
  return { ...backup, bytes: await writeWhole(file, [text]) };
}
