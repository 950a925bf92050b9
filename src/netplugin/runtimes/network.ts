/** What a container is attached to, as all runtimes mean it. */
import { overlap, parseSubnet, subnetPrefix } from '../../model/address.ts';
import { subnetsOf } from '../../model/families.ts';
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

/** A subnet of the second that overlaps with one of the first: of two such networks a container could reach only one. */
export function sharedSubnets(a: KnownNetwork, b: KnownNetwork): string | undefined {
  const parsed = (text: string) => parseSubnet(subnetPrefix(text)) ?? [];
  return subnetsOf(b).find((text) =>
    [parsed(text)].flat().some((subnet) =>
      subnetsOf(a)
        .flatMap(parsed)
        .some((other) => overlap(subnet, other)),
    ),
  );
}
