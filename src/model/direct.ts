/**
 * Networks of encapsulation direct: on the link between hosts packets are as containers send them, so an address of theirs means one thing
 * there and on each host. What overlaps is refused, whichever of the two comes later: here what netmaster knows of, networks of other
 * tenants and what hosts say that they have routes to; what comes on a host later is said of the host (netplugin/condition.ts).
 */
import { contains, numberAddress, overlap, parseSubnet } from './address.ts';
import { subnetsOf } from './families.ts';
import type { Host } from './host.ts';
import type { Problem, World } from './kind.ts';
import { subnetIndex } from './subnetIndex.ts';

/** Of a network what counts here. */
export interface Placed {
  readonly tenantName: string;
  readonly networkName: string;
  readonly encap?: string;
  readonly subnet?: string;
  readonly ipv6Subnet?: string;
}

export const isDirect = ({ encap }: { readonly encap?: string }): boolean => encap === 'direct';

/** Of a host what says where it is on the link; without `link` it has not told, as one that is away. */
export type OnLink = Pick<Host, 'underlay' | 'link'>;

/** Whether two hosts send to each other without a router between: each is within the prefix of the other, as far as it has told one. */
export function shareLink(one: OnLink, other: OnLink): boolean {
  const has = ({ link }: OnLink, { underlay }: OnLink): boolean => {
    const prefix = link === undefined ? undefined : parseSubnet(link);
    return link === undefined || (prefix !== undefined && contains(prefix, underlay));
  };
  return has(one, other) && has(other, one);
}

/** The host's own address is among them, whatever else it says. */
export const prefixesOf = ({ underlay, prefixes = [] }: Host): string[] => [
  `${underlay}/${underlay.includes(':') ? 128 : 32}`,
  ...prefixes,
];

const networks = subnetIndex<Placed>('network', (n) => ({ scope: '', subnets: subnetsOf(n) }));
const directNetworks = subnetIndex<Placed>('network', (n) => ({
  scope: '',
  subnets: isDirect(n) ? subnetsOf(n) : [],
}));
const hosts = subnetIndex<Host>('host', (host) => ({ scope: '', subnets: prefixesOf(host) }));

/** Field of a network, and what its subnet overlaps of these, the widest of it; undefined: nothing. */
export function overlapped(
  n: Placed,
  others: readonly (string | undefined)[],
): { readonly field: 'subnet' | 'ipv6Subnet'; readonly prefix: string } | undefined {
  const parsed = others.flatMap((text) => (text ? (parseSubnet(text) ?? []) : []));
  for (const field of ['subnet', 'ipv6Subnet'] as const) {
    const own = n[field] ? parseSubnet(n[field]) : undefined;
    if (own === undefined) continue;
    const [widest] = parsed.filter((other) => overlap(own, other)).sort((a, b) => a.length - b.length);
    if (widest !== undefined)
      return { field, prefix: `${numberAddress(widest.network, widest.family)}/${widest.length}` };
  }
  return undefined;
}

export function checkDirect(
  n: Placed,
  world: World,
  wrong: (field: 'subnet' | 'ipv6Subnet', text: string, status?: Problem['status']) => Problem,
): Problem | undefined {
  const direct = isDirect(n);
  for (const other of (direct ? networks : directNetworks).near(world, '', subnetsOf(n))) {
    if (other.tenantName === n.tenantName) continue; // within a tenant nothing overlaps
    const found = overlapped(n, subnetsOf(other));
    if (found === undefined) continue;
    const problem = (what: string): Problem =>
      wrong(
        found.field,
        direct
          ? `overlaps ${what}: with encap direct it must overlap no other tenant's; choose another one, or encap vxlan`
          : `overlaps ${what}, whose encap is direct, so that no other tenant may have its addresses; choose another one`,
        409,
      );
    const { tenantName: tenant, networkName } = other;
    return {
      ...problem(`${found.prefix} of network ${tenant}:${networkName}`),
      elsewhere: { tenant, message: problem("another tenant's network").message },
    };
  }
  if (!direct) return undefined;
  for (const host of hosts.near(world, '', subnetsOf(n))) {
    const found = overlapped(n, prefixesOf(host));
    if (found !== undefined)
      return wrong(
        found.field,
        `overlaps ${found.prefix}, to which host ${host.name} has a route: with encap direct its addresses must mean nothing else on any host; choose another one, or encap vxlan`,
        409,
      );
  }
  return undefined;
}
