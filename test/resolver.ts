/**
 * The world's resolver, on port 53 of the lab's outside or of the addresses that are named, by UDP and TCP: 203.0.113.9 for every A
 * query, nothing of any other type, a zone of three messages for a transfer, and every update is taken.
 */
import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import packet from 'dns-packet';

const soa = (name: string): packet.Answer => ({
  type: 'SOA',
  name,
  ttl: 60,
  data: {
    mname: `ns.${name}`,
    rname: `root.${name}`,
    serial: 1,
    refresh: 1,
    retry: 1,
    expire: 1,
    minimum: 1,
  },
});

function answers(query: Buffer): Buffer[] {
  const id = query.readUInt16BE(0);
  const opcode = (query.readUInt16BE(2) >> 11) & 15;
  if (opcode !== 0) {
    const taken = Buffer.from(query.subarray(0, 12)).fill(0, 4);
    taken.writeUInt16BE(0x8000 | (opcode << 11), 2);
    return [taken];
  }
  const { questions = [] } = packet.decode(query);
  const name = questions[0]?.name ?? '';
  const say = (records: packet.Answer[]): Buffer =>
    packet.encode({ type: 'response', id, flags: packet.RECURSION_AVAILABLE, questions, answers: records });
  const address = (of: string): packet.Answer => ({ type: 'A', name: of, ttl: 60, data: '203.0.113.9' });
  if (questions[0]?.type === 'AXFR')
    return [
      say([soa(name)]),
      say(Array.from({ length: 50 }, (_, i) => address(`h${i}.${name}`))),
      say([soa(name)]),
    ];
  return [say(questions.filter((q) => q.type === 'A').map((q) => address(q.name)))];
}

/** One socket an address: an answer must come from where the question went. */
const ADDRESSES = process.argv.length > 2 ? process.argv.slice(2) : ['192.168.50.1', '198.51.100.1'];
for (const address of ADDRESSES) {
  const udp = dgram.createSocket('udp4');
  udp.on('message', (query, client) => udp.send(answers(query)[0] as Buffer, client.port, client.address));
  udp.bind(53, address);
  await once(udp, 'listening');
  const tcp = net.createServer((socket) => {
    socket.on('data', (chunk) => {
      for (const bytes of answers(chunk.subarray(2)))
        socket.write(Buffer.concat([Buffer.of(bytes.length >> 8, bytes.length & 255), bytes]));
      socket.end();
    });
    socket.on('error', () => socket.destroy());
  });
  tcp.listen(53, address);
  await once(tcp, 'listening');
}
process.stdout.write('ready\n');
