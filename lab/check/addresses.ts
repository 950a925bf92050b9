import type { Cluster, Comparison } from './world.ts';

/** As many addresses of each network are given out as containers, services and hosts have. */
export const addresses: Comparison<Cluster> = ({ networks, running, own, services, swarmServices }, say) => {
  for (const { tenantName, networkName, allocated } of networks) {
    const key = `${tenantName}:${networkName}`;
    const inUse =
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
