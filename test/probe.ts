/**
 * First packets of connections between network namespaces, by real sockets, many at once: TCP and UDP to a port where
 * something listens, ICMP echo, and the first packet of SCTP, which raw sockets send and receive where a kernel has none. All system calls return at
 * once; what has arrived is looked up when all are sent.
 */
import koffi from 'koffi';
import { addressBytes } from '../src/linux/address.ts';
import {
  AF_INET,
  AF_INET6,
  bind,
  close,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOCK_STREAM,
  setOption,
  socket,
} from '../src/linux/libc.ts';
import { inNamespace } from '../src/linux/netns.ts';
import type { Packet } from '../src/model/verdict.ts';

const libc = koffi.load('libc.so.6');
export const listen = libc.func('int listen(int fd, int backlog)');
export const connect = libc.func('int connect(int fd, const void *address, uint32_t length)');
const sendto = libc.func(
  'intptr_t sendto(int fd, const void *data, size_t length, int flags, const void *to, uint32_t size)',
);
const receive = libc.func('intptr_t recv(int fd, _Out_ void *data, size_t length, int flags)');
const getsockopt = libc.func(
  'int getsockopt(int fd, int level, int name, _Out_ void *value, _Inout_ uint32_t *length)',
);

const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SOL_IPV6 = 41;
const IPV6_V6ONLY = 26;
const SOL_TCP = 6;
const TCP_INFO = 11;
const TCP_ESTABLISHED = 1;
const TCP = 6;
const UDP = 17;
const SCTP = 132;

/** struct sockaddr_in or sockaddr_in6. */
export function socketAddress(address: string, port: number): Buffer {
  const bytes = addressBytes(address);
  const out = Buffer.alloc(bytes.length === 4 ? 16 : 28);
  out.writeUInt16LE(bytes.length === 4 ? AF_INET : AF_INET6, 0);
  out.writeUInt16BE(port, 2);
  bytes.copy(out, bytes.length === 4 ? 4 : 8);
  return out;
}

export const familyOf = (address: string): number => (address.includes(':') ? AF_INET6 : AF_INET);

/** Where an address lives: path of its network namespace. */
export type NamespaceOf = (address: string) => string;

/** Answers for each packet whether it got through: connected, received, answered. */
export async function probe(
  packets: readonly Packet[],
  namespaceOf: NamespaceOf,
  waitMs: number,
): Promise<boolean[]> {
  const open: number[] = [];
  const opened = (namespace: string, make: () => number): number => {
    const fd = inNamespace(namespace, make);
    open.push(fd);
    return fd;
  };
  try {
    const receivers = new Map<string, number>();
    for (const { to, protocol, port = 0 } of packets) {
      if (protocol !== TCP && protocol !== UDP && protocol !== SCTP) continue;
      const name = `${protocol} ${to} ${protocol === SCTP ? '' : port}`;
      if (!receivers.has(name))
        receivers.set(
          name,
          opened(namespaceOf(to), () => receiver(to, protocol, port)),
        );
    }
    const senders = packets.map((packet, id) => opened(namespaceOf(packet.from), () => sender(packet, id)));
    await new Promise((done) => setTimeout(done, waitMs));
    const arrived = new Set<number>();
    for (const [name, fd] of receivers)
      if (name.startsWith(`${UDP} `)) for (const bytes of received(fd)) arrived.add(bytes.readUInt32BE(0));
      else if (name.startsWith(`${SCTP} `))
        for (const bytes of received(fd)) arrived.add(tagOf(payload(bytes, name.includes(':'))));
    return packets.map(({ protocol, from }, id) => {
      const fd = senders[id] as number;
      if (protocol === TCP) return isEstablished(fd);
      if (protocol === UDP || protocol === SCTP) return arrived.has(id);
      return received(fd).some((bytes) => isEchoReply(bytes, from, id));
    });
  } finally {
    for (const fd of open) close(fd);
  }
}

/** Of SCTP one that has all that come for the address. */
export function receiver(address: string, protocol: number, port: number): number {
  const type = protocol === SCTP ? SOCK_RAW : protocol === TCP ? SOCK_STREAM : SOCK_DGRAM;
  const fd = socket(familyOf(address), type | SOCK_NONBLOCK, protocol === SCTP ? SCTP : 0);
  setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (address.includes(':') && protocol !== SCTP) setOption(fd, SOL_IPV6, IPV6_V6ONLY, 1);
  const at = socketAddress(address, protocol === SCTP ? 0 : port);
  bind(fd, at, at.length);
  if (protocol === TCP) listen(fd, 512);
  return fd;
}

