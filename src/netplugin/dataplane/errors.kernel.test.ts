/** ICMP errors about connections that are open: who may send them. Forged ones are as good as those of a kernel. */
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { clean, GATEWAYS, PEERS, port } from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { ethernet, icmpError, udp } from '../../../test/packet.ts';
import { connect, familyOf, socketAddress } from '../../../test/probe.ts';
import { inBox, inRouterOf, twoHosts, v4, v6 } from '../../../test/twoHosts.ts';
import {
  bind,
  close,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  send,
  setOption,
  socket,
} from '../../linux/libc.ts';
import { bindPort, inNamespace, namespacePath } from '../../linux/netns.ts';
import { vtepMac } from '../compile/deviceNames.ts';

const FRAMES = path.join(import.meta.dirname, '../../../test/frames.ts');
const OUTSIDE = ['198.51.100.1', '2001:db8::1'] as const;
const BEYOND = ['198.51.100.77', '2001:db8::77'] as const;
const SERVER = 7000;
const IPPROTO_RAW = 255;

const open: number[] = [];
beforeAll(() => {
  isolate();
  twoHosts();
  sh('ip link add outside type veth peer name beyond; ip link set outside up; ip link set beyond up');
  sh(`ip addr add ${OUTSIDE[0]}/24 dev outside; ip addr add ${OUTSIDE[1]}/64 dev outside nodad`);
  for (const address of BEYOND) sh(`ip neigh add ${address} lladdr 02:00:00:00:00:77 dev outside`);
});
afterAll(clean);

/** Of each test: connections of its own. */
let client = 40_000;
beforeEach(() => {
  client++;
});
afterEach(() => {
  for (const fd of open.splice(0)) close(fd);
});

type Address = (n: number) => string;
const at = (address: Address, four: string, six: string): string => (address === v4 ? four : six);

/** A datagram from one address to the other, from the thread's namespace; an unanswered connection for conntrack. */
function datagram(from: string, to: string, ports: readonly [number, number], size = 8, ttl = 64): void {
  const fd = socket(familyOf(from), SOCK_DGRAM | SOCK_NONBLOCK, 0);
  open.push(fd);
  setOption(fd, 1, 2, 1); // SO_REUSEADDR
  setOption(fd, from.includes(':') ? 41 : 0, from.includes(':') ? 16 : 2, ttl); // IPV6_UNICAST_HOPS, IP_TTL
  const own = socketAddress(from, ports[0]);
  bind(fd, own, own.length);
  const peer = socketAddress(to, ports[1]);
  expect(connect(fd, peer, peer.length)).toBe(0);
  send(fd, Buffer.alloc(size), size, 0);
}

/** A packet as it stands, from the thread's namespace. */
function raw(packet: Buffer, to: string): void {
  const fd = socket(familyOf(to), SOCK_RAW, IPPROTO_RAW);
  open.push(fd);
  const peer = socketAddress(to, 0);
  expect(connect(fd, peer, peer.length)).toBe(0);
  send(fd, packet, packet.length, 0);
}

/** Errors that have arrived in the thread's namespace. */
function errorsHere(): number {
  const [names = '', values = ''] = sh('grep ^Icmp: /proc/thread-self/net/snmp').split('\n');
  const value = (name: string): number => Number(values.split(' ')[names.split(' ').indexOf(name)]);
  const four = ['InDestUnreachs', 'InTimeExcds', 'InRedirects', 'InSrcQuenchs'].map(value);
  const six = [
    ...sh('cat /proc/thread-self/net/snmp6').matchAll(
      /Icmp6In(?:DestUnreachs|PktTooBigs|TimeExcds|Redirects)\s+(\d+)/g,
    ),
  ].map(([, count]) => Number(count));
  return [...four, ...six].reduce((sum, count) => sum + count, 0);
}

const MTU_600 = Buffer.from([0, 0, 600 >> 8, 600 & 255]);
/** Type, code and the second word: IPv4's, IPv6's. A redirect is never passed on, whoever sends it. */
const ERRORS = {
  4: [
    ['port unreachable', [3, 3]],
    ['need to fragment', [3, 4], MTU_600],
    ['time exceeded', [11, 0]],
    ['source quench', [4, 0]],
    ['redirect', [5, 1], Buffer.from([20, 1, 1, 4])],
  ],
  6: [
    ['port unreachable', [1, 4]],
    ['packet too big', [2, 0], MTU_600],
    ['time exceeded', [3, 0]],
    ['redirect', [137, 0]],
  ],
} as const;

/**
 * All kinds of errors from `sender` to `victim`, about what that sent to `end`. Answers what arrived, by name. For those that are `expected`
 * it waits longer: the kernel hands on what it has queued when the machine lets it.
 */
function sendErrors(
  address: Address,
  sender: string,
  [victim, end]: readonly [string, string],
  emit: (packet: Buffer, to: string) => void,
  arrived: () => number,
  ports: readonly [number, number],
  expected: readonly string[] = [],
): string[] {
  const quoted = udp(victim, end, ports[0], ports[1], Buffer.alloc(8));
  return ERRORS[address === v4 ? 4 : 6].flatMap(([name, kind, rest]) => {
    const before = arrived();
    emit(icmpError(sender, victim, kind, quoted, rest), victim);
    const looks = expected.includes(name) ? 100 : 1;
    for (let i = 0; i < looks && arrived() === before; i++) sh('sleep 0.05');
    return arrived() > before ? [name] : [];
  });
}

const passed = (address: Address): string[] =>
  ERRORS[address === v4 ? 4 : 6].map(([name]) => name).filter((name) => name !== 'redirect');

