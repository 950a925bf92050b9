import { beforeAll, expect, it } from 'vitest';
import { temporaryFolder } from '../../test/folder.ts';
import { isolate, sh } from '../../test/isolation.ts';
import { readJson, writeJson } from './file.ts';

beforeAll(isolate);

it('a state file is the old one, whole, when the disk is full', () => {
  const folder = temporaryFolder();
  sh(`mount -t tmpfs -o size=64k tmpfs ${folder}`);
  try {
    const file = `${folder}/state.json`;
    writeJson(file, { kept: true });
    expect(() => writeJson(file, 'x'.repeat(100_000))).toThrow(/ENOSPC/);
    expect(readJson(file)).toEqual({ kept: true });
    // The draft that filled it is written over.
    writeJson(file, { kept: false });
    expect(readJson(file)).toEqual({ kept: false });
  } finally {
    sh(`umount ${folder}`);
  }
});
