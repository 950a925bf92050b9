/**
 * From policies to what judges the first packet of a connection: rule sets, with numbers in place of names, and
 * every precedence already decided (state.ts, RuleSet).
 *
 *   endpoint here --identity (identity.ts)--> its group's policies, and the NetworkPolicies that select it
 *     --lines (lines.ts), one direction--> for peers in a range, of an identity, and ports in a range: what decides (decide.ts)
 *
 * Endpoints that the same policies judge share a rule set. Its size is that of its rules, times the ranges that they cut, and
 * for an identity that they tell apart what it changes in the decisions for all others: no other group, member or policy of the
 * tenant has a part in it.
 */
import { addressNumber, numberAddress, parseSubnet, type Subnet } from '../../model/address.ts';
import type { Endpoint } from '../../model/endpoint.ts';
import type { EndpointGroup } from '../../model/endpointGroup.ts';
import { type NetworkPolicy, networkPolicyName } from '../../model/networkPolicy.ts';
import { UNKNOWN_WORKLOAD } from '../../model/workload.ts';
import type { TenantView } from '../intent/view.ts';
import type { AddressRange, PortRange, RuleSet } from '../state.ts';
import { allLines, decide, type Numbered, type Part, spanText, type Tiers, takersOf } from './decide.ts';
import {
  groupIdentity,
  Identities,
  type Identity,
  NOBODY,
  numbered,
  type Taker,
  Takers,
} from './identity.ts';
import {
  concerns,
  type Direction,
  isolation,
  type Line,
  linesOfPolicy,
  linesOfRules,
  ownPorts,
  type Span,
  subjectOf,
} from './lines.ts';
import type { Memo } from './memo.ts';

export interface CompiledPolicy {
  readonly ruleSets: readonly RuleSet[];
  readonly ranges: readonly AddressRange[];
  readonly portRanges: readonly PortRange[];
  /** Another object where numbers have changed that stand for the same. */
  readonly numbering: object;
  /** Of its identity; 0 where rules cannot tell it from anybody. */
  numberOf(endpoint: Endpoint): number;
  /** Of who is a member of a group and has no labels, such as an external endpoint. */
  numberOfGroup(group: string): number;
  /** Numbers of the rule sets that judge an endpoint here; 0: nothing does. */
  judges(endpoint: Endpoint): { readonly in: number; readonly out: number };
}

/** The lines that judge some endpoints in one direction. */
interface RuleList {
  readonly name: string;
  readonly tiers: Tiers;
  readonly takers: readonly Taker[];
  readonly prefixes: readonly string[];
  readonly spans: readonly Span[];
}

/** A rule set before it has a number: a list, for a part of all peers' addresses and of all ports. */
interface Cell extends Part {
  readonly name: string;
  readonly narrowed: readonly { readonly range: number; readonly to: string }[];
  readonly narrowedPorts: readonly { readonly range: number; readonly to: string }[];
}