/** From container `n` about the connection of two others, or its own; to who began it, or who was asked. */
function forge(
  address: Address,
  n: number,
  [from, to]: readonly [number, number],
  whom: 'client' | 'server',
  expected: readonly string[] = [],
) {
  const [victim, end] = whom === 'client' ? ([from, to] as const) : ([to, from] as const);
  const ports = whom === 'client' ? ([client, SERVER] as const) : ([SERVER, client] as const);
  return sendErrors(
    address,
    address(n),
    [address(victim), address(end)],
    (packet, to) => inBox(n, () => raw(packet, to)),
    () => inBox(victim, errorsHere),
    ports,
    expected,
  );
}

describe.each([
  ['IPv4', v4],
  ['IPv6', v6],
])('an error over %s', (_, address) => {
  const connection = (from: number, to: number): void => {
    open.push(inBox(to, () => bindPort('udp', address(to), SERVER)));
    inBox(from, () => datagram(address(from), address(to), [client, SERVER]));
  };

  it.each([
    ['of its own host', 4, [2, 6]],
    ['of the other end’s host', 5, [2, 3]],
    ['of this end’s host', 4, [2, 3]],
    ['beside both ends', 6, [2, 4]],
  ] as const)('from a container %s that is no end of the connection arrives nowhere', (__, n, ends) => {
    connection(ends[0], ends[1]);
    expect(forge(address, n, ends, 'client')).toEqual([]);
    expect(forge(address, n, ends, 'server')).toEqual([]);
  });

  it.each([
    ['within a host', [2, 4]],
    ['between hosts', [2, 3]],
  ] as const)('from an end of the connection arrives at the other, %s', (__, ends) => {
    connection(ends[0], ends[1]);
    const all = passed(address);
    expect(forge(address, ends[1], ends, 'client', all)).toEqual(all);
    expect(forge(address, ends[0], ends, 'server', all)).toEqual(all);
  });

  it('is not believed where a container forges the MAC address of a tunnel', () => {
    connection(2, 3);
    const router = /ether (\S+)/.exec(inRouterOf(4, `ip link show ${port(4).device}`))?.[1] ?? '';
    const emit = (packet: Buffer): void => {
      const frame = ethernet(vtepMac(PEERS[0] as string), router, packet).toString('hex');
      inBox(4, () => sh(`${process.execPath} --disable-warning=ExperimentalWarning ${FRAMES} eth0 ${frame}`));
    };
    const arrived = (): number => inBox(2, errorsHere);
    const ends = [address(2), address(3)] as const;
    expect(sendErrors(address, address(4), ends, emit, arrived, [client, SERVER])).toEqual([]);
  });

  /** What arrives at container 2 of what it sends. */
  const afterSending = async (to: string, size: number, ttl: number): Promise<number> => {
    const before = inBox(2, errorsHere);
    inBox(2, () => datagram(address(2), to, [client, SERVER], size, ttl));
    const arrived = (): number => inBox(2, errorsHere) - before;
    await expect.poll(arrived).toBeGreaterThan(0);
    return arrived();
  };

  it('from the router of the receiver’s host arrives: what it cannot send on in one piece', async () => {
    const mtu = 1300;
    inRouterOf(5, `ip link set ${port(5).device} mtu ${mtu}`);
    expect(await afterSending(address(5), 1380, 64)).toBe(1);
    expect(inBox(2, () => sh(`ip route get ${address(5)}`))).toContain(`mtu ${mtu}`);
    inRouterOf(5, `ip link set ${port(5).device} mtu ${port(5).mtu}`);
  });

  it.each([
    ['the first router, as of traceroute', BEYOND, 1],
    ['a router on the way', BEYOND, 2],
    ['who was asked', OUTSIDE, 64],
  ] as const)('about what goes outside arrives from %s', async (__, [four, six], ttl) => {
    expect(await afterSending(at(address, four, six), 8, ttl)).toBe(1);
  });

  it('about a connection with outside arrives from no other container, neither here nor there', () => {
    const there = at(address, OUTSIDE[0], OUTSIDE[1]);
    open.push(bindPort('udp', there, SERVER));
    inBox(2, () => datagram(address(2), there, [client, SERVER]));
    const here = (): number => inBox(2, errorsHere);
    for (const n of [4, 3]) {
      const emit = (packet: Buffer, to: string): void => inBox(n, () => raw(packet, to));
      const own = address(n);
      expect(sendErrors(address, own, [address(2), there], emit, here, [client, SERVER])).toEqual([]);
      expect(sendErrors(address, own, [there, address(2)], emit, errorsHere, [SERVER, client])).toEqual([]);
    }
  });

  it('about a connection within arrives from nobody outside', () => {
    connection(2, 4);
    // The host leads nothing there by itself.
    sh(`ip route add ${address(2)} via ${at(address, '100.127.0.1', 'fd6f:6e74:6976::1')}`);
    const arrived = (): number => inBox(2, errorsHere);
    const ends = [address(2), address(4)] as const;
    const outside = at(address, OUTSIDE[0], OUTSIDE[1]);
    expect(sendErrors(address, outside, ends, raw, arrived, [client, SERVER])).toEqual([]);
    sh(`ip route del ${address(2)}`);
  });

  it('does not reach the router either where it is about another container’s questions to it', () => {
    const gateway = at(address, ...(GATEWAYS as [string, string]));
    inBox(2, () => datagram(address(2), gateway, [client, 53]));
    const arrived = (): number => inNamespace(namespacePath('contiv-default'), errorsHere);
    const ends = [gateway, address(2)] as const;
    const emit = (n: number) => (packet: Buffer, to: string) => inBox(n, () => raw(packet, to));
    expect(sendErrors(address, address(4), ends, emit(4), arrived, [53, client])).toEqual([]);
    const all = passed(address);
    expect(sendErrors(address, address(2), ends, emit(2), arrived, [53, client], all)).toEqual(all);
  });
});
