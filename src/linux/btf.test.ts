import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readKernelTypes } from './btf.ts';

const INT = 1;
const STRUCT = 4;
const FUNC = 12;

let folder: string;
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'btf-'));
});
afterEach(() => fs.rmSync(folder, { recursive: true }));

/** Places of names among strings that begin after `before` bytes of the kernel's. */
function strings(names: readonly string[], before = 0) {
  const text = `\0${names.map((name) => `${name}\0`).join('')}`;
  return { bytes: Buffer.from(text), at: (name: string) => before + text.indexOf(`\0${name}\0`) + 1 };
}

/** struct btf_type, and what follows it. */
const type = (name: number, kind: number, ...more: readonly number[]): Buffer =>
  words(name, (kind << 24) | (kind === STRUCT ? more.length / 3 : 0), 0, ...more);

function words(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [i, value] of values.entries()) bytes.writeUInt32LE(value >>> 0, i * 4);
  return bytes;
}

function write(file: string, types: readonly Buffer[], names: Buffer): void {
  const all = Buffer.concat(types);
  const header = words(0x1eb9f, 24, 0, all.length, all.length, names.length);
  fs.writeFileSync(path.join(folder, file), Buffer.concat([header, all, names]));
}

const read = () => readKernelTypes(['look', 'free'], ['conn.state', 'conn.time'], 'track', folder);

describe('types of the kernel', () => {
  it('tell numbers of functions and offsets of fields', () => {
    const { bytes, at } = strings(['int', 'conn', 'time', 'state', 'look', 'free']);
    const fields = [at('time'), 1, 32, at('state'), 1, 64];
    const functions = ['free', 'look'].map((name) => type(at(name), FUNC));
    write('vmlinux', [type(at('int'), INT, 0), type(at('conn'), STRUCT, ...fields), ...functions], bytes);
    write('track', [], strings([]).bytes);
    const { functions: numbers, fields: offsets, module } = read();
    expect(Object.fromEntries(numbers)).toEqual({ free: 3, look: 4 });
    expect(Object.fromEntries(offsets)).toEqual({ 'conn.time': 4, 'conn.state': 8 });
    expect(module).toBeUndefined();
  });

  it('go on in a module, whose names may be among the kernel’s strings or its own', () => {
    const kernel = strings(['int', 'state', 'free']);
    write('vmlinux', [type(kernel.at('int'), INT, 0), type(0, INT, 0)], kernel.bytes);
    const own = strings(['conn', 'time', 'look'], kernel.bytes.length);
    const fields = [own.at('time'), 1, 0, kernel.at('state'), 1, 128];
    const functions = [type(own.at('look'), FUNC), type(kernel.at('free'), FUNC)];
    write('track', [type(own.at('conn'), STRUCT, ...fields), ...functions], own.bytes);
    const { functions: numbers, fields: offsets, module } = read();
    expect(Object.fromEntries(numbers)).toEqual({ look: 4, free: 5 });
    expect(Object.fromEntries(offsets)).toEqual({ 'conn.time': 0, 'conn.state': 16 });
    expect(module).toBe('track');
  });

  it('say nothing of functions where the module is not loaded', () => {
    const { bytes, at } = strings(['int']);
    write('vmlinux', [type(at('int'), INT, 0)], bytes);
    expect(read()).toEqual({ functions: new Map(), fields: new Map() });
  });

  it('are refused where the file is none', () => {
    fs.writeFileSync(path.join(folder, 'vmlinux'), '');
    expect(read).toThrow(/vmlinux: not BTF/);
  });
});
