import { type Answer, ApiError } from '../client/client.ts';
import { type Command, type Flag, type Invocation, TENANT, UsageError } from './command.ts';
import { body, create, fieldsOf, key, listCommand, type Objects } from './objects.ts';
import { printJson } from './output.ts';

const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

const endpoints: Objects = {
  noun: 'endpoint',
  example: 'web',
  command: 'endpoint',
  collection: 'endpoints',
  nameField: 'endpointID',
  inTenant: true,
  columns: [
    { title: 'Tenant', of: (e) => e.tenantName },
    // A workload is called as its orchestrator calls it.
    { title: 'Container', of: (e) => (e.workload ? String(e.workload).replace(':', '/') : e.containerName) },
    { title: 'Container ID', of: (e) => String(e.containerID ?? '').slice(0, 12) },
    { title: 'Host', of: (e) => (e.external ? 'external' : e.homingHost) },
    { title: 'Network', of: (e) => e.networkName },
    { title: 'Group', of: (e) => e.groupName },
    { title: 'IP', of: (e) => e.ipAddress },
    { title: 'Status', of: (e) => (e.draining ? `${e.status}, host drains` : e.status) },
  ],
  wide: [
    { title: 'MAC', of: (e) => e.macAddress },
    {
      title: 'Ports',
      of: (e) => [...listOf(e.published), ...listOf(e.notPublished).map((p) => `${p} (no gateway)`)],
    },
  ],
};

const external: Objects = {
  noun: 'external endpoint',
  example: 'printer',
  command: 'endpoint',
  collection: 'externalEndpoints',
  nameField: 'endpointName',
  inTenant: true,
  columns: [],
};

/** What may be said of an external endpoint. */
const FLAGS: readonly Flag[] = [
  {
    name: 'group',
    field: 'groupName',
    kind: 'text',
    value: 'NAME',
    help: 'group that it is a member of',
    completes: 'endpointGroups',
    required: true,
  },
  {
    name: 'ip',
    field: 'ipAddress',
    kind: 'list',
    value: 'ADDRESS',
    help: 'its address (may be repeated: one of IPv4, one of IPv6)',
    required: true,
  },
  {
    name: 'label',
    field: 'labels',
    short: 'l',
    kind: 'list',
    value: 'KEY=VALUE',
    help: 'label by which services choose it (may be repeated)',
  },
  {
    name: 'health-check',
    kind: 'text',
    value: 'tcp:PORT|http:PORT/PATH',
    help: 'how a host asks whether it is well: else it counts as well',
  },
];

function labelsOf(given: unknown): Readonly<Record<string, string>> {
  const pairs = listOf(given).map((text): [string, string] => {
    const [, label, value] = /^([^=]+)=(.*)$/s.exec(String(text)) ?? [];
    if (label === undefined || value === undefined)
      throw new UsageError(`--label: '${text}' must be KEY=VALUE`);
    return [label, value];
  });
  return Object.fromEntries(pairs);
}

export const command: Command = {
  name: 'endpoint',
  summary: 'attachments of running containers, and machines outside that are members of groups',
  subcommands: [
    { ...listCommand(endpoints), summary: 'lists endpoints: container, host, group, address' },
    {
      name: 'add',
      aliases: ['create'],
      summary:
        'makes a machine that has nothing of ours a member of a group, or changes its labels and check',
      args: ['NAME'],
      flags: [...FLAGS, TENANT],
      examples: [
        'netctl endpoint add printer --group=office --ip=10.100.0.201',
        'netctl endpoint add db1 --group=db --ip=192.0.2.7 --label=app=db --health-check=tcp:5432',
      ],
      run(invocation) {
        const [name = ''] = invocation.args;
        const { labels, ...fields } = fieldsOf(invocation, FLAGS);
        const given = labelsOf(labels);
        const whole = {
          tenantName: invocation.text('tenant'),
          endpointName: name,
          ...fields,
          ...(Object.keys(given).length > 0 && { labels: given }),
        };
        return create(invocation, external, name, body(whole), 'Adding');
      },
    },
    {
      name: 'inspect',
      summary:
        'shows an endpoint by its id, or by the id or name of its container; an external one by its name',
      args: ['ID'],
      flags: [],
      examples: ['netctl endpoint inspect web'],
      completes: ['endpoints'],
      async run(invocation) {
        const [id = ''] = invocation.args;
        const answer = await invocation.client.call('inspect', { collection: 'endpoints', key: id });
        printJson(invocation, answer.body);
      },
    },
    {
      name: 'rm',
      aliases: ['delete'],
      summary:
        'removes an external endpoint, or one whose host is dead for good, so that its address is free',
      args: ['ID...'],
      flags: [TENANT],
      examples: ['netctl endpoint rm printer', 'netctl endpoint rm web'],
      completes: ['endpoints'],
      async run(invocation) {
        for (const id of invocation.args)
          try {
            const { headers } = await removal(invocation, id);
            invocation.print(`Deleting endpoint ${id}`);
            invocation.warn(headers);
          } catch (error) {
            invocation.fail(error);
          }
      },
    },
  ],
};

/** By an id or name that no container has, an external one of the tenant is meant. */
async function removal(invocation: Invocation, id: string): Promise<Pick<Answer<unknown>, 'headers'>> {
  const { client } = invocation;
  try {
    return await client.call('detach', { id });
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error;
    const { collection } = external;
    try {
      return await client.call('delete', { collection, key: key(invocation, external, id) });
    } catch (other) {
      throw other instanceof ApiError && other.status === 404 ? error : other;
    }
  }
}
