/** A nameserver of ours on loopback, with resolvers to ask and clients that ask it. */
import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import packet from 'dns-packet';
import { pino } from 'pino';
import { receiveRound, sendDatagrams } from '../src/linux/datagrams.ts';
import { bindPort, closeSocket } from '../src/linux/netns.ts';
import { fromHere } from '../src/netplugin/dns/forward.ts';
import type { NameAnswer, Question } from '../src/netplugin/dns/lookup.ts';
import { framed } from '../src/netplugin/dns/message.ts';
import type { MayAsk } from '../src/netplugin/dns/reach.ts';
import { startNameserver } from '../src/netplugin/dns/server.ts';
import type { Patience, Upstream } from '../src/netplugin/dns/upstreams.ts';
import type { NameserverSocket, OriginalDestination } from '../src/netplugin/nameservers/router.ts';

export const ends: (() => Promise<unknown> | unknown)[] = [];
/** Of what a test has begun. */
export async function endAll(): Promise<void> {
  for (const end of ends.splice(0).reverse()) await end();
}

/** A port that is free for UDP and TCP, and stays ours until the sockets are taken. */
export function listening(): { port: number; sockets: NameserverSocket[] } {
  for (let port = 20_000 + Math.floor(Math.random() * 10_000); ; port++) {
    const sockets: NameserverSocket[] = [];
    try {
      for (const [protocol, address] of [
        ['udp', '127.0.0.1'],
        ['udp', '::1'],
        ['tcp', '127.0.0.1'],
        ['tcp', '::1'],
      ] as const)
        sockets.push({
          protocol,
          version: address === '::1' ? 6 : 4,
          fd: bindPort(protocol, address, port, {
            shared: protocol === 'tcp' ? 'latest' : undefined,
            nonblocking: true,
          }),
          stub: false,
        });
      return { port, sockets };
    } catch (error) {
      for (const { fd } of sockets) closeSocket(fd);
      if ((error as { code?: string }).code !== 'EADDRINUSE') throw error;
    }
  }
}

/** Names of the tests: what a name's first label says. */
export const NAMES: Readonly<Record<string, NameAnswer>> = {
  web: { kind: 'addresses', addresses: ['10.1.1.1', '10.1.1.2'] },
  big: { kind: 'addresses', addresses: Array.from({ length: 60 }, (_, i) => `10.1.2.${i}`) },
  huge: { kind: 'addresses', addresses: Array.from({ length: 200 }, (_, i) => `10.1.3.${i}`) },
  nothing: { kind: 'empty' },
  nobody: { kind: 'unknown' },
};

export const all = (name: string): readonly string[] =>
  (NAMES[name] as { addresses: readonly string[] }).addresses;

interface Serving extends Partial<Patience> {
  readonly upstreams?: readonly Upstream[];
  readonly original?: OriginalDestination;
  readonly mayAsk?: MayAsk;
  readonly answer?: (client: string, question: Question) => NameAnswer;
}

export function serve({ upstreams = [], original, answer, mayAsk, timeout, attempts }: Serving = {}): number {
  const { port, sockets } = listening();
  const server = startNameserver({
    sockets,
    answer: answer ?? ((_, { name }) => NAMES[name] ?? { kind: 'forward' }),
    originalDestination: async () => original,
    upstreams: () => ({ servers: upstreams, timeout: timeout ?? 5000, attempts: attempts ?? 2 }),
    outside: fromHere,
    mayAsk: mayAsk ?? (() => true),
    receiveRound,
    sendDatagrams,
    log: pino({ level: 'silent' }),
  });
  ends.push(() => server.close());
  return port;
}

export const query = (name: string, more: Partial<packet.Packet> = {}): Buffer =>
  packet.encode({
    type: 'query',
    id: 4711,
    flags: packet.RECURSION_DESIRED,
    questions: [{ type: 'A', name }],
    ...more,
  });

export const edns = (udpPayloadSize: number): Partial<packet.Packet> => ({
  additionals: [
    {
      type: 'OPT',
      name: '.',
      udpPayloadSize,
      extendedRcode: 0,
      ednsVersion: 0,
      flags: 0,
      flag_do: false,
      options: [],
    },
  ],
});

