import fs from 'node:fs';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  applied,
  BLUE,
  type Case,
  clean,
  inRouter,
  kernel,
  LOCAL,
  MAP,
  NOTHING,
  port,
  remotes,
  state,
  VNI,
} from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { listConnections } from '../../linux/conntrack.ts';
import { NETLINK_NETFILTER, openNetlink } from '../../linux/netlink.ts';
import {
  createNamespace,
  getSysctl,
  inNamespace,
  listNamespaces,
  namespaceId,
  namespacePath,
  setSysctl,
} from '../../linux/netns.ts';
import { exitDevice, vtepLinkLocal, vtepMac } from '../compile/deviceNames.ts';
import { NAMESERVER } from '../constants.ts';
import type { DnatEntry, HostState } from '../state.ts';
import { openApplier } from './applier.ts';

beforeAll(isolate);
afterEach(clean);

describe('a router', () => {
  it('holds a route and a neighbour for each address of a container, and its own answers on the port', () => {
    applied(openApplier(), state({}));
    const { device, mac } = port(2);
    expect(inRouter('ip route')).toContain(`20.1.1.2 dev ${device}`);
    expect(inRouter('ip -6 route')).toContain(`fd00:1::2 dev ${device}`);
    expect(inRouter('ip neigh show nud permanent')).toContain(`20.1.1.2 dev ${device} lladdr ${mac}`);
    expect(inRouter(`ip -o addr show dev ${device}`)).toMatch(/20\.1\.1\.254[\s\S]*fd00:1::1\//);
    expect(inRouter(`cat /proc/sys/net/ipv4/conf/${device}/proxy_arp`)).toBe('1\n');
  });

  it("leaves the container's end in the host's namespace, with its MAC and MTU", () => {
    applied(openApplier(), state({}));
    expect(sh(`ip link show ${port(2).peer}`)).toMatch(/mtu 1450[\s\S]*link\/ether 02:02:14:01:01:02/);
  });

  it('leads to an endpoint on another host by the tunnel, and covers what nobody has', () => {
    applied(openApplier(), state({}));
    expect(inRouter('ip route')).toContain(`20.1.1.9 via 192.0.2.2 dev vx${VNI} proto 199 onlink`);
    expect(inRouter('ip route')).toContain('unreachable 20.1.1.0/24');
    expect(inRouter('ip -6 route')).toContain('unreachable fd00:1::/64');
    expect(inRouter(`bridge fdb show dev vx${VNI}`)).toContain(`${vtepMac('192.0.2.2')} dst 192.0.2.2 `);
    expect(inRouter(`ip neigh show dev vx${VNI}`)).toContain(
      `192.0.2.2 lladdr ${vtepMac('192.0.2.2')} PERMANENT`,
    );
    expect(inRouter('ip -d link show type vxlan')).toMatch(
      /vxlan id 1001 local 192\.0\.2\.1 .*dstport 4789 .*nolearning/,
    );
  });

  it('has a way out and a default route by it', () => {
    applied(openApplier(), state({}));
    expect(inRouter('ip route')).toContain('default via 100.127.0.0 dev uplink');
    expect(inRouter('ip -6 route')).toContain('default via fd6f:6e74:6976:: dev uplink');
    expect(sh(`ip -o addr show dev ${exitDevice('default')}`)).toMatch(/100\.127\.0\.0\/31/);
  });

  it('answers a container that has its end: the gateway, the other container, nothing for a foreign source', () => {
    const applier = openApplier();
    applied(applier, state({ ports: [port(2), port(3)] }));
    for (const n of [2, 3]) {
      createNamespace(`box${n}`);
      sh(`ip link set ${port(n).peer} netns box${n} name eth0`);
      inNamespace(namespacePath(`box${n}`), () =>
        sh(`ip addr add 20.1.1.${n}/24 dev eth0; ip link set eth0 up; ip route add default via 20.1.1.254`),
      );
    }
    const ping = (from: string, to: string) =>
      inNamespace(namespacePath('box2'), () => sh(`busybox ping -c 1 -W 2 -I ${from} ${to} 2>&1 || true`));
    expect(ping('20.1.1.2', '20.1.1.254')).toContain('1 packets received');
    expect(ping('20.1.1.2', '20.1.1.3')).toMatch(/ttl=64/);
    inNamespace(namespacePath('box2'), () => sh('ip addr add 20.1.1.77/32 dev eth0'));
    expect(ping('20.1.1.77', '20.1.1.3')).toContain('0 packets received');
  });
});

describe('apply', () => {
  const BUSY = state({ ports: [port(2), port(3)], remotes: remotes(40), publications: [MAP] }, BLUE);

  it('writes nothing where nothing changed', () => {
    const applier = openApplier();
    expect(applied(applier, BUSY).writes).toBeGreaterThan(100);
    expect(applied(applier, BUSY)).toMatchObject({ writes: 0, repaired: [], created: [], lost: [] });
  });

  it('finds nothing to repair either', () => {
    const applier = openApplier();
    applied(applier, BUSY);
    expect(applied(applier, BUSY, true)).toMatchObject({ writes: 0, repaired: [], created: [], lost: [] });
    expect(applied(applier, structuredClone(BUSY), true)).toMatchObject({ writes: 0, repaired: [] });
  });

  it('says which routers it made', () => {
    const applier = openApplier();
    expect(applied(applier, state({})).created).toEqual(['contiv-default']);
    expect(applied(applier, state({}, BLUE)).created).toEqual(['contiv-blue']);
  });

  it.each([
    [
      'local',
      (count: number) => state({ remotes: remotes(count), ports: [port(2)] }),
      (count: number) => state({ remotes: remotes(count), ports: [port(2), port(3)] }),
    ],
    [
      'remote',
      (count: number) => state({ remotes: remotes(count) }),
      (count: number) => state({ remotes: remotes(count + 1) }),
    ],
  ])('one more %s endpoint writes as much beside 10 others as beside 500', (_, before, after) => {
    const cost = (count: number): number => {
      const applier = openApplier();
      applied(applier, before(count));
      const { writes } = applied(applier, after(count));
      applied(applier, NOTHING);
      return writes;
    };
    const few = cost(10);
    expect(few).toBeGreaterThan(0);
    expect(few).toBeLessThan(25);
    expect(cost(500)).toBe(few);
  });

  it('takes away all that an endpoint brought', () => {
    const applier = openApplier();
    applied(applier, state({ publications: [MAP] }));
    const before = kernel();
    applied(
      applier,
      state({
        ports: [port(2), port(3)],
        remotes: remotes(20),
        publications: [MAP, { ...MAP, hostPort: 81, transitPort: 81 }],
      }),
    );
    expect(kernel()).not.toBe(before);
    applied(applier, state({ publications: [MAP] }));
    expect(kernel()).toBe(before);
  });

  it('holds a published range as one element, and what leads to other ports as one for each', () => {
    const range: DnatEntry = {
      ...MAP,
      protocol: 'udp',
      hostPort: 20_000,
      transitPort: 20_000,
      port: 20_000,
      count: 10_001,
    };
    const applier = openApplier();
    applied(applier, state({ publications: [MAP] }));
    const before = kernel();
    const cost = (...ranges: DnatEntry[]): number => {
      const { writes } = applied(applier, state({ publications: [MAP, ...ranges] }));
      expect(applied(applier, state({ publications: [MAP, ...ranges] }), true).repaired).toEqual([]);
      return writes;
    };
    // The host's part is made anew as a whole, with the element that it had.
    expect(cost(range)).toBeLessThan(10);
    expect(inRouter('nft list map inet contiv published_ranges')).toContain('udp . 20000-30000 : 20.1.1.2');
    expect(sh('nft list map inet contiv published_ranges')).toContain('udp . 20000-30000 : 100.127.0.1');
    // Two of the host's addresses, partly the same ports: one range in the router.
    cost(
      { ...range, hostAddress: '192.0.2.1' },
      {
        ...range,
        hostAddress: '127.0.0.1',
        hostPort: 25_000,
        transitPort: 25_000,
        port: 25_000,
      },
    );
    expect(inRouter('nft list map inet contiv published_ranges')).toContain('udp . 20000-35000 : 20.1.1.2');
    const at = sh('nft list map inet contiv published_at_ranges');
    expect(at).toContain('127.0.0.1 . udp . 25000-35000 : 100.127.0.1');
    expect(at).toContain('192.0.2.1 . udp . 20000-30000 : 100.127.0.1');
    cost({ ...range, port: 30_000, count: 101 });
    expect(inRouter('nft list map inet contiv published')).toContain('udp . 20100 : 20.1.1.2 . 30100');
    expect(sh('nft list map inet contiv published_ranges')).toContain('udp . 20000-20100 : 100.127.0.1');
    applied(applier, state({ publications: [MAP] }));
    expect(kernel()).toBe(before);
  });

  it('keeps a client of UDP at its port of a range that stays, and leads it away from one that has gone', () => {
    const range: DnatEntry = {
      ...MAP,
      protocol: 'udp',
      hostPort: 8000,
      transitPort: 8000,
      port: 8000,
      count: 200,
    };
    const applier = openApplier();
    applied(applier, state({ publications: [range] }));
    const netfilter = openNetlink(NETLINK_NETFILTER);
    const leads = (): string[] =>
      listConnections(netfilter, 4)
        .filter(({ original: o }) => o.protocol === 17 && o.destinationPort === 8080)
        .map(({ reply }) => `${reply.source} ${reply.sourcePort}`);
    sh('bash -c "echo hello > /dev/udp/127.0.0.1/8080"');
    expect(leads()).toEqual(['100.127.0.1 8080']);
    applied(applier, state({ publications: [range, { ...MAP, hostPort: 90, transitPort: 90 }] }));
    expect(leads()).toEqual(['100.127.0.1 8080']);
    applied(applier, state({ publications: [{ ...range, count: 80 }] }));
    expect(leads()).toEqual([]);
    netfilter.close();
  });

  it('has a client of UDP that was there before a port was published go to the container, and away from one that has gone', () => {
    const applier = openApplier();
    applied(applier, state({ publications: [MAP] }));
    const netfilter = openNetlink(NETLINK_NETFILTER);
    const send = (): void => void sh('bash -c "echo hello > /dev/udp/127.0.0.1/8080"');
    const leads = (): string[] =>
      listConnections(netfilter, 4)
        .filter(({ original: o }) => o.protocol === 17 && o.destinationPort === 8080)
        .map(({ reply }) => `${reply.source} ${reply.sourcePort}`);
    send();
    expect(leads()).toEqual(['127.0.0.1 8080']);
    const published = state({ publications: [MAP, { ...MAP, protocol: 'udp' }] });
    applied(applier, published);
    expect(leads()).toEqual([]);
    send();
    expect(leads()).toEqual(['100.127.0.1 8080']);
    applied(applier, published, true);
    applied(applier, state({ ports: [port(3)], publications: [MAP, { ...MAP, protocol: 'udp' }] }));
    expect(leads(), 'no change of what is published').toHaveLength(1);
    applied(applier, state({ publications: [MAP] }));
    expect(leads()).toEqual([]);
    netfilter.close();
  });

  it('leaves the host the default route that it has from router advertisements', () => {
    sh('ip link add wan type veth peer name lan');
    sh('ip link set wan up; ip link set lan up');
    sh('ip -6 route add default via fe80::1 dev wan proto ra');
    setSysctl('net/ipv6/conf/all/forwarding', '0'); // an earlier test's
    applied(openApplier(), state({}));
    expect(getSysctl('net/ipv6/conf/all/forwarding')).toBe('1');
    expect(getSysctl('net/ipv6/conf/wan/accept_ra')).toBe('2');
    expect(getSysctl('net/ipv6/conf/lan/accept_ra')).toBe('1');
    sh('ip link del wan');
  });

  it('leads an endpoint that moved to its new host', () => {
    const applier = openApplier();
    const at = (vtep: string) => state({ remotes: [{ address: '20.1.1.9', device: `vx${VNI}`, vtep }] });
    applied(applier, at('192.0.2.2'));
    applied(applier, at('192.0.2.3'));
    expect(inRouter('ip route show 20.1.1.9').trim()).toMatch(/^20\.1\.1\.9 via 192\.0\.2\.3 /);
    expect(inRouter(`bridge fdb show dev vx${VNI}`)).not.toContain('192.0.2.2');
    expect(applied(applier, at('192.0.2.3'), true)).toMatchObject({ writes: 0, repaired: [] });
  });

  it('leads an endpoint that two hosts have told of to the other one when the last of them takes it back', () => {
    const applier = openApplier();
    const at = (...vteps: string[]) =>
      state({ remotes: vteps.map((vtep) => ({ address: '20.1.1.9', device: `vx${VNI}`, vtep, group: 5 })) });
    const [first, last] = ['192.0.2.2', '192.0.2.3'] as const;
    applied(applier, at(first));
    applied(applier, at(first, last));
    expect(inRouter('ip route show 20.1.1.9')).toContain(`via ${last} `);
    applied(applier, at(first));
    expect(inRouter('ip route show 20.1.1.9')).toContain(`via ${first} `);
    expect(inRouter('nft list map inet contiv members')).toContain('20.1.1.9 : 0x00000005');
    expect(applied(applier, at(first), true)).toMatchObject({ writes: 0, repaired: [] });
    applied(applier, at(last));
    expect(applied(applier, at(last), true)).toMatchObject({ writes: 0, repaired: [] });
  });

  it('leads an endpoint that moved away from here, and back', () => {
    const applier = openApplier();
    const away: HostState = state({
      ports: [port(3)],
      remotes: ['20.1.1.2', 'fd00:1::2'].map((address) => ({
        address,
        device: `vx${VNI}`,
        vtep: '192.0.2.2',
      })),
    });
    const back = state({ ports: [port(2), port(3)], remotes: [] });
    applied(applier, back);
    applied(applier, away);
    expect(inRouter('ip route show 20.1.1.2')).toContain('via 192.0.2.2');
    expect(inRouter('ip -6 route show fd00:1::2')).toContain(`via ${vtepLinkLocal('192.0.2.2')}`);
    applied(applier, back);
    expect(inRouter('ip route show 20.1.1.2')).toContain(`dev ${port(2).device}`);
    expect(inRouter('ip -6 route show fd00:1::2')).toContain(`dev ${port(2).device}`);
    expect(applied(applier, back, true)).toMatchObject({ writes: 0, repaired: [] });
  });

  it('leaves no namespace and no device of a tenant that has gone, and the others alone', () => {
    const applier = openApplier();
    applied(applier, NOTHING);
    const rules = sh('nft -s list ruleset');
    applied(applier, state({}, BLUE));
    const links = inRouter('ip -o link');
    applied(applier, state({}));
    expect(listNamespaces()).toEqual(['contiv-default']);
    expect(sh('ip -o link')).not.toContain(exitDevice('blue'));
    expect(inRouter('ip -o link')).toBe(links);
    applied(applier, NOTHING);
    expect(listNamespaces()).toEqual([]);
    // The host is guarded as before.
    expect(rules).toContain('table inet contiv');
    expect(sh('nft -s list ruleset')).toBe(rules);
    expect(sh('ip -o link')).not.toMatch(/ c[xct]/);
  });

  it("removes a tenant's devices also while someone is in its namespace", () => {
    const applier = openApplier();
    applied(applier, state({}));
    const held = fs.openSync(namespacePath('contiv-default'), 'r');
    try {
      applied(applier, NOTHING);
      applied(applier, state({}));
    } finally {
      fs.closeSync(held);
    }
    expect(sh(`ip -o link show ${exitDevice('default')}`)).toContain(exitDevice('default'));
  });

  it.each([false, true])(
    'leaves nothing of a tenant whose namespace somebody has deleted before (verify: %s)',
    (verify) => {
      const applier = openApplier();
      applied(applier, state({}, BLUE));
      sh('ip netns del contiv-blue');
      applied(applier, state({}), verify);
      expect(sh('ip -o link')).not.toContain(exitDevice('blue'));
      // Its tag is free at once.
      applied(applier, state({}, { ...BLUE, tenant: 'green' }));
    },
  );

  it('reports a container that is gone, and makes no new end for it', () => {
    const applier = openApplier();
    applied(applier, state({}));
    sh(`ip link delete ${port(2).peer}`);
    const joined = state({ ports: [port(2, { joined: true })] });
    expect(applied(applier, joined).lost).toEqual(['ep2']);
    expect(inRouter('ip -o link')).not.toContain(port(2).device);
  });

  it('says what clashes where another VXLAN device has the tag, and does the rest', () => {
    const clash = 'swarm0';
    sh(`ip link add ${clash} type vxlan id ${VNI} local ${LOCAL} dstport 4789; ip link set ${clash} up`);
    try {
      const report = openApplier().apply(state({}), { verify: false });
      expect(report.failed).toHaveLength(1);
      expect(report.failed[0]?.message).toMatch(/network with tag 1001: another VXLAN device .* --pkt-tag/);
      expect(inRouter('ip route')).toContain(`20.1.1.2 dev ${port(2).device}`);
    } finally {
      sh(`ip link delete ${clash}`);
    }
  });

  it("does not let one router's failure keep the others from being made", () => {
    const bad: Case = { ...BLUE, ports: [port(7, { mac: '01:00:00:00:00:01' })] };
    const report = openApplier().apply(state(bad, {}), { verify: false });
    expect(report.failed).toMatchObject([{ endpoint: 'ep7' }]);
    expect(inRouter('ip route')).toContain(`20.1.1.2 dev ${port(2).device}`);
  });

  it("does not let a tenant's namespace that cannot be removed keep the rest from being made", () => {
    const applier = openApplier();
    applied(applier, state(BLUE));
    const file = namespacePath('contiv-blue');
    // Removing it once leaves the mount below; it is tried twice.
    for (let i = 0; i < 2; i++) sh(`mount --bind ${file} ${file}; mount --make-private ${file}`);
    const { complete, failed } = applier.apply(state({}), { verify: false });
    expect(complete).toBe(false);
    expect(failed.map((f) => f.message)).toEqual([expect.stringMatching(/^contiv-blue: .*busy/i)]);
    expect(inRouter('ip route')).toContain('20.1.1.2');
    expect(sh('ip -o addr')).toContain('100.127.0.0');
    applied(applier, state({}), true);
    expect(listNamespaces()).toEqual(['contiv-default']);
  });

  it('leads the names of a container once its namespace is known', () => {
    createNamespace('box');
    const sandbox = namespacePath('box');
    const applier = openApplier();
    const given = state({ ports: [port(2, { sandbox, stub: true })] });
    applied(applier, given);
    const rules = () => inNamespace(sandbox, () => sh('nft list ruleset'));
    expect(rules()).toContain(`ip daddr set ${NAMESERVER}`);
    expect(applied(applier, given, true).writes).toBe(0);
    inNamespace(sandbox, () => sh('nft flush ruleset'));
    applied(applier, given, true);
    expect(rules()).toContain(`ip daddr set ${NAMESERVER}`);
  });
});

describe('a new applier, after the old one was killed', () => {
  it('adopts the router: its devices and entries stay as they are', () => {
    const given = state({ remotes: remotes(50), publications: [MAP] });
    applied(openApplier(), given);
    const router = namespaceId(namespacePath('contiv-default'));
    const before = kernel();
    const links = inRouter('ip -o link');
    const report = applied(openApplier(), given);
    // The fast path is made anew: 52 addresses, and a qdisc and a program at each of two devices.
    expect(report).toMatchObject({ writes: 52 + 4, created: [], repaired: [], lost: [] });
    expect(namespaceId(namespacePath('contiv-default'))).toBe(router);
    expect(inRouter('ip -o link')).toBe(links);
    expect(kernel()).toBe(before);
  });

  it('takes away what is no longer wanted', () => {
    applied(openApplier(), state({ remotes: remotes(5) }, BLUE));
    const before = state({ remotes: remotes(2) });
    applied(openApplier(), before);
    expect(listNamespaces()).toEqual(['contiv-default']);
    expect(inRouter('ip route')).not.toContain('20.1.2.4');
    expect(sh('ip -o link')).not.toContain(exitDevice('blue'));
  });

  it('makes the router where the kill left its file without a namespace', () => {
    fs.writeFileSync(namespacePath('contiv-default'), '');
    expect(applied(openApplier(), state({})).created).toEqual(['contiv-default']);
    expect(inRouter('ip route')).toContain('20.1.1.2');
  });

  it('finishes a router that was only begun', () => {
    createNamespace('contiv-default');
    const report = applied(openApplier(), state({}));
    expect(report.created).toEqual([]);
    const finished = kernel();
    openApplier().apply(NOTHING, { verify: true });
    applied(openApplier(), state({}));
    expect(finished).toBe(kernel());
  });

  it('leaves namespaces of others alone', () => {
    createNamespace('somebody');
    applied(openApplier(), state({}));
    openApplier().apply(NOTHING, { verify: true });
    expect(listNamespaces()).toEqual(['somebody']);
  });
});
