/**
 * Makes netmaster's objects equal to what the cluster says: by what is so now, never by what happened.
 *
 *   touched keys --want, text--> differs? --> creations, in the order of sources, by batches --> deletions, in the reverse order
 *        ^                                        | refused: told in netmaster's words, and touched again after a while
 *        +----------------------------------------+
 *
 * A change touches the keys that follow from it, a list of either side touches all. netmaster takes a batch as a whole or refuses it
 * and names the object: that one is left out and the others are sent again.
 */
import { setTimeout as after } from 'node:timers/promises';
import { ApiError } from '../client/client.ts';
import { LATE_HEADER } from '../protocol/wire.ts';
import { canonical } from './canonical.ts';
import type { Actual } from './netmaster.ts';
import type { Netmaster, Outcome, Plain, Source } from './source.ts';
import { Untranslatable } from './translate/protocol.ts';

export interface Reconciler {
  touch(kind: string, key: string): void;
  /** All of the cluster and of netmaster is compared. */
  touchAll(): void;
  /** What was refused is tried again at once: what it lacked may be there now. */
  retryRefused(): void;
  /** Keys that wait, or were refused. */
  readonly waiting: number;
  readonly refused: number;
  close(): Promise<void>;
}

export interface ReconcilerOptions {
  readonly client: Netmaster;
  readonly actual: Actual;
  /** In the order in which they are created. */
  readonly sources: readonly Source[];
  /** Whether this process is the one that writes. */
  leads(): boolean;
  wrote(kind: string, created: number, deleted: number): void;
  failed(error: Error, first: boolean): void;
}

/** Objects of a request. */
const BATCH = 250;
/** Deletions at a time. */
const AT_ONCE = 8;
/** Milliseconds until what was refused is tried again: the first, and the longest. */
const FIRST_DELAY = 1000;
const LONGEST_DELAY = 60_000;
/** The same while netmaster cannot be reached. */
const AWAY_DELAY = 1000;
/** For what comes together to be written together. */
const GATHERING = 10;

interface Change {
  readonly key: string;
  readonly want: Plain;
}

