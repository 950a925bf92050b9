/**
 * ICMP errors that conntrack has found to quote a packet of a live connection (`related`), which is then the connection that
 * `ct` is about, an error about what one end has sent belonging to the other direction. Whoever knows addresses and ports can
 * forge them, and who believes one gives up a connection or sends ever smaller packets. So one passes only from where the
 * other end is:
 *
 *   its own port              the sources of that were made sure of (antiSpoofing.ts)
 *   the host that it is on    whose router lets none of its containers' others pass, and has errors of its own
 *   outside, by the uplink    for connections that go there, from whoever is on the way
 *
 * What goes to the uplink has the host's address there, so routers outside and other hosts would believe it of the host: a container
 * that complains of too large packets would lower the MTU of paths to this host, so of other tenants' tunnels.
 */
import type { Exit } from '../../state.ts';
import { TUNNELS, UPLINK } from './devices.ts';
import { familyName, outsideAddresses } from './egress.ts';
import type { RouterFeature } from './feature.ts';

const from = (direction: 'original' | 'reply', exit: Exit | undefined): string => `
chain errors_${direction} {
  meta mark set iifname . ct ${direction} ip saddr map @sources goto pass
  meta mark set iifname . ct ${direction} ip6 saddr map @sources6 goto pass
  iifname ${TUNNELS} meta mark set ether saddr . ct ${direction} ip saddr map @remotes goto pass
  iifname ${TUNNELS} meta mark set ether saddr . ct ${direction} ip6 saddr map @remotes6 goto pass
${outsideAddresses(exit)
  .map((a) => `  iifname ${UPLINK} ct ${direction} ${familyName(a)} daddr ${a} goto pass\n`)
  .join('')}  counter name "misquoting" drop
}`;

export const errors: RouterFeature = {
  own: ({ exit }) => `counter misquoting { }${from('original', exit)}${from('reply', exit)}`,
  rules: {
    errors: `
icmp type redirect drop
oifname ${UPLINK} icmp type destination-unreachable icmp code frag-needed drop
oifname ${UPLINK} icmpv6 type packet-too-big drop
ct direction vmap { original : goto errors_original, reply : goto errors_reply }`,
  },
};
