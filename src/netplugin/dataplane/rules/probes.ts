/**
 * Packets of our own that look for a firewall that drops what is ours (observe/probe.ts): what no chain of anybody has dropped is
 * counted last of all, and none leaves the host.
 */
import { PROBE_PORT, PROBE_TAG, SOMEBODY, SOMEBODY6, VXLAN_PORT } from '../../constants.ts';
import { WIREGUARD_PORTS } from './devices.ts';
import type { HostFeature } from './feature.ts';

export const probes: HostFeature = {
  own: 'counter arrived { }',
  rules: {
    sent: `
ip daddr ${SOMEBODY} drop
ip6 daddr ${SOMEBODY6} drop`,
    last: `
ip saddr ${SOMEBODY} counter name "arrived" drop
ip daddr ${SOMEBODY} counter name "arrived" drop
ip6 saddr ${SOMEBODY6} counter name "arrived" drop
ip6 daddr ${SOMEBODY6} counter name "arrived" drop`,
    last_here: ({ encrypted }) =>
      [
        `udp dport ${VXLAN_PORT} udp sport ${PROBE_PORT} @th,96,24 ${PROBE_TAG} counter name "arrived" drop`,
        ...(encrypted
          ? [`udp dport ${WIREGUARD_PORTS} udp sport ${PROBE_PORT} counter name "arrived" drop`]
          : []),
      ].join('\n'),
  },
};
