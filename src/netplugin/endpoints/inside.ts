/**
 * What a container has of us inside: what its runtime is told when it joins, and what is put right there when its own hands
 * have lost it.
 */
import { halves, subnetPrefix } from '../../model/address.ts';
import { NAMESERVER, NAMESERVER6 } from '../constants.ts';
import type { Attachment, View, WatchedNetwork } from '../intent/view.ts';
import type { Inside } from '../state.ts';

/** Of an attachment with these addresses (IPv4 first); `before`: those that the same container had when it joined. */
export function insideOf(
  network: WatchedNetwork,
  addresses: readonly string[],
  before: readonly Attachment[],
  view: Pick<View, 'networks'>,
): Inside {
  const [ipv4 = '', ipv6] = addresses;
  const length = subnetPrefix(network.subnet).split('/')[1];
  return {
    // IPv6 neighbours cannot be proxied for a whole subnet: the container sends everything to the gateway.
    addresses: [`${ipv4}/${length}`, ...(ipv6 === undefined ? [] : [`${ipv6}/128`])],
    routes: staticRoutes(network, ipv6 !== undefined, {
      any: before.length > 0,
      nameserver6: before.some(({ endpoint: e }) => {
        const other = view.networks.get(`${e.tenantName}:${e.networkName}`);
        return e.ipAddress.length > 1 && !other?.ipv6Gateway;
      }),
    }),
    gateways: [network.gateway, ipv6 === undefined ? '' : network.ipv6Gateway].filter((g) => g) as string[],
  };
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
