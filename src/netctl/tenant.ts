import type { Command } from './command.ts';
import { body, create, inspectCommand, listCommand, type Objects, removeCommand } from './objects.ts';

const tenants: Objects = {
  noun: 'tenant',
  example: 'blue',
  command: 'tenant',
  collection: 'tenants',
  nameField: 'tenantName',
  inTenant: false,
  columns: [{ title: 'Name', of: (t) => t.tenantName }],
};

export const command: Command = {
  name: 'tenant',
  summary: 'complete isolation: networks, groups and policies of one owner',
  subcommands: [
    {
      name: 'create',
      summary: 'creates a tenant',
      args: ['TENANT'],
      flags: [],
      examples: ['netctl tenant create blue'],
      run: (invocation) =>
        create(invocation, tenants, invocation.args[0] ?? '', body({ tenantName: invocation.args[0] }, [])),
    },
    listCommand(tenants),
    inspectCommand(tenants),
    removeCommand(tenants),
  ],
};
