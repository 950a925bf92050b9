import { setTimeout as after } from 'node:timers/promises';
import { asList } from '../client/client.ts';
import type { Endpoint } from '../model/endpoint.ts';
import type { HostState } from '../protocol/hosts.ts';
import { type Command, type Invocation, JSON_FLAG, QUIET } from './command.ts';
import { printJson } from './output.ts';
import { table } from './table.ts';

const seconds = (time: string): string => time.replace(/\.\d+Z$/, 'Z');

/** `ready`, or with why it is not; that it is drained too is said where another state goes first. */
const stateText = ({ state, reason, draining }: HostState): string => {
  const text = reason === undefined ? state : `${state}: ${reason}`;
  return draining === undefined || state === 'draining' ? text : `${text}; it is being drained too`;
};

/** Milliseconds between looks of --wait. */
const LOOK = 2000;

/** What runs on a host by its endpoints there. */
interface Left {
  readonly name: string;
  readonly runtime: string;
  /** What it takes to have it elsewhere. */
  readonly remedy: string;
}

type Attached = Pick<
  Endpoint,
  'endpointID' | 'containerID' | 'containerName' | 'workload' | 'homingHost' | 'ofHost'
>;

export function leftOf(endpoints: readonly Attached[], host: string): Left[] {
  const found = endpoints
    .filter(({ homingHost, ofHost }) => homingHost === host && ofHost !== true)
    .map(({ workload, containerName, containerID, endpointID }): Left => {
      if (workload !== undefined)
        return {
          name: workload.replace(':', '/'),
          runtime: 'Kubernetes',
          remedy: 'kubectl drain moves it, with the rest of its node',
        };
      const name = containerName || containerID || endpointID;
      // Docker's own ids of endpoints; those of what speaks CNI, and of bare namespaces, are others.
      return /^[0-9a-f]{64}$/.test(endpointID)
        ? { name, runtime: 'Docker', remedy: `docker rm -f ${name}` }
        : {
            name,
            runtime: 'CNI',
            remedy: 'its runtime ends it; of netplugin endpoint: netplugin endpoint rm',
          };
    });
  // One on several networks is one.
  return [...new Map(found.map((one) => [`${one.runtime} ${one.name}`, one])).values()];
}

const counted = (count: number): string => `${count} container${count === 1 ? '' : 's'}`;

async function leftOn({ client }: Invocation, name: string): Promise<Left[]> {
  return leftOf((await client.call('endpoints')).body, name);
}

function sayLeft({ print, width }: Invocation, name: string, left: readonly Left[]): void {
  if (left.length === 0) {
    print(`Nothing of ours is left on ${name}: netplugin leave may follow there`);
    return;
  }
  print(`${counted(left.length)} left on ${name}:`);
  const rows = left.map((one) => [one.name, one.runtime, one.remedy]);
  for (const line of table(['Container', 'Runtime', 'What ends it there'], rows, width)) print(line);
}

/** Until nothing is left; a line each time that it is less, or more. */
async function waitUntilLeft(invocation: Invocation, name: string, first: number): Promise<void> {
  for (let before = first; before > 0; ) {
    await after(LOOK);
    const left = await leftOn(invocation, name);
    if (left.length === before) continue;
    before = left.length;
    if (before === 0) sayLeft(invocation, name, left);
    else invocation.print(`${counted(before)} left on ${name}: ${left.map((one) => one.name).join(', ')}`);
  }
}

export const hostTable = (hosts: readonly HostState[]): string[] =>
  table(
    ['Host', 'Underlay', 'Version', 'Containers', 'Last seen', 'Lag', 'Fast path', 'State'],
    hosts.map((h) => [
      h.name,
      h.underlay,
      h.version,
      h.containers,
      h.seen === undefined ? 'never' : seconds(h.seen),
      h.state === 'refused' ? '' : h.lag,
      h.fastPath === undefined ? '' : h.fastPath ? 'on' : 'off',
      stateText({ ...h, ...(h.reason === undefined ? {} : { reason: seconds(h.reason) }) }),
    ]),
  );

