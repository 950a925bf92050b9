/**
 * What a service of Docker's Swarm takes in our networks beside Docker's overlay: three managers of one lab, the same image, in turns. Ours asks
 * netmaster for each address, and each host knows of each task; overlay's managers share memory and gossip.
 *
 * Connections are made by name: ours leads each by a virtual address, the overlay by the same where the kernel has IPVS, else by Docker's
 * names in turn (dnsrr).
 */
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as after } from 'node:timers/promises';
import { run } from '../lab/shell.ts';
import { onHost } from '../lab/state.ts';
import { inPlace, netctlOf } from './networks.ts';
import { median, ratiosTo, ratioVerdict, shown, textTable } from './numbers.ts';

const HOSTS = ['node1', 'node2', 'node3'];
const NETWORKS = ['ours', 'overlay'] as const;
type Network = (typeof NETWORKS)[number];
/** Tasks in the hosts' own network: what Docker takes to start them where no driver has anything to do, so the least that any can reach. */
const BARE = 'host';
const STARTED = [...NETWORKS, BARE] as const;
/** Swarm's names of them. */
const NAMES: Readonly<Record<Network | typeof BARE, string>> = {
  ours: 'ours__default',
  overlay: 'overlay',
  host: 'host',
};
/** Behind the service that connections go to. */
const ANSWERING = 10;
const HAS_IPVS = fs.existsSync('/proc/net/ip_vs');
/** MB of the plugin beside the agent, at most. */
const PLUGIN_BOUND = 40;

interface Row {
  readonly title: string;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  readonly bound: number;
}
const START: Row = { title: 'a service starts', unit: 's', better: 'lower', bound: 0.8 };
const CONNECT: Row = { title: 'new connections', unit: '1/s', better: 'higher', bound: 1.1 };

/** By row and network, in the order of the rounds; `plugin`: MB of memory of each host's, shared pages by their share. */
export interface SwarmTimes {
  readonly tasks: number;
  readonly rows: ReadonlyMap<Row, Readonly<Record<Network, number[]>>>;
  /** Seconds that as many tasks without a network of theirs took. */
  readonly bare: readonly number[];
  readonly plugin: readonly number[];
}

export interface SwarmOptions {
  readonly lab: string;
  readonly rounds: number;
  readonly tasks: number;
  readonly seconds: number;
  step(words: string): void;
  /** `bin/lab` for the lab of this name. */
  command(lab: string, ...args: string[]): Promise<void>;
  readonly keep: boolean;
}

export async function measureSwarm(options: SwarmOptions): Promise<SwarmTimes> {
  const { lab, rounds, tasks, seconds, step, command, keep } = options;
  const rows = new Map(
    [START, CONNECT].map((row) => [row, { ours: [] as number[], overlay: [] as number[] }]),
  );
  const bare: number[] = [];
  let image = '';
  const at = async (host: string, line: string): Promise<string> =>
    (await run(...onHost(lab, host, 'sh', '-c', line))).trim();
  const until = async (look: () => Promise<boolean>): Promise<void> => {
    while (!(await look())) await after(50);
  };
  const running = (service: string, count: number): Promise<void> =>
    until(async () => {
      const replicas = await at('node1', `docker service ls -f name=${service} --format '{{.Replicas}}'`);
      return replicas === `${count}/${count}`;
    });
  const create = (name: string, network: keyof typeof NAMES, count: number, more = ''): Promise<string> =>
    at(
      'node1',
      `docker service create --detach --no-resolve-image --name ${name} --replicas ${count} --network ${NAMES[network]} ${more} ${image} ${network === BARE ? 'sleep 100000' : 'httpd -f -h /www'}`,
    );
  const remove = async (name: string): Promise<void> => {
    await at('node1', `docker service rm ${name}`);
    const left = (host: string) => at(host, `docker ps -aq --filter name=${name}`);
    await until(async () => (await Promise.all(HOSTS.map(left))).join('') === '');
  };

  step('  a lab of three managers ...\n');
  try {
    await command(lab, 'down');
    await command(lab, 'up', '--quiet', '--hosts', '3', '--swarm');
    // By its id: for one by name each task asks a registry first, which takes longer than all else where there is none.
    image = await at('node1', 'docker images --no-trunc -q contiv/lab');
    await at('node1', `${netctlOf(lab).join(' ')} net create ours --subnet=10.77.0.0/16`);
    await at('node1', 'docker network create -d overlay --attachable --subnet 10.80.0.0/16 overlay');
    await until(async () => (await at('node1', 'docker network ls')).includes(NAMES.ours));
    for (const network of NETWORKS) {
      const mode = network === 'ours' || HAS_IPVS ? 'vip' : 'dnsrr';
      await create(`answers-${network}`, network, ANSWERING, `--endpoint-mode ${mode}`);
      await at(
        'node1',
        `docker run -d --name=client-${network} --net=${NAMES[network]} contiv/lab sleep 100000`,
      );
      await running(`answers-${network}`, ANSWERING);
    }
    const script = path.join(import.meta.dirname, 'connecting.ts');
    for (let round = 0; round < rounds; round++) {
      const inTurn = <T>(networks: readonly T[]): readonly T[] =>
        round % 2 ? networks : networks.toReversed();
      step(`  ${CONNECT.title}, round ${round + 1}: `);
      for (const network of inTurn(NETWORKS)) {
        const pid = await at('node1', `docker inspect -f '{{.State.Pid}}' client-${network}`);
        const node = [process.execPath, '--disable-warning=ExperimentalWarning', script];
        const place = { host: 'node1', namespace: `/proc/${pid}/ns/net` };
        const asked = [`answers-${network}`, '80', String(seconds), '8'];
        const rate = Number(await run(...inPlace(lab, place, 0, [...node, ...asked])));
        rows.get(CONNECT)?.[network].push(rate);
        step(`${network} ${shown(rate)}  `);
      }
      step(`${CONNECT.unit}\n  ${tasks} tasks start, round ${round + 1}: `);
      for (const network of inTurn(STARTED)) {
        const begin = performance.now();
        await create('starting', network, tasks);
        await running('starting', tasks);
        const took = (performance.now() - begin) / 1000;
        await remove('starting');
        (network === BARE ? bare : rows.get(START)?.[network])?.push(took);
        step(`${network} ${shown(took)}  `);
      }
      step(`${START.unit}\n`);
    }
    const plugin = await Promise.all(HOSTS.map(async (host) => pluginMemory(await at(host, PLUGINS))));
    return { tasks, rows, bare, plugin };
  } finally {
    if (!keep) await command(lab, 'down');
  }
}

