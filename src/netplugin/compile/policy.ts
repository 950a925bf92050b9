/**
 * From policies to what judges the first packet of a connection: rule sets, with numbers in place of names, and
 * every precedence already decided (state.ts, RuleSet).
 *
 *   rules of a list of policies, one direction --ordered--> highest priority first, deny before allow
 *     --for peers in a range, of a group--> the first that fits a protocol and port decides it
 *
 * Groups that carry the same policies share a rule set. Its size is that of its rules, times the ranges that they cut, and
 * for a group that they name what it changes in the decisions for all others: no other group, member or policy of the
 * tenant has a part in it.
 */
import { addressNumber, numberAddress, parseSubnet, type Subnet } from '../../model/address.ts';
import type { EndpointGroup } from '../../model/endpointGroup.ts';
import type { Rule } from '../../model/rule.ts';
import type { TenantView, WatchedNetwork } from '../intent/view.ts';
import type { AddressRange, Decision, RuleSet } from '../state.ts';
import type { Memo } from './memo.ts';

export interface CompiledPolicy {
  readonly ruleSets: readonly RuleSet[];
  readonly ranges: readonly AddressRange[];
  /** 0 for no group. */
  groupNumber(group: string | undefined): number;
  /** Numbers of the rule sets that judge a group's endpoints; 0: nothing does. */
  judges(group: string | undefined): { readonly in: number; readonly out: number };
}

type Direction = 'in' | 'out';

/** A rule as one side asks it. */
interface Ordered {
  readonly key: string;
  readonly number: number;
  readonly action: 'allow' | 'deny';
  /** Of the peer; undefined: any. */
  readonly group?: string;
  /** The peer's address is in one of these; undefined: any. */
  readonly prefixes?: readonly string[];
  /** undefined: any. */
  readonly protocols?: readonly number[];
  readonly port?: number;
}

/** The rules of one list of policies, in the order in which they decide. */
interface RuleList {
  readonly name: string;
  readonly rules: readonly Ordered[];
  readonly prefixes: readonly string[];
}

const PROTOCOLS: Readonly<Record<string, readonly number[]>> = { tcp: [6], udp: [17], icmp: [1, 58] };
/** Those that have ports: TCP, UDP, SCTP. */
const WITH_PORTS = [6, 17, 132];

