/**
 * NetworkPolicy (networking.k8s.io/v1) to a policy of tier `namespace`. What the API leaves to defaults is written out, since the
 * policy means the same without them.
 */
import type {
  NetworkPolicy as Intent,
  NetworkPolicyPeer,
  NetworkPolicyPort,
  NetworkPolicyRule,
} from '../../model/networkPolicy.ts';
import type { Selector } from '../../model/selector.ts';
import type {
  NetworkPolicy,
  NetworkPolicyPeer as Peer,
  NetworkPolicyPort as Port,
} from '../cluster/objects.ts';
import { protocolOf } from './protocol.ts';

/** The API server gives each namespace this label, with its name. */
const NAME_LABEL = 'kubernetes.io/metadata.name';
const namespaceCalled = (name: string): Selector => ({ matchLabels: { [NAME_LABEL]: name } });

export function networkPolicyOf({ metadata, spec }: NetworkPolicy): Intent {
  const { name, namespace = '' } = metadata;
  const rules: NetworkPolicyRule[] = [
    ...(spec.ingress ?? []).map(({ from, ports }) => ruleOf('in', namespace, from, ports)),
    ...(spec.egress ?? []).map(({ to, ports }) => ruleOf('out', namespace, to, ports)),
  ];
  const isolates = directionsOf(spec);
  return {
    tier: 'namespace',
    namespaceName: namespace,
    policyName: name,
    subject: { namespaces: namespaceCalled(namespace), workloads: spec.podSelector ?? {} },
    isolates,
    // Rules of a direction that the policy is not about have no effect.
    rules: rules.filter(({ direction }) => isolates.includes(direction)),
  };
}

/** Where policyTypes is absent: Ingress always, Egress where there are such rules. The API server fills it in; this is for others. */
function directionsOf({ policyTypes, egress }: NetworkPolicy['spec']): ('in' | 'out')[] {
  const types = policyTypes ?? (egress?.length ? ['Ingress', 'Egress'] : ['Ingress']);
  return [
    ...(types.includes('Ingress') ? (['in'] as const) : []),
    ...(types.includes('Egress') ? (['out'] as const) : []),
  ];
}

/** Empty lists mean anybody and any port, as absent ones do. */
function ruleOf(
  direction: 'in' | 'out',
  namespace: string,
  peers: readonly Peer[] | undefined,
  ports: readonly Port[] | undefined,
): NetworkPolicyRule {
  return {
    direction,
    action: 'accept',
    ...(peers?.length ? { peers: peers.map((peer) => peerOf(peer, namespace)) } : {}),
    ...(ports?.length ? { ports: ports.map(portOf) } : {}),
  };
}

function peerOf({ ipBlock, namespaceSelector, podSelector }: Peer, namespace: string): NetworkPolicyPeer {
  if (ipBlock !== undefined)
    return {
      prefix: ipBlock.cidr,
      ...(ipBlock.except?.length ? { except: [...ipBlock.except] } : {}),
    };
  return {
    namespaces: namespaceSelector ?? namespaceCalled(namespace),
    ...(podSelector === undefined ? {} : { workloads: podSelector }),
  };
}

function portOf({ protocol, port, endPort }: Port): NetworkPolicyPort {
  const number = protocolOf(protocol);
  if (port === undefined) return { protocol: number };
  if (typeof port === 'string') return { protocol: number, name: port };
  return { protocol: number, port, ...(endPort === undefined || endPort === port ? {} : { endPort }) };
}
