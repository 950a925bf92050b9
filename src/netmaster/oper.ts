/** `Oper` of inspect: what runs, counted from the mirror. Fields as in 1.x. */
import type { Endpoint } from '../model/endpoint.ts';
import type { EndpointGroup } from '../model/endpointGroup.ts';
import type { Host } from '../model/host.ts';
import type { Network } from '../model/network.ts';
import { addressRanges } from './allocator/addresses.ts';
import { tagRanges } from './allocator/tags.ts';
import { poolOf } from './endpoints.ts';
import type { Mirror } from './mirror.ts';

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
    status: endpoint.status,
  });
}

function endpointsOf(mirror: Mirror, fits: (endpoint: Endpoint) => boolean): Plain {
  const endpoints = mirror.list<Endpoint>('endpoint').filter(fits);
  return { numEndpoints: endpoints.length, endpoints: endpoints.map((e) => presentEndpoint(e, mirror)) };
}

export function operOf(kind: string, object: Plain, mirror: Mirror): Plain {
  const compute = OPER[kind];
  return compact(compute?.(object, mirror) ?? {});
}

const OPER: Readonly<Record<string, (object: Plain, mirror: Mirror) => Plain>> = {
  tenant({ tenantName }, mirror) {
    const count = (kind: string): number =>
      mirror.list<{ tenantName: string }>(kind).filter((o) => o.tenantName === tenantName).length;
    return {
      totalNetworks: count('network'),
      totalEPGs: count('endpointGroup'),
      totalPolicies: count('policy'),
      totalNetprofiles: count('netprofile'),
      totalAppProfiles: count('appProfile'),
      totalServicelbs: count('serviceLB'),
      totalEndpoints: count('endpoint'),
      ...endpointsOf(mirror, (e) => e.tenantName === tenantName),
    };
  },
  network(object, mirror) {
    const network = object as unknown as Network & { vni: number };
    const key = `${network.tenantName}:${network.networkName}`;
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
      ...endpointsOf(
        mirror,
        (e) => e.tenantName === network.tenantName && e.networkName === network.networkName,
      ),
    };
  },
  endpointGroup(object, mirror) {
    const group = object as unknown as EndpointGroup;
    const network = mirror.get<Network & { vni: number }>(
      'network',
      `${group.tenantName}:${group.networkName}`,
    );
    return {
      pktTag: network?.vni,
      externalPktTag: network?.encap === 'vlan' ? undefined : network?.vni,
      groupTag: group.cfgdTag ?? `${group.groupName}.${group.tenantName}`,
      ...endpointsOf(mirror, (e) => e.tenantName === group.tenantName && e.groupName === group.groupName),
    };
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
