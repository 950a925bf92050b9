/**
 * What a connection to a Service costs beside kube-proxy (nftables mode) that runs in the same cluster and has the same Services: new TCP
 * connections through a ClusterIP, client and server on one node, in turns, with 10 and with 1,000 Services. Ours: two pods. kube-proxy's: two
 * namespaces that their node routes, as the reference plugin ptp makes pods: what pods of ours send to a ClusterIP is translated before
 * the node sees it.
 */
import { run, tryRun, until } from '../lab/shell.ts';
import { networkNamespace, onHost } from '../lab/state.ts';
import { ECHO, echoed, serving } from './measure.ts';
import { inPlace, type Place, PORTS, type Way } from './networks.ts';
import { median, ratiosTo, ratioVerdict, shown, textTable } from './numbers.ts';
import { containerPlace, HOST, kubectlOf } from './pods.ts';

const COUNTS = [10, 1000] as const;
/** Of each ratio, at least. */
const BOUND = 1;
const PROXIES = ['ours', 'kube-proxy'] as const;
type Proxy = (typeof PROXIES)[number];
/** Of the namespaces that kube-proxy's connections are between. */
const GATEWAY = '10.88.0.1';
const ADDRESSES = { client: '10.88.0.2', server: '10.88.0.3' };

/** By the number of Services and who carries them out: connections a second, in the order of the rounds. */
export type ServiceRates = ReadonlyMap<number, Readonly<Record<Proxy, number[]>>>;

export interface ServiceOptions {
  readonly lab: string;
  readonly rounds: number;
  readonly connections: number;
  step(words: string): void;
  /** `bin/lab` for the lab of this name. */
  command(lab: string, ...args: string[]): Promise<void>;
  readonly keep: boolean;
}

export async function measureServices(options: ServiceOptions): Promise<ServiceRates> {
  const { lab, rounds, connections, step, command, keep } = options;
  const rates = new Map<number, Record<Proxy, number[]>>();
  step('  a cluster of two nodes ...\n');
  try {
    await command(lab, 'down');
    await command(lab, 'up', '--quiet', '--kubernetes');
    await command(lab, 'start', 'kube-proxy', HOST);
    const kubectl = kubectlOf(lab);
    const pods = {
      client: await containerPlace(lab, kubectl, 'client', HOST),
      server: await containerPlace(lab, kubectl, 'server', HOST),
    };
    const routed = await makeRouted(lab);
    const addressOf = async (name: string): Promise<string> =>
      (await kubectl(undefined, 'get', 'service', name, '-o', 'jsonpath={.spec.clusterIP}')).trim();
    await kubectl(list(toRouted()), 'apply', '-f', '-');
    for (const count of COUNTS) {
      step(`  ${count} Services ...\n`);
      // Beside that of kube-proxy's server, and the cluster's own.
      await kubectl(list(Array.from({ length: count - 1 }, (_, i) => toPods(i))), 'apply', '-f', '-');
      const to = (places: Record<'client' | 'server', Place>, address: string): Way => ({
        ...places,
        address,
        ports: PORTS,
      });
      const ways: Record<Proxy, Way> = {
        // Of one Service throughout, as kube-proxy's: those of another to the same backend would come from ports that connections of before still have there.
        ours: to(pods, await addressOf('s0')),
        'kube-proxy': to(routed, await addressOf('routed')),
      };
      for (const way of Object.values(ways)) await answers(lab, way);
      const of: Record<Proxy, number[]> = { ours: [], 'kube-proxy': [] };
      rates.set(count, of);
      for (let round = 0; round < rounds; round++) {
        step(`  ${count} Services, round ${round + 1}: `);
        for (const proxy of round % 2 ? PROXIES : PROXIES.toReversed()) {
          const { medianUs } = await echoed(lab, ways[proxy], 0, 'connect', connections);
          of[proxy].push(1e6 / medianUs);
          step(`${proxy} ${shown(of[proxy].at(-1))}  `);
        }
        step('/s\n');
      }
    }
    return rates;
  } finally {
    if (!keep) await command(lab, 'down');
  }
}

