/** What the commands of most kinds have in common: ls, inspect and rm differ in names and columns only. */
import { type Answer, ApiError, asList, asObject, objectsOf } from '../client/client.ts';
import type { FieldChanges } from '../protocol/declared.ts';
import { CHANGES_HEADER, RESULT_HEADER } from '../protocol/wire.ts';
import {
  type Flag,
  fieldOf,
  type Invocation,
  LIST_FLAGS,
  type Subcommand,
  TENANT,
  UsageError,
} from './command.ts';
import { formatOf, LIST_FORMATS, printJson, printListed } from './output.ts';
import { table } from './table.ts';

type Plain = Record<string, unknown>;

export interface Column {
  readonly title: string;
  readonly of: (object: Plain) => unknown;
}

export interface Objects {
  /** `network`, in texts. */
  readonly noun: string;
  /** Where it is not the noun with an s. */
  readonly plural?: string;
  /** A name for the examples. */
  readonly example: string;
  readonly command: string;
  readonly collection: string;
  /** Field that a list's --quiet prints. */
  readonly nameField: string;
  readonly columns: readonly Column[];
  /** Those that a wide list has besides; absent: it has each field that one of the objects has. */
  readonly wide?: readonly Column[];
  /** Field that netmaster gives where the user names none. The API's lists have what the user named, the export both. */
  readonly given?: {
    readonly field: string;
    readonly kind: string;
    /** Only a wide list has it. */
    readonly wide?: true;
  };
  /** False for objects that are in no tenant. */
  readonly inTenant: boolean;
}

/** Of the flags that have one, in their order. A number that an object does not have is 0. */
export const columnsOf = (flags: readonly Flag[]): readonly Column[] =>
  flags.flatMap((flag) => {
    const { column: title, kind } = flag;
    const field = fieldOf(flag);
    return title === undefined
      ? []
      : [{ title, of: (object: Plain) => object[field] ?? (kind === 'number' ? 0 : undefined) }];
  });

/** What a flag says of its field; what is not given is empty, as `body` leaves it out. */
function valueIn(invocation: Invocation, { name, kind }: Flag): unknown {
  if (kind === 'list') return invocation.list(name).filter((item) => item !== '');
  if (kind === 'number') return invocation.number(name);
  return kind === 'switch' ? invocation.on(name) || '' : invocation.text(name);
}

/** The fields of an object by the flags that they are given by. */
export const fieldsOf = (invocation: Invocation, flags: readonly Flag[]): Plain =>
  Object.fromEntries(flags.map((flag) => [fieldOf(flag), valueIn(invocation, flag)]));

export const key = (invocation: Invocation, objects: Objects, name: string): string =>
  objects.inTenant ? `${invocation.text('tenant')}:${name}` : name;

/** Without what was not given, as 1.x sends it; the server computes the links. No `links`: of a kind without any. */
export function body(fields: Plain, links?: readonly string[]): Plain {
  const given = Object.entries(fields).filter(
    ([, value]) => value !== '' && value !== 0 && !(Array.isArray(value) && value.length === 0),
  );
  if (links === undefined) return Object.fromEntries(given);
  return {
    ...Object.fromEntries(given),
    'link-sets': {},
    ...(links.length === 0 ? {} : { links: Object.fromEntries(links.map((link) => [link, {}])) }),
  };
}

const tenantFlags = (objects: Objects): Flag[] => (objects.inTenant ? [TENANT] : []);

export function listCommand(objects: Objects): Subcommand {
  const { noun, plural = `${noun}s`, command, collection, nameField, columns: always, wide } = objects;
  return {
    name: 'ls',
    aliases: ['list'],
    summary: `lists ${plural}`,
    args: [],
    flags: [...tenantFlags(objects), ...LIST_FLAGS],
    examples: [`netctl ${command} ls`, `netctl ${command} ls -q`],
    async run(invocation) {
      const format = formatOf(invocation, LIST_FORMATS);
      const tenant = objects.inTenant ? invocation.text('tenant') : '';
      const tableOf = (columns: readonly Column[]) => (whole: readonly Plain[]) =>
        table(
          columns.map((c) => c.title),
          whole.map((object) => columns.map((c) => c.of(object))),
          invocation.width,
        );
      // Names the tenant that does not exist, where an empty list would not.
      if (objects.inTenant)
        await invocation.client.call('get', { collection: 'tenants', key: tenant }).catch((error) => {
          // Of all that may be seen, default need not be one: 1.x asks for it all the same.
          const isAny = invocation.on('all') && !invocation.given('tenant');
          if (!(isAny && error instanceof ApiError && error.status === 403)) throw error;
        });
      const all = asList(await invocation.client.call('list', { collection }));
      const shown =
        objects.inTenant && !invocation.on('all')
          ? all.filter((object) => object.tenantName === tenant)
          : all;
      await printListed(
        invocation,
        shown,
        (object) => String(object[nameField]),
        tableOf(always),
        () =>
          objects.given?.wide && format !== 'wide'
            ? Promise.resolve(shown)
            : withGiven(invocation, objects, shown),
        wide && tableOf([...always, ...wide]),
      );
    },
  };
}

