/**
 * From what is known to what the kernel must hold: pure, the same answer for the same input.
 *
 *   view, local --routers--> Router: tunnels, ports, remotes     one for each tenant with attachments here
 *               --exits----> Exit: transit pair, published ports
 */
import { addressNumber, numberAddress, parseSubnet, subnetPrefix } from '../../model/address.ts';
import type { Endpoint } from '../../model/endpoint.ts';
import type { Exit, HostState, Port, Publication, Remote, Router, Tunnel } from '../state.ts';
import type { Attachment, LocalHost, View, WatchedNetwork } from '../view.ts';
import {
  exitDevice,
  peerDevice,
  portDevice,
  routerNamespace,
  tunnelDevice,
  vtepLinkLocal,
  vtepMac,
} from './names.ts';

/** Outer Ethernet, IP, UDP and VXLAN headers (RFC 7348). */
const ENCAPSULATION = { 4: 50, 6: 70 } as const;

export function compile(view: View, local: LocalHost): HostState {
  const byTenant = new Map<string, Attachment[]>();
  for (const attachment of local.attachments.values()) {
    const { tenantName } = attachment.endpoint;
    const known = view.networks.has(`${tenantName}:${attachment.endpoint.networkName}`);
    if (known) byTenant.set(tenantName, [...(byTenant.get(tenantName) ?? []), attachment]);
  }
  const tenants = [...byTenant.keys()].sort();
  const remotes = remoteEndpoints(view, local, byTenant);
  const networks = networksByTenant(view);
  const routers = tenants.map((tenant) =>
    router(
      tenant,
      byTenant.get(tenant) ?? [],
      networks.get(tenant) ?? [],
      remotes.get(tenant) ?? [],
      view,
      local,
    ),
  );
  return {
    routers,
    exits: routers.map((r) => exit(r, local)),
    guarded: local.guarded,
  };
}

const byFirst =
  <T>(key: (value: T) => string | number) =>
  (a: T, b: T): number =>
    key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0;

function networksByTenant(view: View): Map<string, WatchedNetwork[]> {
  const networks = new Map<string, WatchedNetwork[]>();
  for (const network of view.networks.values()) {
    const list = networks.get(network.tenantName);
    if (list === undefined) networks.set(network.tenantName, [network]);
    else list.push(network);
  }
  return networks;
}

/** Endpoints on other hosts, of the tenants that have some here. */
function remoteEndpoints(
  view: View,
  local: LocalHost,
  tenants: ReadonlyMap<string, unknown>,
): Map<string, Endpoint[]> {
  const remotes = new Map<string, Endpoint[]>();
  for (const endpoint of view.endpoints.values()) {
    if (endpoint.homingHost === local.name || !tenants.has(endpoint.tenantName)) continue;
    const list = remotes.get(endpoint.tenantName);
    if (list === undefined) remotes.set(endpoint.tenantName, [endpoint]);
    else list.push(endpoint);
  }
  return remotes;
}

function subnetsOf(network: WatchedNetwork): string[] {
  return [network.subnet, network.ipv6Subnet].filter((s) => s).map((s) => subnetPrefix(s as string));
}

function router(
  tenant: string,
  attachments: readonly Attachment[],
  networks: readonly WatchedNetwork[],
  endpoints: readonly Endpoint[],
  view: View,
  local: LocalHost,
): Router {
  const byName = new Map(networks.map((n) => [n.networkName, n]));
  const ports = attachments
    .map((a) => port(a, attachments, byName.get(a.endpoint.networkName), local))
    .sort(byFirst((p) => p.endpoint));
  // An address that has just moved here may still be listed at its old host.
  const own = new Set(ports.flatMap((p) => p.addresses));

  const remotes: Remote[] = [];
  const vteps = new Set<string>();
  for (const endpoint of endpoints) {
    const network = byName.get(endpoint.networkName);
    const vtep =
      view.hosts.get(endpoint.homingHost)?.underlay ?? local.lastUnderlays.get(endpoint.homingHost);
    if (network === undefined || vtep === undefined || vtep === local.underlay) continue;
    vteps.add(vtep);
    for (const address of endpoint.ipAddress)
      if (!own.has(address)) remotes.push({ address, device: tunnelDevice(network.vni), vtep });
  }
  remotes.sort(byFirst((r) => r.address));

  const peers = [...vteps]
    .sort()
    .map((vtep) => ({ vtep, linkLocal: vtepLinkLocal(vtep), mac: vtepMac(vtep) }));
  const tunnels: Tunnel[] = networks
    .filter((n) => n.encap !== 'vlan')
    .map((n) => ({
      vni: n.vni,
      device: tunnelDevice(n.vni),
      local: local.underlay,
      mac: vtepMac(local.underlay),
      mtu: overlayMtu(local),
      peers,
    }))
    .sort(byFirst((t) => t.vni));

  return {
    tenant,
    namespace: routerNamespace(tenant),
    tunnels,
    ports,
    subnets: networks.flatMap(subnetsOf).sort(),
    gateways: networks.flatMap(gatewaysOf).sort(),
    remotes,
    publications: attachments
      .flatMap((a) => a.publications)
      .sort(
        byFirst((p) => `${p.protocol} ${String(p.hostPort).padStart(5, '0')} ${p.address} ${p.hostAddress}`),
      ),
  };
}

function gatewaysOf(network: WatchedNetwork): string[] {
  return [network.gateway, network.ipv6Gateway]
    .filter((g) => g)
    .map((g) => numberAddress(addressNumber(g as string), (g as string).includes(':') ? 6 : 4));
}

function overlayMtu(local: LocalHost): number {
  return local.underlayMtu - ENCAPSULATION[local.underlay.includes(':') ? 6 : 4];
}

function port(
  attachment: Attachment,
  attachments: readonly Attachment[],
  network: WatchedNetwork | undefined,
  local: LocalHost,
): Port {
  const { endpoint, sandbox } = attachment;
  const siblings = attachments.filter(
    (a) => a !== attachment && sandbox !== undefined && a.sandbox === sandbox,
  );
  return {
    endpoint: endpoint.endpointID,
    device: portDevice(endpoint.endpointID),
    peer: peerDevice(endpoint.endpointID),
    mac: endpoint.macAddress,
    mtu: overlayMtu(local),
    addresses: endpoint.ipAddress,
    gateways: network === undefined ? [] : gatewaysOf(network),
    subnets: network === undefined ? [] : subnetsOf(network),
    alsoFrom: siblings.flatMap((a) => a.endpoint.ipAddress).sort(),
    joined: attachment.phase === 'joined',
    ...(sandbox === undefined ? {} : { sandbox }),
  };
}

function exit(router: Router, local: LocalHost): Exit {
  const slot = local.transitSlots.get(router.tenant) ?? 0;
  const pair = (range: string): [string, string] => {
    const subnet = parseSubnet(range);
    if (subnet === undefined) throw new Error(`transit range '${range}' is not a subnet`);
    const first = subnet.network + 2n * BigInt(slot);
    return [numberAddress(first, subnet.family), numberAddress(first + 1n, subnet.family)];
  };
  const [hostAddress, routerAddress] = pair(local.transit);
  const hasIpv6 = router.subnets.some((s) => s.includes(':'));
  const [hostAddress6, routerAddress6] = hasIpv6 ? pair(local.transit6) : ['', ''];
  const publications: readonly Publication[] = router.publications;
  return {
    namespace: router.namespace,
    device: exitDevice(router.tenant),
    hostAddress,
    routerAddress,
    hostAddress6,
    routerAddress6,
    publications,
  };
}
