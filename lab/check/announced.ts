/** What the fabric is told by BGP: each host the containers and services that it runs, of networks that advertise, and nothing else. */
import ipaddr from 'ipaddr.js';
import { tryRun } from '../shell.ts';
import { onHost, ROUTER_ADDRESS } from '../state.ts';
import { isV6 } from './docker.ts';
import type { Cluster, Comparison, Host, Route } from './world.ts';

/** Of the kernel routes that are announced. */
const PROTOCOL = '200';

const speaksTo = (cluster: Cluster, host: string): readonly string[] =>
  cluster.bgps.flatMap((b) => (b.hostname === host && b.neighbor ? b.neighbor.split(',') : []));

/** Addresses of a host that it should tell. */
function announcedBy(cluster: Cluster, host: string): string[] {
  if (speaksTo(cluster, host).length === 0) return [];
  const told = cluster.networks.filter((n) => n.advertise);
  const of = (tenant: string, network: string) =>
    told.find((n) => n.tenantName === tenant && n.networkName === network);
  const here = cluster.running.filter((r) => r.host === host);
  const containers = here.flatMap((r) => {
    const network = of(r.tenant, r.network);
    return network === undefined
      ? []
      : r.addresses.filter((a) => (isV6(a) ? network.ipv6Gateway : network.gateway));
  });
  const services = cluster.services.flatMap(({ tenantName, networkName, selectors, vip }) =>
    of(tenantName, networkName) !== undefined &&
    here.some(
      (r) =>
        r.tenant === tenantName &&
        r.answering &&
        selectors.every((s) => r.labels[s.split('=')[0] as string] === s.split('=')[1]),
    )
      ? [vip]
      : [],
  );
  return [...containers, ...services, ...served(cluster, host)];
}

/** Of an orchestrator's services: each address once. */
function served(cluster: Cluster, host: string): string[] {
  const prefixes = cluster.bgps
    .filter((b) => b.hostname === host)
    .flatMap((b) => b.services?.split(',') ?? [])
    .map((text) => ipaddr.parseCIDR(text.trim()));
  const isIn = (address: string): boolean => {
    const parsed = ipaddr.parse(address);
    return prefixes.some((p) => p[0].kind() === parsed.kind() && parsed.match(p));
  };
  const addresses = cluster.clusterServices
    .filter((s) => cluster.running.some((r) => r.host === host && r.tenant === s.tenantName))
    .flatMap((s) => {
      const ready = (address: string): boolean =>
        s.ports.some(({ backends }) =>
          backends.some(
            (b) =>
              isV6(b.address) === isV6(address) &&
              b.ready &&
              (s.externalTraffic !== 'local' || b.host === host),
          ),
        );
      return [...s.addresses, ...(s.externalAddresses ?? [])].filter((a) => isIn(a) && ready(a));
    });
  return [...new Set(addresses)];
}

async function routesAt(lab: string, host: string): Promise<Route[]> {
  const lists = ['-4', '-6'].map((family) => tryRun(...onHost(lab, host, 'ip', family, '-j', 'route')));
  return (await Promise.all(lists)).flatMap((text) => JSON.parse(text || '[]') as Route[]);
}

/** At the host: what its daemon is to tell. */
export const announced: Comparison<Host> = async ({ name, cluster }, say) => {
  const have = new Set(
    (await routesAt(cluster.lab, name)).flatMap((r) => (r.protocol === PROTOCOL ? [r.dst] : [])),
  );
  for (const address of announcedBy(cluster, name))
    if (!have.delete(address)) say(`${name}: ${address} is not announced`);
  for (const address of have) say(`${name}: ${address} is announced, which is not to be`);
};

/** At the fabric's router: what came of that. */
export const told: Comparison<Cluster> = async (cluster, say) => {
  if (!cluster.fabric) return;
  type Hop = { readonly gateway?: string };
  const routes = (await routesAt(cluster.lab, 'tor')) as (Route & { readonly nexthops?: Hop[] })[];
  const ways = routes.flatMap(({ protocol, dst, gateway, nexthops }) =>
    protocol === 'bgp' && !isV6(dst) ? (nexthops ?? [{ gateway }]).map((hop) => `${dst} ${hop.gateway}`) : [],
  );
  const have = new Set(ways);
  for (const { name, address } of cluster.places) {
    if (!speaksTo(cluster, name).includes(ROUTER_ADDRESS)) continue;
    for (const told of announcedBy(cluster, name).filter((a) => !isV6(a)))
      if (!have.delete(`${told} ${address}`)) say(`tor: no route to ${told} at ${name}`);
  }
  for (const way of have) say(`tor: route to ${way.replace(' ', ' by ')}, which nobody announces`);
};
