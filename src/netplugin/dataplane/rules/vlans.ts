/**
 * VLANs: who is on the wire with us, and what he may.
 *
 *   another host of ours   by its MAC address, from the addresses of what runs there, as by a tunnel
 *   a machine              from an address of the network's subnet that nothing of ours has; to containers of that network, and no further
 *   the fabric's own gateway  from outside, to the same (externalGateways.ts)
 *   the host               in an infra network, by its end of the exit (access.ts): all on the wire, and who comes by such a gateway, reach it at its address there, as it reaches them
 *
 * Whoever is on a wire may send by any MAC address: that he is not another host of ours nobody can tell here, as in any VLAN. No
 * address of what runs on this host, of a gateway or a service comes by it, and none of another network's.
 *
 * All namespaces of a machine share one table of neighbours (entries.ts), so what a wire could put into it is bounded: in a minute a
 * tenant's routers learn, or ask for, LEARNED addresses of machines at most (net/ipv4/arp.c learns whoever asks for something that is
 * answered for; net/core/neighbour.c collects what is older than 5 s where it needs room). More than that many machines that speak
 * to the containers of one host within a minute are one too many: an entry lives for a minute after the last ARP packet. Those that
 * were learned go on. Of IPv6 the same: who asks by neighbour discovery is learned by his question (net/ipv6/ndisc.c, ndisc_recv_ns),
 * where it is for what is answered for here; an answer changes what was asked for, and nothing that is ours: those neighbours are permanent.
 *
 * Of a network whose groups have tags of their own the programs see to it that nothing comes by another tag than that of whom it is for
 * (vlan/program.ts). Another host is known by its MAC addresses in the sender's tag, or in that of whom it is for where the sender is of another
 * network: any of those stands for the host, whose number leads to its endpoints. The router asks on such a wire by the address of
 * a container that is known there: its own is in none of those tags.
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

export const ofPort = once(
  ({ addresses, wire }: Port): OnVlans => ({
    claimed: addresses,
    answered: wire === undefined ? [] : addresses,
  }),
);
export const ofHost = once(
  ({ endpoints }: RemoteHost): OnVlans => ({
    claimed: endpoints.map((e) => e.address),
    answered: [],
  }),
);
export const ofVlan = once(
  (vlan: Vlan): OnVlans => ({ claimed: vlan.addresses, answered: vlan.addresses, vlan }),
);
export const ofGateways = once(
  (gateways: readonly string[]): OnVlans => ({ claimed: gateways, answered: [] }),
);

const where =
  (text: string) =>
  ({ vlans }: RouterVariant): string =>
    vlans ? text : '';

/** What leads outside is asked of its gateway, however many are there. */
const sought = (version: 'ip' | 'ip6', { externalGateways }: RouterVariant): string =>
  externalGateways ? `rt ${version} nexthop` : `${version} daddr`;

const errorsOf = (direction: 'original' | 'reply', { externalGateways }: RouterVariant): string => `
chain wire_errors_${direction} {
  meta mark set ether saddr . ct ${direction} ip saddr map @remotes goto pass
  meta mark set ether saddr . ct ${direction} ip6 saddr map @remotes6 goto pass
  ct mark ${SAME_NETWORK} ip saddr != @claimed ct ${direction} ip saddr != @claimed goto pass
  ct mark ${SAME_NETWORK} ip6 saddr != @claimed6 ct ${direction} ip6 saddr != @claimed6 goto pass
${externalGateways ? byGateway(direction) : ''}  counter name "misquoting" drop
}`;

/** About who is outside, as whoever is on the way there says. */
const byGateway = (direction: 'original' | 'reply'): string =>
  (['ip', 'ip6'] as const)
    .map((version) => {
      const six = version === 'ip' ? '' : '6';
      return `  meta nfproto ${six ? 'ipv6' : 'ipv4'} ct ${direction} ${version} saddr != @claimed${six} ct ${direction} ${version} saddr != @homes${six} meta mark set iifname . ether saddr map @ways goto pass\n`;
    })
    .join('');

