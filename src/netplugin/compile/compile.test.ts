import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Endpoint } from '../../model/endpoint.ts';
import type { StoredEndpointGroup } from '../../model/endpointGroup.ts';
import type { Host } from '../../model/host.ts';
import {
  type Attachment,
  type LocalHost,
  type MutableView,
  openView,
  type WatchedNetwork,
} from '../intent/view.ts';
import type { Bandwidth, Exit, HostState, Publication, Router } from '../state.ts';
import { compile, openCompiler } from './compile.ts';
import {
  exitDevice,
  linkLocalOf,
  peerDevice,
  portDevice,
  tagMac,
  vtepLinkLocal,
  vtepMac,
} from './deviceNames.ts';
import { directMac } from './direct.ts';

/** Underlay addresses: this host is node1. */
const HOSTS = { node1: '192.0.2.1', node2: '192.0.2.2', node3: '192.0.2.3' };

function network(name: string, subnet: string, more: Partial<WatchedNetwork> = {}): WatchedNetwork {
  return { tenantName: 'default', networkName: name, subnet, vni: 1001, ...more };
}

const NET1 = network('net1', '20.1.1.0/24', { gateway: '20.1.1.254' });
const NET2 = network('net2', '20.1.2.0/24', { gateway: '20.1.2.254', vni: 1002 });
const DUAL = network('dual', '20.1.3.0/24', {
  vni: 1003,
  gateway: '20.1.3.254',
  ipv6Subnet: 'fd00:3::/64',
  ipv6Gateway: 'fd00:3::1',
});

/** `ep2` with 20.1.1.2 on node1 in net1 of tenant default. */
function endpoint(id: string, address: string, more: Partial<Endpoint> = {}): Endpoint {
  return {
    endpointID: id,
    tenantName: 'default',
    networkName: 'net1',
    ipAddress: [address],
    macAddress: `02:02:${id}`,
    homingHost: 'node1',
    status: 'running',
    ...more,
  };
}

const attachment = (of: Endpoint, more: Partial<Attachment> = {}): Attachment => ({
  endpoint: of,
  phase: 'joined',
  publications: [],
  runtime: 'docker',
  ...more,
});

interface Case {
  readonly networks?: readonly WatchedNetwork[];
  readonly groups?: readonly StoredEndpointGroup[];
  /** Attached on this host. */
  readonly here?: readonly (Endpoint | Attachment)[];
  /** What netmaster lists beside those. */
  readonly listed?: readonly Endpoint[];
  /** Live hosts. */
  readonly hosts?: Readonly<Record<string, string>>;
  readonly host?: Partial<LocalHost>;
}

function input({
  networks = [NET1],
  groups = [],
  here = [],
  listed = [],
  hosts = HOSTS,
  host = {},
}: Case): [MutableView, LocalHost] {
  const attachments = here.map((e) => ('endpointID' in e ? attachment(e) : e));
  const tenants = [...new Set(attachments.map((a) => a.endpoint.tenantName))];
  return [
    openView([
      ...networks.map((n) => ({ kind: 'network', key: `${n.tenantName}:${n.networkName}`, object: n })),
      ...groups.map((g) => ({ kind: 'endpointGroup', key: `${g.tenantName}:${g.groupName}`, object: g })),
      ...[...attachments.map((a) => a.endpoint), ...listed].map((e) => ({
        kind: 'endpoint',
        key: e.endpointID,
        object: e,
      })),
      ...Object.entries(hosts).map(([name, underlay]) => ({
        kind: 'host',
        key: name,
        object: { name, underlay },
      })),
    ]),
    {
      name: 'node1',
      underlay: HOSTS.node1,
      underlayMtu: 1500,
      lastUnderlays: new Map(),
      transit: '100.127.0.0/16',
      transit6: 'fd6f:6e74:6976::/64',
      guarded: [],
      attachments: new Map(attachments.map((a) => [a.endpoint.endpointID, a])),
      transitSlots: new Map(tenants.map((tenant, slot) => [tenant, slot])),
      ...host,
    },
  ];
}

const state = (given: Case): HostState => compile(...input(given));

/** Addresses on other hosts, by address. */
const remotesOf = ({ hosts }: Router): object[] =>
  hosts
    .flatMap(({ vtep, endpoints }) => endpoints.map(({ address, device }) => ({ address, device, vtep })))
    .sort((a, b) => (a.address < b.address ? -1 : 1));

/** The only router. */
function router(given: Case): Router {
  const { routers } = state(given);
  expect(routers).toHaveLength(1);
  return routers[0] as Router;
}

describe('a host without containers', () => {
  it('holds nothing, whatever others have', () => {
    expect(state({ listed: [endpoint('ep9', '20.1.1.9', { homingHost: 'node2' })] })).toEqual({
      routers: [],
      exits: [],
      guarded: [],
      underlay: '192.0.2.1',
      members: ['192.0.2.2', '192.0.2.3'],
    });
  });

  it('takes tunnel frames of hosts that live, and of a dead one while it has containers that are sent to', () => {
    const hosts = { node1: HOSTS.node1, node3: HOSTS.node3 };
    const here = [endpoint('ep2', '20.1.1.2')];
    const lastUnderlays = new Map(Object.entries(HOSTS));
    const of = (...listed: Endpoint[]) => state({ here, hosts, listed, host: { lastUnderlays } }).members;
    expect(of()).toEqual(['192.0.2.3']);
    expect(of(endpoint('ep9', '20.1.1.9', { homingHost: 'node2' }))).toEqual(['192.0.2.2', '192.0.2.3']);
  });

  it('keeps what is guarded', () => {
    const guarded = [{ address: '192.0.2.1', protocol: 'tcp', port: 9999 }] as const;
    expect(state({ host: { guarded } }).guarded).toEqual(guarded);
  });
});

