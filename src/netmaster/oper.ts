/** `Oper` of inspect: what runs, counted from the mirror. Fields as in 1.x. */
import { isV6 } from '../model/address.ts';
import type { Endpoint } from '../model/endpoint.ts';
import type { EndpointGroup, StoredEndpointGroup } from '../model/endpointGroup.ts';
import type { StoredExternalEndpoint } from '../model/externalEndpoint.ts';
import { mainFamily } from '../model/families.ts';
import type { Host, Reserve } from '../model/host.ts';
import type { Kind } from '../model/kind.ts';
import { keyOf, kindByName } from '../model/kinds.ts';
import type { Network } from '../model/network.ts';
import { type StoredServiceLB, selects } from '../model/serviceLB.ts';
import { type Global, parseRange } from '../model/settings.ts';
import { DEFAULT_TENANT, type Tenant } from '../model/tenant.ts';
import type { Condition } from '../protocol/hosts.ts';
import { fabricOf } from './aci/state.ts';
import { addressRanges } from './allocator/addresses.ts';
import { poolOf } from './allocator/choose.ts';
import { tagRanges, tagsIn } from './allocator/tags.ts';
import { leftOut } from './draining.ts';
import { externalMember, externalMembers } from './external.ts';
import type { Mirror } from './mirror.ts';
import { Refusal } from './problem.ts';
import { drainingSince, statusOf } from './roster.ts';

type Plain = Record<string, unknown>;

export function presentEndpoint(endpoint: Endpoint, mirror: Mirror): Plain {
  const { tenantName, networkName, groupName } = endpoint;
  return compact({
    endpointID: endpoint.endpointID,
    containerID: endpoint.containerID,
    containerName: endpoint.containerName,
    // As 1.x has it, the other way round than keys of objects.
    endpointGroupKey: groupName && `${groupName}:${tenantName}`,
    serviceName: groupName,
    homingHost: endpoint.homingHost,
    ipAddress: endpoint.ipAddress,
    macAddress: endpoint.macAddress,
    network: `${networkName}.${tenantName}`,
    labels:
      endpoint.labels && Object.keys(endpoint.labels).length > 0
        ? JSON.stringify(endpoint.labels)
        : undefined,
    intfName: endpoint.intfName,
    published: endpoint.published,
    notPublished: endpoint.notPublished,
    ...(endpoint.notPublished === undefined
      ? {}
      : {
          note: `ports are not published: network ${tenantName}:${networkName} has no gateway, so nothing comes from outside; make it anew with --gateway`,
        }),
    vtepIP: mirror.get<Host>('host', endpoint.homingHost)?.underlay,
    status: statusOf(endpoint, mirror),
    draining: drainingSince(mirror, endpoint.homingHost),
  });
}

const listed = (endpoints: readonly Endpoint[], mirror: Mirror): Plain => ({
  numEndpoints: endpoints.length,
  endpoints: endpoints.map((e) => presentEndpoint(e, mirror)),
});

const endpointsIn = (mirror: Mirror, kind: string, key: string): readonly Endpoint[] =>
  mirror.users<Endpoint>(kind, key, 'endpoint');

/** Addresses of a network that are an endpoint's, a service's or reserved; without those that hosts have in reserve. */
const takenIn = (mirror: Mirror, network: string, family: 4 | 6): string[] =>
  [...mirror.addresses(network)]
    .filter(([address, { object }]) => isV6(address) === (family === 6) && object.reserve === undefined)
    .map(([address]) => address);

/** By host, what it has in reserve of the network, of both families; undefined: nobody has anything. */
function reservesIn(mirror: Mirror, network: string): Readonly<Record<string, string>> | undefined {
  const own = mirror.list<Reserve>('reserve').filter((reserve) => reserve.network === network);
  if (own.length === 0) return undefined;
  return Object.fromEntries(
    own.map(({ host, addresses }) => [host, addresses.map(({ address }) => address).join(', ')]),
  );
}

/** Throws a Refusal where there is nothing to inspect. */
export function operOf(kind: Kind, object: Plain, mirror: Mirror): Plain {
  return compact({
    ...OPER[kind.name]?.(object, mirror, keyOf(kind, object)),
    note: kind.note?.(object as never),
  });
}

/** Of a host's sessions, as its agent said last. The first ones as in 1.x, which had one neighbour. */
export function bgpOper(hostname: string, condition: Condition | undefined): Plain {
  const { neighbors = [], announced = [], problems = [] } = condition ?? {};
  return compact({
    adminStatus: neighbors.length > 0 ? 'UP' : undefined,
    neighborStatus: neighbors[0]?.state.toUpperCase(),
    numRoutes: Math.max(0, ...neighbors.map((n) => n.sent)),
    routes: announced,
    neighbors,
    problems: problems.filter(({ problem }) => problem.startsWith('BGP: ')),
    ...(condition === undefined && { note: `nothing is heard of host ${hostname}` }),
  });
}

/** A tenant's totals, by kind. */
const TOTALS: Readonly<Record<string, string>> = {
  network: 'totalNetworks',
  endpointGroup: 'totalEPGs',
  policy: 'totalPolicies',
  netprofile: 'totalNetprofiles',
  appProfile: 'totalAppProfiles',
  serviceLB: 'totalServicelbs',
  endpoint: 'totalEndpoints',
};

