import { asList } from '../client/client.ts';
import type { HostState } from '../protocol/hosts.ts';
import { type Command, JSON_FLAG, QUIET } from './command.ts';
import { printJson } from './output.ts';
import { table } from './table.ts';

const seconds = (time: string): string => time.replace(/\.\d+Z$/, 'Z');

/** `ready`, or with why it is not. */
const stateText = ({ state, reason }: HostState): string =>
  reason === undefined ? state : `${state}: ${reason}`;

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
        'lists hosts: those that are ready, late (not all that was declared is applied there), away or refused;',
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
      async run(invocation) {
        const [name = ''] = invocation.args;
        printJson(invocation, (await invocation.client.call('hostState', { name })).body);
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
