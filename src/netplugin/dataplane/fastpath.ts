/**
 * The fast path of established connections, past the router's stack: an eBPF program at what arrives by a container's
 * veth or a tunnel hands a packet straight to the other container, or to the tunnel.
 *
 *   ct…, vx… ingress -> program -> flows: is this connection, from here, known since less than a moment?
 *                               -> endpoints: are both ends ours to know, in one network, and is this where the sender is?
 *                               -> conntrack: is the connection established, as the router itself has it?
 *                               -> redirect into the receiver's namespace, or out by the network's vx…
 *
 * It decides nothing of its own. Whatever it is not sure of goes the router's way, as if it were not there: first packets,
 * the ends of connections, errors, fragments, what is translated, shaped or marked, packets between networks and from
 * unknown senders. So policy is judged where it always is, a connection without an entry in conntrack is none, and with
 * no program (an older kernel) everything works, slower.
 *
 *   flows       what was found out about a direction of a connection, for FLOW_MILLISECONDS and until the router's next
 *               change (`generation`) or the connection's end (`ended`): three lookups less for each packet, and none that
 *               writes to what both ends' processors use
 *   endpoints   where each address of the tenant is, written by the agent
 *
 * Conntrack sees of such a connection how it begins and ends only. It must not take the end for a stranger's, which is
 * why routers do not insist on sequence numbers (FAST_PATH_SETTINGS), and it must not forget the connection in between: a
 * packet goes the router's way, which renews the entry, once half of its time is over.
 *
 * What is remembered of a flow is of a connection that conntrack has as established, never of one that is still new: rules
 * that change meanwhile judge each packet of that. What several processors do at the same moment: fastprogram.ts.
 *
 * The kernel's cost: 160 kB a tenant and processor for the flows, an entry an endpoint, a qdisc and a filter a device.
 */
import * as bpf from '../../linux/bpf.ts';
import type { Netlink } from '../../linux/netlink.ts';
import type * as route from '../../linux/route.ts';
import * as traffic from '../../linux/traffic.ts';
import type { Port, RemoteHost, Router } from '../state.ts';
import {
  ADDRESS,
  addressOfKey,
  closeProgram,
  ENDPOINT,
  endpointValue,
  type FastProgram,
  keyOfAddress,
  NAME,
  openProgram,
} from './fastprogram.ts';
import { changedParts, once } from './parts.ts';
import { type Pass, send } from './pass.ts';

/**
 * Of a router's namespace: conntrack has not seen all of a connection's sequence numbers when it ends
 * (net/netfilter/nf_conntrack_proto_tcp.c, tcp_in_window).
 */
export const FAST_PATH_SETTINGS: Readonly<Record<string, string>> = {
  'net/netfilter/nf_conntrack_tcp_be_liberal': '1',
  'net/netfilter/nf_conntrack_tcp_ignore_invalid_rst': '1',
};

/** An endpoint's address as the map has it. */
interface Place {
  readonly address: string;
  readonly device: string;
  /** Number of its network; undefined: that of the tunnel that `device` is. */
  readonly network?: number;
  readonly mac: string;
}

/** Shaped or marked packets go the router's way, in both directions. */
const isFast = (port: Port): boolean =>
  port.network !== 0 && port.limit === undefined && port.dscp === undefined;

const portPlaces = once(({ addresses, device, network, mac }: Port): readonly Place[] =>
  addresses.map((address) => ({ address, device, network, mac })),
);
/** What is too large for a host that takes less than our tunnels is the router's to refuse, by its routes. */
const hostPlaces = once(({ mac, mtu, endpoints }: RemoteHost): readonly Place[] =>
  mtu === undefined ? endpoints.map(({ address, device }) => ({ address, device, mac })) : [],
);

type Places = ReadonlyMap<object, readonly Place[]>;

/** A local address comes after a remote one, which it replaces where a container has just moved here. */
function placesOf(router: Router): Places {
  const places = new Map<object, readonly Place[]>();
  for (const host of router.hosts) places.set(host, hostPlaces(host));
  for (const port of router.ports) if (isFast(port)) places.set(port, portPlaces(port));
  return places;
}

const samePlace = (a: Place | undefined, b: Place): boolean =>
  a?.device === b.device && a.mac === b.mac && a.network === b.network;

const entryOf = (place: Place, device: route.Link): string =>
  endpointValue({
    device: device.index,
    network: place.network ?? device.vxlan?.vni ?? 0,
    mac: place.mac,
    remote: place.network === undefined,
    senderMac: device.mac,
    mtu: device.mtu,
  }).toString('hex');

