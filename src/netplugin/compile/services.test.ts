import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Endpoint } from '../../model/endpoint.ts';
import type { StoredServiceLB } from '../../model/serviceLB.ts';
import type { SwarmService } from '../../model/swarmService.ts';
import { SERVICE_LABEL } from '../../model/swarmTask.ts';
import { type LocalHost, type MutableView, openView } from '../intent/view.ts';
import type { Service } from '../state.ts';
import { type Compiler, compile, openCompiler } from './compile.ts';
import { arrange } from './services.ts';

const HOSTS = { node1: '192.0.2.1', node2: '192.0.2.2', node3: '192.0.2.3' };
const WEB = { app: 'web', tier: 'front' };

/** Of net1 on node1, running, with the labels of the service. */
const endpoint = (address: string, more: Partial<Endpoint> = {}): Endpoint => ({
  endpointID: `ep ${address}`,
  containerID: `container ${address}`,
  tenantName: 'default',
  networkName: 'net1',
  ipAddress: [address],
  macAddress: '02:02:00:00:00:00',
  homingHost: 'node1',
  status: 'running',
  labels: WEB,
  ...more,
});

const service = (more: Partial<StoredServiceLB> = {}): StoredServiceLB => ({
  tenantName: 'default',
  serviceName: 'lb',
  networkName: 'net1',
  selectors: ['app=web', 'tier=front'],
  ports: ['80:8080:TCP', '53:5353:udp'],
  vip: '20.1.1.100',
  ...more,
});

/** Of Swarm's, in net1 and group web. */
const swarmService = (more: Partial<SwarmService> = {}): SwarmService => ({
  serviceID: 's1',
  swarmNetworkID: 'n1',
  swarm: 'w1',
  serviceName: 'front',
  tenantName: 'default',
  networkName: 'net1',
  groupName: 'web',
  virtualAddress: '20.1.1.200',
  ...more,
});
/** Of a task of it. */
const task = (address: string, more: Partial<Endpoint> = {}): Endpoint =>
  endpoint(address, { groupName: 'web', labels: { [SERVICE_LABEL]: 's1' }, homingHost: 'node2', ...more });

interface Case {
  readonly swarmServices?: readonly SwarmService[];
  readonly services?: readonly StoredServiceLB[];
  readonly endpoints?: readonly Endpoint[];
  /** Live ones. */
  readonly hosts?: readonly (keyof typeof HOSTS)[];
  readonly draining?: readonly (keyof typeof HOSTS)[];
}

function input({
  swarmServices = [],
  services = swarmServices.length > 0 ? [] : [service()],
  endpoints = [],
  hosts = ['node1', 'node2', 'node3'],
  draining = [],
}: Case): [MutableView, LocalHost] {
  const all = [endpoint('20.1.1.1', { labels: {} }), ...endpoints];
  const put = (kind: string, key: string, object: object) => ({ kind, key, object });
  return [
    openView([
      ...['default:net1', 'default:net2', 'blue:net1'].map((key, i) => {
        const [tenantName = '', networkName = ''] = key.split(':');
        return put('network', key, { tenantName, networkName, subnet: `20.1.${i + 1}.0/24`, vni: i + 1 });
      }),
      ...services.map((s) => put('serviceLB', `${s.tenantName}:${s.serviceName}`, s)),
      ...swarmServices.map((s) => put('swarmService', `${s.serviceID}:${s.swarmNetworkID}`, s)),
      ...all.map((e) => put('endpoint', e.endpointID, e)),
      ...hosts.map((name) => put('host', name, { name, underlay: HOSTS[name] })),
      ...draining.map((name) => put('draining', name, { since: 1 })),
    ]),
    {
      name: 'node1',
      underlay: HOSTS.node1,
      underlayMtu: 1500,
      lastUnderlays: new Map(Object.entries(HOSTS)),
      transit: '100.127.0.0/16',
      transit6: 'fd6f:6e74:6976::/64',
      guarded: [],
      attachments: new Map(
        all
          .filter((e) => e.homingHost === 'node1')
          .map((e) => [e.endpointID, { endpoint: e, phase: 'joined', publications: [], runtime: 'docker' }]),
      ),
      transitSlots: new Map(),
    },
  ];
}

const services = (given: Case, compiler: Compiler = { compile }): readonly Service[] =>
  compiler.compile(...input(given)).routers[0]?.services ?? [];
const providers = (given: Case): readonly string[] | undefined => services(given)[0]?.providers;

describe('a service', () => {
  it('is its address, its ports and its providers on all hosts', () => {
    const endpoints = [endpoint('20.1.1.3', { homingHost: 'node2' }), endpoint('20.1.1.2')];
    expect(services({ endpoints })).toEqual([
      {
        name: 'lb',
        address: '20.1.1.100',
        ports: [
          { protocol: 'tcp', port: 80, providerPort: 8080 },
          { protocol: 'udp', port: 53, providerPort: 5353 },
        ],
        providers: ['20.1.1.2', '20.1.1.3'],
      },
    ]);
  });

  it("is there without a provider too, and not in another tenant's router", () => {
    expect(providers({})).toEqual([]);
    expect(
      services({ services: [service({ tenantName: 'blue' })], endpoints: [endpoint('20.1.1.2')] }),
    ).toEqual([]);
  });
});

