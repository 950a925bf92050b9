/**
 * The nftables commands that tables are made with, one case a file in golden/: text that is read when a rule changes.
 * What makes a table and its chains is the same in many cases, so it has files of its own (RULES), which the cases include;
 * the elements of the sets, which follow from the state, stand in the case. All are scripts that nft(8) takes.
 *
 *   GOLDEN=write vitest run --project unit src/netplugin/dataplane/rules/golden.test.ts     writes them anew
 */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  exit,
  GATEWAYS,
  LOCAL,
  MAP,
  NOTHING,
  PEERS,
  port,
  router,
  state,
  VNI,
} from '../../../../test/states.ts';
import { directMac } from '../../compile/direct.ts';
import { DIRECT_DEVICE } from '../../constants.ts';
import type {
  Access,
  Announced,
  ClusterService,
  Entrance,
  Exit,
  HostState,
  Router,
  RuleSet,
  Service,
} from '../../state.ts';
import { type HostFacts, hostTable } from './host.ts';
import { routerTable } from './router.ts';
import { stubTable } from './stub.ts';
import { createCommands, type Table } from './table.ts';

const GOLDEN = path.join(import.meta.dirname, 'golden');
const WRITE = process.env.GOLDEN === 'write';

/** What an agent finds on a host with Docker whose own way out is a bridge. */
const FACTS: HostFacts = { bridges: ['docker0'], operated: ['br0'], closed: ['tcp . 9999'] };
const NO_FACTS: HostFacts = { bridges: [], operated: [], closed: [] };
/** To one of two other hosts that has told its key. */
const ENCRYPTING: HostState = {
  ...NOTHING,
  members: PEERS,
  encryption: { devices: [], ways: [{ address: PEERS[0] ?? '', device: 'contiv-wg0' }] },
};
const ONLY_IPV4: Exit = { ...exit({}), hostAddress6: '', routerAddress6: '' };

/** Of one container. */
const TWO_NETWORKS = [
  port(2, { alsoFrom: ['20.2.1.2'] }),
  port(3, {
    addresses: ['20.2.1.2'],
    gateways: ['20.2.1.254'],
    network: 1002,
    alsoFrom: ['20.1.1.2', 'fd00:1::2'],
  }),
];

/** A service of an orchestrator: at its addresses by both versions of IP, and by a node port. */
const CLUSTER_SERVICE: ClusterService = {
  name: 'shop/web',
  addresses: ['10.96.0.10', 'fd00:96::10'],
  frontends: [
    {
      address: '10.96.0.10',
      protocol: 6,
      port: 80,
      backends: [
        { address: '20.1.1.2', port: 8080 },
        { address: '20.1.1.9', port: 8081 },
      ],
      otherwise: 'refuse',
    },
    {
      address: 'fd00:96::10',
      protocol: 17,
      port: 53,
      backends: [{ address: 'fd00:1::2', port: 5353 }],
      otherwise: 'refuse',
    },
    { address: '10.96.0.10', protocol: 132, port: 80, backends: [], otherwise: 'refuse' },
    { address: '100.127.0.1', protocol: 6, port: 30_080, backends: [], otherwise: 'drop' },
  ],
};
const EVERY_PORT: Service = {
  name: 'front/n',
  address: '20.1.1.100',
  ports: [],
  everyPort: true,
  providers: ['20.1.1.2', '20.1.1.3', '20.1.1.9'],
};
const EVERY_PORT6: Service = {
  name: 'front/n/6',
  address: 'fd00:1::100',
  ports: [],
  everyPort: true,
  providers: ['fd00:1::2', 'fd00:1::9'],
};
const STAYING: ClusterService = {
  name: 'shop/cart',
  addresses: ['10.96.0.11'],
  frontends: [
    {
      address: '10.96.0.11',
      protocol: 6,
      port: 80,
      backends: [{ address: '20.1.1.2', port: 80 }, null, { address: '20.1.1.3', port: 80 }],
      otherwise: 'refuse',
      affinity: 10_800,
      clients: ['10.0.0.0/8'],
    },
  ],
};
const ACCESS: Access = {
  subnets: ['20.1.1.0/24', 'fd00:1::/64'],
  services: ['10.96.0.10', 'fd00:96::10'],
  sources: [{ device: `vx${VNI}`, addresses: ['20.1.1.250', 'fd00:1::250'] }],
  own: [],
};
const ENTRANCES: Entrance[] = [
  { ...MAP, hostPort: 30_080, transitPort: 30_080, address: '100.127.0.1', port: 30_080 },
  {
    ...MAP,
    hostAddress: '198.51.100.1',
    hostPort: 80,
    transitPort: 40_000,
    address: '100.127.0.1',
    port: 40_000,
  },
  {
    ...MAP,
    hostAddress: '10.96.0.10',
    hostPort: 80,
    transitPort: 40_001,
    address: '100.127.0.1',
    port: 40_001,
    arriving: true,
  },
];

