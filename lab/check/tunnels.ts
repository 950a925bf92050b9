import type { Comparison, Router } from './world.ts';

/** Each tunnel leads to the hosts with containers of the tenant, and nowhere else. */
export const tunnels: Comparison<Router> = async ({ where, cluster, host, ns, devices, remote }, say) => {
  const underlay = new Map(cluster.places.map((h) => [h.name, h.address]));
  const peers = new Set(remote.map((r) => underlay.get(r.host) as string));
  for (const { ifname } of devices.filter((l) => l.ifname.startsWith('vx'))) {
    const entries = JSON.parse(await host.at('bridge', '-n', ns, '-j', 'fdb', 'show', 'dev', ifname)) as {
      dst?: string;
    }[];
    const fdb = entries.flatMap(({ dst }) => dst ?? []);
    for (const p of peers) if (!fdb.includes(p)) say(`${where}: ${ifname} has no forwarding entry to ${p}`);
    for (const d of fdb) if (!peers.has(d)) say(`${where}: ${ifname} has a stray forwarding entry to ${d}`);
  }
};
