import { asList } from '../client/client.ts';
import type { NamedDeniedFlow } from '../protocol/messages.ts';
import { ALL, type Command, JSON_FLAG, TENANT, UsageError } from './command.ts';
import { printJson } from './output.ts';
import { protocolName } from './protocols.ts';
import { table } from './table.ts';

const end = (address: string, container: string | undefined, group: string | undefined): string =>
  [container ?? '', address, group ? `(${group})` : ''].filter((part) => part !== '').join(' ');

export function flowTable(flows: readonly NamedDeniedFlow[], width?: number): string[] {
  return table(
    ['Time', 'Host', 'From', 'To', 'Protocol', 'Port', 'Rule', 'Count'],
    flows.map((f) => [
      f.time.replace(/\.\d+Z$/, 'Z'),
      f.host,
      end(f.from, f.fromWorkload ?? f.fromContainer, f.fromGroup),
      end(f.to, f.toWorkload ?? f.toContainer, f.toGroup),
      protocolName(f.protocol),
      f.port,
      f.rule,
      f.count,
    ]),
    width,
  );
}

export const command: Command = {
  name: 'flows',
  summary: 'connections that policy denied, or that rules which log allowed',
  subcommands: [
    {
      name: '',
      summary: [
        'Lists the last connections that policy denied, or that rules which log allowed, the newest last; kept since',
        'netmaster started.',
      ].join('\n'),
      args: [],
      flags: [
        { name: 'denied', kind: 'switch', help: 'those that were denied' },
        { name: 'allowed', kind: 'switch', help: 'those that a rule allowed that was added with --log' },
        TENANT,
        ALL,
        JSON_FLAG,
      ],
      examples: ['netctl flows --denied', 'netctl flows --allowed', 'netctl flows --denied -a --json'],
      async run(invocation) {
        const [isDenied, isAllowed] = [invocation.on('denied'), invocation.on('allowed')];
        if (isDenied === isAllowed)
          throw new UsageError(
            'give one of --denied and --allowed: of what is allowed, what rules with --log decide is kept',
          );
        const tenant = invocation.on('all') ? {} : { tenant: invocation.text('tenant') };
        const body = asList(
          await invocation.client.call('flows', { [isDenied ? 'denied' : 'allowed']: 'true', ...tenant }),
        );
        if (invocation.on('json')) printJson(invocation, body);
        else for (const line of flowTable(body, invocation.width)) invocation.print(line);
      },
    },
  ],
};
