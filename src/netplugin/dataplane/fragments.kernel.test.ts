/** Fragments, which a router puts together for its connections: what one container never finishes takes no other's room. */
import path from 'node:path';
import { afterEach, beforeAll, expect, it, vi } from 'vitest';
import { type Flood, startFlood } from '../../../test/flooding.ts';
import { applied, clean, GATEWAYS, inRouter, port, routerMac, state } from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { ethernet, ip, PROTOCOL, udpDatagram } from '../../../test/packet.ts';
import { linkLocal } from '../../linux/address.ts';
import { createNamespace, inNamespace, namespacePath } from '../../linux/netns.ts';
import type { Port } from '../state.ts';
import { openApplier } from './applier.ts';

const FRAMES = path.join(import.meta.dirname, '../../../test/frames.ts');

beforeAll(isolate);
const floods: Flood[] = [];
afterEach(async () => {
  await Promise.all(floods.splice(0).map((flood) => flood.stop().catch(() => {})));
  clean();
});

const box = (n: number): string => `box${n}`;
const inBox = <T>(n: number, use: () => T): T => inNamespace(namespacePath(box(n)), use);

/** The container of a port, as Docker leaves it. */
function container({ peer, addresses: [v4, v6] }: Port, n: number): void {
  createNamespace(box(n));
  sh(`ip link set ${peer} netns ${box(n)} name eth0`);
  inBox(n, () => {
    sh('echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad; ip link set lo up; ip link set eth0 mtu 1450 up');
    sh(`ip addr add ${v4}/32 dev eth0; ip addr add ${v6}/128 dev eth0 nodad`);
    sh(`ip route add ${GATEWAYS[0]} dev eth0; ip route add default via ${GATEWAYS[0]}`);
    sh(`ip -6 route add ${GATEWAYS[1]} dev eth0; ip -6 route add default via ${GATEWAYS[1]}`);
  });
}

/** The first part of a datagram of which no other will come (RFC 791; RFC 8200, 4.5). */
function begun(from: string, to: string): Buffer {
  const part = udpDatagram(1000, 9, Buffer.alloc(1376));
  if (!from.includes(':')) return ip(from, to, PROTOCOL.UDP, part, { more: true });
  return ip(from, to, 44, Buffer.concat([Buffer.of(PROTOCOL.UDP, 0, 0, 1, 0, 0, 0, 0), part]));
}

/** Containers .2, .3 and .4. */
function start(): Port[] {
  const ports = [2, 3, 4].map((n) => port(n));
  applied(openApplier(), state({ ports, remotes: [] }));
  for (const [i, p] of ports.entries()) container(p, i + 2);
  return ports;
}

/** Packets, by the router's end. */
const received = ({ device }: Port): number =>
  JSON.parse(inRouter(`ip -s -j link show ${device}`))[0].stats64.rx.packets;
const counted = (counter: string): number =>
  Number(/packets (\d+)/.exec(inRouter(`nft list counter inet contiv ${counter}`))?.[1]);

it.each([
  ['IPv4', '20.1.1.2', '0.0.255.255', '20.1.1.4', 14 + 16],
  ['IPv6', 'fd00:1::2', 'fd00:1::3', 'fd00:1::4', 14 + 40 + 4],
])(
  'what a container never finishes of %s takes no room of another',
  async (_, from, toAny, to, offset) => {
    const [own] = start() as [Port];
    const ping = (): string => inBox(3, () => sh(`busybox ping -s 4000 -c 3 -W 3 ${to} || true`));
    expect(ping()).toContain('3 packets received');
    // Of IPv4 the flood tells them apart by where they go, of IPv6 by their number.
    const frame = ethernet(own.mac, routerMac(own), begun(from, toAny));
    floods.push(startFlood(namespacePath(box(2)), 'eth0', offset, [frame]));
    await vi.waitUntil(() => counted('pieces') > 100_000, { timeout: 60_000 });
    // Of its own it has a fifth of the room; of IPv6 the kernel does not say.
    const [, kept] = /^FRAG: inuse \d+ memory (\d+)/m.exec(inRouter('cat /proc/net/sockstat')) ?? [];
    expect(Number(kept)).toBeLessThan((128 << 20) / 4);
    expect(ping()).toContain('3 packets received');
  },
  120_000,
);

it('parts of neighbour solicitations, which nobody sends, take no room', async () => {
  const [own] = start() as [Port];
  const ping = (): string => inBox(3, () => sh('busybox ping -s 4000 -c 3 -W 3 fd00:1::4 || true'));
  const part = Buffer.concat([
    Buffer.of(PROTOCOL.ICMP6, 0, 0, 1, 0, 0, 0, 0),
    Buffer.of(135),
    Buffer.alloc(1375),
  ]);
  const frame = ethernet(own.mac, routerMac(own), ip(linkLocal(own.mac), 'fd00:1::1', 44, part));
  floods.push(startFlood(namespacePath(box(2)), 'eth0', 14 + 40 + 4, [frame]));
  await vi.waitUntil(() => received(own) > 100_000, { timeout: 60_000 });
  expect(ping()).toContain('3 packets received');
}, 120_000);

it('a fragment by another’s address waits for none of that one’s', () => {
  const [own] = start() as [Port];
  const frame = ethernet(own.mac, routerMac(own), begun('20.1.1.3', '20.1.1.4'));
  inBox(2, () => sh(`${process.execPath} ${FRAMES} eth0 ${frame.toString('hex')}`));
  expect(counted('spoofed')).toBe(1);
  expect(inRouter('cat /proc/net/sockstat')).toContain('FRAG: inuse 0 memory 0');
});