/** A socket in the thread's namespace that has sent its first packet: for TCP one that is connecting. */
export function sender({ from, to, protocol, port = 0 }: Packet, id: number): number {
  const raw = protocol !== TCP && protocol !== UDP;
  const type = raw ? SOCK_RAW : protocol === TCP ? SOCK_STREAM : SOCK_DGRAM;
  const fd = socket(familyOf(from), type | SOCK_NONBLOCK, raw ? protocol : 0);
  const own = socketAddress(from, 0);
  bind(fd, own, own.length);
  const peer = socketAddress(to, raw ? 0 : port);
  if (protocol === TCP) {
    connect(fd, peer, peer.length);
    return fd;
  }
  const data = protocol === SCTP ? sctpInit(port, id) : raw ? echoRequest(to, id) : Buffer.alloc(4);
  if (protocol === UDP) data.writeUInt32BE(id);
  sendto(fd, data, data.length, 0, peer, peer.length);
  return fd;
}

/** RFC 792; the kernel sums up for IPv6 (raw(7)). */
function echoRequest(to: string, id: number): Buffer {
  const bytes = Buffer.from([to.includes(':') ? 128 : 8, 0, 0, 0, 0, 0, 0, 1]);
  bytes.writeUInt16BE(id, 4);
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += bytes.readUInt16BE(i);
  bytes.writeUInt16BE(~((sum & 0xffff) + (sum >> 16)) & 0xffff, 2);
  return bytes;
}

/** An INIT alone (RFC 9260, 3.3.2), whose initiate tag, which may not be 0, says which it is. */
function sctpInit(port: number, id: number): Buffer {
  const bytes = Buffer.alloc(32);
  bytes.writeUInt16BE(20_000 + (id % 40_000), 0);
  bytes.writeUInt16BE(port, 2);
  bytes[12] = 1;
  bytes.writeUInt16BE(20, 14);
  bytes.writeUInt32BE(id + 1, 16);
  bytes.writeUInt32BE(65_536, 20);
  bytes.writeUInt16BE(1, 24);
  bytes.writeUInt16BE(1, 26);
  bytes.writeUInt32LE(crc32c(bytes), 8);
  return bytes;
}
/** Ports that packets of SCTP were for, of those whose checksum is right. */
export const sctpPorts = (packets: readonly Buffer[], six: boolean): number[] =>
  packets
    .map((bytes) => payload(bytes, six))
    .filter((bytes) => {
      const sum = bytes.readUInt32LE(8);
      bytes.writeUInt32LE(0, 8);
      return crc32c(bytes) === sum;
    })
    .map((bytes) => bytes.readUInt16BE(2));

/** Of the INIT that an SCTP packet is; -1 for any other, as the kernel's own answers. */
const tagOf = (bytes: Buffer): number => (bytes[12] === 1 ? bytes.readUInt32BE(16) - 1 : -1);

/** RFC 9260, appendix A. */
function crc32c(bytes: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return ~crc >>> 0;
}

/** A raw IPv4 socket gives the IP header too. */
const payload = (bytes: Buffer, six: boolean): Buffer =>
  six ? bytes : bytes.subarray(((bytes[0] ?? 0) & 15) * 4);

function isEchoReply(bytes: Buffer, own: string, id: number): boolean {
  const icmp = payload(bytes, own.includes(':'));
  return icmp[0] === (own.includes(':') ? 129 : 0) && icmp.readUInt16BE(4) === id;
}

export function received(fd: number): Buffer[] {
  const found: Buffer[] = [];
  const buffer = Buffer.alloc(2048);
  for (;;) {
    const length = receive(fd, buffer, buffer.length, 0) as number;
    if (length < 0) return found;
    found.push(Buffer.from(buffer.subarray(0, length)));
  }
}

function isEstablished(fd: number): boolean {
  const info = Buffer.alloc(8);
  const length = [info.length];
  return getsockopt(fd, SOL_TCP, TCP_INFO, info, length) === 0 && info[0] === TCP_ESTABLISHED;
}
