/** The host's side: its table, the exits' devices and addresses, masquerading, published ports. */
import { type Connection, forgetConnections } from '../../linux/conntrack.ts';
import { NETLINK_NETFILTER, type Netlink, openNetlink } from '../../linux/netlink.ts';
import { getSysctl, setSysctl } from '../../linux/netns.ts';
import type { Nft } from '../../linux/nftables.ts';
import * as route from '../../linux/route.ts';
import { isV6 } from '../../model/address.ts';
import { ANNOUNCED_PROTOCOL, DEVICE_PREFIXES } from '../constants.ts';
import { type Exit, type HostState, toldOf } from '../state.ts';
import { type ByPart, establish, type Tracker, track } from './difference.ts';
import {
  addressEntries,
  addressEntry,
  ENTRIES,
  type Entry,
  listNeighbours,
  listRoutes,
  neighbourEntry,
  routeEntry,
  writeEntries,
} from './entries.ts';
import {
  DEVICES,
  type Device,
  establishProperties,
  hasMac,
  isUp,
  type Property,
  trackProperties,
} from './links.ts';
import { combine, type Outcome, send } from './outcome.ts';
import { sameParts } from './parts.ts';
import { CONTAINER_KINDS } from './rules/contained.ts';
import { type HostFacts, hostTable } from './rules/host.ts';
import { routerEnd } from './rules/published.ts';
import { establishSettings, exit as exitSettings, hostWayOut } from './settings.ts';
import { establishTable, type OpenTable, openTable } from './tables.ts';

/** The host's namespace, and what was established there. */
export interface OpenExits {
  readonly netlink: Netlink;
  readonly table: OpenTable;
  /** Our ends of the exits, and what they have. */
  readonly devices: Tracker<Device>;
  readonly macs: Tracker<Property>;
  readonly up: Tracker<Property>;
  readonly entries: Tracker<Entry>;
  /** Devices of the host's own ways out that forward. */
  waysOut: ReadonlySet<string>;
  /** What the table was made with last; undefined: an earlier agent's may be there. */
  written?: { readonly vnis: readonly number[]; readonly facts: HostFacts };
  /** The last state that was established; undefined as well. `complete`: no entry of it was refused. */
  established?: { readonly state: HostState; readonly complete: boolean };
}

export const openExits = (netlink: Netlink, nft: Nft): OpenExits => ({
  netlink,
  table: openTable(nft, openNetlink(NETLINK_NETFILTER)),
  devices: track(DEVICES),
  macs: trackProperties(),
  up: trackProperties(),
  // Other things that a device of ours has, such as its link-local address, are left alone; who has routes by it reaches containers.
  entries: track({
    ...ENTRIES,
    isOurs: ({ text, device }) => text.startsWith('route ') && OURS.test(device),
  }),
  waysOut: new Set(),
});

/** Names that our ends have. */
const OURS = new RegExp(`^${DEVICE_PREFIXES.exit}[0-9a-f]{8}$`);
/** Names that Docker gives to the bridges it makes; one that the user has named otherwise is not known as Docker's. */
const DOCKER_BRIDGE = /^(?:docker0|docker_gwbridge|br-[0-9a-f]{12})$/;

export interface HostOptions {
  /** How many a conntrack table takes, where that is known. */
  readonly connections: number | undefined;
  readonly verify: boolean;
}

/**
 * Before the routers: frames are judged before the first tunnel is there, and until the last one has gone, which
 * establishExits sees to.
 */
export function establishHostTable(
  open: OpenExits,
  state: HostState,
  { connections, verify }: HostOptions,
): Outcome {
  const before = open.written;
  const now = tunnelTags(state);
  if (before !== undefined && now.every((vni) => before.vnis.includes(vni))) return {};
  const facts =
    before?.facts ?? readFacts(state, route.listLinks(open.netlink), route.listAddresses(open.netlink));
  const vnis = [...new Set([...(before?.vnis ?? []), ...now])];
  const outcome = establishTable(open.table, hostTable(state, facts, vnis, connections), verify);
  open.written = { vnis, facts };
  return outcome;
}

