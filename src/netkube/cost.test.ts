/** What a change costs netkube in a large cluster: work is counted, never time. */
import { pino } from 'pino';
import { expect, it, onTestFinished, vi } from 'vitest';
import { openApi } from '../../test/apiServer.ts';
import { fakeKubernetes } from '../../test/fakeKubernetes.ts';
import { startController } from './controller.ts';
import { type Options, readOptions } from './options.ts';

/** Pods with their role, in the order in which they were looked at, and how many policies. */
const translated = vi.hoisted(() => ({ workloads: [] as string[], policies: 0 }));
vi.mock('./translate/workload.ts', async (original) => {
  const actual = await original<typeof import('./translate/workload.ts')>();
  return {
    ...actual,
    workloadOf(...args: Parameters<typeof actual.workloadOf>) {
      const [{ metadata }] = args;
      translated.workloads.push(`${metadata.name} ${metadata.labels?.role}`);
      return actual.workloadOf(...args);
    },
  };
});
vi.mock('./translate/networkPolicy.ts', async (original) => {
  const actual = await original<typeof import('./translate/networkPolicy.ts')>();
  return {
    ...actual,
    networkPolicyOf(...args: Parameters<typeof actual.networkPolicyOf>) {
      translated.policies++;
      return actual.networkPolicyOf(...args);
    },
  };
});

const SPACES = 100;
const space = (i: number): string => `space${i % SPACES}`;
const PODS = '/api/v1/pods';
const pod = (i: number, labels: object = {}) => ({
  metadata: { name: `pod${i}`, namespace: space(i), labels: { app: `app${i % 200}`, ...labels } },
  spec: { containers: [{ name: 'c' }] },
});

const settled = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 120_000, interval: 20 });

/** What the label of one pod costs beside so many pods and policies. */
async function costOfLabel(pods: number, policies: number) {
  const [kubernetes, netmaster] = [await fakeKubernetes(), await openApi()];
  onTestFinished(() => netmaster.close());
  for (let i = 0; i < SPACES; i++) kubernetes.put('/api/v1/namespaces', { metadata: { name: space(i) } });
  for (let i = 0; i < pods; i++) kubernetes.put(PODS, pod(i));
  for (let i = 0; i < policies; i++)
    kubernetes.put('/apis/networking.k8s.io/v1/networkpolicies', {
      metadata: { name: `policy${i}`, namespace: space(i) },
      spec: {
        podSelector: { matchLabels: { app: `app${i % 200}` } },
        ingress: [{ from: [{ podSelector: { matchLabels: { role: 'friend' } } }] }],
      },
    });
  const url = `http://127.0.0.1:${netmaster.port}`;
  const flags = ['--netmaster', url, '--subnet', '10.32.0.0/16', '--listen', '127.0.0.1:0'];
  const options = readOptions(flags) as Options;
  const controller = await startController(options, kubernetes.config, pino({ level: 'silent' }));
  onTestFinished(() => controller.close());
  const count = (kind: string): number => netmaster.mirror.list(kind).length;
  await settled(() => expect([count('workload'), count('networkPolicy')]).toEqual([pods, policies]));
  // netmaster tells of writes in their order: once it has told of this one, nothing is left to be looked at.
  const label = async (role: string): Promise<void> => {
    kubernetes.put(PODS, pod(0, { role }));
    const looks = (): number => translated.workloads.filter((each) => each === `pod0 ${role}`).length;
    await settled(() => expect(looks()).toBe(2));
  };
  await label('stranger');
  translated.workloads = [];
  translated.policies = 0;
  const { revision } = netmaster.mirror;
  await label('friend');
  return { ...translated, writes: netmaster.mirror.revision - revision };
}

it.each([
  [100, 10],
  [5000, 1000],
])(
  "a pod's label is one write, beside %i pods and %i policies",
  { timeout: 300_000 },
  async (pods, policies) => {
    // Compared when it changes, and when netmaster tells that it has it.
    expect(await costOfLabel(pods, policies)).toEqual({
      workloads: ['pod0 friend', 'pod0 friend'],
      policies: 0,
      writes: 1,
    });
  },
);
