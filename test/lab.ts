/**
 * How the lab tests reach their lab, which is up (labUp.ts). A command is a line as it is typed; what follows the
 * line are further words of it, each taken as it is:
 *
 *   netctl('net create contiv-net --subnet=20.1.1.0/24')     inside('node1', 'web', 'sh -c', script)
 */
import { execFile, spawn } from 'node:child_process';
import path from 'node:path';
import { readState } from '../lab/state.ts';
import { shellWords } from './shellWords.ts';

const NAME = process.env.TEST_LAB ?? 'labtest';
/** More than there are workers that have one (vitest.config.ts). */
const MOST = 4;
/** The second one of a worker (fabric.ts): a lab's name has 12 characters at most. */
export const fabricOf = (name: string): string => `${name.slice(-10)}fa`;
/** Where each worker has labs of its own. */
export const allLabs = (): string[] =>
  Array.from({ length: MOST }, (_, i) => `${NAME}${i + 1}`).flatMap((name) => [name, fabricOf(name)]);
/** The worker's, where each has one. */
export const LAB = process.env.LAB_BY_WORKER === undefined ? NAME : `${NAME}${process.env.VITEST_POOL_ID}`;
const ROOT = path.dirname(import.meta.dirname);
const COMMAND = path.join(ROOT, 'bin/lab');

/** Docker's own firewall is in iptables, with a chain DOCKER-USER for others. */
export const DOCKER_USER = process.env.LAB_FIREWALL_BACKEND !== 'nftables';

