import { type Cluster, type Comparison, four, isIn } from './world.ts';

/** As many addresses of each network are given out as containers, services, hosts and external endpoints have. */
export const addresses: Comparison<Cluster> = (cluster, say) => {
  const { networks, running, own, externals, services, swarmServices } = cluster;
  for (const { tenantName, networkName, subnet, allocated } of networks) {
    const key = `${tenantName}:${networkName}`;
    const machines = four(externals.filter((r) => `${r.tenant}:${r.network}` === key));
    const inUse =
      machines.filter((address) => isIn({ subnet }, address)).length +
      [...running, ...own].filter((r) => `${r.tenant}:${r.network}` === key).length +
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
