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
 *
 * A host's tenants follow from the store (hostScope.ts), so it can: what they were at a revision is what they are now, without what has
 * become of them since. Lists are made of pieces by tenant, and of a change there are as many forms as hosts differ in the tenants that it
 * is about: both are made once, however many hosts follow. Where a host has another tenant than before, all that has changed for it until
 * now goes in one line.
 */

import { endpoint } from '../model/endpoint.ts';
import type { Index, Kind } from '../model/kind.ts';
import { KINDS, keyOf, kindByName } from '../model/kinds.ts';
import type { WatchedObject, WatchMessage } from '../protocol/messages.ts';
import type { Plain } from './fields.ts';
import {
  hostPosition,
  isOwn,
  OF_TENANTS,
  OWN,
  type ScopeChange,
  TOLD_HOSTS,
  tenantOf,
  toldHost,
} from './hostScope.ts';
import type { Mirror } from './mirror.ts';
import { isShown, type Scope } from './scope.ts';

/** Changes, and bytes of them, that a watcher can resume over. */
const HISTORY = 10_000;
const HISTORY_BYTES = 128 << 20;
/**
 * Bytes of a piece of the list: by TLS Node keeps as much for each watcher, as long as it is there, as was ever written to it at once
 * (findings/node-tls-keeps-largest-write.sh).
 */
const PIECE = 16 << 10;
/** Changes in a row of which a host is told the last one's revision alone. */
const LOOKED = 256;
/** Bytes of changes that are not worth a new list. */
const FEW = 64 << 10;

export interface Feed {
  /** From the list on; of some tenants only where there is a scope. */
  list(scope?: Scope): Reader;
  /** From behind a revision of this store, as `store` says it; undefined where the changes since are not kept. */
  after(revision: number, store?: string): Reader | undefined;
  /** The same two as a host is told by its certificate. */
  listFor(host: string): Reader;
  afterFor(host: string, revision: number, store?: string): Reader | undefined;
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

const KINDS_TOLD = [...KINDS.map((k) => k.name), 'endpoint', 'host', 'draining', 'reserve', 'keyEpochs'];

export const line = (message: WatchMessage): Buffer => Buffer.from(`${JSON.stringify(message)}\n`);

const objectLine = (kind: string, key: string, object: unknown): string =>
  `${JSON.stringify({ type: 'object', kind, key, object } satisfies WatchMessage)}\n`;

/** Lines, in buffers of about PIECE bytes. */
interface Pieces {
  add(text: string): void;
  end(): { readonly pieces: readonly Buffer[]; readonly bytes: number };
}

function openPieces(): Pieces {
  const pieces: Buffer[] = [];
  let text = '';
  const cut = (): void => {
    pieces.push(Buffer.from(text));
    text = '';
  };
  return {
    add(more) {
      text += more;
      if (text.length >= PIECE) cut();
    },
    end() {
      if (text !== '') cut();
      return { pieces, bytes: pieces.reduce((sum, piece) => sum + piece.length, 0) };
    },
  };
}

interface Batch {
  readonly revision: number;
  readonly line: Buffer;
  /** It says the store's new term. */
  readonly begins: boolean;
  readonly keys: readonly Named[];
  readonly scopes: readonly ScopeChange[];
  /** As hosts are told it, by those of its tenants that they have; made where the first one asks. */
  readonly forms: Map<string, Form>;
  /** Bytes of all batches up to its end. */
  readonly end: number;
}

interface Form {
  readonly line: Buffer;
  /** It says that a revision was, and nothing else. */
  readonly isEmpty: boolean;
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

/** A list, in the parts that hosts have of it: what is told to all, and of each tenant all or an outline. */
interface HostList {
  readonly revision: number;
  readonly common: readonly Buffer[];
  readonly tenants: ReadonlyMap<
    string,
    { readonly whole: readonly Buffer[]; readonly outline: readonly Buffer[] }
  >;
  readonly bytes: number;
}

const byTenant: Index<Plain> = (object) => [tenantOf(object) ?? ''];
const keyIn = (kind: string, object: Plain): string =>
  kind === endpoint.name ? String(object.endpointID) : keyOf(kindByName.get(kind) as Kind, object);
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
  let keptForHosts: HostList | undefined;
  let isWanted = false;
  let lists = 0;

