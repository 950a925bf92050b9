/**
 * packaging/kubernetes as it is: netmaster, netkube and each node's agent as pods, of the image that the script makes, with certificates. They
 * take the place of the lab's own, which are back in the end; no pod has a network of both.
 */
import { X509Certificate } from 'node:crypto';
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
  pod,
  podsReady,
  removeNamespace,
  tryKubectl,
} from './kubernetes.ts';
import { background, differences, feed, LAB, must, until } from './lab.ts';
import { ALL, openPackaged, SYSTEM, TLS } from './packaged.ts';

const NODES = ['node1', 'node2'];
const API = '192.168.50.11';
const SPACE = 'packaged';
const { install, putBack, ready, coreDns } = openPackaged(LAB);

const CLOSED = JSON.stringify({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'closed', namespace: SPACE },
  spec: { podSelector: { matchLabels: { app: 'server' } }, policyTypes: ['Ingress'] },
});

const asks = (target: string): Promise<string> =>
  inPod(`${SPACE}/client`, `curl -s -m 3 http://${target}/hostname`).then(({ out }) => out.trim());
const answers = (target: string): Promise<boolean> =>
  until(`${target} answers`, async () => (await asks(target)) === 'server', 120);
const isSilent = (target: string): Promise<boolean> =>
  until(`${target} answers no more`, async () => (await asks(target)) === '', 120);

/** What a cloud's nodes have until the cloud has said what they are: nodes need their network for that. */
const UNINITIALIZED = 'node.cloudprovider.kubernetes.io/uninitialized';

beforeAll(async () => {
  await kubectl(`taint node --all ${UNINITIALIZED}=true:NoSchedule`);
  await install();
}, 400_000);
afterAll(async () => {
  await tryKubectl(`taint node --all ${UNINITIALIZED}-`);
  await removeNamespace(SPACE);
  await putBack();
  expect(await differences(120)).toBe('');
}, 600_000);

it('all of it starts as pods, each let in by its service account, and nodes are ready by it, that no cloud has initialised', async () => {
  await ready();
  await kubectl(`taint node --all ${UNINITIALIZED}-`);
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
  await ready();
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

it("netmaster's pod renews its own certificate that is to end while it runs, and who knows the authority believes the next one", async () => {
  const DAY = 86_400_000;
  const file = (name: string): Promise<string> => must('node1', `cat ${TLS}/${name}`);
  const authority = { certificate: await file('ca.crt'), key: await file('ca.key') };
  const names = namesOf({ certificate: await file('netmaster.crt') });
  const pods = (): Promise<string> =>
    kubectl(
      `-n ${SYSTEM} get pods -l app=netmaster`,
      '-o',
      'jsonpath={.items[*].metadata.uid} {.items[*].status.containerStatuses[*].restartCount}',
    );
  const before = await pods();
  // As it is ten days before its end.
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 815 * DAY });
  const old = await issuePair(authority, { role: 'netmaster', name: 'node1', names }, 825 * DAY).finally(
    () => void vi.useRealTimers(),
  );
  expect(lifeOf(old.certificate).to).toBeGreaterThan(Date.now());
  await feed('node1', old.key, `sh -c 'cat > ${TLS}/netmaster.key'`);
  await feed('node1', old.certificate, `sh -c 'cat > ${TLS}/netmaster.crt'`);
  const ask = `curl -q -s --cacert ${TLS}/ca.crt -o /dev/null -w %{certs} https://${API}:9999/version`;
  const now = await until('another one to be shown', async () => {
    const [shown, now] = [await must('node1', ask), await file('netmaster.crt')];
    return now !== old.certificate.trim() && shown.includes(now) && now;
  });
  expect(lifeOf(now).to).toBeGreaterThan(Date.now() + 800 * DAY);
  expect(await pods()).toBe(before);
  expect(namesOf({ certificate: now })).toEqual(expect.arrayContaining(['node1', API]));
}, 600_000);

it('kernel, names and netmaster equal what runs', async () => {
  expect(await differences(120)).toBe('');
}, 200_000);
