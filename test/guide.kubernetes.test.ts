/** The guide to Kubernetes, as somebody types it, and the manifests, as the API server takes them. */
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { blocks, openGuide, pages } from './guides.ts';
import { kubectl } from './kubernetes.ts';

const ROOT = path.dirname(import.meta.dirname);
const MANIFESTS = path.join(ROOT, 'packaging/kubernetes/manifests');

describe('the guide', () => {
  const guide = openGuide();
  afterAll(() => guide.close());
  const marked = pages()
    .flatMap((page) => blocks(page))
    .filter(({ mark }) => mark.kind === 'cluster');
  it.each(marked.map((each) => [`${each.page}:${each.number}`, each] as const))(
    '%s does what it says',
    (_, each) => guide.type(each),
  );
});

it.each(fs.readdirSync(MANIFESTS))('the API server takes manifest %s as it is', async (file) => {
  const said = await kubectl(`apply --dry-run=server --validate=strict -f ${path.join(MANIFESTS, file)}`);
  expect(said).toMatch(/server dry run/);
});