describe('its providers', () => {
  it('carry all labels, and perhaps others', () => {
    const endpoints = [
      endpoint('20.1.1.2', { labels: { app: 'web' } }),
      endpoint('20.1.1.3', { labels: { app: 'web', tier: 'back' } }),
      endpoint('20.1.1.4', { labels: { ...WEB, more: '' } }),
      endpoint('20.1.1.5', { labels: {} }),
    ];
    expect(providers({ endpoints })).toEqual(['20.1.1.4']);
  });

  it('are of any network and group of the tenant, by their IPv4 addresses', () => {
    const endpoints = [
      endpoint('20.1.2.2', { networkName: 'net2', groupName: 'g', ipAddress: ['20.1.2.2', 'fd00::2'] }),
      endpoint('20.1.1.3', { tenantName: 'blue', homingHost: 'node2' }),
      endpoint('20.1.4.3', { networkName: 'unknown', homingHost: 'node2' }),
    ];
    expect(providers({ endpoints })).toEqual(['20.1.2.2']);
  });

  it('are not on a host that is drained, its own host included, unless all healthy ones are', () => {
    const at = (address: string, homingHost: string, status: Endpoint['status'] = 'running') =>
      endpoint(address, { status, homingHost });
    const both = [at('20.1.1.2', 'node1'), at('20.1.1.3', 'node2')];
    const sick = at('20.1.1.4', 'node3', 'unhealthy');
    expect(providers({ endpoints: both, draining: ['node1'] })).toEqual(['20.1.1.3']);
    expect(providers({ endpoints: both, draining: ['node2'] })).toEqual(['20.1.1.2']);
    expect(providers({ endpoints: [...both, sick], draining: ['node1', 'node2'] })).toEqual([
      '20.1.1.2',
      '20.1.1.3',
    ]);
    const allSick = [at('20.1.1.2', 'node1', 'unhealthy'), sick];
    expect(providers({ endpoints: allSick, draining: ['node1'] })).toEqual(['20.1.1.4']);
    expect(providers({ endpoints: allSick, draining: ['node1', 'node3'] })).toEqual(['20.1.1.2', '20.1.1.4']);
  });

  it('come and go with the drain of their host, by one view', () => {
    const compiler = openCompiler();
    const [view, local] = input({
      endpoints: [endpoint('20.1.1.2'), endpoint('20.1.1.3', { homingHost: 'node2' })],
    });
    const now = () => compiler.compile(view, local).routers[0]?.services[0]?.providers;
    expect(now()).toEqual(['20.1.1.2', '20.1.1.3']);
    view.put({ kind: 'draining', key: 'node2', object: { since: 1 } });
    expect(now()).toEqual(['20.1.1.2']);
    view.put({ kind: 'draining', key: 'node2', object: null });
    expect(now()).toEqual(['20.1.1.2', '20.1.1.3']);
  });

  it('run: not created, paused, or on a dead host; unhealthy only where no other is left', () => {
    const at = (address: string, status: Endpoint['status'], homingHost = 'node1') =>
      endpoint(address, { status, homingHost });
    const sick = [at('20.1.1.2', 'unhealthy'), at('20.1.1.3', 'unhealthy', 'node2')];
    const others = [
      at('20.1.1.4', 'created'),
      at('20.1.1.5', 'paused', 'node2'),
      at('20.1.1.6', 'running', 'node3'),
    ];
    const hosts = ['node1', 'node2'] as const;
    expect(providers({ hosts, endpoints: [...sick, ...others] })).toEqual(['20.1.1.2', '20.1.1.3']);
    const healthy = at('20.1.1.7', 'running', 'node2');
    expect(providers({ hosts, endpoints: [...sick, ...others, healthy] })).toEqual(['20.1.1.7']);
  });

  it('count once where a container is on several networks, by its address in that of the service', () => {
    const endpoints = [
      endpoint('20.1.2.2', { networkName: 'net2', containerID: 'c' }),
      endpoint('20.1.1.9', { containerID: 'c' }),
    ];
    for (const order of [endpoints, endpoints.toReversed()]) {
      expect(providers({ endpoints: order })).toEqual(['20.1.1.9']);
      expect(providers({ endpoints: order, services: [service({ networkName: 'net2' })] })).toEqual([
        '20.1.2.2',
      ]);
    }
  });

  it('of this host are as its runtime says, whatever netmaster lists', () => {
    const [view, local] = input({ endpoints: [endpoint('20.1.1.2')] });
    view.put({ kind: 'endpoint', key: 'gone', object: endpoint('20.1.1.3', { endpointID: 'gone' }) });
    view.put({ kind: 'host', key: 'node1', object: null });
    expect(compile(view, local).routers[0]?.services[0]?.providers).toEqual(['20.1.1.2']);
  });
});

