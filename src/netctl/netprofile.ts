import { type Command, type Flag, TENANT } from './command.ts';
import {
  body,
  columnsOf,
  create,
  fieldsOf,
  inspectCommand,
  listCommand,
  type Objects,
  removeCommand,
  update,
} from './objects.ts';

/** What may be said anew of a profile: a field each, with its column in lists. 0 is unset. */
const FLAGS: readonly Flag[] = [
  {
    name: 'bandwidth',
    short: 'b',
    kind: 'text',
    value: '"10 mbps"',
    help: 'bandwidth of each container',
    column: 'Bandwidth',
  },
  {
    name: 'dscp',
    field: 'DSCP',
    short: 'd',
    kind: 'number',
    value: '0-63',
    help: 'DSCP that packets are marked with',
    column: 'DSCP',
  },
  {
    name: 'burst',
    short: 's',
    kind: 'number',
    value: 'KILOBYTES',
    help: 'what may go at once',
    column: 'Burst (kB)',
  },
];

const netprofiles: Objects = {
  noun: 'netprofile',
  example: 'gold',
  command: 'netprofile',
  collection: 'netprofiles',
  nameField: 'profileName',
  inTenant: true,
  columns: [
    { title: 'Tenant', of: (p) => p.tenantName },
    { title: 'Name', of: (p) => p.profileName },
    ...columnsOf(FLAGS),
  ],
};

export const command: Command = {
  name: 'netprofile',
  summary: "bandwidth and marking of a group's containers",
  subcommands: [
    {
      name: 'create',
      summary: 'creates a network profile, or says it anew: what is left out is unset',
      args: ['NETPROFILE'],
      flags: [...FLAGS, TENANT],
      examples: [
        'netctl netprofile create -b "10 mbps" -d 46 -s 100 gold',
        'netctl group create -n gold contiv-net web',
      ],
      run(invocation) {
        const [name = ''] = invocation.args;
        const fields = {
          tenantName: invocation.text('tenant'),
          profileName: name,
          ...fieldsOf(invocation, FLAGS),
        };
        return create(invocation, netprofiles, name, body(fields, ['Tenant']));
      },
    },
    {
      name: 'update',
      summary: 'changes what is named of a network profile; the rest of it stays. 0 or an empty value unsets',
      args: ['NETPROFILE'],
      flags: [...FLAGS, TENANT],
      examples: ['netctl netprofile update gold -d 46'],
      completes: [netprofiles.collection],
      run: (invocation) => update(invocation, netprofiles, invocation.args[0] ?? '', FLAGS),
    },
    listCommand(netprofiles),
    inspectCommand(netprofiles),
    removeCommand(netprofiles),
  ],
};
