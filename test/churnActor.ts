/**
 * The process in a container of the churn (churn.ts).
 *
 *   churnActor.ts receive FOLDER NAME             appends what arrives to FOLDER/NAME.got
 *   churnActor.ts send FOLDER NAME ID STREAMS     sends for ever
 *
 * Each start is a line of FOLDER/NAME.starts: its time on the monotonic clock.
 *
 * Nobody answers UDP: conntrack never has it as established, and each packet is judged. Two threads on one socket send packets of
 * one connection from two processors at the same moment.
 */
import dgram from 'node:dgram';
import fs from 'node:fs';
import net from 'node:net';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import koffi from 'koffi';
import { AF_INET, SOCK_DGRAM, send, socket } from '../src/linux/libc.ts';
import { FLOWS, now, SIZE, type Stream, writeSent } from './churnPackets.ts';
import { socketAddress } from './probe.ts';

const libc = koffi.load('libc.so.6');
const connect = libc.func('int connect(int fd, const void *address, uint32_t length)');
const pin = libc.func('int sched_setaffinity(int pid, size_t size, const void *mask)');

interface Thread extends Stream {
  readonly fd: number;
  readonly sender: number;
  readonly run: number;
  /** Its processor. */
  readonly processor: number;
}

function receive(folder: string, name: string): void {
  const file = fs.openSync(`${folder}/${name}.got`, 'a');
  let got: Buffer[] = [];
  setInterval(() => {
    if (got.length > 0) fs.writeSync(file, Buffer.concat(got));
    got = [];
  }, 20);
  for (const port of [FLOWS.always, FLOWS.byRule, FLOWS.byGroup])
    dgram
      .createSocket({ type: 'udp4', recvBufferSize: 1 << 20 })
      .on('message', (message) => {
        if (message.length === SIZE) got.push(message);
      })
      .bind(port);
  net
    .createServer((connection) => {
      connection.on('error', () => {});
      connection.once('data', (message) => {
        if (message.length === SIZE) got.push(message);
        connection.end();
      });
    })
    .listen(FLOWS.tcp, '0.0.0.0');
}

/** Each tick of the clock, which threads share, a burst. */
function flood({ fd, sender, run, processor, port, burst, everyMs }: Thread): void {
  const mask = Buffer.alloc(128);
  mask[processor >> 3] = 1 << (processor & 7);
  pin(0, mask.length, mask); // where there is one processor only it fails, and threads take turns
  const sleeping = new Int32Array(new SharedArrayBuffer(4));
  const packet = Buffer.alloc(SIZE);
  for (let sequence = 0; ; ) {
    Atomics.wait(sleeping, 0, 0, everyMs - (now() % everyMs));
    for (let i = 0; i < burst; i++)
      try {
        send(fd, writeSent(packet, { sender, flow: port, run, sequence: sequence++, at: now() }), SIZE, 0);
      } catch {
        // no route, or no buffer: the receiver shows what has not arrived
      }
  }
}

/** A connection that says who it is, and ends; those that are not answered end after a second. */
function connecting({ to, everyMs }: Stream, sender: number, run: number): void {
  let sequence = 0;
  setInterval(() => {
    const connection = net.connect(FLOWS.tcp, to);
    connection.setTimeout(1000, () => connection.destroy());
    connection.on('error', () => {});
    const sent = { sender, flow: FLOWS.tcp, run, sequence: sequence++, at: now() };
    connection.on('connect', () => connection.end(writeSent(Buffer.alloc(SIZE), sent)));
  }, everyMs);
}

function sendAll(sender: number, streams: readonly Stream[]): void {
  const run = Math.floor(now());
  for (const stream of streams) {
    if (stream.port === FLOWS.tcp) {
      connecting(stream, sender, run);
      continue;
    }
    const fd = socket(AF_INET, SOCK_DGRAM, 0);
    const peer = socketAddress(stream.to, stream.port);
    connect(fd, peer, peer.length);
    for (let processor = 0; processor < stream.threads; processor++)
      new Worker(import.meta.filename, {
        workerData: { ...stream, fd, sender, run, processor } satisfies Thread,
      });
  }
}

if (!isMainThread) flood(workerData as Thread);
else {
  const [what = '', folder = '', name = '', id = '', streams = '[]'] = process.argv.slice(2);
  process.on('SIGTERM', () => process.exit(0));
  if (what === 'receive') receive(folder, name);
  else sendAll(Number(id), JSON.parse(streams) as Stream[]);
  fs.appendFileSync(`${folder}/${name}.starts`, `${now()}\n`);
}
