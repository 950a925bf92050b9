import type { Cluster, Comparison } from './world.ts';

/** netmaster has each container that runs as it runs, and no other. */
export const endpoints: Comparison<Cluster> = (cluster, say) => {
  const known = new Map(cluster.endpoints.map((e) => [e.endpointID, e]));
  for (const r of cluster.running) {
    const e = known.get(r.endpoint);
    known.delete(r.endpoint);
    const what = `netmaster: ${r.container} on ${r.host}`;
    if (e === undefined) {
      say(`${what} has no endpoint`);
      continue;
    }
    const pairs: [string, unknown, unknown][] = [
      ['host', e.homingHost, r.host],
      ['name', e.containerName ?? e.endpointID, r.container],
      ['network', `${e.tenantName}:${e.networkName}`, `${r.tenant}:${r.network}`],
      ['group', e.groupName ?? '', r.group],
      ['addresses', e.ipAddress.join(), r.addresses.join()],
      ['mac', e.macAddress, r.mac],
    ];
    for (const [field, have, want] of pairs)
      if (have !== want) say(`${what}: ${field} is ${have}, runs with ${want}`);
  }
  const reached = new Set(
    cluster.networks
      .filter((n) => n.hostAccess || (n.encap === 'vlan' && cluster.fabric))
      .map((n) => `${n.tenantName}:${n.networkName}`),
  );
  for (const { name } of cluster.places)
    for (const key of reached) {
      const own = [...known.values()].find(
        (e) => e.ofHost && e.homingHost === name && `${e.tenantName}:${e.networkName}` === key,
      );
      if (own === undefined) say(`netmaster: host ${name} has no address of its own in network ${key}`);
      else known.delete(own.endpointID);
    }
  for (const e of known.values())
    say(
      `netmaster: endpoint ${e.endpointID.slice(0, 12)} (${e.containerName}) on ${e.homingHost}: no such container runs`,
    );
};
