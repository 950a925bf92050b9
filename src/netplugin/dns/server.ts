/**
 * A nameserver on sockets in one router's namespace, in this process's main thread.
 *
 *   query --answer()--> ours: addresses, name, empty, NXDOMAIN
 *                   \-> forward: to where the query was going, else to the host's resolvers, from the host's namespace
 */
import dgram from 'node:dgram';
import net from 'node:net';
import packet from 'dns-packet';
import type { Logger } from 'pino';
import { addressNumber } from '../../model/address.ts';
import { NAMESERVER, NAMESERVER6 } from '../constants.ts';
import type { NameserverSockets, OriginalDestination } from '../dataplane/index.ts';
import { forward } from './forward.ts';
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

type Query = packet.DecodedPacket;

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
    return packet.encode({
      type: 'response',
      id: query.id ?? 0,
      flags:
        packet.AUTHORITATIVE_ANSWER |
        packet.RECURSION_AVAILABLE |
        ((query.flags ?? 0) & packet.RECURSION_DESIRED) |
        rcode,
      questions: query.questions ?? [],
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
  }

  /** Caches of "no such name" follow the SOA's minimum (RFC 2308): nothing is to be cached. */
  const soa = (name: string): packet.Answer => ({
    type: 'SOA',
    name,
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
  });

  /** undefined: not worth an answer. */
  async function respond(bytes: Buffer, client: Client): Promise<Buffer | undefined> {
    let query: Query;
    try {
      query = packet.decode(bytes);
    } catch {
      if (bytes.length < 12 || ((bytes[2] ?? 0) & 0x80) !== 0) return undefined;
      const header = Buffer.alloc(12);
      bytes.copy(header, 0, 0, 2);
      header[2] = 0x80;
      header[3] = FORMERR;
      return header;
    }
    if (query.type !== 'query') return undefined; // a response: answering it could go on for ever
    const question = query.questions?.[0];
    if (question === undefined || query.questions?.length !== 1) return reply(query, FORMERR, []);
    const { name, type } = question;
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
        return reply(query, 0, [], [soa(name)]);
      case 'unknown':
        return reply(query, NXDOMAIN, [], [soa(name)]);
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
      let rest = Buffer.alloc(0);
      socket.setTimeout(IDLE, () => socket.destroy());
      socket.on('error', () => socket.destroy());
      socket.on('data', (chunk) => {
        rest = Buffer.concat([rest, chunk]);
        while (rest.length >= 2 && rest.length >= 2 + rest.readUInt16BE(0)) {
          const query = rest.subarray(2, 2 + rest.readUInt16BE(0));
          rest = rest.subarray(2 + query.length);
          respond(query, client)
            .then((answer) => {
              if (answer === undefined) return;
              const length = Buffer.alloc(2);
              length.writeUInt16BE(answer.length);
              socket.write(Buffer.concat([length, answer]));
            })
            .catch((error) => log.error({ err: error }, 'query not answered'));
        }
      });
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

/** An answer that the client can take by UDP: too large a one becomes empty with TC set, and it asks by TCP. */
function fitted(answer: Buffer, query: Buffer): Buffer {
  let limit = PLAIN_UDP;
  try {
    const opt = packet.decode(query).additionals?.find((a) => a.type === 'OPT') as
      | { udpPayloadSize?: number }
      | undefined;
    if (opt !== undefined) limit = Math.max(PLAIN_UDP, Math.min(opt.udpPayloadSize ?? 0, EDNS_UDP));
  } catch {
    return answer; // the answer to garbage is a header
  }
  if (answer.length <= limit) return answer;
  const decoded = packet.decode(answer);
  return packet.encode({
    type: 'response',
    id: decoded.id ?? 0,
    flags: (decoded.flags ?? 0) | packet.TRUNCATED_RESPONSE,
    questions: decoded.questions ?? [],
  });
}
