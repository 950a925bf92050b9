/**
 * The connection table by ctnetlink (linux/netfilter/nfnetlink_conntrack.h): what to forget when an address
 * goes, and where a redirected connection was going.
 */
import { addressBytes, addressText } from './address.ts';
import { AF_INET, AF_INET6 } from './libc.ts';
import { type Attributes, attribute, type Netlink, nested, readAttributes, u8, u16be } from './netlink.ts';

const NFNL_SUBSYS_CTNETLINK = 1;
const GET = (NFNL_SUBSYS_CTNETLINK << 8) | 1;
const DELETE = (NFNL_SUBSYS_CTNETLINK << 8) | 2;
const GET_STATS = (NFNL_SUBSYS_CTNETLINK << 8) | 5;
const CTA_STATS_GLOBAL_ENTRIES = 1;
const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_IP_V4_SRC = 1;
const CTA_IP_V4_DST = 2;
const CTA_IP_V6_SRC = 3;
const CTA_IP_V6_DST = 4;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_SRC_PORT = 2;
const CTA_PROTO_DST_PORT = 3;
/** In a request: of every family (linux/socket.h). */
const AF_UNSPEC = 0;
const EMPTY = Buffer.alloc(0);

export interface Tuple {
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

export interface Connection {
  readonly original: Tuple;
  readonly reply: Tuple;
}

/** struct nfgenmsg. */
const header = (family: number): Buffer => Buffer.of(family, 0, 0, 0);

function readTuple(bytes: Buffer | undefined): Tuple {
  const tuple = readAttributes(bytes ?? EMPTY);
  const ip = readAttributes(tuple.get(CTA_TUPLE_IP) ?? EMPTY);
  const protocol = readAttributes(tuple.get(CTA_TUPLE_PROTO) ?? EMPTY);
  const source = ip.get(CTA_IP_V4_SRC) ?? ip.get(CTA_IP_V6_SRC);
  const destination = ip.get(CTA_IP_V4_DST) ?? ip.get(CTA_IP_V6_DST);
  return {
    source: source === undefined ? '' : addressText(source),
    destination: destination === undefined ? '' : addressText(destination),
    protocol: protocol.get(CTA_PROTO_NUM)?.[0] ?? 0,
    sourcePort: protocol.get(CTA_PROTO_SRC_PORT)?.readUInt16BE() ?? 0,
    destinationPort: protocol.get(CTA_PROTO_DST_PORT)?.readUInt16BE() ?? 0,
  };
}

function readConnection(body: Buffer): Connection & { family: number; raw: Attributes } {
  const raw = readAttributes(body.subarray(4));
  return {
    family: body[0] ?? AF_UNSPEC,
    original: readTuple(raw.get(CTA_TUPLE_ORIG)),
    reply: readTuple(raw.get(CTA_TUPLE_REPLY)),
    raw,
  };
}

function dump(netlink: Netlink, family: number) {
  return netlink
    .dump({ type: GET, flags: 0, body: header(family), text: 'conntrack -L' })
    .map(({ body }) => readConnection(body));
}

export function listConnections(netlink: Netlink, version: 4 | 6): Connection[] {
  return dump(netlink, version === 4 ? AF_INET : AF_INET6).map(({ original, reply }) => ({
    original,
    reply,
  }));
}

/** How many there are in this namespace, of all families: the kernel has their number, and walks nothing. */
export function countConnections(netlink: Netlink): number {
  const text = 'conntrack -C';
  const answer = netlink.get({ type: GET_STATS, flags: 0, body: header(AF_UNSPEC), text });
  const entries = readAttributes(answer?.body.subarray(4) ?? EMPTY).get(CTA_STATS_GLOBAL_ENTRIES);
  if (entries === undefined) throw new Error(`${text}: the kernel does not say how many`);
  return entries.readUInt32BE();
}

/**
 * Forgets those connections. Answers how many. Of both families by one dump: the kernel walks its whole table for each, which all
 * namespaces share, however few of it are in this one; where there are none it is not asked to.
 */
export function forgetConnections(netlink: Netlink, which: (connection: Connection) => boolean): number {
  if (countConnections(netlink) === 0) return 0;
  const requests = dump(netlink, AF_UNSPEC)
    .filter(which)
    .map(({ family, raw }) => ({
      type: DELETE,
      flags: 0,
      body: Buffer.concat([header(family), nested(CTA_TUPLE_ORIG, raw.get(CTA_TUPLE_ORIG) ?? EMPTY)]),
      text: 'conntrack -D',
    }));
  let count = 0;
  for (const error of netlink.batch(requests))
    if (error === undefined) count++;
    else if (error.code !== 'ENOENT') throw error; // it had ended by itself
  return count;
}

/** The connection whose answers look like this; undefined where there is none. */
export function findByReply(netlink: Netlink, reply: Tuple): Connection | undefined {
  const v4 = !reply.source.includes(':');
  const tuple = nested(
    CTA_TUPLE_REPLY,
    nested(
      CTA_TUPLE_IP,
      attribute(v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, addressBytes(reply.source)),
      attribute(v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST, addressBytes(reply.destination)),
    ),
    nested(
      CTA_TUPLE_PROTO,
      attribute(CTA_PROTO_NUM, u8(reply.protocol)),
      attribute(CTA_PROTO_SRC_PORT, u16be(reply.sourcePort)),
      attribute(CTA_PROTO_DST_PORT, u16be(reply.destinationPort)),
    ),
  );
  const body = Buffer.concat([header(v4 ? AF_INET : AF_INET6), tuple]);
  const answer = netlink.get({ type: GET, flags: 0, body, text: 'conntrack -G' });
  return answer === undefined ? undefined : readConnection(answer.body);
}
