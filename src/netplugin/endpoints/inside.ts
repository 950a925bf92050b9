/**
 * What a container has of us inside: what its runtime is told when it joins, or what we set up ourselves, and what is put right
 * there when its own hands have lost it.
 */
import { halves, isV6, subnetPrefix } from '../../model/address.ts';
import { gatewayOf, subnetOf } from '../../model/families.ts';
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
  const { ipAddress } = endpoint;
  const has = familiesIn(ipAddress).filter((family) => subnetOf(network, family) !== undefined);
  const others = before.map(({ endpoint: e }) => ({
    has: familiesIn(e.ipAddress),
    network: view.networks.get(`${e.tenantName}:${e.networkName}`),
  }));
  const routes = staticRoutes(network, has, {
    ipv4: others.some((o) => o.has.includes(4)),
    nameserver6: others.some((o) => o.has.includes(6) && !o.network?.ipv6Gateway),
  });
  const length = network.subnet ? subnetPrefix(network.subnet).split('/')[1] : '32';
  return {
    // IPv6 neighbours cannot be proxied for a whole subnet: the container sends everything to the gateway.
    addresses: ipAddress.map((address) => `${address}/${isV6(address) ? '128' : length}`),
    routes: end === undefined ? routes : [...routes, ...defaultRoutes(network, has, others)],
    gateways: has.flatMap((family) => gatewayOf(network, family) ?? []),
  };
}

const familiesIn = (addresses: readonly string[]): readonly (4 | 6)[] =>
  ([4, 6] as const).filter((family) => addresses.some((a) => isV6(a) === (family === 6)));

/** Where no runtime makes them: by the first network of the container that has a gateway. */
function defaultRoutes(
  network: WatchedNetwork,
  has: readonly (4 | 6)[],
  before: readonly { readonly has: readonly (4 | 6)[]; readonly network: KnownNetwork | undefined }[],
): Inside['routes'] {
  return has.flatMap((family) => {
    const via = gatewayOf(network, family);
    const is = before.some((o) => o.has.includes(family) && o.network && gatewayOf(o.network, family));
    return via === undefined || is ? [] : [{ destination: family === 4 ? '0.0.0.0/0' : '::/0', via }];
  });
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
  has: readonly (4 | 6)[],
  siblings: { ipv4: boolean; nameserver6: boolean },
): Inside['routes'] {
  const routes: { destination: string; via?: string }[] = [];
  const nextHop4 = network.gateway || (siblings.ipv4 ? undefined : NAMESERVER);
  if (has.includes(4) && nextHop4 !== undefined) {
    routes.push({ destination: `${nextHop4}/32` }); // else Docker finds its gateway behind itself, in one of the halves
    // The default route may lead elsewhere: to Docker's bridge, where nobody answers for the nameserver.
    if (nextHop4 !== NAMESERVER && !siblings.ipv4)
      routes.push({ destination: `${NAMESERVER}/32`, via: nextHop4 });
    for (const half of halves(network.subnet as string)) routes.push({ destination: half, via: nextHop4 });
  }
  if (has.includes(6)) {
    const nextHop = network.ipv6Gateway || NAMESERVER6;
    if (network.ipv6Gateway || !siblings.nameserver6) routes.push({ destination: `${nextHop}/128` });
    routes.push({ destination: subnetPrefix(network.ipv6Subnet as string), via: nextHop });
  }
  return routes;
}
