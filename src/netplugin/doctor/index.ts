/**
 * `netctl doctor`, which runs `netplugin doctor` on a host: what is wrong there, a line each, with what mends it.
 *
 *   kernel.ts      in namespaces of its own       the control socket   what the agent sees, put right, has attached
 *   netmaster      host, endpoints, time, fabric  underlay/paths.ts    the way to each other host
 *   Docker         networks and endpoints         endpoints.ts         each of the three against the others
 *
 * All of them are asked side by side, and each may be down: that is a line, and the rest goes on.
 */
import fs from 'node:fs';
import os from 'node:os';
import { setTimeout as after } from 'node:timers/promises';
import { type Client, connect } from '../../client/client.ts';
import { type CredentialFiles, readCredentials } from '../../client/credentials.ts';
import { HEARTBEAT } from '../../model/host.ts';
import { oneLine } from '../../model/text.ts';
import type { HostState, Problem, Status } from '../../protocol/hosts.ts';
import { readAttachments } from '../endpoints/attachments.ts';
import { ENDPOINTS_INTERVAL } from '../intervals.ts';
import { measure } from '../underlay/paths.ts';
import { type Agent, type AskedDocker, askAgent, askDocker, whyNot } from './ask.ts';
import { clockFinding, type Told, timed } from './clock.ts';
import { compareEndpoints, leftNetworks } from './endpoints.ts';
import { type Finding, findingLine, ok, summary, unknown, wrong } from './finding.ts';
import { kernelFindings } from './kernel.ts';
import type { DoctorOptions } from './options.ts';

/** Milliseconds for an answer of netmaster. */
const ANSWER = 10_000;
/** Hosts that are asked at once. */
const AT_ONCE = 32;
const DEFAULT_NETMASTER = 'http://netmaster:9999';

interface Netmaster {
  readonly client: Client;
  readonly hosts: readonly HostState[];
  readonly told: Told;
}

type Asked<T> = { readonly value: T } | { readonly error: Error };
const asked = <T>(promise: Promise<T>): Promise<Asked<T>> =>
  promise.then(
    (value) => ({ value }),
    (error: Error) => ({ error }),
  );
const answered = <T>(answer: Asked<T>): T | undefined => ('value' in answer ? answer.value : undefined);

async function askNetmaster(urls: readonly string[], files: CredentialFiles): Promise<Netmaster> {
  const isSecure = urls.every((url) => url.startsWith('https:'));
  const client = connect({
    urls,
    timeoutMs: ANSWER,
    name: `netplugin doctor@${os.hostname()}`,
    // Where netmaster has none, there is nobody to show it to.
    credentials: isSecure ? () => readCredentials(files) : undefined,
  });
  try {
    const { answer, told } = await timed(() => client.call('hostStates'));
    return { client, hosts: answer.body, told };
  } catch (error) {
    client.close();
    throw error;
  }
}

/** Which of netmaster's hosts this one is, where its agent does not say: by its addresses, else by its name. */
export function ownName(
  hosts: readonly HostState[],
  addresses: ReadonlySet<string>,
  hostName: string,
): string {
  const known = hosts.filter(({ state }) => state !== 'refused');
  return known.find(({ underlay }) => addresses.has(underlay ?? ''))?.name ?? hostName;
}

const ownAddresses = (): Set<string> =>
  new Set(Object.values(os.networkInterfaces()).flatMap((list = []) => list.map(({ address }) => address)));

