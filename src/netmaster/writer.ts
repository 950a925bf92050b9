/**
 * Writes: a decision made on the mirror becomes one store transaction whose checks name the revisions that it
 * was made on; on conflict the mirror catches up and the decision is made again. What happens with it is written in the same
 * transaction (events.ts).
 *
 * What waits for the disk goes together, where the store can do that: each decision is made on an overlay of the mirror that shows
 * those before it, each is a transaction of its own, and all of them are made durable at once. Nobody is answered before that, refusals
 * neither, since what was seen of the others might not have come to be. Where one conflicts, those before it have happened, and it and
 * those behind it are decided again.
 */
import { setImmediate } from 'node:timers/promises';
import type { Check, Outcome, Store, Transaction, Write } from '../store/store.ts';
import type { Caller, Occurrence } from './events.ts';
import { type Mirror, parseStoreKey, storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';
import type { View } from './tables.ts';

export interface Decision<T> {
  readonly checks: readonly Check[];
  readonly writes: readonly Write[];
  readonly answer: T;
  /** What happens with these writes. */
  readonly events?: readonly Occurrence[];
}

export interface Written<T> {
  readonly answer: T;
  /** Of the store, with the write in it. */
  readonly revision: number;
}

export interface Writer {
  /** `decide` throws a Refusal where there is nothing to write. The mirror shows the write when it answers. */
  write<T>(decide: () => Decision<T>, caller?: Caller): Promise<Written<T>>;
  /** The same of a decision that looks at nothing but the view that it is given: it may go to the disk together with others. */
  writeTogether<T>(decide: (view: View) => Decision<T>, caller?: Caller): Promise<Written<T>>;
}

/** Conflicts are rare: other replicas only. Past this many something else is wrong. */
const ATTEMPTS = 100;
/** Decisions that go to the disk together at most: the last one of them is answered when all are made. */
const TOGETHER = 64;

interface Waiting {
  decide(view: View): Decision<unknown>;
  readonly caller: Caller;
  /** It is decided on the mirror itself, with nothing beside it. */
  alone: boolean;
  attempts: number;
  done(written: Written<unknown>): void;
  failed(error: unknown): void;
}

/** One of several that were decided; without a transaction there is nothing to write. */
interface Decided {
  readonly waiting: Waiting;
  readonly transaction?: Transaction;
  readonly answer?: unknown;
  readonly refused?: { readonly error: unknown };
}

export function openWriter(store: Store, mirror: Mirror): Writer {
  // One after the other within this replica: they would only conflict with each other.
  const queue: Waiting[] = [];
  let working = false;

  function enqueue<T>(
    decide: (view: View) => Decision<T>,
    caller: Caller,
    alone: boolean,
  ): Promise<Written<T>> {
    return new Promise<Written<T>>((done, failed) => {
      queue.push({ decide, caller, alone, attempts: 0, done: done as Waiting['done'], failed });
      if (!working) void work();
    });
  }

  async function work(): Promise<void> {
    working = true;
    while (queue.length > 0) {
      // Requests that came while the disk was written are read first, so that they go together.
      await setImmediate();
      const group = next();
      if (group.length === 1) await writeOne(group[0] as Waiting);
      else await writeAll(group);
    }
    working = false;
  }

  function next(): Waiting[] {
    const end = queue.findIndex(({ alone }) => alone);
    const together = store.transactTogether === undefined || end === 0 ? 1 : end === -1 ? queue.length : end;
    return queue.splice(0, Math.min(together, TOGETHER));
  }

  /** What the store has now. */
  async function catchUp(): Promise<void> {
    const { revision } = await store.list(storeKey('none', ''));
    await mirror.seen(revision);
  }

  async function writeOne(waiting: Waiting): Promise<void> {
    try {
      for (; waiting.attempts < ATTEMPTS; waiting.attempts++) {
        const { checks, writes, answer, events = [] } = waiting.decide(mirror);
        const recorded = events.length === 0 ? [] : mirror.events.record(events, waiting.caller);
        if (writes.length + recorded.length === 0) return waiting.done({ answer, revision: mirror.revision });
        const outcome = await store.transact(checks, [...writes, ...recorded]);
        if (outcome.ok) {
          await mirror.seen(outcome.revision);
          return waiting.done({ answer, revision: outcome.revision });
        }
        await catchUp();
      }
      throw new Refusal(503, 'the store was changed by others again and again: try again');
    } catch (error) {
      waiting.failed(error);
    }
  }

  /** Each on what those before it write, at the revisions that these will have where nothing else comes in between; else their checks do not hold. */
  function decideAll(group: readonly Waiting[]): Decided[] {
    const overlay = mirror.overlay();
    const log = mirror.events.recorder();
    let revision = mirror.revision;
    return group.map((waiting): Decided => {
      try {
        const { checks, writes, answer, events = [] } = waiting.decide(overlay);
        const recorded = events.length === 0 ? [] : log.record(events, waiting.caller);
        if (writes.length + recorded.length === 0) return { waiting, answer };
        revision++;
        for (const write of writes) {
          const { kind, key } = parseStoreKey(write.key);
          overlay.put(kind, key, write.value, revision, write.lease);
        }
        return { waiting, answer, transaction: { checks, writes: [...writes, ...recorded] } };
      } catch (error) {
        return { waiting, refused: { error } };
      }
    });
  }

  async function writeAll(group: readonly Waiting[]): Promise<void> {
    const decided = decideAll(group);
    let outcomes: Outcome[];
    try {
      const transactions = decided.flatMap(({ transaction }) => transaction ?? []);
      outcomes = transactions.length === 0 ? [] : ((await store.transactTogether?.(transactions)) ?? []);
    } catch {
      // None has happened: each has its own answer. On a full disk one may still find room, and the next one not.
      for (const waiting of group) waiting.alone = true;
      queue.unshift(...group);
      return;
    }
    const written = outcomes.flatMap((outcome) => (outcome.ok ? [outcome.revision] : []));
    await mirror.seen(written.at(-1) ?? 0);
    let revision = mirror.revision;
    for (const [i, { waiting, transaction, answer, refused }] of decided.entries()) {
      if (transaction !== undefined) {
        const its = written.shift();
        if (its === undefined) {
          waiting.alone = true; // it is made with what is there, as often as needed
          queue.unshift(...decided.slice(i).map((other) => other.waiting));
          return catchUp().catch(() => {}); // whoever is decided next meets what is wrong
        }
        revision = its;
      }
      if (refused === undefined) waiting.done({ answer, revision });
      else waiting.failed(refused.error);
    }
  }

  return {
    write: (decide, caller = {}) => enqueue(decide, caller, true),
    writeTogether: (decide, caller = {}) => enqueue(decide, caller, false),
  };
}
