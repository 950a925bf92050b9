import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { tag } from '../../../../lab/tagging.ts';
import { closeConnections, connection, datagrams, exchange, MESSAGE } from '../../../../test/connections.ts';
import {
  applied,
  clean,
  enter,
  forwarded,
  inRouter,
  LOCAL,
  NOTHING,
  PEERS,
  port,
  state,
  VLAN,
  VNI,
  vlanOf,
  vlanPort,
} from '../../../../test/hostState.ts';
import { isolate, sh } from '../../../../test/isolation.ts';
import { arp, ethernet, solicitation, udp } from '../../../../test/packet.ts';
import { openPings, sendFrames } from '../../../../test/wire.ts';
import { macBytes } from '../../../linux/address.ts';
import { echoes } from '../../../linux/echo.ts';
import { received as read, send as transmit } from '../../../linux/libc.ts';
import { createNamespace, inNamespace, namespacePath } from '../../../linux/netns.ts';
import { short } from '../../../linux/packet.ts';
import { linkLocalOf, tagMac, vtepMac } from '../../compile/deviceNames.ts';
import type { HostState, Port, Tag } from '../../state.ts';
import { type Applier, openApplier } from '../applier.ts';

beforeAll(isolate);

const { id: ID, network: NETWORK, uplink: UPLINK, at, six } = VLAN;
const FAR = PEERS[0] as string;
const [WEB, DB] = [101, 102];
const PLAIN = at(200);
const PLAIN6 = six(200);
const OWN: Readonly<Record<string, string[]>> = { [LOCAL]: [at(91), six(91)], [FAR]: [at(92), six(92)] };

const inBox = <T>(n: number, use: () => T): T => inNamespace(namespacePath(`box${n}`), use);
const onFar = <T>(use: () => T): T => inNamespace(namespacePath('host2'), use);
const onPlain = <T>(use: () => T): T => inNamespace(namespacePath('plain'), use);
const inFabric = (command: string): string => inNamespace(namespacePath('fabric'), () => sh(command));

/** Containers by the tag of their group; none: of no group. */
const TAG_OF: Readonly<Record<number, number>> = { 2: WEB, 5: WEB, 4: DB, 3: DB };
const addressesOf = (n: number): string[] => [at(n), six(n)];

interface Host {
  readonly local: string;
  readonly peer: string;
  readonly here: readonly Port[];
  /** What runs at the peer. */
  readonly there: readonly number[];
  /** Routers of the fabric's own. */
  readonly gateways?: readonly string[];
}

function hostState({ local, peer, here, there, gateways }: Host): HostState {
  const base = state({
    tenant: local === LOCAL ? 'default' : 'far',
    local,
    ports: here,
    remotes: [{ address: '20.1.1.9', device: `vx${VNI}`, vtep: peer }],
  });
  const made = base.routers[0] as HostState['routers'][number];
  const inTag = (id?: number): string[] =>
    here
      .filter((p) => p.wire !== undefined && TAG_OF[Number(p.addresses[0]?.split('.').at(-1))] === id)
      .flatMap((p) => p.addresses);
  const tags = [WEB, DB].map((id): Tag => ({ id, mac: tagMac(local, id), addresses: inTag(id) }));
  const external = gateways !== undefined;
  return {
    ...base,
    underlay: local,
    members: [peer],
    routers: [
      {
        ...made,
        vlans: [
          vlanOf(local, OWN[local] as string[], { tags, untagged: inTag(), ...(external && { gateways }) }),
        ],
        subnets: VLAN.prefixes.map((prefix) => ({
          prefix,
          network: NETWORK,
          device: `vl${ID}`,
          ...(external && { externalGateway: true as const }),
        })),
        gateways: external ? [] : [at(254)],
        hosts: made.hosts.map((h) => ({
          ...h,
          tagMacs: [WEB, DB].map((id) => tagMac(peer, id)),
          vlans: [`vl${ID}`],
          endpoints: there.flatMap((n) =>
            addressesOf(n).map((address) => {
              const mac = TAG_OF[n] && tagMac(peer, TAG_OF[n]);
              return {
                address,
                device: `vl${ID}`,
                network: NETWORK,
                group: 0,
                ...(mac && { tagged: { mac, linkLocal: linkLocalOf(mac) } }),
              };
            }),
          ),
        })),
      },
    ],
  };
}

