/** `netmaster backup`, `restore` and `move`: command lines, and what is said of them. The work is in backup.ts. */
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import {
  backupLines,
  type Contents,
  mayBeWritten,
  nameProblem,
  readBackup,
  writeWhole,
} from '../client/backupFile.ts';
import { VERSION } from '../model/version.ts';
import { checkStoreSpec, openStore } from '../store/open.ts';
import type { Store } from '../store/store.ts';
import { contentsOf, fill, mustBeStill } from './backup.ts';

export const COPIES = ['backup', 'restore', 'move'] as const;
type CopyName = (typeof COPIES)[number];

const DEFAULT_STORE = 'sqlite:/var/lib/contiv/netmaster.db';

const STORE_HELP = `  --store STORE  sqlite:FILE, or etcd://HOST:PORT,... as netmaster takes it (default ${DEFAULT_STORE};
                 as a service it is sqlite:/var/lib/contiv-netmaster/netmaster.db)`;

export const COPIES_USAGE: Readonly<Record<CopyName, string>> = {
  backup: `netmaster backup: writes all that is in a store to a file, of one revision

Usage: netmaster backup FILE [flags]

${STORE_HELP}
  --help

FILE is whole or as it was before, and for its owner alone: hashes of tokens and passwords are in it. From etcd it is taken while netmasters run. A file of
SQLite is one process's: where netmaster runs, ask it (netctl backup FILE), or stop it first. Keys of certificates are in no store: keep a
copy of the folder tls beside it.
`,
  restore: `netmaster restore: fills a store with what a backup has

Usage: netmaster restore FILE [flags]

${STORE_HELP}
  --replace      also where something is in the store, which is lost
  --help

No netmaster may run on the store. All of it is written in one transaction, or nothing. What runs on hosts goes on: their agents list
everything anew when netmaster is back, and keep networks of running containers that the backup does not know until they are declared.
`,
  move: `netmaster move: copies all that is in a store to another one, also of another kind

Usage: netmaster move FROM TO [flags]

FROM and TO are sqlite:FILE or etcd://HOST:PORT,...

  --replace      also where something is in TO, which is lost
  --help

No netmaster may run on either. FROM stays as it is: start no netmaster on it any more.

Example: netmaster move sqlite:/var/lib/contiv-netmaster/netmaster.db etcd://10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379
`,
};

export interface CopyOptions {
  readonly name: CopyName;
  /** Absent of a move. */
  readonly file?: string;
  readonly from?: string;
  readonly to?: string;
  readonly replace: boolean;
}

export const isCopy = (word: string | undefined): word is CopyName => COPIES.some((name) => name === word);

/** Throws an Error with one plain line where the command line is wrong. */
export function readCopy(name: CopyName, args: readonly string[]): CopyOptions | 'help' {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      help: { type: 'boolean', short: 'h' },
      ...(name === 'move' ? {} : { store: { type: 'string' } as const }),
      ...(name === 'backup' ? {} : { replace: { type: 'boolean' } as const }),
    },
  });
  const { help, store, replace } = values as { help?: boolean; store?: string; replace?: boolean };
  if (help) return 'help';
  const wanted = name === 'move' ? ['FROM', 'TO'] : ['FILE'];
  if (positionals.length !== wanted.length || positionals.includes(''))
    throw new Error(`${name} takes ${wanted.join(' and ')}, and was given ${positionals.length} words`);
  const [first = '', second = ''] = positionals;
  const flag = replace ?? false;
  const specOf = (what: string, spec: string): string => {
    try {
      checkStoreSpec(spec);
    } catch (error) {
      throw new Error((error as Error).message.replace('--store', what));
    }
    if (spec === 'memory')
      throw new Error(`${what} 'memory': ends with its netmaster: name sqlite:FILE or etcd://HOST:PORT`);
    return spec;
  };
  if (name === 'move') {
    const [from, to] = [specOf('FROM', first), specOf('TO', second)];
    if (from === to) throw new Error('FROM and TO are the same store');
    return { name, from, to, replace: flag };
  }
  const problem = nameProblem(first);
  if (problem !== undefined) throw new Error(problem);
  const spec = specOf('--store', store ?? DEFAULT_STORE);
  if (/^(sqlite|etcd):/.test(first)) throw new Error(`FILE '${first}': is a store: netmaster move copies it`);
  return { name, file: first, [name === 'backup' ? 'from' : 'to']: spec, replace: flag };
}

const fileOf = (spec: string): string | undefined => (spec.startsWith('sqlite:') ? spec.slice(7) : undefined);

