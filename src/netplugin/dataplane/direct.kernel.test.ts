import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { closeAll, provide, tcp } from '../../../test/boxes.ts';
import { startFlood } from '../../../test/flooding.ts';
import {
  applied,
  clean,
  inRouter,
  LOCAL,
  NOTHING,
  PEERS,
  port,
  state,
  VNI,
} from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { arp, ethernet, icmpError, udp } from '../../../test/packet.ts';
import { atSwitch, joinSwitch, openPings, sendFrames } from '../../../test/wire.ts';
import { createNamespace, deleteNamespace, inNamespace, namespacePath } from '../../linux/netns.ts';
import { vtepMac } from '../compile/deviceNames.ts';
import { directMac } from '../compile/direct.ts';
import { DIRECT_DEVICE, NAMESERVER, NAMESERVER6 } from '../constants.ts';
import type { HostState, Port, RemoteHost, RuleSet } from '../state.ts';
import { type Applier, openApplier } from './applier.ts';

beforeAll(isolate);

const FAR = PEERS[0] as string;
const LINK = 'eth0';
const TENANT: Readonly<Record<string, string>> = { [LOCAL]: 'default', [FAR]: 'far' };
const NAMESPACE: Readonly<Record<string, string>> = { [LOCAL]: 'contiv-default', [FAR]: 'far' };
const macOf = (local: string): string => directMac(TENANT[local] as string, local);
/** The direct network's number, and that of the other. */
const NETWORK = 3001;
const four = (n: number): string => `${isOther(n) ? '20.1.1' : '20.3.1'}.${n}`;
const six = (n: number): string => `${isOther(n) ? 'fd00:1' : 'fd00:3'}::${n}`;
const isOther = (n: number): boolean => n > 5;

const inBox = <T>(n: number, use: () => T): T => inNamespace(namespacePath(`box${n}`), use);
const onFar = <T>(use: () => T): T => inNamespace(namespacePath('host2'), use);
const asStranger = <T>(use: () => T): T => inNamespace(namespacePath('stranger'), use);

const member = (n: number, more: Partial<Port> = {}): Port =>
  port(n, {
    mac: `02:02:14:03:01:${n.toString(16).padStart(2, '0')}`,
    addresses: [four(n), six(n)],
    gateways: isOther(n) ? ['20.1.1.254', 'fd00:1::fe'] : ['20.3.1.254', 'fd00:3::fe'],
    network: isOther(n) ? VNI : NETWORK,
    mtu: isOther(n) ? 1450 : 1500,
    ...more,
  });

interface Host {
  readonly local: string;
  readonly peer: string;
  readonly ports: readonly Port[];
  /** What runs at the peer. */
  readonly there: readonly number[];
  /** The peer does not share the link, as far as this one knows. */
  readonly apart?: true;
  readonly ruleSets?: readonly RuleSet[];
}

function hostState({ local, peer, ports, there, apart, ruleSets = [] }: Host): HostState {
  const base = state({ tenant: TENANT[local] as string, local, ports, ruleSets, remotes: [] });
  const made = base.routers[0] as HostState['routers'][number];
  const tunnel = made.tunnels[0] as (typeof made.tunnels)[number];
  const tunnels = [VNI, NETWORK].map((vni) => ({ ...tunnel, vni, device: `vx${vni}` }));
  const remote: RemoteHost = {
    vtep: peer,
    mac: vtepMac(peer),
    linkLocal: `fe80::${peer.split('.').at(-1)}`,
    devices: tunnels.map((t) => t.device),
    ...(apart === undefined && { direct: { device: DIRECT_DEVICE, mac: macOf(peer) } }),
    endpoints: there.flatMap((n) =>
      [four(n), six(n)].map((address) => ({
        address,
        device: isOther(n) ? `vx${VNI}` : apart ? `vx${NETWORK}` : DIRECT_DEVICE,
        network: isOther(n) ? VNI : NETWORK,
        group: 0,
      })),
    ),
  };
  return {
    ...base,
    underlay: local,
    members: [peer],
    exits: base.exits.map((exit) => ({ ...exit, namespace: NAMESPACE[local] as string })),
    routers: [
      {
        ...made,
        namespace: NAMESPACE[local] as string,
        tunnels,
        direct: { device: DIRECT_DEVICE, link: LINK, mac: macOf(local), mtu: 1500 },
        subnets: [
          { prefix: '20.1.1.0/24', network: VNI },
          { prefix: '20.3.1.0/24', network: NETWORK },
          { prefix: 'fd00:1::/64', network: VNI },
          { prefix: 'fd00:3::/64', network: NETWORK },
        ],
        gateways: ['20.1.1.254', '20.3.1.254', 'fd00:1::fe', 'fd00:3::fe'],
        hosts: [remote],
      },
    ],
  };
}

