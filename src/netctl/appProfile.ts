import { asObject } from '../client/client.ts';
import { type Command, type Invocation, JSON_FLAG, QUIET, type Subcommand, TENANT } from './command.ts';
import { body, create, inspectCommand, key, listCommand, type Objects, removeCommand } from './objects.ts';
import { printJson } from './output.ts';
import { table } from './table.ts';

const profiles: Objects = {
  noun: 'app-profile',
  example: 'shop',
  command: 'app-profile',
  collection: 'appProfiles',
  nameField: 'appProfileName',
  inTenant: true,
  columns: [
    { title: 'Tenant', of: (p) => p.tenantName },
    { title: 'App profile', of: (p) => p.appProfileName },
    { title: 'Groups', of: (p) => p.endpointGroups },
  ],
};

const write = (name: string, done: string, summary: string): Subcommand => ({
  name,
  summary,
  args: ['APP-PROFILE'],
  flags: [
    {
      name: 'group',
      short: 'g',
      kind: 'list',
      value: 'GROUP[,GROUP...]',
      help: 'its groups (may be repeated); those that are not named are not in it',
      completes: 'endpointGroups',
    },
    TENANT,
  ],
  examples: [`netctl app-profile ${name} -g web,db shop`],
  completes: [profiles.collection],
  run(invocation) {
    const [profile = ''] = invocation.args;
    const fields = {
      tenantName: invocation.text('tenant'),
      appProfileName: profile,
      endpointGroups: invocation
        .list('group')
        .flatMap((groups) => groups.split(','))
        .filter((group) => group !== ''),
    };
    return create(invocation, profiles, profile, body(fields, ['Tenant']), done);
  },
});

async function listGroups(invocation: Invocation): Promise<void> {
  const { collection } = profiles;
  const objectKey = key(invocation, profiles, invocation.args[0] ?? '');
  const answer = await invocation.client.call('get', { collection, key: objectKey });
  const groups = [asObject(answer).endpointGroups ?? []].flat().map(String);
  if (invocation.on('json')) printJson(invocation, groups);
  else if (invocation.on('quiet')) for (const group of groups) invocation.print(group);
  else
    for (const line of table(
      ['Group'],
      groups.map((group) => [group]),
    ))
      invocation.print(line);
}

export const command: Command = {
  name: 'app-profile',
  summary: 'groups that belong together',
  subcommands: [
    write('create', 'Creating', 'creates an application profile'),
    write('update', 'Updating', 'names the groups of an application profile anew'),
    {
      name: 'group-ls',
      summary: 'lists the groups of an application profile',
      args: ['APP-PROFILE'],
      flags: [TENANT, JSON_FLAG, QUIET],
      examples: ['netctl app-profile group-ls shop'],
      completes: [profiles.collection],
      run: listGroups,
    },
    listCommand(profiles),
    inspectCommand(profiles),
    removeCommand(profiles),
  ],
};
