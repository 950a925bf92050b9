/**
 * The fast path, by what the router forwards: what takes the fast path is not counted there (RFC 2011, ipForwDatagrams).
 */
import path from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  arriving,
  closeConnections,
  closeNow,
  connection as connectionBetween,
  datagrams as datagramsBetween,
  type End,
  exchange,
  MESSAGE,
  opened,
  type Pair,
  pause,
} from '../../../../test/connections.ts';
import {
  applied,
  BLUE,
  clean,
  forwarded,
  inRouter,
  port,
  remotes,
  state,
} from '../../../../test/hostState.ts';
import { isolate, sh } from '../../../../test/isolation.ts';
import { ethernet, udp } from '../../../../test/packet.ts';
import { connect, socketAddress } from '../../../../test/probe.ts';
import { forgetConnections } from '../../../linux/conntrack.ts';
import { AF_INET, SOCK_NONBLOCK, SOCK_STREAM, send, socket } from '../../../linux/libc.ts';
import { NETLINK_NETFILTER, openNetlink } from '../../../linux/netlink.ts';
import { createNamespace, inNamespace, namespacePath } from '../../../linux/netns.ts';
import { NAMESERVER, NAMESERVER6 } from '../../constants.ts';
import type { Port, RuleSet } from '../../state.ts';
import { type Applier, openApplier } from '../applier.ts';

beforeAll(isolate);

const FRAMES = path.join(import.meta.dirname, '../../../../test/frames.ts');

afterEach(() => {
  closeConnections();
  clean();
});

const box = (n: number): string => `box${n}`;
const inBox = <T>(n: number, use: () => T): T => inNamespace(namespacePath(box(n)), use);
const v4 = (n: number): string => `20.1.1.${n}`;
const v6 = (n: number): string => `fd00:1::${n}`;

/** Containers 2, 3 and 4, as Docker leaves them. */
function containers(applier: Applier, more: Partial<Port> = {}): Port[] {
  const ports = [2, 3, 4].map((n) => port(n, n === 3 ? more : {}));
  applied(applier, state({ ports, remotes: [] }));
  for (const [i, { peer }] of ports.entries()) {
    const n = i + 2;
    createNamespace(box(n));
    sh(`ip link set ${peer} netns ${box(n)} name eth0`);
    inBox(n, () => {
      sh('echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad; ip link set lo up; ip link set eth0 up');
      sh(`ip addr add ${v4(n)}/32 dev eth0; ip addr add ${v6(n)}/128 dev eth0 nodad`);
      sh(`ip route add ${NAMESERVER} dev eth0; ip route add default via ${NAMESERVER}`);
      sh(`ip -6 route add ${NAMESERVER6} dev eth0; ip -6 route add default via ${NAMESERVER6}`);
    });
  }
  return ports.map((p) => ({ ...p, joined: true }));
}

const CLIENT = 40_000;
const SERVER = 7000;
const end = (n: number, address: (n: number) => string, number: number): End => ({
  namespace: box(n),
  address: address(n),
  port: number,
});

/** From container 2 to 3. */
const connection = (address: (n: number) => string): Pair =>
  connectionBetween(end(2, address, CLIENT), end(3, address, SERVER));
const datagrams = (): Pair => datagramsBetween(end(2, v4, CLIENT), end(3, v4, SERVER));

/** How many packets went the router's way meanwhile. */
async function through(act: () => Promise<void>): Promise<number> {
  const before = forwarded();
  await act();
  return forwarded() - before;
}

const entries = (): string => inRouter('cat /proc/thread-self/net/nf_conntrack');

/** Denies TCP to container 3. */
const DENY: RuleSet = {
  id: 7,
  name: 'in default: nothing',
  narrowed: [],
  decisions: [{ group: 0, protocol: 6, rule: 1, action: 'deny', key: 'default:nothing:1' }],
};

describe('a kernel that does not tell its types', () => {
  it('has no fast path, which is said once, and all else goes on', async () => {
    const file = '/sys/kernel/btf/vmlinux';
    sh(`mount --bind /dev/null ${file}`);
    try {
      const applier = openApplier();
      const given = state({ ports: [port(2), port(3), port(4)], remotes: [] });
      const { failed } = applier.apply(given, { verify: false });
      expect(failed.map((f) => f.message)).toEqual([
        expect.stringContaining('no fast path for established connections'),
      ]);
      containers(applier);
      expect(await through(() => exchange(connection(v4), 10))).toBeGreaterThanOrEqual(20);
    } finally {
      sh(`umount ${file}`);
    }
  });

  it('leaves nothing in force that an agent before had', () => {
    const file = '/sys/kernel/btf/vmlinux';
    sh(`mount --bind /dev/null ${file}`);
    try {
      const given = state({ remotes: [] }, BLUE);
      openApplier().apply(given, { verify: false });
      const shown = (): string[] =>
        ['default', 'blue'].map((tenant) =>
          inNamespace(namespacePath(`contiv-${tenant}`), () => sh('tc qdisc show')),
        );
      for (const [tenant, { device }] of [
        ['default', port(2)],
        ['blue', port(7)],
      ] as const)
        inNamespace(namespacePath(`contiv-${tenant}`), () => sh(`tc qdisc add dev ${device} clsact`));
      for (const qdiscs of shown()) expect(qdiscs).toContain('clsact');
      openApplier().apply(given, { verify: false });
      for (const qdiscs of shown()) expect(qdiscs).not.toContain('clsact');
    } finally {
      sh(`umount ${file}`);
    }
  });
});

