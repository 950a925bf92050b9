/** The world's resolver, on port 53 of the lab's outside: 203.0.113.9 for every A query, by UDP and TCP. */
import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import packet from 'dns-packet';

function answer(query: Buffer): Buffer {
  const { id, questions = [] } = packet.decode(query);
  const answers = questions
    .filter((q) => q.type === 'A')
    .map((q) => ({ type: 'A' as const, name: q.name, ttl: 60, data: '203.0.113.9' }));
  return packet.encode({ type: 'response', id: id ?? 0, questions, answers });
}

/** One socket an address: an answer must come from where the question went. */
const ADDRESSES = ['192.168.50.1', '198.51.100.1'];
for (const address of ADDRESSES) {
  const udp = dgram.createSocket('udp4');
  udp.on('message', (query, client) => udp.send(answer(query), client.port, client.address));
  udp.bind(53, address);
  await once(udp, 'listening');
  const tcp = net.createServer((socket) => {
    socket.on('data', (chunk) => {
      const bytes = answer(chunk.subarray(2));
      socket.end(Buffer.concat([Buffer.of(bytes.length >> 8, bytes.length & 255), bytes]));
    });
    socket.on('error', () => socket.destroy());
  });
  tcp.listen(53, address);
  await once(tcp, 'listening');
}
process.stdout.write('ready\n');
