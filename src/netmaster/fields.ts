/** Bodies against the schemas of the model: the first thing that is wrong, as a sentence for people. */
import type { TObject, TSchema } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { isPrintable, shown } from '../model/text.ts';
import { Refusal } from './problem.ts';

export type Plain = Record<string, unknown>;

/** In words, what a field may hold. */
function expected(schema: TSchema): string {
  if (Array.isArray(schema.anyOf)) return `one of ${schema.anyOf.map((s: TSchema) => s.const).join(', ')}`;
  if (schema.const !== undefined) return `'${schema.const}'`;
  if (schema.type === 'integer')
    return `a whole number from ${schema.minimum ?? 0} to ${schema.maximum ?? Number.MAX_SAFE_INTEGER}`;
  if (schema.type === 'string')
    return `text${schema.minLength ? ` of 1 to ${schema.maxLength} characters` : schema.maxLength ? ` of at most ${schema.maxLength} characters` : ''}`;
  if (schema.type === 'array')
    return `a list of ${schema.minItems ?? 0} to ${schema.maxItems ?? 64} texts${schema.items?.maxLength ? ` of at most ${schema.items.maxLength} characters` : ''}${schema.uniqueItems ? ', each once' : ''}`;
  if (schema.type === 'object') return 'an object of texts';
  return `of type ${schema.type}`;
}

/** Throws a Refusal where the body is no JSON object. */
export function readBody(what: string, body: unknown): Plain {
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    throw new Refusal(400, `${what}: the body must be a JSON object`);
  return body as Plain;
}

/** Throws a Refusal where a field is unknown, missing or not as the schema has it, or holds text that nobody can read. */
export function checkFields(what: string, schema: TObject, object: Plain): void {
  const wrong = (field: string, text: string): Refusal =>
    new Refusal(400, `${what}: ${field} ${text}`, field);
  for (const field of Object.keys(object))
    if (!Object.hasOwn(schema.properties, field))
      throw new Refusal(
        400,
        `${what}: ${shown(field.slice(0, 64))} is not a field; the fields are ${Object.keys(schema.properties).join(', ')}`,
        field,
      );
  const error = Value.Errors(schema, object).First();
  if (error !== undefined) {
    const field = error.path.split('/')[1] ?? '';
    const is = Object.hasOwn(object, field) ? '' : 'is missing: it ';
    throw wrong(field, `${is}must be ${expected(schema.properties[field] ?? error.schema)}`);
  }
  for (const [field, value] of Object.entries(object))
    for (const text of Array.isArray(value) ? value : [value])
      if (typeof text === 'string' && !isPrintable(text))
        throw wrong(field, `${shown(text)} must be text without control characters, in valid Unicode`);
}
