/** The guide to Kubernetes, as somebody types it, and the manifests, as the API server takes them. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { kubectl } from './kubernetes.ts';
import { must } from './lab.ts';

const ROOT = path.dirname(import.meta.dirname);
const MANIFESTS = path.join(ROOT, 'packaging/kubernetes/manifests');

/** The commands of a section, block by block; files are those of this checkout. */
function commands(section: string): string[] {
  const text = fs.readFileSync(path.join(ROOT, 'docs/guide/kubernetes.md'), 'utf8');
  const part = text.split(/\n## /).find((each) => each.startsWith(section)) ?? '';
  return part
    .split('\n')
    .filter((line) => line.startsWith('    '))
    .map((line) => line.trim().replace(/-f (docs|packaging)/g, `-f ${ROOT}/$1`));
}

describe('the guide', () => {
  it.each(['From an empty cluster', "contiv's objects by kubectl"])(
    '%s: does what it says',
    async (section) => {
      const typed = commands(section);
      expect(typed.length).toBeGreaterThan(3);
      for (const line of typed) await must('node1', 'sh -c', line);
    },
  );
});

it.each(fs.readdirSync(MANIFESTS))('the API server takes manifest %s as it is', async (file) => {
  const said = await kubectl(`apply --dry-run=server --validate=strict -f ${path.join(MANIFESTS, file)}`);
  expect(said).toMatch(/server dry run/);
});
