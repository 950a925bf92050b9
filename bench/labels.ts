/**
 * How long the label of one pod takes to hold: from the request to the API server until what a NetworkPolicy then lets through arrives, and until
 * what it then denies arrives no more. Two clusters side by side, of two real nodes each: one with ten NetworkPolicies and a hundred pods, one with a
 * thousand, in a hundred namespaces, and five thousand pods, simulated but for two (population.ts). The label of the one changes in turns.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { NETMASTER_PORT, onHost, readState } from '../lab/state.ts';
import type { Turn } from './knocking.ts';
import { inPlace, type Place } from './networks.ts';
import { median, ratiosTo, ratioVerdict, shown, textTable } from './numbers.ts';
import { containerPlace, HOST, kubectlLine, kubectlOf } from './pods.ts';

const SIZES = {
  small: { policies: 10, pods: 100, spaces: 10 },
  large: { policies: 1000, pods: 5000, spaces: 100 },
} as const;
type Size = keyof typeof SIZES;
const NAMES = Object.keys(SIZES) as Size[];
const SIMULATED_HOSTS = 10;
const PORT = 7000;
/** Where kubectl's proxy listens on the host. */
const API = 8001;
/** Of the small one's, at most: noise between two clusters on one machine is some 0.1. */
const BOUND = 1.2;

const CHANGES = { allowed: 'friend', denied: 'stranger' } as const;
type Change = keyof typeof CHANGES;

/** Milliseconds, in the order of the rounds. */
export type LabelTimes = Readonly<Record<Size, Readonly<Record<Change, number[]>>>>;

export interface LabelOptions {
  readonly lab: string;
  readonly rounds: number;
  step(words: string): void;
  /** `bin/lab` for the lab of this name. */
  command(lab: string, ...args: string[]): Promise<void>;
  readonly keep: boolean;
}

interface Site {
  readonly size: Size;
  /** Until the label holds: milliseconds. */
  change(to: Change): Promise<number>;
}

export async function measureLabels(options: LabelOptions): Promise<LabelTimes> {
  const { rounds, step, command, keep } = options;
  const times = { small: { allowed: [], denied: [] }, large: { allowed: [], denied: [] } } as LabelTimes;
  const labOf = (size: Size): string => `${options.lab}${size}`;
  const children: ChildProcess[] = [];
  const start = (file: string, args: string[]): ChildProcess => {
    const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    children.push(child);
    return child;
  };
  try {
    const sites: Site[] = [];
    for (const size of NAMES) {
      const { policies, pods } = SIZES[size];
      step(`  a cluster of two nodes with ${policies} policies and ${pods} pods ...\n`);
      await command(labOf(size), 'down');
      // The simulated hosts have no certificates.
      await command(labOf(size), 'up', '--quiet', '--kubernetes', '--insecure');
      sites.push(await openSite(labOf(size), size, start));
    }
    for (const site of sites) for (const to of ['allowed', 'denied'] as const) await site.change(to); // what is compiled at first does not count
    for (let round = 0; round < rounds; round++) {
      step(`  label, round ${round + 1} of ${rounds}: `);
      for (const site of round % 2 ? sites : sites.toReversed())
        for (const to of ['allowed', 'denied'] as const) {
          const took = await site.change(to);
          times[site.size][to].push(took);
          step(`${site.size} ${to} ${shown(took)}  `);
        }
      step('ms\n');
    }
    return times;
  } finally {
    for (const child of children) child.kill('SIGKILL');
    if (!keep) for (const size of NAMES) await command(labOf(size), 'down');
  }
}

