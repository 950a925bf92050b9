import { type Command, TENANT } from './command.ts';
import { body, create, inspectCommand, listCommand, type Objects, removeCommand } from './objects.ts';

const groups: Objects = {
  noun: 'group',
  example: 'web',
  command: 'group',
  collection: 'endpointGroups',
  nameField: 'groupName',
  inTenant: true,
  columns: [
    { title: 'Tenant', of: (g) => g.tenantName },
    { title: 'Group', of: (g) => g.groupName },
    { title: 'Network', of: (g) => g.networkName },
    { title: 'IP Pool', of: (g) => g.ipPool },
    { title: 'CfgdTag', of: (g) => g.cfgdTag },
    { title: 'Policies', of: (g) => g.policies },
    { title: 'Network profile', of: (g) => g.netProfile },
  ],
};

export const command: Command = {
  name: 'group',
  summary: 'containers that share a name, policy and profile',
  subcommands: [
    {
      name: 'create',
      summary: 'creates a group in a network, or says it anew: what is left out is unset',
      args: ['NETWORK', 'GROUP'],
      flags: [
        {
          name: 'policy',
          field: 'policies',
          short: 'p',
          kind: 'list',
          value: 'NAME',
          help: 'policy that holds for its containers (may be repeated)',
          completes: 'policys',
        },
        {
          name: 'networkprofile',
          field: 'netProfile',
          short: 'n',
          kind: 'text',
          value: 'NAME',
          help: 'network profile: bandwidth, DSCP',
          completes: 'netprofiles',
        },
        {
          name: 'external-contract',
          field: 'extContractsGrps',
          short: 'e',
          kind: 'list',
          value: 'NAME',
          help: 'external contract (may be repeated)',
          completes: 'extContractsGroups',
        },
        {
          name: 'ip-pool',
          short: 'r',
          kind: 'text',
          value: 'A.B.C.D-A.B.C.E',
          help: 'addresses of its containers',
        },
        {
          name: 'epg-tag',
          field: 'cfgdTag',
          short: 'tag',
          kind: 'text',
          value: 'TEXT',
          help: 'label of your own',
        },
        TENANT,
      ],
      examples: ['netctl group create contiv-net web', 'netctl group create contiv-net web -policy=prod_web'],
      completes: ['networks', 'endpointGroups'],
      run(invocation) {
        const [network = '', name = ''] = invocation.args;
        return create(
          invocation,
          groups,
          name,
          body(
            {
              tenantName: invocation.text('tenant'),
              groupName: name,
              networkName: network,
              policies: invocation.list('policy'),
              netProfile: invocation.text('networkprofile'),
              extContractsGrps: invocation.list('external-contract'),
              ipPool: invocation.text('ip-pool'),
              cfgdTag: invocation.text('epg-tag'),
            },
            ['AppProfile', 'NetProfile', 'Network', 'Tenant'],
          ),
        );
      },
    },
    listCommand(groups),
    inspectCommand(groups),
    removeCommand(groups),
  ],
};
