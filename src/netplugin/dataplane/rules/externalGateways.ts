/**
 * Routers of the fabric's own on a VLAN, as its network's gateways: what of outside comes by them, and what does not go to them.
 *
 *   in     from addresses that nobody of the tenant's has, by the MAC address at which the gateway answers (`ways`, which the agent reads from
 *          the kernel's neighbours): to containers of that network, as from a machine on its wire. From another network with such a
 *          gateway too, since that is how the fabric goes between its VLANs; from all other networks of the tenant only routers of ours lead
 *   out    by the network's own table of routes (entries.ts), with the container's address
 *   back   of a connection that came in by the exit, as to a published port, by the exit: its packets are marked for the rule that says so
 *
 * By which MAC address he sends, whoever is on a wire may choose: that nobody there sends by the gateway's is the switch's to see to.
 */
import { isV6 } from '../../../model/address.ts';
import type { Router, Subnet } from '../../state.ts';
import { once } from '../parts.ts';
import { PORTS } from './devices.ts';
import { familyName, outsideAddresses } from './egress.ts';
import type { RouterFeature, RouterVariant } from './feature.ts';
import { BACK } from './marks.ts';

/** A network here has a router of the fabric's own as its gateway. */
export const hasExternalGateways = ({ vlans = [] }: Pick<Router, 'vlans'>): boolean =>
  vlans.some((vlan) => vlan.gateways !== undefined);

/** Part of a router's subnets. */
export const homesOf = once((subnets: readonly Subnet[]) => ({
  homes: subnets.filter((s) => !s.externalGateway).map((s) => s.prefix),
}));

const where =
  (text: (variant: RouterVariant) => string) =>
  (variant: RouterVariant): string =>
    variant.externalGateways ? text(variant) : '';

const returning = ({ exit }: RouterVariant): string =>
  outsideAddresses(exit)
    .map(
      (address) =>
        `iifname ${PORTS} ct direction reply ct original ${familyName(address)} daddr ${address} meta mark set meta mark | ${BACK}`,
    )
    .join('\n');

/** Reserved ones are nobody's, whoever leads here from them. */
const refused = ({ exit }: RouterVariant): string =>
  exit === undefined
    ? ''
    : `ip saddr ${exit.transit} counter name "foreign" drop\nip6 saddr ${exit.transit6} counter name "foreign" drop`;

export const externalGateways: RouterFeature = {
  own: where(
    (variant) => `
map ways { type ifname . ether_addr : mark; }
set homes { type ipv4_addr; flags interval; }
set homes6 { type ipv6_addr; flags interval; }
chain by_gateway {
  ip saddr @homes counter name "foreign" drop
  ip6 saddr @homes6 counter name "foreign" drop
  ${refused(variant)}
  meta nfproto ipv4 meta mark set iifname . ether saddr map @ways goto sent
  meta nfproto ipv6 meta mark set iifname . ether saddr map @ways goto sent6
  counter name "foreign" drop
}
chain back {
  type filter hook prerouting priority -150; policy accept;
  ${returning(variant)}
}`,
  ),
  rules: {
    forward: where(() => `meta mark & ${BACK} != 0 meta mark set meta mark ^ ${BACK}`),
  },
  elements: {
    ways(ways, add) {
      for (const { device, mac, network } of ways) add('ways', '', `"${device}" . ${mac} : ${network}`);
    },
    homes({ homes }, add) {
      for (const prefix of homes) add(isV6(prefix) ? 'homes6' : 'homes', '', prefix);
    },
  },
};