/** Of a container in a VLAN network, beside another network by VXLAN; another host has one in each. */
const VLAN_NETWORK = (1 << 24) + 100;
const BESIDE = router({
  ports: [
    port(2, {
      addresses: ['10.100.0.50', 'fd00:100::50'],
      gateways: ['10.100.0.254'],
      network: VLAN_NETWORK,
      mtu: 1500,
      wire: 'vl100',
    }),
    port(3),
  ],
});
const VLAN: Router = {
  ...BESIDE,
  hosts: BESIDE.hosts.map((host) => ({
    ...host,
    vlans: ['vl100'],
    endpoints: [
      { address: '10.100.0.51', device: 'vl100', network: VLAN_NETWORK, group: 0 },
      { address: 'fd00:100::51', device: 'vl100', network: VLAN_NETWORK, group: 0 },
      ...host.endpoints,
    ],
  })),
  vlans: [
    {
      id: 100,
      network: VLAN_NETWORK,
      device: 'vl100',
      wire: 'cv100',
      uplink: 'eth1',
      mac: '02:ce:c0:00:02:01',
      mtu: 1500,
      prefixes: ['10.100.0.0/24', 'fd00:100::/64'],
      addresses: ['10.100.0.10', 'fd00:100::10'],
    },
  ],
  subnets: [
    { prefix: '10.100.0.0/24', network: VLAN_NETWORK, device: 'vl100' },
    { prefix: 'fd00:100::/64', network: VLAN_NETWORK, device: 'vl100' },
    { prefix: '20.1.1.0/24', network: VNI },
  ],
  gateways: ['10.100.0.254', ...GATEWAYS],
};

/** The same, where it is an infra network. */
const ENTERED: Router = { ...VLAN, vlans: (VLAN.vlans ?? []).map((v) => ({ ...v, entered: true })) };
const ENTERED_BY = exit({
  access: {
    subnets: ['10.100.0.0/24', '20.1.1.0/24', 'fd00:100::/64'],
    services: [],
    sources: [{ device: 'vl100', addresses: ['10.100.0.10', 'fd00:100::10'] }],
    own: ['10.100.0.10', 'fd00:100::10'],
  },
});

/** The same, where groups have VLANs of their own: that of the container here, and that of the other host's. */
const TAGGED: Router = {
  ...VLAN,
  vlans: (VLAN.vlans ?? []).map((v) => ({
    ...v,
    tags: [{ id: 0x1f4, mac: '1a:f4:c0:00:02:01', addresses: ['10.100.0.50', 'fd00:100::50'] }],
  })),
  hosts: VLAN.hosts.map((h) => ({
    ...h,
    tagMacs: ['1a:f4:c0:00:02:02', '1a:f5:c0:00:02:02'],
    endpoints: h.endpoints.map((e) =>
      e.device === 'vl100'
        ? { ...e, tagged: { mac: '1a:f5:c0:00:02:02', linkLocal: 'fe80::1af5:c000:202' } }
        : e,
    ),
  })),
};

