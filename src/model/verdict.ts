/**
 * May this packet pass, and why: policy judged on plain data, rule by rule.
 *
 * Deliberately apart from netplugin's compiler and as plain as can be: no indexes, every rule is looked at for
 * every packet. It judges the compiler in tests, and it is what `netctl policy trace` explains with.
 *
 *   packet --out rules of the sender's group--> --in rules of the receiver's group--> passes when both let it
 *
 * Only the first packet of a connection is judged: packets of an established one, and errors related to it (ICMP),
 * pass before any rule is asked, also where a later rule would deny a new one. UDP without an answer stays a new
 * connection, so the rules are asked for each of its packets.
 */
import ipaddr from 'ipaddr.js';

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
}

export interface JudgedNetwork {
  readonly tenantName: string;
  readonly networkName: string;
  readonly subnet: string;
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
  readonly port?: number | undefined;
  readonly action: Action;
}

export interface JudgedEndpoint {
  readonly groupName?: string | undefined;
  readonly networkName: string;
  readonly ipAddress: readonly string[];
}

/** The first packet of a connection, with the addresses and port that the endpoints themselves see. */
export interface Packet {
  readonly from: string;
  readonly to: string;
  /** IANA protocol number: 6 for TCP. */
  readonly protocol: number;
  /** Destination port, of TCP, UDP and SCTP. */
  readonly port?: number | undefined;
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
  /** Every rule of the group in that direction, the one that goes first first. The first that matches decides. */
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
  readonly matches: boolean;
  /** Such as "protocol is udp, not tcp"; where it matches, everything that it asks for. */
  readonly why: string;
}

export function judge(world: PolicyWorld, packet: Packet): Judgement {
  const out = side('out', packet.from, packet.to, world, packet);
  const into = side('in', packet.to, packet.from, world, packet);
  return { verdict: out.verdict === 'allow' && into.verdict === 'allow' ? 'allow' : 'deny', out, in: into };
}

/** `own` is the address whose group's rules judge, `peer` the one that their from- or to-fields are about. */
function side(direction: 'in' | 'out', own: string, peer: string, world: PolicyWorld, packet: Packet): Side {
  const pass = { considered: [], verdict: 'allow' } as const;
  const endpoint = endpointAt(own, world);
  if (endpoint === undefined) return { ...pass, why: `${own} belongs to no endpoint` };
  const group = world.groups.find((g) => g.groupName === endpoint.groupName);
  if (group === undefined) return { ...pass, why: `${own} is in no group` };
  const key = `${group.tenantName}:${group.groupName}`;
  const policies = group.policies ?? [];
  if (policies.length === 0) return { ...pass, group: key, why: `group ${key} carries no policy` };

  const rules = world.rules
    .filter((rule) => rule.direction === direction && policies.includes(rule.policyName))
    .sort(goesFirst);
  const considered = rules.map((rule): Considered => {
    const asked = conditions(rule, peer, world, packet);
    const failed = asked.filter((condition) => !condition.holds);
    const matches = failed.length === 0;
    const texts = (matches ? asked : failed).map((condition) => condition.text);
    return {
      rule: ruleKey(rule),
      matches,
      why: texts.join('; ') || 'it asks for nothing: everything matches',
    };
  });
  const decider = rules.find((_, i) => considered[i]?.matches);
  if (decider === undefined)
    return {
      group: key,
      considered,
      verdict: 'allow',
      why: `no '${direction}' rule of group ${key} matches`,
    };
  const decides = ruleKey(decider);
  const why = `rule ${decides} of priority ${priorityOf(decider)} says ${decider.action}`;
  return { group: key, considered, decides, verdict: decider.action, why };
}

/** Highest priority first, then deny before allow; the key only so that the order is always the same. */
function goesFirst(a: JudgedRule, b: JudgedRule): number {
  if (priorityOf(a) !== priorityOf(b)) return priorityOf(b) - priorityOf(a);
  if (a.action !== b.action) return a.action === 'deny' ? -1 : 1;
  return ruleKey(a) < ruleKey(b) ? -1 : 1;
}

interface Condition {
  readonly holds: boolean;
  readonly text: string;
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
    ...(rule.protocol ? [isProtocol(packet, rule.protocol)] : []),
    ...(rule.port ? [isPort(packet, rule.port)] : []),
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
const NAMES: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmpv6', 132: 'sctp' };

function isProtocol(packet: Packet, protocol: string): Condition {
  const numbers = PROTOCOLS[protocol] ?? [Number(protocol)];
  const holds = numbers.includes(packet.protocol);
  return { holds, text: `protocol is ${nameOf(packet.protocol)}${holds ? '' : `, not ${protocol}`}` };
}

function isPort(packet: Packet, port: number): Condition {
  if (![6, 17, 132].includes(packet.protocol))
    return { holds: false, text: `${nameOf(packet.protocol)} has no ports, so not port ${port}` };
  const holds = packet.port === port;
  return { holds, text: `port is ${packet.port ?? 'not known'}${holds ? '' : `, not ${port}`}` };
}

const nameOf = (protocol: number): string => NAMES[protocol] ?? String(protocol);

const priorityOf = (rule: JudgedRule): number => rule.priority || 1;

const ruleKey = (rule: JudgedRule): string => `${rule.tenantName}:${rule.policyName}:${rule.ruleId}`;

function endpointAt(address: string, world: PolicyWorld): JudgedEndpoint | undefined {
  return world.endpoints.find((endpoint) => endpoint.ipAddress.some((own) => same(own, address)));
}

/** IPv4 has one spelling, IPv6 several. */
function same(a: string, b: string): boolean {
  return a === b || (a.includes(':') && b.includes(':') && bits(a) === bits(b));
}

/** `target` is an address, a prefix, or a range as networks have it; a prefix's bits behind its length are ignored. */
function within(address: string, target: string): boolean {
  const [range = '', length] = target.split('/');
  const own = bits(address);
  const start = bits(range.split('-')[0] ?? '');
  const count = length === undefined ? start.length : Number(length);
  return own.length === start.length && own.slice(0, count) === start.slice(0, count);
}

/** 32 or 128 characters 0 and 1. */
function bits(address: string): string {
  return ipaddr
    .parse(address)
    .toByteArray()
    .map((byte) => byte.toString(2).padStart(8, '0'))
    .join('');
}