/** Of what has a wire behind it, '' that of hardware itself: a bridge with such a port is the host's own way. */
const WIRE_KINDS = ['', 'bond', 'dsa', 'team', 'vlan'];

const tunnelTags = (state: HostState): number[] =>
  state.routers.flatMap(({ tunnels }) => tunnels.map((t) => t.vni));

function readFacts(
  { guarded, underlay }: HostState,
  links: readonly route.Link[],
  addresses: readonly route.Address[],
): HostFacts {
  const own = new Set(addresses.map((a) => a.address));
  const holder = addresses.find((a) => a.address === underlay)?.index;
  const leadsOut = new Set(links.filter((l) => WIRE_KINDS.includes(l.kind)).map((l) => l.master));
  return {
    bridges: links.filter((l) => l.kind === 'bridge' && DOCKER_BRIDGE.test(l.name)).map((l) => l.name),
    operated: links
      .filter((l) => CONTAINER_KINDS.includes(l.kind) && (l.index === holder || leadsOut.has(l.index)))
      .map((l) => l.name),
    closed: [...new Set(guarded.filter((g) => own.has(g.address)).map((g) => `${g.protocol} . ${g.port}`))],
  };
}

/** With the lists of before that are the same: no part of the table has changed then. */
function keptFacts(before: HostFacts | undefined, now: HostFacts): HostFacts {
  const kept = (name: keyof HostFacts): readonly string[] =>
    before?.[name].join() === now[name].join() ? (before?.[name] as readonly string[]) : now[name];
  return { bridges: kept('bridges'), operated: kept('operated'), closed: kept('closed') };
}

/** After the routers, which make the devices. */
export function establishExits(
  open: OpenExits,
  state: HostState,
  { connections, verify }: HostOptions,
): Outcome {
  const before = open.established?.state;
  if (before !== undefined && open.established?.complete && !verify && sameExits(before, state)) return {};
  const { exits } = state;
  const had = new Set([...open.devices.held()].map(({ name }) => name));
  const { outcome: devices, links } = establishDevices(open, exits, route.listLinks(open.netlink));
  const own = <E>(make: (exit: Exit) => readonly E[]): ByPart<E> => new Map(exits.map((e) => [e, make(e)]));
  const macs = establishProperties(
    open.macs,
    open.netlink,
    own(({ device, hostMac }) => [hasMac(device, hostMac)]),
    links,
  );
  const up = establishProperties(
    open.up,
    open.netlink,
    own(({ device }) => [isUp(device)]),
    macs.links,
  );
  const addresses = route.listAddresses(open.netlink);
  const names = new Map(links.map((l) => [l.index, l.name]));
  const { outcome: entries } = establish(open.entries, {
    wanted: own(exitEntries),
    list: () => [
      ...addressEntries(addresses, names),
      ...listNeighbours(open.netlink, names),
      ...listRoutes(open.netlink, names),
    ],
    write: (change) => writeEntries(open.netlink, links, change),
  });
  const there = exits.map((e) => e.device).filter((name) => links.some((l) => l.name === name));
  const settings = there.map((name) => establishSettings(exitSettings(name), had.has(name)));
  const forwarding = exits.length === 0 ? {} : establishForwarding(open, exits, links);
  const facts = keptFacts(open.written?.facts, readFacts(state, links, addresses));
  const vnis = tunnelTags(state);
  const table = establishTable(open.table, hostTable(state, facts, vnis, connections), verify);
  open.written = { vnis, facts };
  const misled = misledBy(state, before, addresses);
  const forgotten = misled === undefined ? 0 : forgetConnections(open.table.netlink, misled);
  const all = [devices, macs.outcome, up.outcome, entries, ...settings, forwarding, table];
  const outcome = combine([...all, { writes: forgotten }]);
  open.established = { state, complete: outcome.complete };
  return outcome;
}

/**
 * Removes our ends of exits that are not wanted any more. None is made here: a pair is made from its router's side (links.ts),
 * which also says that it was gone.
 */
