import { once } from 'node:events';
import net from 'node:net';
import { expect, it, onTestFinished, vi } from 'vitest';
import { clientOf, keptFor, keyOf } from './connections.ts';

it.each([
  ['127.0.0.1', '127.0.0.1'],
  ['::1', '::1'],
  ['::', '127.0.0.1'],
  ['::', '::1'],
])('what a client of a server on %s has not taken is known by its address, here %s', async (listen, to) => {
  const server = net.createServer().listen(0, listen);
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  const accepted: net.Socket[] = [];
  server.on('connection', (socket) => accepted.push(socket));
  const [idle, asleep] = [net.connect(port, to), net.connect(port, to).pause()];
  onTestFinished(() => {
    for (const socket of [idle, asleep, ...accepted]) socket.destroy();
  });
  await vi.waitUntil(() => accepted.length === 2, 30_000);
  const other = (client: net.Socket): net.Socket =>
    accepted.find((socket) => socket.remotePort === client.localPort) as net.Socket;
  other(asleep).write(Buffer.alloc(64 << 20));
  await vi.waitFor(
    async () => {
      const found = await keptFor(port);
      expect(found.get(keyOf(other(idle)))).toEqual({ bytes: 0, unanswered: 0 });
      expect(found.get(keyOf(other(asleep)))?.bytes).toBeGreaterThan(10_000);
    },
    { timeout: 30_000 },
  );
});

it('a client of IPv6 is a /64', () => {
  const of = (remoteAddress: string): string => clientOf({ remoteAddress } as net.Socket);
  expect(of('2001:db8::1')).toBe('2001:0db8:0000:0000::/64');
  expect(of('2001:db8::ffff:1:2:3:4')).toBe('2001:0db8:0000:ffff::/64');
  expect(of('2001:db8:1:2:3:4:5:6')).toBe('2001:0db8:0001:0002::/64');
  expect(of('fe80::1%eth0')).toBe('fe80:0000:0000:0000::/64');
  expect(of('::1')).toBe('0000:0000:0000:0000::/64');
  expect(of('::ffff:10.0.0.1')).toBe('10.0.0.1');
  expect(of('10.0.0.1')).toBe('10.0.0.1');
});
