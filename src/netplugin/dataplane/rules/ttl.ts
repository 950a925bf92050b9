/**
 * Time to live (IPv6: hop limit): within a network the routers are invisible, so what they take is given back; between
 * networks they are one hop, whichever of the two hosts a packet comes through.
 *
 * A router takes one when it forwards. A chain at the end of `forward` gives it back (`grow`). A packet that arrives with 1 would be
 * ended by routing before that, so it is made 2 in advance where it stays in its network (`stretch`). That both ends of a
 * connection are in one network its first packet finds out, and the connection's mark keeps.
 */
import { PORTS, TUNNELS } from './devices.ts';
import type { RouterFeature } from './feature.ts';
import { MARKED, SAME_NETWORK } from './marks.ts';

/**
 * Times to live that grow by one: of what systems start with, with and without a first hop, and of what traceroute counts
 * up. A chain each, since libnftables 1.0.6 cannot set a single byte from a map. One of 2 arrives as 1, as one of 1 does.
 */
const TTLS = [...Array.from({ length: 30 }, (_, i) => i + 3), 63, 64, 127, 128];
const VERDICTS = TTLS.map((ttl) => `${ttl - 1} : goto ttl_${ttl}`).join(', ');

/** Of a sender that is known, whose network the mark has: MARKED would be in the way of the lookup. */
const arrived = (more: string): string => `
${more} accept
meta mark & ${MARKED} == 0 goto stretch
meta mark set meta mark ^ ${MARKED}
jump stretch
meta mark set meta mark ^ ${MARKED}`;

export const ttl: RouterFeature = {
  own: `
set same { type mark . ipv4_addr; flags interval; }
set same6 { type mark . ipv6_addr; flags interval; }
chain stretch {
  iifname ${TUNNELS} ip ttl set 2
  iifname ${TUNNELS} ip6 hoplimit set 2
  meta mark . ip daddr @same ip ttl set 2
  meta mark . ip6 daddr @same6 ip6 hoplimit set 2
}
${TTLS.map((n) => `chain ttl_${n} { ip ttl set ${n}; ip6 hoplimit set ${n}; accept; }`).join('\n')}
chain grow {
  ip ttl 63 ip ttl set 64 accept
  ip ttl vmap { ${VERDICTS} }
  ip6 hoplimit vmap { ${VERDICTS} }
  accept
}`,
  rules: {
    sent: arrived('ip ttl > 1'),
    sent6: arrived('ip6 hoplimit > 1'),
    forward: `
meta mark . ip daddr @same ct mark set ${SAME_NETWORK}
meta mark . ip6 daddr @same6 ct mark set ${SAME_NETWORK}`,
    pass: `
ct mark ${SAME_NETWORK} goto grow
iifname ${PORTS} accept
iifname ${TUNNELS} goto grow`,
    begun: `ct mark ${SAME_NETWORK} goto grow`,
  },
  elements: {
    subnets(subnets, add) {
      for (const { prefix, network } of subnets) add('same', prefix, `${network} . ${prefix}`);
    },
  },
};
