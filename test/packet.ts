/** Packets byte by byte, for what no well-behaved program would send. */
import { addressBytes, macBytes } from '../src/linux/address.ts';

export interface End {
  readonly mac: string;
  readonly address: string;
}

const ICMP = 1;
const TCP = 6;
const UDP = 17;
const ICMP6 = 58;
export const PROTOCOL = { ICMP, TCP, UDP, ICMP6 } as const;

const short = (number: number): Buffer => Buffer.from([(number >> 8) & 255, number & 255]);

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  const even = bytes.length % 2 === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(1)]);
  let sum = 0;
  for (let at = 0; at < even.length; at += 2) sum += even.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

function withChecksum(bytes: Buffer, at: number, pseudo: Buffer = Buffer.alloc(0)): Buffer {
  bytes.writeUInt16BE(checksum(Buffer.concat([pseudo, bytes])), at);
  return bytes;
}

/** An Ethernet frame; with `vlan` an 802.1Q tag. */
export function ethernet(
  from: string,
  to: string,
  payload: Buffer,
  { type = (payload[0] ?? 0) >> 4 === 6 ? 0x86dd : 0x0800, vlan }: { type?: number; vlan?: number } = {},
): Buffer {
  const tag = vlan === undefined ? [] : [short(0x8100), short(vlan)];
  return Buffer.concat([macBytes(to), macBytes(from), ...tag, short(type), payload]);
}

export interface IpOptions {
  readonly ttl?: number;
  /** Of a fragment, in bytes; a multiple of 8. */
  readonly offset?: number;
  readonly more?: boolean;
}

/** An IPv4 or IPv6 packet, by the addresses; fragments are IPv4's. */
export function ip(
  from: string,
  to: string,
  protocol: number,
  payload: Buffer,
  { ttl = 64, offset = 0, more = false }: IpOptions = {},
): Buffer {
  if (from.includes(':'))
    return Buffer.concat([
      Buffer.from([0x60, 0, 0, 0]),
      short(payload.length),
      Buffer.from([protocol, ttl]),
      addressBytes(from),
      addressBytes(to),
      payload,
    ]);
  const fragment = offset > 0 || more ? (offset >> 3) | (more ? 0x2000 : 0) : 0x4000;
  const header = withChecksum(
    Buffer.concat([
      Buffer.from([0x45, 0]),
      short(20 + payload.length),
      short(0x7777),
      short(fragment),
      Buffer.from([ttl, protocol, 0, 0]),
      addressBytes(from),
      addressBytes(to),
    ]),
    10,
  );
  return Buffer.concat([header, payload]);
}

/** What TCP, UDP and ICMPv6 sum up too (RFC 9293 3.1, RFC 8200 8.1). */
function pseudoHeader(from: string, to: string, protocol: number, length: number): Buffer {
  const middle = from.includes(':')
    ? Buffer.concat([Buffer.alloc(2), short(length), Buffer.from([0, 0, 0, protocol])])
    : Buffer.concat([Buffer.from([0, protocol]), short(length)]);
  return Buffer.concat([addressBytes(from), addressBytes(to), middle]);
}

export const udpDatagram = (sourcePort: number, port: number, data: Buffer): Buffer =>
  Buffer.concat([short(sourcePort), short(port), short(8 + data.length), short(0), data]);

export function udp(from: string, to: string, sourcePort: number, port: number, data: Buffer): Buffer {
  const datagram = udpDatagram(sourcePort, port, data);
  return ip(from, to, UDP, withChecksum(datagram, 6, pseudoHeader(from, to, UDP, datagram.length)));
}

export function tcpSyn(from: string, to: string, sourcePort: number, port: number): Buffer {
  const segment = Buffer.concat([
    short(sourcePort),
    short(port),
    Buffer.from([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]),
  ]);
  return ip(from, to, TCP, withChecksum(segment, 16, pseudoHeader(from, to, TCP, segment.length)));
}

/** `rest` is the second word of the header: id and sequence number, a path's MTU, a better gateway. */
export function icmp(type: number, code: number, rest: Buffer, data: Buffer = Buffer.alloc(0)): Buffer {
  return withChecksum(Buffer.concat([Buffer.from([type, code, 0, 0]), rest, data]), 2);
}

export function echo(from: string, to: string, options?: IpOptions): Buffer {
  const rest = Buffer.from([0x77, 0x77, 0, 1]);
  if (!from.includes(':')) return ip(from, to, ICMP, icmp(8, 0, rest), options);
  const message = Buffer.concat([Buffer.from([128, 0, 0, 0]), rest]);
  return ip(from, to, ICMP6, withChecksum(message, 2, pseudoHeader(from, to, ICMP6, message.length)));
}

/** An error about a packet that is quoted, as RFC 792 and RFC 4443 have it. `rest`: a path's MTU, a better gateway. */
export function icmpError(
  from: string,
  to: string,
  [type, code]: readonly [type: number, code: number],
  quoted: Buffer,
  rest: Buffer = Buffer.alloc(4),
): Buffer {
  if (!from.includes(':')) return ip(from, to, ICMP, icmp(type, code, rest, quoted));
  const message = Buffer.concat([Buffer.from([type, code, 0, 0]), rest, quoted]);
  return ip(from, to, ICMP6, withChecksum(message, 2, pseudoHeader(from, to, ICMP6, message.length)));
}

/** RFC 826; operation 1 asks, 2 answers. */
export function arp(operation: 1 | 2, from: End, to: End): Buffer {
  return Buffer.concat([
    Buffer.from([0, 1, 8, 0, 6, 4]),
    short(operation),
    macBytes(from.mac),
    addressBytes(from.address),
    macBytes(to.mac),
    addressBytes(to.address),
  ]);
}

/** The payload of the outer UDP datagram: a ping inside VXLAN (RFC 7348). */
export function vxlan({ vni, from, to }: { vni: number; from: End; to: End }): Buffer {
  const header = Buffer.from([8, 0, 0, 0, vni >> 16, (vni >> 8) & 255, vni & 255, 0]);
  return Buffer.concat([header, ethernet(from.mac, to.mac, echo(from.address, to.address))]);
}

/** A neighbour solicitation with the sender's link-layer address (RFC 4861, 4.3). */
export function solicitation(from: End, target: string): Buffer {
  const rest = Buffer.concat([
    Buffer.alloc(4),
    addressBytes(target),
    Buffer.from([1, 1]),
    macBytes(from.mac),
  ]);
  const message = Buffer.concat([Buffer.from([135, 0, 0, 0]), rest]);
  const pseudo = pseudoHeader(from.address, target, ICMP6, message.length);
  return ip(from.address, target, ICMP6, withChecksum(message, 2, pseudo), { ttl: 255 });
}
