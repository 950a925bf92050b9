import { asList, asObject } from '../client/client.ts';
import { type Command, JSON_FLAG, QUIET, UsageError } from './command.ts';
import { printJson } from './output.ts';
import { forgetSession, isKeptShown } from './session.ts';
import { table } from './table.ts';

const ROLES = ['reader', 'operator', 'admin'] as const;
const isRole = (text: string): text is (typeof ROLES)[number] => ROLES.some((role) => role === text);

export const command: Command = {
  name: 'user',
  summary: 'people who log in with a password',
  subcommands: [
    {
      name: 'create',
      summary:
        'makes a user; the password, of 12 characters at least, is asked for or read from standard input',
      args: ['NAME'],
      flags: [
        {
          name: 'role',
          kind: 'text',
          value: 'reader|operator|admin',
          help: 'reader: reads; operator: reads and writes what is of --tenant; admin: may do everything',
          default: 'reader',
        },
        {
          name: 'tenant',
          short: 't',
          kind: 'text',
          value: 'NAME,...',
          help: 'the tenants that it is for: an operator has one or more, a reader reads all where absent',
          field: 'tenants',
          completes: 'tenants',
        },
      ],
      examples: [
        'netctl user create --role=operator --tenant=blue,red alice',
        'netctl user create --role=admin root < password.txt',
      ],
      async run(invocation) {
        const [name = ''] = invocation.args;
        const role = invocation.text('role');
        if (!isRole(role)) throw new UsageError(`--role: '${role}' must be reader, operator or admin`);
        const tenants = invocation.text('tenant').split(',').filter(Boolean);
        if (role === 'operator' && tenants.length === 0)
          throw new UsageError('--role=operator needs --tenant=NAME,...: an operator has some tenants');
        const password = await invocation.secret(`Password of ${name}`, 'new');
        const wanted = { name, role, password, ...(tenants.length > 0 && { tenants }) };
        await invocation.client.call('userCreate', {}, wanted);
        invocation.print(`Creating user ${name}`);
      },
    },
    {
      name: 'ls',
      aliases: ['list'],
      summary: 'lists users: what each may do, and since when the password is what it is',
      args: [],
      flags: [JSON_FLAG, QUIET],
      examples: ['netctl user ls'],
      async run(invocation) {
        const users = asList(await invocation.client.call('users'));
        if (invocation.on('json')) return printJson(invocation, users);
        if (invocation.on('quiet')) return invocation.print(users.map(({ name }) => name).join('\n'));
        const rows = users.map((u) => [
          u.name,
          u.role,
          (u.tenants ?? []).join(','),
          u.since.replace(/\.\d+Z$/, 'Z'),
          u.sessions,
        ]);
        for (const line of table(['Name', 'Role', 'Tenants', 'Password since', 'Sessions'], rows))
          invocation.print(line);
      },
    },
    {
      name: 'rm',
      aliases: ['delete'],
      summary: 'removes a user, and ends its sessions',
      args: ['NAME'],
      flags: [],
      examples: ['netctl user rm alice'],
      completes: ['users'],
      async run(invocation) {
        const [name = ''] = invocation.args;
        await invocation.client.call('userRemove', { name });
        invocation.print(`Deleting user ${name}`);
      },
    },
    {
      name: 'passwd',
      summary: [
        'Sets a password, and ends the sessions that were got by the old one: as an admin that of user NAME, without NAME your own, for which',
        'the old one is asked for first. On standard input they are a line each.',
      ].join('\n'),
      args: ['[NAME]'],
      flags: [],
      examples: ['netctl user passwd', 'netctl user passwd alice'],
      completes: ['users'],
      async run(invocation) {
        const { args, client, secret, print, env } = invocation;
        const [named] = args;
        if (named !== undefined) {
          const password = await secret(`New password of ${named}`, 'new');
          await client.call('userPassword', { name: named }, { password });
          return print(
            `The password of ${named} is another one, and the sessions that there were have ended`,
          );
        }
        const { name, shown } = asObject(await client.call('whoami'), ['shown']);
        if (shown !== 'session')
          throw new UsageError('whose? Log in first (netctl login), or as an admin name the user');
        const current = await secret(`Password of ${name}`);
        const password = await secret('New password', 'new');
        await client.call('ownPassword', {}, { current, password });
        if (isKeptShown(invocation)) forgetSession(env);
        print('The password is another one: log in again (netctl login)');
      },
    },
  ],
};
