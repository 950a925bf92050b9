/**
 * May this packet pass, and why: policy judged on plain data, rule by rule.
 *
 * Deliberately apart from netplugin's compiler and as plain as can be: no indexes, every rule is looked at for
 * every packet. It judges the compiler in tests, and it is what `netctl policy trace` explains with.
 *
 *   packet --out rules of the sender--> --in rules of the receiver--> passes when both let it
 *
 * A side's rules are those of its group's policies. Where it is a workload that NetworkPolicies select, they stand in tiers:
 *
 *   admin --pass--> own group's --allow--> NetworkPolicies, where one isolates: nothing is left to those below --> baseline
 *
 * A deny decides wherever it stands, and so does an accept that is not our own group's: that one needs those below to let it, too.
 *
 * Only the first packet of a connection is judged: packets of an established one, and errors related to it (ICMP),
 * pass before any rule is asked, also where a later rule would deny a new one. UDP without an answer stays a new
 * connection, so the rules are asked for each of its packets.
 */
import { type Condition, hasPorts, nameOf, type Packet, same, within } from './judging.ts';
import { labelConditions, policiesOn, rulesOf } from './labelVerdict.ts';
import { type NetworkPolicy, networkPolicyName } from './networkPolicy.ts';
import { UNKNOWN_WORKLOAD, type Workload } from './workload.ts';

export type { Packet } from './judging.ts';

export type Action = 'allow' | 'deny';

/**
 * What policy depends on, all of one tenant; the model's own objects fit. A field that is '' or 0 is unset, as in the
 * REST API. Throws where an address or subnet is none.
 */
export interface PolicyWorld {
  readonly networks: readonly JudgedNetwork[];
  readonly groups: readonly JudgedGroup[];
  readonly rules: readonly JudgedRule[];
  readonly endpoints: readonly JudgedEndpoint[];
  readonly workloads?: readonly Workload[];
  /** Of all tenants. */
  readonly networkPolicies?: readonly NetworkPolicy[];
}

export interface JudgedNetwork {
  readonly tenantName: string;
  readonly networkName: string;
  readonly subnet?: string;
  readonly ipv6Subnet?: string | undefined;
}

export interface JudgedGroup {
  readonly tenantName: string;
  readonly groupName: string;
  readonly networkName: string;
  readonly policies?: readonly string[] | undefined;
}

/** Of an `in` rule only from-fields count, of an `out` rule only to-fields. */
export interface JudgedRule {
  readonly tenantName: string;
  readonly policyName: string;
  readonly ruleId: string;
  readonly direction: 'in' | 'out';
  /** 1 where unset. */
  readonly priority?: number | undefined;
  readonly fromEndpointGroup?: string | undefined;
  readonly toEndpointGroup?: string | undefined;
  readonly fromNetwork?: string | undefined;
  readonly toNetwork?: string | undefined;
  /** An address or a prefix. */
  readonly fromIpAddress?: string | undefined;
  readonly toIpAddress?: string | undefined;
  /** tcp, udp, icmp or an IANA number as text. */
  readonly protocol?: string | undefined;
  /** Several in place of `protocol`: `tcp,udp`. */
  readonly protocols?: string | undefined;
  readonly port?: number | undefined;
  /** Several in place of `port`, and ranges: `80,443,8000-8999`. */
  readonly ports?: string | undefined;
  readonly action: Action;
}

export interface JudgedEndpoint {
  readonly groupName?: string | undefined;
  readonly networkName: string;
  readonly ipAddress: readonly string[];
  /** `NAMESPACE:NAME`. */
  readonly workload?: string | undefined;
  readonly workloadUid?: string | undefined;
  /** It is on no host of ours: its group's rules judge nothing at its own side. */
  readonly external?: boolean | undefined;
}

export interface Judgement {
  readonly verdict: Action;
  readonly out: Side;
  readonly in: Side;
}

