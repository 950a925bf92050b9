/**
 * States of one host as values, for tests with a kernel (hostState.ts) and without. This host is 192.0.2.1; network net1 of
 * a tenant has 20.1.1.0/24 and fd00:1::/64.
 */
import {
  exitDevice,
  exitMacs,
  peerDevice,
  portDevice,
  vtepLinkLocal,
  vtepMac,
} from '../src/netplugin/compile/deviceNames.ts';
import { TRANSIT, TRANSIT6 } from '../src/netplugin/constants.ts';
import type {
  Access,
  Announced,
  ClusterService,
  DnatEntry,
  Entrance,
  Exit,
  HostState,
  Port,
  RemoteHost,
  Router,
  RuleSet,
  Service,
  Vlan,
} from '../src/netplugin/state.ts';

export const LOCAL = '192.0.2.1';
export const SUBNETS = ['20.1.1.0/24', 'fd00:1::/64'];
export const GATEWAYS = ['20.1.1.254', 'fd00:1::1'];
export const VNI = 1001;
export const PEERS = ['192.0.2.2', '192.0.2.3'];

export const id = (n: number): string => `ep${n}`;

export function port(n: number, more: Partial<Port> = {}): Port {
  return {
    endpoint: id(n),
    device: portDevice(id(n)),
    peer: peerDevice(id(n)),
    mac: `02:02:14:01:01:${n.toString(16).padStart(2, '0')}`,
    mtu: 1450,
    addresses: [`20.1.1.${n}`, `fd00:1::${n.toString(16)}`],
    gateways: GATEWAYS,
    network: VNI,
    alsoFrom: [],
    joined: false,
    group: 0,
    judgedIn: 0,
    judgedOut: 0,
    ...more,
  };
}

/** One address of a remote endpoint, with where it is. */
/** A VLAN network of a tenant, by the interface fab0. */
export const VLAN = {
  id: 100,
  network: (1 << 24) + 100,
  uplink: 'fab0',
  prefixes: ['10.100.0.0/24', 'fd00:100::/64'] as [string, string],
  at: (n: number): string => `10.100.0.${n}`,
  six: (n: number): string => `fd00:100::${n.toString(16)}`,
};

/** As a host of this underlay address has it. */
export const vlanOf = (local: string, addresses: readonly string[], more: Partial<Vlan> = {}): Vlan => ({
  id: VLAN.id,
  network: VLAN.network,
  device: `vl${VLAN.id}`,
  wire: `cv${VLAN.id}`,
  uplink: VLAN.uplink,
  mac: vtepMac(local),
  mtu: 1500,
  prefixes: VLAN.prefixes,
  addresses,
  ...more,
});

/** Of a container in it. */
export const vlanPort = (n: number, more: Partial<Port> = {}): Port =>
  port(n, {
    mac: `02:02:0a:64:00:${n.toString(16).padStart(2, '0')}`,
    addresses: [VLAN.at(n), VLAN.six(n)],
    gateways: [VLAN.at(254)],
    network: VLAN.network,
    mtu: 1500,
    wire: `vl${VLAN.id}`,
    ...more,
  });

export interface At {
  readonly address: string;
  readonly device: string;
  readonly vtep: string;
  readonly group?: number;
}

export const remotes = (count: number): At[] =>
  Array.from({ length: count }, (_, i) => ({
    address: `20.1.${2 + (i >> 8)}.${i & 255}`,
    device: `vx${VNI}`,
    vtep: PEERS[i % PEERS.length] as string,
  }));

export interface Case {
  readonly tenant?: string;
  /** The host's own address. */
  readonly local?: string;
  readonly vni?: number;
  readonly slot?: number;
  readonly ports?: readonly Port[];
  readonly remotes?: readonly At[];
  readonly ruleSets?: readonly RuleSet[];
  readonly ranges?: Router['ranges'];
  readonly portRanges?: Router['portRanges'];
  readonly publications?: readonly DnatEntry[];
  readonly services?: readonly Service[];
  readonly clusterServices?: readonly ClusterService[];
  readonly entrances?: readonly Entrance[];
  readonly access?: Access;
  readonly announced?: Announced;
}

export function router(given: Case): Router {
  const { tenant = 'default', local = LOCAL, vni = VNI, ports = [port(2)], publications = [] } = given;
  const known = given.remotes ?? [{ address: '20.1.1.9', device: `vx${vni}`, vtep: '192.0.2.2' }];
  const hosts = [...new Set(known.map((r) => r.vtep))].sort().map(
    (vtep): RemoteHost => ({
      vtep,
      mac: vtepMac(vtep),
      linkLocal: vtepLinkLocal(vtep),
      devices: [`vx${vni}`],
      endpoints: known
        .filter((r) => r.vtep === vtep)
        .map(({ address, device, group = 0 }) => ({ address, device, network: vni, group })),
    }),
  );
  return {
    tenant,
    namespace: `contiv-${tenant}`,
    tunnels: [{ vni, device: `vx${vni}`, local, mac: vtepMac(local), mtu: 1450 }],
    ports,
    hosts,
    subnets: SUBNETS.map((prefix) => ({ prefix, network: vni })),
    gateways: GATEWAYS,
    publications,
    services: given.services ?? [],
    clusterServices: given.clusterServices ?? [],
    ruleSets: given.ruleSets ?? [],
    ranges: given.ranges ?? [],
    portRanges: given.portRanges ?? [],
  };
}

export function exit({
  tenant = 'default',
  slot = 0,
  publications = [],
  entrances,
  access,
  announced,
}: Case): Exit {
  return {
    namespace: `contiv-${tenant}`,
    device: exitDevice(tenant),
    hostAddress: `100.127.0.${2 * slot}`,
    routerAddress: `100.127.0.${2 * slot + 1}`,
    hostAddress6: `fd6f:6e74:6976::${slot === 0 ? '' : 2 * slot}`,
    routerAddress6: `fd6f:6e74:6976::${2 * slot + 1}`,
    ...exitMacs(tenant),
    transit: TRANSIT,
    transit6: TRANSIT6,
    publications,
    ...(entrances && { entrances }),
    ...(access && { access }),
    ...(announced && { announced }),
  };
}

/** One router each; the host's own address is guarded. */
export function state(...cases: Case[]): HostState {
  return {
    routers: cases.map(router),
    exits: cases.map(exit),
    guarded: [
      { address: LOCAL, protocol: 'tcp', port: 9999 },
      { address: 'fd00::1', protocol: 'tcp', port: 9999 },
    ],
    underlay: LOCAL,
    members: PEERS,
  };
}

export const NOTHING: HostState = { routers: [], exits: [], guarded: [], underlay: LOCAL, members: [] };
export const BLUE: Case = { tenant: 'blue', vni: 2001, slot: 1, ports: [port(7)], remotes: [] };
export const MAP: DnatEntry = {
  protocol: 'tcp',
  hostAddress: '',
  hostPort: 8080,
  transitPort: 8080,
  address: '20.1.1.2',
  port: 80,
};
