/**
 * What a change costs does not grow with what is there, counted: parts of the state, transactions of the kernel, entries.
 */
import { afterEach, beforeAll, expect, it } from 'vitest';
import { clean, inRouter } from '../../test/hostState.ts';
import { isolate } from '../../test/isolation.ts';
import { NETLINK_NETFILTER, openNetlink } from '../linux/netlink.ts';
import { inNamespace, namespacePath } from '../linux/netns.ts';
import { readGeneration } from '../linux/nftset.ts';
import type { Endpoint } from '../model/endpoint.ts';
import type { WatchedObject } from '../protocol/messages.ts';
import { openCompiler } from './compile/compile.ts';
import { openApplier } from './dataplane/applier.ts';
import { type Attachment, type LocalHost, openView } from './intent/view.ts';
import type { HostState } from './state.ts';

const HOSTS = 20;
const HERE = 10;

beforeAll(isolate);
afterEach(clean);

const rule = (group: number, i: number, more: object = {}): WatchedObject => ({
  kind: 'rule',
  key: `default:p${group}:r${i}`,
  object: {
    tenantName: 'default',
    policyName: `p${group}`,
    ruleId: `r${i}`,
    direction: 'in',
    action: i % 2 === 0 ? 'allow' : 'deny',
    protocol: 'tcp',
    port: 1000 + i,
    ...more,
  },
});

const endpoint = (i: number, groups: number): Endpoint => ({
  endpointID: `e${i}`,
  tenantName: 'default',
  networkName: 'n',
  groupName: `g${i % groups}`,
  ipAddress: [`20.1.${i >> 8}.${i & 255}`],
  macAddress: '02:02:14:01:00:01',
  homingHost: i < HERE ? 'h0' : `h${1 + (i % (HOSTS - 1))}`,
  status: 'running',
});

const partsOf = (state: HostState): Set<object> =>
  new Set([
    ...state.exits,
    state.guarded,
    ...state.routers.flatMap((r) => [
      ...[r.tunnels, r.ports, r.hosts, r.services, r.ruleSets].flat(),
      ...[r.subnets, r.gateways, r.publications, r.ranges, r.portRanges],
    ]),
  ]);

/** A host with endpoints in ten groups, of so many in all. Answers how to change something, and what that costs. */
function host(groups: number, endpoints: number): (change: WatchedObject) => object {
  const view = openView();
  const network = { networkName: 'n', subnet: '20.0.0.0/8', vni: 1001 };
  view.put({ kind: 'network', key: 'default:n', object: { tenantName: 'default', ...network } });
  for (let g = 0; g < groups; g++) {
    const object = { tenantName: 'default', groupName: `g${g}`, networkName: 'n', policies: [`p${g}`] };
    view.put({ kind: 'endpointGroup', key: `default:g${g}`, object });
    for (let i = 0; i < 100; i++) {
      const of = i % 10 === 0 ? { fromEndpointGroup: `g${(g + i) % 10}` } : {};
      view.put(rule(g, i, i % 25 === 1 ? { fromIpAddress: `20.${i}.0.0/16` } : of));
    }
  }
  for (let h = 0; h < HOSTS; h++)
    view.put({ kind: 'host', key: `h${h}`, object: { name: `h${h}`, underlay: `192.0.2.${h + 1}` } });
  const attachments = new Map<string, Attachment>();
  for (let i = 0; i < endpoints; i++) {
    const object = endpoint(i, groups);
    view.put({ kind: 'endpoint', key: object.endpointID, object });
    if (i < HERE)
      attachments.set(object.endpointID, {
        endpoint: object,
        phase: 'joining',
        publications: [],
        runtime: 'test',
      });
  }
  const local: LocalHost = {
    name: 'h0',
    underlay: '192.0.2.1',
    underlayMtu: 1500,
    lastUnderlays: new Map(),
    transit: '100.127.0.0/16',
    transit6: 'fd6f::/64',
    guarded: [],
    attachments,
    transitSlots: new Map([['default', 0]]),
  };
  const [compiler, applier] = [openCompiler(), openApplier()];
  let before = new Set<object>();
  const pass = () => {
    const state = compiler.compile(view, local);
    const { writes, reads, failed } = applier.apply(state, { verify: false });
    expect(failed).toEqual([]);
    const now = partsOf(state);
    const fresh = [...now].filter((part) => !before.has(part));
    before = now;
    return { parts: fresh.length, writes, reads };
  };
  pass();
  const netfilter = inNamespace(namespacePath('contiv-default'), () => openNetlink(NETLINK_NETFILTER));
  return (change) => {
    view.put(change);
    const generation = readGeneration(netfilter);
    const cost = pass();
    return { ...cost, transactions: readGeneration(netfilter) - generation };
  };
}

