/**
 * The chart by helm, which is built for it, and what it makes by kubeconform, strictly: that Kubernetes knows each field that stands there.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { GIVEN, manifests, NAMESPACE } from '../docs/manifests.ts';
import { LOCATION, writeSchemas } from './kubernetesSchemas.ts';

const ROOT = path.dirname(import.meta.dirname);
const CHART = path.join(ROOT, 'packaging/kubernetes/chart');
const GUIDE = path.join(ROOT, 'docs/guide');
const judges = execFileSync(path.join(ROOT, 'lab/chart/build.sh'), ['where'], { encoding: 'utf8' }).trim();
const schemas = fs.mkdtempSync(path.join(os.tmpdir(), 'contiv-test-'));
const made = [...manifests()]
  .filter(([name]) => name.startsWith('manifests/'))
  .map(([, text]) => text)
  .join('\n---\n');

beforeAll(() => writeSchemas(schemas, fs.readFileSync(path.join(CHART, 'crds/contiv.yaml'), 'utf8')));
afterAll(() => fs.rmSync(schemas, { recursive: true }));

const objects = (text: string): { kind: string; metadata: { name: string } }[] =>
  parseAllDocuments(text)
    .map((each) => each.toJS())
    .filter((each) => each !== null);

/** Which version it renders for where it asks no cluster was given when it was built, or not. */
const helm = (command: string, ...settings: string[]): string =>
  execFileSync(
    `${judges}/helm`,
    [
      ...command.split(' '),
      CHART,
      ...['--namespace', NAMESPACE, '--kube-version', '1.30.0'],
      ...[...Object.entries(GIVEN).map((pair) => pair.join('=')), ...settings].flatMap((s) => ['--set', s]),
    ],
    { encoding: 'utf8' },
  );
const template = (...settings: string[]): string => helm('template --include-crds contiv', ...settings);

interface Judged {
  readonly kind: string;
  readonly name: string;
  readonly status: string;
  readonly msg: string;
}
function judge(text: string): Judged[] {
  const flags = ['-strict', '-verbose', '-output', 'json', '-schema-location', `${schemas}/${LOCATION}`];
  const { stdout } = spawnSync(`${judges}/kubeconform`, flags, { input: text, encoding: 'utf8' });
  const { resources } = JSON.parse(stdout) as { resources: Judged[] };
  // A document of comments alone is one too.
  return resources.filter(({ kind }) => kind !== '');
}
/** Each object is judged, and none found at fault. */
function expectTaken(text: string): void {
  const named = objects(text).map(({ kind, metadata }) => `${kind} ${metadata.name}`);
  const judged = judge(text);
  expect(judged.filter(({ status }) => status !== 'statusValid')).toEqual([]);
  expect(judged.map(({ kind, name }) => `${kind} ${name}`).sort()).toEqual(named.sort());
  expect(named).not.toEqual([]);
}

it('helm finds no fault in the chart, and makes the same objects of it as make docs', () => {
  expect(helm('lint --strict')).toContain('0 chart(s) failed');
  const texts = (text: string): string[] => objects(text).map((each) => JSON.stringify(each));
  expect(texts(template()).sort()).toEqual(texts(made).sort());
});

it.each([
  '',
  'subnet6=fd32::/64',
  'subnet= subnet6=fd32::/64 netmaster.url=https://[fd00:50::11]:9999 kubernetes.host=[fd00:50::11]',
  'netmaster.run=false netmaster.url=https://10.0.0.1:9999\\,https://10.0.0.2:9999',
  'image=registry.example/contiv:1 kubernetes.port=443',
])('Kubernetes knows all that helm makes of the chart with "%s"', (settings) => {
  expectTaken(template(...settings.split(' ').filter(Boolean)));
});

it('Kubernetes knows all that stands in the manifests and in files of the guide', () => {
  const files = fs.readdirSync(GUIDE).filter((name) => /^kubernetes-.*\.yaml$/.test(name));
  expect(files.length).toBeGreaterThan(2);
  expectTaken(
    [made, ...files.map((name) => fs.readFileSync(path.join(GUIDE, name), 'utf8'))].join('\n---\n'),
  );
});

it.each([
  ['hostPID: true', 'hostPid: true', 'DaemonSet', /'hostPid' not allowed/],
  ['maxUnavailable: 1 } }\n  template', 'maxUnavailabel: 1 } }\n  template', 'DaemonSet', /'maxUnavailabel'/],
  ['path: /readyz, port: 9996', 'path: /readyz, port: [9996]', 'Deployment', /port': got array/],
  ['replicas: 2', 'replicas: two', 'Deployment', /replicas': got string/],
  ['selector: { matchLabels: { app: netplugin } }', '', 'DaemonSet', /missing property 'selector'/],
  ['resources: [tokenreviews]', 'resource: [tokenreviews]', 'ClusterRole', /'resource' not allowed/],
  ['scope: Cluster', 'scoped: Cluster', 'CustomResourceDefinition', /'scoped' not allowed/],
])('%j that reads %j is told', (right, wrong, kind, why) => {
  const broken = made.replace(right, wrong);
  expect(broken).not.toBe(made);
  const faults = judge(broken).filter(({ status }) => status !== 'statusValid');
  expect(faults).toMatchObject([{ kind, status: 'statusInvalid', msg: expect.stringMatching(why) }]);
});

it('tells of a custom resource with a field that it has not, and of a kind that nobody knows', () => {
  const group = fs.readFileSync(path.join(GUIDE, 'kubernetes-group.yaml'), 'utf8');
  const faults = (text: string): string[] =>
    judge(text).flatMap(({ kind, status, msg }) => (status === 'statusValid' ? [] : [`${kind}: ${msg}`]));
  expect(faults(group.replace('policyName:', 'policy:'))).toMatchObject([
    expect.stringMatching(/^Rule: .*'policy' not allowed/),
  ]);
  expect(faults(group.replace('kind: EndpointGroup', 'kind: EndpointGruop'))).toMatchObject([
    expect.stringMatching(/^EndpointGruop: could not find schema/),
  ]);
});
