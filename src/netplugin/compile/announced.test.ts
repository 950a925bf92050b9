import { expect, it } from 'vitest';
import type { Bgp } from '../../model/bgp.ts';
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

function state(bgp: Bgp | undefined, here: readonly Endpoint[] = HERE): HostState {
  const put = (kind: string, key: string, object: object) => ({ kind, key, object });
  const view = openView([
    ...NETWORKS.map((n) => put('network', `default:${n.networkName}`, n)),
    ...[...here, ...ELSEWHERE].map((e) => put('endpoint', e.endpointID, e)),
    put('serviceLB', 'default:shop', SERVICE),
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
