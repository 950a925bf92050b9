import fs from 'node:fs';
import path from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { temporaryFolder } from '../../../../test/folder.ts';
import { install, uninstall } from './install.ts';

let places: { cniBinDir: string; cniConfDir: string };
let program: string;
let binary: string;
let conflist: string;

beforeEach(() => {
  const folder = temporaryFolder();
  places = { cniBinDir: path.join(folder, 'opt/cni/bin'), cniConfDir: path.join(folder, 'etc/cni/net.d') };
  program = path.join(folder, 'program');
  fs.writeFileSync(program, 'ELF');
  binary = path.join(places.cniBinDir, 'contiv-cni');
  conflist = path.join(places.cniConfDir, '05-contiv.conflist');
});

it('puts executable and configuration where runtimes look, once, and again where somebody has changed them', () => {
  expect(install(places, program)).toEqual([binary, conflist]);
  expect(fs.statSync(binary).mode & 0o777).toBe(0o755);
  const { cniVersion, plugins } = JSON.parse(fs.readFileSync(conflist, 'utf8'));
  expect([cniVersion, plugins[0].type, plugins[0].capabilities.portMappings]).toEqual([
    '1.0.0',
    'contiv-cni',
    true,
  ]);
  expect(install(places, program)).toEqual([]);
  fs.writeFileSync(conflist, '{');
  fs.writeFileSync(program, 'ELF of a newer one');
  expect(install(places, program)).toEqual([binary, conflist]);
  expect(fs.readFileSync(binary, 'utf8')).toBe('ELF of a newer one');
  // No draft that a runtime might read.
  expect(fs.readdirSync(places.cniConfDir)).toEqual(['05-contiv.conflist']);
});

it('leaves no configuration where the executable cannot be put', () => {
  expect(() => install(places, '/nonexistent')).toThrow('ENOENT');
  expect(fs.existsSync(conflist)).toBe(false);
});

it('takes both away', () => {
  install(places, program);
  uninstall(places);
  expect([fs.readdirSync(places.cniBinDir), fs.readdirSync(places.cniConfDir)]).toEqual([[], []]);
  expect(install({}, program)).toEqual([]);
});
