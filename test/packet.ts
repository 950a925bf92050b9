/** Packets for what no well-behaved program would send. */
import { addressBytes, macBytes } from '../src/linux/address.ts';
import {
  ethernet,
  type IpOptions,
  ip,
  PROTOCOL,
  pseudoHeader,
  short,
  tcpSyn,
  udp,
  udpDatagram,
  withChecksum,
} from '../src/linux/packet.ts';

export { ethernet, ip, PROTOCOL, tcpSyn, udp, udpDatagram };

export interface End {
  readonly mac: string;
  readonly address: string;
}

/** `rest` is the second word of the header: id and sequence number, a path's MTU, a better gateway. */
export function icmp(type: number, code: number, rest: Buffer, data: Buffer = Buffer.alloc(0)): Buffer {
  return withChecksum(Buffer.concat([Buffer.from([type, code, 0, 0]), rest, data]), 2);
}

export function echo(from: string, to: string, options?: IpOptions): Buffer {
  const rest = Buffer.from([0x77, 0x77, 0, 1]);
  if (!from.includes(':')) return ip(from, to, PROTOCOL.ICMP, icmp(8, 0, rest), options);
  const message = Buffer.concat([Buffer.from([128, 0, 0, 0]), rest]);
  return ip(
    from,
    to,
    PROTOCOL.ICMP6,
    withChecksum(message, 2, pseudoHeader(from, to, PROTOCOL.ICMP6, message.length)),
  );
}

/** An error about a packet that is quoted, as RFC 792 and RFC 4443 have it. `rest`: a path's MTU, a better gateway. */
export function icmpError(
  from: string,
  to: string,
  [type, code]: readonly [type: number, code: number],
  quoted: Buffer,
  rest: Buffer = Buffer.alloc(4),
): Buffer {
  if (!from.includes(':')) return ip(from, to, PROTOCOL.ICMP, icmp(type, code, rest, quoted));
  const message = Buffer.concat([Buffer.from([type, code, 0, 0]), rest, quoted]);
  return ip(
    from,
    to,
    PROTOCOL.ICMP6,
    withChecksum(message, 2, pseudoHeader(from, to, PROTOCOL.ICMP6, message.length)),
  );
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
  const pseudo = pseudoHeader(from.address, target, PROTOCOL.ICMP6, message.length);
  return ip(from.address, target, PROTOCOL.ICMP6, withChecksum(message, 2, pseudo), { ttl: 255 });
}
