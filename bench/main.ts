/**
 * `make bench`: this network against its peers, on one machine in one run. Every round measures all networks right
 * after each other, beginning with another one each time, so that what else the machine does meets all of them.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { MEASUREMENTS, type Sample } from './measure.ts';
import { makeNetworks, SPANS } from './networks.ts';
import { type Result, results, shown, table, verdicts } from './report.ts';

const USAGE = `bench: this network against Docker's overlay and bridge and a bare veth, as ratios

Usage: node bench/main.ts [--quick] [--only NAME] [--rounds N] [--keep]

  --quick        one short round of each: does it work?
  --only NAME    throughput, latency, connections or attach; may be given again
  --rounds N     instead of 3 (attach: 7)
  --keep         leaves the lab up (LAB=bench bin/lab down)

Writes bench/results.json, unless --only.
`;
const FOLDER = import.meta.dirname;
const LAB = process.env.LAB ?? 'bench';
const names = [...new Set(MEASUREMENTS.map((m) => m.name))];

const flags = options();

function options() {
  try {
    const { values } = parseArgs({
      options: {
        quick: { type: 'boolean', default: false },
        only: { type: 'string', multiple: true, default: names },
        rounds: { type: 'string' },
        keep: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    const unknown = values.only.find((name) => !names.includes(name));
    if (unknown !== undefined) throw new Error(`--only: '${unknown}' must be one of ${names.join(', ')}`);
    if (values.rounds !== undefined && !/^[1-9]\d?$/.test(values.rounds))
      throw new Error(`--rounds: '${values.rounds}' must be 1 to 99`);
    return values;
  } catch (error) {
    process.stderr.write(`bench: ${(error as Error).message}\n`);
    process.exit(2);
  }
}

let interrupted = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.on(signal, () => {
    interrupted = true;
  });

/** Says what comes next; throws where the user has had enough. */
function step(words: string): void {
  if (interrupted) throw new Error('interrupted');
  process.stdout.write(words);
}

/** In a process group of its own: Ctrl-C must not end `down`. */
async function lab(...args: string[]): Promise<void> {
  const command = path.join(FOLDER, '../bin/lab');
  const child = spawn(command, args, { stdio: 'inherit', detached: true, env: { ...process.env, LAB } });
  const [status] = await once(child, 'close');
  if (status !== 0) throw new Error(`lab ${args.join(' ')}: exit status ${status}`);
}

async function measure(): Promise<Result[]> {
  const effort = flags.quick ? { seconds: 1, connections: 1000 } : { seconds: 3, connections: 10_000 };
  const chosen = MEASUREMENTS.filter((m) => flags.only.includes(m.name));
  step('  making the networks ...\n');
  const networks = await makeNetworks(LAB);
  const found: Result[] = [];
  for (const measurement of chosen)
    for (const span of SPANS) {
      const samples = new Map<string, Sample[]>();
      const rounds = Number(flags.rounds ?? (flags.quick ? 1 : measurement.rounds));
      for (let round = 0; round < rounds; round++)
        for (let turn = 0; turn < networks.length; turn++) {
          const network = networks[(round + turn) % networks.length] as (typeof networks)[number];
          step(`  ${measurement.title}, ${span}, round ${round + 1} of ${rounds}: ${network.name} ... `);
          const sample = await measurement.measure(LAB, network, span, effort);
          process.stdout.write(`${shown(sample?.value)}\n`);
          if (sample !== undefined) samples.set(network.name, [...(samples.get(network.name) ?? []), sample]);
        }
      found.push({ measurement, span, samples });
    }
  return found;
}

try {
  if (flags.help) process.stdout.write(USAGE);
  else {
    step('bench: a lab of two hosts\n');
    try {
      await lab('down');
      await lab('up');
      const found = await measure();
      const text = JSON.stringify(results(found, flags.quick), null, 2);
      if (flags.only === names) fs.writeFileSync(path.join(FOLDER, 'results.json'), `${text}\n`);
      process.stdout.write(`\n${table(found)}\n\n${verdicts(found).join('\n')}\n`);
    } finally {
      if (!flags.keep) await lab('down');
    }
  }
} catch (error) {
  process.stderr.write(`bench: ${interrupted ? 'interrupted' : (error as Error).message}\n`);
  process.exitCode = interrupted ? 130 : 1;
}
