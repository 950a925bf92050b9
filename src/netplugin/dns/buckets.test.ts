import { describe, expect, it } from 'vitest';
import { openBuckets } from './buckets.ts';

describe('a bucket', () => {
  it('gives as many at once as it holds, then so many a second, to each client its own', () => {
    let now = 0;
    const may = openBuckets({ rate: 10, burst: 3 }, () => now);
    const times = (client: string, count: number): number =>
      Array.from({ length: count }, () => may(client)).filter(Boolean).length;
    expect(times('a', 5)).toBe(3);
    expect(times('b', 2)).toBe(2);
    now = 100;
    expect(times('a', 5)).toBe(1);
    now = 150;
    expect(times('a', 5)).toBe(0);
    now = 200;
    expect(times('a', 5)).toBe(1);
    now = 60_000;
    expect(times('a', 5)).toBe(3);
  });

  it('that is empty is kept, however many others there are', () => {
    let now = 0;
    const may = openBuckets({ rate: 1, burst: 1 }, () => now);
    for (let i = 0; i < 5000; i++) may(`before${i}`);
    now = 5000;
    expect(may('a')).toBe(true);
    for (let i = 0; i < 5000; i++) expect(may(`after${i}`)).toBe(true);
    expect(may('a')).toBe(false);
  });
});
