/**
 * Sends frames, given in hex, over and over as fast as it can: `node flood.ts eth0 SECONDS OFFSET FRAME...`, in the namespace
 * of who sends. Each time around another 16 bits are at OFFSET, and their complement behind them: a forged address, or two
 * ports; no checksum changes (RFC 1071) where what is given there is a number and its complement, too. Ends early by SIGTERM. Writes how many it sent.
 */
import koffi from 'koffi';
import { bind, close, SOCK_RAW, send, socket } from '../src/linux/libc.ts';

const AF_PACKET = 17;
const [device = '', seconds = '', offset = '', ...given] = process.argv.slice(2);
const index = koffi.load('libc.so.6').func('unsigned int if_nametoindex(const char *name)')(device) as number;
if (index === 0) throw new Error(`no device ${device} in this namespace`);
const frames = given.map((frame) => Buffer.from(frame, 'hex'));
const end = process.hrtime.bigint() + BigInt(Number(seconds) * 1000) * 1_000_000n;

/** struct sockaddr_ll (packet(7)); protocol 0: nothing is received. */
const address = Buffer.alloc(20);
address.writeUInt16LE(AF_PACKET, 0);
address.writeInt32LE(index, 4);
const fd = socket(AF_PACKET, SOCK_RAW, 0);
bind(fd, address, address.length);
let sent = 0;
let stopped = false;
process.on('SIGTERM', () => {
  stopped = true;
});
// Several senders at once begin elsewhere.
for (let n = process.pid * 7919; !stopped && process.hrtime.bigint() < end; n++) {
  if (n % 256 === 0) await new Promise((done) => setImmediate(done)); // signals come in between
  for (const frame of frames) {
    frame.writeUInt16BE(n & 0xffff, Number(offset));
    frame.writeUInt16BE(~n & 0xffff, Number(offset) + 2);
    try {
      send(fd, frame, frame.length, 0);
      sent++;
    } catch {
      // The device's queue is full.
    }
  }
}
close(fd);
process.stdout.write(`${sent}\n`);
