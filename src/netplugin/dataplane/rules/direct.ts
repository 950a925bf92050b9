/**
 * Networks of encapsulation direct: who is on the hosts' link with us, and what he may.
 *
 *   another host   by the MAC address of this tenant's router there, from the addresses of what runs there, as by a tunnel; the router itself errors only
 *   anybody else   nothing: not an address, not an error, not ARP
 *
 * What arrives is for this router's own address on the link, past the host's stack (compile/direct.ts): another tenant's device does not
 * see it, and a container of another bridge on this host has no way to it. Whoever may send any frame on the link may send by another
 * host's address, as on any link; what is told apart here is told by two addresses that he must both know, and lets him be no one but a
 * container of this tenant on that host. That is why these are elements of their own: by a tunnel comes only what a host of ours sent
 * (tunnels.ts), and by its MAC address nobody is believed on the link.
 *
 * The elements are the agent's alone, a host's in one transaction (router.ts): no packet changes what another is judged by, and a flood of
 * foreign ones is a lookup and a counter each, before conntrack.
 */
import { DIRECT, TUNNELS, VLANS } from './devices.ts';
import type { RouterFeature, RouterVariant } from './feature.ts';

const where =
  (text: string) =>
  ({ direct }: RouterVariant): string =>
    direct ? text : '';

const errorsOf = (direction: 'original' | 'reply'): string => `
chain link_errors_${direction} {
  meta mark set ether saddr . ct ${direction} ip saddr map @linked goto pass
  meta mark set ether saddr . ct ${direction} ip6 saddr map @linked6 goto pass
  counter name "misquoting" drop
}`;

export const direct: RouterFeature = {
  own: where(`
map linked { type ether_addr . ipv4_addr : mark; }
map linked6 { type ether_addr . ipv6_addr : mark; }
set on_link { type ether_addr; }
chain guard_link {
  meta pkttype != host drop
  ip ttl 1 ip ttl set 2
  ip6 hoplimit 1 ip6 hoplimit set 2
  meta mark set ether saddr . ip saddr map @linked goto sent
  meta mark set ether saddr . ip6 saddr map @linked6 goto sent6
  ether saddr @on_link ip saddr @routers icmp type { destination-unreachable, time-exceeded } accept
  ether saddr @on_link ip6 saddr @routers6 icmpv6 type { destination-unreachable, packet-too-big, time-exceeded } accept
  counter name "foreign" drop
}${errorsOf('original')}${errorsOf('reply')}`),
  rules: {
    guard: where(`iifname ${DIRECT} goto guard_link`),
    pass: where(`iifname ${DIRECT} goto grow`),
    errors: where(
      `iifname ${DIRECT} ct direction vmap { original : goto link_errors_original, reply : goto link_errors_reply }`,
    ),
    // Of groups that the kernel joins by itself nobody there need hear.
    output: where(`oifname ${DIRECT} ip6 daddr ff00::/8 drop`),
  },
  elements: {
    host({ direct, endpoints }, add) {
      if (direct === undefined) return;
      add('on_link', '', direct.mac);
      for (const { address, network } of endpoints)
        add('linked', address, `${direct.mac} . ${address} : ${network}`);
    },
  },
};

/** Hosts send to each other directly, never through a third one. */
export const apartOnLink: RouterFeature = {
  rules: {
    through: ({ direct, vlans }) =>
      (direct ? [DIRECT, TUNNELS, ...(vlans ? [VLANS] : [])] : [])
        .flatMap((other) => [
          `iifname ${DIRECT} oifname ${other} drop`,
          ...(other === DIRECT ? [] : [`iifname ${other} oifname ${DIRECT} drop`]),
        ])
        .join('\n'),
  },
};

/** Behind the judgement of policy. */
export const fromLink: RouterFeature = {
  rules: { forward: where(`iifname ${DIRECT} goto grow`) },
};
