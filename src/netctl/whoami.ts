import { asObject } from '../client/client.ts';
import { type Command, JSON_FLAG } from './command.ts';
import { printJson } from './output.ts';

export const command: Command = {
  name: 'whoami',
  summary: 'who you are to netmaster, and what you may do',
  subcommands: [
    {
      name: '',
      summary: 'says who your certificate or token says that you are, and in which tenants you may do what',
      args: [],
      flags: [JSON_FLAG],
      examples: ['netctl whoami'],
      async run(invocation) {
        const who = asObject(await invocation.client.call('whoami'), ['role', 'shown']);
        if (invocation.on('json')) return printJson(invocation, who);
        const { role, name, tenants = [], shown, expires } = who;
        if (shown === 'nothing')
          return invocation.print(
            'nobody is asked: netmaster has no certificates, everybody may do everything',
          );
        const reads = role === 'reader' || role === 'tenantReader';
        const may = MAY[role] ?? 'may ask what docs/reference/access.md says';
        invocation.print(
          `${reads ? 'reader' : role} ${name}, by ${shown}${shown === 'session' ? until(expires) : ''}: ${may}${tenants.length === 0 ? '' : ` tenant${tenants.length > 1 ? 's' : ''} ${tenants.join(', ')}`}`,
        );
      },
    },
  ],
};

const until = (time: string | undefined): string =>
  time === undefined ? '' : ` until ${time.replace(/\.\d+Z$/, 'Z')}`;

const MAY: Readonly<Record<string, string>> = {
  admin: 'may do everything',
  reader: 'may read everything',
  tenantReader: 'may read what is of',
  operator: 'may read and change what is of',
};
