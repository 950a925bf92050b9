/** The servers of a lab: started on their host, detached, recorded, ended by their recorded id. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { requestOf } from '../src/protocol/wire.ts';
import { tryRun, until } from './shell.ts';
import {
  cgroup,
  ETCD_PORT,
  etcdHosts,
  hostFolder,
  isRunning,
  type LabHost,
  type LabProcess,
  type LabState,
  logFile,
  NETMASTER_PORT,
  namespaceFolder,
  netmasterUrl,
  netmasterUrls,
  onHost,
  ROOT,
  readState,
  startTime,
  UNDERLAY,
  writeProcess,
} from './state.ts';

/** `names` is netplugin's: started by it, and again where it has ended. */
export type ProcessName = LabProcess['name'] | 'names';

function commandOf(name: LabProcess['name'], host: LabHost, state: LabState): string[] {
  const lab = state.name;
  const peerUrl = (address: string): string => `http://${address}:${ETCD_PORT + 1}`;
  const clientUrl = `http://${host.address}:${ETCD_PORT}`;
  // Each host asks another netmaster first.
  const urls = netmasterUrls(state);
  const first = state.hosts.indexOf(host) % urls.length;
  switch (name) {
    case 'etcd':
      return [
        'etcd',
        `--name=${host.name}`,
        `--data-dir=${hostFolder(lab, host.name)}/etcd`,
        `--listen-client-urls=${clientUrl}`,
        `--advertise-client-urls=${clientUrl}`,
        `--listen-peer-urls=${peerUrl(host.address)}`,
        `--initial-advertise-peer-urls=${peerUrl(host.address)}`,
        `--initial-cluster=${etcdHosts(state.hosts).map((h) => `${h.name}=${peerUrl(h.address)}`)}`,
        '--auto-compaction-retention=1',
        '--logger=zap',
      ];
    case 'netmaster':
      return [
        `${ROOT}/bin/netmaster`,
        '--listen',
        `${host.address}:${NETMASTER_PORT}`,
        '--store',
        state.store,
      ];
    case 'netplugin':
      return [
        `${ROOT}/bin/netplugin`,
        '--netmaster',
        [...urls.slice(first), ...urls.slice(0, first)].join(),
        '--underlay',
        UNDERLAY,
        '--host',
        host.name,
      ];
    case 'dockerd':
      return [
        'dockerd',
        `--data-root=${hostFolder(lab, host.name)}/docker`,
        '--exec-root=/run/docker',
        '--pidfile=/run/docker.pid',
        '--host=unix:///run/docker.sock',
        `--cgroup-parent=/${cgroup(lab, host.name)}`,
        '--storage-driver=overlay2',
      ];
  }
}

/** Starts it and waits until it answers. Fine when it runs already. */
export async function start(lab: string, name: ProcessName, hostName: string): Promise<LabProcess> {
  if (name === 'names') throw new Error(`names is started by netplugin: bin/lab start netplugin ${hostName}`);
  const state = readState(lab);
  const host = state?.hosts.find((h) => h.name === hostName);
  if (state === undefined || host === undefined) throw new Error(`no host '${hostName}' in lab '${lab}'`);
  const old = state.processes.find((p) => p.name === name && p.host === hostName);
  if (old !== undefined && isRunning(old)) return old;
  // What a killed dockerd left (its containerd dies with it): the ids may belong to others by now.
  if (name === 'dockerd')
    await tryRun(
      ...onHost(lab, hostName, 'rm', '-f', '/run/docker.pid', '/run/docker/containerd/containerd.pid'),
    );
  const log = fs.openSync(logFile(lab, name, hostName), 'a');
  const [command, args] = onHost(lab, hostName, ...commandOf(name, host, state));
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
    return answers(lab, name, host);
  });
  return process;
}

function lastLine(file: string): string {
  return fs.readFileSync(file, 'utf8').trim().split('\n').at(-1) ?? '';
}

async function answers(lab: string, name: LabProcess['name'], host: LabHost): Promise<boolean> {
  const curl = (...args: string[]): Promise<string | undefined> =>
    tryRun(...onHost(lab, host.name, 'curl', '-sf', '-m', '2', ...args));
  switch (name) {
    case 'etcd':
      return (await curl(`http://${host.address}:${ETCD_PORT}/health`)) !== undefined;
    case 'netmaster':
      return (await curl(netmasterUrl(host.address) + requestOf('health').url)) !== undefined;
    case 'dockerd':
      return (await curl('--unix-socket', '/run/docker.sock', 'http://d/_ping')) !== undefined;
    case 'netplugin': {
      const health = await curl('--unix-socket', '/run/contiv/netplugin.sock', 'http://n/health');
      return health !== undefined && JSON.parse(health).live === true;
    }
  }
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

/** Every process of the lab's hosts, by the mount namespace or control group that it is in. */
export async function endAll(lab: string): Promise<void> {
  for (let round = 0; round < 40; round++) {
    const pids = processesOf(lab);
    if (pids.length === 0) return;
    for (const pid of pids)
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // gone meanwhile
      }
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error(`lab '${lab}': processes ${processesOf(lab).join(', ')} do not end`);
}

function processesOf(lab: string): number[] {
  const folder = namespaceFolder(lab);
  const mounts = new Set<number>();
  if (fs.existsSync(folder))
    for (const file of fs.readdirSync(folder)) {
      const found = fs.statSync(`${folder}/${file}`);
      if (file.endsWith('.mnt')) mounts.add(found.ino);
    }
  const pids: number[] = [];
  for (const name of fs.readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const inHost = mounts.has(fs.statSync(`/proc/${name}/ns/mnt`).ino);
      const inGroup = fs.readFileSync(`/proc/${name}/cgroup`, 'utf8').includes(`/lab-${lab}-`);
      if ((inHost || inGroup) && startTime(Number(name)) !== undefined) pids.push(Number(name));
    } catch {
      // gone meanwhile
    }
  }
  return pids;
}

/** The control groups that dockerd made: empty by now. */
export function removeControlGroups(lab: string): void {
  const root = '/sys/fs/cgroup';
  const remove = (folder: string): void => {
    for (const entry of fs.readdirSync(folder, { withFileTypes: true }))
      if (entry.isDirectory()) remove(`${folder}/${entry.name}`);
    try {
      fs.rmdirSync(folder);
    } catch {
      // a process that is still ending holds it
    }
  };
  const foldersOf = (folder: string): string[] =>
    fs.existsSync(folder)
      ? fs.readdirSync(folder, { withFileTypes: true }).flatMap((d) => (d.isDirectory() ? [d.name] : []))
      : [];
  // In the root itself (cgroup v2), or in each controller's (v1).
  const controllers = foldersOf(root).filter((name) => !name.startsWith('lab-'));
  for (const folder of [root, ...controllers.map((name) => `${root}/${name}`)])
    for (const name of foldersOf(folder)) if (name.startsWith(`lab-${lab}-`)) remove(`${folder}/${name}`);
}
