import { backupFrom, nameProblem } from '../client/backupFile.ts';
import { type Command, UsageError } from './command.ts';

export const command: Command = {
  name: 'backup',
  summary: 'writes all that netmaster keeps to a file',
  subcommands: [
    {
      name: '',
      summary: [
        'Writes all that netmaster has in its store to a file, of one revision, while it runs: `netmaster restore` fills a store with it.',
        'FILE is whole or as it was before, and for its owner alone: hashes of tokens and passwords are in it. Keys of certificates are not: keep a copy',
        'of the folder tls of netmaster beside it.',
      ].join('\n'),
      args: ['FILE'],
      flags: [],
      examples: ['netctl backup /var/backups/contiv.backup'],
      async run(invocation) {
        const [file = ''] = invocation.args;
        const problem = nameProblem(file);
        if (problem !== undefined) throw new UsageError(problem);
        const { revision, entries, bytes } = await backupFrom(file, async () => {
          const { body } = await invocation.client.call('backup');
          return String(body);
        });
        invocation.print(`${file}: ${entries.length} entries of revision ${revision}, ${bytes} bytes`);
      },
    },
  ],
};
