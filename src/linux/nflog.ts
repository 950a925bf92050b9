/**
 * Packets that nftables logs to a group (`log group N`), by nfnetlink_log (linux/netfilter/nfnetlink_log.h). The kernel
 * gathers them in the socket of whoever has bound the group in this namespace; a full socket loses packets, it holds up none.
 */
import { addressText, macText } from './address.ts';
import * as libc from './libc.ts';
import {
  attribute,
  NETLINK_NETFILTER,
  NetlinkError,
  NLM_F_ACK,
  NLM_F_REQUEST,
  readAttributes,
  readText,
  u32be,
} from './netlink.ts';

const NFNL_SUBSYS_ULOG = 4;
const NFULNL_MSG_PACKET = NFNL_SUBSYS_ULOG << 8;
const NFULNL_MSG_CONFIG = (NFNL_SUBSYS_ULOG << 8) | 1;
const NFULA_CFG_CMD = 1;
const NFULNL_CFG_CMD_BIND = 1;
const NFULA_CFG_MODE = 2;
const NFULNL_COPY_PACKET = 2;
const NFULA_CFG_TIMEOUT = 4;
const NFULA_MARK = 2;
const NFULA_INDEV = 4;
const NFULA_HWADDR = 8;
const NFULA_PAYLOAD = 9;
const NFULA_PREFIX = 10;
const NLMSG_ERROR = 2;
const HEADER = 16;

/** Hundredths of a second that the kernel gathers packets before it hands them over. */
const GATHER = 10;
/** Bytes of a packet: IPv6's header, extension headers and ports. */
const COPY = 96;

export interface LoggedPacket {
  /** Of the rule that logged it: `log prefix`. */
  readonly prefix: string;
  readonly mark: number;
  /** Index of the device that it arrived by; 0: by none. */
  readonly device: number;
  /** The sender's MAC address, '' where the kernel says none. */
  readonly mac: string;
  readonly from: string;
  readonly to: string;
  /** IANA number; of IPv6 the one behind the extension headers. */
  readonly protocol: number;
  /** Destination port of TCP, UDP and SCTP. */
  readonly port?: number;
}

export interface PacketLog {
  /** What came since the last call, without waiting, so many at most. */
  read(limit: number): LoggedPacket[];
  close(): void;
}

/** Binds the group in the thread's current namespace. Throws a NetlinkError: EPERM where another has bound it. */
export function openPacketLog(group: number): PacketLog {
  const fd = libc.socket(libc.AF_NETLINK, libc.SOCK_RAW | libc.SOCK_CLOEXEC, NETLINK_NETFILTER);
  const buffer = Buffer.alloc(1 << 17);
  try {
    const mode = Buffer.concat([u32be(COPY), Buffer.of(NFULNL_COPY_PACKET, 0)]);
    configure(attribute(NFULA_CFG_CMD, Buffer.of(NFULNL_CFG_CMD_BIND)), 'bind');
    configure(attribute(NFULA_CFG_MODE, mode), 'mode');
    configure(attribute(NFULA_CFG_TIMEOUT, u32be(GATHER)), 'timeout');
  } catch (error) {
    libc.close(fd);
    throw error;
  }

  /** Packets that come before the acknowledgement are of no use to anybody yet. */
  function configure(what: Buffer, name: string): void {
    const message = Buffer.alloc(HEADER + 4 + what.length);
    message.writeUInt32LE(message.length, 0);
    message.writeUInt16LE(NFULNL_MSG_CONFIG, 4);
    message.writeUInt16LE(NLM_F_REQUEST | NLM_F_ACK, 6);
    message.writeUInt16BE(group, HEADER + 2); // struct nfgenmsg: family 0, version 0, resource id
    what.copy(message, HEADER + 4);
    libc.send(fd, message, message.length, 0);
    for (;;)
      for (const { type, body } of messages(libc.recv(fd, buffer, buffer.length, 0))) {
        if (type !== NLMSG_ERROR) continue;
        const errno = -body.readInt32LE(0);
        if (errno !== 0) throw new NetlinkError(`nflog group ${group}: ${name}`, errno, '');
        return;
      }
  }

  function* messages(length: number): Generator<{ type: number; body: Buffer }> {
    for (let at = 0; at + HEADER <= length; ) {
      const size = buffer.readUInt32LE(at);
      if (size < HEADER || at + size > length) return;
      yield { type: buffer.readUInt16LE(at + 4), body: buffer.subarray(at + HEADER, at + size) };
      at += (size + 3) & ~3;
    }
  }

  return {
    read(limit) {
      const packets: LoggedPacket[] = [];
      while (packets.length < limit) {
        const length = libc.received(fd, buffer);
        if (length === 'nothing') break;
        if (length === 'lost') continue;
        for (const { type, body } of messages(length)) {
          const packet = type === NFULNL_MSG_PACKET ? readLogged(body) : undefined;
          if (packet !== undefined) packets.push(packet);
        }
      }
      return packets;
    },
    close: () => {
      libc.close(fd);
    },
  };
}

