import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { isolate, sh } from '../../../../test/isolation.ts';

const GOLDEN = path.join(import.meta.dirname, 'golden');

beforeAll(isolate);

it.each(fs.readdirSync(GOLDEN).sort())('the kernel takes %s, and once more in its place', (file) => {
  const load = (): string => sh(`cd '${GOLDEN}' && nft -f ${file} && nft -s list ruleset`);
  expect(load()).toBe(load());
  sh('nft flush ruleset');
});