describe("a virtual address of Swarm's", () => {
  it("leads by every port to the service's tasks in its network and group, as they run", () => {
    const endpoints = [
      task('20.1.1.2'),
      task('20.1.1.3', { homingHost: 'node1' }),
      task('20.1.1.4', { groupName: 'db' }),
      task('20.1.2.5', { networkName: 'net2' }),
      task('20.1.1.6', { labels: { [SERVICE_LABEL]: 's2' } }),
      task('20.1.1.7', { status: 'created' }),
      task('20.1.1.8', { status: 'paused' }),
      task('20.1.1.9', { status: 'unhealthy' }),
    ];
    expect(services({ swarmServices: [swarmService()], endpoints })).toEqual([
      {
        name: 'front/n1',
        address: '20.1.1.200',
        ports: [],
        everyPort: true,
        providers: ['20.1.1.2', '20.1.1.3'],
      },
    ]);
  });

  it('is one in each network of a service, and none of one without', () => {
    const db = swarmService({ swarmNetworkID: 'n2', groupName: 'db', virtualAddress: '20.1.1.201' });
    const { virtualAddress: _, ...without } = swarmService({ serviceID: 's3' });
    const endpoints = [task('20.1.1.2'), task('20.1.1.4', { groupName: 'db' })];
    const found = services({ swarmServices: [swarmService(), db, without], endpoints });
    expect(found.map(({ address, providers: to }) => [address, to])).toEqual([
      ['20.1.1.200', ['20.1.1.2']],
      ['20.1.1.201', ['20.1.1.4']],
    ]);
  });

  it("of IPv6 leads to the tasks' addresses of that family, in a service of its own", () => {
    const both = swarmService({ ipv6VirtualAddress: 'fd00:1::200' });
    const endpoints = [task('20.1.1.2', { ipAddress: ['20.1.1.2', 'fd00:1::2'] }), task('20.1.1.3')];
    const every = { ports: [], everyPort: true };
    expect(services({ swarmServices: [both], endpoints })).toEqual([
      { name: 'front/n1', address: '20.1.1.200', ...every, providers: ['20.1.1.2', '20.1.1.3'] },
      { name: 'front/n1/6', address: 'fd00:1::200', ...every, providers: ['fd00:1::2'] },
    ]);
  });

  it('that two have, as one of a Swarm that is forgotten, is in the table once', () => {
    const old = swarmService({ serviceID: 's0', swarm: 'w0' });
    const found = services({ swarmServices: [swarmService(), old], endpoints: [task('20.1.1.2')] });
    expect(found.map((s) => s.providers)).toEqual([['20.1.1.2']]);
  });
});

describe('a change', () => {
  const web = (...last: number[]): Endpoint[] =>
    last.map((n) => endpoint(`20.1.1.${n}`, { homingHost: 'node2' }));

  it('of one service leaves the others the same objects', () => {
    const compiler = openCompiler();
    const given = [service(), service({ serviceName: 'other', vip: '20.1.1.101', selectors: ['app=db'] })];
    const db = endpoint('20.1.1.9', { labels: { app: 'db' } });
    const before = services({ services: given, endpoints: [db, ...web(2, 3)] }, compiler);
    const after = services({ services: given, endpoints: [db, ...web(2, 3, 4)] }, compiler);
    expect(after.map((s) => s.name)).toEqual(['lb', 'other']);
    expect(after[0]?.providers).toEqual(['20.1.1.2', '20.1.1.3', '20.1.1.4']);
    expect(after[1]).toBe(before[1]);
  });

  it('moves nobody but the last, into a gap', () => {
    const compiler = openCompiler();
    const slots = (...last: number[]) =>
      services({ endpoints: web(...last) }, compiler)[0]?.providers.map((a) => Number(a.split('.')[3]));
    expect(slots(2, 3, 4, 5)).toEqual([2, 3, 4, 5]);
    expect(slots(2, 4, 5)).toEqual([2, 5, 4]);
    expect(slots(2, 3, 4, 5)).toEqual([2, 5, 4, 3]);
    expect(slots(3, 4, 5, 6)).toEqual([6, 5, 4, 3]);
  });

  it('leaves each its one slot, and as many in place as can be', () => {
    const addresses = fc.uniqueArray(fc.integer({ min: 0, max: 20 }).map(String), { maxLength: 15 });
    fc.assert(
      fc.property(addresses, addresses, (before, wanted) => {
        const slots = arrange(before, wanted);
        expect(slots.toSorted()).toEqual(wanted.toSorted());
        const gone = before.filter((a) => !wanted.includes(a)).length;
        const come = wanted.length - (before.length - gone);
        const moved = before.filter((a, slot) => wanted.includes(a) && slots[slot] !== a).length;
        expect(moved).toBeLessThanOrEqual(Math.max(0, gone - come));
      }),
    );
  });
});
