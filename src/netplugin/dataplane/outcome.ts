/** What a step of a pass answers: what it wrote, found and failed to do. Those of all steps together are the ApplyReport. */
import type { Netlink, Request } from '../../linux/netlink.ts';

export interface ApplyReport {
  /** Kernel objects written (links, addresses, routes, neighbours, fdb entries, nft elements and tables, the fast path's entries and filters). */
  readonly writes: number;
  /** Routers of which every address, route, neighbour and forwarding entry was read. */
  readonly reads: number;
  /** Only with `verify`: differences from the kernel that were none of our doing and were put right, one line each. */
  readonly repaired: readonly string[];
  /** Endpoints with phase joined whose veth is gone: their containers are. */
  readonly lost: readonly string[];
  /** Router namespaces that were made in this pass: sockets opened in an earlier one of the name are of no use. */
  readonly created: readonly string[];
  /** False where something that was declared may not hold: a step stopped in the middle, or the kernel refused one of its entries. */
  readonly complete: boolean;
  /** Containers' ends are about to be moved into their containers: another pass soon finds them there. */
  readonly awaited: boolean;
  /** What could not be established; the rest was. */
  readonly failed: readonly Failure[];
}

export interface Failure {
  /** Name of the kernel's error, such as `EEXIST`, where there is one; else `failed`. */
  readonly code: string;
  /** Whose container it keeps from its network. */
  readonly endpoint?: string;
  /** One plain line. */
  readonly message: string;
}

/**
 * What it does not mention is nothing, or in order. One that has failed in something is complete only where it says so itself: what
 * has failed is no part of what was declared.
 */
export type Outcome = Partial<ApplyReport>;

export const isComplete = ({ complete, failed = [] }: Outcome): boolean => complete ?? failed.length === 0;

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
    complete: outcomes.every(isComplete),
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
