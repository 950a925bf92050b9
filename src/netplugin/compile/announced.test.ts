import { describe, expect, it } from 'vitest';
import type { Bgp } from '../../model/bgp.ts';
import type { ClusterService } from '../../model/clusterService.ts';
import type { Endpoint } from '../../model/endpoint.ts';
import { type Attachment, openView, type WatchedNetwork } from '../intent/view.ts';
import type { HostState } from '../state.ts';
import { compile } from './compile.ts';

const NETWORK = { tenantName: 'default', vni: 1001, subnet: '20.1.1.0/24', gateway: '20.1.1.254' };
const NETWORKS: WatchedNetwork[] = [
  { ...NETWORK, networkName: 'told', advertise: true },
  {
    ...NETWORK,
    networkName: 'both',
    vni: 1002,
    subnet: '20.1.2.0/24',
    gateway: '20.1.2.254',
    ipv6Subnet: 'fd00:2::/64',
    ipv6Gateway: 'fd00:2::1',
    advertise: true,
  },
  // Without a gateway for IPv6 nobody there is answered.
  {
    ...NETWORK,
    networkName: 'four',
    vni: 1003,
    subnet: '20.1.3.0/24',
    gateway: '20.1.3.254',
    ipv6Subnet: 'fd00:3::/64',
    advertise: true,
  },
  { ...NETWORK, networkName: 'own', vni: 1004, subnet: '20.1.4.0/24', gateway: '20.1.4.254' },
];
const SERVICE = {
  tenantName: 'default',
  serviceName: 'shop',
  networkName: 'told',
  selectors: ['app=web'],
  ports: ['80:8080:TCP'],
  vip: '20.1.1.200',
};
const SPEAKS: Bgp = { hostname: 'node1', routerip: '50.1.1.2/24', as: '65001', neighbor: '50.1.1.1' };

const endpoint = (networkName: string, ipAddress: string[], more: Partial<Endpoint> = {}): Endpoint => ({
  endpointID: ipAddress.join(),
  tenantName: 'default',
  networkName,
  ipAddress,
  macAddress: '02:02:14:01:01:02',
  homingHost: 'node1',
  status: 'running',
  ...more,
});
const HERE = [
  endpoint('told', ['20.1.1.2'], { labels: { app: 'web' } }),
  endpoint('both', ['20.1.2.2', 'fd00:2::2']),
  endpoint('four', ['20.1.3.2', 'fd00:3::2']),
  endpoint('own', ['20.1.4.2']),
];
const ELSEWHERE = [endpoint('told', ['20.1.1.9'], { homingHost: 'node2', labels: { app: 'web' } })];

function state(
  bgp: Bgp | undefined,
  here: readonly Endpoint[] = HERE,
  clusterServices: readonly ClusterService[] = [],
  draining: readonly string[] = [],
): HostState {
  const put = (kind: string, key: string, object: object) => ({ kind, key, object });
  const view = openView([
    ...NETWORKS.map((n) => put('network', `default:${n.networkName}`, n)),
    ...[...here, ...ELSEWHERE].map((e) => put('endpoint', e.endpointID, e)),
    put('serviceLB', 'default:shop', SERVICE),
    ...clusterServices.map((s) => put('clusterService', `${s.namespaceName}:${s.serviceName}`, s)),
    ...draining.map((name) => put('draining', name, { name })),
    put('host', 'node2', { name: 'node2', underlay: '192.0.2.2' }),
    ...(bgp === undefined ? [] : [put('Bgp', bgp.hostname, bgp)]),
  ]);
  const attachments = here.map((of): [string, Attachment] => [
    of.endpointID,
    { endpoint: of, phase: 'joined', publications: [], runtime: of.ofHost ? 'host' : 'docker' },
  ]);
  return compile(view, {
    name: 'node1',
    underlay: '192.0.2.1',
    underlayMtu: 1500,
    lastUnderlays: new Map(),
    transit: '100.127.0.0/16',
    transit6: 'fd6f:6e74:6976::/64',
    guarded: [],
    attachments: new Map(attachments),
    transitSlots: new Map([['default', 0]]),
  });
}

