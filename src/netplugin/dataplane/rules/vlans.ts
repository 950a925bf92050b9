/**
 * VLANs: who is on the wire with us, and what he may.
 *
 *   another host of ours   by its MAC address, from the addresses of what runs there, as by a tunnel
 *   a machine              from an address of the network's subnet that nothing of ours has; to containers of that network, and no further
 *
 * Whoever is on a wire may send by any MAC address: that he is not another host of ours nobody can tell here, as in any VLAN. No
 * address of what runs on this host, of a gateway or a service comes by it, and none of another network's.
 *
 * All namespaces of a machine share one table of neighbours (entries.ts), so what a wire could put into it is bounded: in a minute a
 * tenant's routers learn, or ask for, LEARNED addresses of machines at most (net/ipv4/arp.c learns whoever asks for something that is
 * answered for; net/core/neighbour.c collects what is older than 5 s where it needs room). More than that many machines that speak
 * to the containers of one host within a minute are one too many: an entry lives for a minute after the last ARP packet. Those that
 * were learned go on. What comes by IPv6 from others than hosts of ours is dropped, and so is never learned.
 *
 * Of what machines begin, the limit of connections is that of one container, for all of a VLAN's together (limits.ts).
 */
import { isV6 } from '../../../model/address.ts';
import type { Port, RemoteHost, Vlan } from '../../state.ts';
import { once } from '../parts.ts';
import { TUNNELS, UPLINK, VLANS } from './devices.ts';
import type { OnVlans, RouterFeature, RouterVariant } from './feature.ts';
import { SAME_NETWORK } from './marks.ts';

const LEARNED = 256;

const four = (addresses: readonly string[]): string[] => addresses.filter((a) => !isV6(a));

export const ofPort = once(
  ({ addresses, wire }: Port): OnVlans => ({
    claimed: four(addresses),
    answered: wire === undefined ? [] : four(addresses),
  }),
);
export const ofHost = once(
  ({ endpoints }: RemoteHost): OnVlans => ({
    claimed: four(endpoints.map((e) => e.address)),
    answered: [],
  }),
);
export const ofVlan = once(
  (vlan: Vlan): OnVlans => ({ claimed: vlan.addresses, answered: vlan.addresses, vlan }),
);
export const ofGateways = once(
  (gateways: readonly string[]): OnVlans => ({ claimed: four(gateways), answered: [] }),
);

const where =
  (text: string) =>
  ({ vlans }: RouterVariant): string =>
    vlans ? text : '';

const errorsOf = (direction: 'original' | 'reply'): string => `
chain wire_errors_${direction} {
  meta mark set ether saddr . ct ${direction} ip saddr map @remotes goto pass
  meta mark set ether saddr . ct ${direction} ip6 saddr map @remotes6 goto pass
  ct mark ${SAME_NETWORK} ip saddr != @claimed ct ${direction} ip saddr != @claimed goto pass
  counter name "misquoting" drop
}`;

export const vlans: RouterFeature = {
  own: where(`
set claimed { type ipv4_addr; }
map wired { type ifname . ipv4_addr : mark; flags interval; }
set sought { type ifname . ipv4_addr; size ${LEARNED}; flags dynamic,timeout; timeout 1m; }
counter unsought { }
chain guard_vlan {
  meta mark set ether saddr . ip saddr map @remotes goto sent
  meta mark set ether saddr . ip6 saddr map @remotes6 goto sent6
  ether saddr @tunnels ip saddr @routers icmp type { destination-unreachable, time-exceeded } accept
  meta pkttype != host drop
  ip saddr @claimed counter name "foreign" drop
  fib saddr type local counter name "foreign" drop
  meta mark set iifname . ip saddr map @wired goto sent
  counter name "foreign" drop
}
chain onto_wire {
  meta nfproto ipv6 goto begun
  ip daddr @claimed goto begun
  update @sought { oifname . ip daddr } goto begun
  counter name "unsought" drop
}
chain off_wire {
  meta nfproto ipv6 goto grow
  ip saddr @claimed goto grow
  goto begun
}${errorsOf('original')}${errorsOf('reply')}`),
  rules: {
    guard: where(`iifname ${VLANS} goto guard_vlan`),
    forward: where(`iifname ${VLANS} ip saddr != @claimed ct mark != ${SAME_NETWORK} drop`),
    pass: where(`iifname ${VLANS} goto grow`),
    errors: where(
      `iifname ${VLANS} ct direction vmap { original : goto wire_errors_original, reply : goto wire_errors_reply }`,
    ),
  },
  elements: {
    onVlans({ claimed, answered, vlan }, add) {
      for (const address of claimed) {
        add('claimed', address, address);
        add('taken', address, address);
      }
      for (const address of answered) add('answered', address, address);
      if (vlan === undefined) return;
      const { device, prefix, network } = vlan;
      add('wired', prefix, `"${device}" . ${prefix} : ${network}`);
      add('beside', prefix, `"${device}" . ${prefix}`);
    },
  },
};

/** Hosts send to each other directly, and a machine on the wire to nobody through us but to containers. */
export const apart: RouterFeature = {
  rules: {
    forward: where(
      [
        [VLANS, VLANS],
        [VLANS, TUNNELS],
        [TUNNELS, VLANS],
        [VLANS, UPLINK],
      ]
        .map(([from, to]) => `iifname ${from} oifname ${to} drop`)
        .join('\n'),
    ),
  },
};

/** Behind the judgement of policy. */
export const wire: RouterFeature = {
  rules: {
    forward: where(`oifname ${VLANS} goto onto_wire\niifname ${VLANS} goto off_wire`),
  },
};

/** Of the ARP table: what another host of ours has is in the router's table of neighbours for good, and is not heard from the wire. */
export const WIRE_ARP = {
  sets: ['taken', 'answered', 'beside'],
  own: `
set taken { type ipv4_addr; }
set answered { type ipv4_addr; }
set beside { type ifname . ipv4_addr; flags interval; }
set learned { type ifname . ipv4_addr; size ${LEARNED}; flags dynamic,timeout; timeout 1m; }
chain wire {
  arp saddr ip @taken drop
  iifname . arp saddr ip != @beside drop
  arp operation request arp daddr ip != @answered drop
  update @learned { iifname . arp saddr ip } accept
  drop
}
`,
  rule: `  iifname ${VLANS} goto wire
`,
};
