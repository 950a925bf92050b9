/**
 * What goes between hosts, as a stranger on their link sees it: encrypted, and never in the clear, whatever becomes of keys, agents and routes.
 *
 *   MEASURE=yes test/machine.sh vitest run --project wireguard      what it costs, as ratios of the same machine
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../lab/shell.ts';
import { ROOT } from '../lab/state.ts';
import { type Encrypted, type Node, openEncrypted, type Recording } from './encrypted.ts';

let cluster: Encrypted;
/** Addresses of a container on each host. */
let one = '';
let two = '';
const CLEAR = 'udp port 4789';
const ENCRYPTED = 'udp port 14789 or udp port 14790';
const SECONDS = 240;

async function reaches(): Promise<boolean> {
  return (await cluster.attempt('node1', `ip netns exec one busybox ping -c 1 -W 1 ${two}`)).status === 0;
}
const counter = async (node: Node, name: string): Promise<number> =>
  Number(/packets (\d+)/.exec(await cluster.on(node, `nft list counter inet contiv ${name}`))?.[1]);
const keyOf = async (node: Node, device: string): Promise<string> =>
  (await cluster.on(node, `wg show ${device} public-key`)).trim();
const status = async (): Promise<string> =>
  // With problems it ends with 2.
  cluster.netctl('status || true');

async function recording(what: (recording: Recording) => Promise<void>): Promise<void> {
  const seen = await cluster.record();
  try {
    await what(seen);
  } finally {
    await seen.end();
  }
}

beforeAll(async () => {
  cluster = await openEncrypted(['node1', 'node2']);
  // As many distributions have it; the greater of all's and a device's own holds.
  await cluster.on(
    'node2',
    'for d in all default eth0; do echo 1 >/proc/sys/net/ipv4/conf/$d/rp_filter; done',
  );
  await cluster.netctl('net create -s 20.1.1.0/24 -g 20.1.1.254 net1');
  one = await cluster.attach('node1', 'one', 'net1');
  two = await cluster.attach('node2', 'two', 'net1');
  await until('a ping', SECONDS, reaches);
});
afterAll(() => cluster?.down());

describe('what containers on two hosts send each other', () => {
  it('is VXLAN as it is until encryption is declared, and then nothing but WireGuard', async () => {
    await recording(async (seen) => {
      expect(await reaches()).toBe(true);
      await until('a frame', SECONDS, async () => (await seen.count(CLEAR)) > 0);
      expect(await seen.count(ENCRYPTED)).toBe(0);
    });
    await cluster.netctl('global set --encryption wireguard');
    await until('a ping under WireGuard', SECONDS, reaches);
    await recording(async (seen) => {
      expect(await reaches()).toBe(true);
      await until('packets', SECONDS, async () => (await seen.count(ENCRYPTED)) >= 2);
      expect(await seen.count(CLEAR)).toBe(0);
    });
    expect(await status()).toContain('encryption WireGuard, keys of epoch 1');
  });

  it('has as much room as WireGuard leaves, also in containers that ran before', async () => {
    expect(await cluster.on('node1', 'ip -o link show contiv-wg0')).toContain('mtu 1440 ');
    expect(await cluster.inside('node1', 'one', 'ip -o link show eth0')).toContain('mtu 1390 ');
    await recording(async (seen) => {
      const line = `ip netns exec one ${process.execPath} -e`;
      const program = `const s=require('dgram').createSocket('udp4');s.send(Buffer.alloc(1362),9,'${two}',()=>s.close())`;
      await cluster.on('node1', `${line} "${program}"`);
      // Of all headers 1500 bytes, in one piece.
      await until(
        'the largest',
        SECONDS,
        async () => (await seen.count(`(${ENCRYPTED}) and ip[2:2] > 1480`)) > 0,
      );
      expect(await seen.count('ip[6:2] & 0x3fff != 0')).toBe(0);
    });
  });

  it('goes on without a packet lost while keys are rotated, none in the clear, and the old keys are gone', async () => {
    const before = await keyOf('node1', 'contiv-wg0');
    await recording(async (seen) => {
      const pings = cluster.pings('node1', 'one', two);
      const back = cluster.pings('node2', 'two', one);
      await until('packets', SECONDS, async () => (await seen.count('udp port 14789')) > 4);
      expect(await cluster.netctl('global rotate-keys')).toContain('Rotating keys to epoch 2');
      await until('epoch 2', SECONDS, async () => {
        const text = await status();
        return /keys of epoch 2 /.test(text) && !text.includes('rotating');
      });
      await until(
        'packets by the other device',
        SECONDS,
        async () => (await seen.count('udp port 14790')) > 4,
      );
      for (const { sent, received } of [await pings.end(), await back.end()]) {
        expect(sent).toBeGreaterThan(10);
        expect(received).toBe(sent);
      }
      expect(await seen.count(CLEAR)).toBe(0);
    });
    for (const node of ['node1', 'node2'] as const) {
      await until('the old device to go', SECONDS, async () =>
        (await cluster.attempt(node, 'ip link show contiv-wg0')).out.includes('does not exist'),
      );
      expect(await cluster.on(node, 'cat /var/lib/contiv/wireguard/keys.json')).toMatch(
        /^\{"2":"[^"]{44}"\}$/,
      );
    }
    expect(await keyOf('node1', 'contiv-wg1')).not.toBe(before);
  });

  it('goes on while agents are killed and come back, with the same keys', async () => {
    const before = await keyOf('node2', 'contiv-wg1');
    const pings = cluster.pings('node1', 'one', two);
    await cluster.kill('node2');
    await cluster.start('node2');
    await cluster.kill('node1');
    await cluster.start('node1');
    expect(await keyOf('node2', 'contiv-wg1')).toBe(before);
    const { sent, received } = await pings.end();
    expect(sent).toBeGreaterThan(10);
    expect(received).toBe(sent);
  });
});

