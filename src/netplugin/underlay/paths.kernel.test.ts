/** Three namespaces in a row: here, a bridge on the way, and another host; the way is narrower than both ends. */
import { pino } from 'pino';
import { beforeAll, expect, it, onTestFinished, vi } from 'vitest';
import { isolate, sh } from '../../../test/isolation.ts';
import { echoes } from '../../linux/echo.ts';
import { followPaths, type Peer } from './paths.ts';

const LIMIT = { timeout: 50_000, interval: 100 };
const HERE = '10.9.0.1';
const THERE = '10.9.0.2';

beforeAll(() => {
  isolate();
  sh(`ip link set lo up
    ip netns add path-switch; ip netns add path-there
    ip link add eth0 type veth peer name here netns path-switch
    ip -n path-switch link add br0 type bridge
    ip -n path-switch link add there type veth peer name eth0 netns path-there
    ip -n path-switch link set here master br0 up; ip -n path-switch link set there master br0 up
    ip -n path-switch link set br0 up
    ip addr add ${HERE}/24 dev eth0; ip addr add fd09::1/64 dev eth0 nodad; ip link set eth0 up
    ip -n path-there addr add ${THERE}/24 dev eth0; ip -n path-there addr add fd09::2/64 dev eth0 nodad
    ip -n path-there link set eth0 up; ip -n path-there link set lo up`);
  return () => sh('ip netns delete path-switch; ip netns delete path-there');
});

const narrow = (mtu: number): void =>
  void sh(`ip -n path-switch link set here mtu ${mtu}; ip -n path-switch link set there mtu ${mtu}`);

it.each([
  [HERE, THERE],
  ['fd09::1', 'fd09::2'],
])('an echo from %s is answered where it fits as a whole', async (from, to) => {
  const asked = (size: number) => echoes({ from, to, size, patience: 300 });
  expect(await vi.waitUntil(() => asked(1500), LIMIT)).toBe(true);
  narrow(1400);
  onTestFinished(() => narrow(1500));
  expect(await asked(1401)).toBe(false);
  expect(await vi.waitUntil(() => asked(1400), LIMIT)).toBe(true);
  expect(await vi.waitUntil(() => asked(64), LIMIT)).toBe(true);
  expect(await asked(1501)).toBe(false);
});

it('a way that is narrower than both ends is found, measured, and forgotten when it is mended', async () => {
  const lines: string[] = [];
  const log = pino({}, { write: (line) => void lines.push(JSON.parse(line).msg) });
  // One that answers nothing says nothing of the way.
  let peers: Peer[] = [
    { name: 'node2', underlay: THERE, mtu: 1500 },
    { name: 'silent', underlay: '10.9.0.77', mtu: 1500 },
  ];
  const paths = followPaths({
    underlay: () => ({ address: HERE, mtu: 1500 }),
    peers: () => peers,
    log,
  });
  onTestFinished(() => paths.close());
  narrow(1400);
  onTestFinished(() => narrow(1500));
  await vi.waitUntil(() => paths.narrow.length > 0, LIMIT);
  expect(paths.narrow).toEqual([{ host: 'node2', wanted: 1500, fits: expect.any(Number) }]);
  expect(paths.narrow[0]?.fits).toBeGreaterThan(1395);
  expect(paths.narrow[0]?.fits).toBeLessThanOrEqual(1400);
  narrow(1500);
  await vi.waitUntil(() => paths.narrow.length === 0, LIMIT);
  expect(lines).toEqual([
    expect.stringMatching(/^packets of 1500 bytes, the MTU, do not arrive at host node2/),
    'packets of 1500 bytes arrive at host node2 again',
  ]);
  // A host that is gone is no problem.
  narrow(1400);
  await vi.waitUntil(() => paths.narrow.length > 0, LIMIT);
  peers = [];
  await vi.waitUntil(() => paths.narrow.length === 0, LIMIT);
});