const TAGGED = `
map tag_macs { type ether_addr : mark; }
map behind { type mark . ipv4_addr : mark; }
map behind6 { type mark . ipv6_addr : mark; }
chain by_tag {
  meta mark set meta mark . ip saddr map @behind goto sent
  meta mark set meta mark . ip6 saddr map @behind6 goto sent6
  ip saddr @routers icmp type { destination-unreachable, time-exceeded } accept
  ip6 saddr @routers6 icmpv6 type { destination-unreachable, packet-too-big, time-exceeded } accept
  counter name "foreign" drop
}`;

/** By IPv6 what ASKING_ARP is by IPv4; not of whoever makes sure that nobody has his address. */
const ASKING6 = `
map asked_by6 { type ifname : ipv6_addr; }
chain ask {
  type filter hook output priority 0; policy accept;
  icmpv6 type nd-neighbor-solicit ip6 saddr != :: ip6 saddr set oifname map @asked_by6
}`;

const tableOf = (variant: RouterVariant): string => `
set claimed { type ipv4_addr; }
set claimed6 { type ipv6_addr; }
map wired { type ifname . ipv4_addr : mark; flags interval; }
map wired6 { type ifname . ipv6_addr : mark; flags interval; }
set sought { type ifname . ipv4_addr; size ${LEARNED}; flags dynamic,timeout; timeout 1m; }
set sought6 { type ifname . ipv6_addr; size ${LEARNED}; flags dynamic,timeout; timeout 1m; }
set asking6 { type ifname . ipv6_addr; size ${LEARNED}; flags dynamic,timeout; timeout 1m; }
counter unsought { }
chain guard_vlan {
  meta mark set ether saddr . ip saddr map @remotes goto sent
  meta mark set ether saddr . ip6 saddr map @remotes6 goto sent6
  ether saddr @tunnels ip saddr @routers icmp type { destination-unreachable, time-exceeded } accept
  ether saddr @tunnels ip6 saddr @routers6 icmpv6 type { destination-unreachable, packet-too-big, time-exceeded } accept
${variant.tagged ? '  meta mark set ether saddr map @tag_macs goto by_tag\n' : ''}  ip6 saddr @claimed6 counter name "foreign" drop
  exthdr frag missing icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } goto discover
  meta pkttype != host drop
  ip saddr @claimed counter name "foreign" drop
  fib saddr type local counter name "foreign" drop
  meta mark set iifname . ip saddr map @wired goto sent
  meta mark set iifname . ip6 saddr map @wired6 goto sent6
  ${variant.externalGateways ? 'goto by_gateway' : 'counter name "foreign" drop'}
}
chain discover {
  ip6 saddr :: accept
  icmpv6 type nd-neighbor-advert accept
  ip6 saddr fe80::/10 update @asking6 { iifname . ip6 saddr } accept
  meta mark set iifname . ip6 saddr map @wired6 update @asking6 { iifname . ip6 saddr } accept
  counter name "foreign" drop
}
chain onto_wire {
  ip daddr @claimed goto begun
  ip6 daddr @claimed6 goto begun
  update @sought { oifname . ${sought('ip', variant)} } goto begun
  update @sought6 { oifname . ${sought('ip6', variant)} } goto begun
  counter name "unsought" drop
}
chain off_wire {
  ip saddr @claimed goto grow
  ip6 saddr @claimed6 goto grow
  goto begun
}${errorsOf('original', variant)}${errorsOf('reply', variant)}`;

/** By which the router asks on a wire where it has no address that is known there: one of each version of IP at most. */
function askingOf({ entered, addresses, tags = [] }: Vlan): readonly string[] {
  const known = tags.flatMap((tag) => tag.addresses);
  const isV4 = (address: string): boolean => !isV6(address);
  const own = entered ? addresses.find(isV4) : undefined;
  return [known.find(isV4) ?? own, known.find(isV6)].filter((a) => a !== undefined);
}

/** The last four bytes, which are a host's own (compile/deviceNames.ts). */
const numberOf = (mac: string): number => Number.parseInt(mac.replaceAll(':', '').slice(-8), 16);

