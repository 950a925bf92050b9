/**
 * Many hosts at one netmaster: the agents' own code for registration, watch, copy on disk and acknowledgement, without a kernel, each with
 * a certificate of its own and so told of its tenants alone; a process for each two hundred and fifty. Each host has a container in a tenant of all, and nine in one that it shares with nine others.
 *
 *   rule        from the request for a rule of the tenant of all until the last agent has it, and until netmaster answers, which waits for all
 *   netmaster   its memory then (PSS) and the most that it was (VmHWM)
 *   restart     from its start anew, on what it has, until /readyz is 200, and until the last agent follows it again
 *
 *   node bench/fleet.ts [HOSTS]      (default 1000)
 */
import { type ChildProcess, fork, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import pino from 'pino';
import { connect } from '../src/client/client.ts';
import type { Credentials } from '../src/client/credentials.ts';
import type { Endpoint } from '../src/model/endpoint.ts';
import { openFollowers } from '../src/netplugin/intent/acknowledge.ts';
import { startIntent } from '../src/netplugin/intent/netmaster.ts';
import { openReplica, type Replica } from '../src/netplugin/intent/replica.ts';
import { issuePair, makeAuthority, type Pair, type Subject } from '../src/tls/certificates.ts';
import { median, megabytes, processorTime } from './numbers.ts';

const COMMAND = path.join(import.meta.dirname, '../bin/netmaster');
const ADDRESS = '127.0.0.1:19791';
const URL = `https://${ADDRESS}`;
const HOUR = 3_600_000;
const OF_A_PROCESS = 250;
const CONTAINERS = 10;
const HOSTS_OF_A_TENANT = 10;
const RULES = 20;

/** All of its agents have so many rules of the tenant of all; `at` is in milliseconds of the machine's clock. */
interface Reached {
  readonly rules: number;
  readonly at: number;
}

const now = (): number => performance.timeOrigin + performance.now();
const tenantOf = (host: number): string => `t${Math.floor(host / HOSTS_OF_A_TENANT)}`;
const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

async function credentialsOf(authority: Pair, subject: Subject): Promise<() => Credentials> {
  const shown = { authority: authority.certificate, ...(await issuePair(authority, subject, HOUR)) };
  return () => shown;
}

/** In a process of its own: agents of hosts `first` until before `end`. */
async function runAgents(first: number, end: number, folder: string): Promise<void> {
  const log = pino({ level: 'silent' });
  const authority = JSON.parse(fs.readFileSync(path.join(folder, 'authority.json'), 'utf8')) as Pair;
  /** Rules that each agent has, of those that are started. */
  const rules = new Map<number, number>();
  let told = -1;
  function has(number: number, count: number): void {
    if (rules.get(number) === count) return;
    rules.set(number, count);
    const least = Math.min(...rules.values());
    if (rules.size < end - first || told === least) return;
    told = least;
    process.send?.({ rules: least, at: now() } satisfies Reached);
  }
  async function start(number: number): Promise<void> {
    const host = `host${number}`;
    const credentials = await credentialsOf(authority, { role: 'host', name: host });
    const client = connect({ urls: [URL], credentials, timeoutMs: 60_000, name: `netplugin ${host}` });
    const underlay = `10.${100 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;
    const registration = {
      name: host,
      underlay,
      mtu: 1500,
      link: '',
      prefixes: [],
      version: 'bench',
      run: host,
    };
    let started = false;
    const intent = startIntent(client, () => registration, log);
    await intent.accepted();
    const replica = openReplica({
      client,
      host,
      log,
      folder: fs.mkdtempSync(path.join(folder, `${host}-`)),
      changed(objects, listed) {
        followers.tell({ type: 'view', objects, listed });
        if (started) has(number, rulesOf(replica));
      },
    });
    const followers = openFollowers({
      position: () => (replica.live ? { store: replica.store, revision: replica.revision } : undefined),
      acknowledge(applied) {
        replica.keep();
        intent.applied(applied);
      },
      log,
    });
    for (let i = 0; i < CONTAINERS; i++) {
      const of = { tenantName: i === 0 ? 'all' : tenantOf(number), networkName: 'n', groupName: 'g' };
      const { address } = await intent.reserve({ ...of, family: 4, host }, 'until it answers');
      const id = number * CONTAINERS + i;
      const macAddress = `02:02:${[id >> 24, id >> 16, id >> 8, id].map((part) => (part & 255).toString(16).padStart(2, '0')).join(':')}`;
      const endpoint: Endpoint = {
        ...of,
        endpointID: `e${id}`,
        containerName: `c${id}`,
        homingHost: host,
        ipAddress: [address],
        macAddress,
        status: 'running',
      };
      await intent.register(endpoint, 'not');
    }
    started = true;
    has(number, rulesOf(replica));
  }
  // Not all at once: what is measured is not their first start.
  let next = first;
  await Promise.all(
    Array.from({ length: 32 }, async () => {
      while (next < end) await start(next++);
    }),
  );
}

const rulesOf = ({ view }: Pick<Replica, 'view'>): number => view.of('all').rules.get('p')?.length ?? 0;

async function main(hosts: number): Promise<void> {
  const folder = fs.mkdtempSync('/dev/shm/fleet-');
  const authority = await makeAuthority();
  fs.writeFileSync(path.join(folder, 'authority.json'), JSON.stringify(authority));
  const own = await issuePair(authority, { role: 'netmaster', name: 'one', names: ['127.0.0.1'] }, HOUR);
  const files = { ca: authority.certificate, cert: own.certificate, key: own.key };
  for (const [name, text] of Object.entries(files)) fs.writeFileSync(path.join(folder, name), text);
  const client = connect({
    urls: [URL],
    credentials: await credentialsOf(authority, { role: 'admin', name: 'operator' }),
    timeoutMs: 600_000,
  });
  const processes: ChildProcess[] = [];
  let server: ChildProcess | undefined;
  const latest = new Map<ChildProcess, Reached>();
  let news: () => void = () => {};
  /** A process ended that should not have. */
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => {});

  function serve(): ChildProcess {
    const flags = ['--listen', ADDRESS, '--store', `sqlite:${folder}/m.db`];
    for (const name of Object.keys(files)) flags.push(`--tls-${name}`, path.join(folder, name));
    const stdio: StdioOptions = ['ignore', 'inherit', 'inherit'];
    const process = spawn(COMMAND, [...flags, '--log-level', 'error'], { stdio });
    process.on('exit', (code) => code !== null && failed.reject(new Error(`netmaster ended with ${code}`)));
    return process;
  }
  const isReady = (): Promise<boolean> =>
    client.call('ready').then(
      () => true,
      () => false,
    );
  async function ready(): Promise<void> {
    while (!(await isReady())) await Promise.race([pause(20), failed.promise]);
  }
  /** When the last agent had that. */
  async function allHave(isSo: (reached: Reached) => boolean): Promise<number> {
    for (;;) {
      const all = [...latest.values()];
      if (all.length === processes.length && all.every(isSo)) return Math.max(...all.map(({ at }) => at));
      const told = new Promise<void>((done) => {
        news = done;
      });
      await Promise.race([told, failed.promise]);
    }
  }
  const revisionNow = async (): Promise<number> => (await client.call('health')).body.revision;

  try {
    server = serve();
    await ready();
    const objects: Record<string, unknown>[] = [];
    const tenants = ['all', ...new Set(Array.from({ length: hosts }, (_, i) => tenantOf(i)))];
    for (const tenantName of tenants) {
      objects.push({ kind: 'tenant', tenantName });
      objects.push({ kind: 'network', tenantName, networkName: 'n', subnet: '10.0.0.0/16', encap: 'vxlan' });
      objects.push({ kind: 'policy', tenantName, policyName: 'p' });
      objects.push({ kind: 'endpointGroup', tenantName, groupName: 'g', networkName: 'n', policies: ['p'] });
    }
    await client.call('apply', {}, { objects });

    console.log(`${hosts} agents begin ...`);
    for (let first = 0; first < hosts; first += OF_A_PROCESS) {
      const range = [first, Math.min(hosts, first + OF_A_PROCESS)].map(String);
      const child = fork(import.meta.filename, ['agents', ...range, folder], {
        execArgv: ['--disable-warning=ExperimentalWarning', '--max-old-space-size=8000'],
      });
      child.on('message', (message) => {
        latest.set(child, message as Reached);
        news();
      });
      child.on('exit', (code) => failed.reject(new Error(`a process of agents ended with ${code}`)));
      processes.push(child);
    }
    await allHave(({ rules }) => rules === 0);
    // Until nothing is written any more: hosts get addresses in reserve, in rounds of five seconds.
    for (let before = -1, next = 0; before !== next; next = await revisionNow()) {
      before = next;
      await pause(12_000);
    }
    console.log(
      `started: processor time of netmaster ${processorTime(server.pid)} s, of agents ${processes.map(({ pid }) => processorTime(pid)).join(', ')} s`,
    );

    const [toLast, toAnswer]: [number[], number[]] = [[], []];
    for (let i = 0; i < RULES; i++) {
      const rule = {
        tenantName: 'all',
        policyName: 'p',
        ruleId: `${i}`,
        direction: 'in',
        action: 'allow',
        protocol: 'tcp',
        port: 1000 + i,
      };
      const began = now();
      await client.call('post', { collection: 'rules', key: `all:p:${i}` }, rule);
      toAnswer.push(now() - began);
      toLast.push((await allHave(({ rules }) => rules === i + 1)) - began);
      await pause(500);
    }
    const shown = (values: number[]): string =>
      `${Math.round(median(values))} ms (most: ${Math.round(Math.max(...values))})`;
    console.log(`rule until the last agent has it: ${shown(toLast)}; until the answer: ${shown(toAnswer)}`);
    console.log(
      `netmaster: ${Math.round(megabytes(server.pid, 'smaps_rollup', 'Pss'))} MB PSS, at most ${Math.round(megabytes(server.pid, 'status', 'VmHWM'))} MB RSS`,
    );

    const ended = once(server, 'close');
    server.kill('SIGKILL');
    await ended;
    const began = now();
    server = serve();
    await ready();
    const served = now() - began;
    const object = { tenantName: 'all', policyName: 'p', ruleId: 'last', direction: 'in', action: 'allow' };
    await client.call('apply', {}, { objects: [{ kind: 'rule', ...object }] });
    const followed = (await allHave(({ rules }) => rules === RULES + 1)) - began;
    console.log(
      `after a kill: ready in ${Math.round(served)} ms, followed by all agents in ${Math.round(followed)} ms`,
    );
  } finally {
    client.close();
    const ends = processes.filter((child) => child.exitCode === null).map((child) => once(child, 'exit'));
    for (const child of processes) child.kill('SIGKILL');
    await Promise.all(ends);
    if (server !== undefined && server.exitCode === null) {
      const ended = once(server, 'close');
      server.kill('SIGTERM');
      await ended;
    }
    fs.rmSync(folder, { recursive: true });
  }
}

const [first, ...rest] = process.argv.slice(2);
if (first === 'agents') await runAgents(Number(rest[0]), Number(rest[1]), rest[2] as string);
else await main(Number(first ?? 1000));
