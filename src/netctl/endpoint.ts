import type { Command } from './command.ts';
import { inspectPath, printJson } from './objects.ts';

export const command: Command = {
  name: 'endpoint',
  summary: 'attachments of running containers',
  subcommands: [
    {
      name: 'inspect',
      summary: 'shows an endpoint by its id, or by the id or name of its container',
      args: ['ID'],
      flags: [],
      examples: ['netctl endpoint inspect web'],
      async run(invocation) {
        const answer = await invocation.client.get(inspectPath('endpoints', invocation.args[0] ?? ''));
        printJson(invocation, answer.body);
      },
    },
  ],
};