function enter(given: Port, n: number): void {
  createNamespace(`box${n}`);
  sh(`ip link set ${given.peer} netns ${namespacePath(`box${n}`)} name eth0`);
  inBox(n, () => {
    sh('echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad; ip link set lo up; ip link set eth0 up');
    sh(`ip addr add ${four(n)}/32 dev eth0; ip addr add ${six(n)}/128 dev eth0 nodad`);
    sh(`ip route add ${NAMESERVER} dev eth0; ip route add default via ${NAMESERVER}`);
    sh(`ip -6 route add ${NAMESERVER6} dev eth0; ip -6 route add default via ${NAMESERVER6}`);
  });
}

let near: Applier;
let far: Applier;
const nearHost: Host = {
  local: LOCAL,
  peer: FAR,
  ports: [member(2), member(4), member(6)],
  there: [3, 7],
};
const farHost: Host = { local: FAR, peer: LOCAL, ports: [member(3), member(7)], there: [2, 4, 6] };
const joined = (host: Host): Host => ({ ...host, ports: host.ports.map((p) => ({ ...p, joined: true })) });

beforeEach(() => {
  joinSwitch(LINK, { '': LOCAL, host2: FAR, stranger: '192.0.2.200' });
  // What the stranger says that it is, the switch is not to believe: hosts are to hear it all.
  atSwitch('bridge link set dev w-stranger learning off');
  near = openApplier();
  applied(near, NOTHING);
  far = onFar(openApplier);
  onFar(() => applied(far, NOTHING));
  applied(near, hostState(nearHost));
  onFar(() => applied(far, hostState(farHost)));
  for (const n of [2, 4, 6]) enter(member(n), n);
  onFar(() => {
    for (const n of [3, 7]) enter(member(n), n);
  });
});

afterEach(() => {
  closeAll();
  onFar(() => {
    far?.apply(NOTHING, { verify: false });
    far?.close();
  });
  near?.close();
  clean();
});

const { pinged, silent } = openPings(
  (n: number, to) => ({ namespace: `box${n}`, address: to.includes(':') ? six(n) : four(n) }),
  60,
);

/** Counts at the switch what comes from this host; answers how much by then. */
function count(rule: string): () => number {
  atSwitch(
    `nft 'table netdev see { chain in { type filter hook ingress device w-host1 priority 0; ${rule} counter; }; }'`,
  );
  return () => Number(/packets (\d+)/.exec(atSwitch('nft list chain netdev see in'))?.[1]);
}
const counter = (name: string): number =>
  Number(/packets (\d+)/.exec(inRouter(`nft list counter inet contiv ${name}`))?.[1]);

/** Packets that the near router has forwarded itself (RFC 2011, ipForwDatagrams). */
function forwarded(): number {
  const [names = '', values = ''] = inRouter('grep ^Ip: /proc/thread-self/net/snmp').split('\n');
  return Number(values.split(' ')[names.split(' ').indexOf('ForwDatagrams')]);
}

