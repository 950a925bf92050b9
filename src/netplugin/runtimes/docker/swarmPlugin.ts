/**
 * `netplugin swarm`: this host's managed plugin, which Docker runs so that Swarm mode has contiv's networks (swarm.ts). There is no registry
 * to take one from: it is laid out here as a folder, and Docker makes a plugin of that.
 *
 *   config.json             what Docker gives it: one folder of the host's, the host's network, no capability
 *   rootfs/contiv-swarm     the only file in it
 *
 * It has no state. One that is another than it should be is exchanged as a whole: tasks that start meanwhile wait for it.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { oneLine } from '../../../model/text.ts';
import { VERSION } from '../../../model/version.ts';
import { SWARM_DRIVER, swarmFolder } from './swarm.ts';

export const SWARM_USAGE = `netplugin swarm: contiv's networks in Docker's Swarm mode, by a plugin that Docker runs on each node

Usage: netplugin swarm install [flags]
       netplugin swarm remove [flags]
       netplugin swarm folder DIR [flags]

install: Docker makes the plugin ${SWARM_DRIVER} from this netplugin's files, without a registry, and enables it; one that is there and
differs is exchanged: containers go on, and tasks that start meanwhile wait. To be done on each node, at best before it joins
remove: the plugin goes; refused while networks use it
folder: only writes what docker plugin create wants

  --state-dir DIR              that of this host's netplugin (default /var/lib/contiv)
  --docker-socket FILE         Docker's API (default /run/docker.sock)
  --help

Example: netplugin swarm install && docker swarm init
`;

export interface SwarmCommand {
  readonly swarm: 'install' | 'remove' | 'folder';
  /** Of `folder`. */
  readonly folder: string;
  readonly stateDir: string;
  readonly dockerSocket: string;
}

/** Throws an Error with one plain line where the command line is wrong. */
export function readSwarm(args: readonly string[]): SwarmCommand | 'help' {
  const text = { type: 'string' } as const;
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { 'state-dir': text, 'docker-socket': text, help: { type: 'boolean', short: 'h' } },
  });
  if (values.help) return 'help';
  const [command, folder = '', ...more] = positionals;
  if (command !== 'install' && command !== 'remove' && command !== 'folder')
    throw new Error(`swarm: '${command ?? ''}' must be install, remove or folder`);
  if (more.length > 0 || (folder === '') !== (command !== 'folder'))
    throw new Error(
      command === 'folder' ? 'swarm folder: say one folder' : `swarm ${command} takes flags only`,
    );
  return {
    swarm: command,
    folder,
    stateDir: values['state-dir'] || '/var/lib/contiv',
    dockerSocket: values['docker-socket'] || '/run/docker.sock',
  };
}

const PROGRAM = 'contiv-swarm';

/** Beside this program, as it was bundled. */
const programFile = (): string => path.join(import.meta.dirname, PROGRAM);

/** https://docs.docker.com/engine/extend/config/. Where sockets are says src/swarm/contiv-swarm.c. */
export function pluginConfig(stateDir: string, program: Buffer): object {
  const config = {
    documentation: 'https://github.com/contiv/netplugin',
    entrypoint: [`/${PROGRAM}`],
    workdir: '/',
    network: { type: 'host' },
    interface: {
      types: ['docker.networkdriver/1.0', 'docker.ipamdriver/1.0'],
      socket: 'contiv.sock',
    },
    mounts: [
      {
        name: 'netplugin',
        description: "where this host's netplugin listens",
        type: 'bind',
        source: swarmFolder({ stateDir }),
        destination: '/run/contiv-swarm',
        options: ['rbind', 'ro'],
      },
    ],
    linux: { capabilities: [] },
  };
  const made = createHash('sha256').update(program).update(JSON.stringify(config)).digest('hex');
  return { description: `contiv's networks in Swarm mode, ${VERSION}, ${made.slice(0, 12)}`, ...config };
}

/** Answers its description, by which it is known. */
function layOut(folder: string, stateDir: string): string {
  const program = fs.readFileSync(programFile());
  const config = pluginConfig(stateDir, program) as { description: string };
  fs.mkdirSync(path.join(folder, 'rootfs'), { recursive: true });
  fs.writeFileSync(path.join(folder, 'rootfs', PROGRAM), program, { mode: 0o755 });
  fs.writeFileSync(path.join(folder, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
  return config.description;
}

interface Installed {
  readonly enabled: boolean;
  readonly description: string;
}

/** Answers what to print. Throws an Error with one plain line. */
export async function runSwarm({ swarm, folder, stateDir, dockerSocket }: SwarmCommand): Promise<string> {
  if (swarm === 'folder') {
    layOut(folder, stateDir);
    return `Wrote ${folder}: docker plugin create ${SWARM_DRIVER} ${folder}\n`;
  }
  const docker = async (...args: string[]): Promise<string> => {
    try {
      const options = { maxBuffer: 1 << 24 };
      return (await promisify(execFile)('docker', ['-H', `unix://${dockerSocket}`, ...args], options)).stdout;
    } catch (error) {
      const { stderr = '', message } = error as { stderr?: string; message: string };
      throw new Error(`docker ${args.slice(0, 2).join(' ')}: ${oneLine(stderr.trim() || message)}`);
    }
  };
  const found = await installed(docker);
  if (swarm === 'remove') {
    if (found === undefined) return `${SWARM_DRIVER} is not there\n`;
    if (found.enabled) await docker('plugin', 'disable', SWARM_DRIVER);
    await docker('plugin', 'rm', SWARM_DRIVER);
    return `Removed ${SWARM_DRIVER}\n`;
  }
  fs.mkdirSync(swarmFolder({ stateDir }), { recursive: true, mode: 0o700 });
  const draft = fs.mkdtempSync(path.join(os.tmpdir(), 'contiv-swarm-'));
  try {
    const description = layOut(draft, stateDir);
    if (found?.description === description) {
      if (found.enabled) return `${SWARM_DRIVER} is up to date\n`;
      await docker('plugin', 'enable', SWARM_DRIVER);
      return `Enabled ${SWARM_DRIVER}\n`;
    }
    if (found !== undefined) await docker('plugin', 'rm', '-f', SWARM_DRIVER);
    await docker('plugin', 'create', SWARM_DRIVER, draft);
    await docker('plugin', 'enable', SWARM_DRIVER);
    return `${found === undefined ? 'Installed' : 'Exchanged'} ${SWARM_DRIVER}\n`;
  } finally {
    fs.rmSync(draft, { recursive: true, force: true });
  }
}

async function installed(docker: (...args: string[]) => Promise<string>): Promise<Installed | undefined> {
  const listed = await docker('plugin', 'ls', '--format', '{{.Name}}');
  if (!listed.split('\n').includes(SWARM_DRIVER)) return undefined;
  const [{ Enabled, Config }] = JSON.parse(await docker('plugin', 'inspect', SWARM_DRIVER));
  return { enabled: Enabled, description: Config.Description };
}
