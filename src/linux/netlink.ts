/**
 * Netlink: requests to the kernel as messages on a socket (netlink(7)). A socket belongs to the network
 * namespace that it was opened in. Calls are synchronous: the kernel answers within the send, so the
 * answer is there when recv is called.
 *
 *   message    length u32, type u16, flags u16, sequence u32, port u32, body, attributes
 *   attribute  length u16, type u16, value, padded to 4 bytes
 */
import * as libc from './libc.ts';

export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;

export const NLM_F_REQUEST = 1;
export const NLM_F_ACK = 4;
const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_DUMP_INTR = 0x10;
const HEADER = 16;
/** Larger than any message of a dump: the kernel fills up to 32 KiB (af_netlink.c, netlink_dump). */
const RECEIVE = 1 << 18;

const SOL_NETLINK = 270;
const NETLINK_EXT_ACK = 11;
const NETLINK_CAP_ACK = 10;
const NETLINK_GET_STRICT_CHK = 12;
const NLM_F_ACK_TLVS = 0x200;
const NLMSGERR_ATTR_MSG = 1;

/** The kernel refused a request. `code` is the errno's name, e.g. 'EEXIST'. */
export class NetlinkError extends Error {
  readonly code: string;
  readonly request: string;
  constructor(request: string, errno: number, detail: string) {
    const code = libc.errorName(errno);
    super(`${request}: ${code}${detail === '' ? '' : ` (${detail})`}`);
    this.code = code;
    this.request = request;
  }
}

export interface Request {
  readonly type: number;
  /** Beyond NLM_F_REQUEST and NLM_F_ACK. */
  readonly flags: number;
  readonly body: Buffer;
  /** For error messages: what it does, in ip(8)'s words. */
  readonly text: string;
}

export interface Message {
  readonly type: number;
  readonly body: Buffer;
}

/** A value as an attribute, padded. */
export function attribute(type: number, value: Buffer): Buffer {
  const length = 4 + value.length;
  const out = Buffer.alloc((length + 3) & ~3);
  out.writeUInt16LE(length, 0);
  out.writeUInt16LE(type, 2);
  value.copy(out, 4);
  return out;
}

const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;
export const nested = (type: number, ...inner: Buffer[]): Buffer =>
  attribute(type | NLA_F_NESTED, Buffer.concat(inner));

export function u8(value: number): Buffer {
  return Buffer.of(value);
}
export function u16(value: number): Buffer {
  const out = Buffer.alloc(2);
  out.writeUInt16LE(value);
  return out;
}
export function u16be(value: number): Buffer {
  const out = Buffer.alloc(2);
  out.writeUInt16BE(value);
  return out;
}
export function u32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32LE(value);
  return out;
}
/** Of a whole number up to 2^53. */
export function u64(value: number): Buffer {
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(BigInt(value));
  return out;
}
export function u32be(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
}
export const text = (value: string): Buffer => Buffer.from(`${value}\0`);
/** The other way round; '' where there is no such attribute. */
export const readText = (value: Buffer | undefined): string =>
  value === undefined ? '' : value.toString().replace(/\0.*$/s, '');

export interface Attributes {
  /** Of several of one type the last. */
  get(type: number): Buffer | undefined;
}

/** Attributes by type. They are looked for where they are asked for: a message of a link has some fifty, of which seven are read. */
export const readAttributes = (bytes: Buffer): Attributes => ({
  get(type) {
    let found: Buffer | undefined;
    for (let at = 0; at + 4 <= bytes.length; ) {
      const length = bytes.readUInt16LE(at);
      if (length < 4 || at + length > bytes.length) break;
      if ((bytes.readUInt16LE(at + 2) & NLA_TYPE_MASK) === type) found = bytes.subarray(at + 4, at + length);
      at += (length + 3) & ~3;
    }
    return found;
  },
});

/** All attributes in their order, as [type, value]: for lists, whose members are of one type. */
export function listAttributes(bytes: Buffer): [type: number, value: Buffer][] {
  const attributes: [number, Buffer][] = [];
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = bytes.readUInt16LE(at);
    if (length < 4 || at + length > bytes.length) break;
    attributes.push([bytes.readUInt16LE(at + 2) & NLA_TYPE_MASK, bytes.subarray(at + 4, at + length)]);
    at += (length + 3) & ~3;
  }
  return attributes;
}

