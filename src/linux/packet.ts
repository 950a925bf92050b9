/** Packets byte by byte. */
import { addressBytes, macBytes } from './address.ts';

const ICMP = 1;
const TCP = 6;
const UDP = 17;
const ICMP6 = 58;
export const PROTOCOL = { ICMP, TCP, UDP, ICMP6 } as const;

/** In network order. */
export const short = (number: number): Buffer => Buffer.from([(number >> 8) & 255, number & 255]);

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  const even = bytes.length % 2 === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(1)]);
  let sum = 0;
  for (let at = 0; at < even.length; at += 2) sum += even.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

/** Over all of it, written at the offset, where there are zeros. */
export function withChecksum(bytes: Buffer, at: number, pseudo: Buffer = Buffer.alloc(0)): Buffer {
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
export function pseudoHeader(from: string, to: string, protocol: number, length: number): Buffer {
  const middle = from.includes(':')
    ? Buffer.concat([Buffer.alloc(2), short(length), Buffer.from([0, 0, 0, protocol])])
    : Buffer.concat([Buffer.from([0, protocol]), short(length)]);
  return Buffer.concat([addressBytes(from), addressBytes(to), middle]);
}

/** Of those who listen for what is asked about an address, as a group of Ethernet's (RFC 4291 2.7.1, RFC 2464 7). */
export const solicitedMac = (address: string): string =>
  `33:33:ff:${[...addressBytes(address).subarray(-3)].map((b) => b.toString(16).padStart(2, '0')).join(':')}`;

/** To all on the link: who has the address, in place of whoever had it (RFC 4861, 4.4 and 7.2.6). */
export function unsolicitedAdvertisement(mac: string, address: string): Buffer {
  const everybody = 'ff02::1';
  const message = Buffer.concat([
    Buffer.from([136, 0, 0, 0, 0x20, 0, 0, 0]), // override
    addressBytes(address),
    Buffer.from([2, 1]),
    macBytes(mac),
  ]);
  const pseudo = pseudoHeader(address, everybody, ICMP6, message.length);
  const packet = ip(address, everybody, ICMP6, withChecksum(message, 2, pseudo), { ttl: 255 });
  return ethernet(mac, '33:33:00:00:00:01', packet);
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
