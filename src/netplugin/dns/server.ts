/**
 * A nameserver on sockets in one router's namespace.
 *
 *   query --answer()--> ours: addresses, name, empty, NXDOMAIN
 *                   \-> forward: to where the query was going, else to the host's resolvers, from the host's namespace
 */
import dgram from 'node:dgram';
import net from 'node:net';
import { pipeline } from 'node:stream/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import packet from 'dns-packet';
import type { Logger } from 'pino';
import { addressNumber } from '../../model/address.ts';
import { NAMESERVER, NAMESERVER6 } from '../constants.ts';
import type { NameserverSockets, OriginalDestination } from '../nameservers/router.ts';
import { endOfQuestion, forward, HEADER } from './forward.ts';
import type { NameAnswer, Question } from './names.ts';
import type { Upstream } from './upstreams.ts';

/** Seconds: local changes show within one. */
const TTL = 1;
/** Without EDNS0 (RFC 1035 4.2.1). */
const PLAIN_UDP = 512;
/** What we offer and use at most with EDNS0: no fragments (dnsflagday.net/2020). */
const EDNS_UDP = 1232;
const IDLE = 10_000;
const MAX_CONNECTIONS = 256;
const MAX_FORWARDS = 1000;
/** Beside the question: EDNS0, a signature, IXFR's SOA. */
const MAX_RECORDS = 4;
/** Where a header has its numbers. */
const QUESTIONS = 4;
const RECORDS = [6, 8, 10];
const NXDOMAIN = 3;
const FORMERR = 1;
const SERVFAIL = 2;

export interface NameserverOptions {
  readonly sockets: NameserverSockets;
  answer(client: string, question: Question): NameAnswer;
  originalDestination(
    protocol: 'tcp' | 'udp',
    client: { address: string; port: number },
  ): Promise<OriginalDestination | undefined>;
  upstreams(): readonly Upstream[];
  readonly log: Logger;
}

export interface Nameserver {
  close(): Promise<void>;
}

interface Client {
  readonly protocol: 'tcp' | 'udp';
  readonly address: string;
  readonly port: number;
}

type Query = packet.DecodedPacket & {
  readonly question: Question;
  /** As it came: its bytes need not be text. */
  readonly asked: Buffer;
};