/** The same, where the gateway is a router of the fabric's own, and answers. */
const EXTERNAL_GATEWAY: Router = {
  ...VLAN,
  ports: VLAN.ports.map((p) =>
    p.wire === undefined ? p : { ...p, gateways: [], externalGateways: ['10.100.0.254'] },
  ),
  vlans: (VLAN.vlans ?? []).map((v) => ({ ...v, gateways: ['10.100.0.254'] })),
  subnets: VLAN.subnets.map((s) => (s.device === undefined ? s : { ...s, externalGateway: true })),
  gateways: GATEWAYS,
};
const WAYS = [{ device: 'vl100', mac: '02:aa:aa:aa:aa:aa', network: VLAN_NETWORK }];

/** The same container in a direct network, and one in a VXLAN network; of the other hosts one shares the link. */
const ON_LINK: Router = {
  ...router({
    ports: [
      port(2, { mtu: 1500 }),
      port(3, { addresses: ['20.2.1.3'], gateways: ['20.2.1.254'], network: 1002 }),
    ],
    remotes: [
      { address: '20.1.1.9', device: DIRECT_DEVICE, vtep: PEERS[0] as string },
      { address: 'fd00:1::9', device: DIRECT_DEVICE, vtep: PEERS[0] as string },
      { address: '20.1.1.10', device: `vx${VNI}`, vtep: PEERS[1] as string },
    ],
  }),
  direct: { device: DIRECT_DEVICE, link: 'eth0', mac: directMac('default', LOCAL), mtu: 1500 },
};
const DIRECT: Router = {
  ...ON_LINK,
  hosts: ON_LINK.hosts.map((host) =>
    host.vtep === PEERS[0]
      ? { ...host, direct: { device: DIRECT_DEVICE, mac: directMac('default', host.vtep) } }
      : host,
  ),
  subnets: [
    { prefix: '20.1.1.0/24', network: VNI },
    { prefix: '20.2.1.0/24', network: 1002 },
    { prefix: 'fd00:1::/64', network: VNI },
  ],
  gateways: [...GATEWAYS, '20.2.1.254'],
};

const INFRA: Access = { ...ACCESS, own: ['20.1.1.250', 'fd00:1::250'] };

const ANNOUNCED: Announced = {
  addresses: ['20.1.1.2', 'fd00:1::2'],
  services: [
    {
      address: '20.1.1.100',
      ports: [{ protocol: 'tcp', port: 80, providerPort: 8080 }],
      providers: ['20.1.1.2'],
    },
  ],
};
const SERVICE6: Service = {
  name: 'web',
  address: 'fd00:6::100',
  ports: [{ protocol: 'tcp', port: 80, providerPort: 8080 }],
  providers: ['fd00:6::2', 'fd00:6::9'],
};
const ANNOUNCED6: Announced = {
  addresses: ['fd00:6::2'],
  services: [{ address: SERVICE6.address, ports: SERVICE6.ports, providers: ['fd00:6::2'] }],
};
const FABRIC = { addresses: ['50.1.1.2', 'fd00:50::2'] };

const rules = (table: Table): string => createCommands({ ...table, parts: new Map() });
const ofRouter = (of: Router, by: Exit | undefined = exit({})): Table => routerTable(of, by);

const LOGGING: RuleSet = {
  id: 10,
  name: 'in default: web',
  narrowed: [],
  decisions: [
    { group: 0, protocol: 6, port: 80, rule: 1, action: 'allow', key: 'default:web:1', log: true },
    { group: 0, protocol: 6, port: 443, rule: 1, action: 'allow', key: 'default:web:1', log: true },
    { group: 0, protocol: 6, rule: 2, action: 'deny', key: 'default:web:2', log: true },
  ],
  logs: true,
};