describe('a container of a direct network', () => {
  it('reaches its network on its host and on others as large as the link takes, and nothing of it is in a tunnel', async () => {
    const tunnelled = count('udp dport 4789');
    for (const to of [four, six]) {
      expect(await pinged(2, to(4), 1500)).toBe(true);
      expect(await pinged(2, to(3), 1500)).toBe(true);
      expect(await pinged(3, to(4), 1500)).toBe(true);
    }
    expect(tunnelled()).toBe(0);
  });

  it('is on the wire by the address of its tenant on its host, which no other namespace of the host sees', async () => {
    const own = count(
      `ether saddr ${macOf(LOCAL)} ether daddr ${macOf(FAR)} ip saddr ${four(2)} ip daddr ${four(3)}`,
    );
    onFar(() =>
      sh(
        `nft 'table inet see { chain in { type filter hook prerouting priority -400; ip saddr ${four(2)} counter; }; }'`,
      ),
    );
    for (let i = 0; i < 3; i++) expect(await pinged(2, four(3))).toBe(true);
    expect(own()).toBeGreaterThanOrEqual(3);
    expect(onFar(() => sh('nft list chain inet see in'))).toContain('packets 0 ');
  });

  it('and those of a VXLAN network of its tenant reach each other by the router, on one host and between hosts', async () => {
    for (const to of [four, six])
      for (const [a, b] of [
        [2, 6],
        [2, 7],
        [3, 6],
      ] as const) {
        expect([a, b, await pinged(a, to(b))]).toEqual([a, b, true]);
        expect([b, a, await pinged(b, to(a))]).toEqual([b, a, true]);
      }
  });

  it('reaches by a tunnel whom its host does not share the link with', async () => {
    const tunnelled = count('udp dport 4789');
    applied(near, hostState({ ...joined(nearHost), apart: true }));
    onFar(() => applied(far, hostState({ ...joined(farHost), apart: true })));
    for (const to of [four, six]) expect(await pinged(2, to(3))).toBe(true);
    expect(tunnelled()).toBeGreaterThan(1);
    // What it is told that is too large for a tunnel it sends smaller.
    expect(await silent(2, four(3), 1500)).toBe(true);
    expect(await pinged(2, four(3), 1450)).toBe(true);
  });

  it('has its established connections past the router', async () => {
    const { clients } = await provide(3, four(3), 'three');
    const client = await tcp(2, four(3), 8080, four(2));
    for (let i = 0; i < 20; i++) expect(await client.ask()).toBe('three');
    const before = forwarded();
    for (let i = 0; i < 200; i++) expect(await client.ask()).toBe('three');
    expect(clients).toEqual([four(2)]);
    // 200 questions, answers and what acknowledges them: but for a few of the router's way.
    expect(forwarded() - before).toBeLessThan(40);
  });

  it('is judged by policy', async () => {
    const deny: RuleSet = {
      id: 1,
      name: 'in default: none',
      narrowed: [],
      decisions: [{ group: 0, rule: 1, action: 'deny', key: 'default:none:1' }],
    };
    const ports = [member(2, { joined: true, judgedIn: 1 }), ...joined(nearHost).ports.slice(1)];
    applied(near, hostState({ ...nearHost, ports, ruleSets: [deny] }));
    for (const to of [four, six]) {
      expect(await silent(3, to(2))).toBe(true);
      expect(await pinged(2, to(3))).toBe(true);
      expect(await pinged(3, to(4))).toBe(true);
    }
  });

  it('that moves is reached at its new host', async () => {
    expect(await pinged(3, four(2))).toBe(true);
    applied(
      near,
      hostState({ ...joined(nearHost), ports: joined(nearHost).ports.slice(1), there: [3, 7, 2] }),
    );
    deleteNamespace('box2');
    onFar(() => {
      applied(
        far,
        hostState({ ...joined(farHost), ports: [...joined(farHost).ports, member(2)], there: [4, 6] }),
      );
      enter(member(2), 2);
    });
    for (const to of [four, six]) {
      expect(await pinged(4, to(2))).toBe(true);
      expect(await pinged(2, to(3))).toBe(true);
    }
  });
});

