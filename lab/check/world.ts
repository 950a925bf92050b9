/** What is compared: the cluster, a host of it, a tenant's router on that host. */
import ipaddr from 'ipaddr.js';
import { run, tryRun } from '../shell.ts';
import { type LabState, onHost, UNDERLAY } from '../state.ts';
import { cniAttachments } from './cni.ts';
import { attachments, isV6, type Running } from './docker.ts';
import { type Declared, declared, type Endpoint, type Network } from './netmaster.ts';

export interface Cluster extends Declared {
  readonly lab: string;
  /** Its hosts are nodes. */
  readonly kubernetes: boolean;
  /** Its hosts have uplinks: networks of encapsulation vlan act. */
  readonly fabric: boolean;
  readonly running: readonly Running[];
  /** The hosts' own endpoints, as those of containers. */
  readonly own: readonly Running[];
  /** External endpoints, in the same way. */
  readonly externals: readonly Running[];
  readonly places: readonly Place[];
}

/** A host as it is now, and where netmaster has it. */
export interface Place {
  readonly name: string;
  /** VTEP: the one that netmaster has, if it is the host's. */
  readonly address: string;
  /** What tunnels leave of its interface's. */
  readonly mtu: number;
  /** Of its interface to the underlay, which is its uplink too. */
  readonly uplinkMtu: number;
  /** Of its interface to the underlay. */
  readonly has: readonly string[];
  /** Its address with the length of the prefix that it is in; '' where it has none. */
  readonly prefix: string;
}

export interface Host {
  readonly cluster: Cluster;
  readonly place: Place;
  readonly name: string;
  /** Its attachments. */
  readonly here: readonly Running[];
  /** What a command prints there. */
  at(...command: string[]): Promise<string>;
  /** Its namespaces that are routers. */
  readonly routers: readonly string[];
  readonly devices: readonly Device[];
}

export interface Router {
  readonly cluster: Cluster;
  readonly host: Host;
  readonly tenant: string;
  readonly ns: string;
  /** How each of its lines begins. */
  readonly where: string;
  /** Attachments of the tenant on this host, and on others. */
  readonly local: readonly Running[];
  readonly remote: readonly Running[];
  /** Addresses that the host has there itself. */
  readonly own: readonly string[];
  readonly devices: readonly Device[];
  readonly routes: readonly Route[];
  readonly neighbours: readonly Neighbour[];
  /** Its table of family inet. */
  readonly table: Table;
  /** Elements of a map of it. */
  map(name: string): Mapped;
  /** What a command prints in it. */
  at(...command: string[]): Promise<string>;
}

export interface Device {
  readonly ifindex: number;
  readonly ifname: string;
  readonly address: string;
  /** Of a veth: index of the other end. */
  readonly link_index?: number;
  readonly mtu: number;
  readonly flags: readonly string[];
  readonly linkinfo?: { readonly info_data?: { readonly local?: string; readonly local6?: string } };
}

export interface Route {
  readonly dst: string;
  readonly gateway?: string;
  /** A next hop of another version of IP. */
  readonly via?: { readonly host: string };
  readonly dev?: string;
  readonly protocol?: string;
  readonly type?: string;
  readonly scope?: string;
}

export interface Neighbour {
  readonly dst: string;
  readonly dev: string;
  /** Absent while it is asked for, or nobody has answered. */
  readonly lladdr?: string;
  readonly state: readonly string[];
}

export interface Concat {
  readonly concat: readonly (string | number)[];
}

/** As nft has it in JSON: a key of a set; key and value of a map. */
export type Element =
  | string
  | number
  | { readonly concat: readonly Element[] }
  | { readonly prefix: { readonly addr: string; readonly len: number } }
  | Element[];

/** Elements of its sets and maps, by name. */
export type Table = ReadonlyMap<string, readonly Element[]>;

/** Of contiv's. `at` says what a command prints where it is. */
export async function tableOf(
  at: (...command: string[]) => Promise<string>,
  family: 'inet' | 'arp',
): Promise<Table> {
  const { nftables } = JSON.parse(await at('nft', '-j', 'list', 'table', family, 'contiv')) as {
    nftables: Partial<Record<'set' | 'map', { name: string; elem?: Element[] }>>[];
  };
  return new Map(
    nftables.flatMap(({ set, map }) => {
      const of = set ?? map;
      return of === undefined ? [] : [[of.name, of.elem ?? []]];
    }),
  );
}

export type Mapped = readonly (readonly [Concat | string, Concat | number | string])[];

/** Tells what differs, in lines. */
export type Comparison<Of> = (of: Of, say: (line: string) => void) => void | Promise<void>;

/** In their order, one after the other. */
export async function compare<Of>(comparisons: readonly Comparison<Of>[], of: Of): Promise<string[]> {
  const lines: string[] = [];
  for (const comparison of comparisons) await comparison(of, (line) => lines.push(line));
  return lines;
}

