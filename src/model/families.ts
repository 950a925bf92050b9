/** Versions of IP of a network: it has a subnet of one or of both. */

/** Of a network what says so. */
export interface Addressed {
  readonly subnet?: string | undefined;
  readonly ipv6Subnet?: string | undefined;
  readonly gateway?: string | undefined;
  readonly ipv6Gateway?: string | undefined;
}

/** As it is written; undefined: it has none of that family. */
export const subnetOf = (n: Addressed, family: 4 | 6): string | undefined =>
  (family === 4 ? n.subnet : n.ipv6Subnet) || undefined;

export const gatewayOf = (n: Addressed, family: 4 | 6): string | undefined =>
  (family === 4 ? n.gateway : n.ipv6Gateway) || undefined;

/** IPv4 first, as addresses of endpoints are. */
export const familiesOf = (n: Addressed): (4 | 6)[] =>
  ([4, 6] as const).filter((family) => subnetOf(n, family) !== undefined);

export const subnetsOf = (n: Addressed): string[] =>
  familiesOf(n).map((family) => subnetOf(n, family) as string);

/** By which it is counted, and its services have their virtual addresses: IPv4 wherever it has that. */
export const mainFamily = (n: Addressed): 4 | 6 => (n.subnet ? 4 : 6);
