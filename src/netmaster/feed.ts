/**
 * What watchers are sent: the list and the changes behind it, made into bytes once for all of them. A watcher is a place in the
 * feed and reads on as its connection takes it, so that one that does not read costs its connection and nothing else.
 *
 *   list (of revision 7) | objects that changed since, as they are now | synced (revision 9) | change 10 | change 11 | ...
 *   \___ one for all ___/ \_________ made for whom it is sent to _________/ \________ history, one for all ________/
 *
 * A list is used again as long as little has changed since: who reads it is sent those objects once more before it counts as
 * synced, as often as others change meanwhile, and so has what the mirror shows at that revision. Objects that are gone are
 * sent as null then.
 *
 * Who has some tenants only is sent what is of these, from a list of his own; of a change that has something of his and of others, his part.
 * What is gone says not whose it was, so each change is kept with that. He cannot resume: his tenants may be others by then.
 */

import { KINDS } from '../model/kinds.ts';
import type { WatchedObject, WatchMessage } from '../protocol/messages.ts';
import type { Mirror } from './mirror.ts';
import { isShown, type Scope, tenantOf } from './scope.ts';

/** Changes, and bytes of them, that a watcher can resume over. */
const HISTORY = 10_000;
const HISTORY_BYTES = 128 << 20;
/** Bytes: of a piece of the list, and of changes that are not worth a new list. */
const PIECE = 64 << 10;

export interface Feed {
  /** From the list on; of some tenants only where there is a scope. */
  list(scope?: Scope): Reader;
  /** From behind a revision of this store, as `store` says it; undefined where the changes since are not kept. */
  after(revision: number, store?: string): Reader | undefined;
  /** Called after each change. */
  onChange(listener: () => void): () => void;
  /** The list that is kept for others goes when nobody has asked for one since the last call. */
  tidy(): void;
  /** How many lists were made. */
  readonly lists: number;
}

/** A watcher's place. */
export interface Reader {
  /** The next lines; undefined where there is nothing now. Throws where what is next is no longer kept. */
  next(): Buffer | undefined;
  /** Bytes of changes that it has not read yet. */
  behind(): number;
}

const KINDS_TOLD = [...KINDS.map((k) => k.name), 'endpoint', 'host', 'draining'];

export const line = (message: WatchMessage): Buffer => Buffer.from(`${JSON.stringify(message)}\n`);

interface Batch {
  readonly revision: number;
  readonly line: Buffer;
  /** It says the store's new term. */
  readonly begins: boolean;
  readonly keys: readonly Named[];
  /** Bytes of all batches up to its end. */
  readonly end: number;
}

interface Named {
  readonly kind: string;
  readonly key: string;
  /** Of the object before and after; `undefined`: it has none; no side: it is not there. */
  readonly before?: Owned;
  readonly after?: Owned;
}
interface Owned {
  readonly tenantName: string | undefined;
}

interface List {
  readonly revision: number;
  readonly pieces: readonly Buffer[];
  readonly bytes: number;
}

const owned = (object: unknown): Owned => ({ tenantName: tenantOf(object) });
const named = ({ kind, key, object }: WatchedObject, before: unknown): Named => ({
  kind,
  key,
  ...(before !== undefined && { before: owned(before) }),
  ...(object !== null && { after: owned(object) }),
});

