/**
 * Hosts that take no new containers, by an operator's word: draining/NAME in the store, so it holds over restarts and for every
 * netmaster. A container gets its first address from netmaster, whatever its runtime: there it is refused, and the check is made within the
 * transaction that would give the address, so that of a drain and an address one comes first.
 */
import { storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';
import type { View } from './tables.ts';
import type { Decision } from './writer.ts';

export interface Draining {
  /** Milliseconds, Unix time. */
  readonly since: number;
}

/** Throws a Refusal where the host takes no new containers. */
export function refuseDraining(view: View, host: string): Decision<undefined>['checks'] {
  if (view.get<Draining>('draining', host) !== undefined)
    throw new Refusal(
      409,
      `host ${host}: takes no new containers, it is being drained: start it on another host, or take that back with netctl host undrain ${host}`,
      'host',
    );
  return [{ key: storeKey('draining', host), revision: 0 }];
}
