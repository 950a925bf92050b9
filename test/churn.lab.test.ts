/**
 * Everything at once (churn.ts). CHURN_SECONDS says how long (`make churn`: ten minutes), CHURN_SEED in which order: what a run
 * printed, another one does again; CHURN_STORE on which store of netmaster's, sqlite or etcd. With CHURN_PAGE the figures are put into that page.
 */
import { randomInt } from 'node:crypto';
import os from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Churn, type ChurnStore, endChurn, historyOf, startChurn, story } from './churn.ts';
import { churnDifferences, figures, findings, putTable, silent, tableOf } from './churnFindings.ts';
import { runChurn } from './churnRun.ts';
import { broken, outcomes, readHistoryFile, violations } from './history.ts';
import { LAB } from './lab.ts';

const SECONDS = Number(process.env.CHURN_SECONDS ?? 60);
/** The minute in `make test` is the same each time; longer runs look for what that does not show. */
const MINUTE = 1274877122;
const SEED = Number(
  process.env.CHURN_SEED ?? (process.env.CHURN_SECONDS === undefined ? MINUTE : randomInt(2 ** 31)),
);
const STORE = (process.env.CHURN_STORE ?? 'sqlite') as ChurnStore;
const PAGE = process.env.CHURN_PAGE;

const say = (line: string): void => void process.stdout.write(`churn: ${line}\n`);

describe('four hosts under churn', () => {
  let churn: Churn;
  beforeAll(async () => {
    if (!['sqlite', 'etcd'].includes(STORE))
      throw new Error(`CHURN_STORE: '${STORE}' must be sqlite or etcd`);
    churn = await startChurn(`${LAB.slice(-10)}ch`, SEED, STORE);
  }, 300_000);
  afterAll(async () => {
    if (churn !== undefined && process.env.KEEP_LAB === undefined) await endChurn(churn);
  });

  it(
    `let nothing pass that is forbidden, stop nothing that is allowed, lose nothing that was acknowledged, and are whole in the end (CHURN_SEED=${SEED} CHURN_STORE=${STORE})`,
    async () => {
      const command = `CHURN_SEED=${SEED} CHURN_SECONDS=${SECONDS} CHURN_STORE=${STORE} make churn`;
      say(command);
      await runChurn(churn, SECONDS).catch((error: Error) => {
        throw new Error(`${error.message}\n${story(churn)}`);
      });
      const log = story(churn);
      const history = readHistoryFile(historyOf(churn));
      const answers = outcomes(history);
      const { forbidden, stopped, passed, denials, lost } = findings(churn);
      say(
        `${churn.done.length} faults, ${denials} denials; arrived ${JSON.stringify(passed)}; lost ${lost}; forbidden ${forbidden.length}; stopped ${stopped.length}`,
      );
      say(`requests ${JSON.stringify(answers)}`);
      const packets = Object.values(passed).reduce((sum, n) => sum + n);
      const [load = 0] = os.loadavg();
      const said = `\`${command}\`: ${churn.done.length} faults, ${denials} denials, ${packets} packets that might arrive and did, ${lost} others lost singly; of ${history.length} requests ${answers.done} were answered (${answers.stale} as stale), ${answers.failed} refused, of ${answers.lost} it is not known. On ${os.availableParallelism()} processors, at a load of ${load.toFixed(0)} in the end.`;
      const table = tableOf(said, figures(churn, history));
      say(`figures\n${table}`);
      expect(await violations(history), log).toEqual([]);
      expect(broken(history), log).toEqual([]);
      expect({ forbidden: forbidden.slice(0, 20), stopped: stopped.slice(0, 20) }, log).toEqual({
        forbidden: [],
        stopped: [],
      });
      // Each stream was tried, both ways, and objects were written.
      expect(Math.min(...Object.values(passed), denials, answers.done)).toBeGreaterThan(0);
      expect(await silent(churn), log).toEqual([]);
      expect(await churnDifferences(churn), log).toBe('');
      if (PAGE !== undefined) putTable(PAGE, `churn ${STORE}`, table);
    },
    (SECONDS + 600) * 1000,
  );
});
