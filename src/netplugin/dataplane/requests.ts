/** Entries of the engine (difference.ts) that are written by rtnetlink. */
import type { Netlink, Request } from '../../linux/netlink.ts';
import type { Change, Written } from './difference.ts';
import { combine, type Failure, failureOf, send } from './outcome.ts';

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
