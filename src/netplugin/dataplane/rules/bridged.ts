/**
 * A cluster whose forwarding mode is bridge: networks of one tenant do not reach each other, whatever policy says, as if each were a
 * wire of its own. All else is as in the other mode: within a network the routers route, which nobody there sees (ttl.ts), and by its
 * gateway a container reaches what is outside the tenant.
 *
 * What is known of a first packet by then is whether both ends are in one network. Both hosts look, each by what it knows itself.
 */
import { DIRECT, PORTS, TUNNELS, VLANS } from './devices.ts';
import type { RouterFeature } from './feature.ts';
import { SAME_NETWORK } from './marks.ts';

const apart = (others: readonly string[]): string =>
  [
    [PORTS, PORTS],
    ...others.flatMap((other) => [
      [PORTS, other],
      [other, PORTS],
    ]),
  ]
    .map(([from, to]) => `iifname ${from} oifname ${to} ct mark != ${SAME_NETWORK} drop`)
    .join('\n');

export const bridged: RouterFeature = {
  rules: {
    forward: ({ bridged, vlans, direct }) =>
      bridged ? apart([TUNNELS, ...(direct ? [DIRECT] : []), ...(vlans ? [VLANS] : [])]) : '',
  },
};