export const command: Command = {
  name: 'host',
  summary: 'hosts that run an agent, and those that did',
  subcommands: [
    {
      name: 'ls',
      aliases: ['list'],
      summary: [
        'lists hosts: those that are ready, late (not all that was declared is applied there), draining, away or refused;',
        'Lag is in revisions of the store',
      ].join(' '),
      args: [],
      flags: [JSON_FLAG, QUIET],
      examples: ['netctl host ls', 'netctl host ls --json'],
      async run(invocation) {
        const hosts = asList(await invocation.client.call('hostStates'));
        if (invocation.on('json')) printJson(invocation, hosts);
        else if (invocation.on('quiet')) for (const { name } of hosts) invocation.print(name);
        else for (const line of hostTable(hosts)) invocation.print(line);
      },
    },
    {
      name: 'inspect',
      summary: 'shows a host, what is wrong there, and the endpoints that are on it, as JSON',
      args: ['HOST'],
      flags: [],
      examples: ['netctl host inspect node1'],
      completes: ['hosts'],
      async run(invocation) {
        const [name = ''] = invocation.args;
        printJson(invocation, (await invocation.client.call('hostState', { name })).body);
      },
    },
    {
      name: 'drain',
      summary: [
        'a host takes no new containers from now on, nor new connections to services and groups while others take them,',
        'and says what is left there and what ends it; what runs goes on, with its connections; netctl host undrain takes it back',
      ].join(' '),
      args: ['HOST'],
      flags: [{ name: 'wait', short: 'w', kind: 'switch', help: 'until no container is left there' }],
      examples: ['netctl host drain node3', 'netctl host drain node3 --wait'],
      completes: ['hosts'],
      async run(invocation) {
        const [name = ''] = invocation.args;
        const { headers } = await invocation.client.call('hostDrain', { name });
        invocation.print(`Draining host ${name}: it takes no new containers (netctl host undrain ${name})`);
        invocation.warn(headers);
        const left = await leftOn(invocation, name);
        sayLeft(invocation, name, left);
        if (invocation.on('wait')) await waitUntilLeft(invocation, name, left.length);
      },
    },
    {
      name: 'undrain',
      summary: 'a host takes new containers and connections again',
      args: ['HOST'],
      flags: [],
      examples: ['netctl host undrain node3'],
      completes: ['hosts'],
      async run(invocation) {
        const [name = ''] = invocation.args;
        const { headers } = await invocation.client.call('hostUndrain', { name });
        invocation.print(`Host ${name} takes new containers`);
        invocation.warn(headers);
      },
    },
    {
      name: 'revoke',
      summary: [
        "refuses a host's certificates from now on: its key was stolen, or it is to join anew. Its containers go on;",
        'nothing that is declared reaches it any more, until it has joined with a new token',
      ].join(' '),
      args: ['HOST'],
      flags: [],
      examples: ['netctl host revoke node3'],
      completes: ['hosts'],
      async run(invocation) {
        const [name = ''] = invocation.args;
        await invocation.client.call('hostRevoke', { name });
        invocation.print(`Revoking the certificates of host ${name}`);
      },
    },
    {
      name: 'rm',
      aliases: ['delete'],
      summary:
        'removes a host that is away and will not come back, with its endpoints, so that their addresses are free, and its certificates',
      args: ['HOST'],
      flags: [],
      examples: ['netctl host rm node3'],
      completes: ['hosts'],
      async run(invocation) {
        const [name = ''] = invocation.args;
        const { body, headers } = await invocation.client.call('hostRemove', { name });
        const { endpoints } = body;
        invocation.print(
          `Deleting host ${name} and ${endpoints} endpoint${endpoints === 1 ? '' : 's'} of it`,
        );
        invocation.warn(headers);
      },
    },
  ],
};
