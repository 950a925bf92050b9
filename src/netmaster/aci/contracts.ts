/**
 * A tenant's rules as contracts of a fabric. A fabric lets pass between groups what a contract says, and nothing else, so that rules that
 * allow become contracts, and those that deny matter only where they take something away from these.
 *
 *   rule                     contract        provides         consumes
 *   in, from group G         POLICYFrmG      its groups       G
 *   in                       POLICYExpose    its groups       everybody in the tenant's VRF (vzAny)
 *   out, to group H          POLICYToH       H                its groups
 *   out                      POLICYOut       everybody        its groups
 *   in, deny                 GROUPDeny       a taboo of the group: what is denied to everybody, less what is allowed above it
 *
 * Names are those of Contiv 1.x, where it had one. What neither can say is a problem, which names the rule: addresses, networks, and
 * denials to some of what is allowed to all. The hosts hold all rules as they are, in any case.
 */
import { createHash } from 'node:crypto';
import type { Rule } from '../../model/rule.ts';
import { overlap, type Service, servicesOf, without } from './services.ts';

/** A group that is in the fabric. */
export interface Member {
  readonly group: string;
  readonly policies: readonly string[];
}

export interface Contract {
  readonly name: string;
  readonly services: readonly Service[];
  /** Groups; `everybody`: all of the VRF. */
  readonly providers: readonly string[] | 'everybody';
  readonly consumers: readonly string[] | 'everybody';
}

export interface Taboo {
  readonly name: string;
  readonly group: string;
  readonly services: readonly Service[];
}

/** What the fabric does not do: of which object, why, and what would be right. */
export interface Unfit {
  readonly of: string;
  readonly field: string;
  readonly problem: string;
  readonly remedy: string;
}

export interface Contracts {
  readonly contracts: readonly Contract[];
  readonly taboos: readonly Taboo[];
  readonly unfit: readonly Unfit[];
}

/** Characters of a name in the fabric. */
const NAME = 64;

/** Longer ones are cut, and told apart by what they were. */
export function fabricName(name: string): string {
  if (name.length <= NAME) return name;
  const hash = createHash('sha256').update(name).digest('hex').slice(0, 8);
  return `${name.slice(0, NAME - 9)}-${hash}`;
}

interface Read {
  readonly rule: Rule;
  readonly services: readonly Service[];
  readonly peer: string | undefined;
  readonly priority: number;
}

export const callRule = ({ tenantName, policyName, ruleId }: Rule): string =>
  `rule ${tenantName}:${policyName}:${ruleId}`;

export function contractsOf(
  members: readonly Member[],
  rulesOf: (policy: string) => readonly Rule[],
): Contracts {
  const unfit: Unfit[] = [];
  const policies = new Set(members.flatMap((member) => member.policies));
  const read = new Map<string, Read[]>();
  for (const policy of [...policies].sort()) {
    const fits: Read[] = [];
    for (const rule of rulesOf(policy).toSorted((a, b) => (a.ruleId < b.ruleId ? -1 : 1))) {
      const problem = unfitOf(rule);
      if (problem !== undefined) unfit.push(problem);
      const services = servicesOf(rule);
      if (problem !== undefined || services === undefined) continue;
      const peer = (rule.direction === 'in' ? rule.fromEndpointGroup : rule.toEndpointGroup) || undefined;
      fits.push({ rule, services, peer, priority: rule.priority ?? 1 });
    }
    read.set(policy, fits);
  }
  const contracts = new Map<string, Contract>();
  for (const [policy, rules] of read)
    for (const each of rules) {
      if (each.rule.action === 'deny') continue;
      const own = members.filter((member) => member.policies.includes(policy)).map(({ group }) => group);
      const contract = contractOf(policy, each, own, members);
      const before = contracts.get(contract.name)?.services ?? [];
      contracts.set(contract.name, { ...contract, services: [...before, ...contract.services] });
    }
  const taboos: Taboo[] = [];
  for (const member of members) {
    const rules = member.policies.flatMap((policy) => read.get(policy) ?? []);
    const services = rules.flatMap((each) => {
      const denied = deniedBy(each, rules);
      if (denied === undefined) return [];
      if ('problem' in denied) unfit.push(denied);
      return 'problem' in denied ? [] : denied.services;
    });
    if (services.length > 0)
      taboos.push({ name: fabricName(`${member.group}Deny`), group: member.group, services });
  }
  return { contracts: [...contracts.values()], taboos, unfit: dedupe(unfit) };
}

