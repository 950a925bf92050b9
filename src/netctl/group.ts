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

/** What may be said anew of a group: a field each, with its column in lists. */
const FLAGS: readonly Flag[] = [
  {
    name: 'ip-pool',
    short: 'r',
    kind: 'text',
    value: 'A.B.C.D-A.B.C.E',
    help: 'addresses of its containers',
    column: 'IP Pool',
  },
  {
    name: 'epg-tag',
    field: 'cfgdTag',
    short: 'tag',
    kind: 'text',
    value: 'TEXT',
    help: 'label of your own',
    column: 'CfgdTag',
  },
  {
    name: 'pkt-tag',
    kind: 'number',
    value: 'NUMBER',
    help: 'VLAN id of its own in an ACI fabric; a free one where none is given',
  },
  {
    name: 'policy',
    field: 'policies',
    short: 'p',
    kind: 'list',
    value: 'NAME',
    help: 'policy that holds for its containers (may be repeated)',
    completes: 'policys',
    column: 'Policies',
  },
  {
    name: 'networkprofile',
    field: 'netProfile',
    short: 'n',
    kind: 'text',
    value: 'NAME',
    help: 'network profile: bandwidth, DSCP',
    completes: 'netprofiles',
    column: 'Network profile',
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
];

const groups: Objects = {
  noun: 'group',
  example: 'web',
  command: 'group',
  collection: 'endpointGroups',
  nameField: 'groupName',
  given: { field: 'pktTag', kind: 'endpointGroup', wide: true },
  inTenant: true,
  columns: [
    { title: 'Tenant', of: (g) => g.tenantName },
    { title: 'Group', of: (g) => g.groupName },
    { title: 'Network', of: (g) => g.networkName },
    ...columnsOf(FLAGS),
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
              ...fieldsOf(invocation, FLAGS),
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
      run: (invocation) => update(invocation, groups, invocation.args[0] ?? '', FLAGS),
    },
    listCommand(groups),
    inspectCommand(groups),
    removeCommand(groups),
  ],
};
