/** A Kubernetes cluster over the lab's hosts: what is written before its servers start, and the order in which they do. */
import fs from 'node:fs';
import { makeNetkubeToken } from '../certificates.ts';
import { makeControlGroups } from '../controlGroups.ts';
import { start } from '../processes.ts';
import { run, show, tryRun, until } from '../shell.ts';
import { hostFolder, type LabPlan, onHost, ROOT } from '../state.ts';
import {
  CLUSTER_DOMAIN,
  FOLDERS,
  kubeconfig,
  kubernetesFile,
  nameserverOf,
  programFile,
  TUNABLES,
  writeFiles,
} from './files.ts';
import { importPodImages, makePodImages } from './images.ts';

/** What makeHost is to give a host that is a node. */
export const NODE = { folders: FOLDERS, files: TUNABLES };

/** Packages and programs that are missing, which takes a quarter of an hour the first time. */
export const setUpKubernetes = (): Promise<void> =>
  show('Kubernetes could not be set up: see above', `${ROOT}/lab/setup.sh`, ['cluster']);

/** Before the hosts' servers start. */
export async function prepareCluster(state: LabPlan): Promise<void> {
  writeFiles(state, (await run(`${ROOT}/lab/kubernetes/build.sh`, ['where'])).trim());
  for (const { name } of state.hosts) {
    makeControlGroups(state.name, name);
    fs.symlinkSync('/usr/lib/cni/loopback', `${hostFolder(state.name, name)}/mounts/opt/cni/bin/loopback`);
  }
  await makePodImages(state.name);
}

/**
 * Starts all of it and waits until pods can be made; where a host has a CNI configuration, until its node is ready too, and then until
 * the cluster's nameserver answers.
 */
export async function startCluster(state: LabPlan, netplugins: Promise<unknown>): Promise<void> {
  const lab = state.name;
  const first = state.hosts[0]?.name as string;
  const runtimes = state.hosts.map(async ({ name }) => {
    await start(lab, 'containerd', name);
    await importPodImages(lab, name);
  });
  await start(lab, 'kube-apiserver', first);
  await Promise.all([
    start(lab, 'kube-controller-manager', first),
    start(lab, 'kube-scheduler', first),
    declareContiv(lab).then(async () => {
      if (state.tls) await makeNetkubeToken(state);
      await start(lab, 'netkube', first);
    }),
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
  await declareNameserver(state);
}

/** CoreDNS by upstream's own manifest, whose placeholders are filled in as its own scripts do. */
async function declareNameserver(state: LabPlan): Promise<void> {
  const lab = state.name;
  const filled: Readonly<Record<string, string>> = {
    __DNS__DOMAIN__: CLUSTER_DOMAIN,
    __DNS__SERVER__: nameserverOf(state),
    __DNS__MEMORY__LIMIT__: '170Mi',
  };
  const manifest = fs.readFileSync(programFile(lab, 'coredns.yaml'), 'utf8');
  const file = kubernetesFile(lab, 'coredns.yaml');
  fs.writeFileSync(
    file,
    manifest.replace(/__\w+__/g, (placeholder) => filled[placeholder] ?? placeholder),
  );
  await run(...kubectlOn(lab, 'apply', '--filename', file));
  await run(
    ...kubectlOn(lab, '-n', 'kube-system', 'rollout', 'status', 'deployment/coredns', '--timeout=120s'),
  );
}

/** What is declared to a cluster for netkube (packaging/kubernetes), whose account is a user of the lab's here. */
async function declareContiv(lab: string): Promise<void> {
  const folder = `${ROOT}/packaging/kubernetes/manifests`;
  for (const file of ['00-crds.yaml', '10-namespace.yaml', '20-rbac.yaml'])
    await run(...kubectlOn(lab, 'apply', '--filename', `${folder}/${file}`));
  const name = 'contiv-netkube';
  const binding = (kind: string, ...more: string[]): [string, string[]] =>
    kubectlOn(lab, 'create', kind, `${name}-user`, '--user=netkube', ...more);
  await run(...binding('clusterrolebinding', `--clusterrole=${name}`));
  await run(...binding('rolebinding', `--role=${name}`, '--namespace=contiv-system'));
}

const kubectlOn = (lab: string, ...args: string[]): [string, string[]] =>
  onHost(lab, 'node1', programFile(lab, 'kubectl'), `--kubeconfig=${kubeconfig(lab, 'admin')}`, ...args);

const kubectl = (lab: string, ...args: string[]): Promise<string | undefined> =>
  tryRun(...kubectlOn(lab, ...args));
