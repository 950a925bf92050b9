/** Entry of bin/lab: virtual hosts on one machine, for the demo, the tests and the benchmarks. */
import fs from 'node:fs';
import { parseArgs } from 'node:util';
import { joinHost, makeCertificates } from './certificates.ts';
import { check } from './check/index.ts';
import { makeControlGroups, removeControlGroups } from './controlGroups.ts';
import { placeDocker, readDocker, setUpDocker } from './docker/versions.ts';
import { makeMachines } from './fabric.ts';
import {
  giveBackNamespaces,
  type HostOptions,
  makeHost,
  makeSwitch,
  removeHost,
  removeHosts,
  resolverOf,
} from './hosts.ts';
import { loadImage, makeImage } from './image.ts';
import { NODE, prepareCluster, setUpKubernetes, startCluster } from './kubernetes/cluster.ts';
import { end, endAll, namesProcess, type ProcessName, start } from './processes.ts';
import { PROGRAMS } from './programs.ts';
import { makeRouter, requireRouter } from './router.ts';
import {
  addressesOf,
  ETCD_PORT,
  etcdHosts,
  type Families,
  hostAddress,
  hostAddress6,
  inUrl,
  isRunning,
  type LabHost,
  type LabPlan,
  labName,
  logFile,
  markStarted,
  markStarting,
  namespaceFolder,
  netmasterUrls,
  OUTSIDE,
  OUTSIDE_ADDRESS,
  OUTSIDE_ADDRESS6,
  readState,
  removeData,
  STORE_MEMBERS,
  typed,
  writeState,
} from './state.ts';
import { startSwarm } from './swarm.ts';

const USAGE = `lab: virtual hosts on this machine, each with its own network, Docker and netplugin

Usage: bin/lab [--name LAB] COMMAND

  up [--brief] [--hosts N] [--kubernetes] [--families 4|6|4,6] [--swarm] [--store sqlite|memory|etcd] [--netmasters N] [--insecure]
     [--docker 28|29 [--firewall-backend iptables|nftables]] [--fabric] [--loopback-resolver HOST]
     [--address-grace SECONDS]
                              N hosts (default 2) with dockerd and netplugin, netmaster on node1, or with etcd (on three of
                              them) on the first N; with --kubernetes also a node of one cluster each, with its API server
                              on node1 (built the first time); with --families 6 hosts have IPv6 alone, with 4,6 both, and so have
                              nodes, pods and Services (default 4); with --swarm
                              Docker's Swarm mode on all, the first three as managers; with --insecure nobody shows a certificate,
                              and who reaches netmaster may do everything; with --docker a newer Docker than the machine's (built
                              the first time; if not given, what LAB_DOCKER and LAB_FIREWALL_BACKEND say); with --fabric VLAN networks go by the hosts' eth0, and machines of VLAN 100
                              are on the switch, one behind a tagged port (trunk), one behind an access port (access), and a router
                              that speaks BGP (tor) with one behind it (beyond); with --address-grace netmaster goes by that; says
                              what to do next, but with --brief
  down                        ends and removes all of it
  status [--json]             hosts with addresses; processes with name, host and pid
  exec HOST -- COMMAND...     runs a command on a host (node1, node2, ..., outside, trunk, access, tor, beyond); knows docker, netctl, kubectl
  check [--wait SECONDS] [--json]
                              does what runs equal kernel, DNS and netmaster, everywhere?
  start|stop|kill PROCESS [HOST]   kill is kill -9
  reboot HOST                 as after a power failure: nothing but its disk is left, then what ran there starts
  logs PROCESS [HOST]         what it has printed; netplugin's has that of names in it

PROCESS: netplugin, dockerd, names (netplugin's, which starts it) on each host, netmaster on node1, or the first N; etcd where
it is netmaster's store; of Kubernetes containerd, kubelet, kube-proxy (not started by up) on each, etcd,
kube-apiserver, kube-controller-manager, kube-scheduler, netkube on node1. HOST may be left out for those on node1.

Example: bin/lab up && bin/lab exec node1 -- docker ps
         bin/lab up --kubernetes && bin/lab exec node1 -- kubectl get nodes
`;

