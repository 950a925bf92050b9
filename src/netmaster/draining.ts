/**
 * Hosts that take no new containers, by an operator's word: draining/NAME in the store, so it holds over restarts and for every
 * netmaster, and agents are told of it like of any other object: names and services go to other hosts' containers from then on.
 * A container gets its first address from netmaster, whatever its runtime: there it is refused, and the check is made within the
 * transaction that would give the address, so that of a drain and an address one comes first.
 */
import { answers, ready } from '../model/answering.ts';
import type { Endpoint } from '../model/endpoint.ts';
import { isExternal } from '../model/externalMember.ts';
import type { Draining } from '../model/host.ts';
import { storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';
import type { View } from './tables.ts';
import type { Decision } from './writer.ts';

/** Their names. */
export const drainingHosts = (view: View): ReadonlySet<string> =>
  new Set([...view.entries<Draining>('draining')].map(([name]) => name));

/** Of those that a service selects: who has no new connections now, as hosts choose (model/answering.ts), and why. */
export function leftOut(view: View, selected: readonly Endpoint[]): ReadonlyMap<Endpoint, string> {
  const isAway = ({ homingHost }: Endpoint): boolean =>
    !isExternal({ homingHost }) && view.get('host', homingHost) === undefined;
  const answering = selected.filter((e) => answers(e) && !isAway(e));
  const draining = drainingHosts(view);
  const chosen = new Set(ready(answering, draining));
  const why = (endpoint: Endpoint): string => {
    const { status, homingHost } = endpoint;
    if (isAway(endpoint)) return `host ${homingHost} is away`;
    if (isExternal(endpoint)) return 'it fails its health check';
    if (!answers({ status })) return `it is ${status}`;
    return draining.has(homingHost) ? `host ${homingHost} is being drained` : `it is ${status}`;
  };
  return new Map(selected.flatMap((e) => (chosen.has(e) ? [] : [[e, why(e)] as const])));
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