function agentFindings(answer: Asked<Agent>, socket: string): Finding[] {
  if ('error' in answer)
    return [
      wrong(
        'agent',
        `does not answer at ${socket}: ${whyNot(answer.error)}; what runs goes on as it was`,
        'start it: systemctl start contiv-netplugin (journalctl -u contiv-netplugin says why it ended)',
      ),
      unknown('drift', 'the agent knows it'),
      unknown('firewalls', 'the agent tries them'),
    ];
  const { health, examined } = answer.value;
  const { problems, repaired } = examined;
  const of = (what: string, found: readonly Problem[]): Finding[] =>
    found.map(({ problem, remedy }) => wrong(what, problem, remedy));
  const firewalls = of('firewalls', problems.firewalls);
  const drift = [
    ...of('drift', problems.kernel),
    ...repaired.map((line) =>
      wrong(
        'drift',
        `within the last minute somebody changed what is ours, and it was put right: ${oneLine(line, 300)}`,
        'find who does it, and end that (netctl events --kind repair has all)',
      ),
    ),
  ];
  return [
    health.live
      ? ok('agent', `live, at revision ${health.revision}`)
      : wrong(
          'agent',
          health.underlay.problem === ''
            ? 'runs, and does not follow netmaster: it goes by what it has on disk'
            : `runs, and is not live: ${health.underlay.problem}`,
          'journalctl -u contiv-netplugin says why',
        ),
    ...(drift.length > 0 ? drift : [ok('drift', 'the kernel is as it was set up')]),
    ...(firewalls.length > 0 ? firewalls : [ok('firewalls', 'no other one drops what is ours')]),
    ...of('underlay', problems.underlay),
    ...of('uplink', problems.uplink),
    ...of('gateways', problems.gateways),
    ...of('keys', problems.keys),
    ...of('direct', problems.direct),
    ...of('BGP', problems.bgp),
    ...of('Docker', problems.docker),
  ];
}

function netmasterFindings(
  answer: Asked<Netmaster>,
  urls: readonly string[],
  own: HostState | undefined,
  name: string,
): Finding[] {
  if ('error' in answer)
    return [
      wrong(
        'netmaster',
        oneLine(answer.error.message, 300),
        `start it (systemctl start contiv-netmaster there), or say where it is: --netmaster; it was asked at ${urls.join(', ')}`,
      ),
      unknown('clock', "netmaster's is what it is compared with"),
    ];
  const clock = clockFinding(answer.value.told);
  if (own === undefined)
    return [
      wrong(
        `host ${name}`,
        'netmaster does not know it',
        'start its agent, or say what it is called: --host NAME',
      ),
      clock,
    ];
  if (own.state === 'ready') return [ok(`host ${name}`, 'netmaster has it as ready'), clock];
  if (own.state === 'draining')
    return [ok(`host ${name}`, `netmaster has it as draining: ${own.reason}`), clock];
  return [
    wrong(
      `host ${name}`,
      `netmaster has it as ${own.state}: ${own.reason ?? ''}`,
      'journalctl -u contiv-netplugin says why; netctl status has it too',
    ),
    clock,
  ];
}

interface Other {
  readonly name: string;
  readonly underlay: string;
  readonly mtu?: number | undefined;
  readonly state?: HostState['state'];
  readonly problems?: HostState['problems'];
}

interface Here {
  readonly address: string;
  readonly mtu: number;
}

/** What the other host's agent says of the way from there to here, which is all that can be told of it from here. */
export const saidThere = (other: Pick<Other, 'name' | 'problems'>, own: string): Finding[] =>
  (other.problems ?? [])
    .filter(({ problem }) => problem.includes(`host ${own}:`) || /drops what other hosts send/.test(problem))
    .map(({ problem, remedy }) => wrong(`way from ${other.name}`, problem, `on ${other.name}: ${remedy}`));

async function wayTo(here: Here, other: Other, own: string): Promise<Finding[]> {
  const { name, underlay: to, mtu, state } = other;
  const of = `way to ${name}`;
  if (state === 'away') return [unknown(of, `${to}: the host is away, which netctl status says`)];
  const wanted = Math.min(here.mtu, mtu ?? here.mtu);
  const fits = await measure({ from: here.address, to, wanted });
  const there = saidThere(other, own);
  if (fits === 'silent')
    return [
      wrong(
        of,
        `${to} answers no echo from ${here.address}: nothing arrives there, or a firewall drops echoes`,
        `let UDP 4789 and ICMP echo pass between ${here.address} and ${to} (ping -I ${here.address} ${to})`,
      ),
      ...there,
    ];
  if (fits < wanted)
    return [
      wrong(
        of,
        `packets of ${wanted} bytes, the MTU, do not arrive at ${to}: only up to ${fits}`,
        `let ${wanted} bytes pass on the way, or set the MTU of both hosts' interfaces to ${fits} (ip link set DEVICE mtu ${fits})`,
      ),
      ...there,
    ];
  return there.length > 0 ? there : [ok(of, `${to} answers, packets of ${wanted} bytes arrive`)];
}