let near: Applier;
let far: Applier;
const nearHost: Host = { local: LOCAL, peer: FAR, here: [2, 4, 6].map((n) => vlanPort(n)), there: [3, 5] };
const farHost: Host = { local: FAR, peer: LOCAL, here: [3, 5].map((n) => vlanPort(n)), there: [2, 4, 6] };
const joined = (host: Host): Host => ({ ...host, here: host.here.map((p) => ({ ...p, joined: true })) });

beforeEach(() => {
  for (const name of ['fabric', 'host2', 'plain']) createNamespace(name);
  // Its own devices say nothing.
  inFabric(
    'sysctl -qw net.ipv6.conf.default.disable_ipv6=1; ip link add br0 type bridge; ip link set br0 up',
  );
  for (const [name, address] of [
    ['', LOCAL],
    ['host2', FAR],
    ['plain', undefined],
  ] as const) {
    const end = `w-${name || 'host1'}`;
    sh(`ip link add ${UPLINK} ${name && `netns ${name}`} type veth peer name ${end} netns fabric`);
    inFabric(`ip link set ${end} up`);
    const set = (): string => sh(`ip link set lo up; ip link set ${UPLINK} up`);
    if (name === '') set();
    else inNamespace(namespacePath(name), set);
    if (address === undefined) {
      inFabric(`ip link set ${end} master br0`);
      continue;
    }
    for (const id of [WEB, DB]) {
      inNamespace(namespacePath('fabric'), () => tag(end, `${name || 'host1'}-${id}`, id));
      inFabric(`ip link set ${name || 'host1'}-${id} master br0`);
    }
  }
  onPlain(() => sh(`ip addr add ${PLAIN}/24 dev ${UPLINK}; ip addr add ${PLAIN6}/64 dev ${UPLINK} nodad`));
  near = openApplier();
  applied(near, NOTHING);
  far = onFar(openApplier);
  onFar(() => applied(far, NOTHING));
  watch();
  applied(near, hostState(nearHost));
  onFar(() => applied(far, hostState(farHost)));
  for (const [i, p] of nearHost.here.entries()) enter(p, [2, 4, 6][i] as number);
  onFar(() => {
    for (const [i, p] of farHost.here.entries()) enter(p, [3, 5][i] as number);
  });
});

afterEach(() => {
  closeConnections();
  onFar(() => far?.close());
  near?.close();
  clean();
});

/**
 * What of the first host's comes to the fabric: where it comes out there, by its tag, with the address that it is from. What nobody has
 * joined stays at the port.
 */
function watch(): void {
  inFabric(`nft '
table netdev see {
  set frames { typeof iifname . ether saddr; size 64; flags dynamic; }
  set packets { typeof iifname . ip saddr; size 64; flags dynamic; }
  set packets6 { typeof iifname . ip6 saddr; size 64; flags dynamic; }
  chain in {
    type filter hook ingress devices = { ${fabricPort(WEB)}, ${fabricPort(DB)}, w-host1 } priority 0;
    add @frames { iifname . ether saddr }
    add @packets { iifname . ip saddr }
    add @packets6 { iifname . ip6 saddr }
  }
}'`);
}
const fabricPort = (id: number): string => `host1-${id}`;
interface Element {
  readonly concat: readonly string[];
}
function seen(set: 'frames' | 'packets' | 'packets6'): string[] {
  const { nftables } = JSON.parse(inFabric(`nft -j list set netdev see ${set}`)) as {
    nftables: { set?: { elem?: (Element | { elem: { val: Element } })[] } }[];
  };
  return nftables
    .flatMap((n) => n.set?.elem ?? [])
    .map((e) => ('elem' in e ? e.elem.val : e).concat.join(' '))
    .sort();
}

/** Datagrams that came to a container. */
const received = (n: number, v6: boolean): number =>
  Number(
    inBox(n, () =>
      sh(
        v6
          ? "awk '/^Udp6(InDatagrams|NoPorts)/ { n += $2 } END { print n }' /proc/net/snmp6"
          : "awk '/^Udp:/ { n = $2 + $3 } END { print n }' /proc/net/snmp",
      ),
    ).trim(),
  );

const { pinged, silent } = openPings((where: number | 'plain', to) => {
  const of = to.includes(':') ? six : at;
  return where === 'plain'
    ? { namespace: where, address: of(200) }
    : { namespace: `box${where}`, address: of(where) };
}, 100);

