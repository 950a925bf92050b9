/**
 * What the host's table lets pass, from real neighbours: on one wire with this host are another host of ours and a stranger;
 * others' containers are attached here in several ways.
 *
 *   wire .2 .9 --eth0-- .1 this host --vx1001-- router of tenant default, 20.1.1.2
 *   box-DEVICE --eth0-- DEVICE --+ +-- swarm0: another program's tunnel on the same port
 */
import net from 'node:net';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { applied, clean, inRouter, NOTHING, state, VNI } from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { ethernet, udp, vxlan } from '../../../test/packet.ts';
import { listConnections } from '../../linux/conntrack.ts';
import { NETLINK_NETFILTER, openNetlink } from '../../linux/netlink.ts';
import { bindPort, createNamespace, inNamespace, namespacePath } from '../../linux/netns.ts';
import { vtepMac } from '../compile/deviceNames.ts';
import type { HostState } from '../state.ts';
import { type Applier, listRouters, openApplier } from './applier.ts';
import { refuseWhileUsed, removeFromHost } from './remove.ts';

/** On the wire: this host, another of ours, a stranger; and the broadcast or multicast address that leads to this host. */
const WIRE = {
  IPv4: { own: '192.0.2.1', member: '192.0.2.2', stranger: '192.0.2.9', length: 24 },
  IPv6: { own: '2001:db8::1', member: '2001:db8::2', stranger: '2001:db8::9', length: 64 },
} as const;
type Family = keyof typeof WIRE;
const FAMILIES = Object.keys(WIRE) as Family[];
/** Number of the other program's network. */
const SWARM = 4097;
const CONTROL_PORT = 9999;
const OTHER_PORT = 8081;
const FRAMES = 20;

/** Docker's bridge, one that a user has named, and a veth without a bridge. */
const DEVICES = ['docker0', 'lan5', 'cali1'] as const;
const ends = (device: string, family: Family): { host: string; box: string; all: string } => {
  const n = DEVICES.indexOf(device as (typeof DEVICES)[number]);
  return family === 'IPv4'
    ? { host: `172.2${n}.0.1`, box: `172.2${n}.0.2`, all: `172.2${n}.255.255` }
    : { host: `fd00:${n}::1`, box: `fd00:${n}::2`, all: 'ff02::1' };
};

const at = (name: string, command: string): string => inNamespace(namespacePath(name), () => sh(command));

/** A container in tenant default, by an underlay of the family. */
function given(family: Family): HostState {
  const { own, member } = WIRE[family];
  const device = `vx${VNI}`;
  const remotes = ['20.1.1.9', 'fd00:1::9'].map((address) => ({ address, device, vtep: member }));
  const { routers, ...rest } = state({ remotes });
  const mtu = family === 'IPv6' ? 1430 : 1450;
  const tunnels = [{ vni: VNI, device, local: own, mac: vtepMac(own), mtu }];
  const guarded = FAMILIES.flatMap((f) => [WIRE[f].own, WIRE[f].member]).map((address) => ({
    address,
    protocol: 'tcp' as const,
    port: CONTROL_PORT,
  }));
  return {
    ...rest,
    routers: routers.map((r) => ({ ...r, tunnels })),
    guarded,
    underlay: own,
    members: [member],
  };
}

let applier: Applier;
const servers: net.Server[] = [];

/** A namespace that is attached by the device. */
function attach(device: string): void {
  const name = `box-${device}`;
  createNamespace(name);
  const port = device === 'cali1' ? device : `p-${device}`;
  sh(`ip link add ${port} type veth peer name eth0 netns ${name}; ip link set ${port} up`);
  if (port !== device)
    sh(`ip link add ${device} type bridge; ip link set ${device} up; ip link set ${port} master ${device}`);
  at(name, 'ip link set lo up; ip link set eth0 up');
  for (const family of FAMILIES) {
    const { host, box } = ends(device, family);
    const length = family === 'IPv4' ? 16 : 64;
    sh(`ip addr add ${host}/${length} dev ${device} ${family === 'IPv6' ? 'nodad' : ''}`);
    at(name, `ip addr add ${box}/${length} dev eth0 ${family === 'IPv6' ? 'nodad' : ''}`);
    at(name, `ip route add default via ${host}`);
  }
}

function serve(fd: number): Promise<void> {
  const server = net.createServer((socket) => socket.destroy());
  servers.push(server);
  return new Promise((done) => server.listen({ fd }, done));
}

