/**
 * packaging/kubernetes as it is: netmaster, netkube and each node's agent as pods, of the image that the script makes, with certificates. They
 * take the place of the lab's own, which are back in the end; no pod has a network of both.
 */
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { namesOf } from '../src/netmaster/security.ts';
import { issuePair } from '../src/tls/certificates.ts';
import { lifeOf } from '../src/tls/identity.ts';
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
import { background, differences, feed, must, mustLab, until } from './lab.ts';

const PACKAGING = path.join(path.dirname(import.meta.dirname), 'packaging/kubernetes');
const NODES = ['node1', 'node2'];
const API = '192.168.50.11';
const SYSTEM = 'contiv-system';
const SPACE = 'packaged';
/** What manifests start. */
const PROGRAMS = ['30-netmaster', '40-netkube', '50-netplugin'];
const ALL = ['deployment/netmaster', 'deployment/netkube', 'daemonset/netplugin'];

/** Of netmaster, on node1. */
const TLS = '/var/lib/contiv/netmaster/tls';
/** Hosts' and netkube's certificates: each is renewed after a minute. */
const LIFE = '90s';

/**
 * As in the guide, with the cluster's addresses. netmaster's store is in a folder that each host of the lab has for itself: its own is the
 * machine's there.
 */
const manifest = (name: string): string =>
  fs
    .readFileSync(path.join(PACKAGING, `manifests/${name}.yaml`), 'utf8')
    .replace('https://NETMASTER:9999', `https://${API}:9999`)
    .replace("'KUBERNETES'", `'${API}'`)
    .replace('hostPath: { path: /var/lib/contiv-netmaster,', 'hostPath: { path: /var/lib/contiv/netmaster,')
    .replace('- --kubernetes=', `- --host-certificates=${LIFE}\n            - --kubernetes=`);

const CLOSED = JSON.stringify({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'closed', namespace: SPACE },
  spec: { podSelector: { matchLabels: { app: 'server' } }, policyTypes: ['Ingress'] },
});

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
  // The lab's check asks netmaster by the operator's certificate that is there.
  await must('node1', `ln -s ${TLS} /var/lib/contiv/tls`);
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
  expect(await differences(120)).toBe('');
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
  await apply(CLOSED);
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

it('certificates of agents and of netkube are renewed again and again while they hold, and nothing is refused meanwhile', async () => {
  const logs = async (): Promise<string> =>
    (
      await Promise.all(
        ['netplugin', 'netkube'].map((app) => kubectl(`-n ${SYSTEM} logs -l app=${app} --tail=-1`)),
      )
    ).join('\n');
  const REFUSED = /not let in|has ended|not renewed/g;
  const pem = (node: string): Promise<string> => must(node, 'cat /var/lib/contiv/host/host.pem');
  const seen = new Map(NODES.map((node): [string, Set<string>] => [node, new Set()]));
  const calls = background(
    'node1',
    `kubectl -n ${SPACE} exec client -- sh -c`,
    'while :; do curl -s -m 5 "http://$0/hostname" || echo refused; echo; sleep 0.2; done',
    (await addressesOf('server', SPACE))[0] as string,
  );
  const refusals = async (): Promise<number> => [...(await logs()).matchAll(REFUSED)].length;
  const before = await refusals();
  await until(
    'the third certificate of each agent',
    async () => {
      for (const [node, serials] of seen) {
        const now = await pem(node);
        expect(lifeOf(now).to, node).toBeGreaterThan(Date.now());
        serials.add(new X509Certificate(now).serialNumber);
      }
      return [...seen.values()].every(({ size }) => size >= 3);
    },
    400,
  );
  await calls.end();
  expect(calls.lines.filter((line) => line !== '' && line !== 'server')).toEqual([]);
  expect(calls.lines.length).toBeGreaterThan(100);
  expect(await refusals()).toBe(before);
  // netkube's are of the same length: what it follows and writes goes on.
  await apply(CLOSED);
  await isSilent((await addressesOf('server', SPACE))[0] as string);
}, 600_000);

it("a start of netmaster's pod renews its certificate that is to end, and who knows the authority believes the next one", async () => {
  const DAY = 86_400_000;
  const file = (name: string): Promise<string> => must('node1', `cat ${TLS}/${name}`);
  const authority = { certificate: await file('ca.crt'), key: await file('ca.key') };
  const names = namesOf({ certificate: await file('netmaster.crt'), key: '' });
  // As it is ten days before its end.
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 815 * DAY });
  const old = await issuePair(authority, { role: 'netmaster', name: 'node1', names }, 825 * DAY).finally(
    () => void vi.useRealTimers(),
  );
  expect(lifeOf(old.certificate).to).toBeGreaterThan(Date.now());
  await feed('node1', old.key, `sh -c 'cat > ${TLS}/netmaster.key'`);
  await feed('node1', old.certificate, `sh -c 'cat > ${TLS}/netmaster.crt'`);
  await kubectl(`-n ${SYSTEM} rollout restart deployment/netmaster`);
  await rolledOut();
  await hostsReady();
  const shown = await must(
    'node1',
    `curl -q -s --cacert ${TLS}/ca.crt -o /dev/null -w %{certs} https://${API}:9999/version`,
  );
  const now = await file('netmaster.crt');
  expect(lifeOf(now).to).toBeGreaterThan(Date.now() + 800 * DAY);
  expect(shown).toContain(now.trim());
  expect(namesOf({ certificate: now, key: '' })).toEqual(expect.arrayContaining(['node1', API]));
}, 600_000);

it('kernel, names and netmaster equal what runs', async () => {
  expect(await differences(120)).toBe('');
}, 200_000);
