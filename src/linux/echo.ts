/**
 * ICMP echo of a given size that nobody may cut: whether a packet of that size arrives at an address and an answer to it comes
 * back (icmp(7), raw(7)). The host's own kernel answers there, without a program of ours.
 */
import os from 'node:os';
import { setTimeout as after } from 'node:timers/promises';
import {
  AF_INET,
  AF_INET6,
  bind,
  close,
  connect,
  received,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_RAW,
  type SyscallError,
  send,
  setOption,
  socket,
} from './libc.ts';
import { socketAddress } from './netns.ts';
import { PROTOCOL, withChecksum } from './packet.ts';

// linux/in.h and in6.h: with PROBE every packet says that it must not be cut, and what is known of the path is left aside.
const IPPROTO_IP = 0;
const IP_MTU_DISCOVER = 10;
const IPPROTO_IPV6 = 41;
const IPV6_MTU_DISCOVER = 23;
const PMTUDISC_PROBE = 3;

const HEADERS = { 4: 20, 6: 40 } as const;
const ECHO = 8;
/** Bytes: an echo without data. */
export const LEAST_ECHO = { 4: HEADERS[4] + ECHO, 6: HEADERS[6] + ECHO } as const;
/** Milliseconds between looks whether an answer is there. */
const LOOK = 20;

const TYPES = { 4: { request: 8, reply: 0 }, 6: { request: 128, reply: 129 } } as const;

/** Errors of send(2) that say something of the path, and nothing of us. */
const LOST = new Set(
  ['EMSGSIZE', 'EHOSTUNREACH', 'ENETUNREACH', 'EHOSTDOWN', 'EAGAIN', 'ENOBUFS', 'EPERM'].map(
    (name) => os.constants.errno[name as keyof typeof os.constants.errno],
  ),
);

export interface Echo {
  /** Of the sender: the way back goes there. */
  readonly from: string;
  readonly to: string;
  /** Bytes of the IP packet, headers included. */
  readonly size: number;
  /** Milliseconds for the answer. */
  readonly patience: number;
}

let sequence = 0;

/** False: no answer came. Throws a SyscallError where the socket cannot be had. */
export async function echoes({ from, to, size, patience }: Echo): Promise<boolean> {
  const address = socketAddress(to, 0);
  const isV6 = address.length === 28;
  const version = isV6 ? 6 : 4;
  const { request, reply } = TYPES[version];
  const fd = socket(
    isV6 ? AF_INET6 : AF_INET,
    SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC,
    isV6 ? PROTOCOL.ICMP6 : PROTOCOL.ICMP,
  );
  try {
    if (isV6) setOption(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE);
    else setOption(fd, IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE);
    bind(fd, socketAddress(from, 0), address.length);
    connect(fd, address, address.length);
    sequence = (sequence + 1) & 0xffff;
    const packet = Buffer.alloc(Math.max(ECHO, size - HEADERS[version]));
    packet[0] = request;
    packet.writeUInt16BE(process.pid & 0xffff, 4);
    packet.writeUInt16BE(sequence, 6);
    // Of ICMPv6 the kernel makes it, as it has the addresses (raw(7)).
    if (!isV6) withChecksum(packet, 2);
    send(fd, packet, packet.length, 0);
    const answer = Buffer.alloc(size + HEADERS[4] + 64);
    const deadline = performance.now() + patience;
    while (performance.now() < deadline) {
      const length = received(fd, answer);
      if (length === 'nothing') {
        await after(LOOK);
        continue;
      }
      if (length === 'lost') continue;
      // Of IPv4 a raw socket gets the header too.
      const icmp = isV6 ? answer : answer.subarray(((answer[0] ?? 0) & 15) * 4);
      if (
        icmp[0] === reply &&
        icmp.readUInt16BE(4) === (process.pid & 0xffff) &&
        icmp.readUInt16BE(6) === packet.readUInt16BE(6)
      )
        return true;
    }
    return false;
  } catch (error) {
    if (LOST.has((error as SyscallError).errno)) return false;
    throw error;
  } finally {
    close(fd);
  }
}