async function waysFindings(
  here: Here | undefined,
  others: readonly Other[],
  own: string,
): Promise<Finding[]> {
  if (here === undefined)
    return [
      unknown('ways to other hosts', 'neither the agent nor netmaster says which address this host has'),
    ];
  const findings: Finding[] = [];
  for (let i = 0; i < others.length; i += AT_ONCE) {
    const some = others.slice(i, i + AT_ONCE);
    findings.push(...(await Promise.all(some.map((other) => wayTo(here, other, own)))).flat());
  }
  return findings.length > 0 ? findings : [ok('ways to other hosts', 'there is no other host')];
}

interface Sources {
  readonly netmaster: Netmaster | undefined;
  readonly agent: Agent | undefined;
  readonly name: string;
  readonly options: DoctorOptions;
}

/** In this order: what netmaster and Docker have was attached before, and what begins meanwhile is attached first. */
async function lookAtEndpoints(
  { netmaster, agent, name, options }: Sources,
  docker: AskedDocker | undefined,
) {
  const known = await netmaster?.client.call('endpoints').then(
    ({ body }) => body.filter(({ homingHost }) => homingHost === name),
    () => undefined,
  );
  const attached = await (agent?.attachments() ?? Promise.reject(new Error('no agent'))).catch(() =>
    readAttachments(options.stateDir),
  );
  return {
    known,
    attached,
    found: compareEndpoints({ known, attached, docker: docker?.endpoints, exists: fs.existsSync }),
  };
}

async function endpointFindings(sources: Sources, first: Asked<AskedDocker | undefined>): Promise<Finding[]> {
  const { options, netmaster } = sources;
  const unlooked = [
    ...(netmaster === undefined ? ['netmaster'] : []),
    ...('error' in first ? ['Docker'] : []),
  ];
  let { known, attached, found } = await lookAtEndpoints(sources, answered(first));
  // What is just beginning or ending is no fault: that is another state with the next look, and what the agent mends it has mended.
  if (found.size > 0) {
    await after(ENDPOINTS_INTERVAL + HEARTBEAT * 1000);
    const again = await lookAtEndpoints(
      sources,
      await askDocker(options.dockerSocket).catch(() => undefined),
    );
    found = new Map([...again.found].filter(([key]) => found.has(key)));
    ({ known, attached } = again);
  }
  if (found.size > 0) return [...found.values()];
  const count = (attached ?? []).filter(({ endpoint }) => endpoint.ofHost !== true).length;
  if (unlooked.length > 0 || known === undefined)
    return [unknown('addresses', `${[...new Set(unlooked)].join(' and ') || 'netmaster'} does not answer`)];
  return [
    ok(
      'addresses',
      `${count} container${count === 1 ? '' : 's'} attached, as netmaster has it, and no address without one`,
    ),
  ];
}

async function dockerFindings(
  answer: Asked<AskedDocker | undefined>,
  netmaster: Netmaster | undefined,
  socket: string,
): Promise<Finding[]> {
  if ('error' in answer)
    return [
      wrong(
        'Docker',
        `does not answer at ${socket}: ${whyNot(answer.error)}`,
        'start it: systemctl start docker (or --docker-socket says where it is)',
      ),
    ];
  if (answer.value === undefined) return [ok('Docker', `there is none at ${socket}`)];
  const { networks } = answer.value;
  if (netmaster === undefined) return [unknown("Docker's networks", 'netmaster knows what they are for')];
  const keys = async (collection: string): Promise<Set<string>> =>
    new Set(
      ((await netmaster.client.call('list', { collection })).body as readonly { key?: unknown }[]).map(
        ({ key }) => String(key),
      ),
    );
  const declared = { networks: await keys('networks'), groups: await keys('endpointGroups') };
  const left = leftNetworks(networks, declared);
  return left.length > 0
    ? left
    : [ok('Docker', `it has nothing of ours that nothing stands behind (networks: ${networks.length})`)];
}

