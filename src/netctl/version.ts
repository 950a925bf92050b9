import { asObject } from '../client/client.ts';
import { VERSION } from '../model/version.ts';
import type { Command } from './command.ts';

export const command: Command = {
  name: 'version',
  summary: 'versions of netctl and netmaster',
  subcommands: [
    {
      name: '',
      summary: 'shows the versions of netctl and netmaster',
      args: [],
      flags: [],
      examples: ['netctl version'],
      async run(invocation) {
        invocation.print(`netctl     ${VERSION}`);
        const { Version } = asObject(await invocation.client.call('version'));
        invocation.print(`netmaster  ${Version}`);
      },
    },
  ],
};
