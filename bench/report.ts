/** From samples to what is printed: ratios first, medians beside. */
import os from 'node:os';
import type { Measurement, Sample } from './measure.ts';
import type { Span } from './networks.ts';
import { median, ratiosTo, ratioVerdict, shown, textTable } from './numbers.ts';

/** All rounds of one measurement, within a host or between hosts: by network, in the order of the rounds. */
export interface Result {
  readonly measurement: Measurement;
  readonly span: Span;
  readonly samples: ReadonlyMap<string, readonly Sample[]>;
}

const valuesOf = (result: Result, network: string): number[] =>
  (result.samples.get(network) ?? []).map((s) => s.value);

/** Round by round, the one's value divided by the other's. */
const ratiosOf = (result: Result, one: string, other: string): number[] =>
  ratiosTo(valuesOf(result, one), valuesOf(result, other));

/** Their median; undefined where there is none. */
export function ratio(result: Result, one: string, other: string): number | undefined {
  const ratios = ratiosOf(result, one, other);
  return ratios.length === 0 ? undefined : median(ratios);
}

interface Target {
  readonly name: string;
  /** The network that is judged, by another. */
  readonly network: string;
  readonly peer: string;
  /** Of the ratio: at least this where higher is better, at most where lower is. */
  readonly bound: number;
}

const TARGETS: readonly Target[] = [
  { name: 'throughput', network: 'ours', peer: 'overlay', bound: 1 },
  { name: 'latency', network: 'ours', peer: 'overlay', bound: 1 },
  { name: 'throughput', network: 'direct', peer: 'veth', bound: 0.92 },
  { name: 'latency', network: 'direct', peer: 'veth', bound: 1.1 },
  { name: 'throughput', network: 'vlan', peer: 'tagged', bound: 0.95 },
  { name: 'latency', network: 'vlan', peer: 'tagged', bound: 1.05 },
  { name: 'throughput', network: 'ours', peer: 'vxlan', bound: 0.97 },
  { name: 'attach', network: 'ours', peer: 'bridge', bound: 1.1 },
  { name: 'hundred', network: 'ours', peer: 'bridge', bound: 1.15 },
  { name: 'throughput', network: 'policy', peer: 'ours', bound: 0.95 },
  { name: 'latency', network: 'policy', peer: 'ours', bound: 1.05 },
  { name: 'connections', network: 'policy', peer: 'ours', bound: 0.95 },
];

const PEERS = ['overlay', 'bridge', 'vxlan', 'veth'];
const NETWORKS = ['ours', 'policy', 'direct', 'vlan', ...PEERS, 'tagged'];
const WHOSE: Readonly<Record<string, string>> = {
  policy: ' with policy',
  direct: ' without a tunnel, with policy',
  vlan: ' to a machine on a VLAN, with policy',
};
const PLACES = { within: 'within one host', between: 'between two hosts' };

/** One line a target: met or missed, by the median; the quartiles say what the rounds differ by. */
export function verdicts(results: readonly Result[]): string[] {
  return TARGETS.flatMap(({ name, network, peer, bound }) =>
    results
      .filter((r) => r.measurement.name === name)
      .flatMap((result) => {
        const { title, better } = result.measurement;
        const ratios = ratiosOf(result, network, peer);
        if (ratios.length === 0) return [];
        const words = `${title}, ${PLACES[result.span]}${WHOSE[network] ?? ''}:`;
        return ratioVerdict(words, ratios, peer === 'ours' ? 'that without' : `${peer}'s`, bound, better);
      }),
  );
}

export function table(results: readonly Result[]): string {
  const head = [
    '',
    '',
    'better',
    'policy /',
    'direct / veth',
    'vlan / tagged',
    ...PEERS.map((p) => `/ ${p}`),
    '|',
    ...NETWORKS,
    'unit',
  ];
  const rows = results.map((result) => [
    result.measurement.title,
    result.span,
    result.measurement.better,
    shown(ratio(result, 'policy', 'ours')),
    shown(ratio(result, 'direct', 'veth')),
    shown(ratio(result, 'vlan', 'tagged')),
    ...PEERS.map((peer) => shown(ratio(result, 'ours', peer))),
    '|',
    ...NETWORKS.map((network) => shown(median(valuesOf(result, network)))),
    result.measurement.unit,
  ]);
  return [
    'Ours divided by each peer (median of the rounds, each against the same round), then the medians.',
    'policy /: ours with policy (200 rules on each side) divided by ours without.',
    'bridge, between hosts: a published port. vxlan, veth: no containers; veth between hosts, the hosts themselves.',
    'direct: ours without a tunnel, with policy, between hosts. vlan: ours to a plain machine on a VLAN, with policy; tagged: the host itself to it.',
    '',
    textTable([head, ...rows], 3),
  ].join('\n');
}

/** What bench/results.json holds. */
export function results(found: readonly Result[], quick: boolean): object {
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
      ratios: Object.fromEntries(PEERS.map((peer) => [peer, ratio(result, 'ours', peer)])),
      policyRatio: ratio(result, 'policy', 'ours'),
      directRatio: ratio(result, 'direct', 'veth'),
      vlanRatio: ratio(result, 'vlan', 'tagged'),
      medians: Object.fromEntries(
        [...result.samples.keys()].map((network) => [network, median(valuesOf(result, network))]),
      ),
      samples: Object.fromEntries(result.samples),
    })),
  };
}