/** Entries from which on it is said how far it is. */
const MANY = 5000;
/** Milliseconds between two lines of that. */
const PERIOD = 2000;

const entriesOf = (count: number): string => `${count} ${count === 1 ? 'entry' : 'entries'}`;

/** `progress` is told how far it is, where there is much. Answers what is to be said of it. Throws an Error with one plain line. */
export async function copy(
  { name, file, from, to, replace }: CopyOptions,
  progress: (line: string) => void,
): Promise<string> {
  if (name === 'backup') {
    mayBeWritten(file as string);
    const contents = await read(from as string, false);
    const bytes = await writeWhole(file as string, told(contents, progress));
    return `${file}: ${entriesOf(contents.entries.length)} of revision ${contents.revision}, ${bytes} bytes`;
  }
  let contents: Contents;
  let why: string;
  if (name === 'restore') {
    const read = readBackup(file as string);
    contents = read;
    why = `restored from a backup of ${read.made}, revision ${read.revision}`;
  } else {
    contents = await read(from as string, true);
    why = `moved from ${kindOf(from as string)}, revision ${contents.revision}`;
  }
  const done = await write(to as string, contents, { over: replace, why }, progress);
  const lost = done.replaced === 0 ? '' : `, in place of ${done.replaced}`;
  const next =
    name === 'move' ? `; start netmaster with --store '${to}', and none on '${from}' any more` : '';
  return `${to}: ${entriesOf(contents.entries.length)} of revision ${contents.revision}${lost}${next}`;
}

const kindOf = (spec: string): string => fileOf(spec) ?? 'etcd';

function* told(contents: Contents, progress: (line: string) => void): Generator<string, void> {
  const many = contents.entries.length >= MANY;
  let last = performance.now();
  let bytes = 0;
  if (many) progress(`${entriesOf(contents.entries.length)} are read, and are being written`);
  for (const piece of backupLines(contents, VERSION)) {
    bytes += piece.length;
    if (many && performance.now() > last + PERIOD) {
      last = performance.now();
      progress(`${Math.floor(bytes / 1024 / 1024)} MB are written`);
    }
    yield piece;
  }
}

async function opened<T>(spec: string, use: (store: Store) => Promise<T>): Promise<T> {
  const file = fileOf(spec);
  const before = file === undefined || fs.existsSync(file);
  const store = await openStore(spec, (line) => process.stderr.write(`netmaster: ${line}\n`)).catch(
    (error) => {
      if (!/has it open/.test((error as Error).message)) throw error;
      throw new Error(
        `store ${spec}: netmaster runs on it: stop it first; for a backup it may run on, asked by netctl backup FILE`,
      );
    },
  );
  try {
    return await use(store);
  } catch (error) {
    const { message } = error as Error;
    throw new Error(message.startsWith(`store ${spec}`) ? message : `store ${spec}: ${message}`, {
      cause: error,
    });
  } finally {
    await store.close();
    if (file !== undefined && !before) giveToOwner(file);
  }
}

/** A service that runs as another user may write what root has made for it in its folder. */
function giveToOwner(file: string): void {
  if (process.geteuid?.() !== 0) return;
  const { uid, gid } = fs.statSync(path.dirname(path.resolve(file)));
  for (const suffix of ['', '-wal', '-shm'])
    if (fs.existsSync(file + suffix)) fs.chownSync(file + suffix, uid, gid);
}

/** `still`: no netmaster may run there. */
async function read(spec: string, still: boolean): Promise<Contents> {
  const file = fileOf(spec);
  if (file !== undefined && !fs.existsSync(file)) throw new Error(`store ${spec}: there is no file ${file}`);
  return opened(spec, async (store) => {
    if (still) await mustBeStill(store);
    const contents = await contentsOf(store);
    if (contents.entries.length === 0)
      throw new Error('nothing is in it: name the store that netmaster runs with');
    return contents;
  });
}

function write(
  spec: string,
  contents: Contents,
  how: { readonly over: boolean; readonly why: string },
  progress: (line: string) => void,
): Promise<{ readonly replaced: number }> {
  return opened(spec, async (store) => {
    const since = performance.now();
    const many = contents.entries.length >= MANY;
    if (many)
      progress(`${entriesOf(contents.entries.length)} are read, and are being written in one transaction`);
    const saying = setInterval(
      () => progress(`still being written, ${Math.round((performance.now() - since) / 1000)} s`),
      PERIOD,
    );
    try {
      return await fill(store, contents, how);
    } finally {
      clearInterval(saying);
    }
  });
}
