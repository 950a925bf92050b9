import type { Command } from './command.ts';
import { listCommand, type Objects } from './objects.ts';
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
    { title: 'Host', of: (e) => e.homingHost },
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

export const command: Command = {
  name: 'endpoint',
  summary: 'attachments of running containers',
  subcommands: [
    { ...listCommand(endpoints), summary: 'lists endpoints: container, host, group, address' },
    {
      name: 'inspect',
      summary: 'shows an endpoint by its id, or by the id or name of its container',
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
      summary: 'removes an endpoint whose host is dead and will not come back, so that its address is free',
      args: ['ID...'],
      flags: [],
      examples: ['netctl endpoint rm web'],
      completes: ['endpoints'],
      async run(invocation) {
        for (const id of invocation.args)
          try {
            const answer = await invocation.client.call('detach', { id });
            invocation.print(`Deleting endpoint ${id}`);
            invocation.warn(answer.headers);
          } catch (error) {
            invocation.fail(error);
          }
      },
    },
  ],
};
