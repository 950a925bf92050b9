import dgram from 'node:dgram';
import { afterEach, beforeAll, expect, it, vi } from 'vitest';
import { applied, clean, inRouter, port, state } from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { bindPort, closeSocket, createNamespace, inNamespace, namespacePath } from '../../linux/netns.ts';
import { openApplier } from '../dataplane/applier.ts';
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

const send = (socket: dgram.Socket, text: string): Promise<void> =>
  new Promise((done, fail) => {
    socket.send(text, 53, '20.1.1.254', (error) => (error ? fail(error) : done()));
  });

it('a container that asks its nameserver without end loses its own queries, not those of others', async () => {
  const applier = openApplier();
  applied(applier, state({ ports: [port(2), port(3)] }));
  const [udp4, ...others] = openRouter('contiv-default').sockets.map(({ fd }) => fd);
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
  const floods = heard.filter((text) => text === 'flood').length;
  expect(floods).toBeGreaterThanOrEqual(1000);
  expect(floods).toBeLessThan(FLOOD);
  expect(inRouter('nft list counter inet contiv asked')).toContain(`packets ${FLOOD - floods} `);

  // What packets have written into the table is no drift.
  expect(applied(applier, state({ ports: [port(2), port(3)] }), true)).toMatchObject({
    repaired: [],
    failed: [],
  });
  for (const socket of [greedy, modest, server]) socket.close();
});
