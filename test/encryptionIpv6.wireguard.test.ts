/** The same over an IPv6 underlay (encryption.wireguard.test.ts): what differs there is room, addresses and how a way back is looked for. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { until } from '../lab/shell.ts';
import { type Encrypted, openEncrypted } from './encrypted.ts';

let cluster: Encrypted;
beforeAll(async () => {
  cluster = await openEncrypted(['node1', 'node2'], 6);
});
afterAll(() => cluster?.down());

it('over IPv6 too nothing but WireGuard is on the link, with its room, from when it is declared, through a rotation', async () => {
  await cluster.netctl('net create -s 20.1.1.0/24 -g 20.1.1.254 net1');
  await cluster.attach('node1', 'one', 'net1');
  const two = await cluster.attach('node2', 'two', 'net1');
  const reaches = async (): Promise<boolean> =>
    (await cluster.attempt('node1', `ip netns exec one busybox ping -c 1 -W 1 ${two}`)).status === 0;
  await until('a ping', 240, reaches);
  // The way that a tunnel has found before is not kept (net/ipv6/fib6_rules.c).
  await cluster.netctl('global set --encryption wireguard');
  await until('a ping under WireGuard', 240, async () => {
    const { out } = await cluster.attempt('node1', 'ip -6 rule');
    return out.includes('lookup 4789') && (await reaches());
  });
  const seen = await cluster.record();
  const pings = cluster.pings('node1', 'one', two);
  expect(await cluster.inside('node1', 'one', 'ip -o link show eth0')).toContain('mtu 1350 ');
  await cluster.netctl('global rotate-keys');
  await until('epoch 2', 240, async () => {
    const text = await cluster.netctl('status || true');
    return /keys of epoch 2 /.test(text) && !text.includes('rotating');
  });
  await until('packets', 240, async () => (await seen.count('ip6 and udp port 14790')) > 4);
  const { sent, received } = await pings.end();
  expect(received).toBe(sent);
  expect(await seen.count('udp port 4789')).toBe(0);
  await seen.end();
});
