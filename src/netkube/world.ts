/**
 * The cluster as it is known, and what follows from it for netmaster: which keys a change touches, and what is wanted by a key. Keys
 * tell where an object comes from, so nothing about that is kept: workload NAMESPACE:POD, networkPolicy TIER:NAMESPACE:NAME,
 * clusterService NAMESPACE:SERVICE.
 *
 *   pods, namespaces ----------------> workload         (a namespace's labels and tenant: its pods)
 *   networkpolicies,
 *   clusternetworkpolicies, nodes ---> networkPolicy    (nodes: policies that select them)
 *   services, endpointslices,
 *   namespaces ----------------------> clusterService
 */
import { canonical } from './canonical.ts';
import type { KubernetesApi } from './cluster/api.ts';
import type { About, Events } from './cluster/events.ts';
import { type Followed, type Following, follow, type Resource } from './cluster/follow.ts';
import type {
  ClusterNetworkPolicy,
  EndpointSlice,
  KubernetesObject,
  Namespace,
  NetworkPolicy,
  Node,
  Pod,
  Service,
} from './cluster/objects.ts';
import {
  CLUSTER_NETWORK_POLICIES,
  ENDPOINT_SLICES,
  NAMESPACES,
  NETWORK_POLICIES,
  NODES,
  PODS,
  SERVICES,
} from './cluster/resources.ts';
import type { Plain, Source } from './source.ts';
import { clusterNetworkPolicyOf, selectsNodes, tierOf } from './translate/clusterNetworkPolicy.ts';
import { clusterServiceOf, SERVICE_LABEL } from './translate/clusterService.ts';
import { networkPolicyOf } from './translate/networkPolicy.ts';
import { type Defaults, groupOf, type NetworkOfGroup, tenantOf, workloadOf } from './translate/workload.ts';

export interface World {
  /** Policies before services before workloads: a pod is policed before it starts. */
  readonly sources: readonly Source[];
  readonly followed: readonly Followed<KubernetesObject>[];
  node(name: string): Node | undefined;
  /** Workloads of pods in this group follow from it. */
  touchGroup(key: string): void;
  close(): Promise<void>;
}

export interface WorldOptions {
  readonly api: KubernetesApi;
  readonly defaults: Defaults;
  readonly events: Events;
  readonly networkOfGroup: NetworkOfGroup;
  touch(kind: string, key: string): void;
  touchAll(): void;
  touchNode(name: string): void;
  failed(resource: string, error: Error, first: boolean): void;
}

/** Sets by key; an empty one is not kept. */
function openIndex() {
  const sets = new Map<string, Set<string>>();
  return {
    of: (key: string): ReadonlySet<string> => sets.get(key) ?? NONE,
    add(key: string, member: string): void {
      const set = sets.get(key);
      if (set === undefined) sets.set(key, new Set([member]));
      else set.add(member);
    },
    remove(key: string, member: string): void {
      const set = sets.get(key);
      set?.delete(member);
      if (set?.size === 0) sets.delete(key);
    },
  };
}
const NONE: ReadonlySet<string> = new Set();

const namespaceIn = (name: string): string => name.slice(0, name.indexOf('/'));
/** `ns/web` to the key `ns:web`, and back. */
const keyOf = (name: string): string => name.replace('/', ':');
const nameIn = (key: string): string => key.replace(':', '/');

