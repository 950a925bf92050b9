/** Containers as network namespaces beside a router (box 2 has 20.1.1.2), and clients and servers in them that say who they are. */
import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import { bindPort, createNamespace, inNamespace, namespacePath } from '../src/linux/netns.ts';
import { NAMESERVER } from '../src/netplugin/constants.ts';
import type { Port } from '../src/netplugin/state.ts';
import { sh } from './isolation.ts';
import { sender } from './probe.ts';

export const addressOf = (n: number): string => `20.1.1.${n}`;
const familyOf = (address: string): 'udp4' | 'udp6' => (address.includes(':') ? 'udp6' : 'udp4');
const closing: (() => void)[] = [];

/** Whatever was opened here. */
export function closeAll(): void {
  for (const close of closing.splice(0)) close();
}

/** Of box 0 the test's own namespace, which is the host's. */
export const inBox = <T>(n: number, use: () => T): T =>
  n === 0 ? use() : inNamespace(namespacePath(`box${n}`), use);

/** What a port leads to becomes a container: with the nameserver's route as the driver gives it, and default routes where there are gateways. */
export function enterBox({ peer, addresses, gateways }: Port, n: number, { gateway = true } = {}): void {
  createNamespace(`box${n}`);
  sh(`ip link set ${peer} netns box${n} name eth0`);
  inBox(n, () => {
    sh('ip link set lo up; ip link set eth0 up');
    for (const address of addresses)
      sh(`ip addr add ${address}${address.includes(':') ? '/128' : '/24'} dev eth0 nodad`);
    sh(`ip route add ${NAMESERVER} dev eth0`);
    if (gateway)
      for (const via of gateways)
        sh(
          `ip route add ${via} dev eth0; ip ${via.includes(':') ? '-6' : '-4'} route add default via ${via}`,
        );
  });
}

export interface Provider {
  /** Address and port of each client, TCP connections and UDP datagrams. */
  readonly clients: string[];
}

/** Answers who it is to whatever comes, on port 8080 of an address. */
export async function provide(n: number, address = addressOf(n), name = `${n}`): Promise<Provider> {
  const clients: string[] = [];
  const server = net.createServer((socket) => {
    clients.push(`${socket.remoteAddress}`);
    socket.on('data', () => socket.write(name));
    socket.on('error', () => {});
    closing.push(() => socket.destroy());
  });
  server.listen({ fd: inBox(n, () => bindPort('tcp', address, 8080, { nonblocking: true })) });
  await once(server, 'listening');
  const datagrams = dgram.createSocket(familyOf(address), (_, from) => {
    clients.push(from.address);
    datagrams.send(name, from.port, from.address);
  });
  datagrams.bind({ fd: inBox(n, () => bindPort('udp', address, 8080, { nonblocking: true })) });
  closing.push(
    () => server.close(),
    () => datagrams.close(),
  );
  return { clients };
}

export interface Client {
  /** Who answers; the error's code where nobody does. */
  ask(): Promise<string>;
  close(): void;
}

/** Asks again what UDP or a busy machine has lost; a test that waits for nothing ends by its limit. */
async function answer(ask: () => void, told: { last: string | undefined }): Promise<string> {
  told.last = undefined;
  for (let tries = 0; told.last === undefined; tries++) {
    if (tries % 40 === 0) ask();
    await new Promise((done) => setTimeout(done, 5));
  }
  return told.last;
}

export async function tcp(box: number, to: string, at = 80, from = addressOf(box)): Promise<Client> {
  const told: { last: string | undefined } = { last: undefined };
  const socket = new net.Socket({ fd: inBox(box, () => sender({ from, to, protocol: 6, port: at }, 0)) });
  socket.on('data', (data) => {
    told.last = data.toString();
  });
  let failed: string | undefined;
  socket.on('error', (error: NodeJS.ErrnoException) => {
    failed = told.last = error.code;
  });
  socket.on('end', () => {
    failed = told.last = 'END';
  });
  closing.push(() => socket.destroy());
  let asked = false;
  return {
    async ask() {
      if (failed !== undefined) return failed;
      asked = false;
      return answer(() => {
        if (!asked) socket.write('?');
        asked = true;
      }, told);
    },
    close: () => socket.destroy(),
  };
}

export async function udp(box: number, to: string, at = 80, from = addressOf(box)): Promise<Client> {
  const told: { last: string | undefined } = { last: undefined };
  const socket = dgram.createSocket(familyOf(to), (data) => {
    told.last = data.toString();
  });
  socket.bind({ fd: inBox(box, () => bindPort('udp', from, 0, { nonblocking: true })) });
  socket.connect(at, to);
  await once(socket, 'connect');
  socket.on('error', (error: NodeJS.ErrnoException) => {
    told.last = error.code;
  });
  // Who asks still when the test is over asks no more.
  socket.on('close', () => {
    told.last = 'CLOSED';
  });
  closing.push(() => socket.close());
  return { ask: () => answer(() => socket.send('?'), told), close: () => {} };
}
