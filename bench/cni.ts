/**
 * What CNI's ADD and DEL take beside the reference plugins, bridge with host-local (Debian's containernetworking-plugins), in one lab of
 * two hosts: the same caller (cniCalls.ts), the same namespaces of one host, in turns. Ours asks netmaster for an address, writes to disk
 * what it has attached and waits until the other host knows it; the reference's stays on its host, behind SNAT as containerd's example has it.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { run } from '../lab/shell.ts';
import { hostFolder, onHost, ROOT } from '../lab/state.ts';
import type { Answer, Calls } from './cniCalls.ts';
import { netctlOf } from './networks.ts';
import { median, ratiosTo, ratioVerdict, shown, textTable } from './numbers.ts';

const HOST = 'node1';
const REFERENCE = '/usr/lib/cni/bridge';
/** Of each ratio, at most. */
const BOUND = 0.8;

const PLUGINS = ['ours', 'reference'] as const;
type Plugin = (typeof PLUGINS)[number];

/** `value`: of a round's calls, what is compared. */
interface Row {
  readonly title: string;
  readonly command: Calls['command'];
  readonly containers: number;
  readonly atOnce: number;
  readonly value: (answer: Answer) => number;
}

const oneByOne = { containers: 10, atOnce: 1, value: ({ each }: Answer) => median(each) };
const together = (count: number) => ({ containers: count, atOnce: count, value: ({ all }: Answer) => all });
/** What an ADD has made, the DEL behind it takes back. */
const ROWS: readonly (readonly [Row, Row])[] = [
  [
    { title: 'ADD, one at a time', command: 'ADD', ...oneByOne },
    { title: 'DEL, one at a time', command: 'DEL', ...oneByOne },
  ],
  [
    { title: 'ten ADDs at once', command: 'ADD', ...together(10) },
    { title: 'ten DELs at once', command: 'DEL', ...together(10) },
  ],
  [
    { title: 'a hundred ADDs at once', command: 'ADD', ...together(100) },
    { title: 'a hundred DELs at once', command: 'DEL', ...together(100) },
  ],
];
const MOST = Math.max(...ROWS.flat().map((row) => row.containers));

/** By row and plugin: milliseconds, in the order of the rounds. */
export type CniTimes = ReadonlyMap<Row, Readonly<Record<Plugin, number[]>>>;

export interface CniOptions {
  readonly lab: string;
  readonly rounds: number;
  step(words: string): void;
  /** `bin/lab` for the lab of this name. */
  command(lab: string, ...args: string[]): Promise<void>;
  readonly keep: boolean;
}

export async function measureCni(options: CniOptions): Promise<CniTimes> {
  const { lab, rounds, step, command, keep } = options;
  if (!fs.existsSync(REFERENCE)) throw new Error(`${REFERENCE} is missing: make setup installs it`);
  const times = new Map(ROWS.flat().map((row) => [row, { ours: [] as number[], reference: [] as number[] }]));
  step('  a lab of two hosts ...\n');
  try {
    await command(lab, 'down');
    await command(lab, 'up', '--quiet');
    const at = (...line: string[]): Promise<string> => run(...onHost(lab, HOST, ...line));
    await at(...netctlOf(lab), ...'net create pods --subnet=10.32.0.0/16'.split(' '));
    const containers = Array.from({ length: MOST }, (_, i) => `box${i}`);
    await at(
      'sh',
      '-c',
      `for name in ${[...containers, ...PLUGINS.map((plugin) => `stays-${plugin}`)].join(' ')}; do ip netns add $name && ip -n $name link set lo up || exit 1; done`,
    );
    await using calls = startCaller(lab);
    const plugins = pluginsOf(lab);
    const carryOut = async (plugin: Plugin, row: Row): Promise<Answer> => {
      const { atOnce } = row;
      const answer = await calls.ask({
        ...plugins[plugin],
        command: row.command,
        containers: containers.slice(0, row.containers),
        atOnce,
      });
      if (answer.failure !== '') throw new Error(`${plugin}: ${answer.failure}`);
      return answer;
    };
    // On each a container stays, as on a node that has others: the first of all makes the bridge here, the router there.
    for (const plugin of PLUGINS) {
      const containers = [`stays-${plugin}`];
      const answer = await calls.ask({ ...plugins[plugin], command: 'ADD', containers, atOnce: 1 });
      if (answer.failure !== '') throw new Error(`${plugin}: ${answer.failure}`);
    }
    for (let round = 0; round < rounds; round++)
      for (const pair of ROWS) {
        step(`  ${pair[0].title}, round ${round + 1}: `);
        for (const plugin of round % 2 ? PLUGINS : PLUGINS.toReversed()) {
          for (const row of pair) times.get(row)?.[plugin].push(row.value(await carryOut(plugin, row)));
          step(`${plugin} ${pair.map((row) => shown(times.get(row)?.[plugin].at(-1))).join(', ')}  `);
        }
        step('ms\n');
      }
    return times;
  } finally {
    if (!keep) await command(lab, 'down');
  }
}

/** As containerd's script for CNI configures it, without what only other plugins read. host-local's files are on the host's disk. */
const pluginsOf = (lab: string): Record<Plugin, Pick<Calls, 'program' | 'configuration'>> => ({
  ours: {
    program: `${ROOT}/dist/contiv-cni`,
    configuration: { cniVersion: '1.0.0', name: 'pods', type: 'contiv-cni', network: 'pods' },
  },
  reference: {
    program: REFERENCE,
    configuration: {
      cniVersion: '1.0.0',
      name: 'reference',
      type: 'bridge',
      bridge: 'cni0',
      isGateway: true,
      ipMasq: true,
      promiscMode: true,
      ipam: {
        type: 'host-local',
        ranges: [[{ subnet: '10.88.0.0/16' }]],
        routes: [{ dst: '0.0.0.0/0' }],
        dataDir: `${hostFolder(lab, HOST)}/host-local`,
      },
    },
  },
});

function startCaller(lab: string) {
  const script = path.join(import.meta.dirname, 'cniCalls.ts');
  const [file, args] = onHost(lab, HOST, process.execPath, '--disable-warning=ExperimentalWarning', script);
  const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    async ask(calls: Calls): Promise<Answer> {
      child.stdin.write(`${JSON.stringify(calls)}\n`);
      const { value, done } = await lines.next();
      if (done) throw new Error('the caller of CNI plugins ended');
      return JSON.parse(value) as Answer;
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
    },
  };
}

const ratiosOf = ({ ours, reference }: Readonly<Record<Plugin, number[]>>): number[] =>
  ratiosTo(ours, reference);

export function cniTable(times: CniTimes): string {
  const rows = [...times].map(([{ title }, of]) => [
    title,
    shown(median(ratiosOf(of))),
    '|',
    shown(median(of.ours)),
    shown(median(of.reference)),
    'ms',
  ]);
  return textTable([['CNI', 'ours / reference', '|', 'ours', 'reference', 'unit'], ...rows], 1);
}

export const cniVerdicts = (times: CniTimes): string[] =>
  [...times].map(([{ title }, of]) =>
    ratioVerdict(`CNI, ${title}:`, ratiosOf(of), "bridge and host-local's", BOUND, 'lower'),
  );

export const cniResults = (times: CniTimes): unknown => ({
  unit: 'ms',
  rows: [...times].map(([{ title }, of]) => ({
    title,
    ratio: median(ratiosOf(of)),
    medians: { ours: median(of.ours), reference: median(of.reference) },
    samples: of,
  })),
});
