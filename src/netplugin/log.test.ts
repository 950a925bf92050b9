import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { expect, it } from 'vitest';

it('is complete where standard error is taken away in the moment after a line', () => {
  const [log, libc] = ['log.ts', '../linux/libc.ts'].map((file) => path.join(import.meta.dirname, file));
  const script = `
    import { openLog } from '${log}';
    import { discarding } from '${libc}';
    const log = openLog('info', 'node1');
    for (let line = 0; line < 20; line++) {
      log.info({ line }, 'written');
      discarding(2, () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20));
      await new Promise((done) => setTimeout(done, 1));
    }`;
  const { stderr, status } = spawnSync(process.execPath, ['--input-type=module', '--eval', script], {
    encoding: 'utf8',
    env: { ...process.env, NODE_NO_WARNINGS: '1' },
  });
  expect(status, stderr).toBe(0);
  const lines = stderr.trim().split('\n');
  expect(lines.map((line) => JSON.parse(line).line)).toEqual(Array.from({ length: 20 }, (_, line) => line));
});
