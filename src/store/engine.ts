/**
 * A store within one process: checks, revisions, watch history and leases in memory, in front of a journal
 * that makes writes durable.
 *
 *   transact --checks hold--> journal.write (durable) --> map, history --> watchers
 *
 * memory.ts has no journal, sqlite.ts one on disk.
 */
import { randomUUID } from 'node:crypto';
import {
  type Batch,
  type Change,
  type Check,
  CompactedError,
  type Entry,
  type Outcome,
  type Store,
  type StoreDescription,
  type Transaction,
  type Write,
} from './store.ts';

/** Transactions that a watcher may be behind. */
const HISTORY = 10_000;
/** Milliseconds between looks at the clock. */
const TICK = 1000;

export interface Lease {
  readonly id: string;
  /** Seconds. */
  readonly ttl: number;
}

export interface Image {
  readonly id: string;
  readonly revision: number;
  readonly entries: readonly Entry[];
  readonly leases: readonly Lease[];
}

/** The writes that made a revision. */
export interface Numbered {
  readonly revision: number;
  readonly writes: readonly Write[];
}

/** What makes writes durable. Calls are synchronous: a write has happened when it returns. */
export interface Journal {
  load(): Image;
  /** All or none, in this order; the last revision is the store's. */
  write(transactions: readonly Numbered[]): void;
  writeLease(lease: Lease | { readonly id: string; readonly ttl: undefined }): void;
  /** As of Store. */
  problem(): string | undefined;
  describe(): StoreDescription;
  close(): void;
}

export const noJournal = (): Journal => ({
  load: () => ({ id: randomUUID(), revision: 1, entries: [], leases: [] }),
  write() {},
  writeLease() {},
  problem: () => undefined,
  describe: () => ({ kind: 'memory' }),
  close() {},
});

interface Watcher {
  readonly prefix: string;
  readonly queue: Batch[];
  wake(): void;
}

interface LiveLease extends Lease {
  readonly keys: Set<string>;
  timer: NodeJS.Timeout;
}

