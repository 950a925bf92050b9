import type { Command } from './command.ts';

export const command: Command = {
  name: 'login',
  summary: 'logs in to netmaster',
  subcommands: [
    {
      name: '',
      summary: 'says how netctl shows who you are: there is nothing to log in to',
      args: [],
      flags: [],
      examples: ['netctl login'],
      async run(invocation) {
        invocation.print(
          'nothing to log in to: you are who your certificate or token says (netctl whoami; netctl --help: --tls-cert, --token-file)',
        );
      },
    },
  ],
};
