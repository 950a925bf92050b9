import { type Command, TENANT, UsageError } from './command.ts';
import { body, create, inspectCommand, listCommand, type Objects, removeCommand } from './objects.ts';

const contracts: Objects = {
  noun: 'external-contracts',
  plural: 'external contracts',
  example: 'ext-web',
  command: 'external-contracts',
  collection: 'extContractsGroups',
  nameField: 'contractsGroupName',
  inTenant: true,
  columns: [
    { title: 'Tenant', of: (c) => c.tenantName },
    { title: 'Name', of: (c) => c.contractsGroupName },
    { title: 'Type', of: (c) => c.contractsType },
    { title: 'Contracts', of: (c) => c.contracts },
  ],
};

export const command: Command = {
  name: 'external-contracts',
  summary: 'contracts that an ACI fabric has, for groups to provide or consume',
  subcommands: [
    {
      name: 'create',
      summary: 'creates external contracts, or updates them',
      args: ['EXTERNAL-CONTRACTS'],
      flags: [
        { name: 'provided', short: 'p', kind: 'switch', help: 'groups with them provide the contracts' },
        { name: 'consumed', short: 'c', kind: 'switch', help: 'groups with them consume the contracts' },
        {
          name: 'contract',
          short: 'a',
          kind: 'list',
          value: 'DN',
          help: 'contract of the fabric, uni/tn-TENANT/brc-NAME; exported to the tenant: cif-NAME (may be repeated)',
          required: true,
        },
        TENANT,
      ],
      examples: [
        'netctl external-contracts create --provided --contract uni/tn-common/brc-web ext-web',
        'netctl group create -e ext-web contiv-net web',
      ],
      run(invocation) {
        const [name = ''] = invocation.args;
        if (invocation.on('provided') === invocation.on('consumed'))
          throw new UsageError('give one of --provided and --consumed');
        const fields = {
          tenantName: invocation.text('tenant'),
          contractsGroupName: name,
          contractsType: invocation.on('provided') ? 'provided' : 'consumed',
          contracts: invocation.list('contract'),
        };
        return create(invocation, contracts, name, body(fields, ['Tenant']));
      },
    },
    listCommand(contracts),
    inspectCommand(contracts),
    removeCommand(contracts),
  ],
};