describe('a container here', () => {
  it("has a port in its tenant's router", () => {
    const { tenant, namespace, ports, hosts } = router({ here: [endpoint('ep2', '20.1.1.2')] });
    expect({ tenant, namespace }).toEqual({ tenant: 'default', namespace: 'contiv-default' });
    expect(ports).toEqual([
      {
        endpoint: 'ep2',
        device: portDevice('ep2'),
        peer: peerDevice('ep2'),
        mac: '02:02:ep2',
        mtu: 1450,
        addresses: ['20.1.1.2'],
        gateways: ['20.1.1.254'],
        network: 1001,
        alsoFrom: [],
        joined: true,
        group: 0,
        judgedIn: 0,
        judgedOut: 0,
      },
    ]);
    expect(hosts).toEqual([]);
  });

  it('makes its router answer for all gateways and cover all subnets of the tenant', () => {
    const of = router({ networks: [NET2, DUAL, NET1], here: [endpoint('ep2', '20.1.1.2')] });
    expect(of.gateways).toEqual(['20.1.1.254', '20.1.2.254', '20.1.3.254', 'fd00:3::1']);
    expect(of.subnets).toEqual([
      { prefix: '20.1.1.0/24', network: 1001 },
      { prefix: '20.1.2.0/24', network: 1002 },
      { prefix: '20.1.3.0/24', network: 1003 },
      { prefix: 'fd00:3::/64', network: 1003 },
    ]);
    expect(of.tunnels.map((t) => t.device)).toEqual(['vx1001', 'vx1002', 'vx1003']);
  });

  it('has both its addresses, gateways and subnets where the network has IPv6', () => {
    const dual = endpoint('ep2', '20.1.3.2', { networkName: 'dual', ipAddress: ['20.1.3.2', 'fd00:3::2'] });
    const [port] = router({ networks: [DUAL], here: [dual] }).ports;
    expect(port).toMatchObject({
      addresses: ['20.1.3.2', 'fd00:3::2'],
      gateways: ['20.1.3.254', 'fd00:3::1'],
      network: 1003,
    });
  });

  it('that is joining has a port whose device may be made', () => {
    const joining = attachment(endpoint('ep2', '20.1.1.2'), { phase: 'joining', sandbox: '/run/sandbox' });
    expect(router({ here: [joining] }).ports[0]).toMatchObject({ joined: false, sandbox: '/run/sandbox' });
  });

  it('has no port before its network is known', () => {
    expect(state({ networks: [], here: [endpoint('ep2', '20.1.1.2')] }).routers).toEqual([]);
    expect(
      router({ here: [endpoint('ep2', '20.1.1.2'), endpoint('ep3', '20.9.9.3', { networkName: 'new' })] })
        .ports,
    ).toHaveLength(1);
  });

  it('in a network without gateway has none, a range is its whole subnet, an IPv6 address is canonical', () => {
    const plain = network('net1', '20.1.1.10-20.1.1.20/24', {
      ipv6Subnet: 'FD00:0::/64',
      ipv6Gateway: 'FD00:0:0::0001',
    });
    const of = router({ networks: [plain], here: [endpoint('ep2', '20.1.1.12')] });
    expect(of.subnets.map((s) => s.prefix)).toEqual(['20.1.1.0/24', 'fd00::/64']);
    expect(of.gateways).toEqual(['fd00::1']);
  });
});

describe('an endpoint on another host', () => {
  const here = [endpoint('ep2', '20.1.1.2')];

  it('is reached by the tunnel of its network, with its host as next hop', () => {
    const of = router({
      here,
      listed: [endpoint('ep9', '20.1.1.9', { homingHost: 'node2' })],
    });
    expect(remotesOf(of)).toEqual([{ address: '20.1.1.9', device: 'vx1001', vtep: '192.0.2.2' }]);
    expect(of.hosts).toMatchObject([
      {
        vtep: '192.0.2.2',
        linkLocal: vtepLinkLocal('192.0.2.2'),
        mac: vtepMac('192.0.2.2'),
        devices: ['vx1001'],
      },
    ]);
    expect(of.tunnels).toEqual([
      { vni: 1001, device: 'vx1001', local: '192.0.2.1', mac: vtepMac('192.0.2.1'), mtu: 1450 },
    ]);
  });

  it('in another network of the tenant is reached by the tunnel of that one', () => {
    const of = router({
      networks: [NET1, NET2],
      here,
      listed: [endpoint('ep9', '20.1.2.9', { networkName: 'net2', homingHost: 'node2' })],
    });
    expect(remotesOf(of)).toEqual([{ address: '20.1.2.9', device: 'vx1002', vtep: '192.0.2.2' }]);
  });

  it('with two addresses is two remotes and one peer', () => {
    const of = router({
      networks: [NET1, DUAL],
      here,
      listed: [
        endpoint('ep9', '', {
          networkName: 'dual',
          ipAddress: ['20.1.3.9', 'fd00:3::9'],
          homingHost: 'node2',
        }),
      ],
    });
    expect(of.hosts[0]?.endpoints.map((r) => r.address)).toEqual(['20.1.3.9', 'fd00:3::9']);
    expect(of.hosts).toHaveLength(1);
  });

  it("is left out while its host's underlay is not known", () => {
    const listed = [endpoint('ep9', '20.1.1.9', { homingHost: 'stranger' })];
    const of = router({ here, listed });
    expect(remotesOf(of)).toEqual([]);
    expect(of.hosts).toEqual([]);
  });

  it("stays reachable when its host's lease has ended: the container may run on", () => {
    const listed = [endpoint('ep9', '20.1.1.9', { homingHost: 'node3' })];
    const of = router({
      here,
      listed,
      hosts: { node1: HOSTS.node1 },
      host: { lastUnderlays: new Map([['node3', HOSTS.node3]]) },
    });
    expect(remotesOf(of)).toEqual([{ address: '20.1.1.9', device: 'vx1001', vtep: HOSTS.node3 }]);
  });

  it('that has moved is reached at its new host, the old one is no peer any more', () => {
    const at = (homingHost: string) =>
      router({ here, listed: [endpoint('ep9', '20.1.1.9', { homingHost })] });
    expect(at('node2').hosts[0]?.vtep).toBe(HOSTS.node2);
    const after = at('node3');
    expect(remotesOf(after)).toEqual([{ address: '20.1.1.9', device: 'vx1001', vtep: HOSTS.node3 }]);
    expect(after.hosts.map((h) => h.vtep)).toEqual([HOSTS.node3]);
  });

  it('whose address is here by now is no remote', () => {
    const of = router({
      here: [endpoint('new', '20.1.1.9')],
      listed: [endpoint('old', '20.1.1.9', { homingHost: 'node2' })],
    });
    expect(remotesOf(of)).toEqual([]);
    expect(of.ports[0]?.addresses).toEqual(['20.1.1.9']);
  });

  it('that netmaster still lists on this host, but is not attached, is nothing', () => {
    const of = router({ here, listed: [endpoint('gone', '20.1.1.9')] });
    expect(of.ports).toHaveLength(1);
    expect(of.hosts).toEqual([]);
  });
});

