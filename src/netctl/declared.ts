/**
 * Files of objects: YAML (one or several documents) or JSON, each document one object, a list, or {objects: [...]}.
 *
 *   kind: network
 *   networkName: contiv-net
 *   subnet: 20.1.1.0/24
 */
import fs from 'node:fs';
import type { Document, Node } from 'yaml';
import { Composer, isMap, isSeq, LineCounter, Parser } from 'yaml';
import { ApiError, type Client, objectsOf } from '../client/client.ts';
import { kindByName } from '../model/kinds.ts';
import type { DeclaredObject, ObjectOutcome } from '../protocol/declared.ts';
import { type Flag, type Invocation, UsageError } from './command.ts';
import { printChanges } from './objects.ts';

export const FILE: Flag = {
  name: 'file',
  short: 'f',
  kind: 'text',
  value: 'FILE|-',
  help: 'YAML or JSON with objects, in any order; - is standard input',
  required: true,
};

export interface DeclaredFile {
  readonly name: string;
  readonly objects: readonly DeclaredObject[];
  /** Line that each object begins at, from 1. */
  lines(): readonly number[];
}

export function readDeclared(name: string): DeclaredFile {
  let text: string;
  try {
    text = fs.readFileSync(name === '-' ? 0 : name, 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const known = { ENOENT: 'does not exist', EISDIR: 'is a folder', EACCES: 'may not be read' }[code ?? ''];
    throw new UsageError(`--file: ${known === undefined ? message : `${name} ${known}`}`);
  }
  const file = parseDeclared(text, name === '-' ? 'standard input' : name);
  if (file.objects.length === 0) throw new UsageError(`${file.name}: has no objects`);
  return file;
}

/** For what ends in a RangeError, the stack being at its end. */
const tooDeep = (name: string): UsageError => new UsageError(`${name}: is nested too deeply`);

export function parseDeclared(text: string, name: string): DeclaredFile {
  const objects = parseJson(text);
  if (objects === undefined) {
    try {
      return parseYaml(text, name);
    } catch (error) {
      throw error instanceof RangeError ? tooDeep(name) : error;
    }
  }
  // JSON is YAML: where a line is asked for, which is rare, it is read so, which is slow.
  const lines = (): readonly number[] => parseYaml(text, name).lines();
  return { name, objects: objects.map((object) => typed(object as Record<string, unknown>)), lines };
}

/** undefined where it is no JSON, or not of objects: then the reader of YAML says what is wrong, and where. */
function parseJson(text: string): object[] | undefined {
  if (!/^\s*[[{]/.test(text)) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const isObject = (entry: unknown): entry is object =>
    typeof entry === 'object' && entry !== null && !Array.isArray(entry);
  const set = isObject(value) && !('kind' in value) && 'objects' in value ? value.objects : value;
  const objects: unknown[] = Array.isArray(set) ? set : [set];
  return objects.every(isObject) ? objects : undefined;
}

function parseYaml(text: string, name: string): DeclaredFile {
  const objects: DeclaredObject[] = [];
  const lines: number[] = [];
  const counter = new LineCounter();
  const wrong = (offset: number, reason: string): UsageError =>
    new UsageError(`${name}: line ${counter.linePos(offset).line}: ${reason}`);
  const add = (node: Node | null, document: Document.Parsed): void => {
    const offset = node?.range?.[0] ?? 0;
    if (isSeq(node)) for (const item of node.items) add(item as Node, document);
    else if (!isMap(node)) throw wrong(offset, 'must be an object: kind: KIND, and its fields');
    else if (!node.has('kind') && node.items.length === 1 && isSeq(node.get('objects')))
      add(node.get('objects') as Node, document);
    else {
      lines.push(counter.linePos(offset).line);
      let fields: Record<string, unknown>;
      try {
        fields = node.toJS(document);
        JSON.stringify(fields);
      } catch (error) {
        if (error instanceof RangeError) throw error;
        if (error instanceof TypeError) throw wrong(offset, 'contains itself');
        throw wrong(offset, sentence(error as Error)); // an alias of nothing
      }
      objects.push(typed(fields));
    }
  };
  // Text stays text (007, 1.10, yes): the field says what is a number.
  const composer = new Composer({ schema: 'failsafe', customTags: ['null'], prettyErrors: false });
  // One document at a time: a hundred thousand of them as trees do not fit into memory.
  for (const document of composer.compose(new Parser(counter.addNewLine).parse(text), true, text.length)) {
    const [error] = document.errors;
    if (error !== undefined) throw wrong(error.pos[0], sentence(error));
    if (document.contents !== null && !isNull(document.contents))
      add(document.contents as Node, document as Document.Parsed);
  }
  return { name, objects, lines: () => lines };
}

const isNull = (node: unknown): boolean => (node as { value?: unknown }).value === null;
/** Its first line, to go on after a colon. */
const sentence = ({ message }: Error): string =>
  (message.charAt(0).toLowerCase() + message.slice(1)).split('\n')[0] ?? '';

/** Whole numbers and switches where the model has them; fields without a value are unset. */
const typed = (fields: Record<string, unknown>): DeclaredObject =>
  typedBy((kindByName.get(String(fields.kind))?.schema ?? {}) as Shape, fields) as DeclaredObject;

/** What reading a schema needs of it: that of one shape among several is what has all of the value's fields. */
interface Shape {
  readonly type?: unknown;
  readonly properties?: Readonly<Record<string, Shape>>;
  readonly items?: Shape;
  readonly anyOf?: readonly Shape[];
}

/** No deeper than the schema is: what is nested beyond that is refused as it is. */
function typedBy(shape: Shape | undefined, value: unknown): unknown {
  if (shape === undefined) return value;
  if (typeof value === 'string') {
    if (shape.type === 'integer' && /^\d{1,15}$/.test(value)) return Number(value);
    if (shape.type === 'boolean' && /^(?:true|false)$/.test(value)) return value === 'true';
    return value;
  }
  if (Array.isArray(value)) return value.map((item) => typedBy(shape.items, item));
  if (typeof value !== 'object' || value === null) return value;
  const fits = ({ properties = {} }: Shape): boolean =>
    Object.keys(value).every((field) => Object.hasOwn(properties, field));
  const properties = (shape.anyOf?.find(fits) ?? shape).properties ?? {};
  // Not by assignment, which takes __proto__ for something else.
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, of]) => of !== null)
      .map(([field, of]) => [
        field,
        typedBy(Object.hasOwn(properties, field) ? properties[field] : undefined, of),
      ]),
  );
}