export interface Ended {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

const words = ([line = '', ...more]: readonly string[]): string[] => [...shellWords(line), ...more];

/** Runs bin/lab for the lab of that name and answers however it ends. */
export const labOf =
  (name: string) =>
  (...command: string[]): Promise<Ended> =>
    launch(command, '', name);

function launch(command: readonly string[], input = '', name = LAB): Promise<Ended> {
  return new Promise((done) => {
    const options = { env: { ...process.env, LAB: name }, maxBuffer: 1 << 26 };
    const child = execFile(COMMAND, words(command), options, (error, out, err) => {
      const code = (error as { code?: number } | null)?.code;
      done({ status: error === null ? 0 : (code ?? 255), out, err });
    });
    child.stdin?.on('error', () => {}); // it ended without having read it
    child.stdin?.end(input);
  });
}

/** Answers what it printed, throws where it fails. */
export async function expectDone(ended: Promise<Ended>, what: string): Promise<string> {
  const { status, out, err } = await ended;
  if (status !== 0) throw new Error(`${what}: exit status ${status}: ${err.trim() || out.trim()}`);
  return out.trim();
}

/** Runs a command on a host of the lab of that name; answers however it ends. */
export const onOf =
  (name: string) =>
  (host: string, ...command: string[]): Promise<Ended> =>
    labOf(name)(`exec ${host} --`, ...words(command));

interface Declared {
  readonly kind: string;
  readonly tenantName?: string;
}
/** What netctl says where hosts were too late. */
export const LATE = /^netctl: warning: not yet applied on (.+)\n/m;
/** Of a host, what `netctl host ls` has. */
interface Known {
  readonly name: string;
  readonly state: string;
  readonly applied: number;
  readonly lag: number;
}
const isDefaultTenant = ({ kind, tenantName }: Declared): boolean =>
  kind === 'tenant' && tenantName === 'default';

/** What tests do in a lab of their own, as the functions beside this one do in the worker's. */
export function openLab(name: string) {
  const lab = labOf(name);
  const on = onOf(name);
  /** Runs a command on a host with the text as its standard input; answers what it printed, throws where it fails. */
  const feed = (host: string, input: string, ...command: string[]): Promise<string> =>
    expectDone(launch([`exec ${host} --`, ...words(command)], input, name), `${host}: ${command.join(' ')}`);
  /** Runs a command on a host; answers what it printed, throws where it fails. */
  const must = (host: string, ...command: string[]): Promise<string> =>
    expectDone(on(host, ...command), `${host}: ${command.join(' ')}`);
  /** On node1. What is declared holds everywhere when this has answered. */
  async function netctl(...command: string[]): Promise<string> {
    const ended = on('node1', 'netctl', ...words(command));
    const out = await expectDone(ended, `node1: netctl ${command.join(' ')}`);
    await heldEverywhere((await ended).err, command.join(' '));
    return out;
  }
  /**
   * A host that was too slow for netctl to wait for it, as on a busy machine, or that has just been started, is named in what netctl said: it is
   * waited for here until it has applied what was declared, or is away.
   */
  async function heldEverywhere(said: string, what: string): Promise<void> {
    const [, late] = LATE.exec(said) ?? [];
    if (late === undefined) return;
    const names = late.split(/[, ]+/);
    const look = async (): Promise<Known[]> =>
      (JSON.parse(await must('node1', 'netctl host ls --json')) as Known[]).filter(({ name }) =>
        names.includes(name),
      );
    const due = Math.max(0, ...(await look()).map(({ applied, lag }) => applied + lag));
    await until(`${names.join()} to have applied '${what}'`, async () =>
      (await look()).every(({ state, applied }) => state === 'away' || applied >= due),
    );
  }
  /** Kernel, names and netmaster equal what runs, everywhere; answers the differences that are left. */
  async function differences(seconds = 60): Promise<string> {
    const { status, out, err } = await lab(`check --wait ${seconds}`);
    return status === 0 ? '' : out || err;
  }
  return {
    lab,
    feed,
    /** Runs bin/lab; throws where it fails. */
    mustLab: (...command: string[]): Promise<string> =>
      expectDone(lab(...command), `lab ${command.join(' ')}`),
    on,
    must,
    netctl,
    heldEverywhere,
    differences,
    /** In a container. */
    inside: (host: string, container: string, ...command: string[]): Promise<Ended> =>
      on(host, 'docker', 'exec', container, ...words(command)),
    /** A container that serves on port 80, and ends at once when it is to. */
    serving: (host: string, container: string, network: string, address: string, ...flags: string[]) =>
      must(
        host,
        `docker run -d --name=${container} --net=${network} --ip=${address} --stop-signal=SIGKILL`,
        ...flags,
        ...['contiv/lab', 'httpd', '-f', '-p', '80', '-h', '/www'],
      ),
    /** Removes all containers and all that was declared: each file of tests leaves the lab as it found it. */
    async clear(): Promise<void> {
      const hosts = readState(name)?.hosts ?? [];
      await Promise.all(
        hosts.map((host) => must(host.name, 'sh -c', 'docker ps -aq | xargs -r docker rm -f')),
      );
      const gone = await differences();
      if (gone !== '') throw new Error(`the lab is not as before: ${gone}`);
      const all: Declared[] = JSON.parse(await netctl('export -o json'));
      const declared = all.filter((o) => o.kind !== 'global' && !isDefaultTenant(o));
      if (declared.length > 0) await feed('node1', JSON.stringify(declared), 'netctl delete -f -');
    },
    /** A command on a host that runs on; its output by line. */
    background: (host: string, ...command: string[]): Background => backgroundIn(name, host, ...command),
  };
}

export const { lab, mustLab, on, must, feed, netctl, inside, differences, background, clear } = openLab(LAB);

export const docker = (host: string, ...command: string[]): Promise<string> =>
  must(host, 'docker', ...words(command));
/** A container that sleeps; answers its first address. */
export async function run(host: string, name: string, network: string, ...flags: string[]): Promise<string> {
  await docker(host, `run -d --name=${name} --net=${network}`, ...flags, 'contiv/lab', 'sleep', '100000');
  return addressOf(host, name);
}

export async function addressOf(host: string, name: string): Promise<string> {
  const text = await docker(
    host,
    `inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' ${name}`,
  );
  return text.split(' ')[0] ?? '';
}

/** Polls until the look answers something other than undefined or false. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false>,
  seconds = 60,
): Promise<T> {
  const deadline = performance.now() + seconds * 1000;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadline) throw new Error(`${what}: not within ${seconds} s`);
    await new Promise((done) => setTimeout(done, 100));
  }
}

/** One ping is answered. */
export const pings = async (host: string, container: string, target: string): Promise<boolean> =>
  (await inside(host, container, `ping -c 1 -W 2 ${target}`)).status === 0;

export interface Background {
  readonly lines: string[];
  /** Ends it with the signal and answers when it has ended. */
  end(signal?: NodeJS.Signals): Promise<void>;
}

export function backgroundIn(name: string, host: string, ...command: string[]): Background {
  const env = { ...process.env, LAB: name };
  const child = spawn(COMMAND, ['exec', host, '--', ...words(command)], { env });
  const lines: string[] = [];
  let rest = '';
  const take = (chunk: Buffer): void => {
    const parts = (rest + chunk.toString()).split('\n');
    rest = parts.pop() ?? '';
    lines.push(...parts);
  };
  child.stdout.on('data', take);
  child.stderr.on('data', take);
  const ended = new Promise<void>((done) => child.on('close', () => done()));
  return {
    lines,
    end(signal = 'SIGINT') {
      child.kill(signal);
      return ended;
    },
  };
}

/** Echoes ten times a second until it is called, and ten more answers have come; answers how many were not answered. */
export function echoes(host: string, from: string, to: string): () => Promise<number> {
  const pinging = background(host, `docker exec ${from} ping -i 0.1 ${to}`);
  const answered = (): ReadonlySet<number> =>
    new Set([...pinging.lines.join('\n').matchAll(/seq=(\d+)/g)].map(([, number]) => Number(number)));
  return async () => {
    const before = Math.max(0, ...answered());
    await until(`${from} to reach ${to}`, async () => Math.max(0, ...answered()) > before + 10);
    await pinging.end();
    return Math.max(...answered()) + 1 - answered().size;
  };
}
