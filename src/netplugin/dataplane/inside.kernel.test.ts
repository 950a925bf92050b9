/** What a container's own hands do inside, and what is put right there. */
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { applied, clean, GATEWAYS, inRouter, port, state } from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { createNamespace, inNamespace, namespacePath } from '../../linux/netns.ts';
import { NAMESERVER } from '../constants.ts';
import type { Port } from '../state.ts';
import { type Applier, openApplier } from './applier.ts';

beforeAll(isolate);
afterEach(clean);

const BOX = namespacePath('box');
const inBox = (command: string): string => inNamespace(BOX, () => sh(command));
const [GATEWAY = '', GATEWAY6 = ''] = GATEWAYS;
const GIVEN: Port = port(2, {
  sandbox: BOX,
  inside: {
    addresses: ['20.1.1.2/24', 'fd00:1::2/128'],
    routes: [
      { destination: `${GATEWAY}/32` },
      { destination: `${NAMESERVER}/32`, via: GATEWAY },
      { destination: '20.1.1.0/25', via: GATEWAY },
      { destination: '20.1.1.128/25', via: GATEWAY },
      { destination: `${GATEWAY6}/128` },
      { destination: 'fd00:1::/64', via: GATEWAY6 },
    ],
    gateways: [GATEWAY, GATEWAY6],
  },
});
const JOINING = state({ ports: [GIVEN], remotes: [] });
const JOINED = state({ ports: [{ ...GIVEN, joined: true }], remotes: [] });

/** As a runtime does it. */
function moveIn(): void {
  sh(`ip link set ${GIVEN.peer} netns box name eth0`);
  inBox('echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad; ip link set lo up; ip link set eth0 up');
}
function setUp(): void {
  inBox('ip addr add 20.1.1.2/24 dev eth0; ip addr add fd00:1::2/128 dev eth0 nodad');
  inBox(`ip route add ${GATEWAY}/32 dev eth0; ip -6 route add ${GATEWAY6}/128 dev eth0`);
  for (const half of [NAMESERVER, '20.1.1.0/25', '20.1.1.128/25'])
    inBox(`ip route add ${half} via ${GATEWAY}`);
  inBox(`ip -6 route add fd00:1::/64 via ${GATEWAY6}`);
  inBox(`ip route add default via ${GATEWAY}; ip -6 route add default via ${GATEWAY6}`);
}

function start(): Applier {
  const applier = openApplier();
  createNamespace('box');
  applied(applier, JOINING);
  moveIn();
  setUp();
  expect(applied(applier, JOINED).awaited).toBe(false);
  return applier;
}

/** All that a container has, without what says nothing. */
const inside = (): string =>
  inBox(
    'ip -o link show eth0; ip -o addr show dev eth0; ip route; ip -6 route; ip neigh show nud permanent; ip -6 neigh show nud permanent',
  )
    .split('\n')
    .map((line) =>
      line.replace(/ (onlink|proto static|metric 1024|pref medium|state \S+|nodad|qlen \d+)/g, '').trim(),
    )
    .filter((line) => !line.includes('fe80'))
    .sort()
    .join('\n');

/** Verifies until nothing more is put right for a while; answers what was. */
async function verified(applier: Applier, enough: () => boolean, wanted = JOINED): Promise<string> {
  const repaired: string[] = [];
  for (let i = 0; i < 200; i++) {
    repaired.push(...applied(applier, wanted, true).repaired);
    if (enough()) break;
    await new Promise((done) => setTimeout(done, 100));
  }
  return repaired.join('\n');
}

const pings = (to: string): boolean =>
  inBox(`busybox ping -c 1 -W 2 ${to} 2>&1 || true`).includes('1 packets received');

