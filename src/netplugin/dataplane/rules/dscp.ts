/**
 * DSCP of network profiles: the part of a router's table that gives each packet from a container the class of its
 * source address. A class is one element; nothing else changes while containers come and go.
 *
 * nft 1.0.6 sets `ip dscp` to a constant only ("Value 2 exceeds valid range" from a map: its right side must have whole
 * bytes), and takes no verdict from a looked-up value. So the address leads to a priority, that to one of 64
 * static chains. An address without an element ends the rule, its packets are left as they are. nft writes the six bits
 * under a mask: the container's own ECN bits stay.
 *
 * The rules stand at the beginning of `forward`, so they see every packet, whatever conntrack knows, and after anti-spoofing:
 * the source is the sender's own. That found out, with the sender, that it has a class (MARKED): packets of others meet one rule
 * here. VXLAN copies the class to the outer header (addVxlan).
 */
import { classid } from '../../../linux/classid.ts';
import { isV6 } from '../../../model/address.ts';
import type { RouterFeature } from './feature.ts';
import { DEFAULT_PRIORITY, MARKED } from './marks.ts';

const CLASSES = Array.from({ length: 64 }, (_, dscp) => dscp);

/** Names of the maps by IP version, to be filled with dscpElement. */
export const DSCP_MAPS = { 4: 'dscps', 6: 'dscps6' } as const;

/** Packets from `address`, of the map's IP version, get this class: 0 to 63. */
export const dscpElement = (address: string, dscp: number): string => `${address} : ${classid(dscp)}`;

/** Maps and chains, to stand inside `table inet …`. */
export function dscpChains(): string {
  const verdicts = CLASSES.map((dscp) => `${classid(dscp)} : goto dscp_${dscp}`).join(', ');
  return `
map ${DSCP_MAPS[4]} { type ipv4_addr : classid; }
map ${DSCP_MAPS[6]} { type ipv6_addr : classid; }
${CLASSES.map((dscp) => `chain dscp_${dscp} { meta priority set none; ip dscp set ${dscp}; ip6 dscp set ${dscp}; }`).join('\n')}
chain dscp_set { meta priority vmap { ${verdicts} }; }
`;
}

/** Rules for a chain that packets from containers pass behind anti-spoofing; it goes on after them. */
export const dscpRules = (): string[] => [
  `meta priority set ip saddr map @${DSCP_MAPS[4]} jump dscp_set`,
  `meta priority set ip6 saddr map @${DSCP_MAPS[6]} jump dscp_set`,
];

export const dscp: RouterFeature = {
  own: `${dscpChains()}chain marked {
  meta mark set meta mark ^ ${MARKED}
  ${dscpRules().join('\n  ')}${DEFAULT_PRIORITY}
}`,
  rules: { forward: `meta mark & ${MARKED} != 0 jump marked` },
  elements: {
    port({ addresses, dscp }, add) {
      if (dscp === undefined) return;
      for (const address of addresses) add(DSCP_MAPS[isV6(address) ? 6 : 4], '', dscpElement(address, dscp));
    },
  },
};
