/** The reference says what the code does, the manifests what the chart does; pages that the docs lead to are there. */
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { reference } from '../docs/generate.ts';
import { GIVEN, manifests, NAMESPACE } from '../docs/manifests.ts';

const ROOT = path.dirname(import.meta.dirname);
const DOCS = path.join(ROOT, 'docs');
const pages = [
  'README.md',
  ...fs.readdirSync(DOCS, { recursive: true, encoding: 'utf8' }).map((f) => `docs/${f}`),
].filter((file) => file.endsWith('.md'));

it.each([...(await reference())])('docs/reference/%s is what make docs writes', (name, text) => {
  expect(fs.readFileSync(path.join(DOCS, 'reference', name), 'utf8')).toBe(text);
});

it.each([...manifests()])('packaging/kubernetes/%s is what make docs writes', (name, text) => {
  expect(fs.readFileSync(path.join(ROOT, 'packaging/kubernetes', name), 'utf8')).toBe(text);
});

/** Helm takes four minutes of a processor to build: where there is one on the PATH it is asked. */
const hasHelm = spawnSync('helm', ['version']).status === 0;
if (!hasHelm)
  process.stdout.write('docs.test: there is no helm on the PATH, so the chart is not linted by it\n');
it.runIf(hasHelm)('helm finds no fault in the chart, and makes the same objects of it as make docs', () => {
  const chart = path.join(ROOT, 'packaging/kubernetes/chart');
  const given = Object.entries(GIVEN).flatMap(([value, text]) => ['--set', `${value}=${text}`]);
  const helm = (...words: string[]): string =>
    execFileSync('helm', [...words, chart, '--namespace', NAMESPACE, ...given], { encoding: 'utf8' });
  expect(helm('lint', '--strict')).toContain('0 chart(s) failed');
  const objects = (text: string): string[] =>
    parseAllDocuments(text)
      .map((each) => JSON.stringify(each.toJS()))
      .filter((each) => each !== 'null');
  const made = [...manifests()].filter(([name]) => name.startsWith('manifests/'));
  // Which version it renders for where it asks no cluster was given when it was built, or not.
  expect(objects(helm('template', '--include-crds', '--kube-version', '1.30.0', 'contiv')).sort()).toEqual(
    made.flatMap(([, text]) => objects(text)).sort(),
  );
});

describe.each(pages)('%s', (page) => {
  const text = fs.readFileSync(path.join(ROOT, page), 'utf8');
  it('leads to files that exist', () => {
    const links = [...text.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)].map((m) => m[1] as string);
    const missing = links.filter(
      (link) => !/^[a-z]+:/.test(link) && !fs.existsSync(path.join(ROOT, path.dirname(page), link)),
    );
    expect(missing).toEqual([]);
  });
});

it('architecture.md says of files that are there where what is decided, by names that they have', () => {
  const text = fs.readFileSync(path.join(DOCS, 'architecture.md'), 'utf8');
  const table = text.match(/\n## Where it is decided\n(.*?)\n## /s)?.[1] ?? '';
  const places = [...table.matchAll(/`([\w/]+\.ts)`(?:, (?:chain )?`([\w-]+)`)?/g)];
  const wrong = places.flatMap(([place, file = '', name = '']) => {
    const found = [file, `netmaster/${file}`, `netplugin/${file}`]
      .map((f) => path.join(ROOT, 'src', f))
      .find(fs.existsSync);
    const has = found !== undefined && fs.readFileSync(found, 'utf8').includes(name.replace(/^--/, ''));
    return has ? [] : [place];
  });
  expect(places.length).toBeGreaterThan(20);
  expect(wrong).toEqual([]);
});