describe('an established connection', () => {
  it.each([
    ['IPv4', v4],
    ['IPv6', v6],
  ])('of TCP over %s goes past the router', async (_, address) => {
    containers(openApplier());
    const pair = connection(address);
    expect(await through(() => exchange(pair))).toBe(0);
  });

  it('of UDP does once conntrack takes it for a stream', async () => {
    containers(openApplier());
    const pair = datagrams();
    expect(await through(() => exchange(pair, 5))).toBe(10);
    await expect.poll(() => through(() => exchange(pair, 5)), { interval: 200 }).toBe(0);
  });

  it('goes on where a later rule denies it, and a new one does not begin', async () => {
    const applier = openApplier();
    const ports = containers(applier);
    const pair = connection(v4);
    await exchange(pair);
    const judged = ports.map((p) => (p.device === port(3).device ? { ...p, judgedIn: DENY.id } : p));
    applied(applier, state({ ports: judged, remotes: [], ruleSets: [DENY] }));
    expect(await through(() => exchange(pair))).toBe(0);
    const fd = opened(inBox(2, () => socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)));
    const to = socketAddress(v4(3), SERVER);
    connect(fd, to, to.length);
    await pause(300);
    expect(entries()).not.toMatch(/ESTABLISHED.*sport=(?!40000)\d+ dport=7000/);
  });

  it('ends for conntrack as it ends, however much went past it', async () => {
    containers(openApplier());
    const pair = connection(v4);
    await exchange(pair, 500);
    expect(entries()).toContain('ESTABLISHED');
    const [client, server] = pair;
    for (const fd of [client, server]) closeNow(fd);
    await expect.poll(entries).toContain('TIME_WAIT');
  });

  it('ends at once for conntrack where it is reset', async () => {
    containers(openApplier());
    const pair = connection(v4);
    await exchange(pair, 500);
    const [client] = pair;
    // What was sent and not read is answered by a reset when the socket closes (RFC 2525, 2.17).
    send(pair[1], MESSAGE, MESSAGE.length, 0);
    await pause(50);
    closeNow(client);
    await expect.poll(entries).toMatch(/ tcp +6 (\d|10) /);
  });

  it.each([
    ['a reset', true],
    ['its end', false],
  ])('begins anew from the same ports at once after %s', async (_, reset) => {
    containers(openApplier());
    const pair = connection(v4);
    await exchange(pair, 500);
    if (reset) {
      send(pair[1], MESSAGE, MESSAGE.length, 0);
      await pause(50);
    }
    // The server first: the client's port is free then.
    closeConnections();
    await pause(50);
    const again = connection(v4);
    await exchange(again);
    await pause(150);
    expect(await through(() => exchange(again))).toBe(0);
  });

  it('goes the router’s way, which renews its entry, where half of the time of that is over', async () => {
    containers(openApplier());
    inRouter('echo 200000 > /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established');
    const pair = connection(v4);
    expect(await through(() => exchange(pair, 10))).toBeGreaterThanOrEqual(20);
    // Once the last byte is acknowledged (tcp_timeout_unacknowledged).
    await expect.poll(entries).toMatch(/ tcp +6 (200000|19999\d) ESTABLISHED/);
  });

  it('goes the router’s way once conntrack has forgotten it', async () => {
    containers(openApplier());
    const pair = connection(v4);
    await exchange(pair);
    const netfilter = inNamespace(namespacePath('contiv-default'), () => openNetlink(NETLINK_NETFILTER));
    try {
      expect(forgetConnections(netfilter, (c) => c.original.destinationPort === SERVER)).toBe(1);
    } finally {
      netfilter.close();
    }
    await pause(150);
    expect(await through(() => exchange(pair, 5))).toBeGreaterThan(0);
  });
});