/** Of IPv4 and IPv6. */
const BOTH = [at, six];

describe('a group with a VLAN tag of its own', () => {
  it('sends by it alone, to groups of its network on other hosts and to machines, by IPv4 and IPv6', async () => {
    for (const of of BOTH) {
      expect(await pinged(2, of(5))).toBe(true); // web to web
      expect(await pinged(2, of(3))).toBe(true); // web to db
      expect(await pinged(5, of(4))).toBe(true);
      expect(await pinged(4, of(3), 1500)).toBe(true);
      for (const n of [2, 3, 4, 5]) {
        expect(await pinged(n, of(200))).toBe(true);
        expect(await pinged('plain', of(n))).toBe(true);
      }
    }
    const of = (id: number, address: string): string => `${fabricPort(id)} ${address}`;
    expect(seen('packets')).toEqual([of(WEB, at(2)), of(DB, at(4))]);
    expect(seen('packets6').filter((text) => !/^w-host1| ::$/.test(text))).toEqual([
      of(WEB, six(2)),
      of(DB, six(4)),
    ]);
    const ours = seen('frames').filter((text) => !text.startsWith('w-host1'));
    expect(ours).toEqual([of(WEB, tagMac(LOCAL, WEB)), of(DB, tagMac(LOCAL, DB))]);
  });

  it('is told and answered for by the host’s address in its tag, so the fabric finds each address in one tag', async () => {
    for (const n of [2, 4]) for (const of of BOTH) expect(await pinged('plain', of(n))).toBe(true);
    const known = onPlain(() => sh(`ip neigh show dev ${UPLINK}; ip -6 neigh show dev ${UPLINK}`));
    for (const of of BOTH) {
      expect(known).toContain(`${of(2)} lladdr ${tagMac(LOCAL, WEB)}`);
      expect(known).toContain(`${of(4)} lladdr ${tagMac(LOCAL, DB)}`);
    }
    const asked = (address: string): string => {
      try {
        return onPlain(() => sh(`arping -c 1 -w 1 -I ${UPLINK} ${address} 2>&1`)).toLowerCase();
      } catch (error) {
        return String((error as { stdout: unknown }).stdout).toLowerCase();
      }
    };
    expect(asked(at(4)).match(/(?:[0-9a-f]{2}:){5}[0-9a-f]{2}/g)).toEqual([tagMac(LOCAL, DB)]);
    for (const address of [at(254), at(77)]) expect(asked(address)).not.toMatch(/from|reply/);
    // The bridge has each address of Ethernet's behind one port.
    const learned = inFabric('bridge fdb show br br0 | grep dynamic || bridge fdb show br br0');
    for (const [id, mac] of [
      [WEB, tagMac(LOCAL, WEB)],
      [DB, tagMac(LOCAL, DB)],
    ] as const)
      expect([...learned.matchAll(new RegExp(`^${mac} dev (\\S+)`, 'gm'))].map(([, dev]) => dev)).toEqual([
        `host1-${id}`,
      ]);
  });

  it('that moves is found at once by who had spoken to it, in its tag at the other host', async () => {
    expect(await pinged('plain', at(2))).toBe(true);
    expect(await pinged('plain', six(2))).toBe(true);
    applied(near, hostState({ ...joined(nearHost), here: joined(nearHost).here.slice(1), there: [3, 5, 2] }));
    onFar(() => {
      applied(far, hostState({ ...farHost, here: [...joined(farHost).here, vlanPort(2)], there: [4, 6] }));
    });
    for (const of of BOTH)
      await expect
        .poll(() => onPlain(() => sh(`ip neigh show ${of(2)} dev ${UPLINK}`)))
        .toContain(`lladdr ${tagMac(FAR, WEB)}`);
  });

  it('has the router ask on the wire by an address that is known there, and one of no group goes by the network’s tag', async () => {
    expect(await pinged(4, PLAIN)).toBe(true);
    expect(await pinged(4, PLAIN6)).toBe(true);
    const known = onPlain(() => sh(`ip neigh show dev ${UPLINK}; ip -6 neigh show dev ${UPLINK}`));
    for (const own of OWN[LOCAL] as string[]) expect(known).not.toContain(own);
    expect(await silent(6, PLAIN)).toBe(true);
    expect(seen('packets')).toContain(`w-host1 ${at(6)}`);
    expect(seen('frames')).toContain(`w-host1 ${vtepMac(LOCAL)}`);
    // On its own host it is reached, as all are there.
    expect(await pinged(6, at(2))).toBe(true);
    // To whom it is makes no difference: it is of this network, and in no group's tag.
    for (const of of BOTH) expect(await silent(6, of(3))).toBe(true);
    expect(seen('packets').filter((text) => text.endsWith(` ${at(6)}`))).toEqual([`w-host1 ${at(6)}`]);
    expect(seen('packets6').filter((text) => text.endsWith(` ${six(6)}`))).toEqual([`w-host1 ${six(6)}`]);
  });

  it('goes outside by a router of the fabric’s own in its tag, and is reached from there by it', async () => {
    const [GATE, GATE6, OUTSIDE, OUTSIDE6] = [at(254), six(254), '198.51.100.1', '2001:db8::1'];
    onPlain(() => {
      sh(`ip addr add ${GATE}/24 dev ${UPLINK}; ip addr add ${GATE6}/64 dev ${UPLINK} nodad`);
      sh(`ip addr add ${OUTSIDE}/32 dev lo; ip addr add ${OUTSIDE6}/128 dev lo nodad`);
      sh('sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.arp_announce=2');
    });
    const gateways = [GATE, GATE6];
    const here = joined(nearHost).here.map((p) => ({ ...p, gateways: [], externalGateways: gateways }));
    // The router had its address itself: no network changes that in place, and what the kernel takes with it is put right.
    applied(
      near,
      hostState({ ...nearHost, here: here.map((p) => ({ ...p, externalGateways: [] })), gateways: [] }),
    );
    applied(near, hostState({ ...nearHost, here, gateways }), true);
    await expect.poll(() => near.gateways().filter(({ mac }) => mac !== '')).toHaveLength(2);
    applied(near, hostState({ ...nearHost, here, gateways }));
    const outside = (n: number, v6: boolean): Promise<boolean> =>
      inBox(n, () =>
        echoes({
          from: (v6 ? six : at)(n),
          to: v6 ? OUTSIDE6 : OUTSIDE,
          size: 100,
          patience: 500,
        }),
      );
    for (const n of [2, 4])
      for (const v6 of [false, true]) {
        await expect.poll(() => outside(n, v6)).toBe(true);
        const inward = (): Promise<boolean> =>
          onPlain(() =>
            echoes({ from: v6 ? OUTSIDE6 : OUTSIDE, to: (v6 ? six : at)(n), size: 100, patience: 500 }),
          );
        await expect.poll(inward).toBe(true);
      }
    const of = (id: number, address: string): string => `${fabricPort(id)} ${address}`;
    expect(seen('packets')).toEqual([of(WEB, at(2)), of(DB, at(4))]);
    // The gateway knows each by the host's address in its tag, and the router itself by none.
    const known = onPlain(() => sh(`ip neigh show dev ${UPLINK}; ip -6 neigh show dev ${UPLINK}`));
    for (const of of BOTH) {
      expect(known).toContain(`${of(2)} lladdr ${tagMac(LOCAL, WEB)}`);
      expect(known).toContain(`${of(4)} lladdr ${tagMac(LOCAL, DB)}`);
    }
    for (const own of OWN[LOCAL] as string[]) expect(known).not.toContain(own);
    // One of no group does not, as the fabric joins the network's own tag to nothing.
    expect(await outside(6, false)).toBe(false);
  });

  it('in a network that the host has entered asks by a container’s address all the same, as the host’s own is in no tag that is joined', async () => {
    const entered = hostState(joined(nearHost));
    const routers = entered.routers.map((r) => ({
      ...r,
      vlans: (r.vlans ?? []).map((v) => ({ ...v, entered: true as const })),
    }));
    applied(near, { ...entered, routers });
    for (const of of BOTH) expect(await pinged(2, of(200))).toBe(true);
    expect(inRouter('nft list map arp contiv asked_by')).toContain(`"vl${ID}" : ${at(2)}`);
  });

  it.each([
    ['a machine, by IPv4', at(2), PLAIN, 'plain', `${fabricPort(WEB)} ${at(2)}`],
    [
      'another group’s container on another host, by IPv6',
      six(2),
      six(3),
      'box3',
      `${fabricPort(WEB)} ${six(2)}`,
    ],
  ] as const)(
    'keeps it where established connections go past the router: with %s',
    async (_, from, to, namespace, way) => {
      applied(near, hostState(joined(nearHost)));
      onFar(() => applied(far, hostState(joined(farHost))));
      const pair = connection(
        { namespace: 'box2', address: from, port: 40_000 },
        { namespace, address: to, port: 7000 },
      );
      await exchange(pair, 5);
      const before = forwarded();
      await exchange(pair, 200);
      expect(forwarded() - before).toBeLessThan(100);
      const set = from.includes(':') ? 'packets6' : 'packets';
      expect(seen(set).filter((text) => text.endsWith(` ${from}`))).toEqual([way]);
    },
  );

  it('is sent to from another network of the tenant by its own tag, and believes whose host that is', async () => {
    const other = port(8, { addresses: ['20.1.1.8'] });
    applied(near, hostState({ ...joined(nearHost), here: [...joined(nearHost).here, other] }));
    enter(other, 8);
    const there = hostState(joined(farHost));
    const beside = { address: '20.1.1.8', device: `vx${VNI}`, network: VNI, group: 0 };
    const routers = there.routers.map((r) => ({
      ...r,
      hosts: r.hosts.map((h) => ({ ...h, endpoints: [beside, ...h.endpoints] })),
    }));
    onFar(() => applied(far, { ...there, routers }));
    // Answers would go by the tunnel, which leads nowhere here.
    const [client, server] = datagrams(
      { namespace: 'box8', address: '20.1.1.8', port: 40_000 },
      { namespace: 'box3', address: at(3), port: 7000 },
    );
    transmit(client, MESSAGE, MESSAGE.length, 0);
    await expect.poll(() => read(server, Buffer.alloc(256))).toBe(MESSAGE.length);
    expect(seen('packets')).toContain(`${fabricPort(DB)} 20.1.1.8`);
    expect(seen('frames')).toContain(`${fabricPort(DB)} ${tagMac(LOCAL, DB)}`);
  });

  it('comes and goes without a packet lost of the others', async () => {
    applied(near, hostState(joined(nearHost)));
    onFar(() => applied(far, hostState(joined(farHost))));
    const pair = datagrams(
      { namespace: 'box2', address: at(2), port: 40_000 },
      { namespace: 'plain', address: PLAIN, port: 7000 },
    );
    await exchange(pair, 20);
    for (let i = 0; i < 20; i++) {
      const here = joined(nearHost).here.filter((_, n) => i % 2 === 1 || n !== 1);
      applied(near, hostState({ ...joined(nearHost), here }));
      await exchange(pair, 5);
    }
  });

  it('has its network again after an agent that starts anew, and what somebody takes of its tags is put right', async () => {
    near.close();
    near = openApplier();
    applied(near, hostState(joined(nearHost)), true);
    expect(await pinged(2, PLAIN)).toBe(true);
    expect(near.apply(hostState(joined(nearHost)), { verify: true })).toMatchObject({
      failed: [],
      repaired: [],
    });
    const program = /\bid (\d+) name contiv_vlan_out\b/.exec(sh(`tc filter show dev cv${ID} ingress`))?.[1];
    const { map_ids } = JSON.parse(sh(`bpftool -j prog show id ${program}`)) as { map_ids: number[] };
    const tags = map_ids.find((id) => sh(`bpftool map show id ${id}`).includes('contiv_vlan_tag'));
    const index = Number(/^\d+/.exec(sh(`ip -o link show cv${ID}`))?.[0]);
    const mapped = `0 0 0 0 0 0 0 0 0 0 255 255 ${at(4).replaceAll('.', ' ')}`;
    const key = `${[0, 8, 16, 24].map((bits) => (index >> bits) & 255).join(' ')} ${mapped}`;
    sh(`bpftool map delete id ${tags} key ${key}`);
    expect(await silent(4, PLAIN)).toBe(true);
    const { repaired } = applied(near, hostState(joined(nearHost)), true);
    expect(repaired).toEqual([`VLANs: restored VLAN ${DB} of ${at(4)} at cv${ID}`]);
    expect(await pinged(4, PLAIN)).toBe(true);
  });

  it('leaves nothing at the uplink when the network goes', () => {
    expect(sh('bridge fdb show dev fab0')).toContain(tagMac(LOCAL, WEB));
    applied(near, NOTHING, true);
    expect(sh('bridge fdb show dev fab0')).not.toMatch(
      new RegExp([WEB, DB].map((id) => tagMac(LOCAL, id)).join('|')),
    );
    expect(sh('tc filter show dev fab0 ingress')).not.toContain('pref 4789');
  });
});

