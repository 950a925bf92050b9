/**
 * Brings the kernel to what is known, one pass at a time: passes that are asked for while one runs become
 * one pass after it. Every VERIFY_INTERVAL the kernel is read and drift is put right.
 */
import type { Logger } from 'pino';
import { startClock } from './clock.ts';
import type { ApplyReport, Dataplane } from './dataplane/index.ts';
import type { Firewalls } from './firewalls.ts';
import type { Metrics } from './metrics.ts';
import type { HostState } from './state.ts';
import { inTurn } from './turns.ts';

/** Milliseconds; a foreign change is put right within 10 s. */
const VERIFY_INTERVAL = 4000;
/** While a container starts. */
const AWAITED_INTERVAL = 100;

export interface Converging {
  /** A pass that starts after this call: it sees all that is known now. */
  now(): Promise<ApplyReport>;
  /** Enough is known for a pass; until then now() is refused, and the kernel stays as it is. */
  ready(): boolean;
  close(): Promise<void>;
}

export interface ConvergeOptions {
  readonly dataplane: Dataplane;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly firewalls: Firewalls;
  ready(): boolean;
  /** What the kernel should hold now. */
  compile(): HostState;
  /** After each pass that the data plane answered. */
  done(state: HostState, report: ApplyReport): void;
}

export function startConverging({
  dataplane,
  log,
  metrics,
  firewalls,
  ready,
  compile,
  done,
}: ConvergeOptions): Converging {
  let verify = true; // the first pass adopts what an earlier agent left running
  let closed = false;
  let admitting: Promise<void> | undefined;
  let soon: NodeJS.Timeout | undefined;
  /** Of the last pass; undefined: there was none, and an earlier agent may have left some. */
  let exits: number | undefined;

  const warn = (lines: readonly string[]): void => {
    for (const line of lines)
      log.warn({ repaired: line }, 'the kernel differed from what was set up: repaired');
  };
  /** The first time it is waited for: the first container's way out is open when it starts. */
  async function admit({ exits }: HostState, verifying: boolean): Promise<void> {
    if (exits.length === 0 && firewalls.dropped.length > 0) await firewalls.look(); // nothing is dropped any more
    if (exits.length === 0 || (admitting !== undefined && !verifying)) return;
    const first = admitting === undefined;
    admitting = (admitting ?? Promise.resolve()).then(() => dataplane.admit(true)).then(warn);
    if (first) await admitting;
    void admitting.then(() => firewalls.look()); // when all is let through that can be
  }

  async function pass(): Promise<ApplyReport> {
    const verifying = verify;
    try {
      const clock = startClock();
      const state = compile();
      const compiled = clock();
      verify = false;
      const report = await dataplane.apply(state, { verify: verifying });
      metrics.passed(compiled, report, verifying);
      exits = state.exits.length;
      await admit(state, verifying);
      warn(report.repaired);
      const general = new Set(report.failed.flatMap((f) => (f.endpoint === undefined ? [f.message] : [])));
      for (const failure of report.failed)
        if (failure.endpoint === undefined || !general.has(failure.message))
          log.error(failure, 'not established');
      done(state, report);
      clearTimeout(soon);
      if (report.awaited && !closed) soon = setTimeout(() => void now().catch(() => {}), AWAITED_INTERVAL);
      return report;
    } catch (error) {
      verify = true;
      log.error({ err: error }, 'the data plane failed; it is tried again');
      throw error;
    }
  }
  const passes = inTurn(pass);

  const now = (): Promise<ApplyReport> => {
    if (closed) return Promise.reject(new Error('the agent is ending'));
    if (ready()) return passes.next();
    return Promise.reject(new Error('netplugin does not know yet what was declared: it waits for netmaster'));
  };

  const timer = setInterval(() => {
    verify = true;
    now().catch(() => {}); // logged above
  }, VERIFY_INTERVAL);

  return {
    ready,
    now,
    async close() {
      closed = true;
      clearInterval(timer);
      clearTimeout(soon);
      await passes.idle();
      await admitting;
      // What runs keeps its way out; where nothing does, nothing of ours stays in Docker's firewall.
      if (exits === 0) await dataplane.admit(false);
    },
  };
}