export const vlans: RouterFeature = {
  own: (variant) => (variant.vlans ? `${variant.tagged ? TAGGED + ASKING6 : ''}${tableOf(variant)}` : ''),
  rules: {
    guard: where(`iifname ${VLANS} goto guard_vlan`),
    forward: where(
      [
        `ct mark != ${SAME_NETWORK} iifname ${VLANS} ip saddr != @claimed drop`,
        `ct mark != ${SAME_NETWORK} iifname ${VLANS} ip6 saddr != @claimed6 drop`,
      ].join('\n'),
    ),
    pass: where(`iifname ${VLANS} goto grow`),
    errors: where(
      `iifname ${VLANS} ct direction vmap { original : goto wire_errors_original, reply : goto wire_errors_reply }`,
    ),
  },
  elements: {
    host({ mac, tagMacs = [], endpoints }, add) {
      if (tagMacs.length === 0) return;
      const number = numberOf(mac);
      for (const tagMac of tagMacs) add('tag_macs', '', `${tagMac} : ${number}`);
      for (const { address, network } of endpoints)
        add('behind', address, `${number} . ${address} : ${network}`);
    },
    onVlans({ claimed, answered, vlan }, add) {
      for (const address of claimed) {
        add('claimed', address, address);
        if (!isV6(address)) add('taken', address, address);
      }
      for (const address of answered) if (!isV6(address)) add('answered', address, address);
      if (vlan === undefined) return;
      const { device, prefixes, network, gateways = [] } = vlan;
      for (const address of askingOf(vlan)) add('asked_by', address, `"${device}" : ${address}`);
      for (const gateway of gateways) if (!isV6(gateway)) add('gates', '', `"${device}" . ${gateway}`);
      for (const prefix of prefixes) {
        add('wired', prefix, `"${device}" . ${prefix} : ${network}`);
        if (!isV6(prefix)) add('beside', prefix, `"${device}" . ${prefix}`);
      }
    },
  },
};

/** What comes by a wire for the host itself, or answers it. No other connection goes out by the exit, so that all others are for who is behind it. */
const ofHostItself = (entered: readonly string[]): string =>
  (['ip', 'ip6'] as const)
    .map((version) => {
      const own = entered.filter((address) => isV6(address) === (version === 'ip6'));
      const ofOthers =
        own.length === 0
          ? `meta nfproto ${version === 'ip' ? 'ipv4' : 'ipv6'}`
          : `${version} daddr != { ${own.join(', ')} }`;
      return `iifname ${VLANS} oifname ${UPLINK} ct direction original ${ofOthers} drop`;
    })
    .join('\n');

/** Hosts send to each other directly, and a machine on the wire to nobody through us but to containers, and to the host where it is there itself. */
export const apart: RouterFeature = {
  rules: {
    through: ({ vlans, entered }) =>
      vlans
        ? [
            ...[
              [VLANS, VLANS],
              [VLANS, TUNNELS],
              [TUNNELS, VLANS],
            ].map(([from, to]) => `iifname ${from} oifname ${to} drop`),
            entered.length === 0 ? `iifname ${VLANS} oifname ${UPLINK} drop` : ofHostItself(entered),
          ].join('\n')
        : '',
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
  sets: ['taken', 'answered', 'beside', 'gates'],
  own: `
set taken { type ipv4_addr; }
set answered { type ipv4_addr; }
set beside { type ifname . ipv4_addr; flags interval; }
set gates { type ifname . ipv4_addr; }
set learned { type ifname . ipv4_addr; size ${LEARNED}; flags dynamic,timeout; timeout 1m; }
chain wire {
  arp saddr ip @taken drop
  iifname . arp saddr ip != @beside drop
  arp operation request arp daddr ip != @answered drop
  iifname . arp saddr ip @gates accept
  update @learned { iifname . arp saddr ip } accept
  drop
}
`,
  rule: `  iifname ${VLANS} goto wire
`,
};

/**
 * Where the host has its address in the VLAN itself the router has none there, and asks by that: it would by another device's, such as a gateway.
 * Where groups have tags of their own it asks by a container's, and goes by its tag: by the network's own nobody may be there.
 */
export const ASKING_ARP = {
  sets: ['asked_by'],
  own: `
map asked_by { type ifname : ipv4_addr; }
chain output {
  type filter hook output priority 0; policy accept;
  arp operation request arp saddr ip set oifname map @asked_by
}
`,
};
