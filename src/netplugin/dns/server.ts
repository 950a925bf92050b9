/**
 * A nameserver on sockets in one router's namespace, and in those of containers that cannot reach it there (dataplane/rules/stub.ts).
 *
 *   query --decide()--> answer of ours: addresses, name, empty, NXDOMAIN
 *                   \-> ask: the server that the container has named, by a socket of the router's; else the host's resolvers
 *                       from the host's namespace; only those that the container may ask
 *
 * To a server that a container has named, everything goes that is not a stub's question for a name of ours, as it is. What is asked
 * of ourselves and is no name is NXDOMAIN here.
 */
import dgram from 'node:dgram';
import net from 'node:net';
import { setImmediate as othersFirst } from 'node:timers/promises';
import type { Logger } from 'pino';
import { addressNumber } from '../../model/address.ts';
import { NAMESERVER, NAMESERVER6 } from '../constants.ts';
import type { NameserverSocket, OriginalDestination } from '../nameservers/router.ts';
import { openBuckets } from './buckets.ts';
import { openFairQueue } from './fairQueue.ts';
import { type Asking, ask, type Dial, fromHere, openStream, type Resolver, type Stream } from './forward.ts';
import type { NameAnswer, Question } from './lookup.ts';
import {
  addressRecord,
  encodeAnswer,
  encodeFailure,
  FORMERR,
  framed,
  isQuery,
  messages,
  NOERROR,
  NOTIMP,
  NXDOMAIN,
  pointerRecord,
  type Query,
  REFUSED,
  readQuery,
  SERVFAIL,
} from './message.ts';
import { openPlaces } from './places.ts';
import type { MayAsk } from './reach.ts';
import type { Resolvers } from './upstreams.ts';

/** Seconds: local changes show within one. */
const TTL = 1;
/** Milliseconds. */
const IDLE = 10_000;
const TELL = 60_000;
/** A container's, and a tenant's on this host. What waits for a resolver takes a socket or a few, for some seconds. */
const CONNECTIONS = { each: 64, all: 256 };
const WAITING = { each: 128, all: 1024 };
/**
 * What is asked of others for one container. Each query is a connection for those on its way, in the host's table too, which
 * keeps it for 30 s: an eighth of a table, as the container itself may have (dataplane/rules/limits.ts).
 */
const ONWARD = { rate: 1000, burst: 2000 };
/** Queries of one connection that wait at a time. */
const MAX_PIPELINED = 16;
/** What programs ask to find somebody. */
const STUB_TYPES: ReadonlySet<string> = new Set(['A', 'AAAA', 'PTR', 'ANY']);
const TRANSFERS: ReadonlySet<string> = new Set(['AXFR', 'IXFR']);
const QUERY = 0;
/**
 * What has arrived is read as far as it has come before some of it is answered: reading costs a fraction of answering, so that of a
 * flood the kernel's queue, which is everybody's, stays short, and what is too much is in the queue of who sends it.
 * Rounds that are read and queries that are answered before the process's other work has its turn.
 */
const READ = 64;
const ANSWERED = 128;
/** Bytes that a container may have waiting for its turn: more than a thousand queries, each with what it costs here. */
const ARRIVED = 512 << 10;
const COST = 256;

/** `address` and `port`: its sender's, or its receiver's. */
interface Datagram {
  readonly bytes: Buffer;
  readonly address: string;
  readonly port: number;
}

export interface NameserverOptions {
  readonly sockets: readonly NameserverSocket[];
  answer(client: string, question: Question): NameAnswer;
  originalDestination(
    protocol: 'tcp' | 'udp',
    client: { address: string; port: number },
  ): Promise<OriginalDestination | undefined>;
  /** The host's. */
  upstreams(): Resolvers;
  /** How a server is reached that a container has named: as the container itself would reach it. */
  readonly outside: Dial;
  readonly mayAsk: MayAsk;
  /** Of UDP sockets, what has arrived besides what Node tells of, and what is sent, many by one system call (linux/datagrams.ts). */
  receiveRound(fd: number, version: 4 | 6, take: (datagram: Datagram) => void): boolean;
  sendDatagrams(fd: number, version: 4 | 6, datagrams: readonly Datagram[]): readonly Datagram[];
  readonly log: Logger;
}

