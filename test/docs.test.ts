/** The reference says what the code does, the manifests what the chart does; pages that the docs lead to are there. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { reference } from '../docs/generate.ts';
import { manifests } from '../docs/manifests.ts';

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
