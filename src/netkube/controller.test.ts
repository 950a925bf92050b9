/** netkube between an API server that does what the real one does not on command, and netmaster's API as it is. */
import { pino } from 'pino';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { type Api, openApi } from '../../test/apiServer.ts';
import { type FakeKubernetes, fakeKubernetes } from '../../test/fakeKubernetes.ts';
import { startController } from './controller.ts';
import { DECLARED } from './declared.ts';
import { type Options, readOptions } from './options.ts';

const PODS = '/api/v1/pods';
const NAMESPACES = '/api/v1/namespaces';
const NODES = '/api/v1/nodes';
const SERVICES = '/api/v1/services';
const SLICES = '/apis/discovery.k8s.io/v1/endpointslices';
const POLICIES = '/apis/networking.k8s.io/v1/networkpolicies';
const CLUSTER_POLICIES = '/apis/policy.networking.k8s.io/v1beta1/clusternetworkpolicies';
const EVENTS = '/api/v1/events';

const namespace = (name: string, more: object = {}) => ({
  metadata: { name, labels: { 'kubernetes.io/metadata.name': name }, ...more },
});
const pod = (name: string, labels: Record<string, string> = {}, spec: object = {}) => ({
  metadata: { name, namespace: 'shop', labels },
  spec: { containers: [{ name: 'c', image: 'i' }], ...spec },
  status: { phase: 'Pending' },
});
const policy = (name: string, spec: object = { podSelector: {} }) => ({
  metadata: { name, namespace: 'shop' },
  spec,
});

interface Run {
  readonly kubernetes: FakeKubernetes;
  readonly netmaster: Api;
  start(flags?: readonly string[]): Promise<{ close(): Promise<void> }>;
  keys(kind: string): string[];
  object(kind: string, key: string): Record<string, unknown> | undefined;
}

async function run(): Promise<Run> {
  const [kubernetes, netmaster] = [await fakeKubernetes(), await openApi()];
  onTestFinished(() => netmaster.close());
  kubernetes.put(NAMESPACES, namespace('shop'));
  return {
    kubernetes,
    netmaster,
    async start(flags = []) {
      const url = `http://127.0.0.1:${netmaster.port}`;
      const options = readOptions([
        ...['--netmaster', url, '--subnet', '10.32.0.0/16', '--listen', '127.0.0.1:0', ...flags],
      ]) as Options;
      const controller = await startController(options, kubernetes.config, pino({ level: 'silent' }));
      let closing: Promise<void> | undefined;
      const close = (): Promise<void> => {
        closing ??= controller.close();
        return closing;
      };
      onTestFinished(close);
      return { close };
    },
    keys: (kind) => [...netmaster.mirror.entries(kind)].map(([key]) => key).sort(),
    object: (kind, key) => netmaster.mirror.get(kind, key),
  };
}

const holds = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 30_000, interval: 20 });

