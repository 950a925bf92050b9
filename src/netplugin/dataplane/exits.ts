/** The host's side: its guard, the exits' devices and addresses, masquerading, published ports. */
import { type Connection, forgetConnections } from '../../linux/conntrack.ts';
import type { Netlink } from '../../linux/netlink.ts';
import { getSysctl, setSysctl } from '../../linux/netns.ts';
import * as route from '../../linux/route.ts';
import { isV6 } from '../../model/address.ts';
import type { HostState } from '../state.ts';
import { sameParts } from './parts.ts';
import { type Pass, send } from './pass.ts';
import { CONTAINER_KINDS, type HostFacts, hostTable, routerEnd } from './ruleset.ts';
import { establishSettings, exit as exitSettings, hostWayOut } from './settings.ts';
import { establishTable, type OpenTable } from './tables.ts';

export interface OpenExits {
  readonly netlink: Netlink;
  readonly table: OpenTable;
  /** What the table was made with last; undefined: an earlier agent's may be there. */
  guarded?: { readonly vnis: readonly number[]; readonly facts: HostFacts };
  /** The last state that was established, and the devices and addresses of it; undefined as well. */
  established?: { readonly state: HostState; readonly entries: ReadonlySet<string> };
}

/** Names that Docker gives to the bridges it makes; one that the user has named otherwise is not known as Docker's. */
const DOCKER_BRIDGE = /^(?:docker0|docker_gwbridge|br-[0-9a-f]{12})$/;

/**
 * Before the routers: frames are judged before the first tunnel is there, and until the last one has gone, which
 * establishExits sees to.
 */
export function establishGuard(
  open: OpenExits,
  state: HostState,
  connections: number | undefined,
  pass: Pass,
): void {
  const before = open.guarded;
  const now = tunnelTags(state);
  if (before !== undefined && now.every((vni) => before.vnis.includes(vni))) return;
  const facts =
    before?.facts ?? readFacts(state, route.listLinks(open.netlink), route.listAddresses(open.netlink));
  const vnis = [...new Set([...(before?.vnis ?? []), ...now])];
  establishTable(open.table, hostTable(state, facts, vnis, connections), 'host', pass);
  open.guarded = { vnis, facts };
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

/** `connections`: how many a conntrack table takes, where that is known. */
export function establishExits(
  open: OpenExits,
  state: HostState,
  connections: number | undefined,
  pass: Pass,
): void {
  const before = open.established;
  if (before !== undefined && !pass.verify && sameExits(before.state, state)) return;
  const links = route.listLinks(open.netlink);
  const wanted = new Map(state.exits.map((e) => [e.device, e]));
  const stray = links.filter((l) => /^cx[0-9a-f]{8}$/.test(l.name) && !wanted.has(l.name));
  for (const { name } of stray)
    if (before !== undefined && !before.entries.has(`link ${name}`))
      pass.repaired.push(`host: ${name} was not ours`);
  send(open.netlink, stray.map(route.deleteLink), pass, 'host');
  const established = new Set<string>();
  const addresses = route.listAddresses(open.netlink);
  const present = new Set(addresses.map((a) => `${a.address} ${a.index}`));
  const neighbours = ([4, 6] as const).flatMap((version) => route.listNeighbours(open.netlink, version));
  const had = (entry: string): boolean => before?.entries.has(entry) === true;
  for (const link of links) {
    const exit = wanted.get(link.name);
    if (exit === undefined) continue;
    const own = [{ address: exit.hostAddress, length: 31 }];
    if (exit.hostAddress6 !== '') own.push({ address: exit.hostAddress6, length: 127 });
    const missing = own.filter((a) => !present.has(`${a.address} ${link.index}`));
    const text = (a: { address: string; length: number }): string =>
      `address ${a.address}/${a.length} dev ${link.name}`;
    for (const a of missing) if (had(text(a))) pass.repaired.push(`host: restored ${text(a)}`);
    if (!link.up && had(`link ${link.name}`)) pass.repaired.push(`host: ${link.name} was down`);
    for (const entry of [`link ${link.name}`, ...own.map(text)]) established.add(entry);
    send(
      open.netlink,
      missing.map((a) => route.addAddress({ ...a, index: link.index, scope: 0 })),
      pass,
      'host',
    );
    if (!link.up) send(open.netlink, [route.setLink(link.index, { up: true })], pass, 'host');
    if (link.mac !== exit.hostMac) {
      if (had(`link ${link.name}`)) pass.repaired.push(`host: ${link.name} had the MAC address ${link.mac}`);
      send(open.netlink, [route.setLink(link.index, { mac: exit.hostMac })], pass, 'host');
    }
    // Permanent, so that others' neighbours leave no less room for it (entries.ts).
    for (const address of [exit.routerAddress, exit.routerAddress6].filter((a) => a !== '')) {
      const wanted = { device: link.index, address, mac: exit.routerMac, state: 'permanent' } as const;
      const name = `neighbour ${address} lladdr ${wanted.mac} dev ${link.name}`;
      established.add(name);
      const there = neighbours.some(
        (n) =>
          n.device === link.index && n.address === address && n.mac === wanted.mac && n.state === 'permanent',
      );
      if (there) continue;
      if (had(name)) pass.repaired.push(`host: restored ${name}`);
      send(open.netlink, [route.addNeighbour(wanted)], pass, 'host');
    }
    establishSettings(exitSettings(link.name), 'host', had(`link ${link.name}`), pass);
  }
  if (state.exits.length > 0 && setSysctl('net/ipv4/ip_forward', '1')) pass.writes++;
  if (state.exits.some((e) => e.hostAddress6 !== '')) forwardV6(open.netlink, links, pass);
  if (state.exits.length > 0)
    for (const name of waysOut(open.netlink, links)) {
      const known = had(`way out ${name}`);
      established.add(`way out ${name}`);
      establishSettings(hostWayOut(name), 'host', known, pass);
    }
  const facts = keptFacts(open.guarded?.facts, readFacts(state, links, addresses));
  const vnis = tunnelTags(state);
  establishTable(open.table, hostTable(state, facts, vnis, connections), 'host', pass);
  open.guarded = { vnis, facts };
  const misled = misledBy(state, before?.state, addresses);
  if (misled !== undefined) pass.writes += forgetConnections(open.table.netlink, misled);
  open.established = { state, entries: established };
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
 * accept_ra is 2 (networking/ip-sysctl): an interface that the host has its way out from so keeps it.
 */
function forwardV6(netlink: Netlink, links: readonly route.Link[], pass: Pass): void {
  const forwarding = 'net/ipv6/conf/all/forwarding';
  if (getSysctl(forwarding) === '1') return;
  const advertised = route.listRoutes(netlink, 6).filter((r) => r.protocol === RTPROT_RA);
  for (const { index, name } of links) {
    const accept = `net/ipv6/conf/${name}/accept_ra`;
    // 0: a program of the host's takes them instead.
    if (advertised.some((r) => r.device === index) && getSysctl(accept) === '1') setSysctl(accept, '2');
  }
  setSysctl(forwarding, '1');
  pass.writes++;
}

const PROTOCOLS: Readonly<Record<number, string>> = { 17: 'udp', 132: 'sctp' };

/** Ports that are published without connections of their own, and where they lead. */
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
    exit.publications.flatMap((p) =>
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
 * Which connections to published ports lead where they did before they were published, or published anew: the kernel decides
 * with the first packet, and a client of UDP need never begin again. undefined: none, without a look. `addresses`: the host's.
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
  sameParts(a.exits, b.exits) &&
  tunnelTags(a).join() === tunnelTags(b).join();
