/** What a large cluster takes: the process as it runs, with pods as the API server sends them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { expect, it, onTestFinished, vi } from 'vitest';
import { openApi } from '../../test/apiServer.ts';
import { fakeKubernetes } from '../../test/fakeKubernetes.ts';
import { temporaryFolder } from '../../test/folder.ts';

const PODS = 5000;
const POLICIES = 1000;
/** Bytes, beside what is kept of it: what a pod's status, volumes and managed fields come to. */
const BALLAST = 'x'.repeat(6000);

it('a cluster of 5,000 pods and 1,000 policies in 100 namespaces is declared within 300 MB of memory', {
  timeout: 300_000,
}, async () => {
  const [kubernetes, netmaster] = [await fakeKubernetes(), await openApi()];
  onTestFinished(() => netmaster.close());
  for (let i = 0; i < 100; i++)
    kubernetes.put('/api/v1/namespaces', {
      metadata: { name: `n${i}`, labels: { 'kubernetes.io/metadata.name': `n${i}` } },
    });
  for (let i = 0; i < PODS; i++)
    kubernetes.put('/api/v1/pods', {
      metadata: {
        name: `pod-${i}`,
        namespace: `n${i % 100}`,
        labels: { app: `app-${i % 200}`, tier: 'web' },
        managedFields: BALLAST,
      },
      spec: { containers: [{ name: 'c', ports: [{ name: 'http', containerPort: 80 }] }] },
    });
  for (let i = 0; i < POLICIES; i++)
    kubernetes.put('/apis/networking.k8s.io/v1/networkpolicies', {
      metadata: { name: `policy-${i}`, namespace: `n${i % 100}` },
      spec: {
        podSelector: { matchLabels: { app: `app-${i % 200}` } },
        ingress: [{ from: [{ podSelector: {} }], ports: [{ port: 80 }] }],
      },
    });
  const file = path.join(temporaryFolder(), 'kubeconfig');
  fs.writeFileSync(file, kubernetes.config.exportConfig());
  const program = path.join(import.meta.dirname, '../../bin/netkube');
  const flags = [
    '--netmaster',
    `http://127.0.0.1:${netmaster.port}`,
    '--subnet',
    '10.32.0.0/16',
    '--listen',
    '127.0.0.1:0',
  ];
  const netkube = spawn(program, [...flags, '--kubeconfig', file], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  onTestFinished(async () => {
    const ended = once(netkube, 'close');
    netkube.kill('SIGKILL');
    await ended;
  });
  const count = (kind: string): number => netmaster.mirror.list(kind).length;
  await vi.waitFor(() => expect([count('workload'), count('networkPolicy')]).toEqual([PODS, POLICIES]), {
    timeout: 240_000,
    interval: 200,
  });
  const status = fs.readFileSync(`/proc/${netkube.pid}/status`, 'utf8');
  const peak = Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1024;
  console.info(`netkube's peak: ${Math.round(peak)} MB`);
  expect(peak).toBeLessThan(300);
});
