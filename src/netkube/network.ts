/** The network of pods that name none: created where it is not there, and then left as it is. */
import { numberAddress, parseSubnet } from '../model/address.ts';
import type { Actual } from './netmaster.ts';
import type { Plain, Source } from './source.ts';

export interface PodNetwork {
  readonly tenant: string;
  readonly network: string;
  /** '' for none, of one of the two. */
  readonly subnet: string;
  readonly subnet6: string;
}

/** Of a prefix, its first host address. */
function gatewayOf(text: string): string {
  const subnet = parseSubnet(text);
  if (subnet === undefined) throw new Error(`'${text}' is not a subnet`);
  return numberAddress(subnet.network + 1n, subnet.family);
}

/** `declared`: networks that are declared in the cluster. What is said there of the network of pods counts. */
export function withPodNetwork(
  declared: Source,
  { tenant, network, subnet, subnet6 }: PodNetwork,
  actual: () => Actual,
  refused: (message: string) => void,
): Source {
  const own = `${tenant}:${network}`;
  const object: Plain = {
    tenantName: tenant,
    networkName: network,
    ...(subnet ? { subnet, gateway: gatewayOf(subnet) } : {}),
    // kubelet asks pods whether they are alive.
    hostAccess: true,
    ...(subnet6 ? { ipv6Subnet: subnet6, ipv6Gateway: gatewayOf(subnet6) } : {}),
  };
  return {
    ...declared,
    *keys() {
      yield own;
      yield* declared.keys();
    },
    want: (key) =>
      declared.want(key) ??
      (key === own && !declared.owns(key) && actual().text('network', key) === undefined
        ? object
        : undefined),
    tell(key, outcome) {
      declared.tell(key, outcome);
      if (key === own && !outcome.accepted) refused(outcome.message);
    },
  };
}
