/**
 * The store: the only state that netmaster keeps. A flat, ordered map of keys to JSON values with one
 * revision counter, shaped after etcd v3 so that etcd and the embedded store are interchangeable.
 *
 *   memory.ts   for tests and trials          sqlite.ts   embedded, one file, survives kill -9
 *   etcd/       for several netmasters
 *
 * Every implementation passes suite.ts.
 */

/** One stored value. `revision` is the store revision of its last write, 1 or more. */
export interface Entry {
  readonly key: string;
  readonly value: unknown;
  readonly revision: number;
  /** It goes when this lease ends. */
  readonly lease?: string;
}

/** What a transaction relies on: the key still has this revision; 0 means it does not exist. */
export interface Check {
  readonly key: string;
  readonly revision: number;
}

/** `value: undefined` deletes. A key written with a lease goes when the lease ends. */
export interface Write {
  readonly key: string;
  readonly value: unknown;
  readonly lease?: string;
}

export type Outcome =
  | { readonly ok: true; readonly revision: number }
  /** Nothing was written; `conflicts` names the keys whose revision was another. */
  | { readonly ok: false; readonly conflicts: readonly string[] };

/** What `transact` takes. */
export interface Transaction {
  readonly checks: readonly Check[];
  readonly writes: readonly Write[];
}

/** A change of one key; `value` undefined: the key is gone. */
export interface Change {
  readonly key: string;
  readonly value: unknown;
  readonly revision: number;
  readonly lease?: string;
}

/** All changes of one transaction under the watched prefix, in one piece. */
export interface Batch {
  readonly revision: number;
  readonly changes: readonly Change[];
}

/** What is not known is absent. */
export interface StoreDescription {
  readonly kind: 'memory' | 'sqlite' | 'etcd';
  /** The file, or the members. */
  readonly place?: string;
  /** Bytes that it takes. */
  readonly bytes?: number;
  /** Bytes that are left on its disk. */
  readonly free?: number;
}

export interface Store {
  /** Made once with the store, at random: another id means that all revisions mean nothing. */
  readonly id: string;
  get(key: string): Promise<Entry | undefined>;
  /** All entries under the prefix in key order, and the revision that this list shows. */
  list(prefix: string): Promise<{ entries: Entry[]; revision: number }>;
  /** All or nothing, of any size: a store with a limit (etcd) stages it in here. Durable when it answers. */
  transact(checks: readonly Check[], writes: readonly Write[]): Promise<Outcome>;
  /**
   * Several at once, made durable together, as if one came after the other: each has a revision of its own, one behind that of the one
   * before, and checks may name what those before it write. The first one whose checks do not hold is the last that is tried. An outcome for
   * each that was tried; where it throws, none has happened. Absent: transactions have nothing to share.
   */
  readonly transactTogether?: (transactions: readonly Transaction[]) => Promise<Outcome[]>;
  /**
   * Every transaction after revision `after` that touched the prefix, in order, without a gap, until
   * the signal aborts. A batch without changes says only how far the watch is, and what a lease took before the revision of a
   * list may come again. Throws CompactedError when `after` is older than the history that is kept.
   */
  watch(prefix: string, after: number, signal: AbortSignal): AsyncIterable<Batch>;
  /** A lease that ends `ttl` seconds after its last renewal, and takes its keys with it. Returns its id, by which all may renew it. */
  grant(ttl: number): Promise<string>;
  /** False: the lease has ended. */
  renew(lease: string): Promise<boolean>;
  /** Ends the lease now; its keys go in one transaction. */
  revoke(lease: string): Promise<void>;
  /** Why nothing can be written, as far as it is known; undefined: nothing is known. Where a write has failed, one is tried that changes nothing. */
  problem(): Promise<string | undefined>;
  describe(): Promise<StoreDescription>;
  /** Watches end. A second time does nothing. */
  close(): Promise<void>;
}

/** The asked revision is no longer kept: list again. */
export class CompactedError extends Error {
  readonly code = 'compacted';
}

/** The answer to a write was lost, and cannot be found out: it may have happened. */
export class UncertainError extends Error {}

/** What was to be written cannot be made durable, as on a full disk or in a file that was deleted: nothing has changed. */
export class UnwritableError extends Error {}
