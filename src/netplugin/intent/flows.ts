/**
 * What was judged on this host, told to netmaster: how often each rule decided, who was denied what, who was allowed what by a
 * rule that logs, and what containers sent in vain. With it goes what else happened here (happenings.ts).
 *
 *   kernel --readings: rule set, rule number, counter--> totals by rule key --report--> netmaster
 *
 * The kernel's counters begin anew with its table; the totals are those of this run of the agent. A report has all of them, so that one
 * that comes twice, late, or to another netmaster counts once, and is numbered, so that the newest counts. It is sent when something
 * has changed, and again to a netmaster that is followed anew: it may know nothing.
 */
import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import type { Client } from '../../client/client.ts';
import { networkPolicyKey } from '../../model/networkPolicy.ts';
import type { ToldEvent } from '../../protocol/events.ts';
import type { DeniedFlow, FlowReport, RefusedPackets, RuleHits } from '../../protocol/messages.ts';
import { inTurn } from '../../turns.ts';
import { type Dataplane, HOST, type JudgedPacket, type Observation } from '../dataplane/index.ts';
import type { Follower } from '../follower.ts';
import { FLOWS_INTERVAL } from '../intervals.ts';
import type { Decision, HostState, Router, RuleSet } from '../state.ts';
import type { Happenings } from './happenings.ts';
import type { View } from './view.ts';

/** Flows that are kept: of more the oldest are dropped. */
const FLOWS = 1000;

export interface Tally {
  /** `now` in milliseconds, Unix time. */
  take(state: HostState, observed: readonly Observation[], now: number): void;
  /** What is to be told, these events with it; undefined: nothing that has not been taken. */
  report(events?: readonly ToldEvent[]): FlowReport | undefined;
  /** netmaster has it. */
  taken(report: FlowReport): void;
  /** netmaster may have nothing. */
  lost(): void;
  /** The rule, the network policy or the endpoint of this key is gone. */
  forget(key: string): void;
}

export interface TallyOptions {
  /** Names this run of the agent. */
  readonly reporter: string;
  /** Told of what was refused, of tenants and of their exits alike; tenant '': of the host. */
  readonly count?: (tenant: string, reason: string, packets: number) => void;
  /** Of one that is gone the kernel may count on for a moment. */
  readonly isRule?: (key: string) => boolean;
  /** Told of what rules that log decided since they were last looked at. */
  readonly logged?: (decided: LoggedFlow) => void;
}

export interface LoggedFlow extends Omit<DeniedFlow, 'last' | 'count'> {
  readonly action: 'allow' | 'deny';
  /** Those of it that the kernel logged. */
  readonly packets: number;
}

interface Seen {
  readonly table: string;
  readonly readings: ReadonlyMap<string, { readonly packets: number; readonly bytes: number }>;
  /** Rule keys by rule set and rule, also of rule sets that went, while the kernel has their counters. */
  readonly keys: ReadonlyMap<string, string>;
  /** Packets by device and reason, those that are of no device too. */
  readonly refused: ReadonlyMap<string, number>;
}

export function openTally({
  reporter,
  count = () => {},
  isRule = () => true,
  logged = () => {},
}: TallyOptions): Tally {
  const seen = new Map<string, Seen>();
  const hits = new Map<string, RuleHits>();
  const denied = new Map<string, DeniedFlow>();
  const allowed = new Map<string, DeniedFlow>();
  /** By endpoint, then by reason. */
  const refused = new Map<string, Map<RefusedPackets['reason'], RefusedPackets>>();
  /** Changes so far: it numbers the reports. */
  let sequence = 0;
  let told = 0;

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
      if (packets === 0 || key === undefined || !isRule(key)) continue;
      sequence++;
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
      refuse(endpoint, reason, (sum) => ({ ...sum, packets: sum.packets + packets, last: now }));
    }
    for (const { device, address, mac } of observation.foreign) {
      const endpoint = endpoints.get(device);
      if (endpoint === undefined) continue;
      refuse(endpoint, 'source', (sum) => ({ ...sum, address, mac }));
    }

    function refuse(
      endpoint: string,
      reason: RefusedPackets['reason'],
      change: (sum: RefusedPackets) => RefusedPackets,
    ): void {
      sequence++;
      const reasons = refused.get(endpoint) ?? new Map<RefusedPackets['reason'], RefusedPackets>();
      refused.set(endpoint, reasons);
      reasons.set(reason, change(reasons.get(reason) ?? { endpoint, reason, packets: 0, last: now }));
    }
  }

  function takeFlows(
    router: Router,
    packets: readonly JudgedPacket[],
    action: LoggedFlow['action'],
    flows: Map<string, DeniedFlow>,
    now: number,
  ): void {
    const told = new Map<string, LoggedFlow>();
    for (const { direction, from, to, protocol, port, rule } of packets) {
      sequence++;
      const decision = decisionOf(router, direction, direction === 'in' ? to : from, rule);
      const flow = {
        tenant: router.tenant,
        direction,
        from,
        to,
        protocol,
        ...(port === undefined ? {} : { port }),
        rule: decision?.key ?? '',
      };
      const id = JSON.stringify(flow);
      const count = (flows.get(id)?.count ?? 0) + 1;
      flows.delete(id); // the newest is last
      flows.set(id, { ...flow, count, last: now });
      if (decision?.log) told.set(id, { ...flow, action, packets: (told.get(id)?.packets ?? 0) + 1 });
    }
    for (const id of flows.keys()) {
      if (flows.size <= FLOWS) break;
      flows.delete(id);
    }
    for (const flow of told.values()) logged(flow);
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
        if (router === undefined) continue;
        takeFlows(router, observation.denied, 'deny', denied, now);
        takeFlows(router, observation.allowed, 'allow', allowed, now);
      }
      for (const namespace of seen.keys())
        if (namespace !== HOST && !routers.has(namespace)) seen.delete(namespace);
    },
    report(events = []) {
      if (told === sequence && events.length === 0) return undefined;
      const packets = [...refused.values()].flatMap((reasons) => [...reasons.values()]);
      return {
        reporter,
        sequence,
        hits: [...hits.values()],
        denied: [...denied.values()],
        ...(allowed.size === 0 ? {} : { allowed: [...allowed.values()] }),
        ...(packets.length === 0 ? {} : { refused: packets }),
        ...(events.length === 0 ? {} : { events: [...events] }),
      };
    },
    taken(report) {
      told = report.sequence;
    },
    lost() {
      told = 0;
    },
    forget(key) {
      if (hits.delete(key) || refused.delete(key)) sequence++;
      for (const rule of hits.keys()) if (networkPolicyKey(rule) === key && hits.delete(rule)) sequence++;
    },
  };
}

