/** `Oper` of inspect: what runs, counted from the mirror. Fields as in 1.x. */
import type { Endpoint } from '../model/endpoint.ts';
import type { EndpointGroup } from '../model/endpointGroup.ts';
import type { Host } from '../model/host.ts';
import type { Kind } from '../model/kind.ts';
import { keyOf } from '../model/kinds.ts';
import type { Network } from '../model/network.ts';
import { type StoredServiceLB, selects } from '../model/serviceLB.ts';
import { addressRanges } from './allocator/addresses.ts';
import { poolOf } from './allocator/choose.ts';
import { tagRanges } from './allocator/tags.ts';
import type { Mirror } from './mirror.ts';
import { Refusal } from './problem.ts';
import { statusOf } from './roster.ts';

type Plain = Record<string, unknown>;

export function presentEndpoint(endpoint: Endpoint, mirror: Mirror): Plain {
  const { tenantName, networkName, groupName } = endpoint;
  return compact({
    endpointID: endpoint.endpointID,
    containerID: endpoint.containerID,
    containerName: endpoint.containerName,
    endpointGroupKey: groupName && `${tenantName}:${groupName}`,
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
    vtepIP: mirror.get<Host>('host', endpoint.homingHost)?.underlay,
    status: statusOf(endpoint, mirror),
  });
}

const listed = (endpoints: readonly Endpoint[], mirror: Mirror): Plain => ({
  numEndpoints: endpoints.length,
  endpoints: endpoints.map((e) => presentEndpoint(e, mirror)),
});

const endpointsIn = (mirror: Mirror, kind: string, key: string): readonly Endpoint[] =>
  mirror.users<Endpoint>(kind, key, 'endpoint');

/** Throws a Refusal where there is nothing to inspect. */
export function operOf(kind: Kind, object: Plain, mirror: Mirror): Plain {
  return compact({
    ...OPER[kind.name]?.(object, mirror, keyOf(kind, object)),
    note: kind.note?.(object as never),
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
    return { ...Object.fromEntries(totals), ...listed(endpointsIn(mirror, 'tenant', key), mirror) };
  },
  network(object, mirror, key) {
    const network = object as unknown as Network & { vni: number };
    const taken = [...mirror.addresses(key).keys()].filter((a) => !a.includes(':'));
    const { allocated, available } = addressRanges(poolOf(mirror, network, 4, undefined), taken);
    return {
      ...(network.encap === 'vlan'
        ? { pktTag: network.vni }
        : { pktTag: network.vni, externalPktTag: network.vni }),
      networkTag: network.cfgdTag ?? `${network.networkName}.${network.tenantName}`,
      allocatedAddressesCount: taken.length,
      allocatedIPAddresses: allocated,
      availableIPAddresses: available,
      ...listed(endpointsIn(mirror, 'network', key), mirror),
    };
  },
  endpointGroup(object, mirror, key) {
    const group = object as unknown as EndpointGroup;
    const network = mirror.get<Network & { vni: number }>(
      'network',
      `${group.tenantName}:${group.networkName}`,
    );
    return {
      pktTag: network?.vni,
      externalPktTag: network?.encap === 'vlan' ? undefined : network?.vni,
      groupTag: group.cfgdTag ?? `${group.groupName}.${group.tenantName}`,
      ...listed(endpointsIn(mirror, 'endpointGroup', key), mirror),
    };
  },
  policy(_object, mirror, key) {
    const groups = mirror.users<EndpointGroup>('policy', key, 'endpointGroup');
    const counts = groups.map(
      (g) => endpointsIn(mirror, 'endpointGroup', `${g.tenantName}:${g.groupName}`).length,
    );
    return { numEndpoints: counts.reduce((sum, count) => sum + count, 0) };
  },
  serviceLB(object, mirror) {
    const service = object as unknown as StoredServiceLB;
    const providers = endpointsIn(mirror, 'tenant', service.tenantName).filter((e) =>
      selects(service, e.labels),
    );
    return {
      serviceVip: service.vip,
      numProviders: providers.length,
      providers: providers.map((e) => presentEndpoint(e, mirror)),
    };
  },
  Bgp(_object, mirror, key) {
    // As in 1.x, where the host itself is asked.
    if (mirror.get<Host>('host', key) === undefined)
      throw new Refusal(
        404,
        `Bgp ${key}: no agent runs on a host named ${key}, so there is nothing to inspect; nothing acts on BGP settings yet`,
      );
    return {};
  },
  global(_object, mirror) {
    const networks = mirror.list<Network & { vni: number }>('network');
    const tags = (encap: string): string =>
      tagRanges(networks.filter((n) => n.encap === encap).map((n) => n.vni));
    return { numNetworks: networks.length, vlansInUse: tags('vlan'), vxlansInUse: tags('vxlan') };
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