/** Once for all peers, and for those in each of the four prefixes that rules of the policy name. */
const RULE = { parts: 5, writes: 5, reads: 0, transactions: 1 };
const CHANGES: [string, WatchedObject, object][] = [
  ['a rule', rule(1, 7777), RULE],
  ['the end of a rule', { ...rule(1, 7777), object: null }, RULE],
  [
    'a rule of a policy that no group here carries',
    rule(12345, 1),
    { parts: 0, writes: 0, reads: 0, transactions: 0 },
  ],
  [
    'an endpoint of another host',
    { kind: 'endpoint', key: 'new', object: { ...endpoint(5000, 10), endpointID: 'new' } },
    { parts: 1, writes: 4, reads: 0, transactions: 1 },
  ],
];

it('costs as much with 10 groups of 100 rules and 100 endpoints as with 1,000 groups and 4,000 endpoints', () => {
  for (const [groups, endpoints] of [
    [10, 100],
    [1000, 4000],
  ] as const) {
    const change = host(groups, endpoints);
    for (const [what, object, cost] of CHANGES)
      expect(change(object), `${what} with ${groups} groups`).toMatchObject(cost);
    expect(inRouter('ip route show | wc -l').trim()).not.toBe('0');
    clean();
  }
});

/** A host in a tenant with so many services of three backends each. Answers what a change of one writes, and the rules of the router. */
function serving(services: number): { change(backends: number): object; rules(): string } {
  const view = openView();
  const network = { networkName: 'n', subnet: '20.0.0.0/8', vni: 1001 };
  view.put({ kind: 'network', key: 'default:n', object: { tenantName: 'default', ...network } });
  const service = (i: number, backends: number): WatchedObject => ({
    kind: 'clusterService',
    key: `shop:s${i}`,
    object: {
      namespaceName: 'shop',
      serviceName: `s${i}`,
      tenantName: 'default',
      addresses: [`10.96.${i >> 8}.${i & 255}`],
      ports: [
        {
          protocol: 6,
          port: 80,
          nodePort: 30_000 + i,
          backends: Array.from({ length: backends }, (_, n) => ({
            address: `20.2.${i & 255}.${n + 1}`,
            port: 8080,
            ready: true,
            serving: true,
            terminating: false,
          })),
        },
      ],
    },
  });
  for (let i = 0; i < services; i++) view.put(service(i, 3));
  const own: Attachment = { endpoint: endpoint(1, 1), phase: 'joining', publications: [], runtime: 'test' };
  const local: LocalHost = {
    name: 'h0',
    underlay: '192.0.2.1',
    underlayMtu: 1500,
    lastUnderlays: new Map(),
    transit: '100.127.0.0/16',
    transit6: 'fd6f::/64',
    guarded: [],
    attachments: new Map([[own.endpoint.endpointID, own]]),
    transitSlots: new Map([['default', 0]]),
  };
  const [compiler, applier] = [openCompiler(), openApplier()];
  const pass = () => {
    const { writes, reads, failed } = applier.apply(compiler.compile(view, local), { verify: false });
    expect(failed).toEqual([]);
    return { writes, reads };
  };
  pass();
  return {
    change(backends) {
      view.put(service(7, backends));
      return pass();
    },
    rules: () => inRouter('nft list table inet contiv').replaceAll(/^.*elements = \{[^}]*\}\n?/gm, ''),
  };
}

it('costs as much with 10 services of an orchestrator as with 1,000, for a change of backends and for a connection', () => {
  const [few, many] = [10, 1000].map((services) => {
    const { change, rules } = serving(services);
    const costs = {
      // An element at its address, one at the router's end.
      one: change(4),
      // And the size of both, which goes and comes.
      size: change(5),
      none: change(5),
      rules: rules(),
    };
    clean();
    return costs;
  });
  expect(few).toMatchObject({
    one: { writes: 2, reads: 0 },
    size: { writes: 6, reads: 0 },
    none: { writes: 0, reads: 0 },
  });
  expect(many).toEqual(few);
});
