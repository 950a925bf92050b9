/** Objects on standard output as YAML, one document each, or as JSON. */
import type { DeclaredObject } from '../protocol/declared.ts';
import { type Flag, type Invocation, UsageError } from './command.ts';
import { printJson } from './objects.ts';

export const outputFlag = (formats: readonly string[]): Flag => ({
  name: 'output',
  short: 'o',
  kind: 'text',
  value: formats.join('|'),
  help: 'what to write',
  default: 'yaml',
});

/** `one`: JSON of the object itself, otherwise of a list. */
export async function printObjects(
  invocation: Invocation,
  objects: readonly DeclaredObject[],
  one: boolean,
): Promise<void> {
  const format = invocation.text('output');
  if (format === 'json') return printJson(invocation, one ? objects[0] : objects);
  if (format !== 'yaml') throw new UsageError(`--output: '${format}' must be yaml or json`);
  const { stringify } = await import('yaml');
  for (const [i, object] of objects.entries())
    invocation.print(`${i > 0 ? '---\n' : ''}${stringify(object, { lineWidth: 0 }).trimEnd()}`);
}
