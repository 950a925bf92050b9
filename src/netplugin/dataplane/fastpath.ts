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
 *               change (`generation`): three lookups less for each packet, and none that writes to what both ends' processors use
 *   endpoints   where each address of the tenant is, written by the agent
 *
 * Conntrack sees of such a connection how it begins and ends only. It must not take the end for a stranger's, which is
 * why routers do not insist on sequence numbers (FAST_PATH_SETTINGS), and it must not forget the connection in between: a
 * packet goes the router's way, which renews the entry, once half of its time is over.
 *
 * The kernel's cost: 2 MB a tenant for the flows, an entry an endpoint, a qdisc and a filter a device.
 */
import { addressBytes, addressText, macBytes } from '../../linux/address.ts';
import * as bpf from '../../linux/bpf.ts';
import { type KernelTypes, readKernelTypes } from '../../linux/btf.ts';
import { assemble, type Register, reg, type Size } from '../../linux/ebpf.ts';
import { ticksPerSecond } from '../../linux/libc.ts';
import type { Netlink } from '../../linux/netlink.ts';
import type * as route from '../../linux/route.ts';
import * as traffic from '../../linux/traffic.ts';
import { isV6 } from '../../model/address.ts';
import type { Port, RemoteHost, Router } from '../state.ts';
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

const NAME = 'contiv_fast';

/** Key of an endpoint: its address; IPv4 is mapped (RFC 4291, 2.5.5.2). */
const ADDRESS = 16;
/**
 * An endpoint:
 *   0  index of the device that leads there: the container's, or the tunnel of its network
 *   4  number of its network
 *   8  MAC address of the container or of the other host's tunnels
 *  14  1 for an endpoint on another host
 *  16  MAC address that its packets come from: of the device, or of this host's tunnels
 *  22  the device's MTU
 *
 * A flow: the same of the receiver, but
 *   4  generation in which it was found out
 *  24  when that is over, in ticks
 */
const ENDPOINT = 24;
const FLOW = 28;
const DEVICE = 0;
const NETWORK = 4;
const MAC = 8;
const REMOTE = 14;
const SENDER_MAC = 16;
const MTU = 22;
const GENERATION = 4;
const OVER = 24;
/** A host's busiest connections of one tenant, in each direction: others are found out again more often. */
const FLOWS = 16_384;
const FLOW_MILLISECONDS = 100;

/** Entries of a connection live so long after a packet (net/netfilter: tcp_timeouts, udp_timeouts), in seconds. */
const TCP_ESTABLISHED = 432_000;
const UDP_STREAM = 120;

// struct __sk_buff, linux/bpf.h
const SKB_LENGTH = 0;
const SKB_PACKET_TYPE = 4;
const SKB_VLAN_PRESENT = 20;
const SKB_DEVICE = 40;
const SKB_DATA = 76;
const SKB_DATA_END = 80;
const PACKET_HOST = 0;
// helpers, linux/bpf.h
const MAP_LOOKUP = 1;
const MAP_UPDATE = 2;
const MAP_DELETE = 3;
const REDIRECT = 23;
const PULL_DATA = 39;
const JIFFIES64 = 118;
const REDIRECT_PEER = 155;
const CHECK_MTU = 163;
const BPF_MTU_CHK_SEGS = 1;
const TC_ACT_UNSPEC = -1;
// linux/netfilter/nf_conntrack_common.h
const IPS_ASSURED = 1 << 2;
const IPS_NAT = (1 << 4) | (1 << 5);
const IPS_DYING = 1 << 9;

const TCP = 6;
const UDP = 17;
const ETHERNET = 14;
const FIN_SYN_RST = 7;
/** Ethernet, IPv6 and TCP without options. */
const LONGEST_HEADERS = 74;
/** Of a mapped address, as a number of 32 bits. */
const MAPPED_PART = 0xffff0000 | 0;

const lookup = 'bpf_skb_ct_lookup';
const release = 'bpf_ct_release';
const status = 'nf_conn.status';
const timeout = 'nf_conn.timeout';

/**
 * The program's stack. The key of a flow: addresses of sender and receiver, ports, device, sender's MAC address, protocol. It
 * begins as conntrack's key of a connection over IPv6 does (struct bpf_sock_tuple).
 */
