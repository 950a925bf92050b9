/**
 * All objects in memory, fed by the store's watch: reads are answered from here, decisions are made on it,
 * and agents are told from here what changed.
 *
 * Store keys are /contiv/KIND/KEY: intent, and beside it endpoint/ID and host/NAME. Netmaster's own are address/NETWORK/ADDRESS,
 * cursor/NETWORK/POOL, tag/ENCAP/NUMBER, name/TENANT/NAME, subnets/TENANT, guard/KIND/KEY, ended/KEY (endings.ts) and
 * underlay/ADDRESS (hosts.ts), registration/NAME and draining/NAME (roster.ts), reserve/HOST/NETWORK (reserves.ts), replica/ID (replicas.ts), event/KIND/ID (events.ts),
 * made/KIND/KEY (batch.ts), token/ID and admitted/HOST (tokens.ts), user/NAME (users.ts), lineage/lineage (lineage.ts),
 * duty/NAME (duty.ts) and fabric/aci (aci/state.ts).
 */

import type { WatchedObject } from '../protocol/messages.ts';
import { type Batch, type Change, CompactedError, type Store } from '../store/store.ts';
import { type EventLog, openEventLog } from './events.ts';
import { type HostScopes, openHostScopes, type ScopeChange } from './hostScope.ts';
import { type AddressRecord, openTables, type Shown, type Tables, type View } from './tables.ts';
import { positionId } from './terms.ts';

export const ROOT = '/contiv/';
export const storeKey = (kind: string, key: string): string => `${ROOT}${kind}/${key}`;
export function parseStoreKey(text: string): { kind: string; key: string } {
  const slash = text.indexOf('/', ROOT.length);
  return { kind: text.slice(ROOT.length, slash), key: text.slice(slash + 1) };
}

/** Kinds that no agent needs to see. */
const PRIVATE = new Set([
  'address',
  'cursor',
  'tag',
  'name',
  'subnets',
  'guard',
  'ended',
  'underlay',
  'registration',
  'replica',
  'event',
  'made',
  'token',
  'admitted',
  'user',
  'lineage',
  'duty',
  'fabric',
]);

export interface VisibleBatch {
  readonly revision: number;
  readonly changes: readonly WatchedObject[];
  /** The same objects as they were before, in the same order; undefined: it is new. */
  readonly before: readonly unknown[];
  /** The NDJSON line, made once for all watchers. */
  readonly line: Buffer;
  /** It says the store's new term (lineage.ts). */
  readonly begins: boolean;
  /** Hosts that have other tenants than before. */
  readonly scopes: readonly ScopeChange[];
}

export interface Mirror extends View {
  /** Id of the store and its term, as watchers are told it (lineage.ts). */
  readonly storeId: string;
  /** Store revision that it shows. */
  readonly revision: number;
  /** Of the newest change that agents are told of, or of the newest object that they see where none came since the start. */
  readonly told: number;
  readonly applied: Map<string, number>;
  readonly events: EventLog;
  readonly shown: Shown;
  /** Tenants that hosts have addresses of. */
  readonly scopes: Pick<HostScopes, 'of'>;
  /** The same as of now, to write on: what a decision sees of the decisions before it in the same transaction. */
  overlay(): Tables;
  /** When it shows at least this revision. */
  seen(revision: number): Promise<void>;
  /** Called after each change, in order. */
  onChange(listener: (batch: VisibleBatch) => void): () => void;
  /** Called when a netmaster comes or goes. */
  onReplicas(listener: () => void): () => void;
  close(): Promise<void>;
}

export async function openMirror(store: Store): Promise<Mirror> {
  const tables = openTables();
  const events = openEventLog((key) => storeKey('event', key));
  const listeners = new Set<(batch: VisibleBatch) => void>();
  const replicaListeners = new Set<() => void>();
  const scopes = openHostScopes();
  const waiters = new Set<{ revision: number; done(): void }>();
  let revision = 0;
  let told = 0;

  function put({ key: text, value, revision, lease }: Change): WatchedObject {
    const { kind, key } = parseStoreKey(text);
    if (kind === 'address')
      scopes.put(key, tables.get<AddressRecord>(kind, key), value as AddressRecord | undefined);
    tables.put(kind, key, value, revision, lease);
    if (kind === 'event') events.put(key, value, revision);
    return { kind, key, object: value ?? null };
  }

  const initial = await store.list(ROOT);
  for (const entry of initial.entries)
    if (!PRIVATE.has(put(entry).kind)) told = Math.max(told, entry.revision);
  events.settled();
  scopes.changes();
  revision = initial.revision;

  function take(batch: Batch): void {
    const before: unknown[] = [];
    const all = batch.changes.map((change) => {
      const { kind, key } = parseStoreKey(change.key);
      if (!PRIVATE.has(kind)) before.push(tables.get(kind, key));
      return put(change);
    });
    const changes = all.filter((change) => !PRIVATE.has(change.kind));
    revision = batch.revision;
    const begins = all.some(({ kind }) => kind === 'lineage') ? { store: positionId(store.id, tables) } : {};
    if (changes.length > 0) told = revision;
    const scoped = scopes.changes();
    if (changes.length > 0 || begins.store !== undefined || scoped.length > 0) {
      const line = Buffer.from(`${JSON.stringify({ type: 'change', revision, changes, ...begins })}\n`);
      const visible: VisibleBatch = {
        revision,
        changes,
        before,
        line,
        begins: begins.store !== undefined,
        scopes: scoped,
      };
      for (const listener of listeners) listener(visible);
    }
    events.settled();
    if (all.some(({ kind }) => kind === 'replica')) for (const listener of replicaListeners) listener();
    for (const waiter of waiters)
      if (waiter.revision <= revision) {
        waiters.delete(waiter);
        waiter.done();
      }
  }

  /** What became of everything since, where the store has forgotten how: as one change. */
  async function relist(): Promise<void> {
    const list = await store.list(ROOT);
    const there = new Set(list.entries.map(({ key }) => key));
    const gone = tables
      .keys()
      .map(({ kind, key }) => storeKey(kind, key))
      .filter((key) => !there.has(key))
      .map((key): Change => ({ key, value: undefined, revision: list.revision }));
    const changed = list.entries.filter(({ key, revision: at, lease }) => {
      const { kind, key: own } = parseStoreKey(key);
      const known = tables.stored(kind, own);
      return known?.revision !== at || known.lease !== lease;
    });
    take({ revision: list.revision, changes: [...gone, ...changed] });
  }

  const stop = new AbortController();
  const following = (async () => {
    while (!stop.signal.aborted)
      try {
        for await (const batch of store.watch(ROOT, revision, stop.signal)) take(batch);
        return;
      } catch (error) {
        if (!(error instanceof CompactedError)) throw error;
        await relist();
      }
  })();

  return {
    get storeId() {
      return positionId(store.id, tables);
    },
    get revision() {
      return revision;
    },
    get told() {
      return told;
    },
    ...tables,
    events,
    scopes,
    overlay: () => openTables(tables),
    seen(wanted) {
      if (wanted <= revision) return Promise.resolve();
      return new Promise((done) => waiters.add({ revision: wanted, done }));
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    onReplicas(listener) {
      replicaListeners.add(listener);
      return () => replicaListeners.delete(listener);
    },
    async close() {
      stop.abort();
      await following;
    },
  };
}
