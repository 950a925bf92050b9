/** Queries that are not ours, sent on to resolvers from the host's namespace. */
import { randomInt } from 'node:crypto';
import dgram from 'node:dgram';
import net from 'node:net';
import type { Upstream } from './upstreams.ts';

/** Milliseconds for one resolver: a client asks again after 5 s (resolv.conf(5)). */
const TIMEOUT = 2000;
/** Bytes (RFC 1035 4.1.1, 2.3.4). */
export const HEADER = 12;
const MAX_LABEL = 63;
const TYPE_AND_CLASS = 4;

/** The first answer of the resolvers in turn; undefined where none answers. The client's protocol is kept. */
export async function forward(
  query: Buffer,
  upstreams: readonly Upstream[],
  protocol: 'udp' | 'tcp',
): Promise<Buffer | undefined> {
  const id = query.readUInt16BE(0);
  for (const upstream of upstreams) {
    // An id and a source port of our own: nobody who knows the client's can forge the answer.
    const sent = Buffer.from(query);
    sent.writeUInt16BE(randomInt(0x10000), 0);
    const answer = await (protocol === 'udp' ? askUdp(sent, upstream) : askTcp(sent, upstream));
    if (answer === undefined) continue;
    answer.writeUInt16BE(id, 0);
    return answer;
  }
  return undefined;
}

/** It is an answer to this query (RFC 5452 9.1): its id, its question. That the one who was asked sent it is the socket's care. */
function matches(answer: Buffer, query: Buffer): boolean {
  if (answer.length < HEADER || answer.readUInt16BE(0) !== query.readUInt16BE(0)) return false;
  if (((answer[2] as number) & 0x80) === 0) return false;
  const questions = answer.readUInt16BE(4);
  // Servers that know no EDNS0 may refuse without the question (RFC 2671 5.3): no more than a failure is forged so.
  if (questions === 0) return ((answer[3] as number) & 15) !== 0;
  return questions === 1 && sameQuestion(answer, query);
}

/** Where the first question ends, which may be behind the last byte. Its name is labels: there is nothing to point to. */
export function endOfQuestion(bytes: Buffer): number {
  let at = HEADER;
  for (let label = bytes[at]; label !== undefined && label > 0 && label <= MAX_LABEL; label = bytes[at])
    at += 1 + label;
  return at + 1 + TYPE_AND_CLASS;
}

/** Of the query it is known that it has one question. */
function sameQuestion(answer: Buffer, query: Buffer): boolean {
  const end = endOfQuestion(query);
  const name = end - TYPE_AND_CLASS;
  const lower = (bytes: Buffer): string =>
    bytes.toString('latin1', HEADER, name).replace(/[A-Z]/g, (c) => c.toLowerCase());
  return (
    answer.length >= end &&
    lower(answer) === lower(query) &&
    answer.compare(query, name, end, name, end) === 0
  );
}

function askUdp(query: Buffer, { address, port }: Upstream): Promise<Buffer | undefined> {
  return new Promise((done) => {
    const socket = dgram.createSocket(address.includes(':') ? 'udp6' : 'udp4');
    const finish = (answer: Buffer | undefined): void => {
      clearTimeout(timer);
      socket.close();
      done(answer);
    };
    const timer = setTimeout(() => finish(undefined), TIMEOUT);
    socket.on('error', () => finish(undefined));
    // Connected: only this resolver's answers arrive, and its refusal is noticed. By event: a callback of connect()
    // would be called for a failure too, such as no route to it.
    socket.on('connect', () => socket.send(query));
    socket.connect(port, address);
    socket.on('message', (answer) => {
      if (matches(answer, query)) finish(Buffer.from(answer));
    });
  });
}

function askTcp(query: Buffer, { address, port }: Upstream): Promise<Buffer | undefined> {
  return new Promise((done) => {
    const socket = net.connect(port, address);
    let received = Buffer.alloc(0);
    const finish = (answer: Buffer | undefined): void => {
      socket.destroy();
      done(answer);
    };
    socket.setTimeout(TIMEOUT, () => finish(undefined));
    socket.on('error', () => finish(undefined));
    socket.on('close', () => done(undefined));
    socket.on('connect', () => {
      const length = Buffer.alloc(2);
      length.writeUInt16BE(query.length);
      socket.write(Buffer.concat([length, query]));
    });
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      if (received.length < 2 || received.length < 2 + received.readUInt16BE(0)) return;
      const answer = Buffer.from(received.subarray(2, 2 + received.readUInt16BE(0)));
      finish(matches(answer, query) ? answer : undefined);
    });
  });
}