const FLOW_KEY = 48;
const KEY = -FLOW_KEY;
const SENDER = KEY;
const RECEIVER = KEY + 16;
const PORTS = KEY + 32;
const FROM_DEVICE = KEY + 36;
const FROM_MAC = KEY + 40;
const PROTOCOL = KEY + 46;
const TUPLE_V6 = 36;
/** The same of IPv4: addresses and ports. */
const TUPLE_V4 = 12;
const TUPLE = -64;
/** struct bpf_ct_opts: namespace, error, protocol. */
const OPTIONS_SIZE = 12;
const OPTIONS = -80;
const NOW = -88;
const VALUE = -120;
const LENGTH = -128;

interface Maps {
  readonly endpoints: number;
  readonly flows: number;
  readonly generation: number;
}

/** Read once: the kernel stays the same. */
let types: KernelTypes | undefined;

/** The program for these maps. Throws where the kernel lacks what it takes. */
function program({ endpoints, flows, generation }: Maps): Buffer {
  types ??= readKernelTypes([lookup, release], [status, timeout]);
  const kernel = types;
  const need = (found: ReadonlyMap<string, number>, name: string): number => {
    const number = found.get(name);
    if (number === undefined) throw new Error(`the kernel has no ${name}`);
    return number;
  };
  const ticks = ticksPerSecond();
  const p = assemble();
  const [skb, data, sender, receiver] = [6, 7, 8, 9] as const;
  // What these registers hold at other times.
  const [end, flags, connection, protocol] = [sender, sender, sender, receiver];
  const stack = 10;

  const dataPointers = (): void => {
    p.load(4, data, skb, SKB_DATA).load(4, end, skb, SKB_DATA_END);
  };
  /** Goes on where the packet reaches up to `length`. */
  const reaches = (length: number, otherwise: string): void => {
    p.set(2, reg(data)).add(2, length).jump('>', 2, reg(end), otherwise);
  };
  /** Copies from the packet to the stack. */
  const copy = (size: Size, from: number, to: number): void => {
    p.load(size, 1, data, from).store(size, stack, to, reg(1));
  };
  /** The transport header begins there; flags = those that begin or end a connection. */
  const transport = (at: number): void => {
    copy(4, at, PORTS);
    p.jump('==', protocol, TCP, `tcp${at}`).jump('!=', protocol, UDP, 'pass').set(flags, 0).go('both');
    p.label(`tcp${at}`);
    reaches(at + 20, 'pass');
    p.load(1, flags, data, at + 13)
      .and(flags, FIN_SYN_RST)
      .go('both');
  };
  const at = (register: Register, offset: number): void => {
    p.set(register, reg(stack)).add(register, offset);
  };
  /** to = the endpoint with the address at `offset` of the stack. */
  const findEndpoint = (to: 8 | 9, offset: number): void => {
    p.map(1, endpoints);
    at(2, offset);
    p.call(MAP_LOOKUP).jump('==', 0, 0, 'pass').set(to, reg(0));
  };
  const releaseConnection = (): void => {
    p.set(1, reg(connection)).callKernel(need(kernel.functions, release));
  };

  p.set(skb, reg(1));
  p.load(4, 1, skb, SKB_PACKET_TYPE).jump('!=', 1, PACKET_HOST, 'pass');
  p.load(4, 1, skb, SKB_VLAN_PRESENT).jump('!=', 1, 0, 'pass');
  dataPointers();
  reaches(ETHERNET + 28, 'pull');
  p.go('linear');
  // The headers may lie in pages of their own.
  p.label('pull').load(4, 2, skb, SKB_LENGTH).jump('>', 2, LONGEST_HEADERS, 'long').go('short');
  p.label('long').set(2, LONGEST_HEADERS);
  p.label('short').set(1, reg(skb)).call(PULL_DATA);
  dataPointers();
  reaches(ETHERNET + 28, 'pass');

  p.label('linear').load(2, 1, data, 12).jump('==', 1, 0xdd86, 'v6').jump('!=', 1, 0x0008, 'pass');
  p.load(1, 1, data, 14).jump('!=', 1, 0x45, 'pass'); // no options
  p.load(2, 1, data, 20).jump('&', 1, 0xff3f, 'pass'); // no fragment
  p.load(1, protocol, data, 23);
  for (const [from, to] of [
    [26, SENDER],
    [30, RECEIVER],
  ] as const) {
    p.store(8, stack, to, 0).store(4, stack, to + 8, MAPPED_PART);
    copy(4, from, to + 12);
  }
  transport(ETHERNET + 20);

  p.label('v6');
  reaches(ETHERNET + 48, 'pass');
  p.load(1, 1, data, 14).and(1, 0xf0).jump('!=', 1, 0x60, 'pass');
  p.load(1, protocol, data, 20);
  p.load(8, 1, data, 22).jump('==', 1, 0, 'pass'); // no endpoint's; mapped ones would be taken for IPv4
  for (let part = 0; part < 32; part += 8) copy(8, 22 + part, SENDER + part);
  transport(ETHERNET + 40);

  p.label('both');
  p.load(4, 1, skb, SKB_DEVICE).store(4, stack, FROM_DEVICE, reg(1));
  copy(4, 6, FROM_MAC);
  copy(2, 10, FROM_MAC + 4);
  p.store(2, stack, PROTOCOL, reg(protocol));
  p.jump('!=', flags, 0, 'ends');
  // Before anything is looked at: what changes while it is looked at makes it old.
  p.firstValue(1, generation).load(4, 1, 1, 0).store(8, stack, NOW, reg(1));
  p.map(1, flows);
  at(2, KEY);
  p.call(MAP_LOOKUP).jump('==', 0, 0, 'unknown').set(receiver, reg(0));
  p.load(4, 1, receiver, GENERATION).load(8, 2, stack, NOW).jump('!=', 1, reg(2), 'unknown');
  p.call(JIFFIES64).load(4, 1, receiver, OVER).subtract(1, reg(0)).jump('s<=', 1, 0, 'unknown');

  p.label('forward');
  // Too long for the device, unless it is many packets in one (GSO): the router says so to the sender.
  p.load(4, 1, skb, SKB_LENGTH).add(1, -ETHERNET).load(2, 2, receiver, MTU).jump('>', 1, reg(2), 'measure');
  p.label('fits');
  p.load(4, 1, receiver, MAC).store(4, data, 0, reg(1));
  p.load(2, 1, receiver, MAC + 4).store(2, data, 4, reg(1));
  p.load(4, 1, receiver, SENDER_MAC).store(4, data, 6, reg(1));
  p.load(2, 1, receiver, SENDER_MAC + 4).store(2, data, 10, reg(1));
  p.load(4, 1, receiver, DEVICE).set(2, 0).load(2, 3, receiver, REMOTE).jump('!=', 3, 0, 'tunnel');
  p.call(REDIRECT_PEER).exit();
  p.label('tunnel').call(REDIRECT).exit();

  p.label('measure').store(4, stack, LENGTH, 0).set(1, reg(skb)).load(4, 2, receiver, DEVICE);
  at(3, LENGTH);
  p.set(4, 0).set(5, BPF_MTU_CHK_SEGS).call(CHECK_MTU).jump('==', 0, 0, 'fits').go('pass');

  p.label('unknown');
  findEndpoint(sender, SENDER);
  findEndpoint(receiver, RECEIVER);
  p.load(4, 1, sender, DEVICE).load(4, 2, stack, FROM_DEVICE).jump('!=', 1, reg(2), 'pass');
  p.load(4, 1, sender, NETWORK).load(4, 2, receiver, NETWORK).jump('!=', 1, reg(2), 'pass');
  p.load(2, 1, sender, REMOTE).jump('==', 1, 0, 'known');
  // What came through the tunnel is from the host that the sender is on, and for a container here.
  p.load(2, 1, receiver, REMOTE).jump('!=', 1, 0, 'pass');
  p.load(4, 1, sender, MAC).load(4, 2, stack, FROM_MAC).jump('!=', 1, reg(2), 'pass');
  p.load(2, 1, sender, MAC + 4)
    .load(2, 2, stack, FROM_MAC + 4)
    .jump('!=', 1, reg(2), 'pass');

  p.label('known');
  p.store(4, stack, OPTIONS, -1) // the namespace of the device
    .store(4, stack, OPTIONS + 4, 0)
    .load(2, 1, stack, PROTOCOL)
    .store(4, stack, OPTIONS + 8, reg(1));
  at(2, KEY);
  p.set(3, TUPLE_V6).load(8, 1, stack, SENDER).jump('!=', 1, 0, 'find');
  for (const [from, to] of [
    [SENDER + 12, TUPLE],
    [RECEIVER + 12, TUPLE + 4],
    [PORTS, TUPLE + 8],
  ] as const)
    p.load(4, 1, stack, from).store(4, stack, to, reg(1));
  at(2, TUPLE);
  p.set(3, TUPLE_V4);
  p.label('find').set(1, reg(skb));
  at(4, OPTIONS);
  p.set(5, OPTIONS_SIZE).callKernel(need(kernel.functions, lookup));
  p.jump('==', 0, 0, 'pass').set(connection, reg(0));
  p.load(8, 1, connection, need(kernel.fields, status))
    .and(1, IPS_ASSURED | IPS_NAT | IPS_DYING)
    .jump('!=', 1, IPS_ASSURED, 'release');
  p.call(JIFFIES64)
    .load(4, 1, connection, need(kernel.fields, timeout))
    .subtract(1, reg(0))
    .load(2, 2, stack, PROTOCOL)
    .jump('==', 2, UDP, 'udp')
    .jump('s<=', 1, (TCP_ESTABLISHED / 2) * ticks, 'release')
    .go('fresh')
    .label('udp')
    .jump('s<=', 1, (UDP_STREAM / 2) * ticks, 'release')
    .label('fresh');
  releaseConnection();
  for (let part = 0; part < ENDPOINT; part += 8)
    p.load(8, 1, receiver, part).store(8, stack, VALUE + part, reg(1));
  p.load(8, 1, stack, NOW).store(4, stack, VALUE + GENERATION, reg(1));
  p.call(JIFFIES64)
    .add(0, Math.ceil((FLOW_MILLISECONDS / 1000) * ticks))
    .store(4, stack, VALUE + OVER, reg(0));
  p.map(1, flows);
  at(2, KEY);
  at(3, VALUE);
  p.set(4, 0).call(MAP_UPDATE).go('forward');

  p.label('release');
  releaseConnection();
  p.go('pass');
  // From now on conntrack sees all of it, whose entry does not live as long any more.
  p.label('ends').map(1, flows);
  at(2, KEY);
  p.call(MAP_DELETE);
  p.label('pass').set(0, TC_ACT_UNSPEC).exit();
  return p.code();
}

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
const hostPlaces = once(({ mac, endpoints }: RemoteHost): readonly Place[] =>
  endpoints.map(({ address, device }) => ({ address, device, mac })),
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

const MAPPED = Buffer.from('00000000000000000000ffff', 'hex');
const keyOf = (address: string): Buffer =>
  isV6(address) ? addressBytes(address) : Buffer.concat([MAPPED, addressBytes(address)]);

function entryOf(place: Place, device: route.Link): Buffer {
  const value = Buffer.alloc(ENDPOINT);
  value.writeUInt32LE(device.index, DEVICE);
  value.writeUInt32LE(place.network ?? device.vxlan?.vni ?? 0, NETWORK);
  macBytes(place.mac).copy(value, MAC);
  value.writeUInt16LE(place.network === undefined ? 1 : 0, REMOTE);
  macBytes(device.mac).copy(value, SENDER_MAC);
  value.writeUInt16LE(device.mtu, MTU);
  return value;
}

/** What is in the kernel for one router. */
export interface FastPath {
  readonly maps: Maps;
  readonly program: number;
  /** The kernel's number of the program. */
  readonly id: number;
  /** Endpoints that there is room for. */
  readonly room: number;
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

export function closeFastPath({ maps, program }: FastPath): void {
  bpf.closeBpf(program);
  for (const map of Object.values(maps)) bpf.closeBpf(map);
}

/** Has every packet go the router's way: a map that is not kept up to date would lead astray. */
export function removeFastPath(netlink: Netlink, open: FastPath | undefined): void {
  if (open !== undefined) closeFastPath(open);
  const stale = traffic.listQdiscs(netlink).filter((qdisc) => qdisc.kind === 'clsact');
  netlink.batch(stale.map(traffic.deleteQdisc));
}

const LEAST_ROOM = 1024;

/** Without endpoints. Throws where the kernel lacks what it takes. */
function openFastPath(endpoints: number): FastPath {
  const room = Math.max(LEAST_ROOM, 2 ** Math.ceil(Math.log2(2 * endpoints)));
  const opened: number[] = [];
  const keep = (fd: number): number => {
    opened.push(fd);
    return fd;
  };
  try {
    const maps: Maps = {
      endpoints: keep(bpf.createMap('hash', 'contiv_ends', ADDRESS, ENDPOINT, room)),
      flows: keep(bpf.createMap('lru', 'contiv_flows', FLOW_KEY, FLOW, FLOWS)),
      generation: keep(bpf.createMap('array', 'contiv_now', 4, 4, 1)),
    };
    const loaded = keep(bpf.loadProgram(NAME, program(maps)));
    return {
      maps,
      program: loaded,
      id: bpf.programId(loaded),
      room,
      present: new Map(),
      generation: 0,
      places: new Map(),
      links: [],
      devices: new Set(),
    };
  } catch (error) {
    opened.forEach(bpf.closeBpf);
    throw error;
  }
}

/**
 * Makes maps and filters follow the router, after all else is there. `links` are those of the namespace as they are now;
 * `read`: the kernel is read and put right; `changed`: something of the router was. Answers what to give to the next call; what was given is changed, or closed
 * where another takes its place. Throws where the kernel lacks what it takes.
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
    if (kept === undefined) closeFastPath(open);
    throw error;
  }
  if (kept === undefined && before !== undefined) closeFastPath(before);
  return open;
}

/** All are found out anew, with the next packet of each. */
function forgetFlows(open: FastPath): void {
  open.generation = (open.generation + 1) % 2 ** 32;
  const values = Buffer.alloc(4);
  values.writeUInt32LE(open.generation);
  bpf.updateMap(open.maps.generation, { keys: Buffer.alloc(4), values, count: 1 });
}

/** Of what went together with its device. */
const GONE = ['ENODEV', 'ENOENT', 'EINVAL'];

/** What is there, whoever wrote it. */
function readPlaces(open: FastPath, where: string, pass: Pass): void {
  const { keys, values, count } = bpf.listMap(open.maps.endpoints, ADDRESS, ENDPOINT, open.room);
  const found = new Map<string, string>();
  for (let i = 0; i < count; i++) {
    const key = keys.subarray(i * ADDRESS, (i + 1) * ADDRESS);
    const address = addressText(key.subarray(0, MAPPED.length).equals(MAPPED) ? key.subarray(12) : key);
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
    else if (device !== undefined) wanted.set(place.address, entryOf(place, device).toString('hex'));
  }
  // What went with one part may be in another that was there before: a container that moved is in two for a while.
  const lost = all ? [] : [...old.keys()].filter((address) => !wanted.has(address));
  if (lost.length > 0) {
    const addresses = new Set(lost);
    for (const place of [...places.values()].flat()) {
      const device = addresses.has(place.address) ? byName.get(place.device) : undefined;
      if (device !== undefined) wanted.set(place.address, entryOf(place, device).toString('hex'));
    }
  }
  const known = all ? present : old;
  const gone = [...known.keys()].filter((address) => present.has(address) && !wanted.has(address));
  const news = [...wanted].filter(([address, value]) => present.get(address) !== value);
  const keysOf = (addresses: readonly string[]): Buffer => Buffer.concat(addresses.map(keyOf));
  bpf.deleteFromMap(maps.endpoints, keysOf(gone), gone.length);
  bpf.updateMap(maps.endpoints, {
    keys: keysOf(news.map(([address]) => address)),
    values: Buffer.from(news.map(([, value]) => value).join(''), 'hex'),
    count: news.length,
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