describe('the router’s way is gone by', () => {
  it.each<[string, Partial<Port>]>([
    ['shaped', { limit: { to: { bitsPerSecond: 1e9 } } }],
    ['marked', { dscp: 10 }],
  ])('what is %s', async (_, more) => {
    containers(openApplier(), more);
    const pair = connection(v4);
    expect(await through(() => exchange(pair, 10))).toBeGreaterThanOrEqual(20);
  });

  it('what is too long for the way, so that the sender is told', async () => {
    containers(openApplier());
    for (const n of [2, 3]) inBox(n, () => sh('ip link set eth0 mtu 3000'));
    const [client, server] = connection(v4);
    const refused = (): string => inRouter('nstat -asz IpFragFails');
    expect(refused()).toMatch(/IpFragFails +0 /);
    // Many segments of 2,948 bytes in one packet, which the veth lets in.
    const sent = Buffer.alloc(20_000, 'x');
    send(client, sent, sent.length, 0);
    let arrived = 0;
    while (arrived < sent.length) arrived += (await arriving(server))?.length ?? Number.NaN;
    expect(arrived).toBe(sent.length);
    expect(refused()).toMatch(/IpFragFails +[1-9]/);
  });

  it('what a container sends in the name of another, which does not arrive', async () => {
    containers(openApplier());
    const pair = datagrams();
    await expect.poll(() => through(() => exchange(pair, 5)), { interval: 200 }).toBe(0);
    const say = (n: number, words: string): void => {
      const router = /ether (\S+)/.exec(inRouter(`ip link show ${port(n).device}`))?.[1] ?? '';
      const packet = udp(v4(2), v4(3), CLIENT, SERVER, Buffer.from(words));
      const frame = ethernet(port(n).mac, router, packet).toString('hex');
      inBox(n, () => sh(`${process.execPath} --disable-warning=ExperimentalWarning ${FRAMES} eth0 ${frame}`));
    };
    say(4, 'forged');
    expect(inRouter('nft list counter inet contiv spoofed')).toContain('packets 1 ');
    say(2, 'own');
    expect(await arriving(pair[1])).toBe('own');
  });
});

describe('the applier', () => {
  const program = (): string => inRouter(`tc filter show dev ${port(2).device} ingress`);

  it('puts right what somebody took away', async () => {
    const applier = openApplier();
    const ports = containers(applier);
    const given = state({ ports, remotes: [] });
    const pair = connection(v4);
    inRouter(`tc qdisc del dev ${port(2).device} clsact`);
    expect(await through(() => exchange(pair, 10))).toBeGreaterThanOrEqual(10);
    const { repaired } = applied(applier, given, true);
    expect(repaired).toEqual([`contiv-default: fast path: restored ${port(2).device}`]);
    expect(await through(() => exchange(pair))).toBe(0);
  });

  it('takes over from one that was killed', async () => {
    const ports = containers(openApplier());
    const pair = connection(v4);
    const before = program();
    applied(openApplier(), state({ ports, remotes: [] }));
    expect(program()).not.toBe(before);
    expect(program().match(/handle/g)).toHaveLength(1);
    expect(await through(() => exchange(pair))).toBe(0);
  });

  it('takes the old program from a container that is marked by then', async () => {
    const ports = containers(openApplier());
    const marked = ports.map((p) => ({ ...p, dscp: 10 }));
    applied(openApplier(), state({ ports: marked, remotes: [] }));
    expect(program()).toBe('');
  });

  it('makes room for more endpoints than there were', async () => {
    const applier = openApplier();
    const ports = containers(applier);
    const pair = connection(v4);
    const before = program();
    applied(applier, state({ ports, remotes: remotes(3000) }));
    expect(program()).not.toBe(before);
    expect(await through(() => exchange(pair))).toBe(0);
    expect(applied(applier, state({ ports, remotes: remotes(3000) }), true)).toMatchObject({ writes: 0 });
  });

  it('leaves no old program where a container is marked as there are more endpoints', () => {
    const applier = openApplier();
    const ports = containers(applier);
    expect(program()).toContain('contiv_fast');
    const marked = ports.map((p) => (p.device === port(2).device ? { ...p, dscp: 10 } : p));
    applied(applier, state({ ports: marked, remotes: remotes(3000) }));
    expect(program()).toBe('');
  });

  it('knows a container that has moved here once its old host has told that it went', async () => {
    const applier = openApplier();
    const ports = containers(applier);
    const [away] = remotes(1);
    if (away === undefined) throw new Error('none');
    applied(applier, state({ ports, remotes: [{ ...away, address: v4(3) }] }), true);
    applied(applier, state({ ports, remotes: [] }));
    const pair = connection(v4);
    expect(await through(() => exchange(pair))).toBe(0);
  });

  it('follows a container that gets a limit, and loses it again', async () => {
    const applier = openApplier();
    const ports = containers(applier);
    const pair = connection(v4);
    const limited = ports.map((p, i) => ({
      ...p,
      limit: { [i % 2 === 0 ? 'to' : 'from']: { bitsPerSecond: 1e9 } },
    }));
    applied(applier, state({ ports: limited, remotes: [] }));
    expect(await through(() => exchange(pair, 10))).toBeGreaterThanOrEqual(20);
    expect(applied(applier, state({ ports: limited, remotes: [] }), true)).toMatchObject({
      writes: 0,
      repaired: [],
    });
    applied(applier, state({ ports, remotes: [] }));
    expect(await through(() => exchange(pair))).toBe(0);
    expect(applied(applier, state({ ports, remotes: [] }), true)).toMatchObject({ writes: 0, repaired: [] });
  });
});
