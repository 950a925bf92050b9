/** The kernel is tried in namespaces of its own: this one can do all, and of what was done there nothing is left here. */
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { isolate, sh } from '../../../test/isolation.ts';
import { kernelFindings } from './kernel.ts';

const PROGRAM = [
  process.execPath,
  '--disable-warning=ExperimentalWarning',
  path.join(import.meta.dirname, '../main.ts'),
];
const traces = (): string =>
  sh('ip netns; ip -o link; nft list ruleset; cut -d" " -f5 /proc/thread-self/mountinfo');

beforeAll(isolate);

it('a kernel that can do all is said to, several at once, and nothing is left', async () => {
  const before = traces();
  for (const findings of await Promise.all([kernelFindings(PROGRAM), kernelFindings(PROGRAM)])) {
    expect(findings.map(({ of, state }) => [of, state])).toEqual([
      ['kernel', 'ok'],
      ['fast path', 'ok'],
    ]);
  }
  expect(traces()).toBe(before);
});

it('where it cannot be tried the line says why', async () => {
  expect(await kernelFindings(['/nonexistent'])).toEqual([
    {
      of: 'kernel',
      state: 'wrong',
      text: expect.stringMatching(/cannot be had: .*nonexistent/),
      remedy: expect.any(String),
    },
  ]);
});
