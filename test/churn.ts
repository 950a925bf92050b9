/**
 * A churn of three hosts: for a while everything is killed, stopped, cut off and changed, in an order that follows from a seed, and
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
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { FLOWS, now, type Stream } from './churnPackets.ts';
import { lab, mustLab, until } from './lab.ts';

export const HOSTS = ['node1', 'node2', 'node3'] as const;
export type Host = (typeof HOSTS)[number];
const ROOT = path.dirname(import.meta.dirname);

/** Milliseconds after which what was cut off goes on, a loaded machine granted. */
const GRACE = 3000;

export interface Interval {
  readonly from: number;
  /** Infinity until it is over. */
  to: number;
}

export interface Churn {
  readonly lab: string;
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
}

export interface Done extends Interval {
  readonly what: string;
  readonly at: Host;
}

export const overlaps = (intervals: readonly Interval[], from: number, to: number): boolean =>
  intervals.some((i) => i.from < to && from < i.to);

/** mulberry32, one for each of those who do something at the same time: none waits for another's draw. */
function randomOf({ seed }: Churn, who: number): () => number {
  let state = (seed + who * 0x9e3779b9) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));
export const host = (index: number): Host => HOSTS[index % HOSTS.length] as Host;
const address = (role: number, index: number): string => `10.20.${role}.${(index % HOSTS.length) + 1}`;
const SAFE = 1;
const FLIP = 2;
export const SENDERS = { good: 3, evil: 4 } as const;
/** What a packet calls its sender. */
export const idOf = (role: number, index: number): number => role * 10 + index;

