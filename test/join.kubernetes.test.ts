/** A node's certificate by its service account, as a real API server says whose its token is. netmaster is one of the test's own. */
import { X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { requestCertificate } from '../src/tls/certificates.ts';
import { holderOf } from '../src/tls/identity.ts';
import { AGNHOST, apply, kubectl } from './kubernetes.ts';
import { type Background, background, must, until } from './lab.ts';

const ROOT = path.dirname(import.meta.dirname);
const MANIFESTS = path.join(ROOT, 'packaging/kubernetes/manifests');
const NAMESPACE = 'contiv-system';
const URL = 'https://127.0.0.1:9998';
const POD = 'join-test';

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec?: { readonly template: { readonly spec: { readonly volumes: readonly { name: string }[] } } };
}
const read = (file: string): Manifest[] =>
  parseAllDocuments(fs.readFileSync(path.join(MANIFESTS, file), 'utf8')).map(
    (each) => each.toJS() as Manifest,
  );
/** Of the agents' pods, as the manifests have it. */
const account = read('50-netplugin.yaml')
  .find(({ kind }) => kind === 'DaemonSet')
  ?.spec?.template.spec.volumes.find(({ name }) => name === 'account');
let folder: string;
let netmaster: Background | undefined;

beforeAll(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'contiv-test-'));
  await kubectl(`apply -f ${MANIFESTS}/10-namespace.yaml`);
  const all = [...read('30-netmaster.yaml'), ...read('50-netplugin.yaml')];
  for (const each of all)
    if (!/^(?:Deployment|DaemonSet)$/.test(each.kind)) await apply(JSON.stringify(each));
  const write = (file: string, text: string): void => fs.writeFileSync(path.join(folder, file), text);
  write('token', await kubectl(`-n ${NAMESPACE} create token netmaster`));
  write(
    'ca.crt',
    await kubectl(`-n ${NAMESPACE} get configmap kube-root-ca.crt`, '-o', 'jsonpath={.data.ca\\.crt}'),
  );
  write('namespace', NAMESPACE);
  const server = await kubectl('config view --minify', '-o', 'jsonpath={.clusters[0].cluster.server}');
  await must('node1', `${ROOT}/bin/netmaster init --dir ${folder}/tls`);
  const flags = `--listen 127.0.0.1:9998 --store memory --tls-dir ${folder}/tls --kubernetes ${server} --kubernetes-dir ${folder}`;
  netmaster = background('node1', `${ROOT}/bin/netmaster ${flags}`);
  // What netmaster publishes is in its volume: without that it would not start.
  await apply(
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: POD, namespace: NAMESPACE },
      spec: {
        nodeName: 'node2',
        hostNetwork: true,
        serviceAccountName: 'netplugin',
        automountServiceAccountToken: false,
        containers: [
          {
            name: 'main',
            image: AGNHOST,
            args: ['pause'],
            volumeMounts: [{ name: 'account', mountPath: '/account' }],
          },
        ],
        volumes: [account],
      },
    }),
  );
  await kubectl(`-n ${NAMESPACE} wait --for=condition=Ready pod/${POD} --timeout=240s`);
}, 400_000);

afterAll(async () => {
  await kubectl(`-n ${NAMESPACE} delete pod ${POD} --ignore-not-found --now`);
  await kubectl(`-n ${NAMESPACE} delete configmap contiv-authority --ignore-not-found`);
  await netmaster?.end();
  fs.rmSync(folder, { recursive: true, force: true });
}, 120_000);

/** Status and body. */
async function join(
  token: string,
  name: string,
  authority: string,
): Promise<{ status: string; text: string }> {
  const { request } = await requestCertificate(name);
  const ask = ['-s', '-w', '\n%{http_code}', '--cacert', authority, '-H', 'content-type: application/json'];
  const said = await must(
    'node1',
    'curl',
    ...ask,
    '-d',
    JSON.stringify({ token, name, request }),
    `${URL}/api/v1/join`,
  );
  const [status = '', ...text] = said.split('\n').reverse();
  return { status, text: text.reverse().join('\n') };
}

it('a pod of netplugin gets the certificate of its own node by what kubelet has given it, while it is there', async () => {
  const inPod = (file: string): Promise<string> =>
    kubectl(`-n ${NAMESPACE} exec ${POD} -- cat /account/${file}`);
  const token = await inPod('token');
  const authority = `${folder}/published.crt`;
  fs.writeFileSync(authority, `${await inPod('ca.crt')}\n`);

  const { status, text } = await join(token, 'node2', authority);
  expect(status, text).toBe('200');
  const { certificate } = JSON.parse(text) as { certificate: string };
  expect(holderOf(new X509Certificate(certificate))).toMatchObject({ role: 'host', name: 'node2' });
  expect(await join(token, 'node1', authority)).toMatchObject({ status: '403' });

  const forTheServer = await kubectl(`-n ${NAMESPACE} create token netplugin`);
  expect(await join(forTheServer, 'node2', authority)).toMatchObject({ status: '401' });
  const ofNoPod = await kubectl(`-n ${NAMESPACE} create token netplugin --audience=contiv`);
  expect(await join(ofNoPod, 'node2', authority)).toMatchObject({ status: '403' });

  await kubectl(`-n ${NAMESPACE} delete pod ${POD} --now`);
  await until('the token of a pod that is gone to be refused', async () => {
    return (await join(token, 'node2', authority)).status === '401';
  });
}, 200_000);
