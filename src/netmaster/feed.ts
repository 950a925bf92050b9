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
 * What is gone says not whose it was: so it is kept what he was sent, and he cannot resume.
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
  readonly isGone: boolean;
  /** Of the object as it is then; undefined: it has none, or is gone. */
  readonly tenant: string | undefined;
}

interface List {
  readonly revision: number;
  readonly pieces: readonly Buffer[];
  readonly bytes: number;
}

const named = ({ kind, key, object }: WatchedObject): Named => ({
  kind,
  key,
  isGone: object === null,
  tenant: tenantOf(object),
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

  mirror.onChange(({ revision, changes, line, begins }) => {
    bytes += line.length;
    batches.push({ revision, line, begins, keys: changes.map(named), end: bytes });
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

  /** `sent`: kind and key of what the watcher has, which is told of its end. */
  function partOf(scope: Scope, sent: Set<string>, batch: Batch): Buffer | undefined {
    const isPart = ({ kind, key, isGone, tenant }: Named): boolean =>
      sent.has(`${kind} ${key}`) || (!isGone && isShown(scope, kind, { tenantName: tenant }));
    if (!batch.begins && !batch.keys.some(isPart)) return undefined;
    const { changes, ...rest } = JSON.parse(batch.line.toString()) as Extract<
      WatchMessage,
      { type: 'change' }
    >;
    const own = changes.flatMap(({ kind, key, object }): WatchedObject[] => {
      const id = `${kind} ${key}`;
      if (object !== null && isShown(scope, kind, object)) {
        sent.add(id);
        return [{ kind, key, object }];
      }
      return sent.delete(id) ? [{ kind, key, object: null }] : [];
    });
    return own.length === 0 && rest.store === undefined ? undefined : line({ ...rest, changes: own });
  }

  function* scopedFrom(scope: Scope, at: { number: number }): Generator<Buffer | undefined, never> {
    const sent = new Set<string>();
    at.number = first + batches.length;
    const { storeId: store, revision } = mirror;
    for (const kind of KINDS_TOLD)
      for (const [key, { object }] of [...mirror.entries(kind)])
        if (isShown(scope, kind, object)) {
          sent.add(`${kind} ${key}`);
          yield line({ type: 'object', kind, key, object });
        }
    yield line({ type: 'synced', store, revision });
    for (;;) {
      mustBeKept(at.number);
      const batch = batches[at.number - first];
      if (batch !== undefined) at.number++;
      const part = batch && partOf(scope, sent, batch);
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