describe('two tenants with the same subnets', () => {
  const blue = { tenantName: 'blue' };
  const given: Case = {
    networks: [NET1, { ...NET1, ...blue, vni: 2001 }],
    here: [endpoint('ep2', '20.1.1.2'), endpoint('b2', '20.1.1.2', blue)],
    listed: [
      endpoint('ep9', '20.1.1.9', { homingHost: 'node2' }),
      endpoint('b9', '20.1.1.9', { ...blue, homingHost: 'node3' }),
    ],
  };

  it('have a router each, which knows its own endpoints and tunnels only', () => {
    const [first, second] = state(given).routers;
    expect(first).toMatchObject({ tenant: 'blue', namespace: 'contiv-blue' });
    expect(second).toMatchObject({ tenant: 'default', namespace: 'contiv-default' });
    expect(first?.ports.map((p) => p.endpoint)).toEqual(['b2']);
    expect(second?.ports.map((p) => p.endpoint)).toEqual(['ep2']);
    expect(remotesOf(first as Router)).toEqual([
      { address: '20.1.1.9', device: 'vx2001', vtep: HOSTS.node3 },
    ]);
    expect(remotesOf(second as Router)).toEqual([
      { address: '20.1.1.9', device: 'vx1001', vtep: HOSTS.node2 },
    ]);
    expect(first?.tunnels.map((t) => t.vni)).toEqual([2001]);
    expect(second?.tunnels.map((t) => t.vni)).toEqual([1001]);
  });

  it('leave by different transit addresses', () => {
    const { exits } = state(given);
    expect(new Set(exits.flatMap((e) => [e.hostAddress, e.routerAddress])).size).toBe(4);
    expect(exits.map((e) => e.namespace)).toEqual(['contiv-blue', 'contiv-default']);
  });

  it('of which one has nothing here have one router', () => {
    expect(router({ ...given, here: [endpoint('ep2', '20.1.1.2')] }).tenant).toBe('default');
  });
});

describe('a container on two networks', () => {
  const one = attachment(endpoint('ep2', '20.1.1.2'), { sandbox: '/run/sandbox' });
  const two = attachment(endpoint('ep3', '20.1.2.2', { networkName: 'net2' }), { sandbox: '/run/sandbox' });
  const alsoFrom = (given: Case) =>
    Object.fromEntries(state(given).routers.flatMap((r) => r.ports.map((p) => [p.endpoint, p.alsoFrom])));

  it('may send from all its addresses by each of its ports', () => {
    expect(alsoFrom({ networks: [NET1, NET2], here: [one, two] })).toEqual({
      ep2: ['20.1.2.2'],
      ep3: ['20.1.1.2'],
    });
  });

  it('may not where they are of two tenants, nor where the sandboxes differ or are not known', () => {
    const blue = attachment(endpoint('ep3', '20.1.1.3', { tenantName: 'blue' }), { sandbox: '/run/sandbox' });
    const nothing = { ep2: [], ep3: [] };
    expect(alsoFrom({ networks: [NET1, { ...NET1, tenantName: 'blue' }], here: [one, blue] })).toEqual(
      nothing,
    );
    expect(alsoFrom({ networks: [NET1, NET2], here: [one, { ...two, sandbox: '/run/other' }] })).toEqual(
      nothing,
    );
    expect(
      alsoFrom({ networks: [NET1, NET2], here: [attachment(one.endpoint), attachment(two.endpoint)] }),
    ).toEqual(nothing);
  });
});

describe('the MTU', () => {
  it.each([
    ['192.0.2.1', 1500, 1450],
    ['192.0.2.1', 9000, 8950],
    ['fd00::1', 1500, 1430],
    ['192.0.2.1', 1300, 1280],
  ])('on an underlay at %s of %i is %i', (underlay, underlayMtu, expected) => {
    const of = router({ here: [endpoint('ep2', '20.1.1.2')], host: { underlay, underlayMtu } });
    expect(of.ports[0]?.mtu).toBe(expected);
    expect(of.tunnels[0]).toMatchObject({ mtu: expected, local: underlay });
  });

  it.each([
    [1400, 1350],
    [1500, undefined],
    [9000, undefined],
    [undefined, undefined],
  ])('of a host that has %s leaves %s to who sends there', (mtu, expected) => {
    const here = [endpoint('ep2', '20.1.1.2')];
    const [view, local] = input({ here, listed: [endpoint('ep9', '20.1.1.9', { homingHost: 'node2' })] });
    const object = { name: 'node2', underlay: HOSTS.node2, ...(mtu && { mtu }) };
    view.put({ kind: 'host', key: 'node2', object });
    expect(compile(view, local).routers[0]?.hosts.map((h) => h.mtu)).toEqual([expected]);
  });
});

it('a vlan network has no tunnel, its subnet is covered all the same', () => {
  const vlan = { ...NET2, encap: 'vlan' } as const;
  const of = router({ networks: [NET1, vlan], here: [endpoint('ep2', '20.1.1.2')] });
  expect(of.tunnels.map((t) => t.device)).toEqual(['vx1001']);
  expect(of.subnets.map((s) => s.prefix)).toContain('20.1.2.0/24');
});