/** One side of a packet: what its group's rules in that direction say. Texts are for people. */
export interface Side {
  /** Key of the group whose rules judge; absent where the address is no endpoint's, or in no group. */
  readonly group?: string;
  /** Every rule in that direction, the one that goes first first. The first that matches decides, but for tiers (above). */
  readonly considered: readonly Considered[];
  /** Key of the rule that decides; absent where none matches. */
  readonly decides?: string;
  readonly verdict: Action;
  /** Such as "no rule of group default:web matches". */
  readonly why: string;
}

export interface Considered {
  /** `default:prod_web:1`. */
  readonly rule: string;
  /** Of NetworkPolicies; absent: a rule of the group's policies. */
  readonly tier?: NetworkPolicy['tier'];
  readonly matches: boolean;
  /** Such as "protocol is udp, not tcp"; where it matches, everything that it asks for. */
  readonly why: string;
  /** Of a rule of the group's that matches and is not the first that does: why that goes first. */
  readonly loses?: string;
}

export function judge(world: PolicyWorld, packet: Packet): Judgement {
  const out = side('out', packet.from, packet.to, world, packet);
  const into = side('in', packet.to, packet.from, world, packet);
  return { verdict: out.verdict === 'allow' && into.verdict === 'allow' ? 'allow' : 'deny', out, in: into };
}

/** `own` is the address whose rules judge, `peer` the one that their from- or to-fields and peers are about. */
function side(direction: 'in' | 'out', own: string, peer: string, world: PolicyWorld, packet: Packet): Side {
  const endpoint = endpointAt(own, world);
  if (endpoint === undefined)
    return { considered: [], verdict: 'allow', why: `${own} belongs to no endpoint` };
  if (endpoint.external)
    return {
      considered: [],
      verdict: 'allow',
      why: `${own} is of an external endpoint: rules hold at the containers' side`,
    };
  const judged = ownSide(direction, own, peer, endpoint, world, packet);
  if (endpoint.workload === undefined) return judged;
  const workload = workloadOf(endpoint, world);
  if (workload === undefined) {
    const why = `workload ${endpoint.workload} of that uid is not known: all is denied until it is`;
    return { considered: [], decides: UNKNOWN_WORKLOAD, verdict: 'deny', why };
  }
  const ends = {
    address: peer,
    peer: workloadAt(peer, world),
    receiver: direction === 'in' ? workload : workloadAt(peer, world),
  };
  const tier = (name: NetworkPolicy['tier']) => {
    const policies = policiesOn(workload, name, direction, world.networkPolicies ?? []);
    const found = rulesOf(policies, direction).map(({ name: called, rule }) => ({
      action: rule.action,
      considered: { ...consider(called, labelConditions(rule, ends, packet)), tier: name },
    }));
    return { policies, found, first: found.find(({ considered }) => considered.matches) };
  };
  const [admin, namespace, baseline] = [tier('admin'), tier('namespace'), tier('baseline')];
  const [isolating] = namespace.policies;
  if (admin.found.length + baseline.found.length === 0 && isolating === undefined) return judged;

  const isolation: Considered[] =
    isolating === undefined
      ? []
      : [
          {
            rule: networkPolicyName(isolating),
            tier: 'namespace',
            matches: true,
            why: 'denies what no rule of such a policy accepts',
          },
        ];
  const considered = [
    ...admin.found.map((f) => f.considered),
    ...judged.considered,
    ...namespace.found.map((f) => f.considered),
    ...isolation,
    ...baseline.found.map((f) => f.considered),
  ];
  const group = judged.group === undefined ? {} : { group: judged.group };
  const decided = (decides: string, verdict: Action, why: string): Side => ({
    ...group,
    considered,
    decides,
    verdict,
    why,
  });
  const by = (tierOf: typeof admin): Side | undefined => {
    const { first } = tierOf;
    if (first === undefined) return undefined;
    const { rule } = first.considered;
    if (first.action === 'pass')
      return decided(rule, 'allow', `${rule} passes, and nothing below it decides`);
    return decided(rule, first.action === 'deny' ? 'deny' : 'allow', `${rule} says ${first.action}`);
  };
  if (admin.first !== undefined && admin.first.action !== 'pass') return by(admin) as Side;
  if (judged.verdict === 'deny') return { ...judged, considered };
  if (isolating !== undefined) {
    const name = networkPolicyName(isolating);
    return by(namespace) ?? decided(name, 'deny', `${name}: no rule of such a policy accepts it`);
  }
  const below = by(baseline);
  if (below !== undefined) return below;
  if (judged.decides !== undefined) return { ...judged, considered };
  return by(admin) ?? { ...group, considered, verdict: 'allow', why: `no '${direction}' rule matches` };
}

