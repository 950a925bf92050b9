/**
 * Brings the kernel to what is known, one pass at a time: passes that are asked for while one runs become
 * one pass after it. Every VERIFY_INTERVAL the kernel is read and drift is put right.
 */
import type { Logger } from 'pino';
import { inTurn } from '../turns.ts';
import { startClock } from './clock.ts';
import type { ApplyReport, Dataplane } from './dataplane/index.ts';
import type { Follower, News } from './follower.ts';
import { AWAITED_INTERVAL, passDelay, VERIFY_INTERVAL } from './intervals.ts';
import type { Metrics } from './metrics.ts';
import type { HostState } from './state.ts';

export interface Kernel extends Follower {
  /** A pass that starts after this call: it sees all that is known now. With the state that it brought the kernel to. */
  now(): Promise<Passed>;
  /** Enough is known for a pass; until then now() is refused, and the kernel stays as it is. */
  ready(): boolean;
  /** What was compiled last. */
  readonly state: HostState;
  /** What was put right in the last minute, one line each: somebody else changed it. */
  readonly repaired: readonly string[];
  /** What could not be established, one line each: all that the last verification found, and passes since. */
  readonly failed: readonly string[];
}

export interface Passed extends ApplyReport {
  readonly state: HostState;
}

export interface KernelOptions {
  readonly dataplane: Pick<Dataplane, 'apply'>;
  readonly log: Logger;
  readonly metrics: Pick<Metrics, 'passed'>;
  ready(): boolean;
  /** What the kernel should hold now. */
  compile(): HostState;
  /** After each pass that the data plane answered. */
  tell(news: News): void;
}

/** Milliseconds in which a repair is news, and how many are kept. */
const RECENT = 60_000;
const KEPT = 50;

const NOTHING: HostState = { routers: [], exits: [], guarded: [], underlay: '', members: [] };

export function followKernel({ dataplane, log, metrics, ready, compile, tell }: KernelOptions): Kernel {
  let verify = true; // the first pass adopts what an earlier agent left running
  let state = NOTHING;
  let awaited = false;
  let failed: readonly string[] = [];
  let repairs: readonly { readonly line: string; readonly at: number }[] = [];

  async function pass(): Promise<Passed> {
    const verifying = verify;
    awaited = false;
    try {
      const clock = startClock();
      state = compile();
      const compiled = clock();
      verify = false;
      const report = await dataplane.apply(state, { verify: verifying });
      metrics.passed(compiled, report, verifying);
      const at = performance.now();
      repairs = [...repairs, ...report.repaired.map((line) => ({ line, at }))].slice(-KEPT);
      for (const line of report.repaired)
        log.warn({ repaired: line }, 'the kernel differed from what was set up: repaired');
      const general = new Set(report.failed.flatMap((f) => (f.endpoint === undefined ? [f.message] : [])));
      for (const failure of report.failed)
        if (failure.endpoint === undefined || !general.has(failure.message))
          log.error(failure, 'not established');
      awaited = report.awaited;
      const lines = report.failed.map(({ message }) => message);
      failed = [...new Set(verifying ? lines : [...failed, ...lines])];
      tell({ type: 'kernel', state, report, verified: verifying });
      return { ...report, state };
    } catch (error) {
      verify = true;
      throw error;
    }
  }
  const passes = inTurn(pass, {
    every: VERIFY_INTERVAL,
    othersFirst: true,
    due() {
      verify = true;
      return ready();
    },
    again: (failures) => (awaited ? AWAITED_INTERVAL : passDelay(failures)),
    whole: (report) => report.complete,
    failed: (error) => log.error({ err: error }, 'the data plane failed; it is tried again'),
  });

  return {
    name: 'kernel',
    awaited: 'always',
    ready,
    now() {
      if (ready()) return passes.next();
      return Promise.reject(
        new Error('netplugin does not know yet what was declared: it waits for netmaster'),
      );
    },
    get state() {
      return state;
    },
    get repaired() {
      const since = performance.now() - RECENT;
      return [...new Set(repairs.flatMap(({ line, at }) => (at > since ? [line] : [])))];
    },
    get failed() {
      return failed;
    },
    changed({ type }) {
      if (type === 'kernel' || !ready()) return false;
      passes.ask();
      return true;
    },
    settled: () => passes.settled(),
    close: () => passes.close(),
  };
}