describe('a network profile', () => {
  const withProfile = (profile: object) => {
    const [view, local] = input({ here: [endpoint('ep2', '20.1.1.2', { groupName: 'web' })] });
    const group = { tenantName: 'default', groupName: 'web', networkName: 'net1', netProfile: 'gold' };
    view.put({ kind: 'endpointGroup', key: 'default:web', object: group });
    view.put({
      kind: 'netprofile',
      key: 'default:gold',
      object: { tenantName: 'default', profileName: 'gold', ...profile },
    });
    return compile(view, local).routers[0]?.ports[0];
  };

  it("is each port's limit and class", () => {
    const rate = { bitsPerSecond: 10_000_000, burstBytes: 100_000 };
    expect(withProfile({ bandwidth: '10 mbps', burst: 100, DSCP: 46 })).toMatchObject({
      limit: { to: rate, from: rate },
      dscp: 46,
    });
  });

  it('says nothing of what it does not set', () => {
    const port = withProfile({ DSCP: 8 });
    expect(port).toMatchObject({ dscp: 8 });
    expect(port).not.toHaveProperty('limit');
  });
});

describe('the bandwidth of a container', () => {
  const limitOf = (profile: object, workload: object, bandwidth?: Bandwidth) => {
    const e = endpoint('ep2', '20.1.1.2', { groupName: 'web', workload: 'shop:web', workloadUid: 'u1' });
    const [view, local] = input({ here: [e] });
    const group = { tenantName: 'default', groupName: 'web', networkName: 'net1', netProfile: 'gold' };
    view.put({ kind: 'endpointGroup', key: 'default:web', object: group });
    const object = { tenantName: 'default', profileName: 'gold', ...profile };
    view.put({ kind: 'netprofile', key: 'default:gold', object });
    const pod = {
      namespaceName: 'shop',
      workloadName: 'web',
      uid: 'u1',
      tenantName: 'default',
      networkName: 'net1',
    };
    view.put({ kind: 'workload', key: 'shop:web', object: { ...pod, ...workload } });
    const [attachment] = [...local.attachments.values()];
    const attachments = new Map([
      ['ep2', { ...(attachment as Attachment), ...(bandwidth && { bandwidth }) }],
    ]);
    return compile(view, { ...local, attachments }).routers[0]?.ports[0]?.limit;
  };
  const [low, high] = [{ bitsPerSecond: 1e6 }, { bitsPerSecond: 1e7 }];

  it('is that of its workload and its runtime, each way by itself', () => {
    expect(limitOf({}, {})).toBeUndefined();
    expect(limitOf({}, { ingressBandwidth: 1e6 })).toEqual({ to: low });
    expect(limitOf({}, { egressBandwidth: 1e6 }, { to: high })).toEqual({ to: high, from: low });
  });

  it('is the lowest that is said of it: nobody lifts what his group is limited to', () => {
    expect(limitOf({ bandwidth: '1mbps' }, { ingressBandwidth: 1e7 }, { from: high })).toEqual({
      to: low,
      from: low,
    });
    expect(limitOf({ bandwidth: '10mbps' }, { ingressBandwidth: 1e6 })).toEqual({ to: low, from: high });
    expect(limitOf({}, { ingressBandwidth: 1e7 }, { to: low })).toEqual({ to: low });
  });
});

describe('publications', () => {
  const publication = (hostPort: number, address: string): Publication => ({
    protocol: 'tcp',
    hostAddress: '',
    hostPort,
    address,
    port: 80,
  });

  it('of all its containers are in the router and its exit, by host port', () => {
    const { routers, exits } = state({
      here: [
        attachment(endpoint('ep2', '20.1.1.2'), { publications: [publication(10_080, '20.1.1.2')] }),
        attachment(endpoint('ep3', '20.1.1.3'), {
          publications: [publication(9000, '20.1.1.3'), publication(80, '20.1.1.3')],
        }),
      ],
    });
    expect(exits[0]?.publications.map((p) => [p.hostPort, p.address])).toEqual([
      [80, '20.1.1.3'],
      [9000, '20.1.1.3'],
      [10_080, '20.1.1.2'],
    ]);
    expect(routers[0]?.publications).toEqual(exits[0]?.publications);
  });

  it('of one port at several of the host addresses have different ports between host and router', () => {
    const at = (hostAddress: string, address: string): Publication => ({
      ...publication(80, address),
      hostAddress,
    });
    const { exits } = state({
      here: [
        attachment(endpoint('ep2', '20.1.1.2'), {
          publications: [
            at('127.0.0.1', '20.1.1.2'),
            at('192.0.2.2', '20.1.1.2'),
            publication(81, '20.1.1.2'),
          ],
        }),
        attachment(endpoint('ep3', '20.1.1.3'), { publications: [at('192.0.2.1', '20.1.1.3')] }),
      ],
    });
    expect(exits[0]?.publications.map((p) => [p.hostAddress, p.hostPort, p.address, p.transitPort])).toEqual([
      ['127.0.0.1', 80, '20.1.1.2', 80],
      ['192.0.2.2', 80, '20.1.1.2', 80],
      ['192.0.2.1', 80, '20.1.1.3', 81],
      ['', 81, '20.1.1.2', 82],
    ]);
  });

  it('stay ranges, and those of different targets do not meet between host and router', () => {
    const range = (
      hostAddress: string,
      hostPort: number,
      count: number,
      more: Partial<Publication> = {},
    ) => ({
      ...publication(hostPort, '20.1.1.2'),
      hostAddress,
      port: hostPort,
      count,
      ...more,
    });
    const { exits } = state({
      here: [
        attachment(endpoint('ep2', '20.1.1.2'), {
          publications: [
            range('127.0.0.1', 20_000, 10_001),
            range('192.0.2.2', 25_000, 10_001),
            range('192.0.2.1', 25_000, 10_001, { address: '20.1.1.3' }),
            publication(20_005, '20.1.1.4'),
          ],
        }),
      ],
    });
    expect(exits[0]?.publications.map((p) => [p.hostPort, p.count, p.address, p.transitPort])).toEqual([
      [20_000, 10_001, '20.1.1.2', 20_000],
      [20_005, undefined, '20.1.1.4', 30_001],
      [25_000, 10_001, '20.1.1.2', 25_000 + 5002],
      [25_000, 10_001, '20.1.1.3', 35_001 + 5002],
    ]);
  });

  it('are taken apart where a range finds no room as a whole, and lead port by port where they should', () => {
    const all = (hostAddress: string, address: string, hostPort: number, count: number): Publication => ({
      protocol: 'udp',
      hostAddress,
      hostPort,
      address,
      port: hostPort,
      count,
    });
    const given = [
      all('192.0.2.1', '20.1.1.2', 10_001, 30_000),
      all('192.0.2.2', '20.1.1.3', 10_001, 30_000),
    ];
    const { exits } = state({
      here: [attachment(endpoint('ep2', '20.1.1.2'), { publications: given })],
    });
    const seen = new Map<number, string>();
    const led = new Set<string>();
    for (const { hostAddress, hostPort, transitPort, address, port, count = 1 } of exits[0]?.publications ??
      [])
      for (let i = 0; i < count; i++) {
        expect(seen.has(transitPort + i), `${transitPort + i}`).toBe(false);
        seen.set(transitPort + i, address);
        led.add(`${hostAddress}:${hostPort + i} ${address}:${port + i}`);
      }
    const wanted = given.flatMap((p) =>
      Array.from(
        { length: p.count as number },
        (_, i) => `${p.hostAddress}:${p.hostPort + i} ${p.address}:${p.port + i}`,
      ),
    );
    expect(led).toEqual(new Set(wanted));
    expect(exits[0]?.publications.length).toBeGreaterThan(2);
  });

  it('are those of the own tenant only', () => {
    const blue = { tenantName: 'blue' };
    const { exits } = state({
      networks: [NET1, { ...NET1, ...blue, vni: 2001 }],
      here: [
        attachment(endpoint('ep2', '20.1.1.2'), { publications: [publication(80, '20.1.1.2')] }),
        attachment(endpoint('b2', '20.1.1.2', blue)),
      ],
    });
    expect(exits.map((e) => e.publications.length)).toEqual([0, 1]);
  });
});