describe('the device on the link', () => {
  it('stays as it is with an agent that starts anew', async () => {
    near.close();
    near = openApplier();
    expect(await pinged(2, four(3))).toBe(true);
    const report = near.apply(hostState(joined(nearHost)), { verify: false });
    expect(report).toMatchObject({ failed: [], repaired: [], created: [] });
    expect(near.apply(hostState(joined(nearHost)), { verify: true })).toMatchObject({
      failed: [],
      repaired: [],
    });
    expect(await pinged(2, four(3))).toBe(true);
  });

  it.each([
    [`ip link delete ${DIRECT_DEVICE}`, 'direct was gone'],
    [`ip link set ${DIRECT_DEVICE} down`, 'direct was down'],
    [`ip link set ${DIRECT_DEVICE} address 06:00:00:00:00:01`, 'direct was changed'],
    [`ip link set ${DIRECT_DEVICE} mtu 1400`, 'direct was changed'],
    [`ip neigh del ${FAR} dev ${DIRECT_DEVICE}`, `neighbour ${FAR}`],
    [`tc qdisc del dev ${DIRECT_DEVICE} clsact`, DIRECT_DEVICE],
  ])('is put right where somebody has done this: %s', async (command, said) => {
    const wanted = hostState(joined(nearHost));
    applied(near, wanted, true);
    inRouter(command);
    const { repaired } = applied(near, wanted, true);
    expect(repaired.join()).toContain(said);
    for (const to of [four, six]) expect(await pinged(2, to(3), 1500)).toBe(true);
    expect(near.apply(wanted, { verify: true })).toMatchObject({
      failed: [],
      repaired: [],
    });
  });

  it('is another one where the underlay is on another interface, and follows its MTU', async () => {
    sh('ip link add other type veth peer name beside; ip link set other up; ip link set beside up');
    const moved = hostState(joined(nearHost));
    const [made] = moved.routers as [HostState['routers'][number]];
    const direct = { device: DIRECT_DEVICE, link: 'other', mac: macOf(LOCAL), mtu: 1400 };
    applied(near, { ...moved, routers: [{ ...made, direct }] });
    const index = /^(\d+): other/.exec(sh('ip -o link show other'))?.[1];
    expect(inRouter(`ip -o link show ${DIRECT_DEVICE}`)).toMatch(new RegExp(`@if${index}: .* mtu 1400 `));
    applied(near, hostState(joined(nearHost)));
    expect(await pinged(2, four(3), 1500)).toBe(true);
    sh(`ip link set ${LINK} mtu 1300`);
    const small = hostState(joined(nearHost));
    const [again] = small.routers as [HostState['routers'][number]];
    applied(near, { ...small, routers: [{ ...again, direct: { ...direct, link: LINK, mtu: 1300 } }] });
    expect(await pinged(2, four(3), 1300)).toBe(true);
  });

  it('that the kernel refuses is said in a line, and what goes by tunnels goes on', async () => {
    const nowhere = hostState(joined(nearHost));
    const [made] = nowhere.routers as [HostState['routers'][number]];
    const on = (link: string) => ({ device: DIRECT_DEVICE, link, mac: macOf(LOCAL), mtu: 1500 });
    const failures = (link: string): string =>
      near
        .apply({ ...nowhere, routers: [{ ...made, direct: on(link) }] }, { verify: false })
        .failed.map((f) => f.message)
        .join();
    expect(failures('nothing')).toContain('networks of encap direct: no interface nothing on this host');
    sh(
      'ip link add inside type veth peer name beside; ip link add br9 type bridge; ip link set inside master br9',
    );
    expect(failures('inside')).toContain('networks of encap direct: inside is a port of a bridge');
    expect(await pinged(6, four(7))).toBe(true);
  });

  it('goes with the last direct network', () => {
    const { routers, ...rest } = hostState(joined(nearHost));
    const [{ direct: _, ...without }] = routers as [HostState['routers'][number]];
    const hosts = without.hosts.map(({ direct: _, endpoints, ...host }) => ({
      ...host,
      endpoints: endpoints.filter((e) => e.device !== DIRECT_DEVICE),
    }));
    applied(near, { ...rest, routers: [{ ...without, hosts }] });
    expect(inRouter('ip -o link')).not.toContain(DIRECT_DEVICE);
    expect(sh(`ip -d link show ${LINK}`)).not.toMatch(/promiscuity [1-9]/);
  });

  it('says by a frame to all where it is, and nothing else that nobody asked for', () => {
    const said = count(`ether type 0x8035 ether saddr ${macOf(LOCAL)}`);
    inRouter(`ip link delete ${DIRECT_DEVICE}`);
    applied(near, hostState(joined(nearHost)), true);
    expect(said()).toBe(1);
    const groups = atSwitch(
      `nft 'table netdev more { chain in { type filter hook ingress device w-host1 priority 1; ether saddr ${macOf(LOCAL)} ether type ip6 counter; }; }'; ` +
        'sleep 2; nft list chain netdev more in',
    );
    expect(groups).toContain('packets 0 ');
  });
});