/** By the family of the hosts' addresses. */
const VXLAN_HEADERS = { 4: 50, 6: 70 } as const;
/** What IPv6 needs. */
const LEAST_MTU = 1280;

/** Throws where somebody does not answer, or what ran when Docker said so has ended meanwhile. */
export async function lookAtCluster(lab: string, state: LabState): Promise<Cluster> {
  const listed = state.hosts.flatMap(({ name }) => [attachments(lab, name), cniAttachments(lab, name)]);
  const running = (await Promise.all(listed)).flat();
  const of = await declared(lab, state);
  const places = await Promise.all(
    state.hosts.map(async ({ name }): Promise<Place> => {
      const text = await tryRun(...onHost(lab, name, 'ip', '-j', 'addr', 'show', 'dev', UNDERLAY));
      const [link] = JSON.parse(text ?? '[]') as {
        mtu: number;
        addr_info: { local: string; prefixlen: number; scope: string }[];
      }[];
      const has = (link?.addr_info ?? []).filter(({ scope }) => scope === 'global').map((a) => a.local);
      const at = of.live.find((h) => h.name === name)?.underlay;
      const address = (at !== undefined && has.includes(at) ? at : has[0]) ?? '';
      const length = link?.addr_info.find((a) => a.local === address)?.prefixlen;
      return {
        name,
        address,
        prefix: length === undefined ? '' : `${address}/${length}`,
        mtu: Math.max(LEAST_MTU, (link?.mtu ?? 0) - VXLAN_HEADERS[isV6(address) ? 6 : 4]),
        uplinkMtu: link?.mtu ?? 0,
        has,
      };
    }),
  );
  const { kubernetes, fabric = false } = state;
  return {
    ...of,
    lab,
    kubernetes,
    fabric,
    running,
    own: ownEndpoints(of),
    externals: of.machines.map(machine),
    places,
  };
}

export async function lookAtHost(cluster: Cluster, place: Place): Promise<Host> {
  const { name } = place;
  const at = (...command: string[]): Promise<string> => run(...onHost(cluster.lab, name, ...command));
  const namespaces = (await at('ip', 'netns', 'list')).split('\n').map((l) => l.split(' ')[0] as string);
  return {
    cluster,
    place,
    name,
    here: cluster.running.filter((r) => r.host === name),
    at,
    routers: namespaces.filter((n) => n.startsWith('contiv-')),
    devices: JSON.parse(await at('ip', '-j', 'link')),
  };
}

/** One that is there. */
export async function lookAtRouter(host: Host, tenant: string, ns: string): Promise<Router> {
  const { cluster, here, name } = host;
  const json = async (...command: string[]) => JSON.parse(await host.at('ip', '-n', ns, '-j', ...command));
  const at = (...command: string[]) => host.at('ip', 'netns', 'exec', ns, ...command);
  const table = await tableOf(at, 'inet');
  return {
    cluster,
    host,
    table,
    tenant,
    ns,
    where: `${name}: router ${ns}`,
    local: here.filter((r) => r.tenant === tenant),
    remote: [...cluster.running, ...cluster.own].filter((r) => r.tenant === tenant && r.host !== name),
    own: cluster.own
      .filter((r) => r.tenant === tenant && r.host === name && isInfra(cluster, r))
      .flatMap((r) => r.addresses),
    devices: await json('-d', 'link'),
    routes: [...(await json('route')), ...(await json('-6', 'route'))],
    neighbours: await neighboursOf(host, '-n', ns),
    map: (name) => (table.get(name) ?? []) as unknown as Mapped,
    at,
  };
}

/** A network of encapsulation vlan, where those act. */
export interface Vlan {
  readonly key: string;
  readonly id: number;
  /** Names of its device in the router, and of that one's other end, on the host. */
  readonly device: string;
  readonly wire: string;
  readonly prefixes: readonly string[];
  /** Those that are routers of the fabric's own. */
  readonly gateways: readonly string[];
  /** An infra network, in which each host has its address itself. */
  readonly entered: boolean;
}

export const vlansOf = ({ networks, fabric }: Cluster, tenant: string): Vlan[] =>
  networks
    .filter((n) => fabric && n.tenantName === tenant && n.encap === 'vlan')
    .map(({ tenantName, networkName, subnet, ipv6Subnet, allocated: { pktTag: id }, ...n }) => ({
      key: `${tenantName}:${networkName}`,
      id,
      device: `vl${id}`,
      wire: `cv${id}`,
      prefixes: [subnet, ipv6Subnet].flatMap((text) => (text ? [wholePrefix(text)] : [])),
      entered: n.nwType === 'infra',
      gateways: n.externalGateway ? [n.gateway, n.ipv6Gateway].flatMap((g) => (g ? [g] : [])) : [],
    }));

