/**
 * A policy whose rules select workloads by labels, as Kubernetes' NetworkPolicy (tier `namespace`) and ClusterNetworkPolicy (tiers
 * `admin` and `baseline`, policy.networking.k8s.io) have them.
 */
import { type Static, Type } from '@sinclair/typebox';
import { numberAddress, type Prefix as ParsedPrefix, parsePrefix } from './address.ts';
import type { Kind, Problem } from './kind.ts';
import { checkLabel } from './names.ts';
import { type Selector, SelectorSchema, selectorProblem } from './selector.ts';
import { oneLine } from './text.ts';

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

/** Key of the policy that a name of one or of its rules begins with; undefined where it is no such name. */
export function networkPolicyKey(name: string): string | undefined {
  const [, namespace, policy] = /^NetworkPolicy ([^/ ]+)\/([^ ]+)(?: rule \d+)?$/.exec(name) ?? [];
  if (policy !== undefined) return `namespace:${namespace}:${policy}`;
  const [, cluster, baseline] =
    /^ClusterNetworkPolicy ([^ ]+)( \(baseline\))?(?: rule \d+)?$/.exec(name) ?? [];
  return cluster && `${baseline === undefined ? 'admin' : 'baseline'}::${cluster}`;
}

export const networkPolicy: Kind<typeof NetworkPolicySchema> = {
  name: 'networkPolicy',
  collection: 'networkPolicies',
  schema: NetworkPolicySchema,
  keyFields: ['tier', 'namespaceName', 'policyName'],
  updatable: true,
  references: [],
  orchestrated: true,
  forOrchestrators: true,
  normalize: (p) => ({
    ...p,
    rules: p.rules.map((rule) => (rule.peers ? { ...rule, peers: rule.peers.map(canonicalPeer) } : rule)),
  }),
  check(p) {
    const wrong: Wrong = (field, text) => ({
      field,
      status: 400,
      message: `networkPolicy ${p.tier}:${p.namespaceName}:${oneLine(p.policyName, 80)}: ${field} ${text}`,
    });
    return checkTier(p, wrong) ?? checkSubject(p, wrong) ?? checkRules(p, wrong);
  },
};

type Wrong = (field: keyof NetworkPolicy, text: string) => Problem;

const POLICY_NAME = /^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/;

function checkTier(p: NetworkPolicy, wrong: Wrong): Problem | undefined {
  if (!POLICY_NAME.test(p.policyName))
    return wrong(
      'policyName',
      "must be lower case letters, digits, '-' and '.', a letter or digit at both ends",
    );
  if (p.tier === 'namespace') {
    if (p.namespaceName === '')
      return wrong('namespaceName', 'is missing: a policy of tier namespace has one');
    if (p.priority !== undefined)
      return wrong('priority', 'does not go with tier namespace: such policies are added up');
    return checkLabel('networkPolicy', 'namespaceName', p.namespaceName);
  }
  if (p.namespaceName !== '')
    return wrong('namespaceName', `must be '' in tier ${p.tier}, which is of no namespace`);
  if (p.priority === undefined)
    return wrong('priority', `is missing: tier ${p.tier} needs one, 0 to 1000, the lower decides first`);
  if (p.isolates !== undefined)
    return wrong('isolates', `does not go with tier ${p.tier}: say deny in a rule`);
  return undefined;
}

function checkSubject({ subject }: NetworkPolicy, wrong: Wrong): Problem | undefined {
  const problem = selectorsProblem(subject);
  return problem === undefined ? undefined : wrong('subject', problem);
}

const selectorsProblem = (by: { namespaces?: Selector; workloads?: Selector }): string | undefined =>
  selectorProblem(by.namespaces ?? {}) ?? selectorProblem(by.workloads ?? {});

const ACTIONS: Readonly<Record<NetworkPolicy['tier'], readonly NetworkPolicyRule['action'][]>> = {
  admin: ['accept', 'deny', 'pass'],
  namespace: ['accept'],
  baseline: ['accept', 'deny'],
};

function checkRules({ tier, rules }: NetworkPolicy, wrong: Wrong): Problem | undefined {
  for (const [i, rule] of rules.entries()) {
    if (!ACTIONS[tier].includes(rule.action))
      return wrong(
        'rules',
        `rule ${i + 1}: action ${rule.action} must be ${ACTIONS[tier].join(' or ')} in tier ${tier}`,
      );
    for (const peer of rule.peers ?? []) {
      const problem = peerProblem(peer);
      if (problem !== undefined) return wrong('rules', `rule ${i + 1}: ${problem}`);
    }
    for (const port of rule.ports ?? []) {
      const problem = portProblem(port);
      if (problem !== undefined) return wrong('rules', `rule ${i + 1}: ${problem}`);
    }
  }
  return undefined;
}

function peerProblem(peer: NetworkPolicyPeer): string | undefined {
  if ('nodes' in peer)
    return 'peers by nodes are not known here, as hosts have no labels: name their prefixes';
  if (!('prefix' in peer)) return selectorsProblem(peer);
  const outer = prefixOf(peer.prefix);
  if (typeof outer === 'string') return outer;
  for (const text of peer.except ?? []) {
    const inner = prefixOf(text);
    if (typeof inner === 'string') return inner;
    if (!isInside(inner, outer))
      return `except '${oneLine(text, 80)}' must be a part of prefix ${peer.prefix}, and less than all of it`;
  }
  return undefined;
}

/** Or why it is none. */
function prefixOf(text: string): ParsedPrefix | string {
  const prefix = text.includes('/') ? parsePrefix(text) : undefined;
  if (prefix === undefined) return `'${oneLine(text, 80)}' must be a prefix like 10.0.0.0/8 or fd00::/8`;
  if (prefix.host !== prefix.network)
    return `'${text}' has bits behind its prefix length: write ${prefixText(prefix)}`;
  return prefix;
}

const prefixText = ({ network, family, length }: ParsedPrefix): string =>
  `${numberAddress(network, family)}/${length}`;

function isInside(inner: ParsedPrefix, outer: ParsedPrefix): boolean {
  if (inner.family !== outer.family || inner.length <= outer.length) return false;
  const rest = BigInt((inner.family === 4 ? 32 : 128) - outer.length);
  return inner.network >> rest === outer.network >> rest;
}

/** Addresses have one spelling; what is none stays as it is, and is refused. */
function canonicalPeer(peer: NetworkPolicyPeer): NetworkPolicyPeer {
  if (!('prefix' in peer)) return peer;
  const canonical = (text: string): string => {
    const prefix = prefixOf(text);
    return typeof prefix === 'string' ? text : prefixText(prefix);
  };
  return {
    prefix: canonical(peer.prefix),
    ...(peer.except === undefined ? {} : { except: peer.except.map(canonical) }),
  };
}

/** TCP, UDP, SCTP. */
const WITH_PORTS = [6, 17, 132];

function portProblem({ protocol, port, endPort, name }: NetworkPolicyPort): string | undefined {
  if (port !== undefined && name !== undefined)
    return `port ${port} does not go with name ${name}: give one of them`;
  if (endPort !== undefined && port === undefined)
    return `endPort ${endPort} needs port, where the range begins`;
  if (endPort !== undefined && port !== undefined && endPort < port)
    return `endPort ${endPort} must be ${port} or more, which port is`;
  if (protocol !== undefined && !WITH_PORTS.includes(protocol) && (port ?? name) !== undefined)
    return `port ${port ?? name} does not go with protocol ${protocol}, which has no ports: only 6, 17 and 132 have`;
  return undefined;
}