it('a host that speaks BGP announces the containers that run on it in networks that advertise, and services with a provider there', () => {
  const { exits, fabric } = state(SPEAKS);
  expect(fabric).toEqual({ addresses: ['50.1.1.2'] });
  expect(exits[0]?.announced).toEqual({
    addresses: ['20.1.1.2', '20.1.2.2', '20.1.3.2', 'fd00:2::2'],
    services: [
      {
        address: '20.1.1.200',
        ports: [{ protocol: 'tcp', port: 80, providerPort: 8080 }],
        providers: ['20.1.1.2'],
      },
    ],
  });
});

it('a service is announced by no host without a provider, and a host’s own address by none', () => {
  const { exits } = state(SPEAKS, [
    endpoint('both', ['20.1.2.2']),
    endpoint('told', ['20.1.1.3'], { ofHost: true }),
  ]);
  expect(exits[0]?.announced).toEqual({ addresses: ['20.1.2.2'], services: [] });
});

it('a host without BGP, without a neighbour, or of another name announces nothing', () => {
  for (const bgp of [undefined, { ...SPEAKS, neighbor: '' }, { ...SPEAKS, hostname: 'node2' }]) {
    const { exits, fabric } = state(bgp);
    expect(fabric).toBeUndefined();
    expect(exits[0]).not.toHaveProperty('announced');
  }
});

describe('addresses of an orchestrator’s services', () => {
  const TOLD: Bgp = { ...SPEAKS, services: '203.0.113.0/24,10.96.0.0/16' };
  const backend = (host: string, ready = true) => ({
    address: host === 'node1' ? '20.1.1.2' : '20.1.1.9',
    port: 8080,
    host,
    ready,
    serving: ready,
    terminating: false,
  });
  const service = (
    backends: ReturnType<typeof backend>[],
    more: Partial<ClusterService> = {},
  ): ClusterService => ({
    namespaceName: 'shop',
    serviceName: 'web',
    tenantName: 'default',
    addresses: ['10.96.0.10'],
    externalAddresses: ['203.0.113.10', '198.51.100.10'],
    ports: [{ protocol: 6, port: 80, backends }],
    ...more,
  });
  const served = (
    services: readonly ClusterService[],
    bgp: Bgp = TOLD,
    draining: readonly string[] = [],
  ): readonly string[] | undefined => state(bgp, HERE, services, draining).exits[0]?.announced?.served;
  const near = service([backend('node1'), backend('node2')]);
  const far = service([backend('node2')]);

  it('are announced in the prefixes that the host’s BGP names, external ones and the cluster’s own, and no others', () => {
    expect(served([near])).toEqual(['10.96.0.10', '203.0.113.10']);
    expect(served([near], { ...SPEAKS, services: '203.0.113.0/24' })).toEqual(['203.0.113.10']);
    expect(served([near], SPEAKS)).toBeUndefined();
    expect(state(SPEAKS, HERE, [near]).exits[0]?.announced).not.toHaveProperty('served');
  });

  it('with policy local only where a backend is ready, else where any answers anywhere', () => {
    const local = { externalTraffic: 'local' } as const;
    expect(served([far])).toEqual(['10.96.0.10', '203.0.113.10']);
    expect(served([{ ...near, ...local }])).toHaveLength(2);
    expect(served([{ ...far, ...local }])).toBeUndefined();
    expect(served([service([backend('node1', false), backend('node2')], local)])).toBeUndefined();
    expect(served([service([backend('node1', false)])])).toBeUndefined();
    expect(served([{ ...near, ...local }], TOLD, ['node1'])).toBeUndefined();
  });

  it('by IPv6 where a backend has that', () => {
    const bgp = { ...SPEAKS, services: '2001:db8::/64' };
    const addresses = { externalAddresses: ['2001:db8::10'] };
    expect(served([service([backend('node1')], addresses)], bgp)).toBeUndefined();
    const six = { ...backend('node1'), address: 'fd00:2::2' };
    expect(served([service([six], addresses)], bgp)).toEqual(['2001:db8::10']);
  });

  it('lead away nothing that is a host’s or a container’s', () => {
    const bgp = { ...SPEAKS, services: '192.0.2.0/24,20.1.0.0/16' };
    const externalAddresses = ['192.0.2.1', '192.0.2.2', '192.0.2.3', '20.1.1.2', '20.1.1.200'];
    expect(served([service([backend('node1')], { externalAddresses })], bgp)).toEqual(['192.0.2.3']);
  });
});