function establishDevices(
  { netlink, devices }: OpenExits,
  exits: readonly Exit[],
  links: readonly route.Link[],
): { readonly outcome: Outcome; readonly links: readonly route.Link[] } {
  const present = links
    .filter((l) => OURS.test(l.name))
    .map((link): Device => ({ name: link.name, text: link.name, link }));
  const { outcome, change } = establish<Device>(devices, {
    wanted: new Map(exits.map((e) => [e, [{ name: e.device, text: e.device }]])),
    list: () => present,
    excused: () => true,
    write: ({ additions, removals }) => ({
      outcome: send(
        netlink,
        removals.flatMap(({ link }) => (link === undefined ? [] : [route.deleteLink(link)])),
      ),
      unwritten: additions.map(({ entry }) => entry),
    }),
  });
  const removed = new Set(change.removals.map(({ name }) => name));
  return { outcome, links: links.filter((l) => !removed.has(l.name)) };
}

/** Neighbours are permanent, so that others' neighbours leave no less room for them (entries.ts). */
function exitEntries(exit: Exit): readonly Entry[] {
  const { device, hostAddress, hostAddress6, routerAddress, routerAddress6, routerMac } = exit;
  return [
    addressEntry(device, hostAddress, 31),
    ...(hostAddress6 === '' ? [] : [addressEntry(device, hostAddress6, 127)]),
    ...[routerAddress, routerAddress6]
      .filter((address) => address !== '')
      .map((address) => neighbourEntry(device, address, routerMac)),
    ...(exit.access?.own ?? []).map((address) => addressEntry(device, address, isV6(address) ? 128 : 32)),
    ...accessRoutes(exit),
    ...announcedRoutes(exit),
  ];
}

/** How the host reaches what it may in the tenant. */
function accessRoutes(exit: Exit): readonly Entry[] {
  const { device, access, announced } = exit;
  // The same way, which is announced as well.
  const told = new Set(announced?.served);
  const services = (access?.services ?? []).filter((a) => !told.has(a));
  return [...(access?.subnets ?? []), ...services.map((a) => `${a}/${isV6(a) ? 128 : 32}`)].flatMap(
    (destination) => {
      const way = wayBy(exit, destination);
      return way.via === '' ? [] : routeEntry({ destination, type: 'unicast', ...way }, device);
    },
  );
}

/** By which the fabric reaches what is announced to it: the routing daemon takes them for that (bgp/config.ts), and no other ones. */
const announcedRoutes = (exit: Exit): readonly Entry[] =>
  (exit.announced === undefined ? [] : toldOf(exit.announced)).flatMap((address) => {
    const way = wayBy(exit, address);
    const to = { destination: `${address}/${isV6(address) ? 128 : 32}`, type: 'unicast', ...way } as const;
    return way.via === '' ? [] : routeEntry({ ...to, protocol: ANNOUNCED_PROTOCOL }, exit.device);
  });

/**
 * The host is known there by its end of the pair (rules/access.ts). By IPv4 the kernel sends from that, as the next hop is in its prefix; by
 * IPv6 from the address on the device that is most like the destination (RFC 6724, rule 8), which its own address in an infra network is.
 */
const wayBy = (
  { routerAddress, routerAddress6, hostAddress6 }: Exit,
  to: string,
): { readonly via: string; readonly from?: string } =>
  isV6(to) ? { via: routerAddress6, from: hostAddress6 } : { via: routerAddress };

/** The host forwards what comes by the exits, and what comes back. */
function establishForwarding(open: OpenExits, exits: readonly Exit[], links: readonly route.Link[]): Outcome {
  const own = waysOut(open.netlink, links);
  const settings = own.map((name) => establishSettings(hostWayOut(name), open.waysOut.has(name)));
  open.waysOut = new Set(own);
  const four = setSysctl('net/ipv4/ip_forward', '1') ? 1 : 0;
  const six = exits.some((e) => e.hostAddress6 !== '') ? forwardV6(open.netlink, links) : 0;
  return combine([...settings, { writes: four + six }]);
}

/** Devices of the host's default routes. */
function waysOut(netlink: Netlink, links: readonly route.Link[]): string[] {
  const routes = ([4, 6] as const).flatMap((version) => route.listRoutes(netlink, version));
  const devices = new Set(
    routes.flatMap((r) => (r.destination.endsWith('/0') && r.device !== undefined ? [r.device] : [])),
  );
  return links.filter((l) => devices.has(l.index)).map((l) => l.name);
}

