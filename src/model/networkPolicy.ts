/**
 * A policy whose rules select workloads by labels, as Kubernetes' NetworkPolicy (tier `namespace`) and ClusterNetworkPolicy (tiers
 * `admin` and `baseline`, policy.networking.k8s.io) have them.
 */
import { type Static, Type } from '@sinclair/typebox';
import type { Kind } from './kind.ts';
import { SelectorSchema } from './selector.ts';

const Port = Type.Integer({ minimum: 1, maximum: 65535 });
const Prefix = Type.String({ description: 'address prefix, as 10.0.0.0/8 or fd00::/8', maxLength: 64 });

const PeerSchema = Type.Union([
  /** Workloads that both select; absent: of any namespace, any workload. */
  Type.Object(
    { namespaces: Type.Optional(SelectorSchema), workloads: Type.Optional(SelectorSchema) },
    { additionalProperties: false },
  ),
  /** Addresses of anybody. */
  Type.Object({ prefix: Prefix, except: Type.Optional(Type.Array(Prefix)) }, { additionalProperties: false }),
  /** Cluster's nodes, by their labels. */
  Type.Object({ nodes: SelectorSchema }, { additionalProperties: false }),
]);

const PortMatchSchema = Type.Object(
  {
    /** IANA number; absent: any. */
    protocol: Type.Optional(Type.Integer({ minimum: 0, maximum: 255 })),
    port: Type.Optional(Port),
    /** Last of a range that begins with `port`. */
    endPort: Type.Optional(Port),
    /** Of the workload that receives: each has its own number for it. */
    name: Type.Optional(Type.String({ minLength: 1, maxLength: 63 })),
  },
  { additionalProperties: false },
);

const RuleSchema = Type.Object(
  {
    name: Type.Optional(Type.String({ maxLength: 100 })),
    direction: Type.Union([Type.Literal('in'), Type.Literal('out')]),
    /** `pass`: the tiers that follow decide. A rule of tier `namespace` accepts. */
    action: Type.Union([Type.Literal('accept'), Type.Literal('deny'), Type.Literal('pass')]),
    /** One of them fits; absent: anybody. An empty list: nobody. */
    peers: Type.Optional(Type.Array(PeerSchema)),
    /** One of them fits; absent: any. */
    ports: Type.Optional(Type.Array(PortMatchSchema)),
  },
  { additionalProperties: false },
);

export const NetworkPolicySchema = Type.Object(
  {
    tier: Type.Union([Type.Literal('admin'), Type.Literal('namespace'), Type.Literal('baseline')]),
    /** '' where it is not of one namespace. */
    namespaceName: Type.String({ maxLength: 63 }),
    policyName: Type.String({ minLength: 1, maxLength: 253 }),
    /** Of tiers admin and baseline: the lower number decides first. */
    priority: Type.Optional(Type.Integer({ minimum: 0, maximum: 1000 })),
    /** Whom it judges: workloads that both select. Tier `namespace`: of its own namespace, whatever `namespaces` says. */
    subject: Type.Object(
      { namespaces: Type.Optional(SelectorSchema), workloads: Type.Optional(SelectorSchema) },
      { additionalProperties: false },
    ),
    /** Tier `namespace`: directions in which whom it judges is denied what no rule of any such policy accepts. */
    isolates: Type.Optional(Type.Array(Type.Union([Type.Literal('in'), Type.Literal('out')]))),
    /** In the order in which they decide (admin, baseline). */
    rules: Type.Array(RuleSchema),
  },
  { $id: 'networkPolicy', additionalProperties: false },
);
export type NetworkPolicy = Static<typeof NetworkPolicySchema>;
export type NetworkPolicyRule = Static<typeof RuleSchema>;
export type NetworkPolicyPeer = Static<typeof PeerSchema>;
export type NetworkPolicyPort = Static<typeof PortMatchSchema>;

/** For people: `NetworkPolicy default/deny-all`, `ClusterNetworkPolicy isolate`. */
export const networkPolicyName = ({ tier, namespaceName, policyName }: NetworkPolicy): string =>
  tier === 'namespace'
    ? `NetworkPolicy ${namespaceName}/${policyName}`
    : `ClusterNetworkPolicy ${policyName}${tier === 'baseline' ? ' (baseline)' : ''}`;

/** What hits, flows and traces call its rule at a place: `NetworkPolicy default/web rule 1`. */
export const networkPolicyRuleName = (policy: NetworkPolicy, place: number): string =>
  `${networkPolicyName(policy)} rule ${place + 1}`;

export const networkPolicy: Kind<typeof NetworkPolicySchema> = {
  name: 'networkPolicy',
  collection: 'networkPolicies',
  schema: NetworkPolicySchema,
  keyFields: ['tier', 'namespaceName', 'policyName'],
  updatable: true,
  references: [],
};
