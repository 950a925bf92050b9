/**
 * What a container has of us inside: what its runtime is told when it joins, or what we set up ourselves, and what is put right
 * there when its own hands have lost it.
 */
import { halves, subnetPrefix } from '../../model/address.ts';
import { NAMESERVER, NAMESERVER6 } from '../constants.ts';
import type { Attachment, KnownNetwork, View, WatchedNetwork } from '../intent/view.ts';
import type { Inside } from '../state.ts';

/** Of an attachment; `before`: those that the same container had when it joined. */
export function insideOf(
  network: WatchedNetwork,
  { endpoint, end }: Pick<Attachment, 'endpoint' | 'end'>,
  before: readonly Attachment[],
  view: Pick<View, 'networks'>,
): Inside {
  const [ipv4 = '', ipv6] = endpoint.ipAddress;
  const length = subnetPrefix(network.subnet).split('/')[1];
  const others = before.map(({ endpoint: e }) => ({
    hasIpv6: e.ipAddress.length > 1,
    network: view.networks.get(`${e.tenantName}:${e.networkName}`),
  }));
  const routes = staticRoutes(network, ipv6 !== undefined, {
    any: before.length > 0,
    nameserver6: others.some((o) => o.hasIpv6 && !o.network?.ipv6Gateway),
  });
  return {
    // IPv6 neighbours cannot be proxied for a whole subnet: the container sends everything to the gateway.
    addresses: [`${ipv4}/${length}`, ...(ipv6 === undefined ? [] : [`${ipv6}/128`])],
    routes: end === undefined ? routes : [...routes, ...defaultRoutes(network, ipv6 !== undefined, others)],
    gateways: [network.gateway, ipv6 === undefined ? '' : network.ipv6Gateway].filter((g) => g) as string[],
  };
}

/** Where no runtime makes them: by the first network of the container that has a gateway. */
function defaultRoutes(
  network: WatchedNetwork,
  hasIpv6: boolean,
  before: readonly { readonly hasIpv6: boolean; readonly network: KnownNetwork | undefined }[],
): Inside['routes'] {
  const [has, has6] = [
    before.some((o) => o.network?.gateway),
    before.some((o) => o.hasIpv6 && o.network?.ipv6Gateway),
  ];
  return [
    ...(network.gateway && !has ? [{ destination: '0.0.0.0/0', via: network.gateway }] : []),
    ...(hasIpv6 && network.ipv6Gateway && !has6 ? [{ destination: '::/0', via: network.ipv6Gateway }] : []),
  ];
}

/**
 * What a container needs beside its subnet and the default route that Docker makes from one of its networks: the
 * subnet's halves by the gateway, so that the container keeps one neighbour, not one for each peer (the kernel's
 * limit, gc_thresh3 of 1024, is for all containers of a machine together); a way to the nameserver, which without a gateway
 * takes its part; with IPv6, where it has /128, a way to the network. Docker fails where two networks of a
 * container give the same route, so what any of them can serve comes from the first.
 */
function staticRoutes(
  network: WatchedNetwork,
  hasIpv6: boolean,
  siblings: { any: boolean; nameserver6: boolean },
): Inside['routes'] {
  const routes: { destination: string; via?: string }[] = [];
  const nextHop4 = network.gateway || (siblings.any ? undefined : NAMESERVER);
  if (nextHop4 !== undefined) {
    routes.push({ destination: `${nextHop4}/32` }); // else Docker finds its gateway behind itself, in one of the halves
    // The default route may lead elsewhere: to Docker's bridge, where nobody answers for the nameserver.
    if (nextHop4 !== NAMESERVER && !siblings.any)
      routes.push({ destination: `${NAMESERVER}/32`, via: nextHop4 });
    for (const half of halves(network.subnet)) routes.push({ destination: half, via: nextHop4 });
  }
  if (hasIpv6) {
    const nextHop = network.ipv6Gateway || NAMESERVER6;
    if (network.ipv6Gateway || !siblings.nameserver6) routes.push({ destination: `${nextHop}/128` });
    routes.push({ destination: subnetPrefix(network.ipv6Subnet as string), via: nextHop });
  }
  return routes;
}
