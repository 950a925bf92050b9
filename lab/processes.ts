/** The servers of a lab: started on their host, detached, recorded, ended by their recorded id. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { KUBERNETES } from './kubernetes/programs.ts';
import type { Program } from './program.ts';
import { PROGRAMS, type ProgramName } from './programs.ts';
import { tryRun, until } from './shell.ts';
import {
  cgroup,
  isRunning,
  type LabProcess,
  logFile,
  namespaceFolder,
  onHost,
  readState,
  startTime,
  writeProcess,
} from './state.ts';

/** `names` is netplugin's: started by it, and again where it has ended. */
export type ProcessName = ProgramName | 'names';

/** Starts it and waits until it answers. Fine when it runs already. */
export async function start(lab: string, name: ProcessName, hostName: string): Promise<LabProcess> {
  if (name === 'names') throw new Error(`names is started by netplugin: bin/lab start netplugin ${hostName}`);
  const state = readState(lab);
  const host = state?.hosts.find((h) => h.name === hostName);
  if (state === undefined || host === undefined) throw new Error(`no host '${hostName}' in lab '${lab}'`);
  const old = state.processes.find((p) => p.name === name && p.host === hostName);
  if (old !== undefined && isRunning(old)) return old;
  if (name in KUBERNETES && !state.kubernetes)
    throw new Error(`lab '${lab}' has no Kubernetes: bin/lab down, then bin/lab up --kubernetes`);
  const program: Program = PROGRAMS[name];
  if (program.leftovers !== undefined)
    await tryRun(...onHost(lab, hostName, 'rm', '-f', ...program.leftovers));
  const log = fs.openSync(logFile(lab, name, hostName), 'a');
  const [command, args] = onHost(lab, hostName, ...program.command(host, state));
  const child = spawn(command, args, { detached: true, stdio: ['ignore', log, log], cwd: '/' });
  child.unref();
  fs.closeSync(log);
  const pid = child.pid as number;
  const recorded = await until(`${name} on ${hostName}`, 5, () => startTime(pid));
  const process: LabProcess = { name, host: hostName, pid, start: recorded };
  writeProcess(lab, process);
  await until(`${name} on ${hostName} (its log: ${logFile(lab, name, hostName)})`, 60, async () => {
    if (!isRunning(process)) {
      const how = child.signalCode ?? `exit status ${child.exitCode}`;
      throw new Error(`${name} on ${hostName} ended (${how}): ${lastLine(logFile(lab, name, hostName))}`);
    }
    return program.answers(host, state);
  });
  return process;
}

function lastLine(file: string): string {
  return fs.readFileSync(file, 'utf8').trim().split('\n').at(-1) ?? '';
}

/** The process that answers names on a host, as it has written itself down there. */
export async function namesProcess(
  lab: string,
  host: string,
): Promise<Pick<LabProcess, 'pid' | 'start'> | undefined> {
  const text = (await tryRun(...onHost(lab, host, 'head', '-n', '1', '/run/contiv/names.pid'))) ?? '';
  const [pid, start = ''] = text.trim().split(' ');
  const found = { pid: Number(pid), start };
  return isRunning(found) ? found : undefined;
}

/** Ends it with the signal and waits until it is gone. Fine when it is not there. */
export async function end(
  lab: string,
  name: ProcessName,
  host: string,
  signal: NodeJS.Signals,
): Promise<void> {
  const recorded =
    name === 'names'
      ? await namesProcess(lab, host)
      : readState(lab)?.processes.find((p) => p.name === name && p.host === host);
  if (recorded === undefined || !isRunning(recorded)) return;
  process.kill(recorded.pid, signal);
  await until(`${name} on ${host} to end`, 60, () => !isRunning(recorded));
}

/** Every process of the lab's hosts, or of one, by the mount namespace or control group that it is in. */
export async function endAll(lab: string, host?: string): Promise<void> {
  for (let round = 0; round < 40; round++) {
    const pids = processesOf(lab, host);
    if (pids.length === 0) return;
    for (const pid of pids)
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // gone meanwhile
      }
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error(`lab '${lab}': processes ${processesOf(lab, host).join(', ')} do not end`);
}

function processesOf(lab: string, host?: string): number[] {
  const folder = namespaceFolder(lab);
  const group = host === undefined ? `/lab-${lab}-` : `/${cgroup(lab, host)}/`;
  const mounts = new Set<number>();
  if (fs.existsSync(folder))
    for (const file of fs.readdirSync(folder)) {
      const found = fs.statSync(`${folder}/${file}`);
      if (host === undefined ? file.endsWith('.mnt') : file === `${host}.mnt`) mounts.add(found.ino);
    }
  const pids: number[] = [];
  for (const name of fs.readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const inHost = mounts.has(fs.statSync(`/proc/${name}/ns/mnt`).ino);
      const inGroup = fs.readFileSync(`/proc/${name}/cgroup`, 'utf8').includes(group);
      if ((inHost || inGroup) && startTime(Number(name)) !== undefined) pids.push(Number(name));
    } catch {
      // gone meanwhile
    }
  }
  return pids;
}
