/**
 * DNS messages as bytes (RFC 1035 4.1): what is to be known of a query, and answers of ours. An answer's records are all of the
 * question's name, so each says that by a pointer of two bytes: 512 bytes hold 30 addresses, where names written out hold 20
 * short ones.
 */
import ipaddr from 'ipaddr.js';
import { isV6 } from '../../model/address.ts';

/** Bytes. */
export const HEADER = 12;
/** Without EDNS0 (RFC 1035 4.2.1). */
const PLAIN_UDP = 512;
/** What we offer and use at most with EDNS0: no fragments (dnsflagday.net/2020). */
const EDNS_UDP = 1232;
/** By TCP a length has 16 bits. */
const LARGEST = 65_535;
const MAX_LABEL = 63;
const TYPE_AND_CLASS = 4;
/** Where a header has its numbers. */
const QUESTIONS = 4;
const RECORDS = [6, 8, 10];
/** Records of a query that are looked through for its OPT. Beside that: a signature, IXFR's SOA. */
const MAX_RECORDS = 4;

/** Bits of a header's second word. */
const RESPONSE = 0x8000;
const AUTHORITATIVE = 0x0400;
const TRUNCATED = 0x0200;
const RECURSION_DESIRED = 0x0100;
const RECURSION_AVAILABLE = 0x0080;
/** What an answer has from its query: opcode, RD, CD (RFC 4035 3.2.2). */
const ECHOED = 0x7910;

export const NOERROR = 0;
export const FORMERR = 1;
export const SERVFAIL = 2;
export const NXDOMAIN = 3;
export const NOTIMP = 4;
export const REFUSED = 5;

const TYPES: Readonly<Record<number, string>> = {
  1: 'A',
  6: 'SOA',
  12: 'PTR',
  28: 'AAAA',
  41: 'OPT',
  251: 'IXFR',
  252: 'AXFR',
  255: 'ANY',
};
const NUMBERS: Readonly<Record<string, number>> = Object.fromEntries(
  Object.entries(TYPES).map(([number, name]) => [name, Number(number)]),
);
const IN = 1;

/** A message with one question. */
export interface Query {
  /** The message, and where its question ends: an answer begins with a copy of that, as the question's bytes need not be text. */
  readonly bytes: Buffer;
  readonly end: number;
  /** 0: a query; 4: NOTIFY, 5: UPDATE. */
  readonly opcode: number;
  readonly recursionDesired: boolean;
  /** Of the class IN, as all names are but a server's own. */
  readonly internet: boolean;
  readonly name: string;
  /** `A`, `PTR`, `ANY`, ...; `TYPE65` for one that means nothing here. */
  readonly type: string;
  /** What its client takes by UDP; undefined: it knows no EDNS0. */
  readonly udpSize?: number;
}

/** A query is told from an answer by one bit: answering answers could go on for ever. */
export const isQuery = (bytes: Buffer): boolean =>
  bytes.length >= HEADER && (bytes.readUInt16BE(2) & RESPONSE) === 0;

export const rcodeOf = (message: Buffer): number => (message[3] as number) & 15;

/** Where the first question ends, which may be behind the last byte. Its name is labels: there is nothing to point to. */
export function endOfQuestion(bytes: Buffer): number {
  let at = HEADER;
  for (let label = bytes[at]; label !== undefined && label > 0 && label <= MAX_LABEL; label = bytes[at])
    at += 1 + label;
  return at + 1 + TYPE_AND_CLASS;
}

/** undefined where it is not one whole question with what follows. */
export function readQuery(bytes: Buffer): Query | undefined {
  if (bytes.length < HEADER || bytes.readUInt16BE(QUESTIONS) !== 1) return undefined;
  const end = endOfQuestion(bytes);
  if (end > bytes.length || bytes[end - TYPE_AND_CLASS - 1] !== 0) return undefined;
  const flags = bytes.readUInt16BE(2);
  const type = bytes.readUInt16BE(end - TYPE_AND_CLASS);
  const udpSize = findUdpSize(bytes, end);
  return {
    bytes,
    end,
    opcode: (flags >> 11) & 15,
    recursionDesired: (flags & RECURSION_DESIRED) !== 0,
    internet: bytes.readUInt16BE(end - 2) === IN,
    name: readName(bytes, end - TYPE_AND_CLASS),
    type: TYPES[type] ?? `TYPE${type}`,
    ...(udpSize === undefined ? {} : { udpSize }),
  };
}

/** A dot within a label is not one between two: it is escaped (RFC 1035 5.1). */
function readName(bytes: Buffer, end: number): string {
  const labels: string[] = [];
  for (let at = HEADER; at < end - 1; at += 1 + (bytes[at] as number)) {
    const label = bytes.toString('utf8', at + 1, at + 1 + (bytes[at] as number));
    labels.push(label.includes('.') ? label.replaceAll('.', '\\.') : label);
  }
  return labels.join('.');
}

/** Of the OPT record (RFC 6891 6.1.2), where it is among the first few. No pointer is followed: that could go far. */
function findUdpSize(bytes: Buffer, end: number): number | undefined {
  let at = end;
  const records = RECORDS.reduce((sum, of) => sum + bytes.readUInt16BE(of), 0);
  for (let i = 0; i < Math.min(records, MAX_RECORDS); i++) {
    let label = bytes[at];
    for (; label !== undefined && label > 0 && label <= MAX_LABEL; label = bytes[at]) at += 1 + label;
    at += label === 0 ? 1 : 2;
    if (at + 10 > bytes.length) return undefined;
    if (bytes.readUInt16BE(at) === NUMBERS.OPT) return bytes.readUInt16BE(at + 2);
    at += 10 + bytes.readUInt16BE(at + 8);
  }
  return undefined;
}