/** `here`: the endpoints of the tenant on this host. `networkPolicies`: of all tenants. */
export function compilePolicy(
  tenantName: string,
  tenant: TenantView,
  networkPolicies: readonly NetworkPolicy[],
  here: readonly Endpoint[],
  memo: Memo,
): CompiledPolicy {
  const keyOf = (name: string): string => `policy ${tenantName} ${name}`;
  const groups = memo.use(
    keyOf('groups'),
    [tenant.groups],
    () => new Map(tenant.groups.map((g) => [g.groupName, g])),
  );
  const identities = memo.use(keyOf('identities'), [], () => new Identities());
  const identityOf = (endpoint: Endpoint): Identity => {
    const workload = tenant.workloadOf(endpoint);
    if (workload !== undefined) return identities.ofWorkload(endpoint.groupName, workload);
    return endpoint.groupName === undefined ? NOBODY : groupIdentity(endpoint.groupName);
  };
  /** Nobody knows what judges it: a workload that has gone before its endpoint, or another one of its name. */
  const isUnknown = (endpoint: Endpoint): boolean =>
    endpoint.workload !== undefined && tenant.workloadOf(endpoint) === undefined;
  const judgedBy = (endpoint: Endpoint): string =>
    `${isUnknown(endpoint) ? UNKNOWN_WORKLOAD : ''} ${identityOf(endpoint).text}`;
  const ofWorkloads = (endpoints: readonly Endpoint[]): Identity[] =>
    endpoints.filter((e) => tenant.workloadOf(e) !== undefined).map(identityOf);
  identities.hold(
    new Map([
      [
        'groups',
        memo.use(keyOf('of groups'), [groups], () => [...groups.keys()].map((name) => groupIdentity(name))),
      ],
      [
        'here',
        memo.use(
          keyOf('here'),
          here.flatMap((e) => [e, tenant.workloadOf(e)]),
          () => ofWorkloads(here),
        ),
      ],
      ...[...tenant.endpoints].map(
        ([host, endpoints]) =>
          [`on ${host}`, memo.use(keyOf(`on ${host}`), [endpoints], () => ofWorkloads(endpoints))] as const,
      ),
    ]),
  );

  const subjects = memo.use('subjects of policies', [networkPolicies], () => subjectsOf(networkPolicies));
  const lists = new Map<string, RuleList>();
  const judged = new Map<string, { readonly in: string; readonly out: string }>();
  for (const endpoint of here) {
    const own = identityOf(endpoint);
    if (judged.has(judgedBy(endpoint))) continue;
    const isLost = isUnknown(endpoint);
    const policies = policiesOf(groups.get(endpoint.groupName ?? ''));
    const selecting =
      endpoint.workload === undefined || isLost
        ? NONE
        : memo.use(keyOf(`select ${own.text}`), [subjects], () =>
            subjects
              .taking(own.labels)
              .map((subject) => subject.policy)
              .sort(inOrder),
          );
    const listFor = (direction: Direction): string => {
      const concerning = selecting.filter((policy) => concerns(policy, direction));
      const judging = [
        ...(policies.length === 0 ? [] : [policies.join(', ')]),
        ...concerning.map(networkPolicyName),
        ...ownPorts(concerning, direction, own),
        ...(isLost ? [UNKNOWN_WORKLOAD] : []),
      ];
      const name = `${direction} ${tenantName}: ${judging.join('; ')}`;
      if (judging.length === 0 || lists.has(name)) return name;
      const rules = policies.map((policy) => tenant.rules.get(policy));
      const list = memo.use(keyOf(name), [tenant.networks, ...rules, ...concerning], () =>
        ruleList(
          name,
          linesOfRules(
            rules.flatMap((those) => those ?? []),
            direction,
            tenant.networks,
          ),
          concerning,
          direction,
          own,
          isLost,
        ),
      );
      if (list.tiers.isolation !== undefined || allLines(list.tiers).length > 0) lists.set(name, list);
      return name;
    };
    judged.set(judgedBy(endpoint), { in: listFor('in'), out: listFor('out') });
  }

  const bounded = [...lists.values()].filter((list) => list.prefixes.length > 0);
  const cut = memo.use(keyOf('ranges'), bounded, () =>
    cutRanges(new Set(bounded.flatMap((list) => list.prefixes))),
  );
  const spanning = [...lists.values()].filter((list) => list.spans.length > 0);
  const cutPorts = memo.use(keyOf('port ranges'), spanning, () =>
    cutSpans(spanning.flatMap((list) => list.spans)),
  );
  const cells = [...lists.values()].flatMap((list) =>
    memo
      .use(keyOf(`cells ${list.name}`), [list, cut, cutPorts], () => cellsOf(list, cut, cutPorts))
      .map((cell) => ({ list, cell })),
  );
  const names = cells.map(({ cell }) => cell.name);
  const setNumbers = memo.use(keyOf('set numbers'), names, () => numbered(names, 32));

  const ruleSets = cells.map(({ list, cell }): RuleSet => {
    const { name } = cell;
    const id = setNumbers.get(name) as number;
    const inputs = [list, cell, identities.numbering, ...list.takers.map((taker) => identities.taken(taker))];
    const decisions = memo.use(keyOf(`decisions ${name}`), inputs, () =>
      decide(list.tiers, cell, identities),
    );
    const to = (narrowings: Cell['narrowed']) =>
      narrowings.map(({ range, to }) => ({ range, to: setNumbers.get(to) as number }));
    return memo.use(keyOf(`set ${name}`), [cell, decisions, setNumbers], () => ({
      id,
      name,
      narrowed: to(cell.narrowed),
      ...(cell.narrowedPorts.length === 0 ? {} : { narrowedPorts: to(cell.narrowedPorts) }),
      decisions,
      ...(decisions.some((d) => d.log && d.action === 'allow') ? { logs: true } : {}),
    }));
  });
  ruleSets.sort((a, b) => a.id - b.id);

  return {
    ruleSets,
    ranges: memo.use(keyOf('range list'), [cut], () =>
      cut.map(({ first, last, range }) => ({ first, last, range })),
    ),
    portRanges: memo.use(keyOf('port range list'), [cutPorts], () =>
      cutPorts.map(({ first, last, range }) => ({ first, last, range })),
    ),
    numbering: identities.numbering,
    numberOfGroup: (group) => (groups.has(group) ? identities.numberOf(groupIdentity(group)) : 0),
    numberOf: (endpoint) => identities.numberOf(identityOf(endpoint)),
    judges(endpoint) {
      const by = judged.get(judgedBy(endpoint));
      if (by === undefined) return { in: 0, out: 0 };
      return { in: setNumbers.get(by.in) ?? 0, out: setNumbers.get(by.out) ?? 0 };
    },
  };
}

