/** What a release is made of: packaging/files and what is made of that. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { VERSION } from '../src/model/version.ts';

const ROOT = path.dirname(import.meta.dirname);
const OUT = path.join(ROOT, 'dist/packages-unit');
const sh = (line: string, cwd = OUT): string =>
  execFileSync('sh', ['-euc', line], {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, SOURCE_DATE_EPOCH: '1700000000' },
  });

const PACKAGES = ['netctl', 'netmaster', 'netplugin'];
const file = (name: string): string => sh(`ls contiv-${name}_*.deb`).trim();
/** Mode and place of each. */
const contents = (name: string): string[] =>
  sh(`dpkg-deb -c ${file(name)}`)
    .trim()
    .split('\n')
    .map((line) => line.replace(/^(\S+) \S+ +\d+ \S+ \S+ /, '$1 '));

describe('a release', () => {
  beforeAll(() => {
    fs.mkdirSync(OUT, { recursive: true });
    sh(`${ROOT}/packaging/package.sh ${OUT}`, ROOT);
    return () => fs.rmSync(OUT, { recursive: true, force: true });
  }, 300_000);

  it('is the same bytes each time, whatever the mask of who makes it', { timeout: 300_000 }, () => {
    const again = `${OUT}/again`;
    sh(`umask 077; ${ROOT}/packaging/package.sh ${again}`, ROOT);
    expect(fs.readFileSync(`${again}/SHA256SUMS`, 'utf8')).toBe(fs.readFileSync(`${OUT}/SHA256SUMS`, 'utf8'));
    fs.rmSync(again, { recursive: true });
    expect(sh('sha256sum -c SHA256SUMS')).not.toContain('FAILED');
    expect(sh(`dpkg-deb -c ${file('netctl')}`)).toMatch(/root\/root +\d+ 2023-11-14/);
  });

  it('has each part in one package, and its flags as files of the operator', () => {
    const all = PACKAGES.flatMap((name) => contents(name).filter((line) => !line.startsWith('d')));
    const places = all.map((line) => line.split(' ')[1]);
    expect(places.length).toBe(new Set(places).size);
    for (const command of ['netctl', 'netmaster', 'netplugin', 'netkube'])
      expect(all).toContain(`lrwxrwxrwx ./usr/bin/${command} -> ../lib/contiv/bin/${command}`);
    for (const name of PACKAGES)
      expect(contents(name).filter((line) => / \.\/usr\/local/.test(line))).toEqual([]);
    expect(sh(`dpkg-deb -I ${file('netplugin')} conffiles`)).toBe('/etc/contiv/netplugin.conf\n');
    expect(sh(`dpkg-deb -I ${file('netmaster')} conffiles`)).toBe(
      '/etc/contiv/netmaster.conf\n/etc/contiv/netkube.conf\n',
    );
    expect(sh(`dpkg-deb -f ${file('netplugin')} Version Depends`)).toContain(`contiv-netctl (= ${VERSION})`);
    const unit = sh(
      `dpkg-deb --fsys-tarfile ${file('netplugin')} | tar -xO ./usr/lib/systemd/system/contiv-netplugin.service`,
    );
    expect(unit).toContain('ExecStart=/usr/lib/contiv/bin/netplugin ');
    expect(unit).not.toContain('/usr/local');
  });

  it('lists what it is made of, with licences that are named', () => {
    const { components } = JSON.parse(fs.readFileSync(`${OUT}/sbom.json`, 'utf8')) as {
      components: {
        name: string;
        version: string;
        licenses: { license?: { id: string }; expression?: string }[];
      }[];
    };
    const names = components.map(({ name }) => name);
    for (const name of ['koffi', `node-linux-${process.arch}`, 'fastify', 'pino', 'glibc'])
      expect(names).toContain(name);
    const licences = new Set(
      components.flatMap(({ licenses }) => licenses.map((l) => l.expression ?? l.license?.id)),
    );
    // One that is not here is to be looked at before it is shipped.
    expect([...licences].sort()).toEqual([
      '0BSD',
      'Apache-2.0',
      'BSD-3-Clause',
      'ISC',
      'LGPL-2.1-or-later',
      'MIT',
      'Unlicense',
    ]);
    const copyright = fs.readFileSync(`${OUT}/copyright`, 'utf8');
    for (const { name, version } of components) expect(copyright).toContain(`\n${name} ${version}: `);
  });
});
