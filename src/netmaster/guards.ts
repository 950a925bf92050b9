/**
 * What is written relies on what it refers to, and a delete relies on nothing referring to it, also when several
 * replicas write at once.
 *
 *   a write    checks that each object it refers to is as it was seen, and that its guard is as it was seen;
 *              where there is a guard it takes it away
 *   a delete   1. writes the guard of the object   2. deletes the object with the guard, if the guard is still that
 *              one and nothing refers to the object
 *
 * Whoever comes before the guard is seen by the second step, which is decided on a state with the guard in it; whoever
 * comes after takes the guard away, and the second step does not happen. A guard that is left over, by a delete that
 * was refused or a replica that died, is harmless: it goes with the next write or delete. Two writes that refer to the
 * same object do not meet.
 */
import { REFERRED } from '../model/kinds.ts';
import type { Check, Write } from '../store/store.ts';
import { storeKey } from './mirror.ts';
import type { View } from './tables.ts';
import type { Decision } from './writer.ts';

const guardOf = (kind: string, key: string): string => `${kind}/${key}`;

/** For a write that refers to an object, which is there. */
export function relyOn(view: View, kind: string, key: string): { checks: Check[]; writes: Write[] } {
  const guard = view.stored('guard', guardOf(kind, key));
  const guardKey = storeKey('guard', guardOf(kind, key));
  return {
    checks: [
      { key: storeKey(kind, key), revision: view.stored(kind, key)?.revision ?? 0 },
      { key: guardKey, revision: guard?.revision ?? 0 },
    ],
    writes: guard === undefined ? [] : [{ key: guardKey, value: undefined }],
  };
}

/** The first step of a delete; nothing where no kind can refer to it. */
export function decideGuard(view: View, kind: string, key: string): Decision<undefined> {
  const guarded = !REFERRED.has(kind) || view.stored('guard', guardOf(kind, key)) !== undefined;
  const writes = guarded ? [] : [{ key: storeKey('guard', guardOf(kind, key)), value: {} }];
  return { checks: [], writes, answer: undefined };
}

/** For the second step; undefined where the guard has gone and must be written again. */
export function releaseGuard(
  view: View,
  kind: string,
  key: string,
): { checks: Check[]; writes: Write[] } | undefined {
  if (!REFERRED.has(kind)) return { checks: [], writes: [] };
  const guard = view.stored('guard', guardOf(kind, key));
  if (guard === undefined) return undefined;
  const guardKey = storeKey('guard', guardOf(kind, key));
  return {
    checks: [{ key: guardKey, revision: guard.revision }],
    writes: [{ key: guardKey, value: undefined }],
  };
}