describe('a private key', () => {
  it('is root’s alone, and in no log, state, answer and command line', async () => {
    expect(
      await cluster.on(
        'node1',
        'stat -c %a,%u /var/lib/contiv/wireguard /var/lib/contiv/wireguard/keys.json',
      ),
    ).toBe('700,0\n600,0\n');
    const [, secret = ''] =
      /"2":"([^"]+)"/.exec(await cluster.on('node1', 'cat /var/lib/contiv/wireguard/keys.json')) ?? [];
    expect(secret).toHaveLength(44);
    const state = await cluster.on(
      'node1',
      'curl -s --unix-socket /run/contiv/netplugin.sock http://n/state',
    );
    expect(state).toContain(await keyOf('node1', 'contiv-wg1'));
    const told = await cluster.netctl('host inspect node1; curl -s http://192.168.50.11:9999/api/v1/hosts');
    const events = await cluster.netctl('events');
    const lines = await cluster.on(
      'node1',
      'cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr "\\0" "\\n" || true',
    );
    for (const text of [state, told, events, cluster.log('node1'), lines]) expect(text).not.toContain(secret);
  });
});

describe('in the clear', () => {
  it('nothing leaves where another program takes away the rule or the route that leads to WireGuard', async () => {
    await recording(async (seen) => {
      const dropped = await counter('node1', 'unencrypted');
      const pings = cluster.pings('node1', 'one', two);
      await until('a frame that is dropped', SECONDS, async () => {
        await cluster.attempt('node1', 'ip rule del pref 100');
        return (await counter('node1', 'unencrypted')) > dropped;
      });
      await cluster.attempt('node1', 'ip route flush table 4789');
      await pings.end();
      expect(await seen.count(CLEAR)).toBe(0);
    });
    await until('a ping again', SECONDS, reaches);
  });

  it('nothing leaves where another program’s chain has the way of frames looked up anew, and leads them to the link', async () => {
    const lines = [
      'nft "add table ip other; add chain ip other out { type route hook output priority -150; }"',
      'nft "add rule ip other out udp dport 4789 meta mark set 7"',
      'ip rule add pref 50 fwmark 7 lookup main',
    ];
    const dropped = await counter('node1', 'unencrypted');
    await recording(async (seen) => {
      for (const line of lines) await cluster.on('node1', line);
      await until('a frame that is dropped', SECONDS, async () => {
        await reaches();
        return (await counter('node1', 'unencrypted')) > dropped;
      });
      expect(await seen.count(CLEAR)).toBe(0);
    });
    await cluster.on('node1', 'nft delete table ip other; ip rule del pref 50');
    await until('a ping again', SECONDS, reaches);
  });

  it('nothing is taken, from the address of another host either', async () => {
    const before = await counter('node1', 'strangers');
    const arrived = async (): Promise<string> =>
      cluster.on(
        'node1',
        'ip netns exec contiv-default cat /sys/class/net/vx1/statistics/rx_packets || true',
      );
    const frames = await arrived();
    await cluster.forge('node1', 'node2', { from: two, to: one });
    await until(
      'the forged frames',
      SECONDS,
      async () => (await counter('node1', 'strangers')) >= before + 3,
    );
    expect(await arrived()).toBe(frames);
  });

  it('nothing goes to a host that has no key, and status says which and why; when it has one all is well by itself', async () => {
    await cluster.netctl('global set --encryption none');
    await until('a ping in the clear', SECONDS, reaches);
    await until('no device', SECONDS, async () =>
      (await cluster.attempt('node2', 'ip link show contiv-wg1')).out.includes('does not exist'),
    );
    expect(await cluster.on('node2', 'ip rule')).not.toContain('4789');
    // Another program has both ports.
    const program = `for (const port of [14789, 14790]) require("dgram").createSocket("udp4").bind(port)`;
    const command = `${process.execPath} -e '${program}' >/dev/null 2>&1 & echo $!`;
    const pid = (await cluster.on('node2', command)).trim();
    await until('the ports', SECONDS, async () => {
      const sockets = await cluster.on('node2', 'ss -lun');
      return sockets.includes(':14789') && sockets.includes(':14790');
    });
    await cluster.netctl('global set --encryption wireguard');
    await until('the problem', SECONDS, async () => {
      const text = await status();
      return (
        /host node2: it has told no WireGuard key/.test(text) &&
        /host node2: not established: .*UDP port \d+ is another program's/.test(text)
      );
    });
    await recording(async (seen) => {
      expect(await reaches()).toBe(false);
      expect(await seen.count(CLEAR)).toBe(0);
    });
    await cluster.on('node2', `kill ${pid}`);
    await until('a ping', SECONDS, reaches);
    await until('no problem', SECONDS, async () => (await status()).includes('all is well'));
  });
});