export interface Nameserver {
  /** Also on these, which are closed with it; or before, by what it answers. */
  listen(sockets: readonly NameserverSocket[]): () => Promise<void>;
  close(): Promise<void>;
}

interface Client {
  readonly protocol: 'tcp' | 'udp';
  /** By which it is known. */
  readonly address: string;
  readonly port: number;
  /** It asked a socket to which nothing comes that was sent to others. */
  readonly stub: boolean;
}

interface Reading {
  readonly query: Query | undefined;
  /** undefined: it is no question for a name. */
  readonly found: NameAnswer | undefined;
  /** The name is one of ours. */
  readonly ours: boolean;
  /** As programs ask to find somebody. */
  readonly stubs: boolean;
}

interface Answer {
  readonly kind: 'answer';
  readonly answer: Buffer;
}
/** What is to be done with a message. */
type Decision =
  | Answer
  | {
      readonly kind: 'ask';
      readonly query: Query | undefined;
      readonly resolvers: readonly Resolver[];
      /** The container has named the one. */
      readonly named: boolean;
    };

export function startNameserver(options: NameserverOptions): Nameserver {
  const { log } = options;
  const asking = new Set<Asking>();
  const told = new Map<string, number>();
  /** In the log once in a while: a line for each would be one more thing to fill. */
  const crowded = (what: string) => (client: string) => {
    const now = performance.now();
    if (now - (told.get(client) ?? Number.NEGATIVE_INFINITY) < TELL) return;
    if (told.size >= WAITING.all) told.clear();
    told.set(client, now);
    log.warn({ client }, what);
  };
  const waiting = openPlaces(
    WAITING,
    crowded(`more than ${WAITING.each} of a container's queries wait for resolvers: the oldest fail`),
  );
  const mayAskOn = openBuckets(ONWARD);
  const hasty = crowded(
    `a container asks for more than ${ONWARD.rate} names of others a second: the rest fails`,
  );
  const flooding = crowded('a container asks faster than it is answered: what it asks beyond that is lost');
  const connections = openPlaces(
    CONNECTIONS,
    crowded(`a container has more than ${CONNECTIONS.each} connections to its nameserver: the oldest end`),
  );

  /** What is known of a message at once. */
  function read(bytes: Buffer, client: Client): Reading {
    const query = readQuery(bytes);
    const plain = query?.opcode === QUERY && query.internet;
    const found = plain ? options.answer(client.address, query) : undefined;
    const ours = found !== undefined && found.kind !== 'forward' && found.kind !== 'unknown';
    const stubs = plain && STUB_TYPES.has(query.type);
    return { query, found, ours, stubs };
  }

  /** A stub's question for a name of ours is answered whoever was asked: most of what comes, without waiting for anything. */
  function atOnce({ query, found, ours, stubs }: Reading, client: Client): Buffer | undefined {
    if (!(ours && stubs && query?.recursionDesired)) return undefined;
    return say(query, found as NameAnswer, client).answer;
  }

  async function decide(bytes: Buffer, reading: Reading, client: Client): Promise<Decision> {
    const { query, found, ours, stubs } = reading;
    const answer = atOnce(reading, client);
    if (answer !== undefined) return { kind: 'answer', answer };
    const to = await named(client);
    if (to !== undefined) return onward(bytes, query, [{ ...to, dial: options.outside }], true, client);
    if (query === undefined) return { kind: 'answer', answer: encodeFailure(bytes, FORMERR) };
    if (query.opcode !== QUERY) return { kind: 'answer', answer: encodeFailure(bytes, NOTIMP) };
    if (found !== undefined && (ours || (found.kind === 'unknown' && stubs)))
      return say(query, found, client);
    const resolvers = options.upstreams().servers.map((server) => ({ ...server, dial: fromHere }));
    return onward(bytes, query, resolvers, false, client);
  }

  function say(query: Query, found: NameAnswer, { protocol }: Client): Answer {
    const records =
      found.kind === 'addresses'
        ? found.addresses.map(recordOf)
        : found.kind === 'pointer'
          ? [pointerRecord(found.name, TTL)]
          : [];
    const rcode = found.kind === 'unknown' ? NXDOMAIN : NOERROR;
    return { kind: 'answer', answer: encodeAnswer(query, rcode, records, protocol) };
  }

  function onward(
    bytes: Buffer,
    query: Query | undefined,
    all: readonly Resolver[],
    named: boolean,
    { address, protocol }: Client,
  ): Decision {
    const resolvers = all.filter((resolver) => options.mayAsk(address, protocol, resolver, named));
    if (resolvers.length === 0)
      return { kind: 'answer', answer: encodeFailure(bytes, all.length === 0 ? SERVFAIL : REFUSED) };
    if (mayAskOn(address)) return { kind: 'ask', query, resolvers, named };
    hasty(address);
    return { kind: 'answer', answer: encodeFailure(bytes, SERVFAIL) };
  }

  /** The server that a query was sent to, where that was somebody else's address; undefined: it was sent to us. */
  async function named(client: Client): Promise<OriginalDestination | undefined> {
    if (client.stub) return undefined;
    // Where conntrack cannot be asked it is not known: names go on by the host's resolvers.
    const to = await options.originalDestination(client.protocol, client).catch(() => undefined);
    return to === undefined || isOurs(to.address) ? undefined : to;
  }

  /** Ours are the router's own addresses: the container asked its gateway. Nobody outside has one of a tenant's subnet. */
  const isOurs = (address: string): boolean =>
    [NAMESERVER, NAMESERVER6].includes(address) ||
    /^fe[89ab].:/.test(address) ||
    options.answer('', { name: reverseName(address), type: 'PTR' }).kind !== 'forward';

  /** The answer, whatever it costs the others of its container: they are told that it failed. */
  async function waitFor(began: Asking, bytes: Buffer, { address }: Client): Promise<Buffer> {
    asking.add(began);
    const leave = waiting.take(address, began.giveUp);
    try {
      return (await began.answer) ?? encodeFailure(bytes, SERVFAIL);
    } finally {
      leave();
      asking.delete(began);
    }
  }

  // ---- UDP

  /** By client and message: one that is sent again joins what its first has begun. */
  const repeatable = new Map<string, Asking>();

  async function respond(bytes: Buffer, reading: Reading, client: Client): Promise<Buffer | undefined> {
    const decision = await decide(bytes, reading, client);
    if (decision.kind !== 'ask') return decision.answer;
    const key = `${client.address} ${client.port} ${client.stub} ${bytes.toString('latin1')}`;
    const same = repeatable.get(key);
    if (same !== undefined) {
      same.again();
      return undefined;
    }
    const began = ask(bytes, decision.resolvers, 'udp', options.upstreams());
    repeatable.set(key, began);
    try {
      return await waitFor(began, bytes, client);
    } finally {
      repeatable.delete(key);
    }
  }

  type Close = () => Promise<void>;

  function listenUdp({ fd, version, stub, of }: NameserverSocket): Close {
    let closed = false;
    const socket = dgram.createSocket(`udp${version}`);
    socket.bind({ fd });
    socket.on('error', (error) => log.error({ err: error }, 'nameserver socket'));
    const send = ({ bytes, address, port }: Datagram): void => {
      if (!closed) socket.send(bytes, port, address);
    };
    /** The answer, where it is there at once; what takes longer is sent when it is there. */
    const answer = ({ bytes, address, port }: Datagram): Buffer | undefined => {
      const client: Client = { protocol: 'udp', address: of ?? address, port, stub };
      try {
        const reading = read(bytes, client);
        const now = atOnce(reading, client);
        if (now !== undefined) return now;
        respond(bytes, reading, client)
          .then((late) => late && send({ bytes: late, address, port }))
          .catch((error) => log.error({ err: error }, 'query not answered'));
      } catch (error) {
        log.error({ err: error }, 'query not answered');
      }
      return undefined;
    };

    const arrived = openFairQueue<Datagram>(ARRIVED);
    const take = (datagram: Datagram): void => {
      const { bytes, address } = datagram;
      if (isQuery(bytes) && !arrived.add(of ?? address, datagram, bytes.length + COST))
        flooding(of ?? address);
    };
    let again = false;
    const serveArrived = (): void => {
      again = false;
      for (let round = 0; round < READ && !closed; round++)
        if (!options.receiveRound(fd, version, take)) break;
      const answers: Datagram[] = [];
      for (let i = 0; i < ANSWERED && !closed; i++) {
        const query = arrived.take();
        if (query === undefined) break;
        const bytes = answer(query);
        if (bytes !== undefined) answers.push({ ...query, bytes });
      }
      if (answers.length > 0) options.sendDatagrams(fd, version, answers).forEach(send);
      again = !closed && !arrived.empty;
      if (again) setImmediate(serveArrived);
    };
    socket.on('message', (bytes, { address, port }) => {
      take({ bytes, address, port });
      if (!again) serveArrived();
    });
    return () => {
      closed = true;
      return new Promise((done) => socket.close(() => done()));
    };
  }

  // ---- TCP

  /**
   * Nothing more is read before the last answer is taken: who sends more than it reads fills its own socket. And one query at
   * a time: a chunk may hold a thousand, and there are others. What waits for others' answers lets the next ones pass.
   */
  async function serve(socket: net.Socket, client: Client): Promise<void> {
    const onTheWay = new Set<Promise<void>>();
    let stream: Stream | undefined;
    socket.on('timeout', () => {
      if (onTheWay.size === 0 && stream === undefined) socket.destroy();
    });
    socket.on('close', () => stream?.end());
    const write = async (message: Buffer): Promise<void> => {
      if (socket.destroyed || socket.write(framed(message))) return;
      await new Promise<void>((done) => {
        socket.once('drain', done);
        socket.once('close', done);
      });
    };
    for await (const bytes of messages(socket)) {
      const decision = isQuery(bytes) ? await decide(bytes, read(bytes, client), client) : undefined;
      if (decision?.kind === 'answer') await write(decision.answer);
      else if (decision?.kind === 'ask') {
        const { resolvers, query } = decision;
        const { timeout, attempts } = options.upstreams();
        if (decision.named || TRANSFERS.has(query?.type ?? '')) {
          stream ??= openStream(resolvers, timeout * attempts, write, () => socket.end());
          await stream.send(bytes);
        } else {
          const began = ask(bytes, resolvers, 'tcp', { timeout, attempts });
          const one = waitFor(began, bytes, client)
            .then(write)
            .finally(() => onTheWay.delete(one));
          onTheWay.add(one);
          if (onTheWay.size >= MAX_PIPELINED) await Promise.race(onTheWay);
        }
      }
      await othersFirst();
    }
    // The client has said all that it wants to: it may still listen.
    await Promise.all(onTheWay);
    if (stream === undefined) socket.end();
  }

  function listenTcp({ fd, stub, of }: NameserverSocket): Close {
    const connected = new Set<net.Socket>();
    const server = net.createServer({ allowHalfOpen: true }, (socket) => {
      const address = of ?? (socket.remoteAddress ?? '').replace(/^::ffff:/, '');
      const leave = connections.take(address, () => socket.destroy());
      connected.add(socket);
      socket.on('close', () => {
        connected.delete(socket);
        leave();
      });
      socket.on('error', () => socket.destroy());
      socket.setTimeout(IDLE);
      serve(socket, { protocol: 'tcp', address, port: socket.remotePort ?? 0, stub }).catch((error) => {
        if (!socket.destroyed) log.error({ err: error }, 'query not answered');
        socket.destroy();
      });
    });
    server.on('error', (error) => log.error({ err: error }, 'nameserver socket'));
    server.listen({ fd });
    return () => {
      for (const socket of connected) socket.destroy();
      return new Promise((done) => server.close(() => done()));
    };
  }

  const open = new Set<Close>();
  function listen(sockets: readonly NameserverSocket[]): Close {
    const all = sockets.map((socket) => (socket.protocol === 'udp' ? listenUdp(socket) : listenTcp(socket)));
    const close: Close = async () => {
      if (open.delete(close)) await Promise.all(all.map((end) => end()));
    };
    open.add(close);
    return close;
  }
  listen(options.sockets);

  return {
    listen,
    async close() {
      for (const began of asking) began.giveUp();
      await Promise.all([...open].map((close) => close()));
    },
  };
}

/** Records of addresses that were answered lately: the same ones again and again. */
const records = new Map<string, Buffer>();
const RECORDS = 16_384;

function recordOf(address: string): Buffer {
  const known = records.get(address);
  if (known !== undefined) return known;
  if (records.size >= RECORDS) records.clear();
  const record = addressRecord(address, TTL);
  records.set(address, record);
  return record;
}

function reverseName(address: string): string {
  if (!address.includes(':')) return `${address.split('.').reverse().join('.')}.in-addr.arpa`;
  const digits = addressNumber(address).toString(16).padStart(32, '0');
  return `${[...digits].reverse().join('.')}.ip6.arpa`;
}
