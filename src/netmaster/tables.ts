/**
 * Objects by kind and key, with what is looked up beside them: who refers to an object, addresses of a network,
 * objects by an index. Every lookup takes the same time whatever the number of objects.
 *
 *   openTables()        the mirror's own
 *   openTables(below)   an overlay: shows what is below with later writes over it, and never changes what is below.
 *                       The part that is written to is copied once, at its first write.
 */
import type { Index, World } from '../model/kind.ts';
import { type Relation, relationsOf } from '../model/kinds.ts';
import type { AddressAnswer } from '../protocol/messages.ts';

export interface Stored<T = unknown> {
  readonly object: T;
  readonly revision: number;
  /** Of the store: the object goes when it ends. */
  readonly lease?: string;
}

/** An address that is given out: to a service, to an external endpoint, to an endpoint on a host, or reserved for a host, or for Docker's Swarm. */
export interface AddressRecord {
  /** Absent: a service's, an external endpoint's, or on no host yet. */
  readonly host?: string;
  /** Id of the Swarm that keeps it, '' where that is not known: it is reserved still where no host has it any more. */
  readonly swarm?: string;
  readonly endpoint?: string;
  /** Name of the host that has it in reserve (reserves.ts): `host` is then absent, as nothing that the host has asked for is there. */
  readonly reserve?: string;
  /** Key of the service, declared or Docker's Swarm's, or of the external endpoint. */
  readonly service?: string;
  readonly external?: string;
  /** Of a reservation: the request that got it, and what it was answered. */
  readonly answered?: { readonly request: string } & AddressAnswer;
}

/** Keys of the objects that refer to something, by how they do. */
export type Referrers = ReadonlyMap<Relation, ReadonlySet<string>>;

/** Everything that a decision may look at. */
export interface View extends World {
  stored<T>(kind: string, key: string): Stored<T> | undefined;
  entries<T>(kind: string): IterableIterator<[key: string, stored: Stored<T>]>;
  /** Addresses taken in a network, by text. */
  addresses(network: string): ReadonlyMap<string, Stored<AddressRecord>>;
  /** How many there are of a kind. */
  count(kind: string): number;
  referrers(kind: string, key: string): Referrers;
  /** Revisions that hosts have applied, by name, also of hosts that have gone since: their kernels are as they were. Not stored. */
  readonly applied: ReadonlyMap<string, number>;
}

/** What is made of an object and of who refers to it, such as the answer that shows it: kept until either changes. */
export interface Shown {
  /** Of an object that is there, and follows from that object and its referrers alone. `make` is asked where nothing is kept. */
  of(kind: string, key: string, make: () => string): string;
  /** Another number whenever what is shown of some object of the kind may be another, or there are others. */
  changes(kind: string): number;
}

export interface Tables extends View {
  readonly shown: Shown;
  readonly applied: Map<string, number>;
  /** `object` undefined: it is gone. */
  put(kind: string, key: string, object: unknown, revision: number, lease?: string): void;
  /** Of all objects. */
  keys(): { kind: string; key: string }[];
  /** For overlays. */
  readonly parts: Parts;
}

interface Parts {
  /** Kind -> key. */
  readonly objects: Layered<Stored>;
  /** Network -> address. */
  readonly addresses: Layered<Stored<AddressRecord>>;
  /** Number of the relation and key that is referred to -> key that refers. */
  readonly users: Layered<true>;
  /** Value of the index -> key. */
  index(kind: string, index: Index<unknown>): Layered<unknown>;
}

/** Those of endpoints first: what keeps an object from being deleted is told in this order. */
const relations = new Set([...(relationsOf.get('endpoint') ?? []), ...[...relationsOf.values()].flat()]);
const relationNumber = new Map([...relations].map((relation, i) => [relation, i]));
/** By the kind that is referred to. */
const relationsTo = Map.groupBy(relations, (relation) => relation.reference.kind);
const usersKey = (relation: Relation, key: string): string => `${relationNumber.get(relation)}/${key}`;

/** A map of maps, over another one that stays as it is. */
interface Layered<T> {
  /** Outer keys. */
  outer(): Set<string>;
  get(outer: string): ReadonlyMap<string, T>;
  set(outer: string, inner: string, value: T | undefined): void;
}

const NOTHING: ReadonlyMap<string, never> = new Map<string, never>();

function openLayered<T>(below: Layered<T> | undefined): Layered<T> {
  const own = new Map<string, Map<string, T>>();
  return {
    outer: () => new Set([...(below?.outer() ?? []), ...own.keys()]),
    get: (outer) => own.get(outer) ?? below?.get(outer) ?? NOTHING,
    set(outer, inner, value) {
      let entries = own.get(outer);
      if (entries === undefined) {
        entries = new Map(below?.get(outer));
        own.set(outer, entries);
      }
      if (value !== undefined) entries.set(inner, value);
      else if (entries.delete(inner) && entries.size === 0 && below === undefined) own.delete(outer);
    },
  };
}

/** Characters that are kept of all objects; where there are more, all is made anew. */
export const SHOWN = 32 << 20;

