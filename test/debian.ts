/**
 * Programs of Debian packages on a host of the lab, without installing them on the machine: what they bring lies over the
 * host's own /usr and /etc, until it is taken away.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { hostFolder } from '../lab/state.ts';
import { LAB, must } from './lab.ts';

const folderOf = (host: string): string => path.join(hostFolder(LAB, host), 'debian');

/** Downloads them and what they need; answers the folder of what they bring. Those that the machine has are used as they are. */
export function unpackPackages(host: string, ...packages: string[]): string {
  const folder = folderOf(host);
  const archives = path.join(folder, 'archives');
  fs.mkdirSync(path.join(archives, 'partial'), { recursive: true });
  const apt = (...args: string[]): string =>
    execFileSync('apt-get', ['-qq', ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  const flags = [
    '-y',
    '--no-install-recommends',
    '--download-only',
    '-o',
    `Dir::Cache::archives=${archives}`,
  ];
  try {
    apt('install', ...flags, ...packages);
  } catch {
    apt('update'); // no lists yet, or old ones
    apt('install', ...flags, ...packages);
  }
  const root = path.join(folder, 'root');
  for (const name of ['usr', 'etc']) fs.mkdirSync(path.join(root, name), { recursive: true });
  for (const file of fs.readdirSync(archives).filter((f) => f.endsWith('.deb')))
    execFileSync('dpkg-deb', ['-x', path.join(archives, file), root]);
  // In a package they may be there still, on a system they lead below /usr.
  for (const name of ['bin', 'sbin', 'lib'])
    if (fs.existsSync(path.join(root, name)))
      fs.cpSync(path.join(root, name), path.join(root, 'usr', name), {
        recursive: true,
        verbatimSymlinks: true,
      });
  return root;
}

export async function layOver(host: string, root: string): Promise<void> {
  await must(
    ...([host, 'sh', '-ec'] as const),
    `mkdir -p /run/debian/etc /run/debian/work
    mount -t overlay overlay -o lowerdir=${root}/usr:/usr /usr
    mount -t overlay overlay -o lowerdir=${root}/etc:/etc,upperdir=/run/debian/etc,workdir=/run/debian/work /etc
    mount --bind ${hostFolder(LAB, host)}/resolv.conf "$(readlink -m /etc/resolv.conf)"`,
  );
}

/** As it was before. */
export async function takeAway(host: string): Promise<void> {
  await must(
    ...([host, 'sh', '-c'] as const),
    'for m in "$(readlink -m /etc/resolv.conf)" /etc /usr; do umount -l "$m"; done; rm -rf /run/debian',
  );
  fs.rmSync(folderOf(host), { recursive: true, force: true });
}
