/** Connections between network namespaces, of which each packet is asked for by the test: what goes by them, and how long for. */
import koffi from 'koffi';
import { expect } from 'vitest';
import {
  bind,
  close,
  received,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  send,
  setOption,
  socket,
} from '../src/linux/libc.ts';
import { inNamespace, namespacePath } from '../src/linux/netns.ts';
import { connect, familyOf, listen, socketAddress } from './probe.ts';

const libc = koffi.load('libc.so.6');
const accept = libc.func('int accept(int fd, void *address, void *length)');

const open: number[] = [];

/** Until `closeConnections`. */
export const opened = (fd: number): number => {
  open.push(fd);
  return fd;
};

export const closeNow = (fd: number): void => {
  open.splice(open.indexOf(fd), 1);
  close(fd);
};

/** All that are open, those that were opened last first. */
export function closeConnections(): void {
  for (const fd of open.splice(0).toReversed()) close(fd);
}

/** One end: a namespace, an address there and a port. */
export interface End {
  readonly namespace: string;
  readonly address: string;
  readonly port: number;
}

/** Sockets. */
export type Pair = [client: number, server: number];

function bound({ namespace, address, port }: End, type: number): number {
  const fd = opened(inNamespace(namespacePath(namespace), () => socket(familyOf(address), type, 0)));
  if (type === SOCK_STREAM) setOption(fd, 1, 2, 1); // SO_REUSEADDR
  const at = socketAddress(address, port);
  bind(fd, at, at.length);
  return fd;
}

function connected(fd: number, { address, port }: End): number {
  const to = socketAddress(address, port);
  expect(connect(fd, to, to.length)).toBe(0);
  return fd;
}

/** A TCP connection. */
export function connection(client: End, server: End): Pair {
  const listening = bound(server, SOCK_STREAM);
  expect(listen(listening, 8)).toBe(0);
  const made = connected(bound(client, SOCK_STREAM), server);
  return [made, opened(accept(listening, null, null) as number)];
}

/** UDP between the two. */
export function datagrams(client: End, server: End): Pair {
  const made = (own: End, peer: End): number => connected(bound(own, SOCK_DGRAM | SOCK_NONBLOCK), peer);
  return [made(client, server), made(server, client)];
}

export const MESSAGE = Buffer.from('hello');
export const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

/** What arrives within two seconds; undefined where nothing does. */
export async function arriving(fd: number): Promise<string | undefined> {
  const buffer = Buffer.alloc(256);
  for (let turn = 0; turn < 200; turn++) {
    const length = received(fd, buffer);
    if (typeof length === 'number') return buffer.toString('utf8', 0, length);
    await pause(10);
  }
  return undefined;
}

/** There and back, so often. */
export async function exchange([client, server]: Pair, times = 50): Promise<void> {
  for (let i = 0; i < times; i++) {
    send(client, MESSAGE, MESSAGE.length, 0);
    expect(await arriving(server)).toBe('hello');
    send(server, MESSAGE, MESSAGE.length, 0);
    expect(await arriving(client)).toBe('hello');
  }
}
