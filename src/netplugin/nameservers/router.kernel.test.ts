import dgram from 'node:dgram';
import fs from 'node:fs';
import { afterEach, beforeAll, expect, it, onTestFinished } from 'vitest';
import { applied, clean, inRouter, port, state } from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { bindPort, closeSocket, createNamespace, inNamespace, namespacePath } from '../../linux/netns.ts';
import { NAMESERVER, NAMESERVER6 } from '../constants.ts';
import { openApplier } from '../dataplane/applier.ts';
import { type NameserverSocket, openRouter } from './router.ts';

const ROUTER = 'contiv-default';

beforeAll(isolate);
afterEach(clean);

it("has sockets that are bound in the router, and not in the host's namespace", () => {
  applied(openApplier(), state({}));
  const { sockets, close } = openRouter(ROUTER);
  try {
    expect(inRouter('ss -lun')).toContain(`${NAMESERVER}:53`);
    expect(sh('ss -lun')).not.toContain(':53 ');
  } finally {
    for (const { fd } of sockets) closeSocket(fd);
    close();
  }
});

it('leaves no socket open where it cannot have all of a nameserver, or there is no router', () => {
  applied(openApplier(), state({}));
  const taken = inNamespace(namespacePath(ROUTER), () => bindPort('tcp', NAMESERVER6, 53));
  const open = fs.readdirSync('/proc/self/fd').length;
  expect(() => openRouter(ROUTER)).toThrow('EADDRINUSE');
  expect(() => openRouter('contiv-nowhere')).toThrow('there is no router contiv-nowhere');
  expect(fs.readdirSync('/proc/self/fd')).toHaveLength(open);
  closeSocket(taken);
});

it('knows no destination of a query that conntrack does not know', () => {
  applied(openApplier(), state({}));
  const { sockets, originalDestination, close } = openRouter(ROUTER);
  expect(originalDestination('udp', { address: '20.1.1.2', port: 4711 })).toBeUndefined();
  for (const { fd } of sockets) closeSocket(fd);
  close();
});

it('beside an earlier one it gets all queries, and the earlier one still answers those that it has', async () => {
  applied(openApplier(), state({}));
  const said: string[] = [];
  /** Answers that are given when the test says so. */
  const held: (() => void)[] = [];
  /** A nameserver that answers with its name. */
  const serve = (name: string): void => {
    const { sockets, close } = openRouter(ROUTER);
    const [first, ...others] = sockets as [NameserverSocket, ...NameserverSocket[]];
    for (const { fd } of others) closeSocket(fd);
    close();
    const socket = dgram.createSocket('udp4').bind({ fd: first.fd });
    socket.on('message', (bytes, from) => {
      const answer = (): void => socket.send(name, from.port, from.address);
      if (String(bytes) === 'wait') held.push(answer);
      else answer();
    });
    onTestFinished(() => void socket.close());
  };
  createNamespace('box');
  sh(`ip link set ${port(2).peer} netns box name eth0`);
  const fd = inNamespace(namespacePath('box'), () => {
    sh('ip link set eth0 up; ip addr add 20.1.1.2/24 dev eth0; ip route add default via 20.1.1.254');
    return bindPort('udp', '20.1.1.2', 0);
  });
  const client = dgram.createSocket('udp4').bind({ fd });
  onTestFinished(() => void client.close());
  client.on('message', (bytes) => said.push(String(bytes)));
  const ask = (text: string): void => client.send(text, 53, '20.1.1.254');
  serve('first');
  ask('wait');
  await expect.poll(() => held.length).toBe(1);
  serve('second');
  for (let i = 0; i < 20; i++) ask('now');
  await expect.poll(() => said.length).toBe(20);
  held[0]?.();
  await expect.poll(() => said.length).toBe(21);
  expect(said).toEqual([...Array.from({ length: 20 }, () => 'second'), 'first']);
});
