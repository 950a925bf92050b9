/** A Debian of a test's own, with its systemd (lab/debian): nothing of this machine is in it but the kernel. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { onTestFinished, vi } from 'vitest';

const DEBIAN = path.join(import.meta.dirname, '../lab/debian');

export interface DebianHost {
  /** What a line of shell prints, both ways out together; throws an Error with it where it fails. */
  run(line: string): string;
  /** The same, and its exit status. */
  tryRun(line: string): { status: number; said: string };
  /** Goes on until the test ends, or it is ended. */
  start(line: string): ChildProcess;
  /** From this machine, to the same place there. */
  copy(file: string, to: string): void;
}

/** Started, when it resolves; ends with the test, with all that runs there. */
export async function debianHost(name: string): Promise<DebianHost> {
  const root = execFileSync(path.join(DEBIAN, 'root.sh'), { encoding: 'utf8' }).trim();
  const machine = spawn(path.join(DEBIAN, 'boot.sh'), [name, root], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  onTestFinished(async () => {
    const ended = once(machine, 'exit');
    if (machine.exitCode === null && machine.signalCode === null && machine.kill('SIGKILL')) await ended;
    // The processes of its namespace go a moment later.
    await vi.waitFor(() => removeGroups(name), { timeout: 30_000, interval: 100 });
  });
  const init = async (): Promise<string> => {
    if (machine.exitCode !== null) throw new Error('the Debian does not start');
    const file = `/proc/${machine.pid}/task/${machine.pid}/children`;
    const child = fs.readFileSync(file, 'utf8').trim();
    if (fs.readlinkSync(`/proc/${child}/exe`).endsWith('/systemd')) return child;
    throw new Error('systemd does not run yet');
  };
  const pid = await vi.waitFor(init, { timeout: 60_000, interval: 100 });
  const words = (line: string): string[] => [
    '-t',
    pid,
    '-m',
    '-u',
    '-i',
    '-n',
    '-p',
    '-C',
    '--',
    'sh',
    '-euc',
    line,
  ];
  // What the test runs by is not to be found there.
  const env = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' };
  const host: DebianHost = {
    tryRun(line) {
      const { status, stdout } = spawnSync('nsenter', [...words(`exec 2>&1; cd /root; ${line}`)], {
        env,
        encoding: 'utf8',
      });
      return { status: status ?? -1, said: stdout };
    },
    run(line) {
      const { status, said } = host.tryRun(line);
      if (status !== 0) throw new Error(`${line}: exit status ${status}\n${said}`);
      return said;
    },
    start(line) {
      const child = spawn('nsenter', words(line), { env, stdio: ['ignore', 'pipe', 'inherit'] });
      onTestFinished(() => void child.kill('SIGKILL'));
      return child;
    },
    copy(file, to) {
      execFileSync('nsenter', words(`cat > ${to}`), { env, input: fs.readFileSync(file) });
    },
  };
  const up = (): void => {
    const { said } = host.tryRun('systemctl is-system-running');
    if (!/^(?:running|degraded)$/m.test(said)) throw new Error(`systemd is ${said}`);
  };
  await vi.waitFor(up, { timeout: 60_000, interval: 200 });
  return host;
}

function removeGroups(name: string): void {
  const mounts = execFileSync('findmnt', ['-n', '-l', '-t', 'cgroup2', '-o', 'TARGET'], { encoding: 'utf8' });
  const top = path.join(mounts.split('\n', 1)[0] as string, `lab-${name}`);
  if (!fs.existsSync(top)) return;
  const below = fs.readdirSync(top, { recursive: true, withFileTypes: true }).filter((e) => e.isDirectory());
  const folders = below.map((e) => path.join(e.parentPath, e.name)).sort();
  for (const folder of [top, ...folders].reverse()) fs.rmdirSync(folder);
}
