/** The network of pods that name none: created where it is not there, and then left as it is. */
import { numberAddress, parseSubnet } from '../model/address.ts';
import type { Actual } from './netmaster.ts';
import type { Plain, Source } from './source.ts';

export interface PodNetwork {
  readonly tenant: string;
  readonly network: string;
  readonly subnet: string;
  /** '' for none. */
  readonly subnet6: string;
}

/** Of a prefix, its first host address. */
function gatewayOf(text: string): string {
  const subnet = parseSubnet(text);
  if (subnet === undefined) throw new Error(`'${text}' is not a subnet`);
  return numberAddress(subnet.network + 1n, subnet.family);
}

export function podNetwork(
  { tenant, network, subnet, subnet6 }: PodNetwork,
  actual: () => Actual,
  refused: (message: string) => void,
): Source {
  const own = `${tenant}:${network}`;
  const object: Plain = {
    tenantName: tenant,
    networkName: network,
    subnet,
    gateway: gatewayOf(subnet),
    // kubelet asks pods whether they are alive.
    hostAccess: true,
    ...(subnet6 ? { ipv6Subnet: subnet6, ipv6Gateway: gatewayOf(subnet6) } : {}),
  };
  return {
    kind: 'network',
    collection: 'networks',
    ready: () => true,
    keys: () => [own],
    want: (key) => (key === own && actual().text('network', key) === undefined ? object : undefined),
    owns: () => false,
    tell(_, outcome) {
      if (!outcome.accepted) refused(outcome.message);
    },
    wait: 2,
  };
}