/** Numbers of rules are unique in what judges one endpoint. undefined where no rule here has the number any more. */
function decisionOf(
  router: Router,
  direction: 'in' | 'out',
  own: string,
  rule: number,
): Decision | undefined {
  const port = router.ports.find((p) => p.addresses.includes(own));
  const first = port === undefined ? 0 : direction === 'in' ? port.judgedIn : port.judgedOut;
  const inRanges = narrowedFrom(router, new Set([first]), (s) => s.narrowed);
  const atPorts = narrowedFrom(router, inRanges, (s) => s.narrowedPorts ?? []);
  const sets = router.ruleSets.filter((s) => atPorts.has(s.id));
  return sets.flatMap((s) => s.decisions).find((d) => d.rule === rule);
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
  readonly view: Pick<View, 'of' | 'networkPolicyByKey'>;
  refused(tenant: string, reason: string, packets: number): void;
  readonly happenings: Happenings;
}

/** Lines of one look that rules which log make at most. */
const LINES = 100;

/** Kinds of what is counted. */
const FORGOTTEN: ReadonlySet<string> = new Set(['rule', 'networkPolicy', 'endpoint']);

/** Nobody waits for what is counted. */
export function followFlows({
  dataplane,
  client,
  host,
  log,
  view,
  refused,
  happenings,
}: FlowsOptions): Follower {
  const isRule = (key: string): boolean => {
    const labelled = networkPolicyKey(key);
    if (labelled !== undefined) return view.networkPolicyByKey.has(labelled);
    const [tenant = '', policy = '', id] = key.split(':');
    return (
      view
        .of(tenant)
        .rules.get(policy)
        ?.some(({ ruleId }) => ruleId === id) ?? false
    );
  };
  let lines = 0;
  const tally = openTally({
    reporter: randomUUID(),
    count: refused,
    isRule,
    logged(flow) {
      if (lines++ < LINES) log.info(flow, 'a rule that logs decided');
    },
  });
  let state: HostState | undefined;
  async function look(): Promise<void> {
    lines = 0;
    if (state !== undefined) tally.take(state, await dataplane.observe(), Date.now());
    if (lines > LINES) log.info({ flows: lines - LINES }, 'rules that log decided more than is listed');
    const events = happenings.untold();
    const report = tally.report(events);
    if (report === undefined) return;
    await client.call('report', { name: host }, report);
    tally.taken(report);
    happenings.taken(events);
  }
  const looks = inTurn(look, {
    every: FLOWS_INTERVAL,
    failed: (error) => log.debug({ err: error }, 'hits and denied flows not reported; tried again'),
  });
  return {
    name: 'flows',
    awaited: 'never',
    changed(news) {
      if (news.type === 'view') {
        for (const { kind, key, object } of news.objects)
          if (object === null && FORGOTTEN.has(kind)) tally.forget(key);
        if (news.listed) tally.lost();
        return false;
      }
      ({ state } = news);
      for (const line of news.report.repaired) happenings.tell('repair', line);
      return true;
    },
    settled: () => Promise.resolve(),
    close: () => void looks.close(),
  };
}