export function openEngine(journal: Journal): Store {
  const image = journal.load();
  const entries = new Map(image.entries.map((entry) => [entry.key, entry]));
  const leases = new Map<string, LiveLease>();
  const watchers = new Set<Watcher>();
  const history: Batch[] = [];
  let revision = image.revision;
  let sorted: string[] | undefined;
  let closed = false;

  /** Keys in order, made again only after one came or went. */
  function keys(): string[] {
    sorted ??= [...entries.keys()].sort();
    return sorted;
  }

  function commit(writes: readonly Write[]): number {
    commitAll([{ revision: revision + 1, writes }]);
    return revision;
  }

  function commitAll(transactions: readonly Numbered[]): void {
    journal.write(transactions);
    for (const transaction of transactions) show(transaction);
  }

  /** What is durable is there for all to see. */
  function show({ revision: next, writes }: Numbered): void {
    revision = next;
    const changes: Change[] = writes.map(({ key, value, lease }) => {
      const held = entries.get(key)?.lease;
      if (held !== undefined) leases.get(held)?.keys.delete(key);
      if (value === undefined) {
        if (entries.delete(key)) sorted = undefined;
        return { key, value, revision };
      }
      if (!entries.has(key)) sorted = undefined;
      const entry: Entry = { key, value, revision, ...(lease === undefined ? {} : { lease }) };
      entries.set(key, entry);
      if (lease !== undefined) leases.get(lease)?.keys.add(key);
      return entry;
    });
    const batch: Batch = { revision, changes };
    history.push(batch);
    if (history.length > 2 * HISTORY) history.splice(0, history.length - HISTORY);
    for (const watcher of watchers) {
      const seen = changes.filter((c) => c.key.startsWith(watcher.prefix));
      if (seen.length === 0) continue;
      watcher.queue.push({ revision, changes: seen });
      watcher.wake();
    }
  }

  /** Keys that are not as a transaction relies on; `written`: revisions by key of those that come before it, 0 where it is gone. */
  function conflictsOf({ checks, writes }: Transaction, written?: ReadonlyMap<string, number>): string[] {
    const revisionOf = (key: string): number => written?.get(key) ?? entries.get(key)?.revision ?? 0;
    const conflicts = checks
      .filter(({ key, revision }) => revisionOf(key) !== revision)
      .map(({ key }) => key);
    for (const { key, lease } of writes) if (lease !== undefined && !leases.has(lease)) conflicts.push(key);
    return conflicts;
  }

  function mustBeOpen(): void {
    if (closed) throw new Error('the store is closed');
  }

  function end(id: string): void {
    const lease = leases.get(id);
    if (lease === undefined) return;
    const gone = [...lease.keys].map((key) => ({ key, value: undefined }));
    // Keys first: killed in between, the lease is there to end once more.
    if (gone.length > 0) commit(gone);
    journal.writeLease({ id, ttl: undefined });
    clearTimeout(lease.timer);
    leases.delete(id);
  }

  function hold(lease: Lease): LiveLease {
    const live: LiveLease = {
      ...lease,
      keys: new Set(),
      timer: setTimeout(() => {
        try {
          end(lease.id);
        } catch {
          live.timer.refresh(); // what cannot be written now, as on a full disk, ends later
        }
      }, lease.ttl * 1000),
    };
    live.timer.unref();
    leases.set(lease.id, live);
    return live;
  }

  // Stopped, or kept from its timers by anything else, this process could hear nobody: as after a restart.
  let ticked = performance.now();
  const ticking = setInterval(() => {
    const now = performance.now();
    if (now - ticked > 2 * TICK) for (const lease of leases.values()) lease.timer.refresh();
    ticked = now;
  }, TICK);
  ticking.unref();

  // After a restart each lease has its whole time again: that we were away is no host's fault.
  for (const lease of image.leases) hold(lease);
  for (const { key, lease } of image.entries) if (lease !== undefined) leases.get(lease)?.keys.add(key);

  return {
    id: image.id,
    async get(key) {
      return entries.get(key);
    },
    async list(prefix) {
      const all = keys();
      let from = lowerBound(all, prefix);
      const found: Entry[] = [];
      for (; from < all.length && (all[from] as string).startsWith(prefix); from++)
        found.push(entries.get(all[from] as string) as Entry);
      return { entries: found, revision };
    },
    async transact(checks: readonly Check[], writes: readonly Write[]): Promise<Outcome> {
      mustBeOpen();
      const conflicts = conflictsOf({ checks, writes });
      if (conflicts.length > 0) return { ok: false, conflicts };
      return { ok: true, revision: commit(writes) };
    },
    async transactTogether(transactions): Promise<Outcome[]> {
      mustBeOpen();
      const written = new Map<string, number>();
      const held: Numbered[] = [];
      const outcomes: Outcome[] = [];
      for (const transaction of transactions) {
        const conflicts = conflictsOf(transaction, written);
        if (conflicts.length > 0) {
          outcomes.push({ ok: false, conflicts });
          break;
        }
        const next = revision + held.length + 1;
        for (const { key, value } of transaction.writes) written.set(key, value === undefined ? 0 : next);
        held.push({ revision: next, writes: transaction.writes });
        outcomes.push({ ok: true, revision: next });
      }
      if (held.length > 0) commitAll(held);
      return outcomes;
    },
    async *watch(prefix, after, signal) {
      const oldest = (history[0]?.revision ?? revision + 1) - 1;
      if (after < oldest || after > revision)
        throw new CompactedError(`revision ${after} is not in the history ${oldest}-${revision}`);
      const queue = history
        .filter((batch) => batch.revision > after)
        .map((batch) => ({ ...batch, changes: batch.changes.filter((c) => c.key.startsWith(prefix)) }))
        .filter((batch) => batch.changes.length > 0);
      let wake = (): void => {};
      const watcher: Watcher = { prefix, queue, wake: () => wake() };
      watchers.add(watcher);
      const stop = (): void => wake();
      signal.addEventListener('abort', stop);
      try {
        while (!signal.aborted && !closed) {
          const batch = queue.shift();
          if (batch !== undefined) yield batch;
          else
            await new Promise<void>((done) => {
              wake = done;
              if (queue.length > 0 || signal.aborted || closed) done();
            });
        }
      } finally {
        signal.removeEventListener('abort', stop);
        watchers.delete(watcher);
      }
    },
    async grant(ttl) {
      const lease = { id: randomUUID(), ttl };
      journal.writeLease(lease);
      hold(lease);
      return lease.id;
    },
    async renew(id) {
      const lease = leases.get(id);
      lease?.timer.refresh();
      return lease !== undefined;
    },
    async revoke(id) {
      end(id);
    },
    async problem() {
      return journal.problem();
    },
    async describe() {
      return journal.describe();
    },
    async close() {
      if (closed) return;
      closed = true;
      clearInterval(ticking);
      for (const lease of leases.values()) clearTimeout(lease.timer);
      for (const watcher of watchers) watcher.wake();
      journal.close();
    },
  };
}

/** First index whose key is not less than the prefix. */
function lowerBound(sorted: readonly string[], prefix: string): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] as string) < prefix) low = middle + 1;
    else high = middle;
  }
  return low;
}