/** The lab, networks and policy, and all senders and receivers, which run when it returns. */
export async function startChurn(name: string, seed: number): Promise<Churn> {
  const churn: Churn = {
    lab: name,
    folder: fs.mkdtempSync('/tmp/churn-'),
    seed,
    cut: new Map(HOSTS.map((h) => [h, []])),
    away: new Map(HOSTS.map((h) => [h, []])),
    denied: new Map([FLOWS.byRule, FLOWS.byGroup].map((port) => [port, new Map(HOSTS.map((h) => [h, []]))])),
    log: [],
    done: [],
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
  await mustLab('--name', churn.lab, 'up', '--quiet', '--hosts', String(HOSTS.length));
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

export async function endChurn({ lab: name, folder }: Churn): Promise<void> {
  await lab('--name', name, 'down');
  fs.rmSync(folder, { recursive: true, force: true });
}

export const actors = (): string[] =>
  HOSTS.flatMap((_, i) => ['safe', 'flip', 'good', 'evil'].map((r) => `${r}-${i}`));

/** When a container's process has started. */
function starts({ folder }: Churn, name: string): number[] {
  const file = `${folder}/${name}.starts`;
  if (!fs.existsSync(file)) return [];
  return fs.readFileSync(file, 'utf8').split('\n').filter(Boolean).map(Number);
}

const on = (churn: Churn, at: string, ...command: string[]): Promise<string> =>
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

// ---- what is done

/** Marks the time in which something is done to a host, from before it begins until it is over and the grace has passed. */
async function during(
  intervals: ReadonlyMap<Host, Interval[]>,
  at: Host,
  grace: number,
  what: () => Promise<unknown>,
): Promise<void> {
  // A stream's last packet may have been sent a little before.
  const interval: Interval = { from: now() - 100, to: Number.POSITIVE_INFINITY };
  intervals.get(at)?.push(interval);
  try {
    await what();
  } finally {
    interval.to = now() + grace;
  }
}

/** A length of time: everything lasts its own. */
const between = (random: () => number, min: number, max: number): number => min + random() * (max - min);

type Fault = (churn: Churn, at: Host, ms: number) => Promise<void>;
type Server = 'netmaster' | 'netplugin' | 'dockerd';

const kill =
  (server: Server): Fault =>
  async (churn, at, ms) => {
    await lab('--name', churn.lab, 'kill', server, at);
    await pause(ms / 2);
    await until(`${server} on ${at}`, async () => {
      return (await lab('--name', churn.lab, 'start', server, at)).status === 0;
    });
  };

/** SIGSTOP, and SIGCONT after a while. */
const freeze =
  (server: Server): Fault =>
  async (churn, at, ms) => {
    const { processes } = JSON.parse(await mustLab('--name', churn.lab, 'status', '--json'));
    const found = processes.find((p: { name: string; host: string }) => p.name === server && p.host === at);
    if (found === undefined || !found.running) return;
    process.kill(found.pid, 'SIGSTOP');
    await pause(ms);
    process.kill(found.pid, 'SIGCONT');
  };

/** Of the switch: `ip` and `nft` there. */
const onSwitch = (churn: Churn, command: string, ...args: string[]): Promise<void> =>
  new Promise((done, fail) => {
    const words = ['netns', 'exec', `lab-${churn.lab}-switch`, command, ...args];
    execFile('ip', words, (error) => (error === null ? done() : fail(error)));
  });

const setLink = (churn: Churn, at: Host, to: 'up' | 'down'): Promise<void> =>
  onSwitch(churn, 'ip', 'link', 'set', `w-${at}`, to);

/** As a cable that is pulled out: the host's own end loses its carrier. */
const cutOff: Fault = (churn, at, ms) =>
  during(churn.cut, at, GRACE, async () => {
    await setLink(churn, at, 'down');
    await pause(ms);
    await setLink(churn, at, 'up');
  });

/** As a plug that is loose. */
const flap: Fault = (churn, at, ms) =>
  during(churn.cut, at, GRACE, async () => {
    for (let left = ms; left > 0; left -= 500) {
      await setLink(churn, at, 'down');
      await pause(200);
      await setLink(churn, at, 'up');
      await pause(300);
    }
  });

/** What the host sends is lost, what is sent to it arrives: its link has its carrier, and neighbours are heard. */
const loseSent: Fault = (churn, at, ms) =>
  during(churn.cut, at, GRACE, async () => {
    const table = `lost_${at}`;
    const chain = `chain lose { type filter hook ingress device "w-${at}" priority 0; policy drop; }`;
    await onSwitch(churn, 'nft', `table netdev ${table} { ${chain}; }`);
    await pause(ms);
    await onSwitch(churn, 'nft', 'delete', 'table', 'netdev', table);
  });

/** Its containers end by this and are run again: they must all have started since. */
const restarting = (churn: Churn, at: Host, what: () => Promise<unknown>): Promise<void> =>
  during(churn.cut, at, GRACE, async () => {
    const began = now();
    await what();
    const mine = actors().filter((name) => name.endsWith(`-${HOSTS.indexOf(at)}`));
    await until(`containers of ${at}`, async () =>
      mine.every((name) => starts(churn, name).some((t) => t > began)),
    );
  });

/** With it its containers end, when the next one starts, which runs them again. */
const killDocker: Fault = (churn, at, ms) => restarting(churn, at, () => kill('dockerd')(churn, at, ms));

/** As after a power failure: of the host its disk alone is left. */
const reboot: Fault = (churn, at) => restarting(churn, at, () => mustLab('--name', churn.lab, 'reboot', at));

/** A container that comes, and goes after a while. */
const come: Fault = async (churn, at, ms) => {
  const name = `comer-${Math.floor(now())}`;
  const group = ms > 2000 ? 'open.churn' : 'shut.churn';
  await lab(
    ...['--name', churn.lab, 'exec', at, '--', 'docker', 'run', '-d', '--rm', `--name=${name}`],
    ...[`--net=${group}`, '--stop-signal=SIGKILL', 'contiv/lab', 'sleep', '100000'],
  );
  await pause(ms);
  await lab('--name', churn.lab, 'exec', at, '--', 'docker', 'rm', '-f', name);
};

/** How often each comes, and whether netmaster's promise about the host holds meanwhile. `alone`: nothing else is done to the host. */
interface FaultKind {
  readonly what: string;
  readonly weight: number;
  readonly where: readonly Host[];
  readonly breaks: boolean;
  readonly alone?: true;
  readonly do: Fault;
}
const FAULTS: readonly FaultKind[] = [
  { what: 'kill -9 netplugin', weight: 4, where: HOSTS, breaks: true, do: kill('netplugin') },
  { what: 'SIGSTOP netplugin', weight: 3, where: HOSTS, breaks: true, do: freeze('netplugin') },
  { what: 'kill -9 netmaster', weight: 2, where: ['node1'], breaks: false, do: kill('netmaster') },
  { what: 'SIGSTOP netmaster', weight: 2, where: ['node1'], breaks: false, do: freeze('netmaster') },
  { what: 'SIGSTOP dockerd', weight: 2, where: HOSTS, breaks: false, do: freeze('dockerd') },
  { what: 'kill -9 dockerd', weight: 1, where: HOSTS, breaks: true, do: killDocker },
  { what: 'link down', weight: 2, where: HOSTS, breaks: true, do: cutOff },
  { what: 'link flaps', weight: 1, where: HOSTS, breaks: true, do: flap },
  { what: 'one-way loss on link', weight: 1, where: HOSTS, breaks: true, do: loseSent },
  { what: 'reboot', weight: 1, where: HOSTS, breaks: true, alone: true, do: reboot },
  { what: 'container', weight: 6, where: HOSTS, breaks: false, do: come },
];

const FAULT_URN = FAULTS.flatMap((fault) => Array.from({ length: fault.weight }, () => fault));

/** What a fault is about, of which a host has one: none is done to it by two at a time. */
const subjectOf = ({ what }: FaultKind): string =>
  what.includes('link') ? 'link' : (what.split(' ').at(-1) as string);
const SUBJECTS = [...new Set(FAULTS.map(subjectOf))];

/** Faults one after the other, each on its way while the next ones come. */
async function fault(churn: Churn, end: number): Promise<void> {
  const { log } = churn;
  const random = randomOf(churn, 0);
  const running = new Map<string, Promise<void>>();
  while (now() < end) {
    const chosen = FAULT_URN[Math.floor(random() * FAULT_URN.length)] as FaultKind;
    const at = chosen.where[Math.floor(random() * chosen.where.length)] as Host;
    const ms = between(random, 300, 5000);
    const next = between(random, 100, 1500);
    const subjects = (chosen.alone ? SUBJECTS : [subjectOf(chosen)]).map((subject) => `${at} ${subject}`);
    await Promise.all(subjects.map((subject) => running.get(subject)));
    log.push(`${now().toFixed(0)} ${chosen.what} at ${at} for ${ms.toFixed(0)} ms`);
    const from = now();
    const doing = (): Promise<void> => chosen.do(churn, at, ms);
    const done = (chosen.breaks ? during(churn.away, at, 0, doing) : doing()).then(() => {
      churn.done.push({ what: chosen.what, at, from, to: now() });
    });
    for (const subject of subjects) running.set(subject, done);
    await pause(next);
  }
  await Promise.all(running.values());
}

/** Runs it until netmaster has taken it; answers the hosts that have applied it by then, as far as netmaster said so. */
async function persist(churn: Churn, ...args: readonly string[]): Promise<Host[]> {
  for (let tries = 1; ; tries++) {
    const { status, err } = await lab('--name', churn.lab, 'exec', 'node1', '--', 'netctl', ...args);
    if (status === 0) return tries === 1 ? HOSTS.filter((h) => !err.includes(h)) : [];
    // After one whose answer was lost there is nothing left to do, and nothing that hosts are waited for.
    if (tries > 1 && /does not exist|exists/.test(err)) return [];
    if (tries === 100) throw new Error(`netctl ${args.join(' ')}: ${err}`);
    await pause(200);
  }
}

/** Denies and allows a port again and again, and notes when it was denied everywhere. */
async function change(
  churn: Churn,
  end: number,
  port: number,
  { deny, allow }: { deny: readonly string[]; allow: readonly string[] },
): Promise<void> {
  const random = randomOf(churn, port);
  const allowing = (): void => {
    for (const interval of [...(churn.denied.get(port)?.values() ?? [])].flat())
      if (interval.to === Number.POSITIVE_INFINITY) interval.to = now();
  };
  while (now() < end) {
    allowing();
    await persist(churn, ...allow);
    await pause(between(random, 500, 2500));
    const asked = now();
    const applied = await persist(churn, ...deny);
    const answered = now();
    for (const h of applied)
      if (!overlaps(churn.away.get(h) ?? [], asked, answered))
        churn.denied.get(port)?.get(h)?.push({ from: answered, to: Number.POSITIVE_INFINITY });
    await pause(between(random, 1000, 4000));
  }
  allowing();
}

/** Rules and groups that change nothing of what is looked at. */
async function noise(churn: Churn, end: number): Promise<void> {
  const random = randomOf(churn, 1);
  for (let i = 0; now() < end; i++) {
    await persist(
      churn,
      ...['policy', 'rule-add', 'noise', `n${i % 7}`, '-direction=in', '-protocol=tcp'],
      ...[`-port=${9000 + (i % 7)}`, '-action=deny', '-priority=5'],
    );
    await pause(between(random, 200, 1000));
    await persist(churn, 'policy', 'rule-rm', 'noise', `n${i % 7}`);
  }
}

/** All of it for so long, and until everything runs again. */
export async function runChurn(churn: Churn, seconds: number): Promise<void> {
  const end = now() + seconds * 1000;
  const group = ['group', 'create', 'churn', 'flip'];
  const rule = ['-direction=in', '--from-group=evil', '-protocol=udp', `-port=${FLOWS.byRule}`];
  await Promise.all([
    fault(churn, end),
    change(churn, end, FLOWS.byRule, {
      deny: ['policy', 'rule-rm', 'closed', 'some'],
      allow: ['policy', 'rule-add', 'closed', 'some', ...rule, '-action=allow', '-priority=10'],
    }),
    change(churn, end, FLOWS.byGroup, { deny: [...group, '-policy=closed'], allow: group }),
    noise(churn, end),
  ]);
  await pause(GRACE + 1000);
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
