import type { FieldChanges } from '../protocol/declared.ts';
import type { Command } from './command.ts';
import { FILE, readDeclared, sendDeclared } from './declared.ts';

export const command: Command = {
  name: 'diff',
  summary: 'shows what apply would change',
  subcommands: [
    {
      name: '',
      summary: [
        'Shows what apply of the file would create (+) and change (- is, + would be), and prints nothing where that is',
        'nothing. Exit status 0 either way, or with --exit-code 2 where something would change.',
      ].join('\n'),
      args: [],
      flags: [
        FILE,
        { name: 'exit-code', kind: 'switch', help: 'exit status 2 where something would change' },
      ],
      examples: ['netctl diff -f cluster.yaml', 'netctl diff --exit-code -f cluster.yaml'],
      async run(invocation) {
        const { objects } = await sendDeclared(
          invocation.client,
          readDeclared(invocation.text('file')),
          true,
        );
        const differing = objects.filter((o) => o.result !== 'unchanged');
        for (const { kind, key, result, fields = {} } of differing) {
          invocation.print(`${result === 'created' ? '+' : ' '} ${kind} ${key}`);
          for (const line of fieldLines(fields)) invocation.print(line);
        }
        if (differing.length > 0 && invocation.on('exit-code')) invocation.exitWith(2);
      },
    },
  ],
};

const shown = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));

function fieldLines(fields: FieldChanges): string[] {
  return Object.entries(fields).flatMap(([field, { before, after }]) => [
    ...(before === undefined ? [] : [`-   ${field}: ${shown(before)}`]),
    ...(after === undefined ? [] : [`+   ${field}: ${shown(after)}`]),
  ]);
}
