import type { Running } from './docker.ts';
import { allAddresses, type Cluster, type Comparison, isCounted, isIn } from './world.ts';

/** As many addresses of each network are given out as containers, services, hosts and external endpoints have. */
export const addresses: Comparison<Cluster> = (cluster, say) => {
  const { networks, running, own, externals, services, swarmServices } = cluster;
  for (const network of networks) {
    const { tenantName, networkName, subnet, ipv6Subnet = '', allocated } = network;
    const key = `${tenantName}:${networkName}`;
    const addressesOf = (list: readonly Running[]): string[] =>
      allAddresses(list.filter((r) => `${r.tenant}:${r.network}` === key)).filter((a) =>
        isCounted(network, a),
      );
    const inUse =
      addressesOf(externals).filter((address) => isIn(subnet ?? ipv6Subnet, address)).length +
      addressesOf([...running, ...own]).length +
      [...services, ...swarmServices.filter((s) => s.virtualAddress !== undefined)].filter(
        (s) => `${s.tenantName}:${s.networkName}` === key,
      ).length;
    const given = allocated.allocatedAddressesCount ?? 0;
    if (given !== inUse)
      say(
        `netmaster: network ${key} has ${given} addresses given out (with the gateway ${allocated.allocatedIPAddresses}), ${inUse} are in use`,
      );
  }
};
