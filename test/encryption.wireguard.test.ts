/** What goes between hosts, as a stranger on their link sees it: encrypted, never in the clear, through every change of keys. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../lab/shell.ts';
import { ADDRESSES, type Encrypted, openEncrypted } from './encrypted.ts';

let cluster: Encrypted;
/** Addresses of a container on each host. */
let one = '';
let two = '';
const CLEAR = 'udp port 4789';
const ENCRYPTED = 'udp port 14789 or udp port 14790';

const reach = (from: 'one' | 'two' = 'one'): Promise<boolean> =>
  (from === 'one'
    ? cluster.inside('node1', 'one', `busybox ping -c 1 -W 1 ${two}`)
    : cluster.inside('node2', 'two', `busybox ping -c 1 -W 1 ${one}`)
  ).then(
    () => true,
    () => false,
  );

beforeAll(async () => {
  cluster = await openEncrypted(['node1', 'node2']);
  await cluster.netctl('net create -s 20.1.1.0/24 -g 20.1.1.254 net1');
  one = await cluster.attach('node1', 'one', 'net1');
  two = await cluster.attach('node2', 'two', 'net1');
  await until('a ping', 60, () => reach());
});
afterAll(() => cluster?.down());

describe('a cluster', () => {
  it('sends VXLAN as it is until encryption is declared, and then nothing but WireGuard', async () => {
    const before = await cluster.record();
    expect(await reach()).toBe(true);
    await until('a frame', 30, async () => (await before.count(CLEAR)) > 0);
    expect(await before.count(ENCRYPTED)).toBe(0);
    await before.end();

    await cluster.netctl('global set --encryption wireguard');
    await until('a ping under WireGuard', 60, () => reach());
    const after = await cluster.record();
    expect(await reach()).toBe(true);
    expect(await reach('two')).toBe(true);
    await until('a packet', 30, async () => (await after.count(ENCRYPTED)) >= 4);
    expect(await after.count(CLEAR)).toBe(0);
    await after.end();
    expect(await cluster.on('node1', 'ip -o link show contiv-wg0')).toContain('mtu 1440');
  });
});
