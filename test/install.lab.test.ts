/** `make install`, below a folder: what it puts there runs, and the services start what is there. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from './folder.ts';
import { netmasterOn } from './netmaster.ts';

const ROOT = path.dirname(import.meta.dirname);

function make(target: string, folder: string): string {
  return execFileSync('make', ['-C', ROOT, target, `DESTDIR=${folder}`], { encoding: 'utf8' });
}

/** ExecStart's words, the flags in place of their variable. */
function startCommand(folder: string, service: string): string[] {
  const unit = readFileSync(path.join(folder, `etc/systemd/system/contiv-${service}.service`), 'utf8');
  const conf = readFileSync(path.join(folder, `etc/contiv/${service}.conf`), 'utf8');
  const variable = `${service.toUpperCase()}_FLAGS`;
  const example = new RegExp(`^#${variable}=(.*)$`, 'm').exec(conf)?.[1] ?? '';
  expect(example).toMatch(/^--/);
  expect(unit).toContain(`EnvironmentFile=-/etc/contiv/${service}.conf`);
  const start = /^ExecStart=(.*)$/m.exec(unit)?.[1] ?? '';
  expect(start).toContain(`$${variable}`);
  return start.replace(`$${variable}`, example).split(' ');
}

describe('make install', () => {
  it('brings programs that run on their own and services that start them, updates both, and takes them away', async () => {
    const folder = temporaryFolder();
    expect(make('install', folder)).toContain('systemctl enable --now contiv-netplugin');
    for (const service of ['netmaster', 'netplugin', 'netkube']) {
      const [program = '', ...flags] = startCommand(folder, service);
      const help = execFileSync(path.join(folder, program), [...flags, '--help'], { encoding: 'utf8' });
      expect(help).toContain(`Usage: ${service}`);
    }
    const bin = path.join(folder, 'usr/local/lib/contiv/bin');
    const netmaster = await netmasterOn('memory', path.join(bin, 'netmaster'));
    await netmaster.start();
    const netctl = (...args: string[]): string =>
      execFileSync(path.join(bin, 'netctl'), ['--netmaster', netmaster.url, ...args], { encoding: 'utf8' });
    netctl('net', 'create', 'contiv-net', '--subnet=20.1.1.0/24');
    expect(netctl('net', 'ls', '-q')).toBe('contiv-net\n');
    await netmaster.kill();

    const conf = path.join(folder, 'etc/contiv/netplugin.conf');
    appendFileSync(conf, 'NETPLUGIN_FLAGS=--underlay eth7\n');
    make('install', folder);
    expect(readFileSync(conf, 'utf8')).toContain('eth7'); // flags that were set stay
    expect(readdirSync(path.join(folder, 'usr/local/lib'))).toEqual(['contiv']);
    make('uninstall', folder);
    const left = readdirSync(folder, { recursive: true, withFileTypes: true }).filter(
      (e) => !e.isDirectory(),
    );
    expect(left.map((e) => e.name).sort()).toEqual(['netkube.conf', 'netmaster.conf', 'netplugin.conf']);
    expect(existsSync(path.join(folder, 'usr/local/lib/contiv'))).toBe(false);
  });
});
