/** A Kubernetes cluster over the lab's hosts: what is written before its servers start, and the order in which they do. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { makeControlGroups } from '../controlGroups.ts';
import { start } from '../processes.ts';
import { run, tryRun, until } from '../shell.ts';
import { hostFolder, type LabPlan, onHost, ROOT } from '../state.ts';
import { FOLDERS, kubeconfig, programFile, TUNABLES, writeFiles } from './files.ts';
import { importPodImages, makePodImages } from './images.ts';
import { NETKUBE } from './programs.ts';

/** What makeHost is to give a host that is a node. */
export const NODE = { folders: FOLDERS, files: TUNABLES };

/** Packages and programs that are missing, which takes a quarter of an hour the first time. */
export async function setUpKubernetes(): Promise<void> {
  const child = spawn(`${ROOT}/lab/setup.sh`, ['cluster'], { stdio: ['ignore', 'inherit', 'inherit'] });
  const [status] = await once(child, 'close');
  if (status !== 0) throw new Error('Kubernetes could not be set up: see above');
}

/** Before the hosts' servers start. */
export async function prepareCluster(state: LabPlan): Promise<void> {
  writeFiles(state, (await run(`${ROOT}/lab/kubernetes/build.sh`, ['where'])).trim());
  for (const { name } of state.hosts) makeControlGroups(state.name, name);
  await makePodImages(state.name);
}

/** Starts all of it and waits until pods can be made; where a host has a CNI configuration, until its node is ready too. */
export async function startCluster(state: LabPlan, netplugins: Promise<unknown>): Promise<void> {
  const lab = state.name;
  const first = state.hosts[0]?.name as string;
  const runtimes = state.hosts.map(async ({ name }) => {
    await start(lab, 'containerd', name);
    await importPodImages(lab, name);
  });
  await start(lab, 'etcd', first);
  await start(lab, 'kube-apiserver', first);
  await Promise.all([
    start(lab, 'kube-controller-manager', first),
    start(lab, 'kube-scheduler', first),
    ...(fs.existsSync(NETKUBE) ? [start(lab, 'netkube', first)] : []),
    ...state.hosts.map(async ({ name }, i) => {
      await runtimes[i];
      await start(lab, 'kubelet', name);
    }),
    netplugins,
  ]);
  await until('the service account `default`', 60, () => kubectl(lab, 'get', 'serviceaccount', 'default'));
  for (const { name } of state.hosts) {
    await until(`node ${name}`, 60, () => kubectl(lab, 'get', 'node', name));
    if (fs.readdirSync(`${hostFolder(lab, name)}/mounts/etc/cni/net.d`).length > 0)
      await run(...kubectlOn(lab, 'wait', '--for=condition=Ready', `node/${name}`, '--timeout=60s'));
  }
}

const kubectlOn = (lab: string, ...args: string[]): [string, string[]] =>
  onHost(lab, 'node1', programFile(lab, 'kubectl'), `--kubeconfig=${kubeconfig(lab, 'admin')}`, ...args);

const kubectl = (lab: string, ...args: string[]): Promise<string | undefined> =>
  tryRun(...kubectlOn(lab, ...args));
