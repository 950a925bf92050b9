/**
 * A churn of four hosts: for a while everything is killed, stopped, cut off and changed, in an order that follows from a seed, and
 * senders send all the time what may pass and what may not.
 *
 *   host n   good-n  group open    to safe-n and safe-(n+1)     allowed all the time
 *            evil-n  group evil    to the same                  forbidden all the time, two processors on one socket
 *                                  to port 7002 of safe-(n+1)   allowed while rule `some` is there
 *                                  to port 7003 of flip-(n+1)   allowed while group flip has no policy
 *            safe-n  group shut    flip-n  group flip
 *
 * What arrives is kept with the time that it was sent, on the one clock of the machine, and judged when all is over (churnFindings.ts):
 *
 *   forbidden  what was sent after netmaster had said that the receiver's host denies it, and before anyone asked to allow it
 *              again. A host that netmaster named as late, or whose agent was away just then, has made no such promise.
 *   stopped    an allowed stream of which ten packets in a row did not arrive, while both hosts' links were up, and both
 *              containers there. Those end with a dockerd that is killed, and come back with the next one.
 */
import fs from 'node:fs';
import path from 'node:path';
import { FLOWS, type Stream } from './churnPackets.ts';
import { startClients } from './history.ts';
import { type Background, lab, mustLab, until } from './lab.ts';
import { randomFrom } from './random.ts';

export const HOSTS = ['node1', 'node2', 'node3', 'node4'] as const;
export type Host = (typeof HOSTS)[number];
/** Where netmaster runs: with etcd one of its members and a replica on each of three. */
export const serversOf = (store: ChurnStore): readonly Host[] => HOSTS.slice(0, store === 'etcd' ? 3 : 1);
const ROOT = path.dirname(import.meta.dirname);

export interface Interval {
  readonly from: number;
  /** Infinity until it is over. */
  to: number;
}

/** netmaster's: one netmaster with a file on node1, or one on each host with a member of etcd beside it. */
export type ChurnStore = 'sqlite' | 'etcd';

export interface Churn {
  readonly lab: string;
  readonly store: ChurnStore;
  readonly folder: string;
  readonly seed: number;
  /** Of each host: when its link was cut, or its containers were gone. */
  readonly cut: Map<Host, Interval[]>;
  /** Of each host: when its agent was away, stopped or cut off. */
  readonly away: Map<Host, Interval[]>;
  /** By port and host: when the host had denied it. */
  readonly denied: Map<number, Map<Host, Interval[]>>;
  /** What was done, for who wants to know. */
  readonly log: string[];
  /** The same where it is over. */
  readonly done: Done[];
  /** Clients that write and read objects all the time, which a checker judges (history.ts). */
  clients: Background | undefined;
}

export const historyOf = ({ folder }: Churn): string => `${folder}/history.ndjson`;

export interface Done extends Interval {
  readonly what: string;
  readonly at: Host;
}

export const overlaps = (intervals: readonly Interval[], from: number, to: number): boolean =>
  intervals.some((i) => i.from < to && from < i.to);

/** One for each of those who do something at the same time: none waits for another's draw. */
export const randomOf = ({ seed }: Churn, who: number): (() => number) => randomFrom(seed + who * 0x9e3779b9);

export const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));
export const host = (index: number): Host => HOSTS[index % HOSTS.length] as Host;
const address = (role: number, index: number): string => `10.20.${role}.${(index % HOSTS.length) + 1}`;
const SAFE = 1;
const FLIP = 2;
export const SENDERS = { good: 3, evil: 4 } as const;
/** What a packet calls its sender. */
export const idOf = (role: number, index: number): number => role * 10 + index;

/** The lab, networks and policy, and all senders and receivers, which run when it returns. */
export async function startChurn(name: string, seed: number, store: ChurnStore = 'sqlite'): Promise<Churn> {
  const churn: Churn = {
    lab: name,
    store,
    folder: fs.mkdtempSync('/tmp/churn-'),
    seed,
    cut: new Map(HOSTS.map((h) => [h, []])),
    away: new Map(HOSTS.map((h) => [h, []])),
    denied: new Map([FLOWS.byRule, FLOWS.byGroup].map((port) => [port, new Map(HOSTS.map((h) => [h, []]))])),
    log: [],
    done: [],
    clients: undefined,
  };
  try {
    await prepare(churn);
  } catch (error) {
    await endChurn(churn);
    throw error;
  }
  return churn;
}

