/** The neighbour tables that all namespaces of a machine share: no container fills them, and none of ours needs room there. */
import path from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startFlood } from '../../../test/flooding.ts';
import { applied, BLUE, clean, GATEWAYS, inRouter, port, routerMac, state } from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { arp, ethernet, solicitation } from '../../../test/packet.ts';
import { createNamespace, inNamespace, namespacePath } from '../../linux/netns.ts';
import { exitDevice } from '../compile/deviceNames.ts';
import type { Port } from '../state.ts';
import { openApplier } from './applier.ts';

beforeAll(isolate);
afterEach(clean);

const BROADCAST = 'ff:ff:ff:ff:ff:ff';

const box = (n: number): string => `box${n}`;
const inBox = <T>(n: number, use: () => T): T => inNamespace(namespacePath(box(n)), use);

/** The container of a port, as Docker leaves it. */
function container({ peer, addresses }: Port, n: number): void {
  const [v4, v6] = addresses;
  createNamespace(box(n));
  sh(`ip link set ${peer} netns ${box(n)} name eth0`);
  inBox(n, () => {
    sh('echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad; ip link set lo up; ip link set eth0 up');
    sh(`ip addr add ${v4}/24 dev eth0; ip addr add ${v6}/128 dev eth0 nodad`);
    for (const [bits, gateway, half] of [
      [32, GATEWAYS[0], '20.1.1.0/25'],
      [32, GATEWAYS[0], '20.1.1.128/25'],
      [128, GATEWAYS[1], 'fd00:1::/64'],
    ])
      sh(`ip route replace ${gateway}/${bits} dev eth0; ip route replace ${half} via ${gateway}`);
    sh(`ip route add default via ${GATEWAYS[0]}; ip -6 route add default via ${GATEWAYS[1]}`);
  });
}

const given = (ports: Port[], theirs: Port[] = []) =>
  state({ ports, remotes: [] }, { ...BLUE, ports: theirs });

/** What a router has learned, in both families: those are counted (gc_thresh3). */
const learned = (device = ''): string =>
  inRouter(
    `for f in -4 -6; do ip $f neigh show nud all ${device} | grep -v 'PERMANENT\\|NOARP' || true; done`,
  ).trim();

/** ARP requests for the gateway, and neighbour solicitations, by addresses that nobody has. */
function forged(at: Port): { arp: Buffer; ns: Buffer } {
  const own = { mac: at.mac, address: '20.1.1.2' };
  const request = arp(1, own, { mac: '00:00:00:00:00:00', address: GATEWAYS[0] as string });
  const asking = solicitation({ mac: at.mac, address: 'fe80::1:fffe' }, GATEWAYS[1] as string);
  return {
    arp: ethernet(at.mac, BROADCAST, request, { type: 0x0806 }),
    ns: ethernet(at.mac, routerMac(at), asking),
  };
}

describe('a container that asks by forged addresses', () => {
  it('teaches its router none of them', async () => {
    const ports = [port(2)];
    const applier = openApplier();
    applied(applier, given(ports));
    container(ports[0] as Port, 2);
    const { arp: request, ns } = forged(ports[0] as Port);
    expect(
      inBox(2, () => sh(`busybox ping -c 1 -W 5 ${GATEWAYS[0]}; busybox ping -c 1 -W 5 ${GATEWAYS[1]}`)),
    ).toContain('1 packets received');
    // 300 of each: the machine's own tables stay usable where they are learned.
    const frames = Array.from({ length: 300 }, (_, i) => {
      const [a, n] = [Buffer.from(request), Buffer.from(ns)];
      a.writeUInt16BE(i, 28);
      a.writeUInt16BE(~i & 0xffff, 30);
      n.writeUInt16BE(i, 34);
      n.writeUInt16BE(~i & 0xffff, 36);
      return `${a.toString('hex')} ${n.toString('hex')}`;
    });
    inBox(2, () =>
      sh(
        `${process.execPath} ${path.join(import.meta.dirname, '../../../test/frames.ts')} eth0 ${frames.join(' ')}`,
      ),
    );
    expect(learned()).toBe('');
  });

  it('is no hindrance to new containers of another tenant, on two processors', async () => {
    const applier = openApplier();
    const ports = [port(2)];
    applied(applier, given(ports, [port(7)]));
    container(ports[0] as Port, 2);
    container(port(7), 7);
    const { arp: request, ns } = forged(ports[0] as Port);
    const floods = [
      startFlood(namespacePath(box(2)), 'eth0', 28, [request]),
      startFlood(namespacePath(box(2)), 'eth0', 34, [ns]),
    ];
    const theirs = [port(7)];
    const lost: string[] = [];
    const end = performance.now() + 3000;
    for (let n = 8; performance.now() < end; n++) {
      theirs.push(port(n));
      applied(applier, given(ports, theirs));
      container(port(n), n);
      for (const to of ['20.1.1.7', 'fd00:1::7'])
        if (!inBox(n, () => sh(`busybox ping -c 1 -W 5 ${to} 2>&1 || true`)).includes('1 packets received'))
          lost.push(`${n} to ${to}`);
      await new Promise((done) => setTimeout(done, 20));
    }
    const sent = await Promise.all(floods.map((flood) => flood.stop()));
    for (const count of sent.flat()) expect(count).toBeGreaterThan(1000);
    expect(theirs.length).toBeGreaterThan(1);
    expect(lost).toEqual([]);
    expect(learned()).toBe('');
  });
});

describe('a router', () => {
  it('learns nothing of what it speaks to: its containers, its way out, and the host nothing of it', () => {
    const ports = [port(2, { alsoFrom: ['20.1.9.9', 'fd00:9::9'] }), port(3)];
    const applier = openApplier();
    applied(applier, given(ports));
    for (const p of ports) container(p, Number(p.endpoint.slice(2)));
    const { hostAddress, hostAddress6 } = given(ports).exits[0] as {
      hostAddress: string;
      hostAddress6: string;
    };
    inBox(2, () => {
      sh('ip addr add 20.1.9.9/32 dev eth0; ip addr add fd00:9::9/128 dev eth0 nodad');
      // The other network of the same container, which its answers go to.
      sh(`busybox ping -c 1 -W 1 -I 20.1.9.9 ${GATEWAYS[0]} || true`);
      sh(`busybox ping -c 1 -W 1 -I fd00:9::9 ${GATEWAYS[1]} || true`);
      for (const to of [...GATEWAYS, '20.1.1.3', 'fd00:1::3'])
        expect(sh(`busybox ping -c 1 -W 5 ${to}`), to).toContain('1 packets received');
    });
    for (const to of [hostAddress, hostAddress6])
      expect(inRouter(`busybox ping -c 1 -W 5 ${to}`)).toContain('1 packets received');
    expect(learned()).toBe('');
    const cx = exitDevice('default');
    expect(sh(`ip -4 neigh show dev ${cx} nud all; ip -6 neigh show dev ${cx} nud all`)).not.toMatch(
      /REACHABLE|STALE|DELAY|PROBE|INCOMPLETE/,
    );
  });
});
