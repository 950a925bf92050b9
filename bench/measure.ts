/**
 * What is measured. Client and server are the same programs for every network, run in its namespaces and pinned:
 * on separate processors where the machine has two, or on one, where nothing waits for a processor to wake up and
 * the time of a transaction, or of a byte of a TCP stream, is the work of the path alone.
 *
 * Streams are sent with Linux's own default, cubic, whatever the machine's is. With BBR they are shown and not judged:
 * on one machine it is bound by its pacing's timers, and its window, bandwidth times the least round trip, is smaller
 * the shorter the path (docs/decisions.md).
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import os from 'node:os';
import path from 'node:path';
import { run } from '../lab/shell.ts';
import { onHost } from '../lab/state.ts';
import type { Echoed } from './echo.ts';
import { inPlace, type Network, PORTS, type Span, type Way } from './networks.ts';

/** How long to measure: seconds of a stream or of transactions, a number of connections. */
export interface Effort {
  readonly seconds: number;
  readonly connections: number;
}

export interface Measurement {
  /** For --only; several measurements may share it. */
  readonly name: string;
  readonly title: string;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  readonly rounds: number;
  /** How many the networks with and without policy have of it: their difference is small. 0: policy has no part in it. */
  readonly policyRounds: number;
  /** The value and, where there is more to say, its parts; undefined where this network has no such thing. */
  readonly measure: (
    lab: string,
    network: Network,
    span: Span,
    effort: Effort,
  ) => Promise<Sample | undefined>;
}

export interface Sample {
  readonly value: number;
  readonly also?: Readonly<Record<string, number>>;
}

const CLIENT = 0;
const OTHER = Math.min(1, os.availableParallelism() - 1);
export const ECHO = [
  process.execPath,
  '--disable-warning=ExperimentalWarning',
  path.join(import.meta.dirname, 'echo.ts'),
];

/** A server, from when it has said that it listens until the block ends. */
export async function serving(lab: string, way: Way, processor: number, command: readonly string[]) {
  const [file, args] = inPlace(lab, way.server, processor, command);
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'close');
  const said = await Promise.race([once(child.stdout, 'data'), ended.then(() => undefined)]);
  if (said === undefined) throw new Error(`${command.join(' ')} ended`);
  return {
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/**
 * The congestion control of what a client sends to its server, until the block ends: of the route, so that nothing of
 * the machine is changed, and from a connection's first packet (iperf3's own option comes after the handshake, when
 * BBR has already turned pacing on, for good). Undefined where the kernel has no such algorithm.
 */
async function congestionControl(lab: string, way: Way, algorithm: string) {
  const inClient = (...command: string[]): Promise<string> =>
    run(...inPlace(lab, way.client, CLIENT, ['ip', 'route', ...command]));
  const route = (await inClient('get', way.address, 'fibmatch')).trim().split(/\s+/);
  try {
    await inClient('replace', ...route, 'congctl', algorithm);
  } catch (error) {
    if (/congestion algorithm/.test((error as Error).message)) return undefined;
    throw error;
  }
  return {
    async [Symbol.asyncDispose]() {
      await inClient('replace', ...route);
    },
  };
}

const throughputTo =
  (server: number, algorithm: string): Measurement['measure'] =>
  async (lab, network, span, { seconds }) => {
    const way = network.ways[span];
    if (way === undefined) return undefined;
    await using set = await congestionControl(lab, way, algorithm);
    if (set === undefined) return undefined;
    await using _ = await serving(lab, way, server, `iperf3 -s -p ${PORTS.iperf} --forceflush`.split(' '));
    const command = `iperf3 -c ${way.address} -p ${way.ports.iperf} -t ${seconds} -O 1 -J`.split(' ');
    const { end } = JSON.parse(await run(...inPlace(lab, way.client, CLIENT, command)));
    if (end.sender_tcp_congestion !== algorithm) throw new Error(`${way.address}: not by ${algorithm}`);
    return {
      value: end.sum_received.bits_per_second / 1e9,
      also: { retransmits: end.sum_sent.retransmits },
    };
  };

/** From client to server, by programs that echo; the server has processor `server`. */
export async function echoed(
  lab: string,
  way: Way,
  server: number,
  kind: string,
  amount: number,
): Promise<Echoed> {
  await using _ = await serving(lab, way, server, [...ECHO, 'serve', String(PORTS.echo)]);
  const command = [...ECHO, kind, way.address, String(way.ports.echo), String(amount)];
  return JSON.parse(await run(...inPlace(lab, way.client, CLIENT, command))) as Echoed;
}

const latencyOn =
  (server: number): Measurement['measure'] =>
  async (lab, network, span, { seconds }) => {
    const way = network.ways[span];
    if (way === undefined) return undefined;
    const { medianUs, p99Us, perSecond } = await echoed(lab, way, server, 'latency', seconds);
    return { value: medianUs, also: { p99Us, perSecond } };
  };

/** A second by the median: what else the machine does lengthens a few of them a lot. */
async function connections(
  lab: string,
  network: Network,
  span: Span,
  effort: Effort,
): Promise<Sample | undefined> {
  const way = network.ways[span];
  if (way === undefined) return undefined;
  const { medianUs, p99Us, perSecond } = await echoed(lab, way, CLIENT, 'connect', effort.connections);
  return { value: 1e6 / medianUs, also: { medianUs, p99Us, perSecond } };
}

/** `docker run`, until the new container says that a peer has answered its ping. */
async function attach(lab: string, { attach }: Network, span: Span): Promise<Sample | undefined> {
  const peer = attach?.peers[span];
  if (attach === undefined || peer === undefined) return undefined;
  const ping = ['sh', '-c', `until ping -c 1 -W 1 ${peer}; do :; done`];
  const [file, args] = onHost(
    lab,
    'node1',
    'docker',
    'run',
    '--rm',
    `--net=${attach.network}`,
    'contiv/lab',
    ...ping,
  );
  const begin = performance.now();
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'close');
  let answered: number | undefined;
  for await (const chunk of child.stdout)
    if (answered === undefined && String(chunk).includes('bytes from')) answered = performance.now();
  await ended;
  if (answered === undefined) throw new Error(`docker run --net=${attach.network}: ${peer} did not answer`);
  return { value: answered - begin };
}

