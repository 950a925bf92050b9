/**
 * The one engine that finds what must be written to the kernel. Every kind of thing that the kernel holds for us (addresses,
 * routes, links, queueing disciplines, elements of nftables, entries of eBPF maps, ...) is an instance of it.
 *
 *   wanted    what the state says, by part (state.ts): an unchanged part is the same object as before
 *   known     what was established last, so what is believed to be there; nothing at an agent's start
 *   present   what the kernel holds, where it was read
 *
 *   not read: the parts that are in only one of wanted and known are looked at, and nothing else: a change costs what changed
 *   read:     wanted is compared with present as a whole. Where something was known and is gone, or is there and was never known,
 *             somebody else has done that: it is put right, and said in a line. An agent that has just started knows nothing: it
 *             takes over what fits, puts the rest right, and says nothing
 *
 * Two entries can be meant for one place, such as the routes to a container that has just moved, which is known here while its
 * old host has not yet said that it went. Then the last of them, in the order of the parts, is the one that is there; when its
 * part goes the other one takes its place. Parts that stay keep their order.
 *
 * What is added takes the place of what was there, and is therefore written first: removing first would leave a moment with
 * nothing. So what was replaced must not be removed by what the kernel finds it by (`foundBy`), as that is the new one by then.
 * Where the kernel refuses to add what is there (`removedFirst`), it is the other way round.
 */
import type { Outcome } from './outcome.ts';
import { changedParts } from './parts.ts';

export type ByPart<E> = ReadonlyMap<object, readonly E[]>;

/** What one kind of entry is like. */
export interface Kind<E> {
  /** Equal for equal entries; what is logged about them. */
  text(entry: E): string;
  /** Of entries with the same place the kernel holds one. */
  place(entry: E): string;
  /** What the kernel finds it by when it is told to remove it; absent: the place. */
  foundBy?(entry: E): string;
  /** The kernel refuses to add what is there with another value. */
  readonly removedFirst?: boolean;
  /** Whether an entry that is there is ours although it is not known; absent: all are. Others' are left alone. */
  isOurs?(entry: E): boolean;
  /** What is said of one that was there and is not any more, `instead` of which another one may be; absent: `restored TEXT`. */
  restored?(entry: E, instead: E | undefined): string;
  /** What is said of one that nobody wants, if anything; `by` is meant for its place; absent: `removed TEXT`. */
  removed?(entry: E, by: E | undefined): string | undefined;
}

export interface Comparison<E> {
  readonly wanted: ByPart<E>;
  /** What the kernel holds; absent: it is not read. */
  readonly present?: readonly E[] | undefined;
  /** Entries that may be missing by what we did ourselves, of which nothing is said. */
  excused?(entry: E): boolean;
}

/** An entry to be added, and what is there in its place. */
export interface Addition<E> {
  readonly entry: E;
  readonly instead?: E | undefined;
}

export interface Change<E> {
  /** In the order of the parts. */
  readonly additions: readonly Addition<E>[];
  /** Without those whose place an addition takes. */
  readonly removals: readonly E[];
  /** A line for each difference that was somebody else's doing. */
  readonly repaired: readonly string[];
  /** Entries of parts that went, whose places no part that came has. */
  readonly gone: readonly E[];
  /** Makes known that all is written, but for these. */
  settle(unwritten?: readonly E[]): void;
}

/** What is known of one kind in one place: a router, the host. */
export interface Tracker<E> {
  /** Changes nothing, here or in the kernel, until the answer is settled. */
  compare(comparison: Comparison<E>): Change<E>;
  /** Makes known that exactly this is there. */
  assume(wanted: ByPart<E>): void;
  /** What is believed to be there. */
  held(): Iterable<E>;
  /** Whether this very entry, or an equal one, is believed to be there. */
  holds(entry: E): boolean;
}

/** Entries of the parts that are in only one of known and wanted, by place; without those that stay as they are. */
interface Moves<E> {
  readonly went: ReadonlyMap<string, E>;
  readonly came: ReadonlyMap<string, E>;
  /** How many more entries are meant for each of these places. */
  readonly counts: ReadonlyMap<string, number>;
}

