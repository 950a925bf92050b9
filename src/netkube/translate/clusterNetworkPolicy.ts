/**
 * ClusterNetworkPolicy (policy.networking.k8s.io, v1beta1 and v1alpha2, which are alike) to a policy of tier `admin` or `baseline`.
 * A rule with something that is not known here fails closed, as the API asks for: one that accepts matches nothing, any
 * other denies everything; and that is told.
 */
import type {
  NetworkPolicy as Intent,
  NetworkPolicyPeer,
  NetworkPolicyPort,
  NetworkPolicyRule,
} from '../../model/networkPolicy.ts';
import { matcherOf } from '../../model/selector.ts';
import type {
  ClusterNetworkPolicy,
  Node,
  ClusterNetworkPolicyPeer as Peer,
  Ports,
  ClusterNetworkPolicyProtocol as Protocol,
  ClusterNetworkPolicyRule as Rule,
} from '../cluster/objects.ts';
import { protocolOf, Untranslatable } from './protocol.ts';

const ACTIONS: Readonly<Record<string, NetworkPolicyRule['action']>> = {
  Accept: 'accept',
  Deny: 'deny',
  Pass: 'pass',
};

export function tierOf({ spec }: ClusterNetworkPolicy): 'admin' | 'baseline' {
  if (spec.tier === 'Admin') return 'admin';
  if (spec.tier === 'Baseline') return 'baseline';
  throw new Untranslatable(`spec.tier '${spec.tier}' must be Admin or Baseline`);
}

export const selectsNodes = ({ spec }: ClusterNetworkPolicy): boolean =>
  (spec.egress ?? []).some(({ to }) => to?.some((peer) => peer.nodes !== undefined));

/** `warn` is called with each line that whoever wrote the policy should read. */
export function clusterNetworkPolicyOf(
  policy: ClusterNetworkPolicy,
  nodes: Iterable<Node>,
  warn: (text: string) => void,
): Intent {
  const { metadata, spec } = policy;
  const { namespaces, pods } = spec.subject;
  const rules = (direction: 'in' | 'out', field: 'ingress' | 'egress'): NetworkPolicyRule[] =>
    (spec[field] ?? []).flatMap((rule, i): NetworkPolicyRule[] => {
      const place = `spec.${field}[${i}]`;
      try {
        return [ruleOf(direction, rule, place, nodes)];
      } catch (error) {
        if (!(error instanceof Untranslatable)) throw error;
        const accepts = rule.action === 'Accept';
        warn(`${error.message}; until then the rule ${accepts ? 'matches nothing' : 'denies everything'}`);
        return accepts ? [] : [{ ...named(rule), direction, action: 'deny' }];
      }
    });
  return {
    tier: tierOf(policy),
    namespaceName: '',
    policyName: metadata.name,
    priority: spec.priority,
    subject: pods
      ? { namespaces: pods.namespaceSelector, workloads: pods.podSelector }
      : { namespaces: namespaces ?? {} },
    rules: [...rules('in', 'ingress'), ...rules('out', 'egress')],
  };
}

const named = ({ name }: Rule): { name?: string } => (name ? { name } : {});

function ruleOf(
  direction: 'in' | 'out',
  rule: Rule,
  place: string,
  nodes: Iterable<Node>,
): NetworkPolicyRule {
  const action = ACTIONS[rule.action];
  if (action === undefined)
    throw new Untranslatable(`${place}.action '${rule.action}' must be Accept, Deny or Pass`);
  const side = direction === 'in' ? 'from' : 'to';
  const peers = (rule[side] ?? []).flatMap((peer, i) => peersOf(peer, `${place}.${side}[${i}]`, nodes));
  const ports = (rule.protocols ?? []).map((protocol, i) => portOf(protocol, `${place}.protocols[${i}]`));
  return {
    ...named(rule),
    direction,
    action,
    // An empty list is nobody, such as nodes of which there is none: not anybody.
    peers,
    ...(ports.length > 0 ? { ports } : {}),
  };
}

function peersOf(peer: Peer, place: string, nodes: Iterable<Node>): NetworkPolicyPeer[] {
  if (peer.namespaces !== undefined) return [{ namespaces: peer.namespaces }];
  if (peer.pods !== undefined)
    return [{ namespaces: peer.pods.namespaceSelector, workloads: peer.pods.podSelector }];
  if (peer.networks !== undefined) return peer.networks.map((prefix) => ({ prefix }));
  if (peer.nodes !== undefined) {
    // Nodes are no workloads: what is selected are their addresses.
    const selects = matcherOf(peer.nodes);
    return [...nodes]
      .filter(({ metadata }) => selects(metadata.labels ?? {}))
      .flatMap(({ status }) => status?.addresses ?? [])
      .filter(({ type }) => type === 'InternalIP' || type === 'ExternalIP')
      .map(({ address }) => ({ prefix: `${address}/${address.includes(':') ? 128 : 32}` }));
  }
  throw new Untranslatable(
    `${place} has ${Object.keys(peer).join(', ') || 'nothing'}: it must be namespaces, pods, networks or nodes`,
  );
}

function portOf(protocol: Protocol, place: string): NetworkPolicyPort {
  if (protocol.destinationNamedPort !== undefined) return { name: protocol.destinationNamedPort };
  for (const name of ['tcp', 'udp', 'sctp'] as const) {
    const given = protocol[name];
    if (given !== undefined)
      return { protocol: protocolOf(name.toUpperCase()), ...portsOf(given.destinationPort) };
  }
  throw new Untranslatable(
    `${place} has ${Object.keys(protocol).join(', ') || 'nothing'}: it must be tcp, udp, sctp or destinationNamedPort`,
  );
}

function portsOf(ports: Ports | undefined): NetworkPolicyPort {
  if (ports?.range !== undefined) return { port: ports.range.start, endPort: ports.range.end };
  return ports?.number === undefined ? {} : { port: ports.number };
}