describe('the way out', () => {
  const exit = (given: Case): Exit => state(given).exits[0] as Exit;
  const here = [endpoint('ep2', '20.1.1.2')];

  it("is a transit pair by the tenant's slot", () => {
    expect(exit({ here })).toMatchObject({
      namespace: 'contiv-default',
      device: exitDevice('default'),
      hostAddress: '100.127.0.0',
      routerAddress: '100.127.0.1',
      hostAddress6: '',
      routerAddress6: '',
    });
    expect(exit({ here, host: { transitSlots: new Map([['default', 200]]) } })).toMatchObject({
      hostAddress: '100.127.1.144',
      routerAddress: '100.127.1.145',
    });
  });

  it('has an IPv6 pair where any network of the tenant has IPv6', () => {
    expect(
      exit({ networks: [NET1, DUAL], here, host: { transitSlots: new Map([['default', 3]]) } }),
    ).toMatchObject({
      hostAddress6: 'fd6f:6e74:6976::6',
      routerAddress6: 'fd6f:6e74:6976::7',
    });
  });

  it('does not move when another tenant comes or goes', () => {
    const blue = endpoint('b2', '20.1.1.2', { tenantName: 'blue' });
    const networks = [NET1, { ...NET1, tenantName: 'blue', vni: 2001 }];
    const slots = new Map([
      ['default', 0],
      ['blue', 1],
    ]);
    const both = state({ networks, here: [...here, blue], host: { transitSlots: slots } }).exits;
    const alone = state({ networks, here, host: { transitSlots: slots } }).exits;
    expect(both.find((e) => e.namespace === 'contiv-default')).toEqual(alone[0]);
  });

  it('says which transit range is none', () => {
    expect(() => state({ here, host: { transit: 'somewhere' } })).toThrow(
      "transit range 'somewhere' is not a subnet",
    );
  });
});

describe('the order of what is known', () => {
  const tenants = ['default', 'blue'];
  const networks = tenants.flatMap((tenantName, t) =>
    [NET1, NET2, DUAL].map((n) => ({ ...n, tenantName, vni: n.vni + t * 1000 })),
  );
  const subnets = new Map([NET1, NET2, DUAL].map((n) => [n.networkName, n.subnet?.replace(/\.0\/24$/, '')]));
  const anyAttachment = (...hosts: string[]) =>
    fc
      .record({
        tenantName: fc.constantFrom(...tenants),
        networkName: fc.constantFrom('net1', 'net2', 'dual', 'unknown'),
        homingHost: fc.constantFrom(...hosts),
        last: fc.integer({ min: 2, max: 12 }),
        six: fc.boolean(),
        sandbox: fc.constantFrom('/run/a', '/run/b', undefined),
        hostPort: fc.option(fc.integer({ min: 1, max: 65_535 }), { nil: undefined }),
      })
      .map(({ last, six, sandbox, hostPort, ...more }): Attachment => {
        const address = `${subnets.get(more.networkName) ?? '20.9.9'}.${last}`;
        const v6 = six && more.networkName === 'dual' ? [`fd00:3::${last}`] : [];
        return attachment(endpoint('', address, { ...more, ipAddress: [address, ...v6] }), {
          ...(sandbox === undefined ? {} : { sandbox }),
          publications:
            hostPort === undefined ? [] : [{ protocol: 'tcp', hostAddress: '', hostPort, address, port: 80 }],
        });
      });

  /** No address twice at netmaster; one that moved here may still be listed where it was. */
  const anyEndpoints = (...hosts: string[]) =>
    fc.uniqueArray(anyAttachment(...hosts), {
      maxLength: 15,
      selector: ({ endpoint: e }) => `${e.tenantName} ${e.ipAddress[0]}`,
    });
  const anyWorld = fc
    .tuple(anyEndpoints('node1'), anyEndpoints('node2', 'node3', 'stranger'))
    .map(([here, listed]) =>
      [...here, ...listed].map((a, i) => ({ ...a, endpoint: { ...a.endpoint, endpointID: `ep${i}` } })),
    );

  const caseOf = (all: readonly Attachment[], nets: readonly WatchedNetwork[]): Case => ({
    networks: nets,
    here: all.filter((a) => a.endpoint.homingHost === 'node1'),
    listed: all.map((a) => a.endpoint).filter((e) => e.homingHost !== 'node1'),
    host: {
      transitSlots: new Map([
        ['default', 1],
        ['blue', 0],
      ]),
    },
  });

  /** As they are, but for those of one container: which network it was attached to first says what that one gives it. */
  function keepingContainers(world: readonly Attachment[], shuffled: readonly Attachment[]): Attachment[] {
    const inOrder = Map.groupBy(world, (a) => a.sandbox);
    return shuffled.map((a) => inOrder.get(a.sandbox)?.shift() as Attachment);
  }

  it('does not matter, but for that of one container’s networks', () => {
    const shuffled = anyWorld.chain((world) =>
      fc.tuple(
        fc.constant(world),
        fc.shuffledSubarray(world, { minLength: world.length }),
        fc.shuffledSubarray(networks, { minLength: networks.length }),
      ),
    );
    fc.assert(
      fc.property(shuffled, ([world, other, nets]) => {
        expect(state(caseOf(keepingContainers(world, other), nets))).toEqual(state(caseOf(world, networks)));
      }),
      { numRuns: 300 },
    );
  });

  it('and the same input gives the same output, which is left alone', () => {
    fc.assert(
      fc.property(anyWorld, (world) => {
        const [view, host] = input(caseOf(world, networks));
        const before = structuredClone([view.contents(), host]);
        const first = compile(view, host);
        expect(compile(view, host)).toEqual(first);
        expect(JSON.stringify(compile(view, host))).toBe(JSON.stringify(first));
        expect([view.contents(), host]).toEqual(before);
      }),
      { numRuns: 50 },
    );
  });
});

