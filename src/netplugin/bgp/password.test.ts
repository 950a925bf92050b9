import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../../../test/folder.ts';
import { readPassword } from './password.ts';

const isRoot = process.getuid?.() === 0;

function written(text: string, mode = 0o600): string {
  const file = path.join(temporaryFolder(), 'tor');
  fs.writeFileSync(file, text, { mode });
  fs.chmodSync(file, mode);
  return file;
}

it.runIf(isRoot)('a password is the one line of a file of root’s alone', () => {
  expect(readPassword(written('s3cret {};#\n'))).toEqual({ text: 's3cret {};#' });
  expect(readPassword(written('x'.repeat(80)))).toEqual({ text: 'x'.repeat(80) });
});

it.runIf(isRoot).each<[string, string, number, RegExp]>([
  ['others read it', 'secret', 0o644, /not root’s alone/],
  ['it has several lines', 'a\nb\n', 0o600, /not one line/],
  ['it is empty', '\n', 0o600, /not one line/],
  ['it would end the text', 'a"; include "/etc/shadow', 0o600, /not one line/],
  ['it is too long for the kernel', 'x'.repeat(81), 0o600, /not one line/],
])('is refused where %s, without being told', (_, text, mode, problem) => {
  const found = readPassword(written(text, mode));
  expect(found).toMatchObject({ problem: expect.stringMatching(problem), remedy: expect.any(String) });
  expect(JSON.stringify(found)).not.toContain(text.trim() || '""');
});

it('is refused where there is no such file, or another thing', () => {
  const folder = temporaryFolder();
  expect(readPassword(path.join(folder, 'none'))).toHaveProperty('problem');
  fs.symlinkSync('/etc/hostname', path.join(folder, 'link'));
  expect(readPassword(path.join(folder, 'link'))).toMatchObject({
    problem: expect.stringMatching(/not a file/),
  });
});
