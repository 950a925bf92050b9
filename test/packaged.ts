/**
 * A lab's cluster with netmaster, netkube and each node's agent as pods, as packaging/kubernetes has them, in place of the lab's own. The two share no
 * pod that has a network of theirs: each begins where there is none.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { RANGES } from '../lab/kubernetes/files.ts';
import { inUrl, type LabState, readState } from '../lab/state.ts';
import { openKubernetes } from './kubernetes.ts';
import { openLab, until } from './lab.ts';

const PACKAGING = path.join(path.dirname(import.meta.dirname), 'packaging/kubernetes');
export const SYSTEM = 'contiv-system';
/** What manifests start. */
const PROGRAMS = ['30-netmaster', '40-netkube', '50-netplugin'];
export const ALL = ['deployment/netmaster', 'deployment/netkube', 'daemonset/netplugin'];
/** Of netmaster, on node1. */
export const TLS = '/var/lib/contiv/netmaster/tls';
/** Hosts' and netkube's certificates: each is renewed after a minute. */
const LIFE = '90s';

/**
 * As in the guide, with the cluster's addresses. netmaster's store is in a folder that each host of the lab has for itself: its own is the
 * machine's there.
 */
function manifest(name: string, state: LabState): string {
  const api = inUrl(state.hosts[0]?.address ?? '');
  const text = fs
    .readFileSync(path.join(PACKAGING, `manifests/${name}.yaml`), 'utf8')
    .replace('https://NETMASTER:9999', `https://${api}:9999`)
    .replace("'KUBERNETES'", `'${api}'`)
    .replace('hostPath: { path: /var/lib/contiv-netmaster,', 'hostPath: { path: /var/lib/contiv/netmaster,')
    .replace('- --kubernetes=', `- --host-certificates=${LIFE}\n            - --kubernetes=`);
  const range = (family: 4 | 6): string => (state.families.includes(family) ? RANGES[family].pods : '');
  return text
    .replace(/^ {2}subnet: .*$/m, `  subnet: "${range(4)}"`)
    .replace(/^ {2}subnet6: .*$/m, `  subnet6: "${range(6)}"`);
}

export function openPackaged(lab: string) {
  const { must, mustLab } = openLab(lab);
  const { apply, kubectl, nodesReady } = openKubernetes(lab);
  const stateOf = (): LabState => readState(lab) as LabState;
  const nodes = (): string[] => stateOf().hosts.map(({ name }) => name);

  async function coreDns(replicas: number): Promise<void> {
    await kubectl(`-n kube-system scale deployment coredns --replicas=${replicas}`);
    if (replicas === 0)
      await kubectl('-n kube-system wait pod -l k8s-app=kube-dns --for=delete --timeout=120s');
    else await kubectl('-n kube-system rollout status deployment coredns --timeout=240s');
  }

  return {
    coreDns,
    /** The lab's own are ended, and the manifests applied. */
    async install(): Promise<void> {
      const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'contiv-test-'));
      try {
        const image = path.join(folder, 'contiv.tar');
        execFileSync(path.join(PACKAGING, 'image.sh'), [image]);
        await coreDns(0);
        for (const program of ['netkube', 'netmaster']) await mustLab(`kill ${program} node1`);
        for (const node of nodes()) {
          await mustLab(`kill netplugin ${node}`);
          // As on a machine, where mounts below it are seen by containers; and with nothing of the lab's agent.
          await must(node, 'sh -c', 'mount --make-shared /run && mount -t tmpfs tmpfs /var/lib/contiv');
          await must(node, `ctr --address /run/kubernetes/containerd.sock -n k8s.io images import ${image}`);
        }
      } finally {
        fs.rmSync(folder, { recursive: true });
      }
      // The lab's check asks netmaster by the operator's certificate that is there.
      await must('node1', `ln -s ${TLS} /var/lib/contiv/tls`);
      await kubectl('label node node1 contiv.io/netmaster=true --overwrite');
      for (const name of ['10-namespace', '20-rbac', ...PROGRAMS]) await apply(manifest(name, stateOf()));
    },
    /** The lab's own run as before. */
    async putBack(): Promise<void> {
      await coreDns(0);
      await kubectl(
        `-n ${SYSTEM} delete ${ALL.join(' ')} configmap/contiv configmap/contiv-authority --ignore-not-found`,
      );
      await kubectl(`-n ${SYSTEM} wait pod --all --for=delete --timeout=120s`);
      await kubectl('label node node1 contiv.io/netmaster-');
      for (const node of nodes())
        await must(node, 'sh -c', 'umount /var/lib/contiv && mount --make-private /run');
      await mustLab('start netmaster node1');
      for (const node of nodes()) await mustLab(`start netplugin ${node}`);
      await mustLab('start netkube node1');
      await nodesReady();
      await coreDns(1);
    },
    /** All of them run, as they are declared now, and netmaster has all nodes. */
    async ready(): Promise<void> {
      for (const each of ALL) await kubectl(`-n ${SYSTEM} rollout status ${each} --timeout=240s`);
      await until(
        'netmaster to have all nodes ready',
        async () => {
          const ask = `-n ${SYSTEM} exec deploy/netmaster -c netmaster -- netctl host ls`;
          const table = await kubectl(ask).catch(() => '');
          return nodes().every((node) =>
            new RegExp(`^${node} .* ready$`, 'm').test(table.replaceAll(/ +$/gm, '')),
          );
        },
        240,
      );
      await nodesReady();
    },
  };
}
