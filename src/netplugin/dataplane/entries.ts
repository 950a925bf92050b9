/**
 * What a router holds beside links and rule sets: addresses, routes, neighbours and FDB entries, as they follow
 * from each part of the state. Devices go by name; a name becomes an index when an entry is written.
 *
 *   Port          /32 and /128 routes, neighbours, the gateway on the device; in a VLAN proxies of its IPv6 addresses
 *   RemoteHost    a route an address, a neighbour and an FDB entry a tunnel, a neighbour a VLAN, and a tag in it, one on the link
 *   Vlan          the host's own address, or a proxy of it where the host has it itself; with routers of the fabric's own a table of routes by them, and rules that lead what its containers send there
 *   Service, ClusterService   its addresses on the loopback device: the router answers pings, and refuses what no provider takes
 *   subnets, gateways, Exit
 *
 * With routers of the fabric's own a packet's way is looked up in this order, of which the first that has one counts:
 *
 *   back to where it came from (rules/externalGateways.ts)   the main table
 *   to what of the tenant's is known                         the main table, without its default route
 *   from such a network, to its wire and to all others       the network's own table
 *   from others, to wires with such routers                  a table of those: from one to another the fabric leads
 *                to all others                               the main table
 *
 * All machines' namespaces have one neighbour table for each of IPv4 and IPv6 (gc_thresh3: 1024 entries), which anyone fills
 * who sends to many addresses on a link, such as a container on a bridge of Docker's. Permanent entries are not counted
 * and not collected (net/core/neighbour.c, neigh_alloc), so all that a router speaks to is one, also what it would learn:
 * with the table full a new container has its network all the same. Nothing else is learned (rules/antiSpoofing.ts, ARP).
 */
import { linkLocal } from '../../linux/address.ts';
import type { Netlink, Request } from '../../linux/netlink.ts';
import * as route from '../../linux/route.ts';
import { isV6 } from '../../model/address.ts';
import { ANNOUNCED_PROTOCOL, NAMESERVER, NAMESERVER6, UPLINK_DEVICE } from '../constants.ts';
import type { ClusterService, Exit, Port, RemoteHost, Router, Service, Subnet, Vlan } from '../state.ts';
import type { ByPart, Change, Kind, Written } from './difference.ts';
import { once } from './parts.ts';
import { writeRequests } from './requests.ts';
import { BACK } from './rules/marks.ts';

export const LOOPBACK = 'lo';

export interface Entry {
  /** See Kind (difference.ts). */
  readonly text: string;
  readonly place: string;
  /** Of a route without its MTU: the kernel removes one of any MTU (net/ipv4/fib_semantics.c, fib_metrics_match). */
  readonly foundBy: string;
  /** Of a route to one address: that address; else ''. */
  readonly endpoint: string;
  /** Name of the device; '' where it has none. */
  readonly device: string;
  add(device: number): Request;
  remove(device: number): Request;
}

/** Of a router's namespace, in which all of these kinds is ours. */
export const ENTRIES: Kind<Entry> = {
  text: (entry) => entry.text,
  place: (entry) => entry.place,
  foundBy: (entry) => entry.foundBy,
};

/** With a device, or with a route that was replaced, its entries are gone already. */
const GONE = ['ESRCH', 'ENOENT', 'EADDRNOTAVAIL', 'ENODEV'];

/** Those of a device that is not there wait for it. */
export function writeEntries(
  netlink: Netlink,
  links: readonly route.Link[],
  change: Change<Entry>,
): Written<Entry> {
  const indices = new Map(links.map((l) => [l.name, l.index]));
  const request = (device: string, make: (index: number) => Request): Request[] | undefined => {
    const index = device === '' ? 0 : indices.get(device);
    return index === undefined ? undefined : [make(index)];
  };
  const add = (entry: Entry) => request(entry.device, (index) => entry.add(index));
  const remove = (entry: Entry) => request(entry.device, (index) => entry.remove(index));
  return writeRequests(netlink, { add, remove, gone: GONE }, change);
}

const bits = (address: string): number => (isV6(address) ? 128 : 32);
const host = (address: string): string => `${address}/${bits(address)}`;

export function addressEntry(device: string, address: string, length: number, scope = 0): Entry {
  const at = (index: number): route.Address => ({ index, address, length, scope });
  const text = `address ${address}/${length} dev ${device}`;
  return {
    text,
    place: text,
    foundBy: text,
    endpoint: '',
    device,
    add: (index) => route.addAddress(at(index)),
    remove: (index) => route.deleteAddress(at(index)),
  };
}

