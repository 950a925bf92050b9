/**
 * What hosts report of packets that were judged: how often each rule decided, who was denied, and what containers sent in vain. Status, not
 * intent: it is kept in memory and goes with the rule, the tenant, the endpoint.
 *
 * A report has all that one run of a host's agent has counted, so the newest of each is what is kept, and answers are made of those:
 * a report that comes twice, late or to two netmasters counts once. What runs tells it anew to a netmaster that it follows anew; of runs
 * that have ended counts go with the netmasters that they told them.
 */

import type { Endpoint } from '../model/endpoint.ts';
import { externalAt } from '../model/externalEndpoint.ts';
import type { Network } from '../model/network.ts';
import { networkPolicyKey } from '../model/networkPolicy.ts';
import { workloadName } from '../model/workload.ts';
import type {
  DeniedFlow,
  DroppedPackets,
  FlowReport,
  KeptReport,
  NamedDeniedFlow,
} from '../protocol/messages.ts';
import { externalMember } from './external.ts';
import type { Mirror } from './mirror.ts';

/** Denied flows that are answered of a tenant; twice as many may be kept. */
const KEPT = 1000;
/** Runs of one host's agent whose reports are kept. */
const RUNS = 32;

export interface HitCount {
  readonly packets: number;
  readonly bytes: number;
}

export interface Counts {
  /** Summed over all hosts; undefined where it decided nothing yet. */
  hits(rule: string): HitCount | undefined;
  /** The oldest first; one that comes again is the same with a higher count. */
  denied(tenant: string): NamedDeniedFlow[];
  /** The same of what rules that log allowed. */
  allowed(tenant: string): NamedDeniedFlow[];
  /** Of an endpoint's id, by reason. */
  dropped(endpoint: string): DroppedPackets[];
}

export interface Flows extends Counts {
  report(host: string, report: FlowReport): void;
  /** For other netmasters. */
  kept(): KeptReport[];
  /** The same with what other netmasters keep. */
  including(others: readonly KeptReport[]): Counts;
}

const LISTS = ['denied', 'allowed'] as const;

interface Kept extends Omit<KeptReport, 'hits' | 'denied' | 'allowed' | 'refused'> {
  readonly hits: Map<string, HitCount>;
  denied: readonly NamedDeniedFlow[];
  allowed: readonly NamedDeniedFlow[];
  refused: KeptReport['refused'];
}

/** Of one run of an agent. */
const runOf = ({ host, reporter }: Pick<Kept, 'host' | 'reporter'>): string => `${host} ${reporter}`;
const flowOf = ({ direction, from, to, protocol, port, rule }: DeniedFlow): string =>
  JSON.stringify([direction, from, to, protocol, port, rule]);

const keep = (report: KeptReport): Kept => ({
  ...report,
  allowed: report.allowed ?? [],
  hits: new Map(report.hits.map(({ rule, packets, bytes }) => [rule, { packets, bytes }])),
});

export function trackFlows(mirror: Mirror): Flows {
  /** By run; that which reported last is the last one. */
  const reports = new Map<string, Kept>();

  mirror.onChange((batch) => {
    const gone = batch.changes.filter(({ object }) => object === null);
    const keysOf = (of: string): Set<string> =>
      new Set(gone.filter(({ kind }) => kind === of).map(({ key }) => key));
    const [rules, tenants, endpoints] = [keysOf('rule'), keysOf('tenant'), keysOf('endpoint')];
    const policies = keysOf('networkPolicy');
    if (rules.size + policies.size + tenants.size + endpoints.size === 0) return;
    for (const kept of reports.values()) {
      for (const rule of rules) kept.hits.delete(rule);
      if (policies.size > 0)
        for (const rule of kept.hits.keys())
          if (policies.has(networkPolicyKey(rule) ?? '')) kept.hits.delete(rule);
      if (tenants.size > 0)
        for (const list of LISTS) kept[list] = kept[list].filter(({ tenant }) => !tenants.has(tenant));
      if (endpoints.size > 0) kept.refused = kept.refused.filter(({ endpoint }) => !endpoints.has(endpoint));
    }
  });

  function isKnown(rule: string): boolean {
    const policy = networkPolicyKey(rule);
    return policy === undefined
      ? mirror.get('rule', rule) !== undefined
      : mirror.get('networkPolicy', policy) !== undefined;
  }

  function named(host: string, flow: DeniedFlow): NamedDeniedFlow {
    const [sender, receiver] = [flow.from, flow.to].map((address) => memberAt(mirror, flow.tenant, address));
    return {
      ...flow,
      time: new Date(flow.last).toISOString(),
      host,
      ...(sender?.containerName && { fromContainer: sender.containerName }),
      ...(sender?.groupName && { fromGroup: sender.groupName }),
      ...(receiver?.containerName && { toContainer: receiver.containerName }),
      ...(receiver?.groupName && { toGroup: receiver.groupName }),
      ...(sender?.workload && { fromWorkload: workloadName(sender.workload) }),
      ...(receiver?.workload && { toWorkload: workloadName(receiver.workload) }),
    };
  }

  /** What a flow was named when it was last reported stays, unless it has been denied again. */
  function nameAll(host: string, flows: readonly DeniedFlow[], before: readonly NamedDeniedFlow[]) {
    const known = new Map(before.map((flow) => [`${flow.tenant} ${flowOf(flow)}`, flow]));
    return flows
      .filter(({ tenant }) => mirror.get('tenant', tenant) !== undefined)
      .map((flow) => {
        const old = known.get(`${flow.tenant} ${flowOf(flow)}`);
        return old?.last === flow.last && old.count === flow.count ? old : named(host, flow);
      });
  }

  function drop(tenant: string, list: (typeof LISTS)[number]): void {
    const all = [...reports.values()].flatMap((kept) => kept[list].filter((f) => f.tenant === tenant));
    if (all.length <= 2 * KEPT) return;
    const left = new Set(fairly(all, KEPT));
    for (const kept of reports.values())
      kept[list] = kept[list].filter((flow) => flow.tenant !== tenant || left.has(flow));
  }

  return {
    report(host, { reporter, sequence, hits, refused = [], ...flows }) {
      const run = runOf({ host, reporter });
      const before = reports.get(run);
      if (before !== undefined && sequence <= before.sequence) return; // sent again, or overtaken
      const named = (list: (typeof LISTS)[number]) => nameAll(host, flows[list] ?? [], before?.[list] ?? []);
      const [denied, allowed] = [named('denied'), named('allowed')];
      reports.delete(run);
      reports.set(
        run,
        keep({
          host,
          reporter,
          sequence,
          hits: hits.filter(({ rule }) => isKnown(rule)), // else deleted meanwhile
          denied,
          allowed,
          refused: refused.filter(({ endpoint }) => mirror.get('endpoint', endpoint) !== undefined),
        }),
      );
      if (before === undefined) {
        const runs = [...reports].filter(([, kept]) => kept.host === host);
        for (const [old] of runs.slice(0, -RUNS)) reports.delete(old);
      }
      for (const list of LISTS)
        for (const tenant of new Set({ denied, allowed }[list].map((flow) => flow.tenant)))
          drop(tenant, list);
    },
    kept: () =>
      [...reports.values()].map((kept) => ({
        ...kept,
        hits: [...kept.hits].map(([rule, count]) => ({ rule, ...count })),
        denied: [...kept.denied],
        allowed: [...kept.allowed],
      })),
    including(others) {
      const all = new Map(reports);
      for (const other of others) {
        const own = all.get(runOf(other));
        if (own === undefined || own.sequence < other.sequence) all.set(runOf(other), keep(other));
      }
      return countsOf(all);
    },
    ...countsOf(reports),
  };
}

