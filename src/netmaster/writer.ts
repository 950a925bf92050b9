/**
 * Writes: a decision made on the mirror becomes one store transaction whose checks name the revisions that it
 * was made on; on conflict the mirror catches up and the decision is made again. What happens with it is written in the same
 * transaction (events.ts).
 */
import type { Check, Store, Write } from '../store/store.ts';
import type { Caller, Occurrence } from './events.ts';
import { type Mirror, storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';

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
}

/** Conflicts are rare: other replicas only. Past this many something else is wrong. */
const ATTEMPTS = 100;

export function openWriter(store: Store, mirror: Mirror): Writer {
  // One after the other within this replica: they would only conflict with each other.
  let last: Promise<unknown> = Promise.resolve();

  async function attempt<T>(decide: () => Decision<T>, caller: Caller): Promise<Written<T>> {
    for (let i = 0; i < ATTEMPTS; i++) {
      const { checks, writes, answer, events = [] } = decide();
      const recorded = events.length === 0 ? [] : mirror.events.record(events, caller);
      if (writes.length + recorded.length === 0) return { answer, revision: mirror.revision };
      const outcome = await store.transact(checks, [...writes, ...recorded]);
      if (outcome.ok) {
        await mirror.seen(outcome.revision);
        return { answer, revision: outcome.revision };
      }
      const { revision } = await store.list(storeKey('none', ''));
      await mirror.seen(revision);
    }
    throw new Refusal(503, 'the store was changed by others again and again: try again');
  }

  return {
    write(decide, caller = {}) {
      const turn = last.then(
        () => attempt(decide, caller),
        () => attempt(decide, caller),
      );
      last = turn.catch(() => {});
      return turn;
    },
  };
}
