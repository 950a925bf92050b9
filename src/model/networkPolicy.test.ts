import { describe, expect, it } from 'vitest';
import { worldOf } from '../../test/world.ts';
import {
  type NetworkPolicy,
  networkPolicy,
  networkPolicyKey,
  networkPolicyName,
  networkPolicyRuleName,
} from './networkPolicy.ts';

const POLICY: NetworkPolicy = {
  tier: 'namespace',
  namespaceName: 'shop',
  policyName: 'web',
  subject: { workloads: { matchLabels: { app: 'web' } } },
  isolates: ['in'],
  rules: [{ direction: 'in', action: 'accept' }],
};
const { isolates: _, ...WITHOUT } = POLICY;
const ADMIN: NetworkPolicy = { ...WITHOUT, tier: 'admin', namespaceName: '', priority: 10 };
const problem = (policy: object): string | undefined =>
  networkPolicy.check?.({ ...policy } as NetworkPolicy, worldOf({}), undefined)?.message;
const withRule = (rule: object, of = POLICY): NetworkPolicy => ({
  ...of,
  rules: [{ direction: 'in', action: 'accept', ...rule }],
});
const peers = (...list: object[]): NetworkPolicy => withRule({ peers: list });
const ports = (...list: object[]): NetworkPolicy => withRule({ ports: list });

describe('a network policy', () => {
  it.each([
    ['of a namespace', POLICY],
    ['of tier admin', ADMIN],
    ['of tier baseline', { ...ADMIN, tier: 'baseline' }],
    ['with peers by prefix', peers({ prefix: '10.0.0.0/8', except: ['10.1.0.0/16', '10.2.3.4/32'] })],
    ['with a prefix of IPv6', peers({ prefix: '::/0', except: ['fd00::/8'] })],
    ['with a range that is one port', ports({ protocol: 6, port: 80, endPort: 80 })],
    ['with a protocol alone', ports({ protocol: 132 })],
    ['with a name', ports({ protocol: 6, name: 'http' })],
    [
      'with labels that have a prefix',
      { ...POLICY, subject: { workloads: { matchLabels: { 'a.example/b_c': 'x' } } } },
    ],
  ])('%s is taken', (_what, policy) => {
    expect(problem(policy)).toBeUndefined();
  });

  it.each([
    [{ ...POLICY, namespaceName: '' }, 'namespaceName is missing: a policy of tier namespace has one'],
    [{ ...POLICY, priority: 1 }, 'priority does not go with tier namespace: such policies are added up'],
    [
      { ...POLICY, policyName: 'Web' },
      "policyName must be lower case letters, digits, '-' and '.', a letter or digit at both ends",
    ],
    [{ ...ADMIN, namespaceName: 'shop' }, "namespaceName must be '' in tier admin, which is of no namespace"],
    [
      { ...ADMIN, priority: undefined },
      'priority is missing: tier admin needs one, 0 to 1000, the lower decides first',
    ],
    [{ ...ADMIN, isolates: ['in'] }, 'isolates does not go with tier admin: say deny in a rule'],
    [withRule({ action: 'deny' }), 'rules rule 1: action deny must be accept in tier namespace'],
    [
      withRule({ action: 'pass' }, { ...ADMIN, tier: 'baseline' }),
      'rules rule 1: action pass must be accept or deny in tier baseline',
    ],
    [
      peers({ nodes: {} }),
      'rules rule 1: peers by nodes are not known here, as hosts have no labels: name their prefixes',
    ],
    [peers({ prefix: '10.0.0.1' }), "rules rule 1: '10.0.0.1' must be a prefix like 10.0.0.0/8 or fd00::/8"],
    [
      peers({ prefix: '10.0.0.1/8' }),
      "rules rule 1: '10.0.0.1/8' has bits behind its prefix length: write 10.0.0.0/8",
    ],
    [
      peers({ prefix: '10.0.0.0/8', except: ['11.0.0.0/16'] }),
      "rules rule 1: except '11.0.0.0/16' must be a part of prefix 10.0.0.0/8, and less than all of it",
    ],
    [
      peers({ prefix: '10.0.0.0/8', except: ['10.0.0.0/8'] }),
      "rules rule 1: except '10.0.0.0/8' must be a part of prefix 10.0.0.0/8, and less than all of it",
    ],
    [
      peers({ prefix: '::/0', except: ['10.0.0.0/8'] }),
      "rules rule 1: except '10.0.0.0/8' must be a part of prefix ::/0, and less than all of it",
    ],
    [
      peers({ workloads: { matchExpressions: [{ key: 'a', operator: 'In' }] } }),
      "rules rule 1: operator In of label 'a' needs values, at least one",
    ],
    [
      peers({ namespaces: { matchExpressions: [{ key: 'a', operator: 'Exists', values: ['b'] }] } }),
      "rules rule 1: operator Exists of label 'a' takes no values",
    ],
    [
      { ...POLICY, subject: { workloads: { matchLabels: { 'a b': 'x' } } } },
      "subject 'a b' is no label's key: 1 to 63 letters, digits, '-', '_' or '.', behind a DNS name and '/' or not",
    ],
    [ports({ port: 80, name: 'http' }), 'rules rule 1: port 80 does not go with name http: give one of them'],
    [ports({ endPort: 80 }), 'rules rule 1: endPort 80 needs port, where the range begins'],
    [ports({ port: 80, endPort: 79 }), 'rules rule 1: endPort 79 must be 80 or more, which port is'],
    [
      ports({ protocol: 1, port: 80 }),
      'rules rule 1: port 80 does not go with protocol 1, which has no ports: only 6, 17 and 132 have',
    ],
  ])('%# is refused in one line', (policy, text) => {
    const { tier, namespaceName, policyName } = policy as NetworkPolicy;
    expect(problem(policy)).toBe(`networkPolicy ${tier}:${namespaceName}:${policyName}: ${text}`);
  });

  it('has its prefixes in one spelling', () => {
    expect(networkPolicy.normalize?.(peers({ prefix: 'FD00:0::/16', except: ['fd00:0:1::/48'] }))).toEqual(
      peers({ prefix: 'fd00::/16', except: ['fd00:0:1::/48'] }),
    );
  });

  it.each([POLICY, ADMIN, { ...ADMIN, tier: 'baseline' as const }])(
    "of tier $tier is found by its name and its rules' names",
    (policy) => {
      const key = networkPolicy.keyFields.map((field) => policy[field]).join(':');
      expect(networkPolicyKey(networkPolicyName(policy))).toBe(key);
      expect(networkPolicyKey(networkPolicyRuleName(policy, 11))).toBe(key);
      expect(networkPolicyKey('default:web:1')).toBeUndefined();
    },
  );
});