describe('whoever means harm on the wire', () => {
  const MAC = '02:aa:aa:aa:aa:aa';
  const tagged = (id: number, frame: Buffer): Buffer =>
    Buffer.concat([frame.subarray(0, 12), short(0x8100), short(id), frame.subarray(12)]);
  const atHost = (...frames: Buffer[]): string =>
    inNamespace(namespacePath('fabric'), () => sendFrames('w-host1', ...frames));

  it('reaches a group by no tag but its own, whatever he is let do by another one', async () => {
    for (const [from, of] of [
      [PLAIN, at],
      [PLAIN6, six],
    ] as const) {
      const packet = (to: number): Buffer => udp(from, of(to), 777, 777, Buffer.from('x'));
      const frame = (id: number, to: number, mac: string): Buffer => {
        const made = ethernet(MAC, mac, packet(to));
        return tagged(id, made);
      };
      const before = [2, 4, 6].map((n) => received(n, from.includes(':')));
      atHost(
        // To the db by what the web's tag lets pass, and to the web by the network's.
        frame(WEB, 4, tagMac(LOCAL, WEB)),
        frame(WEB, 4, tagMac(LOCAL, DB)),
        frame(DB, 2, tagMac(LOCAL, DB)),
        frame(DB, 2, tagMac(LOCAL, WEB)),
        frame(ID, 2, vtepMac(LOCAL)),
        frame(ID, 4, tagMac(LOCAL, DB)),
        // To one of no group by a group's.
        frame(WEB, 6, tagMac(LOCAL, WEB)),
        frame(DB, 6, vtepMac(LOCAL)),
        // As they should.
        frame(WEB, 2, tagMac(LOCAL, WEB)),
        frame(DB, 4, tagMac(LOCAL, DB)),
        frame(ID, 6, vtepMac(LOCAL)),
      );
      await expect
        .poll(() => [2, 4, 6].map((n, i) => received(n, from.includes(':')) - (before[i] as number)))
        .toEqual([1, 1, 1]);
    }
  });

  it('is answered for a group by no other tag', async () => {
    inFabric(`nft '
table netdev answers {
  counter told { }
  counter told6 { }
  chain in {
    type filter hook ingress devices = { ${fabricPort(WEB)}, ${fabricPort(DB)} } priority 1;
    ether daddr ${MAC} ether type arp counter name told
    ether daddr ${MAC} ether type ip6 counter name told6
  }
}'`);
    const answers = (name: string): number =>
      Number(/packets (\d+)/.exec(inFabric(`nft list counter netdev answers ${name}`))?.[1]);
    const question = arp(1, { mac: MAC, address: PLAIN }, { mac: '00:00:00:00:00:00', address: at(4) });
    const broadcast = Buffer.concat([
      macBytes('ff:ff:ff:ff:ff:ff'),
      macBytes(MAC),
      short(0x0806),
      question.subarray(question.length - 28),
    ]);
    // As whoever makes sure that somebody is there still.
    const solicited = (id: number): Buffer =>
      ethernet(MAC, tagMac(LOCAL, id), solicitation({ mac: MAC, address: PLAIN6 }, six(4)));
    for (const id of [WEB, ID, DB]) atHost(tagged(id, broadcast), tagged(id, solicited(id)));
    await expect.poll(() => [answers('told'), answers('told6')]).toEqual([1, 1]);
  });

  it('gets in by no address of another host’s container but from a MAC address of that host’s', async () => {
    const from = (address: string, mac: string): Buffer =>
      tagged(WEB, ethernet(mac, tagMac(LOCAL, WEB), udp(address, at(2), 777, 777, Buffer.from('x'))));
    const before = received(2, false);
    atHost(
      from(at(3), MAC),
      from(at(3), tagMac(FAR, 7)),
      from(at(3), tagMac(LOCAL, DB)),
      from(at(4), tagMac(FAR, DB)),
      from(at(3), tagMac(FAR, DB)),
    );
    await expect.poll(() => received(2, false) - before).toBe(1);
    expect(inRouter('nft list counter inet contiv foreign')).toMatch(/packets ([4-9]|\d\d) /);
  });
});
