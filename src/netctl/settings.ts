/** What the commands of objects that there is one of have in common: info, inspect and set. */
import { ApiError, asList, asObject } from '../client/client.ts';
import { type Invocation, JSON_FLAG, type Subcommand, UsageError } from './command.ts';

import { changesOf, printChanges } from './objects.ts';
import { printJson } from './output.ts';

import { table } from './table.ts';

type Plain = Record<string, unknown>;

export interface Settings {
  readonly command: string;
  readonly collection: string;
  /** Of the one object, its name too. */
  readonly key: string;
  /** Flag to field, short name, form of the value, help. */
  readonly settings: Readonly<
    Record<string, readonly [field: string, short: string, value: string, help: string]>
  >;
  readonly example: string;
}

export function settingsCommands({ command, collection, key, settings, example }: Settings): Subcommand[] {
  async function present(invocation: Invocation): Promise<Plain> {
    try {
      return asObject(await invocation.client.call('get', { collection, key }));
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return { name: key };
      throw error;
    }
  }
  return [
    {
      name: 'info',
      summary: 'shows the settings',
      args: [],
      flags: [JSON_FLAG],
      examples: [`netctl ${command} info`],
      async run(invocation) {
        const body = asList(await invocation.client.call('list', { collection }));
        if (invocation.on('json')) return printJson(invocation, body);
        const found = body[0] ?? {};
        const rows = Object.entries(settings).map(([flag, [field]]) => [flag, found[field]]);
        for (const line of table(['Setting', 'Value'], rows, invocation.width)) invocation.print(line);
      },
    },
    {
      name: 'inspect',
      summary: 'shows the settings and what is in use, as JSON',
      args: [],
      flags: [],
      examples: [`netctl ${command} inspect`],
      async run(invocation) {
        const answer = await invocation.client.call('inspect', { collection, key });
        printJson(invocation, answer.body);
      },
    },
    {
      name: 'set',
      summary: 'changes settings; those that are not named stay',
      args: [],
      flags: Object.entries(settings).map(([name, [, short, value, help]]) => ({
        name,
        short,
        kind: 'text',
        value,
        help,
      })),
      examples: [example],
      async run(invocation) {
        const changes = Object.entries(settings)
          .filter(([flag]) => invocation.given(flag))
          // Nothing behind a flag unsets it.
          .map(([flag, [field]]) => [field, invocation.text(flag)] as const);
        if (changes.length === 0)
          throw new UsageError(`nothing to set: give one of --${Object.keys(settings).join(', --')}`);
        const { 'link-sets': _sets, links: _links, ...before } = await present(invocation);
        const object = { ...before, ...Object.fromEntries(changes) };
        const answer = await invocation.client.call('post', { collection, key }, object);
        invocation.print(`Updating ${key}`);
        printChanges(invocation, changesOf(answer));
        invocation.warn(answer.headers);
      },
    },
  ];
}
