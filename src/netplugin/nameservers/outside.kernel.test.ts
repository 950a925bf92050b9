import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import packet from 'dns-packet';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isolate, sh } from '../../../test/isolation.ts';
import { bindPort, createNamespace, deleteNamespace, inNamespace, namespacePath } from '../../linux/netns.ts';
import { ask } from '../dns/forward.ts';
import { framed } from '../dns/message.ts';
import { fromRouter } from './outside.ts';

const ROUTER = 'contiv-t-outside';
/** Only the router's namespace has them. */
const SERVERS = ['10.9.9.9', 'fd00:9::9'];
const ends: (() => void)[] = [];

const answerTo = (query: Buffer): Buffer =>
  packet.encode({
    type: 'response',
    id: query.readUInt16BE(0),
    questions: packet.decode(query).questions ?? [],
    answers: [{ type: 'A', name: 'example.org', ttl: 60, data: '203.0.113.9' }],
  });

beforeAll(async () => {
  isolate();
  createNamespace(ROUTER);
  inNamespace(namespacePath(ROUTER), () => {
    sh('ip link set lo up; ip addr add 10.9.9.9/32 dev lo; ip addr add fd00:9::9/128 dev lo nodad');
  });
  for (const address of SERVERS) {
    const bound = (protocol: 'udp' | 'tcp'): number =>
      inNamespace(namespacePath(ROUTER), () => bindPort(protocol, address, 53, { nonblocking: true }));
    const udp = dgram.createSocket(address.includes(':') ? 'udp6' : 'udp4').bind({ fd: bound('udp') });
    udp.on('message', (bytes, from) => udp.send(answerTo(bytes), from.port, from.address));
    const tcp = net.createServer((socket) => {
      socket.on('error', () => {});
      socket.on('data', (bytes) => socket.end(framed(answerTo(bytes.subarray(2)))));
    });
    tcp.listen({ fd: bound('tcp') });
    await once(tcp, 'listening');
    ends.push(
      () => udp.close(),
      () => tcp.close(),
    );
  }
});
afterAll(() => {
  for (const end of ends) end();
  deleteNamespace(ROUTER);
});

const query = packet.encode({ type: 'query', id: 7, questions: [{ type: 'A', name: 'example.org' }] });
const answer = (namespace: string, protocol: 'udp' | 'tcp', address: string, port = 53) =>
  ask(query, [{ address, port, dial: fromRouter(namespace) }], protocol, { timeout: 60_000, attempts: 2 })
    .answer;

describe('a server that a container has named', () => {
  it.each(SERVERS)('is asked as from its router: %s, which the host does not reach', async (address) => {
    for (const protocol of ['udp', 'tcp'] as const) {
      const found = await answer(ROUTER, protocol, address);
      expect(packet.decode(found as Buffer).answers).toMatchObject([{ data: '203.0.113.9' }]);
    }
  });

  it.each([
    ['that refuses', ROUTER, '10.9.9.9', 54],
    ['without a way to it', ROUTER, '192.0.2.1', 53],
    ['of a router that has just gone', 'contiv-t-gone', '10.9.9.9', 53],
  ])('%s gives no answer, long before its time is over', async (_, namespace, address, port) => {
    for (const protocol of ['udp', 'tcp'] as const)
      expect(await answer(namespace, protocol, address, port)).toBeUndefined();
  });
});
