/**
 * What was judged on this host, told to netmaster: how often each rule decided, who was denied what, and what containers sent
 * in vain.
 *
 *   kernel --readings: rule set, rule number, counter--> increments by rule key --report, once--> netmaster
 *
 * The kernel's counters begin anew with its table; netmaster gets differences. A report is sent again until netmaster has
 * taken it, under the same number, so that it counts once; what comes meanwhile waits for the next.
 */
import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import type { Client } from '../../client/client.ts';
import type { DeniedFlow, FlowReport, RefusedPackets, RuleHits } from '../../protocol/messages.ts';
import { type Dataplane, HOST, type Observation } from '../dataplane/index.ts';
import type { Follower } from '../follower.ts';
import { FLOWS_INTERVAL } from '../intervals.ts';
import type { HostState, Router, RuleSet } from '../state.ts';
import { inTurn } from '../turns.ts';

/** Flows and rules in one report; of flows that wait for netmaster the oldest are dropped. */
const FLOWS = 1000;
const RULES = 2000;

export interface Tally {
  /** `now` in milliseconds, Unix time. */
  take(state: HostState, observed: readonly Observation[], now: number): void;
  /** What is to be told; the same until `taken`. undefined: nothing. */
  report(): FlowReport | undefined;
  taken(): void;
}

interface Seen {
  readonly table: string;
  readonly readings: ReadonlyMap<string, { readonly packets: number; readonly bytes: number }>;
  /** Rule keys by rule set and rule, also of rule sets that went, while the kernel has their counters. */
  readonly keys: ReadonlyMap<string, string>;
  /** Packets by device and reason, those that are of no device too. */
  readonly refused: ReadonlyMap<string, number>;
}

/** `reporter` names this run of the agent. `count` is told of what was refused, of tenants and of their exits alike; tenant '': of the host. */
export function openTally(
  reporter: string,
  count: (tenant: string, reason: string, packets: number) => void = () => {},
): Tally {
  const seen = new Map<string, Seen>();
  const hits = new Map<string, RuleHits>();
  const denied = new Map<string, DeniedFlow>();
  /** By endpoint and reason: as many as this host has ports. */
  const refused = new Map<string, RefusedPackets>();
  let sequence = 0;
  let pending: FlowReport | undefined;

  function takeHits(router: Router | undefined, observation: Observation): void {
    const { namespace, table, hits: read } = observation;
    const known = seen.get(namespace);
    const before = known?.table === table ? known.readings : undefined;
    const readings = new Map<string, { packets: number; bytes: number }>(
      read.map(({ ruleSet, rule, packets, bytes }) => [`${ruleSet} ${rule}`, { packets, bytes }]),
    );
    const keys = new Map<string, string>(
      (router?.ruleSets ?? []).flatMap((s) => s.decisions.map((d) => [`${s.id} ${d.rule}`, d.key] as const)),
    );
    for (const id of readings.keys()) {
      const key = keys.get(id) ?? known?.keys.get(id);
      if (key !== undefined) keys.set(id, key);
    }
    seen.set(namespace, {
      table,
      readings,
      keys,
      refused: new Map([
        ...observation.refused.map((r) => [`${r.device} ${r.reason}`, r.packets] as const),
        ...observation.dropped.map((d) => [` ${d.reason}`, d.packets] as const),
      ]),
    });
    for (const [id, now] of readings) {
      const key = keys.get(id);
      const last = before?.get(id);
      // Less than before: somebody has emptied the set.
      const from = last === undefined || now.packets < last.packets ? { packets: 0, bytes: 0 } : last;
      const packets = now.packets - from.packets;
      if (packets === 0 || key === undefined) continue;
      const sum = hits.get(key) ?? { rule: key, packets: 0, bytes: 0 };
      hits.set(key, {
        rule: key,
        packets: sum.packets + packets,
        bytes: sum.bytes + now.bytes - from.bytes,
      });
    }
  }

  /** Packets since the observation before, before takeHits forgets it. */
  function newOf({ namespace, table }: Observation, device: string, reason: string, total: number): number {
    const known = seen.get(namespace);
    const last = (known?.table === table ? known.refused.get(`${device} ${reason}`) : undefined) ?? 0;
    return total < last ? total : total - last;
  }

  function takeDropped(tenant: string, observation: Observation): void {
    for (const { reason, packets: total } of observation.dropped) {
      const packets = newOf(observation, '', reason, total);
      if (packets > 0) count(tenant, reason, packets);
    }
  }

  function takeRefused(router: Router, observation: Observation, now: number): void {
    const endpoints = new Map(router.ports.map((p) => [p.device, p.endpoint]));
    for (const { device, reason, packets: total } of observation.refused) {
      const packets = newOf(observation, device, reason, total);
      if (packets === 0) continue;
      count(router.tenant, reason, packets);
      const endpoint = endpoints.get(device);
      if (endpoint === undefined) continue;
      const id = `${endpoint} ${reason}`;
      const sum = refused.get(id);
      refused.set(id, { ...sum, endpoint, reason, packets: (sum?.packets ?? 0) + packets, last: now });
    }
    for (const { device, address, mac } of observation.foreign) {
      const endpoint = endpoints.get(device);
      if (endpoint === undefined) continue;
      const id = `${endpoint} source`;
      const sum = refused.get(id) ?? { endpoint, reason: 'source', packets: 0, last: now };
      refused.set(id, { ...sum, address, mac });
    }
  }

  function takeDenied(router: Router, { denied: packets }: Observation, now: number): void {
    for (const { direction, from, to, protocol, port, rule } of packets) {
      const flow = {
        tenant: router.tenant,
        direction,
        from,
        to,
        protocol,
        ...(port === undefined ? {} : { port }),
        rule: ruleKey(router, direction, direction === 'in' ? to : from, rule),
      };
      const id = JSON.stringify(flow);
      const count = (denied.get(id)?.count ?? 0) + 1;
      denied.delete(id); // the newest is last
      denied.set(id, { ...flow, count, last: now });
    }
    for (const id of denied.keys()) {
      if (denied.size <= FLOWS) break;
      denied.delete(id);
    }
  }

  return {
    take(state, observed, now) {
      const routers = new Map(state.routers.map((r) => [r.namespace, r]));
      for (const observation of observed) {
        const router = routers.get(observation.namespace);
        if (router !== undefined) takeRefused(router, observation, now);
        if (router !== undefined || observation.namespace === HOST)
          takeDropped(router?.tenant ?? '', observation);
        takeHits(router, observation);
        if (router !== undefined) takeDenied(router, observation, now);
      }
      for (const namespace of seen.keys())
        if (namespace !== HOST && !routers.has(namespace)) seen.delete(namespace);
    },
    report() {
      if (pending === undefined && hits.size + denied.size + refused.size > 0) {
        const some = [...hits.values()].slice(0, RULES);
        pending = {
          reporter,
          sequence: ++sequence,
          hits: some,
          denied: [...denied.values()],
          ...(refused.size === 0 ? {} : { refused: [...refused.values()] }),
        };
        for (const { rule } of some) hits.delete(rule);
        denied.clear();
        refused.clear();
      }
      return pending;
    },
    taken() {
      pending = undefined;
    },
  };
}