/** Until the data plane has it: a connection that is not answered ends by itself after minutes. */
async function answers(lab: string, way: Way): Promise<void> {
  await using _ = await serving(lab, way, 0, [...ECHO, 'serve', String(PORTS.echo)]);
  const command = ['timeout', '2', ...ECHO, 'connect', way.address, String(PORTS.echo), '1'];
  await until(`${way.address} answers`, 300, () => tryRun(...inPlace(lab, way.client, 0, command)));
}

const list = (items: readonly object[]): object => ({ apiVersion: 'v1', kind: 'List', items });
const port = { port: PORTS.echo, protocol: 'TCP' };
const toPods = (i: number): object => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: `s${i}` },
  spec: { selector: { app: 'server' }, ports: [port] },
});

/** Without a selector: its endpoint is no pod. */
const toRouted = (): object[] => [
  { apiVersion: 'v1', kind: 'Service', metadata: { name: 'routed' }, spec: { ports: [port] } },
  {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'routed', labels: { 'kubernetes.io/service-name': 'routed' } },
    addressType: 'IPv4',
    endpoints: [{ addresses: [ADDRESSES.server], conditions: { ready: true } }],
    ports: [{ ...port, name: '' }],
  },
];

/** Named as the lab names its own, so that it removes them. Docker would drop what they send each other. */
async function makeRouted(lab: string): Promise<Record<'client' | 'server', Place>> {
  const node = networkNamespace(lab, HOST);
  const ip = (namespace: string, line: string): Promise<string> =>
    run('ip', ['-n', namespace, ...line.split(' ')]);
  for (const [name, address] of Object.entries(ADDRESSES)) {
    const own = networkNamespace(lab, name);
    await run('ip', ['netns', 'add', own]);
    await ip(node, `link add ${name} type veth peer name eth0 netns ${own}`);
    await ip(node, `link set ${name} up`);
    await ip(node, `addr add ${GATEWAY}/32 dev ${name}`);
    await ip(node, `route add ${address}/32 dev ${name}`);
    await ip(own, `addr add ${address}/32 dev eth0`);
    await ip(own, 'link set eth0 up');
    await ip(own, `route add ${GATEWAY}/32 dev eth0`);
    await ip(own, `route add default via ${GATEWAY}`);
    await run(...onHost(lab, HOST, 'iptables', '-I', 'FORWARD', '-i', name, '-j', 'ACCEPT'));
  }
  const place = (name: string): Place => ({
    host: HOST,
    namespace: `/run/netns/${networkNamespace(lab, name)}`,
  });
  return { client: place('client'), server: place('server') };
}

const ratiosOf = (of: Readonly<Record<Proxy, number[]>>): number[] => ratiosTo(of.ours, of['kube-proxy']);
const title = (count: number): string => `${count} Services`;

export function serviceTable(rates: ServiceRates): string {
  const rows = [...rates].map(([count, of]) => [
    title(count),
    shown(median(ratiosOf(of))),
    '|',
    shown(median(of.ours)),
    shown(median(of['kube-proxy'])),
    '/s',
  ]);
  const head = ['new TCP connections by ClusterIP', 'ours / kube-proxy', '|', ...PROXIES, 'unit'];
  return textTable([head, ...rows], 1);
}

export const serviceVerdicts = (rates: ServiceRates): string[] =>
  [...rates].map(([count, of]) =>
    ratioVerdict(`${title(count)}: new TCP connections`, ratiosOf(of), "kube-proxy's", BOUND, 'higher'),
  );

export const serviceResults = (rates: ServiceRates): unknown => ({
  unit: '/s',
  rows: [...rates].map(([count, of]) => ({
    services: count,
    ratio: median(ratiosOf(of)),
    medians: { ours: median(of.ours), 'kube-proxy': median(of['kube-proxy']) },
    samples: of,
  })),
});
