/**
 * What the routers' chains judge_out and judge_in (dataplane/rules/policy.ts) do with the first packet of a connection, on the
 * elements that they would hold. Two hosts: the sender's judges what it sends, the receiver's what it receives.
 */
import { classid } from '../src/linux/classid.ts';
import { addressNumber } from '../src/model/address.ts';
import type { NetworkPolicy } from '../src/model/networkPolicy.ts';
import type { Packet } from '../src/model/verdict.ts';
import type { Workload } from '../src/model/workload.ts';
import { compile } from '../src/netplugin/compile/compile.ts';
import { inRange } from '../src/netplugin/compile/policy.ts';
import { DENY } from '../src/netplugin/dataplane/rules/marks.ts';
import { routerTable } from '../src/netplugin/dataplane/rules/router.ts';
import { type LocalHost, openView, type View } from '../src/netplugin/intent/view.ts';
import type { Router } from '../src/netplugin/state.ts';
import type { PolicyWorld as GroupWorld } from './policyWorlds.ts';

export interface PolicyWorld extends GroupWorld {
  readonly workloads?: readonly Workload[];
  readonly networkPolicies?: readonly NetworkPolicy[];
}

const HOSTS: Readonly<Record<string, string>> = { node1: '192.0.2.11', node2: '192.0.2.12' };

export const viewOf = (world: PolicyWorld): View =>
  openView([
    ...world.networks.map((n, i) => ({
      kind: 'network',
      key: `${n.tenantName}:${n.networkName}`,
      object: { ...n, vni: i + 1 },
    })),
    ...world.groups.map((g) => ({ kind: 'endpointGroup', key: `${g.tenantName}:${g.groupName}`, object: g })),
    ...world.rules.map((r) => ({
      kind: 'rule',
      key: `${r.tenantName}:${r.policyName}:${r.ruleId}`,
      object: r,
    })),
    ...(world.workloads ?? []).map((w) => ({
      kind: 'workload',
      key: `${w.namespaceName}:${w.workloadName}`,
      object: w,
    })),
    ...(world.networkPolicies ?? []).map((p) => ({
      kind: 'networkPolicy',
      key: `${p.tier}:${p.namespaceName}:${p.policyName}`,
      object: p,
    })),
    ...world.endpoints.map((e) => ({ kind: 'endpoint', key: e.endpointID, object: e })),
    ...Object.entries(HOSTS).map(([name, underlay]) => ({
      kind: 'host',
      key: name,
      object: { name, underlay },
    })),
  ]);

export const localHost = (world: PolicyWorld, name: string): LocalHost => ({
  name,
  underlay: HOSTS[name] as string,
  underlayMtu: 1500,
  lastUnderlays: new Map(),
  transit: '100.127.0.0/16',
  transit6: 'fd6f:6e74:6976::/64',
  guarded: [],
  attachments: new Map(
    world.endpoints
      .filter((e) => e.homingHost === name)
      .map((e) => [e.endpointID, { endpoint: e, phase: 'joined', publications: [], runtime: 'docker' }]),
  ),
  transitSlots: new Map(),
});

export interface Simulator {
  /** The number of the rule that decided on each side; 0: none did. */
  judge(packet: Packet): { readonly verdict: 'allow' | 'deny'; readonly out: string; readonly in: string };
}

export function simulate(world: PolicyWorld): Simulator {
  const view = viewOf(world);
  const sides = Object.keys(HOSTS).map((name) => {
    const router = compile(view, localHost(world, name)).routers[0];
    return {
      addresses: new Set(router?.ports.flatMap((p) => p.addresses)),
      chains: router && chainsOf(router),
    };
  });
  const at = (address: string) => sides.find((side) => side.addresses.has(address))?.chains;
  return {
    judge(packet) {
      const out = at(packet.from)?.('judged_out', packet.from, packet.to, packet) ?? PASS;
      const into = at(packet.to)?.('judged_in', packet.to, packet.from, packet) ?? PASS;
      return { verdict: out.denied || into.denied ? 'deny' : 'allow', out: out.rule, in: into.rule };
    },
  };
}

interface Outcome {
  readonly denied: boolean;
  /** Key of the rule that decided; '' where none did. */
  readonly rule: string;
}
const PASS: Outcome = { denied: false, rule: '' };

type Chains = (set: string, own: string, peer: string, packet: Packet) => Outcome;

/** As the kernel holds the table: maps by key, one range after the other; rule sets by what nft calls their numbers. */
function chainsOf(router: Router): Chains {
  const maps = new Map<string, Map<string, string>>();
  for (const elements of routerTable(router, undefined).parts.values())
    for (const [set, list] of elements) {
      const map = maps.get(set) ?? new Map<string, string>();
      for (const element of list) {
        const [key = '', value = ''] = element.split(' : ');
        if (map.has(key) && map.get(key) !== value) throw new Error(`${set} has two values for ${key}`);
        map.set(key, value);
      }
      maps.set(set, map);
    }
  const keys = new Map(
    router.ruleSets.flatMap((s) => s.decisions.map((d) => [`${classid(s.id)} ${d.rule}`, d.key] as const)),
  );
  const get = (set: string, ...key: (string | number)[]): string | undefined =>
    maps.get(set)?.get(key.join(' . '));
  const ranged = (address: string): string => {
    for (const [text, range] of maps.get(address.includes(':') ? 'ranges6' : 'ranges') ?? [])
      if (inRange(address, bounds(text))) return range;
    return '0';
  };
  const spanned = (port: number): string => {
    for (const [text, range] of maps.get('port_ranges') ?? []) {
      const [start = 0, end = start] = text.split('-').map(Number);
      if (start <= port && port <= end) return range;
    }
    return '0';
  };
  return (set, own, peer, { protocol, port = 0 }) => {
    const v6 = own.includes(':') ? '6' : '';
    const first = get(`${set}${v6}`, own);
    if (first === undefined) return PASS;
    const inRange = get('narrowed', first, ranged(peer)) ?? first;
    const ruleSet = get('narrowed_ports', inRange, spanned(port)) ?? inRange;
    const group = get(`members${v6}`, peer) ?? '0';
    const mark = Number(
      get('by_group_port', ruleSet, group, protocol, port) ??
        get('by_port', ruleSet, protocol, port) ??
        get('by_group_protocol', ruleSet, group, protocol) ??
        get('by_protocol', ruleSet, protocol) ??
        get('by_group_any', ruleSet, group) ??
        get('by_any', ruleSet) ??
        0,
    );
    return { denied: mark >= DENY, rule: keys.get(`${ruleSet} ${mark % DENY}`) ?? '' };
  };
}

/** First and last address of `a`, `a-b` or `a/len`. */
function bounds(text: string): { first: string; last: string; range: number } {
  const [first = '', last] = text.split('-');
  if (last !== undefined) return { first, last, range: 0 };
  const [address = '', length] = text.split('/');
  const v6 = address.includes(':');
  const size = 1n << BigInt((v6 ? 128 : 32) - Number(length ?? (v6 ? 128 : 32)));
  return { first: address, last: lastOf(address, size), range: 0 };
}

function lastOf(address: string, size: bigint): string {
  const number = addressNumber(address) + size - 1n;
  if (!address.includes(':')) return [24n, 16n, 8n, 0n].map((shift) => (number >> shift) & 255n).join('.');
  return Array.from({ length: 8 }, (_, i) => ((number >> BigInt(112 - 16 * i)) & 0xffffn).toString(16)).join(
    ':',
  );
}
