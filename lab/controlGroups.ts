/** Control groups of a lab's hosts: lab-NAME-HOST in the root (cgroup v2), or in each controller's folder (v1). */
import fs from 'node:fs';
import { cgroup } from './state.ts';

const ROOT = '/sys/fs/cgroup';

const foldersOf = (folder: string): string[] =>
  fs.existsSync(folder)
    ? fs.readdirSync(folder, { withFileTypes: true }).flatMap((d) => (d.isDirectory() ? [d.name] : []))
    : [];

const isVersion2 = (): boolean => fs.existsSync(`${ROOT}/cgroup.controllers`);

const hierarchies = (): string[] =>
  isVersion2() ? [ROOT] : foldersOf(ROOT).map((controller) => `${ROOT}/${controller}`);

/** In all of them; dockerd makes its own. A new one of cpuset has no processors and no memory: nothing could run in it. */
export function makeControlGroups(lab: string, host: string): void {
  for (const hierarchy of hierarchies()) {
    const folder = `${hierarchy}/${cgroup(lab, host)}`;
    fs.mkdirSync(folder, { recursive: true });
    if (isVersion2()) continue;
    for (const file of ['cpuset.cpus', 'cpuset.mems'])
      if (fs.existsSync(`${folder}/${file}`))
        fs.writeFileSync(`${folder}/${file}`, fs.readFileSync(`${hierarchy}/${file}`));
  }
}

/** Empty by now. Of all the lab's hosts, or of one. */
export function removeControlGroups(lab: string, host?: string): void {
  const remove = (folder: string): void => {
    for (const name of foldersOf(folder)) remove(`${folder}/${name}`);
    try {
      fs.rmdirSync(folder);
    } catch {
      // a process that is still ending holds it
    }
  };
  for (const hierarchy of hierarchies())
    for (const name of foldersOf(hierarchy))
      if (host === undefined ? name.startsWith(`lab-${lab}-`) : name === cgroup(lab, host))
        remove(`${hierarchy}/${name}`);
}