export interface Netlink {
  /** The socket's address, which messages about what it changed carry; 0 before the first answer. */
  readonly port: number;
  /** Requests sent since the socket was opened. */
  readonly sent: number;
  /** Throws a NetlinkError when the kernel refuses. */
  request(request: Request): void;
  /** The answers to a dump, whole: one that the kernel calls interrupted is taken again. */
  dump(request: Request): Message[];
  /** The one answer to a request; undefined where there is no such thing (ENOENT). */
  get(request: Request): Message | undefined;
  /** Several requests, each with its error or undefined; one system call for many. */
  batch(requests: readonly Request[]): (NetlinkError | undefined)[];
  /** Requests that happen together or not at all, framed by two others. Throws the first NetlinkError. */
  transact(begin: Request, requests: readonly Request[], end: Request): void;
  close(): void;
}

/** All sockets': what was received is taken out of it before anybody else receives. */
const received = Buffer.alloc(RECEIVE);

interface Received extends Message {
  readonly flags: number;
  readonly sequence: number;
}

/** Opened in the thread's current namespace. */
export function openNetlink(protocol: number = NETLINK_ROUTE): Netlink {
  const fd = libc.socket(libc.AF_NETLINK, libc.SOCK_RAW | libc.SOCK_CLOEXEC, protocol);
  libc.setOption(fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
  libc.setOption(fd, SOL_NETLINK, NETLINK_CAP_ACK, 1);
  libc.setOption(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
  let sequence = 0;
  let sent = 0;
  let port = 0;

  function encode(request: Request, flags: number): Buffer {
    const out = Buffer.alloc((HEADER + request.body.length + 3) & ~3);
    sequence = (sequence + 1) >>> 0;
    out.writeUInt32LE(HEADER + request.body.length, 0);
    out.writeUInt16LE(request.type, 4);
    out.writeUInt16LE(request.flags | NLM_F_REQUEST | flags, 6);
    out.writeUInt32LE(sequence, 8);
    request.body.copy(out, HEADER);
    sent++;
    return out;
  }

  function receive(): Received[] {
    const length = libc.recv(fd, received, received.length, 0);
    const bytes = Buffer.from(received.subarray(0, length));
    const messages: Received[] = [];
    for (let at = 0; at + HEADER <= length; ) {
      const size = bytes.readUInt32LE(at);
      port = bytes.readUInt32LE(at + 12);
      messages.push({
        type: bytes.readUInt16LE(at + 4),
        flags: bytes.readUInt16LE(at + 6),
        sequence: bytes.readUInt32LE(at + 8),
        body: bytes.subarray(at + HEADER, at + size),
      });
      at += (size + 3) & ~3;
    }
    return messages;
  }

  function errorOf(request: Request, flags: number, body: Buffer): NetlinkError | undefined {
    const errno = -body.readInt32LE(0);
    if (errno === 0) return undefined;
    // With NETLINK_CAP_ACK only the request's header comes back, then attributes.
    const attributes = readAttributes(body.subarray(4 + HEADER));
    const detail = (flags & NLM_F_ACK_TLVS) === 0 ? '' : readText(attributes.get(NLMSGERR_ATTR_MSG));
    return new NetlinkError(request.text, errno, detail);
  }

  /** As many as their acknowledgements fit into the socket's receive buffer. */
  const BATCH = 64;

  function batch(requests: readonly Request[]): (NetlinkError | undefined)[] {
    const results: (NetlinkError | undefined)[] = [];
    for (let at = 0; at < requests.length; at += BATCH) {
      const part = requests.slice(at, at + BATCH);
      const first = (sequence + 1) >>> 0;
      const data = Buffer.concat(part.map((request) => encode(request, NLM_F_ACK)));
      libc.send(fd, data, data.length, 0);
      const outcome = new Map<number, NetlinkError | undefined>();
      while (outcome.size < part.length)
        for (const message of receive()) {
          const index = (message.sequence - first) >>> 0;
          const request = part[index];
          if (message.type === NLMSG_ERROR && request !== undefined)
            outcome.set(index, errorOf(request, message.flags, message.body));
        }
      for (let i = 0; i < part.length; i++) results.push(outcome.get(i));
    }
    return results;
  }

  function dumpOnce(request: Request): Message[] | undefined {
    const data = encode(request, NLM_F_DUMP);
    const mine = sequence;
    libc.send(fd, data, data.length, 0);
    const messages: Message[] = [];
    let interrupted = false;
    for (;;)
      for (const message of receive()) {
        if (message.sequence !== mine) continue;
        if ((message.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true;
        if (message.type === NLMSG_DONE) return interrupted ? undefined : messages;
        if (message.type === NLMSG_ERROR) {
          const error = errorOf(request, message.flags, message.body);
          if (error !== undefined) throw error;
        } else messages.push({ type: message.type, body: message.body });
      }
  }

  return {
    get sent() {
      return sent;
    },
    get port() {
      return port;
    },
    request(request) {
      const [error] = batch([request]);
      if (error !== undefined) throw error;
    },
    get(request) {
      const data = encode(request, NLM_F_ACK);
      const mine = sequence;
      libc.send(fd, data, data.length, 0);
      let answer: Message | undefined;
      for (;;)
        for (const message of receive()) {
          if (message.sequence !== mine) continue;
          if (message.type !== NLMSG_ERROR) answer = { type: message.type, body: message.body };
          else {
            const error = errorOf(request, message.flags, message.body);
            if (error === undefined) return answer;
            if (error.code === 'ENOENT') return undefined;
            throw error;
          }
        }
    },
    dump(request) {
      for (;;) {
        const messages = dumpOnce(request);
        if (messages !== undefined) return messages;
      }
    },
    batch,
    transact(begin, requests, end) {
      // The frame's own acknowledgements came with Linux 6.10; that it is refused has always been said, and said first.
      const data = [encode(begin, 0), ...requests.map((r) => encode(r, NLM_F_ACK)), encode(end, 0)];
      const all = [begin, ...requests, end];
      const first = (sequence - all.length + 1) >>> 0;
      libc.send(
        fd,
        Buffer.concat(data),
        data.reduce((sum, { length }) => sum + length, 0),
        0,
      );
      for (let left = requests.length; left > 0; )
        for (const message of receive()) {
          const request = all[(message.sequence - first) >>> 0];
          if (message.type !== NLMSG_ERROR || request === undefined) continue;
          const error = errorOf(request, message.flags, message.body);
          if (error !== undefined) throw error;
          left--;
        }
    },
    close: () => {
      libc.close(fd);
    },
  };
}

/** RTMGRP_LINK, _NEIGH, _TC, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE, RTNLGRP_IPV6_RULE (linux/rtnetlink.h). */
const ROUTE_GROUPS = 0x1 | 0x4 | 0x8 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x40000;
/** RTMGRP_LINK, _IPV4_IFADDR, _IPV6_IFADDR: interfaces and their addresses, without what traffic itself changes. */
export const INTERFACE_GROUPS = 0x1 | 0x10 | 0x100;
/** RTMGRP_IPV4_ROUTE, _IPV6_ROUTE. */
export const PATH_GROUPS = 0x40 | 0x400;

export interface Listener {
  /**
   * Whether anything of the groups has changed since the last call otherwise than by requests from the port, if one is given;
   * true also where the kernel does not say by whom, or messages were lost.
   */
  heard(port?: number): boolean;
  close(): void;
}

/**
 * Hears of changes in the thread's current namespace: by then a message is queued, when the change has happened. `groups`: all
 * that ROUTE_GROUPS has (links, addresses, routes, neighbours, FDB entries, qdiscs and filters) where absent.
 */
export function openListener(groups: number = ROUTE_GROUPS): Listener {
  const fd = libc.socket(libc.AF_NETLINK, libc.SOCK_RAW | libc.SOCK_CLOEXEC, NETLINK_ROUTE);
  const address = Buffer.alloc(12); // struct sockaddr_nl
  address.writeUInt16LE(libc.AF_NETLINK, 0);
  address.writeUInt32LE(groups, 8);
  libc.bind(fd, address, address.length);
  return {
    heard(port) {
      let others = false;
      for (;;) {
        const length = libc.received(fd, received);
        if (length === 'nothing') return others;
        if (length === 'lost') {
          others = true;
          continue;
        }
        for (let at = 0; at + HEADER <= length; at += (received.readUInt32LE(at) + 3) & ~3)
          if (received.readUInt32LE(at + 12) !== port) others = true;
      }
    },
    close: () => libc.close(fd),
  };
}
