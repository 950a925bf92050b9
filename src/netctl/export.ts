import { objectsOf } from '../client/client.ts';
import type { Command } from './command.ts';
import { formatOf, outputFlag, printObjects } from './output.ts';

const FORMATS = ['yaml', 'json'];

export const command: Command = {
  name: 'export',
  summary: 'writes all objects, as apply reads them',
  subcommands: [
    {
      name: '',
      summary: [
        'Writes everything that was declared, as apply reads it: into an empty cluster it makes the same one, with the',
        'same tags and service addresses, also where they were given out. Endpoints are not in it: they come from the hosts; nor are',
        'workloads, network policies and services of an orchestrator: they come from there. `netctl get KIND` shows those.',
      ].join('\n'),
      args: [],
      flags: [outputFlag(FORMATS, 'yaml')],
      examples: ['netctl export > cluster.yaml', 'netctl export -o json'],
      async run(invocation) {
        formatOf(invocation, FORMATS);
        const objects = objectsOf(await invocation.client.call('export'));
        await printObjects(invocation, objects, false);
      },
    },
  ],
};
