/**
 * All objects in memory, fed by the store's watch: reads are answered from here, decisions are made on it,
 * and agents are told from here what changed.
 *
 * Store keys are /contiv/KIND/KEY: intent, and beside it endpoint/ID and host/NAME. Netmaster's own are address/NETWORK/ADDRESS,
 * cursor/NETWORK/POOL, tag/ENCAP/NUMBER, name/TENANT/NAME, subnets/TENANT and guard/KIND/KEY.
 */
import type { WatchedObject } from '../client/protocol.ts';
import type { World } from '../model/kind.ts';
import { type Relation, relationsOf } from '../model/kinds.ts';
import type { Store } from '../store/store.ts';

export const ROOT = '/contiv/';
export const storeKey = (kind: string, key: string): string => `${ROOT}${kind}/${key}`;

/** Kinds that no agent needs to see. */
const PRIVATE = new Set(['address', 'cursor', 'tag', 'name', 'subnets', 'guard']);
/** Changes that a watcher can resume over. */
const HISTORY = 10_000;

export interface Stored<T = unknown> {
  readonly object: T;
  readonly revision: number;
}

export interface VisibleBatch {
  readonly revision: number;
  readonly changes: readonly WatchedObject[];
  /** The NDJSON line, made once for all watchers. */
  readonly line: string;
}

/** Keys of the objects that refer to something, by how they do. */
export type Referrers = ReadonlyMap<Relation, ReadonlySet<string>>;

export interface Mirror extends World {
  readonly storeId: string;
  /** Store revision that it shows. */
  readonly revision: number;
  stored<T>(kind: string, key: string): Stored<T> | undefined;
  entries<T>(kind: string): IterableIterator<[key: string, stored: Stored<T>]>;
  /** Addresses taken in a network, by text. */
  addresses(network: string): ReadonlyMap<string, Stored<AddressRecord>>;
  /** How many there are of a kind. */
  count(kind: string): number;
  referrers(kind: string, key: string): Referrers;
  /** When it shows at least this revision. */
  seen(revision: number): Promise<void>;
  /** Called after each change, in order. */
  onChange(listener: (batch: VisibleBatch) => void): () => void;
  /** Changes after a revision; undefined where they are not kept. */
  since(revision: number): readonly VisibleBatch[] | undefined;
  close(): Promise<void>;
}

/**
 * An address that is given out: to a service, to an endpoint on a host, or reserved for a host since then
 * (milliseconds, Unix time).
 */
export interface AddressRecord {
  /** Absent: a service's. */
  readonly host?: string;
  readonly endpoint?: string;
  /** Key of the service. */
  readonly service?: string;
  readonly since: number;
}

export async function openMirror(store: Store): Promise<Mirror> {
  const kinds = new Map<string, Map<string, Stored>>();
  const byNetwork = new Map<string, Map<string, Stored<AddressRecord>>>();
  const users = new Map<string, Map<Relation, Set<string>>>();
  const listeners = new Set<(batch: VisibleBatch) => void>();
  const waiters = new Set<{ revision: number; done(): void }>();
  const history: VisibleBatch[] = [];
  let historyFrom = 0;
  let revision = 0;

  const table = (kind: string): Map<string, Stored> => {
    let found = kinds.get(kind);
    if (found === undefined) {
      found = new Map();
      kinds.set(kind, found);
    }
    return found;
  };

  function link(kind: string, key: string, object: unknown, present: boolean): void {
    for (const relation of relationsOf.get(kind) ?? [])
      for (const target of relation.reference.keys(object as object)) {
        const id = `${relation.reference.kind}/${target}`;
        const relations = users.get(id) ?? new Map<Relation, Set<string>>();
        const keys = relations.get(relation) ?? new Set<string>();
        if (present) keys.add(key);
        else keys.delete(key);
        if (keys.size === 0) relations.delete(relation);
        else relations.set(relation, keys);
        if (relations.size === 0) users.delete(id);
        else users.set(id, relations);
      }
  }

  function put(storeKeyText: string, value: unknown, at: number): WatchedObject {
    const rest = storeKeyText.slice(ROOT.length);
    const slash = rest.indexOf('/');
    const kind = rest.slice(0, slash);
    const key = rest.slice(slash + 1);
    const objects = table(kind);
    const before = objects.get(key);
    if (before !== undefined) link(kind, key, before.object, false);
    if (value === undefined) objects.delete(key);
    else {
      objects.set(key, { object: value, revision: at });
      link(kind, key, value, true);
    }
    if (kind === 'address') {
      const split = key.lastIndexOf('/');
      const network = key.slice(0, split);
      const taken = byNetwork.get(network) ?? new Map<string, Stored<AddressRecord>>();
      if (value === undefined) taken.delete(key.slice(split + 1));
      else taken.set(key.slice(split + 1), { object: value as AddressRecord, revision: at });
      if (taken.size === 0) byNetwork.delete(network);
      else byNetwork.set(network, taken);
    }
    return { kind, key, object: value ?? null };
  }

  const initial = await store.list(ROOT);
  for (const entry of initial.entries) put(entry.key, entry.value, entry.revision);
  revision = initial.revision;
  historyFrom = revision;

  const stop = new AbortController();
  const following = (async () => {
    for await (const batch of store.watch(ROOT, revision, stop.signal)) {
      const changes = batch.changes
        .map((change) => put(change.key, change.value, change.revision))
        .filter((change) => !PRIVATE.has(change.kind));
      revision = batch.revision;
      if (changes.length > 0) {
        const line = `${JSON.stringify({ type: 'change', revision, changes })}\n`;
        const visible: VisibleBatch = { revision, changes, line };
        history.push(visible);
        if (history.length > 2 * HISTORY) {
          history.splice(0, history.length - HISTORY);
          historyFrom = (history[0]?.revision ?? revision) - 1;
        }
        for (const listener of listeners) listener(visible);
      }
      for (const waiter of waiters)
        if (waiter.revision <= revision) {
          waiters.delete(waiter);
          waiter.done();
        }
    }
  })();

  return {
    storeId: store.id,
    get revision() {
      return revision;
    },
    get: <T>(kind: string, key: string) => kinds.get(kind)?.get(key)?.object as T | undefined,
    list: <T>(kind: string) => [...table(kind).values()].map((s) => s.object as T),
    stored: <T>(kind: string, key: string) => kinds.get(kind)?.get(key) as Stored<T> | undefined,
    entries: <T>(kind: string) => table(kind).entries() as IterableIterator<[string, Stored<T>]>,
    addresses: (network) => byNetwork.get(network) ?? new Map(),
    count: (kind) => kinds.get(kind)?.size ?? 0,
    referrers: (kind, key) => users.get(`${kind}/${key}`) ?? new Map(),
    users<T>(kind: string, key: string, of: string) {
      const found = new Set<string>();
      for (const [relation, keys] of users.get(`${kind}/${key}`) ?? [])
        if (relation.kind === of) for (const user of keys) found.add(user);
      return [...found].map((user) => kinds.get(of)?.get(user)?.object as T);
    },
    seen(wanted) {
      if (wanted <= revision) return Promise.resolve();
      return new Promise((done) => waiters.add({ revision: wanted, done }));
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    since(after) {
      if (after < historyFrom || after > revision) return undefined;
      return history.filter((batch) => batch.revision > after);
    },
    async close() {
      stop.abort();
      await following;
    },
  };
}
