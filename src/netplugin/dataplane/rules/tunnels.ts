/**
 * Tunnels, on the host: their frames come only from a host that is a member, by the way that leads to it.
 *
 * A frame has no connection: in the table of connections, one tenant's many flows would take up what all tenants' exits
 * need. No verdict here depends on what an earlier packet left. The VNI is the 24 bits from bit 96 of the UDP header on.
 */
import { isV6 } from '../../../model/address.ts';
import { PROBE_TAG, VXLAN_PORT } from '../../constants.ts';
import type { HostFeature } from './feature.ts';

export const tunnels: HostFeature = {
  own: `
set members { type ipv4_addr; }
set members6 { type ipv6_addr; }
set vnis { typeof @th,96,24; }
counter strangers { }
chain tunnel {
  ip saddr @members fib saddr . iif oif exists notrack accept
  ip6 saddr @members6 fib saddr . iif oif exists notrack accept
  counter name "strangers" drop
}`,
  rules: {
    // The error quotes an outer IPv6 packet of ours: its UDP destination port is the 16 bits from bit 400 on.
    raw: `
udp dport ${VXLAN_PORT} fib daddr type != unicast @th,96,24 @vnis goto tunnel
icmpv6 type packet-too-big @th,400,16 ${VXLAN_PORT} notrack`,
    sent: `udp dport ${VXLAN_PORT} @th,96,24 @vnis notrack`,
  },
  elements: {
    state({ members }, add) {
      for (const address of members.filter((a) => !isV6(a))) add('members', address, address);
      for (const address of members.filter(isV6)) add('members', address, address);
    },
    vnis(vnis, add) {
      for (const vni of new Set([...vnis, PROBE_TAG])) add('vnis', '', String(vni));
    },
  },
};
