/** Examples of Kubernetes' documentation of NetworkPolicy, and what the API says of defaults. */
import { describe, expect, it } from 'vitest';
import type { NetworkPolicy } from '../cluster/objects.ts';
import { networkPolicyOf } from './networkPolicy.ts';

const policy = (spec: NetworkPolicy['spec']) =>
  networkPolicyOf({ metadata: { name: 'test-network-policy', namespace: 'default' }, spec });
const OWN = { matchLabels: { 'kubernetes.io/metadata.name': 'default' } };

describe('a NetworkPolicy', () => {
  it('with all that it can have is a policy of tier namespace', () => {
    expect(
      policy({
        podSelector: { matchLabels: { role: 'db' } },
        policyTypes: ['Ingress', 'Egress'],
        ingress: [
          {
            from: [
              { ipBlock: { cidr: '172.17.0.0/16', except: ['172.17.1.0/24'] } },
              { namespaceSelector: { matchLabels: { project: 'myproject' } } },
              { podSelector: { matchLabels: { role: 'frontend' } } },
            ],
            ports: [{ protocol: 'TCP', port: 6379 }],
          },
        ],
        egress: [
          {
            to: [{ ipBlock: { cidr: '10.0.0.0/24' } }],
            ports: [{ protocol: 'TCP', port: 32000, endPort: 32768 }],
          },
        ],
      }),
    ).toEqual({
      tier: 'namespace',
      namespaceName: 'default',
      policyName: 'test-network-policy',
      subject: { namespaces: OWN, workloads: { matchLabels: { role: 'db' } } },
      isolates: ['in', 'out'],
      rules: [
        {
          direction: 'in',
          action: 'accept',
          peers: [
            { prefix: '172.17.0.0/16', except: ['172.17.1.0/24'] },
            { namespaces: { matchLabels: { project: 'myproject' } } },
            { namespaces: OWN, workloads: { matchLabels: { role: 'frontend' } } },
          ],
          ports: [{ protocol: 6, port: 6379 }],
        },
        {
          direction: 'out',
          action: 'accept',
          peers: [{ prefix: '10.0.0.0/24' }],
          ports: [{ protocol: 6, port: 32000, endPort: 32768 }],
        },
      ],
    });
  });

  it('selects both by namespace and pod where one entry has both, and either where two have one each', () => {
    const [user, client] = [{ matchLabels: { user: 'alice' } }, { matchLabels: { role: 'client' } }];
    const peers = (from: object[]) => policy({ podSelector: {}, ingress: [{ from }] }).rules[0]?.peers;
    expect(peers([{ namespaceSelector: user, podSelector: client }])).toEqual([
      { namespaces: user, workloads: client },
    ]);
    expect(peers([{ namespaceSelector: user }, { podSelector: client }])).toEqual([
      { namespaces: user },
      { namespaces: OWN, workloads: client },
    ]);
    expect(peers([{ namespaceSelector: {} }])).toEqual([{ namespaces: {} }]);
    expect(peers([{ podSelector: {} }])).toEqual([{ namespaces: OWN, workloads: {} }]);
  });

  it('that denies all has no rules, and that allows all has one without peers', () => {
    expect(policy({ podSelector: {}, policyTypes: ['Ingress'] })).toMatchObject({
      isolates: ['in'],
      rules: [],
    });
    expect(policy({ podSelector: {}, policyTypes: ['Ingress', 'Egress'] })).toMatchObject({
      isolates: ['in', 'out'],
      rules: [],
    });
    expect(policy({ podSelector: {}, ingress: [{}], policyTypes: ['Ingress'] }).rules).toEqual([
      { direction: 'in', action: 'accept' },
    ]);
    expect(policy({ podSelector: {}, ingress: [{ from: [], ports: [] }] }).rules).toEqual([
      { direction: 'in', action: 'accept' },
    ]);
  });

  it('without policyTypes isolates Ingress, and Egress where it has such rules', () => {
    expect(policy({ podSelector: {} }).isolates).toEqual(['in']);
    expect(policy({ podSelector: {}, egress: [] }).isolates).toEqual(['in']);
    expect(policy({ podSelector: {}, egress: [{}] }).isolates).toEqual(['in', 'out']);
  });

  it('has no rules of a direction that it is not about', () => {
    expect(policy({ podSelector: {}, policyTypes: ['Egress'], ingress: [{}], egress: [{}] })).toMatchObject({
      isolates: ['out'],
      rules: [{ direction: 'out', action: 'accept' }],
    });
  });

  it('names ports, has TCP where no protocol is named, and every port where none is', () => {
    const ports = [
      { port: 'http' },
      { protocol: 'UDP' },
      { protocol: 'SCTP', port: 7 },
      { port: 80, endPort: 80 },
    ];
    expect(policy({ podSelector: {}, ingress: [{ ports }] }).rules[0]?.ports).toEqual([
      { protocol: 6, name: 'http' },
      { protocol: 17 },
      { protocol: 132, port: 7 },
      { protocol: 6, port: 80 },
    ]);
    expect(() => policy({ podSelector: {}, ingress: [{ ports: [{ protocol: 'DCCP' }] }] })).toThrow(
      "protocol 'DCCP' must be TCP, UDP or SCTP",
    );
  });
});
