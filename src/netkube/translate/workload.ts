/** Pod and its namespace to a workload: where it belongs, and what policy knows it by. */
import type { Workload } from '../../model/workload.ts';
import type { Namespace, Pod } from '../cluster/objects.ts';
import { protocolOf, Untranslatable } from './protocol.ts';

/** On a namespace, or a pod that is in another tenant than its namespace; 1.x has the label. */
export const TENANT_ANNOTATION = 'contiv.io/tenant';
export const TENANT_LABEL = 'io.contiv.tenant';
export const NETWORK_LABEL = 'io.contiv.network';
export const GROUP_LABEL = 'io.contiv.net-group';

/**
 * On the mirror of a static pod: the uid that its kubelet made for it, from the file that declares it, and that its sandbox is attached by. The
 * mirror, which the API server knows, has another of its own. A pod whose declaration changes has another mirror.
 */
const MIRROR_ANNOTATION = 'kubernetes.io/config.mirror';

export interface Defaults {
  readonly tenant: string;
  readonly network: string;
}

/** `tenant:group` to the network that it is in; undefined where netmaster has no such group. */
export type NetworkOfGroup = (key: string) => string | undefined;

export const tenantOf = (namespace: Namespace | undefined, defaults: Defaults): string =>
  namespace?.metadata.annotations?.[TENANT_ANNOTATION] ?? defaults.tenant;

/** The group that a pod says it is in, as `tenant:group`. */
export function groupOf(pod: Pod, namespace: Namespace | undefined, defaults: Defaults): string | undefined {
  const group = pod.metadata.labels?.[GROUP_LABEL];
  return group ? `${tenantOfPod(pod, namespace, defaults)}:${group}` : undefined;
}

const tenantOfPod = (pod: Pod, namespace: Namespace | undefined, defaults: Defaults): string =>
  pod.metadata.labels?.[TENANT_LABEL] || tenantOf(namespace, defaults);

/** Undefined for a pod that has no network of its own: one in its host's, or one that has ended. */
export function workloadOf(
  pod: Pod,
  namespace: Namespace,
  defaults: Defaults,
  networkOfGroup: NetworkOfGroup,
): Workload | undefined {
  const { metadata, spec, status } = pod;
  if (spec.hostNetwork === true || status?.phase === 'Succeeded' || status?.phase === 'Failed')
    return undefined;
  const { labels = {}, annotations = {} } = metadata;
  const group = groupOf(pod, namespace, defaults);
  // A group is of one network: who names the group need not name both.
  const network = labels[NETWORK_LABEL] || (group && networkOfGroup(group)) || defaults.network;
  const ports = namedPorts(pod);
  const ingress = bandwidth(annotations, 'kubernetes.io/ingress-bandwidth');
  const egress = bandwidth(annotations, 'kubernetes.io/egress-bandwidth');
  return {
    namespaceName: metadata.namespace ?? '',
    workloadName: metadata.name,
    uid: annotations[MIRROR_ANNOTATION] ?? metadata.uid ?? '',
    tenantName: tenantOfPod(pod, namespace, defaults),
    networkName: network,
    ...(group ? { groupName: labels[GROUP_LABEL] as string } : {}),
    ...(metadata.labels ? { labels } : {}),
    namespaceLabels: namespace.metadata.labels ?? {},
    ...(ports.length > 0 ? { ports } : {}),
    ...(ingress === undefined ? {} : { ingressBandwidth: ingress }),
    ...(egress === undefined ? {} : { egressBandwidth: egress }),
  };
}

/** Of containers that run beside each other; those of init containers only where they stay. */
function namedPorts({ spec }: Pod): NonNullable<Workload['ports']> {
  const staying = (spec.initContainers ?? []).filter((c) => c.restartPolicy === 'Always');
  return [...staying, ...spec.containers].flatMap(({ ports = [] }) =>
    ports.flatMap(({ name, containerPort, protocol }) =>
      name ? [{ name, protocol: protocolOf(protocol), port: containerPort }] : [],
    ),
  );
}

/** Of resource.Quantity (apimachinery). */
const SUFFIXES: Readonly<Record<string, number>> = {
  m: 1e-3,
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** Bits a second, from 1k to 1P as the bandwidth plugin takes them. */
function bandwidth(annotations: Readonly<Record<string, string>>, name: string): number | undefined {
  const text = annotations[name];
  if (text === undefined) return undefined;
  const [, number, suffix = '', exponent = '0'] =
    /^(\d+(?:\.\d*)?|\.\d+)(?:([KMGTPE]i|[mkMGTPE])|[eE]([+-]?\d{1,2}))?$/.exec(text) ?? [];
  const bits = Math.ceil(Number(number) * (SUFFIXES[suffix] as number) * 10 ** Number(exponent));
  if (!(bits >= 1e3 && bits <= 1e15))
    throw new Untranslatable(
      `annotation ${name}: '${text}' must be bits a second from 1k to 1P, such as 10M`,
    );
  return bits;
}