/** What is in the kernel for one router. */
export interface FastPath extends FastProgram {
  /** Those that are there: address to value, in hexadecimal. */
  present: Map<string, string>;
  /** Of the router that flows are true of. */
  generation: number;
  /** What was established; `links` are all that there were. */
  places: Places;
  links: readonly route.Link[];
  /** Indices of the devices that the program runs at. */
  devices: ReadonlySet<number>;
}

/** Has every packet go the router's way: a map that is not kept up to date would lead astray. */
export function removeFastPath(netlink: Netlink, open: FastPath | undefined): void {
  if (open !== undefined) closeProgram(open);
  const stale = traffic.listQdiscs(netlink).filter((qdisc) => qdisc.kind === 'clsact');
  netlink.batch(stale.map(traffic.deleteQdisc));
}

const LEAST_ROOM = 1024;

/** Without endpoints. Throws where the kernel lacks what it takes. */
function openFastPath(endpoints: number): FastPath {
  const room = Math.max(LEAST_ROOM, 2 ** Math.ceil(Math.log2(2 * endpoints)));
  const nothing = {
    generation: 0,
    links: [],
    places: new Map(),
    present: new Map(),
    devices: new Set<number>(),
  };
  return { ...openProgram(room), ...nothing };
}

/**
 * Makes maps and filters follow the router, after all else is there. `links` are those of the namespace as they are now;
 * `read`: the kernel is read and put right; `changed`: something of the router was. Answers what to give to the next call;
 * what was given is changed, or closed where another takes its place. Throws where the kernel lacks what it takes.
 */
export function establishFastPath(
  netlink: Netlink,
  router: Router,
  links: readonly route.Link[],
  before: FastPath | undefined,
  { read, changed }: { readonly read: boolean; readonly changed: boolean },
  pass: Pass,
): FastPath {
  const writes = pass.writes;
  const places = placesOf(router);
  let endpoints = 0;
  for (const list of places.values()) endpoints += list.length;
  const kept = before !== undefined && endpoints <= before.room ? before : undefined;
  const open = kept ?? openFastPath(endpoints);
  const where = `${router.namespace}: fast path`;
  try {
    if (kept !== undefined && read) readPlaces(kept, where, pass);
    writePlaces(open, places, links, read, pass);
    // What the one before had is where it was.
    const unknown = read || kept === undefined;
    if (unknown || open.links !== links) writeFilters(netlink, open, router, links, unknown, where, pass);
    if (changed || pass.writes !== writes) forgetFlows(open);
  } catch (error) {
    if (kept === undefined) closeProgram(open);
    throw error;
  }
  if (kept === undefined && before !== undefined) closeProgram(before);
  return open;
}

/** All are found out anew, with the next packet of each; by none while it is odd. */
function nextGeneration(open: FastPath): void {
  open.generation = (open.generation + 1) % 2 ** 32;
  const values = Buffer.alloc(4);
  values.writeUInt32LE(open.generation);
  bpf.updateMap(open.maps.generation, { keys: Buffer.alloc(4), values, count: 1 });
}

/** All are found out anew, with the next packet of each. `write` meanwhile changes endpoints: nothing goes by them. */
function forgetFlows(open: FastPath, write?: () => void): void {
  nextGeneration(open);
  write?.();
  nextGeneration(open);
}

/** Of what went together with its device. */
const GONE = ['ENODEV', 'ENOENT', 'EINVAL'];

/** What is there, whoever wrote it. */
function readPlaces(open: FastPath, where: string, pass: Pass): void {
  const { keys, values, count } = bpf.listMap(open.maps.endpoints, ADDRESS, ENDPOINT, open.room);
  const found = new Map<string, string>();
  for (let i = 0; i < count; i++) {
    const address = addressOfKey(keys.subarray(i * ADDRESS, (i + 1) * ADDRESS));
    found.set(address, values.toString('hex', i * ENDPOINT, (i + 1) * ENDPOINT));
  }
  for (const address of found.keys())
    if (!open.present.has(address)) pass.repaired.push(`${where}: removed ${address}`);
  for (const [address, value] of open.present)
    if (found.get(address) !== value) pass.repaired.push(`${where}: restored ${address}`);
  open.present = found;
}