const FAMILIES: Readonly<Record<string, Families>> = { 4: [4], 6: [6], '4,6': [4, 6] };

/** Hosts whose servers are started together. */
const AT_ONCE = 4;

const lab = nameOrExit();
const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

function nameOrExit(): string {
  try {
    return labName();
  } catch (error) {
    process.stderr.write(`lab: ${(error as Error).message}\n`);
    process.exit(3);
  }
}

async function up(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      hosts: { type: 'string', default: '2' },
      store: { type: 'string', default: 'sqlite' },
      netmasters: { type: 'string', default: '1' },
      'loopback-resolver': { type: 'string', multiple: true, default: [] },
      kubernetes: { type: 'boolean', default: false },
      families: { type: 'string', default: '4' },
      insecure: { type: 'boolean', default: false },
      swarm: { type: 'boolean', default: false },
      fabric: { type: 'boolean', default: false },
      'address-grace': { type: 'string' },
      docker: { type: 'string', default: process.env.LAB_DOCKER ?? '' },
      'firewall-backend': { type: 'string', default: process.env.LAB_FIREWALL_BACKEND ?? '' },
      quiet: { type: 'boolean', default: false },
      brief: { type: 'boolean', default: false },
    },
  });
  const count = Number(values.hosts);
  if (!Number.isInteger(count) || count < 1 || count > 200)
    throw new Error(`--hosts: '${values.hosts}' must be 1 to 200`);
  if (!['sqlite', 'memory', 'etcd'].includes(values.store))
    throw new Error(`--store: '${values.store}' must be sqlite, memory or etcd`);
  const netmasters = Number(values.netmasters);
  if (!Number.isInteger(netmasters) || netmasters < 1 || netmasters > count)
    throw new Error(`--netmasters: '${values.netmasters}' must be 1 to ${count}, the number of hosts`);
  if (netmasters > 1 && values.store !== 'etcd')
    throw new Error('--netmasters: more than one netmaster needs --store etcd');
  const families = FAMILIES[values.families];
  if (families === undefined) throw new Error(`--families: '${values.families}' must be 4, 6 or 4,6`);
  if (families[0] === 6 && values.fabric)
    throw new Error('--families 6: not with --fabric, whose machines speak to hosts by IPv4');
  const docker = readDocker(values.docker, values['firewall-backend']);
  requireKernel();
  if (docker.docker !== undefined) await setUpDocker(docker.docker);
  if (values.fabric) requireRouter();
  if (values.kubernetes) await setUpKubernetes();
  markStarting(lab);
  const step = (line: string): void => {
    if (!values.quiet) say(`  ${line} ...`);
  };
  await clean({ starting: true }); // what an `up` that was killed left
  const hosts = Array.from({ length: count }, (_, i) => ({
    name: `node${i + 1}`,
    address: families[0] === 6 ? hostAddress6(i + 1) : hostAddress(i + 1),
    ...(families.length > 1 && { address6: hostAddress6(i + 1) }),
  }));
  const state: LabPlan = {
    name: lab,
    store: storeOf(values.store, hosts),
    netmasters,
    hosts,
    kubernetes: values.kubernetes,
    families,
    tls: !values.insecure,
    fabric: values.fabric,
    ...(values['address-grace'] !== undefined && { addressGrace: values['address-grace'] }),
    ...docker,
  };
  writeState(state);
  if (docker.docker !== undefined) await placeDocker(lab, docker.docker);
  step('making the image contiv/lab');
  const image = makeImage(lab);
  image.catch(() => {}); // told where it is waited for; what fails before goes first
  step(`making ${count} hosts`);
  await makeSwitch(lab);
  fs.writeFileSync(`${namespaceFolder(lab)}/netmaster`, netmasterUrls(state).join());
  const outside = families.map((family) => (family === 6 ? OUTSIDE_ADDRESS6 : OUTSIDE_ADDRESS));
  await makeHost(lab, OUTSIDE, outside, { resolver: outside[0] as string, forwards: true });
  for (const host of hosts) {
    const { name } = host;
    const resolver = values['loopback-resolver'].includes(name) ? '127.0.0.53' : (outside[0] as string);
    await makeHost(lab, name, addressesOf(host), hostOptions(state, resolver));
  }
  if (values.fabric) await Promise.all([makeMachines(lab), makeRouter(lab)]);
  if (values.kubernetes) {
    step('preparing Kubernetes');
    await prepareCluster(state);
  }
  const members = etcdHosts(state);
  if (members.length > 0) step('starting etcd');
  await Promise.all(members.map(({ name }) => start(lab, 'etcd', name)));
  step('starting netmaster');
  if (state.tls) await makeCertificates(state);
  await Promise.all(hosts.slice(0, netmasters).map(({ name }) => start(lab, 'netmaster', name)));
  step(
    `starting Docker and netplugin on each host${values.kubernetes ? ', and Kubernetes beside them' : ''}`,
  );
  await image;
  const runtimes = startRuntimes(state);
  await Promise.all([runtimes, ...(values.kubernetes ? [startCluster(state, runtimes)] : [])]);
  if (values.swarm) {
    step("starting Docker's Swarm mode");
    await startSwarm(lab, hosts);
  }
  markStarted(lab);
  if (!values.quiet && !values.brief) for (const line of next(state)) say(line);
}