const OPER: Readonly<Record<string, (object: Plain, mirror: Mirror, key: string) => Plain>> = {
  tenant(_object, mirror, key) {
    const totals = Object.entries(TOTALS).map(([kind, total]) => [
      total,
      mirror.users('tenant', key, kind).length,
    ]);
    const operIn = (name: string): Plain[] =>
      mirror
        .users<Plain>('tenant', key, name)
        .map((object) => operOf(kindByName.get(name) as Kind, object, mirror));
    return {
      ...Object.fromEntries(totals),
      networks: operIn('network'),
      endpointGroups: operIn('endpointGroup'),
      ...listed(endpointsIn(mirror, 'tenant', key), mirror),
    };
  },
  network(object, mirror, key) {
    const network = object as unknown as Network & { vni: number };
    // As in 1.x of IPv4, wherever a network has that.
    const family = mainFamily(network);
    const taken = takenIn(mirror, key, family);
    const { allocated, available } = addressRanges(poolOf(mirror, network, family, undefined), taken);
    return {
      ...(network.encap === 'vlan'
        ? { pktTag: network.vni }
        : { pktTag: network.vni, externalPktTag: network.vni }),
      networkTag: network.cfgdTag ?? `${network.networkName}.${network.tenantName}`,
      allocatedAddressesCount: taken.length,
      allocatedIPAddresses: allocated,
      availableIPAddresses: available,
      reservedIPAddresses: reservesIn(mirror, key),
      ...listed(endpointsIn(mirror, 'network', key), mirror),
    };
  },
  endpointGroup(object, mirror, key) {
    const group = object as unknown as StoredEndpointGroup;
    const networkKey = `${group.tenantName}:${group.networkName}`;
    const network = mirror.get<Network & { vni: number }>('network', networkKey);
    const tag = group.vlan ?? network?.vni;
    const ranges =
      network !== undefined && group.ipPool
        ? addressRanges(poolOf(mirror, network, 4, group), takenIn(mirror, networkKey, 4))
        : undefined;
    return {
      pktTag: tag,
      externalPktTag: network?.encap === 'vlan' ? undefined : tag,
      groupTag: group.cfgdTag ?? `${group.groupName}.${group.tenantName}`,
      allocatedIPAddresses: ranges?.allocated,
      availableIPAddresses: ranges?.available,
      ...listed(endpointsIn(mirror, 'endpointGroup', key), mirror),
      externalEndpoints: mirror
        .users<StoredExternalEndpoint>('endpointGroup', key, 'externalEndpoint')
        .map((external) => presentEndpoint(externalMember(mirror, external), mirror)),
    };
  },
  policy(_object, mirror, key) {
    const groups = mirror.users<EndpointGroup>('policy', key, 'endpointGroup');
    return listed(
      groups.flatMap((g) => endpointsIn(mirror, 'endpointGroup', `${g.tenantName}:${g.groupName}`)),
      mirror,
    );
  },
  externalEndpoint(object, mirror) {
    const external = object as unknown as StoredExternalEndpoint;
    return { ...presentEndpoint(externalMember(mirror, external), mirror), failing: external.failing };
  },
  serviceLB(object, mirror) {
    const service = object as unknown as StoredServiceLB;
    const { tenantName } = service;
    const providers = [
      ...endpointsIn(mirror, 'tenant', tenantName),
      ...externalMembers(mirror, tenantName),
    ].filter((e) => selects(service, e.labels));
    const out = leftOut(mirror, providers);
    return {
      serviceVip: service.vip,
      numProviders: providers.length,
      providers: providers.map((e) => compact({ ...presentEndpoint(e, mirror), leftOut: out.get(e) })),
    };
  },
  Bgp(_object, mirror, key) {
    // As in 1.x, where the host itself is asked.
    if (mirror.get<Host>('host', key) === undefined)
      throw new Refusal(
        404,
        `Bgp ${key}: no agent runs on a host named ${key}, so there is nothing to inspect`,
      );
    return {};
  },
  aciGw(_object, mirror) {
    const { told: _told, ...fabric } = fabricOf(mirror) ?? {};
    return { numAppProfiles: mirror.list('appProfile').length, ...fabric };
  },

  global(object, mirror) {
    const networks = mirror.list<Network>('network');
    const [firstVxlan] = parseRange((object as Global).vxlans ?? '') ?? [1];
    return {
      // The hosts' runtimes are whatever they are; 1.x had one for all.
      clusterMode: mirror.list('workload').length > 0 ? 'kubernetes' : 'docker',
      defaultNetwork: mirror.get<Tenant>('tenant', DEFAULT_TENANT)?.defaultNetwork,
      freeVXLANsStart: firstVxlan - 1,
      numNetworks: networks.length,
      vlansInUse: tagRanges(tagsIn(mirror, 'vlan')),
      vxlansInUse: tagRanges(tagsIn(mirror, 'vxlan')),
    };
  },
};

/** Without what is empty, as 1.x answers. */
function compact(object: Plain): Plain {
  return Object.fromEntries(
    Object.entries(object).filter(
      ([, value]) =>
        value !== undefined && value !== '' && value !== 0 && !(Array.isArray(value) && value.length === 0),
    ),
  );
}
