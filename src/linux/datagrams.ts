/**
 * Many datagrams by one system call each way (recvmmsg(2), sendmmsg(2)), for who answers from what it has at hand: a call for each datagram costs
 * more than such an answer does. What does not go by such a round goes by Node's own socket on the same descriptor.
 */
import koffi from 'koffi';
import { addressText } from './address.ts';
import * as libc from './libc.ts';

/** Of a round. Each message has room for whatever UDP carries; of that only what is written to is memory. */
const ROUND = 32;
const LONGEST = 65_536;
/** Bytes that are sent in one. */
const LONGEST_SENT = 2048;
/** Bytes of struct sockaddr_in and sockaddr_in6, and of the longer one. */
const NAME_OF = { 4: 16, 6: 28 } as const;
const NAME = NAME_OF[6];
/** struct mmsghdr and struct iovec, of 64 bits. */
const HEADER = 64;
const [NAME_AT, NAME_LENGTH, IOV_AT, IOV_COUNT] = [0, 8, 16, 24];
const RECEIVED = 56;
const IOV = 16;
const IOV_LENGTH = 8;
const MSG_DONTWAIT = 0x40;
/** In struct sockaddr_in and sockaddr_in6. */
const PORT = 2;
/** Of IPv6 with its scope. */
const ADDRESS = { 4: [4, 8], 6: [8, 28] } as const;
const IPV6 = 16;

/** A vector of messages with their names and bytes, whose addresses are written once. */
function openVector(size: number) {
  const headers = Buffer.alloc(ROUND * HEADER);
  const places = Buffer.alloc(ROUND * IOV);
  const names = Buffer.alloc(ROUND * NAME);
  const bytes = Buffer.allocUnsafeSlow(ROUND * size);
  const [placesAt, namesAt, bytesAt] = [places, names, bytes].map((b) => koffi.address(b)) as [
    bigint,
    bigint,
    bigint,
  ];
  for (let i = 0; i < ROUND; i++) {
    headers.writeBigUInt64LE(namesAt + BigInt(i * NAME), i * HEADER + NAME_AT);
    headers.writeUInt32LE(NAME, i * HEADER + NAME_LENGTH);
    headers.writeBigUInt64LE(placesAt + BigInt(i * IOV), i * HEADER + IOV_AT);
    headers.writeUInt32LE(1, i * HEADER + IOV_COUNT);
    places.writeBigUInt64LE(bytesAt + BigInt(i * size), i * IOV);
    places.writeUInt32LE(size, i * IOV + IOV_LENGTH);
  }
  return { headers, places, names, bytes };
}

/** One for all sockets: a round is over before another begins. */
let vectors: {
  readonly received: ReturnType<typeof openVector>;
  readonly sent: ReturnType<typeof openVector>;
};
const open = () => (vectors ??= { received: openVector(LONGEST), sent: openVector(LONGEST_SENT) });

export interface Datagram {
  readonly bytes: Buffer;
  /** Whose it is: its sender's, or its receiver's. IPv6 that needs it with its scope, as a number. */
  readonly address: string;
  readonly port: number;
}

/** Takes what has arrived on a socket, which does not block; true: there may be more. */
export function receiveRound(fd: number, version: 4 | 6, take: (datagram: Datagram) => void): boolean {
  const { received } = open();
  const count = libc.recvmmsg(fd, received.headers, ROUND, MSG_DONTWAIT);
  for (let i = 0; i < count; i++) {
    const at = i * LONGEST;
    const length = received.headers.readUInt32LE(i * HEADER + RECEIVED);
    take({
      bytes: Buffer.from(received.bytes.subarray(at, at + length)),
      address: addressOf(received.names, i * NAME, version),
      port: received.names.readUInt16BE(i * NAME + PORT),
    });
    // The kernel has written how long the name is: the next round has room for the longest again.
    received.headers.writeUInt32LE(NAME, i * HEADER + NAME_LENGTH);
  }
  return count === ROUND;
}

/**
 * Sends datagrams of at most LONGEST_SENT bytes to who has sent some; answers with those that go by other ways: the socket takes no more now, or the
 * address is of nobody who was heard lately.
 */
export function sendDatagrams(
  fd: number,
  version: 4 | 6,
  datagrams: readonly Datagram[],
): readonly Datagram[] {
  const known = datagrams.filter(({ address }) => names.has(address));
  const left = datagrams.filter(({ address }) => !names.has(address));
  for (let first = 0; first < known.length; first += ROUND) {
    const round = known.slice(first, first + ROUND);
    left.push(...round.slice(sendRound(fd, version, round)));
  }
  return left;
}

/** Answers how many of them, from the first, it has sent. */
function sendRound(fd: number, version: 4 | 6, datagrams: readonly Datagram[]): number {
  const { sent } = open();
  for (const [i, { bytes, address, port }] of datagrams.entries()) {
    names.get(address)?.copy(sent.names, i * NAME);
    sent.names.writeUInt16BE(port, i * NAME + PORT);
    sent.headers.writeUInt32LE(NAME_OF[version], i * HEADER + NAME_LENGTH);
    sent.places.writeUInt32LE(bytes.length, i * IOV + IOV_LENGTH);
    bytes.copy(sent.bytes, i * LONGEST_SENT);
  }
  return Math.max(0, libc.sendmmsg(fd, sent.headers, datagrams.length, MSG_DONTWAIT));
}

/** Who has sent: there are few, and they send often. Texts of addresses by their bytes, and what the kernel calls them by their texts. */
const texts = new Map<string, string>();
const names = new Map<string, Buffer>();
const KEPT = 4096;

function addressOf(from: Buffer, at: number, version: 4 | 6): string {
  const [first, last] = ADDRESS[version].map((within) => at + within) as [number, number];
  const key = from.toString('latin1', first, last);
  const known = texts.get(key);
  if (known !== undefined) return known;
  if (texts.size >= KEPT) {
    texts.clear();
    names.clear();
  }
  const address = addressText(from.subarray(first, version === 6 ? first + IPV6 : last));
  const scope = version === 6 ? from.readUInt32LE(first + IPV6) : 0;
  const text = scope === 0 ? address : `${address}%${scope}`;
  texts.set(key, text);
  names.set(text, Buffer.from(from.subarray(at, at + NAME)));
  return text;
}