describe('what others do to it', () => {
  it('a firewall that drops WireGuard is found, and named by status', async () => {
    await cluster.on(
      'node2',
      'nft "add table ip fw; add chain ip fw in { type filter hook input priority 0; }; add rule ip fw in udp dport 14789-14790 drop"',
    );
    await until('the problem', SECONDS, async () =>
      (await status()).includes('drops what other hosts send to WireGuard (UDP 14789 and 14790)'),
    );
    await cluster.on('node2', 'nft delete table ip fw');
    await until('no problem', SECONDS, async () => (await status()).includes('all is well'));
  });

  it('a host that seems to be elsewhere, and has no session, is sent to at its own address again', async () => {
    const [device = ''] = (await cluster.on('node1', 'wg show interfaces')).trim().split(' ');
    const peer = await keyOf('node2', device);
    const port = device === 'contiv-wg0' ? 14789 : 14790;
    await cluster.on('node1', `wg set ${device} peer ${peer} remove`);
    await cluster.on(
      'node1',
      `wg set ${device} peer ${peer} endpoint 192.168.50.99:${port} allowed-ips 192.168.50.12/32`,
    );
    await until('its own address', SECONDS, async () =>
      (await cluster.on('node1', `wg show ${device} endpoints`)).includes(`192.168.50.12:${port}`),
    );
    await until('a ping', SECONDS, reaches);
  });
});

describe.runIf(process.env.MEASURE)('what it costs', () => {
  it('is measured in turns', { timeout: 900_000 }, async () => {
    const median = (values: readonly number[]): number =>
      values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
    const figures: Record<string, { rates: number[]; trips: number[] }> = {};
    for (let round = 0; round < 3; round++)
      for (const encryption of ['none', 'wireguard']) {
        await cluster.netctl(`global set --encryption ${encryption}`);
        await until('a ping', SECONDS, reaches);
        const { rates, trips } = figures[encryption] ?? { rates: [], trips: [] };
        figures[encryption] = { rates, trips };
        await cluster.inside('node2', 'two', 'iperf3 -s -1 -D');
        const run = await cluster.inside('node1', 'one', `iperf3 -c ${two} -t 5 -J`);
        rates.push(JSON.parse(run).end.sum_received.bits_per_second / 1e6);
        const pings = await cluster.inside('node1', 'one', `busybox ping -c 40 -i 0.05 ${two}`);
        trips.push(median([...pings.matchAll(/time=([\d.]+)/g)].map((m) => Number(m[1]))));
      }
    for (const [encryption, { rates, trips }] of Object.entries(figures))
      console.log(
        encryption,
        'Mbit/s',
        rates.map(Math.round),
        'ms',
        trips,
        'median',
        median(rates),
        median(trips),
      );
    expect(Object.keys(figures)).toEqual(['none', 'wireguard']);
  });
});

it('a host that is left has no device, route, rule and key of it any more', async () => {
  const { on } = cluster;
  await cluster.end('node2');
  await cluster.on('node2', `ip netns del two`);
  await on('node2', `${ROOT}/bin/netplugin leave`);
  expect(await on('node2', 'ip -o link; ip rule; ip route show table all')).not.toMatch(/contiv-wg|4789/);
  expect(await cluster.attempt('node2', 'ls /var/lib/contiv/wireguard')).toMatchObject({
    out: expect.stringContaining('No such file'),
  });
});
