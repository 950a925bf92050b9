import { ApiError } from '../client/client.ts';
import { type Command, UsageError } from './command.ts';
import { forgetSession, isKeptShown, keptSession } from './session.ts';

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
      async run(invocation) {
        const { env, client, print } = invocation;
        if (keptSession(env) === undefined) throw new UsageError('nobody is logged in here (netctl login)');
        if (!isKeptShown(invocation))
          throw new UsageError('it ends the session of ~/.netctl/token: say nothing else to be shown');
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