beforeAll(async () => {
  isolate();
  createNamespace('wire');
  sh('sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1');
  sh('ip link add eth0 type veth peer name eth0 netns wire; ip link set eth0 up');
  at('wire', 'ip link set lo up; ip link set eth0 up');
  for (const family of FAMILIES) {
    const { own, member, stranger, length } = WIRE[family];
    const flags = family === 'IPv6' ? 'nodad' : '';
    sh(`ip addr add ${own}/${length} dev eth0 ${flags}`);
    for (const address of [member, stranger])
      at('wire', `ip addr add ${address}/${length} dev eth0 ${flags}`);
  }
  at(
    'wire',
    `nft 'table inet seen { counter frames { }; chain in { type filter hook prerouting priority -300; udp dport 4789 counter name frames; }; }'`,
  );
  for (const device of DEVICES) attach(device);
  // As Docker has it for its bridges.
  sh(
    `nft 'table inet docker { chain out { type nat hook postrouting priority 100; oifname "eth0" masquerade; }; }'`,
  );
  for (const [i, { own }] of Object.values(WIRE).entries())
    sh(`ip link add swarm${i} type vxlan id ${SWARM} local ${own} dstport 4789; ip link set swarm${i} up`);
  for (const port of [CONTROL_PORT, OTHER_PORT])
    for (const address of ['0.0.0.0', '::']) {
      await serve(bindPort('tcp', address, port));
      await serve(inNamespace(namespacePath('wire'), () => bindPort('tcp', address, port)));
    }
  applier = openApplier();
});
afterAll(() => {
  for (const server of servers) server.close();
  clean();
});

interface Link {
  readonly address: string;
  readonly stats64: { readonly rx: { readonly packets: number } };
}
const linkOf = (device: string, run: (command: string) => string = sh): Link =>
  JSON.parse(run(`ip -j -s link show ${device}`))[0] as Link;
const packetsOf = (listing: string): number => Number(/packets (\d+)/.exec(listing)?.[1]);

/** What has come to the tenant's tunnel, to the other program's, and of frames to the wire. */
const COUNTS = {
  tunnel: () => linkOf(`vx${VNI}`, inRouter).stats64.rx.packets,
  swarm: () => linkOf('swarm0').stats64.rx.packets + linkOf('swarm1').stats64.rx.packets,
  wire: () => packetsOf(at('wire', 'nft list counter inet seen frames')),
};

/** Pings in frames that look as the other host's, to the container here: so many by each of the ways. */
function send(
  name: string,
  ways: readonly (readonly [from: string, to: string])[],
  { vni = VNI, count = FRAMES }: { vni?: number; count?: number } = {},
): void {
  const mac = linkOf('eth0', (command) => at(name, command)).address;
  const next = linkOf(name === 'wire' ? 'eth0' : name.slice('box-'.length)).address;
  const frames = ways.flatMap(([from, to]) => {
    const { own, member } = WIRE[from.includes(':') ? 'IPv6' : 'IPv4'];
    const ping = vxlan({
      vni,
      from: { mac: vtepMac(member), address: '20.1.1.9' },
      to: { mac: vtepMac(own), address: '20.1.1.2' },
    });
    return Array.from({ length: count }, (_, i) =>
      ethernet(mac, next, udp(from, to, 50_000 + i, 4789, ping)).toString('hex'),
    );
  });
  at(
    name,
    `${process.execPath} --disable-warning=ExperimentalWarning test/frames.ts eth0 ${frames.join(' ')}`,
  );
}

/** How many have come once what the other host sends after them has. */
async function arrived(family: Family, where: keyof typeof COUNTS, sending: () => void): Promise<number> {
  const { own, member } = WIRE[family];
  const before = COUNTS[where]();
  sending();
  const passed = COUNTS.tunnel();
  send('wire', [[member, own]], { count: 1 });
  await vi.waitFor(() => expect(COUNTS.tunnel()).toBeGreaterThan(passed), 20_000);
  return COUNTS[where]() - before - (where === 'tunnel' ? 1 : 0);
}

/** Which of these take a connection: `192.0.2.1 8081`. */
function reached(name: string, addresses: readonly string[], ports: readonly number[]): string[] {
  const tries = addresses.flatMap((a) => ports.map((p) => [a, p] as const));
  const commands = tries.map(
    ([a, p]) => `{ timeout 3 bash -c ': > /dev/tcp/${a}/${p}' 2>/dev/null && echo ${a} ${p}; } &`,
  );
  return at(name, `${commands.join(' ')} wait`)
    .trim()
    .split('\n')
    .sort();
}

const refused = (): number => packetsOf(sh('nft list counter inet contiv refused'));
const strangers = (): number => packetsOf(sh('nft list counter inet contiv strangers'));

