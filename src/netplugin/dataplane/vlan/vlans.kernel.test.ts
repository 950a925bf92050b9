import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { tag } from '../../../../lab/tagging.ts';
import {
  arriving,
  closeConnections,
  connection,
  datagrams,
  type End,
  exchange,
  MESSAGE,
} from '../../../../test/connections.ts';
import {
  applied,
  clean,
  enter,
  exit,
  forwarded,
  GATEWAYS,
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
import { ethernet, solicitation, udp } from '../../../../test/packet.ts';
import { atSwitch, joinSwitch, openPings, sendFrames } from '../../../../test/wire.ts';
import { addressBytes, macBytes } from '../../../linux/address.ts';
import { echoes } from '../../../linux/echo.ts';
import { received, send as transmit } from '../../../linux/libc.ts';
import { inNamespace, namespacePath } from '../../../linux/netns.ts';
import { short, solicitedMac, unsolicitedAdvertisement } from '../../../linux/packet.ts';
import { vtepMac } from '../../compile/deviceNames.ts';
import { NAMESERVER, NAMESERVER6 } from '../../constants.ts';
import type { Access, HostState, Port, RuleSet, Vlan } from '../../state.ts';
import { type Applier, openApplier } from '../applier.ts';

beforeAll(isolate);

const { id: ID, network: NETWORK, uplink: UPLINK, at, six } = VLAN;
const [PREFIX, PREFIX6] = VLAN.prefixes;
const FAR = PEERS[0] as string;
const PLAIN = at(200);
const PLAIN6 = six(200);
const OWN: Readonly<Record<string, string[]>> = { [LOCAL]: [at(91), six(91)], [FAR]: [at(92), six(92)] };

/** Of both hosts. */
const EXIT = exit({});

const vlanAt = (local: string) => vlanOf(local, OWN[local] as string[]);

const inBox = <T>(n: number, use: () => T): T => inNamespace(namespacePath(`box${n}`), use);
const onFar = <T>(use: () => T): T => inNamespace(namespacePath('host2'), use);
const onPlain = <T>(use: () => T): T => inNamespace(namespacePath('plain'), use);

/** Of a VXLAN network of the same tenant. */
const other = (n: number, more: Partial<Port> = {}): Port => port(n, { addresses: [`20.1.1.${n}`], ...more });

interface Host {
  readonly local: string;
  readonly peer: string;
  readonly ports: readonly Port[];
  /** Addresses of what runs at the peer, by network. */
  readonly there: readonly number[];
  readonly others?: readonly number[];
  readonly ruleSets?: readonly RuleSet[];
}

function hostState({ local, peer, ports, there, others = [], ruleSets = [] }: Host): HostState {
  const tenant = local === LOCAL ? 'default' : 'far';
  const base = state({
    tenant,
    local,
    ports,
    ruleSets,
    remotes: [{ address: '20.1.1.9', device: `vx${VNI}`, vtep: peer }],
  });
  const made = base.routers[0] as HostState['routers'][number];
  return {
    ...base,
    underlay: local,
    members: [peer],
    routers: [
      {
        ...made,
        vlans: [vlanAt(local)],
        subnets: [
          { prefix: PREFIX, network: NETWORK, device: `vl${ID}` },
          { prefix: PREFIX6, network: NETWORK, device: `vl${ID}` },
          { prefix: '20.1.1.0/24', network: VNI },
        ],
        gateways: [at(254), ...GATEWAYS],
        hosts: made.hosts.map((h) => ({
          ...h,
          vlans: [`vl${ID}`],
          endpoints: [
            ...[...there.map(at), ...there.map(six), ...(OWN[peer] as string[])].map((address) => ({
              address,
              device: `vl${ID}`,
              network: NETWORK,
              group: 0,
            })),
            ...others.map((n) => ({ address: `20.1.1.${n}`, device: `vx${VNI}`, network: VNI, group: 0 })),
          ],
        })),
      },
    ],
  };
}

let near: Applier;
let far: Applier;
const nearHost: Host = { local: LOCAL, peer: FAR, ports: [vlanPort(2), vlanPort(4)], there: [3] };
const farHost: Host = { local: FAR, peer: LOCAL, ports: [vlanPort(3)], there: [2, 4] };
const joined = (host: Host): Host => ({ ...host, ports: host.ports.map((p) => ({ ...p, joined: true })) });

beforeEach(() => {
  joinSwitch(UPLINK, { '': LOCAL, host2: FAR, plain: '192.0.2.200' });
  onPlain(() => {
    tag(UPLINK, 'lan', ID);
    sh(`ip addr add ${PLAIN}/24 dev lan; ip addr add ${PLAIN6}/64 dev lan nodad`);
  });
  near = openApplier();
  applied(near, NOTHING);
  far = onFar(openApplier);
  onFar(() => applied(far, NOTHING));
  applied(near, hostState(nearHost));
  onFar(() => applied(far, hostState(farHost)));
  for (const [i, p] of nearHost.ports.entries()) enter(p, [2, 4][i] as number);
  onFar(() => enter(farHost.ports[0] as Port, 3));
});

afterEach(() => {
  closeConnections();
  onFar(() => far?.close());
  near?.close();
  clean();
});

/** Of the family of the other end. */
function addressIn(where: number | 'plain', to: string): string {
  const v6 = to.includes(':');
  if (where === 'plain') return v6 ? PLAIN6 : PLAIN;
  if (isOther(where)) return `20.1.1.${where}`;
  return (v6 ? six : at)(where);
}
const isOther = (n: number): boolean => n === 6;
const { pinged, silent } = openPings(
  (where: number | 'plain', to) => ({
    namespace: where === 'plain' ? where : `box${where}`,
    address: addressIn(where, to),
  }),
  100,
);

/** Counts what comes from this host in the VLAN, at the switch. */
const watchTagged = (rule: string): string =>
  atSwitch(
    `nft 'table netdev see { chain in { type filter hook ingress device w-host1 priority 0; vlan id ${ID} ${rule}; }; }'`,
  );

function arp(
  operation: 1 | 2,
  from: { mac: string; address: string },
  to: { mac: string; address: string },
): Buffer {
  return Buffer.concat([
    short(1),
    short(0x0800),
    Buffer.from([6, 4]),
    short(operation),
    macBytes(from.mac),
    addressBytes(from.address),
    macBytes(to.mac),
    addressBytes(to.address),
  ]);
}

describe('a VLAN that is an infra network', () => {
  /** The host has its addresses itself. */
  function entered(given: Host, more: Partial<Vlan> = {}): HostState {
    const made = hostState(given);
    const own = OWN[given.local] as string[];
    const access: Access = {
      subnets: [PREFIX, PREFIX6, '20.1.1.0/24'],
      services: [],
      sources: [{ device: `vl${ID}`, addresses: own }],
      own,
    };
    return {
      ...made,
      exits: made.exits.map((exit) => ({ ...exit, access })),
      routers: made.routers.map((router) => ({
        ...router,
        vlans: (router.vlans ?? []).map((vlan) => ({ ...vlan, ...more, entered: true as const })),
        ...(more.gateways && {
          subnets: router.subnets.map((s) => (s.device ? { ...s, externalGateway: true as const } : s)),
          gateways: GATEWAYS,
        }),
      })),
    };
  }
  /** As after an upgrade: the routers had the addresses until then. */
  function enterBoth(more: Partial<Vlan> = {}): void {
    applied(near, entered(joined(nearHost), more));
    onFar(() => applied(far, entered(joined(farHost), more)));
  }
  /** From the host's own namespace, as whatever runs there. */
  async function reached(onHost: <T>(use: () => T) => T, to: string): Promise<boolean> {
    const from = to.includes(':') ? EXIT.hostAddress6 : EXIT.hostAddress;
    for (let i = 0; i < 60; i++)
      if (await onHost(() => echoes({ from, to, size: 100, patience: 500 }))) return true;
    return false;
  }
  const here = <T>(use: () => T): T => use();

  it('has the hosts in it: they, machines and containers reach each other, and nobody comes further', async () => {
    onPlain(() => {
      sh("nft 'table arp see { chain in { type filter hook input priority 0; }; }'");
      const asks = `arp operation request arp saddr ether ${vtepMac(LOCAL)} arp daddr ip ${PLAIN}`;
      for (const by of [at(91), `!= ${at(91)}`])
        sh(`nft 'add rule arp see in ${asks} arp saddr ip ${by} counter'`);
    });
    enterBoth();
    for (const [to, theirs] of [
      [PLAIN, at(92)],
      [PLAIN6, six(92)],
    ] as const)
      for (const other of [to, theirs]) expect([other, await reached(here, other)]).toEqual([other, true]);
    for (const own of [at(91), six(91)]) {
      expect([own, await reached(onFar, own)]).toEqual([own, true]);
      for (const place of ['plain', 2, 3] as const)
        expect([place, own, await pinged(place, own)]).toEqual([place, own, true]);
    }
    // Of containers, also of another host's.
    for (const to of [at(2), at(3), six(2), six(3)])
      expect([to, await reached(here, to)]).toEqual([to, true]);
    expect(onPlain(() => sh(`ip neigh show ${at(91)}`))).toContain(vtepMac(LOCAL));
    expect(sh('ip -o addr show')).toContain(`${at(91)}/32`);
    // It asks on the wire by that address, and by no other one that its router has.
    const [asked, oddly] = onPlain(() => sh('nft list chain arp see in')).match(/packets \d+/g) ?? [];
    expect(asked).not.toBe('packets 0');
    expect(oddly).toBe('packets 0');
    // A machine that knows the way to the pair of host and router.
    onPlain(() => sh(`ip route add ${EXIT.hostAddress}/32 via ${at(2)} dev lan`));
    expect(await silent('plain', EXIT.hostAddress)).toBe(true);
    // Whoever he says he is.
    sh(
      `nft 'table ip see { chain in { type filter hook prerouting priority -400; iifname ${EXIT.device} udp dport 4242 counter; }; }'`,
    );
    const sent = (to: string): Buffer =>
      ethernet(vtepMac(FAR), vtepMac(LOCAL), udp(at(3), to, 4242, 4242, Buffer.from('x')));
    onPlain(() => sendFrames('lan', sent(EXIT.hostAddress), sent(EXIT.routerAddress), sent(at(91))));
    await expect.poll(() => sh('nft list chain ip see in')).toContain('packets 1 ');
    applied(near, hostState(joined(nearHost)));
    expect(sh('ip -o addr show')).not.toContain(`${at(91)}/32`);
  });

  it('has them in it also where its gateway is a router of the fabric’s own', async () => {
    enterBoth({ gateways: [PLAIN, PLAIN6] });
    for (const to of [PLAIN, PLAIN6, at(92), six(92), at(3), six(3)])
      expect([to, await reached(here, to)]).toEqual([to, true]);
    for (const own of [at(91), six(91)])
      for (const place of ['plain', 2, 3] as const)
        expect([place, own, await pinged(place, own)]).toEqual([place, own, true]);
  });

  it('writes nothing where nothing is another, and puts right what is', async () => {
    enterBoth();
    const wanted = entered(joined(nearHost));
    applied(near, wanted, true);
    expect(applied(near, wanted, true)).toMatchObject({ writes: 0, repaired: [] });
    inRouter(`nft 'delete element arp contiv asked_by { "vl${ID}" }'`);
    expect(applied(near, wanted, true).repaired.join()).toContain('asked_by');
    expect(inRouter('nft list map arp contiv asked_by')).toContain(at(91));
  });
});

describe('a container of a VLAN network', () => {
  it('and a plain machine on the VLAN reach each other, untouched by what the host has untagged', async () => {
    expect(await pinged(2, PLAIN)).toBe(true);
    expect(await pinged('plain', at(2))).toBe(true);
    expect(onPlain(() => sh('ip neigh show dev lan'))).toContain(`${at(2)} lladdr ${vtepMac(LOCAL)}`);
    expect(await echoes({ from: LOCAL, to: FAR, size: 60, patience: 5000 })).toBe(true);
    // The whole MTU of the uplink, in one packet.
    expect(await pinged(2, PLAIN, 1500)).toBe(true);
  });

  it('reaches containers of its network on its host and on others, by the VLAN', async () => {
    expect(await pinged(2, at(4))).toBe(true);
    expect(await pinged(2, at(3))).toBe(true);
    expect(await pinged(3, at(4))).toBe(true);
    watchTagged('counter');
    for (let i = 0; i < 3; i++) expect(await pinged(2, at(3))).toBe(true);
    expect(
      Number(/packets (\d+)/.exec(atSwitch('nft list chain netdev see in'))?.[1]),
    ).toBeGreaterThanOrEqual(3);
  });

  it('is answered for on the wire by its own host only, and nobody else is', async () => {
    const asked = (address: string): string => {
      try {
        return onPlain(() => sh(`arping -c 1 -w 1 -I lan ${address} 2>&1`));
      } catch (error) {
        return String((error as { stdout: unknown }).stdout);
      }
    };
    expect(asked(at(3)).toLowerCase()).toContain(vtepMac(FAR));
    expect(asked(at(3)).toLowerCase()).not.toContain(vtepMac(LOCAL));
    for (const address of [at(254), at(77), NAMESERVER])
      expect(asked(address).toLowerCase()).not.toMatch(/from|reply/);
    expect(asked(at(91)).toLowerCase()).toContain(vtepMac(LOCAL));
  });

  it('that moves is found at once by who had spoken to it', async () => {
    expect(await pinged('plain', at(2))).toBe(true);
    const after = { ...joined(nearHost), ports: [vlanPort(4, { joined: true })], there: [3, 2] };
    applied(near, hostState(after));
    onFar(() => {
      applied(
        far,
        hostState({ ...farHost, ports: [vlanPort(3, { joined: true }), vlanPort(2)], there: [4] }),
      );
    });
    expect(onPlain(() => sh('ip neigh show dev lan'))).toContain(`${at(2)} lladdr ${vtepMac(FAR)}`);
  });

  it('does all of that by IPv6 too: neighbours are found on the wire, and those who move are found at once', async () => {
    expect(await pinged(2, PLAIN6)).toBe(true);
    expect(await pinged('plain', six(2))).toBe(true);
    expect(await pinged(2, PLAIN6, 1500)).toBe(true);
    const known = (): string => onPlain(() => sh('ip -6 neigh show dev lan'));
    expect(known()).toContain(`${six(2)} lladdr ${vtepMac(LOCAL)}`);
    for (const [from, to] of [
      [2, 4],
      [2, 3],
      [3, 4],
    ] as const)
      expect([from, to, await pinged(from, six(to))]).toEqual([from, to, true]);
    expect(await pinged('plain', six(3))).toBe(true);
    expect(known()).toContain(`${six(3)} lladdr ${vtepMac(FAR)}`);
    for (const nobodys of [six(77), six(254)]) expect(await silent('plain', nobodys)).toBe(true);
    // Who asks for it speaks to a group, which the uplink takes.
    expect(sh(`bridge fdb show dev ${UPLINK}`)).toContain(solicitedMac(six(2)));

    const after = { ...joined(nearHost), ports: [vlanPort(4, { joined: true })], there: [3, 2] };
    applied(near, hostState(after));
    expect(sh(`bridge fdb show dev ${UPLINK}`)).not.toContain(solicitedMac(six(2)));
    onFar(() => {
      applied(
        far,
        hostState({ ...farHost, ports: [vlanPort(3, { joined: true }), vlanPort(2)], there: [4] }),
      );
    });
    await expect.poll(known).toContain(`${six(2)} lladdr ${vtepMac(FAR)}`);
  });

  it('is answered for by IPv6 again where somebody takes its entry, or the cable was out', async () => {
    const settled = hostState(joined(nearHost));
    applied(near, settled, true);
    expect(await pinged('plain', six(2))).toBe(true);
    const forget = (): string => onPlain(() => sh('ip -6 neigh flush dev lan'));
    inRouter(`ip neigh del proxy ${six(2)} dev vl${ID}`);
    forget();
    expect(await silent('plain', six(2))).toBe(true);
    const { repaired } = applied(near, settled, true);
    expect(repaired).toContain(`contiv-default: restored proxy ${six(2)} dev vl${ID}`);
    expect(await pinged('plain', six(2))).toBe(true);
    sh(`ip link set ${UPLINK} down; ip link set ${UPLINK} up`);
    forget();
    expect(await pinged('plain', six(2))).toBe(true);
    // Who knows it asks it again, by its address and not by the group.
    onPlain(() => sh(`ip -6 neigh replace ${six(2)} lladdr ${vtepMac(LOCAL)} dev lan nud probe`));
    await expect.poll(() => onPlain(() => sh(`ip -6 neigh show ${six(2)}`))).toContain('REACHABLE');
  });

  it('has its network again after an agent that starts anew, with nothing written to routers', async () => {
    near.close();
    near = openApplier();
    expect(await pinged(2, PLAIN)).toBe(true);
    const report = near.apply(hostState(joined(nearHost)), { verify: false });
    expect(report).toMatchObject({ failed: [], repaired: [], created: [] });
    expect(await pinged(2, PLAIN)).toBe(true);
    expect(near.apply(hostState(joined(nearHost)), { verify: true })).toMatchObject({
      failed: [],
      repaired: [],
    });
  });

  it('gets its program back where somebody takes it', async () => {
    applied(near, hostState(joined(nearHost)), true);
    sh('tc qdisc del dev fab0 clsact');
    expect(await silent(2, PLAIN)).toBe(true);
    const { repaired } = applied(near, hostState(joined(nearHost)), true);
    expect(repaired).toContain('the program of VLANs at fab0 was gone');
    expect(await pinged(2, PLAIN)).toBe(true);
  });

  it('gets back what its programs go by where somebody takes or adds to that', async () => {
    applied(near, hostState(joined(nearHost)), true);
    const program = /\bid (\d+) name contiv_vlan_in\b/.exec(sh('tc filter show dev fab0 ingress'))?.[1];
    const { map_ids } = JSON.parse(sh(`bpftool -j prog show id ${program}`));
    const entry = (id: number): string => `id ${map_ids[0]} key ${id} 0 0 0`;
    sh(`bpftool map delete ${entry(ID)}; bpftool map update ${entry(7)} value 1${' 0'.repeat(11)}`);
    expect(await silent(2, PLAIN)).toBe(true);
    const { repaired } = applied(near, hostState(joined(nearHost)), true);
    expect(repaired).toEqual([
      'VLANs: removed VLAN 7 of contiv_vlan_in',
      `VLANs: restored VLAN ${ID} from fab0 to cv${ID}`,
    ]);
    expect(await pinged(2, PLAIN)).toBe(true);
    expect(JSON.parse(sh(`bpftool -j map dump id ${map_ids[0]}`))).toHaveLength(1);
    expect(near.apply(hostState(joined(nearHost)), { verify: true })).toMatchObject({
      failed: [],
      repaired: [],
    });
  });

  it('leaves nothing at the uplink when the last network goes, and of others what was there', async () => {
    tag(UPLINK, 'theirs', 7);
    applied(near, NOTHING, true);
    expect(sh('ip -o link')).not.toContain(`cv${ID}`);
    expect(sh('tc filter show dev fab0 ingress')).not.toContain('pref 4789');
    expect(sh('tc filter show dev fab0 ingress')).toMatch(/bpf.*tagging/);
    expect(sh('bridge fdb show dev fab0')).not.toContain(vtepMac(LOCAL));
  });
});

describe('an established connection', () => {
  const CLIENT = 40_000;
  const SERVER = 7000;
  const end = (n: number | 'plain', address: string, number: number): End => ({
    namespace: n === 'plain' ? n : `box${n}`,
    address,
    port: number,
  });
  /** How many packets went the router's way meanwhile. */
  const through = async (act: () => Promise<void>): Promise<number> => {
    const before = forwarded();
    await act();
    return forwarded() - before;
  };
  const settle = (): void => {
    applied(near, hostState(joined(nearHost)));
    onFar(() => applied(far, hostState(joined(farHost))));
  };
  /** Both ways, but for what has the kernel ask whether the next hop is there still. */
  const TIMES = 200;
  const FEW = TIMES / 2;

  it.each([
    ['a machine on the VLAN, by IPv4', () => connection(end(2, at(2), CLIENT), end('plain', PLAIN, SERVER))],
    [
      'a machine on the VLAN, by IPv6',
      () => connection(end(2, six(2), CLIENT), end('plain', PLAIN6, SERVER)),
    ],
    ['a container that it asks', () => connection(end('plain', PLAIN, CLIENT), end(2, at(2), SERVER))],
    ['another host’s container', () => connection(end(2, at(2), CLIENT), end(3, at(3), SERVER))],
  ] as const)('with %s goes past the router', async (_, open) => {
    settle();
    const pair = open();
    await exchange(pair, 5);
    expect(await through(() => exchange(pair, TIMES))).toBeLessThan(FEW);
  });

  it('of UDP with a machine does once conntrack takes it for a stream', async () => {
    settle();
    const pair = datagrams(end(2, at(2), CLIENT), end('plain', PLAIN, SERVER));
    await expect
      .poll(() => through(() => exchange(pair, 20)), { timeout: 20_000, interval: 200 })
      .toBeLessThan(20);
  });

  it('goes on where the machine has another MAC address by now, of which it has told nobody', async () => {
    settle();
    for (const [name, value] of [
      ['base_reachable_time_ms', 1000],
      ['delay_first_probe_time', 1],
      ['retrans_time_ms', 100],
    ] as const)
      inRouter(`sysctl -qw net.ipv4.neigh.vl${ID}.${name}=${value}`);
    const pair = datagrams(end(2, at(2), CLIENT), end('plain', PLAIN, SERVER));
    const [client, server] = pair;
    const busy = () => through(() => exchange(pair, 20));
    await expect.poll(busy, { timeout: 20_000, interval: 200 }).toBeLessThan(20);
    // From now on the kernel asks for the machine only where it is made to.
    const [, mac] = /lladdr (\S+)/.exec(inRouter(`ip neigh show ${PLAIN} dev vl${ID}`)) ?? [];
    inRouter(`ip neigh replace ${PLAIN} lladdr ${mac} dev vl${ID} nud stale`);
    // It knows where the container is, and so does not ask, by which it would tell where it is itself.
    onPlain(() =>
      sh(
        `ip link set lan address 02:bb:bb:bb:bb:bb; ip neigh replace ${at(2)} lladdr ${vtepMac(LOCAL)} dev lan nud permanent`,
      ),
    );
    // As a stream that never rests, which nobody's silence slows down.
    const buffer = Buffer.alloc(256);
    const arrived = (): boolean => {
      transmit(client, MESSAGE, MESSAGE.length, 0);
      return typeof received(server, buffer) === 'number';
    };
    expect(arrived()).toBe(false);
    await expect.poll(arrived, { timeout: 40_000, interval: 10 }).toBe(true);
    while (typeof received(server, buffer) === 'number');
    await expect.poll(busy, { timeout: 20_000, interval: 200 }).toBeLessThan(20);
  }, 150_000);

  it('takes nothing by the address of another host’s container from a machine', async () => {
    settle();
    const pair = datagrams(end(2, at(2), CLIENT), end(3, at(3), SERVER));
    await expect
      .poll(() => through(() => exchange(pair, 20)), { timeout: 20_000, interval: 200 })
      .toBeLessThan(20);
    const say = (mac: string, words: string): string =>
      onPlain(() =>
        sendFrames(
          'lan',
          ethernet(mac, vtepMac(LOCAL), udp(at(3), at(2), SERVER, CLIENT, Buffer.from(words))),
        ),
      );
    const foreign = (): number =>
      Number(/packets (\d+)/.exec(inRouter('nft list counter inet contiv foreign'))?.[1]);
    const before = foreign();
    say('02:aa:aa:aa:aa:aa', 'forged');
    await expect.poll(foreign, { timeout: 10_000 }).toBeGreaterThan(before);
    transmit(pair[1], MESSAGE, MESSAGE.length, 0);
    expect(await arriving(pair[0])).toBe('hello');
  }, 120_000);
});

describe('networks of one tenant', () => {
  it('of VLAN and VXLAN reach each other by the router, on one host and between hosts', async () => {
    applied(near, hostState({ ...joined(nearHost), ports: [...joined(nearHost).ports, other(6)] }));
    enter(other(6), 6);
    onFar(() => applied(far, hostState({ ...joined(farHost), others: [6] })));
    expect(await pinged(2, '20.1.1.6')).toBe(true);
    expect(await pinged(6, at(3))).toBe(true);
    expect(await pinged(3, '20.1.1.6')).toBe(true);
    // A machine on the wire is in its network, and no further.
    onPlain(() => sh(`ip route add 20.1.1.0/24 via ${at(91)}`));
    expect(await silent('plain', '20.1.1.6')).toBe(true);
  });

  it('are judged by policy, also what comes from the wire', async () => {
    const deny: RuleSet = {
      id: 1,
      name: 'in default: none',
      narrowed: [],
      decisions: [{ group: 0, rule: 1, action: 'deny', key: 'default:none:1' }],
    };
    const ports = [vlanPort(2, { joined: true, judgedIn: 1 }), vlanPort(4, { joined: true })];
    applied(near, hostState({ ...nearHost, ports, ruleSets: [deny] }));
    expect(await silent('plain', at(2))).toBe(true);
    expect(await silent('plain', six(2))).toBe(true);
    expect(await silent(3, at(2))).toBe(true);
    expect(await pinged('plain', at(4))).toBe(true);
    expect(await pinged('plain', six(4))).toBe(true);
    expect(await pinged(2, PLAIN)).toBe(true);
  });
});

describe('whoever means harm', () => {
  const receivedIn = (n: number): number =>
    Number(inBox(n, () => sh("awk '/^Udp:/ { n = $2 } END { print n }' /proc/net/snmp")).trim()) +
    Number(inBox(n, () => sh("awk '/^Udp:/ { n = $3 } END { print n }' /proc/net/snmp")).trim());
  const MAC = '02:aa:aa:aa:aa:aa';
  const datagram = (from: string, to: string): Buffer => udp(from, to, 777, 777, Buffer.from('x'));
  const frame = (from: string, to: string, mac = vtepMac(LOCAL)): Buffer =>
    ethernet(MAC, mac, datagram(from, to));
  /** Frames in order: what was sent before has arrived once this one has. */
  const arrives = async (n: number, use: () => void, more: number): Promise<void> => {
    const before = receivedIn(n);
    use();
    await expect.poll(() => receivedIn(n)).toBe(before + more);
  };

  it('on the wire gets in by no address of ours, of another network, or of a gateway', async () => {
    await arrives(
      2,
      () => {
        onPlain(() =>
          sendFrames(
            'lan',
            ...[
              at(4),
              at(2),
              at(3),
              at(254),
              at(91),
              '20.1.1.6',
              NAMESERVER,
              '100.127.0.0',
              '8.8.8.8',
              '127.0.0.1',
            ].map((from) => frame(from, at(2))),
            frame(at(201), at(2)),
          ),
        );
      },
      1,
    );
    expect(inRouter('nft list counter inet contiv foreign')).toMatch(/packets ([89]|1\d) /);
  });

  it('on the wire gets in by no IPv6 address of ours or of outside, and takes none over by neighbour discovery', async () => {
    const ours = () => inRouter('ip -6 neigh show nud permanent | sort');
    const before = ours();
    const lies = [six(2), six(3), six(4), six(91), six(92), '2001:db8::1', NAMESERVER6];
    await arrives(
      2,
      () => {
        onPlain(() =>
          sendFrames(
            'lan',
            ...lies.map((from) => frame(from, six(2))),
            ...lies.map((address) =>
              ethernet(MAC, vtepMac(LOCAL), solicitation({ mac: MAC, address }, six(2))),
            ),
            ...lies.map((address) => unsolicitedAdvertisement(MAC, address)),
            frame(at(201), at(2)),
          ),
        );
      },
      1,
    );
    const received6 = (): string =>
      inBox(2, () => sh("awk '/^Udp6(InDatagrams|NoPorts)/ { n += $2 } END { print n }' /proc/net/snmp6"));
    expect(received6().trim()).toBe('0');
    expect(ours()).toBe(before);
    expect(inRouter(`ip -6 neigh show dev vl${ID} nud all`)).not.toContain(MAC);
    expect(await pinged('plain', six(2))).toBe(true);
    expect(await pinged(2, six(3))).toBe(true);
  });

  it('on the wire is learned by IPv6 up to a bound', async () => {
    const many = Array.from({ length: 400 }, (_, i) =>
      ethernet(
        MAC,
        vtepMac(LOCAL),
        solicitation({ mac: MAC, address: `fd00:100::1:${i.toString(16)}` }, six(2)),
      ),
    );
    onPlain(() => sendFrames('lan', ...many.slice(0, 200)));
    onPlain(() => sendFrames('lan', ...many.slice(200)));
    const learned = () =>
      inRouter(`ip -6 neigh show dev vl${ID} nud all`)
        .split('\n')
        .filter((l) => l.includes(MAC)).length;
    await expect.poll(learned).toBeGreaterThan(100);
    expect(learned()).toBeLessThanOrEqual(256);
  });

  it('on the wire gets in by neither two tags nor the tag of another VLAN', async () => {
    const tagged = (ids: number[], inner: Buffer): Buffer => {
      const bytes = Buffer.concat([
        macBytes(vtepMac(LOCAL)),
        macBytes(MAC),
        ...ids.flatMap((id) => [short(0x8100), short(id)]),
        short(0x0800),
        inner,
      ]);
      return bytes;
    };
    const packet = datagram(at(201), at(2));
    await arrives(
      2,
      () => {
        onPlain(() =>
          sendFrames(
            UPLINK,
            tagged([100, 100], packet),
            tagged([200, 100], packet),
            tagged([100, 200], packet),
            tagged([200], packet),
            tagged([], packet),
            tagged([100], packet),
          ),
        );
      },
      1,
    );
  });

  it('on the wire changes nothing of what neighbours are ours, and nobody fills the table beyond the bound', async () => {
    const ours = () => inRouter('ip neigh show nud permanent | sort');
    const before = ours();
    const to = { mac: vtepMac(LOCAL), address: at(2) };
    const lies = [at(2), at(3), at(4), at(91), at(92), at(254), '20.1.1.6', '100.127.0.0'].flatMap(
      (address) =>
        ([1, 2] as const).map((operation) =>
          ethernet(MAC, vtepMac(LOCAL), arp(operation, { mac: MAC, address }, to), { type: 0x0806 }),
        ),
    );
    onPlain(() => sendFrames('lan', ...lies));
    expect(await pinged('plain', at(2))).toBe(true);
    expect(ours()).toBe(before);
    expect(inRouter(`ip neigh show dev vl${ID}`)).not.toContain(MAC);
    // A wider subnet, so that there are more addresses than the bound.
    const wide = hostState(joined(nearHost));
    const [made] = wide.routers;
    if (made === undefined) throw new Error('no router');
    const subnets = [{ prefix: '10.100.0.0/16', network: NETWORK, device: `vl${ID}` }];
    applied(near, {
      ...wide,
      routers: [{ ...made, subnets, vlans: [{ ...vlanAt(LOCAL), prefixes: ['10.100.0.0/16'] }] }],
    });
    const many = Array.from({ length: 600 }, (_, i) =>
      ethernet(MAC, vtepMac(LOCAL), arp(1, { mac: MAC, address: `10.100.${1 + (i >> 8)}.${i & 255}` }, to), {
        type: 0x0806,
      }),
    );
    onPlain(() => sendFrames('lan', ...many.slice(0, 300)));
    onPlain(() => sendFrames('lan', ...many.slice(300)));
    const portMac = (): string =>
      /ether (\S+)/.exec(inRouter(`ip link show ${vlanPort(2).device}`))?.[1] ?? '';
    const unsought = (): number =>
      Number(/packets (\d+)/.exec(inRouter('nft list counter inet contiv unsought'))?.[1]);
    const learned = () =>
      inRouter(`ip neigh show dev vl${ID} nud all`)
        .split('\n')
        .filter((l) => l.includes(MAC)).length;
    await expect.poll(learned).toBeGreaterThan(100);
    expect(learned()).toBeLessThanOrEqual(256);
    inBox(2, () =>
      sendFrames(
        'eth0',
        ...Array.from({ length: 300 }, (_, i) =>
          ethernet(vlanPort(2).mac, portMac(), datagram(at(2), `10.100.${8 + (i >> 8)}.${i & 255}`)),
        ),
      ),
    );
    await expect.poll(unsought).toBeGreaterThan(0);
    const asked = inRouter(`ip neigh show dev vl${ID} nud all`).match(/^10\.100\.[89]\./gm) ?? [];
    expect(asked.length).toBeLessThanOrEqual(256);
  });

  it('in a container sends no tags', async () => {
    const packet = ethernet(vlanPort(2).mac, vtepMac(LOCAL), datagram(at(2), PLAIN), { vlan: ID });
    watchTagged('ip protocol udp counter');
    inBox(2, () => sendFrames('eth0', packet));
    expect(await pinged(2, PLAIN)).toBe(true);
    expect(atSwitch('nft list chain netdev see in')).toContain('packets 0 ');
  });
});