function flowsOf(
  reports: ReadonlyMap<string, Kept>,
  list: (typeof LISTS)[number],
  tenant: string,
): NamedDeniedFlow[] {
  const flows = new Map<string, NamedDeniedFlow>();
  for (const { host, [list]: kept } of reports.values())
    for (const flow of kept) {
      if (flow.tenant !== tenant) continue;
      const id = `${host} ${flowOf(flow)}`;
      const other = flows.get(id);
      const newest = other !== undefined && other.last > flow.last ? other : flow;
      flows.set(id, { ...newest, count: flow.count + (other?.count ?? 0) });
    }
  return fairly([...flows.values()], KEPT).sort((a, b) => a.last - b.last);
}

function countsOf(reports: ReadonlyMap<string, Kept>): Counts {
  return {
    hits(rule) {
      let sum: HitCount | undefined;
      for (const { hits } of reports.values()) {
        const { packets = 0, bytes = 0 } = hits.get(rule) ?? {};
        if (packets > 0) sum = { packets: (sum?.packets ?? 0) + packets, bytes: (sum?.bytes ?? 0) + bytes };
      }
      return sum;
    },
    denied: (tenant) => flowsOf(reports, 'denied', tenant),
    allowed: (tenant) => flowsOf(reports, 'allowed', tenant),
    dropped(endpoint) {
      const reasons = new Map<string, DroppedPackets & { readonly last: number }>();
      for (const { refused } of reports.values())
        for (const { endpoint: of, reason, packets, last, address, mac } of refused) {
          if (of !== endpoint) continue;
          const other = reasons.get(reason);
          const sender = {
            ...(address === undefined ? {} : { address }),
            ...(mac === undefined ? {} : { mac }),
          };
          const [older, newer] =
            other !== undefined && other.last > last ? [sender, other] : [other, { ...sender, last }];
          reasons.set(reason, {
            ...older,
            ...newer,
            reason,
            packets: packets + (other?.packets ?? 0),
            time: new Date(newer.last).toISOString(),
          });
        }
      return [...reasons.values()].map(({ last: _, ...dropped }) => dropped);
    },
  };
}

/** So many at most: of each sender the newest, and of none more than of another that has more. Who is denied often takes no other's place. */
function fairly(flows: readonly NamedDeniedFlow[], limit: number): NamedDeniedFlow[] {
  if (flows.length <= limit) return [...flows];
  const senders = [...Map.groupBy(flows, ({ from }) => from).values()].sort((a, b) => a.length - b.length);
  let left = limit;
  return senders.flatMap((own, i) => {
    const share = Math.min(own.length, Math.floor(left / (senders.length - i)));
    left -= share;
    return own.sort((a, b) => a.last - b.last).slice(own.length - share);
  });
}

/** The tenant's endpoint that has the address, or its external one. */
export function memberAt(mirror: Mirror, tenant: string, address: string): Endpoint | undefined {
  const [external] = mirror.where('externalEndpoint', externalAt, `${tenant}/${address}`);
  if (external === undefined) return endpointAt(mirror, tenant, address);
  return externalMember(mirror, external);
}

/** The tenant's endpoint that has the address. */
export function endpointAt(mirror: Mirror, tenant: string, address: string): Endpoint | undefined {
  for (const { networkName } of mirror.users<Network>('tenant', tenant, 'network')) {
    const record = mirror.addresses(`${tenant}:${networkName}`).get(address);
    if (record?.object.endpoint !== undefined) return mirror.get('endpoint', record.object.endpoint);
  }
  return undefined;
}
