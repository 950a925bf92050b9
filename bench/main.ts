/**
 * `make bench`: this network against its peers, on one machine in one run. Every round measures all networks right
 * after each other, beginning with another one each time, so that what else the machine does meets all of them.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { type Announced, announcedVerdict, measureAnnounced } from './announce.ts';
import { measureRates, type Rates, rateResults, rateTable } from './api.ts';
import { type Changes, changeResults, changeTable, changeVerdicts, measureChanges } from './change.ts';
import { type CniTimes, cniResults, cniTable, cniVerdicts, measureCni } from './cni.ts';
import { type LabelTimes, labelResults, labelTable, labelVerdicts, measureLabels } from './labels.ts';
import { type Lookups, lookupsResults, lookupsTable, lookupsVerdict, measureLookups } from './lookups.ts';
import { MEASUREMENTS, type Measurement, type Sample } from './measure.ts';
import { makeNetworks, SPANS } from './networks.ts';
import { shown } from './numbers.ts';
import { type Result, results, table, verdicts } from './report.ts';
import {
  measureServices,
  type ServiceRates,
  serviceResults,
  serviceTable,
  serviceVerdicts,
} from './services.ts';
import { measureSwarm, type SwarmTimes, swarmResults, swarmTable, swarmVerdicts } from './swarm.ts';

const USAGE = `bench: this network against Docker's overlay and bridge, a bare VXLAN device and a bare veth, as ratios

Usage: node bench/main.ts [--quick] [--only NAME] [--rounds N] [--against DIR] [--original NETMASTER] [--keep]

  --quick        one short round of each: does it work?
  --only NAME    throughput, bbr, latency, connections, attach, hundred, policy, announce, change, cni, lookups,
                 services, labels, swarm or api; may be given again
  --span SPAN    within or between hosts; both where it is not given
  --rounds N     instead of 3 to 7, of each its own (change: 40, cni and lookups: 11, services: 7, labels: 15, swarm: 3)
  --against DIR  another checkout, whose netmaster is measured beside this one's (api)
  --original NETMASTER
                 the netmaster of contiv/netplugin 1.x, measured beside this one's (api); needs etcd 3.4
  --keep         leaves the labs up (LAB=bench bin/lab down; of change: bench10, bench100, bench1000)

Writes bench/results.json, unless --quick, --only or --span.
`;
const FOLDER = import.meta.dirname;
const LAB = process.env.LAB ?? 'bench';
const POLICY = 'policy';
const CHANGE = 'change';
const CNI = 'cni';
const LOOKUPS = 'lookups';
const SWARM = 'swarm';
const SERVICES = 'services';
const LABELS = 'labels';
const API = 'api';
const ANNOUNCE = 'announce';
/** Of what is measured in the lab of all networks. */
const OF_NETWORKS = [...new Set(MEASUREMENTS.map((m) => m.name)), POLICY, ANNOUNCE];
const names = [...OF_NETWORKS, CHANGE, CNI, LOOKUPS, SERVICES, LABELS, SWARM, API];

const flags = options();