/** `groupsHere`: names of the tenant's groups that have endpoints on this host. */
export function compilePolicy(
  tenantName: string,
  tenant: TenantView,
  groupsHere: Iterable<string>,
  memo: Memo,
): CompiledPolicy {
  const keyOf = (name: string): string => `policy ${tenantName} ${name}`;
  const groups = memo.use(
    keyOf('groups'),
    [tenant.groups],
    () => new Map(tenant.groups.map((g) => [g.groupName, g])),
  );
  const groupNumbers = memo.use(keyOf('numbers'), [groups], () => numbered(groups.keys(), 32));

  const lists = new Map<string, RuleList>();
  const carried = new Map<string, { readonly in: string; readonly out: string }>();
  for (const groupName of groupsHere) {
    const policies = policiesOf(groups.get(groupName));
    if (policies.length === 0) continue;
    const nameOf = (direction: Direction): string => `${direction} ${tenantName}: ${policies.join(', ')}`;
    carried.set(groupName, { in: nameOf('in'), out: nameOf('out') });
    for (const direction of ['in', 'out'] as const) {
      const name = nameOf(direction);
      if (lists.has(name)) continue;
      const inputs = [tenant.networks, ...policies.map((policy) => tenant.rules.get(policy))];
      const list = memo.use(keyOf(name), inputs, () =>
        ruleList(
          name,
          direction,
          policies.flatMap((policy) => tenant.rules.get(policy) ?? []),
          tenant.networks,
        ),
      );
      if (list.rules.length > 0) lists.set(name, list);
    }
  }

  const named = [...lists.values()].filter((list) => list.prefixes.length > 0);
  const cut = memo.use(keyOf('ranges'), named, () =>
    cutRanges(new Set(named.flatMap((list) => list.prefixes))),
  );

  // What each list comes to for peers in each range that it tells apart.
  const variants = new Map<string, { list: RuleList; within: ReadonlySet<string> }>();
  const narrowings = new Map<string, { range: number; variant: string }[]>();
  for (const list of lists.values()) {
    variants.set(list.name, { list, within: new Set() });
    if (list.prefixes.length === 0) continue;
    const own = new Set(list.prefixes);
    const narrowed = new Map<number, string>();
    for (const { range, within } of cut) {
      const mine = within.filter((prefix) => own.has(prefix));
      if (mine.length === 0) continue;
      const variant = `${list.name} for ${mine.join(', ')}`;
      variants.set(variant, { list, within: new Set(mine) });
      narrowed.set(range, variant);
    }
    narrowings.set(
      list.name,
      [...narrowed].map(([range, variant]) => ({ range, variant })),
    );
  }
  const names = [...variants.keys()];
  const setNumbers = memo.use(keyOf('set numbers'), names, () => numbered(names, 32));

  const ruleSets = [...variants].map(([name, { list, within }]): RuleSet => {
    const id = setNumbers.get(name) as number;
    const decisions = memo.use(keyOf(`decisions ${name}`), [list, groupNumbers], () =>
      decide(list, within, groupNumbers),
    );
    const narrowed = (narrowings.get(name) ?? []).map(({ range, variant }) => ({
      range,
      to: setNumbers.get(variant) as number,
    }));
    const narrowedText = narrowed.map((n) => `${n.range}:${n.to}`).join();
    return memo.use(keyOf(`set ${name}`), [id, decisions, narrowedText], () => ({
      id,
      name,
      narrowed,
      decisions,
    }));
  });
  ruleSets.sort((a, b) => a.id - b.id);

  return {
    ruleSets,
    ranges: memo.use(keyOf('range list'), [cut], () =>
      cut.map(({ first, last, range }) => ({ first, last, range })),
    ),
    groupNumber: (group) => (group === undefined ? 0 : (groupNumbers.get(group) ?? 0)),
    judges(group) {
      const by = group === undefined ? undefined : carried.get(group);
      if (by === undefined) return { in: 0, out: 0 };
      return { in: setNumbers.get(by.in) ?? 0, out: setNumbers.get(by.out) ?? 0 };
    },
  };
}

const policiesOf = (group: EndpointGroup | undefined): string[] => [...new Set(group?.policies ?? [])].sort();

function ruleList(
  name: string,
  direction: Direction,
  all: readonly Rule[],
  networks: readonly WatchedNetwork[],
): RuleList {
  const subnets = new Map(networks.map((n) => [n.networkName, n]));
  const asked = all.filter((rule) => rule.direction === direction).sort(before);
  const numbers = numbered(asked.map(keyOfRule), 31);
  const rules = asked.map((rule): Ordered => {
    const [group, network, address] =
      direction === 'in'
        ? [rule.fromEndpointGroup, rule.fromNetwork, rule.fromIpAddress]
        : [rule.toEndpointGroup, rule.toNetwork, rule.toIpAddress];
    const prefixes = network
      ? networkPrefixes(subnets.get(network))
      : address
        ? [prefix(address)]
        : undefined;
    const protocols = rule.protocol ? protocolNumbers(rule.protocol) : rule.port ? WITH_PORTS : undefined;
    return {
      key: keyOfRule(rule),
      number: numbers.get(keyOfRule(rule)) as number,
      action: rule.action,
      ...(group ? { group } : {}),
      ...(prefixes ? { prefixes } : {}),
      ...(protocols ? { protocols } : {}),
      ...(rule.port ? { port: rule.port } : {}),
    };
  });
  return { name, rules, prefixes: [...new Set(rules.flatMap((r) => r.prefixes ?? []))].sort() };
}

const keyOfRule = (rule: Rule): string => `${rule.tenantName}:${rule.policyName}:${rule.ruleId}`;

