/**
 * Anti-spoofing: who sends has the source address that he sends from, before conntrack sees the packet. So every rule that follows
 * may go by the source address.
 *
 *   from a container   by its port one of the container's own addresses (`sources`); by its link-local one it looks for neighbours
 *                      only, never in fragments (RFC 6980), which are limited for those that go on
 *   by a tunnel        from the VTEP of the host that has the endpoint (`remotes`): a frame's source MAC address tells which;
 *                      a host's router itself may send errors only
 *   by the uplink      no address of the tenant's networks
 *
 * Whose address it is gives the number of the sender's network, which the packet is marked with (marks.ts). Whatever else
 * comes is counted and dropped; some of what containers send is logged, for the agent to say which address it was.
 */
import { linkLocal } from '../../../linux/address.ts';
import { isV6 } from '../../../model/address.ts';
import { DENIED_LOG, NAMESERVER, NAMESERVER6, NFT_TABLE } from '../../constants.ts';
import { PORTS, UPLINK } from './devices.ts';
import type { RouterFeature } from './feature.ts';
import { FOREIGN, REFUSED } from './limits.ts';
import { MARKED } from './marks.ts';
import { ASKING_ARP, WIRE_ARP } from './vlans.ts';

export const antiSpoofing: RouterFeature = {
  own: `
map sources { type ifname . ipv4_addr : mark; }
map sources6 { type ifname . ipv6_addr : mark; }
set link_locals { type ifname . ipv6_addr; }
map remotes { type ether_addr . ipv4_addr : mark; }
map remotes6 { type ether_addr . ipv6_addr : mark; }
set tunnels { type ether_addr; }
set routers { type ipv4_addr; }
set routers6 { type ipv6_addr; }
set told_port { type ifname; size 8192; flags dynamic,timeout; timeout 1m; }
counter spoofed { }
counter foreign { }
chain guard_port {
  meta mark set iifname . ip saddr map @sources goto sent
  meta mark set iifname . ip6 saddr map @sources6 goto sent6
  iifname . ip6 saddr @link_locals exthdr frag missing icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept
  ip6 saddr { ::, fe80::/10 } drop
  counter name "spoofed"
  meta mark set ${REFUSED.source}
  update @refused { iifname . meta mark }
  update @told_port { iifname limit rate over 1/second burst 5 packets } drop
  log prefix "${FOREIGN}" group ${DENIED_LOG} snaplen 96
  drop
}
chain guard_tunnel {
  meta mark set ether saddr . ip saddr map @remotes goto sent
  meta mark set ether saddr . ip6 saddr map @remotes6 goto sent6
  ether saddr @tunnels ip saddr @routers icmp type { destination-unreachable, time-exceeded } accept
  ether saddr @tunnels ip6 saddr @routers6 icmpv6 type { destination-unreachable, packet-too-big, time-exceeded } accept
  counter name "foreign" drop
}`,
  rules: {
    guard: `
iifname "lo" accept
ip saddr 127.0.0.0/8 drop`,
    // By an address of the tenant's, policy would take whoever is outside for the container that has it, and its answers for his.
    arriving: `fib saddr oifname != ${UPLINK} drop`,
  },
  elements: {
    port({ device, addresses, alsoFrom, mac, network, dscp }, add) {
      const mark = network + (dscp === undefined ? 0 : MARKED);
      for (const address of [...addresses, ...alsoFrom]) {
        add('sources', address, `"${device}" . ${address} : ${mark}`);
        if (!isV6(address)) add('senders', '', `"${device}" . ${address} . ${mac}`);
      }
      if (addresses.some(isV6)) add('link_locals', '', `"${device}" . ${linkLocal(mac)}`);
    },
    host({ mac, endpoints }, add) {
      add('tunnels', '', mac);
      for (const { address, network } of endpoints)
        add('remotes', address, `${mac} . ${address} : ${network}`);
    },
    gateways(gateways, add) {
      for (const address of [...gateways, NAMESERVER, NAMESERVER6]) add('routers', address, address);
    },
  },
};

/**
 * The same for ARP, a table of its own as it is a family of its own; `senders` has its elements from the feature above.
 * The kernel learns whoever asks, also by a forged address, before it answers (net/ipv4/arp.c, arp_process). Asked for is
 * the gateway, or anybody else, by one of a port's own addresses; by none where somebody looks whether an address is taken.
 */
export const arpTable = (vlans: boolean, asking: boolean) => ({
  name: `arp ${NFT_TABLE}`,
  sets: ['senders', ...(vlans ? WIRE_ARP.sets : []), ...(asking ? ASKING_ARP.sets : [])],
  body: `
set senders { type ifname . ipv4_addr . ether_addr; }
${vlans ? WIRE_ARP.own.trimStart() : ''}${asking ? ASKING_ARP.own.trimStart() : ''}chain input {
  type filter hook input priority 0; policy drop;
  iifname . arp saddr ip . arp saddr ether @senders accept
  iifname ${PORTS} arp saddr ip 0.0.0.0 accept
  iifname ${UPLINK} accept
${vlans ? WIRE_ARP.rule : ''}}
`,
});