export async function client(
  port: number,
  host: '127.0.0.1' | '::1' = '127.0.0.1',
  from?: string,
): Promise<dgram.Socket> {
  const socket = dgram.createSocket(host === '::1' ? 'udp6' : 'udp4');
  ends.push(() => new Promise<void>((done) => socket.close(done)));
  if (from !== undefined) socket.bind(0, from);
  socket.connect(port, host);
  await once(socket, 'connect');
  return socket;
}

export async function askUdp(
  port: number,
  bytes: Buffer,
  host?: '127.0.0.1' | '::1',
  from?: string,
): Promise<Buffer> {
  const socket = await client(port, host, from);
  const answer = once(socket, 'message');
  socket.send(bytes);
  return (await answer)[0] as Buffer;
}

/** All answers until `count` have come; the bytes are sent in the given pieces. */
export async function askTcp(port: number, pieces: readonly Buffer[], count: number): Promise<Buffer[]> {
  const socket = net.connect(port, '127.0.0.1');
  ends.push(() => socket.destroy());
  await once(socket, 'connect');
  socket.setNoDelay(true);
  const answers: Buffer[] = [];
  let rest = Buffer.alloc(0);
  return new Promise((done, fail) => {
    socket.on('error', fail);
    socket.on('data', (chunk) => {
      rest = Buffer.concat([rest, chunk]);
      while (rest.length >= 2 && rest.length >= 2 + rest.readUInt16BE(0)) {
        answers.push(rest.subarray(2, 2 + rest.readUInt16BE(0)));
        rest = rest.subarray(2 + rest.readUInt16BE(0));
      }
      if (answers.length >= count) done(answers);
    });
    (async () => {
      for (const piece of pieces) {
        socket.write(piece);
        await new Promise((next) => setTimeout(next, 5));
      }
    })();
  });
}

export const rcode = (bytes: Buffer): number => (bytes[3] ?? 0) & 15;
export const truncated = (bytes: Buffer): boolean => ((bytes[2] ?? 0) & 2) !== 0;
export const addresses = (bytes: Buffer): string[] =>
  (packet.decode(bytes).answers ?? []).map((a) => (a as { data: string }).data);

/** One address for whatever was asked. */
export function answerWith(data: string, bytes: Buffer): Buffer {
  const { id = 0, questions = [] } = packet.decode(bytes);
  const name = questions[0]?.name ?? '';
  return packet.encode({ type: 'response', id, questions, answers: [{ type: 'A', name, ttl: 60, data }] });
}

type Said = Buffer | readonly Buffer[] | undefined;

/** A resolver that answers with an address, or as `respond` says. */
export async function upstream(
  data: string,
  respond: (query: Buffer) => Said | Promise<Said> = (bytes) => answerWith(data, bytes),
): Promise<Upstream & { asked: Buffer[] }> {
  const { port, sockets } = listening();
  const [udp4 = 0, udp6 = 0, tcp4 = 0, tcp6 = 0] = sockets.map(({ fd }) => fd);
  for (const fd of [udp6, tcp6]) closeSocket(fd);
  const asked: Buffer[] = [];
  const udp = dgram.createSocket('udp4').bind({ fd: udp4 });
  let closed = false;
  udp.on('message', async (bytes, from) => {
    asked.push(Buffer.from(bytes));
    for (const answer of [(await respond(bytes)) ?? []].flat())
      if (!closed) udp.send(answer, from.port, from.address);
  });
  const connected = new Set<net.Socket>();
  const tcp = net
    .createServer((socket) => {
      connected.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('data', async (chunk) => {
        const answers = [(await respond(chunk.subarray(2))) ?? []].flat();
        if (answers.length > 0) socket.end(Buffer.concat(answers.map(framed)));
      });
    })
    .listen({ fd: tcp4 });
  await once(tcp, 'listening');
  ends.push(() => {
    closed = true;
    udp.close();
    tcp.close();
    for (const socket of connected) socket.destroy();
  });
  return { address: '127.0.0.1', port, asked };
}

/** Nobody listens there: refused at once. */
export function closedPort(): Upstream {
  const { port, sockets } = listening();
  for (const { fd } of sockets) closeSocket(fd);
  return { address: '127.0.0.1', port };
}
