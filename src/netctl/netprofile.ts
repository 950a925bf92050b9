import { type Command, type Flag, type Invocation, TENANT } from './command.ts';
import { body, create, inspectCommand, listCommand, type Objects, removeCommand, update } from './objects.ts';

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

/** What may be said anew of a profile. */
const FLAGS: readonly Flag[] = [
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
];

/** The fields by their flags; 0 is unset. */
const fieldsOf = (invocation: Invocation) => ({
  bandwidth: { bandwidth: invocation.text('bandwidth') },
  dscp: { DSCP: invocation.number('dscp') },
  burst: { burst: invocation.number('burst') },
});

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
          ...Object.assign({}, ...Object.values(fieldsOf(invocation))),
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
      run: (invocation) => update(invocation, netprofiles, invocation.args[0] ?? '', fieldsOf(invocation)),
    },
    listCommand(netprofiles),
    inspectCommand(netprofiles),
    removeCommand(netprofiles),
  ],
};
