/** Sends Ethernet frames, given in hex, as they are: `node frames.ts eth0 FRAME...`, in the namespace of who sends. */
import koffi from 'koffi';
import { bind, close, SOCK_RAW, send, socket } from '../src/linux/libc.ts';

const AF_PACKET = 17;
const [device = '', ...frames] = process.argv.slice(2);
const index = koffi.load('libc.so.6').func('unsigned int if_nametoindex(const char *name)')(device) as number;
if (index === 0) throw new Error(`no device ${device} in this namespace`);

/** struct sockaddr_ll (packet(7)); protocol 0: nothing is received. */
const address = Buffer.alloc(20);
address.writeUInt16LE(AF_PACKET, 0);
address.writeInt32LE(index, 4);
const fd = socket(AF_PACKET, SOCK_RAW, 0);
bind(fd, address, address.length);
for (const frame of frames) send(fd, Buffer.from(frame, 'hex'), frame.length / 2, 0);
close(fd);
