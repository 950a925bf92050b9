/** The cluster itself: what the other tests of Kubernetes stand on. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { isolateNetwork } from './isolation.ts';
import {
  AGNHOST,
  apply,
  get,
  inPod,
  kubectl,
  makeNamespace,
  pod,
  podsReady,
  removeNamespace,
} from './kubernetes.ts';
import { docker, LAB, lab, must, mustLab } from './lab.ts';
import { machine, processesOf } from './machine.ts';

const HOSTS = ['node1', 'node2'];
const CONTROL_PLANE = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'];
const NAMESPACE = 'cluster';

/** On the node whatever its state is: without a CNI configuration it is not ready, and runs pods in its own network only. */
const onNode = (node: string, port: number) =>
  ({
    namespace: NAMESPACE,
    node,
    hostNetwork: true,
    args: `netexec --http-port=${port} --udp-port=${port}`,
    spec: { tolerations: [{ operator: 'Exists' }] },
  }) as const;

const LATER = {
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'later', namespace: NAMESPACE },
  spec: {
    selector: { matchLabels: { app: 'later' } },
    template: {
      metadata: { labels: { app: 'later' } },
      spec: {
        containers: [{ name: 'main', image: AGNHOST, args: ['pause'] }],
        nodeSelector: { 'kubernetes.io/hostname': 'node2' },
        hostNetwork: true,
        tolerations: [{ operator: 'Exists' }],
        terminationGracePeriodSeconds: 0,
      },
    },
  },
};

beforeAll(() => makeNamespace(NAMESPACE));
afterAll(() => removeNamespace(NAMESPACE));

describe('the cluster', () => {
  it('has all its servers running, which the lab knows by name', async () => {
    const { processes } = JSON.parse(await mustLab('status --json'));
    const running = processes
      .filter((p: { running: boolean }) => p.running)
      .map((p: { name: string; host: string }) => `${p.name} ${p.host}`);
    for (const name of CONTROL_PLANE) expect(running).toContain(`${name} node1`);
    for (const host of HOSTS)
      for (const name of ['containerd', 'kubelet', 'dockerd', 'netplugin'])
        expect(running).toContain(`${name} ${host}`);
  });

  it('has each host as a node of the pinned version, with its address in the underlay', async () => {
    const { items } = await get<{
      items: {
        metadata: { name: string };
        status: { addresses: { type: string; address: string }[]; nodeInfo: Record<string, string> };
      }[];
    }>('nodes');
    expect(items.map(({ metadata }) => metadata.name).sort()).toEqual(HOSTS);
    const { hosts } = JSON.parse(await mustLab('status --json'));
    for (const { metadata, status } of items) {
      expect(status.nodeInfo.kubeletVersion).toBe('v1.37.2');
      expect(status.nodeInfo.containerRuntimeVersion).toMatch(/^containerd:/);
      expect(status.addresses.find(({ type }) => type === 'InternalIP')?.address).toBe(
        hosts.find(({ name }: { name: string }) => name === metadata.name)?.address,
      );
    }
    expect(JSON.parse(await kubectl('version -o json')).serverVersion.gitVersion).toBe('v1.37.2');
  });

  it('answers nothing to whoever has no token', async () => {
    const url = 'https://192.168.50.11:6443/api/v1/nodes';
    expect(await must('node2', `curl -sk -m 10 -o /dev/null -w %{http_code} ${url}`)).toBe('403');
    expect(
      await must('node2', `curl -sk -m 10 -o /dev/null -w %{http_code} -H`, 'Authorization: Bearer no', url),
    ).toBe('401');
  });

  it('has the images of the suites on each host, and nothing of Docker among them', async () => {
    for (const host of HOSTS) {
      const images = (await must(host, 'ctr images ls -q'))
        .split('\n')
        .filter((name) => !name.startsWith('sha256:'));
      expect(images.sort()).toEqual([
        'registry.k8s.io/coredns/coredns:v1.14.6',
        'registry.k8s.io/e2e-test-images/agnhost:2.45',
        AGNHOST,
        'registry.k8s.io/e2e-test-images/busybox:1.37.0-2',
        'registry.k8s.io/e2e-test-images/glibc-dns-testing:2.1.1',
        'registry.k8s.io/pause:3.10.2',
      ]);
    }
  });

  it('runs pods on each node, reaches them by exec and logs, and shows their servers in the host', async () => {
    for (const node of HOSTS) await pod(`on-${node}`, onNode(node, 8000));
    await podsReady(NAMESPACE, 'on-node1', 'on-node2');
    for (const node of HOSTS) {
      // A pod without a probe is ready before its server listens.
      await expect
        .poll(() => inPod(`${NAMESPACE}/on-${node}`, '/agnhost connect 127.0.0.1:8000'))
        .toMatchObject({ status: 0, err: '' });
      expect((await inPod(`${NAMESPACE}/on-${node}`, 'hostname')).out.trim()).toBe(node);
      await expect
        .poll(() => kubectl(`-n ${NAMESPACE} logs on-${node}`))
        .toMatch(/Started HTTP server on port 8000/);
      expect(await must(node, 'curl -s -m 5 http://127.0.0.1:8000/hostname')).toBe(node);
    }
  });

  it('runs Docker containers on the same hosts, which are not among the pods', async () => {
    const id = await docker('node1', 'run -d --net=host contiv/lab sleep 100000');
    try {
      expect(await must('node1', 'ctr containers ls -q')).not.toContain(id);
      expect(await docker('node1', 'ps -q --no-trunc')).toBe(id);
    } finally {
      await docker('node1', `rm -f ${id}`);
    }
  });

  it.each([...CONTROL_PLANE.map((name) => [name, 'node1']), ['containerd', 'node2'], ['kubelet', 'node2']])(
    'goes on after a kill -9 of %s, with the same pods in it',
    async (name, host) => {
      const containers = async (): Promise<string[]> =>
        (
          await get<{ items: { status: { containerStatuses?: { containerID: string }[] } }[] }>(
            `pods -n ${NAMESPACE}`,
          )
        ).items
          .flatMap(({ status }) => (status.containerStatuses ?? []).map(({ containerID }) => containerID))
          .sort();
      await pod('kept', onNode('node2', 8001));
      await podsReady(NAMESPACE, 'kept');
      const before = await containers();
      await mustLab(`kill ${name} ${host}`);
      await mustLab(`start ${name} ${host}`);
      // Made by the controller manager, placed by the scheduler, kept by etcd, run by kubelet and containerd.
      await apply(JSON.stringify(LATER));
      await kubectl(`-n ${NAMESPACE} rollout status deployment later --timeout=120s`);
      await kubectl(`-n ${NAMESPACE} delete deployment later --cascade=foreground --timeout=120s`);
      expect(await containers()).toEqual(before);
    },
  );
});