const NONE: readonly NetworkPolicy[] = [];

const policiesOf = (group: EndpointGroup | undefined): string[] => [...new Set(group?.policies ?? [])].sort();

type Subject = Taker & { readonly policy: NetworkPolicy };

function subjectsOf(policies: readonly NetworkPolicy[]): Takers<Subject> {
  const subjects = new Takers<Subject>();
  for (const policy of policies) subjects.add({ ...subjectOf(policy), policy });
  return subjects;
}

/** As they decide within a tier, and by name so that the order is one. */
function inOrder(a: NetworkPolicy, b: NetworkPolicy): number {
  const priority = (a.priority ?? 0) - (b.priority ?? 0);
  if (priority !== 0) return priority;
  return networkPolicyName(a) < networkPolicyName(b) ? -1 : 1;
}

function ruleList(
  name: string,
  own: readonly Line[],
  policies: readonly NetworkPolicy[],
  direction: Direction,
  identity: Identity,
  isLost: boolean,
): RuleList {
  const ofTier = (tier: NetworkPolicy['tier']): NetworkPolicy[] => policies.filter((p) => p.tier === tier);
  const linesOf = (tier: NetworkPolicy['tier']): Line[] =>
    ofTier(tier).flatMap((policy) => linesOfPolicy(policy, direction, identity));
  const [isolating] = ofTier('namespace');
  const lines = {
    admin: linesOf('admin'),
    own,
    namespace: linesOf('namespace'),
    baseline: linesOf('baseline'),
  };
  const isolated: Line[] = isLost
    ? [{ key: UNKNOWN_WORKLOAD, action: 'deny' }]
    : isolating === undefined
      ? []
      : [isolation(isolating)];
  const all = [...Object.values(lines).flat(), ...isolated];
  const numbers = numbered(
    all.map((line) => line.key),
    31,
  );
  const withNumber = (line: Line): Numbered => ({ ...line, number: numbers.get(line.key) as number });
  const tiers: Tiers = {
    admin: lines.admin.map(withNumber),
    // What is denied anyway is denied for that reason.
    own: isLost ? [] : lines.own.map(withNumber),
    namespace: lines.namespace.map(withNumber),
    baseline: lines.baseline.map(withNumber),
    ...Object.fromEntries(isolated.map((line) => ['isolation', withNumber(line)])),
  };
  const blocks = all.flatMap((line) => line.blocks ?? []);
  const spans = new Map(all.flatMap(({ span }) => (span === undefined ? [] : [[spanText(span), span]])));
  return {
    name,
    tiers,
    takers: takersOf(tiers),
    prefixes: [...new Set(blocks.flatMap((b) => [b.prefix, ...b.except]))].sort(),
    spans: [...spans.values()],
  };
}

