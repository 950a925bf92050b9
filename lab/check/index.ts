/**
 * Does what runs equal the kernel, DNS and netmaster? Starts from what Docker says is running, and of CNI what is attached, and asks the others
 * by means of their own: ip, bridge, nft, tc and bpftool in the routers, REST at netmaster, dig from the containers' side. Nothing else is
 * taken from netplugin.
 *
 *   docker.ts, cni.ts, netmaster.ts   what runs, and what netmaster has
 *   sandboxes.ts              what containerd has of pods, which cni.ts is to have too
 *   world.ts                  with what the kernels have: the cluster, its hosts, their routers
 *   others                    comparisons, in the order of these lists
 */
import { parseArgs } from 'node:util';
import { type LabState, readState, typed } from '../state.ts';
import { addresses } from './addresses.ts';
import { announced, told } from './announced.ts';
import { link, onLink } from './direct.ts';
import { endpoints } from './endpoints.ts';
import { fastPath } from './fastPath.ts';
import { guard } from './guard.ts';
import { hosts } from './hosts.ts';
import { insides, sizes } from './inside.ts';
import { kernel, tenantsOf } from './kernel.ts';
import { links, ports } from './links.ts';
import { names, namesAreAnswered } from './names.ts';
import { atPorts, learned } from './neighbours.ts';
import { routes } from './routes.ts';
import { sandboxes } from './sandboxes.ts';
import { slots, swarmNames, swarmSlots, virtualAddresses } from './services.ts';
import { store } from './store.ts';
import { groups, sources } from './tables.ts';
import { tunnels } from './tunnels.ts';
import { hostWires, onWire, wires } from './vlans.ts';
import { uplink, wayOut } from './wayOut.ts';
import {
  type Cluster,
  type Comparison,
  compare,
  type Host,
  lookAtCluster,
  lookAtHost,
  lookAtRouter,
  type Router,
} from './world.ts';

const OF_CLUSTER: readonly Comparison<Cluster>[] = [store, endpoints, addresses, hosts, told];
const OF_HOST: readonly Comparison<Host>[] = [
  namesAreAnswered,
  guard,
  sandboxes,
  insides,
  kernel,
  hostWires,
  announced,
  routers,
  names,
  swarmNames,
];
const OF_ROUTER: readonly Comparison<Router>[] = [
  wayOut,
  routes,
  links,
  sizes,
  ports,
  learned,
  uplink,
  atPorts,
  tunnels,
  wires,
  onWire,
  link,
  onLink,
  sources,
  slots,
  swarmSlots,
  groups,
  fastPath,
  virtualAddresses,
];

/** Prints what differs; answers the exit status. Throws one line where it cannot be looked. */
export async function check(lab: string, args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: { wait: { type: 'string', default: '0' }, json: { type: 'boolean', default: false } },
  });
  const state = readState(lab);
  if (state === undefined) throw new Error(`lab '${lab}' is not up: ${typed(lab)} up`);
  const deadline = performance.now() + Number(values.wait) * 1000;
  const isOver = (): boolean => performance.now() >= deadline;
  for (;;) {
    try {
      const found = await differencesOf(lab, state);
      if (found.differences.length === 0 || isOver()) return tell(found, values.json);
    } catch (error) {
      if (isOver()) throw error; // what was just started, or has just ended, is no reason to wait no longer
    }
    await new Promise((done) => setTimeout(done, 300));
  }
}

interface Found {
  readonly differences: readonly string[];
  /** How many there are. */
  readonly containers: number;
}

function tell({ differences, containers }: Found, json: boolean): number {
  if (json) process.stdout.write(`${JSON.stringify({ containers, differences }, null, 2)}\n`);
  else {
    for (const line of differences) process.stdout.write(`${line}\n`);
    process.stdout.write(
      `${containers} attachments, ${differences.length === 0 ? 'no difference' : `${differences.length} differences`}\n`,
    );
  }
  return differences.length === 0 ? 0 : 1;
}

async function differencesOf(lab: string, state: LabState): Promise<Found> {
  const cluster = await lookAtCluster(lab, state);
  const ofCluster = await compare(OF_CLUSTER, cluster);
  const ofHosts = await Promise.all(
    cluster.places.map(async (place) => compare(OF_HOST, await lookAtHost(cluster, place))),
  );
  return { differences: [...ofCluster, ...ofHosts.flat()], containers: cluster.running.length };
}

async function routers(host: Host, say: (line: string) => void): Promise<void> {
  for (const tenant of tenantsOf(host)) {
    const ns = `contiv-${tenant}`;
    if (!host.routers.includes(ns)) say(`${host.name}: router ${ns} is missing`);
    else for (const line of await compare(OF_ROUTER, await lookAtRouter(host, tenant, ns))) say(line);
  }
}