describe("a container's end", () => {
  it.each<[string, string, RegExp]>([
    [
      'down and up',
      'ip link set eth0 down; ip link set eth0 up',
      /restored route 20\.1\.1\.0\/25 via 20\.1\.1\.254/,
    ],
    [
      'another MAC address',
      'ip link set eth0 address 02:00:00:00:00:77',
      /restored MAC address 02:02:14:01:01:02 of eth0/,
    ],
    ['no address', 'ip addr flush dev eth0 scope global', /restored address 20\.1\.1\.2\/24 of eth0/],
    [
      'no way to the nameserver',
      `ip route del ${NAMESERVER}`,
      /restored route 169\.254\.53\.53\/32 via 20\.1\.1\.254/,
    ],
    [
      'no default routes',
      'ip route del default; ip -6 route del default',
      /restored route ::\/0 via fd00:1::1/,
    ],
    ['no neighbours', 'ip neigh flush all nud permanent; ip -6 neigh flush all nud permanent', /^$/],
    [
      'another name',
      'ip link set eth0 down; ip link set eth0 name lan0; ip link set lan0 up; ip link set lan0 down; ip link set lan0 name eth0; ip link set eth0 up',
      /restored/,
    ],
  ])('that was left with %s has again what it was given', async (_, tamper, what) => {
    const applier = start();
    applied(applier, JOINED, true);
    const before = inside();
    inBox(tamper);
    expect(inside()).not.toBe(before);
    expect(await verified(applier, () => inside() === before)).toMatch(what);
    expect(inside()).toBe(before);
    for (const to of GATEWAYS) expect(pings(to), to).toBe(true);
    expect(applied(applier, JOINED, true)).toMatchObject({ writes: 0, repaired: [] });
  });

  it('has permanent neighbours for all that it sends to, as soon as it has arrived', () => {
    const applier = openApplier();
    createNamespace('box');
    applied(applier, JOINING);
    expect(applied(applier, JOINED).awaited, 'the runtime has not moved it').toBe(true);
    moveIn();
    expect(applied(applier, JOINED).awaited).toBe(false);
    const router = /link\/ether (\S+)/.exec(inRouter(`ip -o link show ${GIVEN.device}`))?.[1];
    expect(inBox('ip neigh')).toContain(`${GATEWAY} dev eth0 lladdr ${router} PERMANENT`);
    expect(inBox('ip -6 neigh')).toContain(`${GATEWAY6} dev eth0 lladdr ${router} PERMANENT`);
    setUp();
    for (const to of GATEWAYS) expect(pings(to), to).toBe(true);
    expect(inBox('ip neigh show nud all; ip -6 neigh show nud all')).not.toMatch(
      /REACHABLE|STALE|DELAY|PROBE/,
    );
  });

  it('is not touched while its runtime sets it up, nor where it is down, nor what is its own', async () => {
    const applier = openApplier();
    createNamespace('box');
    applied(applier, JOINING);
    moveIn();
    for (let i = 0; i < 35; i++) {
      expect(applied(applier, JOINED, true).repaired).toEqual([]);
      await new Promise((done) => setTimeout(done, 100));
    }
    setUp(); // fails where a route is there already
    inBox('ip addr add 20.1.1.77/32 dev eth0; ip route add 198.51.100.0/24 dev eth0');
    inBox('ip route del default; ip route add default dev lo');
    applied(applier, JOINED, true);
    const before = inside();
    inBox('ip link set eth0 mtu 1300');
    for (let i = 0; i < 35; i++) {
      expect(applied(applier, JOINED, true).repaired).toEqual([]);
      await new Promise((done) => setTimeout(done, 100));
    }
    expect(inside()).toBe(before.replace('mtu 1450', 'mtu 1300'));
    inBox('ip link set eth0 down');
    for (let i = 0; i < 35; i++) {
      applied(applier, JOINED, true);
      await new Promise((done) => setTimeout(done, 100));
    }
    expect(inBox('ip -o link show eth0')).toContain('state DOWN');
  });
});

/** As with CNI, where no runtime takes the end. */
describe('an end that is made in the sandbox', () => {
  const routes = [
    ...(GIVEN.inside?.routes ?? []),
    { destination: '0.0.0.0/0', via: GATEWAY },
    { destination: '::/0', via: GATEWAY6 },
  ];
  const made: Port = {
    ...GIVEN,
    end: 'eth0',
    inside: { addresses: [], gateways: [], ...GIVEN.inside, routes },
  };
  const ATTACHING = state({ ports: [made], remotes: [] });
  const ATTACHED = state({ ports: [{ ...made, joined: true }], remotes: [] });

  function attach(): Applier {
    const applier = openApplier();
    createNamespace('box');
    inBox('echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad');
    applied(applier, ATTACHING);
    applied(applier, ATTACHED);
    return applier;
  }

  it('is there with all that it holds after the pass that makes it', () => {
    attach();
    for (const to of GATEWAYS) expect(pings(to), to).toBe(true);
    expect(inside()).toContain(`default via ${GATEWAY} dev eth0`);
    expect(inside()).toContain(`default via ${GATEWAY6} dev eth0`);
    expect(sh('ip -o link')).not.toContain(GIVEN.peer);
  });

  it.each<[string, string, RegExp]>([
    [
      'down and up',
      'ip link set eth0 down; ip link set eth0 up',
      /restored route 0\.0\.0\.0\/0 via 20\.1\.1\.254/,
    ],
    [
      'without a route',
      'ip route del 20.1.1.0/25',
      /^container .*: restored route 20\.1\.1\.0\/25 via 20\.1\.1\.254 dev eth0$/,
    ],
    ['without an address', 'ip addr del 20.1.1.2/24 dev eth0', /restored address 20\.1\.1\.2\/24 of eth0/],
  ])(
    'and left %s has again what it was given, by the agent that made it and by the next one',
    async (_, tamper, what) => {
      const first = attach();
      applied(first, ATTACHED, true);
      const before = inside();
      inBox(tamper);
      expect(inside()).not.toBe(before);
      expect(await verified(first, () => inside() === before, ATTACHED)).toMatch(what);
      expect(inside()).toBe(before);

      const next = openApplier();
      expect(applied(next, ATTACHED).repaired).toEqual([]);
      expect(inside()).toBe(before);
      inBox(tamper);
      expect(await verified(next, () => inside() === before, ATTACHED)).toMatch(what);
      expect(inside()).toBe(before);
      for (const to of GATEWAYS) expect(pings(to), to).toBe(true);
      expect(applied(next, ATTACHED, true)).toMatchObject({ writes: 0, repaired: [] });
    },
  );

  it('whose namespace is gone is missed, and not made again', async () => {
    const applier = attach();
    sh('ip netns delete box');
    // The kernel ends a namespace, and what is in it, some time after its last name is gone.
    await vi.waitUntil(() => !inRouter('ip -o link').includes(made.device), { timeout: 30_000 });
    const report = applied(applier, ATTACHED, true);
    expect(report.lost).toEqual([made.endpoint]);
    expect(inRouter('ip -o link')).not.toContain(made.device);
  });
});