async function withGiven(
  { client }: Invocation,
  { given, nameField }: Objects,
  shown: readonly Plain[],
): Promise<readonly Plain[]> {
  if (given === undefined || shown.every((object) => object[given.field])) return shown;
  const exported = objectsOf(await client.call('export', { kind: given.kind }));
  const keyOf = (object: Plain): string => `${object.tenantName}:${object[nameField]}`;
  const values = new Map(exported.map((object) => [keyOf(object), object[given.field]]));
  return shown.map((object) => ({
    ...object,
    [given.field]: object[given.field] || values.get(keyOf(object)),
  }));
}

export function inspectCommand(objects: Objects): Subcommand {
  const { noun, command, collection, example } = objects;
  return {
    name: 'inspect',
    summary: `shows a ${noun} and what runs in it, as JSON`,
    args: [noun.toUpperCase().replaceAll(' ', '-')],
    flags: tenantFlags(objects),
    examples: [`netctl ${command} inspect ${example}`],
    completes: [collection],
    async run(invocation) {
      const [name = ''] = invocation.args;
      const objectKey = key(invocation, objects, name);
      const answer = await invocation.client.call('inspect', { collection, key: objectKey });
      printJson(invocation, answer.body);
    },
  };
}

export function removeCommand(objects: Objects): Subcommand {
  const { noun, command, collection, example } = objects;
  return {
    name: 'rm',
    aliases: ['delete'],
    summary: `deletes a ${noun} that nothing uses, or several: each is tried`,
    args: [`${noun.toUpperCase().replaceAll(' ', '-')}...`],
    flags: tenantFlags(objects),
    examples: [`netctl ${command} rm ${example}`],
    completes: [collection],
    run: (invocation) => removeEach(invocation, objects, invocation.args),
  };
}

/** One after the other; what is refused is said, and the next is tried. */
export async function removeEach(
  invocation: Invocation,
  objects: Objects,
  names: readonly string[],
): Promise<void> {
  const { collection, noun } = objects;
  for (const name of names) {
    const objectKey = key(invocation, objects, name);
    try {
      const answer = await invocation.client.call('delete', { collection, key: objectKey });
      invocation.print(`Deleting ${noun} ${objectKey}`);
      invocation.warn(answer.headers);
    } catch (error) {
      invocation.fail(error);
    }
  }
}

/** Sends the object and says what was done; of an object that was there before, that it changes, and what of it. */
export async function create(
  invocation: Invocation,
  objects: Objects,
  name: string,
  object: Plain,
  done = 'Creating',
): Promise<void> {
  const { collection } = objects;
  const objectKey = key(invocation, objects, name);
  const answer = await invocation.client.call('post', { collection, key: objectKey }, object);
  const verb = answer.headers[RESULT_HEADER] === 'changed' ? 'Changing' : done;
  invocation.print(`${verb} ${objects.noun} ${objectKey}`);
  printChanges(invocation, changesOf(answer));
  invocation.warn(answer.headers);
}

/** An object that is there, as it would be sent, with what of `flags` is given in place of what it has. */
export async function update(
  invocation: Invocation,
  objects: Objects,
  name: string,
  flags: readonly Flag[],
): Promise<void> {
  const given = flags.filter((flag) => invocation.given(flag.name));
  if (given.length === 0)
    throw new UsageError(`nothing to update: give one of --${flags.map((flag) => flag.name).join(', --')}`);
  const { collection } = objects;
  const objectKey = key(invocation, objects, name);
  const answer = await invocation.client.call('get', { collection, key: objectKey });
  const { key: _key, 'link-sets': _sets, links: _links, ...before } = asObject<Plain>(answer);
  const object = { ...before, ...fieldsOf(invocation, given) };
  await create(invocation, objects, name, body(object, []), 'Updating');
}

/** What a write changed, as netmaster says it. */
export function changesOf({ headers }: Pick<Answer<unknown>, 'headers'>): FieldChanges {
  const text = headers[CHANGES_HEADER];
  try {
    const changes: unknown = typeof text === 'string' ? JSON.parse(text) : {};
    return typeof changes === 'object' && changes !== null ? (changes as FieldChanges) : {};
  } catch {
    return {}; // somebody else's header
  }
}

/** `  policies: prod_web -> none`, a line for each field. */
export function printChanges(invocation: Invocation, changes: FieldChanges): void {
  for (const [field, change] of Object.entries(changes)) invocation.print(`  ${shownChange(field, change)}`);
}

export const shownChange = (field: string, { before, after }: FieldChanges[string] = {}): string =>
  before === undefined && after === undefined
    ? `${field}: changed`
    : `${field}: ${shown(before)} -> ${shown(after)}`;

function shown(value: unknown): string {
  if (value === undefined) return 'none';
  if (Array.isArray(value) && value.every((item) => typeof item !== 'object')) return value.join(', ');
  return typeof value === 'string' ? value : JSON.stringify(value);
}
