import { asList, asObject } from '../client/client.ts';
import { parseDuration } from '../model/duration.ts';
import { type Command, JSON_FLAG, QUIET, UsageError } from './command.ts';
import { printJson } from './output.ts';
import { table } from './table.ts';

const DEFAULT_LIFE = {
  join: '1h',
  reader: '30d',
  operator: '30d',
  orchestrator: '30d',
  admin: '30d',
} as const;
const isRole = (text: string): text is keyof typeof DEFAULT_LIFE => Object.hasOwn(DEFAULT_LIFE, text);

export const command: Command = {
  name: 'token',
  summary: 'tokens: by one a host joins, once, by others programs and people ask',
  subcommands: [
    {
      name: 'create',
      summary: [
        'makes a token and writes it, once: nobody can show it again.',
        'For a host to join: netplugin join URL TOKEN there. For programs and people: a file that --token-file names.',
      ].join('\n'),
      args: [],
      flags: [
        {
          name: 'role',
          kind: 'text',
          value: 'join|reader|operator|orchestrator|admin',
          help: "join: for a host, once; reader: reads; operator: reads and writes what is of --tenant; orchestrator: netkube's, outside of Kubernetes; admin: may do everything",
          default: 'join',
        },
        {
          name: 'for',
          kind: 'text',
          value: 'TIME',
          help: 'when it ends, such as 30m, 12h or 90d; 1h for join, else 30d where absent',
        },
        {
          name: 'tenant',
          short: 't',
          kind: 'text',
          value: 'NAME,...',
          help: 'the tenants that it is for: an operator has one or more, a reader reads all where absent',
          completes: 'tenants',
        },
        { name: 'name', kind: 'text', value: 'NAME', help: 'what it is called in lists and events' },
        { name: 'host', kind: 'text', value: 'HOST', help: 'the only host that it is for' },
      ],
      examples: [
        'netctl token create',
        'netctl token create --host=node3 --for=10m',
        'netctl token create --role=reader --name=grafana --for=90d',
        'netctl token create --role=operator --tenant=blue,red --name=alice',
      ],
      async run(invocation) {
        const role = invocation.text('role');
        if (!isRole(role))
          throw new UsageError(`--role: '${role}' must be join, reader, operator, orchestrator or admin`);
        const life = invocation.text('for') || DEFAULT_LIFE[role];
        const milliseconds = parseDuration(life);
        if (milliseconds === undefined)
          throw new UsageError(`--for: '${life}' must be a time like 30m, 12h or 90d`);
        const [name, host] = [invocation.text('name'), invocation.text('host')];
        const tenants = invocation
          .text('tenant')
          .split(',')
          .filter((tenant) => tenant !== '');
        if (role === 'operator' && tenants.length === 0)
          throw new UsageError('--role=operator needs --tenant=NAME,...: an operator has some tenants');
        const answer = await invocation.client.call(
          'tokenCreate',
          {},
          {
            role,
            seconds: milliseconds / 1000,
            ...(name && { name }),
            ...(host && { host }),
            ...(tenants.length > 0 && { tenants }),
          },
        );
        invocation.print(asObject(answer, ['token']).token);
      },
    },
    {
      name: 'ls',
      aliases: ['list'],
      summary: 'lists the tokens that have not ended, those of sessions too, without their secrets',
      args: [],
      flags: [JSON_FLAG, QUIET],
      examples: ['netctl token ls'],
      async run(invocation) {
        const tokens = asList(await invocation.client.call('tokens'));
        if (invocation.on('json')) printJson(invocation, tokens);
        else if (invocation.on('quiet')) for (const { id } of tokens) invocation.print(id);
        else
          for (const line of table(
            ['Id', 'Name', 'Role', 'Tenants', 'Host', 'Ends', 'Used by'],
            tokens.map((t) => [
              t.id,
              t.name,
              t.role,
              (t.tenants ?? []).join(','),
              t.host,
              t.expires.replace(/\.\d+Z$/, 'Z'),
              t.usedBy ?? (t.session ? 'session' : undefined),
            ]),
          ))
            invocation.print(line);
      },
    },
    {
      name: 'rm',
      aliases: ['delete'],
      summary: 'removes a token: who shows it is refused from then on',
      args: ['ID'],
      flags: [],
      examples: ['netctl token rm 0f3c9a1b2d4e'],
      async run(invocation) {
        const [id = ''] = invocation.args;
        await invocation.client.call('tokenRemove', { id });
        invocation.print(`Deleting token ${id}`);
      },
    },
  ],
};