/** What to do with a lab that is up, as it must be typed where it has a name of its own. */
function next({ name, hosts, kubernetes }: LabPlan): string[] {
  const on = typed(name);
  const lines: [command: string, what: string][] = [
    [
      `${on} exec node1 -- sh`,
      `a shell on a host, with docker and netctl${kubernetes ? ', kubectl too' : ''}`,
    ],
    [
      `${on} exec node1 -- netctl net create contiv-net --subnet=20.1.1.0/24`,
      'a network, on every host at once',
    ],
    [`${on} exec node1 -- docker run -itd --name=web --net=contiv-net contiv/lab sh`, 'a container in it'],
    [`${on} status`, 'what runs'],
    [`${on} check`, 'kernel, names and netmaster against what runs'],
    [`${on} down`, 'removes everything'],
  ];
  const width = Math.max(...lines.map(([command]) => command.length));
  return [
    `The lab is up: ${hosts.map((host) => host.name).join(', ')}. Next, as in docs/guide/quick-start.md:`,
    ...lines.map(([command, what]) => `  ${command.padEnd(width)}  # ${what}`),
  ];
}

function storeOf(kind: string, hosts: readonly LabHost[]): string {
  if (kind === 'memory') return kind;
  if (kind === 'sqlite') return 'sqlite:/var/lib/contiv/netmaster.db'; // of node1
  return `etcd://${hosts.slice(0, STORE_MEMBERS).map(({ address }) => `${inUrl(address)}:${ETCD_PORT}`)}`;
}

const hostOptions = ({ kubernetes, firewallBackend }: LabPlan, resolver: string): HostOptions => ({
  resolver,
  // With nftables dockerd does not set it, and does not start where it is off.
  ...(firewallBackend === 'nftables' && { forwards: true }),
  ...(kubernetes && NODE),
});

/** A few at a time: it is waiting, most of it. */
async function startRuntimes(state: LabPlan): Promise<void> {
  const { hosts, tls } = state;
  for (let i = 0; i < hosts.length; i += AT_ONCE)
    await Promise.all(
      hosts.slice(i, i + AT_ONCE).map(async ({ name }) => {
        await Promise.all([start(lab, 'dockerd', name), tls && joinHost(state, name)]);
        await start(lab, 'netplugin', name);
        await loadImage(lab, name);
      }),
    );
}

/** All of the host's processes and all that the kernel has of it go at once. */
async function reboot(name: string): Promise<void> {
  const state = readState(lab);
  const host = state?.hosts.find((h) => h.name === name);
  if (state === undefined || host === undefined)
    throw new Error(`no host '${name}' in lab '${lab}': bin/lab status`);
  const ran = new Set(state.processes.filter((p) => p.host === name && isRunning(p)).map((p) => p.name));
  await endAll(lab, name);
  await removeHost(lab, name);
  removeControlGroups(lab, name);
  await makeHost(lab, name, addressesOf(host), hostOptions(state, resolverOf(lab, name)));
  if (state.kubernetes) makeControlGroups(lab, name);
  for (const program of Object.keys(PROGRAMS) as ProcessName[])
    if (ran.has(program)) await start(lab, program, name);
}