/** By the group's policies alone. */
function ownSide(
  direction: 'in' | 'out',
  own: string,
  peer: string,
  endpoint: JudgedEndpoint,
  world: PolicyWorld,
  packet: Packet,
): Side {
  const pass = { considered: [], verdict: 'allow' } as const;
  const group = world.groups.find((g) => g.groupName === endpoint.groupName);
  if (group === undefined) return { ...pass, why: `${own} is in no group` };
  const key = `${group.tenantName}:${group.groupName}`;
  const policies = group.policies ?? [];
  if (policies.length === 0) return { ...pass, group: key, why: `group ${key} carries no policy` };

  const rules = world.rules
    .filter((rule) => rule.direction === direction && policies.includes(rule.policyName))
    .sort(goesFirst);
  const judged = rules.map((rule) => consider(ruleKey(rule), conditions(rule, peer, world, packet)));
  const decider = rules.find((_, i) => judged[i]?.matches);
  const considered = judged.map((one, i) =>
    decider === undefined || !one.matches || rules[i] === decider
      ? one
      : { ...one, loses: losesTo(decider, rules[i] as JudgedRule) },
  );
  if (decider === undefined) {
    const why = `no '${direction}' rule of group ${key} matches`;
    return { group: key, considered, verdict: 'allow', why };
  }
  const decides = ruleKey(decider);
  const why = `rule ${decides} of priority ${priorityOf(decider)} says ${decider.action}`;
  return { group: key, considered, decides, verdict: decider.action, why };
}

function consider(rule: string, asked: readonly Condition[]): Considered {
  const failed = asked.filter((condition) => !condition.holds);
  const matches = failed.length === 0;
  const texts = (matches ? asked : failed).map((condition) => condition.text);
  return { rule, matches, why: texts.join('; ') || 'it asks for nothing: everything matches' };
}

/** Highest priority first, then deny before allow; the key only so that the order is always the same. */
function goesFirst(a: JudgedRule, b: JudgedRule): number {
  if (priorityOf(a) !== priorityOf(b)) return priorityOf(b) - priorityOf(a);
  if (a.action !== b.action) return a.action === 'deny' ? -1 : 1;
  return ruleKey(a) < ruleKey(b) ? -1 : 1;
}

/** Both match, and `first` goes first. */
function losesTo(first: JudgedRule, rule: JudgedRule): string {
  const [priority, higher] = [priorityOf(rule), priorityOf(first)];
  if (priority !== higher) return `its priority ${priority} is lower than ${higher} of ${ruleKey(first)}`;
  if (rule.action !== first.action)
    return `at priority ${priority} deny goes first, and ${ruleKey(first)} denies`;
  return `${ruleKey(first)} says ${first.action} at priority ${priority} too, and its name comes first`;
}