const RANGE = [{ first: 8080, last: 9000, range: 7 }];

/** Tables without elements: a router's depends on its way out, and on whether rules are about ranges of ports and whether some log, a container's on its networks, the host's on nothing. */
const RULES: Readonly<Record<string, string>> = {
  'router.nft': rules(ofRouter(router({}))),
  'routerIpv4.nft': rules(ofRouter(router({}), ONLY_IPV4)),
  'routerNoExit.nft': rules(routerTable(router({}), undefined)),
  'routerPortRanges.nft': rules(ofRouter(router({ portRanges: RANGE }))),
  'routerLogs.nft': rules(ofRouter(router({ ruleSets: [LOGGING] }))),
  'routerBridged.nft': rules(ofRouter({ ...router({}), bridged: true })),
  'routerEveryPort.nft': rules(ofRouter(router({ services: [EVERY_PORT] }))),
  'routerEveryPort6.nft': rules(ofRouter(router({ services: [EVERY_PORT, EVERY_PORT6] }))),
  'routerServed.nft': rules(ofRouter(router({ clusterServices: [CLUSTER_SERVICE] }))),
  'routerStaying.nft': rules(ofRouter(router({ clusterServices: [STAYING] }))),
  'routerVlan.nft': rules(ofRouter(VLAN)),
  'routerInfraVlan.nft': rules(routerTable(ENTERED, ENTERED_BY)),
  'routerTaggedVlan.nft': rules(ofRouter(TAGGED)),
  'routerExternalGateway.nft': rules(ofRouter(EXTERNAL_GATEWAY)),
  'routerDirect.nft': rules(ofRouter(DIRECT)),
  'routerReached.nft': rules(ofRouter(router({}), exit({ access: ACCESS }))),
  'routerInfra.nft': rules(ofRouter(router({}), exit({ access: INFRA }))),
  'routerAnnounced.nft': rules(ofRouter(router({}), exit({ announced: ANNOUNCED }))),
  'routerAnnounced6.nft': rules(ofRouter(router({ services: [SERVICE6] }), exit({ announced: ANNOUNCED6 }))),
  'hostFabric.nft': rules(hostTable({ ...NOTHING, fabric: FABRIC }, NO_FACTS, [])),
  'host.nft': rules(hostTable(NOTHING, NO_FACTS, [])),
  'hostEncrypting.nft': rules(hostTable({ ...NOTHING, encryption: { devices: [], ways: [] } }, NO_FACTS, [])),
  'hostReaching.nft': rules(hostTable(state({ access: ACCESS, entrances: ENTRANCES }), NO_FACTS, [])),
  'container.nft': rules(stubTable([port(2)])),
  'containerIpv6Alone.nft': rules(stubTable([port(2, { resolver: true })])),
  'containerTwoNetworks.nft': rules(stubTable(TWO_NETWORKS)),
};