export const isAddress = ({ text }: Entry): boolean => text.startsWith('address ');

export function routeEntry(given: Omit<route.Route, 'device'>, device: string): Entry {
  const [address = '', length] = given.destination.split('/');
  const at = (index: number): route.Route => (device === '' ? given : { ...given, device: index });
  const announced = given.protocol === ANNOUNCED_PROTOCOL ? ' announced' : '';
  const table = given.table === undefined ? '' : ` table ${given.table}`;
  const from = given.from === undefined ? '' : ` from ${given.from}`;
  const path = `route ${given.type} ${given.destination} via ${given.via ?? '-'} dev ${device}${from}${announced}${table}`;
  return {
    text: given.mtu === undefined ? path : `${path} mtu ${given.mtu}`,
    place: `route ${given.destination}${table}`,
    foundBy: path,
    endpoint: given.type === 'unicast' && table === '' && length === `${bits(address)}` ? address : '',
    device,
    add: (index) => route.addRoute(at(index)),
    remove: (index) => route.deleteRoute(at(index)),
  };
}

/** A network's own table has its number, which is above this one (compile/segments.ts). */
const WIRES = 1 << 24;
/** Priorities of rules (ip-rule(8)). */
const [RULE_BACK, RULE_KNOWN, RULE_NETWORK, RULE_WIRES] = [100, 101, 102, 103];

export function ruleEntry(rule: route.RoutingRule): Entry {
  const { version, priority, table, source = 'all', mark, withoutDefault, udpPort, protocol } = rule;
  const more = [
    ...(udpPort === undefined ? [] : [`UDP port ${udpPort}`]),
    ...(mark === undefined ? [] : [`mark ${mark}`]),
    ...(withoutDefault ? ['without its default'] : []),
    ...(protocol === undefined ? [] : [`by ${protocol}`]),
  ];
  const text = [`rule ${priority} of IPv${version} from ${source} to table ${table}`, ...more].join(' ');
  return {
    text,
    place: text,
    foundBy: text,
    endpoint: '',
    device: '',
    add: () => route.addRule(rule),
    remove: () => route.deleteRule(rule),
  };
}

export function neighbourEntry(device: string, address: string, mac: string): Entry {
  const at = (index: number): route.Neighbour => ({ device: index, address, mac, state: 'permanent' });
  const place = `neighbour ${address} dev ${device}`;
  return {
    text: `neighbour ${address} lladdr ${mac} dev ${device}`,
    place,
    foundBy: place,
    endpoint: '',
    device,
    add: (index) => route.addNeighbour(at(index)),
    remove: (index) => route.deleteNeighbour(at(index)),
  };
}

/** Who asks for the address on the device is answered for it. */
function proxyEntry(device: string, address: string): Entry {
  const at = (index: number): route.Neighbour => ({ device: index, address, mac: '', state: 'proxy' });
  const text = `proxy ${address} dev ${device}`;
  return {
    text,
    place: text,
    foundBy: text,
    endpoint: '',
    device,
    add: (index) => route.addNeighbour(at(index)),
    remove: (index) => route.deleteNeighbour(at(index)),
  };
}

function fdbEntry(device: string, mac: string, destination: string): Entry {
  const at = (index: number): route.FdbEntry => ({ device: index, mac, destination });
  const text = `forwarding ${mac} to ${destination} dev ${device}`;
  return {
    text,
    place: text,
    foundBy: text,
    endpoint: '',
    device,
    add: (index) => route.addFdbEntry(at(index)),
    remove: (index) => route.deleteFdbEntry(at(index)),
  };
}

const unicast = (address: string, device: string, next: Pick<route.Route, 'via' | 'mtu'> = {}): Entry =>
  routeEntry({ destination: host(address), type: 'unicast', ...next }, device);

