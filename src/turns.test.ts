import { Readable } from 'node:stream';
import { expect, it, onTestFinished, vi } from 'vitest';
import { lines } from './client/lines.ts';
import { insist, inTurn, type TurnsOptions } from './turns.ts';

/** Runs that end when they are told to. */
function slow() {
  const runs: PromiseWithResolvers<number>[] = [];
  const turns = inTurn(() => {
    const run = Promise.withResolvers<number>();
    runs.push(run);
    return run.promise;
  });
  return { runs, turns };
}
const settled = () => new Promise((done) => setImmediate(done));

it('starts no run while one runs, and gives one more to all who ask meanwhile', async () => {
  const { runs, turns } = slow();
  const first = turns.next();
  await settled();
  const [second, third] = [turns.next(), turns.next()];
  await settled();
  expect(runs).toHaveLength(1);
  runs[0]?.resolve(1);
  expect(await first).toBe(1);
  await settled();
  expect(runs).toHaveLength(2);
  runs[1]?.resolve(2);
  expect(await Promise.all([second, third])).toEqual([2, 2]);
});

/** So many messages, which one read of a connection brings. */
const read = (count: number) =>
  lines(Readable.from([Buffer.from(Array.from({ length: count }, (_, i) => `${i}\n`).join(''))]));

it('what many messages of one read ask for is one run, where all of it is done without waiting', async () => {
  let told = 0;
  const seen: number[] = [];
  const turns = inTurn(async () => void seen.push(told), { othersFirst: true });
  for await (const _ of read(1000)) {
    told++;
    turns.ask();
  }
  await turns.settled();
  expect(seen).toEqual([1000]);
});

it('whoever asks again and again for what is done without waiting has no one else wait for the last of it', async () => {
  let runs = 0;
  const turns = inTurn(
    async () => {
      if (++runs < 1000) turns.ask();
    },
    { othersFirst: true },
  );
  turns.ask();
  await new Promise((done) => setTimeout(done, 0));
  expect(runs).toBeLessThan(1000);
  await turns.close();
});

it('goes on after a run that failed, of which only those hear who asked for it', async () => {
  const { runs, turns } = slow();
  const first = turns.next();
  await settled();
  const second = turns.next();
  runs[0]?.reject(new Error('no'));
  await expect(first).rejects.toThrow('no');
  await settled();
  runs[1]?.resolve(2);
  expect(await second).toBe(2);
});

it('is idle when all that was asked for has ended, also badly', async () => {
  const { runs, turns } = slow();
  turns.next().catch(() => {});
  let idle = false;
  const waiting = turns.idle().then(() => {
    idle = true;
  });
  await settled();
  expect(idle).toBe(false);
  runs[0]?.reject(new Error('no'));
  await waiting;
});

/** Each run does what `act` says then; `runs` counts them. */
function acting<T = void>(options: TurnsOptions<T>, act: () => Promise<T>) {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const state = { runs: 0, act };
  const turns = inTurn(() => {
    state.runs++;
    return state.act();
  }, options);
  onTestFinished(() => void turns.close());
  return { state, turns };
}
const failing = (): Promise<never> => Promise.reject(new Error('no'));
const hasResolved = async (promise: Promise<unknown>): Promise<boolean> =>
  Promise.race([promise.then(() => true), vi.advanceTimersByTimeAsync(0).then(() => false)]);

it('of states that come while it runs only the last one has a run', async () => {
  const seen: number[] = [];
  let now = 0;
  const { turns } = acting({}, async () => {
    seen.push(now);
    await new Promise((done) => setTimeout(done, 10));
  });
  for (now = 1; now <= 5; now++) {
    turns.ask();
    await vi.advanceTimersByTimeAsync(1);
  }
  now = 5;
  await vi.advanceTimersByTimeAsync(100);
  expect(seen).toEqual([1, 5]);
});

it('runs by itself as often as it is to, unless it is not due', async () => {
  let due = true;
  const { state, turns } = acting({ every: 100, due: () => due }, async () => {});
  await vi.advanceTimersByTimeAsync(350);
  expect(state.runs).toBe(3);
  due = false;
  await vi.advanceTimersByTimeAsync(300);
  expect(state.runs).toBe(3);
  due = true;
  void turns.close();
  await vi.advanceTimersByTimeAsync(300);
  expect(state.runs).toBe(3);
});

it('tries what failed again, by how often it has failed in a row, and says which was the first', async () => {
  const said: boolean[] = [];
  const { state, turns } = acting<void>(
    {
      again: (failures) => (failures > 0 ? 100 * 2 ** failures : undefined),
      failed: (_, first) => void said.push(first),
    },
    failing,
  );
  turns.ask();
  const at: number[] = [];
  const began = performance.now();
  for (let runs = 0; runs < 4; await vi.advanceTimersByTimeAsync(10))
    if (state.runs > runs) {
      runs = state.runs;
      at.push(Math.round((performance.now() - began) / 100) * 100);
    }
  expect(at).toEqual([0, 200, 600, 1400]);
  state.act = async () => {};
  await vi.advanceTimersByTimeAsync(10_000);
  expect([state.runs, said]).toEqual([5, [true, false, false, false]]);
  state.act = failing;
  turns.ask();
  await vi.advanceTimersByTimeAsync(0);
  expect(said.at(-1)).toBe(true);
});

