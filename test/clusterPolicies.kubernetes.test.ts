/** ClusterNetworkPolicies in a real cluster: upstream's conformance cases, and by tests of our own what those ask by SCTP only. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  addressesOf,
  apply,
  clusterNetworkPolicySuite,
  defineClusterNetworkPolicy,
  inPod,
  kubectl,
  makeNamespace,
  pod,
  podsReady,
  removeNamespace,
} from './kubernetes.ts';
import { lab, until } from './lab.ts';

/** CNP=. for all of them, which takes minutes. */
const FOCUS = process.env.CNP ?? '^CNP(AdminTierPriorityField|BaselineTierEgressNamedPort)$';
/** Upstream's without SCTP (sigs.k8s.io/network-policy-api, conformance/tests): what they ask of both tiers, and of one. */
const OF_BOTH = [
  ...['EgressNamedPort', 'EgressTCP', 'EgressUDP', 'IngressNamedPort', 'IngressTCP', 'IngressUDP'],
  ...['PodSelector', 'SamePriority'],
];
const CASES = [
  ...['Admin', 'Baseline'].flatMap((tier) => OF_BOTH.map((what) => `CNP${tier}Tier${what}`)),
  ...['CNPAdminTierIntegration', 'CNPAdminTierPriorityField'],
];
/** These ask for SCTP, some between TCP and UDP, and end where that does not connect: the kernel of these tests has none. */
const SCTP =
  '^CNP(Admin|Baseline)Tier((E|In)gressSCTP|Gress|EgressInlineCIDRPeers|EgressNodePeers|PortRange)$';

const SPACE = 'tiers';
const API = '192.168.50.11';
let server = '';

beforeAll(async () => {
  await defineClusterNetworkPolicy();
  await makeNamespace(SPACE);
  await Promise.all([
    pod('client', { namespace: SPACE, node: 'node1', labels: { app: 'client' } }),
    pod('server', {
      namespace: SPACE,
      node: 'node2',
      args: 'netexec --http-port=80 --udp-port=81',
      ports: [{ name: 'web', containerPort: 80 }],
    }),
    pod('another', { namespace: SPACE, node: 'node1', args: 'netexec --http-port=82 --udp-port=83' }),
  ]);
  await podsReady(SPACE);
  [server = ''] = await addressesOf('server', SPACE);
});
afterEach(() => kubectl('delete clusternetworkpolicy --all'));
afterAll(() => removeNamespace(SPACE));

/** Of the client's egress. What no rule accepts is denied. */
const accept = (tier: string, to: object, protocols?: readonly object[]): Promise<string> =>
  apply(
    JSON.stringify({
      apiVersion: 'policy.networking.k8s.io/v1beta1',
      kind: 'ClusterNetworkPolicy',
      metadata: { name: tier === 'Admin' ? 'chosen' : 'default' },
      spec: {
        tier,
        priority: tier === 'Admin' ? 10 : 0,
        subject: {
          pods: {
            namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': SPACE } },
            podSelector: { matchLabels: { app: 'client' } },
          },
        },
        egress: [
          { name: 'chosen', action: 'Accept', to: [to], protocols },
          { name: 'rest', action: 'Deny', to: [{ networks: ['0.0.0.0/0', '::/0'] }] },
        ],
      },
    }),
  );

/** From the client; what does not answer within 2 s is denied. */
const reaches = async (protocol: 'tcp' | 'udp', target: string): Promise<boolean> =>
  (await inPod(`${SPACE}/client`, `/agnhost connect --timeout=2s --protocol=${protocol} ${target}`))
    .status === 0;

/** Which of them answer, once that is as it should be. */
async function reached(expected: Readonly<Record<string, boolean>>): Promise<void> {
  for (const [target, wanted] of Object.entries(expected)) {
    const [protocol, at = ''] = target.split(' ') as ['tcp' | 'udp', string];
    await until(
      `${target} ${wanted ? 'answers' : 'does not answer'}`,
      async () => (await reaches(protocol, at)) === wanted,
      30,
    );
  }
}

describe.each(['Admin', 'Baseline'])('a ClusterNetworkPolicy of tier %s', (tier) => {
  it('accepts networks, and denies all others', async () => {
    const [another = ''] = await addressesOf('another', SPACE);
    await accept(tier, { networks: [`${server}/32`] });
    await reached({
      [`tcp ${another}:82`]: false,
      [`tcp ${API}:6443`]: false,
      [`tcp ${server}:80`]: true,
      [`udp ${server}:81`]: true,
    });
  });

  it('accepts nodes, as they are labelled', async () => {
    await accept(tier, { nodes: { matchLabels: { 'kubernetes.io/hostname': 'node2' } } });
    await reached({ [`tcp ${API}:6443`]: false });
    await accept(tier, { nodes: { matchLabels: { 'kubernetes.io/hostname': 'node1' } } });
    await reached({ [`tcp ${API}:6443`]: true, [`tcp ${server}:80`]: false });
  });

  it('accepts ranges of ports and ports by their names', async () => {
    const to = { namespaces: {} };
    const range = { range: { start: 79, end: 80 } };
    await accept(tier, to, [{ tcp: { destinationPort: range } }]);
    await reached({ [`udp ${server}:81`]: false, [`tcp ${server}:80`]: true });
    await accept(tier, to, [{ udp: { destinationPort: { range: { start: 80, end: 90 } } } }]);
    await reached({ [`tcp ${server}:80`]: false, [`udp ${server}:81`]: true });
    await accept(tier, to, [{ destinationNamedPort: 'web' }]);
    await reached({ [`udp ${server}:81`]: false, [`tcp ${server}:80`]: true });
  });
});

describe("upstream's conformance cases for ClusterNetworkPolicy", () => {
  it('pass', { timeout: 3600_000 }, async () => {
    const { results, log } = await clusterNetworkPolicySuite(FOCUS, SCTP);
    const failed = [...results].filter(([, how]) => how !== 'passed');
    expect(failed, log.slice(-4000)).toEqual([]);
    const wanted = CASES.filter((name) => new RegExp(FOCUS).test(name));
    expect([...results.keys()].filter((name) => !name.includes('/')).sort()).toEqual(wanted.sort());
    expect(wanted.length).toBeGreaterThan(1);
  });
});

it('after all that hosts are as declared', async () => {
  await removeNamespace(SPACE);
  const { status, out, err } = await lab('check --wait 60');
  expect([status, out, err].join('\n')).toMatch(/^0\n/);
});
