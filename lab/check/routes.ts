import { isV6 } from './docker.ts';
import { type Comparison, type Router, segmentOf, tagMac, tagOf } from './world.ts';

/** A route to each container: here by its port, elsewhere by its network's tunnel or VLAN, or by the hosts' link, to its host; to the host itself in infra networks; and to nobody else. */
export const routes: Comparison<Router> = (
  { where, cluster, host, routes: all, neighbours, local, remote, own },
  say,
) => {
  const hostRoutes = new Map(
    all
      .filter((r) => r.protocol === '199' && !r.dst.includes('/') && r.dst !== 'default')
      .map((r) => [r.dst, r]),
  );
  const places = new Map(cluster.places.map((h) => [h.name, h]));
  /** Where a group has a VLAN of its own its host is in that by another address of Ethernet's. */
  const macOf = (hop: string | undefined, dev: string | undefined): string | undefined =>
    neighbours.find((n) => n.dst === hop && n.dev === dev)?.lladdr;
  for (const r of local)
    for (const a of r.addresses) {
      const route = hostRoutes.get(a);
      hostRoutes.delete(a);
      if (!route?.dev?.startsWith('ct')) say(`${where}: no route to ${a} of ${r.container} here`);
    }
  for (const r of remote)
    for (const a of r.addresses) {
      const route = hostRoutes.get(a);
      hostRoutes.delete(a);
      const segment = segmentOf(host, r);
      const place = places.get(r.host);
      const tag = tagOf(cluster, r);
      const hop = route?.via?.host ?? route?.gateway;
      const leads =
        tag === undefined
          ? isV6(a) || hop === place?.address
          : place !== undefined && macOf(hop, route?.dev) === tagMac(place, tag);
      const right = route?.dev === segment && leads;
      if (segment !== '' && !right) say(`${where}: no route to ${a} of ${r.container} on ${r.host}`);
    }
  for (const a of own) {
    if (hostRoutes.get(a)?.dev !== 'uplink') say(`${where}: no route to ${a} of this host`);
    hostRoutes.delete(a);
  }
  for (const a of hostRoutes.keys()) say(`${where}: route to ${a}, which nobody has`);
};
