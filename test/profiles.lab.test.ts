/** Network profiles, as seen by containers and on the wire. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { background, clear, differences, docker, inside, netctl, on, run, until } from './lab.ts';

let fast = '';
let slow = '';

beforeAll(async () => {
  await netctl('net create lane --subnet=10.30.0.0/24 --gateway=10.30.0.254');
  await netctl('netprofile create gold --bandwidth=5mbps --dscp=10');
  await netctl('group create lane metered --networkprofile=gold');
  slow = await run('node1', 'slow', 'metered.lane');
  fast = await run('node2', 'fast', 'lane');
  for (const [host, name] of [
    ['node1', 'slow'],
    ['node2', 'fast'],
  ] as const)
    await docker(host, `exec -d ${name} iperf3 -s`);
});
afterAll(clear);

/** Mbit/s of UDP payload that arrives, offered at 100 Mbit/s. A busy machine may keep it low, never too high. */
async function rate(host: string, name: string, to: string): Promise<number> {
  const flags = ['-u', '-b', '100M', '-t', '4', '-J', '-c', to];
  const { out } = await until('iperf3', async () => {
    const ended = await inside(host, name, 'iperf3', ...flags);
    return ended.status === 0 && ended;
  });
  const { sum_received: sum } = JSON.parse(out).end;
  return sum.bits_per_second / 1e6;
}

describe('a network profile', () => {
  it('limits each container of the group in both directions', async () => {
    for (const found of [await rate('node1', 'slow', fast), await rate('node2', 'fast', slow)]) {
      expect(found).toBeGreaterThan(3.5);
      expect(found).toBeLessThan(5.8);
    }
  });

  it('marks its packets, in the outer header too', async () => {
    const capture = background('node2', "tcpdump -vlnni eth0 'udp port 4789'");
    await until('capture', async () => capture.lines.some((l) => l.includes('listening on')));
    await until('marked packets', async () => {
      await inside('node1', 'slow', `ping -c 1 -W 1 ${fast}`);
      // Outer and inner: DSCP 10 is a TOS of 0x28.
      const at = capture.lines.findIndex((l) => l.includes('tos 0x28'));
      return at >= 0 && capture.lines.slice(at + 1, at + 4).some((l) => l.includes('tos 0x28'));
    });
    await capture.end();
  });

  it('that changes holds at once for what runs, and no longer when the group drops it', async () => {
    await netctl('netprofile create gold --bandwidth=15mbps');
    const found = await rate('node1', 'slow', fast);
    expect(found).toBeGreaterThan(7);
    expect(found).toBeLessThan(17.3);
    await netctl('group create lane metered');
    expect(await rate('node1', 'slow', fast)).toBeGreaterThan(20);
    expect(await differences()).toBe('');
  });

  it('cannot be deleted while a group carries it', async () => {
    await netctl('group create lane metered --networkprofile=gold');
    const { status, err } = await on('node1', 'netctl netprofile rm gold');
    expect(status).toBe(3);
    expect(err).toMatch(/in use by endpointGroup default:metered/);
  });
});