export function openTables(below?: Tables, limit = SHOWN): Tables {
  const objects = openLayered(below?.parts.objects);
  const addresses = openLayered(below?.parts.addresses);
  const users = openLayered(below?.parts.users);
  const indexes = new Map<string, Map<Index<unknown>, Layered<unknown>>>();
  /** Of an overlay: kind -> keys that were written here. */
  const written = new Map<string, Set<string>>();
  const lists = new Map<string, unknown[]>();
  /** Kind -> key. */
  const texts = new Map<string, Map<string, string>>();
  let length = 0;
  const changes = new Map<string, number>();

  /** What was made of it is old. */
  function touch(kind: string, key: string): void {
    changes.set(kind, (changes.get(kind) ?? 0) + 1);
    const kept = texts.get(kind)?.get(key);
    if (kept === undefined) return;
    length -= kept.length;
    texts.get(kind)?.delete(key);
  }

  function shownOf(kind: string, key: string, make: () => string): string {
    const kept = texts.get(kind)?.get(key);
    if (kept !== undefined) return kept;
    const made = make();
    if (made.length > limit) return made;
    if (length + made.length > limit) {
      texts.clear();
      length = 0;
    }
    length += made.length;
    const now = texts.get(kind) ?? new Map<string, string>();
    texts.set(kind, now.set(key, made));
    return made;
  }

  function link(kind: string, key: string, object: unknown, present: boolean): void {
    for (const relation of relationsOf.get(kind) ?? [])
      for (const target of relation.reference.keys(object as object)) {
        users.set(usersKey(relation, target), key, present ? true : undefined);
        touch(relation.reference.kind, target);
      }
  }

  function index(kind: string, by: Index<unknown>): Layered<unknown> {
    const ofKind = indexes.get(kind) ?? new Map<Index<unknown>, Layered<unknown>>();
    indexes.set(kind, ofKind);
    let found = ofKind.get(by);
    if (found === undefined) {
      found = openLayered(below?.parts.index(kind, by));
      ofKind.set(by, found);
      for (const key of below === undefined ? objects.get(kind).keys() : (written.get(kind) ?? [])) {
        const before = below?.stored(kind, key)?.object;
        if (before !== undefined) for (const value of by(before)) found.set(value, key, undefined);
        const now = objects.get(kind).get(key)?.object;
        if (now !== undefined) for (const value of by(now)) found.set(value, key, now);
      }
    }
    return found;
  }

  /** Kept from call to call: a new object is added to it, anything else makes it anew. */
  function list(kind: string): unknown[] {
    let found = lists.get(kind);
    if (found === undefined) {
      found = [...objects.get(kind).values()].map((s) => s.object);
      lists.set(kind, found);
    }
    return found;
  }

  return {
    parts: { objects, addresses, users, index },
    shown: { of: shownOf, changes: (kind) => changes.get(kind) ?? 0 },
    get: <T>(kind: string, key: string) => objects.get(kind).get(key)?.object as T | undefined,
    list: <T>(kind: string) => list(kind) as readonly T[],
    where: <T>(kind: string, by: Index<T>, value: string) =>
      [
        ...index(kind, by as Index<unknown>)
          .get(value)
          .values(),
      ] as T[],
    stored: <T>(kind: string, key: string) => objects.get(kind).get(key) as Stored<T> | undefined,
    entries: <T>(kind: string) => objects.get(kind).entries() as IterableIterator<[string, Stored<T>]>,
    addresses: (network) => addresses.get(network),
    applied: below?.applied ?? new Map(),
    count: (kind) => objects.get(kind).size,
    referrers(kind, key) {
      const found = new Map<Relation, ReadonlySet<string>>();
      for (const relation of relationsTo.get(kind) ?? []) {
        const keys = users.get(usersKey(relation, key));
        if (keys.size > 0) found.set(relation, new Set(keys.keys()));
      }
      return found;
    },
    users<T>(kind: string, key: string, of: string) {
      const found = new Set<string>();
      for (const relation of relationsTo.get(kind) ?? [])
        if (relation.kind === of)
          for (const user of users.get(usersKey(relation, key)).keys()) found.add(user);
      return [...found].map((user) => objects.get(of).get(user)?.object as T);
    },
    keys: () =>
      [...objects.outer()].flatMap((kind) => [...objects.get(kind).keys()].map((key) => ({ kind, key }))),
    put(kind, key, object, revision, lease) {
      const before = objects.get(kind).get(key)?.object;
      if (before !== undefined) link(kind, key, before, false);
      if (object !== undefined) link(kind, key, object, true);
      for (const [by, entries] of indexes.get(kind) ?? []) {
        if (before !== undefined) for (const value of by(before)) entries.set(value, key, undefined);
        if (object !== undefined) for (const value of by(object)) entries.set(value, key, object);
      }
      touch(kind, key);
      const stored = { object, revision, ...(lease === undefined ? {} : { lease }) };
      objects.set(kind, key, object === undefined ? undefined : stored);
      if (below !== undefined) written.set(kind, (written.get(kind) ?? new Set()).add(key));
      if (before === undefined && object !== undefined) lists.get(kind)?.push(object);
      else lists.delete(kind);
      if (kind === 'address') {
        const split = key.lastIndexOf('/');
        const record = object === undefined ? undefined : { object: object as AddressRecord, revision };
        addresses.set(key.slice(0, split), key.slice(split + 1), record);
      }
    },
  };
}