const portEntries = once((port: Port): readonly Entry[] => {
  const { device, addresses, alsoFrom, gateways, externalGateways = [], mac, wire } = port;
  const six = addresses.some(isV6);
  // A router answers neighbour solicitations only for addresses of the very device (net/ipv6/ndisc.c), and
  // sends its ICMP messages from the address of the device that they leave by.
  const own = six ? [...gateways, NAMESERVER6] : gateways;
  return [
    ...own.map((address) => addressEntry(device, address, bits(address))),
    ...addresses.flatMap((address) => [unicast(address, device), neighbourEntry(device, address, mac)]),
    // It may ask by these for its gateway, and would be learned.
    ...[...alsoFrom, ...(six ? [linkLocal(mac)] : [])].map((address) => neighbourEntry(device, address, mac)),
    // A whole subnet cannot be answered for by neighbour discovery, as it can by ARP (settings.ts).
    ...(wire === undefined ? [] : addresses.filter(isV6).map((address) => proxyEntry(wire, address))),
    ...(six ? externalGateways.filter(isV6).map((address) => proxyEntry(device, address)) : []),
  ];
});

const vlanEntries = once(({ device, addresses, entered, prefixes, network: table, gateways = [] }: Vlan) => [
  ...(entered
    ? addresses.filter(isV6).map((address) => proxyEntry(device, address))
    : addresses.map((address) => addressEntry(device, address, bits(address)))),
  ...gateways.flatMap((gateway) => {
    const version = isV6(gateway) ? 6 : 4;
    const source = prefixes.find((prefix) => isV6(prefix) === isV6(gateway)) ?? '';
    const rest = version === 6 ? '::/0' : '0.0.0.0/0';
    return [
      ruleEntry({ version, priority: RULE_NETWORK, source, table }),
      routeEntry({ destination: source, type: 'unicast', table }, device),
      routeEntry({ destination: rest, type: 'unicast', via: gateway, table }, device),
    ];
  }),
]);

const hostEntries = once((host: RemoteHost) => {
  const { vtep, linkLocal, mac, mtu, devices, vlans = [], direct, endpoints } = host;
  const places = [
    ...[...devices, ...vlans].map((device) => ({ device, mac })),
    ...(direct === undefined ? [] : [direct]),
  ];
  const tagged = new Map(
    endpoints.flatMap(({ device, tagged: at }) =>
      at === undefined ? [] : [[`${device} ${at.linkLocal}`, [device, at] as const]],
    ),
  )
    .values()
    .toArray();
  const takes = new Map([
    ...devices.map((device) => [device, mtu] as const),
    ...(direct === undefined ? [] : [[direct.device, direct.mtu] as const]),
  ]);
  return [
    ...places.flatMap(({ device, mac }) => [
      ...(isV6(vtep) ? [] : [neighbourEntry(device, vtep, mac)]),
      neighbourEntry(device, linkLocal, mac),
    ]),
    ...tagged.map(([device, at]) => neighbourEntry(device, at.linkLocal, at.mac)),
    ...devices.map((device) => fdbEntry(device, mac, vtep)),
    ...endpoints.map(({ address, device, tagged }) => {
      const most = takes.get(device);
      return unicast(address, device, {
        via: tagged?.linkLocal ?? (isV6(address) || isV6(vtep) ? linkLocal : vtep),
        ...(most !== undefined && { mtu: most }),
      });
    }),
  ];
});

const subnetEntries = once((subnets: readonly Subnet[]) => {
  const beyond = subnets.filter(hasExternalGateway);
  const versions = VERSIONS.filter((version) =>
    beyond.some(({ prefix }) => isV6(prefix) === (version === 6)),
  );
  return [
    ...subnets.map((subnet) => {
      const { prefix, device } = subnet;
      const type = device === undefined ? 'unreachable' : 'unicast';
      const table = hasExternalGateway(subnet) ? { table: WIRES } : {};
      return routeEntry({ destination: prefix, type, ...table }, device ?? '');
    }),
    ...versions.flatMap((version) => [
      ruleEntry({ version, priority: RULE_BACK, mark: BACK, table: route.MAIN_TABLE }),
      ruleEntry({ version, priority: RULE_KNOWN, table: route.MAIN_TABLE, withoutDefault: true }),
      ruleEntry({ version, priority: RULE_WIRES, table: WIRES }),
    ]),
  ];
});

/** On this host: without an uplink nobody of it is here. */
const hasExternalGateway = ({ device, externalGateway }: Subnet): boolean =>
  externalGateway === true && device !== undefined;

const gatewayEntries = once((gateways: readonly string[]) =>
  [...gateways, NAMESERVER, NAMESERVER6].map((address) => addressEntry(LOOPBACK, address, bits(address))),
);

const serviceEntries = once(({ address }: Service) => [addressEntry(LOOPBACK, address, bits(address))]);

