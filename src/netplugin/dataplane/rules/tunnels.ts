/**
 * Tunnels, on the host: their frames come only from a host that is a member, by the way that leads to it.
 *
 * A frame has no connection: in the table of connections, one tenant's many flows would take up what all tenants' exits
 * need. No verdict here depends on what an earlier packet left. The VNI is the 24 bits from bit 96 of the UDP header on.
 *
 * Where what goes between hosts is encrypted, that way is WireGuard's: what it hands on with a member's address has come from who has that member's
 * key. A frame that would leave by another device, as a route or a rule that leads to WireGuard's is missing, does not leave (../encryption.ts). That is
 * judged last of all: what a chain of another program's marks or changes has its way looked up anew after our output chain.
 */
import { isV6 } from '../../../model/address.ts';
import { PROBE_TAG, VXLAN_PORT } from '../../constants.ts';
import { ENCRYPTED } from './devices.ts';
import type { HostFeature } from './feature.ts';

/** Of what this host sends itself: it may lead others' frames, of a cluster inside of virtual machines. */
const UNENCRYPTED = `
counter unencrypted { }
chain leaving {
  type filter hook postrouting priority 2147483647; policy accept;
  udp dport ${VXLAN_PORT} @th,96,24 @vnis oifname != ${ENCRYPTED} fib saddr type local counter name "unencrypted" drop
}`;

export const tunnels: HostFeature = {
  own: ({ encrypted }) => {
    const way = encrypted ? `iifname ${ENCRYPTED}` : 'fib saddr . iif oif exists';
    return `
set members { type ipv4_addr; }
set members6 { type ipv6_addr; }
set vnis { typeof @th,96,24; }
counter strangers { }
chain tunnel {
  ip saddr @members ${way} notrack accept
  ip6 saddr @members6 ${way} notrack accept
  counter name "strangers" drop
}${encrypted ? UNENCRYPTED : ''}`;
  },
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
