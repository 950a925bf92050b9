import { ApiError } from '../client/client.ts';
import { type Command, UsageError } from './command.ts';
import { forgetSession, keptSession } from './session.ts';

export const command: Command = {
  name: 'logout',
  summary: 'ends the session that netctl login began',
  subcommands: [
    {
      name: '',
      summary: 'ends the session that netctl login began, at netmaster and here',
      args: [],
      flags: [],
      examples: ['netctl logout'],
      async run({ env, client, print }) {
        if (keptSession(env) === undefined) throw new UsageError('nobody is logged in here (netctl login)');
        try {
          await client.call('logout');
        } catch (error) {
          // It has ended already.
          if (!(error instanceof ApiError) || error.status !== 401) throw error;
        }
        forgetSession(env);
        print('Logged out');
      },
    },
  ],
};
