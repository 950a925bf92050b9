/**
 * Everything is killed while a hundred pods start, and a node is rebooted: pods come up all the same, and nothing is left of those that go.
 * Beside them one pod on each node stays for all of it.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { apply, get, inPod, kubectl, makeNamespace, pod, podsReady, removeNamespace } from './kubernetes.ts';
import { differences, must, mustLab, netctl, until } from './lab.ts';

const NODES = ['node1', 'node2'] as const;
const SPACE = 'churn';
const KEPT = 'kept';
const PODS = 100;
/** Seconds. An address that was reserved for an ADD which a kill has cut off is free again after a minute of one netmaster. */
const PATIENCE = 240;
const PAUSE = 'registry.k8s.io/pause:3.10.2';

const nameOf = (n: number): string => `pod-${n}`;

const podOf = (n: number): object => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: nameOf(n), namespace: SPACE },
  spec: {
    containers: [{ name: 'main', image: PAUSE }],
    nodeName: NODES[n % NODES.length],
    // Without any the API forgets a pod at once, while its sandbox is there still.
    terminationGracePeriodSeconds: n % 3 === 0 ? 0 : 1,
  },
});

const startPods = (count: number): Promise<string> =>
  apply(
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'List',
      items: Array.from({ length: count }, (_, n) => podOf(n)),
    }),
  );

interface Pods {
  readonly items: readonly {
    readonly metadata: { readonly name: string };
    readonly status: {
      readonly podIP?: string;
      readonly conditions?: readonly { readonly type: string; readonly status: string }[];
      readonly containerStatuses?: readonly { readonly restartCount: number }[];
    };
  }[];
}

const names = async (): Promise<string[]> =>
  (await get<Pods>(`pods -n ${SPACE}`)).items.map(({ metadata }) => metadata.name);

const readyPods = async (): Promise<string[]> =>
  (await get<Pods>(`pods -n ${SPACE}`)).items
    .filter(({ status }) => status.conditions?.some((c) => c.type === 'Ready' && c.status === 'True'))
    .map(({ metadata }) => metadata.name);

const readyAre = (count: number, seconds = 240): Promise<true> =>
  until(`${count} pods are ready`, async () => (await readyPods()).length >= count || undefined, seconds);

/** As whoever looks after it would: it is there again a moment later. */
async function killAndStart(victim: string): Promise<void> {
  await mustLab(`kill ${victim}`);
  await new Promise((done) => setTimeout(done, 1000));
  await mustLab(`start ${victim}`);
}

const DEVICES = `ip -o link | sed 's/^[0-9]*: //; s/[@:].*//; s/^ct.*/ct/' | sort | uniq -c`;

/** What a node's kernel has of pods' networks, by kind: the same when there are as many pods. */
const networks = (node: string): Promise<string> =>
  must(
    node,
    'sh -c',
    `ip netns list | sed 's/ .*//; s/^cni-.*/cni/' | sort | uniq -c; ${DEVICES}
     ip netns exec contiv-default sh -c "${DEVICES}; ip -o neigh | wc -l; ip route | wc -l"`,
  );

/** What the CRI has of pods on a node, also of those that have ended. */
const runtimes = (node: string): Promise<string> =>
  must(
    node,
    'sh -c',
    'ctr containers ls -q | wc -l; ctr tasks ls -q | wc -l; ctr snapshots ls | wc -l; ls /var/lib/cni 2>/dev/null',
  );

/** How many addresses netmaster has given out. */
async function given(): Promise<string> {
  const { Oper } = JSON.parse(await netctl('net inspect pods')) as {
    Oper: { allocatedAddressesCount: number };
  };
  return `${Oper.allocatedAddressesCount} addresses`;
}

/** Addresses that none of these pods answers a ping at, from a pod of another node or the same. */
async function silent(from: string, addresses: readonly string[]): Promise<string> {
  const script = 'for a in "$@"; do ping -c 1 -W 2 "$a" >/dev/null || echo "$a"; done';
  return (await inPod(`${KEPT}/${from}`, 'sh -c', script, 'sh', ...addresses)).out;
}

