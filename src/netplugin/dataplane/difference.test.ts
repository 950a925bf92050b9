import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ByPart, type Change, establish, type Kind, type Tracker, track } from './difference.ts';

/** A place holds one value, as a route's destination does. */
interface Cell {
  readonly place: string;
  readonly value: number;
}

const cell = (place: string, value = 0): Cell => ({ place, value });
const KIND: Kind<Cell> = { text: (c) => `${c.place}=${c.value}`, place: (c) => c.place };

const parts = (...lists: (readonly Cell[])[]): ByPart<Cell> => new Map(lists.map((list) => [list, list]));
const texts = (cells: Iterable<Cell>): string[] => [...cells].map(KIND.text).sort();

/** A kernel of one kind: adding replaces what is in the place, unless it refuses that. */
function kernelOf(kind: Kind<Cell>, contents: readonly Cell[] = []) {
  const cells = new Map(contents.map((c) => [c.place, c]));
  let work = 0;
  return {
    cells,
    list: () => [...cells.values()],
    /** How many entries were written or removed since it was last asked. */
    worked(): number {
      const done = work;
      work = 0;
      return done;
    },
    write({ additions, removals }: Change<Cell>): { outcome: { writes: number } } {
      const add = (): void => {
        for (const { entry } of additions) {
          expect(kind.removedFirst && cells.has(entry.place), `${entry.place} is taken`).not.toBe(true);
          cells.set(entry.place, entry);
        }
      };
      const remove = (): void => {
        for (const { place } of removals) {
          expect(cells.has(place), `${place} is there to be removed`).toBe(true);
          cells.delete(place);
        }
      };
      if (kind.removedFirst) remove();
      add();
      if (!kind.removedFirst) remove();
      const writes = additions.length + removals.length;
      work += writes;
      return { outcome: { writes } };
    },
  };
}

describe('what was established', () => {
  const a = [cell('a'), cell('b')];
  const b = [cell('c')];

  it('is written once, and costs nothing while its parts are the same', () => {
    const tracker = track(KIND);
    const kernel = kernelOf(KIND);
    establish(tracker, { wanted: parts(a, b), write: kernel.write });
    expect(texts(kernel.list())).toEqual(['a=0', 'b=0', 'c=0']);
    expect(kernel.worked()).toBe(3);
    const { outcome, change } = establish(tracker, { wanted: parts(b, a), write: kernel.write });
    expect({ outcome, work: kernel.worked() }).toEqual({ outcome: { repaired: [] }, work: 0 });
    expect(change).toMatchObject({ additions: [], removals: [], gone: [] });
  });

  it('is looked at in the parts that changed only', () => {
    const looked: Cell[] = [];
    const tracker = track({
      ...KIND,
      text: (c: Cell) => {
        looked.push(c);
        return KIND.text(c);
      },
    });
    const many = Array.from({ length: 1000 }, (_, i) => [cell(`p${i}`)]);
    tracker.compare({ wanted: parts(...many, a) }).settle();
    looked.length = 0;
    const { additions, removals } = tracker.compare({ wanted: parts(...many, b) });
    expect(texts(additions.map(({ entry }) => entry))).toEqual(['c=0']);
    expect(texts(removals)).toEqual(['a=0', 'b=0']);
    expect(looked.every((c) => a.includes(c) || b.includes(c))).toBe(true);
  });

  it('stays where another part says the same', () => {
    const tracker = track(KIND);
    tracker.compare({ wanted: parts(a) }).settle();
    expect(tracker.compare({ wanted: parts(structuredClone(a)) })).toMatchObject({
      additions: [],
      removals: [],
    });
  });

  it('of two parts for one place is what the later one says, and the other one when that goes', () => {
    const tracker = track(KIND);
    const [away, here] = [[cell('x', 1)], [cell('x', 2)]];
    const kernel = kernelOf(KIND);
    const to = (wanted: ByPart<Cell>) => establish(tracker, { wanted, write: kernel.write }).change;
    to(parts(away, here));
    expect(texts(kernel.list())).toEqual(['x=2']);
    to(parts(away));
    expect(texts(kernel.list())).toEqual(['x=1']);
    to(parts(away, here));
    to(parts(here));
    expect(texts(kernel.list())).toEqual(['x=2']);
    to(parts(away, here));
    expect(texts(kernel.list()), 'a part that comes earlier changes nothing').toEqual(['x=2']);
  });

  it('is not known where writing threw, and is written by the next call', () => {
    const tracker = track(KIND);
    const kernel = kernelOf(KIND);
    const refuse = (): never => {
      throw new Error('refused');
    };
    expect(() => establish(tracker, { wanted: parts(a), write: refuse })).toThrow('refused');
    establish(tracker, { wanted: parts(a), write: kernel.write });
    expect(texts(kernel.list())).toEqual(['a=0', 'b=0']);
  });

  it('does not count as known where one entry was refused: it is written again when the kernel is read, without a word', () => {
    const tracker = track(KIND);
    const kernel = kernelOf(KIND);
    establish(tracker, {
      wanted: parts(a),
      write: ({ additions }) => ({ outcome: {}, unwritten: additions.map(({ entry }) => entry) }),
    });
    expect(tracker.compare({ wanted: parts(a) }).additions).toEqual([]);
    const { outcome } = establish(tracker, { wanted: parts(a), list: kernel.list, write: kernel.write });
    expect(outcome).toEqual({ writes: 2, repaired: [] });
    expect(texts(tracker.held())).toEqual(['a=0', 'b=0']);
  });

  it('goes, as far as its place is not taken by what came', () => {
    const tracker = track(KIND);
    tracker.compare({ wanted: parts(a) }).settle();
    expect(texts(tracker.compare({ wanted: parts([cell('a', 9)]) }).gone)).toEqual(['b=0']);
  });
});

