/** `netctl edit`: an object as YAML in the user's editor, and applied as it is left there. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ApiError } from '../client/client.ts';
import { kindByName } from '../model/kinds.ts';
import { type Command, TENANT, UsageError } from './command.ts';
import { readDeclared, sendDeclared } from './declared.ts';
import { findKind, keyOf, select } from './get.ts';
import { yamlOf } from './output.ts';

export const command: Command = {
  name: 'edit',
  summary: 'changes an object in your editor',
  subcommands: [
    {
      name: '',
      summary: [
        'Opens an object as YAML in $VISUAL, else $EDITOR, else vi, and applies it as it is left there. Nothing is done where it is',
        'left as it was. What is refused stays in a file that is named; so does it where the object has changed meanwhile.',
      ].join('\n'),
      args: ['KIND', 'NAME'],
      flags: [TENANT],
      examples: ['netctl edit group web', 'EDITOR=nano netctl edit rule prod_web:1'],
      completes: ['kinds', 'objects'],
      async run(invocation) {
        const [word = '', name = ''] = invocation.args;
        const kind = findKind(word);
        if (!kindByName.has(kind.name))
          throw new UsageError(`${kind.name}: the hosts write it: it cannot be edited`);
        const key = keyOf(invocation, kind, name);
        const read = async (): Promise<string> => {
          const [found] = await select(invocation, kind, name);
          if (found === undefined) throw new ApiError(404, 'not_found', `${kind.name} ${key} does not exist`);
          return `${await yamlOf(found.object)}\n`;
        };
        const before = await read();
        const folder = fs.mkdtempSync(path.join(tmpdir(), 'netctl-'));
        const file = path.join(folder, `${kind.name}.yaml`);
        fs.writeFileSync(file, before);
        const { VISUAL, EDITOR } = invocation.env;
        const editor = VISUAL || EDITOR || 'vi';
        const { status, signal } = spawnSync('/bin/sh', ['-c', `${editor} "$1"`, 'sh', file], {
          stdio: 'inherit',
        });
        const isSame = fs.readFileSync(file, 'utf8') === before;
        const done = (): void => fs.rmSync(folder, { recursive: true });
        if (status !== 0 || isSame) {
          if (isSame) done();
          if (status !== 0)
            throw new UsageError(
              `${editor} ended with ${signal ?? `status ${status}`}: nothing was changed${isSame ? '' : `; your text is in ${file}`}`,
            );
          return invocation.print(`${kind.name} ${key} unchanged`);
        }
        try {
          const edited = readDeclared(file);
          const [object] = edited.objects;
          const own = kind.keyFields
            .map((field) => object?.[field] ?? (field === 'tenantName' ? 'default' : ''))
            .join(':');
          if (edited.objects.length !== 1 || object?.kind !== kind.name || own !== key)
            throw new UsageError(
              `${file}: must be ${kind.name} ${key}, and nothing else: to make another one, apply a file`,
            );
          if ((await read()) !== before)
            throw new ApiError(409, 'conflict', `${kind.name} ${key} was changed by somebody else meanwhile`);
          const { objects, headers } = await sendDeclared(invocation.client, edited, false);
          for (const { result } of objects) invocation.print(`${kind.name} ${key} ${result}`);
          invocation.warn(headers);
        } catch (error) {
          if (error instanceof UsageError) throw new UsageError(`${error.message}; your text is in ${file}`);
          if (!(error instanceof ApiError)) throw error;
          throw new ApiError(
            error.status,
            error.code,
            `${error.message}; your text is in ${file}`,
            error.field,
          );
        }
        done();
      },
    },
  ],
};
