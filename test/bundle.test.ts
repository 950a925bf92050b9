/** The programs as they run: one file each (bin/.bundle). */
import { execFileSync } from 'node:child_process';
import { cpSync, readFileSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { packagesIn } from '../packaging/contents.ts';
import { temporaryFolder } from './folder.ts';

const ROOT = path.dirname(import.meta.dirname);

describe('a program', () => {
  beforeAll(() => void execFileSync(path.join(ROOT, 'bin/netctl'), ['version', '--help']));
  const textOf = (program: string): string => readFileSync(path.join(ROOT, `dist/${program}.cjs`), 'utf8');
  const packagesOf = (program: string): string[] =>
    packagesIn(program)
      .map((folder) => folder.replace(/^.*node_modules\//, ''))
      .sort();
  const LOG = [
    '@pinojs/redact',
    'atomic-sleep',
    'on-exit-leak-free',
    'pino',
    'pino-std-serializers',
    'quick-format-unescaped',
    'safe-stable-stringify',
    'sonic-boom',
    'thread-stream',
  ];
  const METRICS = ['@opentelemetry/api', 'bintrees', 'prom-client', 'tdigest'];

  /** What makes certificates and requests of them: loaded only then. */
  const CERTIFICATES = /^(?:@peculiar\/[\w-]+|asn1js|pvtsutils|pvutils|reflect-metadata|tslib|tsyringe)$/;

  it('holds the packages that it uses, and no others', () => {
    expect(packagesOf('netctl')).toEqual(['@sinclair/typebox', 'ipaddr.js', 'yaml']);
    expect(packagesOf('netplugin').filter((name) => !CERTIFICATES.test(name))).toEqual(
      [...LOG, ...METRICS, '@sinclair/typebox', 'ipaddr.js'].sort(),
    );
    expect(packagesOf('names')).toEqual([...LOG, 'ipaddr.js'].sort());
    expect(packagesOf('netmaster')).toEqual(expect.arrayContaining([...LOG, ...METRICS, 'fastify']));
    expect(packagesOf('netmaster')).toContain('tlds');
    expect(packagesOf('netkube')).toEqual(
      expect.arrayContaining([...LOG, ...METRICS, '@kubernetes/client-node', 'ipaddr.js']),
    );
    expect(packagesOf('netkube')).not.toContain('fastify');
  });

  // netkube has it by the client of Kubernetes.
  it('has what asks an OpenID provider in netmaster, evaluated where it is first imported', () => {
    expect(textOf('netmaster')).toMatch(/__esm\(\{"node_modules\/oauth4webapi\//);
    for (const program of ['netctl', 'netplugin', 'names'])
      expect(packagesOf(program)).not.toContain('oauth4webapi');
  });

  it('for container runtimes needs nothing of the machine that it is put on', () => {
    const program = readFileSync(path.join(ROOT, 'dist/contiv-cni'));
    expect(program.toString('latin1', 0, 4)).toBe('\x7fELF');
    // Program headers of 64 bits (elf(5)): none names an interpreter, PT_INTERP.
    const [at, size, count] = [32, 54, 56].map((offset) => program.readUInt16LE(offset)) as [
      number,
      number,
      number,
    ];
    const types = Array.from({ length: count }, (_, i) => program.readUInt32LE(at + i * size));
    expect(types).toContain(1);
    expect(types).not.toContain(3);
  });

  // One other character and each takes two bytes in memory, where the text stays.
  it('is ASCII', () => {
    for (const program of ['netctl', 'netmaster', 'netplugin', 'netkube', 'names'])
      expect(/[^\0-\x7f]/.exec(textOf(program))?.[0], program).toBeUndefined();
  });

  it('asks for nothing native where it does not touch the kernel', () => {
    expect(textOf('netplugin')).toContain('require("koffi")');
    for (const program of ['netctl', 'netmaster', 'netkube']) expect(textOf(program)).not.toContain('koffi');
  });
});

describe('in a checkout', () => {
  /** With sources of its own. */
  function checkout(): string {
    const folder = temporaryFolder();
    for (const part of ['src', 'bin', 'package.json', 'package-lock.json'])
      cpSync(path.join(ROOT, part), path.join(folder, part), { recursive: true });
    symlinkSync(path.join(ROOT, 'node_modules'), path.join(folder, 'node_modules'));
    return folder;
  }
  const version = (folder: string): string =>
    execFileSync(path.join(folder, 'bin/netctl'), ['version', '--help'], { encoding: 'utf8' });
  const madeAt = (folder: string): number => statSync(path.join(folder, 'dist/netctl.cjs')).mtimeMs;

  it('what runs follows from the sources as they are, also from ones that are dated earlier, and is made once', () => {
    const folder = checkout();
    const before = version(folder);
    const made = madeAt(folder);
    expect(version(folder)).toBe(before);
    expect(madeAt(folder)).toBe(made);

    const file = path.join(folder, 'src/netctl/version.ts');
    const { atime, mtime } = statSync(file);
    const changed = readFileSync(file, 'utf8').replace('shows the versions', 'says what was changed');
    writeFileSync(file, changed);
    utimesSync(file, atime, mtime);
    expect(version(folder)).toContain('says what was changed');
    expect(before).not.toContain('says what was changed');
  });

  it('sources that cannot be bundled are said, and nothing older runs in their place', () => {
    const folder = checkout();
    version(folder);
    rmSync(path.join(folder, 'src/netctl/version.ts'));
    expect(() => version(folder)).toThrow(/could not be bundled/);
  });

  it('a copy without sources runs what it has', () => {
    const folder = checkout();
    const text = version(folder);
    rmSync(path.join(folder, 'src'), { recursive: true });
    expect(version(folder)).toBe(text);
  });
});
