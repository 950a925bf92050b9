/** What a container is attached to, as all runtimes mean it. */
import { overlap, parseSubnet, subnetPrefix } from '../../model/address.ts';
import type { KnownNetwork, View } from '../intent/view.ts';

export interface Target {
  readonly tenant: string;
  readonly network: string;
  /** '' for none. */
  readonly group: string;
}

export function networkOf(view: Pick<View, 'networks'>, { tenant, network: name }: Target): KnownNetwork {
  const network = view.networks.get(`${tenant}:${name}`);
  if (network === undefined)
    throw new Error(
      `network ${tenant}:${name} does not exist: create it with netctl net create ${name} -t ${tenant} --subnet=...`,
    );
  return network;
}

/** The MAC address that goes with an IPv4 address: 02:02 and its four bytes, as 1.x has it. */
export function macOf(ipv4: string): string {
  return ['02', '02', ...ipv4.split('.').map((byte) => Number(byte).toString(16).padStart(2, '0'))].join(':');
}

/** A subnet of the second that overlaps with one of the first: of two such networks a container could reach only one. */
export function sharedSubnets(a: KnownNetwork, b: KnownNetwork): string | undefined {
  const subnetsOf = (n: KnownNetwork) =>
    [n.subnet, n.ipv6Subnet].flatMap((text) => (text ? (parseSubnet(subnetPrefix(text)) ?? []) : []));
  return [b.subnet, b.ipv6Subnet].find((text) => {
    const subnet = text ? parseSubnet(subnetPrefix(text)) : undefined;
    return subnet !== undefined && subnetsOf(a).some((other) => overlap(subnet, other));
  });
}
