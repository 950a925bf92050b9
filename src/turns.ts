/**
 * Work that goes on for as long as a process does: one run at a time, each by what is so when it begins, so that the last state
 * wins whatever comes meanwhile; again by itself after a while, or after a failure.
 *
 *   next, ask, every, soon, again --> waits while one runs --> run --> settled
 */
import { setTimeout as after } from 'node:timers/promises';

export interface Turns<T> {
  /** A run that starts after this call; those who call while one runs share the one after it. */
  next(): Promise<T>;
  /** The same for who does not wait for it: what fails is told to `failed`. */
  ask(): void;
  /** A run that nobody needs to have: settled() does not wait for it. */
  begin(): void;
  /** The same at the latest in so many milliseconds: one that is due sooner stays. */
  soon(delay: number): void;
  /** When nothing runs that was asked for before the call, whatever came of it. */
  idle(): Promise<void>;
  /** When what was asked for before the call has been done well, however often it had to be tried. */
  settled(): Promise<void>;
  /** Nothing is begun any more but what was asked for; resolves when that has ended. Whoever asks later is refused. */
  close(): Promise<void>;
}

export interface TurnsOptions<T> {
  /** Milliseconds: it runs at least so often, whoever asks. */
  readonly every?: number;
  /**
   * For a run that does all at once, without waiting for anything: others have the turn before each, and what they ask for meanwhile is
   * asked of that run. What one read of a connection brings comes message by message without waiting either, so that each would
   * have a run of its own, and until the last of them nobody else would be heard.
   */
  readonly othersFirst?: boolean;
  /** Asked before a run that nobody asks for; false: not this time. */
  due?(): boolean;
  /**
   * After a run, milliseconds until the next one that nobody asks for, at the latest; undefined: none. `failures` in a row, of those that did
   * not do all too, 0 where it ended well; `error` is the last one's, else `result` is.
   */
  again?(failures: number, error: unknown, result: T | undefined): number | undefined;
  /** Whether a run that ended did all that it was asked for. */
  whole?(result: T): boolean;
  /** Of a run that failed; `first`: the one before did not. */
  failed?(error: unknown, first: boolean): void;
}

/** For `again`: what failed is tried again after so many milliseconds. */
export const afterFailure =
  (delay: number) =>
  (failures: number): number | undefined =>
    failures > 0 ? delay : undefined;

const nothing = (): void => {};
/** What has come from connections, processes and timers has been heard. */
const othersTurn = (): Promise<void> => new Promise((done) => void setImmediate(done));

export function inTurn<T>(run: () => Promise<T>, options: TurnsOptions<T> = {}): Turns<T> {
  const { every, othersFirst = false, due: isDue = () => true, again, whole = () => true, failed } = options;
  const progress = openProgress();
  let running: Promise<void> = Promise.resolve();
  let waiting: Promise<T> | undefined;
  let later: NodeJS.Timeout | undefined;
  /** When that is due: performance.now(). */
  let due = Number.POSITIVE_INFINITY;
  let failures = 0;
  let closed = false;

  async function turn(): Promise<T> {
    waiting = undefined;
    clearTimeout(later);
    due = Number.POSITIVE_INFINITY;
    const { asked } = progress;
    let reason: unknown;
    let result: T | undefined;
    try {
      result = await run();
      const well = whole(result);
      failures = well ? 0 : failures + 1;
      if (well) progress.done(asked);
      return result;
    } catch (error) {
      reason = error;
      if (!closed) failed?.(error, failures === 0);
      failures++;
      throw error;
    } finally {
      const delay = again?.(failures, reason, result);
      if (delay !== undefined) soon(delay);
    }
  }

  function start(): Promise<T> {
    if (waiting === undefined) {
      waiting = (othersFirst ? running.then(othersTurn) : running).then(turn);
      running = waiting.then(nothing, nothing);
    }
    return waiting;
  }
  const begin = (): void => {
    if (!closed) start().catch(nothing);
  };
  function soon(delay: number): void {
    const at = performance.now() + delay;
    if (closed || at >= due) return;
    clearTimeout(later);
    due = at;
    later = setTimeout(begin, delay);
  }
  const timer =
    every === undefined
      ? undefined
      : setInterval(() => {
          if (isDue()) begin();
        }, every);

  const next = (): Promise<T> => {
    if (closed) return Promise.reject(new Error('it is ending'));
    progress.ask();
    return start();
  };
  return {
    next,
    ask: () => void next().catch(nothing),
    begin,
    soon,
    idle: () => running,
    settled: () => progress.settled(),
    close() {
      closed = true;
      clearInterval(timer);
      clearTimeout(later);
      return running;
    },
  };
}

/** How far something is with what it was asked for, in the order in which it was. */
export interface Progress {
  /** How often it was asked. */
  readonly asked: number;
  ask(): void;
  /** All of it is done that was asked for up to then: `asked` as it was. */
  done(asked: number): void;
  /** When all is done that was asked for before the call. */
  settled(): Promise<void>;
}

export function openProgress(): Progress {
  let asked = 0;
  let reached = 0;
  const waiting = new Map<number, PromiseWithResolvers<void>>();
  return {
    get asked() {
      return asked;
    },
    ask: () => void asked++,
    done(upTo) {
      reached = Math.max(reached, upTo);
      for (const [wanted, { resolve }] of waiting)
        if (wanted <= reached) {
          waiting.delete(wanted);
          resolve();
        }
    },
    settled() {
      if (reached >= asked) return Promise.resolve();
      const found = waiting.get(asked) ?? Promise.withResolvers<void>();
      waiting.set(asked, found);
      return found.promise;
    },
  };
}

/** Calls until it does not throw. `again` says for an error how many milliseconds to wait; what it throws itself is the end of it. */
export async function insist<T>(call: () => Promise<T> | T, again: (error: unknown) => number): Promise<T> {
  for (;;)
    try {
      return await call();
    } catch (error) {
      await after(again(error));
    }
}