describe('a network of encapsulation vlan, on a host with an uplink', () => {
  const VLAN = network('lan', '10.1.0.0/24', { encap: 'vlan', vni: 1001, gateway: '10.1.0.254' });
  const uplink = { device: 'eth1', mtu: 9000 };
  const on = (id: string, address: string, more: Partial<Endpoint> = {}): Endpoint =>
    endpoint(id, address, { networkName: 'lan', ...more });
  const own = attachment(on('host', '10.1.0.9'), { runtime: 'host' });
  const given: Case = {
    networks: [NET1, VLAN],
    here: [own, on('02', '10.1.0.2'), endpoint('03', '20.1.1.3')],
    listed: [on('04', '10.1.0.4', { homingHost: 'node2' })],
  };

  it('has a device there, of a number that no VNI has, and its subnet is on the wire', () => {
    const { routers, exits } = state({ ...given, host: { uplink } });
    const [router] = routers as [Router];
    const number = (1 << 24) + 1001;
    expect(router.vlans).toEqual([
      {
        id: 1001,
        network: number,
        device: 'vl1001',
        wire: 'cv1001',
        uplink: 'eth1',
        mac: vtepMac(HOSTS.node1),
        mtu: 9000,
        prefixes: ['10.1.0.0/24'],
        addresses: ['10.1.0.9'],
      },
    ]);
    expect(router.tunnels.map((t) => t.vni)).toEqual([1001]);
    expect(router.subnets).toEqual([
      { prefix: '10.1.0.0/24', network: number, device: 'vl1001' },
      { prefix: '20.1.1.0/24', network: 1001 },
    ]);
    expect(router.ports.map(({ mtu, network, wire }) => ({ mtu, network, wire }))).toEqual([
      { mtu: 9000, network: number, wire: 'vl1001' },
      { mtu: 1450, network: 1001, wire: undefined },
    ]);
    expect(router.hosts).toMatchObject([
      {
        devices: ['vx1001'],
        vlans: ['vl1001'],
        endpoints: [{ address: '10.1.0.4', device: 'vl1001', network: number }],
      },
    ]);
    // The host has an address on the wire, and no way into the tenant by it.
    expect(exits[0]?.access).toBeUndefined();
  });

  it('whose groups have VLANs of their own leads these to its device, and other hosts are sent to where they are in them', () => {
    const web = { tenantName: 'default', groupName: 'web', networkName: 'lan', vlan: 7 };
    const db = { ...web, groupName: 'db', vlan: 500 };
    // Created before there were any.
    const old = { tenantName: 'default', groupName: 'old', networkName: 'lan' };
    const tagged: Case = {
      ...given,
      groups: [web, db, old],
      here: [
        own,
        on('02', '10.1.0.2', { groupName: 'web', ipAddress: ['10.1.0.2', 'fd00:1::2'] }),
        on('05', '10.1.0.5', { groupName: 'old' }),
        on('06', '10.1.0.6'),
      ],
      listed: [
        on('04', '10.1.0.4', { homingHost: 'node2', groupName: 'db' }),
        on('07', '10.1.0.7', { homingHost: 'node2', groupName: 'old' }),
      ],
    };
    const [router] = state({ ...tagged, host: { uplink } }).routers as [Router];
    expect(router.vlans).toMatchObject([
      {
        id: 1001,
        mac: vtepMac(HOSTS.node1),
        tags: [
          { id: 7, mac: tagMac(HOSTS.node1, 7), addresses: ['10.1.0.2', 'fd00:1::2'] },
          { id: 500, mac: tagMac(HOSTS.node1, 500), addresses: [] },
        ],
        untagged: ['10.1.0.5', '10.1.0.6'],
      },
    ]);
    expect(router.ports.map(({ wire }) => wire)).toEqual(['vl1001', 'vl1001', 'vl1001']);
    const mac = tagMac(HOSTS.node2, 500);
    // By that of its own, and by that of whom it is for here where its sender is of another network.
    expect(router.hosts[0]?.tagMacs).toEqual([tagMac(HOSTS.node2, 7), mac]);
    expect(router.hosts[0]?.endpoints.map(({ address, tagged }) => ({ address, tagged }))).toEqual([
      { address: '10.1.0.4', tagged: { mac, linkLocal: linkLocalOf(mac) } },
      { address: '10.1.0.7', tagged: undefined },
    ]);
    // With the last of its containers nothing arrives by a group's VLAN, and with the last group that has one the network is as any.
    const without = { ...tagged, here: tagged.here?.filter((e) => e !== tagged.here?.[1]) ?? [] };
    expect(
      state({ ...without, host: { uplink } }).routers[0]?.vlans?.[0]?.tags?.map((t) => t.addresses),
    ).toEqual([[], []]);
    expect(
      state({ ...tagged, groups: [old], host: { uplink } }).routers[0]?.vlans?.[0]?.tags,
    ).toBeUndefined();
  });

  it('has the host in it where it is an infra network, by which it reaches all of the tenant', () => {
    const networks = [NET1, { ...VLAN, nwType: 'infra' as const }];
    const { routers, exits } = state({ ...given, networks, host: { uplink } });
    expect(routers[0]?.vlans).toMatchObject([{ addresses: ['10.1.0.9'], entered: true }]);
    expect(exits[0]?.access).toEqual({
      subnets: ['10.1.0.0/24', '20.1.1.0/24'],
      services: [],
      sources: [{ device: 'vl1001', addresses: ['10.1.0.9'] }],
      own: ['10.1.0.9'],
    });
    // Without an uplink it is nowhere.
    expect(state({ ...given, networks }).exits[0]?.access).toBeUndefined();
  });

  it('is on the wire by IPv6 too, where it has that', () => {
    const both = { ...VLAN, ipv6Subnet: 'fd00:1::/64' };
    const mine = attachment(on('host', '10.1.0.9', { ipAddress: ['10.1.0.9', 'fd00:1::9'] }), {
      runtime: 'host',
    });
    const [router] = state({ ...given, networks: [NET1, both], here: [mine], host: { uplink } }).routers as [
      Router,
    ];
    expect(router.vlans).toMatchObject([
      { prefixes: ['10.1.0.0/24', 'fd00:1::/64'], addresses: ['10.1.0.9', 'fd00:1::9'] },
    ]);
    expect(router.subnets).toContainEqual({
      prefix: 'fd00:1::/64',
      network: (1 << 24) + 1001,
      device: 'vl1001',
    });
  });

  it('leads outside by a router of the fabric where its gateway is one, which no router here answers for', () => {
    const networks = [NET1, { ...VLAN, externalGateway: true }];
    const [router] = state({ ...given, networks, host: { uplink } }).routers as [Router];
    expect(router.vlans).toMatchObject([{ gateways: ['10.1.0.254'] }]);
    expect(router.gateways).not.toContain('10.1.0.254');
    expect(router.ports[0]).toMatchObject({ gateways: [], externalGateways: ['10.1.0.254'] });
    expect(router.subnets[0]).toMatchObject({ prefix: '10.1.0.0/24', externalGateway: true });
    expect(router.subnets[1]).not.toHaveProperty('externalGateway');
  });

  it('and on one without has none, and nobody elsewhere is reached', () => {
    const [router] = state(given).routers as [Router];
    expect(router.vlans).toBeUndefined();
    expect(router.hosts).toEqual([]);
    expect(router.subnets).toContainEqual({ prefix: '10.1.0.0/24', network: (1 << 24) + 1001 });
  });
});

