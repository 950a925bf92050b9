/** What a change costs beside many workloads and policies: work is counted, never time. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { NetworkPolicy } from '../../model/networkPolicy.ts';
import type { Workload } from '../../model/workload.ts';
import { routerTable } from '../dataplane/rules/router.ts';
import { type LocalHost, openView } from '../intent/view.ts';
import type { HostState } from '../state.ts';
import { openCompiler } from './compile.ts';

const counted = vi.hoisted(() => ({ matched: 0, decided: 0 }));
vi.mock('../../model/selector.ts', async (original) => {
  const actual = await original<typeof import('../../model/selector.ts')>();
  return {
    ...actual,
    matcherOf(selector: Parameters<typeof actual.matcherOf>[0]) {
      const matches = actual.matcherOf(selector);
      return (labels: Parameters<typeof matches>[0]) => {
        counted.matched++;
        return matches(labels);
      };
    },
  };
});
vi.mock('./decide.ts', async (original) => {
  const actual = await original<typeof import('./decide.ts')>();
  return {
    ...actual,
    decide(...args: Parameters<typeof actual.decide>) {
      counted.decided++;
      return actual.decide(...args);
    },
  };
});
beforeEach(() => {
  counted.matched = 0;
  counted.decided = 0;
});

const WORKLOADS = 5000;
const HOSTS = 50;
/** Of each app as many pods, and a policy that lets in its friends. */
const app = (i: number, policies: number): string => `app${i % policies}`;
const pod = (i: number, policies: number, labels: object = {}): Workload => ({
  namespaceName: 'shop',
  workloadName: `pod${i}`,
  uid: `u${i}`,
  tenantName: 'default',
  networkName: 'net1',
  labels: { app: app(i, policies), pod: `${i}`, ...labels },
  namespaceLabels: { 'kubernetes.io/metadata.name': 'shop' },
});
const policy = (i: number): NetworkPolicy => ({
  tier: 'namespace',
  namespaceName: 'shop',
  policyName: `p${i}`,
  subject: { workloads: { matchLabels: { app: `app${i}` } } },
  isolates: ['in'],
  rules: [
    {
      direction: 'in',
      action: 'accept',
      peers: [{ workloads: { matchLabels: { friend: `app${i}` } } }],
      ports: [{ protocol: 6, port: 80 }],
    },
  ],
});
const endpoint = (i: number) => ({
  endpointID: `ep${i}`,
  tenantName: 'default',
  networkName: 'net1',
  ipAddress: [`20.1.${i >> 8}.${i & 255}`],
  macAddress: '02:02:14:01:00:01',
  homingHost: `node${i % HOSTS}`,
  status: 'running' as const,
  workload: `shop:pod${i}`,
  workloadUid: `u${i}`,
});

function cluster(policies: number) {
  const all = Array.from({ length: WORKLOADS }, (_, i) => i);
  const view = openView([
    {
      kind: 'network',
      key: 'default:net1',
      object: { tenantName: 'default', networkName: 'net1', subnet: '20.1.0.0/16', encap: 'vxlan', vni: 1 },
    },
    ...Array.from({ length: HOSTS }, (_, i) => ({
      kind: 'host',
      key: `node${i}`,
      object: { name: `node${i}`, underlay: `192.0.2.${i + 1}` },
    })),
    ...all.map((i) => ({ kind: 'endpoint', key: `ep${i}`, object: endpoint(i) })),
    ...all.map((i) => ({ kind: 'workload', key: `shop:pod${i}`, object: pod(i, policies) })),
    ...Array.from({ length: policies }, (_, i) => ({
      kind: 'networkPolicy',
      key: `namespace:shop:p${i}`,
      object: policy(i),
    })),
  ]);
  const local: LocalHost = {
    name: 'node0',
    underlay: '192.0.2.1',
    underlayMtu: 1500,
    lastUnderlays: new Map(),
    transit: '100.127.0.0/16',
    transit6: 'fd6f:6e74:6976::/64',
    guarded: [],
    attachments: new Map(
      all
        .filter((i) => i % HOSTS === 0)
        .map((i) => [`ep${i}`, { endpoint: endpoint(i), phase: 'joined', publications: [], runtime: 'cni' }]),
    ),
    transitSlots: new Map(),
  };
  const compiler = openCompiler();
  return { view, compile: () => compiler.compile(view, local) };
}

function elementsOf({ routers: [router] }: HostState): Set<string> {
  if (router === undefined) return new Set();
  return new Set(
    [...routerTable(router, undefined).parts.values()].flatMap((elements) =>
      [...elements].flatMap(([set, list]) => list.map((element) => `${set} ${element}`)),
    ),
  );
}

describe.each([10, 1000])('beside 5,000 workloads and %i policies', (policies) => {
  const { view, compile } = cluster(policies);
  let before = elementsOf(compile());
  /** What one change writes, and what is looked at for it. */
  function costOf(kind: string, key: string, object: object) {
    counted.matched = 0;
    counted.decided = 0;
    view.put({ kind, key, object } as never);
    const after = elementsOf(compile());
    const added = [...after].filter((e) => !before.has(e)).map((e) => e.split(' ')[0]);
    const removed = [...before].filter((e) => !after.has(e)).map((e) => e.split(' ')[0]);
    before = after;
    return { added: added.sort(), removed: removed.sort(), ...counted };
  }

  it('a label of a workload elsewhere that makes it a friend is its number and one decision', () => {
    expect(costOf('workload', 'shop:pod1', pod(1, policies, { friend: 'app0' }))).toEqual({
      added: ['by_group_port', 'members'],
      removed: ['members'],
      matched: 1,
      decided: 1,
    });
  });

  it('one that no policy asks for is its number alone', () => {
    expect(costOf('workload', 'shop:pod3', pod(3, policies, { colour: 'red' }))).toEqual({
      added: ['members'],
      removed: ['members'],
      matched: 0,
      decided: 0,
    });
  });

  it('one of a workload here is that, and which policies judge it', () => {
    expect(costOf('workload', 'shop:pod0', pod(0, policies, { app: 'nobody' }))).toEqual({
      added: ['members'],
      removed: ['judged_in', 'members'],
      matched: 0,
      decided: 0,
    });
  });

  it('a policy that changes is its own rule set, and a look at each workload for what it selects anew', () => {
    const changed = {
      ...policy(0),
      rules: policy(0).rules.map((r) => ({ ...r, ports: [{ protocol: 6, port: 81 }] })),
    };
    const cost = costOf('networkPolicy', 'namespace:shop:p0', changed);
    expect(cost).toMatchObject({ added: ['by_group_port'], removed: ['by_group_port'], decided: 1 });
    // The workloads here are asked which policies select them: by their labels, one each.
    expect(cost.matched).toBeLessThanOrEqual(WORKLOADS / HOSTS);
  });
});
