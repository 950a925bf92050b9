/**
 * Request and response over TCP, one byte each way, with blocking system calls from Node: a transaction costs what
 * the kernel's path costs and a few microseconds, not a turn of an event loop. Runs in any network namespace.
 *
 *   node echo.ts serve PORT                     prints "listening", then answers one connection after the other
 *   node echo.ts latency ADDRESS PORT SECONDS   transactions on one connection
 *   node echo.ts connect ADDRESS PORT COUNT     connections: connect, a byte there, a byte back, close
 *
 * The clients print an Echoed as JSON.
 */
import koffi from 'koffi';
import {
  AF_INET,
  bind,
  close,
  recv,
  SOCK_CLOEXEC,
  SOCK_STREAM,
  SyscallError,
  send,
  setOption,
  socket,
} from '../src/linux/libc.ts';

/** What a client saw: transactions (or connections) a second, and how long one took, in microseconds. */
export interface Echoed {
  readonly perSecond: number;
  readonly medianUs: number;
  readonly p99Us: number;
}

const libc = koffi.load('libc.so.6');
const listen = libc.func('int listen(int fd, int backlog)');
const accept = libc.func('int accept(int fd, void *address, void *length)');
const connect = libc.func('int connect(int fd, const void *address, uint32_t length)');

const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;

/** The server answers each byte; after LAST it closes, so that the client's port is free again (no TIME_WAIT there). */
const MORE = Buffer.from('m');
const LAST = Buffer.from('l');

/** struct sockaddr_in (ip(7)). */
function socketAddress(address: string, port: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt16LE(AF_INET, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(address.split('.').map(Number), 4);
  return bytes;
}

function checked(call: string, result: number): number {
  if (result < 0) throw new SyscallError(call, koffi.errno());
  return result;
}

const tcpSocket = (): number => socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

function serve(port: number): never {
  const server = tcpSocket();
  setOption(server, SOL_SOCKET, SO_REUSEADDR, 1);
  bind(server, socketAddress('0.0.0.0', port), 16);
  checked('listen', listen(server, 128));
  process.stdout.write('listening\n');
  const byte = Buffer.alloc(1);
  for (;;) {
    const connection = checked('accept', accept(server, null, null));
    setOption(connection, IPPROTO_TCP, TCP_NODELAY, 1);
    while (recv(connection, byte, 1, 0) === 1) {
      send(connection, byte, 1, 0);
      if (byte[0] === LAST[0]) break;
    }
    close(connection);
  }
}

function connected(to: Buffer): number {
  const fd = tcpSocket();
  setOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  checked('connect', connect(fd, to, 16));
  return fd;
}

function transact(fd: number, request: Buffer, answer: Buffer): void {
  send(fd, request, 1, 0);
  if (recv(fd, answer, 1, 0) !== 1) throw new Error('the server closed the connection');
}

/** Repeats `once` while `more` says so; the first tenth warms up and does not count. */
function timed(once: () => void, more: (done: number, seconds: number) => number): Echoed {
  const took: number[] = [];
  const begin = performance.now();
  let counted = begin;
  let warm = 0;
  for (let now = begin; ; ) {
    const progress = more(took.length + warm, (now - begin) / 1000);
    if (progress >= 1) break;
    once();
    const after = performance.now();
    if (progress < 0.1) {
      warm++;
      counted = after;
    } else took.push(after - now);
    now = after;
  }
  const seconds = (performance.now() - counted) / 1000;
  took.sort((a, b) => a - b);
  const at = (share: number): number => Math.round((took[Math.floor(took.length * share)] ?? 0) * 1e5) / 100;
  return { perSecond: Math.round(took.length / seconds), medianUs: at(0.5), p99Us: at(0.99) };
}

function latency(to: Buffer, seconds: number): Echoed {
  const fd = connected(to);
  const answer = Buffer.alloc(1);
  return timed(
    () => transact(fd, MORE, answer),
    (_, elapsed) => elapsed / seconds,
  );
}

function connections(to: Buffer, count: number): Echoed {
  const answer = Buffer.alloc(1);
  return timed(
    () => {
      const fd = connected(to);
      transact(fd, LAST, answer);
      recv(fd, answer, 1, 0); // the end of the stream
      close(fd);
    },
    (done) => done / count,
  );
}

const [command, ...args] = process.argv.slice(2);
if (command === 'serve') serve(Number(args[0]));
const to = socketAddress(args[0] as string, Number(args[1]));
const amount = Number(args[2]);
process.stdout.write(JSON.stringify(command === 'latency' ? latency(to, amount) : connections(to, amount)));