describe.each(FAMILIES)('with an underlay of %s', (family) => {
  const { own, member, stranger } = WIRE[family];
  beforeAll(() => void applied(applier, given(family)));

  it('takes frames of another host of ours, and none of a stranger on the same wire', async () => {
    expect(await arrived(family, 'tunnel', () => send('wire', [[member, own]]))).toBe(FRAMES);
    const before = strangers();
    expect(await arrived(family, 'tunnel', () => send('wire', [[stranger, own]]))).toBe(0);
    expect(strangers() - before).toBe(FRAMES);
  });

  it("leaves another program's tunnels on the same port alone, whoever its hosts are", async () => {
    const sending = () => send('wire', [[stranger, own]], { vni: SWARM });
    expect(await arrived(family, 'swarm', sending)).toBe(FRAMES);
  });

  it.each(DEVICES)('takes no frame from a container at %s, whatever source it gives', async (device) => {
    const { host, box, all } = ends(device, family);
    const name = `box-${device}`;
    const ways = [box, member, own, stranger].flatMap((from) =>
      [own, host, all].map((to) => [from, to] as const),
    );
    expect(await arrived(family, 'tunnel', () => send(name, ways))).toBe(0);
    expect(await arrived(family, 'swarm', () => send(name, ways, { vni: SWARM }))).toBe(0);
  });

  it.each(DEVICES)(
    'lets a container at %s send no frame to another host, which would take it for ours',
    async (device) => {
      const { box } = ends(device, family);
      const sends = (to: string, vni: number) => (): void => send(`box-${device}`, [[box, to]], { vni });
      const before = refused();
      expect(await arrived(family, 'wire', sends(member, VNI))).toBe(0);
      expect(await arrived(family, 'wire', sends(member, SWARM))).toBe(0);
      expect(refused() - before).toBe(2 * FRAMES);
      // Who is none of ours looks after itself.
      expect(await arrived(family, 'wire', sends(stranger, VNI))).toBe(FRAMES);
    },
  );

  it.each(DEVICES)(
    'keeps a container at %s from the control plane, here and on others, and from nothing else',
    (device) => {
      const addresses = [own, ends(device, family).host, member];
      expect(reached(`box-${device}`, addresses, [CONTROL_PORT, OTHER_PORT])).toEqual(
        addresses.map((address) => `${address} ${OTHER_PORT}`).sort(),
      );
    },
  );

  it('has the control plane reached by who comes by the wire', () => {
    expect(reached('wire', [own], [CONTROL_PORT])).toEqual([`${own} ${CONTROL_PORT}`]);
  });

  it.each(['20.1.1.9', 'fd00:1::9'])('has %s of another host reached by a tunnel', async (address) => {
    const sent = COUNTS.wire();
    inRouter(`busybox ping -c 1 -W 1 ${address} || true`);
    await vi.waitFor(() => expect(COUNTS.wire()).toBeGreaterThan(sent), 20_000);
  });

  it('keeps the frames that come and go out of the table of connections', async () => {
    const sent = COUNTS.wire();
    expect(await arrived(family, 'tunnel', () => send('wire', [[member, own]]))).toBe(FRAMES);
    inRouter('busybox ping -c 1 -W 1 fd00:1::9 || true');
    await vi.waitFor(() => expect(COUNTS.wire()).toBeGreaterThan(sent), 20_000);
    const netfilter = openNetlink(NETLINK_NETFILTER);
    const frames = listConnections(netfilter, family === 'IPv4' ? 4 : 6).filter(
      ({ original: { source, destinationPort } }) =>
        destinationPort === 4789 && (source === own || source === member),
    );
    netfilter.close();
    expect(frames).toEqual([]);
  });
});

it('guards the control plane of a host without any container of ours, and before there is one', () => {
  sh('nft "add table inet contiv; delete table inet contiv"');
  const { own } = WIRE.IPv4;
  const reaches = () => reached('box-lan5', [own], [CONTROL_PORT, OTHER_PORT]);
  expect(reaches()).toEqual([`${own} ${OTHER_PORT}`, `${own} ${CONTROL_PORT}`]);
  applied(openApplier(), { ...NOTHING, guarded: given('IPv4').guarded });
  expect(reaches()).toEqual([`${own} ${OTHER_PORT}`]);
});

it("goes with the agent's removal where no container is left, and not before; so do routers that only the host goes by", async () => {
  const table = () => sh('nft list tables');
  const agent = openApplier();
  const state = given('IPv4');
  applied(agent, state);
  const there = 'contiv-default: there are containers on these networks still';
  await expect(removeFromHost()).rejects.toThrow(there);
  expect(() => refuseWhileUsed(['shop/web', 'box'])).toThrow(`${there} (shop/web, box): remove them`);
  expect(table()).toContain('inet contiv');
  applied(agent, { ...state, routers: state.routers.map((router) => ({ ...router, ports: [] })) });
  expect(table()).toContain('inet contiv');
  expect(listRouters()).toEqual(['contiv-default']);
  agent.close();
  refuseWhileUsed([]);
  await removeFromHost();
  expect(table()).not.toContain('inet contiv');
  expect(listRouters()).toEqual([]);
  expect(sh('ip -o link')).not.toContain(': cx');
  await removeFromHost();
  applied(openApplier(), NOTHING);
});
