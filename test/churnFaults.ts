/** Faults of a churn (churn.ts), each for a while at one host, and how often each comes. */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import { ETCD_PORT, hostFolder } from '../lab/state.ts';
import {
  actors,
  type Churn,
  type ChurnStore,
  HOSTS,
  type Host,
  type Interval,
  pause,
  randomOf,
  serversOf,
  starts,
} from './churn.ts';
import { now } from './churnPackets.ts';
import { backgroundIn, lab, mustLab, until } from './lab.ts';

/** Milliseconds after which what was cut off goes on, a loaded machine granted. */
export const GRACE = 3000;

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
export const between = (random: () => number, min: number, max: number): number =>
  min + random() * (max - min);

type Fault = (churn: Churn, at: Host, ms: number) => Promise<void>;
type Server = 'netmaster' | 'netplugin' | 'dockerd' | 'etcd';

const kill =
  (server: Server): Fault =>
  async (churn, at, ms) => {
    await lab('--name', churn.lab, 'kill', server, at);
    await pause(ms / 2);
    const started = async () => (await lab('--name', churn.lab, 'start', server, at)).status === 0;
    // dockerd asks netplugin for its networks before it answers, which may be stopped, or killed, again and again.
    await until(`${server} on ${at}`, started, 180);
  };

/** Of one that runs. */
async function processOf(churn: Churn, server: Server, at: Host): Promise<number | undefined> {
  const { processes } = JSON.parse(await mustLab('--name', churn.lab, 'status', '--json'));
  const found = processes.find((p: { name: string; host: string }) => p.name === server && p.host === at);
  return found?.running ? found.pid : undefined;
}

