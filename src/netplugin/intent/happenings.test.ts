import { expect, it } from 'vitest';
import { AGAIN, AT_ONCE, EACH, openHappenings } from './happenings.ts';

/** With a clock of its own. */
function open() {
  let now = 0;
  const happenings = openHappenings(() => now);
  return {
    happenings,
    pass(milliseconds: number) {
      now += milliseconds;
    },
    /** What netmaster gets now. */
    told(): string[] {
      const events = happenings.untold();
      happenings.taken(events);
      return events.map(({ kind, text }) => `${kind} ${text}`);
    },
  };
}

it('is told until netmaster has it, with numbers that go up', () => {
  const { happenings } = open();
  happenings.tell('repair', 'restored a');
  happenings.tell('denial', 'no');
  const first = happenings.untold();
  expect(first).toMatchObject([
    { number: 1, kind: 'repair', text: 'restored a' },
    { number: 2, kind: 'denial', text: 'no' },
  ]);
  happenings.tell('name', 'x');
  // The answer to the first was lost.
  expect(happenings.untold().map(({ number }) => number)).toEqual([1, 2, 3]);
  happenings.taken(first);
  expect(happenings.untold().map(({ number }) => number)).toEqual([3]);
});

it('the same one is told once in a while, with how often it came', () => {
  const { happenings, pass, told } = open();
  for (let i = 0; i < 1000; i++) happenings.tell('repair', 'restored a');
  expect(told()).toEqual(['repair restored a']);
  pass(AGAIN - 1);
  expect(told()).toEqual([]);
  pass(1);
  expect(told()).toEqual(['repair restored a (999 more times)']);
  happenings.tell('repair', 'restored a');
  expect(told()).toEqual(['repair restored a']);
});

it('different ones are told no faster than the rate, and the rest is counted', () => {
  const { happenings, pass, told } = open();
  let all = 0;
  let counted = 0;
  const take = (): void => {
    for (const line of told()) {
      all++;
      counted += Number(/^repair (\d+) more of this kind/.exec(line)?.[1] ?? 1);
    }
  };
  for (let i = 0; i < 5000; i++) happenings.tell('repair', `restored ${i}`);
  take();
  expect([all, counted]).toEqual([AT_ONCE, AT_ONCE]);
  for (let i = 0; i < 100; i++) {
    pass(EACH);
    take();
    happenings.tell('repair', `again ${i}`);
  }
  pass(EACH);
  take();
  expect(all).toBeLessThanOrEqual(AT_ONCE + 101);
  expect(counted).toBe(5100);
});

it('one of a kind that came too fast does not keep those of another kind from being told', () => {
  const { happenings, told } = open();
  for (let i = 0; i < 5000; i++) happenings.tell('repair', `restored ${i}`);
  happenings.tell('denial', 'not attached');
  expect(told().slice(AT_ONCE)).toEqual(['denial not attached']);
});

it('waits for netmaster in a bounded list, and a long line is cut', () => {
  const { happenings, pass } = open();
  for (let i = 0; i < 1000; i++) {
    happenings.tell('denial', `${i} ${'x'.repeat(2000)}`);
    pass(EACH);
  }
  const events = happenings.untold();
  expect(events.length).toBeLessThanOrEqual(100);
  for (const { text } of events) expect(text.length).toBeLessThanOrEqual(500);
});