describe('a network of IPv6 alone', () => {
  const SIX: WatchedNetwork = {
    tenantName: 'default',
    networkName: 'six',
    ipv6Subnet: 'fd00:6::/64',
    ipv6Gateway: 'fd00:6::1',
    vni: 1006,
  };
  const { ipv6Gateway: _, ...SHUT } = { ...SIX, networkName: 'shut', ipv6Subnet: 'fd00:7::/64', vni: 1007 };
  const on = (id: string, networkName: string, ...ipAddress: string[]): Endpoint =>
    endpoint(id, '', { networkName, ipAddress });

  it('has a router with nothing of IPv4 but its way out', () => {
    const six = on('02', 'six', 'fd00:6::2');
    const there = { ...on('03', 'six', 'fd00:6::3'), homingHost: 'node2' };
    const given = {
      networks: [SIX],
      here: [attachment(six, { sandbox: '/run/a', stub: true })],
      listed: [there],
    };
    const found = router(given);
    expect(found).toMatchObject({
      subnets: [{ prefix: 'fd00:6::/64', network: 1006 }],
      gateways: ['fd00:6::1'],
      hosts: [{ endpoints: [{ address: 'fd00:6::3', device: 'vx1006' }] }],
    });
    expect(found.ports).toMatchObject([
      {
        addresses: ['fd00:6::2'],
        inside: {
          addresses: ['fd00:6::2/128'],
          routes: [{ destination: 'fd00:6::1/128' }, { destination: 'fd00:6::/64', via: 'fd00:6::1' }],
          gateways: ['fd00:6::1'],
        },
      },
    ]);
    // Its questions to Docker's resolver cannot be led to the router, so the nameserver listens in the container.
    expect(found.ports[0]).not.toHaveProperty('stub');
    expect(found.ports[0]).toHaveProperty('resolver', true);
    expect(state(given).exits[0]?.routerAddress6).not.toBe('');
  });

  it('has the nameserver listen in a container of Docker’s once, and nowhere where another network leads there', () => {
    const names = (...endpoints: Endpoint[]) =>
      router({
        networks: [SHUT, network('net3', '20.1.3.0/24', { vni: 1003 }), SIX],
        here: endpoints.map((e) => attachment(e, { sandbox: '/run/a', stub: true })),
      }).ports.map(({ stub, resolver }) => (stub ? 'stub' : resolver && 'resolver'));
    const [six, shut, four] = [
      on('02', 'six', 'fd00:6::2'),
      on('03', 'shut', 'fd00:7::2'),
      on('04', 'net3', '20.1.3.2'),
    ];
    expect(names(six, shut)).toEqual(['resolver', undefined]);
    expect(names(six, four)).toEqual([undefined, 'stub']);
  });

  it('beside others in one container leaves the way to the nameserver by IPv4 to those', () => {
    const of = (e: Endpoint) => attachment(e, { sandbox: '/run/a', end: e.endpointID });
    const [first, second, third] = router({
      networks: [SHUT, network('net3', '20.1.3.0/24', { vni: 1003 }), SIX],
      here: [
        of(on('02', 'shut', 'fd00:7::2')),
        of(on('03', 'net3', '20.1.3.2')),
        of(on('04', 'six', 'fd00:6::4')),
      ],
    }).ports;
    expect(first?.inside?.routes).toEqual([
      { destination: 'fd6f:6e74:6976:53::53/128' },
      { destination: 'fd00:7::/64', via: 'fd6f:6e74:6976:53::53' },
    ]);
    expect(second?.inside?.routes[0]).toEqual({ destination: '169.254.53.53/32' });
    expect(third?.inside?.routes.at(-1)).toEqual({ destination: '::/0', via: 'fd00:6::1' });
  });
});