function requireRoot(): void {
  if (process.getuid?.() !== 0)
    throw new Error(
      `must run as root, for network namespaces: try sudo bin/lab ${process.argv.slice(2).join(' ')}`,
    );
}

/** What this kernel must have. */
function requireKernel(): void {
  for (const [file, what] of [
    ['/proc/sys/net/netfilter', 'netfilter'],
    ['/proc/sys/net/ipv6', 'IPv6'],
  ] as const)
    if (!fs.existsSync(file)) throw new Error(`this kernel has no ${what}: use one that has`);
}

async function clean(kept: { starting: boolean }): Promise<void> {
  await endAll(lab);
  await removeHosts(lab);
  if (!kept.starting) await giveBackNamespaces();
  removeControlGroups(lab);
  removeData(lab, kept);
}

async function status(args: string[]): Promise<void> {
  const state = readState(lab);
  if (state === undefined) throw new Error(`lab '${lab}' is not up: ${typed(lab)} up`);
  const names = state.hosts.map(async ({ name: host }) => {
    const found = await namesProcess(lab, host);
    return { name: 'names', host, pid: found?.pid ?? 0, running: found !== undefined };
  });
  const processes = [
    ...state.processes.map((p) => ({ name: p.name, host: p.host, pid: p.pid, running: isRunning(p) })),
    ...(process.getuid?.() === 0 ? await Promise.all(names) : []), // root's to know
  ].sort((a, b) => a.name.localeCompare(b.name));
  if (args.includes('--json')) {
    say(JSON.stringify({ name: lab, hosts: state.hosts, processes }, null, 2));
    return;
  }
  say('HOST      ADDRESS');
  for (const host of state.hosts) say(`${host.name.padEnd(9)} ${host.address}`);
  const width = Math.max(10, ...processes.map(({ name }) => name.length));
  say(`\n${'PROCESS'.padEnd(width)} HOST      PID`);
  for (const p of processes)
    say(`${p.name.padEnd(width)} ${p.host.padEnd(9)} ${p.running ? p.pid : 'not running'}`);
}

/** Each host has these; the others are on node1. */
const ON_EACH = ['netplugin', 'names', 'dockerd', 'containerd', 'kubelet', 'kube-proxy'];

function processAndHost(args: string[]): [ProcessName, string] {
  const [name = '', host = ON_EACH.includes(name) ? '' : 'node1'] = args;
  const known = ['names', ...Object.keys(PROGRAMS)];
  if (!known.includes(name) || host === '')
    throw new Error(`say which: ${known.join(', ')}, and the host, e.g. netplugin node1`);
  return [name as ProcessName, host];
}

function logs(name: ProcessName, host: string): void {
  const file = logFile(lab, name === 'names' ? 'netplugin' : name, host);
  if (!fs.existsSync(file))
    throw new Error(`no log of ${name} on '${host}' in lab '${lab}': what runs says bin/lab status`);
  process.stdout.write(fs.readFileSync(file, 'utf8'));
}

const [command = 'help', ...args] = process.argv.slice(2);
try {
  if (!['status', 'logs', 'help', '--help', '-h'].includes(command)) requireRoot();
  switch (command) {
    case 'up':
      await up(args);
      break;
    case 'down':
      await clean({ starting: false });
      break;
    case 'status':
      await status(args);
      break;
    case 'check':
      process.exitCode = await check(lab, args);
      break;
    case 'start':
      await start(lab, ...processAndHost(args));
      break;
    case 'stop':
      await end(lab, ...processAndHost(args), 'SIGTERM');
      break;
    case 'kill':
      await end(lab, ...processAndHost(args), 'SIGKILL');
      break;
    case 'reboot':
      await reboot(args[0] ?? '');
      break;
    case 'logs':
      logs(...processAndHost(args));
      break;
    case 'help':
    case '--help':
    case '-h':
      process.stdout.write(USAGE);
      break;
    default:
      throw new Error(`no command '${command}' (see bin/lab help)`);
  }
} catch (error) {
  process.stderr.write(`lab: ${(error as Error).message}\n`);
  process.exitCode = 3;
}