/** A rule is one of several groups', and told once. */
const dedupe = (all: readonly Unfit[]): Unfit[] => [
  ...new Map(all.map((unfit) => [`${unfit.of} ${unfit.field}`, unfit])).values(),
];

/** What of a rule, whatever else there is, no contract can say. */
function unfitOf(rule: Rule): Unfit | undefined {
  const field = (['fromIpAddress', 'toIpAddress', 'fromNetwork', 'toNetwork'] as const).find((f) => rule[f]);
  if (field !== undefined)
    return {
      of: callRule(rule),
      field,
      problem: `${field} ${rule[field]} is nothing that a contract of the ACI fabric can say, which is between groups`,
      remedy: `name a group in its place (${field.startsWith('from') ? '--from-group' : '--to-group'}), or take the policy from groups of application profiles`,
    };
  if (servicesOf(rule) === undefined)
    return {
      of: callRule(rule),
      field: rule.ports ? 'ports' : 'port',
      problem: `${rule.ports ? 'ports' : 'port'} of SCTP are nothing that a filter of the ACI fabric knows`,
      remedy: 'leave the ports out, or name tcp or udp',
    };
  return undefined;
}

function contractOf(
  policy: string,
  { rule, services, peer }: Read,
  own: readonly string[],
  members: readonly Member[],
): Contract {
  const theirs = peer === undefined ? 'everybody' : members.some(({ group }) => group === peer) ? [peer] : [];
  if (rule.direction === 'in') {
    const name = fabricName(peer === undefined ? `${policy}Expose` : `${policy}Frm${peer}`);
    return { name, services, providers: own, consumers: theirs };
  }
  const name = fabricName(peer === undefined ? `${policy}Out` : `${policy}To${peer}`);
  return { name, services, providers: theirs, consumers: own };
}

const meet = (a: Read, b: Read): boolean => a.services.some((s) => b.services.some((t) => overlap(s, t)));

/** What a rule that denies takes away of what the other rules of a group allow; undefined: nothing. */
function deniedBy(deny: Read, rules: readonly Read[]): { services: readonly Service[] } | Unfit | undefined {
  if (deny.rule.action !== 'deny') return undefined;
  const allowed = rules.filter(
    (each) =>
      each.rule.action === 'allow' &&
      each.rule.direction === deny.rule.direction &&
      meet(each, deny) &&
      (deny.peer === undefined || each.peer === undefined || each.peer === deny.peer),
  );
  const below = allowed.filter(({ priority }) => priority <= deny.priority);
  const above = allowed.filter(({ priority }) => priority > deny.priority);
  const [first] = below;
  // The fabric lets nothing pass that nothing allows.
  if (first === undefined) return undefined;
  const unfit = (why: string): Unfit => ({
    of: callRule(deny.rule),
    field: 'action',
    problem: `denies a part of what ${callRule(first.rule)} allows, and the ACI fabric cannot: ${why}`,
    remedy: `narrow ${callRule(first.rule)} to what is meant, by its group or its ports`,
  });
  if (deny.rule.direction === 'out') return unfit('what it denies is denied to who receives');
  if (deny.peer !== undefined) return unfit('what it denies is denied to all groups');
  if (above.some((each) => each.peer !== undefined && below.some((other) => meet(each, other))))
    return unfit(`${callRule(above[0]?.rule as Rule)} is above it for one group alone`);
  const taken = above.flatMap(({ services }) => services);
  const left = deny.services.map((service) => without(service, taken));
  if (left.includes(undefined))
    return unfit('all protocols without some are no filter; name the protocols that are denied');
  return { services: left.flatMap((services) => services ?? []) };
}