/** Of the machine itself, on whose folders the hosts' own are mounted. */
const cniFiles = (): string =>
  execFileSync('ls', ['-A', '/opt/cni/bin', '/etc/cni/net.d'], { encoding: 'utf8' });

describe('down', () => {
  const OTHER = `${LAB.slice(-10)}k2`;
  const other = (line: string) => mustLab(`--name ${OTHER} ${line}`);
  beforeAll(isolateNetwork);
  afterEach(async () => {
    await lab(`--name ${OTHER} down`);
  });

  it.each(['nothing', 'kubelet', 'containerd', 'every one'])(
    'leaves the machine as it was after a kill -9 of %s, with a pod of another cluster in it',
    async (victim) => {
      const [before, files] = [machine(OTHER), cniFiles()];
      await other('up --quiet --kubernetes --hosts 1');
      const manifest = path.join('/var/lib/contiv-lab', OTHER, 'pod.json');
      fs.writeFileSync(manifest, JSON.stringify(POD));
      await other(`exec node1 -- kubectl apply -f ${manifest}`);
      await other('exec node1 -- kubectl wait pod lone --for=condition=Ready --timeout=120s');
      expect(machine(OTHER)).not.toEqual(before);
      expect(machine(OTHER).tunables).toEqual(before.tunables);
      if (victim !== 'nothing') {
        const victims = processesOf(OTHER, ['node1'], victim === 'every one' ? '' : victim);
        expect(victims).not.toEqual([]);
        for (const pid of victims) process.kill(pid, 'SIGKILL');
      }
      await other('down');
      expect(machine(OTHER)).toEqual(before);
      expect(cniFiles()).toEqual(files);
    },
  );

  const POD = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'lone' },
    spec: {
      containers: [{ name: 'main', image: AGNHOST, args: ['pause'] }],
      nodeName: 'node1',
      hostNetwork: true,
      tolerations: [{ operator: 'Exists' }],
    },
  };
});