/** Higher priority first, then deny, then by key so that the order is one. */
function before(a: Rule, b: Rule): number {
  const priority = (b.priority || 1) - (a.priority || 1);
  if (priority !== 0) return priority;
  if (a.action !== b.action) return a.action === 'deny' ? -1 : 1;
  return keyOfRule(a) < keyOfRule(b) ? -1 : 1;
}

const protocolNumbers = (protocol: string): readonly number[] => PROTOCOLS[protocol] ?? [Number(protocol)];

function networkPrefixes(network: WatchedNetwork | undefined): string[] {
  return [network?.subnet, network?.ipv6Subnet].filter((s) => s).map((s) => prefix(s as string));
}

/** `10.0.0.1/32` for an address; host bits are dropped. */
function prefix(text: string): string {
  const subnet = parseSubnet(text.includes('/') ? text : `${text}/${text.includes(':') ? 128 : 32}`);
  if (subnet === undefined) throw new Error(`'${text}' is not an address or prefix`);
  return `${numberAddress(subnet.network, subnet.family)}/${subnet.length}`;
}

/** The decisions for any peer, and for each group that the rules name what differs from those. */
function decide(
  list: RuleList,
  within: ReadonlySet<string>,
  groupNumbers: ReadonlyMap<string, number>,
): readonly Decision[] {
  const rules = list.rules.filter((r) => r.prefixes === undefined || r.prefixes.some((p) => within.has(p)));
  const general = decideFor(
    rules.filter((r) => r.group === undefined),
    0,
  );
  const named = new Set(rules.map((r) => r.group));
  return [
    ...values(general),
    ...[...named].flatMap((group) => {
      const number = group === undefined ? undefined : groupNumbers.get(group);
      if (number === undefined) return [];
      // Where all rules that name the group are about ports, they change nothing at other ports: only these ports have to be
      // looked at, and what decides there for any peer.
      const own = rules.filter((r) => r.group === group);
      const ports = own.every((r) => r.port !== undefined) ? new Set(own.map((r) => r.port)) : undefined;
      const others = rules.filter(
        (r) => r.group === undefined && (r.port === undefined || ports === undefined || ports.has(r.port)),
      );
      const both = new Set([...others, ...own]);
      const all = rules.filter((r) => both.has(r));
      return values(without(decideFor(all, number), ports === undefined ? general : decideFor(others, 0)));
    }),
  ];
}

/** The decisions for the peers of one group, by how specific they are. Keys: protocol and port (`portKey`), protocol. */
interface Decided {
  readonly ports: Map<number, Decision>;
  readonly protocols: Map<number, Decision>;
  any: Decision | undefined;
}

const values = ({ ports, protocols, any }: Decided): Decision[] => [
  ...ports.values(),
  ...protocols.values(),
  ...(any === undefined ? [] : [any]),
];

/** A number and not a text, since a key is made for each rule of each group, and texts take several times as long. */
const portKey = (protocol: number, port: number): number => protocol * 65536 + port;

/** One pass over the rules in their order: the first that fits decides. */
function decideFor(rules: readonly Ordered[], group: number): Decided {
  const decided: Decided = { ports: new Map(), protocols: new Map(), any: undefined };
  for (const { key, number: rule, action, protocols, port } of rules) {
    if (protocols === undefined) {
      decided.any = { group, rule, action, key };
      break; // whatever follows has nothing left to decide
    }
    for (const protocol of protocols) {
      if (decided.protocols.has(protocol)) continue;
      if (port === undefined) decided.protocols.set(protocol, { group, rule, action, key, protocol });
      else if (!decided.ports.has(portKey(protocol, port)))
        decided.ports.set(portKey(protocol, port), { group, rule, action, key, protocol, port });
    }
  }
  return decided;
}