const CASES: Readonly<Record<string, readonly [what: string, table: Table]>> = {
  'empty.nft': [
    'A tenant without containers here and elsewhere',
    ofRouter(router({ ports: [], remotes: [] })),
  ],
  'ports.nft': [
    'Two containers without groups, and one on another host',
    ofRouter(router({ ports: [port(2), port(3)] })),
  ],
  'ipv4.nft': [
    'A container with IPv4 only, in a tenant that has a way out by IPv4 only',
    ofRouter(
      {
        ...router({ ports: [port(2, { addresses: ['20.1.1.2'], gateways: ['20.1.1.254'] })] }),
        subnets: [{ prefix: '20.1.1.0/24', network: VNI }],
        gateways: ['20.1.1.254'],
      },
      ONLY_IPV4,
    ),
  ],
  'noGateway.nft': [
    'A container in a network without gateways: nothing of it goes outside',
    ofRouter({ ...router({ ports: [port(2, { gateways: [] })] }), gateways: [] }),
  ],
  'bridged.nft': [
    'A cluster in bridge mode: networks of a tenant do not reach each other',
    ofRouter({ ...router({}), bridged: true }),
  ],
  'vlan.nft': [
    'A container in a VLAN network and one in another; another host has one in each, and machines are on the wire',
    ofRouter(VLAN),
  ],
  'infraVlan.nft': [
    'The same where it is an infra network, in which the host has its addresses itself',
    routerTable(ENTERED, ENTERED_BY),
  ],
  'taggedVlan.nft': ['The same in a VLAN network whose groups have VLANs of their own', ofRouter(TAGGED)],
  'externalGateway.nft': [
    "The same in a VLAN network whose gateway is a router of the fabric's own",
    routerTable(EXTERNAL_GATEWAY, exit({}), undefined, WAYS),
  ],
  'direct.nft': [
    'A container in a direct network and one in another; of two other hosts one is on the link',
    ofRouter(DIRECT),
  ],
  'noExit.nft': ['A router without a way out', routerTable(router({}), undefined)],
  'twoNetworks.nft': [
    'A container that is in two networks of its tenant',
    ofRouter({
      ...router({
        ports: TWO_NETWORKS,
      }),
      subnets: [
        { prefix: '20.1.1.0/24', network: VNI },
        { prefix: '20.2.1.0/24', network: 1002 },
        { prefix: 'fd00:1::/64', network: VNI },
      ],
      gateways: [...GATEWAYS, '20.2.1.254'],
    }),
  ],
  'policy.nft': [
    'A container of group 1 that receives TCP 80 from group 2, TCP 443 from 10.0.0.0/8 and from a range, and may not send UDP',
    ofRouter(
      router({
        ports: [port(2, { group: 1, judgedIn: 10, judgedOut: 20 })],
        remotes: [{ address: '20.1.1.9', device: `vx${VNI}`, vtep: PEERS[0] as string, group: 2 }],
        ranges: [
          { first: '10.0.0.0', last: '10.255.255.255', range: 1 },
          { first: '11.0.0.1', last: '11.0.0.3', range: 1 },
          { first: 'fd00:2::', last: 'fd00:2::ffff', range: 1 },
        ],
        ruleSets: [
          {
            id: 10,
            name: 'in default: web',
            narrowed: [{ range: 1, to: 11 }],
            decisions: [
              { group: 2, protocol: 6, port: 80, rule: 1, action: 'allow', key: 'default:web:1' },
              { group: 0, rule: 3, action: 'deny', key: 'default:web:3' },
            ],
          },
          {
            id: 11,
            name: 'in default: web, in range 1',
            narrowed: [],
            decisions: [
              { group: 2, protocol: 6, port: 80, rule: 1, action: 'allow', key: 'default:web:1' },
              { group: 0, protocol: 6, port: 443, rule: 2, action: 'allow', key: 'default:web:2' },
              { group: 0, rule: 3, action: 'deny', key: 'default:web:3' },
            ],
          },
          {
            id: 20,
            name: 'out default: web',
            narrowed: [],
            decisions: [
              { group: 2, protocol: 17, rule: 4, action: 'allow', key: 'default:web:4' },
              { group: 2, rule: 5, action: 'allow', key: 'default:web:5' },
              { group: 0, protocol: 17, rule: 6, action: 'deny', key: 'default:web:6' },
            ],
          },
        ],
      }),
    ),
  ],
  'portRanges.nft': [
    'A workload that receives TCP 8080 to 9000 from whoever has identity 2, and nothing else',
    ofRouter(
      router({
        ports: [port(2, { group: 1, judgedIn: 10 })],
        remotes: [{ address: '20.1.1.9', device: `vx${VNI}`, vtep: PEERS[0] as string, group: 2 }],
        portRanges: RANGE,
        ruleSets: [
          {
            id: 10,
            name: 'in default: NetworkPolicy shop/web',
            narrowed: [],
            narrowedPorts: [{ range: 7, to: 11 }],
            decisions: [{ group: 0, rule: 1, action: 'deny', key: 'NetworkPolicy shop/web' }],
          },
          {
            id: 11,
            name: 'in default: NetworkPolicy shop/web at ports 8080-9000',
            narrowed: [],
            decisions: [
              { group: 2, protocol: 6, rule: 2, action: 'allow', key: 'NetworkPolicy shop/web rule 1' },
              { group: 0, rule: 1, action: 'deny', key: 'NetworkPolicy shop/web' },
            ],
          },
        ],
      }),
    ),
  ],
  'logs.nft': [
    'A rule for two ports that logs what it allows, and one that logs what it denies, as is done anyway',
    ofRouter(router({ ports: [port(2, { judgedIn: 10 })], ruleSets: [LOGGING] })),
  ],
  'services.nft': [
    'A service with three providers, which is four slots, and one whose providers have gone',
    ofRouter(
      router({
        services: [
          {
            name: 'web',
            address: '20.1.1.100',
            ports: [
              { protocol: 'tcp', port: 80, providerPort: 8080 },
              { protocol: 'udp', port: 53, providerPort: 53 },
            ],
            providers: ['20.1.1.2', '20.1.1.3', '20.1.1.9'],
          },
          {
            name: 'gone',
            address: '20.1.1.101',
            ports: [{ protocol: 'tcp', port: 80, providerPort: 80 }],
            providers: [],
          },
        ],
      }),
    ),
  ],
  'services6.nft': [
    'A service of a network of IPv6 alone, with two providers, one of them here, of which the fabric is told',
    ofRouter(
      router({ ports: [{ ...port(2), addresses: ['fd00:6::2'] }], services: [SERVICE6] }),
      exit({ announced: ANNOUNCED6 }),
    ),
  ],
  'everyPort.nft': [
    "A service of Swarm's with three tasks, by every port, and one whose tasks have gone",
    ofRouter(
      router({
        services: [EVERY_PORT, { ...EVERY_PORT, name: 'gone', address: '20.1.1.101', providers: [] }],
      }),
    ),
  ],
  'everyPort6.nft': [
    "A service of Swarm's with addresses of both families",
    ofRouter(router({ services: [EVERY_PORT, EVERY_PORT6] })),
  ],
  'clusterServices.nft': [
    "An orchestrator's service: TCP by IPv4, UDP by IPv6, SCTP that nobody answers, and a node port that has backends elsewhere only",
    ofRouter(router({ clusterServices: [CLUSTER_SERVICE] })),
  ],
  'clusterServiceStaying.nft': [
    "A service whose clients stay for three hours, for certain clients only, one of whose slots is nobody's",
    ofRouter(router({ clusterServices: [STAYING] })),
  ],
  'hostAccess.nft': [
    'A router by which the host reaches the network',
    ofRouter(router({}), exit({ access: ACCESS })),
  ],
  'infra.nft': [
    'A router by which containers and other hosts reach this one, at its addresses in an infra network',
    ofRouter(router({}), exit({ access: INFRA })),
  ],
  'hostReachesServices.nft': [
    'A host that reaches a network and services, with a node port, an external address, and one of the cluster’s that the fabric is told of',
    hostTable(state({ access: ACCESS, entrances: ENTRANCES }), FACTS, [VNI]),
  ],
  'announced.nft': [
    'A container that the fabric is told of, and a service with a provider here',
    ofRouter(router({ publications: [MAP] }), exit({ announced: ANNOUNCED })),
  ],
  'hostAnnounced.nft': [
    'A host that tells the fabric of one tenant’s container and service, and of nothing of another',
    hostTable(
      {
        ...state(
          { announced: ANNOUNCED },
          { tenant: 'blue', vni: 2001, slot: 1, ports: [port(7)], remotes: [] },
        ),
        fabric: FABRIC,
      },
      FACTS,
      [VNI, 2001],
    ),
  ],
  'published.nft': [
    'Published ports: one, three in a row, a hundred in a row, and one by IPv6',
    ofRouter(
      router({
        publications: [
          MAP,
          { ...MAP, protocol: 'udp', hostPort: 5000, transitPort: 5000, port: 6000, count: 3 },
          { ...MAP, hostPort: 7000, transitPort: 7000, port: 7000, count: 100 },
          { ...MAP, address: 'fd00:1::2' },
        ],
      }),
    ),
  ],
  'external.nft': [
    'A container, and an external endpoint in each family, which are members of a group',
    ofRouter({
      ...router({ ports: [port(2)] }),
      externals: [
        { address: '192.0.2.7', group: 5 },
        { address: '2001:db8::7', group: 5 },
      ],
    }),
  ],
  'profile.nft': [
    'A container whose network profile has DSCP 46, and a bandwidth, which is no matter of rules (shape.ts)',
    ofRouter(router({ ports: [port(2, { dscp: 46, limit: { to: { bitsPerSecond: 10_000_000 } } })] })),
  ],
  'hostAlone.nft': [
    'A host without containers of ours, and without others in the cluster',
    hostTable(NOTHING, NO_FACTS, []),
  ],
  'hostTunnels.nft': [
    'A host with two tenants, a tunnel each, of a cluster with an IPv6 member',
    hostTable(
      {
        ...state({}, { tenant: 'blue', vni: 2001, slot: 1, ports: [port(7)], remotes: [] }),
        members: [...PEERS, 'fd00::3'],
      },
      FACTS,
      [VNI, 2001],
    ),
  ],
  'hostEncrypted.nft': [
    'A host whose tunnels send by WireGuard alone',
    hostTable({ ...state({}), ...ENCRYPTING }, FACTS, [VNI]),
  ],
  'hostPublished.nft': [
    'A host that publishes ports at all of its addresses and at one, single ones and ranges',
    hostTable(
      state({
        publications: [
          MAP,
          { ...MAP, hostAddress: LOCAL, hostPort: 8081, transitPort: 8082 },
          { ...MAP, hostPort: 7000, transitPort: 7000, port: 7000, count: 100 },
          { ...MAP, hostAddress: LOCAL, hostPort: 9000, transitPort: 9000, port: 9000, count: 64 },
          { ...MAP, address: 'fd00:1::2' },
        ],
      }),
      FACTS,
      [VNI],
    ),
  ],
};

/** A case's commands, with the file that has their beginning. */
function textOf(what: string, table: Table): string {
  const commands = createCommands(table);
  const [file, beginning = ''] =
    Object.entries(RULES).find(([, text]) => commands === text || commands.startsWith(`${text}\n`)) ?? [];
  expect(file).toBeDefined();
  return `# ${what}.\ninclude "./${file}"${commands.slice(beginning.length)}\n`;
}

const wanted = new Map([
  ...Object.entries(RULES).map(([file, text]) => [file, `${text}\n`] as const),
  ...Object.entries(CASES).map(([file, [what, table]]) => [file, textOf(what, table)] as const),
]);

describe('what the kernel is sent is what stands in golden/', () => {
  if (WRITE) {
    fs.rmSync(GOLDEN, { recursive: true, force: true });
    fs.mkdirSync(GOLDEN);
    for (const [file, text] of wanted) fs.writeFileSync(path.join(GOLDEN, file), text);
  }

  it.each([...wanted])('%s', (file, text) => {
    expect(text).toBe(fs.readFileSync(path.join(GOLDEN, file), 'utf8'));
  });

  it('which has no other files', () => {
    expect(fs.readdirSync(GOLDEN).sort()).toEqual([...wanted.keys()].sort());
  });
});
