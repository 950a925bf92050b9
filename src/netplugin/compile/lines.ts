/**
 * Rules of all kinds, as one side asks them: one line for each peer and each port that a rule names, since any of them may fit.
 *
 *   our own rules (model/rule.ts) ----------\
 *   NetworkPolicy, ClusterNetworkPolicy -----+--> Lines, by tier
 *
 * What a workload calls a port is its number by now where the workload is our own, and stays a name where it is the peer's: each
 * peer has a number of its own for it.
 */
import { numberAddress, parseSubnet } from '../../model/address.ts';
import { subnetsOf } from '../../model/families.ts';
import {
  type NetworkPolicy,
  type NetworkPolicyPeer,
  type NetworkPolicyPort,
  networkPolicyName,
  networkPolicyRuleName,
} from '../../model/networkPolicy.ts';
import { type PortSpan, portSpans, type Rule } from '../../model/rule.ts';
import type { WatchedNetwork } from '../intent/view.ts';
import { type Identity, ofGroup, ofWorkloads, portsCalled, type Taker } from './identity.ts';

export type Direction = 'in' | 'out';

/** The lines of one tier are in the order in which they decide. */
export interface Line {
  /** Of the rule. */
  readonly key: string;
  readonly action: 'allow' | 'deny' | 'pass';
  /** What it decides is told. */
  readonly log?: true;
  /** Of the peer; absent: any. */
  readonly peer?: Taker;
  /** The peer's address is in one of these; absent: any. */
  readonly blocks?: readonly Block[];
  /** Absent: any. */
  readonly protocols?: readonly number[];
  readonly port?: number;
  /** In place of `port`. */
  readonly span?: Span;
  /** In place of `port`: what the peer calls it. */
  readonly portName?: string;
}

/** A prefix without others. */
export interface Block {
  readonly prefix: string;
  readonly except: readonly string[];
}

export type Span = PortSpan;

const PROTOCOLS: Readonly<Record<string, readonly number[]>> = { tcp: [6], udp: [17], icmp: [1, 58] };
/** Those that have ports: TCP, UDP, SCTP. */
const WITH_PORTS = [6, 17, 132];

/** `10.0.0.1/32` for an address; host bits are dropped. */
function prefix(text: string): string {
  const subnet = parseSubnet(text.includes('/') ? text : `${text}/${text.includes(':') ? 128 : 32}`);
  if (subnet === undefined) throw new Error(`'${text}' is not an address or prefix`);
  return `${numberAddress(subnet.network, subnet.family)}/${subnet.length}`;
}

/** Of one direction, highest priority first, deny before allow. */
export function linesOfRules(
  rules: readonly Rule[],
  direction: Direction,
  networks: readonly WatchedNetwork[],
): Line[] {
  const subnets = new Map(networks.map((n) => [n.networkName, n]));
  const asked = rules.filter((rule) => rule.direction === direction).sort(before);
  return asked.flatMap((rule) => {
    const [group, network, address] =
      direction === 'in'
        ? [rule.fromEndpointGroup, rule.fromNetwork, rule.fromIpAddress]
        : [rule.toEndpointGroup, rule.toNetwork, rule.toIpAddress];
    const prefixes = network
      ? networkPrefixes(subnets.get(network))
      : address
        ? [prefix(address)]
        : undefined;
    const spans = spansOf(rule);
    const asking = rule.protocols || rule.protocol;
    const protocols = asking ? protocolNumbers(asking) : spans === undefined ? undefined : WITH_PORTS;
    const line: Line = {
      key: keyOfRule(rule),
      action: rule.action,
      ...(rule.log ? { log: true } : {}),
      ...(group ? { peer: ofGroup(group) } : {}),
      ...(prefixes ? { blocks: prefixes.map((p) => ({ prefix: p, except: [] })) } : {}),
      ...(protocols ? { protocols } : {}),
    };
    return spans === undefined ? [line] : spans.map((span): Line => ({ ...line, ...portOf(span) }));
  });
}

const keyOfRule = (rule: Rule): string => `${rule.tenantName}:${rule.policyName}:${rule.ruleId}`;

/** Higher priority first, then deny, then by key so that the order is one. */
function before(a: Rule, b: Rule): number {
  const priority = (b.priority || 1) - (a.priority || 1);
  if (priority !== 0) return priority;
  if (a.action !== b.action) return a.action === 'deny' ? -1 : 1;
  return keyOfRule(a) < keyOfRule(b) ? -1 : 1;
}

