import { type Command, UsageError } from './command.ts';
import { inspectPath, path, printJson } from './objects.ts';
import { table } from './table.ts';

/** Flag to field. */
const SETTINGS = {
  'fabric-mode': ['networkInfraType', 'f', 'default|aci|aci-opflex', 'fabric between the hosts'],
  'vlan-range': ['vlans', 'v', 'FIRST-LAST', 'VLAN ids to give out'],
  'vxlan-range': ['vxlans', 'x', 'FIRST-LAST', 'VXLAN VNIs to give out'],
  'fwd-mode': ['fwdMode', 'b', 'bridge|routing', 'forwarding mode'],
  'arp-mode': ['arpMode', 'a', 'proxy|flood', 'how ARP is answered'],
  'private-subnet': ['pvtSubnet', 's', 'A.B.0.0/16', 'private subnet of the hosts'],
} as const;

export const command: Command = {
  name: 'global',
  summary: 'settings of the whole cluster',
  subcommands: [
    {
      name: 'info',
      summary: 'shows the settings',
      args: [],
      flags: [{ name: 'json', short: 'j', kind: 'switch', help: 'as JSON' }],
      examples: ['netctl global info'],
      async run(invocation) {
        const { body } = await invocation.client.get<Record<string, unknown>[]>('/api/v1/globals/');
        if (invocation.on('json')) return printJson(invocation, body);
        const settings = body[0] ?? {};
        const rows = Object.entries(SETTINGS).map(([flag, [field]]) => [flag, settings[field]]);
        for (const line of table(['Setting', 'Value'], rows)) invocation.print(line);
      },
    },
    {
      name: 'inspect',
      summary: 'shows the settings and what is in use, as JSON',
      args: [],
      flags: [],
      examples: ['netctl global inspect'],
      async run(invocation) {
        printJson(invocation, (await invocation.client.get(inspectPath('globals', 'global'))).body);
      },
    },
    {
      name: 'set',
      summary: 'changes settings; those that are not named stay',
      args: [],
      flags: Object.entries(SETTINGS).map(([name, [, short, value, help]]) => ({
        name,
        short,
        kind: 'text',
        value,
        help,
      })),
      examples: ['netctl global set --vxlan-range 5000-6000'],
      async run(invocation) {
        const changes = Object.entries(SETTINGS)
          .map(([flag, [field]]) => [field, invocation.text(flag)] as const)
          .filter(([, value]) => value !== '');
        if (changes.length === 0)
          throw new UsageError(`nothing to set: give one of --${Object.keys(SETTINGS).join(', --')}`);
        const { body } = await invocation.client.get<Record<string, unknown>>(path('globals', 'global'));
        const { 'link-sets': _sets, links: _links, ...settings } = body;
        const answer = await invocation.client.post(path('globals', 'global'), {
          ...settings,
          ...Object.fromEntries(changes),
        });
        invocation.print('Updating global');
        invocation.warnLate(answer.headers);
      },
    },
  ],
};
