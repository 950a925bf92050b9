/**
 * Connects to a name again and again for some seconds, which it asks the container's nameserver for each time, as a program does that keeps
 * no connection. Prints how many connections a second there were.
 *
 *   node bench/connecting.ts NAME PORT SECONDS AT_ONCE
 */
import { Resolver } from 'node:dns/promises';
import { connect } from 'node:net';

const [name = '', port, seconds, atOnce] = process.argv.slice(2);
const resolver = new Resolver();
resolver.setServers(['127.0.0.11']);

async function once(): Promise<void> {
  const [address = ''] = await resolver.resolve4(name);
  await new Promise<void>((done, failed) => {
    const socket = connect(Number(port), address);
    socket.once('error', failed);
    socket.once('connect', () => {
      // Nothing waits for the port to be free again.
      socket.resetAndDestroy();
      done();
    });
  });
}

let made = 0;
await once();
const begin = performance.now();
const end = begin + Number(seconds) * 1000;
await Promise.all(
  Array.from({ length: Number(atOnce) }, async () => {
    while (performance.now() < end) {
      await once();
      made++;
    }
  }),
);
process.stdout.write(`${(made / (performance.now() - begin)) * 1000}\n`);