/** What a list comes to for peers in each range, and at ports in each, that it tells apart. */
function cellsOf(list: RuleList, cut: readonly CutRange[], cutPorts: readonly CutSpan[]): Cell[] {
  const atPorts = variantsOf(cutPorts, list.spans.map(spanText));
  const narrow = (name: string, within: readonly string[], narrowed: Cell['narrowed']): Cell[] => {
    const called = (spans: readonly string[]): string => `${name} at ports ${spans.join(', ')}`;
    const parts = distinct(atPorts);
    return [
      {
        name,
        within,
        spans: [],
        narrowed,
        narrowedPorts: atPorts.map(({ range, mine }) => ({ range, to: called(mine) })),
      },
      ...parts.map((spans) => ({ name: called(spans), within, spans, narrowed: [], narrowedPorts: [] })),
    ];
  };
  const inRanges = variantsOf(cut, list.prefixes);
  const called = (prefixes: readonly string[]): string => `${list.name} for ${prefixes.join(', ')}`;
  return [
    ...narrow(
      list.name,
      [],
      inRanges.map(({ range, mine }) => ({ range, to: called(mine) })),
    ),
    ...distinct(inRanges).flatMap((prefixes) => narrow(called(prefixes), prefixes, [])),
  ];
}

interface Variant {
  readonly range: number;
  readonly mine: readonly string[];
}

/** Ranges in which something of `own` is, each number once. */
function variantsOf(
  cut: readonly { readonly range: number; readonly within: readonly string[] }[],
  own: readonly string[],
): Variant[] {
  if (own.length === 0) return [];
  const asked = new Set(own);
  const variants = new Map<number, Variant>();
  for (const { range, within } of cut) {
    const mine = within.filter((text) => asked.has(text));
    if (mine.length > 0) variants.set(range, { range, mine });
  }
  return [...variants.values()];
}

const distinct = (variants: readonly Variant[]): (readonly string[])[] => [
  ...new Map(variants.map(({ mine }) => [mine.join(), mine])).values(),
];

interface CutRange extends AddressRange {
  /** The prefixes that it lies in. */
  readonly within: readonly string[];
}

/** The ranges between the borders of these prefixes, each with the prefixes that cover it. */
function cutRanges(prefixes: ReadonlySet<string>): CutRange[] {
  const parsed = [...prefixes].sort().map((text) => ({ text, subnet: parseSubnet(text) as Subnet }));
  const found = ([4, 6] as const).flatMap((family) =>
    cutBetween(
      parsed
        .filter(({ subnet }) => subnet.family === family)
        .map(({ text, subnet }) => ({ text, first: subnet.first, last: subnet.last })),
    ).map(({ first, last, within }) => ({
      first: numberAddress(first, family),
      last: numberAddress(last, family),
      within,
    })),
  );
  return withNumbers(found);
}

interface CutSpan extends PortRange {
  readonly within: readonly string[];
}

function cutSpans(spans: readonly Span[]): CutSpan[] {
  const named = new Map(spans.map((span) => [spanText(span), span]));
  const found = cutBetween(
    [...named].sort().map(([text, { first, last }]) => ({ text, first: BigInt(first), last: BigInt(last) })),
  );
  return withNumbers(
    found.map(({ first, last, within }) => ({ first: Number(first), last: Number(last), within })),
  );
}

function withNumbers<R extends { readonly within: readonly string[] }>(
  found: readonly R[],
): (R & { range: number })[] {
  const numbers = numbered(
    found.map((range) => range.within.join()),
    32,
  );
  return found.map((range) => ({ ...range, range: numbers.get(range.within.join()) as number }));
}

interface Extent {
  readonly first: bigint;
  readonly last: bigint;
}

/** What lies between the borders of these, each with the names of those that cover it. */
function cutBetween(
  extents: readonly (Extent & { readonly text: string })[],
): (Extent & { readonly within: readonly string[] })[] {
  const borders = new Set(extents.flatMap(({ first, last }) => [first, last + 1n]));
  const sorted = [...borders].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  return sorted.slice(0, -1).flatMap((first, i) => {
    const last = (sorted[i + 1] as bigint) - 1n;
    const within = extents.filter((e) => e.first <= first && last <= e.last).map((e) => e.text);
    return within.length === 0 ? [] : [{ first, last, within }];
  });
}

/** Whether an address is in a range. */
export function inRange(address: string, { first, last }: AddressRange): boolean {
  if (address.includes(':') !== first.includes(':')) return false;
  const number = addressNumber(address);
  return number >= addressNumber(first) && number <= addressNumber(last);
}