/** SIGSTOP, and SIGCONT after a while. */
const freeze =
  (server: Server): Fault =>
  async (churn, at, ms) => {
    const pid = await processOf(churn, server, at);
    if (pid === undefined) return;
    process.kill(pid, 'SIGSTOP');
    await pause(ms);
    process.kill(pid, 'SIGCONT');
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
    // Docker is refused after 25 s where netmaster or its store is away, and then waits for the agent, which may be killed meanwhile.
    const started = async () => mine.every((name) => starts(churn, name).some((t) => t > began));
    await until(`containers of ${at}`, started, 180);
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

/** A namespace that has no container around it. */
const bare: Fault = async (churn, at, ms) => {
  const name = `bare-${Math.floor(now())}`;
  const run = (...command: string[]) => lab('--name', churn.lab, 'exec', at, '--', ...command);
  const network = ms > 2000 ? 'open.churn' : 'shut.churn';
  await run('ip', 'netns', 'add', name);
  const netns = `/run/netns/${name}`;
  await run('netplugin', 'endpoint', 'add', '--netns', netns, '--network', network, '--name', name);
  await pause(ms);
  // Where the agent is away it finds out by itself that the namespace is gone.
  await run('netplugin', 'endpoint', 'rm', name);
  await run('ip', 'netns', 'del', name);
};

// ---- netmaster's store

const killAll =
  (server: Server): Fault =>
  async (churn, _at, ms) => {
    await Promise.all(serversOf(churn.store).map((h) => kill(server)(churn, h, ms)));
  };

/** What members of etcd, and netmasters, send to these hosts' members is lost, and what these send: but what each says to itself. */
const isolate = async (churn: Churn, hosts: readonly Host[], ms: number): Promise<void> => {
  const addresses = hosts.map((h) => `192.168.50.${11 + HOSTS.indexOf(h)}`).join();
  const ports = `{ ${ETCD_PORT}, ${ETCD_PORT + 1} }`;
  const rules = ['saddr', 'daddr'].flatMap((of) =>
    ['sport', 'dport'].map((port) => `ip ${of} { ${addresses} } tcp ${port} ${ports} drop;`),
  );
  const devices = HOSTS.map((h) => `"w-${h}"`).join();
  const chain = `chain lose { type filter hook ingress devices = { ${devices} } priority 0; ${rules.join(' ')} }`;
  const table = `parted_${hosts.join('_')}`;
  await onSwitch(churn, 'nft', `table netdev ${table} { ${chain}; }`);
  await pause(ms);
  await onSwitch(churn, 'nft', 'delete', 'table', 'netdev', table);
};

const minority: Fault = (churn, at, ms) => isolate(churn, [at], 2 * ms);
/** No two members hear each other: there is no majority. */
const majority: Fault = (churn, at, ms) =>
  isolate(
    churn,
    serversOf(churn.store).filter((h) => h !== at),
    3 * ms,
  );

/** netmaster reaches no member of etcd, not the one of its own host either. */
const cutStore: Fault = async (churn, at, ms) => {
  const nft = (...command: string[]) => lab('--name', churn.lab, 'exec', at, '--', 'nft', ...command);
  const chain = `chain lose { type filter hook output priority 0; tcp dport ${ETCD_PORT} drop; }`;
  await nft(`table inet parted { ${chain}; }`);
  await pause(2 * ms);
  await nft('delete', 'table', 'inet', 'parted');
};

/** etcd forgets its history so far: who was behind lists anew. */
const compact: Fault = async (churn, at) => {
  const ask = async (path: string, body: object): Promise<{ header?: { revision?: string } } | undefined> => {
    const url = `http://192.168.50.${11 + HOSTS.indexOf(at)}:${ETCD_PORT}/v3/kv/${path}`;
    const curl = ['curl', '-sf', '-m', '4', '-d', JSON.stringify(body), url];
    const { status, out } = await lab('--name', churn.lab, 'exec', at, '--', ...curl);
    return status === 0 ? JSON.parse(out) : undefined;
  };
  const revision = (await ask('range', { key: 'AA==' }))?.header?.revision;
  if (revision !== undefined) await ask('compaction', { revision, physical: true });
};

/** What a process asks of its files is answered otherwise for a while (strace(1), --inject); one that ends by it is started again. */
const answering =
  (
    server: Server,
    calls: string,
    how: string,
    files: (churn: Churn, at: Host) => readonly string[] = () => [],
  ): Fault =>
  async (churn, at, ms) => {
    const found = await processOf(churn, server, at);
    if (found === undefined) return;
    const paths = files(churn, at).flatMap((file) => ['-P', file]);
    const strace = [
      '-f',
      '-qq',
      '-o',
      '/dev/null',
      '-e',
      `inject=${calls}:${how}`,
      ...paths,
      '-p',
      String(found),
    ];
    const tracing = backgroundIn(churn.lab, at, 'strace', ...strace);
    await pause(2 * ms);
    await tracing.end();
    await until(`${server} on ${at}`, async () => {
      return (await lab('--name', churn.lab, 'start', server, at)).status === 0;
    });
  };

/** Each write waits as for a disk that others keep busy; microseconds. */
const SLOW = 'delay_enter=400000';
const slow = (server: Server): Fault => answering(server, 'fsync,fdatasync', SLOW);
/** Where the store is, as the process has the files open. */
const storeFiles = (churn: Churn, at: Host): readonly string[] => {
  if (churn.store === 'sqlite')
    return ['', '-wal', '-shm'].map((end) => `/var/lib/contiv/netmaster.db${end}`);
  const folder = `${hostFolder(churn.lab, at)}/etcd/member`;
  const log = fs.readdirSync(`${folder}/wal`).map((name) => `${folder}/wal/${name}`);
  return [...log, `${folder}/snap/db`];
};
const fill = (server: Server): Fault =>
  answering(server, 'write,pwrite64,fallocate,ftruncate', 'error=ENOSPC', storeFiles);

/** What a fault is about, of which a host has one: none is done to it by two at a time. */
type Subject = Server | 'link' | 'store' | 'container';
const SUBJECTS: readonly Subject[] = [
  'netmaster',
  'netplugin',
  'dockerd',
  'etcd',
  'link',
  'store',
  'container',
];

interface FaultKind {
  readonly what: string;
  /** How often it comes. */
  readonly weight: number;
  /** `alone`: nothing else is done to the host. */
  readonly subject: Subject | 'alone';
  /** It is done to all hosts at once. */
  readonly everywhere?: true;
  /** netmaster's promise about the host does not hold meanwhile. */
  readonly breaks?: true;
  /** Where that is the store; else everywhere. */
  readonly store?: ChurnStore;
  readonly do: Fault;
}
const FAULTS: readonly FaultKind[] = [
  { what: 'kill -9 netplugin', weight: 4, subject: 'netplugin', breaks: true, do: kill('netplugin') },
  { what: 'SIGSTOP netplugin', weight: 3, subject: 'netplugin', breaks: true, do: freeze('netplugin') },
  { what: 'kill -9 netmaster', weight: 2, subject: 'netmaster', do: kill('netmaster') },
  { what: 'SIGSTOP netmaster', weight: 2, subject: 'netmaster', do: freeze('netmaster') },
  { what: 'SIGSTOP dockerd', weight: 2, subject: 'dockerd', do: freeze('dockerd') },
  { what: 'kill -9 dockerd', weight: 1, subject: 'dockerd', breaks: true, do: killDocker },
  { what: 'link down', weight: 2, subject: 'link', breaks: true, do: cutOff },
  { what: 'link flaps', weight: 1, subject: 'link', breaks: true, do: flap },
  { what: 'one-way loss on link', weight: 1, subject: 'link', breaks: true, do: loseSent },
  { what: 'reboot', weight: 1, subject: 'alone', breaks: true, do: reboot },
  { what: 'container', weight: 6, subject: 'container', do: come },
  { what: 'bare namespace', weight: 2, subject: 'container', do: bare },
  { what: 'full disk of netmaster', weight: 1, subject: 'netmaster', store: 'sqlite', do: fill('netmaster') },
  {
    what: 'slow fsync of netmaster',
    weight: 1,
    subject: 'netmaster',
    store: 'sqlite',
    do: slow('netmaster'),
  },
  {
    what: 'kill -9 of all netmasters',
    weight: 1,
    subject: 'netmaster',
    everywhere: true,
    store: 'etcd',
    do: killAll('netmaster'),
  },
  { what: 'netmaster cut off from etcd', weight: 2, subject: 'store', store: 'etcd', do: cutStore },
  { what: 'kill -9 etcd', weight: 2, subject: 'etcd', store: 'etcd', do: kill('etcd') },
  { what: 'SIGSTOP etcd', weight: 2, subject: 'etcd', store: 'etcd', do: freeze('etcd') },
  {
    what: 'kill -9 of all etcd',
    weight: 1,
    subject: 'etcd',
    everywhere: true,
    store: 'etcd',
    do: killAll('etcd'),
  },
  {
    what: "partition of etcd's minority",
    weight: 2,
    subject: 'store',
    everywhere: true,
    store: 'etcd',
    do: minority,
  },
  {
    what: "partition of etcd's majority",
    weight: 1,
    subject: 'store',
    everywhere: true,
    store: 'etcd',
    do: majority,
  },
  { what: 'compaction of etcd', weight: 2, subject: 'etcd', store: 'etcd', do: compact },
  { what: 'full disk of etcd', weight: 1, subject: 'etcd', store: 'etcd', do: fill('etcd') },
  { what: 'slow fsync of etcd', weight: 1, subject: 'etcd', store: 'etcd', do: slow('etcd') },
];

/** What only a host with netmaster has. */
const SERVED: readonly (Subject | 'alone')[] = ['netmaster', 'etcd', 'store'];
const isAt = (churn: Churn, { subject }: FaultKind, at: Host): boolean =>
  !SERVED.includes(subject) || serversOf(churn.store).includes(at);

/** Faults one after the other, each on its way while the next ones come. Throws where one does not come to its end; none begins after that. */
export async function fault(churn: Churn, goesOn: () => boolean): Promise<void> {
  const { log } = churn;
  const random = randomOf(churn, 0);
  const urn = FAULTS.filter(({ store }) => store === undefined || store === churn.store).flatMap((kind) =>
    Array.from({ length: kind.weight }, () => kind),
  );
  const one = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)] as T;
  const running = new Map<string, Promise<void>>();
  let failed = false;
  while (goesOn() && !failed) {
    const kind = one(urn);
    const at = one(HOSTS.filter((h) => isAt(churn, kind, h)));
    const ms = between(random, 300, 5000);
    const next = between(random, 100, 1500);
    const { what, subject, everywhere = false, breaks = false } = kind;
    const subjects = (everywhere ? HOSTS : [at]).flatMap((h) =>
      (subject === 'alone' ? SUBJECTS : [subject]).map((each) => `${h} ${each}`),
    );
    await Promise.all(subjects.map((each) => running.get(each)));
    log.push(`${now().toFixed(0)} ${what} at ${at} for ${ms.toFixed(0)} ms`);
    const from = now();
    const doing = (): Promise<void> => kind.do(churn, at, ms);
    const done = (breaks ? during(churn.away, at, 0, doing) : doing()).then(() => {
      churn.done.push({ what, at, from, to: now() });
    });
    done.catch(() => {
      failed = true; // it is thrown where it is waited for
    });
    for (const each of subjects) running.set(each, done);
    await pause(next);
  }
  await Promise.all(running.values());
}