/** What differs from what is there, of the parts that are in only one of the two states, or of all. */
function writePlaces(
  open: FastPath,
  places: Places,
  links: readonly route.Link[],
  all: boolean,
  pass: Pass,
): void {
  const { maps, present } = open;
  const byName = new Map(links.map((link) => [link.name, link]));
  const changed = changedParts(open.places, places);
  const old = new Map(changed.gone.flat().map((place) => [place.address, place]));
  const wanted = new Map<string, string>();
  for (const place of (all ? [...places.values()] : changed.added).flat()) {
    const device = byName.get(place.device);
    const same = !all && samePlace(old.get(place.address), place);
    if (same) old.delete(place.address);
    else if (device !== undefined) wanted.set(place.address, entryOf(place, device));
  }
  // What went with one part may be in another that was there before: a container that moved is in two for a while.
  const lost = all ? [] : [...old.keys()].filter((address) => !wanted.has(address));
  if (lost.length > 0) {
    const addresses = new Set(lost);
    for (const place of [...places.values()].flat()) {
      const device = addresses.has(place.address) ? byName.get(place.device) : undefined;
      if (device !== undefined) wanted.set(place.address, entryOf(place, device));
    }
  }
  const known = all ? present : old;
  const gone = [...known.keys()].filter((address) => present.has(address) && !wanted.has(address));
  const news = [...wanted].filter(([address, value]) => present.get(address) !== value);
  const keysOf = (addresses: readonly string[]): Buffer => Buffer.concat(addresses.map(keyOfAddress));
  if (gone.length + news.length > 0)
    forgetFlows(open, () => {
      bpf.deleteFromMap(maps.endpoints, keysOf(gone), gone.length);
      bpf.updateMap(maps.endpoints, {
        keys: keysOf(news.map(([address]) => address)),
        values: Buffer.from(news.map(([, value]) => value).join(''), 'hex'),
        count: news.length,
      });
    });
  for (const address of gone) present.delete(address);
  for (const [address, value] of news) present.set(address, value);
  pass.writes += gone.length + news.length;
  open.places = places;
}

/** The program runs at the tunnels and at the ports that are not shaped or marked, and nowhere else. */
function writeFilters(
  netlink: Netlink,
  open: FastPath,
  router: Router,
  links: readonly route.Link[],
  read: boolean,
  where: string,
  pass: Pass,
): void {
  const fast = new Set([...router.tunnels, ...router.ports.filter(isFast)].map((d) => d.device));
  const shaped = new Set(router.ports.flatMap((p) => (p.limit === undefined ? [] : [p.device])));
  const before = open.devices;
  const { running, held } = read
    ? readFilters(netlink, open, links, where, pass)
    : { running: before, held: before };
  for (const { index, name } of links)
    if (fast.has(name) && before.has(index) && !running.has(index))
      pass.repaired.push(`${where}: restored ${name}`);
  // Where a limit came, its own qdisc has taken the place (shape.ts).
  const stray = links.filter((l) => held.has(l.index) && !fast.has(l.name) && !shaped.has(l.name));
  send(
    netlink,
    stray.map((link) => traffic.deleteClassAction(link.index)),
    pass,
    where,
    GONE,
  );
  const wanted = links.filter((link) => fast.has(link.name));
  open.devices = attach(netlink, open.program, wanted, running, where, pass);
  open.links = links;
}

/**
 * Indices of the devices at which this program runs alone, and of all that have a qdisc for programs. A single other one,
 * of an agent before this, may stay until it is replaced; what else is in its place goes.
 */
function readFilters(
  netlink: Netlink,
  { id }: FastPath,
  links: readonly route.Link[],
  where: string,
  pass: Pass,
): { running: Set<number>; held: Set<number> } {
  const ours = new Set(links.filter((l) => /^(ct|vx)/.test(l.name)).map((l) => l.index));
  const running = new Set<number>();
  const held = new Set<number>();
  for (const { kind, device } of traffic.listQdiscs(netlink)) {
    if (kind !== 'clsact' || !ours.has(device)) continue;
    const [filter, ...more] = traffic.listFilters(netlink, device);
    if (more.length === 0 && filter?.program === id) running.add(device);
    if (more.length === 0 && filter?.kind === 'bpf') held.add(device);
    else send(netlink, [traffic.deleteClassAction(device)], pass, where, GONE);
  }
  return { running, held };
}

/** Has the program run at these devices; answers the indices of those at which it does. */
function attach(
  netlink: Netlink,
  program: number,
  wanted: readonly route.Link[],
  already: ReadonlySet<number>,
  where: string,
  pass: Pass,
): Set<number> {
  const running = new Set<number>();
  for (const { index } of wanted) {
    if (!already.has(index)) {
      // The qdisc may be there: only whether the program could be set says something.
      const [, error] = netlink.batch([
        traffic.addClassAction(index),
        traffic.setProgram(index, program, NAME),
      ]);
      pass.writes += 2;
      if (error !== undefined) {
        if (error.code !== 'ENODEV') pass.failed.push({ message: `${where}: ${error.message}` });
        continue;
      }
    }
    running.add(index);
  }
  return running;
}
