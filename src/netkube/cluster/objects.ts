/**
 * Kubernetes' objects, as far as netkube reads them, in the form that the API server sends. What is not here is not kept in memory:
 * `keep` of each resource (resources.ts) makes these of what came.
 */
import type { Labels, Selector } from '../../model/selector.ts';

export interface Metadata {
  readonly name: string;
  /** Absent: the object is of no namespace. */
  readonly namespace?: string;
  readonly uid?: string;
  readonly labels?: Labels;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly generation?: number;
  readonly deletionTimestamp?: string;
  readonly finalizers?: readonly string[];
  readonly resourceVersion?: string;
}

export interface KubernetesObject {
  readonly metadata: Metadata;
}

export interface ContainerPort {
  readonly name?: string;
  readonly containerPort: number;
  /** TCP where absent. */
  readonly protocol?: string;
}

export interface Container {
  readonly ports?: readonly ContainerPort[];
  /** Of an init container: Always makes it one that stays beside the others. */
  readonly restartPolicy?: string;
}

export interface Pod extends KubernetesObject {
  readonly spec: {
    readonly hostNetwork?: boolean;
    readonly containers: readonly Container[];
    readonly initContainers?: readonly Container[];
  };
  readonly status?: { readonly phase?: string };
}

export type Namespace = KubernetesObject;

export interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
  readonly observedGeneration?: number;
  readonly lastTransitionTime?: string;
}

export interface Node extends KubernetesObject {
  readonly status?: {
    readonly addresses?: readonly { readonly type: string; readonly address: string }[];
    readonly conditions?: readonly Condition[];
  };
}

export interface IpBlock {
  readonly cidr: string;
  readonly except?: readonly string[];
}

export interface NetworkPolicyPeer {
  readonly podSelector?: Selector;
  readonly namespaceSelector?: Selector;
  readonly ipBlock?: IpBlock;
}

export interface NetworkPolicyPort {
  readonly protocol?: string;
  /** Number, or the name of a port of the pod that receives. */
  readonly port?: number | string;
  readonly endPort?: number;
}

/** networking.k8s.io/v1 */
export interface NetworkPolicy extends KubernetesObject {
  readonly spec: {
    readonly podSelector?: Selector;
    readonly policyTypes?: readonly string[];
    readonly ingress?: readonly {
      readonly from?: readonly NetworkPolicyPeer[];
      readonly ports?: readonly NetworkPolicyPort[];
    }[];
    readonly egress?: readonly {
      readonly to?: readonly NetworkPolicyPeer[];
      readonly ports?: readonly NetworkPolicyPort[];
    }[];
  };
}

export interface NamespacedPod {
  readonly namespaceSelector: Selector;
  readonly podSelector: Selector;
}

export interface ClusterNetworkPolicyPeer {
  readonly namespaces?: Selector;
  readonly pods?: NamespacedPod;
  /** The rest is for egress only. */
  readonly nodes?: Selector;
  readonly networks?: readonly string[];
  readonly domainNames?: readonly string[];
}

export interface PortRange {
  readonly start: number;
  readonly end: number;
}

export interface Ports {
  readonly number?: number;
  readonly range?: PortRange;
}

/** Exactly one is given. */
export interface ClusterNetworkPolicyProtocol {
  readonly tcp?: { readonly destinationPort?: Ports };
  readonly udp?: { readonly destinationPort?: Ports };
  readonly sctp?: { readonly destinationPort?: Ports };
  readonly destinationNamedPort?: string;
}

export interface ClusterNetworkPolicyRule {
  readonly name?: string;
  readonly action: string;
  readonly from?: readonly ClusterNetworkPolicyPeer[];
  readonly to?: readonly ClusterNetworkPolicyPeer[];
  readonly protocols?: readonly ClusterNetworkPolicyProtocol[];
}

/** policy.networking.k8s.io, v1beta1 and v1alpha2 alike. */
export interface ClusterNetworkPolicy extends KubernetesObject {
  readonly spec: {
    readonly tier: string;
    readonly priority: number;
    readonly subject: { readonly namespaces?: Selector; readonly pods?: NamespacedPod };
    readonly ingress?: readonly ClusterNetworkPolicyRule[];
    readonly egress?: readonly ClusterNetworkPolicyRule[];
  };
}

export interface ServicePort {
  readonly name?: string;
  readonly protocol?: string;
  readonly port: number;
  readonly nodePort?: number;
}

export interface Service extends KubernetesObject {
  readonly spec: {
    readonly type?: string;
    readonly clusterIP?: string;
    readonly clusterIPs?: readonly string[];
    readonly externalIPs?: readonly string[];
    readonly ports?: readonly ServicePort[];
    readonly sessionAffinity?: string;
    readonly sessionAffinityConfig?: { readonly clientIP?: { readonly timeoutSeconds?: number } };
    readonly internalTrafficPolicy?: string;
    readonly externalTrafficPolicy?: string;
    readonly healthCheckNodePort?: number;
    readonly loadBalancerSourceRanges?: readonly string[];
    readonly publishNotReadyAddresses?: boolean;
  };
  readonly status?: {
    readonly loadBalancer?: {
      readonly ingress?: readonly { readonly ip?: string; readonly ipMode?: string }[];
    };
  };
}

/** discovery.k8s.io/v1 */
export interface EndpointSlice extends KubernetesObject {
  readonly addressType: string;
  readonly endpoints?: readonly {
    readonly addresses: readonly string[];
    readonly conditions?: {
      readonly ready?: boolean;
      readonly serving?: boolean;
      readonly terminating?: boolean;
    };
    readonly nodeName?: string;
    readonly zone?: string;
    readonly hints?: {
      readonly forZones?: readonly { readonly name: string }[];
      readonly forNodes?: readonly { readonly name: string }[];
    };
  }[];
  readonly ports?: readonly { readonly name?: string; readonly protocol?: string; readonly port?: number }[];
}

/** contiv.io/v1: the fields of netmaster's object. */
export interface Declared extends KubernetesObject {
  readonly spec: Readonly<Record<string, unknown>>;
  readonly status?: { readonly conditions?: readonly Condition[] };
}
