/**
 * Queries that are not ours, sent on to resolvers.
 *
 *   first resolver -- a while --> the next as well -- a while --> ...    all are listened to; what comes first is the answer
 *     |  refuses, fails, cannot be reached: the next at once
 *     +- after `timeout`, `attempts` times: all that are listened to are asked once more
 *
 * It is the client's patience that counts: resolv.conf's, by default twice 5 s. An answer that comes late is worth more than none
 * in time.
 */
import { randomInt } from 'node:crypto';
import dgram from 'node:dgram';
import net from 'node:net';
import { isV6 } from '../../model/address.ts';
import {
  endOfQuestion,
  framed,
  HEADER,
  isQuery,
  messages,
  NOTIMP,
  REFUSED,
  rcodeOf,
  readQuery,
  SERVFAIL,
} from './message.ts';
import type { Patience, Upstream } from './upstreams.ts';

/** Milliseconds that a resolver has for itself before the next is asked as well. */
const ALONE = 1000;
/** Messages that are kept for a second server while the first has said nothing. */
const MAX_KEPT = 16;

/** How resolvers are reached: by sockets of the host's, or of a namespace's. */
export interface Dial {
  /** Not yet connected. */
  udp(to: Upstream): dgram.Socket;
  /** Connecting. */
  tcp(to: Upstream): net.Socket;
}

export const fromHere: Dial = {
  udp: ({ address }) => dgram.createSocket(isV6(address) ? 'udp6' : 'udp4'),
  tcp: ({ address, port }) => net.connect(port, address),
};

export interface Resolver extends Upstream {
  readonly dial: Dial;
}

/** A query on its way. */
export interface Asking {
  /** undefined: nobody answered, or it was given up. Where one refused and no other answered, its refusal. */
  readonly answer: Promise<Buffer | undefined>;
  /** Its client has asked again: what was lost on the way is sent once more. */
  again(): void;
  giveUp(): void;
}

/** One resolver's part in it. */
interface Talk {
  again(): void;
  end(): void;
}
/** Begins one; `heard` is called once: the answer, or undefined where none will come. */
type Begin = (query: Buffer, resolver: Resolver, heard: (answer: Buffer | undefined) => void) => Talk;

export function ask(
  query: Buffer,
  resolvers: readonly Resolver[],
  protocol: 'udp' | 'tcp',
  { timeout, attempts }: Patience,
): Asking {
  const begin: Begin = protocol === 'udp' ? byUdp : byTcp;
  const id = query.readUInt16BE(0);
  const talks: Talk[] = [];
  let failed = 0;
  let finished = false;
  let refusal: Buffer | undefined;
  let next: NodeJS.Timeout | undefined;
  const { promise: answer, resolve } = Promise.withResolvers<Buffer | undefined>();

  const again = (): void => {
    for (const talk of talks) talk.again();
  };
  const round = setInterval(again, timeout);
  const over = setTimeout(() => finish(refusal), timeout * attempts);

  function finish(found: Buffer | undefined): void {
    if (finished) return;
    finished = true;
    clearTimeout(over);
    clearInterval(round);
    clearTimeout(next);
    for (const talk of talks) talk.end();
    found?.writeUInt16BE(id, 0);
    resolve(found);
  }
  function askNext(): void {
    clearTimeout(next);
    if (finished) return;
    const resolver = resolvers[talks.length];
    if (resolver === undefined) {
      if (failed === resolvers.length) finish(refusal);
      return;
    }
    // An id and a source port of our own: nobody who knows the client's can forge the answer.
    const sent = Buffer.from(query);
    sent.writeUInt16BE(randomInt(0x10000), 0);
    next = setTimeout(askNext, ALONE);
    talks.push(
      begin(sent, resolver, (heard) => {
        if (heard !== undefined && !isRefusal(heard)) return finish(heard);
        refusal ??= heard;
        failed++;
        askNext();
      }),
    );
  }
  askNext();
  return { answer, again, giveUp: () => finish(undefined) };
}

/** Another resolver may know more (resolv.conf(5) goes on to the next one, too). */
const isRefusal = (answer: Buffer): boolean => [SERVFAIL, NOTIMP, REFUSED].includes(rcodeOf(answer));

/** It is an answer to this query (RFC 5452 9.1): its id, its question. That the one who was asked sent it is the socket's care. */
function matches(answer: Buffer, query: Buffer): boolean {
  if (answer.length < HEADER || answer.readUInt16BE(0) !== query.readUInt16BE(0) || isQuery(answer))
    return false;
  if (readQuery(query) === undefined) return true; // what has no question is known by its id
  const questions = answer.readUInt16BE(4);
  // Servers that know no EDNS0 may refuse without the question (RFC 2671 5.3): no more than a failure is forged so. An answer to
  // an update need not have its zone (RFC 2136 3.8).
  if (questions === 0) return rcodeOf(answer) !== 0 || ((query[2] as number) & 0x78) !== 0;
  return questions === 1 && sameQuestion(answer, query);
}

