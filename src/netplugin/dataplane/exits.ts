/** The host's side: the exits' devices and addresses, masquerading, published ports. */
import { type Connection, forgetConnections } from '../../linux/conntrack.ts';
import type { Netlink } from '../../linux/netlink.ts';
import { getSysctl, setSysctl } from '../../linux/netns.ts';
import * as route from '../../linux/route.ts';
import { isV6 } from '../../model/address.ts';
import { NFT_TABLE } from '../constants.ts';
import type { HostState } from '../state.ts';
import { sameParts } from './parts.ts';
import { type Pass, send } from './pass.ts';
import { hostTable, routerEnd } from './ruleset.ts';
import { establishSettings, exit as exitSettings, hostWayOut } from './settings.ts';
import { establishTable, type OpenTable } from './tables.ts';

export interface OpenExits {
  readonly netlink: Netlink;
  readonly table: OpenTable;
  /** The last state that was established, and the devices and addresses of it; undefined: an earlier agent's may be there. */
  established?: {
    readonly state: HostState;
    readonly entries: ReadonlySet<string>;
    readonly bridges: readonly string[];
  };
}

/** Names that Docker gives to the bridges it makes; one that the user has named otherwise is not known as Docker's. */
const DOCKER_BRIDGE = /^(?:docker0|docker_gwbridge|br-[0-9a-f]{12})$/;

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
  const found = links.filter((l) => l.kind === 'bridge' && DOCKER_BRIDGE.test(l.name)).map((l) => l.name);
  const bridges = before?.bridges.join() === found.join() ? before.bridges : found;
  const table = hostTable(state, bridges, connections);
  if (table !== undefined) establishTable(open.table, table, 'host', pass);
  else if (open.table.established !== undefined || before === undefined) {
    open.table.nft.run(`add table inet ${NFT_TABLE}\ndelete table inet ${NFT_TABLE}`);
    delete open.table.established;
  }
  const misled = misledBy(state, before?.state, addresses);
  if (misled !== undefined) pass.writes += forgetConnections(open.table.netlink, misled);
  open.established = { state, entries: established, bridges };
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

/** Where what is published without connections of its own leads, by protocol, port and address of the host, or its family. */
function passages(state: HostState): Map<string, string> {
  const found = new Map<string, string>();
  for (const exit of state.exits)
    for (const p of exit.publications) {
      const at = p.hostAddress || (isV6(p.address) ? 6 : 4);
      if (p.protocol !== 'tcp')
        found.set(`${p.protocol} ${p.hostPort} ${at}`, `${routerEnd(exit, p)} ${p.transitPort}`);
    }
  return found;
}

/**
 * Which connections to published ports lead where they did before they were published, or published anew: the kernel decides
 * with the first packet, and a client of UDP need never begin again. undefined: none, without a look. `addresses`: the host's.
 */
function misledBy(
  state: HostState,
  before: HostState | undefined,
  addresses: readonly route.Address[],
): ((connection: Connection) => boolean) | undefined {
  const [now, then] = [passages(state), before === undefined ? undefined : passages(before)];
  if (String([...now]) === String([...(then ?? [])])) return undefined;
  const former = new Set(then?.values());
  const local = new Set(addresses.map(({ address }) => address));
  return ({ original, reply }) => {
    const protocol = PROTOCOLS[original.protocol];
    if (protocol === undefined || !local.has(original.destination)) return false;
    const key = `${protocol} ${original.destinationPort}`;
    const target =
      now.get(`${key} ${original.destination}`) ?? now.get(`${key} ${isV6(original.destination) ? 6 : 4}`);
    const leads = `${reply.source} ${reply.sourcePort}`;
    return target === undefined ? former.has(leads) : leads !== target;
  };
}

const sameExits = (a: HostState, b: HostState): boolean =>
  a.guarded === b.guarded && sameParts(a.exits, b.exits);
