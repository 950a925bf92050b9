/**
 * What is known of every host, also of those that do not live:
 *
 *   registration/NAME   in the store: as it registered last, and where it is away, when it was heard of last. Until an operator removes it
 *   draining/NAME       in the store: it takes no new containers, by an operator's word, until that is taken back
 *   host/NAME           it lives (hosts.ts)
 *   in memory           when it was heard of, what its agent sees, what it has applied: told anew within seconds, also to other
 *                       netmasters (replicas.ts)
 *
 * Heartbeats that were refused are known for as long as they come.
 */
import type { Logger } from 'pino';
import type { Endpoint } from '../model/endpoint.ts';
import { isExternal } from '../model/externalMember.ts';
import { type Draining, HOST_TTL, type Host, type Reserve } from '../model/host.ts';
import type { Condition, Heard, HostState, RefusedHost } from '../protocol/hosts.ts';
import type { Write } from '../store/store.ts';
import { decideEndpointRemoval } from './endpoints.ts';
import { type Mirror, storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';
import { hostReserves } from './reserved.ts';
import type { View } from './tables.ts';
import type { Decision, Writer } from './writer.ts';

/** Seconds that a host may be behind what was declared: longer than what an agent takes that has just been started. */
const LATE = 5;
/** Milliseconds: a host that is refused asks again every few seconds. */
const REFUSED = 10_000;
/** The same: longer than its lease, and than the store takes to end that. */
const SILENT = (HOST_TTL + 5) * 1000;

export interface Registered extends Host {
  /** It is away, and was heard of last then: milliseconds, Unix time. */
  readonly away?: number;
}

export interface Roster {
  /** A heartbeat was taken here. Answers what to tell other netmasters. */
  beat(name: string, condition?: Condition): Heard;
  /** One was refused here. The same. */
  refuse(host: Host, reason: string): RefusedHost;
  /** Another netmaster tells of one; the newest counts. */
  heard(name: string, heard: Heard): void;
  refused(refused: RefusedHost): void;
  /** Of all that are known, by name. */
  states(): HostState[];
  /** Throws a Refusal where there is none of this name. */
  state(name: string): HostState;
  /** What its agent said last; undefined: none is heard of. */
  condition(name: string): Condition | undefined;
  /** Notes in the store which hosts have gone since it was called last. */
  noteAway(writer: Writer): Promise<void>;
  close(): void;
}

/** Of an endpoint whose host is away: its own word is of when that was heard of. */
export const statusOf = (endpoint: Endpoint, view: View): Endpoint['status'] | 'unreachable' =>
  isExternal(endpoint) || view.get<Host>('host', endpoint.homingHost) !== undefined
    ? endpoint.status
    : 'unreachable';

/** ISO 8601; undefined: it is not drained. */
export function drainingSince(view: View, host: string): string | undefined {
  const since = view.get<Draining>('draining', host)?.since;
  return since === undefined ? undefined : iso(since);
}

export const endpointsOf = (view: View, host: string): readonly Endpoint[] =>
  view.where<Endpoint>('endpoint', byHost, host);

const iso = (at: number): string => new Date(at).toISOString();
/** And no endpoint of the host's own. */
export const isContainer = (endpoint: Endpoint): boolean => endpoint.ofHost !== true;
const byHost = ({ homingHost }: Endpoint): readonly string[] => [homingHost];
const counted = (count: number): string => `${count} container${count === 1 ? '' : 's'}`;

/** `alone`: heartbeats come to this netmaster and to no other, so one that is not heard here is not heard at all. */
export function openRoster(mirror: Mirror, log: Logger, { alone }: { readonly alone: boolean }): Roster {
  const heards = new Map<string, Heard>();
  /** When each was heard here last, and which were refused when, by performance.now(): a clock that is set changes nothing about it. */
  const heardHere = new Map<string, number>();
  const refusals = new Map<string, { readonly refused: RefusedHost; readonly told: number }>();
  /** Revisions of what agents are told, with when they came, of the last seconds; before them the one that all should have applied. */
  const declared = [{ revision: mirror.told, at: performance.now() }];
  const away = new Set<string>();

  const containersOf = (name: string): number => endpointsOf(mirror, name).filter(isContainer).length;

  function sayAway(name: string): void {
    if (away.has(name)) return;
    away.add(name);
    log.warn(
      { host: name },
      `host ${name} is away: nothing was heard of it for ${HOST_TTL} s; ${counted(containersOf(name))} there count as unreachable: start its agent there (systemctl start contiv-netplugin)`,
    );
  }
  for (const [name] of mirror.entries<Registered>('registration'))
    if (mirror.get('host', name) === undefined) sayAway(name);

  const unsubscribe = mirror.onChange(({ revision, changes }) => {
    // A host's tenants are told to that host alone.
    if (changes.length > 0) declared.push({ revision, at: performance.now() });
    due(); // forgets what is older
    for (const { kind, key, object } of changes) {
      if (kind !== 'host') continue;
      if (object === null) sayAway(key);
      else if (away.delete(key)) log.info({ host: key }, `host ${key} is back`);
    }
  });

  /** What each host should have applied by now. */
  function due(): number {
    const old = performance.now() - LATE * 1000;
    while (declared[1] !== undefined && declared[1].at <= old) declared.shift();
    const [first] = declared;
    return first !== undefined && first.at <= old ? first.revision : 0;
  }

  function stateOf(name: string, due: number): HostState {
    const host = mirror.get<Host>('host', name);
    const registered = mirror.get<Registered>('registration', name);
    const { underlay, mtu, version } = host ?? registered ?? {};
    const heard = heards.get(name);
    const seen = Math.max(heard?.at ?? 0, registered?.away ?? 0);
    const applied = mirror.applied.get(name) ?? 0;
    const draining = mirror.get<Draining>('draining', name);
    const known = {
      name,
      ...(underlay === undefined ? {} : { underlay }),
      ...(mtu === undefined ? {} : { mtu }),
      ...(version === undefined ? {} : { version }),
      containers: containersOf(name),
      ...(seen === 0 ? {} : { seen: iso(seen) }),
      ...(draining === undefined ? {} : { draining: iso(draining.since) }),
      applied,
      lag: Math.max(0, mirror.told - applied),
    };
    if (host === undefined) {
      const since = seen === 0 ? '' : ` since ${iso(seen)}`;
      return { ...known, state: 'away', reason: `nothing is heard of it${since}`, problems: [] };
    }
    const { fastPath, problems = [] } = heard?.condition ?? {};
    const said = { ...known, ...(fastPath === undefined ? {} : { fastPath }), problems };
    // The end of its lease is a write, and the store may not take any.
    const silent = performance.now() - (heardHere.get(name) ?? 0) > SILENT;
    if (alone && heard !== undefined && silent)
      return {
        ...said,
        state: 'late',
        reason: `nothing is heard of it since ${iso(heard.at)}, and it does not count as away yet`,
      };
    if (applied >= due)
      return draining === undefined
        ? { ...said, state: 'ready' }
        : {
            ...said,
            state: 'draining',
            reason: `it takes no new containers since ${iso(draining.since)}; ${counted(known.containers)} left`,
          };
    const reason =
      applied === 0
        ? 'it has not said yet what it has applied'
        : `it has applied revision ${applied}, and ${due} was declared more than ${LATE} s ago`;
    return { ...said, state: 'late', reason };
  }

  function forgetRefused(): void {
    const old = performance.now() - REFUSED;
    for (const [key, { told }] of refusals) if (told < old) refusals.delete(key);
  }

  function refusedStates(): HostState[] {
    forgetRefused();
    return [...refusals.values()].map(({ refused: { name, underlay, version, reason, at } }) => ({
      name,
      underlay,
      ...(version === undefined ? {} : { version }),
      state: 'refused',
      reason,
      containers: 0,
      seen: iso(at),
      applied: 0,
      lag: 0,
      problems: [],
    }));
  }

  /** It was let in after all. */
  function admit(name: string): void {
    for (const [key, { refused }] of refusals)
      if (refused.name === name && refused.underlay === mirror.get<Host>('host', name)?.underlay)
        refusals.delete(key);
  }
  function refused(host: RefusedHost): void {
    forgetRefused();
    refusals.set(`${host.name} ${host.underlay}`, { refused: host, told: performance.now() });
  }

  return {
    beat(name, condition) {
      const heard: Heard = { at: Date.now(), ...(condition === undefined ? {} : { condition }) };
      heards.set(name, heard);
      heardHere.set(name, performance.now());
      admit(name);
      return heard;
    },
    refuse({ name, underlay, version }, reason) {
      const host: RefusedHost = {
        name,
        underlay,
        ...(version === undefined ? {} : { version }),
        reason,
        at: Date.now(),
      };
      refused(host);
      return host;
    },
    heard(name, heard) {
      const known = heards.get(name)?.at ?? 0;
      // What was heard by a clock that was ahead is not the newest for as long as that was.
      if (heard.at > known || known > Date.now()) heards.set(name, heard);
      admit(name);
    },
    refused,
    states() {
      const asked = due();
      const states = [...namesOf(mirror)].map((name) => stateOf(name, asked));
      return [...states, ...refusedStates()].sort((a, b) =>
        a.name.localeCompare(b.name, 'en', { numeric: true }),
      );
    },
    state(name) {
      if (namesOf(mirror).has(name)) return stateOf(name, due());
      const refused = refusedStates().find((state) => state.name === name);
      if (refused === undefined) throw unknown(name);
      return refused;
    },
    condition: (name) =>
      mirror.get<Host>('host', name) === undefined ? undefined : heards.get(name)?.condition,
    async noteAway(writer) {
      const gone = [...mirror.entries<Registered>('registration')].filter(
        ([name, { object }]) => object.away === undefined && mirror.get('host', name) === undefined,
      );
      for (const [name] of gone)
        await writer.write(() => decideAway(mirror, name, heards.get(name)?.at ?? Date.now()));
    },
    close: unsubscribe,
  };
}

/** Those that live, that have lived, that have endpoints, and that have addresses in reserve. */
const namesOf = (view: View): Set<string> =>
  new Set([
    ...view.list<Host>('host').map(({ name }) => name),
    ...view.list<Registered>('registration').map(({ name }) => name),
    ...view.list<Endpoint>('endpoint').map(({ homingHost }) => homingHost),
    ...view.list<Reserve>('reserve').map(({ host }) => host),
  ]);

const unknown = (name: string): Refusal =>
  new Refusal(404, `host ${name}: no host of this name is known (netctl host ls)`);

function decideAway(view: View, name: string, at: number): Decision<undefined> {
  const stored = view.stored<Registered>('registration', name);
  const nothing = { checks: [], writes: [], answer: undefined };
  if (stored === undefined || stored.object.away !== undefined) return nothing;
  if (view.get('host', name) !== undefined) return nothing;
  const key = storeKey('registration', name);
  return {
    checks: [
      { key, revision: stored.revision },
      { key: storeKey('host', name), revision: 0 },
    ],
    writes: [{ key, value: { ...stored.object, away: at } satisfies Registered }],
    answer: undefined,
    events: [
      {
        kind: 'host',
        action: 'left',
        object: 'host',
        key: name,
        host: name,
        text: `its agent has not been heard of for ${HOST_TTL} s`,
      },
    ],
  };
}

/** Of the transaction with which a host comes, or is another than it was. */
export function registrationOf(view: View, host: Host): Write[] {
  const before = view.get<Registered>('registration', host.name);
  const { run: _run, ...lasting } = host;
  return JSON.stringify(before) === JSON.stringify(lasting)
    ? []
    : [{ key: storeKey('registration', host.name), value: lasting satisfies Registered }];
}

/** From now on nothing more is attached there; what runs stays. Answers since when, ISO 8601. */
export function decideDrain(view: View, name: string): Decision<string> {
  if (!namesOf(view).has(name)) throw unknown(name);
  const before = view.stored<Draining>('draining', name);
  if (before !== undefined) return { checks: [], writes: [], answer: iso(before.object.since) };
  const key = storeKey('draining', name);
  const since = Date.now();
  return {
    checks: [{ key, revision: 0 }],
    writes: [{ key, value: { since } satisfies Draining }],
    answer: iso(since),
    events: [
      {
        kind: 'host',
        action: 'draining',
        object: 'host',
        key: name,
        host: name,
        text: 'it takes no new containers',
      },
    ],
  };
}

/** Answers whether it was draining. */
export function decideUndrain(view: View, name: string): Decision<boolean> {
  const before = view.stored<Draining>('draining', name);
  if (before === undefined) {
    if (!namesOf(view).has(name)) throw unknown(name);
    return { checks: [], writes: [], answer: false };
  }
  const key = storeKey('draining', name);
  return {
    checks: [{ key, revision: before.revision }],
    writes: [{ key, value: undefined }],
    answer: true,
    events: [
      {
        kind: 'host',
        action: 'undrained',
        object: 'host',
        key: name,
        host: name,
        text: 'it takes new containers again',
      },
    ],
  };
}

/** Of a host that is away: its endpoints, what it has in reserve and its registration go. Answers how many endpoints. */
export function decideHostRemoval(mirror: Mirror, name: string): Decision<number> {
  if (mirror.get<Host>('host', name) !== undefined)
    throw new Refusal(
      409,
      `host ${name}: is alive: end its agent first (systemctl disable --now contiv-netplugin there), and ask again ${HOST_TTL} s later`,
      'name',
    );
  if (!namesOf(mirror).has(name)) throw unknown(name);
  const registration = mirror.stored('registration', name);
  const endpoints = endpointsOf(mirror, name);
  const removals = endpoints.map(({ endpointID }) => decideEndpointRemoval(mirror, endpointID));
  const key = storeKey('registration', name);
  const draining = mirror.stored('draining', name);
  const drainingKey = storeKey('draining', name);
  const reserves = hostReserves(mirror, name);
  return {
    checks: [
      { key: storeKey('host', name), revision: 0 },
      { key, revision: registration?.revision ?? 0 },
      { key: drainingKey, revision: draining?.revision ?? 0 },
      ...removals.flatMap(({ checks }) => checks),
      ...reserves.checks,
    ],
    writes: [
      ...(registration === undefined ? [] : [{ key, value: undefined }]),
      ...(draining === undefined ? [] : [{ key: drainingKey, value: undefined }]),
      ...removals.flatMap(({ writes }) => writes),
      ...reserves.writes,
    ],
    answer: endpoints.length,
    events: [
      { kind: 'host', action: 'removed', object: 'host', key: name, host: name },
      ...removals.flatMap(({ events = [] }) => events),
    ],
  };
}