describe('what is read', () => {
  const a = [cell('a'), cell('b')];

  const read = (tracker: Tracker<Cell>, wanted: ByPart<Cell>, present: readonly Cell[]): Change<Cell> =>
    tracker.compare({ wanted, present });

  it('at the start is taken over without a word', () => {
    const { additions, removals, repaired } = read(track(KIND), parts(a), [cell('a'), cell('z')]);
    expect(texts(additions.map(({ entry }) => entry))).toEqual(['b=0']);
    expect(texts(removals)).toEqual(['z=0']);
    expect(repaired).toEqual([]);
  });

  it('is put right, and said, where somebody else has changed it', () => {
    const tracker = track(KIND);
    tracker.compare({ wanted: parts(a) }).settle();
    const change = read(tracker, parts(a), [cell('a', 5), cell('z')]);
    expect(change.repaired).toEqual(['removed a=5', 'removed z=0', 'restored a=0', 'restored b=0']);
    expect(change.additions).toEqual([
      { entry: cell('a'), instead: cell('a', 5) },
      { entry: cell('b'), instead: undefined },
    ]);
    expect(texts(change.removals), 'what is added takes the place').toEqual(['z=0']);
  });

  it('is not said where we did it ourselves, or want something else by now', () => {
    const tracker = track(KIND);
    tracker.compare({ wanted: parts(a) }).settle();
    const wanted = parts([cell('a', 1)], [cell('b')]);
    const change = tracker.compare({ wanted, present: [cell('a')], excused: (c) => c.place === 'b' });
    expect(change.repaired).toEqual([]);
    expect(texts(change.additions.map(({ entry }) => entry))).toEqual(['a=1', 'b=0']);
  });

  it('and belongs to others is left alone; what was ours and is not wanted any more is not', () => {
    const tracker = track({ ...KIND, isOurs: () => false });
    tracker.compare({ wanted: parts(a) }).settle();
    const change = read(tracker, parts([cell('a')]), [cell('a'), cell('b'), cell('z')]);
    expect(texts(change.removals)).toEqual(['b=0']);
    expect(change.repaired).toEqual([]);
  });

  it('is removed before something else takes its place, where the kernel wants that', () => {
    const tracker = track({ ...KIND, removedFirst: true });
    tracker.compare({ wanted: parts(a) }).settle();
    const { removals } = tracker.compare({ wanted: parts([cell('a', 1)]) });
    expect(texts(removals)).toEqual(['a=0', 'b=0']);
  });

  it('is removed beside what takes its place, where the kernel can tell them apart', () => {
    const tracker = track({ ...KIND, foundBy: KIND.text });
    tracker.compare({ wanted: parts(a) }).settle();
    const { removals } = tracker.compare({ wanted: parts([cell('a', 1)], [cell('b')]) });
    expect(texts(removals)).toEqual(['a=0']);
  });
});

describe('in any world', () => {
  const CELL = fc.record({
    place: fc.constantFrom('a', 'b', 'c', 'd'),
    value: fc.integer({ min: 0, max: 2 }),
  });
  const PART = fc.array(CELL, { maxLength: 3 });
  const POOL = fc.array(PART, { minLength: 1, maxLength: 5 });
  /** Which parts of the pool are wanted, always in its order; whether the kernel is read; what somebody does before. */
  const STEP = fc.record({
    chosen: fc.array(fc.boolean(), { minLength: 5, maxLength: 5 }),
    read: fc.boolean(),
    tamper: fc.array(fc.tuple(CELL, fc.boolean()), { maxLength: 2 }),
  });
  const FOREIGN = [cell('theirs', 1)];

  it.each([
    ['added in place', KIND],
    ['removed first', { ...KIND, removedFirst: true }],
  ])(
    'the kernel then holds what is wanted, what others have, and unchanged parts cost nothing (%s)',
    (_, how) => {
      const kind: Kind<Cell> = { ...how, isOurs: ({ place }) => place !== 'theirs' };
      const property = fc.property(POOL, fc.array(STEP, { maxLength: 6 }), (pool, steps) => {
        const tracker = track(kind);
        const kernel = kernelOf(kind, FOREIGN);
        for (const { chosen, read, tamper } of steps) {
          const lists = pool.filter((_part, i) => chosen[i]);
          const wanted = parts(...lists);
          if (read)
            for (const [c, there] of tamper)
              if (there) kernel.cells.set(c.place, c);
              else kernel.cells.delete(c.place);
          const list = read ? kernel.list : undefined;
          const { outcome } = establish(tracker, { wanted, list, write: kernel.write });
          const last = new Map([...wanted.values()].flat().map((c) => [c.place, c]));
          expect(texts(kernel.list())).toEqual(texts([...last.values(), ...FOREIGN]));
          expect(texts(tracker.held())).toEqual(texts(last.values()));
          if (!read) expect(outcome.repaired).toEqual([]);
          kernel.worked();
          establish(tracker, { wanted, write: kernel.write });
          establish(tracker, { wanted, list: kernel.list, write: kernel.write });
          expect(kernel.worked()).toBe(0);
        }
      });
      fc.assert(property, { numRuns: 2000 });
    },
  );
});