it('is not tried again by a delay that is overtaken by somebody who asks', async () => {
  const { state, turns } = acting<void>({ again: (failures) => (failures > 0 ? 100 : undefined) }, failing);
  turns.ask();
  await vi.advanceTimersByTimeAsync(50);
  state.act = async () => {};
  turns.ask();
  await vi.advanceTimersByTimeAsync(1000);
  expect(state.runs).toBe(2);
});

it('has settled when what was asked for has been done well, however often that was tried', async () => {
  const { state, turns } = acting({ again: () => 100, whole: (whole: boolean) => whole }, failing);
  expect(await hasResolved(turns.settled())).toBe(true);
  turns.ask();
  const settled = turns.settled();
  await vi.advanceTimersByTimeAsync(250);
  state.act = async () => false; // in part
  await vi.advanceTimersByTimeAsync(250);
  expect(await hasResolved(settled)).toBe(false);
  state.act = async () => true;
  await vi.advanceTimersByTimeAsync(100);
  expect(await hasResolved(settled)).toBe(true);
});

it('settles what was asked for before the call, not what comes later, nor what nobody asked for', async () => {
  const ends: (() => void)[] = [];
  const { turns } = acting({}, () => new Promise<void>((done) => ends.push(done)));
  turns.ask();
  await vi.advanceTimersByTimeAsync(0);
  const first = turns.settled();
  turns.ask();
  const second = turns.settled();
  ends[0]?.();
  expect(await hasResolved(first)).toBe(true);
  expect(await hasResolved(second)).toBe(false);
  ends[1]?.();
  expect(await hasResolved(second)).toBe(true);
  turns.begin();
  await vi.advanceTimersByTimeAsync(0);
  expect(ends).toHaveLength(3);
  expect(await hasResolved(turns.settled())).toBe(true);
});

it('begins nothing once it is closed, ends what was asked for, and refuses who asks', async () => {
  const ends: (() => void)[] = [];
  const said: unknown[] = [];
  const { turns, state } = acting({ every: 100, again: () => 10, failed: (e) => void said.push(e) }, () => {
    return new Promise<void>((done) => ends.push(done));
  });
  turns.ask();
  await vi.advanceTimersByTimeAsync(0);
  turns.ask();
  const closed = turns.close();
  await expect(turns.next()).rejects.toThrow('ending');
  turns.ask();
  turns.begin();
  ends[0]?.();
  expect(await hasResolved(closed)).toBe(false);
  ends[1]?.();
  expect(await hasResolved(closed)).toBe(true);
  await vi.advanceTimersByTimeAsync(1000);
  expect([state.runs, said]).toEqual([2, []]);
});

it('insists on a call until it succeeds, or there is no hope', async () => {
  let calls = 0;
  const call = (): number => {
    if (++calls < 3) throw new Error(`failure ${calls}`);
    return calls;
  };
  expect(await insist(call, () => 1)).toBe(3);
  calls = -10;
  const hopeless = insist(call, (error) => {
    if (calls < 0) return 1;
    throw error;
  });
  await expect(hopeless).rejects.toThrow('failure 0');
});

it('runs at the latest when it is told to, and what is due before is not put off', async () => {
  const { state, turns } = acting({ again: (_failures, _error, result) => Number(result) }, async () => 1000);
  turns.soon(100);
  await vi.advanceTimersByTimeAsync(50);
  turns.soon(100);
  await vi.advanceTimersByTimeAsync(50);
  expect(state.runs).toBe(1);
  await vi.advanceTimersByTimeAsync(50);
  expect(state.runs).toBe(1); // the second one was after the first, which was for both
  turns.soon(5000);
  await vi.advanceTimersByTimeAsync(950);
  expect(state.runs).toBe(2);
  turns.soon(10);
  await vi.advanceTimersByTimeAsync(10);
  expect(state.runs).toBe(3);
});

it('told to while it runs, has another run when it has ended, whatever that says', async () => {
  const { state, turns } = acting({ again: () => 1000 }, async () => {
    await new Promise((done) => setTimeout(done, 30));
    return 0;
  });
  turns.ask();
  await vi.advanceTimersByTimeAsync(1);
  turns.soon(10);
  await vi.advanceTimersByTimeAsync(28);
  expect(state.runs).toBe(1);
  await vi.advanceTimersByTimeAsync(2);
  expect(state.runs).toBe(2);
});