const clusterServiceEntries = once(({ addresses }: ClusterService) =>
  addresses.map((address) => addressEntry(LOOPBACK, address, bits(address))),
);

const exitEntries = once((exit: Exit) => {
  const entries = [
    addressEntry(UPLINK_DEVICE, exit.routerAddress, 31),
    neighbourEntry(UPLINK_DEVICE, exit.hostAddress, exit.hostMac),
    // The host's end looks for routers by it, whether or not the tenant has IPv6.
    neighbourEntry(UPLINK_DEVICE, linkLocal(exit.hostMac), exit.hostMac),
    routeEntry({ destination: '0.0.0.0/0', type: 'unicast', via: exit.hostAddress }, UPLINK_DEVICE),
  ];
  if (exit.hostAddress6 !== '')
    entries.push(
      addressEntry(UPLINK_DEVICE, exit.routerAddress6, 127),
      neighbourEntry(UPLINK_DEVICE, exit.hostAddress6, exit.hostMac),
      routeEntry({ destination: '::/0', type: 'unicast', via: exit.hostAddress6 }, UPLINK_DEVICE),
    );
  for (const address of exit.access?.own ?? []) {
    const via = isV6(address) ? exit.hostAddress6 : exit.hostAddress;
    entries.push(unicast(address, UPLINK_DEVICE, { via }));
  }
  return entries;
});

/**
 * By part, in the order in which they are written: a local address comes after a remote one, which it replaces where a
 * container has just moved here.
 */
export function routerEntries(router: Router, exit: Exit | undefined): ByPart<Entry> {
  const parts = new Map<object, readonly Entry[]>();
  parts.set(router.gateways, gatewayEntries(router.gateways));
  parts.set(router.subnets, subnetEntries(router.subnets));
  for (const service of router.services) parts.set(service, serviceEntries(service));
  for (const service of router.clusterServices) parts.set(service, clusterServiceEntries(service));
  for (const vlan of router.vlans ?? []) parts.set(vlan, vlanEntries(vlan));
  for (const remote of router.hosts) parts.set(remote, hostEntries(remote));
  if (exit !== undefined) parts.set(exit, exitEntries(exit));
  for (const port of router.ports) parts.set(port, portEntries(port));
  return parts;
}

/** Everything of these kinds that the kernel holds and that is not its own doing. */
export function listEntries(netlink: Netlink, links: readonly route.Link[]): Entry[] {
  const names = new Map(links.map((l) => [l.index, l.name]));
  return [
    ...addressEntries(route.listAddresses(netlink), names),
    ...listRoutes(netlink, names, WIRES),
    ...VERSIONS.flatMap((version) => route.listRules(netlink, version)).map(ruleEntry),
    ...listNeighbours(netlink, names),
    ...route.listProxies(netlink, 6).map((n) => proxyEntry(nameOf(names, n.device), n.address)),
    ...route.listFdbEntries(netlink).map((f) => fdbEntry(nameOf(names, f.device), f.mac, f.destination)),
  ];
}

/** By index. */
type Names = ReadonlyMap<number, string>;
const nameOf = (names: Names, index: number | undefined): string =>
  index === undefined ? '' : (names.get(index) ?? String(index));
const VERSIONS = [4, 6] as const;

export const addressEntries = (addresses: readonly route.Address[], names: Names): Entry[] =>
  addresses
    .filter((a) => !a.address.startsWith('fe80:') && a.address !== '127.0.0.1' && a.address !== '::1')
    .map((a) => addressEntry(nameOf(names, a.index), a.address, a.length));

export const routeIn = (names: Names, { device, ...r }: route.Route): Entry =>
  routeEntry(r, nameOf(names, device));

/** Of the main table, and of those from `tables` on. */
export function listRoutes(netlink: Netlink, names: Names, tables?: number): Entry[] {
  const PROTO_KERNEL = 2;
  return VERSIONS.flatMap((version) => route.listRoutes(netlink, version, tables))
    .filter((r) => r.protocol !== PROTO_KERNEL)
    .map((r) => routeIn(names, r));
}

export const listNeighbours = (netlink: Netlink, names: Names): Entry[] =>
  VERSIONS.flatMap((version) => route.listNeighbours(netlink, version))
    .filter((n) => n.state === 'permanent')
    .map((n) => neighbourEntry(nameOf(names, n.device), n.address, n.mac));