export const DRY_RUN: Flag = { name: 'dry-run', kind: 'switch', help: 'only says what would be done' };

/** A line for each object, then how many of each result there are. */
export function printOutcomes(
  invocation: Invocation,
  objects: readonly ObjectOutcome[],
  results: readonly ObjectOutcome['result'][],
  dryRun: boolean,
): void {
  for (const { kind, key, result, fields = {} } of objects) {
    invocation.print(`${kind} ${key} ${result}`);
    if (result === 'changed') printChanges(invocation, fields);
  }
  const count = (result: string): number => objects.filter((o) => o.result === result).length;
  const counts = results.map((result) => `${count(result)} ${result}`).join(', ');
  const nothing = count('unchanged') + count('absent') === objects.length;
  invocation.print(
    dryRun ? `dry run, nothing was written: ${counts}` : nothing ? `nothing to do: ${counts}` : counts,
  );
}

/** Sends the set. A refusal names the file and the line of the object. */
export async function sendDeclared(
  client: Client,
  file: DeclaredFile,
  dryRun: boolean,
  { to = 'apply', ...query }: { to?: 'apply' | 'removeSet'; set?: string; prune?: string } = {},
) {
  try {
    const given = { dryRun: String(dryRun), ...query };
    const answer = await client.call(to, given, { objects: file.objects });
    return { objects: objectsOf(answer), headers: answer.headers };
  } catch (error) {
    if (error instanceof RangeError) throw tooDeep(file.name);
    if (!(error instanceof ApiError) || error.position === undefined) throw error;
    const line = file.lines()[error.position - 1];
    throw new ApiError(
      error.status,
      error.code,
      `${file.name}: line ${line}: ${error.message}`,
      error.field,
      error.position,
    );
  }
}
