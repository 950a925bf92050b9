import { type Command, TENANT } from './command.ts';
import { body, create, inspectCommand, listCommand, type Objects, removeCommand } from './objects.ts';

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
    { title: 'Bandwidth', of: (p) => p.bandwidth },
    { title: 'DSCP', of: (p) => p.DSCP ?? 0 },
    { title: 'Burst (kB)', of: (p) => p.burst ?? 0 },
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
      flags: [
        {
          name: 'bandwidth',
          short: 'b',
          kind: 'text',
          value: '"10 mbps"',
          help: 'bandwidth of each container',
        },
        {
          name: 'dscp',
          short: 'd',
          kind: 'number',
          value: '0-63',
          help: 'DSCP that packets are marked with',
        },
        { name: 'burst', short: 's', kind: 'number', value: 'KILOBYTES', help: 'what may go at once' },
        TENANT,
      ],
      examples: [
        'netctl netprofile create -b "10 mbps" -d 46 -s 100 gold',
        'netctl group create -n gold contiv-net web',
      ],
      run(invocation) {
        const [name = ''] = invocation.args;
        const fields = {
          tenantName: invocation.text('tenant'),
          profileName: name,
          bandwidth: invocation.text('bandwidth'),
          DSCP: invocation.number('dscp'),
          burst: invocation.number('burst'),
        };
        return create(invocation, netprofiles, name, body(fields, ['Tenant']));
      },
    },
    listCommand(netprofiles),
    inspectCommand(netprofiles),
    removeCommand(netprofiles),
  ],
};
