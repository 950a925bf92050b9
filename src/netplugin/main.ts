/** Entry of bin/netplugin. */
import path from 'node:path';
import { oneLine } from '../model/text.ts';
import { startAgent } from './agent.ts';
import { endBgp } from './bgp/daemon.ts';
import { JOIN_USAGE, type JoinOptions, join, readJoin } from './certificate.ts';
import { refuseWhileUsed, removeFromHost } from './dataplane/index.ts';
import { runDoctor } from './doctor/index.ts';
import { inNamespaces } from './doctor/kernel.ts';
import { DOCTOR_USAGE, type DoctorOptions, readDoctor } from './doctor/options.ts';
import { attachedNames } from './endpoints/attachments.ts';
import { removeFiles } from './files.ts';
import { openLog } from './log.ts';
import { endNames } from './nameservers/place.ts';
import { CONTROL_SOCKET, type LeaveOptions, type Options, readOptions, USAGE } from './options.ts';
import { BARE_USAGE, type BareCommand, readBare, runBare } from './runtimes/cni/bare.ts';
import { uninstall } from './runtimes/cni/install.ts';
import { readyToLeave } from './runtimes/docker/leave.ts';
import { readSwarm, runSwarm, SWARM_USAGE, type SwarmCommand } from './runtimes/docker/swarmPlugin.ts';

const [first, ...rest] = process.argv.slice(2);

function wrongUsage(error: unknown): never {
  process.stderr.write(`netplugin: ${oneLine((error as Error).message)} (see netplugin --help)\n`);
  // Of the doctor 1 means that something is wrong with the host.
  process.exit(first === 'doctor' ? 2 : 1);
}

type Wanted =
  | ReturnType<typeof readOptions>
  | BareCommand
  | DoctorOptions
  | JoinOptions
  | SwarmCommand
  | 'help with endpoints'
  | 'help with joining'
  | 'help with Swarm'
  | 'help with the doctor';
const options = ((): Wanted => {
  try {
    if (first === 'doctor') {
      const doctor = readDoctor(rest, CONTROL_SOCKET);
      return doctor === 'help' ? 'help with the doctor' : doctor;
    }
    if (first === 'join') {
      const joining = readJoin(rest);
      return joining === 'help' ? 'help with joining' : joining;
    }
    if (first === 'swarm') {
      const swarm = readSwarm(rest);
      return swarm === 'help' ? 'help with Swarm' : swarm;
    }
    if (first !== 'endpoint') return readOptions(process.argv.slice(2));
    const bare = readBare(rest, CONTROL_SOCKET);
    return bare === 'help' ? 'help with endpoints' : bare;
  } catch (error) {
    return wrongUsage(error);
  }
})();

async function leaveHost(options: LeaveOptions): Promise<void> {
  try {
    const forgetNetworks = await readyToLeave(options, (line) => process.stdout.write(`${line}\n`));
    refuseWhileUsed(attachedNames(options.stateDir));
    await forgetNetworks();
    uninstall(options);
    await endBgp(path.dirname(options.controlSocket));
    await removeFromHost();
    await endNames(path.dirname(options.controlSocket));
    removeFiles(options);
  } catch (error) {
    process.stderr.write(`netplugin: ${oneLine((error as Error).message)}\n`);
    process.exitCode = 3;
  }
}

async function run(options: Options): Promise<void> {
  const log = openLog(options.logLevel, options.host);
  try {
    const agent = await startAgent(options, log);
    const end = (): void => {
      agent.close().then(
        () => process.exit(0),
        (error) => {
          log.error({ err: error }, 'did not end cleanly');
          process.exit(1);
        },
      );
    };
    process.once('SIGTERM', end);
    process.once('SIGINT', end);
  } catch (error) {
    log.debug({ err: error }, 'netplugin cannot start');
    process.stderr.write(`netplugin: ${oneLine((error as Error).message)}\n`);
    process.exit(3);
  }
}

async function joinCluster(options: JoinOptions): Promise<void> {
  try {
    await join(options);
    process.stdout.write(`host ${options.host} has its certificate: start netplugin\n`);
  } catch (error) {
    process.stderr.write(`netplugin: ${oneLine((error as Error).message, 400)}\n`);
    process.exitCode = 3;
  }
}

async function print(text: Promise<string>): Promise<void> {
  try {
    process.stdout.write(await text);
  } catch (error) {
    process.stderr.write(`netplugin: ${oneLine((error as Error).message)}\n`);
    process.exitCode = 3;
  }
}

async function doctor(options: DoctorOptions): Promise<void> {
  const print = (line: string): void => void process.stdout.write(`${line}\n`);
  if (options.kernel) return print(JSON.stringify(await inNamespaces()));
  const program = [process.execPath, ...process.execArgv, process.argv[1] as string];
  process.exitCode = await runDoctor(options, program, print);
}

if (options === 'help') process.stdout.write(USAGE);
else if (options === 'help with the doctor') process.stdout.write(DOCTOR_USAGE);
else if (options === 'help with endpoints') process.stdout.write(BARE_USAGE);
else if (options === 'help with Swarm') process.stdout.write(SWARM_USAGE);
else if (options === 'help with joining') process.stdout.write(JOIN_USAGE);
else if ('token' in options) void joinCluster(options);
else if (process.getuid?.() !== 0) wrongUsage(new Error('must run as root: it sets up network namespaces'));
else if ('kernel' in options)
  doctor(options).catch((error) => {
    process.stderr.write(`netplugin: ${oneLine((error as Error).message)}\n`);
    process.exitCode = 2;
  });
else if ('command' in options) void print(runBare(options));
else if ('swarm' in options) void print(runSwarm(options));
else void ('leave' in options ? leaveHost(options) : run(options));