/** Numbers of rules are unique in what judges one endpoint. '' where no rule here has the number any more. */
function ruleKey(router: Router, direction: 'in' | 'out', own: string, rule: number): string {
  const port = router.ports.find((p) => p.addresses.includes(own));
  const first = port === undefined ? 0 : direction === 'in' ? port.judgedIn : port.judgedOut;
  const inRanges = narrowedFrom(router, new Set([first]), (s) => s.narrowed);
  const atPorts = narrowedFrom(router, inRanges, (s) => s.narrowedPorts ?? []);
  const sets = router.ruleSets.filter((s) => atPorts.has(s.id));
  return sets.flatMap((s) => s.decisions).find((d) => d.rule === rule)?.key ?? '';
}

/** These rule sets, and those that ranges lead to from there. */
const narrowedFrom = (
  { ruleSets }: Router,
  ids: ReadonlySet<number>,
  narrowed: (set: RuleSet) => RuleSet['narrowed'],
): Set<number> =>
  new Set([...ids, ...ruleSets.filter((s) => ids.has(s.id)).flatMap((s) => narrowed(s).map((n) => n.to))]);

export interface FlowsOptions {
  readonly dataplane: Pick<Dataplane, 'observe'>;
  readonly client: Pick<Client, 'call'>;
  readonly host: string;
  readonly log: Logger;
  refused(tenant: string, reason: string, packets: number): void;
}

/** Nobody waits for what is counted. */
export function followFlows({ dataplane, client, host, log, refused }: FlowsOptions): Follower {
  const tally = openTally(randomUUID(), refused);
  let state: HostState | undefined;
  async function look(): Promise<void> {
    if (state !== undefined) tally.take(state, await dataplane.observe(), Date.now());
    const report = tally.report();
    if (report === undefined) return;
    await client.call('report', { name: host }, report);
    tally.taken();
  }
  const looks = inTurn(look, {
    every: FLOWS_INTERVAL,
    failed: (error) => log.debug({ err: error }, 'hits and denied flows not reported; tried again'),
  });
  return {
    name: 'flows',
    awaited: 'never',
    changed(news) {
      if (news.type !== 'kernel') return false;
      ({ state } = news);
      return true;
    },
    settled: () => Promise.resolve(),
    close: () => void looks.close(),
  };
}
