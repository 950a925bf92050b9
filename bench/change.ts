/**
 * What a rule change takes, with 10, 100 and 1,000 groups of 100 rules: a lab of one real host for each size, side by
 * side, each with a crowd of simulated hosts (crowd.ts) and containers of its own. Every round changes a rule in each.
 *
 *   change   POST of the rule until it is answered, when every host has acknowledged it
 *   kernel   the part of it in which the host's kernel was made equal, and its processor time, as the agent tells
 */
import { type ChildProcess, spawn } from 'node:child_process';
import http from 'node:http';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { run } from '../lab/shell.ts';
import { NETMASTER_PORT, networkNamespace, onHost, readState } from '../lab/state.ts';
import type { Answer } from './crowd.ts';
import { median, quantile, shown, textTable } from './numbers.ts';

const SIZES = [10, 100, 1000] as const;
const HOSTS = 99;
const ENDPOINTS = 10_000;
/** Real ones, on the lab's host, in as many groups whatever their number. */
const CONTAINERS = 20;
const GROUPS_HERE = 10;

/** One change: milliseconds. */
export interface Change {
  readonly total: number;
  readonly compile: number;
  readonly compileCpu: number;
  readonly kernel: number;
  readonly kernelCpu: number;
}
type Part = keyof Change;

/** By number of groups. */
export type Changes = ReadonlyMap<number, readonly Change[]>;

const PARTS: Readonly<Record<Part, string>> = {
  total: 'rule change, until every host has acknowledged it',
  compile: 'of that, compile',
  compileCpu: 'processor time of compile',
  kernel: 'of that, the kernel',
  kernelCpu: "processor time of the kernel's part",
};

export interface ChangeOptions {
  readonly lab: string;
  readonly rounds: number;
  /** Says what comes next; throws where the user has had enough. */
  step(words: string): void;
  /** `bin/lab` for the lab of this name. */
  command(lab: string, ...args: string[]): Promise<void>;
  readonly keep: boolean;
}

/** A lab with its crowd. */
interface Site {
  readonly groups: number;
  readonly lab: string;
  ask(line: string): Promise<Answer>;
  close(): void;
}

export async function measureChanges(options: ChangeOptions): Promise<Changes> {
  const { step, command, rounds } = options;
  const labs = SIZES.map((groups) => `${options.lab}${groups}`);
  const sites: Site[] = [];
  try {
    // The largest first: it takes longest.
    for (const groups of SIZES.toReversed()) {
      const lab = `${options.lab}${groups}`;
      step(`  a lab of one host among ${HOSTS + 1}, with ${groups} groups and ${ENDPOINTS} endpoints ...\n`);
      await command(lab, 'down');
      // The crowd is of hosts that have no certificates.
      await command(lab, 'up', '--hosts', '1', '--quiet', '--insecure');
      sites.unshift(startCrowd(lab, groups));
    }
    for (const site of sites) {
      step(`  ${site.groups} groups: waiting until all hosts have them ... `);
      await settled(site);
      await Promise.all([0, 1, 2, 3].map((first) => startContainers(site, first)));
      await settled(site);
      step('done\n');
    }
    const found = new Map<number, Change[]>(SIZES.map((groups) => [groups, []]));
    for (let round = 0; round < rounds; round++) {
      step(`  rule change, round ${round + 1} of ${rounds}: `);
      for (let turn = 0; turn < sites.length; turn++) {
        const site = sites[(round + turn) % sites.length] as Site;
        const change = await changeOnce(site);
        if (change !== undefined) found.get(site.groups)?.push(change);
        step(`${site.groups}: ${shown(change?.total)}  `);
      }
      step('ms\n');
    }
    return found;
  } finally {
    for (const site of sites) site.close();
    if (!options.keep) for (const lab of labs) await command(lab, 'down');
  }
}

function startCrowd(lab: string, groups: number): Site {
  const address = readState(lab)?.hosts[0]?.address;
  const url = `http://${address}:${NETMASTER_PORT}`;
  const script = path.join(import.meta.dirname, 'crowd.ts');
  const args = [url, groups, ENDPOINTS, HOSTS].map(String);
  const child: ChildProcess = spawn(
    'nsenter',
    [
      `--net=/run/netns/${networkNamespace(lab, 'node1')}`,
      process.execPath,
      '--disable-warning=ExperimentalWarning',
      script,
      ...args,
    ],
    { stdio: ['pipe', 'pipe', 'inherit'], detached: true },
  );
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
  const next = async (): Promise<Answer> => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`the crowd around ${lab} ended`);
    return JSON.parse(value) as Answer;
  };
  const loaded = next();
  loaded.catch(() => {}); // whoever asks is told
  return {
    groups,
    lab,
    async ask(line) {
      await loaded;
      child.stdin?.write(`${line}\n`);
      return next();
    },
    close: () => void child.kill('SIGKILL'),
  };
}

