/**
 * What NetworkPolicies say of a packet, sentence by sentence as their API does (kubernetes.io, NetworkPolicy v1;
 * network-policy-api.sigs.k8s.io, ClusterNetworkPolicy): the part of verdict.ts that is about labels, as plain as the rest.
 */
import { type Condition, hasPorts, nameOf, type Packet, within } from './judging.ts';
import {
  type NetworkPolicy,
  type NetworkPolicyPeer,
  type NetworkPolicyPort,
  type NetworkPolicyRule,
  networkPolicyName,
  networkPolicyRuleName,
} from './networkPolicy.ts';
import { type Labels, matcherOf, type Selector } from './selector.ts';
import type { Workload } from './workload.ts';

export interface LabelRule {
  readonly name: string;
  readonly rule: NetworkPolicyRule;
}

const selected = (selector: Selector | undefined, labels: Labels | undefined): boolean =>
  selector === undefined || matcherOf(selector)(labels ?? {});

const selects = (by: { namespaces?: Selector; workloads?: Selector }, workload: Workload): boolean =>
  selected(by.namespaces, workload.namespaceLabels) && selected(by.workloads, workload.labels);

/** The policies of a tier that judge a workload in a direction, in the order in which they decide. */
export function policiesOn(
  workload: Workload,
  tier: NetworkPolicy['tier'],
  direction: 'in' | 'out',
  all: readonly NetworkPolicy[],
): NetworkPolicy[] {
  const judges = (policy: NetworkPolicy): boolean =>
    tier === 'namespace'
      ? policy.namespaceName === workload.namespaceName &&
        selected(policy.subject.workloads, workload.labels) &&
        (policy.isolates ?? []).includes(direction)
      : selects(policy.subject, workload);
  return all
    .filter((policy) => policy.tier === tier && judges(policy))
    .sort(
      (a, b) =>
        (a.priority ?? 0) - (b.priority ?? 0) || (networkPolicyName(a) < networkPolicyName(b) ? -1 : 1),
    );
}

export const rulesOf = (policies: readonly NetworkPolicy[], direction: 'in' | 'out'): LabelRule[] =>
  policies.flatMap((policy) =>
    policy.rules.flatMap((rule, i) =>
      rule.direction === direction ? [{ name: networkPolicyRuleName(policy, i), rule }] : [],
    ),
  );

/** Who is at the other end, and who receives. */
export interface Ends {
  readonly address: string;
  readonly peer: Workload | undefined;
  readonly receiver: Workload | undefined;
}

/** Everything that the rule asks for: one of its peers fits, and one of its ports does. */
export function labelConditions(
  { peers, ports }: NetworkPolicyRule,
  ends: Ends,
  packet: Packet,
): Condition[] {
  return [
    ...(peers === undefined ? [] : [fromPeers(peers, ends)]),
    ...(ports === undefined ? [] : [atPorts(ports, ends, packet)]),
  ];
}

function fromPeers(peers: readonly NetworkPolicyPeer[], ends: Ends): Condition {
  const { address, peer } = ends;
  const holds = peers.some((one) => isPeer(one, ends));
  const who =
    peer === undefined
      ? `${address} is no workload`
      : `${address} is ${peer.namespaceName}/${peer.workloadName}`;
  return {
    holds,
    text: `${who}, ${holds ? 'which is' : 'and'} ${holds ? 'one' : 'none'} of the rule's peers`,
  };
}

function isPeer(one: NetworkPolicyPeer, { address, peer }: Ends): boolean {
  if ('prefix' in one)
    return within(address, one.prefix) && !(one.except ?? []).some((except) => within(address, except));
  // By the labels of hosts nobody is known.
  if ('nodes' in one) return false;
  return peer !== undefined && selects(one, peer);
}

function atPorts(ports: readonly NetworkPolicyPort[], { receiver }: Ends, packet: Packet): Condition {
  const holds = ports.some((one) => isAt(one, receiver, packet));
  const service = `${nameOf(packet.protocol)}${packet.port === undefined ? '' : ` ${packet.port}`}`;
  return { holds, text: `${service} is ${holds ? 'one' : 'none'} of the rule's ports` };
}

function isAt(one: NetworkPolicyPort, receiver: Workload | undefined, packet: Packet): boolean {
  if (one.protocol !== undefined && one.protocol !== packet.protocol) return false;
  if (one.port === undefined && one.name === undefined) return true;
  const { port } = packet;
  if (port === undefined || !hasPorts(packet)) return false;
  if (one.name !== undefined)
    return (receiver?.ports ?? []).some(
      (p) => p.name === one.name && p.protocol === packet.protocol && p.port === port,
    );
  const first = one.port as number;
  return first <= port && port <= (one.endPort ?? first);
}