/** Of `tcp`, or `tcp,udp`. */
const protocolNumbers = (protocols: string): readonly number[] => [
  ...new Set(protocols.split(',').flatMap((one) => PROTOCOLS[one] ?? [Number(one)])),
];

/** undefined: it asks for none. */
const spansOf = ({ port, ports }: Rule): readonly Span[] | undefined => {
  if (ports) return portSpans(ports);
  return port ? [{ first: port, last: port }] : undefined;
};

const portOf = (span: Span): Pick<Line, 'port' | 'span'> =>
  span.first === span.last ? { port: span.first } : { span };

function networkPrefixes(network: WatchedNetwork | undefined): string[] {
  return subnetsOf(network ?? {}).map(prefix);
}

/** Whom a policy judges: a NetworkPolicy those of its own namespace only. */
export const subjectOf = ({ tier, namespaceName, subject }: NetworkPolicy): Taker =>
  tier === 'namespace'
    ? ofWorkloads({ workloads: subject.workloads ?? {} }, namespaceName)
    : ofWorkloads(subject);

/** Whether it has to do with a direction. Rules of a NetworkPolicy that does not isolate add nothing. */
export const concerns = ({ tier, isolates, rules }: NetworkPolicy, direction: Direction): boolean =>
  tier === 'namespace'
    ? (isolates ?? []).includes(direction)
    : rules.some((rule) => rule.direction === direction);

/** What denies where no rule of a NetworkPolicy accepts. */
export const isolation = (policy: NetworkPolicy): Line => ({
  key: networkPolicyName(policy),
  action: 'deny',
});

const ACTIONS = { accept: 'allow', deny: 'deny', pass: 'pass' } as const;

/** `own`: whom it judges. */
export function linesOfPolicy(policy: NetworkPolicy, direction: Direction, own: Identity): Line[] {
  return policy.rules.flatMap((rule, i) => {
    if (rule.direction !== direction) return [];
    const decides = { key: networkPolicyRuleName(policy, i), action: ACTIONS[rule.action] };
    const peers = rule.peers === undefined ? [{}] : rule.peers.flatMap(peerOf);
    const ports =
      rule.ports === undefined ? [{}] : rule.ports.flatMap((port) => portsOf(port, direction, own));
    return peers.flatMap((peer) => ports.map((port): Line => ({ ...decides, ...peer, ...port })));
  });
}

/** Nobody by `nodes`: hosts have no labels here (model/networkPolicy.ts refuses them). */
function peerOf(peer: NetworkPolicyPeer): Pick<Line, 'peer' | 'blocks'>[] {
  if ('nodes' in peer) return [];
  if ('prefix' in peer)
    return [{ blocks: [{ prefix: prefix(peer.prefix), except: (peer.except ?? []).map(prefix) }] }];
  return [{ peer: ofWorkloads(peer) }];
}

type Ports = Pick<Line, 'protocols' | 'port' | 'span' | 'portName'>;

function portsOf(
  { protocol, port, endPort, name }: NetworkPolicyPort,
  direction: Direction,
  own: Identity,
): Ports[] {
  const protocols = protocol === undefined ? undefined : [protocol];
  if (name !== undefined && direction === 'in')
    return portsCalled(own, name, protocol).map((p) => ({ protocols: [p.protocol], port: p.port }));
  if (name !== undefined) return [{ ...(protocols && { protocols }), portName: name }];
  if (port === undefined) return [{ ...(protocols && { protocols }) }];
  return [{ protocols: protocols ?? WITH_PORTS, ...portOf({ first: port, last: endPort ?? port }) }];
}

/** What our own workload calls the ports that a policy names by name: what its lines depend on besides the policy. */
export function ownPorts(policies: readonly NetworkPolicy[], direction: Direction, own: Identity): string[] {
  if (direction === 'out') return [];
  const names = policies.flatMap((p) =>
    p.rules.flatMap((r) => (r.direction === 'in' ? (r.ports ?? []).flatMap((port) => port.name ?? []) : [])),
  );
  return [...new Set(names)]
    .sort()
    .map((name) =>
      [name, ...portsCalled(own, name, undefined).map((p) => `${p.protocol}/${p.port}`)].join(' '),
    );
}
