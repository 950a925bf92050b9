/**
 * Everything at once (churn.ts). CHURN_SECONDS says how long (`make churn`: ten minutes), CHURN_SEED in which order: what a run
 * printed, another one does again.
 */
import { randomInt } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Churn, endChurn, runChurn, startChurn, story } from './churn.ts';
import { churnDifferences, findings, repairs, silent } from './churnFindings.ts';
import { LAB } from './lab.ts';

const SECONDS = Number(process.env.CHURN_SECONDS ?? 60);
/** The minute in `make test` is the same each time; longer runs look for what that does not show. */
const MINUTE = 1274877122;
const SEED = Number(
  process.env.CHURN_SEED ?? (process.env.CHURN_SECONDS === undefined ? MINUTE : randomInt(2 ** 31)),
);

describe('three hosts under churn', () => {
  let churn: Churn;
  beforeAll(async () => {
    churn = await startChurn(`${LAB.slice(-10)}ch`, SEED);
  }, 300_000);
  afterAll(async () => {
    if (churn !== undefined) await endChurn(churn);
  });

  it(
    `let nothing pass that is forbidden, stop nothing that is allowed, and are whole in the end (CHURN_SEED=${SEED})`,
    async () => {
      process.stdout.write(`churn: CHURN_SEED=${SEED} CHURN_SECONDS=${SECONDS}\n`);
      await runChurn(churn, SECONDS);
      const found = findings(churn);
      const { forbidden, stopped, passed, denials, lost } = found;
      process.stdout.write(
        `churn: ${churn.log.length} faults, ${denials} denials; arrived ${JSON.stringify(passed)}; lost ${lost}; forbidden ${forbidden.length}; stopped ${stopped.length}\n`,
      );
      for (const { what, times, longest } of repairs(churn))
        process.stdout.write(
          `churn: ${what}: ${times} times, streams flowed again after ${longest.toFixed(0)} ms at most\n`,
        );
      const log = story(churn);
      expect({ forbidden: forbidden.slice(0, 20), stopped: stopped.slice(0, 20) }, log).toEqual({
        forbidden: [],
        stopped: [],
      });
      // Each stream was tried, both ways.
      expect(Math.min(...Object.values(passed), denials)).toBeGreaterThan(0);
      expect(await silent(churn), log).toEqual([]);
      expect(await churnDifferences(churn), log).toBe('');
    },
    (SECONDS + 600) * 1000,
  );
});