function readLogged(body: Buffer): LoggedPacket | undefined {
  const attributes = readAttributes(body.subarray(4));
  const packet = readPacket(attributes.get(NFULA_PAYLOAD) ?? Buffer.alloc(0));
  return (
    packet && {
      ...packet,
      prefix: readText(attributes.get(NFULA_PREFIX)),
      mark: attributes.get(NFULA_MARK)?.readUInt32BE() ?? 0,
      device: attributes.get(NFULA_INDEV)?.readUInt32BE() ?? 0,
      mac: macOf(attributes.get(NFULA_HWADDR)),
    }
  );
}

/** struct nfulnl_msg_packet_hw. */
const macOf = (hardware: Buffer | undefined): string =>
  hardware === undefined || hardware.readUInt16BE(0) !== 6 ? '' : macText(hardware.subarray(4, 10));

type Headers = Pick<LoggedPacket, 'from' | 'to' | 'protocol' | 'port'>;

/** Those whose destination port is the second 16 bits: TCP, UDP, SCTP. */
const WITH_PORTS = [6, 17, 132];
/** IPv6 extension headers: hop by hop, routing, destination options; length in units of 8 bytes, less one (RFC 8200). */
const EXTENSIONS = [0, 43, 60];
const FRAGMENT = 44;

/** From an IP header on; undefined where it is none, or cut off. */
export function readPacket(bytes: Buffer): Headers | undefined {
  const version = (bytes[0] ?? 0) >> 4;
  if (version === 4 && bytes.length >= 20) {
    const protocol = bytes[9] as number;
    const fragment = bytes.readUInt16BE(6) & 0x1fff;
    return {
      from: addressText(bytes.subarray(12, 16)),
      to: addressText(bytes.subarray(16, 20)),
      protocol,
      ...(fragment === 0 ? portAt(bytes, protocol, ((bytes[0] as number) & 15) * 4) : {}),
    };
  }
  if (version !== 6 || bytes.length < 40) return undefined;
  let protocol = bytes[6] as number;
  let at = 40;
  while ((EXTENSIONS.includes(protocol) || protocol === FRAGMENT) && at + 8 <= bytes.length) {
    const length = protocol === FRAGMENT ? 8 : ((bytes[at + 1] as number) + 1) * 8;
    protocol = bytes[at] as number;
    at += length;
  }
  return {
    from: addressText(bytes.subarray(8, 24)),
    to: addressText(bytes.subarray(24, 40)),
    protocol,
    ...portAt(bytes, protocol, at),
  };
}

const portAt = (bytes: Buffer, protocol: number, at: number): { port?: number } =>
  WITH_PORTS.includes(protocol) && at + 4 <= bytes.length ? { port: bytes.readUInt16BE(at + 2) } : {};
