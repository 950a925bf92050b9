import type { Command } from './command.ts';
import { DRY_RUN, FILE, printOutcomes, readDeclared, sendDeclared } from './declared.ts';

export const command: Command = {
  name: 'delete',
  summary: 'deletes what a file names',
  subcommands: [
    {
      name: '',
      summary: [
        'Deletes the objects of a YAML or JSON file, by kind and name: all of them in one step, or none. What is not there is no',
        'error. What something else uses, as a network with containers, is refused.',
      ].join('\n'),
      args: [],
      flags: [FILE, DRY_RUN],
      examples: ['netctl delete -f shop.yaml', 'netctl delete -f shop.yaml --dry-run'],
      async run(invocation) {
        const dryRun = invocation.on('dry-run');
        const file = readDeclared(invocation.text('file'));
        const { objects, headers } = await sendDeclared(invocation.client, file, dryRun, { to: 'removeSet' });
        printOutcomes(invocation, objects, ['deleted', 'absent'], dryRun);
        invocation.warn(headers);
      },
    },
  ],
};
