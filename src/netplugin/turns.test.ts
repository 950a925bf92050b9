import { expect, it } from 'vitest';
import { inTurn } from './turns.ts';

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