const word = (value: number): Buffer => Buffer.of(value >> 8, value & 255);
/** The question's name, by a pointer to it (RFC 1035 4.1.4). */
const ITS_NAME = Buffer.of(0xc0, HEADER);
const ROOT = Buffer.of(0);

function record(owner: Buffer, type: number, ttl: number, data: Buffer): Buffer {
  const fixed = Buffer.alloc(10);
  fixed.writeUInt16BE(type, 0);
  fixed.writeUInt16BE(IN, 2);
  fixed.writeUInt32BE(ttl, 4);
  fixed.writeUInt16BE(data.length, 8);
  return Buffer.concat([owner, fixed, data]);
}

function nameBytes(name: string): Buffer {
  const labels = name.split('.').filter((label) => label !== '');
  return Buffer.concat([...labels.flatMap((l) => [Buffer.of(Buffer.byteLength(l)), Buffer.from(l)]), ROOT]);
}

export const addressRecord = (address: string, ttl: number): Buffer =>
  record(
    ITS_NAME,
    NUMBERS[isV6(address) ? 'AAAA' : 'A'] as number,
    ttl,
    Buffer.from(ipaddr.parse(address).toByteArray()),
  );

export const pointerRecord = (name: string, ttl: number): Buffer =>
  record(ITS_NAME, NUMBERS.PTR as number, ttl, nameBytes(name));

/** Caches of "no such name" follow the SOA's minimum (RFC 2308): serial 1, nothing is to be cached. */
const SOA = record(
  ROOT,
  NUMBERS.SOA as number,
  0,
  Buffer.concat([
    nameBytes('ns.contiv'),
    nameBytes('hostmaster.contiv'),
    ...[1, 0, 0, 0, 0].flatMap((n) => [word(0), word(n)]),
  ]),
);

/** What we take by UDP, to those who speak EDNS0. */
const OPT = Buffer.concat([ROOT, word(NUMBERS.OPT as number), word(EDNS_UDP), Buffer.alloc(6)]);

/**
 * An answer of ours, with as many of the records as its client can take. Where some are left out, it is said to be truncated to
 * those who asked for more than the 512 bytes that there once were: they ask again by TCP, which has all. To others it is a
 * whole answer: resolvers that know no EDNS0 often know no TCP either (musl before 1.2.4), and take a truncated answer for none.
 */
export function encodeAnswer(
  query: Query,
  rcode: number,
  records: readonly Buffer[],
  protocol: 'tcp' | 'udp',
): Buffer {
  const edns = query.udpSize !== undefined;
  const udpLimit = Math.max(PLAIN_UDP, Math.min(query.udpSize ?? 0, EDNS_UDP));
  const negative = records.length === 0 && (rcode === NOERROR || rcode === NXDOMAIN);
  const rest = [...(negative ? [SOA] : []), ...(edns ? [OPT] : [])];
  const lengthOf = (buffers: readonly Buffer[]): number =>
    buffers.reduce((sum, { length }) => sum + length, 0);
  const room = (protocol === 'tcp' ? LARGEST : udpLimit) - query.end - lengthOf(rest);
  let taken = 0;
  let length = 0;
  for (const one of records) {
    if (length + one.length > room) break;
    length += one.length;
    taken++;
  }
  const truncated = taken < records.length && protocol === 'udp' && udpLimit > PLAIN_UDP;
  const authoritative = rcode === NOERROR || rcode === NXDOMAIN;
  // One piece of memory and no views of it: an answer is made for each of tens of thousands of queries a second.
  const answer = Buffer.allocUnsafe(query.end + length + lengthOf(rest));
  query.bytes.copy(answer, 0, 0, query.end);
  answer.writeUInt16BE(
    RESPONSE |
      (query.bytes.readUInt16BE(2) & ECHOED) |
      (authoritative ? AUTHORITATIVE : 0) |
      (truncated ? TRUNCATED : 0) |
      RECURSION_AVAILABLE |
      rcode,
    2,
  );
  answer.writeUInt16BE(1, QUESTIONS);
  answer.writeUInt16BE(taken, QUESTIONS + 2);
  answer.writeUInt16BE(negative ? 1 : 0, QUESTIONS + 4);
  answer.writeUInt16BE(edns ? 1 : 0, QUESTIONS + 6);
  let at = query.end;
  for (let i = 0; i < taken; i++) at += (records[i] as Buffer).copy(answer, at);
  for (const one of rest) at += one.copy(answer, at);
  return answer;
}

/** That something went wrong with a message of which no more than its header need be right. */
export function encodeFailure(bytes: Buffer, rcode: number): Buffer {
  const query = readQuery(bytes);
  if (query !== undefined) return encodeAnswer(query, rcode, [], 'tcp');
  const header = Buffer.alloc(HEADER);
  bytes.copy(header, 0, 0, 2);
  header.writeUInt16BE(RESPONSE | (bytes.readUInt16BE(2) & ECHOED) | rcode, 2);
  return header;
}

/** By TCP each message follows its length (RFC 1035 4.2.2). */
export const framed = (message: Buffer): Buffer => Buffer.concat([word(message.length), message]);

/** The messages of a stream, one after the other. */
export async function* messages(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of chunks) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= 2 && rest.length >= 2 + rest.readUInt16BE(0)) {
      const message = rest.subarray(2, 2 + rest.readUInt16BE(0));
      rest = rest.subarray(2 + message.length);
      yield message;
    }
  }
}
