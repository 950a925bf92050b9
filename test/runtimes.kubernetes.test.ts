/** Callers of CNI that need Kubernetes, or Go's registry: static pods, a pod's bandwidth, and cnitool, CNI's own caller. */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { staticPods } from '../lab/kubernetes/files.ts';
import { AGNHOST, get, kubectl, pod, podsReady, tryKubectl } from './kubernetes.ts';
import { type Ended, feed, LAB, must, on, until } from './lab.ts';

const CACHE = process.env.CONTIV_CACHE ?? '/var/cache/contiv-lab';
const CNITOOL = `${CACHE}/cnitool-1.3.1/cnitool`;
const CONFIGURATIONS = '/run/cnitool';
const MANIFEST = `${staticPods(LAB, 'node1')}/web.json`;

/** Beside Kubernetes, with Go's caches that its build has. */
async function buildCnitool(): Promise<void> {
  if (fs.existsSync(CNITOOL)) return;
  const env = {
    ...process.env,
    GOTOOLCHAIN: 'auto',
    CGO_ENABLED: '0',
    GOMODCACHE: `${CACHE}/go/mod`,
    GOCACHE: `${CACHE}/go/build`,
    GOBIN: `${CACHE}/cnitool-1.3.1`,
  };
  await promisify(execFile)('go', ['install', 'github.com/containernetworking/cni/cnitool@v1.3.1'], { env });
}

const cnitool = (command: string): Promise<Ended> =>
  on(
    'node1',
    `env CNI_PATH=/opt/cni/bin NETCONFPATH=${CONFIGURATIONS} ${CNITOOL} ${command} web /run/netns/box`,
  );

beforeAll(buildCnitool, 600_000);
afterAll(async () => {
  fs.rmSync(MANIFEST, { force: true });
  await cnitool('del');
  await on('node1', 'ip netns delete box');
  await on('node1', `rm -rf ${CONFIGURATIONS}`);
  await kubectl('delete pod slow --ignore-not-found --now');
  await until('the static pod is gone', async () => (await tryKubectl('get pod web-node1')).status !== 0);
});

it('cnitool adds a namespace to a network of pods, checks it, and takes it away', async () => {
  const plugin = { type: 'contiv-cni', network: 'pods' };
  await must('node1', `mkdir -p ${CONFIGURATIONS}`);
  await feed(
    'node1',
    JSON.stringify({ cniVersion: '1.1.0', name: 'web', plugins: [plugin] }),
    `tee ${CONFIGURATIONS}/web.conflist`,
  );
  await must('node1', 'ip netns add box');
  const { status, out, err } = await cnitool('add');
  expect([status, err]).toEqual([0, '']);
  const [address] = (JSON.parse(out) as { ips: { address: string }[] }).ips.map((ip) => ip.address);
  expect(await must('node1', 'ip -n box -4 -br addr show eth0')).toContain(` ${address}`);
  for (const command of ['check', 'status']) expect((await cnitool(command)).status, command).toBe(0);
  await must('node1', 'ip -n box route del default');
  expect((await cnitool('check')).err).toContain('lacks route 0.0.0.0/0');
  await until('it is put right', async () => (await cnitool('check')).status === 0);
  expect((await cnitool('del')).status).toBe(0);
  expect((await on('node1', 'ip -n box link show eth0')).status).not.toBe(0);
});

it('a static pod has a network, though its mirror at the API server has another uid', async () => {
  const manifest = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'web', namespace: 'default', labels: { app: 'static' } },
    spec: {
      containers: [{ name: 'web', image: AGNHOST, imagePullPolicy: 'Never', args: ['pause'] }],
    },
  };
  fs.writeFileSync(MANIFEST, JSON.stringify(manifest));
  type Mirror = {
    metadata: { uid: string; annotations: Record<string, string> };
    status: { podIP?: string };
  };
  await until('its mirror', async () => (await tryKubectl('get pod web-node1')).status === 0, 120);
  await podsReady('default', 'web-node1');
  const { metadata, status } = await get<Mirror>('pod web-node1');
  expect(metadata.annotations['kubernetes.io/config.mirror']).not.toBe(metadata.uid);
  expect(status.podIP).toMatch(/^10\.32\./);
});

it('a pod is limited to what its annotations say', async () => {
  await pod('slow', {
    node: 'node1',
    annotations: { 'kubernetes.io/ingress-bandwidth': '10M', 'kubernetes.io/egress-bandwidth': '5M' },
  });
  await podsReady('default', 'slow');
  const queues = await must('node1', 'ip netns exec contiv-default tc qdisc show');
  expect(queues).toMatch(/qdisc tbf \S+ dev ct\w+ root .* rate 10\d{3}Kbit/);
  expect(queues).toMatch(/qdisc tbf \S+ dev ib\w+ root .* rate 51\d{2}Kbit/);
});