/** Until nobody is late for a change. */
async function settled(site: Site): Promise<void> {
  for (const deadline = performance.now() + 600_000; ; ) {
    const answers = [await site.ask('change'), await site.ask('undo')];
    if (answers.every(({ late }) => late === '')) return;
    if (performance.now() > deadline) throw new Error(`${site.lab}: ${answers[1]?.late} does not catch up`);
    await new Promise((done) => setTimeout(done, 500));
  }
}

async function startContainers({ lab }: Site, first: number): Promise<void> {
  for (let i = first; i < CONTAINERS; i += 4)
    await run(
      ...onHost(
        lab,
        'node1',
        ...`docker run -d --name=c${i} --net=g${i % GROUPS_HERE}.n contiv/lab sleep 100000`.split(' '),
      ),
    );
}

/** undefined where a verification came in between, or somebody was late. */
async function changeOnce(site: Site): Promise<Change | undefined> {
  const before = await agentMetrics(site.lab);
  const { ms, late } = await site.ask('change');
  const after = await agentMetrics(site.lab);
  await site.ask('undo');
  const grown = (name: string): number => (after.get(name) ?? 0) - (before.get(name) ?? 0);
  const passes = grown('contiv_netplugin_apply_seconds_count{verify="false"}');
  if (late !== '' || passes !== 1 || grown('contiv_netplugin_compile_seconds_count') !== 1) return undefined;
  return {
    total: ms,
    compile: grown('contiv_netplugin_compile_seconds_sum') * 1000,
    compileCpu: grown('contiv_netplugin_compile_cpu_seconds_total') * 1000,
    kernel: grown('contiv_netplugin_apply_seconds_sum{verify="false"}') * 1000,
    kernelCpu: grown('contiv_netplugin_apply_cpu_seconds_total{verify="false"}') * 1000,
  };
}

/** By name and labels, from the agent's control socket, which is in the mounts of its host. */
async function agentMetrics(lab: string): Promise<Map<string, number>> {
  const agent = readState(lab)?.processes.find((p) => p.name === 'netplugin');
  const socketPath = `/proc/${agent?.pid}/root/run/contiv/netplugin.sock`;
  const text = await new Promise<string>((done, fail) => {
    http
      .get({ socketPath, path: '/metrics' }, async (response) => {
        let body = '';
        for await (const chunk of response.setEncoding('utf8')) body += chunk;
        done(body);
      })
      .on('error', fail);
  });
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => {
      const space = line.lastIndexOf(' ');
      return [line.slice(0, space), Number(line.slice(space + 1))];
    }),
  );
}

const [FEWEST, MOST] = [SIZES[0], SIZES[SIZES.length - 1] as number];
const of = (changes: Changes, groups: number, part: Part): number[] =>
  (changes.get(groups) ?? []).map((change) => change[part]);
const parts = Object.entries(PARTS) as [Part, string][];

const ratioOf = (changes: Changes, part: Part): number =>
  median(of(changes, MOST, part)) / median(of(changes, FEWEST, part));

export function changeTable(changes: Changes): string {
  const head = ['', `${MOST} / ${FEWEST}`, '|', ...SIZES.map((size) => `${size} groups`), 'unit'];
  const rows = parts.map(([part, title]) => [
    title,
    shown(ratioOf(changes, part)),
    '|',
    ...SIZES.map((size) => shown(median(of(changes, size, part)))),
    'ms',
  ]);
  const counts = SIZES.map((size) => changes.get(size)?.length ?? 0).join(', ');
  return [
    `Groups of 100 rules, ${ENDPOINTS} endpoints on ${HOSTS + 1} hosts, ${CONTAINERS} containers in ${GROUPS_HERE} groups on the real one: medians of ${counts} changes.`,
    '',
    textTable([head, ...rows], 1),
  ].join('\n');
}

/** Within noise: the median with the most groups is no worse than the upper quartile with the fewest. */
export function changeVerdicts(changes: Changes): string[] {
  return (['total', 'compileCpu', 'kernelCpu'] as const).map((part) => {
    const found = median(of(changes, MOST, part));
    const bound = quantile(of(changes, FEWEST, part), 0.75);
    const words = `${PARTS[part]}: ${shown(found)} ms with ${MOST} groups`;
    return `${found <= bound ? 'pass' : 'FAIL'}  ${words}, wanted at most ${shown(bound)}, the upper quartile with ${FEWEST}`;
  });
}

export const changeResults = (changes: Changes): unknown => ({
  hosts: HOSTS + 1,
  endpoints: ENDPOINTS,
  unit: 'ms',
  parts: Object.fromEntries(
    parts.map(([part, title]) => [
      part,
      {
        title,
        ratio: ratioOf(changes, part),
        medians: Object.fromEntries(SIZES.map((size) => [size, median(of(changes, size, part))])),
      },
    ]),
  ),
  samples: Object.fromEntries(changes),
});