export function openWorld(options: WorldOptions): World {
  const { api, defaults, events, networkOfGroup, touch, touchAll, touchNode, failed } = options;
  const podsIn = openIndex();
  const servicesIn = openIndex();
  const slicesOf = openIndex();

  const following: Following<KubernetesObject>[] = [];
  function followed<T extends KubernetesObject>(
    resource: Resource<T>,
    changed: (name: string, before: T | undefined, now: T | undefined) => void,
  ): Followed<T> {
    const one = follow(api, resource, {
      changed,
      listed: touchAll,
      failed: (error, first) => failed(resource.name, error, first),
    });
    following.push(one);
    return one;
  }

  const pods = followed<Pod>(PODS, (name, before, now) => {
    const namespace = namespaceIn(name);
    if (now === undefined) podsIn.remove(namespace, name);
    else podsIn.add(namespace, name);
    // Most changes of a pod are of its status, which says nothing here.
    if (before === undefined || now === undefined || canonical(before) !== canonical(now))
      touch('workload', keyOf(name));
  });
  const namespaces = followed<Namespace>(NAMESPACES, (name, before, now) => {
    if (before !== undefined && now !== undefined && canonical(before) === canonical(now)) return;
    for (const pod of podsIn.of(name)) touch('workload', keyOf(pod));
    if (tenantOf(before, defaults) !== tenantOf(now, defaults))
      for (const service of servicesIn.of(name)) touch('clusterService', keyOf(service));
  });
  const networkPolicies = followed<NetworkPolicy>(NETWORK_POLICIES, (name) =>
    touch('networkPolicy', `namespace:${keyOf(name)}`),
  );
  const clusterNetworkPolicies = followed<ClusterNetworkPolicy>(CLUSTER_NETWORK_POLICIES, (name) => {
    for (const tier of TIERS) touch('networkPolicy', `${tier}::${name}`);
  });
  const nodes = followed<Node>(NODES, (name, before, now) => {
    touchNode(name);
    if (selectedAs(before) === selectedAs(now)) return;
    for (const [policy, object] of clusterNetworkPolicies.objects)
      if (selectsNodes(object)) for (const tier of TIERS) touch('networkPolicy', `${tier}::${policy}`);
  });
  const services = followed<Service>(SERVICES, (name, _, now) => {
    const namespace = namespaceIn(name);
    if (now === undefined) servicesIn.remove(namespace, name);
    else servicesIn.add(namespace, name);
    touch('clusterService', keyOf(name));
  });
  const slices = followed<EndpointSlice>(ENDPOINT_SLICES, (name, before, now) => {
    const [was, is] = [serviceOf(before), serviceOf(now)];
    if (was !== undefined && was !== is) slicesOf.remove(was, name);
    if (is !== undefined) slicesOf.add(is, name);
    for (const service of new Set([was, is]))
      if (service !== undefined) touch('clusterService', keyOf(service));
  });

  const warn = (about: About | undefined, reason: string, message: string): void => {
    if (about !== undefined) events.warn(about, reason, message);
  };
  /** Tells whoever made the object what netmaster says of it. */
  const telling =
    (reason: string, about: (key: string) => About | undefined): Source['tell'] =>
    (key, outcome) => {
      const object = about(key);
      if (object === undefined) return;
      if (outcome.accepted) events.forget(object);
      else events.warn(object, reason, outcome.message);
    };
  const aboutIn =
    (all: Followed<KubernetesObject>, apiVersion: string, kind: string) =>
    (name: string): About | undefined => {
      const object = all.objects.get(name);
      return object && { apiVersion, kind, metadata: object.metadata };
    };
  const aboutPolicy = (key: string): About | undefined => {
    const { tier, name } = readPolicyKey(key);
    return tier === 'namespace'
      ? aboutIn(networkPolicies, 'networking.k8s.io/v1', 'NetworkPolicy')(name)
      : aboutIn(
          clusterNetworkPolicies,
          clusterNetworkPolicies.path?.split('/').slice(2, 4).join('/') ?? '',
          'ClusterNetworkPolicy',
        )(name);
  };
  const aboutPod = aboutIn(pods, 'v1', 'Pod');
  const aboutService = aboutIn(services, 'v1', 'Service');

  function wantPolicy(key: string): Plain | undefined {
    const { tier, name } = readPolicyKey(key);
    if (tier === 'namespace') {
      const policy = networkPolicies.objects.get(name);
      return policy && networkPolicyOf(policy);
    }
    const policy = clusterNetworkPolicies.objects.get(name);
    if (policy === undefined || tierOf(policy) !== tier) return undefined;
    return clusterNetworkPolicyOf(policy, nodes.objects.values(), (text) =>
      warn(aboutPolicy(key), 'NotUnderstood', text),
    );
  }

  function wantWorkload(key: string): Plain | undefined {
    const name = nameIn(key);
    const pod = pods.objects.get(name);
    const namespace = namespaces.objects.get(namespaceIn(name));
    return pod && namespace && workloadOf(pod, namespace, defaults, networkOfGroup);
  }

  function wantService(key: string): Plain | undefined {
    const name = nameIn(key);
    const service = services.objects.get(name);
    const own = [...slicesOf.of(name)].flatMap((slice) => slices.objects.get(slice) ?? []);
    const tenant = tenantOf(namespaces.objects.get(namespaceIn(name)), defaults);
    return service && clusterServiceOf(service, own, tenant);
  }

  const owns = (): boolean => true;
  const sources: readonly Source[] = [
    {
      kind: 'networkPolicy',
      collection: 'networkPolicies',
      ready: () => networkPolicies.synced && clusterNetworkPolicies.synced && nodes.synced,
      *keys() {
        for (const name of networkPolicies.objects.keys()) yield `namespace:${keyOf(name)}`;
        for (const name of clusterNetworkPolicies.objects.keys())
          for (const tier of TIERS) yield `${tier}::${name}`;
      },
      want: wantPolicy,
      owns,
      tell: telling('PolicyRefused', aboutPolicy),
      wait: 0,
    },
    {
      kind: 'clusterService',
      collection: 'clusterServices',
      ready: () => services.synced && slices.synced && namespaces.synced,
      *keys() {
        for (const name of services.objects.keys()) yield keyOf(name);
      },
      want: wantService,
      owns,
      tell: telling('ServiceRefused', (key) => aboutService(nameIn(key))),
      wait: 0,
    },
    {
      kind: 'workload',
      collection: 'workloads',
      ready: () => pods.synced && namespaces.synced,
      *keys() {
        for (const name of pods.objects.keys()) yield keyOf(name);
      },
      want: wantWorkload,
      owns,
      tell: telling('NetworkRefused', (key) => aboutPod(nameIn(key))),
      wait: 0,
    },
  ];

  return {
    sources,
    followed: following,
    node: (name) => nodes.objects.get(name),
    touchGroup(key) {
      for (const [name, pod] of pods.objects)
        if (groupOf(pod, namespaces.objects.get(namespaceIn(name)), defaults) === key)
          touch('workload', keyOf(name));
    },
    async close() {
      await Promise.all(following.map((one) => one.close()));
    },
  };
}

const TIERS = ['admin', 'baseline'] as const;

/** `namespace:ns:name`, `admin::name`. */
function readPolicyKey(key: string): { tier: string; name: string } {
  const [tier = '', namespace, name = ''] = key.split(':');
  return { tier, name: namespace ? `${namespace}/${name}` : name };
}

/** What policies select nodes by, and what of them. */
const selectedAs = (node: Node | undefined): string =>
  node === undefined ? '' : canonical({ labels: node.metadata.labels, addresses: node.status?.addresses });

function serviceOf(slice: EndpointSlice | undefined): string | undefined {
  const name = slice?.metadata.labels?.[SERVICE_LABEL];
  return name ? `${slice?.metadata.namespace}/${name}` : undefined;
}