export function openFeed(mirror: Mirror): Feed {
  const listeners = new Set<() => void>();
  const batches: Batch[] = [];
  /** The last batch that is not kept: its number is that of the first one that is. */
  let last: Pick<Batch, 'revision' | 'end'> = { revision: mirror.revision, end: 0 };
  let first = 0;
  let bytes = 0;
  let kept: List | undefined;
  let isWanted = false;
  let lists = 0;

  mirror.onChange(({ revision, changes, before, line, begins }) => {
    bytes += line.length;
    const keys = changes.map((change, i) => named(change, before[i]));
    batches.push({ revision, line, begins, keys, end: bytes });
    while (batches.length > HISTORY || (batches.length > 1 && bytes - last.end > HISTORY_BYTES)) {
      last = batches.shift() as Batch;
      first++;
    }
    for (const listener of listeners) listener();
  });

  /** Number of the first batch behind a revision. */
  function numberAfter(revision: number): number | undefined {
    if (revision < last.revision || revision > mirror.revision) return undefined;
    let [low, high] = [0, batches.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((batches[middle] as Batch).revision <= revision) low = middle + 1;
      else high = middle;
    }
    return first + low;
  }
  const behind = (number: number): number =>
    bytes - (number > first ? (batches[number - first - 1] as Batch).end : last.end);

  function makeList(): List {
    const pieces: Buffer[] = [];
    let text = '';
    for (const kind of KINDS_TOLD)
      for (const [key, { object }] of mirror.entries(kind)) {
        text += `${JSON.stringify({ type: 'object', kind, key, object } satisfies WatchMessage)}\n`;
        if (text.length < PIECE) continue;
        pieces.push(Buffer.from(text));
        text = '';
      }
    pieces.push(Buffer.from(text));
    lists++;
    return { revision: mirror.revision, pieces, bytes: pieces.reduce((sum, piece) => sum + piece.length, 0) };
  }

  function currentList(): List {
    const number = kept && numberAfter(kept.revision);
    if (kept === undefined || number === undefined || behind(number) > Math.max(PIECE, kept.bytes / 4))
      kept = makeList();
    isWanted = true;
    return kept;
  }

  function* changesFrom(at: { number: number }): Generator<Buffer | undefined, never> {
    for (;;) {
      mustBeKept(at.number);
      const batch = batches[at.number - first];
      if (batch !== undefined) at.number++;
      yield batch?.line;
    }
  }

  function* listFrom(list: List, at: { number: number }): Generator<Buffer | undefined, never> {
    yield* list.pieces;
    while (at.number < first + batches.length) {
      mustBeKept(at.number);
      const changed = new Map<string, { kind: string; key: string }>();
      for (const { keys } of batches.slice(at.number - first))
        for (const which of keys) changed.set(`${which.kind} ${which.key}`, which);
      at.number = first + batches.length;
      // What changes while these are sent is in a batch behind them, and comes again.
      for (const { kind, key } of changed.values())
        yield line({ type: 'object', kind, key, object: mirror.get(kind, key) ?? null });
    }
    yield line({ type: 'synced', store: mirror.storeId, revision: mirror.revision });
    return yield* changesFrom(at);
  }

  /** What was his and is not any more is gone for him. undefined: nothing of it is his. */
  function partOf(scope: Scope, { keys, begins, line: whole }: Batch): Buffer | undefined {
    const isHis = (kind: string, side: Owned | undefined): boolean =>
      side !== undefined && isShown(scope, kind, side);
    const sides = keys.map(({ kind, before, after }) => ({
      was: isHis(kind, before),
      is: isHis(kind, after),
    }));
    if (!begins && !sides.some(({ was, is }) => was || is)) return undefined;
    if (sides.every(({ is }) => is)) return whole;
    const { changes, ...rest } = JSON.parse(whole.toString()) as Extract<WatchMessage, { type: 'change' }>;
    const own = changes.flatMap((change, i): WatchedObject[] => {
      const { was = false, is = false } = sides[i] ?? {};
      if (is) return [change];
      return was ? [{ ...change, object: null }] : [];
    });
    return line({ ...rest, changes: own });
  }

  function* scopedFrom(scope: Scope, at: { number: number }): Generator<Buffer | undefined, never> {
    at.number = first + batches.length;
    const { storeId: store, revision } = mirror;
    for (const kind of KINDS_TOLD)
      for (const [key, { object }] of [...mirror.entries(kind)])
        if (isShown(scope, kind, object)) yield line({ type: 'object', kind, key, object });
    yield line({ type: 'synced', store, revision });
    for (;;) {
      mustBeKept(at.number);
      const batch = batches[at.number - first];
      if (batch !== undefined) at.number++;
      const part = batch && partOf(scope, batch);
      if (batch === undefined || part !== undefined) yield part;
    }
  }

  function* resumeFrom(
    revision: number,
    at: { number: number },
    store = mirror.storeId,
  ): Generator<Buffer | undefined, never> {
    yield line({ type: 'synced', store, revision });
    return yield* changesFrom(at);
  }

  function mustBeKept(number: number): void {
    if (number < first) throw new Error('the changes that come next are not kept');
  }

  function reader(at: { number: number }, lines: Generator<Buffer | undefined, never>): Reader {
    return { next: () => lines.next().value, behind: () => behind(Math.max(at.number, first)) };
  }

  return {
    list(scope) {
      if (scope !== undefined) {
        const at = { number: first + batches.length };
        return reader(at, scopedFrom(scope, at));
      }
      const list = currentList();
      const at = { number: numberAfter(list.revision) as number };
      return reader(at, listFrom(list, at));
    },
    after(revision, store) {
      const number = numberAfter(revision);
      if (number === undefined) return undefined;
      const at = { number };
      return reader(at, resumeFrom(revision, at, store));
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    tidy() {
      if (!isWanted) kept = undefined;
      isWanted = false;
    },
    get lists() {
      return lists;
    },
  };
}