export function openReconciler(options: ReconcilerOptions): Reconciler {
  const { client, actual, sources, leads, wrote, failed } = options;
  const pending = new Map<string, Set<string>>(sources.map(({ kind }) => [kind, new Set()]));
  /** By `kind key`: how often in a row, and the timer of the next time. */
  const refused = new Map<string, { failures: number; timer: NodeJS.Timeout }>();
  const stop = new AbortController();
  let awaken = Promise.withResolvers<void>();
  let awayFor = 0;

  function touch(kind: string, key: string): void {
    pending.get(kind)?.add(key);
    awaken.resolve();
  }

  function touchAll(): void {
    for (const { kind, keys } of sources) {
      for (const key of keys()) pending.get(kind)?.add(key);
      for (const key of actual.keys(kind)) pending.get(kind)?.add(key);
    }
    awaken.resolve();
  }

  function retryRefused(): void {
    for (const id of refused.keys()) {
      const space = id.indexOf(' ');
      touch(id.slice(0, space), id.slice(space + 1));
    }
  }

  function again(kind: string, key: string, delay?: number): void {
    const id = `${kind} ${key}`;
    const before = refused.get(id);
    clearTimeout(before?.timer);
    const failures = (before?.failures ?? 0) + 1;
    const backOff = Math.min(FIRST_DELAY * 2 ** (failures - 1), LONGEST_DELAY);
    const timer = setTimeout(() => touch(kind, key), delay ?? backOff);
    timer.unref();
    refused.set(id, { failures, timer });
  }

  function settle(source: Source, key: string, outcome: Outcome): void {
    const id = `${source.kind} ${key}`;
    if (outcome.accepted && outcome.late.length === 0) {
      clearTimeout(refused.get(id)?.timer);
      refused.delete(id);
    } else again(source.kind, key);
    source.tell(key, outcome);
  }

  /** What differs, of a kind; what cannot be said is told. */
  function differences(source: Source, keys: ReadonlySet<string>): { puts: Change[]; deletes: string[] } {
    const puts: Change[] = [];
    const deletes: string[] = [];
    for (const key of keys) {
      const id = `${source.kind} ${key}`;
      try {
        const want = source.want(key);
        const has = actual.text(source.kind, key);
        if (want === undefined) {
          if (has !== undefined && source.owns(key)) deletes.push(key);
          else settle(source, key, { accepted: true, late: [] });
        } else if (has !== canonical(want) || refused.has(id)) puts.push({ key, want });
        else settle(source, key, { accepted: true, late: [] });
      } catch (error) {
        if (!(error instanceof Untranslatable)) throw error;
        settle(source, key, { accepted: false, message: error.message });
      }
    }
    return { puts, deletes };
  }

  /** Throws where netmaster cannot be reached; then all that was not answered is pending again. */
  async function put(source: Source, changes: readonly Change[]): Promise<void> {
    for (let i = 0; i < changes.length; i += BATCH)
      try {
        await putBatch(source, changes.slice(i, i + BATCH));
      } catch (error) {
        for (const { key } of changes.slice(i)) touch(source.kind, key);
        throw error;
      }
  }

  async function putBatch(source: Source, batch: readonly Change[]): Promise<void> {
    let rest = batch;
    while (rest.length > 0)
      try {
        const { headers } = await client.call(
          'apply',
          { wait: `${source.wait}` },
          { objects: rest.map(({ want }) => ({ kind: source.kind, ...want })) },
        );
        const late = source.wait > 0 ? lateHosts(headers[LATE_HEADER]) : [];
        for (const { key } of rest) settle(source, key, { accepted: true, late });
        wrote(source.kind, rest.length, 0);
        return;
      } catch (error) {
        if (!(error instanceof ApiError) || !isRefusal(error)) throw error;
        if (error.position === undefined && rest.length > 1) {
          for (const change of rest) await putBatch(source, [change]);
          return;
        }
        const wrong = rest[(error.position ?? 1) - 1] as Change;
        settle(source, wrong.key, {
          accepted: false,
          message: error.message.replace(/^object \d+(?: \([^)]*\))?: /, ''),
        });
        rest = rest.filter((change) => change !== wrong);
      }
  }

  async function remove(source: Source, keys: readonly string[]): Promise<void> {
    const { kind, collection } = source;
    const left = [...keys];
    const one = async (): Promise<void> => {
      for (let key = left.shift(); key !== undefined; key = left.shift())
        try {
          await client.call('delete', { collection, key, wait: '0' });
          settle(source, key, { accepted: true, late: [] });
          wrote(kind, 0, 1);
        } catch (error) {
          if (!(error instanceof ApiError) || !isRefusal(error)) {
            for (const other of [key, ...left.splice(0)]) touch(source.kind, other);
            throw error;
          }
          if (error.status === 404) settle(source, key, { accepted: true, late: [] });
          else settle(source, key, { accepted: false, message: error.message });
        }
    };
    const ends = await Promise.allSettled(Array.from({ length: AT_ONCE }, one));
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
  }

  async function turn(): Promise<void> {
    const work = sources.flatMap((source) => {
      const keys = pending.get(source.kind) as Set<string>;
      if (keys.size === 0 || !source.ready()) return [];
      pending.set(source.kind, new Set());
      return [{ source, keys }];
    });
    let current: readonly { source: Source; keys: Iterable<string> }[] = work;
    try {
      const deletions: { source: Source; keys: readonly string[] }[] = [];
      for (const [i, { source, keys }] of work.entries()) {
        current = [...work.slice(i + 1), ...deletions];
        const { puts, deletes } = differences(source, keys);
        deletions.unshift({ source, keys: deletes });
        current = [...work.slice(i + 1), ...deletions];
        await put(source, puts);
      }
      for (const [i, { source, keys }] of deletions.entries()) {
        current = deletions.slice(i + 1);
        await remove(source, keys);
      }
      // What was in the way of another may have gone: the address of a service.
      if (deletions.some(({ keys }) => keys.length > 0)) retryRefused();
    } catch (error) {
      for (const { source, keys } of current) for (const key of keys) touch(source.kind, key);
      throw error;
    }
  }

  const running = (async () => {
    while (!stop.signal.aborted) {
      await awaken.promise;
      await after(GATHERING);
      awaken = Promise.withResolvers();
      if (stop.signal.aborted || !actual.synced || !leads()) continue;
      try {
        await turn();
        awayFor = 0;
      } catch (error) {
        failed(error as Error, awayFor++ === 0);
        await after(AWAY_DELAY, undefined, { signal: stop.signal }).catch(() => {});
        awaken.resolve();
      }
    }
  })();

  return {
    touch,
    touchAll,
    retryRefused,
    get waiting() {
      return [...pending.values()].reduce((sum, keys) => sum + keys.size, 0);
    },
    get refused() {
      return refused.size;
    },
    async close() {
      stop.abort();
      awaken.resolve();
      for (const { timer } of refused.values()) clearTimeout(timer);
      await running;
    },
  };
}

/** netmaster has looked at it and says no: to ask again at once would be answered the same. */
const isRefusal = ({ status }: ApiError): boolean => status >= 400 && status < 500 && status !== 429;

const lateHosts = (header: string | string[] | undefined): string[] =>
  [header ?? []].flat().flatMap((text) => text.split(',').filter((name) => name !== ''));
