import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { pino } from 'pino';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../../test/folder.ts';
import { removeFiles } from './files.ts';
import { openHostKeys } from './hostKeys.ts';

function given() {
  const folder = temporaryFolder();
  const lines: string[] = [];
  const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) });
  const file = path.join(folder, 'wireguard', 'keys.json');
  return { folder, file, lines, open: () => openHostKeys(folder, log) };
}

it('a key of each epoch is made once, and outlives the agent', () => {
  const { open } = given();
  const first = open();
  expect(first.known).toEqual([]);
  const keys = first.of([1]);
  expect(keys).toMatchObject([{ epoch: 1, key: expect.stringMatching(/^[A-Za-z0-9+/]{43}=$/) }]);
  expect(first.of([1])).toBe(keys);
  const again = open();
  expect(again.known).toEqual(keys);
  expect(again.of([1])).toEqual(keys);
  expect(again.secretOf(keys[0]?.key ?? '')).toEqual(first.secretOf(keys[0]?.key ?? ''));
});

it('keys of epochs that do not count any more are forgotten, on disk too', () => {
  const { open, file } = given();
  const keys = open();
  const [one] = keys.of([1]);
  const both = keys.of([1, 2]);
  expect(both[0]).toEqual(one);
  expect(both[1]?.key).not.toBe(one?.key);
  expect(keys.of([2])).toEqual([both[1]]);
  expect(keys.secretOf(one?.key ?? '')).toBeUndefined();
  expect(Object.keys(JSON.parse(fs.readFileSync(file, 'utf8')))).toEqual(['2']);
  keys.of([]);
  expect(fs.readFileSync(file, 'utf8')).toBe('{}');
});

it('keys stay where only older epochs are told, as of a store that was put back, and those to come follow them', () => {
  const { open, file } = given();
  const keys = open();
  keys.of([1]);
  const both = keys.of([1, 2]);
  expect(keys.of([1])).toBe(both);
  const two = keys.of([2]);
  expect(keys.of([1])).toBe(two);
  // What is on its way out is not made anew.
  expect(keys.of([1, 2])).toBe(two);
  expect(open().of([1])).toEqual(two);
  expect(Object.keys(JSON.parse(fs.readFileSync(file, 'utf8')))).toEqual(['2']);
  const later = keys.of([2, 3]);
  expect(later).toEqual([two[0], { epoch: 3, key: expect.any(String) }]);
  expect(keys.of([3])).toEqual([later[1]]);
  expect(keys.of([])).toEqual([]);
});

it('keys that are another host’s too are all made anew, on disk as well', () => {
  const { open } = given();
  const keys = open();
  const before = keys.of([1, 2]);
  keys.renew();
  expect(keys.known).toEqual([]);
  expect(keys.secretOf(before[0]?.key ?? '')).toBeUndefined();
  const after = keys.of([1, 2]);
  expect(after.map(({ epoch }) => epoch)).toEqual([1, 2]);
  expect(before.filter(({ key }) => after.some((k) => k.key === key))).toEqual([]);
  expect(open().known).toEqual(after);
  // Also where none is to be there, as encryption was taken back.
  keys.renew();
  expect(keys.of([])).toEqual([]);
  expect(open().known).toEqual([]);
});

it('nobody else may read them, and no line of the log has one', () => {
  const { folder, file, open, lines } = given();
  const secret = open().secretOf(open().of([1])[0]?.key ?? '');
  expect(fs.statSync(file).mode & 0o777).toBe(0o600);
  expect(fs.statSync(path.dirname(file)).mode & 0o777).toBe(0o700);
  // A broken one is replaced, and what it has is not told.
  fs.writeFileSync(file, `{"1": "${secret?.toString('base64')}"`);
  expect(open().of([1])).toHaveLength(1);
  expect(lines.join()).toContain('this host makes new keys');
  expect(lines.join()).not.toContain(secret?.toString('base64').slice(0, 12));
  removeFiles({ stateDir: folder, controlSocket: path.join(folder, 'run', 'n.sock'), keepState: false });
  expect(fs.existsSync(path.dirname(file))).toBe(false);
});

it('where they cannot be kept there is none, and why is said', () => {
  const { folder, file, open, lines } = given();
  fs.writeFileSync(path.join(folder, 'wireguard'), 'a file in the way');
  const keys = open();
  expect(keys.of([1])).toEqual([]);
  expect(keys.problem).toMatch(`the keys of this host cannot be written to ${file}`);
  keys.of([1]);
  expect(lines.filter((line) => line.includes('cannot be written'))).toHaveLength(1);
});

it('public keys are what WireGuard’s own program makes of the private ones', (context) => {
  try {
    execFileSync('wg', ['--version']);
  } catch {
    context.skip(); // wireguard-tools is not needed otherwise
  }
  const { open } = given();
  const keys = open();
  for (const { key } of keys.of([1, 2])) {
    const secret = keys.secretOf(key)?.toString('base64') ?? '';
    expect(execFileSync('wg', ['pubkey'], { input: secret, encoding: 'utf8' }).trim()).toBe(key);
  }
});
