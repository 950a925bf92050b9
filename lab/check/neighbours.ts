import { type Comparison, four, type Router, vlansOf } from './world.ts';

/** Who is of the cluster is known for good. On a VLAN there are others, which are learned. */
export const learned: Comparison<Router> = ({ where, cluster, tenant, neighbours }, say) => {
  const gateways = cluster.networks
    .filter((n) => n.tenantName === tenant && !n.externalGateway)
    .map((n) => n.gateway);
  const ours = new Set<string | undefined>([...four(cluster.running), ...four(cluster.own), ...gateways]);
  const isWired = (device: string): boolean => vlansOf(cluster, tenant).some((v) => v.device === device);
  for (const { dst, dev, lladdr, state } of neighbours) {
    if (state.includes('PERMANENT') || state.includes('NOARP')) continue;
    if (isWired(dev) && (lladdr === undefined || !ours.has(dst))) continue;
    say(`${where}: neighbour ${dst} was learned`);
  }
};

/** Each container here is known for good, by its address and MAC, and nobody else. */
export const atPorts: Comparison<Router> = ({ where, neighbours, routes, local }, say) => {
  const devOf = (address: string) => routes.find((r) => r.dst === address && r.protocol === '199')?.dev ?? '';
  const wanted = new Map(local.flatMap((r) => r.addresses.map((a) => [a, r] as const)));
  const permanent = neighbours.filter((n) => n.dev.startsWith('ct') && n.state.includes('PERMANENT'));
  // At each of a container's ports is what it may ask by: its other networks' addresses too, and a link-local one.
  for (const n of permanent.filter((n) => devOf(n.dst) === n.dev)) {
    const r = wanted.get(n.dst);
    wanted.delete(n.dst);
    if (r === undefined) say(`${where}: neighbour ${n.dst}, which nobody here has`);
    else if (r.mac !== n.lladdr) say(`${where}: neighbour ${n.dst} has ${n.lladdr}, runs with ${r.mac}`);
  }
  for (const a of wanted.keys()) say(`${where}: no neighbour entry for ${a}`);
};