const AT_ONCE = 50;
/** Starts so many at once; fails where one does not start. */
const startMany = (network: string): string => `
  pids=
  for i in $(seq ${AT_ONCE}); do
    docker run -d --name=crowd$i --net=${network} contiv/lab sleep 100000 >/dev/null & pids="$pids $!"
  done
  for pid in $pids; do wait $pid || exit 1; done`;
const REMOVE_MANY = `docker rm -f $(seq -f crowd%g ${AT_ONCE}) >/dev/null`;

/** `docker run -d` of so many on both hosts at once, until the last one has returned: by then a container has its network. */
async function hundred(lab: string, { attach }: Network, span: Span): Promise<Sample | undefined> {
  if (attach === undefined || span === 'within') return undefined;
  const onBoth = (script: string): Promise<string[]> =>
    Promise.all(['node1', 'node2'].map((host) => run(...onHost(lab, host, 'bash', '-c', script))));
  try {
    const begin = performance.now();
    await onBoth(startMany(attach.network));
    return { value: performance.now() - begin };
  } finally {
    await onBoth(REMOVE_MANY);
  }
}

/** `rounds` is how many rounds a full run has. */
export const MEASUREMENTS: readonly Measurement[] = [
  {
    name: 'throughput',
    title: 'throughput, two processors',
    unit: 'Gbit/s',
    better: 'higher',
    rounds: 7,
    policyRounds: 7,
    measure: throughputTo(OTHER, 'cubic'),
  },
  {
    name: 'throughput',
    title: 'throughput, one processor',
    unit: 'Gbit/s',
    better: 'higher',
    rounds: 7,
    policyRounds: 0,
    measure: throughputTo(CLIENT, 'cubic'),
  },
  {
    name: 'bbr',
    title: 'throughput of BBR, two processors',
    unit: 'Gbit/s',
    better: 'higher',
    rounds: 7,
    policyRounds: 0,
    measure: throughputTo(OTHER, 'bbr'),
  },
  {
    name: 'latency',
    title: 'latency, two processors',
    unit: 'us',
    better: 'lower',
    // Most of it is waking up: rounds differ by 3 %.
    rounds: 7,
    policyRounds: 7,
    measure: latencyOn(OTHER),
  },
  {
    name: 'latency',
    title: 'latency, one processor',
    unit: 'us',
    better: 'lower',
    rounds: 3,
    policyRounds: 7,
    measure: latencyOn(CLIENT),
  },
  {
    name: 'connections',
    title: 'new TCP connections',
    unit: '/s',
    better: 'higher',
    rounds: 3,
    policyRounds: 7,
    measure: connections,
  },
  {
    name: 'attach',
    title: 'docker run to first ping',
    unit: 'ms',
    better: 'lower',
    rounds: 7,
    policyRounds: 0,
    measure: attach,
  },
  {
    name: 'hundred',
    title: 'a hundred containers at once',
    unit: 'ms',
    better: 'lower',
    rounds: 3,
    policyRounds: 0,
    measure: hundred,
  },
];