  mirror.onChange(({ revision, changes, before, line, begins, scopes }) => {
    bytes += line.length;
    const keys = changes.map((change, i) => named(change, before[i]));
    batches.push({ revision, line, begins, keys, scopes, forms: new Map(), end: bytes });
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
    const pieces = openPieces();
    for (const kind of KINDS_TOLD)
      for (const [key, { object }] of mirror.entries(kind)) pieces.add(objectLine(kind, key, object));
    lists++;
    return { revision: mirror.revision, ...pieces.end() };
  }

  /** Too much has changed since for it to be worth while. */
  function isOld({ revision, bytes }: Pick<List, 'revision' | 'bytes'>): boolean {
    const number = numberAfter(revision);
    return number === undefined || behind(number) > Math.max(FEW, bytes / 4);
  }

  function currentList(): List {
    if (kept === undefined || isOld(kept)) kept = makeList();
    isWanted = true;
    return kept;
  }

  function* changesFrom(at: { number: number }): Generator<Buffer | undefined, never> {
    for (;;) {
      mustBeKept(at.number);
      const batch = batches[at.number - first];
      if (batch !== undefined) at.number++;
      // A host's tenants are that host's business.
      if (batch === undefined || batch.begins || batch.keys.length > 0) yield batch?.line;
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

  function makeHostList(): HostList {
    const none: ReadonlySet<string> = new Set();
    const common = openPieces();
    const tenants = new Map<string, { whole: Pieces; outline: Pieces }>();
    for (const kind of TOLD_HOSTS)
      for (const [key, { object }] of mirror.entries(kind)) {
        const tenant = tenantOf(object);
        const outline = toldHost('', none, { kind, key, object });
        const text = outline === undefined ? '' : objectLine(kind, key, outline);
        if (tenant === undefined) {
          common.add(text);
          continue;
        }
        const own = tenants.get(tenant) ?? { whole: openPieces(), outline: openPieces() };
        tenants.set(tenant, own);
        own.outline.add(text);
        own.whole.add(objectLine(kind, key, object));
      }
    lists++;
    const { pieces, bytes } = common.end();
    let all = bytes;
    const made = new Map<string, { whole: readonly Buffer[]; outline: readonly Buffer[] }>();
    for (const [tenant, { whole, outline }] of tenants) {
      const { pieces, bytes } = whole.end();
      made.set(tenant, { whole: pieces, outline: outline.end().pieces });
      all += bytes;
    }
    return { revision: mirror.revision, common: pieces, tenants: made, bytes: all };
  }

  function currentHostList(): HostList {
    if (keptForHosts === undefined || isOld(keptForHosts)) keptForHosts = makeHostList();
    isWanted = true;
    return keptForHosts;
  }

  /** What has become of all that the host was told, from a place until now; `tenants`: those that it had there. */
  function changedFor(host: string, tenants: ReadonlySet<string>, number: number): WatchedObject[] {
    const now = mirror.scopes.of(host);
    const changes = new Map<string, WatchedObject>();
    const tell = (kind: string, key: string, object: unknown, was: boolean): void => {
      const told = toldHost(host, now, { kind, key, object });
      if (told !== undefined || was) changes.set(`${kind} ${key}`, { kind, key, object: told ?? null });
    };
    const moved = [...tenants, ...now].filter((tenant) => tenants.has(tenant) !== now.has(tenant));
    for (const tenant of moved)
      for (const kind of OF_TENANTS)
        for (const object of mirror.where(kind, byTenant, tenant))
          tell(kind, keyIn(kind, object), object, tenants.has(tenant));
    for (const { keys } of batches.slice(number - first))
      for (const { kind, key, before } of keys) {
        const was = before && toldHost(host, tenants, { kind, key, object: before });
        tell(kind, key, mirror.get(kind, key), was !== undefined);
      }
    return [...changes.values()];
  }

  /** A change as the host is told it, which has the same tenants before and after. */
  function formFor(
    host: string,
    tenants: ReadonlySet<string>,
    { line: whole, keys, begins, forms }: Batch,
  ): Form {
    const concerned = new Set(
      keys.flatMap(({ kind, key, before, after }) => [
        ...[before?.tenantName, after?.tenantName].filter((t) => t !== undefined && tenants.has(t)),
        ...(isOwn(host, kind, key) ? [` ${host}`] : []),
      ]),
    );
    const which = [...concerned].sort().join('/');
    const made = forms.get(which);
    if (made !== undefined) return made;
    const { changes, ...rest } = JSON.parse(whole.toString()) as Extract<WatchMessage, { type: 'change' }>;
    const own = changes.flatMap(({ kind, key, object }, i): WatchedObject[] => {
      const told = toldHost(host, tenants, { kind, key, object });
      if (told !== undefined) return [{ kind, key, object: told }];
      const before = keys[i]?.before;
      const was = before && toldHost(host, tenants, { kind, key, object: before });
      return was === undefined ? [] : [{ kind, key, object: null }];
    });
    const isWhole =
      own.length === changes.length && own.every(({ object }, i) => object === changes[i]?.object);
    const store = begins && { store: hostPosition(rest.store ?? '') };
    const form = {
      line: isWhole && !begins ? whole : line({ ...rest, changes: own, ...store }),
      isEmpty: own.length === 0 && !begins,
    };
    forms.set(which, form);
    return form;
  }

  /**
   * `tenants`: those that the host has at this place. Of changes in a row that are nothing of its own it is told the last one's revision:
   * a thousand hosts that start write ten thousand, and each would be told of each.
   */
  function* hostChanges(
    host: string,
    tenants: ReadonlySet<string>,
    at: { number: number },
  ): Generator<Buffer | undefined, never> {
    let passed: Buffer | undefined;
    let looked = 0;
    for (let own = tenants; ; ) {
      mustBeKept(at.number);
      const batch = batches[at.number - first];
      // Not all at once either: others are served between two lines.
      if (batch === undefined || ++looked > LOOKED) {
        const revision = passed;
        passed = undefined;
        looked = 0;
        if (batch === undefined || revision !== undefined) yield revision;
      } else if (batch.scopes.some((change) => change.host === host)) {
        const rest = batches.slice(at.number - first);
        const changes = changedFor(host, own, at.number);
        own = mirror.scopes.of(host);
        at.number = first + batches.length;
        const { revision } = rest.at(-1) as Batch;
        passed = undefined;
        const store = rest.some(({ begins }) => begins) && { store: hostPosition(mirror.storeId) };
        yield line({ type: 'change', revision, changes, ...store });
      } else {
        at.number++;
        if (!batch.begins && batch.keys.length === 0) continue;
        const form = formFor(host, own, batch);
        passed = form.isEmpty ? form.line : undefined;
        if (form.isEmpty) continue;
        looked = 0;
        yield form.line;
      }
    }
  }

  function* hostList(
    host: string,
    list: HostList,
    at: { number: number },
  ): Generator<Buffer | undefined, never> {
    let own = mirror.scopes.of(host);
    yield* list.common;
    for (const [tenant, { whole, outline }] of list.tenants) yield* own.has(tenant) ? whole : outline;
    for (const kind of OWN)
      for (const [key, { object }] of [...mirror.entries(kind)])
        if (isOwn(host, kind, key)) yield line({ type: 'object', kind, key, object });
    while (at.number < first + batches.length) {
      mustBeKept(at.number);
      const changed = changedFor(host, own, at.number);
      own = mirror.scopes.of(host);
      at.number = first + batches.length;
      for (const object of changed) yield line({ type: 'object', ...object });
    }
    yield line({ type: 'synced', store: hostPosition(mirror.storeId), revision: mirror.revision });
    return yield* hostChanges(host, own, at);
  }

  function* hostResume(
    host: string,
    revision: number,
    at: { number: number },
    store: string,
  ): Generator<Buffer | undefined, never> {
    const tenants = new Set(mirror.scopes.of(host));
    for (const { scopes } of batches.slice(at.number - first).reverse())
      for (const change of scopes) {
        if (change.host !== host) continue;
        if (change.is) tenants.delete(change.tenant);
        else tenants.add(change.tenant);
      }
    yield line({ type: 'synced', store, revision });
    return yield* hostChanges(host, tenants, at);
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
    listFor(host) {
      const list = currentHostList();
      const at = { number: numberAfter(list.revision) as number };
      return reader(at, hostList(host, list, at));
    },
    afterFor(host, revision, store = hostPosition(mirror.storeId)) {
      const number = numberAfter(revision);
      if (number === undefined) return undefined;
      const at = { number };
      return reader(at, hostResume(host, revision, at, store));
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    tidy() {
      if (!isWanted) {
        kept = undefined;
        keptForHosts = undefined;
      }
      isWanted = false;
    },
    get lists() {
      return lists;
    },
  };
}
