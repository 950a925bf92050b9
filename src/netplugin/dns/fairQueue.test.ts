import { expect, it } from 'vitest';
import { openFairQueue } from './fairQueue.ts';

it('takes from each client in turn, of each in the order in which it came', () => {
  const queue = openFairQueue<string>(100);
  for (const item of ['a1', 'a2', 'a3', 'b1', 'c1', 'c2'])
    expect(queue.add(item[0] as string, item, 1)).toBe(true);
  const taken = Array.from({ length: 4 }, () => queue.take());
  queue.add('b', 'b2', 1);
  taken.push(...Array.from({ length: 3 }, () => queue.take()));
  expect(taken).toEqual(['a1', 'b1', 'c1', 'a2', 'c2', 'a3', 'b2']);
  expect([queue.take(), queue.empty]).toEqual([undefined, true]);
});

it('keeps for a client as much as it may have, whatever others have, and again as much once that is taken', () => {
  const queue = openFairQueue<number>(10);
  expect([6, 4, 1].map((size) => queue.add('a', size, size))).toEqual([true, true, false]);
  expect(queue.add('b', 10, 10)).toBe(true);
  expect([queue.take(), queue.take(), queue.empty]).toEqual([6, 10, false]);
  expect([6, 1].map((size) => queue.add('a', size, size))).toEqual([true, false]);
  expect([queue.take(), queue.take(), queue.take()]).toEqual([4, 6, undefined]);
});

it('has nothing of a client that asked for more than it may have', () => {
  const queue = openFairQueue<number>(10);
  expect(queue.add('a', 1, 11)).toBe(false);
  expect([queue.empty, queue.take()]).toEqual([true, undefined]);
});