describe('whoever means harm on the link', () => {
  const EVIL = '02:66:66:66:66:66';
  const received = (n: number): number =>
    Number(inBox(n, () => sh("awk '/^Udp:/ { n = $2 } END { print n }' /proc/thread-self/net/snmp")).trim()) +
    Number(inBox(n, () => sh("awk '/^Udp:/ { n = $3 } END { print n }' /proc/thread-self/net/snmp")).trim());
  /** From a port to its complement: with other such ports its checksum holds (flood.ts). */
  const datagram = (from: string, to: string): Buffer => udp(from, to, 777, 0xffff - 777, Buffer.from('x'));
  const frame = (from: string, to: string, mac: string, destination = macOf(LOCAL)): Buffer =>
    ethernet(mac, destination, datagram(from, to));
  const send = (...frames: Buffer[]): string => asStranger(() => sendFrames(LINK, ...frames));
  const OTHERS = ['192.0.2.200', '8.8.8.8', '20.9.9.9', '127.0.0.1', '100.127.0.0', NAMESERVER];
  /** All that is wrong in one way or another: whom they say to be from, by which address. */
  const wrong = (to: number): Buffer[] => [
    // By an address of his own, by that of the other host's tunnels, of its interface, and by this router's own.
    ...[EVIL, vtepMac(FAR), vtepMac(LOCAL), macOf(LOCAL)].flatMap((mac) =>
      [four(3), four(7), four(2), four(4), '20.3.1.254', ...OTHERS].map((from) => frame(from, four(to), mac)),
    ),
    // By the other host's on the link, with what does not run there.
    ...[four(2), four(4), four(6), '20.3.1.254', '20.3.1.77', ...OTHERS].map((from) =>
      frame(from, four(to), macOf(FAR)),
    ),
    // To everybody, to the host's own address, and to that of its tunnels.
    ...['ff:ff:ff:ff:ff:ff', '01:00:5e:00:00:01', hostMac(), vtepMac(LOCAL)].map((destination) =>
      frame(four(3), four(to), macOf(FAR), destination),
    ),
    ...[EVIL, vtepMac(FAR)].map((mac) => frame(six(3), six(to), mac)),
  ];
  const hostMac = (): string => /ether (\S+)/.exec(sh(`ip link show ${LINK}`))?.[1] as string;

  it('gets in by no address but that of the other host, with what runs there, to a container here', async () => {
    const before = received(2);
    send(...wrong(2), frame(four(3), four(2), macOf(FAR)));
    // Frames come in order: what was sent before has arrived once the last one has.
    await expect.poll(() => received(2)).toBe(before + 1);
    expect(counter('foreign')).toBeGreaterThan(40);
  });

  it('gets in by no flood from two processors either, while what is right arrives', async () => {
    await provide(2, four(2), 'two');
    const client = await tcp(3, four(2), 8080, four(3));
    expect(await client.ask()).toBe('two');
    const before = received(2);
    const flood = startFlood(
      namespacePath('stranger'),
      LINK,
      34,
      wrong(2).filter((f) => f.readUInt16BE(12) === 0x0800),
    );
    try {
      for (let i = 0; i < 100; i++) expect(await client.ask()).toBe('two');
      // Meanwhile the agent changes what all of them are judged by.
      for (let i = 0; i < 10; i++) {
        applied(near, hostState({ ...joined(nearHost), there: [3] }));
        applied(near, hostState(joined(nearHost)));
        expect(await client.ask()).toBe('two');
      }
    } finally {
      for (const sent of await flood.stop()) expect(sent).toBeGreaterThan(1000);
    }
    expect(received(2)).toBe(before);
    expect(counter('foreign')).toBeGreaterThan(1000);
  });

  it('changes no neighbour, and is answered by nobody', async () => {
    const neighbours = () => inRouter('ip neigh show | sort');
    const before = neighbours();
    const answers = count(`ether daddr ${EVIL}`);
    const to = { mac: macOf(LOCAL), address: four(2) };
    send(
      ...[four(3), FAR, LOCAL, '20.3.1.254', four(2)].flatMap((address) =>
        ([1, 2] as const).flatMap((operation) =>
          [macOf(LOCAL), 'ff:ff:ff:ff:ff:ff'].map((destination) =>
            ethernet(EVIL, destination, arp(operation, { mac: EVIL, address }, to), { type: 0x0806 }),
          ),
        ),
      ),
    );
    expect(await pinged(2, four(3))).toBe(true);
    expect(neighbours()).toBe(before);
    expect(answers()).toBe(0);
  });

  it('ends no connection by an error about it, nor makes its packets small', async () => {
    await provide(3, four(3), 'three');
    const client = await tcp(2, four(3), 8080, four(2));
    expect(await client.ask()).toBe('three');
    const before = counter('foreign');
    const quoted = datagram(four(2), four(3));
    for (const mac of [EVIL, vtepMac(FAR)])
      send(
        ethernet(mac, macOf(LOCAL), icmpError(four(3), four(2), [3, 1], quoted)),
        ethernet(
          mac,
          macOf(LOCAL),
          icmpError('20.3.1.254', four(2), [3, 4], quoted, Buffer.from([0, 0, 2, 0])),
        ),
      );
    expect(await client.ask()).toBe('three');
    await expect.poll(() => counter('foreign')).toBe(before + 4);
    expect(inBox(2, () => sh(`ip route get ${four(3)}`))).not.toContain('mtu');
  });

  it('in a container that knows all addresses of the link sends nothing there by them', async () => {
    const out = count(`ether saddr != ${macOf(LOCAL)} ip daddr ${four(3)}`);
    const before = inBox(3, () => received(3));
    inBox(6, () =>
      sendFrames(
        'eth0',
        ...[macOf(FAR), macOf(LOCAL), vtepMac(FAR)].flatMap((mac) =>
          [four(2), four(4), four(3)].map((from) => frame(from, four(3), macOf(LOCAL), mac)),
        ),
      ),
    );
    expect(await pinged(6, four(3))).toBe(true);
    expect(out()).toBe(0);
    expect(received(3)).toBe(before);
  });
});
