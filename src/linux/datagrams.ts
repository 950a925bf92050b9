/**
 * Many datagrams by one system call each way (recvmmsg(2), sendmmsg(2)), for who answers from what it has at hand: a call for each datagram costs
 * more than such an answer does. What does not fit such a round goes by Node's own socket on the same descriptor.
 */
import koffi from 'koffi';
import { addressText } from './address.ts';
import * as libc from './libc.ts';

/** Of a round. Each message has room for whatever UDP carries; of that only what is written to is memory. */
const ROUND = 32;
const LONGEST = 65_536;
/** Bytes of an answer. */
export const LONGEST_ANSWER = 2048;
/** struct sockaddr_in6, the longer one. */
const NAME = 28;
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
  readonly asked: ReturnType<typeof openVector>;
  readonly answers: ReturnType<typeof openVector>;
};

/**
 * Takes what has arrived on a socket, which does not block, and answers it; true: there may be more. `answer` gets the message, which is its own
 * until it returns, and its sender, and answers with what is to be sent back there, of at most LONGEST_ANSWER bytes; undefined: nothing, or later and
 * by other ways. `unsent`: the socket takes no more now.
 */
export function answerRound(
  fd: number,
  version: 4 | 6,
  answer: (bytes: Buffer, address: string, port: number) => Buffer | undefined,
  unsent: (bytes: Buffer, address: string, port: number) => void,
): boolean {
  vectors ??= { asked: openVector(LONGEST), answers: openVector(LONGEST_ANSWER) };
  const { asked, answers } = vectors;
  const sender = (from: Buffer, i: number): [string, number] => {
    const [first, last] = ADDRESS[version];
    const at = i * NAME;
    return [textOf(from, at + first, at + last), from.readUInt16BE(at + PORT)];
  };
  const count = libc.recvmmsg(fd, asked.headers, ROUND, MSG_DONTWAIT);
  let ready = 0;
  for (let i = 0; i < count; i++) {
    const at = i * LONGEST;
    const length = asked.headers.readUInt32LE(i * HEADER + RECEIVED);
    const reply = answer(asked.bytes.subarray(at, at + length), ...sender(asked.names, i));
    // The kernel has written how long the name is: the next round has room for the longest again.
    asked.headers.writeUInt32LE(NAME, i * HEADER + NAME_LENGTH);
    if (reply === undefined) continue;
    asked.names.copy(answers.names, ready * NAME, i * NAME, (i + 1) * NAME);
    answers.headers.writeUInt32LE(version === 4 ? 16 : NAME, ready * HEADER + NAME_LENGTH);
    answers.places.writeUInt32LE(reply.length, ready * IOV + IOV_LENGTH);
    reply.copy(answers.bytes, ready * LONGEST_ANSWER);
    ready++;
  }
  const sent = ready === 0 ? 0 : Math.max(0, libc.sendmmsg(fd, answers.headers, ready, MSG_DONTWAIT));
  for (let i = sent; i < ready; i++) {
    const at = i * LONGEST_ANSWER;
    const length = answers.places.readUInt32LE(i * IOV + IOV_LENGTH);
    unsent(Buffer.from(answers.bytes.subarray(at, at + length)), ...sender(answers.names, i));
  }
  return count === ROUND;
}

/** Texts of addresses that have asked: there are few, and they ask often. */
const texts = new Map<string, string>();
const TEXTS = 4096;

function textOf(from: Buffer, first: number, last: number): string {
  const key = from.toString('latin1', first, last);
  const known = texts.get(key);
  if (known !== undefined) return known;
  if (texts.size >= TEXTS) texts.clear();
  const scoped = last - first > IPV6;
  const address = addressText(from.subarray(first, scoped ? first + IPV6 : last));
  const scope = scoped ? from.readUInt32LE(first + IPV6) : 0;
  const text = scope === 0 ? address : `${address}%${scope}`;
  texts.set(key, text);
  return text;
}
