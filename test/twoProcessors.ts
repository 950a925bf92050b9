/**
 * Datagrams of one socket from several processors at once, as fast as they go: a thread on each, until standard input
 * ends, and for SECONDS at most. `node twoProcessors.ts FROM TO PORT SECONDS`, in the namespace of who sends; answers how many it sent.
 */
import { availableParallelism } from 'node:os';
import { Worker, workerData } from 'node:worker_threads';
import koffi from 'koffi';
import { bind, SOCK_DGRAM, socket } from '../src/linux/libc.ts';
import { familyOf, socketAddress } from './probe.ts';

const libc = koffi.load('libc.so.6');
const connect = libc.func('int connect(int fd, const void *address, uint32_t length)');
const send = libc.func('intptr_t send(int fd, const void *data, size_t length, int flags)');
const setAffinity = libc.func('int sched_setaffinity(int thread, size_t size, const void *mask)');

interface Work {
  readonly fd: number;
  readonly processor: number;
  /** Whether to end, and what was sent. */
  readonly shared: Int32Array;
}

if (workerData === null) {
  const [from = '', to = '', port, seconds] = process.argv.slice(2);
  const fd = socket(familyOf(to), SOCK_DGRAM, 0);
  const own = socketAddress(from, 0);
  bind(fd, own, own.length);
  const peer = socketAddress(to, Number(port));
  if (connect(fd, peer, peer.length) !== 0) throw new Error(`no way from ${from} to ${to}`);
  const shared = new Int32Array(new SharedArrayBuffer(8));
  const end = (): void => {
    Atomics.store(shared, 0, 1);
  };
  setTimeout(end, Number(seconds) * 1000).unref();
  process.stdin.on('end', end).resume();
  const workers = Array.from(
    { length: Math.min(2, availableParallelism()) },
    (_, processor) => new Worker(import.meta.filename, { workerData: { fd, processor, shared } }),
  );
  await Promise.all(workers.map((worker) => new Promise((done) => worker.once('exit', done))));
  process.stdout.write(`${Atomics.load(shared, 1)}\n`);
  process.exit(0);
} else {
  const { fd, processor, shared } = workerData as Work;
  const mask = Buffer.alloc(128);
  mask[processor >> 3] = 1 << (processor & 7);
  if (setAffinity(0, mask.length, mask) !== 0) throw new Error(`no processor ${processor}`);
  const data = Buffer.from('datagram');
  while (Atomics.load(shared, 0) === 0)
    for (let i = 0; i < 64; i++) if (send(fd, data, data.length, 0) > 0) Atomics.add(shared, 1, 1);
}
