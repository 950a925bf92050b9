import pino from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { isolate, sh } from '../../../test/isolation.ts';
import { followPrefixes, listPrefixes } from './prefixes.ts';

beforeAll(() => {
  isolate();
  sh(`
    ip link add eth0 type veth peer name other; ip link set eth0 up; ip link set other up
    ip addr add 192.0.2.1/24 dev eth0; ip addr add fd00:9::1/64 dev eth0 nodad
    ip link add docker0 type bridge; ip link set docker0 up; ip addr add 172.17.0.1/16 dev docker0
    ip link add cx12345678 type veth peer name beyond; ip link set cx12345678 up; ip link set beyond up
    ip addr add 100.127.0.0/31 dev cx12345678
    ip route add default via 192.0.2.254; ip -6 route add default via fd00:9::fe
    ip route add 10.0.0.0/8 via 192.0.2.254
    ip route add 20.1.1.0/24 via 100.127.0.1 proto 199
    ip route add unreachable 198.51.100.0/24`);
});
const OPTIONS = { ours: 'cx', most: 64 };
let following: ReturnType<typeof followPrefixes> | undefined;
afterAll(() => following?.close());

it('are those of links, bridges and routes, the widest first, without defaults and what is ours', () => {
  expect(listPrefixes(OPTIONS)).toEqual(['10.0.0.0/8', '172.17.0.0/16', 'fd00:9::/64', '192.0.2.0/24']);
  expect(listPrefixes({ ...OPTIONS, most: 2 })).toEqual(['10.0.0.0/8', '172.17.0.0/16']);
});

it('are followed as they come and go', async () => {
  following = followPrefixes(OPTIONS, pino({ level: 'silent' }));
  const before = following.now;
  sh('ip route add 203.0.113.0/24 via 192.0.2.254');
  await expect.poll(() => following?.now, { timeout: 20_000 }).toContain('203.0.113.0/24');
  sh('ip route del 203.0.113.0/24');
  await expect.poll(() => following?.now, { timeout: 20_000 }).toEqual(before);
});
