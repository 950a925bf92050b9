/**
 * How often somebody may try: so many at once, then one each so often. Of each key one number is kept, the time until which its attempts
 * are accounted for (GCRA, as ATM and nginx's limit_req have it), in memory and by each netmaster for itself.
 */

export interface Pace {
  /** Attempts at once. */
  readonly burst: number;
  /** Milliseconds between those behind them. */
  readonly every: number;
}

export interface Attempts {
  /** Takes one before it is known what comes of it, so that many at once do not pass. Milliseconds to wait where there is none left, else 0. */
  take(key: string): number;
  /** It was right: it does not count. */
  giveBack(key: string): void;
}

/** Keys that are kept; of more, those that were tried longest ago go. */
const KEPT = 10_000;

export function openAttempts({ burst, every }: Pace, now: () => number = () => performance.now()): Attempts {
  const until = new Map<string, number>();
  return {
    take(key) {
      const at = now();
      const from = Math.max(until.get(key) ?? 0, at);
      const wait = from - at - (burst - 1) * every;
      if (wait > 0) return wait;
      until.delete(key); // it is the newest again
      until.set(key, from + every);
      if (until.size > KEPT) until.delete(until.keys().next().value as string);
      return 0;
    },
    giveBack(key) {
      const from = until.get(key);
      if (from !== undefined) until.set(key, from - every);
    },
  };
}