async function prepare(churn: Churn): Promise<void> {
  const replicas =
    churn.store === 'etcd' ? ['--store', 'etcd', '--netmasters', String(serversOf(churn.store).length)] : [];
  await mustLab('--name', churn.lab, 'up', '--quiet', '--hosts', String(HOSTS.length), ...replicas);
  churn.clients = startClients(churn.lab, 'outside', historyOf(churn), churn.seed);
  const netctl = (...args: string[]): Promise<string> => on(churn, 'node1', 'netctl', ...args);
  await netctl('net', 'create', 'churn', '--subnet=10.20.0.0/16', '--gateway=10.20.255.254');
  for (const group of ['open', 'evil', 'flip']) await netctl('group', 'create', 'churn', group);
  await netctl('policy', 'create', 'closed');
  await netctl('policy', 'rule-add', 'closed', 'all', '-direction=in', '-action=deny');
  await netctl(
    ...['policy', 'rule-add', 'closed', 'open', '-direction=in', '--from-group=open'],
    ...['-action=allow', '-priority=10'],
  );
  await netctl('policy', 'create', 'noise');
  await netctl('group', 'create', 'churn', 'shut', '-policy=closed', '-policy=noise');
  const onEach = (what: (at: Host, i: number) => Promise<void>): Promise<unknown> =>
    Promise.all(HOSTS.map(what));
  await onEach(async (at, i) => {
    await act(churn, at, `safe-${i}`, 'shut', address(SAFE, i), ['receive', MOUNT, `safe-${i}`]);
    await act(churn, at, `flip-${i}`, 'flip', address(FLIP, i), ['receive', MOUNT, `flip-${i}`]);
  });
  await onEach(async (at, i) => {
    const tcp = (to: string): Stream => ({ to, port: FLOWS.tcp, burst: 1, everyMs: 100, threads: 1 });
    const toSafe = [address(SAFE, i), address(SAFE, i + 1)];
    const good = toSafe.flatMap((to): Stream[] => [
      { to, port: FLOWS.always, burst: 1, everyMs: 20, threads: 1 },
      tcp(to),
    ]);
    const evil = toSafe.flatMap((to): Stream[] => [
      { to, port: FLOWS.always, burst: 16, everyMs: 10, threads: 2 },
      tcp(to),
    ]);
    const changing: Stream[] = [
      { to: address(SAFE, i + 1), port: FLOWS.byRule, burst: 12, everyMs: 10, threads: 2 },
      { to: address(FLIP, i + 1), port: FLOWS.byGroup, burst: 12, everyMs: 10, threads: 2 },
    ];
    for (const [role, group, streams] of [
      ['good', 'open', good],
      ['evil', 'evil', [...evil, ...changing]],
    ] as const) {
      const id = SENDERS[role];
      const name = `${role}-${i}`;
      const what = ['send', MOUNT, name, String(idOf(id, i)), JSON.stringify(streams)];
      await act(churn, at, name, group, address(id, i), what);
    }
  });
  for (const name of actors())
    await until(`process of ${name}`, async () => starts(churn, name).length > 0).catch(async (error) => {
      const at = host(Number(name.slice(-1)));
      const { out, err } = await lab('--name', churn.lab, 'exec', at, '--', 'docker', 'logs', name);
      throw new Error(`${error.message}: ${out}${err}`);
    });
}

export async function endChurn({ lab: name, folder, clients }: Churn): Promise<void> {
  await clients?.end('SIGKILL');
  await lab('--name', name, 'down');
  fs.rmSync(folder, { recursive: true, force: true });
}

export const actors = (): string[] =>
  HOSTS.flatMap((_, i) => ['safe', 'flip', 'good', 'evil'].map((r) => `${r}-${i}`));

/** When a container's process has started. */
export function starts({ folder }: Churn, name: string): number[] {
  const file = `${folder}/${name}.starts`;
  if (!fs.existsSync(file)) return [];
  return fs.readFileSync(file, 'utf8').split('\n').filter(Boolean).map(Number);
}

export const on = (churn: Churn, at: string, ...command: string[]): Promise<string> =>
  mustLab('--name', churn.lab, 'exec', at, '--', ...command);

/** Where the churn's folder is for a container's process. */
const MOUNT = '/mnt';
/** What a program of this machine needs of it. */
const NODE = path.dirname(process.execPath);
const MACHINE = [
  '/lib',
  '/lib64',
  '/usr',
  ROOT,
  ...(/^\/usr\//.test(NODE) || NODE.startsWith(ROOT) ? [] : [NODE]),
];

/** A container whose process is this machine's Node, in a root of its own. */
async function act(
  churn: Churn,
  at: Host,
  name: string,
  group: string,
  ip: string,
  what: string[],
): Promise<void> {
  const node = [process.execPath, '--disable-warning=ExperimentalWarning', `${ROOT}/test/churnActor.ts`];
  await on(
    churn,
    at,
    ...['docker', 'run', '-d', `--name=${name}`, `--net=${group}.churn`, `--ip=${ip}`, '--restart=always'],
    ...MACHINE.filter((folder) => fs.existsSync(folder)).flatMap((folder) => [
      '-v',
      `${fs.realpathSync(folder)}:/host${folder}:ro`,
    ]),
    ...['--stop-signal=SIGKILL', '-v', `${churn.folder}:/host${MOUNT}`],
    ...['contiv/lab', 'chroot', '/host', ...node, ...what],
  );
}

/** For who looks for a cause: faults, and when processes started and hosts were cut off. */
export function story(churn: Churn): string {
  const times = (intervals: readonly Interval[]): string =>
    intervals.map((i) => `${i.from.toFixed(0)}-${i.to.toFixed(0)}`).join(' ');
  return [
    `CHURN_SEED=${churn.seed}`,
    ...churn.log,
    ...HOSTS.map((h) => `${h} cut off ${times(churn.cut.get(h) ?? [])}`),
    ...actors().map((name) => `${name} started ${starts(churn, name).map((t) => t.toFixed(0))}`),
  ].join('\n');
}
