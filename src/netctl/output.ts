/** Objects on standard output: as a table, by name, as YAML, one document each, or as JSON. */
import type { DeclaredObject } from '../protocol/declared.ts';
import { type Flag, type Invocation, UsageError } from './command.ts';
import { table } from './table.ts';

type Plain = Readonly<Record<string, unknown>>;

export const printJson = (invocation: Invocation, value: unknown): void =>
  invocation.print(JSON.stringify(value, null, 2));

export const outputFlag = (formats: readonly string[], preset?: string): Flag => ({
  name: 'output',
  short: 'o',
  kind: 'text',
  value: formats.join('|'),
  help: 'what to write',
  ...(preset === undefined ? {} : { default: preset }),
});

/** Of lists. */
export const LIST_FORMATS = ['wide', 'name', 'json', 'yaml'] as const;

/** '' where none is asked for. The switches --json, --quiet and --wide are short for three. */
export function formatOf(invocation: Invocation, formats: readonly string[]): string {
  const format = invocation.text('output');
  if (format !== '' && !formats.includes(format))
    throw new UsageError(
      `--output: '${format}' must be ${formats.slice(0, -1).join(', ')} or ${formats.at(-1)}`,
    );
  if (format !== '') return format;
  return invocation.on('json')
    ? 'json'
    : invocation.on('quiet')
      ? 'name'
      : invocation.on('wide')
        ? 'wide'
        : '';
}

/** A list in the format that is asked for; `lines` where it is none. `whole`: with what the API's lists leave out, for people. */
export async function printListed(
  invocation: Invocation,
  objects: readonly Plain[],
  nameOf: (object: Plain) => string,
  lines: (whole: readonly Plain[]) => readonly string[],
  whole: () => Promise<readonly Plain[]> = () => Promise.resolve(objects),
  wide: (whole: readonly Plain[]) => readonly string[] = wideTable,
): Promise<void> {
  const format = formatOf(invocation, LIST_FORMATS);
  if (format === 'json') printJson(invocation, objects);
  else if (format === 'name') for (const object of objects) invocation.print(nameOf(object));
  else if (format === 'yaml') await printYaml(invocation, objects);
  else for (const line of (format === 'wide' ? wide : lines)(await whole())) invocation.print(line);
}

/** Not fields: what 1.x has beside them, and what is named anyway. */
const BESIDE = new Set(['kind', 'key', 'links', 'link-sets']);

export function wideTable(objects: readonly Plain[]): string[] {
  const named = new Set(objects.flatMap((object) => Object.keys(object)));
  const first = named.delete('tenantName') ? ['tenantName'] : [];
  const fields = [...first, ...named].filter((field) => !BESIDE.has(field));
  return table(
    fields,
    objects.map((object) => fields.map((field) => object[field])),
  );
}

export async function printYaml(invocation: Invocation, objects: readonly Plain[]): Promise<void> {
  for (const [i, object] of objects.entries())
    invocation.print(`${i > 0 ? '---\n' : ''}${await yamlOf(object)}`);
}

export async function yamlOf(object: Plain): Promise<string> {
  const { stringify } = await import('yaml');
  return stringify(object, { lineWidth: 0 }).trimEnd();
}

/** `one`: JSON of the object itself, otherwise of a list. */
export async function printObjects(
  invocation: Invocation,
  objects: readonly DeclaredObject[],
  one: boolean,
): Promise<void> {
  if (invocation.text('output') === 'json') return printJson(invocation, one ? objects[0] : objects);
  await printYaml(invocation, objects);
}