let before: string[] = [];

beforeAll(async () => {
  await makeNamespace(KEPT);
  await makeNamespace(SPACE);
  for (const node of NODES) await pod(node, { namespace: KEPT, node, args: 'netexec --http-port=80' });
  await podsReady(KEPT);
  expect(await differences(PATIENCE)).toBe('');
});
afterAll(async () => {
  await removeNamespace(SPACE);
  await removeNamespace(KEPT);
});

/** Everybody who has a hand in pods, on both nodes. */
const VICTIMS = [
  'netplugin node1',
  'netkube node1',
  'containerd node2',
  'netmaster node1',
  'kubelet node1',
  'netplugin node2',
  'containerd node1',
  'kubelet node2',
];

type Look = (node: string) => Promise<string>;

const looked = async (looks: readonly Look[]): Promise<string[]> => [
  await given(),
  ...(await Promise.all(NODES.flatMap((node) => looks.map((look) => look(node))))),
];

/** Nothing is left that was not there before, and all hosts are as declared. */
async function nothingMoreThan(before: readonly string[], looks: readonly Look[]): Promise<void> {
  let now: string[] = [];
  const isSame = async (): Promise<boolean> => {
    now = await looked(looks);
    return now.join() === before.join();
  };
  await until('what was before', isSame, PATIENCE).catch(() => {});
  expect(now).toEqual(before);
  expect(await differences(PATIENCE)).toBe('');
}

/** All are ready, each with an address of its own that answers on both nodes, and all hosts are as declared. */
async function allAnswer(count: number): Promise<void> {
  await readyAre(count);
  expect(await differences(PATIENCE)).toBe('');
  const addresses = (await get<Pods>(`pods -n ${SPACE}`)).items.map(({ status }) => status.podIP ?? '');
  expect(new Set(addresses).size).toBe(count);
  for (const node of NODES) expect(await silent(node, addresses)).toBe('');
}

it('a namespace of no sandbox is told by the check of all hosts', async () => {
  await must('node2', 'ip netns add cni-lost');
  try {
    expect(await differences(0)).toContain('node2: network namespace /run/netns/cni-lost of no sandbox');
  } finally {
    await must('node2', 'ip netns delete cni-lost');
  }
});

describe('a hundred pods', { timeout: 900_000 }, () => {
  it('that start all become ready, whatever is killed meanwhile', async () => {
    before = await looked([networks, runtimes]);
    await startPods(PODS);
    for (const [i, victim] of VICTIMS.entries()) {
      await readyAre(5 + i * 10);
      await killAndStart(victim);
    }
    await allAnswer(PODS);
  });

  it('that end leave nothing behind, whatever is killed meanwhile', async () => {
    const ended = kubectl(`-n ${SPACE} delete pod --all --timeout=600s`);
    for (const [i, victim] of VICTIMS.entries()) {
      const left = PODS - 5 - i * 10;
      await until(`${left} pods are left`, async () => (await names()).length <= left, 240);
      await killAndStart(victim);
    }
    await ended;
    await nothingMoreThan(before, [networks, runtimes]);
  });
});

describe('a node that reboots', { timeout: 900_000 }, () => {
  it.each(['node2', 'node1'])('gets its pods back, also those that were starting: %s', async (node) => {
    const before = await looked([networks]);
    await startPods(40);
    await readyAre(20);
    await mustLab(`reboot ${node}`);
    // Its kubelet says what has become of them; until then the API has what was before.
    await until(`${node} was rebooted`, async () => {
      const { items } = await get<Pods>(`pods -n ${KEPT} --field-selector=spec.nodeName=${node}`);
      return items.every(({ status }) => status.containerStatuses?.some((c) => c.restartCount > 0));
    });
    await podsReady(KEPT);
    await allAnswer(40);
    await kubectl(`-n ${SPACE} delete pod --all --timeout=240s`);
    await nothingMoreThan(before, [networks]);
  });
});
