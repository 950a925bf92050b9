import { setTimeout as after } from 'node:timers/promises';
import { ApiError, asObject } from '../client/client.ts';
import type { Device, Session } from '../protocol/login.ts';
import { type Command, type Invocation, UsageError } from './command.ts';
import { checkKeeping, keepSession } from './session.ts';

export const command: Command = {
  name: 'login',
  summary: 'logs in to netmaster, with a password or at an OpenID provider',
  subcommands: [
    {
      name: '',
      summary: [
        'Logs in: as user NAME with its password, which is asked for or read from standard input; or with --oidc at the OpenID provider',
        'that netmaster knows, by a page to be opened in a browser, on whatever machine. The session is kept in ~/.netctl/token until it',
        'ends, or netctl logout.',
      ].join('\n'),
      args: ['[NAME]'],
      flags: [{ name: 'oidc', kind: 'switch', help: 'at the OpenID provider' }],
      examples: ['netctl login alice', 'netctl login --oidc'],
      async run(invocation) {
        const [name] = invocation.args;
        const oidc = invocation.on('oidc');
        if ((name === undefined) !== oidc)
          throw new UsageError('give one of NAME and --oidc: netctl login alice, or netctl login --oidc');
        checkKeeping(invocation);
        const session =
          name === undefined ? await byProvider(invocation) : await byPassword(invocation, name);
        keepSession(invocation, session.token);
        const { whom, expires } = session;
        invocation.print(
          `Logged in as ${whom}, until ${expires.replace(/\.\d+Z$/, 'Z')} (netctl logout ends it)`,
        );
      },
    },
  ],
};

async function byPassword({ client, secret }: Invocation, name: string): Promise<Session> {
  const password = await secret(`Password of ${name}`);
  return asObject(await client.call('login', {}, { name, password }), ['token', 'whom', 'expires']);
}

async function byProvider({ client, print }: Invocation): Promise<Session> {
  const device = asObject(await client.call('loginDevice'), ['deviceCode', 'userCode', 'url']);
  const { deviceCode, userCode, url, complete } = device;
  print(
    complete === undefined
      ? `Open ${url} in a browser, and enter ${userCode}`
      : `Open ${complete} in a browser, and look whether it shows ${userCode}`,
  );
  return asked(client, device, deviceCode);
}

/** RFC 8628, 3.5: as often as the provider says; a connection that breaks is no answer. */
async function asked(
  client: Invocation['client'],
  { interval, expiresIn }: Device,
  deviceCode: string,
): Promise<Session> {
  const end = performance.now() + expiresIn * 1000;
  for (let pause = interval; performance.now() < end; ) {
    await after(pause * 1000);
    try {
      const { session, slower = 0 } = asObject(await client.call('loginDeviceEnd', {}, { deviceCode }));
      if (session !== undefined) return session;
      pause += slower;
    } catch (error) {
      if (!(error instanceof ApiError) || !['unreachable', 'too_many'].includes(error.code)) throw error;
      pause = Math.min(pause * 2, 60);
    }
  }
  throw new UsageError('nobody has logged in there in time: netctl login --oidc again');
}