describe('netkube', () => {
  it('makes the network of pods, and of each pod a workload, in as many pages as they come', async () => {
    const { kubernetes, start, keys, object } = await run();
    for (const name of ['a', 'b', 'c', 'd', 'e']) kubernetes.put(PODS, pod(name, { app: name }));
    kubernetes.put(PODS, pod('host', {}, { hostNetwork: true }));
    await start();
    await holds(() => expect(keys('workload')).toEqual(['a', 'b', 'c', 'd', 'e'].map((n) => `shop:${n}`)));
    expect(object('network', 'default:pods')).toMatchObject({ subnet: '10.32.0.0/16', gateway: '10.32.0.1' });
    expect(object('workload', 'shop:a')).toEqual({
      namespaceName: 'shop',
      workloadName: 'a',
      uid: kubernetes.get(PODS, 'a', 'shop')?.metadata.uid,
      tenantName: 'default',
      networkName: 'pods',
      labels: { app: 'a' },
      namespaceLabels: { 'kubernetes.io/metadata.name': 'shop' },
    });
  });

  it('follows changes: of a pod, of its namespace, of policies, and what goes', async () => {
    const { kubernetes, start, keys, object } = await run();
    kubernetes.put(PODS, pod('web', { app: 'web' }));
    await start();
    await holds(() => expect(keys('workload')).toEqual(['shop:web']));
    kubernetes.put(PODS, pod('web', { app: 'shop' }));
    kubernetes.put(NAMESPACES, namespace('shop', { labels: { team: 'blue' } }));
    await holds(() =>
      expect(object('workload', 'shop:web')).toMatchObject({
        labels: { app: 'shop' },
        namespaceLabels: { team: 'blue' },
      }),
    );
    kubernetes.put(POLICIES, policy('deny'));
    await holds(() => expect(keys('networkPolicy')).toEqual(['namespace:shop:deny']));
    expect(object('networkPolicy', 'namespace:shop:deny')).toMatchObject({ isolates: ['in'], rules: [] });
    kubernetes.put(POLICIES, policy('deny', { podSelector: {}, policyTypes: ['Egress'] }));
    await holds(() =>
      expect(object('networkPolicy', 'namespace:shop:deny')).toMatchObject({ isolates: ['out'] }),
    );
    kubernetes.remove(POLICIES, 'deny', 'shop');
    kubernetes.remove(PODS, 'web', 'shop');
    await holds(() => {
      expect(keys('workload')).toEqual([]);
      expect(keys('networkPolicy')).toEqual([]);
    });
  });

  it('loses nothing while it is away, whatever comes and goes meanwhile', async () => {
    const { kubernetes, start, keys } = await run();
    kubernetes.put(PODS, pod('goes'));
    kubernetes.put(PODS, pod('stays'));
    kubernetes.put(POLICIES, policy('goes'));
    const first = await start();
    await holds(() => expect(keys('workload')).toEqual(['shop:goes', 'shop:stays']));
    await holds(() => expect(keys('networkPolicy')).toEqual(['namespace:shop:goes']));
    await first.close();
    kubernetes.remove(PODS, 'goes', 'shop');
    kubernetes.remove(POLICIES, 'goes', 'shop');
    kubernetes.put(PODS, pod('comes'));
    await start();
    await holds(() => {
      expect(keys('workload')).toEqual(['shop:comes', 'shop:stays']);
      expect(keys('networkPolicy')).toEqual([]);
    });
  });

  it('resumes a watch that was cut off without listing again, and lists where the history is gone', async () => {
    const { kubernetes, start, keys } = await run();
    kubernetes.put(PODS, pod('a'));
    await start();
    await holds(() => expect(keys('workload')).toEqual(['shop:a']));
    const lists = (): number => kubernetes.asked.filter((line) => line === `GET ${PODS}`).length;
    const before = lists();
    kubernetes.cut();
    kubernetes.put(PODS, pod('b'));
    await holds(() => expect(keys('workload')).toEqual(['shop:a', 'shop:b']));
    expect(lists()).toBe(before);
    kubernetes.cut(true);
    kubernetes.remove(PODS, 'a', 'shop');
    kubernetes.put(PODS, pod('c'));
    await holds(() => expect(keys('workload')).toEqual(['shop:b', 'shop:c']));
    expect(lists()).toBeGreaterThan(before);
  });

  it('notices ClusterNetworkPolicies when the cluster gets them, and lets go of them when it has them no longer', async () => {
    const { kubernetes, start, keys, object } = await run();
    await start();
    kubernetes.put(PODS, pod('a'));
    await holds(() => expect(keys('workload')).toEqual(['shop:a']));
    kubernetes.serve(CLUSTER_POLICIES, true);
    const spec = { tier: 'Admin', priority: 5, subject: { namespaces: {} } };
    kubernetes.put(CLUSTER_POLICIES, { metadata: { name: 'cnp' }, spec });
    await holds(() => expect(keys('networkPolicy')).toEqual(['admin::cnp']));
    expect(object('networkPolicy', 'admin::cnp')).toMatchObject({
      priority: 5,
      namespaceName: '',
      rules: [],
    });
    kubernetes.put(CLUSTER_POLICIES, { metadata: { name: 'cnp' }, spec: { ...spec, tier: 'Baseline' } });
    await holds(() => expect(keys('networkPolicy')).toEqual(['baseline::cnp']));
    kubernetes.serve(CLUSTER_POLICIES, false);
    kubernetes.cut();
    await holds(() => expect(keys('networkPolicy')).toEqual([]));
  });

  it('joins a Service and its slices, and forgets a slice that goes', async () => {
    const { kubernetes, start, keys, object } = await run();
    const metadata = { namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } };
    const slice = (name: string, address: string) => ({
      metadata: { name, ...metadata },
      addressType: 'IPv4',
      ports: [{ port: 8080, protocol: 'TCP' }],
      endpoints: [{ addresses: [address], conditions: { ready: true } }],
    });
    kubernetes.put(SLICES, slice('web-1', '10.32.0.7'));
    kubernetes.put(SLICES, slice('web-2', '10.32.0.8'));
    await start();
    const spec = {
      clusterIP: '10.96.0.9',
      clusterIPs: ['10.96.0.9'],
      ports: [{ port: 80, protocol: 'TCP' }],
    };
    kubernetes.put(SERVICES, { metadata: { name: 'web', namespace: 'shop' }, spec });
    const backends = (): unknown =>
      (
        object('clusterService', 'shop:web')?.ports as { backends: { address: string }[] }[] | undefined
      )?.[0]?.backends.map((b) => b.address);
    await holds(() => expect(backends()).toEqual(['10.32.0.7', '10.32.0.8']));
    kubernetes.remove(SLICES, 'web-1', 'shop');
    await holds(() => expect(backends()).toEqual(['10.32.0.8']));
    kubernetes.remove(SERVICES, 'web', 'shop');
    await holds(() => expect(keys('clusterService')).toEqual([]));
  });

  it('tells who made a pod what netmaster says of it, goes on with the others, and tries it again', async () => {
    const { kubernetes, netmaster, start, keys, object } = await run();
    kubernetes.put(PODS, pod('good'));
    kubernetes.put(PODS, pod('grouped', { 'io.contiv.net-group': 'db' }));
    kubernetes.put(PODS, pod('lost', { 'io.contiv.network': 'nowhere' }));
    await start();
    await holds(() => expect(keys('workload')).toEqual(['shop:good']));
    const said = (name: string): unknown[] =>
      kubernetes
        .list(EVENTS)
        .filter((event) => (event.involvedObject as { name: string }).name === name)
        .map(({ reason, message }) => `${reason}: ${message}`);
    await holds(() => {
      expect(said('lost')).toEqual([
        'NetworkRefused: workload shop:lost: networkName names network default:nowhere, which does not exist',
      ]);
      expect(said('grouped')).toEqual([
        'NetworkRefused: workload shop:grouped: groupName names endpointGroup default:db, which does not exist',
      ]);
    });
    await netmaster.send('POST', '/api/v1/networks/default:back/', { subnet: '10.40.0.0/24' });
    await netmaster.send('POST', '/api/v1/endpointGroups/default:db/', { networkName: 'back' });
    await netmaster.send('POST', '/api/v1/networks/default:nowhere/', { subnet: '10.41.0.0/24' });
    await holds(() => expect(keys('workload')).toEqual(['shop:good', 'shop:grouped', 'shop:lost']));
    expect(object('workload', 'shop:grouped')).toMatchObject({ networkName: 'back', groupName: 'db' });
  });

  it('puts right what others change of its objects in netmaster, and writes nothing where all is as it should be', async () => {
    const { kubernetes, netmaster, start, keys, object } = await run();
    kubernetes.put(PODS, pod('web', { app: 'web' }));
    const first = await start();
    await holds(() => expect(keys('workload')).toEqual(['shop:web']));
    await netmaster.send('DELETE', '/api/v1/workloads/shop:web/');
    await holds(() => expect(keys('workload')).toEqual(['shop:web']));
    const { labels: _, ...other } = object('workload', 'shop:web') as Record<string, unknown>;
    await netmaster.send('POST', '/api/v1/workloads/shop:web/', other);
    await netmaster.send('POST', '/api/v1/workloads/shop:none/', { ...other, workloadName: 'none' });
    await holds(() => {
      expect(keys('workload')).toEqual(['shop:web']);
      expect(object('workload', 'shop:web')).toMatchObject({ labels: { app: 'web' } });
    });
    await first.close();
    const { revision } = netmaster.mirror;
    await start();
    kubernetes.put(PODS, pod('next'));
    await holds(() => expect(keys('workload')).toEqual(['shop:next', 'shop:web']));
    expect(netmaster.mirror.revision).toBe(revision + 1);
  });

  it("declares contiv's own objects, says in their status what netmaster says, and deletes them where they are deleted", async () => {
    const { kubernetes, netmaster, start, keys, object } = await run();
    const path = (resource: string): string => `/apis/contiv.io/v1/${resource}`;
    for (const { resource } of DECLARED) kubernetes.serve(path(resource), true);
    const declare = (resource: string, name: string, spec: object): void =>
      kubernetes.put(path(resource), { metadata: { name, generation: 1 }, spec });
    const conditions = (resource: string, name: string): string[] | undefined =>
      (
        kubernetes.get(path(resource), name)?.status as { conditions?: Record<string, string>[] } | undefined
      )?.conditions?.map(({ type, status, message }) => `${type} ${status} ${message}`.trim());
    declare('networks', 'front', { subnet: '10.50.0.0/24' });
    declare('networks', 'bad', { subnet: 'x' });
    declare('policies', 'closed', {});
    declare('rules', 'closed-1', { policyName: 'closed', ruleId: '1', direction: 'in', action: 'deny' });
    declare('endpointgroups', 'web', { networkName: 'front', policies: ['closed'] });
    const machine = {
      groupName: 'web',
      ipAddress: ['10.50.0.200'],
      labels: { app: 'files' },
      healthCheck: 'tcp:22',
    };
    declare('externalendpoints', 'files', machine);
    declare('externalendpoints', 'twice', { ...machine, healthCheck: 'ssh' });
    await start();
    await holds(() => {
      expect(object('externalEndpoint', 'default:files')).toMatchObject({
        ...machine,
        endpointName: 'files',
      });
      expect(conditions('externalendpoints', 'files')).toEqual(['Accepted True', 'Applied True']);
      expect(conditions('externalendpoints', 'twice')?.[0]).toContain(
        "Accepted False external endpoint default:twice: healthCheck 'ssh' must be tcp:PORT",
      );
      expect(keys('endpointGroup')).toEqual(['default:web']);
      expect(keys('rule')).toEqual(['default:closed:1']);
      expect(conditions('endpointgroups', 'web')).toEqual(['Accepted True', 'Applied True']);
    });
    expect(conditions('networks', 'bad')).toEqual([
      "Accepted False network default:bad: subnet 'x' is not a subnet: write it as 20.1.1.0/24 or 20.1.1.10-20.1.1.20/24",
      'Applied False it is not accepted',
    ]);
    declare('networks', 'bad', { subnet: '10.51.0.0/24' });
    await holds(() => expect(keys('network')).toEqual(['default:bad', 'default:front', 'default:pods']));
    await netmaster.send('POST', '/api/v1/networks/default:others/', { subnet: '10.52.0.0/24' });
    // Netmaster says so where an address is to be another one, and the object stays as it was.
    declare('externalendpoints', 'files', { ...machine, ipAddress: ['10.50.0.201'] });
    await holds(() => expect(conditions('externalendpoints', 'files')?.[0]).toContain('cannot change'));
    expect(object('externalEndpoint', 'default:files')).toMatchObject(machine);
    const deletionTimestamp = '2026-11-27T00:00:00Z';
    const remove = (resource: string, name: string): void => {
      const found = kubernetes.get(path(resource), name) as { metadata: object };
      kubernetes.put(path(resource), { ...found, metadata: { ...found.metadata, deletionTimestamp } });
    };
    remove('endpointgroups', 'web');
    for (const name of ['files', 'twice']) remove('externalendpoints', name);
    await holds(() => {
      expect(keys('externalEndpoint')).toEqual([]);
      expect(keys('endpointGroup')).toEqual([]);
      expect(kubernetes.get(path('endpointgroups'), 'web')?.metadata).toMatchObject({ finalizers: [] });
    });
    expect(object('network', 'default:others')).toMatchObject({ subnet: '10.52.0.0/24' });
  });

  it('of two only one writes, and the other goes on where that ends', async () => {
    const { kubernetes, start, keys } = await run();
    const first = await start(['--identity', 'first']);
    kubernetes.put(PODS, pod('a'));
    await holds(() => expect(keys('workload')).toEqual(['shop:a']));
    await start(['--identity', 'second']);
    const holder = (): unknown => {
      const lease = kubernetes.get('/apis/coordination.k8s.io/v1/leases', 'netkube', 'contiv-system');
      return (lease?.spec as { holderIdentity?: string } | undefined)?.holderIdentity;
    };
    expect(holder()).toBe('first');
    await first.close();
    kubernetes.put(PODS, pod('b'));
    await holds(() => expect(keys('workload')).toEqual(['shop:a', 'shop:b']));
    expect(holder()).toBe('second');
  });

  it('says of a node whose agent lives that its network is there', async () => {
    const { kubernetes, netmaster, start } = await run();
    kubernetes.put(NODES, {
      metadata: { name: 'node1' },
      status: { conditions: [{ type: 'Ready', status: 'True' }] },
    });
    await start();
    await netmaster.send('PUT', '/api/v1/hosts/node1', { name: 'node1', underlay: '192.0.2.1', mtu: 1500 });
    await holds(() =>
      expect(kubernetes.get(NODES, 'node1')?.status).toMatchObject({
        conditions: [
          { type: 'Ready', status: 'True' },
          { type: 'NetworkUnavailable', status: 'False', reason: 'NetpluginLives' },
        ],
      }),
    );
  });

  it('keeps what there is while netmaster or the API server is away', async () => {
    const { kubernetes, netmaster, start, keys } = await run();
    kubernetes.put(PODS, pod('a'));
    await start();
    await holds(() => expect(keys('workload')).toEqual(['shop:a']));
    kubernetes.serve(PODS, true); // the same path, and nothing in it: as listed, so it goes
    kubernetes.cut(true);
    await holds(() => expect(keys('workload')).toEqual([]));
    netmaster.server.server.closeAllConnections();
    kubernetes.put(PODS, pod('b'));
    await holds(() => expect(keys('workload')).toEqual(['shop:b']));
  });
});