/** `10.1.0.10-10.1.0.99/24` is a part of `10.1.0.0/24`. */
function wholePrefix(subnet: string): string {
  const [addresses = '', length = ''] = subnet.split('/');
  const first = `${addresses.split('-')[0]}/${length}`;
  const version = first.includes(':') ? ipaddr.IPv6 : ipaddr.IPv4;
  return `${version.networkAddressFromCIDR(first)}/${length}`;
}

/** Encapsulation of a network, and the device by which it goes on the hosts' link. */
export const DIRECT = 'direct';

/** Somebody else may be within its prefix. */
export const hasLink = ({ prefix }: Place): boolean => prefix !== '' && !prefix.endsWith('/32');

/** Each is within the other's prefix. */
export function sharesLink(one: Place, other: Place): boolean {
  const has = ({ prefix }: Place, { address }: Place): boolean =>
    prefix !== '' && address !== '' && ipaddr.parse(address).match(ipaddr.parseCIDR(prefix));
  return has(one, other) && has(other, one);
}

/** Name of the device by which an attachment is reached from another host; '' where it is not. */
export function segmentOf({ cluster, place }: Host, { tenant, network, host }: Running): string {
  const of = cluster.networks.find((n) => n.tenantName === tenant && n.networkName === network);
  if (of?.encap === 'vlan') return cluster.fabric ? `vl${of.allocated.pktTag}` : '';
  const other = cluster.places.find((p) => p.name === host);
  if (of?.encap === DIRECT && other !== undefined && sharesLink(place, other)) return DIRECT;
  return `vx${of?.allocated.pktTag}`;
}

/** The largest packets that an attachment here is to take. */
export const mtuOf = (host: Host, r: Running): number =>
  segmentOf(host, r).startsWith('vx') || (segmentOf(host, r) === DIRECT && !hasLink(host.place))
    ? host.place.mtu
    : host.place.uplinkMtu;

/** The device of a container's port, by the route to it. */
export const portOf = ({ routes }: Router, { addresses: [address] }: Running): string =>
  routes.find((r) => r.dst === address && r.protocol === '199')?.dev ?? '';

const bytesOf = ({ address }: Place): string =>
  address
    .split('.')
    .map((n) => Number(n).toString(16).padStart(2, '0'))
    .join(':');

/** Of a host's tunnels and VLANs: 02:ce and the bytes of its address. */
export const segmentMac = (place: Place): string => `02:ce:${bytesOf(place)}`;

/** In the VLAN of a group's own: the id around an `a`, and the same bytes. */
export function tagMac(place: Place, id: number): string {
  const [first, ...rest] = id.toString(16).padStart(3, '0');
  return `${first}a:${rest.join('')}:${bytesOf(place)}`;
}

/** The VLAN of its group's own; undefined: it goes by its network's. */
export const tagOf = ({ tags, fabric }: Cluster, { tenant, group }: Running): number | undefined =>
  fabric ? tags.get(`${tenant}:${group}`) : undefined;

export const allAddresses = (list: readonly Running[]): string[] => list.flatMap((r) => r.addresses);
export const four = (list: readonly Running[]): string[] =>
  list.flatMap((r) => r.addresses.filter((a) => !isV6(a)));

const isInfra = ({ networks }: Declared, { tenant, network }: Running): boolean =>
  networks.some((n) => n.tenantName === tenant && n.networkName === network && n.nwType === 'infra');

export const neighboursOf = async ({ at }: Pick<Host, 'at'>, ...where: string[]): Promise<Neighbour[]> => [
  ...JSON.parse(await at('ip', ...where, '-j', '-4', 'neigh', 'show', 'nud', 'all')),
  ...JSON.parse(await at('ip', ...where, '-j', '-6', 'neigh', 'show', 'nud', 'all')),
];

const withoutContainer = (e: Endpoint) => ({
  host: e.homingHost,
  endpoint: e.endpointID,
  container: `host ${e.homingHost}`,
  pid: 0,
  netns: '',
  resolver: '',
  tenant: e.tenantName,
  network: e.networkName,
  group: '',
  addresses: e.ipAddress,
  mac: e.macAddress,
  answering: false,
  healthy: false,
  id: e.endpointID,
  labels: {},
});

const ownEndpoints = ({ endpoints }: Declared): Running[] =>
  endpoints.filter((e) => e.ofHost).map(withoutContainer);

const machine = (e: Endpoint): Running => ({
  ...withoutContainer(e),
  container: `external endpoint ${e.endpointID}`,
  group: e.groupName ?? '',
  answering: true,
  healthy: e.status === 'running',
  labels: e.labels ?? {},
});

/** By which a network's addresses are counted: IPv4 wherever it has that. */
export const isCounted = ({ subnet }: Pick<Network, 'subnet'>, address: string): boolean =>
  isV6(address) !== Boolean(subnet);

/** Whether an address is in a subnet. */
export function isIn(subnet: string, address: string): boolean {
  const [parsed, [first, length]] = [ipaddr.parse(address), ipaddr.parseCIDR(wholePrefix(subnet))];
  return parsed.kind() === first.kind() && parsed.match(first, length);
}
