import { describe, expect, it } from 'vitest';
import { openPlaces } from './places.ts';

/** What was lost, in order: `a1` is the first that `a` took. */
function places(each: number, all: number) {
  const lost: string[] = [];
  const crowded: string[] = [];
  const open = openPlaces({ each, all }, (client) => crowded.push(client));
  const count = new Map<string, number>();
  const take = (client: string): (() => void) => {
    const n = (count.get(client) ?? 0) + 1;
    count.set(client, n);
    return open.take(client, () => lost.push(`${client}${n}`));
  };
  return { take, lost, crowded };
}

describe('places', () => {
  it('of one client go to its own next ones, the oldest first', () => {
    const { take, lost, crowded } = places(2, 10);
    for (let i = 0; i < 4; i++) take('a');
    take('b');
    expect(lost).toEqual(['a1', 'a2']);
    expect(crowded).toEqual(['a', 'a']);
  });

  it('are found for whoever has few, when all are taken: who has most gives', () => {
    const { take, lost } = places(6, 10);
    for (let i = 0; i < 6; i++) take('a');
    for (let i = 0; i < 4; i++) take('b');
    for (let i = 0; i < 3; i++) take('c');
    expect(lost).toEqual(['a1', 'a2', 'a3']);
  });

  it('that are left are free, once and for all', () => {
    const { take, lost } = places(2, 3);
    const leave = take('a');
    take('a');
    leave();
    leave();
    take('a');
    expect(lost).toEqual([]);
    take('b');
    expect(lost).toEqual([]);
    take('b');
    expect(lost).toEqual(['a2']);
  });

  it('that were lost are not left again', () => {
    const { take, lost } = places(1, 2);
    const first = take('a');
    take('a');
    first();
    take('b');
    expect(lost).toEqual(['a1']);
    take('b');
    expect(lost).toEqual(['a1', 'b1']);
  });
});