/**
 * What has to be stored for a group, given what is stored for all peers anyway (`general`). The kernel takes the first decision that
 * it finds, in this order (dataplane/rules/policy.ts, decide):
 *
 *   group and port -> port -> group and protocol -> protocol -> group -> any
 *
 * So a decision of the group's is left out where the lookup ends at the same rule without it, and a group that a policy names costs only
 * what it differs in. The other way round, a decision for all peers stands before a broader one of the group's: where the broader
 * one has the higher priority, it is stored once more for the group with that port or protocol, so that it is found first.
 */
function without(group: Decided, general: Decided): Decided {
  const same = (a: Decision | undefined, b: Decision | undefined): boolean => a?.key === b?.key;
  const rest: Decided = { ports: new Map(), protocols: new Map(), any: undefined };
  if (!same(group.any, general.any)) rest.any = group.any;
  // Where neither port nor protocol is found, the lookup ends here: it is stored for the group, or is the same as for all.
  const any = group.any;

  /** What a packet of this protocol finds so far whose port decides nothing. */
  const found = (protocol: number): Decision | undefined =>
    rest.protocols.get(protocol) ?? general.protocols.get(protocol) ?? any;
  /** What it has to find. */
  const meant = (protocol: number): Decision | undefined => group.protocols.get(protocol) ?? any;
  for (const protocol of new Set([...group.protocols.keys(), ...general.protocols.keys()])) {
    const decision = meant(protocol);
    if (decision !== undefined && !same(decision, found(protocol)))
      rest.protocols.set(protocol, { ...decision, protocol });
  }
  const keep = (key: number, own: Decision | undefined, others: Decision | undefined): void => {
    const [protocol, port] = [Math.floor(key / 65536), key % 65536];
    const decision = own ?? meant(protocol);
    if (decision !== undefined && !same(decision, others ?? found(protocol)))
      rest.ports.set(key, { ...decision, protocol, port });
  };
  for (const [key, own] of group.ports) keep(key, own, general.ports.get(key));
  for (const [key, others] of general.ports) if (!group.ports.has(key)) keep(key, undefined, others);
  return rest;
}

interface CutRange extends AddressRange {
  /** The prefixes that it lies in. */
  readonly within: readonly string[];
}

/** The ranges between the borders of these prefixes, each with the prefixes that cover it. */
function cutRanges(prefixes: ReadonlySet<string>): CutRange[] {
  const parsed = [...prefixes].sort().map((text) => ({ text, subnet: parseSubnet(text) as Subnet }));
  const found = ([4, 6] as const).flatMap((family) => {
    const mine = parsed.filter(({ subnet }) => subnet.family === family);
    const borders = new Set(mine.flatMap(({ subnet }) => [subnet.first, subnet.last + 1n]));
    const sorted = [...borders].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
    return sorted.slice(0, -1).flatMap((first, i) => {
      const last = (sorted[i + 1] as bigint) - 1n;
      const within = mine
        .filter(({ subnet }) => subnet.first <= first && last <= subnet.last)
        .map((p) => p.text);
      return within.length === 0
        ? []
        : [{ first: numberAddress(first, family), last: numberAddress(last, family), within }];
    });
  });
  const numbers = numbered(
    found.map((range) => range.within.join()),
    32,
  );
  return found.map((range) => ({ ...range, range: numbers.get(range.within.join()) as number }));
}

/**
 * A number other than 0 for each text, of so many bits: its hash (FNV-1a), or the next that is free. Numbers do not move when
 * others come or go, but where two hashes are the same.
 */
export function numbered(texts: Iterable<string>, bits: 31 | 32): Map<string, number> {
  const limit = 2 ** bits;
  const taken = new Set<number>([0]);
  const numbers = new Map<string, number>();
  for (const text of [...new Set(texts)].sort()) {
    let number = fnv1a(text) % limit;
    while (taken.has(number)) number = (number + 1) % limit;
    taken.add(number);
    numbers.set(text, number);
  }
  return numbers;
}

function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/** Whether an address is in a range. */
export function inRange(address: string, { first, last }: AddressRange): boolean {
  if (address.includes(':') !== first.includes(':')) return false;
  const number = addressNumber(address);
  return number >= addressNumber(first) && number <= addressNumber(last);
}