/** Everything that the rule asks for. It matches where all of it holds. */
function conditions(rule: JudgedRule, peer: string, world: PolicyWorld, packet: Packet): Condition[] {
  const incoming = rule.direction === 'in';
  const group = incoming ? rule.fromEndpointGroup : rule.toEndpointGroup;
  const network = incoming ? rule.fromNetwork : rule.toNetwork;
  const address = incoming ? rule.fromIpAddress : rule.toIpAddress;
  return [
    ...(group ? [inGroup(peer, group, world)] : []),
    ...(network ? [inNetwork(peer, network, world)] : []),
    ...(address ? [inAddress(peer, address)] : []),
    ...(rule.protocols || rule.protocol ? [isProtocol(packet, rule.protocols || rule.protocol || '')] : []),
    ...(rule.ports || rule.port ? [isPort(packet, rule.ports || String(rule.port))] : []),
  ];
}

function inGroup(peer: string, group: string, world: PolicyWorld): Condition {
  const endpoint = endpointAt(peer, world);
  if (endpoint === undefined)
    return { holds: false, text: `${peer} belongs to no endpoint, so not to group ${group}` };
  if (endpoint.groupName === group) return { holds: true, text: `${peer} is in group ${group}` };
  const actual = endpoint.groupName ? `group ${endpoint.groupName}` : 'no group';
  return { holds: false, text: `${peer} is in ${actual}, not in group ${group}` };
}

/** The whole subnet counts, also where only a range of it is given out, and whether or not an endpoint is there. */
function inNetwork(peer: string, networkName: string, world: PolicyWorld): Condition {
  const network = world.networks.find((n) => n.networkName === networkName);
  const subnets = [network?.subnet, network?.ipv6Subnet].filter((subnet) => subnet !== undefined);
  const holds = subnets.some((subnet) => subnet !== '' && within(peer, subnet));
  return { holds, text: `${peer} is ${holds ? '' : 'not '}in network ${networkName}` };
}

function inAddress(peer: string, address: string): Condition {
  const holds = within(peer, address);
  return { holds, text: `${peer} is ${holds ? '' : 'not '}${address.includes('/') ? 'in ' : ''}${address}` };
}

/** ICMP and ICMPv6 are one, so that a rule means the same for both families. */
const PROTOCOLS: Readonly<Record<string, readonly number[]>> = { icmp: [1, 58], tcp: [6], udp: [17] };

function isProtocol(packet: Packet, protocols: string): Condition {
  const numbers = protocols.split(',').flatMap((protocol) => PROTOCOLS[protocol] ?? [Number(protocol)]);
  const holds = numbers.includes(packet.protocol);
  return { holds, text: `protocol is ${nameOf(packet.protocol)}${holds ? '' : `, not ${protocols}`}` };
}

function isPort(packet: Packet, ports: string): Condition {
  if (!hasPorts(packet))
    return { holds: false, text: `${nameOf(packet.protocol)} has no ports, so not port ${ports}` };
  const { port } = packet;
  const among = ports.split(',').find((part) => {
    const [first, last = first] = part.split('-').map(Number);
    return port !== undefined && port >= (first as number) && port <= (last as number);
  });
  if (among === undefined) return { holds: false, text: `port is ${port ?? 'not known'}, not ${ports}` };
  return { holds: true, text: `port is ${port}${among === String(port) ? '' : `, in ${among}`}` };
}

const priorityOf = (rule: JudgedRule): number => rule.priority || 1;

const ruleKey = (rule: JudgedRule): string => `${rule.tenantName}:${rule.policyName}:${rule.ruleId}`;

function endpointAt(address: string, world: PolicyWorld): JudgedEndpoint | undefined {
  return world.endpoints.find((endpoint) => endpoint.ipAddress.some((own) => same(own, address)));
}

/** Of the uid that the endpoint says: a later one of that name is another. */
const workloadOf = ({ workload, workloadUid }: JudgedEndpoint, world: PolicyWorld): Workload | undefined =>
  world.workloads?.find((w) => `${w.namespaceName}:${w.workloadName}` === workload && w.uid === workloadUid);

function workloadAt(address: string, world: PolicyWorld): Workload | undefined {
  const endpoint = endpointAt(address, world);
  return endpoint && workloadOf(endpoint, world);
}
