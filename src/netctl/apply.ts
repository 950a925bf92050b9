import type { Command } from './command.ts';
import { FILE, readDeclared, sendDeclared } from './declared.ts';
import { printChanges } from './objects.ts';

export const command: Command = {
  name: 'apply',
  summary: 'makes the cluster what a file declares',
  subcommands: [
    {
      name: '',
      summary: [
        'Creates and changes what a YAML or JSON file declares: all of it in one step, or nothing.',
        'What is as declared already is not written. What is not in the file stays: nothing is deleted.',
        'An object is given whole: a field that is left out is unset. Rules that differ are replaced in that step;',
        'networks cannot change.',
        '',
        '  kind: network',
        '  networkName: contiv-net',
        '  subnet: 20.1.1.0/24',
        '  gateway: 20.1.1.254',
        '  ---',
        '  kind: endpointGroup',
        '  groupName: web',
        '  networkName: contiv-net',
      ].join('\n'),
      args: [],
      flags: [FILE, { name: 'dry-run', kind: 'switch', help: 'only says what would be created and changed' }],
      examples: ['netctl apply -f cluster.yaml', 'netctl get network -o yaml | netctl apply -f -'],
      async run(invocation) {
        const dryRun = invocation.on('dry-run');
        const file = readDeclared(invocation.text('file'));
        const { objects, headers } = await sendDeclared(invocation.client, file, dryRun);
        for (const { kind, key, result, fields = {} } of objects) {
          invocation.print(`${kind} ${key} ${result}`);
          if (result === 'changed') printChanges(invocation, fields);
        }
        const count = (result: string): number => objects.filter((o) => o.result === result).length;
        const counts = `${count('created')} created, ${count('changed')} changed, ${count('unchanged')} unchanged`;
        const nothing = count('unchanged') === objects.length;
        invocation.print(
          dryRun ? `dry run, nothing was written: ${counts}` : nothing ? `nothing to do: ${counts}` : counts,
        );
        invocation.warn(headers);
      },
    },
  ],
};
