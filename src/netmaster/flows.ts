/**
 * What hosts report of packets that were judged: how often each rule decided, who was denied, and what containers sent in vain. Status, not intent: it is kept in
 * memory, counts from this netmaster's start (a rule's from its creation, if that was later), and goes with the rule.
 */

import type { Endpoint } from '../model/endpoint.ts';
import type { Network } from '../model/network.ts';
import { networkPolicyKey } from '../model/networkPolicy.ts';
import { workloadName } from '../model/workload.ts';
import type {
  DeniedFlow,
  DroppedPackets,
  FlowReport,
  NamedDeniedFlow,
  RefusedPackets,
} from '../protocol/messages.ts';
import type { Mirror } from './mirror.ts';

/** Denied flows that are kept of a tenant; one that comes again is the same with a higher count. */
const KEPT = 1000;

export interface HitCount {
  readonly packets: number;
  readonly bytes: number;
}

export interface Flows {
  report(host: string, report: FlowReport): void;
  /** Summed over all hosts; undefined where it decided nothing yet. */
  hits(rule: string): HitCount | undefined;
  /** The oldest first. */
  denied(tenant: string): NamedDeniedFlow[];
  /** Of an endpoint's id, by reason. */
  dropped(endpoint: string): DroppedPackets[];
}

export function trackFlows(mirror: Mirror): Flows {
  /** By rule. */
  const counts = new Map<string, HitCount>();
  const denied = new Map<string, Map<string, NamedDeniedFlow>>();
  /** By endpoint, then by reason. */
  const dropped = new Map<string, Map<string, DroppedPackets>>();
  const latest = new Map<string, { reporter: string; sequence: number }>();

  mirror.onChange((batch) => {
    for (const { kind, key, object } of batch.changes) {
      if (object !== null) continue;
      if (kind === 'rule') counts.delete(key);
      if (kind === 'networkPolicy')
        for (const rule of counts.keys()) if (networkPolicyKey(rule) === key) counts.delete(rule);
      if (kind === 'tenant') denied.delete(key);
      if (kind === 'endpoint') dropped.delete(key);
    }
  });

  function isKnown(rule: string): boolean {
    const policy = networkPolicyKey(rule);
    return policy === undefined
      ? mirror.get('rule', rule) !== undefined
      : mirror.get('networkPolicy', policy) !== undefined;
  }

  function addDenied(host: string, flow: DeniedFlow): void {
    if (mirror.get('tenant', flow.tenant) === undefined) return;
    const flows = denied.get(flow.tenant) ?? new Map<string, NamedDeniedFlow>();
    denied.set(flow.tenant, flows);
    const { from, to, protocol, port, rule, direction } = flow;
    const id = JSON.stringify([host, direction, from, to, protocol, port, rule]);
    const count = (flows.get(id)?.count ?? 0) + flow.count;
    const [sender, receiver] = [from, to].map((address) => endpointAt(mirror, flow.tenant, address));
    flows.delete(id);
    flows.set(id, {
      ...flow,
      time: new Date(flow.last).toISOString(),
      host,
      count,
      ...(sender?.containerName && { fromContainer: sender.containerName }),
      ...(sender?.groupName && { fromGroup: sender.groupName }),
      ...(receiver?.containerName && { toContainer: receiver.containerName }),
      ...(receiver?.groupName && { toGroup: receiver.groupName }),
      ...(sender?.workload && { fromWorkload: workloadName(sender.workload) }),
      ...(receiver?.workload && { toWorkload: workloadName(receiver.workload) }),
    });
    if (flows.size > KEPT) flows.delete(oldestOfMany(flows));
  }

  function addDropped({ endpoint, reason, packets, last, address, mac }: RefusedPackets): void {
    if (mirror.get('endpoint', endpoint) === undefined) return;
    const reasons = dropped.get(endpoint) ?? new Map<string, DroppedPackets>();
    dropped.set(endpoint, reasons);
    const before = reasons.get(reason);
    reasons.set(reason, {
      ...before,
      reason,
      packets: (before?.packets ?? 0) + packets,
      time: new Date(last).toISOString(),
      ...(address === undefined ? {} : { address }),
      ...(mac === undefined ? {} : { mac }),
    });
  }

  return {
    report(host, { reporter, sequence, hits, denied: flows, refused = [] }) {
      const last = latest.get(host);
      if (last?.reporter === reporter && sequence <= last.sequence) return; // sent again: its answer was lost
      latest.set(host, { reporter, sequence });
      for (const { rule, packets, bytes } of hits) {
        if (!isKnown(rule)) continue; // deleted meanwhile
        const sum = counts.get(rule) ?? { packets: 0, bytes: 0 };
        counts.set(rule, { packets: sum.packets + packets, bytes: sum.bytes + bytes });
      }
      for (const flow of flows) addDenied(host, flow);
      for (const packets of refused) addDropped(packets);
    },
    hits: (rule) => counts.get(rule),
    dropped: (endpoint) => [...(dropped.get(endpoint)?.values() ?? [])],
    denied: (tenant) => [...(denied.get(tenant)?.values() ?? [])].sort((a, b) => a.last - b.last),
  };
}

/** The oldest flow of the sender that has the most: who is denied often takes no other's place. */
function oldestOfMany(flows: ReadonlyMap<string, NamedDeniedFlow>): string {
  const bySender = Map.groupBy(flows, ([, flow]) => flow.from);
  const lists = [...bySender.values()].sort((a, b) => b.length - a.length);
  return lists[0]?.[0]?.[0] ?? '';
}

/** The tenant's endpoint that has the address. */
export function endpointAt(mirror: Mirror, tenant: string, address: string): Endpoint | undefined {
  for (const { networkName } of mirror.users<Network>('tenant', tenant, 'network')) {
    const record = mirror.addresses(`${tenant}:${networkName}`).get(address);
    if (record?.object.endpoint !== undefined) return mirror.get('endpoint', record.object.endpoint);
  }
  return undefined;
}