/** From route advertisements (linux/rtnetlink.h). */
const RTPROT_RA = 9;

/**
 * With forwarding the kernel takes no router advertisements, and drops the default routes that it has from them, unless
 * accept_ra is 2 (networking/ip-sysctl): an interface that the host has its way out from so keeps it. Answers how many
 * settings were written.
 */
function forwardV6(netlink: Netlink, links: readonly route.Link[]): number {
  const forwarding = 'net/ipv6/conf/all/forwarding';
  if (getSysctl(forwarding) === '1') return 0;
  const advertised = route.listRoutes(netlink, 6).filter((r) => r.protocol === RTPROT_RA);
  for (const { index, name } of links) {
    const accept = `net/ipv6/conf/${name}/accept_ra`;
    // 0: a program of the host's takes them instead.
    if (advertised.some((r) => r.device === index) && getSysctl(accept) === '1') setSysctl(accept, '2');
  }
  setSysctl(forwarding, '1');
  return 1;
}

const PROTOCOLS: Readonly<Record<number, string>> = { 17: 'udp', 132: 'sctp' };

/** Ports that are published for a protocol that knows no beginning of a connection, and where they lead. */
interface Lead {
  /** Protocol, and address of the host or its family. */
  readonly at: string;
  readonly first: number;
  readonly count: number;
  readonly end: string;
  readonly port: number;
}

function leadsOf(state: HostState): Lead[] {
  return state.exits.flatMap((exit) =>
    [...exit.publications, ...(exit.entrances ?? [])].flatMap((p) =>
      p.protocol === 'tcp'
        ? []
        : {
            at: `${p.protocol} ${p.hostAddress || (isV6(p.address) ? 6 : 4)}`,
            first: p.hostPort,
            count: p.count ?? 1,
            end: routerEnd(exit, p),
            port: p.transitPort,
          },
    ),
  );
}

const isAmong = (port: number, first: number, count: number): boolean =>
  port >= first && port < first + count;

/**
 * Which connections do not lead where their published port leads by now. The kernel translates a connection as it was decided
 * for its first packet, so one that was there before a port was published, or published anew, stays as it was. Connections of
 * TCP end by themselves; a client of UDP may go on for ever from the same port, and would never be heard where it should be.
 * undefined: nothing that is published has changed, so that nobody need look. `addresses`: the host's own.
 */
function misledBy(
  state: HostState,
  before: HostState | undefined,
  addresses: readonly route.Address[],
): ((connection: Connection) => boolean) | undefined {
  const [now, then] = [leadsOf(state), before === undefined ? [] : leadsOf(before)];
  if (JSON.stringify(now) === JSON.stringify(then)) return undefined;
  const byPlace = Map.groupBy(now, (l) => l.at);
  const leadAt = (at: string, port: number): Lead | undefined =>
    byPlace.get(at)?.find((l) => isAmong(port, l.first, l.count));
  const local = new Set(addresses.map(({ address }) => address));
  return ({ original, reply }) => {
    const protocol = PROTOCOLS[original.protocol];
    if (protocol === undefined || !local.has(original.destination)) return false;
    const { destination, destinationPort: port } = original;
    const lead =
      leadAt(`${protocol} ${destination}`, port) ?? leadAt(`${protocol} ${isV6(destination) ? 6 : 4}`, port);
    const { source, sourcePort } = reply;
    if (lead === undefined) return then.some((l) => l.end === source && isAmong(sourcePort, l.port, l.count));
    return source !== lead.end || sourcePort !== lead.port + port - lead.first;
  };
}

const sameExits = (a: HostState, b: HostState): boolean =>
  a.guarded === b.guarded &&
  a.members === b.members &&
  a.underlay === b.underlay &&
  a.fabric === b.fabric &&
  (a.encryption === undefined) === (b.encryption === undefined) &&
  sameParts(a.exits, b.exits) &&
  tunnelTags(a).join() === tunnelTags(b).join();
