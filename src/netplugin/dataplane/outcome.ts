/** What a step of a pass answers: what it wrote, found and failed to do. Those of all steps together are the ApplyReport. */
import type { Netlink, Request } from '../../linux/netlink.ts';
import type { Change, Written } from './difference.ts';
import type { ApplyReport, Failure } from './index.ts';

/** What it does not mention is nothing, or in order. */
export type Outcome = Partial<ApplyReport>;

export function combine(outcomes: readonly Outcome[]): ApplyReport {
  const sum = (count: (outcome: Outcome) => number | undefined): number =>
    outcomes.reduce((total, outcome) => total + (count(outcome) ?? 0), 0);
  return {
    writes: sum((o) => o.writes),
    reads: sum((o) => o.reads),
    repaired: outcomes.flatMap((o) => o.repaired ?? []),
    lost: outcomes.flatMap((o) => o.lost ?? []),
    created: outcomes.flatMap((o) => o.created ?? []),
    failed: outcomes.flatMap((o) => o.failed ?? []),
    complete: outcomes.every((o) => o.complete !== false),
    awaited: outcomes.some((o) => o.awaited === true),
  };
}

/** Says where its lines come from. */
export const located = (where: string, outcome: Outcome): Outcome => ({
  ...outcome,
  repaired: (outcome.repaired ?? []).map((line) => `${where}: ${line}`),
  failed: (outcome.failed ?? []).map((failure) => ({ ...failure, message: `${where}: ${failure.message}` })),
});

export function failureOf(error: unknown, endpoint?: string): Failure {
  const { message, code } = error as { message: string; code?: unknown };
  return {
    code: typeof code === 'string' ? code : 'failed',
    message,
    ...(endpoint === undefined ? {} : { endpoint }),
  };
}

/** Sends; a failure is answered, but for these codes, and does not keep the others from happening. */
export function send(netlink: Netlink, requests: readonly Request[], fine: readonly string[] = []): Outcome {
  const errors = netlink.batch(requests).filter((error) => error !== undefined);
  return {
    writes: requests.length,
    failed: errors.filter(({ code }) => !fine.includes(code)).map((error) => failureOf(error)),
  };
}

/** How entries of one kind are written by rtnetlink. */
export interface ByRequests<E> {
  /** undefined: it cannot be added yet, since what it hangs on is missing. */
  add(entry: E, instead: E | undefined): readonly Request[] | undefined;
  /** undefined: it went with what it hung on. */
  remove(entry: E): readonly Request[] | undefined;
  /** Codes of those that are gone already. */
  readonly gone?: readonly string[];
}

/** Writes a change in two batches: what is added takes the place of what was there, which is removed after it. */
export function writeRequests<E>(
  netlink: Netlink,
  { add, remove, gone = [] }: ByRequests<E>,
  { additions, removals }: Change<E>,
): Written<E> {
  const unwritten: E[] = [];
  let deferred = false;
  const made: { readonly entry: E; readonly request: Request }[] = [];
  for (const { entry, instead } of additions) {
    const requests = add(entry, instead);
    if (requests === undefined) {
      deferred = true;
      unwritten.push(entry);
    } else for (const request of requests) made.push({ entry, request });
  }
  const failed: Failure[] = [];
  for (const [i, error] of netlink.batch(made.map(({ request }) => request)).entries()) {
    const entry = made[i]?.entry;
    if (error === undefined || entry === undefined) continue;
    failed.push(failureOf(error));
    unwritten.push(entry);
  }
  const removed = send(
    netlink,
    removals.flatMap((entry) => remove(entry) ?? []),
    gone,
  );
  return { outcome: combine([{ writes: made.length, failed }, removed]), unwritten, deferred };
}
