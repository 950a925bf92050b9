import fs from 'node:fs';
import { expect, it } from 'vitest';
import { VERSION } from './version.ts';

it("the version that the programs tell is the package's", () => {
  const file = new URL('../../package.json', import.meta.url);
  expect(VERSION).toBe(JSON.parse(fs.readFileSync(file, 'utf8')).version);
});
