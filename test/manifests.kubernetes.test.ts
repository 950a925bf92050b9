/**
 * packaging/kubernetes as it is: netmaster, netkube and each node's agent as pods, of the image that the script makes, with certificates. They
 * take the place of the lab's own, which are back in the end; no pod has a network of both.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  addressesOf,
  apply,
  inPod,
  kubectl,
  makeNamespace,
  nodesReady,
  pod,
  podsReady,
  removeNamespace,
} from './kubernetes.ts';
import { must, mustLab, until } from './lab.ts';

const PACKAGING = path.join(path.dirname(import.meta.dirname), 'packaging/kubernetes');
const NODES = ['node1', 'node2'];
const API = '192.168.50.11';
const SYSTEM = 'contiv-system';
const SPACE = 'packaged';
/** What manifests start. */
const PROGRAMS = ['30-netmaster', '40-netkube', '50-netplugin'];
const ALL = ['deployment/netmaster', 'deployment/netkube', 'daemonset/netplugin'];

/**
 * As in the guide, with the cluster's addresses. netmaster's store is in a folder that each host of the lab has for itself: its own is the
 * machine's there.
 */
const manifest = (name: string): string =>
  fs
    .readFileSync(path.join(PACKAGING, `manifests/${name}.yaml`), 'utf8')
    .replace('https://NETMASTER:9999', `https://${API}:9999`)
    .replace("'KUBERNETES'", `'${API}'`)
    .replace('hostPath: { path: /var/lib/contiv-netmaster,', 'hostPath: { path: /var/lib/contiv/netmaster,');

const coreDns = async (replicas: number): Promise<void> => {
  await kubectl(`-n kube-system scale deployment coredns --replicas=${replicas}`);
  if (replicas === 0)
    await kubectl('-n kube-system wait pod -l k8s-app=kube-dns --for=delete --timeout=120s');
};
/** All of them run, as they are declared now. */
async function rolledOut(): Promise<void> {
  for (const each of ALL) await kubectl(`-n ${SYSTEM} rollout status ${each} --timeout=240s`);
}
const inNetmaster = (line: string): Promise<string> =>
  kubectl(`-n ${SYSTEM} exec deploy/netmaster -c netmaster -- ${line}`);
const hostsReady = (): Promise<boolean> =>
  until(
    'netmaster to have both nodes ready',
    async () => {
      const table = await inNetmaster('netctl host ls').catch(() => '');
      return NODES.every((node) => new RegExp(`^${node} .* ready$`, 'm').test(table.replaceAll(/ +$/gm, '')));
    },
    240,
  );
const asks = (target: string): Promise<string> =>
  inPod(`${SPACE}/client`, `curl -s -m 3 http://${target}/hostname`).then(({ out }) => out.trim());
const answers = (target: string): Promise<boolean> =>
  until(`${target} answers`, async () => (await asks(target)) === 'server', 120);
const isSilent = (target: string): Promise<boolean> =>
  until(`${target} answers no more`, async () => (await asks(target)) === '', 120);

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'contiv-test-'));
beforeAll(async () => {
  const image = path.join(folder, 'contiv.tar');
  execFileSync(path.join(PACKAGING, 'image.sh'), [image]);
  await coreDns(0);
  for (const program of ['netkube', 'netmaster']) await mustLab(`kill ${program} node1`);
  for (const node of NODES) {
    await mustLab(`kill netplugin ${node}`);
    // As on a machine, where mounts below it are seen by containers; and with nothing of the lab's agent.
    await must(node, 'sh -c', 'mount --make-shared /run && mount -t tmpfs tmpfs /var/lib/contiv');
    await must(node, `ctr --address /run/kubernetes/containerd.sock -n k8s.io images import ${image}`);
  }
  await kubectl('label node node1 contiv.io/netmaster=true --overwrite');
  for (const name of ['10-namespace', '20-rbac', ...PROGRAMS]) await apply(manifest(name));
}, 400_000);

afterAll(async () => {
  fs.rmSync(folder, { recursive: true });
  await removeNamespace(SPACE);
  await coreDns(0);
  await kubectl(
    `-n ${SYSTEM} delete ${ALL.join(' ')} configmap/contiv configmap/contiv-authority --ignore-not-found`,
  );
  await kubectl(`-n ${SYSTEM} wait pod --all --for=delete --timeout=120s`);
  await kubectl('label node node1 contiv.io/netmaster-');
  for (const node of NODES) await must(node, 'sh -c', 'umount /var/lib/contiv && mount --make-private /run');
  await mustLab('start netmaster node1');
  for (const node of NODES) await mustLab(`start netplugin ${node}`);
  await mustLab('start netkube node1');
  await nodesReady();
  await coreDns(1);
  await kubectl('-n kube-system rollout status deployment coredns --timeout=240s');
}, 600_000);

it('all of it starts as pods, each let in by its service account, and nodes are ready by it', async () => {
  await rolledOut();
  await hostsReady();
  await nodesReady();
}, 600_000);

it('pods of two nodes reach each other and a service by its name, as policies say', async () => {
  await coreDns(1);
  await makeNamespace(SPACE);
  await pod('client', { namespace: SPACE, node: 'node1' });
  await pod('server', {
    namespace: SPACE,
    node: 'node2',
    labels: { app: 'server' },
    args: 'netexec --http-port=80',
  });
  await podsReady(SPACE);
  await kubectl(`-n ${SPACE} expose pod server --port=80`);
  const [address = ''] = await addressesOf('server', SPACE);
  await answers(address);
  await answers(`server.${SPACE}.svc.cluster.local`);
  await apply(
    JSON.stringify({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: 'closed', namespace: SPACE },
      spec: { podSelector: { matchLabels: { app: 'server' } }, policyTypes: ['Ingress'] },
    }),
  );
  await isSilent(address);
}, 600_000);

it('agents and netmaster that are replaced go on where those before were, under the same authority', async () => {
  const authority = (): Promise<string> =>
    kubectl(`-n ${SYSTEM} get configmap contiv-authority`, '-o', 'jsonpath={.data.ca\\.crt}');
  const before = await authority();
  expect(before).toContain('BEGIN CERTIFICATE');
  await kubectl(`-n ${SYSTEM} rollout restart ${ALL.join(' ')}`);
  await rolledOut();
  await hostsReady();
  expect(await authority()).toBe(before);
  const [address = ''] = await addressesOf('server', SPACE);
  await isSilent(address);
  await kubectl(`-n ${SPACE} delete networkpolicy closed`);
  await answers(address);
  await pod('later', { namespace: SPACE, node: 'node1' });
  await podsReady(SPACE);
}, 900_000);
