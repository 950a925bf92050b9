import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../test/folder.ts';
import { readJson, writeJson } from './file.ts';

const newFile = (): string => path.join(temporaryFolder(), 'state.json');

describe('a state file', () => {
  it('reads as it was written', async () => {
    const file = newFile();
    const value = { networks: [['id', { tenant: 'blue' }]], text: 'ü\n', none: null };
    await writeJson(file, value);
    expect(readJson(file, 'nothing is lost')).toEqual(value);
    await writeJson(file, []);
    expect(readJson(file, 'nothing is lost')).toEqual([]);
  });

  it('is undefined where there is none', () => {
    expect(readJson(newFile(), 'nothing is lost')).toBeUndefined();
  });

  it('is for the agent alone', async () => {
    const file = newFile();
    await writeJson(file, {});
    expect(fs.statSync(file).mode & 0o777).toBe(0o600);
  });

  it('outlives a kill in the middle of writing: the draft does not count', async () => {
    const file = newFile();
    await writeJson(file, { kept: true });
    fs.writeFileSync(`${file}.new`, '{"kept":fal');
    expect(readJson(file, 'nothing is lost')).toEqual({ kept: true });
    await writeJson(file, { kept: false });
    expect(readJson(file, 'nothing is lost')).toEqual({ kept: false });
    expect(fs.readdirSync(path.dirname(file))).toEqual(['state.json']);
  });

  it.each(['', '{"kept":tr', 'hello'])('that holds %j is refused by its name, with what to do', (text) => {
    const file = newFile();
    fs.writeFileSync(file, text);
    expect(() => readJson(file, 'nothing is lost')).toThrow(
      `${file}: not JSON; restore it, or move it away and start again: nothing is lost`,
    );
  });

  it('that cannot be read or written is an error, not an empty one', async () => {
    const folder = temporaryFolder();
    expect(() => readJson(folder, 'nothing is lost')).toThrow(/EISDIR/);
    await expect(writeJson(path.join(folder, 'missing', 'state.json'), {})).rejects.toThrow(/ENOENT/);
  });
});
