/**
 * What happens on this host and its operator should know: told to netmaster with the reports of flows (flows.ts), until it has it. Containers
 * can make such things happen, over and over: the same one is told once in a while, with how often it was, and those of a kind not
 * faster than a fixed rate, each kind by itself, so that what one container does over and over does not hide what is of another kind.
 * What is waiting when the agent ends is not told.
 */
import type { ToldEvent } from '../../protocol/events.ts';

/** Milliseconds in which the same one is told once. */
export const AGAIN = 600_000;
/** How many of a kind may be told at once, and milliseconds until one more may. */
export const AT_ONCE = 30;
export const EACH = 10_000;
/** Of a kind, that wait for netmaster: of the four kinds together no more than a report may have (messages.ts). */
const WAITING = 33;
/** Different ones that are remembered. */
const REMEMBERED = 1000;
/** Characters. */
const LENGTH = 500;

export interface Happenings {
  /** One plain line. */
  tell(kind: ToldEvent['kind'], text: string): void;
  /** What netmaster does not have yet, the oldest first. */
  untold(): readonly ToldEvent[];
  /** It has these. */
  taken(events: readonly ToldEvent[]): void;
}

interface Known {
  readonly kind: ToldEvent['kind'];
  readonly text: string;
  readonly until: number;
  more: number;
}

/** What may be told of a kind. */
interface Allowance {
  tokens: number;
  /** Milliseconds of the clock. */
  filled: number;
  /** How many were left out since one was told. */
  left: number;
}

/** `clock` in milliseconds, which nobody sets. */
export function openHappenings(clock: () => number = () => performance.now()): Happenings {
  let waiting: ToldEvent[] = [];
  let number = 0;
  /** By kind and text, the oldest first. */
  const known = new Map<string, Known>();
  const allowances = new Map<ToldEvent['kind'], Allowance>();

  function allowanceOf(kind: ToldEvent['kind']): Allowance {
    const found = allowances.get(kind) ?? { tokens: AT_ONCE, filled: clock(), left: 0 };
    allowances.set(kind, found);
    return found;
  }

  function add(kind: ToldEvent['kind'], text: string): void {
    const shortened = text.length <= LENGTH ? text : `${text.slice(0, LENGTH - 1).toWellFormed()}…`;
    waiting.push({ number: ++number, time: Date.now(), kind, text: shortened });
    allowanceOf(kind).tokens--;
  }

  function mayTell(kind: ToldEvent['kind']): boolean {
    const allowance = allowanceOf(kind);
    const gained = Math.floor((clock() - allowance.filled) / EACH);
    allowance.filled += gained * EACH;
    allowance.tokens = Math.min(AT_ONCE, allowance.tokens + gained);
    return allowance.tokens > 0 && waiting.filter((event) => event.kind === kind).length < WAITING;
  }

  const leave = (kind: ToldEvent['kind'], count: number): void => {
    allowanceOf(kind).left += count;
  };

  /** Says of what came again how often it did, and of what was left out how much that was. */
  function settle(): void {
    for (const [key, { kind, text, until, more }] of known) {
      if (clock() < until && known.size <= REMEMBERED) break;
      known.delete(key);
      if (more === 0) continue;
      if (mayTell(kind)) add(kind, `${text} (${more} more ${more === 1 ? 'time' : 'times'})`);
      else leave(kind, more);
    }
    for (const [kind, allowance] of allowances) {
      const { left } = allowance;
      if (left === 0 || !mayTell(kind)) continue;
      allowance.left = 0;
      add(kind, `${left} more of this kind ${left === 1 ? 'is' : 'are'} left out: they came too fast`);
    }
  }

  return {
    tell(kind, text) {
      settle();
      const key = `${kind} ${text}`;
      const before = known.get(key);
      if (before !== undefined) before.more++;
      else if (mayTell(kind)) {
        known.set(key, { kind, text, until: clock() + AGAIN, more: 0 });
        add(kind, text);
      } else leave(kind, 1);
    },
    untold() {
      settle();
      return [...waiting];
    },
    taken(events) {
      const last = events.at(-1)?.number ?? 0;
      waiting = waiting.filter((event) => event.number > last);
    },
  };
}
