import dgram from 'node:dgram';
import { pino } from 'pino';
import { afterEach, beforeAll, expect, it, onTestFinished, vi } from 'vitest';
import { startFlood } from '../../../test/flooding.ts';
import { applied, clean, inRouter, port, routerMac, state } from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { query } from '../../../test/nameserver.ts';
import { ethernet, udp } from '../../../test/packet.ts';
import { receiveRound, sendDatagrams } from '../../linux/datagrams.ts';
import { bindPort, closeSocket, createNamespace, inNamespace, namespacePath } from '../../linux/netns.ts';
import { openApplier } from '../dataplane/applier.ts';
import { fromHere } from '../dns/forward.ts';
import { startNameserver } from '../dns/server.ts';
import { openRouter } from './router.ts';

beforeAll(isolate);
afterEach(clean);

/** A container of the router's network, with a socket that asks. */
function container(n: number): dgram.Socket {
  createNamespace(`box${n}`);
  sh(`ip link set ${port(n).peer} netns box${n} name eth0`);
  const fd = inNamespace(namespacePath(`box${n}`), () => {
    sh(`ip link set eth0 up; ip addr add 20.1.1.${n}/24 dev eth0; ip route add default via 20.1.1.254`);
    return bindPort('udp', `20.1.1.${n}`, 0, { nonblocking: true });
  });
  return dgram.createSocket('udp4').bind({ fd });
}

const send = (socket: dgram.Socket, text: string | Buffer): Promise<void> =>
  new Promise((done, fail) => {
    socket.send(text, 53, '20.1.1.254', (error) => (error ? fail(error) : done()));
  });

/** The router of containers 2, 3, ..., and the sockets of its nameserver. */
function router(...containers: number[]) {
  const applier = openApplier();
  const wanted = state({ ports: containers.map((n) => port(n)) });
  applied(applier, wanted);
  const access = openRouter('contiv-default');
  onTestFinished(() => access.close());
  return { ...access, again: () => applied(applier, wanted, true) };
}

it('keeps the queries of a container that asks without end, while the nameserver is busy, and those of others', async () => {
  const { sockets, again } = router(2, 3);
  const [udp4, ...others] = sockets.map(({ fd }) => fd);
  for (const fd of others) closeSocket(fd);
  const [greedy, modest] = [container(2), container(3)];
  const FLOOD = 20_000;
  for (let sent = 0; sent < FLOOD; sent += 500)
    await Promise.all(Array.from({ length: 500 }, () => send(greedy, 'flood')));
  for (let i = 0; i < 100; i++) await send(modest, `modest ${i}`);

  // The nameserver has been busy meanwhile: it begins to read.
  const heard: string[] = [];
  const server = dgram.createSocket('udp4');
  server.on('message', (bytes) => heard.push(String(bytes)));
  server.bind({ fd: udp4 });
  await vi.waitFor(() => expect(heard.filter((text) => text !== 'flood')).toHaveLength(100), {
    timeout: 20_000,
  });
  // Those that came faster than a container may ask are counted.
  const floods = heard.filter((text) => text === 'flood').length;
  expect(floods).toBeGreaterThanOrEqual(3000);
  expect(inRouter('nft list counter inet contiv asked')).toContain(`packets ${FLOOD - floods} `);

  // What packets have written into the table is no drift.
  expect(again()).toMatchObject({ repaired: [], failed: [] });
  for (const socket of [greedy, modest, server]) socket.close();
});

it('containers that ask as fast as two processors let them keep a third one from no answer', async () => {
  const { sockets, originalDestination } = router(2, 3, 4);
  const answered = new Map<string, number>();
  const server = startNameserver({
    sockets,
    answer: (client) => {
      answered.set(client, (answered.get(client) ?? 0) + 1);
      return { kind: 'addresses', addresses: ['20.1.1.9'] };
    },
    originalDestination: async (...asked) => originalDestination(...asked),
    upstreams: () => ({ servers: [], timeout: 5000, attempts: 2 }),
    outside: fromHere,
    mayAsk: () => true,
    receiveRound,
    sendDatagrams,
    log: pino({ level: 'silent' }),
  });
  onTestFinished(() => server.close());
  const modest = container(4);
  onTestFinished(() => void modest.close());
  // Behind the query is what each one of a flood has for itself, with its complement (flood.ts).
  const floods = [2, 3].map((n) => {
    container(n).close();
    const asked = Buffer.concat([query('web'), Buffer.from([0, 0, 0xff, 0xff])]);
    const frame = ethernet(port(n).mac, routerMac(port(n)), udp(`20.1.1.${n}`, '20.1.1.254', 777, 53, asked));
    return startFlood(namespacePath(`box${n}`), 'eth0', frame.length - 4, [frame]);
  });
  let sent: number[] = [];
  try {
    await vi.waitFor(() => expect(answered.get('20.1.1.3')).toBeGreaterThan(1000), { timeout: 20_000 });
    // As resolvers do, it asks again where nothing comes: where floods leave the nameserver no processor, the socket's queue is full.
    const heard = new Set<number>();
    modest.on('message', (bytes) => heard.add(bytes.readUInt16BE(0)));
    for (let id = 1; id <= 20; id++)
      await vi.waitUntil(
        async () => {
          await send(modest, query('web', { id }));
          await vi.waitFor(() => expect(heard).toContain(id), { timeout: 500 }).catch(() => {});
          return heard.has(id);
        },
        { timeout: 100_000 },
      );
  } finally {
    sent = (await Promise.all(floods.map((flood) => flood.stop()))).flat();
  }
  for (const count of sent) expect(count).toBeGreaterThan(1000);
}, 120_000);