/** Processes of the plugin, which see the lab's host as theirs. */
const PLUGINS = `for p in $(pgrep -x contiv-swarm); do [ $(readlink /proc/$p/ns/net) != $(readlink /proc/self/ns/net) ] || cat /proc/$p/smaps_rollup; done`;
const pluginMemory = (rollups: string): number =>
  [...rollups.matchAll(/^Pss: +(\d+) kB$/gm)].reduce((sum, [, size]) => sum + Number(size) / 1024, 0);

const ratiosOf = ({ ours, overlay }: Readonly<Record<Network, number[]>>): number[] =>
  ratiosTo(ours, overlay);

const titleOf = (row: Row, tasks: number): string => (row === START ? `${tasks} tasks start` : row.title);

export function swarmTable({ rows, tasks }: SwarmTimes): string {
  const lines = [...rows].map(([row, of]) => [
    titleOf(row, tasks),
    shown(median(ratiosOf(of))),
    '|',
    shown(median(of.ours)),
    shown(median(of.overlay)),
    row.unit,
  ]);
  return textTable([['Swarm', 'ours / overlay', '|', 'ours', 'overlay', 'unit'], ...lines], 1);
}

export function swarmVerdicts({ rows, tasks, bare, plugin }: SwarmTimes): string[] {
  const peer = (row: Row): string =>
    row === CONNECT && !HAS_IPVS ? "overlay's by Docker's names in turn" : "overlay's";
  const ratios = [...rows].map(([row, of]) =>
    ratioVerdict(`Swarm, ${titleOf(row, tasks)}:`, ratiosOf(of), peer(row), row.bound, row.better),
  );
  const most = Math.max(...plugin);
  const memory = `${most <= PLUGIN_BOUND ? 'pass' : 'FAIL'}  Swarm, memory of the plugin beside the agent: ${shown(most)} MB, wanted at most ${PLUGIN_BOUND}`;
  return [...ratios, leastLine(rows, tasks, bare), memory];
}

const leastLine = (rows: SwarmTimes['rows'], tasks: number, bare: readonly number[]): string =>
  `info  Swarm, ${tasks} tasks start: ${shown(median(ratiosTo(bare, rows.get(START)?.overlay ?? [])))} of overlay's where they have no network of theirs (docker service create --network host)`;

export const swarmResults = ({ rows, tasks, bare, plugin }: SwarmTimes): unknown => ({
  ipvs: HAS_IPVS,
  bare,
  plugin,
  rows: [...rows].map(([row, of]) => ({
    title: titleOf(row, tasks),
    unit: row.unit,
    ratio: median(ratiosOf(of)),
    medians: { ours: median(of.ours), overlay: median(of.overlay) },
    samples: of,
  })),
});