/** Of the ACI fabric, where netmaster speaks to one. */
export function fabricFindings({ fabric, problems }: Pick<Status, 'fabric' | 'problems'>): Finding[] {
  if (fabric === undefined) return [];
  const found = problems.filter(({ of }) => of === 'aci');
  return found.length > 0
    ? found.map(({ problem, remedy }) => wrong('fabric', problem, remedy))
    : [ok('fabric', `netmaster has ACI as ${fabric.state}, since ${fabric.since}`)];
}

/** `program`: how this process was started. Answers all that was found. */
export async function examine(options: DoctorOptions, program: readonly string[]): Promise<Finding[]> {
  const kernel = kernelFindings(program);
  const docker = asked(askDocker(options.dockerSocket));
  const agentAnswer = await asked(askAgent(options.controlSocket));
  const agent = answered(agentAnswer);
  const urls = options.netmasters ?? agent?.examined.netmasters ?? [DEFAULT_NETMASTER];
  const netmasterAnswer = await asked(askNetmaster(urls, options.credentials));
  const netmaster = answered(netmasterAnswer);
  try {
    const name =
      options.host ?? agent?.examined.host ?? ownName(netmaster?.hosts ?? [], ownAddresses(), os.hostname());
    const own = netmaster?.hosts.find((host) => host.name === name && host.state !== 'refused');
    const refused = netmaster?.hosts.find((host) => host.name === name);
    const here = agent?.health.underlay ?? hereOf(own);
    const others = othersOf(netmaster, agent, name);
    const ways = waysFindings(here, others, name);
    const sources = { netmaster, agent, name, options };
    const [kernels, waysFound, endpoints, dockers, fabric] = await Promise.all([
      kernel,
      ways,
      endpointFindings(sources, await docker),
      dockerFindings(await docker, netmaster, options.dockerSocket).catch((error: Error) => [
        unknown("Docker's networks", oneLine(error.message, 300)),
      ]),
      netmaster?.client.call('status').then(
        ({ body }) => fabricFindings(body),
        () => [], // its own finding says that it does not answer
      ) ?? [],
    ]);
    return [
      ...kernels,
      ...agentFindings(agentAnswer, options.controlSocket),
      ...netmasterFindings(netmasterAnswer, urls, own ?? refused, name),
      ...fabric,
      ...waysFound,
      ...endpoints,
      ...dockers,
    ];
  } finally {
    netmaster?.client.close();
  }
}

const hereOf = (own: HostState | undefined): Here | undefined =>
  own?.underlay === undefined ? undefined : { address: own.underlay, mtu: own.mtu ?? 1500 };

function othersOf(
  netmaster: Netmaster | undefined,
  agent: Agent | undefined,
  name: string,
): readonly Other[] {
  if (netmaster === undefined) return agent?.examined.peers ?? [];
  return netmaster.hosts.flatMap(({ underlay, ...host }) =>
    underlay === undefined || host.name === name || host.state === 'refused' ? [] : { ...host, underlay },
  );
}

/** Answers the exit status. */
export async function runDoctor(
  options: DoctorOptions,
  program: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  const findings = await examine(options, program);
  if (options.output === 'json')
    print(JSON.stringify({ findings, summary: summary(findings) }, undefined, 2));
  else for (const line of [...findings.map(findingLine), summary(findings)]) print(line);
  return findings.some(({ state }) => state === 'wrong') ? 1 : 0;
}
