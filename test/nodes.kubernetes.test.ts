/** Nodes, as Kubernetes has them: whether they have a network, and what keeps pods off them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addressesOf, get, kubectl, makeNamespace, pod, podsReady, removeNamespace } from './kubernetes.ts';
import { differences, must, mustLab, on, until } from './lab.ts';

const SPACE = 'nodes';
const NODES = ['node1', 'node2'];
/** Of a cloud's node, until the cloud has said what it is (kubelet --cloud-provider=external). */
const UNINITIALIZED = 'node.cloudprovider.kubernetes.io/uninitialized';
const UNAVAILABLE = 'node.kubernetes.io/network-unavailable';

interface Node {
  readonly spec: { readonly taints?: readonly { readonly key: string; readonly effect: string }[] };
  readonly status: {
    readonly conditions: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason: string;
    }[];
  };
}

const taintsOf = async (name: string): Promise<string[]> =>
  ((await get<Node>(`node ${name}`)).spec.taints ?? []).map(({ key, effect }) => `${key}:${effect}`);
const networkOf = async (name: string): Promise<string> => {
  const { conditions } = (await get<Node>(`node ${name}`)).status;
  const found = conditions.find(({ type }) => type === 'NetworkUnavailable');
  return `${found?.status} ${found?.reason}`;
};
/** Left to the scheduler, which has this node alone to choose. */
const forNode = (name: string, node: string, tolerations: readonly object[] = []): Promise<void> =>
  pod(name, { namespace: SPACE, spec: { nodeSelector: { 'kubernetes.io/hostname': node }, tolerations } });
/** The scheduler says of the pod that a taint keeps it off: not of which. */
const isKeptOff = (name: string): Promise<boolean> =>
  until(`${name} to be kept off`, async () =>
    (
      await kubectl(
        `-n ${SPACE} get pod ${name}`,
        '-o',
        'jsonpath={.status.conditions[?(@.type=="PodScheduled")].message}',
      )
    ).includes('untolerated taint'),
  );

beforeAll(() => makeNamespace(SPACE));
afterAll(() => removeNamespace(SPACE));

describe('a node', () => {
  it('has a network while its agent lives: else nothing is placed there, until the agent is back', async () => {
    for (const node of NODES)
      await until(
        `${node} to have a network`,
        async () => (await networkOf(node)) === 'False NetpluginLives',
      );
    await mustLab('kill netplugin node2');
    try {
      await until(
        'node2 to have none',
        async () => (await networkOf('node2')) === 'True NetpluginSilent',
        180,
      );
      await until('its taint', async () => (await taintsOf('node2')).includes(`${UNAVAILABLE}:NoSchedule`));
      expect(await networkOf('node1')).toBe('False NetpluginLives');
      await forNode('early', 'node2');
      await isKeptOff('early');
    } finally {
      await mustLab('start netplugin node2');
    }
    await until('node2 to have a network', async () => (await networkOf('node2')) === 'False NetpluginLives');
    await podsReady(SPACE, 'early');
    expect(await taintsOf('node2')).toEqual([]);
  });

  it('that a cloud has not initialised has its network, and is left tainted: what does not tolerate that waits', async () => {
    await kubectl(`taint node node2 ${UNINITIALIZED}=true:NoSchedule`);
    try {
      for (const program of ['netplugin node2', 'netkube node1']) {
        await mustLab(`kill ${program}`);
        await mustLab(`start ${program}`);
      }
      await forNode('waiting', 'node2');
      await forNode('cloud', 'node2', [{ key: UNINITIALIZED, operator: 'Exists' }]);
      await podsReady(SPACE, 'cloud');
      await isKeptOff('waiting');
      const [address = ''] = await addressesOf('cloud', SPACE);
      await must('node1', `busybox ping -c 1 -W 10 ${address}`);
      expect(await networkOf('node2')).toBe('False NetpluginLives');
      expect(await taintsOf('node2')).toEqual([`${UNINITIALIZED}:NoSchedule`]);
    } finally {
      await on('node1', `kubectl taint node node2 ${UNINITIALIZED}-`);
    }
    await podsReady(SPACE, 'waiting');
    expect(await differences()).toBe('');
  });
});