async function openSite(
  lab: string,
  size: Size,
  start: (file: string, args: string[]) => ChildProcess,
): Promise<Site> {
  const kubectl = kubectlOf(lab);
  const server = await containerPlace(lab, kubectl, 'server', 'node2');
  const client = await containerPlace(lab, kubectl, 'client', 'node1');
  await kubectl(onlyFriends, 'apply', '-f', '-');
  const proxy = start(...kubectlLine(lab, 'proxy', `--port=${API}`));
  await said(proxy, 'Starting to serve');
  const { policies, pods, spaces } = SIZES[size];
  const address = readState(lab)?.hosts[0]?.address;
  const amounts = [pods, policies, spaces, SIMULATED_HOSTS].map(String);
  const population = start(
    ...onHost(
      lab,
      HOST,
      ...script(
        'population.ts',
        `http://${address}:${NETMASTER_PORT}`,
        `http://127.0.0.1:${API}`,
        ...amounts,
      ),
    ),
  );
  await said(population, 'loaded');
  const inPod = (place: Place, ...args: string[]) =>
    start(...inPlace(lab, place, 0, script('knocking.ts', ...args)));
  await said(inPod(server, 'serve', String(PORT)), 'listening');
  const to = await kubectl(undefined, 'get', 'pod', 'server', '-o', 'jsonpath={.status.podIP}');
  const turns = createInterface({
    input: inPod(client, to.trim(), String(PORT)).stdout as NodeJS.ReadableStream,
  })[Symbol.asyncIterator]();
  return {
    size,
    async change(change) {
      const began = performance.timeOrigin + performance.now();
      await kubectl(undefined, 'label', 'pod', 'client', `role=${CHANGES[change]}`, '--overwrite');
      for (;;) {
        const { value, done } = await turns.next();
        if (done) throw new Error(`the client in the ${size} cluster ended`);
        const { answered, at } = JSON.parse(value) as Turn;
        if (answered === (change === 'allowed') && at > began) return at - began;
      }
    },
  };
}

const script = (name: string, ...args: string[]): string[] => [
  process.execPath,
  '--disable-warning=ExperimentalWarning',
  path.join(import.meta.dirname, name),
  ...args,
];

/** Resolves when the program has printed that. */
async function said(child: ChildProcess, words: string): Promise<void> {
  const ended = once(child, 'close').then(() => true);
  for (let printed = ''; !printed.includes(words); ) {
    const data = once(child.stdout as NodeJS.ReadableStream, 'data').then(([chunk]) => String(chunk));
    const next = await Promise.race([data, ended]);
    if (next === true) throw new Error(`ended before it said '${words}'`);
    printed += next;
  }
}

const onlyFriends = {
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'friends' },
  spec: {
    podSelector: { matchLabels: { app: 'server' } },
    ingress: [{ from: [{ podSelector: { matchLabels: { role: 'friend' } } }] }],
  },
};

const ratiosOf = (times: LabelTimes, change: Change): number[] =>
  ratiosTo(times.large[change], times.small[change]);
const ROWS: Readonly<Record<Change, string>> = {
  allowed: "a pod's label, until it lets through",
  denied: "a pod's label, until it denies",
};

export const labelTable = (times: LabelTimes): string =>
  textTable(
    [
      ['Kubernetes', '1,000 / 10 policies', '|', '1,000 policies', '10 policies', 'unit'],
      ...(Object.keys(ROWS) as Change[]).map((change) => [
        ROWS[change],
        shown(median(ratiosOf(times, change))),
        '|',
        shown(median(times.large[change])),
        shown(median(times.small[change])),
        'ms',
      ]),
    ],
    1,
  );

export const labelVerdicts = (times: LabelTimes): string[] =>
  (Object.keys(ROWS) as Change[]).map((change) =>
    ratioVerdict(
      `Kubernetes, ${ROWS[change]}, with 1,000 policies and 5,000 pods:`,
      ratiosOf(times, change),
      "that with 10 and 100's",
      BOUND,
      'lower',
    ),
  );

export const labelResults = (times: LabelTimes): unknown => ({
  unit: 'ms',
  rows: (Object.keys(ROWS) as Change[]).map((change) => ({
    change,
    ratio: median(ratiosOf(times, change)),
    medians: { large: median(times.large[change]), small: median(times.small[change]) },
    samples: { large: times.large[change], small: times.small[change] },
  })),
});
