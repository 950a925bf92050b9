import { type Command, type Flag, type Invocation, TENANT } from './command.ts';
import { body, create, inspectCommand, listCommand, type Objects, removeCommand, update } from './objects.ts';

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

/** What may be said anew of a group. */
const FLAGS: readonly Flag[] = [
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
];

/** The fields by their flags. */
const fieldsOf = (invocation: Invocation) => ({
  policy: { policies: invocation.list('policy').filter((name) => name !== '') },
  networkprofile: { netProfile: invocation.text('networkprofile') },
  'external-contract': {
    extContractsGrps: invocation.list('external-contract').filter((name) => name !== ''),
  },
  'ip-pool': { ipPool: invocation.text('ip-pool') },
  'epg-tag': { cfgdTag: invocation.text('epg-tag') },
});

export const command: Command = {
  name: 'group',
  summary: 'containers that share a name, policy and profile',
  subcommands: [
    {
      name: 'create',
      summary: 'creates a group in a network, or says it anew: what is left out is unset',
      args: ['NETWORK', 'GROUP'],
      flags: [...FLAGS, TENANT],
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
              ...Object.assign({}, ...Object.values(fieldsOf(invocation))),
            },
            ['AppProfile', 'NetProfile', 'Network', 'Tenant'],
          ),
        );
      },
    },
    {
      name: 'update',
      summary: 'changes what is named of a group; the rest of it stays. An empty value unsets',
      args: ['GROUP'],
      flags: [...FLAGS, TENANT],
      examples: ['netctl group update web -policy=prod_web', 'netctl group update web --networkprofile='],
      completes: [groups.collection],
      run: (invocation) => update(invocation, groups, invocation.args[0] ?? '', fieldsOf(invocation)),
    },
    listCommand(groups),
    inspectCommand(groups),
    removeCommand(groups),
  ],
};