describe('a network of encapsulation direct', () => {
  const DIRECT = network('plain', '20.3.1.0/24', {
    encap: 'direct',
    vni: 1003,
    gateway: '20.3.1.254',
    ipv6Subnet: 'fd00:3::/64',
  });
  const link = { device: 'eth0', prefix: '192.0.2.1/24' };
  const on = (id: string, address: string, more: Partial<Endpoint> = {}): Endpoint =>
    endpoint(id, address, { networkName: 'plain', ...more });
  const given: Case = {
    networks: [NET1, DIRECT],
    here: [on('02', '20.3.1.2'), endpoint('03', '20.1.1.3')],
    listed: [
      on('04', '20.3.1.4', { homingHost: 'node2', ipAddress: ['20.3.1.4', 'fd00:3::4'] }),
      endpoint('05', '20.1.1.5', { homingHost: 'node2' }),
    ],
  };
  /** With what the other host says of itself. */
  const told = (fields: Partial<Host>, host: Partial<LocalHost>): Router => {
    const [view, local] = input({ ...given, host });
    view.put({ kind: 'host', key: 'node2', object: { name: 'node2', underlay: HOSTS.node2, ...fields } });
    return compile(view, local).routers[0] as Router;
  };

  it('has one device on the link, of an address that is the tenant’s on this host alone', () => {
    const [router] = state({ ...given, host: { link } }).routers as [Router];
    expect(router.direct).toEqual({
      device: 'direct',
      link: 'eth0',
      mac: directMac('default', HOSTS.node1),
      mtu: 1500,
    });
    expect(router.hosts).toMatchObject([
      {
        devices: ['vx1001', 'vx1003'],
        direct: { device: 'direct', mac: directMac('default', HOSTS.node2) },
        endpoints: [
          { address: '20.1.1.5', device: 'vx1001', network: 1001 },
          { address: '20.3.1.4', device: 'direct', network: 1003 },
          { address: 'fd00:3::4', device: 'direct', network: 1003 },
        ],
      },
    ]);
    expect(router.ports.map(({ mtu }) => mtu)).toEqual([1500, 1450]);
    const macs = ['default', 'blue'].flatMap((tenant) =>
      Object.values(HOSTS).map((vtep) => directMac(tenant, vtep)),
    );
    expect(new Set(macs).size).toBe(macs.length);
    // Locally administered, of one device (IEEE 802, 8.2).
    for (const mac of macs) expect(mac).toMatch(/^06(:[0-9a-f]{2}){5}$/);
  });

  it.each<[string, Partial<Host>, Partial<LocalHost>]>([
    ['where this host shares its link with nobody', { link: '192.0.2.2/24' }, {}],
    [
      'where the other one is beyond a router',
      { link: '192.0.2.2/24' },
      { link: { ...link, prefix: '192.0.2.1/31' } },
    ],
    ['where the other one takes this one to be so', { link: '192.0.2.2/31' }, { link }],
    ['where the other one has no link', { link: '' }, { link }],
  ])('goes by VXLAN %s', (_, fields, host) => {
    const router = told(fields, host);
    expect(router.hosts[0]?.direct).toBeUndefined();
    expect(remotesOf(router)).toContainEqual({ address: '20.3.1.4', device: 'vx1003', vtep: HOSTS.node2 });
    expect(router.tunnels.map((t) => t.vni)).toEqual([1001, 1003]);
  });

  it('goes on by the link to a host that is away, whose containers may run on', () => {
    const hosts = { node1: HOSTS.node1 };
    const lastUnderlays = new Map(Object.entries(HOSTS));
    const router = state({ ...given, hosts, host: { link, lastUnderlays } }).routers[0] as Router;
    expect(router.hosts[0]?.direct).toBeDefined();
  });

  it('sends no larger packets than the other host takes', () => {
    expect(told({ link: '192.0.2.2/24', mtu: 1400 }, { link }).hosts[0]).toMatchObject({
      mtu: 1350,
      direct: { mtu: 1400 },
    });
    expect(told({ link: '192.0.2.2/24', mtu: 9000 }, { link }).hosts[0]?.direct).not.toHaveProperty('mtu');
  });

  it('with access has the host known by its address there, by the link and by the tunnel', () => {
    const own = attachment(on('host', '20.3.1.9'), { runtime: 'host' });
    const [exit] = state({ ...given, here: [own, ...(given.here ?? [])], host: { link } }).exits as [Exit];
    expect(exit.access).toMatchObject({
      subnets: ['20.3.1.0/24', 'fd00:3::/64'],
      sources: [
        { device: 'direct', addresses: ['20.3.1.9'] },
        { device: 'vx1003', addresses: ['20.3.1.9'] },
      ],
    });
  });

  it('leaves no trace in a tenant that has none', () => {
    const [router] = state({ ...given, networks: [NET1], host: { link } }).routers as [Router];
    expect(router).not.toHaveProperty('direct');
    expect(router.hosts[0]).not.toHaveProperty('direct');
  });

  it('keeps its parts while nothing of it changes', () => {
    const [view, local] = input({ ...given, host: { link } });
    const compiler = openCompiler();
    const [one] = compiler.compile(view, local).routers;
    const [other] = compiler.compile(view, { ...local, link: { ...link } }).routers;
    expect(other?.direct).toBe(one?.direct);
    expect(other?.hosts[0]).toBe(one?.hosts[0]);
  });
});
