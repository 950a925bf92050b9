/**
 * Lookups of one name as a container's programs make them, by UDP to Docker's resolver address. Run in the container's
 * network namespace:
 *
 *   node lookups.ts count NAME N    {"A": {address: how often it came first}, "AAAA": ...} after N lookups of both types
 *   node lookups.ts watch NAME      a line `milliseconds address,address...` whenever the set of addresses changes
 */
import dgram from 'node:dgram';
import { once } from 'node:events';
import packet from 'dns-packet';

const RESOLVER = '127.0.0.11';
/** Milliseconds. */
const INTERVAL = 50;
const TIMEOUT = 5000;
const TYPES = ['A', 'AAAA'] as const;
const [mode = '', name = '', count = '0'] = process.argv.slice(2);

const socket = dgram.createSocket('udp4');
socket.connect(53, RESOLVER);
await once(socket, 'connect');
const waiting = new Map<number, (addresses: string[]) => void>();
socket.on('message', (bytes) => {
  const { id = 0, answers = [] } = packet.decode(bytes);
  waiting.get(id)?.(answers.flatMap((a) => (a.type === 'A' || a.type === 'AAAA' ? [a.data] : [])));
});

let last = 0;
/** Throws where no answer comes. */
function ask(type: 'A' | 'AAAA'): Promise<string[]> {
  last = (last + 1) % 0x10000;
  const id = last;
  return new Promise((done, failed) => {
    const timer = setTimeout(() => failed(new Error(`no answer for ${name} ${type}`)), TIMEOUT);
    waiting.set(id, (addresses) => {
      clearTimeout(timer);
      waiting.delete(id);
      done(addresses);
    });
    socket.send(
      packet.encode({ type: 'query', id, flags: packet.RECURSION_DESIRED, questions: [{ type, name }] }),
    );
  });
}

if (mode === 'count') {
  const firsts: Record<string, Record<string, number>> = { A: {}, AAAA: {} };
  for (let i = 0; i < Number(count); i++)
    for (const type of TYPES) {
      const first = (await ask(type))[0] ?? '';
      const counts = firsts[type] as Record<string, number>;
      counts[first] = (counts[first] ?? 0) + 1;
    }
  process.stdout.write(`${JSON.stringify(firsts)}\n`);
  socket.close();
} else {
  let before: string | undefined;
  for (;;) {
    const now = (await ask('A').catch(() => ['no answer'])).sort().join();
    if (now !== before) process.stdout.write(`${Date.now()} ${now}\n`);
    before = now;
    await new Promise((done) => setTimeout(done, INTERVAL));
  }
}
