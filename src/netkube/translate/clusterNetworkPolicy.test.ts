import { describe, expect, it } from 'vitest';
import type { ClusterNetworkPolicy, Node } from '../cluster/objects.ts';
import { clusterNetworkPolicyOf, selectsNodes } from './clusterNetworkPolicy.ts';

const policy = (spec: Partial<ClusterNetworkPolicy['spec']>): ClusterNetworkPolicy => ({
  metadata: { name: 'example' },
  spec: { tier: 'Admin', priority: 10, subject: { namespaces: {} }, ...spec },
});
const NODES: Node[] = [
  {
    metadata: { name: 'node1', labels: { role: 'control' } },
    status: {
      addresses: [
        { type: 'InternalIP', address: '192.0.2.1' },
        { type: 'InternalIP', address: '2001:db8::1' },
        { type: 'Hostname', address: 'node1' },
      ],
    },
  },
  { metadata: { name: 'node2' }, status: { addresses: [{ type: 'InternalIP', address: '192.0.2.2' }] } },
];

function translate(spec: Partial<ClusterNetworkPolicy['spec']>) {
  const warnings: string[] = [];
  const intent = clusterNetworkPolicyOf(policy(spec), NODES, (text) => warnings.push(text));
  return { ...intent, warnings };
}
const ALL = [{ namespaces: {} }];

describe('a ClusterNetworkPolicy', () => {
  it('is a policy of its tier, whose rules are in their order', () => {
    const sensitive = { matchLabels: { 'kubernetes.io/metadata.name': 'sensitive-ns' } };
    expect(
      translate({
        priority: 30,
        subject: { namespaces: sensitive },
        ingress: [
          { name: 'monitor', action: 'Pass', from: [{ namespaces: { matchLabels: { kind: 'monitor' } } }] },
          { action: 'Deny', from: ALL },
        ],
        egress: [{ action: 'Accept', to: [{ networks: ['10.0.0.0/8', 'fd00::/8'] }] }],
      }),
    ).toEqual({
      tier: 'admin',
      namespaceName: '',
      policyName: 'example',
      priority: 30,
      subject: { namespaces: sensitive },
      rules: [
        {
          name: 'monitor',
          direction: 'in',
          action: 'pass',
          peers: [{ namespaces: { matchLabels: { kind: 'monitor' } } }],
        },
        { direction: 'in', action: 'deny', peers: ALL },
        { direction: 'out', action: 'accept', peers: [{ prefix: '10.0.0.0/8' }, { prefix: 'fd00::/8' }] },
      ],
      warnings: [],
    });
    expect(translate({ tier: 'Baseline' })).toMatchObject({ tier: 'baseline', rules: [] });
  });

  it('judges pods, and names pods as peers, by namespace and pod together', () => {
    const pods = { namespaceSelector: { matchLabels: { a: '1' } }, podSelector: { matchLabels: { b: '2' } } };
    const both = { namespaces: { matchLabels: { a: '1' } }, workloads: { matchLabels: { b: '2' } } };
    const { subject, rules } = translate({
      subject: { pods },
      ingress: [{ action: 'Deny', from: [{ pods }] }],
    });
    expect(subject).toEqual(both);
    expect(rules[0]?.peers).toEqual([both]);
  });

  it('has ports of protocols, all of a protocol, ranges and names', () => {
    const { rules } = translate({
      ingress: [
        {
          action: 'Accept',
          from: ALL,
          protocols: [
            { tcp: { destinationPort: { number: 80 } } },
            { udp: { destinationPort: { range: { start: 8, end: 9 } } } },
            { sctp: {} },
            { destinationNamedPort: 'dns' },
          ],
        },
      ],
    });
    expect(rules[0]?.ports).toEqual([
      { protocol: 6, port: 80 },
      { protocol: 17, port: 8, endPort: 9 },
      { protocol: 132 },
      { name: 'dns' },
    ]);
  });

  it('selects nodes by their labels: their addresses, and nobody where there is no such node', () => {
    const to = (nodes: object) =>
      translate({ egress: [{ action: 'Deny', to: [{ nodes }] }] }).rules[0]?.peers;
    expect(to({ matchLabels: { role: 'control' } })).toEqual([
      { prefix: '192.0.2.1/32' },
      { prefix: '2001:db8::1/128' },
    ]);
    expect(to({})).toHaveLength(3);
    expect(to({ matchLabels: { role: 'none' } })).toEqual([]);
    expect(selectsNodes(policy({ egress: [{ action: 'Deny', to: [{ nodes: {} }] }] }))).toBe(true);
    expect(selectsNodes(policy({ egress: [{ action: 'Deny', to: ALL }] }))).toBe(false);
  });

  it('fails closed where a rule has what is not known: one that accepts matches nothing, others deny everything', () => {
    const domains = { domainNames: ['example.com'] };
    const { rules, warnings } = translate({
      egress: [
        { action: 'Accept', to: [{ networks: ['10.0.0.0/8'] }, domains] },
        { name: 'later', action: 'Pass', to: [{}] },
        { action: 'Deny', to: ALL, protocols: [{}] },
      ],
    });
    expect(rules).toEqual([
      { name: 'later', direction: 'out', action: 'deny' },
      { direction: 'out', action: 'deny' },
    ]);
    expect(warnings).toEqual([
      'spec.egress[0].to[1] has domainNames: it must be namespaces, pods, networks or nodes; until then the rule matches nothing',
      'spec.egress[1].to[0] has nothing: it must be namespaces, pods, networks or nodes; until then the rule denies everything',
      'spec.egress[2].protocols[0] has nothing: it must be tcp, udp, sctp or destinationNamedPort; until then the rule denies everything',
    ]);
  });

  it('of another tier is refused', () => {
    expect(() => translate({ tier: 'Top' })).toThrow("spec.tier 'Top' must be Admin or Baseline");
  });
});