/** Of the query it is known that it has one question. */
function sameQuestion(answer: Buffer, query: Buffer): boolean {
  const end = endOfQuestion(query);
  const name = end - 4;
  const lower = (bytes: Buffer): string =>
    bytes.toString('latin1', HEADER, name).replace(/[A-Z]/g, (c) => c.toLowerCase());
  return (
    answer.length >= end &&
    lower(answer) === lower(query) &&
    answer.compare(query, name, end, name, end) === 0
  );
}

/** Calls it later and once: whoever began this must have it first. */
function once(heard: (answer: Buffer | undefined) => void): (answer: Buffer | undefined) => void {
  let called = false;
  return (answer) => {
    if (called) return;
    called = true;
    process.nextTick(heard, answer);
  };
}

const NO_TALK: Talk = { again() {}, end() {} };

const byUdp: Begin = (query, resolver, callback) => {
  const heard = once(callback);
  let socket: dgram.Socket;
  try {
    socket = resolver.dial.udp(resolver);
  } catch {
    heard(undefined); // no more sockets, or the namespace is about to go
    return NO_TALK;
  }
  let connected = false;
  let closed = false;
  const end = (): void => {
    if (!closed) socket.close();
    closed = true;
  };
  socket.on('error', () => {
    end();
    heard(undefined);
  });
  // Connected: only this resolver's answers arrive, and its refusal is noticed. By event: a callback of connect()
  // would be called for a failure too, such as no route to it.
  socket.on('connect', () => {
    connected = true;
    socket.send(query);
  });
  socket.on('message', (answer) => {
    if (!matches(answer, query)) return;
    end();
    heard(Buffer.from(answer));
  });
  socket.connect(resolver.port, resolver.address);
  return {
    end,
    again: () => {
      if (connected && !closed) socket.send(query);
    },
  };
};

const byTcp: Begin = (query, resolver, callback) => {
  const heard = once(callback);
  let socket: net.Socket;
  try {
    socket = resolver.dial.tcp(resolver);
  } catch {
    heard(undefined);
    return NO_TALK;
  }
  socket.on('error', () => {}); // the reader notices
  const first = async (): Promise<Buffer | undefined> => {
    for await (const answer of messages(socket))
      return matches(answer, query) ? Buffer.from(answer) : undefined;
    return undefined;
  };
  socket.write(framed(query));
  first()
    .catch(() => undefined)
    .then(heard)
    .finally(() => socket.destroy());
  return { again() {}, end: () => void socket.destroy() };
};

export interface Stream {
  /** Resolves when more may be sent. */
  send(message: Buffer): Promise<void>;
  end(): void;
}

/**
 * A connection to the server that a client's connection is meant for, or to the first of several that can be had: what the client
 * sends goes there, and all that is said there goes back, message by message, however many answer one query (RFC 5936, RFC 1995)
 * and in whichever order. `said` resolves when more may come; `ended` is called once, when the server has closed or says
 * nothing for so many milliseconds.
 */
export function openStream(
  resolvers: readonly Resolver[],
  silence: number,
  said: (message: Buffer) => Promise<void>,
  ended: () => void,
): Stream {
  /** What the next one must be sent if this one turns out not to be there; undefined: it is too late for another. */
  let sent: Buffer[] | undefined = [];
  let over = false;
  let socket: net.Socket | undefined;

  async function talk(at: number): Promise<void> {
    const resolver = resolvers[at];
    if (over || resolver === undefined) return;
    try {
      socket = resolver.dial.tcp(resolver);
      socket.on('error', () => {}); // the reader notices
      socket.setTimeout(silence, () => socket?.destroy());
      for (const message of sent ?? []) socket.write(framed(message));
      for await (const message of messages(socket)) {
        sent = undefined;
        await said(message);
      }
    } catch {
      // Whatever ends it, there is nothing more to come.
    }
    socket?.destroy();
    if (sent !== undefined) await talk(at + 1);
  }
  void talk(0).then(() => {
    if (!over) ended();
    over = true;
  });
  return {
    async send(message) {
      if ((sent?.length ?? 0) >= MAX_KEPT) sent = undefined;
      sent?.push(Buffer.from(message));
      if (socket === undefined || socket.write(framed(message))) return;
      await new Promise<void>((done) => {
        socket?.once('drain', done);
        socket?.once('close', done);
      });
    },
    end() {
      over = true;
      socket?.destroy();
    },
  };
}
