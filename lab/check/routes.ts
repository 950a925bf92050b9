import { isV6 } from './docker.ts';
import { type Comparison, type Router, segmentOf } from './world.ts';

/** A route to each container: here by its port, elsewhere by its network's tunnel or VLAN, or by the hosts' link, to its host; to the host itself in infra networks; and to nobody else. */
export const routes: Comparison<Router> = (
  { where, cluster, host, routes: all, local, remote, own },
  say,
) => {
  const hostRoutes = new Map(
    all
      .filter((r) => r.protocol === '199' && !r.dst.includes('/') && r.dst !== 'default')
      .map((r) => [r.dst, r]),
  );
  const underlay = new Map(cluster.places.map((h) => [h.name, h.address]));
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
      const right = route?.dev === segment && (isV6(a) || route.gateway === underlay.get(r.host));
      if (segment !== '' && !right) say(`${where}: no route to ${a} of ${r.container} on ${r.host}`);
    }
  for (const a of own) {
    if (hostRoutes.get(a)?.dev !== 'uplink') say(`${where}: no route to ${a} of this host`);
    hostRoutes.delete(a);
  }
  for (const a of hostRoutes.keys()) say(`${where}: route to ${a}, which nobody has`);
};
