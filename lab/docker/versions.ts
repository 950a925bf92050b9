/**
 * A Docker that is not the machine's, for all hosts of a lab: built from the Go module registry (build.sh), its programs found ahead of the
 * machine's by a folder of the lab's that is first on the PATH (bin/lab).
 */
import fs from 'node:fs';
import { run, show } from '../shell.ts';
import { dataFolder, type LabState, ROOT } from '../state.ts';

export type DockerChoice = Pick<LabState, 'docker' | 'firewallBackend'>;

const VERSIONS = ['28', '29'] as const;
const BACKENDS = ['iptables', 'nftables'] as const;

/** What flags say, '' for what is not given. Throws an Error with one plain line where they are wrong. */
export function readDocker(version: string, backend: string): DockerChoice {
  const docker = VERSIONS.find((v) => v === version);
  const firewallBackend = BACKENDS.find((b) => b === backend);
  if (version !== '' && docker === undefined)
    throw new Error(`--docker: '${version}' must be 28 or 29; without it the machine's own is used`);
  if (backend !== '' && firewallBackend === undefined)
    throw new Error(`--firewall-backend: '${backend}' must be iptables or nftables`);
  if (firewallBackend !== undefined && docker !== '29')
    throw new Error('--firewall-backend: needs --docker 29, the first that has the flag');
  return { ...(docker && { docker }), ...(firewallBackend && { firewallBackend }) };
}

/** Packages and programs that are missing, which takes some minutes the first time. */
export const setUpDocker = (version: string): Promise<void> =>
  show(`Docker ${version} could not be set up: see above`, `${ROOT}/lab/setup.sh`, ['docker', version]);

/** From now on the lab's Docker is that one. */
export async function placeDocker(lab: string, version: string): Promise<void> {
  const programs = (await run(`${ROOT}/lab/docker/build.sh`, [version, 'where'])).trim();
  fs.symlinkSync(programs, `${dataFolder(lab)}/docker`);
}

/** dockerd's flags. */
export const firewallFlags = ({ firewallBackend }: DockerChoice): string[] =>
  firewallBackend === undefined ? [] : [`--firewall-backend=${firewallBackend}`];