export function track<E>(kind: Kind<E>): Tracker<E> {
  const { text, place, foundBy = place, isOurs = () => true } = kind;
  const restored = kind.restored ?? ((entry: E) => `restored ${text(entry)}`);
  const removed = kind.removed ?? ((entry: E) => `removed ${text(entry)}`);
  let parts: ByPart<E> = new Map();
  /** By place, what is believed to be there. */
  let held = new Map<string, E>();
  /** How many entries are meant for a place, where there are several. */
  let shared = new Map<string, number>();
  let established = false;

  const same = (a: E | undefined, b: E | undefined): boolean =>
    a === b || (a !== undefined && b !== undefined && text(a) === text(b));
  const holds = (entry: E): boolean => same(held.get(place(entry)), entry);

  /** What is meant for each place, and how many entries are where there are several. */
  function index(wanted: ByPart<E>): { meant: Map<string, E>; several: Map<string, number> } {
    const meant = new Map<string, E>();
    const several = new Map<string, number>();
    for (const list of wanted.values())
      for (const entry of list) {
        const at = place(entry);
        if (meant.has(at)) several.set(at, (several.get(at) ?? 1) + 1);
        meant.set(at, entry);
      }
    return { meant, several };
  }

  /** Without what an addition takes the place of. */
  function remaining(removals: readonly E[], additions: readonly Addition<E>[]): readonly E[] {
    if (kind.removedFirst === true || removals.length === 0 || additions.length === 0) return removals;
    const taken = new Set(additions.map(({ entry }) => foundBy(entry)));
    return removals.filter((entry) => !taken.has(foundBy(entry)));
  }

  function moves(wanted: ByPart<E>): Moves<E> {
    const changed = changedParts(parts, wanted);
    const [went, came] = [new Map<string, E>(), new Map<string, E>()];
    const counts = new Map<string, number>();
    const count = (at: string, more: 1 | -1): void => void counts.set(at, (counts.get(at) ?? 0) + more);
    for (const list of changed.gone)
      for (const entry of list) {
        const at = place(entry);
        if (went.has(at)) count(at, -1);
        went.set(at, entry);
      }
    for (const list of changed.added)
      for (const entry of list) {
        const at = place(entry);
        // Most of a part that has changed is as it was.
        const stays = went.has(at) && !counts.has(at) && !shared.has(at) && same(held.get(at), entry);
        if (stays) went.delete(at);
        else {
          came.set(at, entry);
          count(at, 1);
        }
      }
    for (const at of went.keys()) count(at, -1);
    return { went, came, counts };
  }

  const lost = ({ went, came }: Moves<E>): E[] =>
    [...went].filter(([at]) => !came.has(at)).map(([, entry]) => entry);

  function compareParts(wanted: ByPart<E>): Change<E> {
    const moved = moves(wanted);
    const { went, came, counts } = moved;
    const meant = new Map<string, E | undefined>();
    const several = new Map<string, number>();
    /** Where an entry of a part that stayed may be the one that is meant. */
    const contested = new Set<string>();
    for (const at of [...came.keys(), ...went.keys()]) {
      const before = shared.get(at) ?? (held.has(at) ? 1 : 0);
      const count = before + (counts.get(at) ?? 0);
      meant.set(at, came.get(at));
      several.set(at, count);
      if (count > 1 || (count === 1 && !came.has(at))) contested.add(at);
    }
    if (contested.size > 0)
      for (const list of wanted.values())
        for (const entry of list) if (contested.has(place(entry))) meant.set(place(entry), entry);

    const additions: Addition<E>[] = [];
    const replaced: E[] = [];
    for (const [at, entry] of meant) {
      const instead = held.get(at);
      if (same(entry, instead)) continue;
      if (entry !== undefined) additions.push({ entry, instead });
      if (instead !== undefined) replaced.push(instead);
    }
    return {
      additions,
      removals: remaining(replaced, additions),
      repaired: [],
      gone: lost(moved),
      settle(unwritten = []) {
        for (const [at, entry] of meant) {
          if (entry === undefined) held.delete(at);
          else held.set(at, entry);
          const count = several.get(at) ?? 0;
          if (count > 1) shared.set(at, count);
          else shared.delete(at);
        }
        for (const entry of unwritten) held.delete(place(entry));
        parts = wanted;
        established = true;
      },
    };
  }

  function compareAll({ wanted, excused = () => false }: Comparison<E>, present: readonly E[]): Change<E> {
    const { meant, several } = index(wanted);
    const there = new Set(present.map(text));
    const others = present.filter((entry) => !same(meant.get(place(entry)), entry));
    const removals = others.filter((entry) => holds(entry) || isOurs(entry));
    const instead = new Map(others.map((entry) => [place(entry), entry]));
    const additions = [...meant]
      .filter(([, entry]) => !there.has(text(entry)))
      .map(([at, entry]): Addition<E> => ({ entry, instead: instead.get(at) }));
    const repaired = established
      ? [
          ...removals
            .filter((entry) => !holds(entry))
            .flatMap((entry) => removed(entry, meant.get(place(entry))) ?? []),
          ...additions
            .filter(({ entry }) => holds(entry) && !excused(entry))
            .map(({ entry, instead }) => restored(entry, instead)),
        ]
      : [];
    return {
      additions,
      removals: remaining(removals, additions),
      repaired,
      gone: parts.size === 0 ? [] : lost(moves(wanted)),
      settle(unwritten = []) {
        held = meant;
        shared = several;
        for (const entry of unwritten) held.delete(place(entry));
        parts = wanted;
        established = true;
      },
    };
  }

  return {
    compare: (comparison) =>
      comparison.present === undefined
        ? compareParts(comparison.wanted)
        : compareAll(comparison, comparison.present),
    assume(wanted) {
      ({ meant: held, several: shared } = index(wanted));
      parts = wanted;
      established = true;
    },
    held: () => held.values(),
    holds,
  };
}

/** What came of a write. */
export interface Written<E> {
  readonly outcome: Outcome;
  /** Entries that are not there all the same. */
  readonly unwritten?: readonly E[];
  /** Some of those are not refused, but lack what they hang on, such as a device: the kernel is to be read when that has come. */
  readonly deferred?: boolean;
}

export interface Established<E> {
  readonly outcome: Outcome;
  readonly change: Change<E>;
  readonly deferred: boolean;
}

/**
 * Makes the kernel hold what is wanted. `list` is given where the kernel is to be read. Where `write` throws, nothing is known to
 * have changed: the next call begins from what was known before.
 */
export function establish<E>(
  tracker: Tracker<E>,
  {
    list,
    write,
    ...comparison
  }: Omit<Comparison<E>, 'present'> & {
    readonly list?: (() => readonly E[]) | undefined;
    write(change: Change<E>): Written<E>;
  },
): Established<E> {
  const change = tracker.compare({ ...comparison, present: list?.() });
  const nothing = change.additions.length + change.removals.length === 0;
  const { outcome, unwritten, deferred = false }: Written<E> = nothing ? { outcome: {} } : write(change);
  change.settle(unwritten);
  const repaired = [...change.repaired, ...(outcome.repaired ?? [])];
  return { outcome: { ...outcome, repaired }, change, deferred };
}
