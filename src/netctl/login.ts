import type { Command } from './command.ts';

export const command: Command = {
  name: 'login',
  summary: 'logs in to netmaster',
  subcommands: [
    {
      name: '',
      summary: 'logs in to netmaster; there is no authentication yet',
      args: [],
      flags: [],
      examples: ['netctl login'],
      async run(invocation) {
        invocation.print('netmaster has no authentication yet: all commands work without login');
      },
    },
  ],
};