function options() {
  try {
    const { values } = parseArgs({
      options: {
        quick: { type: 'boolean', default: false },
        only: { type: 'string', multiple: true, default: names },
        rounds: { type: 'string' },
        span: { type: 'string' },
        against: { type: 'string' },
        original: { type: 'string' },
        keep: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    const unknown = values.only.find((name) => !names.includes(name));
    if (unknown !== undefined) throw new Error(`--only: '${unknown}' must be one of ${names.join(', ')}`);
    if (values.span !== undefined && !(SPANS as readonly string[]).includes(values.span))
      throw new Error(`--span: '${values.span}' must be one of ${SPANS.join(', ')}`);
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
async function lab(name: string, ...args: string[]): Promise<void> {
  const command = path.join(FOLDER, '../bin/lab');
  const env = { ...process.env, LAB: name };
  const child = spawn(command, args, { stdio: 'inherit', detached: true, env });
  const [status] = await once(child, 'close');
  if (status !== 0) throw new Error(`lab ${args.join(' ')}: exit status ${status}`);
}

/** How many rounds a network has of a measurement, by what was asked for. */
function roundsOf({ name, rounds, policyRounds }: Measurement, network: string): number {
  const asked = (what: string, full: number): number => {
    if (!flags.only.includes(what) || full === 0) return 0;
    return Number(flags.rounds ?? (flags.quick ? 1 : full));
  };
  const judged = asked(POLICY, policyRounds);
  if (network === 'policy') return judged;
  return network === 'ours' ? Math.max(asked(name, rounds), judged) : asked(name, rounds);
}

async function measure(): Promise<Result[]> {
  const effort = flags.quick ? { seconds: 1, connections: 1000 } : { seconds: 2, connections: 10_000 };
  step('  making the networks ...\n');
  const peers = MEASUREMENTS.some((m) => flags.only.includes(m.name));
  const networks = await makeNetworks(LAB, peers);
  const found: Result[] = [];
  for (const measurement of MEASUREMENTS)
    for (const span of SPANS.filter((s) => s === (flags.span ?? s))) {
      const samples = new Map<string, Sample[]>();
      const last = Math.max(...networks.map((network) => roundsOf(measurement, network.name)));
      for (let round = 0; round < last; round++) {
        const taking = networks.filter(
          ({ name, ways }) => ways[span] !== undefined && round < roundsOf(measurement, name),
        );
        for (let turn = 0; turn < taking.length; turn++) {
          const network = taking[(round + turn) % taking.length] as (typeof networks)[number];
          step(`  ${measurement.title}, ${span}, round ${round + 1}: ${network.name} ... `);
          const sample = await measurement.measure(LAB, network, span, effort);
          process.stdout.write(`${shown(sample?.value)}\n`);
          if (sample !== undefined) samples.set(network.name, [...(samples.get(network.name) ?? []), sample]);
        }
      }
      if (samples.size > 0) found.push({ measurement, span, samples });
    }
  return found;
}

/** In one lab of two hosts. */
async function measureNetworks(): Promise<{ found: Result[]; announced: Announced }> {
  if (!flags.only.some((name) => OF_NETWORKS.includes(name))) return { found: [], announced: [] };
  step('bench: a lab of two hosts\n');
  try {
    await lab(LAB, 'down');
    await lab(LAB, 'up', '--fabric');
    const rounds = Number(flags.rounds ?? (flags.quick ? 1 : 7));
    const announced = flags.only.includes(ANNOUNCE) ? await measureAnnounced({ lab: LAB, rounds, step }) : [];
    return { found: flags.only.every((name) => name === ANNOUNCE) ? [] : await measure(), announced };
  } finally {
    if (!flags.keep) await lab(LAB, 'down');
  }
}

async function measureChange(): Promise<Changes | undefined> {
  if (!flags.only.includes(CHANGE)) return undefined;
  const rounds = Number(flags.rounds ?? (flags.quick ? 10 : 40));
  step('bench: what a change takes\n');
  return measureChanges({ lab: LAB, rounds, step, command: lab, keep: flags.keep });
}

async function measurePlugins(): Promise<CniTimes | undefined> {
  if (!flags.only.includes(CNI)) return undefined;
  const rounds = Number(flags.rounds ?? (flags.quick ? 1 : 11));
  step('bench: CNI beside the reference plugins\n');
  return measureCni({ lab: LAB, rounds, step, command: lab, keep: flags.keep });
}

async function measureNames(): Promise<Lookups | undefined> {
  if (!flags.only.includes(LOOKUPS)) return undefined;
  const rounds = Number(flags.rounds ?? (flags.quick ? 1 : 11));
  step('bench: names beside dnsmasq\n');
  return measureLookups({ lab: LAB, rounds, step, command: lab, keep: flags.keep });
}

async function measureTasks(): Promise<SwarmTimes | undefined> {
  if (!flags.only.includes(SWARM)) return undefined;
  const rounds = Number(flags.rounds ?? (flags.quick ? 1 : 3));
  const effort = flags.quick ? { tasks: 10, seconds: 1 } : { tasks: 100, seconds: 3 };
  step("bench: services of Docker's Swarm beside overlay\n");
  return measureSwarm({ lab: LAB, rounds, ...effort, step, command: lab, keep: flags.keep });
}

async function measureClusterIps(): Promise<ServiceRates | undefined> {
  if (!flags.only.includes(SERVICES)) return undefined;
  const rounds = Number(flags.rounds ?? (flags.quick ? 1 : 7));
  step('bench: Services beside kube-proxy\n');
  const connections = flags.quick ? 1000 : 10_000;
  return measureServices({ lab: LAB, rounds, connections, step, command: lab, keep: flags.keep });
}

async function measurePodLabels(): Promise<LabelTimes | undefined> {
  if (!flags.only.includes(LABELS)) return undefined;
  const rounds = Number(flags.rounds ?? (flags.quick ? 1 : 15));
  step('bench: labels of pods in clusters of two sizes\n');
  return measureLabels({ lab: LAB, rounds, step, command: lab, keep: flags.keep });
}

async function measureApi(): Promise<Rates | undefined> {
  if (!flags.only.includes(API)) return undefined;
  const rounds = Number(flags.rounds ?? (flags.quick ? 1 : 7));
  step("bench: rates of netmaster's API\n");
  const { against, original } = flags;
  return measureRates({ rounds, seconds: flags.quick ? 1 : 2, against, original, step });
}

try {
  if (flags.help) process.stdout.write(USAGE);
  else {
    const { found, announced } = await measureNetworks();
    const changes = await measureChange();
    const cni = await measurePlugins();
    const lookups = await measureNames();
    const tasks = await measureTasks();
    const services = await measureClusterIps();
    const labels = await measurePodLabels();
    const rates = await measureApi();
    const targets = [
      ...verdicts(found),
      ...(announced.length === 0 ? [] : [announcedVerdict(announced)]),
      ...(changes === undefined ? [] : changeVerdicts(changes)),
      ...(cni === undefined ? [] : cniVerdicts(cni)),
      ...(lookups === undefined ? [] : [lookupsVerdict(lookups)]),
      ...(tasks === undefined ? [] : swarmVerdicts(tasks)),
      ...(services === undefined ? [] : serviceVerdicts(services)),
      ...(labels === undefined ? [] : labelVerdicts(labels)),
    ];
    const all = {
      ...results(found, flags.quick),
      ...(changes === undefined ? {} : { change: changeResults(changes) }),
      ...(cni === undefined ? {} : { cni: cniResults(cni) }),
      ...(lookups === undefined ? {} : { lookups: lookupsResults(lookups) }),
      ...(tasks === undefined ? {} : { swarm: swarmResults(tasks) }),
      ...(services === undefined ? {} : { services: serviceResults(services) }),
      ...(labels === undefined ? {} : { labels: labelResults(labels) }),
      ...(rates === undefined ? {} : { api: rateResults(rates) }),
      ...(announced.length === 0 ? {} : { announced }),
      targets,
    };
    if (flags.only === names && flags.span === undefined && !flags.quick)
      fs.writeFileSync(path.join(FOLDER, 'results.json'), `${JSON.stringify(all, null, 2)}\n`);
    const tables = [
      ...(found.length > 0 ? [table(found)] : []),
      ...(changes === undefined ? [] : [changeTable(changes)]),
      ...(cni === undefined ? [] : [cniTable(cni)]),
      ...(lookups === undefined ? [] : [lookupsTable(lookups)]),
      ...(tasks === undefined ? [] : [swarmTable(tasks)]),
      ...(services === undefined ? [] : [serviceTable(services)]),
      ...(labels === undefined ? [] : [labelTable(labels)]),
      ...(rates === undefined ? [] : [rateTable(rates)]),
    ];
    process.stdout.write(`\n${[...tables, targets.join('\n')].join('\n\n')}\n`);
  }
} catch (error) {
  process.stderr.write(`bench: ${interrupted ? 'interrupted' : (error as Error).message}\n`);
  process.exitCode = interrupted ? 130 : 1;
}
