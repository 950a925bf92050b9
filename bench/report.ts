/** From samples to what is printed: ratios first, medians beside. */
import os from 'node:os';
import type { Measurement, Sample } from './measure.ts';
import type { Span } from './networks.ts';

/** All rounds of one measurement, within a host or between hosts: by network, in the order of the rounds. */
export interface Result {
  readonly measurement: Measurement;
  readonly span: Span;
  readonly samples: ReadonlyMap<string, readonly Sample[]>;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.ceil(middle) - 1] ?? Number.NaN) + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2;
}

const valuesOf = (result: Result, network: string): number[] =>
  (result.samples.get(network) ?? []).map((s) => s.value);

/** Median over the rounds of ours divided by the peer's of the same round; undefined where either is missing. */
export function ratio(result: Result, peer: string): number | undefined {
  const ours = valuesOf(result, 'ours');
  const peers = valuesOf(result, peer);
  if (ours.length === 0 || ours.length !== peers.length) return undefined;
  return median(ours.map((value, round) => value / (peers[round] as number)));
}

interface Target {
  readonly name: string;
  readonly peer: string;
  /** Of the ratio: at least this where higher is better, at most where lower is. */
  readonly bound: number;
}

const TARGETS: readonly Target[] = [
  { name: 'throughput', peer: 'overlay', bound: 1 },
  { name: 'latency', peer: 'overlay', bound: 1 },
  { name: 'attach', peer: 'bridge', bound: 1.5 },
];

const NETWORKS = ['ours', 'overlay', 'bridge', 'veth'];
const PEERS = NETWORKS.slice(1);
const PLACES = { within: 'within one host', between: 'between two hosts' };

export const shown = (value: number | undefined): string => {
  if (value === undefined || Number.isNaN(value)) return '-';
  return value >= 100 ? Math.round(value).toString() : value.toFixed(value >= 10 ? 1 : 2);
};

/** One line a target: met or missed. */
export function verdicts(results: readonly Result[]): string[] {
  return TARGETS.flatMap(({ name, peer, bound }) =>
    results
      .filter((r) => r.measurement.name === name)
      .flatMap((result) => {
        const { title, better } = result.measurement;
        const found = ratio(result, peer);
        if (found === undefined) return [];
        // Two digits are what is printed, and less than what the rounds differ by.
        const rounded = Math.round(found * 100) / 100;
        const met = better === 'higher' ? rounded >= bound : rounded <= bound;
        const words = `${title}, ${PLACES[result.span]}: ${shown(found)} of ${peer}'s`;
        return `${met ? 'pass' : 'FAIL'}  ${words}, wanted ${better === 'higher' ? 'at least' : 'at most'} ${bound}`;
      }),
  );
}

export function table(results: readonly Result[]): string {
  const head = ['', '', 'better', ...PEERS.map((p) => `/ ${p}`), '', ...NETWORKS, 'unit'];
  const rows = results.map((result) => [
    result.measurement.title,
    result.span,
    result.measurement.better,
    ...PEERS.map((peer) => shown(ratio(result, peer))),
    '|',
    ...NETWORKS.map((network) => shown(median(valuesOf(result, network)))),
    result.measurement.unit,
  ]);
  const lines = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...lines.map((line) => (line[column] as string).length)));
  const text = lines.map((line) =>
    line
      .map((cell, column) =>
        column < 3 || column === line.length - 1
          ? cell.padEnd(widths[column] as number)
          : cell.padStart(widths[column] as number),
      )
      .join('  ')
      .trimEnd(),
  );
  return [
    'Ours divided by each peer (median of the rounds, each against the same round), then the medians.',
    'bridge, between hosts: a published port. veth: no containers; between hosts, the hosts themselves.',
    '',
    ...text,
  ].join('\n');
}

/** What bench/results.json holds. */
export function results(found: readonly Result[], quick: boolean): unknown {
  return {
    date: new Date().toISOString(),
    quick,
    machine: {
      kernel: os.release(),
      processors: os.availableParallelism(),
      model: os.cpus()[0]?.model,
      node: process.version,
    },
    measurements: found.map((result) => ({
      name: result.measurement.name,
      title: result.measurement.title,
      span: result.span,
      unit: result.measurement.unit,
      better: result.measurement.better,
      ratios: Object.fromEntries(PEERS.map((peer) => [peer, ratio(result, peer)])),
      medians: Object.fromEntries(
        [...result.samples.keys()].map((network) => [network, median(valuesOf(result, network))]),
      ),
      samples: Object.fromEntries(result.samples),
    })),
    targets: verdicts(found),
  };
}
