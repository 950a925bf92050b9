/** What is followed of a cluster, and what is kept of each object. */
import type { Resource } from './follow.ts';
import type {
  ClusterNetworkPolicy,
  EndpointSlice,
  KubernetesObject,
  Metadata,
  Namespace,
  NetworkPolicy,
  Node,
  Pod,
  Service,
} from './objects.ts';

/** Annotations of these only: kubectl keeps whole objects in one. */
const ANNOTATION = /^(contiv\.io\/|kubernetes\.io\/(ingress-bandwidth|egress-bandwidth|config\.mirror)$)/;

function metadataOf({ metadata }: KubernetesObject, labels: boolean): Metadata {
  const { name, namespace, uid, generation, deletionTimestamp, finalizers } = metadata;
  const annotations = Object.entries(metadata.annotations ?? {}).filter(([key]) => ANNOTATION.test(key));
  return {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    ...(uid === undefined ? {} : { uid }),
    ...(generation === undefined ? {} : { generation }),
    ...(deletionTimestamp === undefined ? {} : { deletionTimestamp }),
    ...(finalizers === undefined ? {} : { finalizers }),
    ...(labels && metadata.labels ? { labels: metadata.labels } : {}),
    ...(annotations.length > 0 ? { annotations: Object.fromEntries(annotations) } : {}),
  };
}

export const PODS: Resource<Pod> = {
  name: 'pods',
  paths: ['/api/v1/pods'],
  keep: ({ metadata, spec, status }) => ({
    metadata: metadataOf({ metadata }, true),
    spec: {
      ...(spec.hostNetwork ? { hostNetwork: true } : {}),
      containers: spec.containers.map(({ ports }) => portsOf(ports)),
      ...(spec.initContainers
        ? {
            initContainers: spec.initContainers
              .filter(({ restartPolicy }) => restartPolicy === 'Always')
              .map(({ ports }) => ({ ...portsOf(ports), restartPolicy: 'Always' })),
          }
        : {}),
    },
    status: status?.phase ? { phase: status.phase } : {},
  }),
};
type Ports = Pod['spec']['containers'][number]['ports'];
function portsOf(ports: Ports): { ports?: Ports } {
  const named = (ports ?? []).filter(({ name }) => name);
  return named.length === 0
    ? {}
    : {
        ports: named.map(({ name, containerPort, protocol }) => ({
          ...(name ? { name } : {}),
          containerPort,
          ...(protocol ? { protocol } : {}),
        })),
      };
}

export const NAMESPACES: Resource<Namespace> = {
  name: 'namespaces',
  paths: ['/api/v1/namespaces'],
  keep: (object) => ({ metadata: metadataOf(object, true) }),
};

export const NODES: Resource<Node> = {
  name: 'nodes',
  paths: ['/api/v1/nodes'],
  keep: ({ metadata, status }) => ({
    metadata: metadataOf({ metadata }, true),
    status: {
      addresses: status?.addresses ?? [],
      conditions: (status?.conditions ?? [])
        .filter(({ type }) => type === 'NetworkUnavailable')
        .map(({ type, status, reason, message }) => ({
          type,
          status,
          ...(reason ? { reason } : {}),
          ...(message ? { message } : {}),
        })),
    },
  }),
};

export const SERVICES: Resource<Service> = {
  name: 'services',
  paths: ['/api/v1/services'],
  keep: ({ metadata, spec, status }) => {
    const { ingress } = status?.loadBalancer ?? {};
    return {
      metadata: metadataOf({ metadata }, true),
      spec,
      ...(ingress ? { status: { loadBalancer: { ingress } } } : {}),
    };
  },
};

export const ENDPOINT_SLICES: Resource<EndpointSlice> = {
  name: 'endpointslices',
  paths: ['/apis/discovery.k8s.io/v1/endpointslices'],
  keep: ({ metadata, addressType, endpoints, ports }) => ({
    metadata: metadataOf({ metadata }, true),
    addressType,
    endpoints: (endpoints ?? []).map(({ addresses, conditions, nodeName, zone, hints }) => ({
      addresses,
      ...(conditions ? { conditions } : {}),
      ...(nodeName ? { nodeName } : {}),
      ...(zone ? { zone } : {}),
      ...(hints ? { hints } : {}),
    })),
    ...(ports ? { ports } : {}),
  }),
};

export const NETWORK_POLICIES: Resource<NetworkPolicy> = {
  name: 'networkpolicies',
  paths: ['/apis/networking.k8s.io/v1/networkpolicies'],
  keep: ({ metadata, spec }) => ({ metadata: metadataOf({ metadata }, false), spec }),
};

export const CLUSTER_NETWORK_POLICIES: Resource<ClusterNetworkPolicy> = {
  name: 'clusternetworkpolicies',
  paths: [
    '/apis/policy.networking.k8s.io/v1beta1/clusternetworkpolicies',
    '/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies',
  ],
  keep: ({ metadata, spec }) => ({ metadata: metadataOf({ metadata }, false), spec }),
};