export function startNameserver(options: NameserverOptions): Nameserver {
  const { sockets, log } = options;
  let forwards = 0;

  function reply(
    query: Query,
    rcode: number,
    answers: packet.Answer[],
    authorities: packet.Answer[] = [],
  ): Buffer {
    const edns = query.additionals?.some((a) => a.type === 'OPT') === true;
    const encoded = packet.encode({
      type: 'response',
      id: query.id ?? 0,
      flags:
        packet.AUTHORITATIVE_ANSWER |
        packet.RECURSION_AVAILABLE |
        ((query.flags ?? 0) & packet.RECURSION_DESIRED) |
        rcode,
      questions: [],
      answers,
      authorities,
      additionals: edns
        ? [
            {
              type: 'OPT',
              name: '.',
              udpPayloadSize: EDNS_UDP,
              extendedRcode: 0,
              ednsVersion: 0,
              flags: 0,
              flag_do: false,
              options: [],
            },
          ]
        : [],
    });
    encoded.writeUInt16BE(1, QUESTIONS);
    return Buffer.concat([encoded.subarray(0, HEADER), query.asked, encoded.subarray(HEADER)]);
  }

  /** Caches of "no such name" follow the SOA's minimum (RFC 2308): nothing is to be cached. */
  const soa: packet.Answer = {
    type: 'SOA',
    name: '.',
    ttl: 0,
    data: {
      mname: 'ns.contiv',
      rname: 'hostmaster.contiv',
      serial: 1,
      refresh: 0,
      retry: 0,
      expire: 0,
      minimum: 0,
    },
  };

  /** undefined: not worth an answer. */
  async function respond(bytes: Buffer, client: Client): Promise<Buffer | undefined> {
    if (bytes.length < HEADER || ((bytes[2] as number) & 0x80) !== 0) return undefined; // answering a response could go on for ever
    let query: Query;
    try {
      query = decodeQuery(bytes);
    } catch {
      const header = Buffer.alloc(HEADER);
      bytes.copy(header, 0, 0, 2);
      header[2] = 0x80;
      header[3] = FORMERR;
      return header;
    }
    const { name, type } = query.question;
    const found = options.answer(client.address, { name, type });
    switch (found.kind) {
      case 'addresses': {
        const family = type === 'AAAA' ? 'AAAA' : 'A';
        return reply(
          query,
          0,
          found.addresses.map((data) => ({ type: family, name, ttl: TTL, data })),
        );
      }
      case 'pointer':
        return reply(query, 0, [{ type: 'PTR', name, ttl: TTL, data: found.name }]);
      case 'empty':
        return reply(query, 0, [], [soa]);
      case 'unknown':
        return reply(query, NXDOMAIN, [], [soa]);
      case 'forward':
        return (await relay(bytes, client)) ?? reply(query, SERVFAIL, []);
    }
  }

  async function relay(bytes: Buffer, client: Client): Promise<Buffer | undefined> {
    if (forwards >= MAX_FORWARDS) return undefined;
    forwards++;
    try {
      const to = await options.originalDestination(client.protocol, client);
      const outside =
        to !== undefined && ![NAMESERVER, NAMESERVER6].includes(to.address) && !isOurs(to.address);
      return await forward(bytes, outside ? [to] : options.upstreams(), client.protocol);
    } finally {
      forwards--;
    }
  }

  /** The router's own addresses: the container asked its gateway. Outside resolvers are never in a tenant's subnet. */
  const isOurs = (address: string): boolean =>
    options.answer('', { name: reverseName(address), type: 'PTR' }).kind !== 'forward';

  // ---- UDP

  const udp = [sockets.udp4, sockets.udp6].map((fd, i) => {
    const socket = dgram.createSocket(i === 0 ? 'udp4' : 'udp6');
    socket.bind({ fd });
    socket.on('error', (error) => log.error({ err: error }, 'nameserver socket'));
    socket.on('message', (bytes, { address, port }) => {
      respond(bytes, { protocol: 'udp', address, port })
        .then((answer) => {
          if (answer !== undefined) socket.send(fitted(answer, bytes), port, address);
        })
        .catch((error) => log.error({ err: error }, 'query not answered'));
    });
    return socket;
  });

  // ---- TCP

  /**
   * One answer at a time, and none before the last one is taken: who sends more than it reads fills its own socket. And one in a
   * turn: a chunk may hold a thousand queries, and there are others.
   */
  async function* answersByTcp(chunks: AsyncIterable<Buffer>, client: Client): AsyncGenerator<Buffer> {
    let rest = Buffer.alloc(0);
    for await (const chunk of chunks) {
      rest = Buffer.concat([rest, chunk]);
      while (rest.length >= 2 && rest.length >= 2 + rest.readUInt16BE(0)) {
        const query = rest.subarray(2, 2 + rest.readUInt16BE(0));
        rest = rest.subarray(2 + query.length);
        const answer = await respond(query, client).catch((error) => {
          log.error({ err: error }, 'query not answered');
        });
        if (answer) yield Buffer.concat([Buffer.of(answer.length >> 8, answer.length & 255), answer]);
        await nextTurn();
      }
    }
  }

  const connected = new Set<net.Socket>();
  const tcp = [sockets.tcp4, sockets.tcp6].map((fd) => {
    const server = net.createServer((socket) => {
      connected.add(socket);
      socket.on('close', () => connected.delete(socket));
      const client: Client = {
        protocol: 'tcp',
        address: (socket.remoteAddress ?? '').replace(/^::ffff:/, ''),
        port: socket.remotePort ?? 0,
      };
      socket.setTimeout(IDLE, () => socket.destroy());
      pipeline(socket, (chunks) => answersByTcp(chunks, client), socket).catch(() => socket.destroy());
    });
    server.maxConnections = MAX_CONNECTIONS;
    server.on('error', (error) => log.error({ err: error }, 'nameserver socket'));
    server.listen({ fd });
    return server;
  });

  return {
    async close() {
      for (const socket of connected) socket.destroy();
      await Promise.all([
        ...udp.map((socket) => new Promise<void>((done) => socket.close(() => done()))),
        ...tcp.map((server) => new Promise<void>((done) => server.close(() => done()))),
      ]);
    },
  };
}

function reverseName(address: string): string {
  if (!address.includes(':')) return `${address.split('.').reverse().join('.')}.in-addr.arpa`;
  const digits = addressNumber(address).toString(16).padStart(32, '0');
  return `${[...digits].reverse().join('.')}.ip6.arpa`;
}

/**
 * The query with its question, and with its other records where they are few: each may have a name that is pointers to pointers,
 * which made a packet of 64 KiB half a second's work. Throws where it is not one question with what follows.
 */
function decodeQuery(bytes: Buffer): Query {
  if (bytes.readUInt16BE(QUESTIONS) !== 1) throw new Error('not one question');
  const end = endOfQuestion(bytes);
  const records = RECORDS.reduce((sum, at) => sum + bytes.readUInt16BE(at), 0);
  const decoded = packet.decode(records > MAX_RECORDS ? withoutRecords(bytes, end) : bytes);
  const [question] = decoded.questions ?? [];
  if (question === undefined || bytes[end - 5] !== 0) throw new Error('not a whole question');
  return { ...decoded, question, asked: bytes.subarray(HEADER, end) };
}

/** Header and question. */
function withoutRecords(bytes: Buffer, end: number): Buffer {
  const head = Buffer.from(bytes.subarray(0, end));
  for (const at of RECORDS) head.writeUInt16BE(0, at);
  return head;
}

/** An answer that the client can take by UDP: too large a one becomes empty with TC set, and it asks by TCP. */
function fitted(answer: Buffer, query: Buffer): Buffer {
  if (answer.length <= PLAIN_UDP) return answer; // also to what is no query
  const opt = decodeQuery(query).additionals?.find((a) => a.type === 'OPT') as
    | { udpPayloadSize?: number }
    | undefined;
  const limit = Math.max(PLAIN_UDP, Math.min(opt?.udpPayloadSize ?? 0, EDNS_UDP));
  if (answer.length <= limit) return answer;
  const short = withoutRecords(answer, answer.readUInt16BE(QUESTIONS) === 0 ? HEADER : endOfQuestion(answer));
  short.writeUInt16BE(short.readUInt16BE(2) | packet.TRUNCATED_RESPONSE, 2);
  return short;
}
